//! One login: connect, read the greeting, encrypt, prove the password, all on one connection and by one deadline.
//!
//! The greeting says whether the server has TLS, so that no attempt has to be broken off: servers count broken attempts
//! of a host and block it in the end (1129).

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use mysql_common::constants::CapabilityFlags;
use mysql_common::packets::{AuthPlugin, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::driver::TlsState;
use crate::driver::connection::password::RefusedPassword;
use crate::driver::connection::resolve;
use crate::driver::connection::socket::TimedSocket;
use crate::driver::connection::stream::{MAX_LOGIN_BYTES, ServerStream};
use crate::driver::connection::tls::TlsMode;
use crate::driver::connection::{ConnectionConfig, HostPort, log_in_at_one};
use crate::error::{Error, Reason, Result};
use crate::file;
use crate::secret::Secret;

use super::auth::{Channel, Credentials, Plugin, check_key};
use super::errors::{CallError, unreadable};
use super::packet::{LoginReply, MySqlError, ServerGreeting, SessionTracking};
use super::protocol::ProtocolClient;
use super::session_changes::SuspectStatements;

/// No file with a public key is longer.
const MAX_KEY_BYTES: u64 = 1 << 16;

/// More messages than any plugin sends.
const MAX_LOGIN_REPLIES: usize = 16;

/// The largest packet that we say we accept.
const MAX_PACKET_BYTES: u32 = 1 << 30;

/// A server without these is not supported.
const REQUIRED: CapabilityFlags = CapabilityFlags::CLIENT_PROTOCOL_41
    .union(CapabilityFlags::CLIENT_SECURE_CONNECTION)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH);

/// The server tells at the end of each answer, that with rows as well, whether the session changed.
const SESSION_TRACKING: CapabilityFlags =
    CapabilityFlags::CLIENT_SESSION_TRACK.union(CapabilityFlags::CLIENT_DEPRECATE_EOF);

/// Sent to every server. The first one also tells a MariaDB that this is not a client of its own kind.
const ALWAYS: CapabilityFlags = CapabilityFlags::CLIENT_LONG_PASSWORD
    .union(CapabilityFlags::CLIENT_LONG_FLAG)
    .union(CapabilityFlags::CLIENT_TRANSACTIONS)
    .union(CapabilityFlags::CLIENT_MULTI_RESULTS);

/// Used where the server has them. The last one only makes it name the plugin of a second factor.
const OPTIONAL: CapabilityFlags = CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
    .union(CapabilityFlags::CLIENT_CONNECT_ATTRS)
    .union(CapabilityFlags::CLIENT_PS_MULTI_RESULTS)
    .union(CapabilityFlags::MULTI_FACTOR_AUTHENTICATION);

/// `utf8mb4_general_ci`, which every server knows; `SET NAMES` follows.
const COLLATION: u8 = 45;

/// The exporter's name in the server's statistics and process list.
const PROGRAM: &str = "sql-exporter";

/// One configured server.
pub(super) struct LoginServer {
    pub(super) config: ConnectionConfig,
    /// A file with the key that encrypts a password where the connection is not encrypted.
    pub(super) server_public_key: Option<PathBuf>,
    pub(super) refused_password: RefusedPassword,
    /// Held by the one connection that ends statements on others.
    pub(super) killing: Mutex<()>,
    pub(super) suspects: SuspectStatements,
    /// It accepts one command at a time.
    pub(super) one_by_one: AtomicBool,
}

/// Where a server was reached: the exact address, so that a KILL reaches the same one.
#[derive(Debug, Clone)]
pub(super) enum MySqlServerAddress {
    Tcp {
        /// As configured, for its certificate.
        host: String,
        peer: SocketAddr,
    },
    Unix(PathBuf),
}

/// A connection right after its login.
pub(super) struct MySqlLoggedIn {
    pub(super) client: ProtocolClient,
    pub(super) address: MySqlServerAddress,
    pub(super) tls: TlsState,
    /// The number of the server's thread for it.
    pub(super) thread: u32,
    /// The greeting's version.
    pub(super) version: String,
}

impl LoginServer {
    pub(super) fn new(config: ConnectionConfig, server_public_key: Option<PathBuf>) -> Self {
        LoginServer {
            config,
            server_public_key,
            refused_password: RefusedPassword::default(),
            killing: Mutex::new(()),
            suspects: SuspectStatements::default(),
            one_by_one: AtomicBool::new(false),
        }
    }

