//! Addresses of databases: the password out, a name for the target.

use super::model::Value;
use super::report::Report;

/// The address with `${NAME_PASSWORD}` in place of each password: that of the user, a parameter `password`, and the keyword of
/// a text such as `host=db password=…`. Variables that it holds stay.
pub(super) fn without_password(url: &str, target: &str, report: &Report) -> Value {
    report.uses(url);
    let Some((before, password, after)) =
        split_password(url).filter(|(_, password, _)| !is_variable(password))
    else {
        return Value::Expanded(url.to_owned());
    };
    let what = format!("the password of {target}, as the URL had it (percent-encoded)");
    match report.secret(&format!("{target}_PASSWORD"), password, &what) {
        Value::Expanded(variable) => Value::Expanded(format!("{before}{variable}{after}")),
        other => other,
    }
}

fn is_variable(text: &str) -> bool {
    text.is_empty() || text.starts_with("${")
}

/// What stands before a password, the password, and what stands behind it.
fn split_password(url: &str) -> Option<(&str, &str, &str)> {
    let cut = |start: usize, end: usize| Some((url.get(..start)?, url.get(start..end)?, url.get(end..)?));
    if let Some(scheme) = url.find("://").map(|at| at + 3) {
        let end = url.get(scheme..)?.find(['/', '?', '#']).map_or(url.len(), |at| scheme + at);
        // The last `@` before the path: a password may hold one.
        let host = url.get(scheme..end)?.rfind('@').map(|at| scheme + at);
        let colon = host.and_then(|host| url.get(scheme..host)?.find(':').map(|at| scheme + at + 1));
        if let (Some(start), Some(end)) = (colon, host) {
            return cut(start, end);
        }
    }
    let is_end = |c: char| c == '&' || c == '#' || c.is_whitespace();
    let start = url.find("password=")? + "password=".len();
    let rest = url.get(start..)?;
    // A keyword's value may be in quotes.
    match rest.strip_prefix('\'').and_then(|quoted| quoted.find('\'')) {
        Some(end) => cut(start + 1, start + 1 + end),
        None => cut(start, start + rest.find(is_end).unwrap_or(rest.len())),
    }
}

/// A part of a URL, percent-encoded where it must be.
pub(super) fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/,".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
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

/// A name for the target: the database, else the host.
pub(super) fn database(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://").or_else(|| url.split_once(':'))?;
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let file = path.rsplit('/').next().unwrap_or_default();
    let name = if scheme.starts_with("sqlite") { file.split('.').next().unwrap_or_default() } else { path };
    let host = authority.rsplit('@').next().unwrap_or_default().split([':', ',']).next().unwrap_or_default();
    let name = [name, host].into_iter().map(clean).find(|name| !name.is_empty())?;
    Some(name)
}

/// `db.example:5432`, as postgres_exporter labels a server; `None` where the URL names several hosts or a socket.
pub(super) fn host_and_port(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    if authority.contains([',', '%', '$']) {
        return None;
    }
    let authority = if authority.is_empty() { "localhost" } else { authority };
    let has_port = authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
    Some(if has_port { authority.to_owned() } else { format!("{authority}:5432") })
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
            ("sqlite:x.db", "sqlite:x.db"),
        ] {
            assert_eq!(
                without_password(url, "t", &Report::default()),
                Value::Expanded(expected.to_owned()),
                "{url}"
            );
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
            ("postgres://u@h.example,h2", Some("h.example")),
            ("sqlite:data/app.db", Some("app")),
            ("sqlite:///var/app.db", Some("app")),
            ("nothing", None),
        ] {
            assert_eq!(database(url).as_deref(), expected, "{url}");
        }
    }
}
