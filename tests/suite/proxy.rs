//! A TCP proxy on a port of its own in front of a real server: it counts connections and turns, and does to the
//! bytes what a network or a dying server does. Ends with its owner.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::process::wait_for;

/// What happens to connections and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passed on.
    Pass,
    /// Accepted, and nothing passes either way: the server accepts and stays silent, or froze under an answer.
    Freeze,
    /// Not accepted, and the backlog is full: packets to the port are lost.
    Swallow,
    /// Nobody listens, and what is open closes at its next byte.
    Refuse,
    /// So many more bytes of the server's pass, then none, and all stays open.
    StallAfter(usize),
    /// So many more bytes of the server's pass, then both sides close.
    CutAfter(usize),
    /// So many more bytes of the server's pass, then the client's side is reset.
    ResetAfter(usize),
}

struct Shared {
    server: SocketAddr,
    mode: Mutex<Mode>,
    changed: Condvar,
    ended: AtomicBool,
    connections: AtomicUsize,
    /// Of each connection.
    turns: Mutex<Vec<usize>>,
    /// How long bytes are on their way in one direction.
    distance: Mutex<Duration>,
    /// The last bytes of a client before it closed, of each connection that it closed itself.
    last_words: Mutex<Vec<Vec<u8>>>,
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock()
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many of `count` bytes may pass now; blocks while frozen. `from_server`: an answer.
    fn allowed(&self, count: usize, from_server: bool) -> usize {
        let mut mode = self.mode.lock();
        let stalls = |mode: Mode| mode == Mode::Freeze || from_server && mode == Mode::StallAfter(0);
        while stalls(*mode) && !self.has_ended() {
            self.changed.wait_for(&mut mode, STEP);
        }
        match &mut *mode {
            Mode::StallAfter(left) | Mode::CutAfter(left) | Mode::ResetAfter(left) if from_server => {
                let allowed = count.min(*left);
                *left -= allowed;
                allowed
            }
            Mode::Refuse => 0,
            _ => count,
        }
    }
}

/// How often a blocked thread looks whether the proxy has ended.
const STEP: Duration = Duration::from_millis(20);

/// The proxy.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// What fills the backlog.
    fillers: Mutex<Vec<TcpStream>>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port before the server on `port`.
    pub(crate) fn before(port: u16) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            server: SocketAddr::from(([127, 0, 0, 1], port)),
            mode: Mutex::new(Mode::Pass),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            turns: Mutex::default(),
            distance: Mutex::default(),
            last_words: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(address, listener, &shared)
        });
        Proxy { address, shared, fillers: Mutex::default(), accepting: Some(accepting) }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on this happens; what is under way is not spared.
    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode.lock() = mode;
        self.shared.changed.notify_all();
        self.fillers.lock().clear();
        let connect = || TcpStream::connect_timeout(&self.address, Duration::from_millis(100));
        match mode {
            Mode::Swallow => {
                *self.fillers.lock() = wait_for("a full backlog", || {
                    let fillers: Vec<TcpStream> = std::iter::from_fn(|| connect().ok()).take(64).collect();
                    (fillers.len() < 64).then_some(fillers)
                });
            }
            Mode::Refuse => wait_for("the port to close", || connect().is_err().then_some(())),
            _ => wait_for("the port to open", || connect().is_ok().then_some(())),
        }
    }

    /// From now on a round trip takes so long.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        *self.shared.distance.lock() = round_trip / 2;
    }

    /// What the clients that have closed their connections had sent last.
    pub(crate) fn last_words(&self) -> Vec<Vec<u8>> {
        self.shared.last_words.lock().clone()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How often a client has spoken after the server had: the round trips, the first of a connection included.
    pub(crate) fn turns(&self) -> usize {
        self.shared.turns.lock().iter().sum()
    }

    /// The same of the connection with the most.
    pub(crate) fn most_turns(&self) -> usize {
        self.shared.turns.lock().iter().copied().max().unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&address.into()).and_then(|()| socket.listen(16)).expect("the port is free");
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true).expect("a listener that is polled");
    listener
}

