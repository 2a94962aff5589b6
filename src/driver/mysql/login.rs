//! One login: connect, greet, encrypt, prove the password, all on one connection and bounded by one deadline.
//!
//! The greeting says whether the server has TLS, so that nothing is tried and broken off: servers count that against a
//! host and refuse it in the end (1129).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use mysql_common::constants::CapabilityFlags;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use socket2::Socket;

use crate::deadline::Deadline;
use crate::driver::connection::refused_password::RefusedPassword;
use crate::driver::connection::resolve;
use crate::driver::connection::socket::TimedSocket;
use crate::driver::connection::tls::TlsMode;
use crate::driver::connection::{ConnectionConfig, HostPort};
use crate::driver::{Sql, TlsState};
use crate::error::{Error, Reason, Result};
use crate::file;
use crate::secret::Secret;

use super::auth::{Plugin, Proof, Way, check_key};
use super::errors::Fault;
use super::link::Link;
use super::packet::{Greeting, LoginPacket, ServerError};
use super::stream::Stream;

/// All that a server may send before it has let us in.
const BUDGET: usize = 1 << 20;

/// No file with a public key is longer.
const LONGEST_KEY: u64 = 1 << 16;

/// More turns than any plugin takes.
const MOST_TURNS: usize = 16;

/// More than any configuration has queries for one target.
const MOST_DOUBTS: usize = 4096;

/// The largest packet that we say we take.
const LARGEST_PACKET: u32 = 1 << 30;

/// A server without these is none that we can speak with.
const NEEDED: CapabilityFlags = CapabilityFlags::CLIENT_PROTOCOL_41
    .union(CapabilityFlags::CLIENT_SECURE_CONNECTION)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH);

/// The server tells at the end of each answer, that with rows as well, what has become of the session.
const TRACKING: CapabilityFlags =
    CapabilityFlags::CLIENT_SESSION_TRACK.union(CapabilityFlags::CLIENT_DEPRECATE_EOF);

/// What we say of ourselves to any server. The first one also tells a MariaDB that we are no client of its own kind.
const SAID: CapabilityFlags = CapabilityFlags::CLIENT_LONG_PASSWORD
    .union(CapabilityFlags::CLIENT_LONG_FLAG)
    .union(CapabilityFlags::CLIENT_TRANSACTIONS)
    .union(CapabilityFlags::CLIENT_MULTI_RESULTS);

/// `utf8mb4_general_ci`, which every server knows; `SET NAMES` follows.
const COLLATION: u8 = 45;

/// What the server's statistics and process list call us.
const PROGRAM: &str = "sql-exporter";

/// One configured server.
pub(super) struct Server {
    pub(super) login: ConnectionConfig,
    /// A file with the key that a password may travel under where the connection is not encrypted.
    server_public_key: Option<PathBuf>,
    pub(super) refused: RefusedPassword,
    /// Held by the one connection that ends statements on others.
    pub(super) killing: Mutex<()>,
    /// What is held against statements, by their names: each runs alone.
    doubts: Mutex<HashMap<String, Doubt>>,
}

/// Why a statement runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It, or another one of its batch, has left something in the session. Alone it shows which.
    Suspect,
    /// It has changed its session.
    Changing,
}

/// Where a server was reached: the very address, so that a KILL meets the same one.
#[derive(Debug, Clone)]
pub(super) enum Route {
    Tcp {
        /// As configured, for its certificate.
        host: String,
        peer: SocketAddr,
    },
    Unix(PathBuf),
}

/// A connection right after its login.
pub(super) struct Entered {
    pub(super) link: Link,
    pub(super) route: Route,
    pub(super) tls: TlsState,
    /// The number of the server's thread for it.
    pub(super) thread: u32,
    /// The greeting's version.
    pub(super) version: String,
    /// The server tells what becomes of the session.
    pub(super) tracks: bool,
}

impl Server {
    pub(super) fn new(login: ConnectionConfig, server_public_key: Option<PathBuf>) -> Self {
        Server {
            login,
            server_public_key,
            refused: RefusedPassword::default(),
            killing: Mutex::new(()),
            doubts: Mutex::default(),
        }
    }

