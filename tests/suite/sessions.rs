//! What a target does with the sessions that it has, over a scripted database: what is prepared, what runs together,
//! what runs again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use sql_exporter::commands::run::start;
use sql_exporter::deadline::Deadline;
use sql_exporter::engine::result_cache::CacheLookup;
use sql_exporter::engine::run::{RunEnd, RunKind};
use sql_exporter::engine::scrape::ScrapeOutcome;
use sql_exporter::engine::targets::Targets;
use sql_exporter::error::{Error, Reason};

use crate::checker::{Page, checked};
use crate::exporter::Exporter;
use crate::fault::{Act, Call, Fault};
use crate::process::{retried_if_busy, wait_for};
use crate::scrape::{LONG, fails, fleet_with, own, plan_with, scraped, success, up};
use crate::servers::{MariaDb, Postgres};

/// Queries `q1`, `q2` … of different SQL on target `a`.
fn queries(count: usize) -> String {
    let query = |n| {
        format!(
            "  - {{name: q{n}, database: a, sql: SELECT {n}, metrics: [{{name: q{n}_value, duplicates: first}}]}}\n"
        )
    };
    (1..=count).map(query).collect()
}

fn statements(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|n| format!("SELECT {n}")).collect()
}

fn sorted(mut statements: Vec<String>) -> Vec<String> {
    statements.sort();
    statements
}

#[test]
fn first_runs_are_prepared_together_run_alone_and_are_a_group_when_they_were_quick() {
    let fault = Fault::none();
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &format!("queries:\n{}", queries(4)));
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    assert_eq!(fault.prepared().into_iter().map(sorted).collect::<Vec<_>>(), [statements(1..=4)]);
    assert_eq!(fault.batches(), [1, 1, 1, 1]);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    assert_eq!(fault.batches(), [1, 1, 1, 1, 4]);
    assert_eq!(fault.prepared().len(), 1, "the session is not a fresh one any more");
}

#[test]
fn a_session_that_dies_while_it_prepares_costs_no_query() {
    let fault = Fault::new(|call| match call {
        Call::Prepare(_) => Act::Lose,
        _ => Act::Rows(1),
    });
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &format!("queries:\n{}", queries(4)));
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete, "{:?}", fault.log());
    assert_eq!(fault.prepared().len(), 1, "not tried again on the next session");
}

#[test]
fn a_statement_that_fails_or_does_not_apply_is_not_prepared() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Fail(Reason::Sql),
        Call::Run(6) => Act::Lose,
        _ => Act::Rows(1),
    });
    let other = "  - {name: other, database: a, sql: SELECT 9, when: {version: '>=2'}, metrics: [{name: other_value}]}\n\
                 \x20 - {name: asked, database: a, sql: SELECT 8, when: {sql: SELECT 7}, metrics: [{name: asked_value}]}\n";
    let rest = format!("queries:\n{}{other}", queries(3));
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &rest);
    let (page, _) = scraped(&fleet, LONG);
    let failed: Vec<usize> = (1..=3).filter(|n| fails(&page, "a", &format!("q{n}"), Reason::Sql)).collect();
    let prepared = sorted(fault.prepared().remove(0));
    assert_eq!(prepared, statements(1..=3));
    let [failed] = failed[..] else { panic!("one fails: {failed:?}") };
    // The session dies under the next scrape; what is known to fail is not tried twice on the new one.
    assert_eq!(success(&scraped(&fleet, LONG).0, "a", &format!("q{failed}")), Some(1.0));
    let again = sorted(fault.prepared().pop().expect("a second preparation"));
    assert_eq!(again, statements((1..=3).filter(|n| *n != failed)), "{:?}", fault.log());
}

/// How many calls of a kind there were.
fn count(fault: &Fault, is_counted: impl Fn(&Call) -> bool) -> usize {
    fault.log().iter().filter(|call| is_counted(call)).count()
}

fn connects(fault: &Fault) -> usize {
    count(fault, |call| matches!(call, Call::Connect(_)))
}

/// Runs take a while, so that every lane that is started comes to ask for a session.
fn unhurried(act: impl Fn(Call) -> Act + Send + Sync + 'static) -> Arc<Fault> {
    Fault::new(move |call| {
        if let Call::Run(_) = call {
            std::thread::sleep(Duration::from_millis(100));
        }
        act(call)
    })
}

fn three(more: &str, fault: &Arc<Fault>) -> Arc<Targets> {
    fleet_with(more, &[("a", fault)], &format!("queries:\n{}", queries(3)))
}

