//! Where a server is, and what its connection string says beside: from a URL or from the fields that it replaces.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::deadline::parse_duration;
use crate::secret::Secret;
use crate::yaml::keys::{Keys, Origin};

use super::connection_string::{AddressError, ConnectionString, PORT, port_number};
use super::password;
use super::tls::{TLS_MODES, TlsConfig, TlsMode};

/// How drivers differ in what they accept.
#[derive(Debug, Clone, Copy)]
pub struct UrlRules {
    /// The URL schemes accepted, without `://`.
    pub schemes: &'static [&'static str],
    /// The port when none is given.
    pub port: u16,
    /// Addresses are libpq's: keyword strings are accepted, too, and a host may be the folder of a socket.
    pub libpq: bool,
}

/// The keys that hold a URL.
const URLS: [&str; 3] = ["url", "connection_string", "url_file"];
/// The keys that a URL replaces.
const FIELDS: [&str; 5] = ["host", "port", "socket", "database", "username"];
/// MySQL's names of the modes, beside libpq's.
const MYSQL_TLS_MODES: &[(&str, TlsMode)] = &[
    ("allow", TlsMode::Prefer),
    ("disabled", TlsMode::Disable),
    ("preferred", TlsMode::Prefer),
    ("required", TlsMode::Require),
    ("verify_ca", TlsMode::VerifyCa),
    ("verify_identity", TlsMode::VerifyFull),
];

/// What a URL or the fields say, before defaults are filled in.
#[derive(Default)]
pub(super) struct Address {
    pub(super) hosts: Vec<(String, Option<u16>)>,
    /// Of the hosts that name none, and of a socket.
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
    pub(super) database: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) tls_mode: Option<TlsMode>,
    /// All but the mode.
    pub(super) tls: TlsConfig,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) params: Vec<(String, String)>,
}

/// Reads the URL and the fields; of the two, the entry's own comes before that of the defaults. Also returns where
/// the URL came from. Faults are recorded.
pub(super) fn read(keys: &mut Keys<'_>, rules: UrlRules) -> (Address, Option<Origin>) {
    let key = only_one(keys, &URLS);
    let origin = key.and_then(|key| keys.origin(key));
    if let Some(field) = FIELDS.iter().find(|field| origin.is_some() && keys.origin(field) == origin) {
        let message = format!("`{field}` beside a URL");
        keys.fault_with_hint(field, message, "write the URL or the fields, never both");
    }
    let url = url(keys, key, rules).unwrap_or_default();
    let fields = fields(keys);
    let address = if origin == Some(Origin::Own) { url.or(fields) } else { fields.or(url) };
    (address, origin)
}

/// Faults every key of `group` but the first that stands on the same level; returns the one that counts.
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

/// What the URL under `key` says.
fn url(keys: &mut Keys<'_>, key: Option<&'static str>, rules: UrlRules) -> Option<Address> {
    // All three are read, so that none is an unknown key.
    let (url, string, file) = (keys.secret("url"), keys.secret("connection_string"), keys.file("url_file"));
    let key = key?;
    let text = match key {
        "url" => url?,
        "connection_string" => string?,
        _ => match password::read_file(&file?) {
            Ok(text) => text,
            Err(what) => {
                keys.fault(key, format!("the file {what}"));
                return None;
            }
        },
    };
    let fault = |(message, hint): AddressError| keys.fault_with_hint(key, message, hint);
    let ConnectionString { scheme, params } =
        ConnectionString::parse(text.expose(), rules.libpq).map_err(fault).ok()?;
    if scheme.is_some_and(|scheme| !rules.schemes.contains(&scheme.as_str())) {
        let schemes: Vec<_> = rules.schemes.iter().map(|scheme| format!("{scheme}://")).collect();
        keys.fault(key, format!("the URL does not begin with {}", schemes.join(" or ")));
        return None;
    }
    let mut parameters = Parameters { folder: keys.folder(key), ..Parameters::default() };
    let mut is_valid = true;
    for (name, value) in params {
        if let Err(expected) = parameters.set(&name, value) {
            let message = format!("the URL's parameter `{}` is not {expected}", name.escape_default());
            keys.fault(key, message);
            is_valid = false;
        }
    }
    parameters.into_address().map_err(fault).ok().filter(|_| is_valid)
}