    /// What was left in a session behind these statements, which ran in one batch.
    pub(super) fn judge(&self, batch: &[&Sql], has_left_something: bool) {
        match (batch, has_left_something) {
            ([sql], true) => self.doubt(sql, Doubt::Changing),
            (several, true) => several.iter().for_each(|sql| self.doubt(sql, Doubt::Suspect)),
            ([sql], false) if self.doubt_of(sql) == Some(Doubt::Suspect) => {
                self.doubts.lock().remove(sql.name());
            }
            (_, false) => {}
        }
    }

    /// Something is held against a statement; the worse of two counts.
    pub(super) fn doubt(&self, sql: &Sql, doubt: Doubt) {
        let mut doubts = self.doubts.lock();
        let is_known = doubts.contains_key(sql.name());
        if is_known && doubt == Doubt::Changing || !is_known && doubts.len() < MOST_DOUBTS {
            doubts.insert(sql.name().to_owned(), doubt);
        }
    }

    /// What is held against a statement.
    pub(super) fn doubt_of(&self, sql: &Sql) -> Option<Doubt> {
        self.doubts.lock().get(sql.name()).copied()
    }

    /// Logs in at the first host that lets us.
    ///
    /// # Errors
    /// `connect`, `resolve`, `auth`, `tls`, `timeout`, `server`, `permission`, `protocol`.
    pub(super) fn enter(&self, by: Deadline) -> Result<Entered> {
        let by = by.or_within(self.login.connect_timeout);
        self.refused.enter(&self.login.password, by, |password| self.enter_somewhere(password, by))
    }

    /// Logs in at a server that was reached before.
    ///
    /// # Errors
    /// As [`Server::enter`].
    pub(super) fn enter_again(&self, route: &Route, by: Deadline) -> Result<Entered> {
        let by = by.or_within(self.login.connect_timeout);
        self.refused.enter(&self.login.password, by, |password| {
            let socket = match route {
                Route::Unix(path) => to_unix(path, by)?,
                Route::Tcp { peer, .. } => {
                    let stream = resolve::connect_to(*peer, by).map_err(|error| {
                        let reason = if by.passed() { Reason::Timeout } else { Reason::Connect };
                        Error::new(reason, format!("connect to {peer}: {error}"))
                    })?;
                    TimedSocket::new(Socket::from(stream))
                }
            };
            self.log_in(socket, route.clone(), password, by)
        })
    }

    fn enter_somewhere(&self, password: Option<&Secret>, by: Deadline) -> Result<Entered> {
        if let Some(path) = &self.login.socket {
            return self.log_in(to_unix(path, by)?, Route::Unix(path.clone()), password, by);
        }
        let hosts = &self.login.hosts;
        let mut last = Error::new(Reason::Connect, "no host is configured");
        for (host, left) in hosts.iter().zip((1..=hosts.len()).rev()) {
            // A host that swallows packets leaves the others their share.
            let share = by.or_within(by.left() / u32::try_from(left).unwrap_or(u32::MAX));
            match self.enter_host(host, password, share) {
                Err(error)
                    if matches!(error.reason(), Reason::Connect | Reason::Timeout | Reason::Resolve) =>
                {
                    last = error;
                }
                done => return done,
            }
        }
        Err(last)
    }

    fn enter_host(&self, host: &HostPort, password: Option<&Secret>, by: Deadline) -> Result<Entered> {
        let stream = resolve::connect(&host.host, host.port, by)?;
        let peer = stream.peer_addr().map_err(|error| Error::new(Reason::Connect, error.to_string()))?;
        let route = Route::Tcp { host: host.host.clone(), peer };
        self.log_in(TimedSocket::new(Socket::from(stream)), route, password, by)
    }

