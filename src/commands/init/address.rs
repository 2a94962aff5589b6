//! An address as the user typed it, without its secrets.
//!
//! Only places are found here (`commands/address_text`); what an address means is read by the load of the configuration.

use super::variables::Variables;
use crate::commands::address_text::{AddressParameter, masked, only_variable, replaced, secrets};
use crate::driver::connection::AddressSyntax;
use crate::secret::Secret;

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
    let mut taken = None;
    let mut replacement = |AddressParameter { name, value, whole }: AddressParameter| {
        let text = typed.get(value.clone()).unwrap_or_default();
        if let Some(inside) = only_variable(text) {
            return (value, variables.without_default(inside));
        }
        if name == "password" {
            if let Some(password) = password.filter(|_| taken.is_none()) {
                taken = Some(variables.add(target, "password", password.clone()));
            }
            return (whole, String::new());
        }
        // As the address has it: percent-encoded, or with backslashes.
        (value, variables.add(target, &name, Secret::new(text.to_owned())))
    };
    let replacements: Vec<_> = secrets(typed).into_iter().map(&mut replacement).collect();
    FileAddress { url: replaced(typed, replacements), password: taken }
}

/// The URL without its password, and the inside of the variable that the whole password is. As a key of its own it may have
/// any value; in a URL it may not.
pub(super) fn password_apart(typed: &str) -> Option<(String, &str)> {
    if !is_url(typed) {
        return None;
    }
    let mut passwords = secrets(typed).into_iter().filter(|part| part.name == "password");
    let (part, None) = (passwords.next()?, passwords.next()) else { return None };
    let inside = only_variable(typed.get(part.value)?)?;
    Some((replaced(typed, [(part.whole, String::new())]), inside))
}

/// Whether an `@` stands behind the `?` of a URL: a password with a bare `?` ends there, and its rest would be a parameter, which is
/// not taken out.
pub(super) fn is_ambiguous(typed: &str) -> bool {
    is_url(typed) && masked(typed).split_once('?').is_some_and(|(_, query)| query.contains('@'))
}

fn is_url(typed: &str) -> bool {
    matches!(AddressSyntax::of(typed), AddressSyntax::Url(_))
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
