//! From an address to an entered session: connect, encrypt, log in. Each step ends by the deadline.
//!
//! tokio-postgres does the login itself (startup, SCRAM with channel binding, MD5) on a [`SharedStream`] stream that we take
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
use crate::driver::TlsState;
use crate::driver::bounded_text;
use crate::driver::connection::HostPort;
use crate::driver::connection::resolve;
use crate::driver::connection::socket::TimedSocket;
use crate::driver::connection::tls;
use crate::driver::connection::tls::{Mode, Tls};
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::errors::ServerError;
use super::options::KeepaliveOptions;
use super::stream::{AlreadyEncrypted, SharedSocket, SharedStream, Stream, drive};

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
    /// What its connections have that others have not.
    pub(super) liveness: KeepaliveOptions,
}

/// What a connection is encrypted by.
#[derive(Debug, Clone)]
pub(super) struct Encryption {
    pub(super) tls: Tls,
    /// TLS from the first byte on (`sslnegotiation`).
    pub(super) direct: bool,
    /// The host's name is told in clear text.
    pub(super) sni: bool,
}

/// What a server of PostgreSQL 17 or later, and only such a one, is asked for in the handshake.
const PROTOCOL: &[u8] = b"postgresql";

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
        ServerAddress::Unix { path: folder.join(format!(".s.PGSQL.{port}")), folder: folder.to_owned(), port }
    }
}

/// A server that was reached once: the very address, so that a cancel meets the same one.
#[derive(Debug, Clone)]
pub(super) struct ServerRoute {
    /// What was configured.
    pub(super) place: ServerAddress,
    peer: Option<SocketAddr>,
}

impl ServerRoute {
    /// Connects to a place for the first time.
    pub(super) fn find(place: &ServerAddress, by: Deadline) -> Result<(ServerRoute, SharedSocket)> {
        let (peer, wire) = match place {
            ServerAddress::Host(TcpHost { name, address, liveness }) => {
                let at = address.map_or_else(|| name.host.clone(), |address| address.to_string());
                let stream = resolve::connect(&at, name.port, by)?;
                let peer = stream.peer_addr().ok();
                let socket = Socket::from(stream);
                liveness.apply(&socket).map_err(|error| unreachable(place, &error))?;
                (peer, SharedSocket::new(TimedSocket::new(socket), by))
            }
            ServerAddress::Unix { path, .. } => {
                (None, SharedSocket::to_unix(path, by).map_err(|error| unreachable(place, &error))?)
            }
        };
        Ok((ServerRoute { place: place.clone(), peer }, wire))
    }

    /// Connects to the same address again.
    pub(super) fn again(&self, by: Deadline) -> Result<SharedSocket> {
        match (&self.place, self.peer) {
            (ServerAddress::Host(_), Some(peer)) => {
                let stream =
                    resolve::connect_to(peer, by).map_err(|error| unreachable(&self.place, &error))?;
                Ok(SharedSocket::new(TimedSocket::new(Socket::from(stream)), by))
            }
            _ => ServerRoute::find(&self.place, by).map(|(_, wire)| wire),
        }
    }

