//! Addresses of databases: the password out, a name for the target.

use super::model::Value;
use super::report::Report;

/// The address with `${NAME_PASSWORD}` in place of its password.
pub(super) fn without_password(url: &str, target: &str, report: &Report) -> Value {
    let Some((scheme, rest)) = url.split_once("://") else { return Value::from(url) };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // The last `@` before the path: a password may hold one.
    let (user, after) = match rest.get(..authority).and_then(|authority| authority.rsplit_once('@')) {
        Some((user, host)) => (user, format!("{host}{}", rest.get(authority..).unwrap_or_default())),
        None => return Value::from(url),
    };
    let Some((name, password)) = user.split_once(':').filter(|(_, password)| !password.is_empty()) else {
        return Value::from(url);
    };
    if password.starts_with("${") {
        return Value::Expanded(url.to_owned());
    }
    let what = format!("the password of {target}, as the URL had it (percent-encoded)");
    match report.secret(&format!("{target}_PASSWORD"), password, &what) {
        Value::Expanded(variable) => {
            let escaped = |text: &str| text.replace("${", "$${");
            let (name, after) = (escaped(name), escaped(&after));
            Value::Expanded(format!("{scheme}://{name}:{variable}@{after}"))
        }
        other => other,
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