    fn log_in(
        &self,
        socket: TimedSocket,
        route: Route,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<Entered> {
        let allowed = by.left().as_millis();
        let late = || Error::new(Reason::Timeout, format!("the login did not end within {allowed} ms"));
        let entered = self.greet(Link::new(Stream::new(socket, BUDGET)), route, password, by);
        entered.map_err(|fault| match fault.error.reason() {
            Reason::Timeout if fault.broken => late(),
            _ => fault.at_login(),
        })
    }

    fn greet(
        &self,
        mut link: Link,
        route: Route,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<Entered, Fault> {
        let packet = link.next(BUDGET, by)?;
        let packet = link.payload(&packet);
        if packet.first() == Some(&0xff) {
            return Err(match ServerError::read(packet) {
                Some(error) => Fault::from(&error),
                None => Fault::unreadable("its greeting"),
            });
        }
        let greeting = Greeting::read(packet).ok_or_else(|| Fault::unreadable("its greeting"))?;
        if !greeting.capabilities.contains(NEEDED) {
            return Err(Fault::unreadable("a greeting of before MySQL 5.5"));
        }
        let capabilities = self.capabilities(&greeting);
        if self.wants_tls(&route, &greeting)? {
            let capabilities = capabilities | CapabilityFlags::CLIENT_SSL;
            link.send_login(&start_of_response(capabilities), by)?;
            let (config, name) = (self.login.tls.client_config()?, self.server_name(&route)?);
            link.stream.encrypt(config, name, by).map_err(handshake)?;
        }
        let way = self.way(&route, &link);
        let server_key = self.server_key()?;
        let password = password.map_or("", Secret::expose);
        let proof = Proof { password, way, server_key: server_key.as_deref() };
        self.prove(&mut link, &greeting, proof, by)?;
        let tls = match way {
            Way::Tls => self.login.tls.state(),
            Way::Socket => TlsState::Local,
            Way::Loopback | Way::PlainText | Way::Open => TlsState::Plain,
        };
        let tracks = self.capabilities(&greeting).contains(TRACKING);
        Ok(Entered { link, route, tls, thread: greeting.thread, version: greeting.version, tracks })
    }

    /// What we use of what the server can do.
    fn capabilities(&self, greeting: &Greeting) -> CapabilityFlags {
        let optional = CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
            | CapabilityFlags::CLIENT_CONNECT_ATTRS
            | CapabilityFlags::CLIENT_PS_MULTI_RESULTS
            // Only so that the server names the plugin of the second factor.
            | CapabilityFlags::MULTI_FACTOR_AUTHENTICATION;
        let database = match self.login.database {
            Some(_) => CapabilityFlags::CLIENT_CONNECT_WITH_DB,
            None => CapabilityFlags::empty(),
        };
        // One is of no use without the other: the end of the rows tells it.
        let tracking =
            if greeting.capabilities.contains(TRACKING) { TRACKING } else { CapabilityFlags::empty() };
        SAID | NEEDED | (greeting.capabilities & optional) | tracking | database
    }

    fn wants_tls(&self, route: &Route, greeting: &Greeting) -> Result<bool> {
        let mode = self.login.tls.mode;
        if mode == TlsMode::Disable || matches!(route, Route::Unix(_)) {
            return Ok(false);
        }
        let offered = greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL);
        if !offered && mode != TlsMode::Prefer {
            return Err(Error::new(Reason::Tls, "TLS is demanded and the server does not offer it")
                .with_hint("give the server a certificate, or set tls.mode: prefer"));
        }
        Ok(offered)
    }

    /// The name in the certificate.
    fn server_name(&self, route: &Route) -> Result<ServerName<'static>> {
        let tls = &self.login.tls;
        let Route::Tcp { host, peer } = route else { return Err(Error::new(Reason::Tls, "TLS on a socket")) };
        let name = tls.server_name.as_deref().unwrap_or(host);
        match ServerName::try_from(name.to_owned()) {
            Ok(name) => Ok(name),
            Err(_) if tls.mode < TlsMode::VerifyFull => Ok(ServerName::from(peer.ip())),
            Err(_) => Err(Error::new(Reason::Tls, format!("{name} cannot be the name in a certificate"))),
        }
    }

    fn way(&self, route: &Route, link: &Link) -> Way {
        match route {
            _ if link.stream.is_encrypted() => Way::Tls,
            Route::Unix(_) => Way::Socket,
            Route::Tcp { peer, .. } if peer.ip().to_canonical().is_loopback() => Way::Loopback,
            Route::Tcp { .. } if self.login.tls.mode == TlsMode::Disable => Way::PlainText,
            Route::Tcp { .. } => Way::Open,
        }
    }

