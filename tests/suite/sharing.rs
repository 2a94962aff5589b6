//! Many targets on one server: how many sessions they have together, and what a full, slow or frozen server costs others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sql_exporter::engine::scrape;
use sql_exporter::engine::scrape::{ScrapeOutcome, ScrapeTime};
use sql_exporter::engine::targets::{ScrapeSelection, Targets};
use sql_exporter::error::Reason;

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::exporter::Exporter;
use crate::fault::{Act, Call, Fault};
use crate::process::wait_for;
use crate::scrape::{
    LONG, SHORT, fails, fleet_of, fleet_with, own, plan_of, plan_with, query, scraped, success,
};
use crate::servers::own::OwnPostgres;
use crate::servers::{MariaDb, Postgres};

/// A server with room for so many sessions, and what it saw.
#[derive(Default)]
struct Room {
    open: AtomicUsize,
    most: AtomicUsize,
    logins: AtomicUsize,
    refused: AtomicUsize,
    /// A session counts for so long after its end.
    lag: Duration,
}

impl Room {
    fn database(self: &Arc<Self>, size: usize) -> Arc<Fault> {
        let room = Arc::clone(self);
        Fault::new(move |call| match call {
            Call::Connect(_) => room.log_in(size),
            Call::Drop(_) if room.lag.is_zero() => {
                room.open.fetch_sub(1, Ordering::SeqCst);
                Act::Rows(1)
            }
            Call::Drop(_) => {
                let room = Arc::clone(&room);
                std::thread::spawn(move || {
                    std::thread::sleep(room.lag);
                    room.open.fetch_sub(1, Ordering::SeqCst);
                });
                Act::Rows(1)
            }
            Call::Run(_) => {
                std::thread::sleep(Duration::from_millis(2));
                Act::Rows(1)
            }
            _ => Act::Rows(1),
        })
    }

    fn log_in(&self, size: usize) -> Act {
        self.logins.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        if open > size {
            self.open.fetch_sub(1, Ordering::SeqCst);
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Act::Full;
        }
        self.most.fetch_max(open, Ordering::SeqCst);
        Act::Rows(1)
    }
}