    fn is_local(&self) -> bool {
        self.peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// What `target_info` says of the way.
    pub(super) fn tls_state(&self, stream: &Stream, tls: &Tls) -> TlsState {
        match &self.place {
            _ if stream.is_encrypted() => tls.state(),
            ServerAddress::Unix { .. } => TlsState::Local,
            ServerAddress::Host(_) => TlsState::Plain,
        }
    }

    /// Encrypts as far as `mode` demands and the server offers. What is offered and then fails is an error, also where
    /// encryption is only preferred: nobody would notice the plain text.
    ///
    /// # Errors
    /// `tls`, `timeout`, `connect`; `protocol` when this is no PostgreSQL.
    pub(super) fn secure(
        &self,
        wire: SharedSocket,
        encryption: &Encryption,
        mode: Mode,
        by: Deadline,
    ) -> Result<Stream> {
        let ServerAddress::Host(TcpHost { name, .. }) = &self.place else { return Ok(Stream::plain(wire)) };
        if mode == Mode::Disable {
            return Ok(Stream::plain(wire));
        }
        if encryption.direct {
            return self.shake_hands(wire, encryption, &name.host, by);
        }
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        let mut answer = [0];
        let count = wire
            .write_now(&request)
            .and_then(|_| wire.read_now(&mut answer))
            .map_err(|error| unreachable(&self.place, &error))?;
        let shown = self.place.shown();
        match answer {
            _ if count == 0 => Err(Error::new(Reason::Connect, format!("{shown} closed the connection"))),
            [b'S'] => self.shake_hands(wire, encryption, &name.host, by),
            [b'N'] if mode == Mode::Prefer => Ok(Stream::plain(wire)),
            [b'N'] => Err(Error::new(Reason::Tls, format!("{shown} does not offer TLS"))
                .with_hint("enable ssl in the server, or set tls.mode: prefer")),
            _ => Err(Error::new(Reason::Protocol, format!("{shown} does not speak PostgreSQL's protocol"))),
        }
    }

    fn shake_hands(
        &self,
        wire: SharedSocket,
        encryption: &Encryption,
        host: &str,
        by: Deadline,
    ) -> Result<Stream> {
        let tls = &encryption.tls;
        let mut config = tls.client_config()?;
        config.enable_sni = encryption.sni;
        if encryption.direct {
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
        }
        // What is no name for a certificate, as an address with its interface, serves where nobody verifies it.
        let is_odd = ServerName::try_from(host).is_err() && tls.state() == TlsState::Encrypted;
        let address = self.peer.filter(|_| is_odd).map(|peer| peer.ip().to_canonical().to_string());
        let name = tls.server_name.as_deref().or(address.as_deref()).unwrap_or(host);
        Stream::encrypted(wire, MakeRustlsConnect::new(config), name, by).map_err(|error| {
            let failed = handshake(&self.place, &error);
            let is_cut = error.kind() == io::ErrorKind::UnexpectedEof
                || error.kind() == io::ErrorKind::ConnectionReset;
            match encryption.direct && is_cut {
                true => {
                    failed.with_hint("sslnegotiation=direct needs PostgreSQL 17 or later: else leave it out")
                }
                false => failed,
            }
        })
    }
}

fn unreachable(place: &ServerAddress, error: &io::Error) -> Error {
    let shown = place.shown();
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::new(Reason::Timeout, format!("connect to {shown}: no answer in time"))
        }
        _ => Error::new(Reason::Connect, format!("connect to {shown}: {error}")),
    }
}

