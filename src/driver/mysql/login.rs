//! One login: options, addresses, TLS and what is set up on each new connection, all bounded by a deadline.
//!
//! The `mysql` crate blocks in its own name lookup, connect, TLS and authentication and shows no socket until it is
//! through. So a login runs on a thread of its own; at the deadline it is left alone. Such a thread ends with
//! [`LONGEST_SILENCE`] at the latest, and a target has at most [`LOGINS_AT_ONCE`].
//!
//! TLS is the crate's: without `ca` it trusts the Mozilla roots inside it (not the system's), and with `ca` it trusts
//! both, so that `verify-ca` also accepts a certificate that any public authority signed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use mysql::{ClientIdentity, Conn, OptsBuilder, SslOpts};

use crate::deadline::Deadline;
use crate::driver::login::{HostPort, Login};
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
const STATEMENTS: usize = 4096;

/// One configured server, and how many logins to it are under way.
pub(super) struct Server {
    pub(super) login: Login,
    under_way: AtomicUsize,
}

/// Where one attempt goes: an address or name, the port, and the address family if a name must be kept.
struct Address {
    host: String,
    port: u16,
    family: Option<IpAddr>,
}

impl Server {
    pub(super) fn new(login: Login) -> Self {
        Server { login, under_way: AtomicUsize::new(0) }
    }

    /// Logs in and does `work` with the connection, on a thread of its own, at most until `by`.
    ///
    /// # Errors
    /// `timeout` when it is not through by then, and whatever the login or `work` reports.
    pub(super) fn with_connection<T: Send + 'static>(
        self: &Arc<Self>,
        by: Deadline,
        work: impl FnOnce(Conn, TlsState) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let by = by.or_within(self.login.connect_timeout);
        let password = self.login.password.read(by)?;
        let ticket = Ticket::of(self)?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let login = move || {
            let done = ticket.0.connect(password.as_ref(), by).and_then(|(conn, tls)| work(conn, tls));
            // Nobody listens after the deadline; a connection that comes late is closed here.
            let _ = sender.send(done);
            drop(ticket);
        };
        std::thread::Builder::new()
            .name("mysql-login".to_owned())
            .spawn(login)
            .map_err(|error| Error::machine(format!("cannot start a thread: {error}")))?;
        receiver.recv_timeout(by.left()).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => Error::new(Reason::Timeout, "the login did not end in time"),
            mpsc::RecvTimeoutError::Disconnected => Error::new(Reason::Panic, "the login broke off"),
        })?
    }

    fn connect(&self, password: Option<&Secret>, by: Deadline) -> Result<(Conn, TlsState)> {
        if let Some(socket) = &self.login.socket {
            let opts = self.options(password, by).socket(Some(socket.to_string_lossy()));
            let conn = Conn::new(opts.enable_cleartext_plugin(true)).map_err(at_login)?;
            return Ok((conn, TlsState::Local));
        }
        self.check_files()?;
        let mut last = Error::new(Reason::Connect, "no host is configured");
        for host in &self.login.hosts {
            for address in self.addresses(host, by)? {
                match self.connect_to(&address, password, by) {
                    Err(error) if error.reason() == Reason::Connect => last = error,
                    done => return done,
                }
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
        by: Deadline,
    ) -> Result<(Conn, TlsState)> {
        let local =
            address.host == "localhost" || address.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let mode = self.login.tls.mode;
        let options = |encrypted: bool| {
            self.options(password, by)
                .ip_or_hostname(Some(&address.host))
                .tcp_port(address.port)
                .bind_address(address.family.map(|ip| SocketAddr::new(ip, 0)))
                .enable_cleartext_plugin(encrypted || local || mode == Mode::Disable)
        };
        if mode != Mode::Disable {
            match Conn::new(options(true).ssl_opts(self.tls_options())) {
                Ok(conn) if mode >= Mode::VerifyCa => return Ok((conn, TlsState::Verified)),
                Ok(conn) => return Ok((conn, TlsState::Encrypted)),
                // Only a server that offers no TLS may be spoken to in plain text, not one whose TLS fails.
                Err(mysql::Error::DriverError(mysql::DriverError::TlsNotSupported))
                    if mode == Mode::Prefer => {}
                Err(error) => return Err(at_login(error)),
            }
        }
        Conn::new(options(false)).map(|conn| (conn, TlsState::Plain)).map_err(at_login)
    }

    fn options(&self, password: Option<&Secret>, by: Deadline) -> OptsBuilder {
        OptsBuilder::new()
            .user(self.login.username.as_deref())
            .pass(password.map(Secret::expose))
            .db_name(self.login.database.as_deref())
            // It silently left TCP, and with it every proxy and the configured port.
            .prefer_socket(false)
            .tcp_connect_timeout(Some(by.left().max(Duration::from_millis(1))))
            .read_timeout(Some(LONGEST_SILENCE))
            .write_timeout(Some(LONGEST_SILENCE))
            .tcp_keepalive_time_ms(Some(10_000))
            .tcp_keepalive_probe_interval_secs(Some(3))
            .tcp_keepalive_probe_count(Some(3))
            .tcp_user_timeout_ms(Some(15_000))
            .stmt_cache_size(STATEMENTS)
    }

    fn tls_options(&self) -> SslOpts {
        let tls = &self.login.tls;
        let identity =
            tls.cert.clone().zip(tls.key.clone()).map(|(cert, key)| ClientIdentity::new(cert, key));
        SslOpts::default()
            .with_root_cert_path(tls.ca.clone())
            .with_client_identity(identity)
            .with_danger_accept_invalid_certs(tls.mode < Mode::VerifyCa)
            .with_danger_skip_domain_validation(tls.mode < Mode::VerifyFull)
    }

    /// Names a file that cannot be read; the crate's error does not.
    fn check_files(&self) -> Result<()> {
        let tls = &self.login.tls;
        let files: [Option<&Path>; 3] = [tls.ca.as_deref(), tls.cert.as_deref(), tls.key.as_deref()];
        for file in files.into_iter().flatten().filter(|_| tls.mode != Mode::Disable) {
            std::fs::File::open(file).map_err(|error| {
                Error::new(Reason::Tls, format!("cannot read {}: {error}", file.display()))
            })?;
        }
        Ok(())
    }
}

/// One login under way.
struct Ticket(Arc<Server>);

impl Ticket {
    fn of(server: &Arc<Server>) -> Result<Self> {
        let ticket = Ticket(Arc::clone(server));
        if server.under_way.fetch_add(1, Ordering::Relaxed) < LOGINS_AT_ONCE {
            return Ok(ticket);
        }
        Err(Error::new(Reason::Timeout, format!("{LOGINS_AT_ONCE} earlier logins have not ended")))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A login's failure: a connection that breaks there never was one.
fn at_login(error: mysql::Error) -> Error {
    let error = Fault::from(error).error;
    let reason = match error.reason() {
        Reason::Lost => Reason::Connect,
        Reason::Sql => Reason::Server,
        reason => reason,
    };
    let state = error.sqlstate().map(str::to_owned);
    let hint = error.hint().map(str::to_owned);
    let error = Error::new(reason, error.message());
    let error = state.into_iter().fold(error, Error::with_sqlstate);
    hint.into_iter().fold(error, Error::with_hint)
}
