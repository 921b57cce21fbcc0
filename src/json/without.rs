//! A document without some of its members; everything else stays as it was written.

use super::escape::plain;
use super::scan::Scanner;
use super::token::{Scan, Text};

/// Passes the document `text` on to `out`, in parts, without the members at `paths`, each the names from the outermost object
/// inwards.
pub fn without(text: &[u8], paths: &[Vec<String>], out: &mut dyn FnMut(&[u8])) -> Scan<()> {
    let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
    let mut scanner = Scanner::new(text);
    value(&mut scanner, &paths, out)?;
    scanner.end()
}

fn value(scanner: &mut Scanner<'_>, paths: &[&[String]], out: &mut dyn FnMut(&[u8])) -> Scan<()> {
    if scanner.peek() == b'[' && !paths.is_empty() {
        return items(scanner, paths, out);
    }
    if paths.is_empty() || scanner.peek() != b'{' {
        let from = scanner.at();
        scanner.value()?;
        out(scanner.since(from));
        return Ok(());
    }
    scanner.expect(b'{', "expected an object")?;
    out(b"{");
    let mut goes_on = !scanner.take(b'}');
    let mut is_first = true;
    while goes_on {
        scanner.peek();
        let from = scanner.at();
        let name = scanner.key()?;
        let label = scanner.since(from);
        let inside: Vec<&[String]> = paths.iter().filter_map(|path| behind(path, name)).collect();
        if inside.iter().any(|path| path.is_empty()) {
            scanner.value()?;
        } else {
            if !std::mem::take(&mut is_first) {
                out(b",");
            }
            out(label);
            value(scanner, &inside, out)?;
        }
        goes_on = scanner.more(b'}')?;
    }
    out(b"}");
    Ok(())
}

/// A path goes through the objects of an array.
fn items(scanner: &mut Scanner<'_>, paths: &[&[String]], out: &mut dyn FnMut(&[u8])) -> Scan<()> {
    scanner.expect(b'[', "expected an array")?;
    out(b"[");
    let mut goes_on = !scanner.take(b']');
    while goes_on {
        value(scanner, paths, out)?;
        goes_on = scanner.more(b']')?;
        if goes_on {
            out(b",");
        }
    }
    out(b"]");
    Ok(())
}

/// The rest of `path` behind a member of this name.
fn behind<'a>(path: &&'a [String], name: Text<'_>) -> Option<&'a [String]> {
    let (first, rest) = path.split_first()?;
    (*plain(name) == *first.as_bytes()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_go_wherever_they_stand_and_nothing_else_changes() {
        let paths = [vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned(), "é".to_owned()], vec!["x".to_owned()]];
        for (text, expected) in [
            (r#"{"a":{"b":1,"c":1.50}}"#, r#"{"a":{"c":1.50}}"#),
            (r#"{"a":{"c":1,"b":{"c":[2]}},"b":1e400}"#, r#"{"a":{"c":1},"b":1e400}"#),
            (r#"{ "a" : { "b" : 1 } , "x" : [ {} ] }"#, r#"{"a" :{}}"#),
            (r#"{"x":1,"\u0061":{"\u00e9":"","B":""}}"#, r#"{"\u0061":{"B":""}}"#),
            (r#"{"a":[{"b":1}, [{"b":1,"c":2}],7],"c":{"x":1}}"#, r#"{"a":[{},[{"c":2}],7],"c":{"x":1}}"#),
            (r#"{"a":null}"#, r#"{"a":null}"#),
        ] {
            let mut out = Vec::new();
            without(text.as_bytes(), &paths, &mut |part| out.extend_from_slice(part)).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        assert!(without(b"{\"a\":{\"b\":1}", &paths, &mut |_| ()).is_err());
    }
}
