//! Signals and broken pipes: the exporter ends as it is asked to, leaves nothing running in the servers, and what nobody
//! reads any more does not harm it.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::checker::checked;
use crate::command::setup;
use crate::conformance::subject::Subject;
use crate::conformance::subject::sqlite::Sqlite;
use crate::exporter::{Exporter, Setup, program};
use crate::process::{bound, end, folder, mortal, signal, wait_for};
use crate::servers::{MariaDb, Postgres};
use crate::web_client::connect;

/// A query that runs for a minute on each of the three, and a quick one.
struct Running {
    postgres: Postgres,
    mariadb: MariaDb,
}

impl Running {
    fn new(module: &str) -> Self {
        Running { postgres: Postgres::fresh(module), mariadb: MariaDb::fresh(module) }
    }

    fn setup(&self, more: &str) -> Setup {
        self.setup_with("", more)
    }

    /// The same, with more targets and queries.
    fn setup_with(&self, targets: &str, more: &str) -> Setup {
        setup(&format!(
            "databases:\n{targets}  pg: {}\n  my: {}\n  lite: {{driver: sqlite, database: shop.db}}\nqueries:\n\
             - {{name: pg, database: pg, sql: SELECT 1 AS value FROM (SELECT pg_sleep(60)) AS long, metrics: [{{name: pg}}]}}\n\
             - {{name: my, database: my, sql: SELECT sleep(60) AS value, metrics: [{{name: my}}]}}\n\
             - {{name: lite, database: lite, sql: \"{}\", metrics: [{{name: lite}}]}}\n{more}",
            self.postgres.entry(),
            self.mariadb.entry(),
            Sqlite::ENDLESS,
        ))
    }

    /// How many of the two servers run ours.
    fn count(&self) -> usize {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() \
                   AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
        let postgres: i64 = self.postgres.client().query_one(sql, &[]).expect("a count").get(0);
        let list = "SELECT count(*) FROM information_schema.processlist WHERE db = database() \
                    AND info LIKE '%sleep(60)%' AND id <> connection_id()";
        let mariadb: Option<usize> = self.mariadb.client().query_first(list).expect("a count");
        usize::try_from(postgres).expect("small") + mariadb.unwrap_or_default()
    }

    fn wait_until_both_run(&self) {
        wait_for("both statements", || (self.count() == 2).then_some(()));
    }

    /// Nothing of ours runs any more, at once.
    fn have_ended(&self) {
        let began = Instant::now();
        wait_for("the statements to end", || (self.count() == 0).then_some(()));
        assert!(began.elapsed() < bound(Duration::from_millis(200)), "{:?}", began.elapsed());
    }
}

/// Asks for the metrics and leaves the connection open.
fn ask(exporter: &Exporter) -> TcpStream {
    let mut stream = connect(exporter.address());
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 50\r\n\r\n";
    stream.write_all(request).expect("the request is sent");
    stream
}

fn ends_under_queries(name: &str) {
    let running = Running::new(&format!("signals_{}", name.to_lowercase()));
    let exporter = running.setup("").serve();
    let address = exporter.address();
    let _scrape = ask(&exporter);
    running.wait_until_both_run();
    let began = Instant::now();
    let stopping = std::thread::scope(|scope| {
        let refused = scope.spawn(move || {
            wait_for("no more connections", || TcpStream::connect(address).is_err().then_some(()));
            began.elapsed()
        });
        let (code, log) = exporter.stop(name);
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopping"), "{log}");
        refused.join().expect("refused")
    });
    // The queries are cancelled after four seconds, the page leaves; nobody new was let in meanwhile.
    assert!(began.elapsed() < bound(Duration::from_secs(6)), "{:?}", began.elapsed());
    assert!(stopping < Duration::from_secs(4), "{stopping:?}");
    running.have_ended();
}

/// The page that a scrape gets: its status line and its samples.
fn answer(mut scrape: TcpStream) -> String {
    let mut answer = String::new();
    scrape.read_to_string(&mut answer).expect("the answer");
    answer
}

