//! The names under which clients may send requests to this server, by the header `Host`.
//!
//! A page of another site can have its own name resolve to this machine (DNS rebinding): the browser then lets it read
//! our answers as if they came from that site. Such a page cannot change the name in `Host`. An address there does not
//! name another site, and neither does `localhost`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names with addresses, as the administrator wrote them.
const TABLE: &str = "/etc/hosts";

/// Names that are accepted beside addresses and `localhost`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AllowedHosts {
    /// This machine's, and for clients that have shown who they are any.
    #[default]
    Machine,
    /// These, in lower case, for everybody; `*.example.org` stands for all names below that one, `*` for all.
    Listed(Vec<String>),
}

impl AllowedHosts {
    /// Whether a request may bear this `Host`. `known`: the client has logged in or has shown a certificate.
    pub fn accept(&self, host: &str, known: bool) -> bool {
        let Some(name) = name(host) else { return false };
        if names_no_other_site(&name) {
            return true;
        }
        match self {
            AllowedHosts::Machine => known || machine().contains(&name),
            AllowedHosts::Listed(listed) => listed.iter().any(|pattern| matches(pattern, &name)),
        }
    }
}

/// Reads an entry of the list.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn pattern(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let rest = if text == "*" { "all" } else { text.strip_prefix("*.").unwrap_or(&text) };
    if !rest.is_empty() && rest.bytes().all(of_name) {
        return Ok(text.trim_end_matches('.').to_owned());
    }
    Err(format!("{text:?} is not a host name; write it without scheme and port"))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => pattern == name,
    }
}

/// `Host` without its port, in lower case, without the dot that ends a full name; `None` for what is neither a name nor an
/// address (RFC 9110, 7.2).
fn name(host: &str) -> Option<String> {
    let host = host.trim();
    let (bare, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(address, _)| address.parse::<Ipv6Addr>().is_ok())?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    has_port.then(|| bare.trim_end_matches('.').to_ascii_lowercase())
}

/// Browsers resolve `localhost` and all below it to this machine (RFC 6761, 6.3). No browser sends an empty name.
fn names_no_other_site(name: &str) -> bool {
    let address = name.parse::<Ipv4Addr>().is_ok() || name.parse::<Ipv6Addr>().is_ok();
    name.is_empty() || address || name == "localhost" || name.ends_with(".localhost")
}

/// The names of this machine, as they are now.
fn machine() -> Vec<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let table = crate::file::small_text(std::path::Path::new(TABLE)).unwrap_or_default();
    names_of(&host, &table)
}

/// The machine's own name, its first part, that on the local link (RFC 6762), and those that share a line with it in the
/// table of names.
fn names_of(host: &str, table: &str) -> Vec<String> {
    let host = host.trim_end_matches('.');
    let short = host.split('.').next().unwrap_or_default();
    if short.is_empty() {
        return Vec::new();
    }
    let mut names = vec![host.to_owned(), short.to_owned(), format!("{short}.local")];
    for line in table.to_ascii_lowercase().lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let has_address = words.next().is_some_and(|word| word.parse::<IpAddr>().is_ok());
        let aliases: Vec<&str> = words.collect();
        if has_address && aliases.iter().any(|alias| *alias == host || *alias == short) {
            names.extend(aliases.iter().map(|alias| alias.trim_end_matches('.').to_owned()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_a_name_nor_an_address_is_refused() {
        for host in [
            "[::1]evil.example",
            "[",
            "[]",
            "[evil.example]",
            "localhost:evil.example",
            "127.0.0.1:evil",
            "::1",
        ] {
            assert!(!AllowedHosts::Machine.accept(host, false), "{host}");
        }
    }

    #[test]
    fn addresses_and_localhost_are_accepted_whatever_is_listed() {
        for hosts in [AllowedHosts::Machine, AllowedHosts::Listed(vec!["metrics.example".to_owned()])] {
            for host in [
                "127.0.0.1",
                "127.0.0.1:9399",
                "192.0.2.7:80",
                "[::1]:9399",
                "[2001:db8::1]",
                "localhost",
                "LOCALHOST:9399",
                "localhost.",
                "a.localhost:1",
                "",
            ] {
                assert!(hosts.accept(host, false), "{host}");
            }
            for host in [
                "evil.example",
                "evil.example:9399",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "notlocalhost",
                "[evil.example]",
                "1.2.3",
                "0x7f000001",
                "metrics.example.evil.example",
            ] {
                assert!(!hosts.accept(host, false), "{host}");
            }
        }
    }

    #[test]
    fn who_is_known_may_use_any_name_unless_names_are_listed() {
        assert!(AllowedHosts::Machine.accept("behind.a.proxy", true));
        assert!(!AllowedHosts::Listed(vec!["metrics.example".to_owned()]).accept("behind.a.proxy", true));
    }

    #[test]
    fn listed_names_stand_for_themselves_or_for_those_below() {
        let hosts = AllowedHosts::Listed(
            ["Metrics.Example.", "*.corp.example"].map(|text| pattern(text).unwrap()).to_vec(),
        );
        for host in ["metrics.example", "METRICS.example.:9399", "a.corp.example", "a.b.corp.example"] {
            assert!(hosts.accept(host, false), "{host}");
        }
        for host in
            ["x.metrics.example", "corp.example", ".corp.example", "corp.example.evil", "evilcorp.example"]
        {
            assert!(!hosts.accept(host, false), "{host}");
        }
        assert!(AllowedHosts::Listed(vec!["*".to_owned()]).accept("anything", false));
        for wrong in ["http://a", "a:9399", "a b", "", "*.", "a*", "**", "a/b"] {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_machine_has_its_own_name_and_those_beside_it_in_the_table() {
        let table =
            "127.0.0.1 localhost\n127.0.1.1 DB7.example.com db7 # main\n10.0.0.1 other\nbad db7 evil\n";
        let names = names_of("db7", table);
        for name in ["db7", "db7.local", "db7.example.com"] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| ["other", "evil", "localhost"].contains(&name.as_str())));
        assert!(names_of("db7.example.com", "").contains(&"db7".to_owned()));
        assert!(names_of("", table).is_empty());
        assert!(machine().iter().all(|name| AllowedHosts::Machine.accept(name, false)));
    }
}
