//! Where a password comes from: the configuration, a file, or a command; read for every new session.

use std::collections::HashMap;
use std::io::{ErrorKind, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};
use crate::file::{self, ReadError};
use crate::secret::Secret;

use super::passfile::Passfile;

/// A command that ran this recently would print the same password again.
const MIN_COMMAND_AGE: Duration = Duration::from_secs(1);
/// The longest that a command may run.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long equal commands share one result.
const COMMAND_TTL: Duration = Duration::from_secs(60);
/// A longer text is not a password.
const MAX_PASSWORD_BYTES: usize = 64 << 10;
/// The longest time between two checks of a running command.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How much of what a failing command wrote to its standard error is kept, from its end: there the reason stands.
const MAX_STDERR_BYTES: usize = 4 << 10;
/// How much of it is shown, in bytes.
const MAX_SHOWN_STDERR_BYTES: usize = 500;
/// Shorter lines of a command's output are not masked in what it wrote to its standard error: they are in every text.
const MIN_MASKED_BYTES: usize = 4;

/// The source of a password.
#[derive(Debug, Clone, Default)]
pub enum PasswordSource {
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
    /// libpq's password file: what is read is the whole of it, and the driver looks for its line. One that is absent, or
    /// that libpq leaves out, is none.
    Passfile(Passfile),
}

impl PasswordSource {
    /// Reads it now. Blocks for a command, at most until `by`; not to be called inside an async runtime.
    ///
    /// # Errors
    /// `auth`, when the file cannot be read or the command fails; the message never holds its output.
    pub fn read(&self, by: Deadline) -> Result<Option<Secret>> {
        match self {
            PasswordSource::None => Ok(None),
            PasswordSource::Given(secret) => Ok(Some(secret.clone())),
            PasswordSource::File(path) => from_file(path).map(Some),
            PasswordSource::Command(argv) => shared(argv).read(argv, by).map(Some),
            PasswordSource::Passfile(file) => Ok(file.read().ok()),
        }
    }

    /// Reads it again after the server has refused `refused`: a command whose shared result that is runs once more,
    /// unless it ran just now. Blocks as [`PasswordSource::read`].
    ///
    /// # Errors
    /// As [`PasswordSource::read`].
    pub fn read_again(&self, refused: Option<&Secret>, by: Deadline) -> Result<Option<Secret>> {
        if let (PasswordSource::Command(argv), Some(refused)) = (self, refused) {
            shared(argv).forget(refused);
        }
        self.read(by)
    }
}

/// The password that one endpoint's server refused last. A new one ends the back-off after a refusal early.
#[derive(Debug, Default)]
pub struct RefusedPassword(Mutex<Option<Secret>>);

impl RefusedPassword {
    /// Logs in with the current password. When the server refuses it, and its file or command now returns another one, logs
    /// in with that one. Blocks as [`PasswordSource::read`] and `log_in` do.
    ///
    /// # Errors
    /// Those of [`PasswordSource::read`] and `log_in`.
    pub fn log_in<T>(
        &self,
        password: &PasswordSource,
        by: Deadline,
        mut log_in: impl FnMut(Option<&Secret>) -> Result<T>,
    ) -> Result<T> {
        let first = password.read(by)?;
        let result = self.attempt(first.as_ref(), &mut log_in);
        match result {
            Err(error) if error.reason() == Reason::Auth => {
                let again = password.read_again(first.as_ref(), by)?;
                if again == first { Err(error) } else { self.attempt(again.as_ref(), &mut log_in) }
            }
            done => done,
        }
    }

    fn attempt<T>(
        &self,
        password: Option<&Secret>,
        log_in: &mut impl FnMut(Option<&Secret>) -> Result<T>,
    ) -> Result<T> {
        let result = log_in(password);
        if result.as_ref().is_err_and(|error| error.reason() == Reason::Auth) {
            *self.0.lock() = password.cloned();
        }
        result
    }

    /// True when the password differs from the one refused last. Blocks for a command, at most until `by`.
    pub fn has_new(&self, password: &PasswordSource, by: Deadline) -> bool {
        let refused = self.0.lock().clone();
        password.read_again(refused.as_ref(), by).is_ok_and(|now| now != refused)
    }
}

