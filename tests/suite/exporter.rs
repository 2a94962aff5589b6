//! The built binary under test: a configuration in a temporary folder, a run of it, what it answered and wrote.
//! Every byte it writes is searched for the canary: a password in any output fails the test that ran it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::process::{end, folder, mortal, signal, wait_for};
use crate::servers::CANARY;
use crate::web_client::{Reply, request};

/// A user of no account.
pub(crate) const NOBODY: &str = "64321";

/// What to run: a folder with a configuration, arguments, environment.
pub(crate) struct Setup {
    folder: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Files that the exporter alone sees in the place of others: the other, and ours in the folder.
    mounts: Vec<(String, String)>,
    /// How many files it may open, soft and hard.
    descriptors: Option<u32>,
    /// The columns of the terminal that it writes to.
    columns: Option<u16>,
    /// A copy of it in the folder runs as this user, where the tests run as root.
    nobody: bool,
    /// How many processes and threads its user may have.
    processes: Option<u32>,
    /// What it reads as its stdin; nothing without.
    stdin: Option<File>,
}

impl Setup {
    /// A folder with `sql-exporter.yaml`.
    pub(crate) fn new(config: &str) -> Self {
        Self::empty().file("sql-exporter.yaml", config).args(&["-c", "sql-exporter.yaml"])
    }

    /// A folder without a configuration.
    pub(crate) fn empty() -> Self {
        Setup {
            folder: folder(),
            arguments: Vec::new(),
            environment: Vec::new(),
            mounts: Vec::new(),
            descriptors: None,
            columns: None,
            nobody: false,
            processes: None,
            stdin: None,
        }
    }

    /// One more file, its path relative to the folder.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let full = self.folder.path().join(path);
        if let Some(parent) = full.parent() {
            std::fs::create_dir_all(parent).expect("a folder can be made");
        }
        std::fs::write(&full, text).expect("a file can be written");
        self
    }

    /// Further arguments.
    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// One more variable; the exporter sees no other but PATH and these.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file of the folder that the exporter alone sees in the place of `path`. Needs to be root.
    pub(crate) fn mount(mut self, path: &str, file: &str) -> Self {
        self.mounts.push((path.to_owned(), file.to_owned()));
        self
    }

    /// It may open no more files than this.
    pub(crate) fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Runs as a user who has nothing else: limits of a user do not bind root.
    pub(crate) fn nobody(mut self) -> Self {
        // By another process: one that starts while this one writes the file would find it busy.
        let copied = Command::new("cp").arg(program()).arg(self.folder.path().join("exporter")).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp failed");
        self.nobody = true;
        self
    }

    /// Its user may have so many processes and threads, which binds others than root.
    pub(crate) fn processes(mut self, most: u32) -> Self {
        self.processes = Some(most);
        self
    }

    /// It reads this as its stdin.
    pub(crate) fn stdin(mut self, stdin: File) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// Runs on a terminal of this width: stdout and stderr come as one, lines end in `\r\n`.
    pub(crate) fn terminal(mut self, columns: u16) -> Self {
        self.columns = Some(columns);
        self
    }

    /// The mode of a file in the folder.
    pub(crate) fn mode(self, path: &str, mode: u32) -> Self {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(self.folder.path().join(path), mode).expect("a mode can be set");
        self
    }

    /// The folder, which is the exporter's working directory.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self) -> Command {
        let own = || self.path().join("exporter").display().to_string();
        let exporter = &if self.nobody { own() } else { program() };
        let user = self.nobody.then_some(NOBODY);
        let mut command = if let Some(columns) = self.columns {
            // `script` has a pseudo-terminal for its child, and no size for it.
            let words = self.arguments.iter().map(|argument| format!(" '{argument}'"));
            let line = format!("stty cols {columns}; exec '{exporter}'{}", words.collect::<String>());
            let mut command = mortal(None, "script");
            command.args(["-qec", &line, "/dev/null"]);
            command
        } else if let Some(most) = self.descriptors {
            let mut command = mortal(None, "prlimit");
            command.args([&format!("--nofile={most}:{most}"), "--", exporter]);
            command
        } else if let Some(most) = self.processes {
            let mut command = mortal(user, "prlimit");
            command.args([&format!("--nproc={most}:{most}"), "--", exporter]);
            command
        } else if self.mounts.is_empty() {
            mortal(user, exporter)
        } else {
            let mounts = self.mounts.iter().map(|(path, file)| format!("mount --bind {file} {path} && "));
            let mut command = mortal(None, "unshare");
            let script = format!("{}exec \"$@\"", mounts.collect::<String>());
            command.args(["--mount", "--", "sh", "-c", &script, "sh", exporter]);
            command
        };
        let arguments = if self.columns.is_none() { self.arguments.as_slice() } else { &[] };
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let stdin = self.stdin.as_ref().map(|file| file.try_clone().expect("a descriptor"));
        command
            .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to its end: `--once`, `packs`, `--version`, a faulty configuration.
    pub(crate) fn output(&self) -> Output {
        let done = self.command().output().expect("the exporter runs");
        let output = Output { status: done.status, stdout: done.stdout, stderr: done.stderr };
        assert_clean("stdout", &output.stdout);
        assert_clean("stderr", &output.stderr);
        output
    }

    /// One scrape to nowhere, under way.
    pub(crate) fn spawn_once(&self) -> Child {
        let mut command = self.command();
        command.arg("--once").stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().expect("setpriv is part of util-linux")
    }

    /// One scrape to stdout.
    pub(crate) fn once(self) -> Output {
        self.args(&["--once"]).output()
    }

    /// Serves on a free port; returns once it listens.
    pub(crate) fn serve(self) -> Exporter {
        Exporter::start(self.args(&["--listen", "127.0.0.1:0"]))
    }
}

