//! A wire to a server that refuses, stays silent, resets, and cuts or stops an answer in the middle of a row.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::chance::Chance;
use super::part::{Fault, Part};
use crate::process::free_port;

/// What happens to the server's bytes from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Nothing listens.
    Refuse,
    /// So many more bytes pass, then none: at 0 a connection is accepted and stays silent.
    Stall(usize),
    /// So many more bytes pass, then both sides close.
    Cut(usize),
    /// So many more bytes pass, then the client's side is reset.
    Reset(usize),
}

struct Shared {
    upstream: SocketAddr,
    mode: Mutex<Mode>,
    changed: Condvar,
    ends: AtomicBool,
}

/// The wire behind one target.
pub(crate) struct Wire {
    target: &'static str,
    port: u16,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Wire {
    /// Listens on a port of its own and passes everything to a port of this machine.
    pub(crate) fn to(upstream: u16, target: &'static str) -> Self {
        let shared = Shared {
            upstream: (Ipv4Addr::LOCALHOST, upstream).into(),
            mode: Mutex::new(Mode::Pass),
            changed: Condvar::new(),
            ends: AtomicBool::new(false),
        };
        let mut wire = Wire { target, port: free_port(), shared: Arc::new(shared), listening: None };
        wire.listen();
        wire
    }

    /// Where the exporter connects.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn listen(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the port is free");
        let shared = Arc::clone(&self.shared);
        shared.ends.store(false, Ordering::Relaxed);
        self.listening = Some(std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.ends.load(Ordering::Relaxed) {
                    break;
                }
                pass(client, &shared);
            }
        }));
    }

    fn refuse(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(listening) = self.listening.take() {
            listening.join().expect("the listener ends");
        }
    }

    fn set(&self, mode: Mode) {
        *self.shared.mode() = mode;
        self.shared.changed.notify_all();
    }
}

impl Part for Wire {
    fn target(&self) -> &'static str {
        self.target
    }

    fn fail(&mut self, chance: &mut Chance) -> Fault {
        let bytes = usize::try_from(chance.between(1, 4000)).expect("small");
        let modes = [
            (2, (Mode::Refuse, "a connect refused")),
            (1, (Mode::Stall(0), "a connection that stays silent")),
            (3, (Mode::Stall(bytes), "half an answer, then silence")),
            (3, (Mode::Cut(bytes), "an answer cut short")),
            (3, (Mode::Reset(bytes), "a reset")),
        ];
        let (mode, name) = chance.pick(&modes);
        self.set(mode);
        if mode == Mode::Refuse {
            self.refuse();
        }
        Fault { name, hangs: matches!(mode, Mode::Stall(_)) }
    }

    fn heal(&mut self) {
        self.set(Mode::Pass);
        if self.listening.is_none() {
            self.listen();
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.set(Mode::Refuse);
        self.refuse();
    }
}

impl Shared {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of `count` bytes may pass now, and the mode that says so; waits while none may and all stays open.
    fn allowance(&self, count: usize) -> (usize, Mode) {
        let mut mode = self.mode();
        while *mode == Mode::Stall(0) {
            mode = self.changed.wait(mode).unwrap_or_else(PoisonError::into_inner);
        }
        match &mut *mode {
            Mode::Pass => (count, Mode::Pass),
            Mode::Refuse => (0, Mode::Cut(0)),
            Mode::Stall(left) | Mode::Cut(left) | Mode::Reset(left) => {
                let allowed = count.min(*left);
                *left -= allowed;
                (allowed, *mode)
            }
        }
    }
}

/// Passes one connection on, both ways, on two threads that end with it.
fn pass(client: TcpStream, shared: &Arc<Shared>) {
    let Ok(server) = TcpStream::connect_timeout(&shared.upstream, Duration::from_secs(10)) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else { return };
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || answers(server, client, &shared));
}

fn answers(mut server: TcpStream, mut client: TcpStream, shared: &Shared) {
    let mut chunk = [0; 8192];
    let mut ended = Mode::Pass;
    'connection: while let Ok(count @ 1..) = server.read(&mut chunk) {
        let mut sent = 0;
        while sent < count {
            let (allowed, mode) = shared.allowance(count - sent);
            if client.write_all(&chunk[sent..sent + allowed]).is_err() {
                break 'connection;
            }
            sent += allowed;
            if sent < count && matches!(mode, Mode::Cut(_) | Mode::Reset(_)) {
                ended = mode;
                break 'connection;
            }
        }
    }
    if matches!(ended, Mode::Reset(_)) {
        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
        let _ = client.shutdown(Shutdown::Read);
    } else {
        let _ = client.shutdown(Shutdown::Both);
    }
    let _ = server.shutdown(Shutdown::Both);
}