    /// Logs in at the first host that accepts the login.
    ///
    /// # Errors
    /// `connect`, `resolve`, `auth`, `tls`, `timeout`, `server`, `permission`, `protocol`.
    pub(super) fn log_in(&self, by: Deadline) -> Result<MySqlLoggedIn> {
        self.refused_password.log_in(&self.config.password, by, |password| match &self.config.socket {
            Some(path) => self.log_in_at(&MySqlServerAddress::Unix(path.clone()), password, by),
            None => {
                let is_final =
                    |reason| !matches!(reason, Reason::Connect | Reason::Timeout | Reason::Resolve);
                let log_in = |HostPort { host, port }: &HostPort, by| {
                    let (stream, peer) = resolve::connect(host, *port, by)?;
                    let address = MySqlServerAddress::Tcp { host: host.clone(), peer };
                    self.log_in_on(TimedSocket::new(stream), address, password, by)
                };
                log_in_at_one(&self.config.hosts, by, is_final, log_in)
            }
        })
    }

    /// Logs in at a server that was reached before.
    ///
    /// # Errors
    /// As [`LoginServer::log_in`].
    pub(super) fn log_in_again(&self, address: &MySqlServerAddress, by: Deadline) -> Result<MySqlLoggedIn> {
        let by = by.or_within(self.config.connect_timeout);
        self.refused_password
            .log_in(&self.config.password, by, |password| self.log_in_at(address, password, by))
    }

