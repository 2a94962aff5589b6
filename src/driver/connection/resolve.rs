//! Names to addresses and a TCP connection, both under a deadline.
//!
//! Owns the threads that resolve names: the system's resolver cannot be given a deadline. Who asks for a name that is being
//! resolved waits for that answer, and one that took long is kept for a moment: many targets have one name. Knows no
//! protocol.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socket2::{SockRef, TcpKeepalive};

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

/// How many names are resolved at once in this process: a resolver that hangs must not cost a thread per scrape.
const MAX_LOOKUPS: usize = 64;

/// How many lookups of one name: those that hang must not keep the first one after the resolver's recovery waiting. Few are
/// tried while the resolver is silent: each is a connect that ran out of time, after which a target backs off.
const MAX_LOOKUPS_OF_A_NAME: usize = 6;

/// A lookup that is older than this may hang: the next one who asks does not wait for it alone.
const USUAL_TIME: Duration = Duration::from_millis(500);

/// Addresses are kept for so many times as long as it took to learn them, so that a slow resolver is asked once for many
/// targets, and a change of a name that is resolved at once counts at once.
const KEPT_TIMES: u32 = 20;
/// But not longer than this.
const KEPT_AT_MOST: Duration = Duration::from_secs(5);

/// Each with the port 0, and in IPv6 with the interface that a link-local address is on.
type Addresses = std::result::Result<Vec<SocketAddr>, String>;

/// One for the process, as the resolver is.
static RESOLVER: Resolver = Resolver::new(ask_system);

fn ask_system(host: &str) -> Addresses {
    (host, 0).to_socket_addrs().map(Iterator::collect).map_err(|error| error.to_string())
}

struct Resolver {
    ask: fn(&str) -> Addresses,
    state: Mutex<ResolverState>,
    /// A lookup has ended.
    ended: Condvar,
}

struct ResolverState {
    /// Lookups under way.
    running: usize,
    names: BTreeMap<String, Name>,
}

/// What is known of a name while it is asked for, and a moment longer.
struct Name {
    /// When each of its lookups under way began.
    running: Vec<Instant>,
    answer: Option<Answer>,
}

/// The last answer.
struct Answer {
    addresses: Arc<Addresses>,
    /// When it came.
    at: Instant,
    kept_until: Instant,
}

impl Name {
    /// An answer that is kept, or that came after `since`: whoever waits takes that of a lookup that others began. A failure
    /// only where no lookup is under way that may do better.
    fn answer(&self, since: Instant) -> Option<Arc<Addresses>> {
        let Answer { addresses, at, kept_until } = self.answer.as_ref()?;
        let counts = addresses.is_ok() || self.running.is_empty();
        (counts && (*kept_until > Instant::now() || *at >= since)).then(|| Arc::clone(addresses))
    }
}

impl Resolver {
    const fn new(ask: fn(&str) -> Addresses) -> Self {
        let state = ResolverState { running: 0, names: BTreeMap::new() };
        Resolver { ask, state: Mutex::new(state), ended: Condvar::new() }
    }

    /// The addresses of a name, asked for on a thread of its own. Blocks until `by` at most.
    ///
    /// # Errors
    /// `timeout`, when there is no answer by then; `resolve`, when no thread can be started.
    fn addresses(&'static self, host: &str, by: Deadline) -> Result<Arc<Addresses>> {
        let since = Instant::now();
        let mut state = self.state.lock();
        loop {
            let running_in_all = state.running;
            let name = state
                .names
                .entry(host.to_owned())
                .or_insert_with(|| Name { running: Vec::new(), answer: None });
            if let Some(answer) = name.answer(since) {
                return Ok(answer);
            }
            let is_expected = name.running.iter().any(|began| began.elapsed() < USUAL_TIME);
            let is_allowed = name.running.len() < MAX_LOOKUPS_OF_A_NAME && running_in_all < MAX_LOOKUPS;
            if is_allowed && !is_expected && !by.passed() {
                self.start(&mut state, host)?;
            }
            if by.passed() {
                return Err(Error::new(
                    Reason::Timeout,
                    format!("host {host}: the resolver did not answer in time"),
                ));
            }
            self.ended.wait_until(&mut state, by.or_within(USUAL_TIME).moment());
        }
    }

    fn start(&'static self, state: &mut ResolverState, host: &str) -> Result<()> {
        let (began, owned) = (Instant::now(), host.to_owned());
        let look_up = move || {
            let found = (self.ask)(&owned);
            self.end(&owned, began, found);
        };
        std::thread::Builder::new().name("resolve".to_owned()).spawn(look_up).map_err(|error| {
            Error::new(Reason::Resolve, format!("host {host}: no thread to resolve it: {error}"))
        })?;
        state.running += 1;
        state.names.entry(host.to_owned()).and_modify(|name| name.running.push(began));
        Ok(())
    }