/// The parameters of a connection string. As in libpq, a later one replaces an earlier one.
#[derive(Default)]
struct Parameters {
    address: Address,
    hosts: Vec<String>,
    ports: Vec<Option<u16>>,
    /// `hostaddr`.
    host_addresses: Vec<String>,
    /// The system's own root certificates are to be used.
    system_roots: bool,
    /// Relative paths start here.
    folder: PathBuf,
}

impl Parameters {
    /// Sets one; what has no meaning here is the driver's. An error says what was expected.
    fn set(&mut self, name: &str, value: String) -> Result<(), &'static str> {
        let address = &mut self.address;
        let path = |value: &str| Some(self.folder.join(value));
        match name.replace('-', "_").as_str() {
            "host" => self.hosts = list(&value).map(str::to_owned).collect(),
            "hostaddr" => self.host_addresses = list(&value).map(str::to_owned).collect(),
            "port" => {
                let port = |text: &str| match text {
                    "" => Ok(None),
                    text => port_number(text).map(Some).ok_or(PORT),
                };
                self.ports = list(&value).map(port).collect::<Result<_, _>>()?;
            }
            "sslmode" | "ssl_mode" => {
                let mut modes = TLS_MODES.iter().chain(MYSQL_TLS_MODES);
                let mode = modes.find(|(name, _)| name.eq_ignore_ascii_case(&value));
                let (_, mode) = mode.ok_or("one of disable, prefer, require, verify-ca, verify-full")?;
                address.tls_mode = Some(*mode);
            }
            // What JDBC writes, and libpq accepts for that reason.
            "ssl" if value == "true" => address.tls_mode = Some(TlsMode::Require),
            "sslrootcert" | "ssl_ca" if value == "system" => self.system_roots = true,
            "sslrootcert" | "ssl_ca" => address.tls.ca = path(&value),
            "sslcert" | "ssl_cert" => address.tls.cert = path(&value),
            "sslkey" | "ssl_key" => address.tls.key = path(&value),
            "connect_timeout" => {
                let timeout = parse_duration(&value).map_err(|_| "a number of seconds")?;
                // libpq: zero means no limit, which a scrape cannot allow; the default applies.
                address.connect_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
            }
            "user" => address.username = Some(value).filter(|name| !name.is_empty()),
            "password" => address.password = Some(Secret::new(value)),
            "dbname" => address.database = Some(value).filter(|name| !name.is_empty()),
            "passfile" => {
                let path = self.folder.join(value);
                let path = std::path::absolute(&path).unwrap_or(path);
                address.params.push((name.to_owned(), path.to_string_lossy().into_owned()));
            }
            "socket" | "unix_socket" => address.socket = path(&value),
            _ => address.params.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Gives each host its port and its address.
    fn into_address(mut self) -> Result<Address, AddressError> {
        let mut address = self.address;
        if self.system_roots {
            // As in libpq: everybody can have a certificate of a public authority.
            if address.tls_mode.is_some_and(|mode| mode < TlsMode::VerifyFull) {
                let hint = "write sslmode=verify-full, or leave sslmode out";
                return Err(("the URL's sslrootcert=system with a weaker sslmode", hint));
            }
            address.tls_mode = Some(TlsMode::VerifyFull);
        }
        if self.hosts.iter().all(String::is_empty) && self.hosts.len() < 2 {
            self.hosts = std::mem::take(&mut self.host_addresses);
        }
        if self.hosts.iter().any(String::is_empty) {
            return Err(("a host in the URL is empty", "name each one: `localhost` is this machine"));
        }
        let count = self.hosts.len().max(1);
        if self.ports.iter().all(Option::is_none) {
            self.ports.clear();
        }
        if !matches!(self.ports.len(), 0 | 1) && self.ports.len() != count {
            let hint = "write one port for all hosts, or one for each";
            return Err(("the URL has not as many ports as hosts", hint));
        }
        if !self.host_addresses.is_empty() {
            if self.host_addresses.len() != count {
                return Err(("the URL has not as many hostaddr as hosts", "write one address for each host"));
            }
            address.params.push(("hostaddr".to_owned(), self.host_addresses.join(",")));
        }
        let port = |index: usize| self.ports.get(index).or(self.ports.first()).copied().flatten();
        match self.hosts.as_slice() {
            [] => address.port = port(0),
            [host] => address.set_host(host, port(0)),
            hosts => address.hosts = hosts.iter().cloned().zip((0..).map(port)).collect(),
        }
        Ok(address)
    }
}

/// The parts of a list; none of an empty one.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(move |_| !text.is_empty())
}