#[test]
fn queries_wait_for_the_one_session_that_a_server_gives() {
    for more in ["max_connections: 3", "max_connections: 3, snapshot: true"] {
        let fault = unhurried(|call| match call {
            Call::Connect(2..) => Act::Full,
            _ => Act::Rows(1),
        });
        let fleet = three(more, &fault);
        for turn in 0..3 {
            let (page, verdict) = scraped(&fleet, LONG);
            assert_eq!(verdict, ScrapeOutcome::Complete, "{more}, page {turn}: {:?}", fault.log());
            assert_eq!(page.value("sql_exporter_target_backoff_seconds", &[("target", "a")]), Some(0.0));
        }
        assert!(connects(&fault) <= 3, "asked for more at each scrape: {:?}", fault.log());
    }
}

/// Whatever keeps a target from a further session, the one that it has does the work.
#[test]
fn a_login_that_fails_costs_no_query_while_another_session_lives() {
    for reason in [Reason::Timeout, Reason::Auth, Reason::Connect, Reason::Tls] {
        let fault = unhurried(move |call| match call {
            Call::Connect(2..) => Act::Fail(reason),
            _ => Act::Rows(1),
        });
        let fleet = three("max_connections: 3", &fault);
        for turn in 0..2 {
            let (page, verdict) = scraped(&fleet, LONG);
            assert_eq!(verdict, ScrapeOutcome::Complete, "{reason:?}, page {turn}: {:?}", fault.log());
            assert_eq!(page.value("sql_exporter_target_backoff_seconds", &[("target", "a")]), Some(0.0));
        }
    }
}

#[test]
fn a_session_that_dies_on_a_full_server_leaves_its_query_to_the_others() {
    // Two sessions; then one of them dies, and is not given again.
    let fault = unhurried(|call| match call {
        Call::Connect(3..) => Act::Full,
        Call::Run(5) => Act::Lose,
        _ => Act::Rows(1),
    });
    let fleet = three("max_connections: 2", &fault);
    for turn in 0..4 {
        assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete, "page {turn}: {:?}", fault.log());
    }
}

/// A pooler lets everybody in and has no session of the server for the second one.
#[test]
fn a_pooler_that_ends_a_waiting_session_leaves_its_query_to_the_others() {
    let fault = unhurried(|call| if call == Call::Run(2) { Act::Full } else { Act::Rows(1) });
    let fleet = three("max_connections: 2", &fault);
    for turn in 0..2 {
        assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete, "page {turn}: {:?}", fault.log());
    }
}

#[test]
fn a_full_server_without_any_session_of_ours_is_asked_once_and_left_alone_for_a_while() {
    // The first pause is a second: a machine that was too busy to come back within it tries once more.
    wait_for("two scrapes within the pause", || {
        let fault = Fault::new(|call| if let Call::Connect(_) = call { Act::Full } else { Act::Rows(1) });
        let fleet = three("max_connections: 3", &fault);
        let began = Instant::now();
        let (page, _) = scraped(&fleet, LONG);
        for query in ["q1", "q2", "q3"] {
            assert!(fails(&page, "a", query, Reason::Server), "{query}");
        }
        assert_eq!(up(&page, "a"), Some(0.0));
        let asked = connects(&fault);
        assert!(asked <= 3, "once a lane: {:?}", fault.log());
        assert!(fails(&scraped(&fleet, LONG).0, "a", "q1", Reason::Server));
        let again = connects(&fault);
        (began.elapsed() < Duration::from_secs(1)).then(|| assert_eq!(again, asked, "left alone"))
    });
}

#[test]
fn what_a_neighbour_takes_with_it_runs_again() {
    // Known to be quick, all four go together on the session that is fresh after the first one died.
    let fault = Fault::new(|call| match call {
        Call::Run(5) => Act::Lose,
        Call::Run(7) => Act::Cut(Reason::Locked),
        _ => Act::Rows(1),
    });
    let rest = format!("queries:\n{}", queries(4));
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &rest);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    let (page, _) = scraped(&fleet, LONG);
    let locked = (1..=4).filter(|n| fails(&page, "a", &format!("q{n}"), Reason::Locked)).count();
    let good = (1..=4).filter(|n| success(&page, "a", &format!("q{n}")) == Some(1.0)).count();
    assert_eq!((locked, good), (1, 3), "{:?}", fault.log());
}

