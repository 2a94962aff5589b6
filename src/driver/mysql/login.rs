//! One login: options, addresses, TLS and what is set up on each new connection, all bounded by a deadline.
//!
//! The `mysql` crate blocks in its own name lookup, connect, TLS and authentication and shows no socket until it is
//! through. So a login runs on a thread of its own; at the deadline it is left alone. Such a thread ends with
//! [`LONGEST_SILENCE`] at the latest; while there is one, the server must greet a connection of our own before the
//! next login begins, so that a silent server does not collect threads.
//!
//! TLS is the crate's, with the modes as `driver::tls` means them: without `ca` it trusts the Mozilla roots inside it
//! (not the system's), and with `ca` it trusts both, so that `verify-ca` also accepts a certificate that any public
//! authority signed.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use mysql::{ClientIdentity, Conn, OptsBuilder, SslOpts};
use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::driver::login::{HostPort, Login};
use crate::driver::refused::Refused;
use crate::driver::tls::Mode;
use crate::driver::{TlsState, net};
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::errors::Fault;

/// The crate's timeout of one read or write, set once per connection. Deadlines are the watchdog's: this one ends
/// a login that was left alone, and is above any query that a scrape waits for.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// Logins of one target that may be under way, those that were left alone included.
const LOGINS_AT_ONCE: usize = 32;

/// Prepared statements kept per session; more than any configuration has queries for one target.
pub(super) const STATEMENTS: usize = 4096;

/// What MySQL's protocol allows a row to be at most.
const LARGEST_ROW: usize = 1 << 30;

/// One configured server, and the logins to it that are under way.
pub(super) struct Server {
    pub(super) login: Login,
    pub(super) refused: Refused,
    under_way: Mutex<Vec<(u64, Deadline)>>,
    begun: AtomicU64,
}

/// Where one attempt goes: an address or name, the port, and the address family if a name must be kept.
struct Address {
    host: String,
    port: u16,
    family: Option<IpAddr>,
}

impl Server {
    pub(super) fn new(login: Login) -> Self {
        Server { login, refused: Refused::default(), under_way: Mutex::default(), begun: AtomicU64::new(0) }
    }