/// Two scrapes with different deadlines have runs of their own; both pages leave with what is complete.
#[test]
fn pages_leave_with_what_is_complete_when_the_exporter_stops() {
    let running = Running::new("signals_pages");
    let exporter = running
        .setup("- {name: quick, databases: ['*'], sql: SELECT 7 AS value, metrics: [{name: quick}]}\n")
        .serve();
    let hasty = ask(&exporter);
    running.wait_until_both_run();
    let mut patient = connect(exporter.address());
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 3000\r\n\r\n";
    patient.write_all(request).expect("the request is sent");
    wait_for("four statements", || (running.count() == 4).then_some(()));
    let scrapes = [hasty, patient];
    let began = Instant::now();
    assert_eq!(exporter.stop("TERM").0, Some(0));
    assert!(began.elapsed() < bound(Duration::from_secs(6)), "{:?}", began.elapsed());
    for answer in scrapes.map(answer) {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        for target in ["pg", "my", "lite"] {
            assert!(answer.contains(&format!("\nquick{{target=\"{target}\"}} 7\n")), "{target}: {answer}");
            assert!(
                answer.contains(&format!("\nsql_exporter_target_up{{target=\"{target}\"}} 1\n")),
                "{target}: {answer}"
            );
            let cancelled = format!("query=\"{target}\",collector=\"default\",reason=\"cancelled\"}} 1");
            assert!(answer.contains(&cancelled), "{target}: {answer}");
        }
    }
    running.have_ended();
}

/// A login that no server answers holds no page.
#[test]
fn a_page_leaves_while_a_login_waits() {
    let hole = crate::proxy::Proxy::before(Postgres::shared("postgres").port);
    hole.set(crate::proxy::Mode::Swallow);
    let exporter = setup(&format!(
        "databases:\n  hole: {{driver: postgres, host: 127.0.0.1, port: {}, username: u, connect_timeout: 40s}}\n  lite: {{driver: sqlite, database: shop.db}}\n\
         queries: [{{name: quick, databases: ['*'], sql: SELECT 7 AS value, metrics: [{{name: quick}}]}}]\n",
        hole.port()
    ))
    .serve();
    let scrape = ask(&exporter);
    let busy = [("target", "hole"), ("state", "busy")];
    wait_for("the login", || {
        let page = checked(exporter.get("/-/metrics").text());
        (page.value("sql_exporter_sessions", &busy) == Some(1.0)).then_some(())
    });
    assert_eq!(exporter.stop("TERM").0, Some(0));
    let answer = answer(scrape);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\nquick{target=\"lite\"} 7\n"),
        "{answer}"
    );
}

#[test]
fn a_sigterm_cuts_what_does_not_end_and_cancels_it_in_the_servers() {
    ends_under_queries("TERM");
}

#[test]
fn a_sigint_does_the_same() {
    ends_under_queries("INT");
}