    /// At one that was reached before, or whose socket is named.
    fn log_in_at(
        &self,
        address: &MySqlServerAddress,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<MySqlLoggedIn> {
        let (socket, place) = match address {
            MySqlServerAddress::Unix(path) => (TimedSocket::to_unix(path, by), path.display().to_string()),
            MySqlServerAddress::Tcp { peer, .. } => {
                (resolve::connect_to(*peer, by).map(TimedSocket::new), peer.to_string())
            }
        };
        let socket = socket.map_err(|error| {
            let reason = if by.passed() { Reason::Timeout } else { Reason::Connect };
            Error::new(reason, format!("connect to {place}: {error}"))
        })?;
        self.log_in_on(socket, address.clone(), password, by)
    }

    fn log_in_on(
        &self,
        socket: TimedSocket,
        address: MySqlServerAddress,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<MySqlLoggedIn> {
        let allowed = by.left().as_millis();
        let client = ProtocolClient::new(ServerStream::new(socket));
        self.handshake(client, address, password, by).map_err(|error| match error.is_timeout() {
            true => Error::new(Reason::Timeout, format!("the login did not end within {allowed} ms")),
            false => error.into_login_error(),
        })
    }

    fn handshake(
        &self,
        mut client: ProtocolClient,
        address: MySqlServerAddress,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<MySqlLoggedIn, CallError> {
        let packet = client.next_packet(MAX_LOGIN_BYTES, by)?;
        let packet = client.payload(&packet);
        if packet.first() == Some(&0xff) {
            let error = MySqlError::read(packet).ok_or_else(|| unreadable("its greeting"))?;
            return Err(error.into());
        }
        let greeting = ServerGreeting::read(packet).ok_or_else(|| unreadable("its greeting"))?;
        if !greeting.capabilities.contains(REQUIRED) {
            return Err(unreadable("a greeting of before MySQL 5.5").into());
        }
        let mut capabilities = ALWAYS | REQUIRED | (greeting.capabilities & OPTIONAL);
        let tracks_session = greeting.capabilities.contains(SESSION_TRACKING);
        // One is of no use without the other: the end of the rows tells it.
        capabilities.set(SESSION_TRACKING, tracks_session);
        capabilities.set(CapabilityFlags::CLIENT_CONNECT_WITH_DB, self.config.database.is_some());
        if let Some((host, peer)) = self.wants_tls(&address, &greeting)? {
            capabilities |= CapabilityFlags::CLIENT_SSL;
            let request = SslRequest::new(capabilities, MAX_PACKET_BYTES, COLLATION);
            client.send_login(&bytes_of(&request), by)?;
            let tls = &self.config.tls;
            let (config, name) = (tls.client_config()?, tls.name_of(host, peer.ip())?);
            client.stream().encrypt(config, name, by).map_err(tls_error)?;
        }
        let channel = self.channel(&address, client.stream().is_encrypted());
        let server_key = self.server_key()?;
        let password = password.map_or("", Secret::expose);
        let credentials = Credentials { password, channel, server_key: server_key.as_deref() };
        self.authenticate(&mut client, &greeting, capabilities, credentials, by)?;
        let tls = match channel {
            Channel::Tls => self.config.tls.state(),
            Channel::UnixSocket => TlsState::Local,
            Channel::Loopback | Channel::PlainTextConfigured | Channel::Unprotected => TlsState::Plain,
        };
        client.set_tracking(match tracks_session {
            false => SessionTracking::Nothing,
            // Without read_only a function may make a temporary table, which is told as any other change.
            true if greeting.version.contains("MariaDB") && self.config.read_only => {
                SessionTracking::Variables { schema: self.config.database.clone().unwrap_or_default() }
            }
            true => SessionTracking::Changes,
        });
        Ok(MySqlLoggedIn { client, address, tls, thread: greeting.thread, version: greeting.version })
    }

    /// Host and address of a server to which the connection is to be encrypted.
    fn wants_tls<'a>(
        &self,
        address: &'a MySqlServerAddress,
        greeting: &ServerGreeting,
    ) -> Result<Option<(&'a str, SocketAddr)>> {
        let MySqlServerAddress::Tcp { host, peer } = address else { return Ok(None) };
        match self.config.tls.mode {
            TlsMode::Disable => Ok(None),
            _ if greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL) => Ok(Some((host, *peer))),
            TlsMode::Prefer => Ok(None),
            _ => Err(Error::new(Reason::Tls, "TLS is demanded and the server does not offer it")
                .with_hint("give the server a certificate, or set tls.mode: prefer")),
        }
    }

    fn channel(&self, address: &MySqlServerAddress, is_encrypted: bool) -> Channel {
        match address {
            _ if is_encrypted => Channel::Tls,
            MySqlServerAddress::Unix(_) => Channel::UnixSocket,
            MySqlServerAddress::Tcp { peer, .. } if peer.ip().to_canonical().is_loopback() => {
                Channel::Loopback
            }
            _ if self.config.tls.mode == TlsMode::Disable => Channel::PlainTextConfigured,
            _ => Channel::Unprotected,
        }
    }

    /// The configured public key.
    fn server_key(&self) -> Result<Option<Vec<u8>>> {
        let Some(path) = &self.server_public_key else { return Ok(None) };
        let unusable = |why: &dyn Display| {
            Error::new(Reason::Auth, format!("server_public_key {}: {why}", path.display()))
                .with_hint("on the server: SHOW STATUS LIKE 'Caching_sha2_password_rsa_public_key'")
                .before_password()
        };
        let pem = file::read_bytes(path, MAX_KEY_BYTES).map_err(|error| unusable(&error))?;
        check_key(&pem).map_err(|error| unusable(&error))?;
        Ok(Some(pem))
    }

    /// Names the user and answers whatever plugin the account has.
    fn authenticate(
        &self,
        client: &mut ProtocolClient,
        greeting: &ServerGreeting,
        capabilities: CapabilityFlags,
        credentials: Credentials<'_>,
        by: Deadline,
    ) -> Result<(), CallError> {
        // The server names its default; which plugin the account has it only knows when it has read the user's name.
        let default = Plugin::named(&greeting.plugin).ok();
        let is_harmless = |plugin: &Plugin| matches!(plugin, Plugin::Native | Plugin::CachingSha2);
        let mut plugin = default.filter(is_harmless).unwrap_or(Plugin::Native);
        let mut nonce = greeting.nonce.clone();
        let first = plugin.first_answer(credentials, &nonce)?;
        client.send_login(&self.handshake_response(capabilities, plugin, &first), by)?;
        for _ in 0..MAX_LOGIN_REPLIES {
            let packet = client.next_packet(MAX_LOGIN_BYTES, by)?;
            let reply = LoginReply::read(client.payload(&packet));
            let answer = match reply.ok_or_else(|| unreadable("an empty packet"))? {
                LoginReply::Done => return Ok(()),
                LoginReply::Refused(error) => return Err(error.into()),
                LoginReply::Switch { plugin: name, nonce: fresh } => {
                    plugin = Plugin::named(&name)?;
                    nonce = fresh.to_vec();
                    Some(plugin.first_answer(credentials, &nonce)?)
                }
                LoginReply::PluginData(data) => plugin.next_answer(credentials, &nonce, data)?,
                LoginReply::NextFactor(name) => return Err(second_factor(&name).into()),
                LoginReply::OldPassword => return Err(old_password().into()),
            };
            if let Some(answer) = answer {
                client.send_login(&answer, by)?;
            }
        }
        Err(unreadable("a login without an end").into())
    }

    fn handshake_response(&self, capabilities: CapabilityFlags, plugin: Plugin, answer: &[u8]) -> Vec<u8> {
        let attributes = capabilities
            .contains(CapabilityFlags::CLIENT_CONNECT_ATTRS)
            .then(|| HashMap::from([("program_name".to_owned(), PROGRAM.to_owned())]));
        bytes_of(&HandshakeResponse::new(
            Some(answer),
            // Any version that knows utf8mb4.
            (8, 0, 0),
            Some(self.config.username.as_deref().unwrap_or_default().as_bytes()),
            self.config.database.as_deref().map(str::as_bytes),
            Some(AuthPlugin::Other(plugin.name().as_bytes().into())),
            capabilities,
            attributes,
            MAX_PACKET_BYTES,
        ))
    }
}

fn bytes_of(packet: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.serialize(&mut bytes);
    bytes
}

/// Why a TLS handshake failed: whatever it was, the login does not continue in plain text.
fn tls_error(error: io::Error) -> CallError {
    match CallError::from(error) {
        CallError::Broken(lost) if lost.reason() == Reason::Lost => {
            CallError::Broken(Error::new(Reason::Tls, format!("TLS failed: {}", lost.message())))
        }
        error => error,
    }
}

fn second_factor(plugin: &str) -> Error {
    let shown: String = plugin.chars().filter(|c| !c.is_control()).collect();
    let message = format!("the account requires a second factor (plugin {shown}), which is not supported");
    Error::new(Reason::Auth, message)
        .with_hint("give the exporter an account with one factor")
        .with_meaning("the user needs more than a password")
}

fn old_password() -> Error {
    Error::new(Reason::Auth, "the server asks for a password hash of before MySQL 4.1")
        .with_hint("set the account's password again, with old_passwords off")
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

    fn server(mode: TlsMode) -> LoginServer {
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
        LoginServer::new(login, None)
    }

    /// Logs in at `peer`, where `said` answers: a greeting, then a packet for each of ours. What came of it, and all that
    /// was sent there.
    fn log_in(server: &LoginServer, peer: &str, said: &[&[u8]]) -> (Result<()>, Vec<u8>) {
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
        let socket = TimedSocket::new(OwnedFd::from(ours));
        let address = MySqlServerAddress::Tcp { host: "db.example".to_owned(), peer: peer.parse().unwrap() };
        let by = Deadline::within(Duration::from_secs(20));
        let done = server.log_in_on(socket, address, Some(&Secret::new(SECRET.to_owned())), by).map(drop);
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
                let (done, heard) = log_in(&server(mode), ELSEWHERE, talk);
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
            let (done, heard) = log_in(&server(mode), ELSEWHERE, &[&sha2, ASKS]);
            assert_eq!((done.unwrap_err().reason(), heard.len()), (Reason::Tls, 0));
        }
    }

