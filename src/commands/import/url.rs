//! Addresses of databases: the password out, a name for the target.

use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::drivers::SourceDriver;
use super::report::Report;
use crate::driver::connection::{AddressSyntax, keywords};

/// What is percent-encoded in a part of a URL.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b',');
/// How a password is written in a URL.
pub(super) const AS_IN_URL: &str = ", as the URL had it (percent-encoded)";

/// The address with `${NAME_PASSWORD}` in place of each password: that of the user, a parameter `password`, and the keyword of
/// a text such as `host=db password=…`. Variables that it holds stay.
pub(super) fn without_password(url: &str, target: &str, report: &Report) -> String {
    let is_keywords = AddressSyntax::of(url) == AddressSyntax::Keywords;
    let form = if is_keywords { ", as the connection string had it" } else { AS_IN_URL };
    let out = replaced(url, passwords(url), |password| variable(password, target, form, report));
    report.uses(&out);
    out
}

/// The text with something else in each of the ranges, which are in order.
fn replaced(
    text: &str,
    ranges: impl IntoIterator<Item = Range<usize>>,
    by: impl Fn(&str) -> String,
) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for range in ranges {
        out.push_str(text.get(from..range.start).unwrap_or_default());
        from = range.end;
        out.push_str(&by(text.get(range).unwrap_or_default()));
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// The variable for a password. One that the source has stays, without a default, which would be a secret in the file; a
/// password that a variable is only a part of is a secret as a whole.
pub(super) fn variable(text: &str, target: &str, form: &str, report: &Report) -> String {
    let variable = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    match variable.filter(|inside| !inside.contains(['$', '{', '}'])) {
        Some(inside) => {
            let (name, has_default) =
                inside.split_once(":-").map_or((inside, false), |(name, _)| (name, true));
            let what = format!("the password of {target}{form}");
            report.needs(name, if has_default { &what } else { "as in the source" });
            format!("${{{name}}}")
        }
        None => report.password(target, text, form),
    }
}

fn is_variable(text: &str) -> bool {
    text.starts_with("${")
}

/// Where the passwords of an address stand, in order; none of them is empty.
fn passwords(url: &str) -> Vec<Range<usize>> {
    if AddressSyntax::of(url) == AddressSyntax::Keywords {
        let found = keywords(url).into_iter();
        let found = found.filter(|keyword| keyword.name.contains("password") && !keyword.value.is_empty());
        return found.map(|keyword| keyword.value).collect();
    }
    let of_the_user = of_the_user(url);
    let from = of_the_user.as_ref().map_or(0, |range| range.end);
    let is_end = |c: char| c == '&' || c == '#' || c.is_whitespace();
    of_the_user.into_iter().filter(|range| !range.is_empty()).chain(parameters(url, from, is_end)).collect()
}

/// Behind each `password=`, from an offset on, up to where `is_end` says; none of them is empty.
fn parameters(text: &str, mut from: usize, is_end: fn(char) -> bool) -> impl Iterator<Item = Range<usize>> {
    let values = std::iter::from_fn(move || {
        let range = keyword(text, from, is_end)?;
        from = range.end;
        Some(range)
    });
    values.filter(|range| !range.is_empty())
}

/// A URL, and what stands behind its `?`; a `?` in the password does not count.
pub(super) fn split_query(url: &str) -> (&str, &str) {
    let go = ["@tcp(", "@unix("].into_iter().find_map(|form| url.rfind(form));
    let login = go.or_else(|| Some(of_the_user(url)?.end)).unwrap_or(0);
    let query = url.get(login..).and_then(|rest| rest.find('?')).map(|at| login + at);
    query.and_then(|at| Some((url.get(..at)?, url.get(at + 1..)?))).unwrap_or((url, ""))
}

/// Behind the user, in a URL.
fn of_the_user(url: &str) -> Option<Range<usize>> {
    let start = url.find("://")? + 3;
    let rest = url.get(start..)?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let colon = authority.find(':')?;
    let port = authority.get(colon + 1..)?;
    // The last `@` before the path: a password may hold one. SQLAlchemy's may hold what ends a host, too.
    let host = authority.rfind('@').or_else(|| {
        let is_number = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
        rest.split(|c: char| c.is_whitespace() || (is_number && c == '?')).next()?.rfind('@')
    })?;
    (colon < host).then_some(start + colon + 1..start + host)
}

/// Where the `@` behind the user and the password stands.
fn login_end(url: &str) -> Option<usize> {
    let start = url.find("://")? + 3;
    let in_authority = || Some(start + url.get(start..)?.split(['/', '?', '#']).next()?.rfind('@')?);
    of_the_user(url).map(|password| password.end).or_else(in_authority)
}

/// Behind the next `password=`, with blanks around `=` or without.
fn keyword(url: &str, mut from: usize, is_end: fn(char) -> bool) -> Option<Range<usize>> {
    loop {
        from += url.get(from..)?.find("password")? + "password".len();
        let rest = url.get(from..)?;
        let Some(value) = rest.trim_start().strip_prefix('=') else { continue };
        let value = value.trim_start();
        let start = url.len() - value.len();
        // A keyword's value may be in quotes.
        return Some(match value.strip_prefix('\'').and_then(|quoted| quoted.find('\'')) {
            Some(end) => start + 1..start + 1 + end,
            None => start..start + value.find(is_end).unwrap_or(value.len()),
        });
    }
}

/// A comment without its passwords: those of addresses, and all that stands behind a key that names one.
pub(super) fn without_secrets(comment: &str) -> String {
    const HIDDEN: &str = "<hidden>";
    const KEYS: [&str; 5] = ["password", "passwd", "pwd", "secret", "token"];
    let hidden = |value: &str| if is_variable(value) { value.to_owned() } else { HIDDEN.to_owned() };
    let words = comment.split_inclusive(char::is_whitespace);
    let clean: String = words.map(|word| replaced(word, of_a_login(word), hidden)).collect();
    // Such a password may be in any form: it ends at a blank.
    let clean = replaced(&clean, parameters(&clean, 0, char::is_whitespace), hidden);
    let lower = clean.to_ascii_lowercase();
    let value_of = |end: usize| {
        let rest = clean.get(end..)?.trim_start_matches(['"', '\'']).trim_start();
        let value = rest.strip_prefix([':', '='])?.trim_start();
        (!is_variable(value) && !value.starts_with(HIDDEN)).then(|| clean.len() - value.len())
    };
    let found = KEYS.iter().flat_map(|key| lower.match_indices(key).map(|(at, key)| at + key.len()));
    match found.filter_map(value_of).min() {
        Some(kept) => format!("{}{HIDDEN}", clean.get(..kept).unwrap_or_default()),
        None => clean,
    }
}

/// The password in a word of a comment that may be an address of any form: `user:password@host`, with a scheme or without.
fn of_a_login(word: &str) -> Option<Range<usize>> {
    let start = word.find("://").map_or(0, |at| at + 3);
    let colon = start + word.get(start..)?.find(':')?;
    // The last `@`: a password may hold one.
    let host = word.rfind('@')?;
    (colon + 1 < host).then_some(colon + 1..host)
}

/// A part of a URL, percent-encoded where it must be.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// An address of SQLAlchemy as ours: `mysql+pymysql://…` is `mysql://…`, `sqlite:///x.db` is relative.
pub(super) fn of_sqlalchemy(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let scheme = scheme.split('+').next().unwrap_or_default();
    match (scheme, rest.strip_prefix('/')) {
        ("sqlite", Some(path)) if path.starts_with('/') => format!("sqlite://{path}"),
        ("sqlite", Some(path)) => format!("sqlite:{path}"),
        _ => format!("{scheme}://{rest}"),
    }
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
        let (address, query) = split_query(address);
        let (scheme, rest) = address.split_once(':')?;
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
        if scheme.is_empty() || !scheme.chars().all(is_legal) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (scheme, transport) = scheme.split_once('+').unwrap_or((&scheme, ""));
        let has_slashes = rest.starts_with("//");
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "true"))).collect();
        // A password in the form of the Go driver may hold anything.
        let raw = ["@tcp(", "@unix("].into_iter().find_map(|form| Some((rest.rfind(form)?, form)));
        let at = match raw {
            Some((at, _)) => Some(at),
            None if has_slashes => login_end(address).map(|at| at - (address.len() - rest.len())),
            None => rest.split('/').next()?.rfind('@'),
        };
        let (login, host) = at.map_or(Some(("", rest)), |at| Some((rest.get(..at)?, rest.get(at + 1..)?)))?;
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let in_brackets = host.strip_prefix("tcp(").or_else(|| host.strip_prefix("unix("));
        let parts = |is_socket, host, path, is_raw| AddressParts {
            scheme: scheme.to_owned(),
            has_slashes,
            is_socket,
            user,
            password,
            host,
            path,
            query,
            is_raw,
        };
        if let Some(inside) = in_brackets {
            let (inside, after) = inside.split_once(')')?;
            return Some(parts(host.starts_with("unix("), inside, after.trim_start_matches('/'), true));
        }
        if SourceDriver::known(scheme) == Some(SourceDriver::Ours("sqlite")) {
            return Some(parts(false, "", host, false));
        }
        let end = host.find('/').unwrap_or(host.len());
        let (name, path) = host.split_at_checked(end)?;
        // `mysql://user@/shop` is a database on this machine.
        let is_path =
            SourceDriver::known(scheme) != Some(SourceDriver::Ours("mysql")) || path.contains(".sock");
        let is_socket = transport == "unix" || (name.is_empty() && path.len() > 1 && is_path);
        let path = if is_socket { path } else { path.strip_prefix('/').unwrap_or(path) };
        Some(parts(is_socket, name, path, false))
    }
}

