//! Every fault at every call: the driver fails, hangs, panics or lies at the n-th connect, run, ping, cancel … Whatever it
//! does, pages are on time, the target beside it is whole, no query is half there, and afterwards all is as before.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sql_exporter::engine::targets::Targets;
use sql_exporter::error::Reason;
use sql_exporter::exposition::page::pieces;
use sql_exporter::exposition::text::Text;

use crate::checker::{Page, checked};
use crate::fault::{Act, Call, Fault};
use crate::process::wait_for;
use crate::scrape::{fleet, query, scraped, success};

/// The time of a scrape: what hangs costs it.
const BUDGET: Duration = Duration::from_millis(400);
/// Cases at once; they wait more than they work.
const AT_ONCE: usize = 24;

/// A target's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Plain,
    /// All queries have an `interval`: the second scrape pings.
    Interval,
    Snapshot,
    /// All queries have `when: {role: primary}`: each scrape asks for the role.
    Role,
}

/// What happens at a call; `first` is what happens at the first run before it, so that there is something to cancel or drop.
#[derive(Debug, Clone, Copy)]
struct Case {
    variant: Variant,
    call: Call,
    act: Act,
    first: Option<Act>,
}

const OF_A_RUN: &[Act] = &[
    Act::Fail(Reason::Sql),
    Act::Fail(Reason::Timeout),
    Act::FailAfterRow(Reason::Type),
    Act::Spend,
    Act::GoOn,
    Act::PanicWhenAsked,
    Act::Lose,
    Act::LoseAfterRow,
    Act::Hang,
    Act::HangUntilCancelled,
    Act::Panic,
    Act::Forget,
    Act::NoColumns,
    Act::ColumnsTwice,
    Act::OtherColumn,
    Act::BadCell,
    Act::EndTwice,
    Act::RowAfterEnd,
];

const OF_OTHERS: &[Act] =
    &[Act::Fail(Reason::Lost), Act::Fail(Reason::Timeout), Act::Spend, Act::Lose, Act::Hang, Act::Panic];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |variant, call: fn(usize) -> Call, numbers: RangeInclusive<usize>, acts: &[Act], first| {
        for number in numbers {
            cases.extend(acts.iter().map(|act| Case { variant, call: call(number), act: *act, first }));
        }
    };
    add(Variant::Plain, Call::Connect, 1..=1, OF_OTHERS, None);
    add(Variant::Plain, Call::Run, 1..=7, OF_A_RUN, None);
    add(Variant::Interval, Call::Ping, 1..=2, OF_OTHERS, None);
    add(Variant::Snapshot, Call::Snapshot, 1..=4, OF_OTHERS, None);
    add(Variant::Snapshot, Call::Run, 1..=4, OF_A_RUN, None);
    add(Variant::Role, Call::Refresh, 1..=3, OF_OTHERS, None);
    for first in [Act::HangUntilCancelled, Act::Spend, Act::GoOn] {
        add(Variant::Plain, Call::Connect, 2..=2, OF_OTHERS, Some(first));
        add(Variant::Plain, Call::Cancel, 1..=1, OF_OTHERS, Some(first));
        add(Variant::Plain, Call::Drop, 1..=1, OF_OTHERS, Some(first));
    }
    cases
}

fn open(case: Case) -> (std::sync::Arc<Fault>, std::sync::Arc<Targets>) {
    let sick = Fault::new(move |call| match (call, case.first) {
        (call, _) if call == case.call => case.act,
        (Call::Run(1), Some(first)) => first,
        _ => Act::Rows(1),
    });
    let more = match case.variant {
        Variant::Interval => ", interval: 1h",
        Variant::Role => ", when: {role: primary}",
        Variant::Plain | Variant::Snapshot => "",
    };
    let snapshot =
        if case.variant == Variant::Snapshot { "defaults: {database: {snapshot: true}}\n" } else { "" };
    let kept = format!("{more}, keep_last: 1h");
    let queries =
        [query("p", "a", more), query("q", "a", more), query("kept", "a", &kept), query("well", "b", "")];
    let rest = format!("{snapshot}queries:\n{}", queries.concat());
    let fleet = fleet(&[("a", &sick), ("b", &Fault::none())], &rest);
    (sick, fleet)
}

/// What must hold of every page.
fn hold(page: &Page) {
    assert_eq!(page.value("well_value", &[("target", "b")]), Some(1.0), "the target beside it");
    assert_eq!(success(page, "b", "well"), Some(1.0));
    for query in ["p", "q", "kept"] {
        let of_query = |row: &&&crate::checker::Sample| row.labels["query"] == query;
        let rows = page.series("sql_exporter_query_failure_reason");
        let reasons = rows.iter().filter(of_query).count();
        let value = page.value(&format!("{query}_value"), &[("target", "a")]);
        match success(page, "a", query) {
            Some(1.0) => assert_eq!((value, reasons), (Some(1.0), 0), "{query}"),
            Some(0.0) if query == "kept" => {
                assert!(reasons == 1 && value.is_none_or(|value| value == 1.0), "{query}");
            }
            Some(0.0) => assert_eq!((value, reasons), (None, 1), "{query}"),
            other => panic!("{query}: success {other:?}"),
        }
    }
}

fn own(fleet: &Targets) -> Page {
    let families = fleet.own_metrics();
    let bytes: Vec<u8> = pieces(&families, &Text).iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
    checked(&String::from_utf8(bytes).expect("UTF-8"))
}

fn run(case: Case) {
    let (sick, fleet) = open(case);
    for _ in 0..4 {
        let began = Instant::now();
        let page = scraped(&fleet, BUDGET).0;
        assert!(began.elapsed() < BUDGET + Duration::from_millis(300), "{:?}", began.elapsed());
        hold(&page);
    }
    sick.release();
    // The faults are over. As soon as nothing holds it back, the first page is good.
    wait_for("the end of the back-off", || {
        let page = scraped(&fleet, BUDGET).0;
        hold(&page);
        (page.value("sql_exporter_target_backoff_seconds", &[("target", "a")]) == Some(0.0)).then_some(())
    });
    wait_for("what was late", || {
        let page = own(&fleet);
        let late = page.series("sql_exporter_sessions");
        let late = late.iter().filter(|row| row.labels["state"] != "idle").map(|row| row.value).sum::<f64>();
        (page.value("sql_exporter_late_workers", &[]) == Some(0.0) && late == 0.0).then_some(())
    });
    let page = scraped(&fleet, Duration::from_secs(20)).0;
    hold(&page);
    for query in ["p", "q", "kept"] {
        assert_eq!(success(&page, "a", query), Some(1.0), "{query} after the fault: {:?}", sick.log());
    }
    // Disposal calls on threads of its own, at times after the page.
    sick.saw(case.call);
    // A page leaves when the query has ended; its session comes back a moment later.
    wait_for("the session that served the last page", || {
        let idle = own(&fleet).value("sql_exporter_sessions", &[("target", "a"), ("state", "idle")]);
        idle.is_some_and(|idle| (1.0..=2.0).contains(&idle)).then_some(())
    });
}

#[test]
fn every_fault_at_every_call_is_survived() {
    let cases = cases();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if std::panic::catch_unwind(|| run(*case)).is_err() {
                        failures.lock().expect("a list").push(format!("{case:?}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("a list");
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