    #[test]
    fn this_machine_is_no_stranger() {
        let sha2 = greeting("caching_sha2_password");
        for peer in ["127.0.0.1:3306", "127.8.9.1:3306", "[::1]:3306", "[::ffff:127.0.0.1]:3306"] {
            let (_, heard) = log_in(&server(TlsMode::Prefer), peer, &[&sha2, ASKS, KEY]);
            assert!(heard.len() > 250, "{peer}: {}", heard.escape_ascii());
        }
        let (_, heard) = log_in(&server(TlsMode::Prefer), "[::ffff:192.0.2.1]:3306", &[&sha2, ASKS, KEY]);
        assert!(heard.len() < 250, "{}", heard.escape_ascii());
    }

    #[test]
    fn a_configured_key_lets_the_password_go_to_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let with_key = || LoginServer { server_public_key: Some(path.clone()), ..server(TlsMode::Prefer) };
        let sha2 = greeting("caching_sha2_password");
        let (done, heard) = log_in(&with_key(), ELSEWHERE, &[&sha2, ASKS]);
        assert!(done.unwrap_err().to_string().contains("server_public_key") && heard.is_empty());
        std::fs::write(&path, "no key").unwrap();
        let error = log_in(&with_key(), ELSEWHERE, &[&sha2, ASKS]).0.unwrap_err();
        assert!(error.to_string().contains("BEGIN PUBLIC KEY"), "{error}");
        std::fs::write(&path, &KEY[1..]).unwrap();
        let (_, heard) = log_in(&with_key(), ELSEWHERE, &[&sha2, ASKS]);
        assert!(heard.len() > 250 && !heard.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
        let done = log_in(&with_key(), ELSEWHERE, &[&sha2, KEY]).0;
        assert_eq!(done.unwrap_err().reason(), Reason::Protocol);
    }
}
