//! A machine that gives no thread: a limit of the user or the container. What cannot go on says so; what is left ends well.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::command::setup;
use crate::conformance::subject::Subject;
use crate::conformance::subject::sqlite::Sqlite;
use crate::exporter::{Exporter, NOBODY, Setup};
use crate::process::{bound, mortal, processor_time, signal, wait_for};
use crate::web_client::connect;

fn lite(more: &str) -> Setup {
    let config = "databases: {shop: {driver: sqlite, database: shop.db}}\n\
                  queries:\n- {name: quick, sql: SELECT 7 AS value, metrics: [{name: quick}]}\n";
    let setup = setup(&format!("{config}{more}"));
    setup.mode("sql-exporter.yaml", 0o644).mode("shop.db", 0o644).nobody()
}

/// From now on the exporter gets no further thread, or all it likes.
fn threads(exporter: &Exporter, given: bool) {
    let hard = std::fs::read_to_string(format!("/proc/{}/limits", exporter.pid())).expect("its limits");
    let line = hard.lines().find(|line| line.starts_with("Max processes")).expect("a line");
    let hard = line.split_whitespace().nth(3).expect("the hard limit");
    let limit = if given { format!("{hard}:{hard}") } else { format!("1:{hard}") };
    // Root may not where it lacks a capability; the same user may.
    let mut set = mortal(Some(NOBODY), "prlimit");
    set.args(["--pid", &exporter.pid().to_string(), &format!("--nproc={limit}")]);
    assert!(set.status().is_ok_and(|status| status.success()), "{limit}");
}

/// It ends in time, with 0, and without a panic.
fn ends(exporter: Exporter, within: Duration) -> String {
    let began = Instant::now();
    let (code, log) = exporter.stop("TERM");
    assert_eq!(code, Some(0), "{log}");
    assert!(began.elapsed() < bound(within), "{:?}: {log}", began.elapsed());
    assert!(!log.contains("panicked"), "{log}");
    log
}

/// An exporter, and a client that waits for a page with a query that does not end, which has run for half a second of
/// processor time.
fn asked_for_an_endless_page() -> (Exporter, TcpStream) {
    let endless =
        format!("- {{name: endless, sql: \"{}\", metrics: [{{name: endless}}]}}\n", Sqlite::ENDLESS);
    let exporter = lite(&endless).serve();
    let mut stream = connect(exporter.address());
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 50\r\n\r\n";
    stream.write_all(request).expect("sent");
    let before = processor_time(exporter.pid());
    let half = Duration::from_millis(500);
    wait_for("the query", || (processor_time(exporter.pid()) > before + half).then_some(()));
    (exporter, stream)
}

#[test]
fn the_end_needs_no_new_thread() {
    let exporter = lite("").serve();
    assert!(exporter.metrics().contains("quick{target=\"shop\"} 7\n"));
    threads(&exporter, false);
    let log = ends(exporter, Duration::from_secs(1));
    assert!(log.contains("stopping") && !log.contains("did not end"), "{log}");
}

/// The page leaves before the end, though nobody can be asked to see to it then.
#[test]
fn a_page_under_way_leaves_with_what_is_complete() {
    let (exporter, mut stream) = asked_for_an_endless_page();
    threads(&exporter, false);
    ends(exporter, Duration::from_secs(6));
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("the page");
    assert!(
        page.contains("quick{target=\"shop\"} 7\n") && page.contains("reason=\"cancelled\"} 1\n"),
        "{page}"
    );
}

#[test]
fn a_second_signal_ends_at_once_without_a_thread_for_it() {
    let (exporter, _stream) = asked_for_an_endless_page();
    threads(&exporter, false);
    signal("TERM", &[exporter.pid()]);
    exporter.wait_for_log("stopping");
    let began = Instant::now();
    let (code, log) = exporter.stop("TERM");
    assert_eq!(code, Some(1), "{log}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn scrapes_and_reloads_without_a_thread_say_so_and_recover() {
    let exporter = lite("").serve();
    // The HTTP library has started its own threads when it answers.
    assert_eq!(exporter.get("/-/healthy").status, 200);
    threads(&exporter, false);
    let page = exporter.metrics();
    assert!(page.contains("query=\"quick\",collector=\"default\",reason=\"server\"} 1\n"), "{page}");
    exporter.wait_for_log("the system cannot start a thread");
    // A reload reads its files all the same.
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200, "{}", exporter.log());
    signal("HUP", &[exporter.pid()]);
    threads(&exporter, true);
    assert!(exporter.metrics().contains("quick{target=\"shop\"} 7\n"), "{}", exporter.log());
    ends(exporter, Duration::from_secs(1));
}

/// The HTTP library would panic for each request beyond its four threads, and take those under way with it.
#[test]
fn more_scrapes_at_once_than_there_are_threads_are_turned_away() {
    let endless =
        format!("- {{name: endless, sql: \"{}\", metrics: [{{name: endless}}]}}\n", Sqlite::ENDLESS);
    let exporter = lite(&endless).serve();
    drop(exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "1")]));
    threads(&exporter, false);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "3")]).status;
        let all: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    assert!(
        statuses.contains(&200) && statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    assert!(exporter.metrics().contains("sql_exporter_target_up"), "{}", exporter.log());
    threads(&exporter, true);
    assert!(exporter.metrics().contains("quick{target=\"shop\"} 7\n"), "{}", exporter.log());
    ends(exporter, Duration::from_secs(1));
}

#[test]
fn commands_without_a_thread_fail_with_a_word() {
    for (arguments, word) in [
        (&["--once"][..], "the system cannot start a thread"),
        (&["run", "--listen", "127.0.0.1:0"], "the system cannot start a thread"),
        (&["try", "--query", "quick"], "no thread for signals"),
        (&["test"], "the system cannot start a thread"),
    ] {
        let output = lite("").processes(1).args(arguments).output();
        let said = format!("{}{}", output.text(), output.errors());
        assert_eq!(output.code(), 1, "{arguments:?}: {said}");
        assert!(said.contains(word) && !said.contains("panicked"), "{arguments:?}: {said}");
    }
    // Some threads are too few as well.
    for processes in [4, 6, 9] {
        let output = lite("").processes(processes).args(&["run", "--listen", "127.0.0.1:0"]).output();
        let said = format!("{}{}", output.text(), output.errors());
        assert_eq!(output.code(), 1, "{processes}: {said}");
        assert!(
            said.contains("the system cannot start a thread") && !said.contains("panicked"),
            "{processes}: {said}"
        );
    }
    let output = lite("").processes(1).args(&["check", "--connect"]).output();
    assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
}
