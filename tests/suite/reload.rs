//! Reading the configuration again while scrapes go on: by signal and by POST, well and badly, often and at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sql_exporter::app::reload::Reloader;
use sql_exporter::driver::Drivers;
use sql_exporter::web::Site;
use sql_exporter::{app, plan};

use crate::checker::checked;
use crate::exporter::{Exporter, Setup};
use crate::process::{folder, poll, signal, wait_for};
use crate::servers::Postgres;
use crate::soak::flat::Reading;

const LITE: &str = "{driver: sqlite, database: lite.db";

/// Target `a` and more; the query's value is another one whenever it runs.
fn config(more: &str, rest: &str) -> String {
    format!(
        "databases:\n  a: {LITE}}}\n{more}\nqueries:\n  - {{name: dice, databases: ['*'], sql: SELECT abs(random() / 2) AS value, interval: 1h, metrics: [{{name: dice}}]}}\n{rest}"
    )
}

fn serve(config: &str) -> Exporter {
    Setup::new(config).file("lite.db", "").serve()
}

fn write(exporter: &Exporter, config: &str) {
    std::fs::write(exporter.file("sql-exporter.yaml"), config).expect("written");
}

fn post(exporter: &Exporter) -> (u16, String) {
    let reply = exporter.request("POST", "/-/reload", &[]);
    (reply.status, reply.text().to_owned())
}

fn dice(exporter: &Exporter, target: &str) -> Option<f64> {
    checked(&exporter.metrics()).value("dice", &[("target", target)])
}

