//! Where a server is and what its URL says beside: from a URL or from the fields that it replaces.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::password;
use super::tls::{TLS_MODES, TlsConfig, TlsMode};
use crate::deadline::parse_duration;
use crate::secret::Secret;
use crate::yaml::keys::{Keys, Origin};

use super::keywords;
use super::url::{AddressSyntax, Refusal, Url};

/// What differs between drivers when a login is read.
#[derive(Debug, Clone, Copy)]
pub struct UrlRules {
    /// The URL schemes accepted, without `://`.
    pub schemes: &'static [&'static str],
    /// The port when none is given.
    pub port: u16,
    /// Addresses are libpq's: keyword strings are taken, too, and a host may be the folder of a socket.
    pub libpq: bool,
}

/// The keys that hold a URL.
const URLS: [&str; 3] = ["url", "connection_string", "url_file"];
/// The keys that a URL replaces.
const FIELDS: [&str; 5] = ["host", "port", "socket", "database", "username"];
/// MySQL's names of the modes, beside libpq's.
const MYSQL_MODES: &[(&str, TlsMode)] = &[
    ("allow", TlsMode::Prefer),
    ("disabled", TlsMode::Disable),
    ("preferred", TlsMode::Prefer),
    ("required", TlsMode::Require),
    ("verify_ca", TlsMode::VerifyCa),
    ("verify_identity", TlsMode::VerifyFull),
];

/// What a URL or the fields say, before anything is filled in.
#[derive(Default)]
pub(super) struct Address {
    pub(super) hosts: Vec<(String, Option<u16>)>,
    /// Of the hosts that name none, and of a socket.
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
    pub(super) database: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    /// `None`: not said.
    pub(super) mode: Option<TlsMode>,
    /// The system's own roots are asked for.
    system_roots: bool,
    /// All but the mode.
    pub(super) tls: TlsConfig,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) params: Vec<(String, String)>,
}

/// A URL as configured.
struct Text {
    key: &'static str,
    url: Secret,
    /// Relative paths in it start here.
    folder: PathBuf,
}

/// Reads the URL and the fields; of the two, the entry's own comes before that of the defaults. Also tells where
/// the URL came from. Faults are recorded.
pub(super) fn read(keys: &mut Keys<'_>, scheme: UrlRules) -> (Address, Option<Origin>) {
    only_one(keys, &URLS);
    let origin = URLS.iter().filter_map(|key| keys.origin(key)).min();
    if let Some(origin) = origin
        && let Some(field) = FIELDS.iter().find(|field| keys.origin(field) == Some(origin))
    {
        keys.fault_with_hint(
            field,
            format!("`{field}` beside a URL"),
            "write the URL or the fields, never both",
        );
    }
    let url = text(keys).and_then(|text| from_url(keys, &text, scheme)).unwrap_or_default();
    let fields = from_fields(keys);
    let address = if origin == Some(Origin::Own) { url.or(fields) } else { fields.or(url) };
    (address, origin)
}

/// Faults every key of `group` but the first that stands on the same level; gives the one that counts.
pub(super) fn only_one(keys: &Keys<'_>, group: &[&'static str]) -> Option<&'static str> {
    let mut given: Vec<(Origin, &'static str)> =
        group.iter().filter_map(|key| Some((keys.origin(key)?, *key))).collect();
    given.sort_by_key(|(origin, _)| *origin);
    let (origin, first) = *given.first()?;
    for (_, other) in given.iter().skip(1).filter(|(other, _)| *other == origin) {
        keys.fault_with_hint(other, format!("`{other}` beside `{first}`"), "one of them is enough");
    }
    Some(first)
}

/// The URL that counts. All three keys are asked for, so that none is unknown.
fn text(keys: &mut Keys<'_>) -> Option<Text> {
    let (url, string, file) = (keys.secret("url"), keys.secret("connection_string"), keys.file("url_file"));
    let key = *URLS.iter().filter(|key| keys.origin(key).is_some()).min_by_key(|key| keys.origin(key))?;
    let url = match key {
        "url" => url?,
        "connection_string" => string?,
        _ => match password::read_file(&file?) {
            Ok(url) => url,
            Err(what) => {
                keys.fault(key, format!("the file {what}"));
                return None;
            }
        },
    };
    Some(Text { key, url, folder: keys.folder(key) })
}

