//! Several users on one database: whatever the exporter reads and as whom, the owner writes as before, and the numbers are
//! those that were committed. The application is Python's sqlite3; users need root, as which the tests run in the CI.

use std::fs::{Permissions, set_permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

use crate::exporter::program;
use crate::process::{end, folder, is_root};

const OWNER: u32 = 61_001;
const OTHER: u32 = 61_002;
/// Runs each line of its input and says `ok`, or what is wrong. `.kill` ends it as a crash does.
const APPLICATION: &str = "
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
for line in sys.stdin:
    if line == '.kill\\n':
        os.kill(os.getpid(), 9)
    try:
        database.execute(line).fetchall()
        print('ok', flush=True)
    except sqlite3.Error as error:
        print(error, flush=True)
database.close()
";

/// As whom the exporter runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Root,
    /// As in a container without capabilities: SQLite cannot give what it makes to the owner.
    RootWithoutCapabilities,
    Owner,
    /// Another user in the group of the database.
    Member,
    Stranger,
}

const USERS: [User; 5] =
    [User::Root, User::RootWithoutCapabilities, User::Owner, User::Member, User::Stranger];

fn as_user(user: User, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    match user {
        User::Root => {}
        User::RootWithoutCapabilities => {
            command.args(["--bounding-set=-chown", "--inh-caps=-chown"]);
        }
        User::Owner => {
            command.args([format!("--reuid={OWNER}"), format!("--regid={OWNER}"), "--clear-groups".into()]);
        }
        User::Member => {
            command.args([
                format!("--reuid={OTHER}"),
                format!("--regid={OTHER}"),
                format!("--groups={OWNER}"),
            ]);
        }
        User::Stranger => {
            command.args([format!("--reuid={OTHER}"), format!("--regid={OTHER}"), "--clear-groups".into()]);
        }
    }
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// A folder of the owner with a database in it, and beside it what the exporter needs.
struct Stage {
    folder: TempDir,
}

impl Stage {
    fn new(mode: u32, journal: &str) -> Self {
        let stage = Stage { folder: folder() };
        let open = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
        open(stage.folder.path(), 0o755);
        let app = stage.folder.path().join("app");
        std::fs::create_dir(&app).expect("a folder");
        chown(&app, Some(OWNER), Some(OWNER)).expect("root may");
        open(&app, mode);
        let made = [
            format!("PRAGMA journal_mode = {journal}"),
            "CREATE TABLE t (v)".into(),
            "INSERT INTO t VALUES (1)".into(),
        ];
        made.iter().for_each(|sql| stage.write(sql));
        let config = "databases: {app: {driver: sqlite, database: app/app.db}}\n\
                      queries: [{name: q, sql: SELECT count(*) AS v FROM t, metrics: [{name: q, help: h., value_column: v}]}]\n";
        std::fs::write(stage.folder.path().join("config.yaml"), config).expect("written");
        let exporter = stage.exporter();
        std::fs::hard_link(program(), &exporter)
            .or_else(|_| std::fs::copy(program(), &exporter).map(drop))
            .expect("a program that every user reaches");
        stage
    }

    fn exporter(&self) -> PathBuf {
        self.folder.path().join("sql-exporter")
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("app/app.db")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("app/app.db{suffix}"))
    }

    /// The owner's application opens the database, writes once and leaves.
    fn write(&self, sql: &str) {
        Application::start(self).run(sql);
    }

    /// What one scrape shows, with what it says on the terminal.
    fn scrape(&self, user: User) -> String {
        let mut command = as_user(user, &self.exporter().display().to_string());
        command.args(["-c", "config.yaml", "--once", "--no-self-metrics"]).current_dir(self.folder.path());
        let done = command.stdin(Stdio::null()).output().expect("it runs");
        format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
    }

    /// A scrape shows so many rows.
    fn check_count(&self, user: User, count: u32, what: &str) {
        let seen = self.scrape(user);
        assert!(seen.contains(&format!("\nq{{target=\"app\"}} {count}\n")), "{what}: {seen}");
    }

    /// Every file belongs to the owner.
    fn check_owner(&self, what: &str) {
        for entry in std::fs::read_dir(self.folder.path().join("app")).expect("a folder") {
            let entry = entry.expect("an entry");
            assert_eq!(
                entry.metadata().expect("it is there").uid(),
                OWNER,
                "{what}: {:?}",
                entry.file_name()
            );
        }
    }
}

