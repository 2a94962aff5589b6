//! `init`: what it writes for each kind of database, that it works there, and what it never does.

mod hostile;
mod secrets;
mod servers;
mod terminal;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::exporter::{Output, assert_clean, program};
use crate::process::{folder, mortal};

/// A folder to work in, and what the environment has there.
struct Place {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Place {
    fn new() -> Self {
        Place { folder: folder(), variables: Vec::new() }
    }

    /// With a variable, for all that runs from now on.
    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Runs the exporter to its end, without a terminal.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = mortal(None, &program());
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let done = command.stdin(std::process::Stdio::null()).output().expect("the exporter runs");
        let output = Output { status: done.status, stdout: done.stdout, stderr: done.stderr };
        assert_clean("stdout", &output.stdout);
        assert_clean("stderr", &output.stderr);
        output
    }

    /// `init` with these arguments succeeds and writes `sql-exporter.yaml`: its text.
    fn init(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&["init"], arguments].concat());
        assert_eq!(output.code(), 0, "{}", output.errors());
        self.written("sql-exporter.yaml")
    }

    fn written(&self, file: &str) -> String {
        let text = std::fs::read_to_string(self.path(file)).expect("a configuration");
        assert_clean(file, text.as_bytes());
        text
    }

    /// A SQLite file with these statements run.
    fn sqlite(&self, file: &str, sql: &str) {
        let database = rusqlite::Connection::open(self.path(file)).expect("a database");
        database.execute_batch(sql).expect("its tables");
    }

    /// What the file promises: it passes `check`, its targets work, and a scrape has no failure. The page of that.
    fn page(&self) -> String {
        for arguments in [&["check", "--strict"][..], &["check", "--strict", "--connect"], &["test"]] {
            let output = self.run(arguments);
            assert_eq!(output.code(), 0, "{arguments:?}: {}{}", output.text(), output.errors());
        }
        let output = self.run(&["collect"]);
        assert_eq!(output.code(), 0, "{}", output.errors());
        output.text().to_owned()
    }
}

