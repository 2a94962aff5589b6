//! From an address to a login: connect, encrypt, log in. Each step ends by the deadline.
//!
//! The messages of a login and SCRAM are postgres-protocol's. Here are who may see the password in clear text, and what SCRAM
//! binds to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::{backend as tags, frontend};
use ring::digest;

use crate::deadline::Deadline;
use crate::driver::connection::HostPort;
use crate::driver::connection::resolve;
use crate::driver::connection::socket::TimedSocket;
use crate::driver::connection::stream::ServerStream;
use crate::driver::connection::tls;
use crate::driver::connection::tls::{TlsConfig, TlsMode, der_element};
use crate::driver::{TlsState, bounded_text};
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::connection::{Message, MessageFields, PgConnection, RowBounds};
use super::errors::ServerError;
use super::options::{ChannelBindingMode, KeepaliveOptions};

/// The most rounds of SCRAM that are computed, in a second at most: PostgreSQL's default is 4,096, and nothing ends them.
const MAX_SCRAM_ROUNDS: u32 = 1 << 20;

/// What a server of PostgreSQL 17 or later, and only such a one, is asked for in the handshake.
const ALPN_PROTOCOL: &[u8] = b"postgresql";

/// Where a server listens.
#[derive(Debug, Clone)]
pub(super) enum PgServerAddress {
    /// Over TCP.
    Host {
        /// As configured.
        name: HostPort,
        /// Where it is (`hostaddr`); `None`: the name says it.
        address: Option<IpAddr>,
        /// How its connections differ from others.
        keepalives: KeepaliveOptions,
    },
    /// On a Unix socket, whose name is made of the port, in a folder as configured.
    Unix { folder: PathBuf, port: u16 },
}

impl PgServerAddress {
    /// For messages: `db.example:5432`, or the socket's path.
    pub(super) fn shown(&self) -> String {
        match self {
            PgServerAddress::Host { name: HostPort { host, port }, .. } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            PgServerAddress::Host { name: HostPort { host, port }, .. } => format!("{host}:{port}"),
            PgServerAddress::Unix { folder, port } => socket_path(folder, *port).display().to_string(),
        }
    }

    fn unreachable(&self, error: &io::Error) -> Error {
        let shown = self.shown();
        match error.kind() {
            io::ErrorKind::TimedOut => no_answer(&format!("connect to {shown}")),
            _ => Error::new(Reason::Connect, format!("connect to {shown}: {error}")),
        }
    }

    fn failed_handshake(&self, error: &io::Error) -> Error {
        let what = format!("TLS handshake with {}", self.shown());
        match error.kind() {
            io::ErrorKind::TimedOut => return no_answer(&what),
            io::ErrorKind::QuotaExceeded => return self.endless_login(),
            _ => {}
        }
        let (message, hint) = tls::explain(error).unwrap_or_else(|| (error.to_string(), None));
        Error::new(Reason::Tls, format!("{what}: {message}")).with_hint_if_any(hint)
    }

    /// A login that ended in the socket or in TLS.
    fn broken_login(&self, error: &io::Error) -> Error {
        let what = format!("login to {}", self.shown());
        match error.kind() {
            io::ErrorKind::TimedOut => no_answer(&what),
            io::ErrorKind::QuotaExceeded => self.endless_login(),
            io::ErrorKind::UnexpectedEof => {
                Error::new(Reason::Connect, format!("{what}: the server closed the connection"))
            }
            io::ErrorKind::InvalidData if error.get_ref().is_none() => self.unexpected_message(),
            _ if tls::explain(error).is_some() => self.failed_handshake(error),
            _ => Error::new(Reason::Connect, format!("{what}: {error}")),
        }
    }

    fn unexpected_message(&self) -> Error {
        let message = format!("login to {}: the server sent a message that has no place there", self.shown());
        Error::new(Reason::Protocol, message)
    }

    /// A login that our side ends.
    fn ended_login(&self, cause: &str) -> Error {
        Error::new(Reason::Auth, format!("login to {}: {cause}", self.shown()))
    }