    /// The configured public key.
    fn server_key(&self) -> Result<Option<Vec<u8>>> {
        let Some(path) = &self.server_public_key else { return Ok(None) };
        let unusable = |why: &dyn std::fmt::Display| {
            Error::new(Reason::Auth, format!("server_public_key {}: {why}", path.display()))
                .with_hint("on the server: SHOW STATUS LIKE 'Caching_sha2_password_rsa_public_key'")
                .before_password()
        };
        let pem = file::read_bytes(path, LONGEST_KEY).map_err(|error| unusable(&error))?;
        check_key(&pem).map_err(|error| unusable(&error))?;
        Ok(Some(pem))
    }

    /// Names the user and answers whatever plugin the account has.
    fn prove(
        &self,
        link: &mut Link,
        greeting: &Greeting,
        proof: Proof<'_>,
        by: Deadline,
    ) -> Result<(), Fault> {
        // The server names its own favourite; which one the account has it only knows when it has heard the user's name.
        let favourite = Plugin::named(&greeting.plugin).ok();
        let harmless = |plugin: &Plugin| matches!(plugin, Plugin::Native | Plugin::CachingSha2);
        let mut plugin = favourite.filter(harmless).unwrap_or(Plugin::Native);
        let mut nonce = greeting.nonce.clone();
        let mut capabilities = self.capabilities(greeting);
        if proof.way == Way::Tls {
            capabilities |= CapabilityFlags::CLIENT_SSL;
        }
        let answer = plugin.begin(proof, &nonce)?;
        link.send_login(&self.response(capabilities, plugin, &answer), by)?;
        for _ in 0..MOST_TURNS {
            let packet = link.next(BUDGET, by)?;
            let said = LoginPacket::read(link.payload(&packet));
            let answer = match said.ok_or_else(|| Fault::unreadable("an empty packet"))? {
                LoginPacket::Done => return Ok(()),
                LoginPacket::Refused(error) => return Err(Fault::from(&error)),
                LoginPacket::Switch { plugin: name, nonce: fresh } => {
                    plugin = Plugin::named(&name)?;
                    nonce = fresh.to_vec();
                    Some(plugin.begin(proof, &nonce)?)
                }
                LoginPacket::More(said) => plugin.go_on(proof, &nonce, said)?,
                LoginPacket::NextFactor(name) => return Err(second_factor(&name).into()),
                LoginPacket::OldPassword => return Err(old_password().into()),
            };
            if let Some(answer) = answer {
                link.send_login(&answer, by)?;
            }
        }
        Err(Fault::unreadable("a login without an end"))
    }

    fn response(&self, capabilities: CapabilityFlags, plugin: Plugin, answer: &[u8]) -> Vec<u8> {
        let mut packet = start_of_response(capabilities);
        packet.extend_from_slice(self.login.username.as_deref().unwrap_or_default().as_bytes());
        packet.push(0);
        // No answer to the first question is longer than 250 bytes: a length is one byte in both forms.
        packet.push(u8::try_from(answer.len()).unwrap_or_default());
        packet.extend_from_slice(answer);
        if let Some(database) = &self.login.database {
            packet.extend_from_slice(database.as_bytes());
            packet.push(0);
        }
        packet.extend_from_slice(plugin.name().as_bytes());
        packet.push(0);
        if capabilities.contains(CapabilityFlags::CLIENT_CONNECT_ATTRS) {
            let mut attributes = Vec::new();
            for text in ["program_name", PROGRAM] {
                attributes.push(u8::try_from(text.len()).unwrap_or_default());
                attributes.extend_from_slice(text.as_bytes());
            }
            packet.push(u8::try_from(attributes.len()).unwrap_or_default());
            packet.extend_from_slice(&attributes);
        }
        packet
    }
}

/// What a response begins with, which is also how TLS is asked for.
fn start_of_response(capabilities: CapabilityFlags) -> Vec<u8> {
    let mut packet = Vec::with_capacity(128);
    packet.extend_from_slice(&capabilities.bits().to_le_bytes());
    packet.extend_from_slice(&LARGEST_PACKET.to_le_bytes());
    packet.push(COLLATION);
    packet.extend_from_slice(&[0; 23]);
    packet
}

fn to_unix(path: &std::path::Path, by: Deadline) -> Result<TimedSocket> {
    TimedSocket::to_unix(path, by).map_err(|error| {
        let reason = if by.passed() { Reason::Timeout } else { Reason::Connect };
        Error::new(reason, format!("connect to {}: {error}", path.display()))
    })
}

