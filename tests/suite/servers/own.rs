//! Servers of a test's own, from a copy of the initialised data folder: they may be frozen, killed, restarted,
//! and die with the test. Start one inside the test's thread: the kernel kills it when that thread ends.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{MariaDb, Postgres};
use crate::process::{copy_folder, end, family, folder, free_port, mortal, signal, variable, wait_for};

/// Makes the command for a folder and a port: `restart` needs it again.
type Recipe = Box<dyn Fn(&Path, u16) -> Command + Send>;

/// A server process in a folder of its own.
struct Server {
    child: Child,
    folder: TempDir,
    command: Recipe,
    port: u16,
}

impl Server {
    /// Starts on a free port and waits until `answers`; a port that another process took meanwhile is not the end.
    fn start(data: &str, command: Recipe, answers: impl Fn(u16) -> bool) -> Self {
        let folder = folder();
        copy_folder(&variable(data), &folder.path().join("data"));
        Server::start_in(folder, command, answers)
    }

    /// The same, where the data folder is there.
    fn start_in(folder: TempDir, command: Recipe, answers: impl Fn(u16) -> bool) -> Self {
        for _ in 0..5 {
            let port = free_port();
            let mut child = spawn(&command, folder.path(), port);
            if comes_up(&mut child, || answers(port)) {
                return Server { child, folder, command, port };
            }
            let _ = end(&mut child);
        }
        panic!("the server does not start: {}", log(folder.path()));
    }

    fn restart(&mut self, answers: impl Fn(u16) -> bool) {
        let _ = end(&mut self.child);
        let port = self.port;
        for _ in 0..5 {
            self.child = spawn(&self.command, self.folder.path(), port);
            if comes_up(&mut self.child, || answers(port)) {
                return;
            }
        }
        panic!("the server does not start again on port {port}: {}", log(self.folder.path()));
    }

    fn freeze(&self) {
        // Twice: a child that was born while the first list was read.
        signal("STOP", &family(self.child.id()));
        signal("STOP", &family(self.child.id()));
    }

    fn thaw(&self) {
        signal("CONT", &family(self.child.id()));
    }

    fn kill(&mut self) {
        end(&mut self.child).expect("the server's process can be waited for");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = end(&mut self.child);
        if let Some(segment) = shared_memory(self.folder.path()) {
            let _ = Command::new("ipcrm").args(["-m", &segment]).stderr(Stdio::null()).status();
        }
    }
}

/// The number of PostgreSQL's memory segment, in the seventh line of its `postmaster.pid`: it outlives a killed server, and the
/// system has room for 4,096.
fn shared_memory(folder: &Path) -> Option<String> {
    let pid = std::fs::read_to_string(folder.join("data/postmaster.pid")).ok()?;
    pid.lines().nth(6)?.split_whitespace().nth(1).map(str::to_owned)
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn spawn(command: &dyn Fn(&Path, u16) -> Command, folder: &Path, port: u16) -> Child {
    let log = File::create(folder.join("log")).expect("a log file");
    let second = log.try_clone().expect("a second handle");
    let mut command = command(folder, port);
    command.current_dir(folder).stdin(Stdio::null()).stdout(log).stderr(second);
    command.spawn().expect("setpriv is part of util-linux")
}

/// True once the server answers, false when its process ended first.
fn comes_up(child: &mut Child, answers: impl Fn() -> bool) -> bool {
    wait_for("a server to start", || {
        if child.try_wait().ok()?.is_some() { Some(false) } else { answers().then_some(true) }
    })
}

/// How a server is reached.
pub(crate) trait Access: Clone {
    /// True when it takes a login.
    fn answers(&self) -> bool;
}

impl Access for Postgres {
    fn answers(&self) -> bool {
        self.try_client().is_ok()
    }
}

impl Access for MariaDb {
    fn answers(&self) -> bool {
        self.try_client().is_ok()
    }
}

/// A server of a test's own.
pub(crate) struct Own<A> {
    server: Server,
    access: A,
}

impl<A: Access> Own<A> {
    /// How to reach it: the server's own database, same password as the shared server.
    pub(crate) fn access(&self) -> &A {
        &self.access
    }

    /// Stops every process of it in its tracks: the port still accepts, nothing answers.
    pub(crate) fn freeze(&self) {
        self.server.freeze();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.server.thaw();
    }

    /// The number of its memory segment.
    pub(crate) fn shared_memory(&self) -> Option<String> {
        shared_memory(self.server.folder.path())
    }

    /// What it wrote to its log.
    pub(crate) fn log(&self) -> String {
        log(self.server.folder.path())
    }

    /// Kills it; the port refuses.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port, with what was committed.
    pub(crate) fn restart(&mut self) {
        let access = self.access.clone();
        self.server.restart(move |_| access.answers());
    }
}

/// A PostgreSQL server of a test's own.
pub(crate) type OwnPostgres = Own<Postgres>;

impl OwnPostgres {
    /// Starts with further settings: `&["ssl=off", "max_connections=5"]`.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let folder = folder();
        copy_folder(&variable("TEST_POSTGRES_DATA"), &folder.path().join("data"));
        Self::start_in(folder, settings)
    }

    /// A hot standby of another own server: both began as copies of the same folder, so the standby has all that
    /// the primary wrote before it started its WAL.
    pub(crate) fn standby_of(primary: &Postgres) -> Self {
        Self::standby_with(primary, &[])
    }

    /// The same with further settings.
    pub(crate) fn standby_with(primary: &Postgres, settings: &[&str]) -> Self {
        let folder = folder();
        let data = folder.path().join("data");
        copy_folder(&variable("TEST_POSTGRES_DATA"), &data);
        File::create(data.join("standby.signal")).expect("a signal file");
        let Postgres { port, password, .. } = primary;
        let login = format!("host=127.0.0.1 port={port} user=postgres password={password} sslmode=disable");
        let login = format!("primary_conninfo={login}");
        Self::start_in(folder, &[&[login.as_str()], settings].concat())
    }

    fn start_in(folder: TempDir, settings: &[&str]) -> Self {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let program = format!("{}/postgres", variable("TEST_POSTGRES_BIN"));
        let command = move |folder: &Path, port: u16| {
            let mut command = mortal(Some("postgres"), &program);
            command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
            // These servers are killed and started again: what was committed must be there.
            command.args(["-c", "unix_socket_directories=", "-c", "synchronous_commit=on"]);
            command.args(settings.iter().flat_map(|setting| ["-c", setting]));
            command
        };
        let access = |port| Postgres { port, ..Postgres::shared("postgres") };
        let answers = move |port| access(port).answers();
        let server = Server::start_in(folder, Box::new(command), answers);
        Own { access: access(server.port), server }
    }
}

