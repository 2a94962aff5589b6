//! Where a password comes from: the configuration, a file, or a command; read for every new session.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

/// A command that ran so lately would give the same password again.
const JUST_NOW: Duration = Duration::from_secs(1);

/// The longest a command may run.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// How long equal commands share one result.
const SHARED: Duration = Duration::from_secs(60);
/// More than this is no password.
const LONGEST: usize = 64 << 10;
/// How often a running command is looked at.
const TICK: Duration = Duration::from_millis(10);

/// The source of a password.
#[derive(Debug, Clone, Default)]
pub enum Password {
    /// None: peer, trust or certificate authentication.
    #[default]
    None,
    /// In the configuration.
    Given(Secret),
    /// The file's content without its final line end.
    File(PathBuf),
    /// The standard output of a program, without its final line end: an argv, no shell, 5 s, shared 60 s by equal
    /// commands.
    Command(Vec<String>),
}

impl Password {
    /// Reads it now. Blocks for a command, at most until `by`; not to be called inside an async runtime.
    ///
    /// # Errors
    /// `auth`, when the file cannot be read or the command fails; the message never holds its output.
    pub fn read(&self, by: Deadline) -> Result<Option<Secret>> {
        match self {
            Password::None => Ok(None),
            Password::Given(secret) => Ok(Some(secret.clone())),
            Password::File(path) => from_file(path).map(Some),
            Password::Command(argv) => shared(argv).read(argv, by).map(Some),
        }
    }

    /// Reads it again after the server has refused `refused`: a command whose shared result that is runs once more,
    /// unless it ran just now. Blocks as [`Password::read`].
    ///
    /// # Errors
    /// As [`Password::read`].
    pub fn read_again(&self, refused: Option<&Secret>, by: Deadline) -> Result<Option<Secret>> {
        if let (Password::Command(argv), Some(refused)) = (self, refused) {
            shared(argv).forget(refused);
        }
        self.read(by)
    }
}

fn from_file(path: &Path) -> Result<Secret> {
    read_file(path)
        .map_err(|what| Error::new(Reason::Auth, format!("the password file {} {what}", path.display())))
}

/// A file's content without its final line end; a refusal says what is wrong and nothing of the content.
pub(super) fn read_file(path: &Path) -> Result<Secret, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    secret(bytes).map_err(str::to_owned)
}

/// The bytes without their final line end. A refusal says what is wrong and nothing of the content.
fn secret(bytes: Vec<u8>) -> Result<Secret, &'static str> {
    if bytes.len() > LONGEST {
        return Err("holds more than 64 KiB");
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text")?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err("is empty") } else { Ok(Secret::new(text)) }
}

/// The last result of one command line, and its turn: who holds the lock runs the command, the others wait.
#[derive(Default)]
struct Shared(Mutex<Option<(Instant, Secret)>>);

/// The command lines of the process. The only state outside a value in the house: "shared by equal commands" holds
/// across targets and across reloads, and neither knows of the other's plan.
static COMMANDS: Mutex<Vec<(Vec<String>, Arc<Shared>)>> = Mutex::new(Vec::new());

fn shared(argv: &[String]) -> Arc<Shared> {
    let mut commands = COMMANDS.lock();
    if let Some((_, shared)) = commands.iter().find(|(known, _)| known == argv) {
        return Arc::clone(shared);
    }
    // Commands of a configuration that is gone go as well.
    commands.retain(|(_, shared)| Arc::strong_count(shared) > 1 || shared.is_fresh());
    let fresh = Arc::new(Shared::default());
    commands.push((argv.to_vec(), Arc::clone(&fresh)));
    fresh
}

impl Shared {
    fn read(&self, argv: &[String], by: Deadline) -> Result<Secret> {
        let Some(mut last) = self.0.try_lock_until(by.moment()) else {
            return Err(failed(argv, "did not end in time for another target that runs it"));
        };
        if let Some((since, secret)) = &*last
            && since.elapsed() < SHARED
        {
            return Ok(secret.clone());
        }
        let secret = run(argv, by)?;
        *last = Some((Instant::now(), secret.clone()));
        Ok(secret)
    }

