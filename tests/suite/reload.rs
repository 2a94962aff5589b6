//! Reading the configuration again while scrapes go on: by signal and by POST, well and badly, often and at once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use sql_exporter::commands::run::reload::Reloader;
use sql_exporter::commands::run::start;
use sql_exporter::config;
use sql_exporter::driver::Drivers;
use sql_exporter::server::endpoints::Endpoints;

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
    exporter.wait_for_log("configuration reloaded: 1 target unchanged, 1 changed, 1 started, 1 ended");
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

/// Of `exporter.http` the names alone are read again.
#[test]
fn the_names_of_the_server_are_read_again() {
    let exporter = serve(&config("", ""));
    let status = || {
        let request = b"GET / HTTP/1.1\r\nHost: metrics.example\r\nConnection: close\r\n\r\n";
        String::from_utf8_lossy(&crate::web_client::exchange(exporter.address(), request)).into_owned()
    };
    let refused = status();
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("exporter.http.hosts"), "{refused}");
    write(&exporter, &config("", "exporter: {http: {hosts: metrics.example}}\n"));
    assert_eq!(post(&exporter).0, 200);
    assert!(status().starts_with("HTTP/1.1 200 "), "{}", exporter.log());
    assert!(!exporter.log().contains("needs a restart"));
    write(&exporter, &config("", "exporter: {http: {hosts: 'http://metrics.example'}}\n"));
    let (code, fault) = post(&exporter);
    assert!(code == 500 && fault.contains("is not a host name"), "{fault}");
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
    // A line of the log has no piece of the file with a caret below it.
    assert!(exporter.log().contains("unknown key; did you mean `database`?\n"), "{}", exporter.log());
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
    for key in ["http", "log_format", "web_config_file", "route_prefix"] {
        exporter
            .wait_for_log(&format!("exporter.{key} has changed, which needs a restart; the old value holds"));
    }
    let shown = exporter.get("/config").text().to_owned();
    for part in [
        "max_workers: 3",
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
    assert_eq!(sessions(&postgres, 1), 1, "the session of the target that is gone");
}

