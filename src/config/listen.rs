//! An address to listen on, as users write it: `host:port`, `:port`, `unix:PATH`, `systemd`. The flag `--listen` reads it too.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

const SYSTEMD: &str = "systemd";

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:9399`: both families where the machine has them.
    AnyAddress(u16),
    /// `host:port`, `[::1]:9399`.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `systemd`: the sockets that systemd has opened for this process.
    Systemd,
}

impl ListenAddress {
    /// True where the system does not let both be open at once.
    pub(super) fn overlaps(&self, other: &ListenAddress) -> bool {
        let covers = |one: SocketAddr, other: SocketAddr| {
            one.ip() == Ipv6Addr::UNSPECIFIED || (one.ip() == Ipv4Addr::UNSPECIFIED && other.is_ipv4())
        };
        match (self.tcp(), other.tcp()) {
            (Some(one), Some(other)) if one.port() == other.port() && one.port() != 0 => {
                one == other || covers(one, other) || covers(other, one)
            }
            (None, None) => self == other,
            _ => false,
        }
    }

    fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::AnyAddress(port) => Some((Ipv6Addr::UNSPECIFIED, *port).into()),
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) | ListenAddress::Systemd => None,
        }
    }
}

/// As users write it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::AnyAddress(port) => write!(f, ":{port}"),
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ListenAddress::Systemd => f.write_str(SYSTEMD),
        }
    }
}

/// Reads one address. A host name becomes its first address (the resolver is asked, which may block); a relative
/// socket path starts from `folder`.
///
/// # Errors
/// A sentence that says what an address looks like.
pub fn listen(text: &str, folder: &Path) -> Result<ListenAddress, String> {
    let text = text.trim();
    if text == SYSTEMD {
        return Ok(ListenAddress::Systemd);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err(format!("{text:?} names no path: write unix:/run/sql-exporter.sock")),
            // Without the `.` of `./a` within it.
            path => Ok(ListenAddress::Unix(folder.join(path).components().collect())),
        };
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{text:?} is not an address: write host:port, :port, unix:PATH or systemd"));
    };
    let port = port.parse().map_err(|_| format!("{port:?} in {text:?} is not a port from 0 to 65535"))?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(|| format!("{text:?} lacks a `]`"))?,
        None if text.contains("://") => {
            return Err(format!("{text:?}: leave the scheme out, write host:port"));
        }
        None if host.contains(':') => {
            return Err(format!("{text:?}: write an IPv6 address as [{host}]:{port}"));
        }
        None => host,
    };
    at_host(host, port)
}

/// `host` and `port` apart, as files of Du-gui/export-sql have them. No host: every address of the machine.
///
/// # Errors
/// The host has no address.
pub fn at_host(host: &str, port: u16) -> Result<ListenAddress, String> {
    if host.is_empty() {
        return Ok(ListenAddress::AnyAddress(port));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(ListenAddress::Tcp(SocketAddr::new(address, port)));
    }
    // One address, IPv4 first, as other exporters do: `localhost` is often `::1` too where the machine has no IPv6.
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address
        .map(|address| ListenAddress::Tcp(*address))
        .ok_or_else(|| format!("the host {host:?} has no address: write an IP address, or :{port} for all"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ListenAddress, String> {
        listen(text, Path::new("/etc/app"))
    }

    #[test]
    fn addresses_as_users_write_them() {
        let tcp = |text: &str| Ok(ListenAddress::Tcp(text.parse().unwrap()));
        assert_eq!(read(":9399"), Ok(ListenAddress::AnyAddress(9399)));
        assert_eq!(read("127.0.0.1:0"), tcp("127.0.0.1:0"));
        assert_eq!(read("[::1]:9399"), tcp("[::1]:9399"));
        assert_eq!(read("unix:run/x.sock"), Ok(ListenAddress::Unix("/etc/app/run/x.sock".into())));
        assert_eq!(listen("unix:./x.sock", Path::new(".")).unwrap().to_string(), "unix:./x.sock");
        assert_eq!(read("unix:/run/x.sock"), Ok(ListenAddress::Unix("/run/x.sock".into())));
        assert_eq!(read("localhost:9399"), tcp("127.0.0.1:9399"));
        assert_eq!(read("systemd"), Ok(ListenAddress::Systemd));
    }

    #[test]
    fn addresses_that_cannot_be_open_at_once_overlap() {
        let overlap = |one, other| read(one).unwrap().overlaps(&read(other).unwrap());
        for (one, other) in [
            (":9399", "127.0.0.1:9399"),
            ("[::]:9399", "0.0.0.0:9399"),
            ("[::1]:9399", ":9399"),
            ("0.0.0.0:9399", "127.0.0.1:9399"),
            ("127.0.0.1:9399", "localhost:9399"),
            ("unix:x.sock", "unix:./x.sock"),
            ("systemd", "systemd"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [
            (":9399", ":9400"),
            ("127.0.0.1:9399", "[::1]:9399"),
            ("0.0.0.0:9399", "[::1]:9399"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            (":9399", "systemd"),
            ("unix:x.sock", "unix:y.sock"),
        ] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_bad_address_says_what_is_wrong() {
        for text in [
            "9399",
            "",
            "host:",
            ":70000",
            ":http",
            "[::1:9399",
            "::1:9399",
            "unix:",
            "http://a:1",
            "no such:1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("::1:9399").unwrap_err().contains("write an IPv6 address as [::1]:9399"));
    }
}
