//! Disposal: what blocks or panics while a session is cancelled or closed stops nobody else.

use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::Session;
use sql_exporter::engine::disposal::Disposal;
use sql_exporter::error::Reason;

use crate::fault::{Act, Call, Fault};

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(20))
}

fn session(fault: &std::sync::Arc<Fault>) -> Box<dyn Session> {
    fault.endpoint().connect(soon()).expect("a session")
}

#[test]
fn a_session_is_cancelled_before_it_is_closed() {
    let (disposal, fault) = (Disposal::new(), Fault::none());
    disposal.discard(session(&fault), true);
    disposal.discard(session(&fault), false);
    assert!(disposal.settle(soon()));
    let log = fault.log();
    let cancel = log.iter().position(|call| *call == Call::Cancel(1));
    assert_eq!(log.iter().filter(|call| matches!(call, Call::Drop(_))).count(), 2);
    assert_eq!(log.iter().filter(|call| matches!(call, Call::Cancel(_))).count(), 1);
    assert!(cancel < log.iter().position(|call| *call == Call::Drop(2)));
}

#[test]
fn blocked_closes_do_not_stop_others_and_are_counted() {
    let disposal = Disposal::new();
    let stuck = Fault::new(|call| if matches!(call, Call::Drop(_)) { Act::Hang } else { Act::Rows(1) });
    for _ in 0..15 {
        disposal.discard(session(&stuck), false);
    }
    let quick = Fault::none();
    for _ in 0..50 {
        disposal.discard(session(&quick), true);
    }
    quick.saw(Call::Drop(50));
    let start = Instant::now();
    assert!(!disposal.settle(Deadline::within(Duration::from_millis(50))));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(disposal.pending(), 15);
    stuck.release();
    assert!(disposal.settle(soon()));
}

#[test]
fn beyond_sixteen_blocked_closes_the_next_wait_their_turn() {
    let disposal = Disposal::new();
    let stuck = Fault::new(|call| if matches!(call, Call::Drop(_)) { Act::Hang } else { Act::Rows(1) });
    for _ in 0..16 {
        disposal.discard(session(&stuck), false);
    }
    stuck.saw(Call::Drop(16));
    let waiting = Fault::none();
    disposal.discard(session(&waiting), true);
    assert!(!disposal.settle(Deadline::within(Duration::from_millis(50))));
    assert_eq!(disposal.pending(), 17);
    assert_eq!(waiting.log(), [Call::Connect(1)]);
    stuck.release();
    assert!(disposal.settle(soon()));
    assert!(waiting.log().contains(&Call::Drop(1)));
}

#[test]
fn a_panic_or_a_failed_cancel_ends_only_itself() {
    let disposal = Disposal::new();
    let bad = Fault::new(|call| match call {
        Call::Drop(1) => Act::Panic,
        Call::Cancel(_) => Act::Fail(Reason::Connect),
        _ => Act::Rows(1),
    });
    disposal.discard(session(&bad), true);
    assert!(disposal.settle(soon()));
    disposal.discard(session(&bad), true);
    disposal.cancel(session(&bad).canceller());
    assert!(disposal.settle(soon()));
    assert!(bad.log().contains(&Call::Drop(2)) && bad.log().contains(&Call::Cancel(3)));
}
