//! Parts of a proposal as YAML that is read back as they are.

use crate::yaml::writer;

/// A value in block or flow style. `${` stays itself.
pub(super) fn scalar(text: &str) -> String {
    writer::scalar(&text.replace("${", "$${"))
}

/// A key: it is never expanded.
pub(super) fn key(text: &str) -> String {
    writer::scalar(text)
}

/// The key `sql` of a query four blanks in: a block as it stands, where a block can hold it. It is never expanded.
pub(super) fn statement(sql: &str) -> String {
    let value = writer::block(&format!("{sql}\n"), 3).unwrap_or_else(|| writer::scalar(sql));
    format!("    sql: {value}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::yaml::document::Document;
    use crate::yaml::keys::{Keys, Reader};

    use super::{scalar, statement};

    fn read(yaml: String, key: &'static str, literal: bool) -> Option<String> {
        let document = Document::parse("x.yaml", Path::new("."), yaml).expect("YAML");
        let reader = Reader::new(&|_| None);
        let mut keys = Keys::root(&document, &reader).expect("a mapping");
        if literal { keys.literal(key) } else { keys.text(key) }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let texts = [
            "orders",
            "true",
            "No",
            "~",
            "12",
            "1e3",
            "a: b",
            "a #b",
            "it's \"so\"",
            "back\\slash",
            "${HOME}",
            "",
            " a ",
            "count(*)",
            "http://x:1/",
            "a:b, c",
            "é日本",
            "tab\there",
            "line\nbreak",
            "\u{1b}[2J",
            "\u{9b}x\u{85}y",
            "- a",
            "*x",
            "&x",
            "a.",
            "\u{feff}x",
            "\u{2028}",
        ];
        for text in texts {
            assert_eq!(read(format!("a: {}\n", scalar(text)), "a", false).as_deref(), Some(text), "{text:?}");
            let flow = format!("a: {}\nb: [{}]\n", scalar(text), scalar(text));
            assert_eq!(read(flow, "a", false).as_deref(), Some(text), "{text:?}");
        }
    }

    #[test]
    fn statements_are_read_back_from_blocks_and_from_quotes() {
        let statements = [
            "SELECT 1",
            "SELECT a,\n  b -- ${HOME}: #x\n\nFROM t\n\tWHERE x = '\"'",
            "SELECT 'a\u{1b}b'",
            "SELECT 'a\rb'",
            "SELECT '日本', '\u{85}'",
        ];
        for sql in statements {
            let yaml = format!("query:\n{}", statement(sql)).replace("query:\n", "");
            let found = read(
                yaml.lines().map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect(),
                "sql",
                true,
            );
            assert_eq!(found.as_deref().map(str::trim_end), Some(sql));
        }
    }
}