/// So many targets of one server, each with one query.
fn targets_of(room: &Arc<Room>, size: usize, count: usize, more: &str) -> Arc<Targets> {
    let name = |n| -> &'static str { Box::leak(format!("t{n:02}").into_boxed_str()) };
    let faults: Vec<(&'static str, Arc<Fault>)> =
        (0..count).map(|n| (name(n), room.database(size))).collect();
    let faults: Vec<_> = faults.iter().map(|(name, fault)| (*name, fault)).collect();
    fleet_with(&format!("host: one, {more}"), &faults, &format!("queries:\n{}", query("q", "'*'", "")))
}

#[test]
fn targets_of_a_server_share_its_sessions_by_closing_idle_ones() {
    let room = Arc::new(Room::default());
    let fleet = targets_of(&room, usize::MAX, 30, "max_server_connections: 5");
    for turn in 0..3 {
        let (_, outcome) = scraped(&fleet, LONG);
        assert_eq!(outcome, ScrapeOutcome::Complete, "page {turn}");
    }
    assert_eq!(room.most.load(Ordering::SeqCst), 5);
}

/// Of `max_server_connections` that differ the least counts, while its target is there.
#[test]
fn a_target_that_is_gone_no_longer_bounds_the_sessions_of_its_server() {
    let room = Arc::new(Room::default());
    let faults = ["low", "t0", "t1", "t2", "t3"].map(|name| (name, room.database(usize::MAX)));
    let faults: Vec<_> = faults.iter().map(|(name, fault)| (*name, fault)).collect();
    let entry = |(name, _): &(&str, _)| {
        let most = if *name == "low" { 1 } else { 4 };
        format!("  {name}: {{driver: fault, database: {name}, host: one, max_server_connections: {most}}}\n")
    };
    let targets: String = faults.iter().map(entry).collect();
    let queries = format!("queries:\n{}", query("q", "'*'", ""));
    let fleet = fleet_of(&format!("databases:\n{targets}{queries}"), &faults);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    assert_eq!(room.most.load(Ordering::SeqCst), 1);
    let (next, _) = fleet.renew(plan_with("host: one, max_server_connections: 4", &faults[1..], &queries));
    drop(fleet);
    wait_for("a session for each target", || {
        assert_eq!(scraped(&next, LONG).1, ScrapeOutcome::Complete);
        (room.open.load(Ordering::SeqCst) == 4).then_some(())
    });
}

#[test]
fn a_bound_that_a_reload_lowers_leaves_a_place_for_a_new_target() {
    let room = Arc::new(Room::default());
    let faults: Vec<(&'static str, Arc<Fault>)> = (0..31)
        .map(|n| -> &'static str { Box::leak(format!("t{n:02}").into_boxed_str()) })
        .map(|name| (name, room.database(usize::MAX)))
        .collect();
    let faults: Vec<_> = faults.iter().map(|(name, fault)| (*name, fault)).collect();
    let queries = format!("queries:\n{}", query("q", "'*'", ""));
    let fleet = fleet_with("host: one, max_server_connections: 40", &faults[1..], &queries);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    assert_eq!(room.open.load(Ordering::SeqCst), 30);
    let (next, _) = fleet.renew(plan_with("host: one, max_server_connections: 1", &faults, &queries));
    assert_eq!(scraped(&next, LONG).1, ScrapeOutcome::Complete);
    assert_eq!(room.open.load(Ordering::SeqCst), 1);
}

#[test]
fn a_bound_that_a_reload_lowers_closes_idle_sessions() {
    let room = Arc::new(Room::default());
    let faults = ["t0", "t1", "t2", "t3"].map(|name| (name, room.database(usize::MAX)));
    let faults: Vec<_> = faults.iter().map(|(name, fault)| (*name, fault)).collect();
    let queries = format!("queries:\n{}", query("q", "'*'", ""));
    let fleet = fleet_with("host: one, max_server_connections: 20", &faults, &queries);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    assert_eq!(room.open.load(Ordering::SeqCst), 4);
    let (_next, _) = fleet.renew(plan_with("host: one, max_server_connections: 2", &faults, &queries));
    wait_for("no more sessions than the bound", || (room.open.load(Ordering::SeqCst) <= 2).then_some(()));
}

/// Each target of a reload looks at the bound while the sessions that the one before closed are still on their way out.
#[test]
fn a_bound_that_a_reload_lowers_closes_no_more_sessions_than_it_must() {
    let room = Arc::new(Room::default());
    let name = |n| -> &'static str { Box::leak(format!("t{n:02}").into_boxed_str()) };
    let slow = |fault: Arc<Room>| {
        Fault::new(move |call| match call {
            Call::Connect(_) => fault.log_in(usize::MAX),
            Call::Drop(_) => {
                std::thread::sleep(Duration::from_millis(300));
                fault.open.fetch_sub(1, Ordering::SeqCst);
                Act::Rows(1)
            }
            _ => Act::Rows(1),
        })
    };
    let faults: Vec<(&'static str, Arc<Fault>)> =
        (0..10).map(|n| (name(n), slow(Arc::clone(&room)))).collect();
    let faults: Vec<_> = faults.iter().map(|(name, fault)| (*name, fault)).collect();
    let queries = format!("queries:\n{}", query("q", "'*'", ""));
    let fleet = fleet_with("host: one, max_server_connections: 20", &faults, &queries);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    // The last target alone lowers it, for all.
    let entry = |(name, _): &(&str, _)| {
        let most = if *name == "t09" { 8 } else { 20 };
        format!("  {name}: {{driver: fault, database: {name}, host: one, max_server_connections: {most}}}\n")
    };
    let targets: String = faults.iter().map(entry).collect();
    let (_next, _) = fleet.renew(plan_of(&format!("databases:\n{targets}{queries}"), &faults));
    wait_for("no more sessions than the bound", || (room.open.load(Ordering::SeqCst) <= 8).then_some(()));
    std::thread::sleep(SHORT);
    assert_eq!(room.open.load(Ordering::SeqCst), 8);
}

/// Its other session runs a query that goes on, and nothing of it waits for this one.
#[test]
fn a_session_that_idles_beside_a_slow_query_is_closed_for_a_target_that_has_none() {
    let both = std::sync::Barrier::new(2);
    let two = Fault::new(move |call| match call {
        Call::Run(..=2) => {
            both.wait();
            Act::Rows(1)
        }
        Call::Run(3) => Act::Hang,
        _ => Act::Rows(1),
    });
    let queries = ["p", "q"].map(|name| query(name, "two", "")).concat() + &query("r", "none", "");
    let more = "host: one, max_connections: 2, max_server_connections: 2";
    let none = Fault::none();
    let fleet = fleet_with(more, &[("two", &two), ("none", &none)], &format!("queries:\n{queries}"));
    let scraped = |target: &str| {
        let only = ScrapeSelection { targets: vec![target.to_owned()], ..ScrapeSelection::default() };
        let time = ScrapeTime { began: Instant::now(), budget: LONG };
        scrape::scrape(&fleet, &only, time).expect("a target").outcome
    };
    assert_eq!(scraped("two"), ScrapeOutcome::Complete);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| scraped("two"));
        two.saw(Call::Run(3));
        assert_eq!(scraped("none"), ScrapeOutcome::Complete);
        two.release();
        assert_eq!(slow.join().expect("no panic"), ScrapeOutcome::Complete);
    });
    assert_eq!(two.log().iter().filter(|call| matches!(call, Call::Connect(_))).count(), 2);
}

#[test]
fn a_target_that_is_not_enabled_bounds_no_sessions() {
    let room = Arc::new(Room::default());
    let faults = ["off", "t0", "t1", "t2"].map(|name| (name, room.database(usize::MAX)));
    let faults: Vec<_> = faults.iter().map(|(name, fault)| (*name, fault)).collect();
    let entry = |(name, _): &(&str, _)| {
        let more = if *name == "off" {
            "max_server_connections: 1, enabled: false"
        } else {
            "max_server_connections: 4"
        };
        format!("  {name}: {{driver: fault, database: {name}, host: one, {more}}}\n")
    };
    let targets: String = faults.iter().map(entry).collect();
    let fleet = fleet_of(&format!("databases:\n{targets}queries:\n{}", query("q", "'*'", "")), &faults);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    assert_eq!(room.open.load(Ordering::SeqCst), 3);
}

#[test]
fn an_end_opens_no_session_for_a_lane_that_waits_for_a_place() {
    let busy = Fault::new(|call| match call {
        Call::Run(_) => Act::HangUntilCancelled,
        _ => Act::Rows(1),
    });
    let names = ["a", "b", "c"];
    let queries = format!("queries:\n{}", query("q", "'*'", ""));
    let fleet =
        fleet_with("host: one, max_server_connections: 1", &names.map(|name| (name, &busy)), &queries);
    std::thread::scope(|scope| {
        scope.spawn(|| drop(scraped(&fleet, LONG)));
        busy.saw(Call::Run(1));
        wait_for("a lane of each target", || {
            let own = own(&fleet);
            let is_busy = |name: &&str| {
                own.value("sql_exporter_sessions", &[("target", *name), ("state", "busy")]) == Some(1.0)
            };
            names.iter().all(is_busy).then_some(())
        });
        fleet.stop();
    });
    let logins = busy.log().iter().filter(|call| matches!(call, Call::Connect(_))).count();
    assert_eq!(logins, 1, "{:?}", busy.log());
}

#[test]
fn targets_with_several_lanes_all_get_a_session() {
    let room = Arc::new(Room::default());
    let name = |n| -> &'static str { Box::leak(format!("t{n:02}").into_boxed_str()) };
    let faults: Vec<(&'static str, Arc<Fault>)> =
        (0..8).map(|n| (name(n), room.database(usize::MAX))).collect();
    let faults: Vec<_> = faults.iter().map(|(name, fault)| (*name, fault)).collect();
    let queries: String = ["p", "q", "r", "s"].map(|name| query(name, "'*'", "")).concat();
    let more = "host: one, max_connections: 3, max_server_connections: 4";
    let fleet = fleet_with(more, &faults, &format!("queries:\n{queries}"));
    for turn in 0..3 {
        assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete, "page {turn}");
    }
    assert!(room.most.load(Ordering::SeqCst) <= 4);
}

#[test]
fn a_server_with_less_room_than_configured_is_not_asked_for_more_at_each_scrape() {
    let room = Arc::new(Room::default());
    let fleet = targets_of(&room, 3, 12, "max_connections: 1");
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    let refused = room.refused.load(Ordering::SeqCst);
    assert!(refused > 0);
    for turn in 1..4 {
        assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete, "page {turn}");
    }
    assert_eq!(room.refused.load(Ordering::SeqCst), refused, "asked again");
}