    /// Notes an answer, and forgets the names that nobody has asked for lately.
    fn end(&self, host: &str, began: Instant, found: Addresses) {
        let mut state = self.state.lock();
        state.running -= 1;
        let now = Instant::now();
        // A failure is for those who wait for it only.
        let kept =
            if found.is_ok() { (began.elapsed() * KEPT_TIMES).min(KEPT_AT_MOST) } else { Duration::ZERO };
        if let Some(name) = state.names.get_mut(host) {
            if let Some(place) = name.running.iter().position(|other| *other == began) {
                name.running.swap_remove(place);
            }
            name.answer = Some(Answer { addresses: Arc::new(found), at: now, kept_until: now + kept });
        }
        let is_fresh =
            |name: &Name| name.answer.as_ref().is_some_and(|answer| answer.at.elapsed() < KEPT_AT_MOST);
        state.names.retain(|_, name| !name.running.is_empty() || is_fresh(name));
        drop(state);
        self.ended.notify_all();
    }
}

/// Resolves `host`; addresses in the resolver's order. An IP address needs no thread.
///
/// # Errors
/// `resolve`, when there is no address; `timeout`, when there is no answer by then.
pub fn resolve(host: &str, port: u16, by: Deadline) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match &*RESOLVER.addresses(host, by)? {
        Ok(found) if found.is_empty() => {
            Err(Error::new(Reason::Resolve, format!("host {host} has no address")))
        }
        Ok(found) => {
            let with_port = |mut address: SocketAddr| {
                address.set_port(port);
                address
            };
            Ok(found.iter().copied().map(with_port).collect())
        }
        Err(error) => Err(Error::new(Reason::Resolve, format!("host {host}: {error}"))),
    }
}

/// Connects to the first address that answers, with `TCP_NODELAY`, keepalive 10 s/3 s/3 and `TCP_USER_TIMEOUT` 15 s. The
/// address is returned beside the stream.
///
/// # Errors
/// `resolve`; `connect` with the last address's reason; `timeout` when that was silence.
pub fn connect(host: &str, port: u16, by: Deadline) -> Result<(TcpStream, SocketAddr)> {
    let addresses = resolve(host, port, by)?;
    let mut failure = None;
    for (tried, &address) in addresses.iter().enumerate() {
        match connect_to(address, by.share_of(addresses.len() - tried)) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => failure = Some((address, error)),
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
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    fn a_link_local_address_keeps_its_interface() {
        let found = resolve("fe80::1%lo", 5432, soon()).unwrap();
        let [SocketAddr::V6(address)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((address.scope_id(), address.port()), (1, 5432), "the loopback is the first interface");
    }

    #[test]
    fn a_name_whose_lookup_hangs_keeps_no_other_from_being_resolved() {
        static RESOLVER: Resolver = Resolver::new(|host| {
            if host == "hanging.invalid" {
                std::thread::sleep(Duration::from_secs(3600));
            }
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        });
        let by = Deadline::within(USUAL_TIME * 2);
        let late = RESOLVER.addresses("hanging.invalid", by).unwrap_err();
        assert!(late.message().ends_with("did not answer in time"), "{late}");
        assert_eq!(late.reason(), Reason::Timeout);
        assert!(RESOLVER.addresses("other.invalid", soon()).unwrap().is_ok());
        let state = RESOLVER.state.lock();
        let lookups = state.names["hanging.invalid"].running.len();
        assert!((2..=MAX_LOOKUPS_OF_A_NAME).contains(&lookups), "tried again, and not for ever: {lookups}");
    }

    /// The first answer takes a while; a name that many targets have is asked for once.
    #[test]
    fn a_slow_resolver_is_asked_once_for_all_who_want_one_name() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static RESOLVER: Resolver = Resolver::new(|_| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(150));
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        });
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| RESOLVER.addresses("one.invalid", soon()).unwrap());
            }
        });
        assert!(RESOLVER.addresses("one.invalid", soon()).is_ok());
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_failure_is_not_kept() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static RESOLVER: Resolver = Resolver::new(|_| match ASKED.fetch_add(1, Ordering::Relaxed) {
            0 => Err("not now".to_owned()),
            _ => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
        });
        assert!(RESOLVER.addresses("one.invalid", soon()).unwrap().is_err());
        assert!(RESOLVER.addresses("one.invalid", soon()).unwrap().is_ok());
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
        let (stream, peer) = connect("localhost", port, soon()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), peer);
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
