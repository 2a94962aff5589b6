//! Processes that die with the test that started them, and free ports for them.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// `tests/run` sets this variable: every test runs then, and one that misses a server fails.
pub(crate) fn is_complete() -> bool {
    std::env::var_os("TEST_COMPLETE").is_some()
}

/// The payload of the panic that leaves a test out.
struct NeedsServers;

/// A variable that `tests/run` exports. Without `tests/run` the calling test is left out.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        needs_tests_run();
        panic!("{name} is not set, but tests/run sets it: this test needs servers")
    })
}

/// Leaves the calling test out unless `tests/run` started it. Call it on the thread of the test.
pub(crate) fn needs_tests_run() {
    if !is_complete() {
        std::panic::resume_unwind(Box::new(NeedsServers));
    }
}

/// Runs the body of a test: the attribute `#[test]` of this crate calls it (`tests/servers/attribute`). libtest has no
/// way to skip a test that runs, so a test that is left out passes, and stderr says so once per module.
pub(crate) fn run_test(body: impl FnOnce()) {
    let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) else { return };
    if !payload.is::<NeedsServers>() {
        note_failure(&*payload);
        std::panic::resume_unwind(payload);
    }
    static GROUPS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let name = std::thread::current().name().unwrap_or("main").to_owned();
    let group = name.split("::").next().unwrap_or_default().to_owned();
    let mut groups = GROUPS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if groups.insert(group.clone()) {
        // Not eprintln: libtest hides what a test that passes prints.
        let line = format!("left out: tests in `{group}` that need servers; `make test` runs them\n");
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Adds the message of a test that failed to the file that `tests/run` prints at its end.
fn note_failure(payload: &(dyn Any + Send)) {
    let Some(path) = std::env::var_os("TEST_FAILURES") else { return };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
    let start: String = text.chars().take(2000).collect();
    let note = format!("- {}: {start}\n", std::thread::current().name().unwrap_or("main"));
    let file = File::options().create(true).append(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(note.as_bytes()));
}

/// A command that the kernel kills when the starting thread, or the whole test binary, ends. `user` applies
/// where the tests run as root.
pub(crate) fn mortal(user: Option<&str>, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user.filter(|_| is_root()) {
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// True where the tests run as root: PostgreSQL does not, so it needs another user.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A port for a server that reuses addresses, as most do, or where nobody listens. Until the test binary ends, the system gives
/// it to no other process and no outgoing connection: a socket has it that does not listen.
pub(crate) fn free_port() -> u16 {
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option of every socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("an address of IPv4");
    HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(socket);
    address.port()
}

/// The bound on something that takes `claim` on a quiet machine: with slack, as another core may be busy, or where
/// `EXACT_TIMES` is set the claim itself.
pub(crate) fn bound(claim: Duration) -> Duration {
    if std::env::var_os("EXACT_TIMES").is_some() {
        claim
    } else {
        claim.mul_f64(1.3) + Duration::from_secs(1)
    }
}

/// A machine on which a thread wakes up later than this is busy.
const LATE: Duration = Duration::from_millis(5);

/// Runs a check that a busy machine can fail, as where a server's limit must come before the exporter's own. A failure counts
/// where the machine was not busy meanwhile, and the fifth one counts anyway.
pub(crate) fn retried_if_busy(check: impl Fn()) {
    for _ in 1..5 {
        let clock = WakeUpClock::start();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&check));
        let latest = clock.latest();
        match outcome {
            Ok(()) => return,
            Err(payload) if latest < LATE || payload.is::<NeedsServers>() => {
                std::panic::resume_unwind(payload)
            }
            Err(_) => {}
        }
    }
    check();
}

/// A thread that sleeps again and again, and notes how late it wakes up.
struct WakeUpClock {
    end: Sender<()>,
    thread: JoinHandle<Duration>,
}

impl WakeUpClock {
    fn start() -> Self {
        const SLEEP: Duration = Duration::from_millis(1);
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let mut latest = Duration::ZERO;
            loop {
                let before = Instant::now();
                if ended.recv_timeout(SLEEP) != Err(RecvTimeoutError::Timeout) {
                    return latest;
                }
                latest = latest.max(before.elapsed().saturating_sub(SLEEP));
            }
        });
        WakeUpClock { end, thread }
    }

    fn latest(self) -> Duration {
        drop(self.end);
        self.thread.join().expect("it does not panic")
    }
}

/// Polls until `check` gives a value; fails with `what` after `limit`.
pub(crate) fn poll<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Polls with a limit that a busy machine keeps.
pub(crate) fn wait_for<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    poll(what, Duration::from_secs(30), check)
}

/// A process and all its descendants, the process first.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let pairs = parents();
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(pairs.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// (process, parent) of everything that runs.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (command) state ppid …: the command may hold anything, so count from its last bracket.
    let (_, rest) = status.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal (`KILL`, `STOP`, `CONT`, `TERM`) to each process; those that are gone do not matter.
pub(crate) fn signal(name: &str, pids: &[u32]) {
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    let script = format!("kill -{name} {} 2>/dev/null || true", list.join(" "));
    let _ = Command::new("sh").args(["-c", &script]).status();
}

/// Kills a process with all its descendants and waits until none is left.
pub(crate) fn end(child: &mut Child) -> io::Result<()> {
    let all = family(child.id());
    signal("KILL", &all);
    child.wait()?;
    let others: Vec<u32> = all.into_iter().skip(1).collect();
    wait_for("the processes of a killed server to go", || {
        others.iter().all(|pid| is_gone(*pid)).then_some(())
    });
    Ok(())
}

/// True when the process has ended; a zombie holds nothing any more.
fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    })
}

/// The most memory that a process has held at once, in bytes.
pub(crate) fn peak_memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// Copies a folder with owners and holes.
pub(crate) fn copy_folder(from: &str, to: &Path) {
    let done = Command::new("cp").args(["-a", "--reflink=auto", from]).arg(to).status();
    assert!(done.is_ok_and(|status| status.success()), "cp -a {from} {} failed", to.display());
}

/// A temporary folder that servers running as other users may enter.
pub(crate) fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(mode).tempdir().expect("a temporary folder")
}

/// The processor time that a process has taken: proc(5), the first number of each thread's `schedstat`, nanoseconds.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let of_thread = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(of_thread).sum())
}