/// None of a group has ended when their fresh session dies: which of them is to blame, each says alone.
#[test]
fn a_query_that_kills_its_session_fails_alone() {
    let fault = Fault::new(|call| if let Call::Run(5..=7) = call { Act::Lose } else { Act::Rows(1) });
    let rest = format!("queries:\n{}", queries(4));
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &rest);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    // Lost on the old session, lost together on a fresh one, lost alone: that one is to blame, and the rest is good.
    let (page, _) = scraped(&fleet, LONG);
    let lost = (1..=4).filter(|n| fails(&page, "a", &format!("q{n}"), Reason::Lost)).count();
    let good = (1..=4).filter(|n| success(&page, "a", &format!("q{n}")) == Some(1.0)).count();
    assert_eq!((lost, good), (1, 3), "{:?}", fault.log());
}

#[test]
fn a_snapshot_of_which_nothing_was_read_yet_is_read_anew_without_the_query_that_ended_it() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Cut(Reason::Timeout),
        _ => Act::Rows(1),
    });
    let fleet = three("max_connections: 1, snapshot: true", &fault);
    let (page, _) = scraped(&fleet, LONG);
    assert!(fails(&page, "a", "q1", Reason::Timeout), "{:?}", fault.log());
    for query in ["q2", "q3"] {
        assert_eq!(success(&page, "a", query), Some(1.0), "{query}: {:?}", fault.log());
    }
    // Who was stopped comes last, and takes nobody with it.
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
}

#[test]
fn the_rest_of_a_snapshot_that_was_read_in_part_is_not_read_at_another_moment() {
    let fault = Fault::new(|call| match call {
        Call::Run(2) => Act::Cut(Reason::Timeout),
        _ => Act::Rows(1),
    });
    let fleet = three("max_connections: 1, snapshot: true", &fault);
    let (page, _) = scraped(&fleet, LONG);
    assert_eq!(success(&page, "a", "q1"), Some(1.0));
    assert!(fails(&page, "a", "q2", Reason::Timeout) && fails(&page, "a", "q3", Reason::Lost));
}

#[test]
fn a_run_that_several_threads_end_is_counted_once() {
    let fault = Fault::none();
    let fleet = three("max_connections: 1", &fault);
    let target = &fleet.targets[0];
    for turn in 1..=20 {
        let mut asked = target.request(&[RunKind::Query(0)], Deadline::within(LONG), LONG);
        let Some(CacheLookup::Started(run)) = asked.pop() else { panic!("nothing is under way") };
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let error = Error::new(Reason::Lost, "as the test wants it");
                    target.finish(&run, RunEnd::Failed(error), Duration::ZERO, false);
                });
            }
        });
        let labels = [("target", "a"), ("query", "q1"), ("collector", "default"), ("reason", "lost")];
        let counted = own(&fleet).value("sql_exporter_query_errors_total", &labels);
        assert_eq!(counted, Some(f64::from(turn)));
    }
}

/// Whether a target was down last time changes while another scrape puts its targets in order.
#[test]
fn targets_that_go_and_come_disturb_no_scrape() {
    let fault = Fault::new(|call| match call {
        Call::Connect(n) | Call::Run(n) if n % 3 == 0 => Act::Fail(Reason::Connect),
        Call::Run(n) if n % 3 == 1 => Act::Lose,
        _ => Act::Rows(1),
    });
    let names: Vec<&'static str> = (0..60).map(|n| &*Box::leak(format!("t{n}").into_boxed_str())).collect();
    let faults: Vec<_> = names.iter().map(|name| (*name, &fault)).collect();
    let query = "  - {name: q, databases: ['*'], sql: SELECT 1, metrics: [{name: q_value}]}\n";
    let fleet = fleet_with("max_connections: 1", &faults, &format!("queries:\n{query}"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| drop(scraped(&fleet, LONG))));
        }
    });
}

/// Where only `/probe` is scraped, nobody reads the exporter's own metrics, which would forget them.
#[test]
fn counters_of_a_target_that_is_gone_do_not_wait_for_a_reader() {
    let fault = Fault::new(|call| match call {
        Call::Run(_) => Act::Fail(Reason::Sql),
        _ => Act::Rows(1),
    });
    let targets = |names: &[&'static str]| {
        let faults: Vec<_> = names.iter().map(|name| (*name, &fault)).collect();
        let query = "  - {name: q, databases: ['*'], sql: SELECT 1, metrics: [{name: q_value}]}\n";
        plan_with("max_connections: 1", &faults, &format!("queries:\n{query}"))
    };
    let fleet = start::make_targets(targets(&["stays", "gone"]));
    scraped(&fleet, LONG);
    let (next, _) = fleet.renew(targets(&["stays"]));
    drop(fleet);
    let families = next.telemetry().render();
    let lines = families.iter().flat_map(|(_, blocks)| blocks).flat_map(|block| block.lines.clone());
    let text = String::from_utf8(lines.collect()).expect("UTF-8");
    assert!(text.contains("query_errors_total{target=\"stays\"") && !text.contains("\"gone\""), "{text}");
}

