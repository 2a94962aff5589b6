//! Bounds on texts that a database sends: messages, versions, names.
//!
//! A server may send any number of bytes, and they reach logs, pages and metrics.

use crate::plain_text;

/// The longest message or hint, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024;
/// The longest version, name of a column, type, role or setting, and the longest value of a setting, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// `text`, where it is longer than `most` bytes cut at a character and ended with `…`.
pub fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", plain_text::start(text, most.saturating_sub('…'.len_utf8())))
}

/// A name, of [`MAX_NAME_BYTES`] at most.
pub fn name(text: &str) -> String {
    cut(text, MAX_NAME_BYTES)
}

/// A message or hint, of [`MAX_MESSAGE_BYTES`] at most.
pub fn message(text: &str) -> String {
    cut(text, MAX_MESSAGE_BYTES)
}

/// An SQLSTATE; nothing where it is not five ASCII letters and digits.
pub fn sqlstate(text: &str) -> &str {
    let is_one = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_one { text } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("12.3", 4), "12.3");
        assert_eq!(cut("12.34", 4), "1…");
        assert_eq!(cut("ééé", 5), "é…");
        assert_eq!(cut("ééé", 6), "ééé");
        assert_eq!(cut("éé", 1), "…");
        let long = "é".repeat(MAX_MESSAGE_BYTES);
        assert!(cut(&long, MAX_MESSAGE_BYTES).len() <= MAX_MESSAGE_BYTES);
    }

    #[test]
    fn an_sqlstate_has_five_letters_and_digits() {
        assert_eq!(sqlstate("42P01"), "42P01");
        for text in ["", "42P0", "42P011", "42 01", "42\"0", "éa1"] {
            assert_eq!(sqlstate(text), "", "{text}");
        }
    }
}