/// The value of the only sample of a family.
fn value(page: &str, family: &str) -> f64 {
    let is_sample = |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{'));
    let lines: Vec<&str> = page.lines().filter(is_sample).collect();
    let [line] = lines[..] else { panic!("{family}: {lines:?}") };
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

/// The statements that a file has as comments after the line that holds `start`, without a last one that sets a password by
/// hand.
fn statements(text: &str, start: &str) -> String {
    let after = text.lines().skip_while(|line| !line.contains(start));
    let block =
        after.skip_while(|line| !line.starts_with("#   ")).map_while(|line| line.strip_prefix("#   "));
    let lines: Vec<&str> = block.filter(|line| !line.starts_with('\\')).collect();
    lines.join("\n")
}

#[test]
fn a_file_that_exists_is_never_overwritten() {
    let place = Place::new();
    place.sqlite("app.db", "CREATE TABLE t (x)");
    for file in ["sql-exporter.yaml", "link.yaml"] {
        match file {
            "link.yaml" => std::os::unix::fs::symlink("nowhere", place.path(file)).expect("a link"),
            _ => std::fs::write(place.path(file), "mine").expect("a file"),
        }
        let output = place.run(&["init", "sqlite:app.db", "-o", file]);
        let message = format!(
            "error: {file} exists already, and init overwrites no file; name another one: -o OTHER\n"
        );
        assert_eq!((output.code(), output.errors(), output.text()), (2, message.as_str(), ""));
    }
    assert_eq!(place.written("sql-exporter.yaml"), "mine");
    assert!(!place.path("nowhere").exists());
    let output = place.run(&["init", "sqlite:app.db", "-o", "other.yaml"]);
    assert_eq!(
        (output.code(), output.text()),
        (0, "sql-exporter -c other.yaml test\nsql-exporter -c other.yaml\n")
    );
}

#[test]
fn wrong_arguments_are_one_clear_line() {
    let place = Place::new();
    for (arguments, message) in [
        (
            &[][..],
            "no database is named, and there is no terminal to ask on; name one: sql-exporter init postgres://",
        ),
        (
            &["sqlite:a.db", "-c", "x.yaml"],
            "init writes a new file and reads none; name the new file with -o",
        ),
        (&["sqlite:a.db", "-o", "no/x.yaml"], "--output no/x.yaml: there is no folder no"),
        (&["sqlite:a.db", "-o", "-"], "--output -: init writes a file"),
        (&["sqlite:a.db", "-o", ""], "--output : init writes a file"),
        (
            &["sqlite:a.db", "-o", "a\nb.yaml"],
            "--output a␊b.yaml: no command can be shown for this name; choose",
        ),
        (&["postgres://u:hunter2#@h/d"], "the URL: the URL holds a `#`; write @ : / ? # %"),
        (&["sqlite:a.db", "postgres://u:hunter2%@h/d"], "URL 2: the URL holds a `%`"),
        (&["mssql://u:hunter2@h/d"], "the URL: there is no driver \"mssql\"; drivers: postgres"),
        (
            &["postgres://u:1/hunter2@h/d", "--offline"],
            "the URL: the database in the URL holds an `@`; write @ : / ? # %",
        ),
        (
            &["mysql://u:1?user=hunter2@h/d", "--offline"],
            "the URL: the URL holds an `@` behind its `?`; write @ and ? in",
        ),
        (&["hunter2"], "the URL: is not a URL; write DRIVER://USER@HOST/DATABASE or sqlite:PATH"),
        (&["postgres://u:${NOT_SET}@h/d"], "the URL: the environment variable NOT_SET is not set"),
    ] {
        let output = place.run(&[&["init"], arguments].concat());
        assert_eq!(output.code(), 2, "{arguments:?}: {}", output.errors());
        let line = output.errors();
        assert!(line.starts_with(&format!("error: {message}")) && line.lines().count() == 1, "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    assert_eq!(std::fs::read_dir(place.folder.path()).expect("the folder").count(), 0, "nothing is written");
}

#[test]
fn a_sqlite_file_has_its_packs_and_its_largest_table() {
    let place = Place::new();
    place.sqlite(
        "app.db",
        "CREATE TABLE a (x); CREATE TABLE orders (id INTEGER PRIMARY KEY, x); INSERT INTO orders VALUES (1, 2), (41, 3);
         CREATE TABLE odd (rowid TEXT); INSERT INTO odd VALUES ('99'); CREATE TABLE keyed (k PRIMARY KEY) WITHOUT ROWID;
         CREATE VIRTUAL TABLE words USING fts5(w); CREATE VIEW v AS SELECT 1 AS one",
    );
    let text = place.init(&["sqlite:app.db"]);
    for line in ["    url: sqlite:app.db", "  - name: app_orders", "  # - builtin:sqlite/checks "] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}:\n{text}");
    }
    assert!(
        text.contains("\n  - builtin:sqlite/tables ") && !text.contains("\n  - builtin:postgres"),
        "{text}"
    );
    assert_eq!(value(&place.page(), "app_orders_last_row_id"), 41.0);
    // A queue whose rows come and go has few, whatever their IDs are.
    place.sqlite(
        "queue.db",
        "CREATE TABLE queue (id INTEGER PRIMARY KEY); INSERT INTO queue VALUES (900000); \
         CREATE TABLE \"it's NAME\"\"d\" (x); INSERT INTO \"it's NAME\"\"d\" VALUES (1), (2)",
    );
    let queue = place.run(&["init", "sqlite:queue.db", "-o", "queue.yaml"]);
    assert_eq!(queue.code(), 0, "{}", queue.errors());
    let text = place.written("queue.yaml");
    assert!(text.contains("The largest table of queue is it's NAME\"d."), "{text}");
}

#[test]
fn a_file_for_another_folder_has_the_path_from_the_root() {
    let place = Place::new();
    std::fs::create_dir(place.path("etc")).expect("a folder");
    std::fs::create_dir(place.path("a %?# b")).expect("a folder");
    place.sqlite("a %?# b/app.db", "CREATE TABLE t (x)");
    let output = place.run(&["init", "sqlite:a %25%3F# b/app.db?immutable=true", "-o", "etc/it's.yaml"]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    assert!(output.text().contains("sql-exporter -c \"etc/it's.yaml\" test"), "{}", output.text());
    let test = place.run(&["-c", "etc/it's.yaml", "collect"]);
    assert_eq!(test.code(), 0, "{}", test.errors());
}

#[test]
fn without_a_connection_the_packs_of_the_driver_are_there() {
    // A server on a network says what is better.
    let place = Place::new();
    let text = place.init(&["postgres://u@db.example/shop", "--offline"]);
    assert!(
        text.contains(
            "    lint_off: [L010]  # Nobody verifies who the server is. Better: sslmode=verify-full"
        ),
        "{text}"
    );
    assert_eq!(place.run(&["check", "--strict"]).code(), 0);
    for (url, pack, other, script) in [
        (
            "postgres://u:${PW}@db.example/shop?sslmode=verify-full",
            "postgres/buffercache",
            "mysql",
            "CREATE ROLE exporter",
        ),
        ("mysql://u:${PW}@db.example/shop", "mysql/digests", "postgres", "REPLICATION CLIENT"),
        ("mariadb://u:${PW}@db.example:${PORT}/shop", "mariadb/disks", "postgres", "SLAVE MONITOR"),
        ("pgbouncer://u@db.example", "pgbouncer/pools", "postgres", "stats_users"),
        ("sqlite:shop.db", "sqlite/tables", "postgres", "read-only"),
    ] {
        let mut place = Place::new();
        let text = place.init(&[url, "--offline"]);
        assert!(text.contains(&format!("\n  - builtin:{pack} ")), "{text}");
        assert!(!text.contains(&format!("builtin:{other}/")) && !text.contains("builtin:compat"), "{text}");
        assert!(text.contains(script), "{text}");
        place.set("PW", "x");
        place.set("PORT", "3306");
        let check = place.run(&["check", "--strict"]);
        assert_eq!(check.code(), 0, "{}{}", check.text(), check.errors());
    }
}

#[test]
fn what_a_variable_stands_for_names_nothing_without_a_connection() {
    let mut place = Place::new();
    place.set("SET", "orders");
    let text = place.init(&[
        "postgres://${U}@${H}:${PORT:-5432}/${D}",
        "mysql://${H}/x_${D}",
        "mysql://${H}/${SET}",
        "--offline",
    ]);
    for part in ["\n  db:\n", "\n  db-2:\n", "\n  orders:\n", " REFERENCES ON `orders`.* "] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("GRANT CONNECT ON DATABASE") && !text.contains("x_1"), "{text}");
}

#[test]
fn a_database_that_cannot_be_reached_is_told_as_test_tells_it() {
    let place = Place::new();
    place.sqlite("app.db", "CREATE TABLE t (x)");
    let output =
        place.run(&["init", "sqlite:app.db", "sqlite:gone.db", "postgres://u:hunter2@127.0.0.1:1/shop"]);
    assert_eq!((output.code(), output.text()), (1, ""));
    let said = output.errors();
    for part in [
        "FAIL  gone: ",
        "FAIL  shop: there is no connection (connect)\n      connect to 127.0.0.1:1: Connection refused",
        "      try: is the server up, and does it listen on 127.0.0.1:1?",
        "nothing is written; with --offline, init writes a configuration without a connection\n",
    ] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    assert!(!said.contains("app:") && !said.contains("hunter2"), "{said}");
    assert!(!place.path("sql-exporter.yaml").exists());
}

#[test]
fn more_than_twenty_targets_are_scraped_one_by_one() {
    let place = Place::new();
    let urls: Vec<String> = (0..21).map(|number| format!("sqlite:{number}.db")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).chain(["--offline"]).collect();
    let text = place.init(&urls);
    assert!(text.contains("http_sd_configs: [{url: \"http://localhost:9399/sd\"}]"), "{text}");
    assert_eq!(place.run(&["check", "--strict"]).code(), 0);
}

/// The entry for Prometheus is one that promtool accepts.
#[test]
fn prometheus_takes_the_entry() {
    let place = Place::new();
    let text = place.init(&["sqlite:a.db", "--offline"]);
    let entry = statements(&text, "For prometheus.yml");
    let file = place.path("prometheus.yml");
    std::fs::write(&file, &entry).expect("a file");
    let promtool = crate::process::variable("TEST_PROMTOOL");
    let done = std::process::Command::new(promtool).args(["check", "config"]).arg(&file).output();
    let done = done.expect("promtool runs");
    assert!(done.status.success(), "{entry}\n{done:?}");
    assert!(Path::new(&file).exists());
}