    fn forget(&self, refused: &Secret) {
        // Held by a run under way: its result is newer than what was refused.
        if let Some(mut last) = self.0.try_lock() {
            last.take_if(|(since, secret)| secret == refused && since.elapsed() >= JUST_NOW);
        }
    }

    fn is_fresh(&self) -> bool {
        self.0.try_lock().is_none_or(|last| last.as_ref().is_some_and(|(since, _)| since.elapsed() < SHARED))
    }
}

fn failed(argv: &[String], what: &str) -> Error {
    let program = argv.first().map_or("", String::as_str);
    Error::new(Reason::Auth, format!("the password command {program} {what}"))
}

/// Runs the program in a process group of its own, so that what it starts ends with it when it is too slow.
fn run(argv: &[String], by: Deadline) -> Result<Secret> {
    let Some((program, arguments)) = argv.split_first() else { return Err(failed(argv, "is empty")) };
    let unstarted = |error: std::io::Error| failed(argv, &format!("cannot be started: {error}"));
    let by = by.or_within(COMMAND_LIMIT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unstarted)?;
    let (ours, theirs) = std::io::pipe().map_err(unstarted)?;
    // The temporary holds our copy of the pipe's other end: it is gone with this statement.
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(theirs)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(unstarted)?;
    let mut running = Running(Some(child));
    let (status, bytes) =
        runtime.block_on(running.collect(ours.into(), by)).map_err(|what| failed(argv, &what))?;
    if !status.success() {
        return Err(failed(argv, &format!("failed: {status}")));
    }
    secret(bytes).map_err(|what| failed(argv, &format!("printed what {what}")))
}

/// A started command; dropped before its end, it is killed with its group.
struct Running(Option<Child>);

impl Running {
    /// What it prints until it ends. The pipe may stay open longer, in a process that the command left behind.
    async fn collect(&mut self, pipe: OwnedFd, by: Deadline) -> Result<(ExitStatus, Vec<u8>), String> {
        let unread = |error: std::io::Error| format!("cannot be read: {error}");
        let mut pipe = pipe::Receiver::from_owned_fd(pipe).map_err(unread)?;
        let mut bytes = Vec::new();
        let mut open = true;
        let mut ended = None;
        loop {
            if ended.is_none() {
                ended = self.ended().map_err(unread)?;
            }
            // What was written before the end is ready within this tick; after it nothing that counts comes.
            match tokio::time::timeout(TICK, read(&mut pipe, &mut bytes, open)).await {
                Ok(read) => open = read.map_err(unread)? > 0,
                Err(_) => {
                    if let Some(status) = ended {
                        return Ok((status, bytes));
                    }
                }
            }
            if bytes.len() > LONGEST {
                return Err("printed more than 64 KiB".to_owned());
            }
            if by.passed() {
                return Err("did not end in time and was killed".to_owned());
            }
        }
    }

    fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let status = self.0.as_mut().map_or(Ok(None), Child::try_wait)?;
        if status.is_some() {
            self.0 = None;
        }
        Ok(status)
    }
}

