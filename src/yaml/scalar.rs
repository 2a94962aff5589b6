//! The text of a scalar: `${VAR}`, `${VAR:-default}` and `$${` in it, and what it is as a flag, a size or a word.
//!
//! Durations are `deadline`'s.

use super::nearest::nearest;
use super::reader::Environment;

/// `true` or `false`, `yes`/`no`, `on`/`off`, in any case.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The value that a word stands for, in any case.
///
/// # Errors
/// A sentence that lists the words, with the nearest.
pub fn word<T: Copy>(text: &str, table: &[(&'static str, T)]) -> Result<T, String> {
    let found = table.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
        let near = nearest(text, words.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
        format!("{text:?} is not one of {}{}", words.join(", "), near.unwrap_or_default())
    })
}

/// `64MiB`, `16KiB`, `1GB`, `1.5 GiB`, or a number of bytes; units in any case.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    // A fraction needs a unit: there is no half byte. A `f64` is exact far beyond any size that is meant.
    let bytes = number.parse::<f64>().ok().filter(|_| factor > 1)? * factor as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within u64's range")]
    (0.0..9e18).contains(&bytes).then_some(bytes.round() as u64)
}

/// A text may become so long: variables are as large as the environment makes them, and a file may name one often.
const LONGEST: usize = 1 << 20;

/// Why a text cannot be expanded, and what to change. Never holds a part of the text but a variable's name.
type Refusal = (String, String);

fn refusal(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
    (message.into(), hint.into())
}

/// Replaces every variable; all that is wrong comes together. A variable that is set and empty takes its default,
/// as in a shell.
pub(super) fn expand(text: &str, environment: &Environment) -> Result<String, Vec<Refusal>> {
    let mut out = String::with_capacity(text.len());
    let mut refused = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let (before, from) = rest.split_at(dollar);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = from.get(2..).unwrap_or("");
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = from.get(2..).and_then(|inner| inner.split_once('}')) else {
            refused.push(refusal("`${` has no closing `}`", "for a literal `${` write `$${`"));
            return Err(refused);
        };
        match value(inside, environment) {
            Ok(value) if out.len() + value.len() > LONGEST => {
                refused.push(refusal("its variables expand to more than 1 MiB", "shorten them"));
                return Err(refused);
            }
            Ok(value) => out.push_str(&value),
            Err(refusal) => refused.push(refusal),
        }
        rest = after;
    }
    out.push_str(rest);
    if refused.is_empty() { Ok(out) } else { Err(refused) }
}

fn value(inside: &str, environment: &Environment) -> Result<String, Refusal> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err(refusal(
            "`${…}` does not hold a variable's name",
            "write `${NAME}` or `${NAME:-default}`; for a literal `${` write `$${`",
        ));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(refusal(
            format!("the default of `{name}` holds another `${{`"),
            "a default is plain text up to the first `}`",
        ));
    }
    match (environment(name), default) {
        (Some(value), _) if value.contains(char::REPLACEMENT_CHARACTER) => Err(refusal(
            format!("the value of the environment variable {name} is not UTF-8"),
            "set it to a text in UTF-8",
        )),
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(refusal(
            format!("the environment variable {name} is not set"),
            format!("set it, or write `${{{name}:-default}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_users_write_them() {
        let cases = [
            ("0", Some(0)),
            ("65536", Some(65536)),
            ("16KiB", Some(16384)),
            ("64MiB", Some(64 << 20)),
            ("64mib", Some(64 << 20)),
            ("1GB", Some(1_000_000_000)),
            ("2 MB", Some(2_000_000)),
            ("1.5GiB", Some(3 << 29)),
            ("1.5", None),
            ("-1", None),
            ("64M", None),
            ("MiB", None),
            ("", None),
            ("1e3", None),
            ("99999999999999999999", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn flags_in_any_case() {
        for text in ["true", "True", "YES", "on"] {
            assert_eq!(flag(text), Some(true), "{text}");
        }
        for text in ["false", "no", "OFF"] {
            assert_eq!(flag(text), Some(false), "{text}");
        }
        for text in ["1", "", "y", "maybe"] {
            assert_eq!(flag(text), None, "{text}");
        }
    }

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db1".into()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${HOST}".into()),
            "LATIN" => Some("p\u{fffd}ss".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_literals_are_replaced_once() {
        let cases = [
            ("plain", "plain"),
            ("${HOST}", "db1"),
            ("a-${HOST}-${PORT:-5432}.x", "a-db1-5432.x"),
            ("${EMPTY}", ""),
            ("${EMPTY:-full}", "full"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$HOST $ $$ {HOST}", "$HOST $ $$ {HOST}"),
            ("${TRICKY}", "${HOST}"),
            ("é${HOST}é", "édb1é"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &environment).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_neither_shown_nor_replaced_by_a_default() {
        for text in ["${LATIN}", "${LATIN:-x}"] {
            let (message, _) = expand(text, &environment).unwrap_err().remove(0);
            assert_eq!(message, "the value of the environment variable LATIN is not UTF-8", "{text}");
        }
    }

    #[test]
    fn every_unset_variable_is_named() {
        let refused = expand("${A}:${B}", &environment).unwrap_err();
        let messages: Vec<_> = refused.iter().map(|refusal| refusal.0.as_str()).collect();
        assert_eq!(
            messages,
            ["the environment variable A is not set", "the environment variable B is not set"]
        );
    }

    #[test]
    fn what_is_no_variable_is_refused_without_showing_it() {
        for text in [
            "hunter2${",
            "${hunter 2}",
            "${}",
            "${1A}",
            "${HOST-hunter2}",
            "${HOST:?hunter2}",
            "${A:-${HOST}}",
        ] {
            let refused = expand(text, &environment).unwrap_err();
            assert_eq!(refused.len(), 1, "{text}");
            assert!(!format!("{refused:?}").contains("hunter"), "{refused:?}");
        }
    }
}
