//! From an address to a login: connect, encrypt, log in. Each step ends by the deadline.
//!
//! tokio-postgres does the login itself (startup, SCRAM with channel binding, MD5) on a [`LoginStream`] that we take
//! back afterwards. What it leaves to others is here: TLS modes, and refusing to send a password in clear text.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::Socket;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{CancelToken, Config};

use crate::deadline::Deadline;
use crate::driver::connection::HostPort;
use crate::driver::connection::resolve;
use crate::driver::connection::socket::TimedSocket;
use crate::driver::connection::stream::ServerStream;
use crate::driver::connection::tls;
use crate::driver::connection::tls::{TlsConfig, TlsMode};
use crate::driver::{TlsState, bounded_text};
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::errors::ServerError;
use super::login_stream::{AlreadyEncrypted, LoginStream, run};
use super::options::KeepaliveOptions;

/// What a server of PostgreSQL 17 or later, and only such a one, is asked for in the handshake.
const ALPN_PROTOCOL: &[u8] = b"postgresql";

/// Where a server listens.
#[derive(Debug, Clone)]
pub(super) enum ServerAddress {
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

impl ServerAddress {
    /// For messages: `db.example:5432`, or the socket's path.
    pub(super) fn shown(&self) -> String {
        match self {
            ServerAddress::Host { name: HostPort { host, port }, .. } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            ServerAddress::Host { name: HostPort { host, port }, .. } => format!("{host}:{port}"),
            ServerAddress::Unix { folder, port } => socket_path(folder, *port).display().to_string(),
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
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let (message, hint) = inner.map_or_else(|| (error.to_string(), None), tls::explain);
        let error = Error::new(Reason::Tls, format!("{what}: {message}"));
        hint.into_iter().fold(error, Error::with_hint)
    }

    /// A login that ended in the socket or in TLS.
    fn broken_login(&self, error: &io::Error) -> Error {
        let shown = self.shown();
        match error.kind() {
            io::ErrorKind::TimedOut => no_answer(&format!("login to {shown}")),
            io::ErrorKind::QuotaExceeded => self.endless_login(),
            io::ErrorKind::PermissionDenied => {
                let message =
                    format!("{shown} asks for the password in clear text on an unencrypted connection");
                Error::new(Reason::Auth, message)
                    .with_hint("set tls.mode: require, or mode: disable to allow it")
                    .with_meaning("the server asks for the password in clear text, and others could read it")
                    .before_password()
            }
            _ if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                self.failed_handshake(error)
            }
            _ => Error::new(Reason::Connect, format!("login to {shown}: {error}")),
        }
    }

    /// The server sent more than a login needs.
    fn endless_login(&self) -> Error {
        let shown = self.shown();
        let message = format!("login to {shown}: the server sent more than 1 MiB before the login ended");
        Error::new(Reason::Limit, message)
            .with_hint("this is not a PostgreSQL server that works: check host and port")
    }