/// Three queries of 0.4 s on each target, three lanes each.
fn slow_queries(targets: &str, sleep: &str) -> String {
    let query = |name| {
        format!("- {{name: {name}, databases: ['*'], sql: \"{sleep}\", metrics: [{{name: {name}}}]}}\n")
    };
    format!("databases:\n{targets}queries:\n{}", ["qa", "qb", "qc"].map(query).concat())
}

const PG_SLEEP: &str = "SELECT 1 AS value FROM (SELECT pg_sleep(0.4)) AS s";

fn page(exporter: &Exporter) -> Page {
    checked(exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "15")]).text())
}

/// Every query is on the page of each target.
fn is_whole(page: &Page, targets: usize, exporter: &Exporter) {
    for name in ["qa", "qb", "qc"] {
        assert_eq!(page.series(name).len(), targets, "{name}: {}", exporter.log());
    }
    assert!(page.series("sql_exporter_query_failure_reason").is_empty(), "{}", exporter.log());
}

/// An entry of a role of this database that may have so many sessions.
fn narrow(server: &Postgres, role: &str, limit: u32, more: &str) -> String {
    server.run(&format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'c4nary-narrow' CONNECTION LIMIT {limit}"
    ));
    let entry = server.entry_with(more).replace("username: postgres", &format!("username: {role}"));
    entry.replace(&server.password, "c4nary-narrow")
}

/// The log tells once that there are fewer sessions than `max_connections`.
fn tells_once(exporter: &Exporter, target: &str, cause: &str) {
    let log = exporter.log();
    let line = format!("target {target} gets fewer sessions than its max_connections 3");
    assert_eq!(log.matches(&line).count(), 1, "{log}");
    assert!(log.contains(cause), "{log}");
}

#[test]
fn a_role_that_may_have_one_session_has_all_its_queries_on_each_page() {
    let server = Postgres::fresh("sessions_role");
    for (role, more) in [("narrow_one", "snapshot: false"), ("narrow_snapshot", "snapshot: true")] {
        let entry = narrow(&server, role, 1, more);
        let exporter = Exporter::serve(&slow_queries(&format!("  db: {entry}\n"), PG_SLEEP));
        for _ in 0..3 {
            is_whole(&page(&exporter), 1, &exporter);
        }
        if more.ends_with("false") {
            tells_once(&exporter, "db", "too many connections for role");
        }
    }
}

#[test]
fn targets_of_one_role_take_turns_at_its_one_session() {
    let servers =
        [Postgres::fresh("sessions_a"), Postgres::fresh("sessions_b"), Postgres::fresh("sessions_c")];
    let entries: Vec<String> =
        servers.iter().map(|server| narrow(server, "narrow_three", 1, "max_connections: 2")).collect();
    let targets: String =
        entries.iter().zip(["a", "b", "c"]).map(|(entry, name)| format!("  {name}: {entry}\n")).collect();
    let exporter = Exporter::serve(&slow_queries(&targets, PG_SLEEP));
    for _ in 0..3 {
        is_whole(&page(&exporter), 3, &exporter);
    }
}

#[test]
fn a_limit_that_comes_later_costs_no_query() {
    let server = Postgres::fresh("sessions_later");
    let exporter = Exporter::serve(&slow_queries(
        &format!("  db: {}\n", narrow(&server, "narrow_later", 9, "max_connections: 3")),
        PG_SLEEP,
    ));
    is_whole(&page(&exporter), 1, &exporter);
    server.run(
        "ALTER ROLE narrow_later CONNECTION LIMIT 1; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narrow_later' \
         ORDER BY backend_start LIMIT 2",
    );
    for _ in 0..2 {
        is_whole(&page(&exporter), 1, &exporter);
    }
    tells_once(&exporter, "db", "too many connections for role");
    // Those that are left go as well: the next session is the only one.
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narrow_later'");
    is_whole(&page(&exporter), 1, &exporter);
    server.run("ALTER ROLE narrow_later CONNECTION LIMIT 9");
    // A reload tries for more at once.
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    wait_for("all sessions", || {
        is_whole(&page(&exporter), 1, &exporter);
        exporter.log().contains("has all sessions of its max_connections again").then_some(())
    });
}

