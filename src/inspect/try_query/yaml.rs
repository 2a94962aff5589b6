//! Words of a proposal as YAML that is read back as they are.

/// A value in block or flow style: plain where nothing in it means anything, else in double quotes. `${` stays itself.
pub(super) fn scalar(text: &str) -> String {
    quoted_unless_plain(&text.replace("${", "$${"))
}

/// A key: it is never expanded.
pub(super) fn key(text: &str) -> String {
    quoted_unless_plain(text)
}

/// The key `sql` of a query four blanks in: a block as it stands, where a block can hold it. It is never expanded.
pub(super) fn statement(sql: &str) -> String {
    let breaks = |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let in_block = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || breaks(c));
    if !sql.chars().all(in_block) || sql.starts_with([' ', '\t']) {
        return format!("    sql: {}\n", quoted(sql));
    }
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("      {line}\n") };
    format!("    sql: |\n{}", sql.split('\n').map(line).collect::<String>())
}

fn quoted_unless_plain(text: &str) -> String {
    // What YAML 1.1 or 1.2 read as something else than text.
    const WORDS: [&str; 11] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let lower = text.to_lowercase();
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inner = |c: char| legal(c) || matches!(c, ' ' | '.' | '-');
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.ends_with(|c: char| legal(c) || c == '.')
        && text.chars().all(inner)
        && !WORDS.contains(&lower.as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

/// YAML 1.2, 7.3.1: everything that is no plain letter by its number.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out += "\\n",
            _ if c.is_control()
                || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                out += &format!("\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
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