/// A busy server notices the end of a session some time after the exporter has closed it for another target.
#[test]
fn a_server_that_notices_the_end_of_its_only_session_late_is_asked_again() {
    let room = Arc::new(Room { lag: Duration::from_millis(150), ..Room::default() });
    let fleet = targets_of(&room, 1, 3, "max_connections: 1");
    for turn in 0..3 {
        assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete, "page {turn}");
    }
    assert!(room.refused.load(Ordering::SeqCst) > 3);
}

#[test]
fn a_server_that_lets_nobody_in_is_asked_by_one_target_for_all() {
    // The pauses are one and two seconds: a machine that was too busy to come back in time tries once more.
    wait_for("scrapes within the pauses", || {
        let room = Arc::new(Room::default());
        let fleet = targets_of(&room, 0, 30, "max_connections: 1");
        let began = Instant::now();
        let (page, _) = scraped(&fleet, LONG);
        assert!((0..30).all(|n| fails(&page, &format!("t{n:02}"), "q", Reason::Server)));
        let first = room.logins.load(Ordering::SeqCst);
        assert!(first <= 20, "as many as there are places: {first}");
        drop(scraped(&fleet, LONG));
        let is_in_pause = began.elapsed() < Duration::from_secs(1);
        let again = room.logins.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1100).saturating_sub(began.elapsed()));
        let (page, _) = scraped(&fleet, LONG);
        assert!((0..30).all(|n| fails(&page, &format!("t{n:02}"), "q", Reason::Server)));
        let is_in_time = is_in_pause && began.elapsed() < Duration::from_secs(2);
        is_in_time.then(|| {
            assert_eq!(again, first, "left alone");
            assert_eq!(room.logins.load(Ordering::SeqCst), first + 1, "asked by one");
        })
    });
}

