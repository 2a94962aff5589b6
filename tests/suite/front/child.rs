//! What would hurt the other tests of this process: each test here runs itself again, alone, in a child.

use std::fs::File;
use std::process::Stdio;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::process::mortal;

const CHILD: &str = "FRONT_CHILD";

/// Runs the test of this name in a child of its own, with a temporary folder of its own, where nothing may be left.
/// True in the child: it does the work.
fn alone(test: &str) -> bool {
    if std::env::var(CHILD).is_ok_and(|named| named == test) {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let mut child = mortal(None, own.to_str().unwrap());
    child.args([&format!("front::child::{test}"), "--exact", "--nocapture", "--test-threads=1"]);
    let output = child.env(CHILD, test).env("TMPDIR", folder.path()).stdin(Stdio::null()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?} {text}");
    false
}

/// Takes every descriptor that is left but `spare`.
fn exhaust(spare: usize) -> Vec<File> {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken.truncate(taken.len() - spare);
    taken
}

static REBUILT: AtomicUsize = AtomicUsize::new(0);
/// Requests under way that wait for [`RELEASE`].
static HELD: AtomicUsize = AtomicUsize::new(0);
static RELEASE: RwLock<()> = RwLock::new(());

/// Echoes; `/held` only while nobody holds the lock.
fn echo_or_hold(request: &Request) -> Response {
    if request.path == "/held" {
        HELD.fetch_add(1, Ordering::SeqCst);
        drop(RELEASE.read());
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
    echo(request)
}

/// As many requests under way as the HTTP library has threads of its own: for the next one the gate probes for a thread. A
/// backend that died at once is not replaced at once: the request that finds that out is refused, and repeated here.
fn hold_all(front: &Front) -> Vec<Client> {
    let mut clients = Vec::new();
    while clients.len() < 4 {
        let mut client = front.connect();
        client.get("/held");
        let is_held = wait_for("the request to be held or refused", || {
            let refused = client.has_answer().then_some(false);
            refused.or_else(|| (HELD.load(Ordering::SeqCst) > clients.len()).then_some(true))
        });
        if is_held {
            clients.push(client);
        }
    }
    clients
}

/// Counts the log lines that tell of a new backend.
struct Rebuilds;

impl log::Log for Rebuilds {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("was restarted") {
            REBUILT.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_backend_that_died_of_too_many_open_files_is_replaced() {
    if !alone("a_backend_that_died_of_too_many_open_files_is_replaced") {
        return;
    }
    log::set_boxed_logger(Box::new(Rebuilds)).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let front = open(HttpLimits::default(), echo_or_hold);
    let mut client = front.connect();
    client.get("/before");
    client.answer();
    // The gate's own soft limit is the hard one by now; a low one makes the exhaustion quick.
    rlimit::Resource::NOFILE.set(200, 200).unwrap();
    let mut unavailable = 0;
    for spare in [0, 1, 2, 3].into_iter().cycle().take(80) {
        let closed = RELEASE.write().unwrap();
        let held = hold_all(&front);
        let taken = exhaust(spare);
        client.get("/during");
        let (head, body) = client.answer();
        // One spare descriptor is the gate's: tiny_http's accept fails. Two: its clone of the socket panics. Whether
        // a successor can answer at once hangs on what the dead one has let go by then.
        if head.starts_with("http/1.1 503 ") {
            unavailable += 1;
            assert!(head.contains("retry-after: 1"), "{head}");
            drop(taken);
            client = front.connect();
        } else {
            assert_eq!(body, "GET /during\n", "{head}");
            drop(taken);
        }
        drop(closed);
        for mut client in held {
            assert_eq!(client.answer().1, "GET /held\n");
        }
        wait_for("an answer after the drought", || {
            let mut client = front.connect();
            client.get("/after");
            (client.answer().1 == "GET /after\n").then_some(())
        });
        if REBUILT.load(Ordering::SeqCst) >= 3 {
            break;
        }
    }
    assert!(unavailable >= 1 && REBUILT.load(Ordering::SeqCst) >= 3, "{unavailable} {REBUILT:?}");
    assert_eq!(front.stop(), 0);
}

/// A line of `/proc/self/status`.
fn status(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace()
        .nth(1)
        .or(line.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap()
}

#[test]
fn two_hundred_idle_connections_cost_no_thread_and_little_memory() {
    if !alone("two_hundred_idle_connections_cost_no_thread_and_little_memory") {
        return;
    }
    let before = status("Threads");
    let front = open(HttpLimits::default(), echo);
    let mut clients: Vec<Client> = (0..200).map(|_| front.connect()).collect();
    let memory = status("VmRSS");
    for client in &mut clients {
        client.get("/");
        client.answer();
    }
    // The gate, tiny_http's accept and its four, a worker; and some that were needed a moment ago.
    let threads = status("Threads") - before;
    assert!(threads <= 12, "{threads}");
    let grown = status("VmRSS").saturating_sub(memory);
    assert!(grown <= 4 << 10, "{grown} KiB");
    assert_eq!(front.stop(), 0);
}

#[test]
fn a_stop_ends_every_thread_and_closes_every_descriptor() {
    if !alone("a_stop_ends_every_thread_and_closes_every_descriptor") {
        return;
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (threads, open_before) = (status("Threads"), descriptors());
    for _ in 0..5 {
        let front = open(HttpLimits::default(), echo);
        let mut client = front.connect();
        client.get("/");
        client.answer();
        assert_eq!(front.stop(), 0);
    }
    // tiny_http's own threads wait five seconds for work before they leave.
    wait_for("the threads to end", || (status("Threads") <= threads).then_some(()));
    wait_for("the descriptors to close", || (descriptors() <= open_before).then_some(()));
}

#[test]
fn a_low_descriptor_limit_lowers_the_cap() {
    if !alone("a_low_descriptor_limit_lowers_the_cap") {
        return;
    }
    rlimit::Resource::NOFILE.set(32, 84).unwrap();
    let front = open(HttpLimits::default(), echo);
    assert_eq!(rlimit::Resource::NOFILE.get_soft().unwrap(), 84);
    // (84 - 64) / 5
    let mut clients: Vec<Client> = (0..4).map(|_| front.connect()).collect();
    for client in &mut clients {
        client.get("/");
        client.answer();
    }
    let mut fifth = front.connect();
    fifth.get("/");
    fifth.answer();
    assert!(clients[0].is_closed());
}