    /// Logs in and does `work` with the connection, on a thread of its own, at most until `by`.
    ///
    /// # Errors
    /// `timeout` when it is not through by then, and whatever the login or `work` reports.
    pub(super) fn with_connection<T: Send + 'static>(
        self: &Arc<Self>,
        by: Deadline,
        work: impl FnOnce(Conn, TlsState) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let by = by.or_within(self.login.connect_timeout);
        let allowed = by.left().as_millis();
        if self.has_left_logins_alone() && !self.greets(by) {
            return Err(Error::new(Reason::Timeout, format!("no greeting within {allowed} ms, as before")));
        }
        let ticket = Ticket::of(self, by)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let login = move || {
            let entered = ticket.server.enter(by);
            let done = entered.and_then(|(conn, tls)| work(conn, tls).map_err(Fault::at_login));
            // Nobody listens after the deadline; a connection that comes late is closed here.
            let _ = sender.send(done);
        };
        std::thread::Builder::new()
            .name("mysql-login".to_owned())
            .spawn(login)
            .map_err(|error| Error::machine(format!("cannot start a thread: {error}")))?;
        receiver.recv_timeout(by.left()).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => {
                Error::new(Reason::Timeout, format!("the login did not end within {allowed} ms"))
            }
            // The crate panics on an empty message.
            mpsc::RecvTimeoutError::Disconnected => {
                Error::new(Reason::Protocol, "the server sent what the driver cannot read")
            }
        })?
    }

    /// True while a login whose deadline has passed holds its thread: the crate gives no way to end it.
    fn has_left_logins_alone(&self) -> bool {
        self.under_way.lock().iter().any(|(_, by)| by.passed())
    }

    /// Whether any host says something, or refuses, on a connection of our own: else another login would only hold
    /// another thread. A server counts such a connection as aborted, so it is made in this case only.
    fn greets(&self, by: Deadline) -> bool {
        if self.login.socket.is_some() {
            return true;
        }
        self.login.hosts.iter().any(|host| match net::connect(&host.host, host.port, by) {
            Ok(mut stream) => {
                let left = by.socket_timeout();
                left.is_some() && stream.set_read_timeout(left).is_ok() && stream.read(&mut [0]).is_ok()
            }
            Err(error) => error.reason() != Reason::Timeout,
        })
    }

    fn enter(&self, by: Deadline) -> Result<(Conn, TlsState)> {
        self.refused.enter(&self.login.password, by, |password| self.connect(password, by))
    }

    fn connect(&self, password: Option<&Secret>, by: Deadline) -> Result<(Conn, TlsState)> {
        if let Some(socket) = &self.login.socket {
            let opts = self.options(password).socket(Some(socket.to_string_lossy()));
            let conn = Conn::new(opts.enable_cleartext_plugin(true)).map_err(at_login)?;
            return Ok((conn, TlsState::Local));
        }
        let tls = &self.login.tls;
        if tls.mode != Mode::Disable && (tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some()) {
            // The crate reads the files itself, and its errors name none.
            tls.client_config()?;
        }
        let mut last = Error::new(Reason::Connect, "no host is configured");
        let mut addresses = Vec::new();
        for host in &self.login.hosts {
            match self.addresses(host, by) {
                Ok(found) => addresses.extend(found),
                Err(error) => last = error,
            }
        }
        for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
            // A host that swallows packets leaves the others their share.
            let patience = by.left() / u32::try_from(left).unwrap_or(u32::MAX);
            match self.connect_to(address, password, patience) {
                Err(error) if matches!(error.reason(), Reason::Connect | Reason::Timeout) => last = error,
                done => return done,
            }
        }
        Err(last)
    }

    /// The crate tries only the first address of a name, so it is given addresses; but a name that a certificate is
    /// checked for must stay: then it is told the family, and tries all addresses of that one.
    fn addresses(&self, host: &HostPort, by: Deadline) -> Result<Vec<Address>> {
        let address = |host: String, port, family| Address { host, port, family };
        let found = net::resolve(&host.host, host.port, by)?;
        if self.login.tls.mode < Mode::VerifyFull || host.host.parse::<IpAddr>().is_ok() {
            return Ok(found.iter().map(|at| address(at.ip().to_string(), host.port, None)).collect());
        }
        let mut families: Vec<IpAddr> = Vec::new();
        for at in found {
            let family =
                if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            if !families.contains(&family) {
                families.push(family);
            }
        }
        Ok(families.into_iter().map(|family| address(host.host.clone(), host.port, Some(family))).collect())
    }

    fn connect_to(
        &self,
        address: &Address,
        password: Option<&Secret>,
        patience: Duration,
    ) -> Result<(Conn, TlsState)> {
        let mode = self.login.tls.mode;
        let options = |encrypted: bool| {
            self.options(password)
                .tcp_connect_timeout(Some(patience.max(Duration::from_millis(1))))
                .ip_or_hostname(Some(&address.host))
                .tcp_port(address.port)
                .bind_address(address.family.map(|ip| SocketAddr::new(ip, 0)))
                .enable_cleartext_plugin(encrypted || mode == Mode::Disable || is_local(&address.host))
        };
        if mode != Mode::Disable {
            match Conn::new(options(true).ssl_opts(self.tls_options())) {
                Ok(conn) => return Ok((conn, self.login.tls.state())),
                // Only a server that offers no TLS may be spoken to in plain text, not one whose TLS fails.
                Err(mysql::Error::DriverError(mysql::DriverError::TlsNotSupported))
                    if mode == Mode::Prefer => {}
                Err(error) => return Err(at_login(error)),
            }
        }
        Conn::new(options(false)).map(|conn| (conn, TlsState::Plain)).map_err(at_login)
    }

    fn options(&self, password: Option<&Secret>) -> OptsBuilder {
        OptsBuilder::new()
            .user(self.login.username.as_deref())
            .pass(password.map(Secret::expose))
            .db_name(self.login.database.as_deref())
            // It silently left TCP, and with it every proxy and the configured port.
            .prefer_socket(false)
            .read_timeout(Some(LONGEST_SILENCE))
            .write_timeout(Some(LONGEST_SILENCE))
            .tcp_keepalive_time_ms(Some(10_000))
            .tcp_keepalive_probe_interval_secs(Some(3))
            .tcp_keepalive_probe_count(Some(3))
            .tcp_user_timeout_ms(Some(15_000))
            .stmt_cache_size(STATEMENTS)
            // Ours to receive: the server's own limit holds anyway, and asking for it costs a round trip.
            .max_allowed_packet(Some(LARGEST_ROW))
    }

    fn tls_options(&self) -> SslOpts {
        let tls = &self.login.tls;
        let identity =
            tls.cert.clone().zip(tls.key.clone()).map(|(cert, key)| ClientIdentity::new(cert, key));
        SslOpts::default()
            .with_root_cert_path(tls.ca.clone())
            .with_client_identity(identity)
            .with_danger_accept_invalid_certs(tls.state() != TlsState::Verified)
            .with_danger_skip_domain_validation(tls.mode < Mode::VerifyFull)
    }
}

/// One login under way.
struct Ticket {
    server: Arc<Server>,
    number: u64,
}

impl Ticket {
    fn of(server: &Arc<Server>, by: Deadline) -> Result<Self> {
        let mut under_way = server.under_way.lock();
        if under_way.len() >= LOGINS_AT_ONCE {
            let message = format!("{LOGINS_AT_ONCE} earlier logins have not ended");
            return Err(Error::new(Reason::Timeout, message));
        }
        let number = server.begun.fetch_add(1, Ordering::Relaxed);
        under_way.push((number, by));
        Ok(Ticket { server: Arc::clone(server), number })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.server.under_way.lock().retain(|(number, _)| *number != self.number);
    }
}

/// True where nobody else can listen to plain text.
fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn at_login(error: mysql::Error) -> Error {
    Fault::from(error).at_login()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_where_nobody_can_listen() {
        for (host, local) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_local(host), local, "{host}");
        }
    }
}