fn own(exporter: &Exporter, name: &str) -> f64 {
    let page = checked(exporter.get("/-/metrics").text());
    page.value(name, &[]).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_signal_swaps_what_changed_and_leaves_what_did_not() {
    let exporter = serve(&config(&format!("  b: {LITE}}}\n  c: {LITE}}}"), ""));
    let (a, b) = (dice(&exporter, "a"), dice(&exporter, "b"));
    assert!(a.is_some() && b.is_some());
    // A comment moves every line, and changes nothing.
    let changed = format!("  b: {LITE}, labels: {{env: x}}}}\n  d: {LITE}}}");
    write(&exporter, &format!("# moved\n{}", config(&changed, "")));
    signal("HUP", &[exporter.pid()]);
    exporter.wait_for_log("configuration reloaded: 1 targets unchanged, 2 started, 2 ended");
    let page = checked(&exporter.metrics());
    assert_eq!(page.value("dice", &[("target", "a")]), a, "the kept result of an unchanged target");
    let new = page.value("dice", &[("target", "b"), ("env", "x")]);
    assert!(new.is_some() && new != b, "{new:?} after {b:?}");
    assert!(page.value("dice", &[("target", "d")]).is_some());
    let text = exporter.metrics();
    assert!(!text.contains("target=\"c\""), "a target that is gone has rows: {text}");
    assert!(!text.lines().any(|line| line.contains("target=\"b\"") && !line.contains("env=\"x\"")), "{text}");
    assert_eq!(own(&exporter, "sql_exporter_config_last_reload_successful"), 1.0);
}

#[test]
fn a_broken_file_changes_nothing_and_is_told() {
    let exporter = serve(&config("", ""));
    let before = dice(&exporter, "a");
    let loaded = own(&exporter, "sql_exporter_config_last_reload_success_timestamp_seconds");
    write(&exporter, &config("  b: {driver: sqlite, databse: x}", ""));
    let (status, text) = post(&exporter);
    assert_eq!(status, 500);
    assert!(
        text.contains("sql-exporter.yaml:3:23: databases.b.databse: unknown key; did you mean `database`?"),
        "{text}"
    );
    exporter.wait_for_log("the configuration was not reloaded: the old one stays");
    assert_eq!(own(&exporter, "sql_exporter_config_last_reload_successful"), 0.0);
    assert_eq!(own(&exporter, "sql_exporter_config_last_reload_success_timestamp_seconds"), loaded);
    assert_eq!(dice(&exporter, "a"), before);
    write(&exporter, &config("", ""));
    assert_eq!(post(&exporter), (200, "the configuration was read again\n".to_owned()));
    assert_eq!(own(&exporter, "sql_exporter_config_last_reload_successful"), 1.0);
    assert!(own(&exporter, "sql_exporter_config_last_reload_success_timestamp_seconds") > loaded);
    assert_eq!(dice(&exporter, "a"), before);
}

#[test]
fn what_needs_a_restart_is_told_and_stays() {
    let exporter = serve(&config("", ""));
    let section = "exporter: {max_workers: 3, http: {max_connections: 9}, log_format: json, web_config_file: w.yml, route_prefix: /sql, log_level: debug, scrape_timeout: 7s}\n";
    write(&exporter, &config("", section));
    assert_eq!(post(&exporter).0, 200);
    for key in ["max_workers", "http", "log_format", "web_config_file", "route_prefix"] {
        exporter
            .wait_for_log(&format!("exporter.{key} has changed, which needs a restart; the old value holds"));
    }
    let shown = exporter.get("/config").text().to_owned();
    for part in [
        "max_workers: 64",
        "max_connections: 256",
        "log_format: text",
        "scrape_timeout: 7s",
        "log_level: debug",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(
        !exporter.log().contains("exporter.listen has changed"),
        "the flag --listen stands above the file"
    );
}

#[test]
fn a_scrape_in_flight_keeps_the_target_that_is_taken_away() {
    let postgres = Postgres::fresh("reload");
    let entry = postgres.entry();
    let with = |name: &str| {
        format!(
            "databases:\n  {name}: {entry}\nqueries:\n  - {{name: slow, database: {name}, sql: 'SELECT pg_sleep(2), 1 AS value', metrics: [{{name: slow}}]}}\n"
        )
    };
    let exporter = Setup::new(&with("old")).serve();
    std::thread::scope(|scope| {
        let page = scope.spawn(|| checked(&exporter.metrics()));
        let mut client = postgres.client();
        wait_for("the query to run", || {
            let running = client.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(2)%' AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()", &[]);
            (!running.expect("rows").is_empty()).then_some(())
        });
        write(&exporter, &with("new"));
        assert_eq!(post(&exporter).0, 200);
        assert_eq!(page.join().expect("a page").value("slow", &[("target", "old")]), Some(1.0));
    });
    assert_eq!(checked(&exporter.metrics()).value("slow", &[("target", "new")]), Some(1.0));
    assert_eq!(sessions(&postgres), 1, "the session of the target that is gone");
}

/// Sessions on the database but the one that asks.
fn sessions(postgres: &Postgres) -> i64 {
    let mut client = postgres.client();
    let count = || {
        let row = client.query_one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'", &[]);
        let count: i64 = row.expect("a row").get(0);
        (count <= 1).then_some(count)
    };
    poll("sessions to end", Duration::from_secs(30), count)
}

#[test]
fn a_hundred_reloads_under_load_leak_nothing_and_drop_no_scrape() {
    let postgres = Postgres::fresh("reloads");
    let entry = |label: usize| postgres.entry_with(&format!("labels: {{round: '{label}'}}"));
    let with = |label: usize| {
        config(&format!("  pg: {}", entry(label)), "").replace("abs(random() / 2)", "random()")
    };
    let exporter = serve(&with(0));
    for _ in 0..5 {
        exporter.metrics();
    }
    let base = Reading::of(exporter.pid(), 0, None);
    let (over, scrapes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let page = checked(&exporter.metrics());
                    let shown = page.series("dice").len();
                    assert_eq!(shown, 2, "half a fleet");
                    scrapes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let began = Instant::now();
        for round in 1..=100 {
            write(&exporter, &with(round % 7));
            if round % 2 == 0 {
                signal("HUP", &[exporter.pid()]);
            } else {
                assert_eq!(post(&exporter).0, 200);
            }
        }
        println!("100 reloads took {:?}", began.elapsed());
        over.store(true, Ordering::Relaxed);
    });
    assert!(scrapes.load(Ordering::Relaxed) > 20);
    assert_eq!(post(&exporter).0, 200);
    exporter.metrics();
    assert_eq!(sessions(&postgres), 1);
    poll("threads, descriptors and memory to come back", Duration::from_secs(60), || {
        let now = Reading::of(exporter.pid(), 0, None);
        let back = now.threads <= base.threads + 8.0 && now.descriptors <= base.descriptors + 8.0;
        (back && now.memory <= base.memory + 8192.0).then_some(())
    });
    let rows =
        exporter.get("/-/metrics").text().lines().filter(|line| line.contains("target=\"pg\"")).count();
    assert!(rows <= 8, "{rows} rows of targets that are gone");
}

#[test]
fn reloads_that_come_while_one_is_under_way_share_the_next() {
    let (folder, loads) = (folder(), Arc::new(AtomicUsize::new(0)));
    let path = folder.path().join("test.yaml");
    std::fs::write(folder.path().join("lite.db"), "").expect("written");
    std::fs::write(&path, config("", "")).expect("written");
    let load = move || plan::load(&path, &|_| None, &Drivers::built_in());
    let fleet = app::fleet(load().unwrap_or_else(|faults| panic!("{faults:?}")));
    let (begun, first) = channel();
    let (release, held) = channel::<()>();
    let (counted, held) = (Arc::clone(&loads), Mutex::new(held));
    let reloader = Reloader::new(Box::new(move || {
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            begun.send(()).expect("heard");
            // Until the others have come.
            let _ = held.lock().expect("not poisoned").recv();
        }
        load()
    }));
    let site = Site::new(fleet, Box::new(move |site| reloader.reload(site)));
    std::thread::scope(|scope| {
        scope.spawn(|| site.reload().expect("good"));
        first.recv().expect("the first has begun");
        for _ in 0..19 {
            scope.spawn(|| site.reload().expect("good"));
        }
        // Late comers make a third.
        std::thread::sleep(Duration::from_millis(300));
        drop(release);
    });
    let loads = loads.load(Ordering::Relaxed);
    assert!((2..=3).contains(&loads), "{loads} loads");
}