fn from_url(keys: &Keys<'_>, text: &Text, scheme: UrlRules) -> Option<Address> {
    let fault = |Refusal { what, hint }| keys.fault_with_hint(text.key, what, hint);
    let parsed = match AddressSyntax::of(text.url.expose()) {
        AddressSyntax::Keywords if scheme.libpq => {
            keywords::parse(text.url.expose()).map(|params| Url { params, ..Url::default() })
        }
        _ => Url::parse(text.url.expose()),
    };
    let url = parsed.map_err(fault).ok()?;
    if !url.scheme.is_empty() && !scheme.schemes.contains(&url.scheme.as_str()) {
        let schemes: Vec<_> = scheme.schemes.iter().map(|scheme| format!("{scheme}://")).collect();
        keys.fault(text.key, format!("the URL does not begin with {}", schemes.join(" or ")));
        return None;
    }
    let mut address = Address {
        username: url.username,
        password: url.password,
        database: url.database,
        ..Address::default()
    };
    let (hosts, ports) = url.hosts.into_iter().unzip();
    let mut places = Places { hosts, ports, ..Places::default() };
    let mut good = true;
    for (name, value) in url.params {
        let taken = match places.param(&name, &value) {
            Some(taken) => taken,
            None => address.param(&name, value, &text.folder),
        };
        if let Err(expected) = taken {
            let message = format!("the URL's parameter `{}` is not {expected}", name.escape_default());
            keys.fault(text.key, message);
            good = false;
        }
    }
    if address.system_roots {
        // As libpq: everybody can have a certificate of a public authority.
        if address.mode.is_some_and(|mode| mode < TlsMode::VerifyFull) {
            let hint = "write sslmode=verify-full, or leave sslmode out";
            fault(Refusal { what: "the URL's sslrootcert=system with a weaker sslmode", hint });
            good = false;
        }
        address.mode = Some(TlsMode::VerifyFull);
    }
    places.settle(&mut address).map_err(fault).ok()?;
    good.then_some(address)
}

/// The places that a URL names: as in libpq, the lists of its parameters replace those before the `?`.
#[derive(Default)]
struct Places {
    hosts: Vec<String>,
    ports: Vec<Option<u16>>,
    /// `hostaddr`.
    addresses: Vec<String>,
}

impl Places {
    /// Takes the parameters that are lists of places; `None` for another.
    fn param(&mut self, name: &str, value: &str) -> Option<Result<(), &'static str>> {
        let list = || if value.is_empty() { Vec::new() } else { value.split(',').map(str::trim).collect() };
        let texts = || list().into_iter().map(str::to_owned).collect();
        match name {
            "host" => self.hosts = texts(),
            "hostaddr" => self.addresses = texts(),
            "port" => {
                let port = |text: &&str| match *text {
                    "" => Ok(None),
                    text => text.parse().ok().filter(|port| *port > 0).map(Some).ok_or(PORT),
                };
                match list().iter().map(port).collect() {
                    Ok(ports) => self.ports = ports,
                    Err(expected) => return Some(Err(expected)),
                }
            }
            _ => return None,
        }
        Some(Ok(()))
    }

    /// Gives each host its port and its address.
    fn settle(mut self, address: &mut Address) -> Result<(), Refusal> {
        if self.hosts.iter().all(String::is_empty) && self.hosts.len() < 2 {
            self.hosts = std::mem::take(&mut self.addresses);
        }
        if self.hosts.iter().any(String::is_empty) {
            let hint = "name each one: `localhost` is this machine";
            return Err(Refusal { what: "a host in the URL is empty", hint });
        }
        let count = self.hosts.len().max(1);
        if self.ports.iter().all(Option::is_none) {
            self.ports.clear();
        }
        if !matches!(self.ports.len(), 0 | 1) && self.ports.len() != count {
            let hint = "write one port for all hosts, or one for each";
            return Err(Refusal { what: "the URL has not as many ports as hosts", hint });
        }
        if !self.addresses.is_empty() {
            if self.addresses.len() != count {
                let hint = "write one address for each host";
                return Err(Refusal { what: "the URL has not as many hostaddr as hosts", hint });
            }
            address.params.push(("hostaddr".to_owned(), self.addresses.join(",")));
        }
        let port = |index: usize| self.ports.get(index).or(self.ports.first()).copied().flatten();
        match self.hosts.as_slice() {
            [] => address.port = port(0),
            [host] => address.host(host.clone(), port(0)),
            hosts => {
                let placed = hosts.iter().enumerate().map(|(index, host)| (host.clone(), port(index)));
                address.hosts = placed.collect();
            }
        }
        Ok(())
    }
}