fn handshake(place: &ServerAddress, error: &io::Error) -> Error {
    let shown = place.shown();
    match error.kind() {
        io::ErrorKind::TimedOut => {
            return Error::new(Reason::Timeout, format!("TLS handshake with {shown}: no answer in time"));
        }
        io::ErrorKind::QuotaExceeded => return endless(place),
        _ => {}
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (said, hint) = inner.map_or_else(|| (error.to_string(), None), tls::explain);
    let error = Error::new(Reason::Tls, format!("TLS handshake with {shown}: {said}"));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The server sent more than a login needs.
fn endless(place: &ServerAddress) -> Error {
    let message = format!("login to {}: the server sent more than 1 MiB before it let us in", place.shown());
    Error::new(Reason::Limit, message)
        .with_hint("this is no PostgreSQL server that works: check host and port")
}

/// A session right after its login.
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
    mode: Mode,
    password: Option<&Secret>,
    by: Deadline,
) -> Result<LoggedIn> {
    let wire = stream.wire().clone();
    let mut config = config.clone();
    if let Some(password) = password {
        config.password(password.expose());
        if mode != Mode::Disable && !stream.is_encrypted() && !route.is_local() {
            wire.forbid(clear_text(password)?);
        }
    }
    // The stream is encrypted already where it will be: `Done` says so, and nothing is asked of the server again.
    config.ssl_negotiation(SslNegotiation::Direct);
    config.ssl_mode(if stream.is_encrypted() { SslMode::Require } else { SslMode::Disable });
    let encrypted = stream.is_encrypted();
    let shared = SharedStream::new(stream);
    let place = &route.place;
    let (client, connection) = drive(&wire, by, config.connect_raw(shared.clone(), AlreadyEncrypted))
        .map_err(|error| broken(place, &error))?
        .map_err(|error| refused(place, &error, encrypted))?;
    let token = client.cancel_token();
    let version =
        bounded_text::cut(connection.parameter("server_version").unwrap_or_default(), bounded_text::NAME);
    drop((client, connection));
    let stream =
        shared.into_stream().ok_or_else(|| Error::new(Reason::Panic, "the login kept its stream"))?;
    Ok(LoggedIn { stream, token, version })
}

fn clear_text(password: &Secret) -> Result<Vec<u8>> {
    let mut message = BytesMut::new();
    frontend::password_message(password.expose().as_bytes(), &mut message)
        .map_err(|error| Error::new(Reason::Auth, format!("the password cannot be sent: {error}")))?;
    Ok(message.to_vec())
}

/// A failed login as tokio-postgres tells it.
fn refused(place: &ServerAddress, error: &tokio_postgres::Error, encrypted: bool) -> Error {
    let shown = place.shown();
    if let Some(error) = error.as_db_error() {
        return ServerError::from(error).of_login(&shown, encrypted);
    }
    match error.source() {
        Some(source) => match source.downcast_ref::<io::Error>() {
            Some(error) => broken(place, error),
            None => before_the_password(&source.to_string(), &shown),
        },
        None if error.is_closed() => {
            Error::new(Reason::Connect, format!("login to {shown}: the server closed the connection"))
        }
        None => Error::new(Reason::Protocol, format!("login to {shown}: {error}")),
    }
}

/// A login that our side ended: no password, no method in common, no channel to bind to.
fn before_the_password(said: &str, shown: &str) -> Error {
    let error = Error::new(Reason::Auth, format!("login to {shown}: {said}"));
    match said {
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

/// A login that ended in the socket or in TLS.
fn broken(place: &ServerAddress, error: &io::Error) -> Error {
    let shown = place.shown();
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::new(Reason::Timeout, format!("login to {shown}: no answer in time"))
        }
        io::ErrorKind::QuotaExceeded => endless(place),
        io::ErrorKind::PermissionDenied => {
            let message = format!("{shown} asks for the password in clear text on an unencrypted connection");
            Error::new(Reason::Auth, message)
                .with_hint("set tls.mode: require, or mode: disable to allow it")
                .with_meaning("the server asks for the password in clear text, and others could read it")
                .before_password()
        }
        _ if is_tls => handshake(place, error),
        _ => Error::new(Reason::Connect, format!("login to {shown}: {error}")),
    }
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

    fn heard(peer: [u8; 4], mode: Mode) -> (Error, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || curious(&listener));
        let by = Deadline::within(Duration::from_secs(10));
        let name = HostPort { host: "db.example".into(), port: 5432 };
        let place =
            ServerAddress::Host(TcpHost { name, address: None, liveness: KeepaliveOptions::default() });
        let route = ServerRoute { place, peer: Some((peer, 5432).into()) };
        let wire =
            SharedSocket::new(TimedSocket::new(Socket::from(TcpStream::connect(address).unwrap())), by);
        let password = Secret::new("c4nary-secret".into());
        let mut config = Config::new();
        config.user("exporter");
        // The scripted server hangs up after the password, if not before: no login succeeds.
        let by = if mode == Mode::Disable { Deadline::within(Duration::from_millis(300)) } else { by };
        let entered = log_in(Stream::plain(wire), &route, &config, mode, Some(&password), by);
        (entered.err().unwrap(), server.join().unwrap())
    }

    #[test]
    fn a_password_never_travels_in_clear_text_unless_that_is_written() {
        let leaks = |heard: &[u8]| heard.windows(13).any(|part| part == b"c4nary-secret");
        let (error, bytes) = heard([192, 0, 2, 1], Mode::Prefer);
        assert_eq!(error.reason(), Reason::Auth);
        assert_eq!(error.hint(), Some("set tls.mode: require, or mode: disable to allow it"));
        assert!(!leaks(&bytes));
        assert!(leaks(&heard([192, 0, 2, 1], Mode::Disable).1));
    }
}