/// A PgBouncer of a test's own before a database of the shared server.
pub(crate) type OwnPgBouncer = Own<Postgres>;

impl OwnPgBouncer {
    /// Starts with `pool_mode` and further settings: `&["default_pool_size = 1"]`.
    pub(crate) fn before(server: &Postgres, pool_mode: &str, settings: &[&str]) -> Self {
        let behind = server.clone();
        let more = settings.join("\n");
        let pool_mode = pool_mode.to_owned();
        let command = move |folder: &Path, port: u16| {
            let Postgres { port: server, password, .. } = &behind;
            let users = folder.join("users");
            std::fs::write(&users, format!("\"postgres\" \"{password}\"\n")).expect("a user list");
            let ini = format!(
                "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
                 pool_mode = {pool_mode}\n{more}\n",
                users.display()
            );
            std::fs::write(folder.join("pgbouncer.ini"), ini).expect("a configuration");
            let mut command = mortal(Some("postgres"), "pgbouncer");
            command.arg(folder.join("pgbouncer.ini"));
            command
        };
        let behind = server.clone();
        let access = move |port| Postgres { port, ..behind.clone() };
        let probe = access.clone();
        let server = Server::start_in(folder(), Box::new(command), move |port| probe(port).answers());
        Own { access: access(server.port), server }
    }
}

/// A MariaDB server of a test's own.
pub(crate) type OwnMariaDb = Own<MariaDb>;

impl OwnMariaDb {
    /// Starts with further options: `&["--skip-ssl", "--max-connections=5"]`.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_in_zone("UTC0", options)
    }

    /// The same with this as the machine's time zone, in the notation of the variable `TZ`: `IST-5:30`.
    pub(crate) fn start_in_zone(zone: &str, options: &[&str]) -> Self {
        let zone = zone.to_owned();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let program = variable("TEST_MARIADB_BIN");
        let command = move |folder: &Path, port: u16| {
            let mut command = mortal(Some("mysql"), &program);
            command.env("TZ", &zone);
            command.arg(format!("--defaults-file={}", variable("TEST_MARIADB_CONFIG")));
            command.arg(format!("--datadir={}", folder.join("data").display()));
            // At its start it removes every temporary table in there, those of the shared server too, which crashes.
            command.arg(format!("--tmpdir={}", folder.join("data").display()));
            command.arg(format!("--port={port}"));
            command.arg(format!("--socket={}", folder.join("data/mariadb.sock").display()));
            command.args(&options);
            command
        };
        let access = |port| MariaDb { port, ..MariaDb::shared("mysql") };
        let answers = move |port| access(port).answers();
        let server = Server::start("TEST_MARIADB_DATA", Box::new(command), answers);
        Own { access: access(server.port), server }
    }
}