fn from_fields(keys: &mut Keys<'_>) -> Address {
    let mut address = Address {
        port: keys.number::<u16>("port", PORT),
        socket: keys.file("socket"),
        database: keys.text("database").filter(|name| !name.is_empty()),
        username: keys.text("username").filter(|name| !name.is_empty()),
        ..Address::default()
    };
    if address.port == Some(0) {
        keys.fault("port", format!("0 is not {PORT}"));
    }
    if let Some(host) = keys.text("host") {
        if keys.origin("socket").is_some() && keys.origin("socket") == keys.origin("host") {
            keys.fault_with_hint("socket", "`socket` beside `host`", "one of them is enough");
        }
        match host_alone(&host) {
            Ok(host) => address.host(host, None),
            Err((what, hint)) => keys.fault_with_hint("host", what, hint),
        }
    }
    address
}

const PORT: &str = "a port from 1 to 65535";

/// A host without brackets; a refusal says where the rest belongs.
fn host_alone(text: &str) -> Result<String, (&'static str, &'static str)> {
    if text.contains("://") || text.contains('@') {
        return Err(("this is no host name", "a URL belongs under `url`, a user under `username`"));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.is_empty() || bare.contains(char::is_whitespace) {
        return Err(("the host is empty or holds a blank", "write a name or an address"));
    }
    if bare.contains(',') {
        return Err(("several hosts", "write them in a URL: postgres://HOST1,HOST2/DATABASE"));
    }
    if bare.contains(':')
        && !bare.starts_with('/')
        && bare.split('%').next().unwrap_or(bare).parse::<Ipv6Addr>().is_err()
    {
        return Err(("the host holds a port", "write it under `port`"));
    }
    Ok(bare.to_owned())
}

impl Address {
    /// These values, and those of `other` where there are none. Hosts and socket are one thing, and so are a user and
    /// the password that a URL gives it.
    fn or(self, other: Address) -> Address {
        let placed = !self.hosts.is_empty() || self.socket.is_some();
        let (hosts, socket) = if placed { (self.hosts, self.socket) } else { (other.hosts, other.socket) };
        let password = if self.username.is_some() { self.password } else { self.password.or(other.password) };
        Address {
            hosts,
            socket,
            port: self.port.or(other.port),
            database: self.database.or(other.database),
            username: self.username.or(other.username),
            password,
            mode: self.mode.or(other.mode),
            system_roots: self.system_roots || other.system_roots,
            tls: if self.mode.is_some() || self.tls.ca.is_some() { self.tls } else { other.tls },
            connect_timeout: self.connect_timeout.or(other.connect_timeout),
            params: if self.params.is_empty() { other.params } else { self.params },
        }
    }

    /// Adds a host; one that begins with `/` is the folder of a socket, as in libpq.
    fn host(&mut self, host: String, port: Option<u16>) {
        if host.starts_with('/') {
            self.socket = Some(PathBuf::from(host));
            self.port = self.port.or(port);
        } else {
            self.hosts.push((host, port));
        }
    }

    /// Takes a parameter of a URL; what has no meaning here is the driver's. A refusal says what was expected.
    fn param(&mut self, name: &str, value: String, folder: &Path) -> Result<(), &'static str> {
        match name.replace('-', "_").as_str() {
            "sslmode" | "ssl_mode" => {
                let modes = || TLS_MODES.iter().chain(MYSQL_MODES);
                let mode = modes().find(|(word, _)| word.eq_ignore_ascii_case(&value));
                let (_, mode) = mode.ok_or("one of disable, prefer, require, verify-ca, verify-full")?;
                self.mode = Some(*mode);
            }
            // What JDBC writes, and libpq takes for that reason.
            "ssl" if value == "true" => self.mode = Some(TlsMode::Require),
            // libpq's word for the system's own roots, which demands the full check.
            "sslrootcert" | "ssl_ca" if value == "system" => self.system_roots = true,
            "sslrootcert" | "ssl_ca" => self.tls.ca = Some(folder.join(value)),
            "sslcert" | "ssl_cert" => self.tls.cert = Some(folder.join(value)),
            "sslkey" | "ssl_key" => self.tls.key = Some(folder.join(value)),
            "connect_timeout" => {
                let timeout = parse_duration(&value).map_err(|_| "a number of seconds")?;
                // libpq: zero is no limit, which a scrape cannot grant; the default serves.
                self.connect_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
            }
            "user" => self.username = Some(value).filter(|name| !name.is_empty()),
            "password" => self.password = Some(Secret::new(value)),
            "dbname" => self.database = Some(value).filter(|name| !name.is_empty()),
            "passfile" => {
                let path = folder.join(value);
                let path = std::path::absolute(&path).unwrap_or(path);
                self.params.push((name.to_owned(), path.to_string_lossy().into_owned()));
            }
            "socket" | "unix_socket" => self.socket = Some(folder.join(value)),
            _ => self.params.push((name.to_owned(), value)),
        }
        Ok(())
    }
}
