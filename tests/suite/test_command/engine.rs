//! Drivers that hang, panic and refuse: each costs its own target only, and nothing is waited for past the deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sql_exporter::config;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::Drivers;
use sql_exporter::error::Reason;
use sql_exporter::inspect::privileges;
use sql_exporter::inspect::privileges::{TestOutcome, TestedTarget};

use crate::fault::{Act, Call, Fault, driver};
use crate::process::bound;

/// Tests one target a fault, in this order, under names that sort the same way.
fn outcomes(name: &'static str, faults: &[(&'static str, &Arc<Fault>)], time: Duration) -> Vec<TestedTarget> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.yaml");
    let entry =
        |(database, _): &(&str, _)| format!("  {database}: {{driver: {name}, database: {database}}}\n");
    let entries: String = faults.iter().map(entry).collect();
    std::fs::write(&file, format!("databases:\n{entries}queries: []\n")).expect("a file");
    let drivers = Drivers::built_in().with(driver(name, faults.iter().copied()));
    let plan = config::load(&file, &|_| None, &drivers).expect("a plan");
    privileges::test(&plan.targets, Deadline::within(time), |_| ())
}

fn reason(tested: &TestedTarget) -> Option<Reason> {
    match &tested.outcome {
        TestOutcome::Fail(error) => Some(error.reason()),
        TestOutcome::Pass(_) | TestOutcome::Skip(_) => None,
    }
}

#[test]
fn a_driver_that_hangs_costs_its_own_target_only() {
    let good = Fault::none();
    let [login, question] = [Call::Connect(1), Call::Rights(1)]
        .map(|hung| Fault::new(move |call| if call == hung { Act::Hang } else { Act::Rows(1) }));
    let start = Instant::now();
    let faults = [("a", &login), ("b", &good), ("c", &question)];
    let outcomes = outcomes("test_hang", &faults, Duration::from_secs(1));
    assert!(start.elapsed() < bound(Duration::from_millis(1300)), "{:?}", start.elapsed());
    let reasons: Vec<Option<Reason>> = outcomes.iter().map(reason).collect();
    assert_eq!(reasons, [Some(Reason::Timeout), None, Some(Reason::Timeout)]);
    good.saw(Call::Drop(1));
    login.release();
    question.release();
}

#[test]
fn a_driver_that_panics_costs_its_own_target_only() {
    let good = Fault::none();
    let panics = Fault::new(|call| if call == Call::Connect(1) { Act::Panic } else { Act::Rows(1) });
    // To put a panic into words takes its time.
    let outcomes = outcomes("test_panic", &[("a", &panics), ("b", &good)], Duration::from_secs(60));
    let reasons: Vec<Option<Reason>> = outcomes.iter().map(reason).collect();
    assert_eq!(reasons, [Some(Reason::Panic), None]);
}

#[test]
fn rights_that_are_refused_are_a_warning_and_a_session_that_dies_is_none() {
    let fail = |reason| {
        Fault::new(move |call| if call == Call::Rights(1) { Act::Fail(reason) } else { Act::Rows(1) })
    };
    let (refused, died, late) = (fail(Reason::Permission), fail(Reason::Lost), fail(Reason::Timeout));
    let faults = [("a", &refused), ("b", &died), ("c", &late)];
    let outcomes = outcomes("test_refuse", &faults, Duration::from_secs(20));
    let TestOutcome::Pass(found) = &outcomes[0].outcome else { panic!("the login worked") };
    let warnings: Vec<&str> = found.warnings().collect();
    assert_eq!(warnings, ["the privileges of its user are not known: as the test wants it"]);
    assert_eq!((reason(&outcomes[1]), reason(&outcomes[2])), (Some(Reason::Lost), Some(Reason::Timeout)));
    // What may still run in the server is cancelled before its session goes.
    late.saw(Call::Drop(1));
    assert!(late.log().contains(&Call::Cancel(1)), "{:?}", late.log());
    assert!(!refused.log().contains(&Call::Cancel(1)), "{:?}", refused.log());
}

#[test]
fn the_sixty_fifth_waits_and_has_what_is_left_of_the_time() {
    let held: Vec<Arc<Fault>> = (0..64)
        .map(|_| Fault::new(|call| if call == Call::Connect(1) { Act::Hang } else { Act::Rows(1) }))
        .collect();
    let last = Fault::none();
    let names: Vec<&'static str> =
        (0..65).map(|index| &*Box::leak(format!("t{index:02}").into_boxed_str())).collect();
    let faults: Vec<(&'static str, &Arc<Fault>)> =
        names.into_iter().zip(held.iter().chain([&last])).collect();
    let outcomes = outcomes("test_many", &faults, Duration::from_millis(300));
    assert!(outcomes.iter().all(|outcome| reason(outcome) == Some(Reason::Timeout)));
    assert!(!last.log().contains(&Call::Connect(1)), "no login begins after the deadline: {:?}", last.log());
    held.iter().for_each(|fault| fault.release());
}