    /// The server sent more than a login needs.
    fn endless_login(&self) -> Error {
        let shown = self.shown();
        let message = format!("login to {shown}: the server sent more than 1 MiB before the login ended");
        Error::new(Reason::Limit, message)
            .with_hint("this is not a PostgreSQL server that works: check host and port")
    }
}

fn socket_path(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

fn no_answer(what: &str) -> Error {
    Error::new(Reason::Timeout, format!("{what}: no answer in time"))
}

/// How connections to a server are encrypted, as configured.
#[derive(Debug, Clone)]
pub(super) struct Encryption {
    pub(super) tls: TlsConfig,
    /// TLS from the first byte on (`sslnegotiation`).
    pub(super) direct: bool,
    /// The host's name is sent in clear text.
    pub(super) sni: bool,
}

/// A server that was reached once: the very address, so that a cancel meets the same one.
#[derive(Debug, Clone)]
pub(super) struct ServerRoute {
    /// What was configured.
    pub(super) address: PgServerAddress,
    /// Of a server on the network.
    peer: Option<SocketAddr>,
}

impl ServerRoute {
    /// Connects to an address for the first time, and encrypts as [`ServerRoute::connect_again`] does.
    ///
    /// # Errors
    /// `resolve`, and those of [`ServerRoute::connect_again`].
    pub(super) fn connect(
        address: &PgServerAddress,
        encryption: &Encryption,
        mode: TlsMode,
        by: Deadline,
    ) -> Result<(ServerRoute, ServerStream)> {
        let mut route = ServerRoute { address: address.clone(), peer: None };
        let PgServerAddress::Host { name, address: at, keepalives } = address else {
            let stream = route.connect_again(encryption, mode, by)?;
            return Ok((route, stream));
        };
        let at = at.map_or_else(|| name.host.clone(), |at| at.to_string());
        let (stream, peer) = resolve::connect(&at, name.port, by)?;
        route.peer = Some(peer);
        keepalives.apply(&stream).map_err(|error| address.unreachable(&error))?;
        let stream = route.secure(TimedSocket::new(stream), encryption, mode, by)?;
        Ok((route, stream))
    }

    /// Connects to the same address again, and encrypts as far as `mode` demands and the server offers. What is offered and
    /// then fails is an error, also where encryption is only preferred: nobody would notice the plain text.
    ///
    /// # Errors
    /// `tls`, `timeout`, `connect`; `protocol` when this is not PostgreSQL.
    pub(super) fn connect_again(
        &self,
        encryption: &Encryption,
        mode: TlsMode,
        by: Deadline,
    ) -> Result<ServerStream> {
        let socket = match (&self.address, self.peer) {
            (PgServerAddress::Unix { folder, port }, _) => {
                TimedSocket::to_unix(&socket_path(folder, *port), by)
            }
            (PgServerAddress::Host { .. }, Some(peer)) => resolve::connect_to(peer, by).map(TimedSocket::new),
            (PgServerAddress::Host { .. }, None) => Err(io::ErrorKind::NotConnected.into()),
        };
        self.secure(socket.map_err(|error| self.address.unreachable(&error))?, encryption, mode, by)
    }

    fn is_local(&self) -> bool {
        self.peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// How bytes travel on it.
    pub(super) fn tls_state(&self, stream: &ServerStream, tls: &TlsConfig) -> TlsState {
        match &self.address {
            _ if stream.is_encrypted() => tls.state(),
            PgServerAddress::Unix { .. } => TlsState::Local,
            PgServerAddress::Host { .. } => TlsState::Plain,
        }
    }

    fn secure(
        &self,
        socket: TimedSocket,
        encryption: &Encryption,
        mode: TlsMode,
        by: Deadline,
    ) -> Result<ServerStream> {
        let mut stream = ServerStream::new(socket);
        let (PgServerAddress::Host { name, .. }, Some(peer)) = (&self.address, self.peer) else {
            return Ok(stream);
        };
        if mode == TlsMode::Disable || !(encryption.direct || self.offers_tls(&mut stream, mode, by)?) {
            return Ok(stream);
        }
        let mut config = encryption.tls.client_config()?;
        config.enable_sni = encryption.sni;
        if encryption.direct {
            config.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
        }
        let name = encryption.tls.name_of(&name.host, peer.ip())?;
        stream.encrypt(config, name, by).map_err(|error| {
            let failed = self.address.failed_handshake(&error);
            let is_cut =
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
            let hint = "sslnegotiation=direct needs PostgreSQL 17 or later: else leave it out";
            if encryption.direct && is_cut { failed.with_hint(hint) } else { failed }
        })?;
        Ok(stream)
    }

    /// Asks the server for TLS; an error where `mode` demands it and there is none.
    fn offers_tls(&self, stream: &mut ServerStream, mode: TlsMode, by: Deadline) -> Result<bool> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        let mut answer = [0];
        let read = stream.write_all(&request, by).and_then(|()| stream.read(&mut answer, by));
        let count = read.map_err(|error| self.address.unreachable(&error))?;
        let shown = self.address.shown();
        match answer {
            _ if count == 0 => Err(Error::new(Reason::Connect, format!("{shown} closed the connection"))),
            [b'S'] => Ok(true),
            [b'N'] if mode == TlsMode::Prefer => Ok(false),
            [b'N'] => Err(Error::new(Reason::Tls, format!("{shown} does not offer TLS"))
                .with_hint("enable ssl in the server, or set tls.mode: prefer")),
            // Its message could be anybody's, as it is not encrypted. Servers that know the question answer so where they have
            // no process for one more session: PostgreSQL that cannot start one, a full Pgpool.
            [b'E'] => {
                let message =
                    format!("{shown} answers the question for TLS with an error, as a server that is full");
                let error = Error::new(Reason::Server, message).with_hint("the server's log has it");
                Err(error.with_full_server())
            }
            _ => Err(Error::new(Reason::Protocol, format!("{shown} does not speak PostgreSQL's protocol"))),
        }
    }
}

/// How a session introduces itself.
#[derive(Debug, Clone)]
pub(super) struct Startup {
    pub(super) user: String,
    /// Further parameters.
    pub(super) parameters: Vec<(&'static str, String)>,
    pub(super) channel_binding: ChannelBindingMode,
}

/// What a cancel of a session's statement needs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CancelKey {
    pub(super) process: i32,
    pub(super) secret: i32,
}

/// A connection right after its login.
pub(super) struct PgLoggedIn {
    pub(super) connection: PgConnection,
    pub(super) cancel_key: CancelKey,
    /// The server's `server_version`; empty when it does not tell.
    pub(super) version: String,
}

/// Logs in on `stream`. `configured`: the mode in the configuration, which decides whether a password may be shown, however
/// this stream is encrypted.
///
/// # Errors
/// `auth`, `timeout`, `connect`, `tls`, `permission`, `server`, `protocol`, `limit`.
pub(super) fn log_in(
    stream: ServerStream,
    route: &ServerRoute,
    startup: &Startup,
    configured: TlsMode,
    password: Option<&Secret>,
    by: Deadline,
) -> Result<PgLoggedIn> {
    let shows_password = configured == TlsMode::Disable || stream.is_encrypted() || route.is_local();
    let connection = PgConnection::new(stream);
    LoginExchange {
        connection,
        address: &route.address,
        startup,
        password,
        shows_password,
        has_asked: false,
        by,
    }
    .run()
}

/// What a server asks for in a login (the documentation's "Message Formats", `Authentication…`).
mod request {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEAR_TEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// A login under way.
struct LoginExchange<'l> {
    connection: PgConnection,
    address: &'l PgServerAddress,
    startup: &'l Startup,
    password: Option<&'l Secret>,
    /// The password may be sent in clear text.
    shows_password: bool,
    /// The server has asked for a password.
    has_asked: bool,
    by: Deadline,
}

impl<'l> LoginExchange<'l> {
    fn run(mut self) -> Result<PgLoggedIn> {
        let Startup { user, parameters, .. } = self.startup;
        let parameters = parameters.iter().map(|(name, value)| (*name, value.as_str()));
        let parameters = std::iter::once(("user", user.as_str())).chain(parameters);
        self.send(|out| frontend::startup_message(parameters, out))?;
        self.authenticate()?;
        let (mut cancel_key, mut version) = (CancelKey::default(), String::new());
        loop {
            let message = self.next_message()?;
            let mut fields = MessageFields(self.connection.body(&message));
            match message.tag {
                tags::BACKEND_KEY_DATA_TAG => {
                    let mut number = || fields.long().unwrap_or_default().cast_signed();
                    cancel_key = CancelKey { process: number(), secret: number() };
                }
                tags::PARAMETER_STATUS_TAG if fields.text() == Some("server_version") => {
                    version = bounded_text::name(fields.text().unwrap_or_default());
                }
                tags::READY_FOR_QUERY_TAG => {
                    self.connection.end_login();
                    return Ok(PgLoggedIn { connection: self.connection, cancel_key, version });
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<()> {
        let mut message = BytesMut::new();
        let sent = write(&mut message).and_then(|()| self.connection.send_login(&message, self.by));
        sent.map_err(|error| self.address.broken_login(&error))
    }

    /// The next message that is not an error.
    fn next_message(&mut self) -> Result<Message> {
        let message = self.connection.next(self.by, RowBounds::OF_ANSWER);
        let message = message.map_err(|error| self.address.broken_login(&error))?;
        if message.tag != tags::ERROR_RESPONSE_TAG {
            return Ok(message);
        }
        let error = ServerError::read(self.connection.body(&message));
        Err(error.of_login(&self.address.shown(), self.connection.stream().is_encrypted(), self.has_asked))
    }

    /// What the server asks for next, and what it says beside.
    fn next_request(&mut self) -> Result<(u32, Vec<u8>)> {
        let message = self.next_message()?;
        let mut fields = MessageFields(self.connection.body(&message));
        match (message.tag, fields.long()) {
            (tags::AUTHENTICATION_TAG, Some(request)) => Ok((request, fields.0.to_vec())),
            _ => Err(self.address.unexpected_message()),
        }
    }

    fn expect(&mut self, request: u32) -> Result<Vec<u8>> {
        match self.next_request()? {
            (found, data) if found == request => Ok(data),
            _ => Err(self.address.unexpected_message()),
        }
    }

    fn authenticate(&mut self) -> Result<()> {
        let (request, data) = self.next_request()?;
        self.has_asked = request != request::OK;
        match request {
            request::OK => return self.check_unbound(),
            request::CLEAR_TEXT => {
                self.check_unbound()?;
                let password = self.password()?;
                if !self.shows_password {
                    return Err(self.asks_for_clear_text());
                }
                self.send(|out| frontend::password_message(password, out))?;
            }
            request::MD5 => {
                self.check_unbound()?;
                let password = self.password()?;
                let salt = data.try_into().map_err(|_| self.address.unexpected_message())?;
                let hash = md5_hash(self.startup.user.as_bytes(), password, salt);
                self.send(|out| frontend::password_message(hash.as_bytes(), out))?;
            }
            request::SASL => self.scram(&data)?,
            _ => return Err(self.unsupported_method()),
        }
        self.expect(request::OK).map(drop)
    }

    fn scram(&mut self, mechanisms: &[u8]) -> Result<()> {
        let is_offered =
            |name: &str| mechanisms.split(|byte| *byte == 0).any(|known| known == name.as_bytes());
        if !is_offered(sasl::SCRAM_SHA_256) && !is_offered(sasl::SCRAM_SHA_256_PLUS) {
            return Err(self.unsupported_method());
        }
        let password = self.password()?;
        let certificate = self.connection.stream().server_certificate();
        let hash = certificate.and_then(|certificate| {
            Some(digest::digest(end_point_hash(certificate)?, certificate).as_ref().to_vec())
        });
        let hash = hash.filter(|_| self.startup.channel_binding != ChannelBindingMode::Disable);
        let (binding, mechanism) = match (hash, is_offered(sasl::SCRAM_SHA_256_PLUS)) {
            (Some(hash), true) => {
                (sasl::ChannelBinding::tls_server_end_point(hash), sasl::SCRAM_SHA_256_PLUS)
            }
            (None, true) => (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
            (Some(_), false) => (sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256),
            (None, false) => (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
        };
        if mechanism == sasl::SCRAM_SHA_256 {
            self.check_unbound()?;
        }
        let mut scram = ScramSha256::new(password, binding);
        self.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))?;
        let first = self.expect(request::SASL_CONTINUE)?;
        if let Some(rounds) = scram_rounds(&first).filter(|rounds| *rounds > MAX_SCRAM_ROUNDS) {
            let message = format!(
                "login to {}: the server asks for {rounds} rounds of SCRAM, and at most {MAX_SCRAM_ROUNDS} are computed",
                self.address.shown()
            );
            let hint = "on the server: lower scram_iterations, and set the user's password again";
            return Err(Error::new(Reason::Limit, message).with_hint(hint));
        }
        let address = self.address;
        scram.update(&first).map_err(|error| address.broken_login(&error))?;
        self.send(|out| frontend::sasl_response(scram.message(), out))?;
        let last = self.expect(request::SASL_FINAL)?;
        scram.finish(&last).map_err(|error| address.broken_login(&error))
    }

    /// A login that is not bound to its channel, where the configuration demands that.
    fn check_unbound(&self) -> Result<()> {
        match self.startup.channel_binding {
            ChannelBindingMode::Require => Err(self
                .address
                .ended_login("server did not use channel binding")
                .with_meaning("`channel_binding=require`, and nothing binds this login to its connection")
                .with_hint(
                    "it takes TLS, scram-sha-256 for this user in pg_hba.conf, and a certificate that is signed with RSA (PKCS #1) \
                     or ECDSA: else leave `channel_binding` out",
                )
                .before_password()),
            ChannelBindingMode::Disable | ChannelBindingMode::Prefer => Ok(()),
        }
    }

    /// Kerberos, OAuth and the like.
    fn unsupported_method(&self) -> Error {
        let error = self.address.ended_login("unsupported authentication method");
        error
            .with_meaning("the server asks for a login method that is not supported here")
            .with_hint("give this user scram-sha-256, md5, password or cert in pg_hba.conf, on the server")
            .before_password()
    }

    fn password(&self) -> Result<&'l [u8]> {
        self.password.map(|password| password.expose().as_bytes()).ok_or_else(|| {
            let error = self.address.ended_login("password missing");
            error.with_meaning("the server asks for a password, and there is none").before_password()
        })
    }

    fn asks_for_clear_text(&self) -> Error {
        let shown = self.address.shown();
        let message = format!("{shown} asks for the password in clear text on an unencrypted connection");
        Error::new(Reason::Auth, message)
            .with_hint("set tls.mode: require, or mode: disable to allow it")
            .with_meaning("the server asks for the password in clear text, and others could read it")
            .before_password()
    }
}

/// The rounds in the first message of a server (RFC 5802, section 7).
fn scram_rounds(first: &[u8]) -> Option<u32> {
    str::from_utf8(first).ok()?.split(',').find_map(|part| part.strip_prefix("i="))?.parse().ok()
}

/// The hash for `tls-server-end-point` (RFC 5929, section 4.1): the one that the certificate is signed with, SHA-256 instead
/// of MD5 and SHA-1. `None` where the signature has none of its own, as Ed25519.
fn end_point_hash(certificate: &[u8]) -> Option<&'static digest::Algorithm> {
    let (content, _) = der_element(certificate, 0x30)?;
    let (_signed, rest) = der_element(content, 0x30)?;
    let (algorithm, _) = der_element(rest, 0x30)?;
    let (identifier, _) = der_element(algorithm, 0x06)?;
    // PKCS #1 (RFC 8017, appendix C) and ECDSA (RFC 5758, section 3.2).
    Some(match identifier {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4 | 5 | 11]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => {
            &digest::SHA384
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => {
            &digest::SHA512
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::AtomicI32;
    use std::time::Duration;

    use super::super::cancel::PgCanceller;
    use super::*;

    /// A server that answers a startup, reads on, and returns everything that it was sent.
    fn answer(listener: &TcpListener, said: &[u8]) -> Vec<u8> {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = vec![0; 4096];
        let count = stream.read(&mut heard).unwrap();
        heard.truncate(count);
        stream.write_all(said).unwrap();
        let _ = stream.read_to_end(&mut heard);
        heard
    }

    /// Asks for a password in clear text.
    const ASKS_FOR_PASSWORD: &[u8] = &[b'R', 0, 0, 0, 8, 0, 0, 0, 3];

    fn route(peer: [u8; 4]) -> ServerRoute {
        let name = HostPort { host: "db.example".into(), port: 5432 };
        let address = PgServerAddress::Host { name, address: None, keepalives: KeepaliveOptions::default() };
        ServerRoute { address, peer: Some((peer, 5432).into()) }
    }

    fn startup() -> Startup {
        Startup {
            user: "exporter".into(),
            parameters: Vec::new(),
            channel_binding: ChannelBindingMode::Prefer,
        }
    }

    /// Does something on a connection to a server that says this; also returns what it was sent.
    fn on_server<T>(said: &'static [u8], act: impl FnOnce(ServerStream) -> T) -> (T, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || answer(&listener, said));
        let socket = TimedSocket::new(TcpStream::connect(local).unwrap());
        let done = act(ServerStream::new(socket));
        (done, server.join().unwrap())
    }

    fn secret() -> Secret {
        Secret::new("c4nary-secret".into())
    }

    fn leaks(heard: &[u8]) -> bool {
        heard.windows(13).any(|part| part == b"c4nary-secret")
    }

    fn heard(peer: [u8; 4], mode: TlsMode) -> (Error, Vec<u8>) {
        // The scripted server hangs up after the password, if not before: no login succeeds.
        let span =
            if mode == TlsMode::Disable { Duration::from_millis(300) } else { Duration::from_secs(10) };
        let (entered, heard) = on_server(ASKS_FOR_PASSWORD, |stream| {
            log_in(stream, &route(peer), &startup(), mode, Some(&secret()), Deadline::within(span)).err()
        });
        (entered.unwrap(), heard)
    }

    #[test]
    fn a_password_never_travels_in_clear_text_unless_that_is_written() {
        let (error, bytes) = heard([192, 0, 2, 1], TlsMode::Prefer);
        assert_eq!(error.reason(), Reason::Auth);
        assert_eq!(error.hint(), Some("set tls.mode: require, or mode: disable to allow it"));
        assert!(!leaks(&bytes));
        assert!(leaks(&heard([192, 0, 2, 1], TlsMode::Disable).1));
    }

    /// A session of `prefer` on a server without TLS: who answers instead when it is cancelled gets no password.
    #[test]
    fn a_cancels_login_shows_no_password_in_clear_text() {
        let by = Deadline::within(Duration::from_secs(10));
        let canceller = PgCanceller {
            route: route([192, 0, 2, 1]),
            encryption: Encryption { tls: TlsConfig::default(), direct: false, sni: true },
            mode: TlsMode::Disable,
            cancel_key: CancelKey::default(),
            backend: AtomicI32::new(7),
            startup: startup(),
            password: Some(secret()),
        };
        let (entered, heard) = on_server(ASKS_FOR_PASSWORD, |stream| canceller.log_in(stream, by).err());
        assert_eq!(entered.unwrap().reason(), Reason::Auth);
        assert!(!leaks(&heard));
    }

    #[test]
    fn a_server_that_cannot_start_a_process_speaks_the_protocol() {
        let by = Deadline::within(Duration::from_secs(10));
        let (asked, _) =
            on_server(b"Ecould not fork new process for connection: out of memory\0", |mut stream| {
                route([127, 0, 0, 1]).offers_tls(&mut stream, TlsMode::Prefer, by)
            });
        let error = asked.unwrap_err();
        assert!(error.reason() == Reason::Server && error.is_server_full(), "{error}");
    }

    /// PgBouncer sends no severity that is not translated.
    #[test]
    fn a_full_pooler_is_known_at_the_login() {
        const FULL: &[u8] = b"E\0\0\0\x42SFATAL\0C08P01\0Mno more connections allowed (max_client_conn)\0\0";
        let by = Deadline::within(Duration::from_secs(10));
        let (entered, _) = on_server(FULL, |stream| {
            log_in(stream, &route([127, 0, 0, 1]), &startup(), TlsMode::Prefer, None, by).err()
        });
        let error = entered.unwrap();
        assert!(error.is_server_full() && error.reason() == Reason::Server, "{error}");
    }

    #[test]
    fn a_server_cannot_have_rounds_of_scram_without_end_computed() {
        const ASKS_FOR_SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        let first = |rounds: &str| format!("r=x,s=c2FsdA==,i={rounds}").into_bytes();
        assert_eq!(scram_rounds(&first("4096")), Some(4096));
        assert_eq!(scram_rounds(b"r=x,s=c2FsdA=="), None);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = [0; 4096];
            assert!(stream.read(&mut heard).unwrap() > 0);
            stream.write_all(ASKS_FOR_SCRAM).unwrap();
            let count = stream.read(&mut heard).unwrap();
            let nonce = heard[..count].windows(2).position(|part| part == b"r=").unwrap() + 2;
            let nonce = String::from_utf8_lossy(&heard[nonce..count]).into_owned();
            let said = format!("r={nonce}server,s=c2FsdHNhbHRzYWx0,i=4294967295");
            let length = u32::try_from(said.len() + 8).unwrap().to_be_bytes();
            stream.write_all(&[b"R", &length[..], &[0, 0, 0, 11], said.as_bytes()].concat()).unwrap();
            let _ = stream.read(&mut heard);
        });
        let socket = TimedSocket::new(TcpStream::connect(local).unwrap());
        let by = Deadline::within(Duration::from_secs(10));
        let stream = ServerStream::new(socket);
        let entered =
            log_in(stream, &route([127, 0, 0, 1]), &startup(), TlsMode::Prefer, Some(&secret()), by);
        let error = entered.err().unwrap();
        assert!(error.message().contains("4294967295 rounds"), "{error}");
        assert_eq!(error.reason(), Reason::Limit);
        server.join().unwrap();
    }

    /// `SEQUENCE { SEQUENCE {}, SEQUENCE { OID, NULL }, … }`.
    fn signed_by(identifier: &[u8]) -> Vec<u8> {
        let element =
            |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let algorithm = element(0x30, &[element(0x06, identifier), element(0x05, &[])].concat());
        element(0x30, &[element(0x30, &[]), algorithm, element(0x03, &[0, 1, 2])].concat())
    }

    #[test]
    fn a_channel_is_bound_by_the_hash_of_the_certificates_signature() {
        let rsa = |last| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last];
        let ecdsa = |last| [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, last];
        for (certificate, expected) in [
            (signed_by(&rsa(4)), Some(&digest::SHA256)),
            (signed_by(&rsa(5)), Some(&digest::SHA256)),
            (signed_by(&rsa(11)), Some(&digest::SHA256)),
            (signed_by(&rsa(12)), Some(&digest::SHA384)),
            (signed_by(&rsa(13)), Some(&digest::SHA512)),
            (signed_by(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]), Some(&digest::SHA256)),
            (signed_by(&ecdsa(2)), Some(&digest::SHA256)),
            (signed_by(&ecdsa(3)), Some(&digest::SHA384)),
            (signed_by(&ecdsa(4)), Some(&digest::SHA512)),
            // RSASSA-PSS, whose hash is in its parameters, and Ed25519.
            (signed_by(&rsa(10)), None),
            (signed_by(&[0x2b, 0x65, 0x70]), None),
            (Vec::new(), None),
        ] {
            assert_eq!(end_point_hash(&certificate), expected, "{certificate:?}");
        }
    }
}