fn from_file(path: &Path) -> Result<Secret> {
    read_file(path).map_err(|what| missing(format!("the password file {} {what}", path.display())))
}

/// There is no password, so that no server was asked.
fn missing(message: String) -> Error {
    Error::new(Reason::Auth, message).with_meaning("there is no password to log in with").before_password()
}

/// A file's content without a byte order mark and its final line end; a refusal says what is wrong and nothing of the
/// content.
pub(crate) fn read_file(path: &Path) -> Result<Secret, String> {
    let text = file::read_text(path, MAX_PASSWORD_BYTES as u64).map_err(|unread| unread.to_string())?;
    secret(text).ok_or_else(|| "is empty".to_owned())
}

/// A text without its final line end; `None` where nothing is left.
fn secret(mut text: String) -> Option<Secret> {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    (!text.is_empty()).then(|| Secret::new(text))
}

/// The last result of one command line. Who holds the lock runs the command, the others wait.
#[derive(Default)]
struct SharedCommand(Mutex<Option<CommandOutcome>>);

struct CommandOutcome {
    ended: Instant,
    password: Result<Secret>,
}

impl CommandOutcome {
    fn is_fresh(&self) -> bool {
        self.password.is_ok() && self.ended.elapsed() < COMMAND_TTL
    }
}

/// The command lines of the process: equal commands share a result across targets and across reloads, and neither knows of
/// the other's configuration.
static COMMANDS: LazyLock<Mutex<HashMap<Vec<String>, Arc<SharedCommand>>>> = LazyLock::new(Mutex::default);

fn shared(argv: &[String]) -> Arc<SharedCommand> {
    let mut commands = COMMANDS.lock();
    // Commands that no configuration has any more go.
    commands.retain(|known, shared| known == argv || Arc::strong_count(shared) > 1 || shared.is_fresh());
    Arc::clone(commands.entry(argv.to_vec()).or_default())
}

impl SharedCommand {
    fn read(&self, argv: &[String], by: Deadline) -> Result<Secret> {
        let asked = Instant::now();
        let Some(mut last) = self.0.try_lock_until(by.moment()) else {
            return Err(failed(argv, "did not end in time for another target that runs it"));
        };
        // A failure serves those who waited for it, and nobody else.
        if let Some(known) = last.as_ref().filter(|known| known.is_fresh() || known.ended >= asked) {
            return known.password.clone();
        }
        let result = run(argv, by);
        *last = Some(CommandOutcome { ended: Instant::now(), password: result.clone() });
        result
    }

    fn forget(&self, refused: &Secret) {
        // A run that holds the lock returns a result that is newer than what was refused.
        if let Some(mut last) = self.0.try_lock() {
            last.take_if(|last| {
                last.password.as_ref() == Ok(refused) && last.ended.elapsed() >= MIN_COMMAND_AGE
            });
        }
    }

    fn is_fresh(&self) -> bool {
        self.0.try_lock().is_none_or(|last| last.as_ref().is_some_and(CommandOutcome::is_fresh))
    }
}

fn failed(argv: &[String], what: &str) -> Error {
    let program = argv.first().map_or("", String::as_str);
    missing(format!("the password command {program} {what}"))
}

fn run(argv: &[String], by: Deadline) -> Result<Secret> {
    let Some((program, arguments)) = argv.split_first() else { return Err(failed(argv, "is empty")) };
    let mut running = RunningCommand::start(program, arguments)
        .map_err(|error| failed(argv, &format!("cannot be started: {error}")))?;
    let mut printed = CommandOutput::default();
    let ended = running.collect(&mut printed, by.or_within(COMMAND_TIMEOUT));
    let failed = |what: &str| failed(argv, &format!("{what}{}", printed.summary()));
    let status = ended.map_err(|what| failed(&what))?;
    if !status.success() {
        return Err(failed(&format!("failed: {status}")));
    }
    let text = file::decode_text(printed.out.clone()).map_err(|error| match error {
        ReadError::NotText(_) => failed(&format!("printed what {error}")),
        _ => failed(&error.to_string()),
    })?;
    let secret = secret(text).ok_or_else(|| failed("printed what is empty"))?;
    if secret.expose().contains(['\n', '\r']) {
        return Err(failed("printed more than one line, which cannot be a password"));
    }
    if secret.expose().chars().any(|c| c.is_control() && c != '\t') {
        return Err(failed("printed control characters, which cannot be part of a password"));
    }
    Ok(secret)
}