struct Application {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Application {
    fn start(stage: &Stage) -> Self {
        let mut command = as_user(User::Owner, "/usr/bin/python3");
        command.args(["-c", APPLICATION]).arg(stage.database());
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 is installed");
        let (input, output) = (process.stdin.take(), process.stdout.take().expect("a pipe"));
        Application { process, input, output: BufReader::new(output) }
    }

    fn tell(&mut self, line: &str) -> String {
        let input = self.input.as_mut().expect("it was not ended");
        writeln!(input, "{line}").expect("it reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        answer.trim_end().to_owned()
    }

    fn run(&mut self, sql: &str) {
        assert_eq!(self.tell(sql), "ok", "{sql}");
    }

    fn crash(mut self) {
        assert_eq!(self.tell(".kill"), "");
        self.process.wait().expect("it ended");
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // It closes the database when its input ends.
        drop(self.input.take());
        if std::thread::panicking() {
            let _ = end(&mut self.process);
        }
        let _ = self.process.wait();
    }
}

/// True, and says so, where there are no other users to be.
#[expect(clippy::print_stderr, reason = "says why nothing was tested")]
fn skipped() -> bool {
    if !is_root() {
        eprintln!("skipped: only root can be several users");
    }
    !is_root()
}

/// Modes of the folder: writable by its group, whose own its files are; by the owner alone.
const FOLDERS: [u32; 2] = [0o2775, 0o755];

#[test]
fn the_owner_writes_as_before_after_a_scrape_by_any_user_and_the_numbers_are_true() {
    if skipped() {
        return;
    }
    for journal in ["WAL", "DELETE", "PERSIST"] {
        for mode in FOLDERS {
            let stage = Stage::new(mode, journal);
            for (count, user) in (1..).zip(USERS) {
                let what = format!("{journal}, folder {mode:o}, {user:?}");
                stage.check_count(user, count, &what);
                stage.check_owner(&what);
                stage.write("INSERT INTO t VALUES (2)");
            }
        }
    }
}

#[test]
fn an_application_that_has_the_database_open_goes_on_and_its_commits_are_seen() {
    if skipped() {
        return;
    }
    for mode in FOLDERS {
        let stage = Stage::new(mode, "WAL");
        let mut count = 1;
        for user in USERS {
            let what = format!("folder {mode:o}, {user:?}");
            let mut application = Application::start(&stage);
            application.run("INSERT INTO t VALUES (2)");
            count += 1;
            assert!(stage.beside("-wal").exists());
            stage.check_count(user, count, &what);
            application.run("INSERT INTO t VALUES (3)");
            count += 1;
            drop(application);
            assert!(!stage.beside("-wal").exists(), "{what}: the last to close merges and removes it");
            stage.check_owner(&what);
        }
    }
}

#[test]
fn what_a_crash_left_is_read_with_what_was_committed_and_the_owner_goes_on() {
    if skipped() {
        return;
    }
    for mode in FOLDERS {
        let stage = Stage::new(mode, "WAL");
        let mut count = 1;
        for user in USERS {
            let what = format!("folder {mode:o}, {user:?}");
            let mut application = Application::start(&stage);
            application.run("INSERT INTO t VALUES (2)");
            application.run("BEGIN");
            application.run("INSERT INTO t VALUES (3)");
            application.crash();
            count += 1;
            assert!(stage.beside("-wal").exists() && stage.beside("-shm").exists());
            stage.check_count(user, count, &what);
            stage.check_owner(&what);
            stage.write("INSERT INTO t VALUES (4)");
            count += 1;
        }
    }
}

#[test]
fn where_only_new_files_would_help_the_owner_is_told_what_to_do_and_that_helps() {
    if skipped() {
        return;
    }
    let stage = Stage::new(0o2775, "WAL");
    for user in [User::Member, User::RootWithoutCapabilities] {
        let mut application = Application::start(&stage);
        application.run("INSERT INTO t VALUES (2)");
        application.crash();
        // As in a copy of the database and its changes.
        std::fs::remove_file(stage.beside("-shm")).expect("it was there");
        let seen = stage.scrape(user);
        assert!(seen.contains("app.db-wal exists beside it without app.db-shm"), "{seen}");
        assert!(seen.contains(".tables; or run the exporter as that user"), "{seen}");
        assert!(!stage.beside("-shm").exists() && !seen.contains("\nq{"), "{seen}");
        stage.check_owner("refused");
        stage.write("SELECT 1 FROM t");
        assert!(
            stage.scrape(user).contains("\nq{target=\"app\"}"),
            "the advice does not help: {}",
            stage.scrape(user)
        );
    }
    let mut application = Application::start(&stage);
    application.run("INSERT INTO t VALUES (2)");
    application.crash();
    std::fs::remove_file(stage.beside("-shm")).expect("it was there");
    assert!(stage.scrape(User::Owner).contains("\nq{target=\"app\"} 4\n"), "{}", stage.scrape(User::Owner));
    stage.check_owner("the owner makes files");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    if skipped() {
        return;
    }
    let stage = Stage::new(0o755, "WAL");
    let mut application = Application::start(&stage);
    application.run("INSERT INTO t VALUES (2)");
    for suffix in ["-wal", "-shm", ""] {
        let path = stage.beside(suffix);
        set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        let seen = stage.scrape(User::Stranger);
        let path_text = std::fs::canonicalize(&path).expect("it is there").display().to_string();
        assert!(seen.contains("connect: cannot open"), "{suffix}: {seen}");
        assert!(seen.contains(&format!("let this user (uid {OTHER}) read")), "{suffix}: {seen}");
        assert!(suffix.is_empty() || seen.contains(&path_text), "{suffix}: {seen}");
        assert!(!seen.contains("immutable"), "{suffix}: {seen}");
        set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
        assert!(stage.scrape(User::Stranger).contains("\nq{target=\"app\"} 2\n"));
    }
}

#[test]
fn a_target_that_writes_is_refused_where_it_would_lock_the_owner_out() {
    if skipped() {
        return;
    }
    let stage = Stage::new(0o2775, "WAL");
    let config = stage.folder.path().join("config.yaml");
    let text = std::fs::read_to_string(&config).expect("it is there");
    std::fs::write(&config, text.replace("app.db}", "app.db, read_only: false}")).expect("written");
    let seen = stage.scrape(User::Member);
    assert!(seen.contains("the owner of the database (uid 61001) could not write"), "{seen}");
    stage.check_owner("refused");
    assert!(stage.scrape(User::Owner).contains("\nq{target=\"app\"} 1\n"));
    stage.write("INSERT INTO t VALUES (2)");
    // Whoever may write the database may write what is made beside it.
    set_permissions(stage.database(), Permissions::from_mode(0o666)).expect("a mode");
    assert!(stage.scrape(User::Member).contains("\nq{target=\"app\"} 2\n"), "{}", stage.scrape(User::Member));
    stage.write("INSERT INTO t VALUES (3)");
}

#[test]
fn what_session_sql_attaches_locks_nobody_out_either() {
    if skipped() {
        return;
    }
    let (stage, other) = (Stage::new(0o2775, "WAL"), Stage::new(0o2775, "WAL"));
    let config = stage.folder.path().join("config.yaml");
    let text = std::fs::read_to_string(&config).expect("it is there");
    let attach = format!("app.db, session_sql: [\"ATTACH '{}' AS other\"]}}", other.database().display());
    let text = text.replace("app.db}", &attach).replace("FROM t", "FROM other.t");
    std::fs::write(&config, text).expect("written");
    let seen = stage.scrape(User::Member);
    assert!(
        seen.contains("session_sql attaches") && seen.contains("app.db-wal, which this user would make"),
        "{seen}"
    );
    other.check_owner("refused");
    let mut application = Application::start(&other);
    application.run("INSERT INTO t VALUES (2)");
    assert!(stage.scrape(User::Member).contains("\nq{target=\"app\"} 2\n"), "{}", stage.scrape(User::Member));
    application.run("INSERT INTO t VALUES (2)");
    drop(application);
    assert!(stage.scrape(User::Root).contains("\nq{target=\"app\"} 3\n"));
    other.check_owner("attached");
    other.write("INSERT INTO t VALUES (2)");
}