/// Reads what is there; once the pipe is closed, never ready again.
async fn read(pipe: &mut pipe::Receiver, bytes: &mut Vec<u8>, open: bool) -> std::io::Result<usize> {
    if open { pipe.read_buf(bytes).await } else { std::future::pending().await }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        // A killed process ends at once, but for one that waits for a dead disk: that one must not hold a lane.
        let _ = std::thread::Builder::new().name("reap".into()).spawn(move || child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Deadline {
        Deadline::within(Duration::from_secs(4))
    }

    /// A command line that no other test shares.
    fn shell(name: &str, script: &str) -> Password {
        Password::Command(["/bin/sh", "-c", script, name].map(str::to_owned).to_vec())
    }

    fn text(password: &Password) -> String {
        password.read(soon()).unwrap().unwrap().expose().to_owned()
    }

    fn message(password: &Password, by: Deadline) -> String {
        let error = password.read(by).unwrap_err();
        assert_eq!(error.reason(), Reason::Auth);
        error.to_string()
    }

    #[test]
    fn a_file_loses_its_final_line_end_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let password = Password::File(path.clone());
        for (content, expected) in [
            ("p", "p"),
            (" p@:/#%' \n", " p@:/#%' "),
            ("p\r\n", "p"),
            ("p\n\n", "p\n"),
            ("a\nb", "a\nb"),
            ("é", "é"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(text(&password), expected);
        }
    }

    #[test]
    fn a_file_that_cannot_serve_is_an_auth_error_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let password = Password::File(path.clone());
        assert!(
            message(&password, soon()).contains("cannot be read: No such file"),
            "{}",
            message(&password, soon())
        );
        for (content, expected) in
            [(&b"\n"[..], "is empty"), (b"hunter2\xff", "is not UTF-8"), (&[b'x'; 70_000], "64 KiB")]
        {
            std::fs::write(&path, content).unwrap();
            let message = message(&password, soon());
            assert!(message.contains(expected) && !message.contains("hunter"), "{message}");
        }
    }

    #[test]
    fn a_command_prints_the_password() {
        assert_eq!(text(&shell("prints", "printf \"p@:/#%%' \n\"")), "p@:/#%' ");
        assert_eq!(text(&shell("stdout", "echo hunter > /dev/stdout")), "hunter");
        assert_eq!(text(&shell("stdin", "cat; echo after")), "after");
    }

    #[test]
    fn equal_commands_share_a_result_until_the_server_refuses_it() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let script = format!("echo x >> {0}; wc -l < {0}", count.display());
        let (one, other) = (shell("shared", &script), shell("shared", &script));
        let all = [one.clone(), other.clone(), one.clone(), other.clone()];
        let threads: Vec<_> =
            all.into_iter().map(|password| std::thread::spawn(move || text(&password))).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap().trim() == "1"));
        let again = |refused: &str| {
            let read = one.read_again(Some(&Secret::new(refused.to_owned())), soon()).unwrap().unwrap();
            read.expose().trim().to_owned()
        };
        assert_eq!(again("1"), "1", "it ran just now");
        std::thread::sleep(JUST_NOW);
        assert_eq!(again("another"), "1", "another was refused");
        assert_eq!(again("1"), "2");
        assert_eq!(text(&other).trim(), "2");
        assert_eq!(text(&shell("another", &script)).trim(), "3");
    }

    #[test]
    fn a_failed_command_is_not_shared_and_its_output_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let flag = folder.path().join("flag");
        let password = shell("fails", &format!("echo hunter2; echo hunter3 >&2; test -e {}", flag.display()));
        let message = message(&password, soon());
        assert!(
            message.contains("/bin/sh failed: exit status: 1") && !message.contains("hunter"),
            "{message}"
        );
        std::fs::write(&flag, "").unwrap();
        assert_eq!(text(&password), "hunter2");
    }

    #[test]
    fn a_slow_command_ends_at_the_deadline_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let password = shell("slow", &format!("sleep 60 & echo $! > {}; wait", pid.display()));
        let started = Instant::now();
        let message = message(&password, Deadline::within(Duration::from_millis(700)));
        assert!(message.contains("did not end in time"), "{message}");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let child = std::fs::read_to_string(&pid).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        while !(state().is_empty() || state().contains(") Z ")) {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "the child of the command lives: {}",
                state()
            );
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_child_that_keeps_the_output_open_does_not_hold_the_login() {
        let started = Instant::now();
        assert_eq!(text(&shell("daemon", "sleep 8 & echo hunter")), "hunter");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }

    #[test]
    fn what_a_command_may_do_wrong_is_said_without_its_output() {
        let cases = [
            (shell("endless", "while :; do echo hunter2hunter2hunter2hunter2; done"), "more than 64 KiB"),
            (shell("silent", ":"), "printed what is empty"),
            (shell("bytes", "printf 'hunter\\377'"), "printed what is not UTF-8"),
            (shell("killed", "kill -9 $$"), "failed: signal: 9"),
            (
                Password::Command(vec!["/nonexistent/program".into(), "hunter2".into()]),
                "cannot be started: No such file",
            ),
            (Password::Command(vec![]), "is empty"),
        ];
        for (password, expected) in cases {
            let message = message(&password, soon());
            assert!(message.contains(expected) && !message.contains("hunter"), "{message}");
        }
    }
}
