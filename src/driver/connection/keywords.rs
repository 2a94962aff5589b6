//! libpq's other form of an address: `host=db.example port=5433 user=exporter password='a b' dbname=shop`.
//!
//! The rules are those of libpq's `conninfo_parse`. No message holds any part of the text.

use super::url::Refusal;

const HINT: &str =
    "write KEYWORD=VALUE, with '…' around a value that is empty or holds a blank, and \\ before a ' or a \\";

/// The pairs, in order.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, Refusal> {
    let refused = |what| Refusal { what, hint: HINT };
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) =
            rest.split_once('=').ok_or(refused("a keyword of the connection string has no `=`"))?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(refused("a keyword of the connection string has no `=`"));
        }
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('\'') {
            Some(quoted) => take(quoted, |c| c == '\'')
                .ok_or(refused("a value of the connection string has no closing `'`"))?,
            None => take(after, char::is_whitespace).unwrap_or_else(|| (plain(after), "")),
        };
        pairs.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// The value before the first character that ends it, without its backslashes, and what follows that character.
fn take(text: &str, ends: impl Fn(char) -> bool) -> Option<(String, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && ends(c) {
            return Some((plain(text.get(..at)?), text.get(at + c.len_utf8()..)?));
        }
        escaped = !escaped && c == '\\';
    }
    None
}

/// Without the backslash before each character that has one.
fn plain(text: &str) -> String {
    let mut characters = text.chars();
    let mut value = String::with_capacity(text.len());
    while let Some(c) = characters.next() {
        value.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"))
    }

    #[test]
    fn values_are_quoted_and_escaped_as_libpq_reads_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            ("host=db port=5433", vec![pair("host", "db"), pair("port", "5433")]),
            ("  host = db\n\tuser=x ", vec![pair("host", "db"), pair("user", "x")]),
            ("password='a b' user=x", vec![pair("password", "a b"), pair("user", "x")]),
            (r"password='it\'s \\ ='", vec![pair("password", r"it's \ =")]),
            (r"password=a\ b\'c\\ user=x", vec![pair("password", r"a b'c\"), pair("user", "x")]),
            ("password='' user=x", vec![pair("password", ""), pair("user", "x")]),
            ("password='a'user=x", vec![pair("password", "a"), pair("user", "x")]),
            ("a=b=c", vec![pair("a", "b=c")]),
            ("", vec![]),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_text() {
        for text in [
            "hunter2",
            "host=db hunter2",
            "user x=hunter2",
            "password='hunter2",
            r"password='hunter2\'",
            "=hunter2",
        ] {
            let refusal = parse(text).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(!format!("{refusal:?}").contains("hunter"), "{refusal:?}");
        }
    }
}