/// What a command wrote.
#[derive(Default)]
struct CommandOutput {
    out: Vec<u8>,
    /// The last of it.
    err: Vec<u8>,
}

impl CommandOutput {
    /// What a failing command wrote to its standard error, as the end of a sentence: one line, not too long, and nothing
    /// of its output, which may be the password.
    fn summary(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.err).into_owned();
        for line in String::from_utf8_lossy(&self.out).lines().map(str::trim) {
            if line.len() >= MIN_MASKED_BYTES {
                text = text.replace(line, "***");
            }
        }
        let words: Vec<String> =
            text.split_whitespace().map(|word| word.chars().filter(|c| !c.is_control()).collect()).collect();
        let line = words.join(" ");
        if line.is_empty() {
            return String::new();
        }
        let start = line.len().saturating_sub(MAX_SHOWN_STDERR_BYTES);
        let start = (start..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(start);
        let cut = if start > 0 { "…" } else { "" };
        format!("; it wrote: {cut}{}", line.get(start..).unwrap_or_default())
    }
}

/// A started command; dropped before its end, it is killed with its group.
struct RunningCommand {
    /// `None` once it has ended.
    child: Option<Child>,
    out: PipeReader,
    err: PipeReader,
}

impl RunningCommand {
    /// In a process group of its own, so that the processes it starts end with it when it is too slow.
    fn start(program: &str, arguments: &[String]) -> std::io::Result<Self> {
        let ((out, theirs), (err, also_theirs)) = (std::io::pipe()?, std::io::pipe()?);
        for pipe in [&out, &err] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        // The temporary holds our copies of the pipes' other ends: they are gone with this statement.
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(theirs)
            .stderr(also_theirs)
            .process_group(0)
            .spawn()?;
        Ok(RunningCommand { child: Some(child), out, err })
    }

    /// What it prints until it ends. The pipes may stay open longer, in a process that the command left behind.
    fn collect(&mut self, printed: &mut CommandOutput, by: Deadline) -> Result<ExitStatus, String> {
        let unread = |error: std::io::Error| format!("cannot be read: {error}");
        let mut pause = Duration::from_millis(1);
        loop {
            // In this order: what was written before the end is there to be read after it.
            let ended = self.ended().map_err(unread)?;
            drain(&self.out, &mut printed.out).map_err(unread)?;
            drain(&self.err, &mut printed.err).map_err(unread)?;
            printed.err.drain(..printed.err.len().saturating_sub(MAX_STDERR_BYTES));
            if printed.out.len() > MAX_PASSWORD_BYTES {
                return Err("printed more than 64 KiB".to_owned());
            }
            if let Some(status) = ended {
                return Ok(status);
            }
            if by.passed() {
                return Err("did not end in time and was killed".to_owned());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(MAX_POLL_INTERVAL);
        }
    }

    fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let status = self.child.as_mut().map_or(Ok(None), Child::try_wait)?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }
}