/// The second refusal comes after the session of another target was closed for this one: the server is asked again, but not
/// until the deadline, at which the page would say `timeout`.
#[test]
fn a_full_server_is_told_as_such_where_a_scrape_has_little_time() {
    let queries = format!("queries:\n{}", query("q", "'*'", ""));
    // A machine that was too busy for the few milliseconds tries once more.
    wait_for("a page that says what the server said", || {
        let idle = Fault::new(|_| Act::Rows(1));
        let full = Fault::new(|call| match call {
            Call::Connect(_) => {
                std::thread::sleep(Duration::from_millis(60));
                Act::Full
            }
            _ => Act::Rows(1),
        });
        let fleet = fleet_with("host: one", &[("idle", &idle), ("full", &full)], &queries);
        let (page, _) = scraped(&fleet, SHORT);
        let logins = full.log().iter().filter(|call| matches!(call, Call::Connect(_))).count();
        (fails(&page, "full", "q", Reason::Server) && logins > 2).then_some(())
    });
}

/// All but one of its targets come first in the configuration; each would take a worker for the whole scrape.
#[test]
fn a_frozen_server_leaves_workers_for_others() {
    let frozen = Fault::new(|call| if let Call::Connect(_) = call { Act::Hang } else { Act::Rows(1) });
    let good = Fault::none();
    let mut config = "databases:\n".to_owned();
    for n in 0..40 {
        config.push_str(&format!("  frozen{n}: {{driver: fault, database: frozen, host: one}}\n"));
    }
    for n in 0..40 {
        config.push_str(&format!("  good{n}: {{driver: fault, database: good, host: server{n}}}\n"));
    }
    config.push_str(&format!("queries:\n{}exporter: {{max_workers: 8}}\n", query("q", "'*'", "")));
    let fleet = crate::scrape::fleet_of(&config, &[("frozen", &frozen), ("good", &good)]);
    for turn in 0..2 {
        let (page, _) = scraped(&fleet, SHORT * 3);
        for n in 0..40 {
            assert_eq!(success(&page, &format!("good{n}"), "q"), Some(1.0), "good{n} on page {turn}");
        }
        assert!(fails(&page, "frozen0", "q", Reason::Timeout));
    }
    frozen.release();
}