fn accept(address: SocketAddr, listener: TcpListener, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    let mut pumps = Vec::new();
    while !shared.has_ended() {
        let mode = shared.mode();
        match mode {
            Mode::Refuse => listener = None,
            _ => drop(listener.get_or_insert_with(|| listen(address))),
        }
        let open = listener.as_ref().filter(|_| mode != Mode::Swallow);
        let accepted = open.and_then(|listener| listener.accept().ok());
        match accepted.map(|(client, _)| (client, TcpStream::connect(shared.server))) {
            Some((client, Ok(server))) => {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                pumps.extend(pump_both(client, server, shared));
            }
            // The server refuses: so does the proxy, by closing.
            Some((_, Err(_))) => {}
            None => std::thread::sleep(Duration::from_millis(2)),
        }
        pumps.retain(|pump: &JoinHandle<()>| !pump.is_finished());
    }
    for pump in pumps {
        let _ = pump.join();
    }
}

fn pump_both(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> [JoinHandle<()>; 2] {
    for stream in [&client, &server] {
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(STEP))).expect("a socket");
        stream.set_nonblocking(false).expect("a blocking socket");
    }
    let place = {
        let mut turns = shared.turns.lock();
        turns.push(0);
        turns.len() - 1
    };
    // Whether the server spoke last.
    let answered = Arc::new(AtomicBool::new(true));
    let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    let ways = [(clone(&client), clone(&server), false), (server, client, true)];
    ways.map(|(from, to, from_server)| {
        let (shared, answered) = (Arc::clone(shared), Arc::clone(&answered));
        std::thread::spawn(move || {
            let turn = || shared.turns.lock()[place] += 1;
            pump(&from, &to, from_server, &shared, &answered, turn);
        })
    })
}

/// So many chunks of bytes are on their way at once.
const ON_THE_WAY: usize = 16;

fn pump(
    from: &TcpStream,
    to: &TcpStream,
    from_server: bool,
    shared: &Shared,
    answered: &AtomicBool,
    turn: impl Fn() + Send,
) {
    let (sender, on_the_way) = mpsc::sync_channel(ON_THE_WAY);
    std::thread::scope(|scope| {
        scope.spawn(move || receive(from, from_server, shared, answered, turn, &sender));
        while let Ok((due, bytes)) = on_the_way.recv() {
            std::thread::sleep(Instant::saturating_duration_since(&due, Instant::now()));
            if !pass(to, &bytes, from_server, shared) {
                break;
            }
        }
        drop(on_the_way);
        if from_server && matches!(shared.mode(), Mode::ResetAfter(_)) {
            // Closed with the linger time 0 it is a reset; the shutdown of the other way would be a plain end.
            let _ = socket2::SockRef::from(to).set_linger(Some(Duration::ZERO));
            let _ = to.shutdown(Shutdown::Read);
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
}

/// Reads what is to be passed on, and says when it arrives.
fn receive(
    mut from: &TcpStream,
    from_server: bool,
    shared: &Shared,
    answered: &AtomicBool,
    turn: impl Fn(),
    on_the_way: &mpsc::SyncSender<(Instant, Vec<u8>)>,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut last_words = Vec::new();
    while !shared.has_ended() {
        let count = match from.read(&mut buffer) {
            Ok(0) => {
                if !from_server {
                    shared.last_words.lock().push(last_words);
                }
                break;
            }
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            // It closed over answers that it did not read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !from_server => {
                shared.last_words.lock().push(last_words);
                break;
            }
            Err(_) => break,
        };
        if answered.swap(from_server, Ordering::Relaxed) && !from_server {
            turn();
        }
        let bytes = buffer[..count].to_vec();
        if !from_server {
            last_words.clone_from(&bytes);
        }
        if on_the_way.send((Instant::now() + *shared.distance.lock(), bytes)).is_err() {
            break;
        }
    }
}

/// Passes bytes on as far as the mode allows; false when the connection is to end.
fn pass(mut to: &TcpStream, mut bytes: &[u8], from_server: bool, shared: &Shared) -> bool {
    while !bytes.is_empty() && !shared.has_ended() {
        let (now, later) = bytes.split_at(shared.allowed(bytes.len(), from_server));
        let stalls = matches!(shared.mode(), Mode::StallAfter(_));
        if to.write_all(now).is_err() || !later.is_empty() && !stalls {
            return false;
        }
        bytes = later;
    }
    true
}
