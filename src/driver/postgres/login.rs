//! From an address to a login: connect, encrypt, log in. Each step ends by the deadline.
//!
//! tokio-postgres does the login itself (startup, SCRAM with channel binding, MD5) on a [`SharedStream`] that we take
//! back afterwards. What it leaves to others is here: TLS modes, and refusing to send a password in clear text.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use socket2::Socket;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{CancelToken, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::deadline::Deadline;
use crate::driver::connection::HostPort;
use crate::driver::connection::resolve;
use crate::driver::connection::socket::TimedSocket;
use crate::driver::connection::tls;
use crate::driver::connection::tls::{TlsConfig, TlsMode};
use crate::driver::{TlsState, bounded_text};
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::errors::ServerError;
use super::options::KeepaliveOptions;
use super::stream::{AlreadyEncrypted, SharedSocket, SharedStream, Stream, drive};

/// What a server of PostgreSQL 17 or later, and only such a one, is asked for in the handshake.
const ALPN_PROTOCOL: &[u8] = b"postgresql";

/// Where a server listens.
#[derive(Debug, Clone)]
pub(super) enum ServerAddress {
    /// Over TCP.
    Host(TcpHost),
    /// A Unix socket: its own path, which is made of the folder as configured and the port.
    Unix { path: PathBuf, folder: PathBuf, port: u16 },
}

/// A server on the network.
#[derive(Debug, Clone)]
pub(super) struct TcpHost {
    /// As configured.
    pub(super) name: HostPort,
    /// Where it is (`hostaddr`); `None`: the name says it.
    pub(super) address: Option<IpAddr>,
    /// How its connections differ from others.
    pub(super) keepalives: KeepaliveOptions,
}

impl ServerAddress {
    /// For messages: `db.example:5432`, or the socket's path.
    pub(super) fn shown(&self) -> String {
        match self {
            ServerAddress::Host(TcpHost { name: HostPort { host, port }, .. }) if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            ServerAddress::Host(TcpHost { name: HostPort { host, port }, .. }) => format!("{host}:{port}"),
            ServerAddress::Unix { path, .. } => path.display().to_string(),
        }
    }

    /// The socket's path in PostgreSQL's socket folder.
    pub(super) fn in_folder(folder: &Path, port: u16) -> Self {
        let path = folder.join(format!(".s.PGSQL.{port}"));
        ServerAddress::Unix { path, folder: folder.to_owned(), port }
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

/// What a connection is encrypted by.
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
    peer: Option<SocketAddr>,
}

impl ServerRoute {
    /// Connects to an address for the first time.
    pub(super) fn connect(address: &ServerAddress, by: Deadline) -> Result<(ServerRoute, SharedSocket)> {
        let failed = |error: io::Error| address.unreachable(&error);
        let (peer, socket) = match address {
            ServerAddress::Host(TcpHost { name, address, keepalives }) => {
                let at = address.map_or_else(|| name.host.clone(), |address| address.to_string());
                let stream = resolve::connect(&at, name.port, by)?;
                let peer = stream.peer_addr().ok();
                let socket = Socket::from(stream);
                keepalives.apply(&socket).map_err(failed)?;
                (peer, SharedSocket::new(TimedSocket::new(socket), by))
            }
            ServerAddress::Unix { path, .. } => (None, SharedSocket::to_unix(path, by).map_err(failed)?),
        };
        Ok((ServerRoute { address: address.clone(), peer }, socket))
    }

    /// Connects to the same address again.
    pub(super) fn connect_again(&self, by: Deadline) -> Result<SharedSocket> {
        match (&self.address, self.peer) {
            (ServerAddress::Host(_), Some(peer)) => {
                let stream = resolve::connect_to(peer, by);
                let stream = stream.map_err(|error| self.address.unreachable(&error))?;
                Ok(SharedSocket::new(TimedSocket::new(Socket::from(stream)), by))
            }
            _ => ServerRoute::connect(&self.address, by).map(|(_, socket)| socket),
        }
    }