/// Each of its cancels holds a thread until the server answers; a session of another server is closed all the same.
#[test]
fn a_frozen_servers_cancels_keep_no_session_of_another_from_closing() {
    let frozen = Fault::new(|call| match call {
        Call::Run(_) | Call::Cancel(_) => Act::Hang,
        _ => Act::Rows(1),
    });
    let good = Fault::none();
    let mut config = "databases:\n".to_owned();
    for n in 0..20 {
        config.push_str(&format!("  frozen{n}: {{driver: fault, database: frozen, host: one}}\n"));
    }
    for n in 0..3 {
        config.push_str(&format!(
            "  good{n}: {{driver: fault, database: good, host: two, max_server_connections: 1}}\n"
        ));
    }
    config.push_str(&format!("queries:\n{}", query("q", "'*'", "")));
    let fleet = fleet_of(&config, &[("frozen", &frozen), ("good", &good)]);
    for turn in 0..3 {
        let (page, _) = scraped(&fleet, SHORT * 3);
        for n in 0..3 {
            assert_eq!(success(&page, &format!("good{n}"), "q"), Some(1.0), "good{n} on page {turn}");
        }
        // As many threads as one server gets wait from now on.
        frozen.saw(Call::Cancel(7));
    }
    frozen.release();
}

#[test]
fn a_login_under_way_is_waited_for_and_not_repeated() {
    let slow = Fault::new(|call| {
        if let Call::Connect(_) = call {
            std::thread::sleep(SHORT * 2);
        }
        Act::Rows(1)
    });
    let fleet = fleet_with("host: one", &[("a", &slow)], &format!("queries:\n{}", query("q", "a", "")));
    let (page, _) = scraped(&fleet, SHORT);
    assert!(fails(&page, "a", "q", Reason::Timeout));
    let (page, outcome) = scraped(&fleet, LONG);
    assert_eq!(
        outcome,
        ScrapeOutcome::Complete,
        "{:?}",
        page.value("sql_exporter_target_up", &[("target", "a")])
    );
    let logins = slow.log().iter().filter(|call| matches!(call, Call::Connect(_))).count();
    assert_eq!(logins, 1, "{:?}", slow.log());
}

/// More sessions of the target alone would not help it.
#[test]
fn a_query_that_waited_for_a_session_of_its_server_says_so() {
    let slow = Fault::new(|call| {
        if let Call::Run(_) = call {
            std::thread::sleep(SHORT * 3 / 4);
        }
        Act::Rows(1)
    });
    let queries =
        format!("queries:\n{}", ["p", "q", "r", "s", "t", "u"].map(|name| query(name, "'*'", "")).concat());
    let more = "host: one, max_connections: 4, max_server_connections: 2";
    let fleet = fleet_with(more, &[("a", &slow), ("b", &slow)], &queries);
    let time = ScrapeTime { began: Instant::now(), budget: SHORT };
    let page = scrape::scrape(&fleet, &ScrapeSelection::default(), time).expect("no name is asked for");
    let failures: Vec<String> = page.failures.iter().map(|error| error.headline()).collect();
    let in_line = "in line: all 2 sessions that the targets of this server and user share are busy; raise max_server_connections";
    assert!(failures.iter().any(|failure| failure.contains(in_line)), "{failures:?}");
    assert!(failures.iter().all(|failure| !failure.contains("raise max_connections")), "{failures:?}");
}

#[test]
fn a_query_that_waited_for_a_worker_says_so() {
    let frozen = Fault::new(|call| if let Call::Connect(_) = call { Act::Hang } else { Act::Rows(1) });
    let queries = format!("queries:\n{}exporter: {{max_workers: 1}}\n", query("q", "'*'", ""));
    let fleet = fleet_with("max_connections: 1", &[("a", &frozen), ("b", &frozen)], &queries);
    let time = ScrapeTime { began: Instant::now(), budget: SHORT };
    let page = scrape::scrape(&fleet, &ScrapeSelection::default(), time).expect("no name is asked for");
    let failures: Vec<String> = page.failures.iter().map(|error| error.headline()).collect();
    let waited = failures.iter().filter(|failure| {
        failure.contains("for one of the 1 workers") && failure.contains("raise exporter.max_workers")
    });
    assert_eq!(waited.count(), 1, "{failures:?}");
    frozen.release();
}