#[test]
fn a_mariadb_user_that_may_have_one_session_has_all_its_queries_on_each_page() {
    let server = MariaDb::fresh("sessions_user");
    let mut root = server.client();
    root.query_drop(
        "CREATE OR REPLACE USER narrow_one IDENTIFIED BY 'c4nary-narrow' WITH MAX_USER_CONNECTIONS 1",
    )
    .expect("a user");
    let entry = server.entry_with("max_connections: 3").replace("username: root", "username: narrow_one");
    let entry = entry
        .replace(&server.password, "c4nary-narrow")
        .replace(&format!("database: {}", server.database), "database: information_schema");
    let exporter =
        Exporter::serve(&slow_queries(&format!("  db: {entry}\n"), "SELECT sleep(0.4) + 1 AS value"));
    for _ in 0..3 {
        is_whole(&page(&exporter), 1, &exporter);
    }
    tells_once(&exporter, "db", "(error 1226)");
}

/// Queries before and behind one that waits for a lock, on a session that is fresh.
#[test]
fn a_locked_table_costs_its_own_query_alone() {
    let server = Postgres::fresh("sessions_lock");
    server.run("CREATE TABLE qa AS SELECT 1 AS value; CREATE TABLE qb AS SELECT 1 AS value; CREATE TABLE qc AS SELECT 1 AS value");
    let query =
        |name| format!("- {{name: {name}, sql: SELECT value FROM {name}, metrics: [{{name: {name}}}]}}\n");
    let queries = ["qa", "qb", "qc"].map(query).concat();
    for (more, locked) in [
        ("max_connections: 3", "qb"),
        ("max_connections: 1", "qc"),
        ("max_connections: 1, snapshot: true", "qc"),
    ] {
        // A busy machine may take longer than the two seconds for a login and two queries.
        retried_if_busy(|| {
            let mut locking = server.client();
            locking
                .batch_execute(&format!("BEGIN; LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE"))
                .expect("a lock");
            let exporter = Exporter::serve(&format!(
                "databases:\n  db: {}\nqueries:\n{queries}",
                server.entry_with(more)
            ));
            for turn in 0..2 {
                wait_for("the end of the session that was stopped at the last page's deadline", || {
                    let page = checked(exporter.get("/-/metrics").text());
                    let is_free =
                        |state| page.value("sql_exporter_sessions", &[("state", state)]) == Some(0.0);
                    (is_free("busy") && is_free("late")).then_some(())
                });
                let reply = exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "2")]);
                let page = checked(reply.text());
                for name in ["qa", "qb", "qc"] {
                    let expected = if name == locked { vec![] } else { vec![1.0] };
                    let values: Vec<f64> = page.series(name).iter().map(|row| row.value).collect();
                    assert_eq!(values, expected, "{name}, {more}, page {turn}: {}", exporter.log());
                }
            }
            locking.batch_execute("ROLLBACK").expect("no lock");
            wait_for("a good page", || {
                let page = checked(&exporter.metrics());
                page.series("sql_exporter_query_failure_reason").is_empty().then_some(())
            });
        });
    }
}

/// Each run of the function leaves its session with a table that hides others of its name.
#[test]
fn an_answer_that_its_session_ended_with_counts_on_the_next_one() {
    let server = Postgres::fresh("answers");
    server.run(
        "CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
         CREATE TEMP TABLE IF NOT EXISTS made (a int); RETURN 1; END $$",
    );
    let exporter = Exporter::serve(&format!(
        "databases:\n  db: {}\nqueries:\n\
         - {{name: plain, sql: SELECT 1 AS value, metrics: [{{name: plain}}]}}\n\
         - {{name: asked, when: {{sql: SELECT sets()}}, sql: SELECT 2 AS value, metrics: [{{name: asked}}]}}\n\
         - {{name: refused, when: {{sql: SELECT sets() = 0}}, sql: SELECT 3 AS value, metrics: [{{name: refused}}]}}\n\
         - name: each\n  when: {{sql: SELECT sets() = 1}}\n  foreach: {{sql: SELECT sets() AS number}}\n  \
           sql: SELECT 4 AS value WHERE $1 = '1'\n  metrics: [{{name: each}}]\n",
        server.entry_with("read_only: false, max_connections: 1")
    ));
    for _ in 0..3 {
        let page = checked(&exporter.metrics());
        let value = |name: &str| page.series(name).iter().map(|row| row.value).collect::<Vec<_>>();
        let found = ["plain", "asked", "refused", "each"].map(value);
        assert_eq!(found, [vec![1.0], vec![2.0], vec![], vec![4.0]], "{}", exporter.log());
        assert_eq!(page.series("sql_exporter_query_skipped").len(), 1);
    }
}