/// What a run that ended has left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Output {
    /// The exit code.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", self.errors()))
    }

    /// Stdout as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is UTF-8")
    }

    /// Stderr as text.
    pub(crate) fn errors(&self) -> &str {
        std::str::from_utf8(&self.stderr).expect("stderr is UTF-8")
    }
}

/// A serving exporter; killed at drop.
pub(crate) struct Exporter {
    child: Child,
    setup: Setup,
    address: SocketAddr,
    log: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Exporter {
    /// Serves a configuration.
    pub(crate) fn serve(config: &str) -> Self {
        Setup::new(config).serve()
    }

    fn start(setup: Setup) -> Self {
        let mut child = setup.command().spawn().expect("setpriv is part of util-linux");
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(pipe) = child.stderr.take() {
            readers.push(collect(pipe, Arc::clone(&log)));
        }
        if let Some(pipe) = child.stdout.take() {
            readers.push(collect(pipe, Arc::clone(&log)));
        }
        let address = wait_for("the line `listening on`", || {
            let text = String::from_utf8_lossy(&lock(&log)).into_owned();
            let ended = child.try_wait().is_ok_and(|status| status.is_some());
            listening(&text).or_else(|| if ended { panic!("the exporter ended: {text}") } else { None })
        });
        Exporter { child, setup, address, log, readers }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file in its folder.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.setup.path().join(path)
    }

    /// GET.
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[])
    }

    /// GET with headers.
    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.request("GET", path, headers)
    }

    /// Any method.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let reply = request(self.address, method, path, headers);
        assert_clean(path, &reply.body);
        assert_clean(path, format!("{:?}", reply.headers).as_bytes());
        reply
    }

    /// The exposition of `/metrics`, which must be answered with 200.
    pub(crate) fn metrics(&self) -> String {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), self.log());
        reply.text().to_owned()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&lock(&self.log)).into_owned()
    }

    /// Waits until the log holds `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    /// The same, with something going on meanwhile.
    pub(crate) fn wait_for_log_while(&self, text: &str, mut act: impl FnMut()) {
        wait_for(&format!("{text:?} in the log"), || {
            act();
            self.log().contains(text).then_some(())
        });
    }

    /// Asks it to stop with a signal (`TERM`, `INT`) and waits for its end; gives the exit code and the log.
    pub(crate) fn stop(self, name: &str) -> (Option<i32>, String) {
        signal(name, &[self.child.id()]);
        self.ended()
    }

    /// Waits for its end; gives the exit code and the log.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let status = wait_for("the exporter to end", || self.child.try_wait().ok()?);
        self.readers.drain(..).for_each(|reader| reader.join().expect("the log's reader ends"));
        (status.code(), self.log())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = end(&mut self.child);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if !std::thread::panicking() {
            assert_clean("the log", &lock(&self.log));
        }
    }
}

/// Fails when a password is in `bytes`.
pub(crate) fn assert_clean(what: &str, bytes: &[u8]) {
    let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
    assert!(!found, "a password is in {what}:\n{}", String::from_utf8_lossy(bytes));
}

/// The binary under test: cargo's own build, or the one that `TEST_EXPORTER` names.
pub(crate) fn program() -> String {
    std::env::var("TEST_EXPORTER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sql-exporter").to_owned())
}

/// The address in `listening on http://127.0.0.1:PORT`, or `https://`.
fn listening(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on http")?.1.split_once("://")?;
    let end = rest.find(|c: char| !matches!(c, '0'..='9' | '.' | ':' | '[' | ']' | 'a'..='f'))?;
    rest[..end].trim_end_matches('.').parse().ok()
}

fn lock(log: &Mutex<Vec<u8>>) -> std::sync::MutexGuard<'_, Vec<u8>> {
    log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn collect(mut pipe: impl Read + Send + 'static, log: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            let _ = lock(&log).write_all(&chunk[..count]);
        }
    })
}