/// What to raise is what keeps the sessions few, and not `max_connections` whatever the cause.
#[test]
fn a_query_that_waited_in_line_is_told_what_keeps_its_sessions_few() {
    for (target, exporter, hint) in [
        ("max_connections: 1", "", "raise max_connections"),
        ("max_connections: 3, max_server_connections: 1", "", "raise max_server_connections"),
        ("max_connections: 3", "exporter: {max_workers: 1}\n", "raise exporter.max_workers"),
        (
            "max_connections: 3",
            "",
            "all 1 sessions that the server allows the target are busy; raise its limit",
        ),
    ] {
        let slow = Fault::new(move |call| match call {
            Call::Run(_) => {
                std::thread::sleep(SHORT.mul_f64(1.1));
                Act::Rows(1)
            }
            Call::Connect(2..) => Act::FullDatabase,
            _ => Act::Rows(1),
        });
        let queries: String = ["p", "q", "r"].map(|name| query(name, "a", "")).concat();
        let queries = format!("queries:\n{queries}{exporter}");
        let fleet = fleet_with(&format!("host: one, {target}"), &[("a", &slow)], &queries);
        let time = ScrapeTime { began: Instant::now(), budget: SHORT };
        let page = scrape::scrape(&fleet, &ScrapeSelection::default(), time).expect("no name is asked for");
        let failures: Vec<String> = page.failures.iter().map(|error| error.headline()).collect();
        let told = |failure: &String| failure.contains(" in line: ") && failure.contains(hint);
        assert!(failures.iter().any(told), "{target}: {failures:?}");
    }
}

/// A query that has only the rest of the scrape's time is not told as one that is slow.
#[test]
fn a_query_that_began_late_says_how_long_it_had_waited() {
    let slow = Fault::new(|call| match call {
        Call::Run(1) => {
            std::thread::sleep(SHORT.mul_f64(0.5));
            Act::Rows(1)
        }
        Call::Run(_) => Act::Fail(Reason::Timeout),
        _ => Act::Rows(1),
    });
    let queries: String = ["p", "q"].map(|name| query(name, "a", "")).concat();
    let fleet = fleet_with("max_connections: 1", &[("a", &slow)], &format!("queries:\n{queries}"));
    let time = ScrapeTime { began: Instant::now(), budget: LONG };
    let page = scrape::scrape(&fleet, &ScrapeSelection::default(), time).expect("no name is asked for");
    let failures: Vec<String> = page.failures.iter().map(|error| error.headline()).collect();
    let told = |failure: &String| failure.contains("; it had waited ") && failure.contains(" for a session");
    assert!(failures.iter().any(told), "{failures:?}");
}

fn page(exporter: &Exporter) -> Page {
    checked(exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "60")]).text())
}

/// Each target's query is on the page.
fn is_whole(page: &Page, count: usize, exporter: &Exporter) {
    assert_eq!(page.series("one_value").len(), count, "{}", exporter.log());
}

const ONE: &str =
    "queries:\n  - {name: one, databases: ['*'], sql: SELECT 1 AS value, metrics: [{name: one_value}]}\n";

/// A server of its own with room for five sessions of an ordinary user, and with so many databases; their entries.
fn small_postgres(count: usize) -> (OwnPostgres, String) {
    let server = OwnPostgres::start(&["max_connections=8", "superuser_reserved_connections=3"]);
    let access = server.access();
    access.run("CREATE ROLE monitor LOGIN PASSWORD 'c4nary-monitor'");
    let mut client = access.client();
    let mut targets = String::new();
    for n in 0..count {
        client.batch_execute(&format!("CREATE DATABASE d{n} STRATEGY file_copy")).expect("a database");
        let entry = Postgres { database: format!("d{n}"), ..access.clone() }.entry();
        let entry = entry.replace("username: postgres", "username: monitor");
        targets.push_str(&format!("  d{n}: {}\n", entry.replace(&access.password, "c4nary-monitor")));
    }
    (server, targets)
}

#[test]
fn a_postgres_with_fewer_sessions_than_databases_has_all_of_them_on_each_page() {
    let (_server, targets) = small_postgres(25);
    let exporter = Exporter::serve(&format!("databases:\n{targets}{ONE}"));
    for _ in 0..3 {
        is_whole(&page(&exporter), 25, &exporter);
    }
}

#[test]
fn the_bound_leaves_sessions_for_others() {
    let (server, targets) = small_postgres(12);
    let defaults = "defaults: {database: {max_server_connections: 3}}\n";
    let exporter = Exporter::serve(&format!("{defaults}databases:\n{targets}{ONE}"));
    let ordinary = Postgres { database: "d0".to_owned(), ..server.access().clone() };
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(ordinary.port).user("monitor").password("c4nary-monitor").dbname("d0");
    for _ in 0..5 {
        is_whole(&page(&exporter), 12, &exporter);
        config.connect(postgres::NoTls).expect("an ordinary login");
    }
    assert!(!exporter.log().contains("53300"), "{}", exporter.log());
}

