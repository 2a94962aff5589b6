//! Command lines that show a failure again, to be copied into a shell.

use std::path::Path;

use crate::plain_text::is_unsafe;

/// Runs a query of a target once.
pub(super) fn try_query(config_file: Option<&Path>, query: &str, target: &str) -> Option<String> {
    command_line(config_file, &["try", "--query", query, "--target", target])
}

/// Connects to a target, and finds its databases where it has `discover`.
pub(super) fn test_target(config_file: Option<&Path>, target: &str) -> Option<String> {
    command_line(config_file, &["test", "--target", target])
}

/// `None` where a word holds what a terminal may act on: quotes do not protect against that. A reader who may not know
/// the file adds it.
fn command_line(config_file: Option<&Path>, command: &[&str]) -> Option<String> {
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
        let line = try_query(Some(Path::new("/etc/sql-exporter/config.yaml")), "orders", "shop");
        let plain = "sql-exporter -c /etc/sql-exporter/config.yaml try --query orders --target shop";
        assert_eq!(line.as_deref(), Some(plain));
        let line = test_target(None, "srv/it's a $(rm -rf /) `x` \"!\"\\ü");
        let words = shlex::split(&line.unwrap()).unwrap();
        assert_eq!(words, ["sql-exporter", "test", "--target", "srv/it's a $(rm -rf /) `x` \"!\"\\ü"]);
    }

    #[test]
    fn there_is_none_for_a_name_that_would_steer_a_terminal() {
        for name in ["a\nb", "a\u{1b}[201~; rm -rf /\n", "a\0", "a\u{202e}b"] {
            assert_eq!(try_query(None, name, "shop"), None, "{name:?}");
            assert_eq!(test_target(None, name), None, "{name:?}");
            assert_eq!(test_target(Some(Path::new(name)), "shop"), None, "{name:?}");
        }
    }
}
