//! Command lines that show a failure again, to be copied into a shell.

use std::path::Path;

use crate::plain_text::is_unsafe;

/// A command of the exporter. `None` where a word holds what a terminal may act on: quotes do not protect against that. A
/// reader who may not know the file adds it.
pub(super) fn command_line(config_file: Option<&Path>, command: &[&str]) -> Option<String> {
    let mut words = vec!["sql-exporter"];
    if let Some(file) = config_file {
        words.extend(["-c", file.to_str()?]);
    }
    words.extend(command);
    if words.iter().any(|word| word.contains(is_unsafe)) {
        return None;
    }
    shlex::try_join(words).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_come_out_of_a_shell_as_they_are() {
        let command = ["try", "--query", "orders", "--target", "shop"];
        let line = command_line(Some(Path::new("/etc/sql-exporter/config.yaml")), &command);
        let plain = "sql-exporter -c /etc/sql-exporter/config.yaml try --query orders --target shop";
        assert_eq!(line.as_deref(), Some(plain));
        let line = command_line(None, &["test", "--target", "srv/it's a $(rm -rf /) `x` \"!\"\\ü"]);
        let words = shlex::split(&line.unwrap()).unwrap();
        assert_eq!(words, ["sql-exporter", "test", "--target", "srv/it's a $(rm -rf /) `x` \"!\"\\ü"]);
    }

    #[test]
    fn there_is_none_for_a_name_that_would_steer_a_terminal() {
        for name in ["a\nb", "a\u{1b}[201~; rm -rf /\n", "a\0", "a\u{202e}b"] {
            assert_eq!(command_line(None, &["try", "--query", name, "--target", "shop"]), None, "{name:?}");
            assert_eq!(command_line(None, &["test", "--target", name]), None, "{name:?}");
            assert_eq!(command_line(Some(Path::new(name)), &["test", "--target", "shop"]), None, "{name:?}");
        }
    }
}