#[test]
fn a_mariadb_user_with_few_sessions_has_all_its_schemas_on_each_page() {
    let server = MariaDb::fresh("sharing_user");
    server.run("CREATE OR REPLACE USER sharing IDENTIFIED BY 'c4nary-sharing' WITH MAX_USER_CONNECTIONS 2");
    let entry = server
        .entry_with("")
        .replace("username: root", "username: sharing")
        .replace(&server.password, "c4nary-sharing")
        .replace(&format!("database: {}", server.database), "database: information_schema");
    let targets: String = (0..12).map(|n| format!("  s{n}: {entry}\n")).collect();
    let exporter = Exporter::serve(&format!("databases:\n{targets}{ONE}"));
    for _ in 0..3 {
        is_whole(&page(&exporter), 12, &exporter);
    }
}

#[test]
fn a_load_whose_sessions_may_take_more_files_than_there_are_warns() {
    let config = |most| {
        format!("databases: {{a: {{driver: sqlite, database: shop.db, max_connections: {most}}}}}\n{ONE}")
    };
    let warning = "the sessions of all targets may take 600 files and sockets, and the process may open 400";
    let log = |most| String::from_utf8(setup(&config(most)).descriptors(400).once().stderr).expect("UTF-8");
    assert!(log(200).contains(warning));
    assert!(!log(100).contains("files and sockets"));
}

/// Those of databases that are not discovered yet count, and those of target files that change.
#[test]
fn sessions_of_targets_that_come_later_count_for_the_warning() {
    let server = Postgres::fresh("sharing_files");
    let config = |most| {
        let more = format!("max_server_connections: 1000, discover: {{max_connections: {most}}}");
        format!("databases: {{a: {}}}\n{ONE}", server.entry_with(&more))
    };
    let log = |most| String::from_utf8(setup(&config(most)).descriptors(400).once().stderr).expect("UTF-8");
    assert!(log(500).contains("the sessions of all targets may take 503 files and sockets"), "{}", log(500));
    assert!(!log(100).contains("files and sockets"));
    let exporter = setup(&format!("target_files: [more.yaml]\n{ONE}"))
        .file("more.yaml", "databases: {}")
        .descriptors(400)
        .serve();
    let entry = "databases: {a: {driver: sqlite, database: shop.db, max_connections: 200}}";
    std::fs::write(exporter.file("more.yaml"), entry).expect("a file");
    wait_for("the warning", || {
        exporter.get("/sd");
        exporter.log().contains("the sessions of all targets may take 600 files and sockets").then_some(())
    });
}

/// Many targets on one server have one session each, so that a query that never ran opens none beside it.
#[test]
fn a_reload_that_adds_a_query_to_many_targets_opens_no_session_and_loses_no_result() {
    let server = Postgres::fresh("sharing_reload");
    let targets: String =
        (0..25).map(|n| format!("  t{n}: {}\n", server.entry_with("max_server_connections: 40"))).collect();
    let kept = "  - {name: kept, databases: ['*'], interval: 1h, sql: 'SELECT extract(epoch FROM clock_timestamp()) AS value', metrics: [{name: kept_value}]}\n";
    let config = |more: &str| format!("databases:\n{targets}{ONE}{kept}{more}");
    let exporter = setup(&config("")).serve();
    let pids = || -> BTreeSet<i32> {
        let sql =
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        server.client().query(sql, &[]).expect("a list").iter().map(|row| row.get(0)).collect()
    };
    let values = |page: &Page| -> Vec<String> {
        page.series("kept_value").iter().map(|row| format!("{row:?}")).collect()
    };
    is_whole(&page(&exporter), 25, &exporter);
    let before = page(&exporter);
    let sessions = pids();
    assert_eq!((sessions.len(), values(&before).len()), (25, 25));
    let added =
        "  - {name: added, databases: ['*'], sql: SELECT 2 AS value, metrics: [{name: added_value}]}\n";
    std::fs::write(exporter.file("sql-exporter.yaml"), config(added)).expect("a file");
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    let after = page(&exporter);
    assert_eq!(after.series("added_value").len(), 25);
    assert_eq!(pids(), sessions, "{}", exporter.log());
    assert_eq!(values(&after), values(&before));
}
