//! An address as the user typed it, without its secrets.
//!
//! The grammar is that of `driver/connection`: a URL, or libpq's keywords. Only places are found here; what an address means
//! is read by the load of the configuration.

use std::ops::Range;

use percent_encoding::percent_decode_str;

use super::variables::Variables;
use crate::driver::connection::{self, AddressSyntax, Keyword};
use crate::secret::Secret;

/// Words in the name of a parameter, or in its value, that make it a secret.
const SECRET_WORDS: [&str; 5] = ["password", "passwd", "pwd", "secret", "token"];

/// An address for the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileAddress {
    /// Without secrets.
    pub(super) url: String,
    /// The value of the key `password`, where the password was taken out.
    pub(super) password: Option<String>,
}

/// Takes the secrets out. `password` is the one that the address means; it gets a variable unless one stands in its place.
pub(super) fn without_secrets(
    typed: &str,
    password: Option<&Secret>,
    target: &str,
    variables: &mut Variables,
) -> FileAddress {
    let parts = match AddressSyntax::of(typed) {
        AddressSyntax::Keywords => keywords(typed),
        AddressSyntax::Url(_) => url_parts(typed),
        AddressSyntax::Go | AddressSyntax::Unknown => Vec::new(),
    };
    let mut file = FileAddress { url: String::new(), password: None };
    let mut from = 0;
    for SecretPart { kind, whole, value } in parts {
        let text = typed.get(value.clone()).unwrap_or_default();
        let kept = typed.get(from..whole.start).unwrap_or_default();
        file.url.push_str(kept);
        from = whole.end;
        let before = typed.get(whole.start..value.start).unwrap_or_default();
        let after = typed.get(value.end..whole.end).unwrap_or_default();
        let variable = match (only_variable(text), kind) {
            (Some(inside), _) => variables.without_default(inside),
            (None, PartKind::Password) => {
                if let Some(password) = password.filter(|_| file.password.is_none()) {
                    file.password = Some(variables.add(target, "password", password.clone()));
                }
                continue;
            }
            // As the address has it: percent-encoded, or with backslashes.
            (None, PartKind::Parameter(name)) => variables.add(target, &name, Secret::new(text.to_owned())),
        };
        file.url.extend([before, &variable, after]);
    }
    file.url.push_str(typed.get(from..).unwrap_or_default());
    file
}

/// The URL without its password, and the inside of the variable that the whole password is. As a key of its own it may have
/// any value; in a URL it may not.
pub(super) fn password_apart(typed: &str) -> Option<(String, &str)> {
    let parts = url_parts(typed).into_iter();
    let mut passwords = parts.filter(|part| matches!(part.kind, PartKind::Password));
    let (part, None) = (passwords.next()?, passwords.next()) else { return None };
    let inside = only_variable(typed.get(part.value)?)?;
    let url = [typed.get(..part.whole.start)?, typed.get(part.whole.end..)?].concat();
    Some((url, inside))
}

/// Whether an `@` stands behind the `?` of a URL: a password with a bare `?` ends there, and its rest would be a parameter, which is
/// not taken out.
pub(super) fn is_ambiguous(typed: &str) -> bool {
    let is_url = matches!(AddressSyntax::of(typed), AddressSyntax::Url(_));
    is_url && masked(typed).split_once('?').is_some_and(|(_, query)| query.contains('@'))
}

/// What kind of secret it is.
enum PartKind {
    Password,
    /// Another parameter of this name.
    Parameter(String),
}

/// A secret in an address.
struct SecretPart {
    kind: PartKind,
    /// What is removed with it: its name, and what separates it from the rest.
    whole: Range<usize>,
    value: Range<usize>,
}

/// `NAME` or `NAME:-default` of a text that is one variable.
fn only_variable(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("${")?.strip_suffix('}')?;
    (!inside.contains(['$', '{', '}'])).then_some(inside)
}

/// The same text, as long, with nothing in its variables that means anything.
fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.find("${").and_then(|at| rest.split_at_checked(at)) {
        let end = from.find('}').map_or(from.len(), |end| end + 1);
        out.push_str(before);
        out.extend(std::iter::repeat_n('x', end));
        rest = from.get(end..).unwrap_or_default();
    }
    out + rest
}

/// The password before the host, and the secrets among the parameters behind `?`.
fn url_parts(typed: &str) -> Vec<SecretPart> {
    let url = masked(typed);
    let Some(start) = url.find("://").map(|at| at + 3) else { return Vec::new() };
    let (place, query) = url.get(start..).map_or(("", None), |rest| match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    });
    let authority = place.split('/').next().unwrap_or_default();
    let mut parts = Vec::new();
    if let Some(colon) = authority.rfind('@').and_then(|at| authority.get(..at)?.find(':')) {
        let end = start + authority.rfind('@').unwrap_or(authority.len());
        let whole = start + colon..end;
        parts.push(SecretPart { kind: PartKind::Password, value: whole.start + 1..end, whole });
    }
    let mut from = start + place.len() + 1;
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let end = from + pair.len();
        let name = pair.split('=').next().unwrap_or_default();
        let value = (from + name.len() + 1).min(end)..end;
        let name = percent_decode_str(name).decode_utf8_lossy();
        if let Some(kind) = kind(&name, typed.get(value.clone()).unwrap_or_default()) {
            // The `&` goes with it, the one behind the first parameter.
            let is_first = typed.get(..from).is_some_and(|before| before.ends_with('?'));
            let whole = match (&kind, is_first, end < typed.len()) {
                (PartKind::Parameter(_), ..) => from..end,
                (PartKind::Password, true, true) => from..end + 1,
                (PartKind::Password, ..) => from - 1..end,
            };
            parts.push(SecretPart { kind, whole, value });
        }
        from = end + 1;
    }
    parts.retain(|part| !part.value.is_empty());
    parts
}

