//! The members of an object and the items of an array, one after another.

use super::escape::plain;
use super::scan::Scanner;
use super::token::Scan;

/// Calls `each` with every member of the object at `scanner`: its name without escapes, and the scanner at its value, over
/// which it must step.
pub fn members<'a>(scanner: &mut Scanner<'a>, mut each: impl FnMut(&[u8], &mut Scanner<'a>) -> Scan<()>) -> Scan<()> {
    scanner.expect(b'{', "expected an object")?;
    if scanner.take(b'}') {
        return Ok(());
    }
    loop {
        let name = scanner.key()?;
        each(&plain(name), scanner)?;
        if !scanner.more(b'}')? {
            return Ok(());
        }
    }
}

/// The text of the first member `name` of the object at `scanner`, if it has one. The text behind that member is not
/// looked at.
pub fn member<'a>(scanner: &mut Scanner<'a>, name: &[u8]) -> Scan<Option<&'a [u8]>> {
    scanner.expect(b'{', "expected an object")?;
    if scanner.take(b'}') {
        return Ok(None);
    }
    loop {
        let is_it = *plain(scanner.key()?) == *name;
        let value = scanner.next_text()?;
        if is_it || !scanner.more(b'}')? {
            return Ok(Some(value).filter(|_| is_it));
        }
    }
}

/// Calls `each` with the scanner at every item of the array there, over which it must step. A value that is no array
/// has no items.
pub fn items<'a>(scanner: &mut Scanner<'a>, mut each: impl FnMut(&mut Scanner<'a>) -> Scan<()>) -> Scan<()> {
    if !scanner.take(b'[') {
        return scanner.value().map(drop);
    }
    if scanner.take(b']') {
        return Ok(());
    }
    loop {
        each(scanner)?;
        if !scanner.more(b']')? {
            return Ok(());
        }
    }
}

/// The members of an object: their names without escapes, and the text of their values.
pub fn collected(object: &[u8]) -> Vec<(Vec<u8>, &[u8])> {
    let mut found = Vec::new();
    let read = members(&mut Scanner::new(object), |name, scanner| {
        found.push((name.to_vec(), scanner.next_text()?));
        Ok(())
    });
    read.map_or_else(|_| Vec::new(), |()| found)
}
