//! Names to addresses and a TCP connection, both under a deadline.
//!
//! Owns the threads that resolve names: the system's resolver cannot be given a deadline. Knows no protocol.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use socket2::{SockRef, TcpKeepalive};

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

/// How many names are resolved at once in this process: a resolver that hangs must not cost a thread per scrape.
const MAX_LOOKUPS: usize = 64;

/// How many lookups of one name: those that hang must not keep the first one after the resolver's recovery waiting. Few are
/// tried while the resolver is silent: each is a connect that ran out of time, after which a target backs off.
const MAX_LOOKUPS_OF_A_NAME: usize = 6;

/// Lookups under way, by name. One for the process, as the resolver is.
static LOOKUPS: Lookups = Lookups { running: Mutex::new(Vec::new()), freed: Condvar::new() };

struct Lookups {
    running: Mutex<Vec<String>>,
    freed: Condvar,
}

/// One of the [`MAX_LOOKUPS`] and of the [`MAX_LOOKUPS_OF_A_NAME`], so that a name whose servers are silent does not keep
/// others from being resolved; the thread that holds it returns it, however late that is.
struct Permit(String);

impl Permit {
    fn wait(name: &str, by: Deadline) -> Option<Permit> {
        let mut running = LOOKUPS.running.lock();
        let of_name = |running: &[String]| running.iter().filter(|other| *other == name).count();
        while running.len() >= MAX_LOOKUPS || of_name(&running) >= MAX_LOOKUPS_OF_A_NAME {
            if LOOKUPS.freed.wait_until(&mut running, by.moment()).timed_out() {
                return None;
            }
        }
        running.push(name.to_owned());
        Some(Permit(name.to_owned()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = LOOKUPS.running.lock();
        if let Some(place) = running.iter().position(|name| *name == self.0) {
            running.swap_remove(place);
        }
        drop(running);
        LOOKUPS.freed.notify_all();
    }
}

/// Resolves `host` on a bounded set of threads; addresses in the resolver's order. An IP address needs no thread.
///
/// # Errors
/// `resolve`, when there is no address; `timeout`, when there is no answer by then.
pub fn resolve(host: &str, port: u16, by: Deadline) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let late = || Error::new(Reason::Timeout, format!("host {host}: the resolver did not answer in time"));
    let permit = Permit::wait(host, by).ok_or_else(late)?;
    let (answer, answered) = mpsc::channel();
    let name = host.to_owned();
    std::thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
            drop(permit);
            // Nobody receives it when the deadline has passed.
            let _ = answer.send(found);
        })
        .map_err(|error| {
            Error::new(Reason::Resolve, format!("host {host}: no thread to resolve it: {error}"))
        })?;
    match answered.recv_timeout(by.left()) {
        Ok(Ok(found)) if found.is_empty() => {
            Err(Error::new(Reason::Resolve, format!("host {host} has no address")))
        }
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Error::new(Reason::Resolve, format!("host {host}: {error}"))),
        Err(_) => Err(late()),
    }
}

/// Connects to the first address that answers, with `TCP_NODELAY`, keepalive 10 s/3 s/3 and `TCP_USER_TIMEOUT` 15 s.
///
/// # Errors
/// `resolve`; `connect` with the last address's reason; `timeout` when that was silence.
pub fn connect(host: &str, port: u16, by: Deadline) -> Result<TcpStream> {
    let addresses = resolve(host, port, by)?;
    let mut failure = None;
    for (tried, address) in addresses.iter().enumerate() {
        // An address that drops packets must leave time for the next.
        let share = by.left() / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match connect_to(*address, Deadline::within(share)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some((*address, error)),
        }
    }
    let (address, error) = failure.unwrap_or_else(|| {
        // Invariant: `resolve` answers with at least one address, so this is only for the type.
        (SocketAddr::from(([0, 0, 0, 0], port)), io::ErrorKind::AddrNotAvailable.into())
    });
    let place =
        if host.parse::<IpAddr>().is_ok() { address.to_string() } else { format!("{host} ({address})") };
    Err(if error.kind() == io::ErrorKind::TimedOut {
        Error::new(Reason::Timeout, format!("connect to {place}: no answer in time"))
    } else {
        Error::new(Reason::Connect, format!("connect to {place}: {error}"))
    })
}

/// Connects to one address, with the options of [`connect`].
///
/// # Errors
/// What the system says; `TimedOut` at the deadline.
pub fn connect_to(address: SocketAddr, by: Deadline) -> io::Result<TcpStream> {
    let left = by.socket_timeout().ok_or(io::ErrorKind::TimedOut)?;
    let stream = TcpStream::connect_timeout(&address, left)?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let alive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3))
        .with_retries(3);
    socket.set_tcp_keepalive(&alive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(15)))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn soon() -> Deadline {
        Deadline::within(Duration::from_secs(5))
    }

    #[test]
    fn an_ip_address_resolves_to_itself() {
        let found = resolve("::1", 5432, Deadline::within(Duration::ZERO)).unwrap();
        assert_eq!(found, [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 5432))]);
    }

    #[test]
    fn a_name_whose_lookup_hangs_keeps_no_other_from_being_resolved() {
        let permit = || Permit::wait("hanging.invalid", soon()).expect("a permit");
        let hanging: Vec<Permit> = (0..MAX_LOOKUPS_OF_A_NAME).map(|_| permit()).collect();
        let late = resolve("hanging.invalid", 1, Deadline::within(Duration::from_millis(20))).unwrap_err();
        assert!(late.message().ends_with("did not answer in time"), "{late}");
        assert_eq!(late.reason(), Reason::Timeout);
        assert!(resolve("localhost", 1, soon()).is_ok());
        drop(hanging);
        assert!(Permit::wait("hanging.invalid", soon()).is_some());
    }

    #[test]
    fn a_name_without_an_address_says_so() {
        let error = resolve("no-such-host.invalid", 1, soon()).unwrap_err();
        assert_eq!(error.reason(), Reason::Resolve);
        assert!(error.message().contains("no-such-host.invalid"), "{error}");
    }

    #[test]
    fn a_connection_has_the_options_that_notice_a_dead_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = connect("localhost", port, soon()).unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(15)));
    }

    #[test]
    fn a_refused_connection_names_host_and_address() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = connect("localhost", port, soon()).unwrap_err();
        assert_eq!(error.reason(), Reason::Connect);
        assert!(error.message().starts_with("connect to localhost (127.0.0.1:"), "{error}");
        let late = connect("127.0.0.1", port, Deadline::within(Duration::ZERO)).unwrap_err();
        assert_eq!(late.reason(), Reason::Timeout);
    }
}