/// Reads what is there, up to somewhat more than a password may have.
fn drain(mut pipe: &PipeReader, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut chunk = [0; 4096];
    let most = into.len() + MAX_PASSWORD_BYTES;
    while into.len() <= most {
        match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => into.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
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
    fn shell(name: &str, script: &str) -> PasswordSource {
        PasswordSource::Command(["/bin/sh", "-c", script, name].map(str::to_owned).to_vec())
    }

    fn text(password: &PasswordSource) -> String {
        password.read(soon()).unwrap().unwrap().expose().to_owned()
    }

    fn message(password: &PasswordSource, by: Deadline) -> String {
        let error = password.read(by).unwrap_err();
        assert_eq!(error.reason(), Reason::Auth);
        error.to_string()
    }

    #[test]
    fn a_file_loses_its_final_line_end_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let password = PasswordSource::File(path.clone());
        for (content, expected) in [
            ("p", "p"),
            (" p@:/#%' \n", " p@:/#%' "),
            ("p\r\n", "p"),
            ("\u{feff}p\r\n", "p"),
            ("p\r", "p\r"),
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
        let password = PasswordSource::File(path.clone());
        assert!(
            message(&password, soon()).contains("cannot be read: No such file"),
            "{}",
            message(&password, soon())
        );
        for (content, expected) in [
            (&b"\n"[..], "is empty"),
            (b"\xef\xbb\xbf\r\n", "is empty"),
            (b"hunter2\xff", "is not UTF-8"),
            (b"\xff\xfeh\0", "is UTF-16 text: save it as UTF-8"),
            (&[b'x'; 70_000], "64 KiB"),
        ] {
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
        assert_eq!(text(&shell("mark", "printf '\\357\\273\\277hunter\\r\\n'")), "hunter");
        assert_eq!(text(&shell("warns", "echo noise >&2; echo hunter")), "hunter");
        // More than a pipe holds, and nobody waits for it.
        assert_eq!(text(&shell("noisy", "head -c 300000 /dev/zero >&2; echo hunter")), "hunter");
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
        std::thread::sleep(MIN_COMMAND_AGE);
        assert_eq!(again("another"), "1", "another was refused");
        assert_eq!(again("1"), "2");
        assert_eq!(text(&other).trim(), "2");
        assert_eq!(text(&shell("another", &script)).trim(), "3");
    }

    #[test]
    fn a_failed_command_is_not_shared_and_its_output_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let flag = folder.path().join("flag");
        let script = format!("echo hunter2; echo 'no hunter2 here' >&2; test -e {}", flag.display());
        let password = shell("fails", &script);
        let message = message(&password, soon());
        assert!(
            message.contains("/bin/sh failed: exit status: 1; it wrote: no *** here")
                && !message.contains("hunter"),
            "{message}"
        );
        std::fs::write(&flag, "").unwrap();
        assert_eq!(text(&password), "hunter2");
    }

    #[test]
    fn of_a_long_complaint_the_end_is_shown() {
        let script = "i=0; while [ $i -lt 2000 ]; do echo word$i >&2; i=$((i+1)); done; exit 1";
        let message = message(&shell("long", script), soon());
        assert!(message.contains("it wrote: …") && message.ends_with("word1998 word1999"), "{message}");
        assert!(message.len() < 600, "{message}");
    }

    #[test]
    fn those_who_wait_for_a_failing_command_get_its_failure() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("count");
        let password = shell("fails once", &format!("echo x >> {}; sleep 0.5; exit 1", count.display()));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let password = password.clone();
                std::thread::spawn(move || password.read(soon()).unwrap_err())
            })
            .collect();
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
        let runs = std::fs::read_to_string(&count).unwrap().lines().count();
        assert!(runs < 4, "{runs}");
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
            (
                shell("killed", "echo because >&2; kill -9 $$"),
                "failed: signal: 9 (SIGKILL); it wrote: because",
            ),
            (shell("two lines", "echo hunter2; echo hunter3"), "printed more than one line"),
            (shell("bell", "printf 'hunter\\007'"), "printed control characters"),
            (
                shell("empty", "echo Unable to locate >&2"),
                "printed what is empty; it wrote: Unable to locate",
            ),
            (
                shell("colours", "printf '\\033[31mred\\033[0m\\n  next\\tline\\n' >&2; exit 3"),
                "failed: exit status: 3; it wrote: [31mred[0m next line",
            ),
            (
                PasswordSource::Command(vec!["/nonexistent/program".into(), "hunter2".into()]),
                "cannot be started: No such file",
            ),
            (PasswordSource::Command(vec![]), "is empty"),
        ];
        for (password, expected) in cases {
            let message = message(&password, soon());
            assert!(message.contains(expected) && !message.contains("hunter"), "{message}");
        }
    }
}