fn fields(keys: &mut Keys<'_>) -> Address {
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
        let is_default = only_one(keys, &["host", "socket"]) == Some("socket");
        match host_alone(&host) {
            Ok(_) if is_default => {}
            Ok(host) => {
                address.socket = None;
                address.set_host(host, None);
            }
            Err((message, hint)) => keys.fault_with_hint("host", message, hint),
        }
    }
    address
}

/// A host without brackets; an error says where the rest belongs.
fn host_alone(text: &str) -> Result<&str, AddressError> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let is_ipv6 = || bare.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    if text.contains("://") || text.contains('@') {
        Err(("this is not a host name", "a URL belongs under `url`, a user under `username`"))
    } else if bare.is_empty() || bare.contains(char::is_whitespace) {
        Err(("the host is empty or holds a blank", "write a name or an address"))
    } else if bare.contains(',') {
        Err(("several hosts", "write them in a URL: postgres://HOST1,HOST2/DATABASE"))
    } else if bare.contains(':') && !bare.starts_with('/') && !is_ipv6() {
        Err(("the host holds a port", "write it under `port`"))
    } else {
        Ok(bare)
    }
}

impl Address {
    /// These values, and those of `other` where there are none. Hosts and socket are one thing, and so are a user and
    /// the password that a URL gives it.
    fn or(self, other: Address) -> Address {
        let has_place = !self.hosts.is_empty() || self.socket.is_some();
        let (mut hosts, socket) =
            if has_place { (self.hosts, self.socket) } else { (other.hosts, other.socket) };
        if !has_place && self.port.is_some() {
            hosts.iter_mut().for_each(|(_, port)| *port = None);
        }
        let password = if self.username.is_some() { self.password } else { self.password.or(other.password) };
        let mut inherited = other.params;
        if has_place {
            // It says where the other hosts are.
            inherited.retain(|(name, _)| name != "hostaddr");
        }
        Address {
            hosts,
            socket,
            port: self.port.or(other.port),
            database: self.database.or(other.database),
            username: self.username.or(other.username),
            password,
            tls_mode: self.tls_mode.or(other.tls_mode),
            tls: if self.tls_mode.is_some() || self.tls.ca.is_some() { self.tls } else { other.tls },
            connect_timeout: self.connect_timeout.or(other.connect_timeout),
            params: if self.params.is_empty() { inherited } else { self.params },
        }
    }

    /// Sets the only host; one that begins with `/` is the folder of a socket, as in libpq.
    fn set_host(&mut self, host: &str, port: Option<u16>) {
        if host.starts_with('/') {
            self.socket = Some(PathBuf::from(host));
            self.port = self.port.or(port);
        } else {
            self.hosts.push((host.to_owned(), port));
        }
    }
}