    /// A failed login as tokio-postgres reports it.
    fn refused_login(&self, error: &tokio_postgres::Error, is_encrypted: bool) -> Error {
        let shown = self.shown();
        if let Some(error) = error.as_db_error() {
            return ServerError::from(error).of_login(&shown, is_encrypted);
        }
        match error.source() {
            Some(source) => match source.downcast_ref::<io::Error>() {
                Some(error) => self.broken_login(error),
                None => ended_by_us(&source.to_string(), &shown),
            },
            None if error.is_closed() => {
                Error::new(Reason::Connect, format!("login to {shown}: the server closed the connection"))
            }
            None => Error::new(Reason::Protocol, format!("login to {shown}: {error}")),
        }
    }
}

fn socket_path(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

fn no_answer(what: &str) -> Error {
    Error::new(Reason::Timeout, format!("{what}: no answer in time"))
}

/// A login that our side ended: no password, no method in common, no channel to bind to.
fn ended_by_us(cause: &str, shown: &str) -> Error {
    let error = Error::new(Reason::Auth, format!("login to {shown}: {cause}"));
    match cause {
        "password missing" => {
            error.with_meaning("the server asks for a password, and there is none").before_password()
        }
        "unsupported authentication method" => error
            .with_meaning("the server asks for a login method that is not supported here")
            .with_hint("give this user scram-sha-256, md5, password or cert in pg_hba.conf, on the server")
            .before_password(),
        _ => error,
    }
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
    pub(super) address: ServerAddress,
    /// Of a server on the network.
    peer: Option<SocketAddr>,
}

impl ServerRoute {
    /// Connects to an address for the first time, and encrypts as [`ServerRoute::connect_again`] does.
    ///
    /// # Errors
    /// `resolve`, and those of [`ServerRoute::connect_again`].
    pub(super) fn connect(
        address: &ServerAddress,
        encryption: &Encryption,
        mode: TlsMode,
        by: Deadline,
    ) -> Result<(ServerRoute, ServerStream)> {
        let ServerAddress::Host { name, address: at, keepalives } = address else {
            let route = ServerRoute { address: address.clone(), peer: None };
            let stream = route.connect_again(encryption, mode, by)?;
            return Ok((route, stream));
        };
        let failed = |error: io::Error| address.unreachable(&error);
        let at = at.map_or_else(|| name.host.clone(), |at| at.to_string());
        let stream = resolve::connect(&at, name.port, by)?;
        let peer = stream.peer_addr().map_err(failed)?;
        let socket = Socket::from(stream);
        keepalives.apply(&socket).map_err(failed)?;
        let route = ServerRoute { address: address.clone(), peer: Some(peer) };
        let stream = ServerStream::new(TimedSocket::new(socket));
        let stream = route.secure(stream, (&name.host, peer), encryption, mode, by)?;
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
        let failed = |error: io::Error| self.address.unreachable(&error);
        match (&self.address, self.peer) {
            (ServerAddress::Unix { folder, port }, _) => {
                let socket = TimedSocket::to_unix(&socket_path(folder, *port), by);
                socket.map(ServerStream::new).map_err(failed)
            }
            (ServerAddress::Host { name, .. }, Some(peer)) => {
                let socket = resolve::connect_to(peer, by).map_err(failed)?;
                let stream = ServerStream::new(TimedSocket::new(Socket::from(socket)));
                self.secure(stream, (&name.host, peer), encryption, mode, by)
            }
            (ServerAddress::Host { .. }, None) => {
                ServerRoute::connect(&self.address, encryption, mode, by).map(|(_, stream)| stream)
            }
        }
    }

    fn is_local(&self) -> bool {
        self.peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// How bytes travel on it.
    pub(super) fn tls_state(&self, stream: &ServerStream, tls: &TlsConfig) -> TlsState {
        match &self.address {
            _ if stream.is_encrypted() => tls.state(),
            ServerAddress::Unix { .. } => TlsState::Local,
            ServerAddress::Host { .. } => TlsState::Plain,
        }
    }

    fn secure(
        &self,
        mut stream: ServerStream,
        (host, peer): (&str, SocketAddr),
        encryption: &Encryption,
        mode: TlsMode,
        by: Deadline,
    ) -> Result<ServerStream> {
        if mode == TlsMode::Disable || !(encryption.direct || self.offers_tls(&mut stream, mode, by)?) {
            return Ok(stream);
        }
        let mut config = encryption.tls.client_config()?;
        config.enable_sni = encryption.sni;
        if encryption.direct {
            config.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
        }
        let name = encryption.tls.name_of(host, peer.ip())?;
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
            // Its message could be anybody's, as it is not encrypted.
            [b'E'] => {
                let message = format!("{shown} answers the question for TLS with an error");
                Err(Error::new(Reason::Server, message).with_hint("the server's log has it"))
            }
            _ => Err(Error::new(Reason::Protocol, format!("{shown} does not speak PostgreSQL's protocol"))),
        }
    }
}

/// A connection right after its login.
pub(super) struct LoggedIn {
    /// Where the server's messages come from; nothing was read beyond the login.
    pub(super) stream: ServerStream,
    /// What a cancel needs.
    pub(super) token: CancelToken,
    /// The server's `server_version`; empty when it does not tell.
    pub(super) version: String,
}

/// Logs in on `stream` with the user, password and options of `config`. `configured`: the mode in the configuration, which
/// decides whether a password may be shown, however this stream is encrypted.
///
/// # Errors
/// `auth`, `timeout`, `connect`, `tls`, `permission`, `server`.
pub(super) fn log_in(
    stream: ServerStream,
    route: &ServerRoute,
    config: &Config,
    configured: TlsMode,
    password: Option<&Secret>,
    by: Deadline,
) -> Result<LoggedIn> {
    let is_encrypted = stream.is_encrypted();
    let mut config = config.clone();
    let mut forbidden = None;
    if let Some(password) = password {
        config.password(password.expose());
        if configured != TlsMode::Disable && !is_encrypted && !route.is_local() {
            let mut message = BytesMut::new();
            frontend::password_message(password.expose().as_bytes(), &mut message)
                .map_err(|error| Error::new(Reason::Auth, format!("the password cannot be sent: {error}")))?;
            forbidden = Some(message.to_vec());
        }
    }
    // The stream is encrypted already where it will be: `AlreadyEncrypted` says so, and the server is not asked again.
    config.ssl_negotiation(SslNegotiation::Direct);
    config.ssl_mode(if is_encrypted { SslMode::Require } else { SslMode::Disable });
    let shared = LoginStream::new(stream, by, forbidden);
    let (client, connection) = run(config.connect_raw(shared.clone(), AlreadyEncrypted))
        .map_err(|error| route.address.broken_login(&error))?
        .map_err(|error| route.address.refused_login(&error, is_encrypted))?;
    let token = client.cancel_token();
    let version = connection.parameter("server_version").unwrap_or_default();
    let version = bounded_text::name(version);
    drop((client, connection));
    let stream =
        shared.into_stream().ok_or_else(|| Error::new(Reason::Panic, "the login kept its stream"))?;
    Ok(LoggedIn { stream, token, version })
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
        let address = ServerAddress::Host { name, address: None, keepalives: KeepaliveOptions::default() };
        ServerRoute { address, peer: Some((peer, 5432).into()) }
    }

    fn config() -> Config {
        let mut config = Config::new();
        config.user("exporter");
        config
    }

    /// Does something on a connection to a server that says this; also returns what it was sent.
    fn on_server<T>(said: &'static [u8], act: impl FnOnce(ServerStream) -> T) -> (T, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || answer(&listener, said));
        let socket = TimedSocket::new(Socket::from(TcpStream::connect(local).unwrap()));
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
            log_in(stream, &route(peer), &config(), mode, Some(&secret()), Deadline::within(span)).err()
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
        const GREETS: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x09Z\0\0\0\x05I";
        let by = Deadline::within(Duration::from_secs(10));
        let route = route([192, 0, 2, 1]);
        let (token, _) = on_server(GREETS, |stream| {
            log_in(stream, &route, &config(), TlsMode::Prefer, None, by).map(|entered| entered.token)
        });
        let canceller = PgCanceller {
            route,
            encryption: Encryption { tls: TlsConfig::default(), direct: false, sni: true },
            mode: TlsMode::Disable,
            token: token.unwrap(),
            backend: AtomicI32::new(7),
            config: config(),
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
        assert_eq!(asked.unwrap_err().reason(), Reason::Server);
    }

    /// PgBouncer sends no severity that is not translated.
    #[test]
    fn a_full_pooler_is_known_at_the_login() {
        const FULL: &[u8] = b"E\0\0\0\x42SFATAL\0C08P01\0Mno more connections allowed (max_client_conn)\0\0";
        let by = Deadline::within(Duration::from_secs(10));
        let (entered, _) = on_server(FULL, |stream| {
            log_in(stream, &route([127, 0, 0, 1]), &config(), TlsMode::Prefer, None, by).err()
        });
        let error = entered.unwrap();
        assert!(error.is_server_full() && error.reason() == Reason::Server, "{error}");
    }
}