/// The configuration is a pipe that nobody writes to: the reload hangs, nothing else does.
#[test]
fn a_reload_that_hangs_keeps_nobody_from_a_page_or_from_stopping() {
    let exporter = serve(&config("", ""));
    let path = exporter.file("sql-exporter.yaml");
    std::fs::remove_file(&path).expect("removed");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    signal("HUP", &[exporter.pid()]);
    // Opening it for writing waits for a reader.
    let pipe = std::fs::File::options().write(true).open(&path).expect("the exporter reads it");
    for _ in 0..5 {
        signal("HUP", &[exporter.pid()]);
    }
    assert!(dice(&exporter, "a").is_some());
    assert_eq!(exporter.stop("TERM").0, Some(0));
    drop(pipe);
}

#[test]
fn a_load_that_panics_gives_the_turn_to_the_next() {
    let (folder, loads) = (folder(), AtomicUsize::new(0));
    let path = folder.path().join("test.yaml");
    std::fs::write(folder.path().join("lite.db"), "").expect("written");
    std::fs::write(&path, config("", "")).expect("written");
    let load = move || plan::load(&path, &|_| None, &Drivers::built_in());
    let fleet = app::fleet(load().unwrap_or_else(|faults| panic!("{faults:?}")));
    let reloader = Reloader::new(Box::new(move || {
        assert!(loads.fetch_add(1, Ordering::Relaxed) > 0, "the first load panics");
        load()
    }));
    let site = Site::new(fleet, Box::new(move |site| reloader.reload(site)));
    assert!(catch_unwind(AssertUnwindSafe(|| site.reload())).is_err());
    assert!(site.reload().is_ok());
}
