//! Addresses of SQLAlchemy: `dialect[+driver]://user:password@host:port/database?option=value`.
//!
//! Facts, from SQLAlchemy 2.0: `sqlite:///x.db` is a relative path. Options go to the driver as they are: `ssl` is asyncpg's
//! `sslmode`, and PyMySQL verifies the server as soon as one of its `ssl_…` is set.

use crate::commands::address_text::UrlRanges;
use crate::commands::import::drivers::SourceDriver;

/// Options that MySQL's clients for Python have and that are ours, too.
const OF_MYSQL: [&str; 7] = ["unix_socket", "connect_timeout", "host", "port", "user", "password", "dbname"];
/// Those that change nothing here.
const NEEDLESS: [&str; 4] = ["charset", "use_unicode", "autocommit", "binary_prefix"];

/// The address as ours: without `+driver`, with the options that are ours. `left_out` hears of one that has no counterpart.
pub(in super::super) fn as_url(address: &str, left_out: impl Fn(String)) -> String {
    let ranges = UrlRanges::of(address).filter(|ranges| ranges.has_slashes);
    let parts = ranges.and_then(|UrlRanges { scheme, place, query, .. }| {
        Some((address.get(..scheme.end)?, address.get(scheme.end + 3..place.end)?, address.get(query)?))
    });
    let Some((scheme, rest, query)) = parts else { return address.to_owned() };
    let scheme = scheme.split('+').next().unwrap_or_default();
    let options = query.split('&').filter(|option| !option.is_empty());
    let options: Vec<String> =
        options.filter_map(|written| option(scheme, written).map_err(&left_out).ok()?).collect();
    let query = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
    match (scheme, rest.strip_prefix('/')) {
        ("sqlite", Some(path)) if path.starts_with('/') => format!("sqlite://{path}{query}"),
        ("sqlite", Some(path)) => format!("sqlite:{path}{query}"),
        _ => format!("{scheme}://{rest}{query}"),
    }
}

/// An option, `KEY=VALUE`, as one of ours; `None` where it changes nothing here. One that may ask for more security is never left
/// out: an address with a wrong one does not load, and is reported.
///
/// # Errors
/// That it has no counterpart.
pub(in super::super) fn option(scheme: &str, written: &str) -> Result<Option<String>, String> {
    let key = written.split('=').next().unwrap_or_default();
    let is_mysql = SourceDriver::known(scheme) == Some(SourceDriver::Ours("mysql"));
    if !is_mysql {
        let mode = written.strip_prefix("ssl=").filter(|value| *value != "true");
        return Ok(Some(mode.map_or_else(|| written.to_owned(), |mode| format!("sslmode={mode}"))));
    }
    let is_tls = key.starts_with("ssl") && key != "ssl_disabled";
    if is_tls || OF_MYSQL.contains(&key) {
        return Ok(Some(written.to_owned()));
    }
    let needless = NEEDLESS.contains(&key).then_some(None);
    needless.ok_or_else(|| format!("the option `{key}` of the address has no counterpart"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_sqlalchemy_is_ours() {
        for (url, expected) in [
            ("mysql+pymysql://u@h/d", "mysql://u@h/d"),
            ("sqlite:///x.db", "sqlite:x.db"),
            ("sqlite:////var/x.db", "sqlite:///var/x.db"),
            ("postgresql://h/d", "postgresql://h/d"),
        ] {
            assert_eq!(as_url(url, |_| ()), expected, "{url}");
        }
    }

    #[test]
    fn what_an_option_asks_of_tls_stays() {
        for (url, expected, lost) in [
            ("postgresql+asyncpg://h/d?ssl=verify-full", "postgresql://h/d?sslmode=verify-full", false),
            ("postgresql://h/d?ssl=true", "postgresql://h/d?ssl=true", false),
            ("mysql+pymysql://h/d?charset=utf8&ssl_ca=/ca", "mysql://h/d?ssl_ca=/ca", false),
            ("mysql://h/d?ssl_verify_cert=true", "mysql://h/d?ssl_verify_cert=true", false),
            ("mysql://u:a?b@h/d?ssl_disabled=true", "mysql://u:a?b@h/d", true),
            ("mysql://h/d?read_timeout=5", "mysql://h/d", true),
        ] {
            let is_lost = std::cell::Cell::new(false);
            assert_eq!(as_url(url, |_| is_lost.set(true)), expected);
            assert_eq!(is_lost.get(), lost, "{url}");
        }
    }
}