    fn is_local(&self) -> bool {
        self.peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// How bytes travel on it.
    pub(super) fn tls_state(&self, stream: &Stream, tls: &TlsConfig) -> TlsState {
        match &self.address {
            _ if stream.is_encrypted() => tls.state(),
            ServerAddress::Unix { .. } => TlsState::Local,
            ServerAddress::Host(_) => TlsState::Plain,
        }
    }

    /// Encrypts as far as `mode` demands and the server offers. What is offered and then fails is an error, also where
    /// encryption is only preferred: nobody would notice the plain text.
    ///
    /// # Errors
    /// `tls`, `timeout`, `connect`; `protocol` when this is not PostgreSQL.
    pub(super) fn secure(
        &self,
        socket: SharedSocket,
        encryption: &Encryption,
        mode: TlsMode,
        by: Deadline,
    ) -> Result<Stream> {
        let ServerAddress::Host(TcpHost { name, .. }) = &self.address else {
            return Ok(Stream::plain(socket));
        };
        if mode == TlsMode::Disable {
            return Ok(Stream::plain(socket));
        }
        if encryption.direct {
            return self.shake_hands(socket, encryption, &name.host, by);
        }
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        let mut answer = [0];
        let read = socket.write_now(&request).and_then(|_| socket.read_now(&mut answer));
        let count = read.map_err(|error| self.address.unreachable(&error))?;
        let shown = self.address.shown();
        match answer {
            _ if count == 0 => Err(Error::new(Reason::Connect, format!("{shown} closed the connection"))),
            [b'S'] => self.shake_hands(socket, encryption, &name.host, by),
            [b'N'] if mode == TlsMode::Prefer => Ok(Stream::plain(socket)),
            [b'N'] => Err(Error::new(Reason::Tls, format!("{shown} does not offer TLS"))
                .with_hint("enable ssl in the server, or set tls.mode: prefer")),
            _ => Err(Error::new(Reason::Protocol, format!("{shown} does not speak PostgreSQL's protocol"))),
        }
    }

    fn shake_hands(
        &self,
        socket: SharedSocket,
        encryption: &Encryption,
        host: &str,
        by: Deadline,
    ) -> Result<Stream> {
        let tls = &encryption.tls;
        let mut config = tls.client_config()?;
        config.enable_sni = encryption.sni;
        if encryption.direct {
            config.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
        }
        // A host that cannot be in a certificate, as an address with its interface, serves where nobody verifies it.
        let is_odd = ServerName::try_from(host).is_err() && tls.state() == TlsState::Encrypted;
        let address = self.peer.filter(|_| is_odd).map(|peer| peer.ip().to_canonical().to_string());
        let name = tls.server_name.as_deref().or(address.as_deref()).unwrap_or(host);
        Stream::encrypted(socket, MakeRustlsConnect::new(config), name, by).map_err(|error| {
            let failed = self.address.failed_handshake(&error);
            let is_cut =
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
            let hint = "sslnegotiation=direct needs PostgreSQL 17 or later: else leave it out";
            if encryption.direct && is_cut { failed.with_hint(hint) } else { failed }
        })
    }
}

/// A connection right after its login.
pub(super) struct LoggedIn {
    /// Where the server's messages come from; nothing was read beyond the login.
    pub(super) stream: Stream,
    /// What a cancel needs.
    pub(super) token: CancelToken,
    /// The server's `server_version`; empty when it does not tell.
    pub(super) version: String,
}

/// Logs in on `stream` with the user, password and options of `config`.
///
/// # Errors
/// `auth`, `timeout`, `connect`, `tls`, `permission`, `server`.
pub(super) fn log_in(
    stream: Stream,
    route: &ServerRoute,
    config: &Config,
    mode: TlsMode,
    password: Option<&Secret>,
    by: Deadline,
) -> Result<LoggedIn> {
    let (socket, is_encrypted) = (stream.socket().clone(), stream.is_encrypted());
    let mut config = config.clone();
    if let Some(password) = password {
        config.password(password.expose());
        if mode != TlsMode::Disable && !is_encrypted && !route.is_local() {
            let mut message = BytesMut::new();
            frontend::password_message(password.expose().as_bytes(), &mut message)
                .map_err(|error| Error::new(Reason::Auth, format!("the password cannot be sent: {error}")))?;
            socket.forbid(message.to_vec());
        }
    }
    // The stream is encrypted already where it will be: `AlreadyEncrypted` says so, and the server is not asked again.
    config.ssl_negotiation(SslNegotiation::Direct);
    config.ssl_mode(if is_encrypted { SslMode::Require } else { SslMode::Disable });
    let shared = SharedStream::new(stream);
    let (client, connection) = drive(&socket, by, config.connect_raw(shared.clone(), AlreadyEncrypted))
        .map_err(|error| route.address.broken_login(&error))?
        .map_err(|error| route.address.refused_login(&error, is_encrypted))?;
    let token = client.cancel_token();
    let version = connection.parameter("server_version").unwrap_or_default();
    let version = bounded_text::cut(version, bounded_text::MAX_NAME_BYTES);
    drop((client, connection));
    let stream =
        shared.into_stream().ok_or_else(|| Error::new(Reason::Panic, "the login kept its stream"))?;
    Ok(LoggedIn { stream, token, version })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    /// A server that asks for a clear-text password; answers everything that it was sent.
    fn curious(listener: &TcpListener) -> Vec<u8> {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = vec![0; 4096];
        let count = stream.read(&mut heard).unwrap();
        heard.truncate(count);
        stream.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).unwrap();
        let _ = stream.read_to_end(&mut heard);
        heard
    }

    fn heard(peer: [u8; 4], mode: TlsMode) -> (Error, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || curious(&listener));
        let by = Deadline::within(Duration::from_secs(10));
        let name = HostPort { host: "db.example".into(), port: 5432 };
        let address =
            ServerAddress::Host(TcpHost { name, address: None, keepalives: KeepaliveOptions::default() });
        let route = ServerRoute { address, peer: Some((peer, 5432).into()) };
        let socket =
            SharedSocket::new(TimedSocket::new(Socket::from(TcpStream::connect(local).unwrap())), by);
        let password = Secret::new("c4nary-secret".into());
        let mut config = Config::new();
        config.user("exporter");
        // The scripted server hangs up after the password, if not before: no login succeeds.
        let by = if mode == TlsMode::Disable { Deadline::within(Duration::from_millis(300)) } else { by };
        let entered = log_in(Stream::plain(socket), &route, &config, mode, Some(&password), by);
        (entered.err().unwrap(), server.join().unwrap())
    }

    #[test]
    fn a_password_never_travels_in_clear_text_unless_that_is_written() {
        let leaks = |heard: &[u8]| heard.windows(13).any(|part| part == b"c4nary-secret");
        let (error, bytes) = heard([192, 0, 2, 1], TlsMode::Prefer);
        assert_eq!(error.reason(), Reason::Auth);
        assert_eq!(error.hint(), Some("set tls.mode: require, or mode: disable to allow it"));
        assert!(!leaks(&bytes));
        assert!(leaks(&heard([192, 0, 2, 1], TlsMode::Disable).1));
    }
}
