//! Comments of the source, which become comments of the result: without the passwords in them.

use std::sync::LazyLock;

use regex_lite::Regex;

use crate::commands::address_text::replaced;

const HIDDEN: &str = "<hidden>";

/// `user:password@host`, with a scheme or without: a password may hold an `@`.
static LOGIN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:\S*?://)?[^\s:]*:(\S+)@"));
/// `password=`: its value is in quotes as of libpq, or ends at a blank. What begins with another quote is left to `KEY`.
static PARAMETER: LazyLock<Regex> = LazyLock::new(|| pattern(r#"password\s*=\s*(?:'([^']+)'|([^\s'"]\S*))"#));
/// A key that names a secret, up to its value, which may be in any form.
static KEY: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?i)(?:password|passwd|pwd|secret|token)["']*\s*[:=]\s*"#));

/// The comment without its passwords: those of addresses, and all that stands behind a key that names one. Variables stay.
pub(in super::super) fn without_secrets(comment: &str) -> String {
    let clean = hidden(&hidden(comment, &LOGIN), &PARAMETER);
    let is_open = |value: &str| !value.starts_with("${") && !value.starts_with(HIDDEN);
    let mut values = KEY.find_iter(&clean).filter_map(|key| clean.split_at_checked(key.end()));
    match values.find(|(_, value)| is_open(value)) {
        Some((kept, _)) => format!("{kept}{HIDDEN}"),
        None => clean,
    }
}

/// The text without what the groups of a pattern find.
fn hidden(text: &str, pattern: &Regex) -> String {
    let values = pattern.captures_iter(text).filter_map(|found| found.get(1).or(found.get(2)));
    let values = values.filter(|value| !value.as_str().starts_with("${"));
    replaced(text, values.map(|value| (value.range(), HIDDEN.to_owned())))
}

#[expect(clippy::expect_used, reason = "the patterns are those above")]
fn pattern(text: &str) -> Regex {
    // Invariant: each pattern of this file is one; a test uses all of them.
    Regex::new(text).expect("a pattern")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_keeps_no_password() {
        for (comment, expected) in [
            ("url: postgres://u:p@h/d # old", "url: postgres://u:<hidden>@h/d # old"),
            ("  password: \"swordfish\"", "  password: <hidden>"),
            ("PASSWORD=x y", "PASSWORD=<hidden>"),
            ("password: ${P}", "password: ${P}"),
            ("the password of the shop", "the password of the shop"),
            ("passwords are in a vault, password: p", "passwords are in a vault, password: <hidden>"),
            (
                "from postgres://u:p@h/d to mysql://v:q@h/d",
                "from postgres://u:<hidden>@h/d to mysql://v:<hidden>@h/d",
            ),
            ("dsn: u:p/@@tcp(h:3306)/d", "dsn: u:<hidden>@tcp(h:3306)/d"),
            ("postgres://h:5432/d", "postgres://h:5432/d"),
            ("host=h password=p user=u", "host=h password=<hidden> user=u"),
            ("Orders: all", "Orders: all"),
            ("password = \"correct horse\" # old", "password = <hidden>"),
            ("password = 'correct horse", "password = <hidden>"),
            ("host=h password=a#b&c user=u", "host=h password=<hidden> user=u"),
        ] {
            assert_eq!(without_secrets(comment), expected);
        }
    }
}