#[test]
fn a_scrape_that_ends_soon_is_answered_before_the_exit() {
    let server = Postgres::fresh("signals_soon");
    let sql = "SELECT 1 AS value FROM (SELECT pg_sleep(2)) AS soon";
    let exporter = Exporter::serve(&format!(
        "databases:\n  db: {}\nqueries: [{{name: q, sql: {sql}, metrics: [{{name: soon}}]}}]\n",
        server.entry()
    ));
    let mut scrape = ask(&exporter);
    let count = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%soon%' AND pid <> pg_backend_pid()";
    wait_for("the query", || server.client().query_opt(count, &[]).expect("an answer").map(drop));
    assert_eq!(exporter.stop("TERM").0, Some(0));
    let mut answer = String::new();
    scrape.read_to_string(&mut answer).expect("the answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\nsoon{target=\"db\"} 1\n"), "{answer}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let running = Running::new("signals_second");
    let exporter = running.setup("").serve();
    let _scrape = ask(&exporter);
    running.wait_until_both_run();
    let began = Instant::now();
    signal("TERM", &[exporter.pid()]);
    exporter.wait_for_log("stopping");
    let (code, log) = exporter.stop("TERM");
    assert_eq!(code, Some(1), "{log}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// The kernel gives a signal to any thread. Here that is one with the lowest priority: the main thread hears of the signal, and
/// acts, while the handler still runs.
#[test]
fn one_signal_does_not_count_twice() {
    for _ in 0..10 {
        let exporter = setup(GOOD).serve();
        let thread = wait_for("the thread of reloads", || thread_of(exporter.pid(), "reload"));
        let _ = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
        let send = "import ctypes, sys; ctypes.CDLL(None).tgkill(int(sys.argv[1]), int(sys.argv[2]), 15)";
        let sent = Command::new("python3").args(["-c", send, &exporter.pid().to_string(), &thread]).status();
        assert!(sent.is_ok_and(|status| status.success()), "python3 runs");
        let (code, log) = exporter.ended();
        assert_eq!(code, Some(0), "{log}");
    }
}

/// The id of a process's thread with this name.
fn thread_of(pid: u32, name: &str) -> Option<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.map_while(Result::ok);
    let is_named =
        |path: &Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let found = threads.map(|thread| thread.path()).find(|path| is_named(path))?;
    Some(found.file_name()?.to_str()?.to_owned())
}

const GOOD: &str = "databases: {shop: {driver: sqlite, database: shop.db}}\n\
     queries: [{name: good, sql: SELECT 7 AS value, metrics: [{name: good}]}]\n";

/// Serves `GOOD` with a delay, and sends SIGTERM; returns once the exporter says that it stops later.
fn serve_delayed(delay: &str) -> Exporter {
    let exporter = setup(&format!("{GOOD}exporter: {{shutdown_delay: {delay}}}\n")).serve();
    assert_eq!(exporter.get("/-/ready").status, 200);
    signal("TERM", &[exporter.pid()]);
    exporter.wait_for_log(&format!("stopping in {delay}"));
    exporter
}

#[test]
fn a_delayed_stop_is_not_ready_and_serves_on() {
    let began = Instant::now();
    let exporter = serve_delayed("3s");
    assert_eq!(exporter.get("/-/ready").status, 503);
    assert_eq!(exporter.get("/-/healthy").status, 200);
    assert_eq!(checked(&exporter.metrics()).value("good", &[]), Some(7.0));
    // A reload meanwhile changes nothing about the stop.
    signal("HUP", &[exporter.pid()]);
    exporter.wait_for_log("configuration reloaded");
    assert_eq!(exporter.get("/-/ready").status, 503);
    let address = exporter.address();
    wait_for("the end of the port", || TcpStream::connect(address).is_err().then_some(()));
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_second_signal_ends_the_delay_and_lets_scrapes_end() {
    for name in ["TERM", "INT"] {
        let exporter = serve_delayed("1h");
        assert_eq!(exporter.get("/-/ready").status, 503);
        let (code, log) = exporter.stop(name);
        assert_eq!(code, Some(0), "not the exit of a signal under the drain: {log}");
    }
}

#[test]
fn only_sigterm_is_delayed() {
    let exporter = setup(&format!("{GOOD}exporter: {{shutdown_delay: 1h}}\n")).serve();
    let (code, log) = exporter.stop("INT");
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("stopping in"), "{log}");
}

#[test]
fn one_scrape_that_is_interrupted_leaves_nothing_running() {
    let running = Running::new("signals_once");
    // The quick one has ended when the one behind it on the same session runs.
    let setup = running.setup_with(
        &format!("  one: {}\n", running.postgres.entry_with("max_connections: 1")),
        "- {name: quick, database: one, sql: SELECT 7 AS value, metrics: [{name: quick}]}\n\
         - {name: behind, database: one, sql: SELECT 1 AS value FROM (SELECT pg_sleep(60)) AS b, metrics: [{name: behind}]}\n",
    );
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let child = setup.spawn_once();
        wait_for("three statements", || (running.count() == 3).then_some(()));
        let began = Instant::now();
        signal(name, &[child.id()]);
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(code));
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(page.contains("quick{target=\"one\"} 7\n"), "what is complete: {page}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        running.have_ended();
    }
}

const FLIPPING: &str = "databases: {shop: {driver: sqlite, database: shop.db}}\n\
     queries:\n- {name: flip, sql: SELECT x FROM flip, metrics: [{name: flip, value_column: x}]}\n\
     - {name: good, sql: SELECT 7 AS value, metrics: [{name: good}]}\n";