/// The secrets among libpq's `name=value` and `name = 'value'`.
fn keywords(typed: &str) -> Vec<SecretPart> {
    let part = |Keyword { name, value, whole, .. }: Keyword<'_>| {
        let kind = kind(name, typed.get(value.clone()).unwrap_or_default())?;
        Some(SecretPart { kind, whole, value })
    };
    connection::keywords(&masked(typed)).into_iter().filter_map(part).collect()
}

/// Whether a parameter is a secret.
fn kind(name: &str, value: &str) -> Option<PartKind> {
    if name == "password" {
        return Some(PartKind::Password);
    }
    // The path of a file is not a secret.
    let is_path = ["passfile", "sslkey", "sslcert", "sslrootcert"].contains(&name);
    let has_word = |text: &str| {
        let lower = text.to_ascii_lowercase();
        SECRET_WORDS.iter().any(|word| lower.contains(word))
    };
    (!is_path && (has_word(name) || has_word(value))).then(|| PartKind::Parameter(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(typed: &str) -> (String, Option<String>) {
        let secret = Secret::new("decoded".to_owned());
        let mut variables = Variables::new(&[typed], true);
        let FileAddress { url, password } = without_secrets(typed, Some(&secret), "t", &mut variables);
        (url, password)
    }

    #[test]
    fn a_password_goes_wherever_it_stands() {
        for (typed, expected) in [
            ("postgres://u:p%40x@h/d?a=b", "postgres://u@h/d?a=b"),
            ("mysql://u:p@x:y@h:3306", "mysql://u@h:3306"),
            ("postgres://u@h/d?password=x&sslmode=disable", "postgres://u@h/d?sslmode=disable"),
            ("postgres://u@h/d?sslmode=disable&password=x", "postgres://u@h/d?sslmode=disable"),
            ("postgres://u@h/d?a=b&password=x&c=d", "postgres://u@h/d?a=b&c=d"),
            ("postgres://u@h/d?password=x", "postgres://u@h/d"),
            ("postgres://u@h/d?pass%77ord=x&a=b", "postgres://u@h/d?a=b"),
            ("postgres://u:y@h/d?password=x", "postgres://u@h/d"),
            ("postgres://u:a${X}b@${H}/d", "postgres://u@${H}/d"),
            ("postgres://u:${X:-a@b/c?d}e@h/d", "postgres://u@h/d"),
            ("host=h password='a b' user=u", "host=h  user=u"),
            (r"host=h password = a\ b user=u", "host=h  user=u"),
            (r"password='it\'s' host=h", " host=h"),
            ("host=h password='not closed", "host=h "),
        ] {
            assert_eq!(file(typed), (expected.to_owned(), Some("${T_PASSWORD}".to_owned())), "{typed}");
        }
    }

    #[test]
    fn a_variable_stays_where_it_is_without_its_default() {
        for (typed, expected) in [
            ("postgres://u:${P}@h/d", "postgres://u:${P}@h/d"),
            ("postgres://u:${P:-a@b}@h/d", "postgres://u:${P}@h/d"),
            ("postgres://u@h/d?password=${P}&a=b", "postgres://u@h/d?password=${P}&a=b"),
            ("host=h password='${P}'", "host=h password='${P}'"),
            ("${URL}", "${URL}"),
            ("postgres://u@h:${PORT:-5432}/d", "postgres://u@h:${PORT:-5432}/d"),
        ] {
            assert_eq!(file(typed), (expected.to_owned(), None), "{typed}");
        }
    }

    #[test]
    fn the_rest_of_a_password_is_not_a_parameter() {
        for (typed, expected) in [
            ("postgres://u:1?user=p@h/d", true),
            ("postgres://u:?user=p@h/d", true),
            ("postgres://u:1/?dbname=p@h/d", true),
            ("mysql://u:p@x?user=q@h/d", true),
            ("postgres://u:p%3F@h/d?user=a%40b", false),
            ("postgres://u:${P:-1?a@b}@h/d?user=${U:-a@b}", false),
            ("host=h user=a@b password=?@", false),
        ] {
            assert_eq!(is_ambiguous(typed), expected, "{typed}");
        }
    }

    #[test]
    fn a_variable_can_stand_beside_its_url() {
        for (typed, expected) in [
            ("postgres://u:${P}@h/d", Some(("postgres://u@h/d", "P"))),
            ("postgres://u:${P:-a@b}@h/d", Some(("postgres://u@h/d", "P:-a@b"))),
            ("postgres://u@h/d?password=${P}&a=b", Some(("postgres://u@h/d?a=b", "P"))),
            ("postgres://u:a${P}@h/d", None),
            ("postgres://u:p@h/d", None),
            ("postgres://u:${P}@h/d?password=${Q}", None),
            ("${URL}", None),
        ] {
            let expected = expected.map(|(url, inside)| (url.to_owned(), inside));
            assert_eq!(password_apart(typed), expected, "{typed}");
        }
    }

    #[test]
    fn other_secrets_get_a_variable_in_their_place() {
        for (typed, expected) in [
            ("postgres://u@h/d?sslpassword=x&a=b", "postgres://u@h/d?sslpassword=${T_SSLPASSWORD}&a=b"),
            ("postgres://u@h/d?options=-c%20app.token%3Dx", "postgres://u@h/d?options=${T_OPTIONS}"),
            ("host=h sslpassword='x y'", "host=h sslpassword='${T_SSLPASSWORD}'"),
            ("postgres://u@h/d?passfile=/a/password", "postgres://u@h/d?passfile=/a/password"),
            ("sqlite:password.db", "sqlite:password.db"),
        ] {
            assert_eq!(file(typed), (expected.to_owned(), None), "{typed}");
        }
    }
}
