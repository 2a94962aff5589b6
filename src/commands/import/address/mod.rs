//! Addresses of the sources: the one reader of their parts, the password out, a name for the target.
//!
//! What a dialect of addresses means here is one file: `dburl`, of Go programs, and `sqlalchemy`, of Python programs. Those of
//! libpq are ours, too. `comment` takes passwords out of comments.

mod comment;
pub(super) mod dburl;
pub(super) mod sqlalchemy;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub(super) use self::comment::without_secrets;
use super::drivers::SourceDriver;
use super::model::{Entry, Value};
use super::report::Report;
use crate::commands::address_text::{AddressParameter, UrlRanges, only_variable, replaced, secrets};
use crate::driver::connection::{AddressSyntax, keywords};

/// What is percent-encoded in a part of a URL.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b',');
/// How a password is written in a URL.
const AS_IN_URL: &str = ", as the URL had it (percent-encoded)";

/// The address with `${NAME_PASSWORD}` in place of each password: that of the user, a parameter `password`, and the keyword of
/// a text such as `host=db password=…`. Variables that it holds stay.
pub(super) fn without_password(address: &str, target: &str, report: &Report) -> String {
    let is_keywords = AddressSyntax::of(address) == AddressSyntax::Keywords;
    let form = if is_keywords { ", as the connection string had it" } else { AS_IN_URL };
    let replacement = |AddressParameter { value, .. }: AddressParameter| {
        let by = variable(address.get(value.clone()).unwrap_or_default(), target, form, report);
        (value, by)
    };
    let out = replaced(address, secrets(address).into_iter().map(replacement));
    report.uses(&out);
    out
}

/// The variable for a password. One that the source has stays, without a default, which would be a secret in the file; a
/// password that a variable is only a part of is a secret as a whole.
pub(super) fn variable(text: &str, target: &str, form: &str, report: &Report) -> String {
    let Some(inside) = only_variable(text) else { return report.password(target, text, form) };
    let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
    let what = format!("the password of {target}{form}");
    report.needs(name, if default.is_empty() { "as in the source" } else { &what });
    format!("${{{name}}}")
}

/// A variable as the address of a target: the source's own one of this name, else one named after the target. `form` says more
/// about its value.
pub(super) fn set_variable(
    entry: &mut Entry,
    name: Option<&str>,
    target: &str,
    driver: &SourceDriver,
    form: &str,
    report: &Report,
) {
    let what = format!("the URL of {target}, such as {}{form}", driver.sample());
    let url = match name {
        Some(name) => report.of_source(name, &what, driver.sample()),
        None => report.variable(&format!("{target}_URL"), &what, driver.sample()),
    };
    entry.set("url", Value::Expanded(url));
    entry.set_if("driver", Some("pgbouncer").filter(|_| *driver == SourceDriver::Ours("pgbouncer")));
}

/// A part of a URL, percent-encoded where it must be.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The parts of an address, each as it is written.
pub(super) struct AddressParts<'a> {
    /// In lower case, without `+` and what follows it.
    pub(super) scheme: String,
    pub(super) has_slashes: bool,
    pub(super) is_socket: bool,
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    /// With its port; the socket in `unix(…)`.
    pub(super) host: &'a str,
    /// The database. With a socket in a URL, the whole path; of SQLite, the file.
    pub(super) path: &'a str,
    pub(super) query: Vec<(&'a str, &'a str)>,
    /// The host stood in `tcp(…)` or `unix(…)`: nothing is percent-encoded.
    pub(super) is_raw: bool,
}

impl<'a> AddressParts<'a> {
    /// Takes an address apart; `None` where it has no scheme.
    pub(super) fn of(address: &'a str) -> Option<AddressParts<'a>> {
        let UrlRanges { scheme, has_slashes, user, password, place, query } = UrlRanges::of(address)?;
        let scheme = address.get(scheme)?.to_ascii_lowercase();
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        if scheme.is_empty() || !scheme.chars().all(is_legal) {
            return None;
        }
        let (scheme, transport) = scheme.split_once('+').unwrap_or((&scheme, ""));
        let place = address.get(place)?;
        let pairs = address.get(query)?.split('&').filter(|pair| !pair.is_empty());
        let mut parts = AddressParts {
            scheme: scheme.to_owned(),
            has_slashes,
            is_socket: place.starts_with("unix("),
            user: address.get(user)?,
            password: address.get(password)?,
            host: "",
            path: place,
            query: pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "true"))).collect(),
            is_raw: false,
        };
        let in_brackets = place.strip_prefix("tcp(").or_else(|| place.strip_prefix("unix("));
        let driver = SourceDriver::known(scheme);
        if let Some(inside) = in_brackets {
            let (host, path) = inside.split_once(')')?;
            (parts.host, parts.path, parts.is_raw) = (host, path.trim_start_matches('/'), true);
        } else if driver != Some(SourceDriver::Ours("sqlite")) {
            let (host, path) = place.split_at_checked(place.find('/').unwrap_or(place.len()))?;
            // `mysql://user@/shop` is a database on this machine.
            let is_path = driver != Some(SourceDriver::Ours("mysql")) || path.contains(".sock");
            parts.is_socket = transport == "unix" || (host.is_empty() && path.len() > 1 && is_path);
            parts.host = host;
            parts.path = if parts.is_socket { path } else { path.strip_prefix('/').unwrap_or(path) };
        }
        Some(parts)
    }
}