/// Pages, each with a line for the log, of an exporter whose log nobody reads.
fn logs_into_nothing(redirect: &str) {
    let setup = setup(FLIPPING);
    let port = crate::process::free_port();
    let script = format!("exec \"$0\" -c sql-exporter.yaml --listen 127.0.0.1:{port} {redirect}");
    let mut command = crate::process::mortal(None, "bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_sql-exporter")]).current_dir(setup.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("bash");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    wait_for("the port", || TcpStream::connect(address).ok());
    let shop = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a database");
    for turn in 0..10 {
        let change =
            if turn % 2 == 0 { "DROP TABLE IF EXISTS flip" } else { "CREATE TABLE flip AS SELECT 1 AS x" };
        shop.execute_batch(change).expect("SQLite writes");
        let reply = crate::web_client::request(address, "GET", "/metrics", &[]);
        assert_eq!(checked(reply.text()).value("good", &[]), Some(7.0));
    }
    signal("TERM", &[child.id()]);
    let status = wait_for("the end", || child.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_closed_stderr_harms_nothing() {
    logs_into_nothing("2>&- >&-");
}

#[test]
fn a_log_whose_reader_has_gone_harms_nothing() {
    logs_into_nothing("2> >(exec true)");
}

#[test]
fn clients_that_hang_up_harm_nothing() {
    let exporter = setup(FLIPPING).serve();
    for _ in 0..50 {
        drop(ask(&exporter));
    }
    assert_eq!(checked(&exporter.metrics()).value("good", &[]), Some(7.0));
}

#[test]
fn an_exporter_that_was_stopped_and_goes_on_answers_the_next_scrape() {
    let (postgres, mariadb) = (Postgres::fresh("signals_stop"), MariaDb::fresh("signals_stop"));
    let exporter = setup(&format!(
        "databases:\n  pg: {}\n  my: {}\n  lite: {{driver: sqlite, database: shop.db}}\nqueries:\n\
         - {{name: good, databases: ['*'], sql: SELECT 7 AS value, metrics: [{{name: good}}]}}\n\
         - {{name: slow, database: pg, sql: SELECT 1 AS value FROM (SELECT pg_sleep(0.5)) AS s, metrics: [{{name: slow}}]}}\n",
        postgres.entry(),
        mariadb.entry()
    ))
    .serve();
    let whole = || {
        let page = checked(&exporter.metrics());
        assert_eq!(page.series("good").len(), 3, "{}", exporter.log());
        assert_eq!(page.series("slow").len(), 1, "{}", exporter.log());
    };
    whole();
    // Once between scrapes, once under one whose deadline passes meanwhile.
    for under_a_scrape in [false, true] {
        let header = [("X-Prometheus-Scrape-Timeout-Seconds", "1")];
        std::thread::scope(|scope| {
            let scrape = under_a_scrape.then(|| scope.spawn(|| exporter.get_with("/metrics", &header)));
            std::thread::sleep(Duration::from_millis(200));
            signal("STOP", &[exporter.pid()]);
            std::thread::sleep(Duration::from_millis(2500));
            signal("CONT", &[exporter.pid()]);
            if let Some(scrape) = scrape {
                assert_eq!(scrape.join().expect("an answer").status, 200);
            }
        });
        whole();
    }
}

#[test]
fn a_page_into_a_pipe_that_closes_is_no_failure() {
    let setup = setup(FLIPPING);
    let script =
        "\"$0\" -c sql-exporter.yaml --once 2>/dev/null | head -c 10 > /dev/null; exit ${PIPESTATUS[0]}";
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_sql-exporter")]).current_dir(setup.path());
    // One query has no table: exit code 1 is about that, not about the pipe.
    assert_eq!(command.status().expect("bash").code(), Some(1));
}

/// The configuration comes from a pipe that stays open: the start waits for its end.
#[test]
fn a_sighup_during_the_start_is_a_reload_after_it() {
    let folder = folder();
    std::fs::write(folder.path().join("shop.db"), "").expect("written");
    let mut command = mortal(None, &program());
    command.args(["-c", "/dev/stdin", "--listen", "127.0.0.1:0"]).current_dir(folder.path());
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let database = folder.path().join("shop.db").display().to_string();
    stdin.write_all(GOOD.replace("shop.db", &database).as_bytes()).expect("written");
    // The first signal has the lowest bit.
    wait_for("SIGHUP to be caught", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        (u64::from_str_radix(caught, 16).ok()? & 1 == 1).then_some(())
    });
    signal("HUP", &[child.id()]);
    drop(stdin);
    let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("listening on")), "it serves");
    // There is nothing more in the pipe.
    assert!(log.any(|line| line.contains("the configuration was not reloaded")), "it reads it again");
    end(&mut child).expect("ended");
}