/// Sessions on the database but the one that asks, once there are no more than `most`.
fn sessions(postgres: &Postgres, most: i64) -> i64 {
    let mut client = postgres.client();
    let count = || {
        let row = client.query_one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'", &[]);
        let count: i64 = row.expect("a row").get(0);
        (count <= most).then_some(count)
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
    // As many clients as below, so that what is kept for that many is in the first reading: sessions, connections, threads.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| drop(exporter.metrics())));
        }
    });
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
    assert!(sessions(&postgres, 3) <= 3, "the sessions of one target, which stay");
    poll("threads, descriptors and memory to come back", Duration::from_secs(60), || {
        let now = Reading::of(exporter.pid(), 0, None);
        let back = now.threads <= base.threads + 2.0 && now.descriptors <= base.descriptors + 4.0;
        println!("{now:?}, before it {base:?}");
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
    let load = move || config::load(&path, &|_| None, &Drivers::built_in());
    let fleet = start::make_targets(load().unwrap_or_else(|faults| panic!("{faults:?}")));
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
    let site = Endpoints::new(fleet, Box::new(move |site| reloader.reload(site)), |_| None);
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

/// The configuration comes from stdin, a pipe to whose end the second load comes only when nobody can write to it.
#[test]
fn a_reload_that_hangs_keeps_nobody_from_a_page_or_from_stopping() {
    let setup = Setup::empty().file("lite.db", "").args(&["-c", "/dev/stdin"]);
    let path = setup.path().join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    let open = |options: &mut OpenOptions| options.custom_flags(O_NONBLOCK).open(&path).expect("the pipe");
    let stdin = open(File::options().read(true));
    let database = setup.path().join("lite.db").display().to_string();
    let text = config("", "").replace("lite.db", &database);
    open(File::options().write(true)).write_all(text.as_bytes()).expect("it holds that much");
    let exporter = setup.stdin(stdin).serve();
    let pipe = open(File::options().write(true));
    for _ in 0..5 {
        signal("HUP", &[exporter.pid()]);
    }
    let began = Instant::now();
    assert!(dice(&exporter, "a").is_some());
    assert_eq!(exporter.stop("TERM").0, Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    drop(pipe);
}

#[test]
fn a_load_that_panics_is_a_reload_that_failed() {
    let (folder, loads) = (folder(), AtomicUsize::new(0));
    let path = folder.path().join("test.yaml");
    std::fs::write(folder.path().join("lite.db"), "").expect("written");
    std::fs::write(&path, config("", "")).expect("written");
    let load = move || config::load(&path, &|_| None, &Drivers::built_in());
    let fleet = start::make_targets(load().unwrap_or_else(|faults| panic!("{faults:?}")));
    let reloader = Reloader::new(Box::new(move || {
        assert!(loads.fetch_add(1, Ordering::Relaxed) > 0, "the first load panics");
        load()
    }));
    let site = Endpoints::new(fleet, Box::new(move |site| reloader.reload(site)), |_| None);
    let errors = site.reload().expect_err("the first load panics");
    assert!(errors.iter().any(|error| error.to_string().contains("a bug in sql-exporter")), "{errors:?}");
    assert!(site.reload().is_ok());
}

/// Queries of `a` by name, each with a value that is another one whenever it runs, kept for an hour.
fn named(names: &[&str]) -> String {
    let query = |name: &&str| {
        format!(
            "  - {{name: {name}, database: a, sql: SELECT abs(random() / 2) AS value, interval: 1h, metrics: [{{name: {name}}}]}}\n"
        )
    };
    format!("databases:\n  a: {LITE}}}\nqueries:\n{}", names.iter().map(query).collect::<String>())
}

fn values(exporter: &Exporter, names: &[&str]) -> Vec<Option<f64>> {
    let page = checked(&exporter.metrics());
    names.iter().map(|name| page.value(name, &[("target", "a")])).collect()
}

fn reload(exporter: &Exporter, config: &str) {
    write(exporter, config);
    let (status, text) = post(exporter);
    assert_eq!(status, 200, "{text}");
}

/// What a query is known by is its name and its settings, not its place.
#[test]
fn a_query_keeps_its_result_while_others_come_go_and_move() {
    let exporter = serve(&named(&["qa", "qb"]));
    let before = values(&exporter, &["qa", "qb"]);
    assert!(before.iter().all(Option::is_some));
    for names in
        [&["new", "qa", "qb"][..], &["qb", "new", "qa"], &["qb", "qa"], &["renamed", "qa", "qb", "more"]]
    {
        reload(&exporter, &named(names));
        assert_eq!(values(&exporter, &["qa", "qb"]), before, "{names:?}");
        let shown = exporter.get("/config").text().to_owned();
        let order: Vec<Option<usize>> =
            names.iter().map(|name| shown.find(&format!("name: {name}\n"))).collect();
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{names:?} in {shown}");
    }
    // Gone, and there again: it is a new one.
    reload(&exporter, &named(&["qb"]));
    reload(&exporter, &named(&["qa", "qb"]));
    let after = values(&exporter, &["qa", "qb"]);
    assert!(
        after[0].is_some() && after[0] != before[0] && after[1] == before[1],
        "{after:?} after {before:?}"
    );
}

#[test]
fn a_query_that_changed_runs_again_and_its_neighbour_does_not() {
    let exporter = serve(&named(&["qa", "qb"]));
    let before = values(&exporter, &["qa", "qb"]);
    for (from, to) in [("interval: 1h", "interval: 2h"), ("SELECT abs", "SELECT 0 + abs")] {
        let changed = named(&["qa", "qb"]).replacen(from, to, 1);
        let last = values(&exporter, &["qa", "qb"]);
        reload(&exporter, &changed);
        let now = values(&exporter, &["qa", "qb"]);
        assert!(now[0].is_some() && now[0] != last[0] && now[1] == before[1], "{to}: {now:?} after {last:?}");
    }
}

/// A result of another database, or under other labels, is not this one's.
#[test]
fn a_target_that_leads_elsewhere_or_bears_other_labels_keeps_no_result() {
    let exporter = serve(&named(&["qa"]));
    let mut last = values(&exporter, &["qa"]);
    for (to, labels) in [("other.db", ""), ("other.db", ", labels: {env: x}")] {
        std::fs::write(exporter.file("other.db"), "").expect("written");
        reload(&exporter, &named(&["qa"]).replace("lite.db", &format!("{to}{labels}")));
        let now = values(&exporter, &["qa"]);
        assert!(now[0].is_some() && now != last, "{to}{labels}: {now:?} after {last:?}");
        last = now;
    }
}

#[test]
fn the_last_good_result_stands_in_after_a_reload_too() {
    let sql = "SELECT v AS value FROM t";
    let config = |more: &str| {
        format!(
            "databases:\n  a: {LITE}}}\nqueries:\n{more}  - {{name: kept, database: a, sql: {sql}, keep_last: 1h, metrics: [{{name: kept}}]}}\n"
        )
    };
    let exporter = serve(&config(""));
    let file = rusqlite::Connection::open(exporter.file("lite.db")).expect("a file");
    file.execute_batch("CREATE TABLE t AS SELECT 7 AS v").expect("SQLite writes");
    assert_eq!(values(&exporter, &["kept"]), [Some(7.0)]);
    let labels = [("target", "a"), ("query", "kept"), ("collector", "default")];
    let since = |exporter: &Exporter| {
        checked(&exporter.metrics()).value("sql_exporter_query_last_success_timestamp_seconds", &labels)
    };
    file.execute_batch("DROP TABLE t").expect("SQLite writes");
    let before = since(&exporter);
    reload(
        &exporter,
        &config("  - {name: first, database: a, sql: SELECT 1 AS value, metrics: [{name: first}]}\n"),
    );
    assert_eq!(values(&exporter, &["kept", "first"]), [Some(7.0), Some(1.0)]);
    assert!(before.is_some() && since(&exporter) == before, "its history");
    exporter.wait_for_log("query kept on target a fails");
    assert_eq!(exporter.log().matches("query kept on target a fails").count(), 1, "said once");
}

/// The process ids of the sessions on the database.
fn pids(postgres: &Postgres) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
               AND backend_type = 'client backend' ORDER BY pid";
    postgres.client().query(sql, &[]).expect("rows").iter().map(|row| row.get(0)).collect()
}

#[test]
fn sessions_stay_whatever_else_changes_and_go_with_the_way_to_the_database() {
    let postgres = Postgres::fresh("reload_sessions");
    let config = |more: &str, queries: &str| {
        format!(
            "databases:\n  db: {}\nqueries:\n{queries}  - {{name: q, sql: SELECT 1 AS value, metrics: [{{name: q}}]}}\n",
            postgres.entry_with(more)
        )
    };
    let one = "max_connections: 1";
    let exporter = Setup::new(&config(one, "")).serve();
    let scrape = || {
        let page = exporter.metrics();
        // The page is there before its session is reset; the next one would open another meanwhile.
        wait_for("the session to be idle", || {
            let own = checked(exporter.get("/-/metrics").text());
            let busy = own.series("sql_exporter_sessions");
            busy.iter().all(|row| row.labels["state"] == "idle" || row.value == 0.0).then_some(())
        });
        page
    };
    let page = |labels: &[(&str, &str)]| {
        assert_eq!(checked(&scrape()).value("q", labels), Some(1.0), "{}", exporter.log());
        pids(&postgres)
    };
    let first = page(&[("target", "db")]);
    assert_eq!(first.len(), 1);
    let other = "  - {name: other, sql: SELECT 2 AS value, metrics: [{name: other}]}\n";
    for (more, queries, labels) in [
        (one, other, &[("target", "db")][..]),
        ("max_connections: 1, labels: {env: x}", "", &[("target", "db"), ("env", "x")]),
        ("max_connections: 2", "", &[("target", "db")]),
        ("max_connections: 2, idle_timeout: 1h, max_lifetime: 2h", "", &[("target", "db")]),
        ("max_connections: 1, snapshot: true", "", &[("target", "db")]),
    ] {
        reload(&exporter, &config(more, queries));
        let now = page(labels);
        assert!(now.contains(&first[0]), "{more}: {now:?} after {first:?}");
        assert!(
            !scrape().lines().any(|line| line.contains("env=\"x\"") && !more.contains("env: x")),
            "{more}: rows under labels that are gone"
        );
    }
    reload(&exporter, &config("max_connections: 1, session_sql: [SELECT 1]", ""));
    wait_for("another session alone", || {
        let now = page(&[("target", "db")]);
        (now.len() == 1 && now != first).then_some(())
    });
}

#[test]
fn fewer_sessions_after_a_reload_are_fewer_at_once() {
    let postgres = Postgres::fresh("reload_fewer");
    let queries: String = (0..3)
        .map(|n| format!("  - {{name: q{n}, sql: 'SELECT 1 AS value FROM (SELECT pg_sleep(0.3)) AS s{n}', metrics: [{{name: q{n}}}]}}\n"))
        .collect();
    let config = |most: usize| {
        format!(
            "databases:\n  db: {}\nqueries:\n{queries}",
            postgres.entry_with(&format!("max_connections: {most}"))
        )
    };
    let exporter = Setup::new(&config(3)).serve();
    exporter.metrics();
    let before = pids(&postgres);
    assert_eq!(before.len(), 3);
    reload(&exporter, &config(1));
    wait_for("one session", || (pids(&postgres).len() == 1).then_some(()));
    let page = checked(&exporter.metrics());
    assert!(
        (0..3).all(|n| page.value(&format!("q{n}"), &[("target", "db")]) == Some(1.0)),
        "{}",
        exporter.log()
    );
    let after = pids(&postgres);
    assert!(after.len() == 1 && before.contains(&after[0]), "{after:?} of {before:?}");
}

/// A reload under a scrape: the next scrape joins the run, and the session serves on.
#[test]
fn a_run_under_way_is_joined_after_a_reload_and_its_session_stays() {
    let postgres = Postgres::fresh("reload_under_way");
    let slow = "  - {name: slow, sql: 'SELECT 1 AS value FROM (SELECT pg_sleep(3)) AS reload_mark', metrics: [{name: slow}]}\n";
    let config = |queries: &str| {
        format!("databases:\n  db: {}\nqueries:\n{queries}{slow}", postgres.entry_with("max_connections: 1"))
    };
    let exporter = Setup::new(&config("")).serve();
    // The second has a little less time than the first, however long this machine takes between the two.
    let within = |seconds| {
        checked(exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", seconds)]).text())
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| within("60"));
        let mut client = postgres.client();
        wait_for("the query to run", || {
            let sql = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%reload_mark%' AND state = 'active' AND datname = current_database() AND pid <> pg_backend_pid()";
            client.query_opt(sql, &[]).expect("an answer").map(drop)
        });
        let session = pids(&postgres);
        reload(&exporter, &config("  - {name: first, sql: SELECT 2 AS value, metrics: [{name: first}]}\n"));
        let second = within("30");
        assert_eq!(first.join().expect("a page").value("slow", &[("target", "db")]), Some(1.0));
        assert_eq!(second.value("slow", &[("target", "db")]), Some(1.0), "{}", exporter.log());
        assert_eq!(second.value("first", &[("target", "db")]), Some(2.0), "{}", exporter.log());
        assert_eq!(own(&exporter, "sql_exporter_runs_joined_total"), 1.0);
        assert_eq!(pids(&postgres), session);
    });
}

#[test]
fn a_reload_ends_the_back_off() {
    let postgres = Postgres::fresh("reload_back_off");
    let config = |query: &str| {
        format!(
            "databases:\n  db: {{driver: postgres, host: 127.0.0.1, port: {}, username: reload_late, password: c4nary-late, database: {}}}\nqueries:\n\
             \x20 - {{name: {query}, sql: SELECT 1 AS value, metrics: [{{name: {query}}}]}}\n",
            postgres.port, postgres.database
        )
    };
    postgres.run("DROP ROLE IF EXISTS reload_late");
    let exporter = Setup::new(&config("q")).serve();
    let backoff =
        || checked(&exporter.metrics()).value("sql_exporter_target_backoff_seconds", &[("target", "db")]);
    assert!(backoff().is_some_and(|left| left > 10.0), "{}", exporter.log());
    postgres.run("CREATE ROLE reload_late LOGIN PASSWORD 'c4nary-late'");
    for query in ["q", "other"] {
        reload(&exporter, &config(query));
        assert_eq!(
            checked(&exporter.metrics()).value(query, &[("target", "db")]),
            Some(1.0),
            "{}",
            exporter.log()
        );
    }
}

/// Rows of what is gone go with it, also when its last run ends after the reload.
#[test]
fn rows_of_what_is_gone_do_not_stay() {
    let postgres = Postgres::fresh("reload_rows");
    let failing =
        "  - {name: bad, databases: [a, gone, off], sql: SELECT nonsense, metrics: [{name: bad}]}\n";
    let slow = "  - {name: late, database: gone, sql: 'SELECT pg_sleep(2), nonsense() AS value /* rows_mark */', metrics: [{name: late}]}\n";
    let entry = postgres.entry();
    let before = format!("databases:\n  a: {LITE}}}\n  gone: {entry}\n  off: {LITE}}}\nqueries:\n{failing}");
    let exporter = serve(&before);
    let text = exporter.metrics();
    for row in ["errors_total{target=\"a\"", "errors_total{target=\"gone\"", "sessions{target=\"off\""] {
        assert!(text.contains(row), "{row} in {text}");
    }
    // A run of the target ends after it is gone.
    reload(
        &exporter,
        &format!("{before}{slow}").replace("nonsense() AS value", "1 / (random() > 2)::int AS value"),
    );
    std::thread::scope(|scope| {
        let page = scope.spawn(|| exporter.metrics());
        let mut client = postgres.client();
        wait_for("the query to run", || {
            let sql = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%rows_mark%' AND state = 'active' AND datname = current_database() AND pid <> pg_backend_pid()";
            client.query_opt(sql, &[]).expect("an answer").map(drop)
        });
        let after =
            format!("databases:\n  a: {LITE}}}\n  off: {LITE}, enabled: false}}\nqueries:\n{failing}");
        reload(&exporter, &after.replace("[a, gone, off]", "[a, off]"));
        assert!(!exporter.get("/-/metrics").text().contains("gone"));
        page.join().expect("a page");
    });
    for path in ["/-/metrics", "/metrics", "/-/metrics"] {
        let text = exporter.get(path).text().to_owned();
        assert!(text.contains("errors_total{target=\"a\""), "{text}");
        assert!(!text.contains("\"gone\"") && !text.contains("sessions{target=\"off\""), "{path}: {text}");
    }
}