/// A name for the target: the database, else the host.
pub(super) fn database(url: &str) -> Option<String> {
    if AddressSyntax::of(url) == AddressSyntax::Keywords {
        let values = keywords(url);
        let value = |wanted: &str| {
            let found = values.iter().rev().find(|keyword| keyword.name == wanted)?;
            Some(clean(url.get(found.value.clone())?))
        };
        return ["dbname", "host"].into_iter().filter_map(value).find(|name| !name.is_empty());
    }
    let (scheme, rest) = url.split_once(':')?;
    let names = if scheme.starts_with("sqlite") {
        let file = rest.split(['?', '#']).next()?.rsplit('/').next()?;
        [file.split('.').next()?, ""]
    } else {
        let AddressParts { host, path, .. } = AddressParts::of(url)?;
        [path.trim_start_matches('/'), host.split([':', ',']).next()?]
    };
    names.into_iter().map(clean).find(|name| !name.is_empty())
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

/// What may stand in the name of a target without quotes.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' }).collect()
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
            ("host=h password=a#b&c user=u", "host=h password=<hidden> user=u"),
        ] {
            assert_eq!(without_secrets(comment), expected);
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
            assert_eq!(split_query(url), expected, "{url}");
        }
    }

    #[test]
    fn an_address_of_sqlalchemy_is_ours() {
        for (url, expected) in [
            ("mysql+pymysql://u@h/d", "mysql://u@h/d"),
            ("sqlite:///x.db", "sqlite:x.db"),
            ("sqlite:////var/x.db", "sqlite:///var/x.db"),
            ("postgresql://h/d", "postgresql://h/d"),
        ] {
            assert_eq!(of_sqlalchemy(url), expected);
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