/// Why a handshake failed: whatever it was, nothing goes on in plain text.
fn handshake(error: std::io::Error) -> Fault {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    match Fault::from(error) {
        fault if is_tls || fault.error.reason() != Reason::Lost => fault,
        lost => Fault::broken(Reason::Tls, format!("TLS failed: {}", lost.error.message())),
    }
}

fn second_factor(plugin: &str) -> Error {
    let shown: String = plugin.chars().filter(|c| !c.is_control()).collect();
    let message = format!("the account wants a second factor (plugin {shown}), which is not supported");
    Error::new(Reason::Auth, message)
        .with_hint("give the exporter an account with one factor")
        .with_meaning("the user needs more than a password")
}

fn old_password() -> Error {
    Error::new(Reason::Auth, "the server asks for a password hash of before MySQL 4.1")
        .with_hint("give the account a password again, with old_passwords off")
        .with_meaning("the user's login plugin is not supported here")
        .before_password()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use crate::driver::connection::password::PasswordSource;
    use crate::driver::connection::tls::TlsConfig;

    use super::*;

    const SECRET: &str = "c4nary-secret";

    fn server(mode: TlsMode) -> Server {
        let login = ConnectionConfig {
            hosts: Vec::new(),
            socket: None,
            database: None,
            username: Some("u".to_owned()),
            password: PasswordSource::Given(Secret::new(SECRET.to_owned())),
            tls: TlsConfig { mode, ..TlsConfig::default() },
            params: Vec::new(),
            read_only: true,
            session_sql: Vec::new(),
            connect_timeout: Duration::from_secs(10),
        };
        Server::new(login, None)
    }

    /// Logs in at `peer`, where `said` answers: a greeting, then a packet for each of ours. What came of it, and all that
    /// was sent there.
    fn entered(server: &Server, peer: &str, said: &[&[u8]]) -> (Result<()>, Vec<u8>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let script: Vec<Vec<u8>> = said.iter().map(|part| part.to_vec()).collect();
        let stranger = std::thread::spawn(move || {
            let (mut sequence, mut heard) = (0, Vec::new());
            for payload in script {
                let [a, b, c, ..] = payload.len().to_le_bytes();
                let _ = theirs.write_all(&[&[a, b, c, sequence], &payload[..]].concat());
                let mut header = [0; 4];
                if theirs.read_exact(&mut header).is_err() {
                    break;
                }
                let mut packet = vec![0; usize::from(header[0]) + 256 * usize::from(header[1])];
                let _ = theirs.read_exact(&mut packet);
                heard.extend_from_slice(&packet);
                sequence = header[3].wrapping_add(1);
            }
            heard
        });
        let socket = TimedSocket::new(Socket::from(OwnedFd::from(ours)));
        let route = Route::Tcp { host: "db.example".to_owned(), peer: peer.parse().unwrap() };
        let by = Deadline::within(Duration::from_secs(20));
        let done = server.log_in(socket, route, Some(&Secret::new(SECRET.to_owned())), by).map(drop);
        (done, stranger.join().unwrap())
    }

    fn greeting(plugin: &str) -> Vec<u8> {
        let head =
            b"\x0a8.0.35\0\x07\0\0\0AAAAAAAA\0\x00\xa2\x2d\x02\0\x08\0\x15\0\0\0\0\0\0\0\0\0\0BBBBBBBBBBBB\0";
        [&head[..], plugin.as_bytes(), b"\0"].concat()
    }

    const ELSEWHERE: &str = "192.0.2.1:3306";
    const ASKS: &[u8] = b"\x01\x04";
    const KEY: &[u8] = b"\x01-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxSKOcxiet8lLMn8ImyUE
bGGKob5EdRz/4wdiw12ED0GfKKTKhVnodFCfm1mdy7bKOX5QxL9skrvYodpW43eR
R5bfOzIgy1qIB8RYb6qOXRBw1oA4snBDqtUjDv/lbHLJN+IbzM4oU+e3Lt9rXyLX
VY289ewONPweXHqSCnTL91w+wkU1peIFV2QhZ+upUCdCtwOn5hnJPNgxtbklFoya
C8W3Z7Xx7He2QDJsEWAqX197efw0L6j8X8Tyd8Uwb7zUB1tfMGhHfm9EwejPAtzx
4GztQNtNMtGS2oGZLQBLV9hib4dDL92iiZeckg2LAf4GsJofLLR8mcHCRoqVbQJ1
YQIDAQAB
-----END PUBLIC KEY-----
";

    /// Whoever answers at another machine gets neither the password nor a question for a key, by whatever method, and also
    /// after a switch. The greeting offers no TLS, which `prefer` goes without.
    #[test]
    fn a_stranger_is_not_shown_the_password() {
        let native = greeting("mysql_native_password");
        let switch = |plugin: &str| [b"\xfe", plugin.as_bytes(), b"\0CCCCCCCCCCCCCCCCCCCC\0"].concat();
        let (sha2, sha256) = (greeting("caching_sha2_password"), greeting("sha256_password"));
        let [to_sha2, to_sha256, to_clear, to_dialog] =
            ["caching_sha2_password", "sha256_password", "mysql_clear_password", "dialog"].map(switch);
        let talks: [&[&[u8]]; 9] = [
            &[&sha2, ASKS],
            &[&sha2, KEY],
            &[&sha2, ASKS, KEY],
            &[&native, &to_sha2, ASKS, KEY],
            &[&native, &to_sha256, KEY],
            &[&sha256, &to_sha256, KEY],
            &[&native, &to_clear, ASKS],
            &[&native, &to_sha2, &to_clear],
            &[&native, &to_dialog, ASKS],
        ];
        for mode in [TlsMode::Prefer, TlsMode::Disable] {
            for talk in talks {
                let (done, heard) = entered(&server(mode), ELSEWHERE, talk);
                let shown = heard.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
                let asked = heard.ends_with(&[1]) || heard.ends_with(&[2]) || heard.len() > 250;
                if mode == TlsMode::Prefer {
                    let error = done.unwrap_err();
                    assert_eq!(error.reason(), Reason::Auth, "{error}");
                    assert!(!shown && !asked, "{}", heard.escape_ascii());
                    assert!(
                        error.hint().is_some_and(|hint| hint.contains("tls") || hint.contains("TLS")),
                        "{error}"
                    );
                } else if !talk.contains(&&to_dialog[..]) && talk[1] != KEY {
                    assert!(shown || asked, "plain text is demanded: {}", heard.escape_ascii());
                }
            }
        }
        for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
            let (done, heard) = entered(&server(mode), ELSEWHERE, &[&sha2, ASKS]);
            assert_eq!((done.unwrap_err().reason(), heard.len()), (Reason::Tls, 0));
        }
    }

    #[test]
    fn this_machine_is_no_stranger() {
        let sha2 = greeting("caching_sha2_password");
        for peer in ["127.0.0.1:3306", "127.8.9.1:3306", "[::1]:3306", "[::ffff:127.0.0.1]:3306"] {
            let (_, heard) = entered(&server(TlsMode::Prefer), peer, &[&sha2, ASKS, KEY]);
            assert!(heard.len() > 250, "{peer}: {}", heard.escape_ascii());
        }
        let (_, heard) = entered(&server(TlsMode::Prefer), "[::ffff:192.0.2.1]:3306", &[&sha2, ASKS, KEY]);
        assert!(heard.len() < 250, "{}", heard.escape_ascii());
    }

    #[test]
    fn a_configured_key_lets_the_password_go_to_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let with_key = || Server { server_public_key: Some(path.clone()), ..server(TlsMode::Prefer) };
        let sha2 = greeting("caching_sha2_password");
        let (done, heard) = entered(&with_key(), ELSEWHERE, &[&sha2, ASKS]);
        assert!(done.unwrap_err().to_string().contains("server_public_key") && heard.is_empty());
        std::fs::write(&path, "no key").unwrap();
        let error = entered(&with_key(), ELSEWHERE, &[&sha2, ASKS]).0.unwrap_err();
        assert!(error.to_string().contains("BEGIN PUBLIC KEY"), "{error}");
        std::fs::write(&path, &KEY[1..]).unwrap();
        let (_, heard) = entered(&with_key(), ELSEWHERE, &[&sha2, ASKS]);
        assert!(heard.len() > 250 && !heard.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
        let done = entered(&with_key(), ELSEWHERE, &[&sha2, KEY]).0;
        assert_eq!(done.unwrap_err().reason(), Reason::Protocol);
    }
}