/// A name for the target: the database, else the host.
pub(super) fn database(url: &str) -> Option<String> {
    let names = if AddressSyntax::of(url) == AddressSyntax::Keywords {
        let values = keywords(url);
        let value = |wanted: &str| {
            let found = values.iter().rev().find(|keyword| keyword.name == wanted);
            found.and_then(|keyword| url.get(keyword.value.clone())).unwrap_or_default()
        };
        [value("dbname"), value("host")]
    } else {
        let AddressParts { scheme, host, path, .. } = AddressParts::of(url)?;
        if SourceDriver::known(&scheme) == Some(SourceDriver::Ours("sqlite")) {
            [path.rsplit('/').next()?.split(['.', '#']).next()?, ""]
        } else {
            [path.trim_start_matches('/'), host.split([':', ',']).next()?]
        }
    };
    // What may stand in the name of a target without quotes.
    let legal = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    names.into_iter().find(|name| !name.is_empty()).map(|name| name.chars().map(legal).collect())
}

/// `db.example:5432`, as postgres_exporter labels a server; `None` where the URL names several hosts or a socket.
pub(super) fn host_and_port(url: &str) -> Option<String> {
    if !matches!(AddressSyntax::of(url), AddressSyntax::Url(_)) {
        return None;
    }
    let host = AddressParts::of(url)?.host;
    if host.contains([',', '%', '$']) {
        return None;
    }
    let host = if host.is_empty() { "localhost" } else { host };
    let has_port = host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
    Some(if has_port { host.to_owned() } else { format!("{host}:5432") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_becomes_a_variable_wherever_it_stands() {
        for (url, expected) in [
            ("postgres://u:p%40x@h/d?a=b", "postgres://u:${T_PASSWORD}@h/d?a=b"),
            ("mysql://u:p@x:y@h:3306", "mysql://u:${T_PASSWORD}@h:3306"),
            (
                "postgres://u@h/d?password=x&sslmode=disable",
                "postgres://u@h/d?password=${T_PASSWORD}&sslmode=disable",
            ),
            ("host=h password='a b' user=u", "host=h password='${T_PASSWORD}' user=u"),
            ("host=h password=ab user=u", "host=h password=${T_PASSWORD} user=u"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://u:${P}@h/d", "postgres://u:${P}@h/d"),
            ("mysql://u:a/b?c@h/d", "mysql://u:${T_PASSWORD}@h/d"),
            ("postgres://h:5432/d?application_name=a@b", "postgres://h:5432/d?application_name=a@b"),
            ("postgres://u@h:5432/d", "postgres://u@h:5432/d"),
            ("postgres://u:${P:-x}@h/d", "postgres://u:${P}@h/d"),
            ("postgres://u:${P}x@h/d", "postgres://u:${T_PASSWORD}@h/d"),
            (
                "postgres://u:x@h/d?sslpassword=y",
                "postgres://u:${T_PASSWORD}@h/d?sslpassword=${T_PASSWORD_2}",
            ),
            ("host=h password = ab user=u", "host=h password = ${T_PASSWORD} user=u"),
            ("password=a#b&c?d@e:f/g://h dbname=d", "password=${T_PASSWORD} dbname=d"),
            ("user=u password='a\\' b' dbname=d", "user=u password='${T_PASSWORD}' dbname=d"),
            ("user=u password=a\\ b dbname=d", "user=u password=${T_PASSWORD} dbname=d"),
            (
                "user=u password=a'b sslpassword=c",
                "user=u password=${T_PASSWORD} sslpassword=${T_PASSWORD_2}",
            ),
            ("user='password=a' host=h", "user='password=a' host=h"),
            ("password='' host=h", "password='' host=h"),
            ("sqlite:x.db", "sqlite:x.db"),
        ] {
            assert_eq!(without_password(url, "t", &Report::default()), expected, "{url}");
        }
    }

    #[test]
    fn a_query_begins_behind_the_login() {
        for (url, expected) in [
            ("mysql://u:a?b@h/d?x=y", ("mysql://u:a?b@h/d", "x=y")),
            ("mysql://u:?@h/d", ("mysql://u:?@h/d", "")),
            ("mysql://u:a?b@tcp(h:1)/d?x=y?z", ("mysql://u:a?b@tcp(h:1)/d", "x=y?z")),
            ("postgres://h/d?user=u&password=a?b", ("postgres://h/d", "user=u&password=a?b")),
            ("postgres://h:1/d?user=a@b", ("postgres://h:1/d", "user=a@b")),
            ("sqlite3:x.db?mode=ro", ("sqlite3:x.db", "mode=ro")),
        ] {
            let UrlRanges { place, query, .. } = UrlRanges::of(url).unwrap();
            assert_eq!((&url[..place.end], &url[query]), expected, "{url}");
        }
    }

    #[test]
    fn a_target_is_named_after_its_database() {
        for (url, expected) in [
            ("postgres://u:p@h:5432/shop?x=y", Some("shop")),
            ("postgres://u:1/p@h:5432/shop", Some("shop")),
            ("postgres://u:/p?#@h.example", Some("h.example")),
            ("postgres://u@h.example,h2", Some("h.example")),
            ("sqlite:data/app.db", Some("app")),
            ("sqlite:app.db?mode=ro", Some("app")),
            ("sqlite:///var/app.db", Some("app")),
            ("host=h password=a:b/c dbname=shop user=u", Some("shop")),
            ("host=h.example password=x://a:b", Some("h.example")),
            ("password=a:b", None),
            ("nothing", None),
        ] {
            assert_eq!(database(url).as_deref(), expected, "{url}");
        }
    }
}
