//! From an address to an entered session: connect, encrypt, log in. Each step ends by the deadline.
//!
//! tokio-postgres does the login itself (startup, SCRAM with channel binding, MD5) on a [`Shared`] stream that we take
//! back afterwards. What it leaves to others is here: TLS modes, and refusing to send a password in clear text.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::Socket;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{CancelToken, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::deadline::Deadline;
use crate::driver::TlsState;
use crate::driver::login::HostPort;
use crate::driver::net;
use crate::driver::tls::{Mode, Tls};
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::errors::ServerError;
use super::stream::{Done, Shared, Stream, Wire, drive};

/// Where a server listens.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Over TCP.
    Host(HostPort),
    /// A Unix socket: its own path.
    Unix(PathBuf),
}

impl Place {
    /// For messages: `db.example:5432`, or the socket's path.
    pub(super) fn shown(&self) -> String {
        match self {
            Place::Host(HostPort { host, port }) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Host(HostPort { host, port }) => format!("{host}:{port}"),
            Place::Unix(path) => path.display().to_string(),
        }
    }

    /// The socket's path in PostgreSQL's socket folder.
    pub(super) fn in_folder(folder: &Path, port: u16) -> Self {
        Place::Unix(folder.join(format!(".s.PGSQL.{port}")))
    }

    fn host(&self) -> &str {
        match self {
            Place::Host(HostPort { host, .. }) => host,
            Place::Unix(_) => "",
        }
    }
}

/// A server that was reached once: the very address, so that a cancel meets the same one.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// What was configured.
    pub(super) place: Place,
    peer: Option<SocketAddr>,
}

impl Route {
    /// Connects to a place for the first time.
    pub(super) fn find(place: &Place, by: Deadline) -> Result<(Route, Wire)> {
        let (peer, wire) = match place {
            Place::Host(HostPort { host, port }) => {
                let stream = net::connect(host, *port, by)?;
                (stream.peer_addr().ok(), Wire::new(Socket::from(stream), by))
            }
            Place::Unix(path) => (None, Wire::to_unix(path, by).map_err(|error| unreachable(place, &error))?),
        };
        Ok((Route { place: place.clone(), peer }, wire))
    }

    /// Connects to the same address again.
    pub(super) fn again(&self, by: Deadline) -> Result<Wire> {
        match (&self.place, self.peer) {
            (Place::Host(_), Some(peer)) => {
                let stream = net::connect_to(peer, by).map_err(|error| unreachable(&self.place, &error))?;
                Ok(Wire::new(Socket::from(stream), by))
            }
            _ => Route::find(&self.place, by).map(|(_, wire)| wire),
        }
    }

    fn is_local(&self) -> bool {
        self.peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// What `target_info` says of the way.
    pub(super) fn tls_state(&self, stream: &Stream, tls: &Tls) -> TlsState {
        match &self.place {
            _ if stream.is_encrypted() => tls.state(),
            Place::Unix(_) => TlsState::Local,
            Place::Host(_) => TlsState::Plain,
        }
    }

    /// Encrypts as far as `mode` demands and the server offers.
    ///
    /// # Errors
    /// `tls`, `timeout`, `connect`; `protocol` when this is no PostgreSQL.
    pub(super) fn secure(&self, wire: Wire, tls: &Tls, mode: Mode, by: Deadline) -> Result<Stream> {
        if mode == Mode::Disable || matches!(self.place, Place::Unix(_)) {
            return Ok(Stream::plain(wire));
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
            [b'S'] => {
                let connector = MakeRustlsConnect::new(tls.client_config()?);
                let name = tls.server_name.as_deref().unwrap_or(self.place.host());
                Stream::encrypted(wire, connector, name, by).map_err(|error| handshake(&self.place, &error))
            }
            [b'N'] if mode == Mode::Prefer => Ok(Stream::plain(wire)),
            [b'N'] => Err(Error::new(Reason::Tls, format!("{shown} does not offer TLS"))
                .with_hint("enable ssl in the server, or set tls.mode: prefer")),
            _ => Err(Error::new(Reason::Protocol, format!("{shown} does not speak PostgreSQL's protocol"))),
        }
    }
}

fn unreachable(place: &Place, error: &io::Error) -> Error {
    let shown = place.shown();
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::new(Reason::Timeout, format!("connect to {shown}: no answer in time"))
        }
        _ => Error::new(Reason::Connect, format!("connect to {shown}: {error}")),
    }
}

fn handshake(place: &Place, error: &io::Error) -> Error {
    let shown = place.shown();
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::new(Reason::Timeout, format!("TLS handshake with {shown}: no answer in time"))
        }
        _ => Error::new(Reason::Tls, format!("TLS handshake with {shown}: {error}")),
    }
}

/// A session right after its login.
pub(super) struct Entered {
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
    route: &Route,
    config: &Config,
    mode: Mode,
    password: Option<&Secret>,
    by: Deadline,
) -> Result<Entered> {
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
    let shared = Shared::new(stream);
    let place = &route.place;
    let (client, connection) = drive(&wire, by, config.connect_raw(shared.clone(), Done))
        .map_err(|error| broken(place, &error))?
        .map_err(|error| refused(place, &error))?;
    let token = client.cancel_token();
    let version = connection.parameter("server_version").unwrap_or_default().to_owned();
    drop((client, connection));
    let stream =
        shared.into_stream().ok_or_else(|| Error::new(Reason::Panic, "the login kept its stream"))?;
    Ok(Entered { stream, token, version })
}

fn clear_text(password: &Secret) -> Result<Vec<u8>> {
    let mut message = BytesMut::new();
    frontend::password_message(password.expose().as_bytes(), &mut message)
        .map_err(|error| Error::new(Reason::Auth, format!("the password cannot be sent: {error}")))?;
    Ok(message.to_vec())
}

/// A failed login as tokio-postgres tells it.
fn refused(place: &Place, error: &tokio_postgres::Error) -> Error {
    let shown = place.shown();
    if let Some(error) = error.as_db_error() {
        return ServerError::from(error).of_login(&shown);
    }
    match error.source() {
        Some(source) => match source.downcast_ref::<io::Error>() {
            Some(error) => broken(place, error),
            None => Error::new(Reason::Auth, format!("login to {shown}: {source}")),
        },
        None if error.is_closed() => {
            Error::new(Reason::Connect, format!("login to {shown}: the server closed the connection"))
        }
        None => Error::new(Reason::Protocol, format!("login to {shown}: {error}")),
    }
}

/// A login that ended in the socket or in TLS.
fn broken(place: &Place, error: &io::Error) -> Error {
    let shown = place.shown();
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Error::new(Reason::Timeout, format!("login to {shown}: no answer in time"))
        }
        io::ErrorKind::PermissionDenied => {
            let message = format!("{shown} asks for the password in clear text on an unencrypted connection");
            Error::new(Reason::Auth, message).with_hint("set tls.mode: require, or mode: disable to allow it")
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
        let place = Place::Host(HostPort { host: "db.example".into(), port: 5432 });
        let route = Route { place, peer: Some((peer, 5432).into()) };
        let wire = Wire::new(Socket::from(TcpStream::connect(address).unwrap()), by);
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
