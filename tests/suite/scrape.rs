//! Scrapes over a scripted database: what a page says when sessions die, hang, panic or lie.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sql_exporter::commands::run::start;
use sql_exporter::config;
use sql_exporter::config::Config;
use sql_exporter::driver::Drivers;
use sql_exporter::engine::scrape;
use sql_exporter::engine::scrape::{ScrapeOutcome, ScrapeTime};
use sql_exporter::engine::targets::{ScrapeSelection, Targets};
use sql_exporter::error::Reason;
use sql_exporter::exposition::page::pieces;
use sql_exporter::exposition::text::Text;

use crate::checker::{Page, checked};
use crate::fault::{Act, Call, Fault, driver};
use crate::process::retried_if_busy;

/// Longer than any healthy step takes, short enough to wait for.
pub(crate) const SHORT: Duration = Duration::from_millis(600);
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A fleet of scripted databases `a`, `b` …, with the rest of the configuration as given.
pub(crate) fn fleet(faults: &[(&'static str, &Arc<Fault>)], rest: &str) -> Arc<Targets> {
    fleet_with("max_connections: 2", faults, rest)
}

/// The same, with more keys on each target.
pub(crate) fn fleet_with(more: &str, faults: &[(&'static str, &Arc<Fault>)], rest: &str) -> Arc<Targets> {
    Arc::new(start::make_targets(plan_with(more, faults, rest)))
}

/// Its configuration.
pub(crate) fn plan_with(more: &str, faults: &[(&'static str, &Arc<Fault>)], rest: &str) -> Config {
    let targets: String = faults
        .iter()
        .map(|(name, _)| format!("  {name}: {{driver: fault, database: {name}, {more}}}\n"))
        .collect();
    plan_of(&format!("databases:\n{targets}{rest}"), faults)
}

/// The same, of a whole configuration.
pub(crate) fn fleet_of(config: &str, faults: &[(&'static str, &Arc<Fault>)]) -> Arc<Targets> {
    Arc::new(start::make_targets(plan_of(config, faults)))
}

/// Its configuration.
pub(crate) fn plan_of(config: &str, faults: &[(&'static str, &Arc<Fault>)]) -> Config {
    let folder = crate::process::folder();
    let path = folder.path().join("test.yaml");
    std::fs::write(&path, config).expect("a file");
    let drivers = Drivers::built_in().with(driver("fault", faults.iter().copied()));
    config::load(&path, &|_| None, &drivers).unwrap_or_else(|errors| panic!("{errors:?}"))
}

pub(crate) fn query(name: &str, targets: &str, more: &str) -> String {
    format!(
        "  - {{name: {name}, databases: [{targets}], sql: SELECT 1, metrics: [{{name: {name}_value, duplicates: first}}]{more}}}\n"
    )
}

pub(crate) fn scraped(fleet: &Targets, budget: Duration) -> (Page, ScrapeOutcome) {
    let time = ScrapeTime { began: Instant::now(), budget };
    let page = scrape::scrape(fleet, &ScrapeSelection::default(), time).expect("no name is asked for");
    let bytes: Vec<u8> =
        pieces(&page.families, &Text).iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
    let text = String::from_utf8(bytes).expect("UTF-8");
    assert!(time.began.elapsed() < budget + Duration::from_secs(1), "the page is late");
    (checked(&text), page.outcome)
}

pub(crate) fn success(page: &Page, target: &str, query: &str) -> Option<f64> {
    page.value(
        "sql_exporter_query_success",
        &[("target", target), ("query", query), ("collector", "default")],
    )
}

pub(crate) fn fails(page: &Page, target: &str, query: &str, reason: Reason) -> bool {
    let labels =
        [("target", target), ("query", query), ("collector", "default"), ("reason", reason.as_str())];
    page.value("sql_exporter_query_failure_reason", &labels) == Some(1.0)
        && success(page, target, query) == Some(0.0)
        && page.value(&format!("{query}_value"), &[("target", target)]).is_none()
}

pub(crate) fn up(page: &Page, target: &str) -> Option<f64> {
    page.value("sql_exporter_target_up", &[("target", target)])
}

#[test]
fn a_failing_query_hides_no_other_and_is_named() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::FailAfterRow(Reason::Sql),
        _ => Act::Rows(1),
    });
    let fleet =
        fleet(&[("a", &fault)], &format!("queries:\n{}{}", query("bad", "a", ""), query("good", "a", "")));
    let (page, verdict) = scraped(&fleet, LONG);
    let failing = ["bad", "good"].iter().filter(|query| fails(&page, "a", query, Reason::Sql)).count();
    let good = ["bad", "good"].iter().filter(|query| success(&page, "a", query) == Some(1.0)).count();
    assert_eq!((failing, good, verdict), (1, 1, ScrapeOutcome::Partial));
    assert_eq!(up(&page, "a"), Some(1.0));
}

#[test]
fn a_target_that_refuses_hides_no_other() {
    let down = Fault::new(|call| match call {
        Call::Connect(_) => Act::Fail(Reason::Connect),
        _ => Act::Rows(1),
    });
    let healthy = Fault::none();
    let fleet = fleet(&[("a", &down), ("b", &healthy)], &format!("queries:\n{}", query("q", "a, b", "")));
    let (page, verdict) = scraped(&fleet, LONG);
    assert!(fails(&page, "a", "q", Reason::Connect));
    assert_eq!((up(&page, "a"), up(&page, "b")), (Some(0.0), Some(1.0)));
    assert_eq!(page.value("q_value", &[("target", "b")]), Some(1.0));
    assert_eq!(verdict, ScrapeOutcome::Partial);
}

#[test]
fn a_dead_idle_session_is_replaced_within_the_scrape() {
    let fault = Fault::new(|call| match call {
        Call::Run(2) => Act::Lose,
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", "")));
    assert_eq!(success(&scraped(&fleet, LONG).0, "a", "q"), Some(1.0));
    assert_eq!(
        success(&scraped(&fleet, LONG).0, "a", "q"),
        Some(1.0),
        "the second run repeats on a fresh session"
    );
    let connects = fault.log().iter().filter(|call| matches!(call, Call::Connect(_))).count();
    assert_eq!(connects, 2);
}

#[test]
fn a_fresh_session_that_dies_ends_its_query_with_the_reason() {
    let fault = Fault::new(|call| match call {
        Call::Run(_) => Act::Lose,
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", "")));
    let (page, verdict) = scraped(&fleet, LONG);
    assert!(fails(&page, "a", "q", Reason::Lost));
    assert_eq!(verdict, ScrapeOutcome::Failed);
}

#[test]
fn a_panic_costs_one_query_and_the_target_goes_on() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Panic,
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", "")));
    assert!(fails(&scraped(&fleet, LONG).0, "a", "q", Reason::Panic));
    assert_eq!(success(&scraped(&fleet, LONG).0, "a", "q"), Some(1.0));
}

#[test]
fn a_login_that_panics_costs_its_queries_and_the_target_goes_on() {
    let fault = Fault::new(|call| match call {
        Call::Connect(1) => Act::Panic,
        _ => Act::Rows(1),
    });
    let rest = format!("defaults: {{database: {{max_connections: 1}}}}\nqueries:\n{}", query("q", "a", ""));
    let fleet = fleet(&[("a", &fault)], &rest);
    assert!(fails(&scraped(&fleet, LONG).0, "a", "q", Reason::Panic));
    assert_eq!(success(&scraped(&fleet, LONG).0, "a", "q"), Some(1.0));
}

/// Between its statements, where no run is at fault.
#[test]
fn a_panic_of_a_lane_costs_its_queries_and_the_target_goes_on() {
    let fault = Fault::none();
    let rest = format!("queries:\n{}{}", query("q", "a", ""), query("r", "a", ""));
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &rest);
    fault.canceller_panics(true);
    let page = scraped(&fleet, LONG).0;
    assert!(fails(&page, "a", "q", Reason::Panic) && fails(&page, "a", "r", Reason::Panic));
    fault.canceller_panics(false);
    let page = scraped(&fleet, LONG).0;
    assert_eq!((success(&page, "a", "q"), success(&page, "a", "r")), (Some(1.0), Some(1.0)));
}

#[test]
fn a_session_that_forgets_a_query_is_a_protocol_error() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Forget,
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", "")));
    assert!(fails(&scraped(&fleet, LONG).0, "a", "q", Reason::Protocol));
}

#[test]
fn a_query_that_does_not_return_is_named_cancelled_and_holds_up_nobody() {
    let hanging = Fault::new(|call| match call {
        Call::Run(_) => Act::HangUntilCancelled,
        _ => Act::Rows(1),
    });
    let healthy = Fault::none();
    let fleet = fleet(&[("a", &hanging), ("b", &healthy)], &format!("queries:\n{}", query("q", "a, b", "")));
    let (page, _) = scraped(&fleet, SHORT);
    assert!(fails(&page, "a", "q", Reason::Timeout));
    assert_eq!(page.value("q_value", &[("target", "b")]), Some(1.0));
    hanging.saw(Call::Cancel(1));
}

#[test]
fn a_target_whose_every_session_is_held_says_wedged_at_once_and_recovers() {
    let hanging = Fault::new(|call| match call {
        Call::Run(..=2) => Act::Hang,
        _ => Act::Rows(1),
    });
    let rest = format!(
        "queries:\n{}{}{}exporter: {{max_workers: 2}}\n",
        query("p", "a", ""),
        query("q", "a", ""),
        query("well", "b", "")
    );
    // The late ones hold as many threads as there are permits, and none of the permits.
    let fleet = fleet(&[("a", &hanging), ("b", &Fault::none())], &rest);
    let (page, _) = scraped(&fleet, SHORT);
    assert!(fails(&page, "a", "p", Reason::Timeout) && fails(&page, "a", "q", Reason::Timeout));
    for _ in 0..3 {
        let began = Instant::now();
        let (page, _) = scraped(&fleet, LONG);
        assert!(fails(&page, "a", "p", Reason::Wedged) && fails(&page, "a", "q", Reason::Wedged));
        assert_eq!(success(&page, "b", "well"), Some(1.0), "others go on");
        assert!(began.elapsed() < LONG / 2, "wedged is said at once");
    }
    hanging.release();
    crate::process::wait_for("recovery", || {
        let (page, _) = scraped(&fleet, LONG);
        (success(&page, "a", "p") == Some(1.0) && success(&page, "a", "q") == Some(1.0)).then_some(())
    });
}

#[test]
fn a_quick_query_that_turns_slow_costs_no_neighbour_and_has_its_whole_time() {
    let slow = Fault::new(|call| match call {
        Call::Run(9) => Act::Needs(LONG / 2),
        _ => Act::Rows(1),
    });
    let queries: String = ["p", "q", "r", "s", "t", "u", "v", "w"].map(|name| query(name, "a", "")).concat();
    let fleet = fleet(&[("a", &slow)], &format!("queries:\n{queries}"));
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete, "{:?}", slow.log());
    let runs = slow.log().iter().filter(|call| matches!(call, Call::Run(_))).count();
    assert_eq!(runs, 17, "one of sixteen was run again, alone: {:?}", slow.log());
}

#[test]
fn a_session_that_a_late_cancel_may_still_strike_is_not_used_again() {
    let slow = Fault::new(|call| match call {
        Call::Run(1) => Act::Hang,
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &slow)], &format!("queries:\n{}", query("q", "a", "")));
    assert!(fails(&scraped(&fleet, SHORT).0, "a", "q", Reason::Timeout));
    slow.saw(Call::Cancel(1));
    // The session now ends its query as if nothing had happened, and would go back clean.
    slow.release();
    slow.saw(Call::Drop(1));
    assert_eq!(success(&scraped(&fleet, LONG).0, "a", "q"), Some(1.0));
    let connects = slow.log().iter().filter(|call| matches!(call, Call::Connect(_))).count();
    assert_eq!(connects, 2);
}

/// Whether the lane says so, whose query ended just after the deadline, or the scrape, which gives up a moment later.
#[test]
fn a_query_that_waited_for_a_busy_session_is_not_told_to_have_waited_for_a_worker() {
    let budget = Duration::from_secs(1);
    let fault = Fault::new(move |call| {
        if call == Call::Run(1) {
            std::thread::sleep(budget - Duration::from_millis(40));
        }
        Act::Rows(1)
    });
    let queries: String = ["p", "q"].map(|name| query(name, "a", "")).concat();
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &format!("queries:\n{queries}"));
    let time = ScrapeTime { began: Instant::now(), budget };
    let page = scrape::scrape(&fleet, &ScrapeSelection::default(), time).expect("no name is asked for");
    let failures: Vec<String> = page.failures.iter().map(ToString::to_string).collect();
    let in_line = "in line: all 1 sessions of the target were busy";
    assert!(failures.iter().any(|failure| failure.contains(in_line)), "{failures:?}");
    assert!(failures.iter().all(|failure| !failure.contains("max_workers")), "{failures:?}");
}

/// The lane that both would have is late from the moment at which the scrape gives up on the first.
#[test]
fn a_query_behind_one_that_hangs_is_not_told_to_have_waited_for_a_worker() {
    let fault = Fault::new(|call| if call == Call::Run(3) { Act::Hang } else { Act::Rows(1) });
    let queries: String = ["p", "q", "r"].map(|name| query(name, "a", "")).concat();
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &format!("queries:\n{queries}"));
    let page = |queries: &[&str], budget| {
        let queries = queries.iter().map(|name| (*name).to_owned()).collect();
        let selection = ScrapeSelection { queries, ..ScrapeSelection::default() };
        let time = ScrapeTime { began: Instant::now(), budget };
        scrape::scrape(&fleet, &selection, time).expect("the names exist")
    };
    // Those that never ran go alone, on the session that is there.
    assert_eq!(page(&["p"], LONG).outcome, ScrapeOutcome::Complete);
    let failures: Vec<String> = page(&[], SHORT).failures.iter().map(ToString::to_string).collect();
    fault.release();
    let in_line = "in line: all 1 sessions of the target were busy";
    assert!(failures.iter().any(|failure| failure.contains(in_line)), "{failures:?}");
    assert!(failures.iter().all(|failure| !failure.contains("max_workers")), "{failures:?}");
}

#[test]
fn scrapes_at_once_share_one_run() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Hang,
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", "")));
    let scrapes: Vec<_> = (0..10)
        .map(|_| {
            let fleet = Arc::clone(&fleet);
            std::thread::spawn(move || success(&scraped(&fleet, LONG).0, "a", "q"))
        })
        .collect();
    fault.saw(Call::Run(1));
    crate::process::wait_for("nine that joined", || (joined(&fleet) == 9.0).then_some(()));
    fault.release();
    assert!(scrapes.into_iter().all(|scrape| scrape.join().expect("a page") == Some(1.0)));
    assert_eq!(fault.log().iter().filter(|call| matches!(call, Call::Run(_))).count(), 1);
}

/// The exporter's own metrics of the process's life.
pub(crate) fn own(fleet: &Targets) -> Page {
    let bytes: Vec<u8> =
        pieces(&fleet.own_metrics(), &Text).iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
    checked(&String::from_utf8(bytes).expect("UTF-8"))
}

fn joined(fleet: &Targets) -> f64 {
    own(fleet).value("sql_exporter_runs_joined_total", &[]).expect("a value")
}

#[test]
fn a_result_is_reused_within_its_interval_and_a_ping_says_that_the_target_is_up() {
    let fault = Fault::none();
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", ", interval: 1h")));
    for _ in 0..3 {
        let (page, _) = scraped(&fleet, LONG);
        assert_eq!((success(&page, "a", "q"), up(&page, "a")), (Some(1.0), Some(1.0)));
    }
    let log = fault.log();
    assert_eq!(log.iter().filter(|call| matches!(call, Call::Run(_))).count(), 1);
    assert_eq!(log.iter().filter(|call| matches!(call, Call::Ping(_))).count(), 2);
}

#[test]
fn scrapes_at_the_interval_with_some_jitter_are_all_fresh() {
    retried_if_busy(|| {
        let fault = Fault::none();
        let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", ", interval: 1")));
        let began = Instant::now();
        // One second apart, give or take as much of it as half a second is of thirty.
        for (turn, jitter) in [(0, 0), (1, 16), (2, -16), (3, 16), (4, -16)] {
            let at = Duration::from_millis(u64::try_from(turn * 1000 + jitter).expect("after the begin"));
            std::thread::sleep(at.saturating_sub(began.elapsed()));
            assert_eq!(success(&scraped(&fleet, LONG).0, "a", "q"), Some(1.0));
        }
        assert_eq!(fault.log().iter().filter(|call| matches!(call, Call::Run(_))).count(), 5);
    });
}

#[test]
fn a_reused_result_of_a_target_that_is_down_is_not_served() {
    let fault = Fault::new(|call| match call {
        Call::Ping(_) => Act::Lose,
        Call::Connect(2..) => Act::Fail(Reason::Connect),
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", ", interval: 1h")));
    assert_eq!(success(&scraped(&fleet, LONG).0, "a", "q"), Some(1.0));
    let (page, verdict) = scraped(&fleet, LONG);
    assert!(fails(&page, "a", "q", Reason::Connect));
    assert_eq!((up(&page, "a"), verdict), (Some(0.0), ScrapeOutcome::Failed));
}

#[test]
fn a_target_without_queries_is_asked_by_a_ping() {
    let (healthy, down) = (Fault::none(), Fault::new(|_| Act::Fail(Reason::Connect)));
    let fleet = fleet(&[("a", &healthy), ("b", &down)], "");
    let (page, verdict) = scraped(&fleet, LONG);
    assert_eq!((up(&page, "a"), up(&page, "b")), (Some(1.0), Some(0.0)));
    assert_eq!(verdict, ScrapeOutcome::Partial);
}

#[test]
fn a_refused_password_is_not_tried_again_at_the_next_scrape() {
    let fault = Fault::new(|call| match call {
        Call::Connect(_) => Act::Fail(Reason::Auth),
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", "")));
    for _ in 0..3 {
        assert!(fails(&scraped(&fleet, LONG).0, "a", "q", Reason::Auth), "the last reason stays visible");
    }
    assert_eq!(fault.log().len(), 1, "{:?}", fault.log());
}

#[test]
fn a_disabled_query_is_skipped_and_does_not_run() {
    let fault = Fault::none();
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", ", enabled: false")));
    let (page, verdict) = scraped(&fleet, LONG);
    let labels = [("target", "a"), ("query", "q"), ("collector", "default"), ("reason", "disabled")];
    assert_eq!(page.value("sql_exporter_query_skipped", &labels), Some(1.0));
    assert_eq!((success(&page, "a", "q"), verdict), (None, ScrapeOutcome::Complete));
}

#[test]
fn only_failing_queries_have_rows_when_so_configured() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Fail(Reason::Sql),
        _ => Act::Rows(1),
    });
    let rest = format!(
        "queries:\n{}{}{}exporter: {{query_metrics: failing}}\n",
        query("one", "a", ""),
        query("two", "a", ""),
        query("off", "a", ", enabled: false")
    );
    let (page, _) = scraped(&fleet(&[("a", &fault)], &rest), LONG);
    let mut rows = [success(&page, "a", "one"), success(&page, "a", "two")];
    rows.sort_by_key(Option::is_some);
    assert_eq!(rows, [None, Some(0.0)], "the good one has no row");
    let labels = [("target", "a"), ("query", "off"), ("collector", "default"), ("reason", "disabled")];
    assert_eq!(page.value("sql_exporter_query_skipped", &labels), None);
}

#[test]
fn a_selection_narrows_the_page_and_an_unknown_name_lists_the_nearest() {
    let fault = Fault::none();
    let rest = format!("queries:\n{}{}", query("orders", "a", ""), query("stock", "a", ""));
    let fleet = fleet(&[("a", &fault)], &rest);
    let time = ScrapeTime { began: Instant::now(), budget: LONG };
    let one = ScrapeSelection { queries: vec!["stock".into()], ..ScrapeSelection::default() };
    scrape::scrape(&fleet, &one, time).expect("a page");
    assert_eq!(fault.log().iter().filter(|call| matches!(call, Call::Run(_))).count(), 1);
    let wrong = ScrapeSelection { queries: vec!["order".into()], ..ScrapeSelection::default() };
    let error = scrape::scrape(&fleet, &wrong, time).err().expect("an error");
    assert_eq!(error.to_string(), "unknown query `order`; nearest: orders, stock");
}
