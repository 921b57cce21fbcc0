//! The table of a program's settings.

use super::form::Form;

/// What a program is set up with.
#[derive(Debug)]
pub struct Table {
    /// The program's name. In capitals it begins the names of its variables.
    pub program: &'static str,
    /// What the program is, in one sentence without its full stop.
    pub description: &'static str,
    /// What Meltano and its hub may ask of the program; only what works.
    pub capabilities: &'static [&'static str],
    /// Every setting, in the order of `docs/settings.md`.
    pub rows: &'static [Setting],
    /// The name of an object in a settings file whose members are settings themselves.
    pub nested: Option<&'static str>,
    /// How a secret begins. A text that begins so is not shown, in whichever setting it stands.
    pub secrets_begin_with: Option<&'static str>,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in settings files; behind the program's name and in capitals, its name in the environment.
    pub name: &'static str,
    /// Other names that people try first.
    pub aliases: &'static [&'static str],
    /// What a form for people calls it.
    pub label: &'static str,
    /// How its value is written.
    pub form: Form,
    /// The value when it is not given, as it would be written.
    pub default: Option<&'static str>,
    /// Nothing works without it.
    pub required: bool,
    /// Never shown.
    pub secret: bool,
    /// `auto` is the same as not given.
    pub auto: bool,
    /// What to give, where that says more than the form does.
    pub expected: Option<&'static str>,
    /// What it does.
    pub description: &'static str,
}

/// A row with nothing but what every row has.
pub const fn row(name: &'static str, label: &'static str, form: Form, description: &'static str) -> Setting {
    Setting {
        name,
        aliases: &[],
        label,
        form,
        default: None,
        required: false,
        secret: false,
        auto: false,
        expected: None,
        description,
    }
}

impl Setting {
    /// With other names.
    pub const fn or(self, aliases: &'static [&'static str]) -> Setting {
        Setting { aliases, ..self }
    }

    /// With a value when it is not given.
    pub const fn default(self, default: &'static str) -> Setting {
        Setting { default: Some(default), ..self }
    }

    /// A setting that nothing works without.
    pub const fn required(self) -> Setting {
        Setting { required: true, ..self }
    }

    /// A setting whose value is never shown.
    pub const fn secret(self) -> Setting {
        Setting { secret: true, ..self }
    }

    /// A setting that may also be `auto`.
    pub const fn or_auto(self) -> Setting {
        Setting { auto: true, ..self }
    }

    /// With more words on what to give than the form has.
    pub const fn expected(self, expected: &'static str) -> Setting {
        Setting { expected: Some(expected), ..self }
    }

    /// Its name and its other names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

impl Table {
    /// What the names of the program's variables begin with.
    pub fn variables_begin_with(&self) -> String {
        format!("{}_", self.program.to_ascii_uppercase().replace('-', "_"))
    }

    /// The row that has this name, or another name like this.
    pub fn row(&self, name: &str) -> Option<&'static Setting> {
        self.rows.iter().find(|row| row.names().any(|own| own == name))
    }
}
