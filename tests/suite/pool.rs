//! The pool: which session a lease gets, what becomes of it, and what happens when none comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Health, Sql};
use sql_exporter::engine::disposal::Disposal;
use sql_exporter::engine::pool::{Lease, Pool, PoolLimits, Scheduler};
use sql_exporter::error::Reason;
use sql_exporter::telemetry::SessionCounts;

use crate::fault::{Act, Call, Fault};
use crate::recorder::{Recorder, job};

fn far() -> Deadline {
    Deadline::within(Duration::from_secs(60))
}

struct House {
    pool: Pool,
    disposal: Disposal,
    fault: Arc<Fault>,
    _scheduler: Scheduler,
}

fn house(max_connections: u32, script: impl Fn(Call) -> Act + Send + Sync + 'static) -> House {
    let settings = PoolLimits {
        max_connections,
        idle_timeout: Duration::from_secs(600),
        max_lifetime: Duration::from_secs(1800),
    };
    let (fault, disposal, scheduler) = (Fault::new(script), Disposal::new(), Scheduler::start());
    let pool = Pool::new(fault.endpoint(), &settings, &scheduler, &disposal);
    House { pool, disposal, fault, _scheduler: scheduler }
}

/// Runs one job; whether the session was used before, and what is left of it.
fn run(lease: &mut Lease) -> (bool, Health, Recorder) {
    let sql = Sql::new("SELECT 1");
    let mut sink = Recorder::new();
    let reused = lease.open(&mut None, far()).expect("a session");
    let live = lease.session(far()).expect("a session");
    let health = live.run(&mut [job(&sql, Duration::from_secs(1), &mut sink)], far());
    (reused, health, sink)
}

#[test]
fn nothing_is_opened_before_a_session_is_asked_for() {
    let house = house(3, |_| Act::Rows(1));
    let lease = house.pool.lease(far()).expect("a lease");
    assert_eq!(house.pool.counts(), SessionCounts { idle: 0, busy: 1, late: 0 });
    drop(lease);
    assert_eq!((house.pool.counts(), house.fault.log()), (SessionCounts::default(), vec![]));
}

#[test]
fn a_pool_for_any_number_of_sessions_takes_no_memory_for_them() {
    let house = house(u32::MAX, |_| Act::Rows(1));
    assert!(!run(&mut house.pool.lease(far()).expect("a lease")).0);
}

#[test]
fn a_clean_session_serves_the_next_lease() {
    let house = house(3, |_| Act::Rows(1));
    for expected in [false, true, true] {
        let mut lease = house.pool.lease(far()).expect("a lease");
        let (reused, health, sink) = run(&mut lease);
        assert!(matches!(health, Health::Clean));
        assert_eq!((reused, sink.good().len()), (expected, 1));
        drop(lease);
        assert_eq!(house.pool.counts(), SessionCounts { idle: 1, busy: 0, late: 0 });
    }
    assert_eq!(house.fault.log(), [Call::Connect(1), Call::Run(1), Call::Run(2), Call::Run(3)]);
}

#[test]
fn leases_that_come_and_go_at_once_share_the_sessions() {
    let house = house(2, |_| Act::Rows(1));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| drop(run(&mut house.pool.lease(far()).expect("a lease")))));
        }
    });
    let connects = house.fault.log().iter().filter(|call| matches!(call, Call::Connect(_))).count();
    assert!((1..=2).contains(&connects), "{connects} sessions");
    assert_eq!(house.pool.counts(), SessionCounts { idle: connects, busy: 0, late: 0 });
}

#[test]
fn other_limits_keep_the_sessions_and_close_those_that_are_too_many() {
    let house = house(2, |_| Act::Rows(1));
    let limits = |max_connections| PoolLimits {
        max_connections,
        idle_timeout: Duration::from_secs(600),
        max_lifetime: Duration::from_secs(1800),
    };
    let mut leases = [(); 2].map(|()| house.pool.lease(far()).expect("a lease"));
    leases.iter_mut().for_each(|lease| drop(run(lease)));
    house.pool.set(&limits(1));
    let [one, other] = leases;
    drop(one);
    assert_eq!(house.pool.counts(), SessionCounts { idle: 0, busy: 1, late: 0 });
    drop(other);
    house.pool.set(&limits(3));
    assert_eq!(house.pool.counts(), SessionCounts { idle: 1, busy: 0, late: 0 });
    let mut leases = [(); 3].map(|()| house.pool.lease(far()).expect("a lease"));
    let reused = leases.each_mut().map(|lease| run(lease).0);
    assert_eq!(reused, [true, false, false]);
    drop(leases);
    // More than there was room for, while sessions are leased.
    let mut leases = [(); 3].map(|()| house.pool.lease(far()).expect("a lease"));
    assert_eq!(leases.each_mut().map(|lease| run(lease).0), [true; 3]);
    house.pool.set(&limits(100));
    let [one, other, held] = leases;
    drop((one, other));
    assert_eq!(house.pool.counts(), SessionCounts { idle: 2, busy: 1, late: 0 });
    let mut leases = [(); 3].map(|()| house.pool.lease(far()).expect("a lease"));
    assert_eq!(leases.each_mut().map(|lease| run(lease).0), [true, true, false]);
    drop((leases, held));
    house.pool.set(&limits(1));
    assert_eq!(house.pool.counts(), SessionCounts { idle: 1, busy: 0, late: 0 });
    assert!(house.disposal.settle(far()));
}

/// Sessions that are leased, idle and looked for at every moment of a change: a lock that is taken twice would hang this.
#[test]
fn limits_that_change_under_load_lose_no_lease_and_allow_no_session_more() {
    (0..50).for_each(|_| change_limits_under_load());
}

fn change_limits_under_load() {
    let house = house(1, |_| Act::Rows(1));
    let limits = |max_connections| PoolLimits {
        max_connections,
        idle_timeout: Duration::from_secs(600),
        max_lifetime: Duration::from_secs(1800),
    };
    let (pool, ended) = (&house.pool, &AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| (0..400).for_each(|_| drop(run(&mut pool.lease(far()).expect("a lease")))))
            })
            .collect();
        scope.spawn(|| {
            // Each is more than there was room for before.
            for most in 9.. {
                for most in [2, most, 1, 3] {
                    pool.set(&limits(most));
                    let _ = pool.close_idle();
                }
                if ended.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let all_leased = clients.into_iter().all(|client| client.join().is_ok());
        ended.store(true, Ordering::Relaxed);
        assert!(all_leased);
    });
    pool.set(&limits(1));
    assert!(pool.open() <= 1, "{:?}", pool.counts());
    assert!(house.disposal.settle(far()));
}

#[test]
fn a_spent_session_is_cancelled_and_closed_and_the_next_is_fresh() {
    let house = house(1, |call| if call == Call::Run(1) { Act::Spend } else { Act::Rows(1) });
    let mut lease = house.pool.lease(far()).expect("a lease");
    assert!(matches!(run(&mut lease).1, Health::Spent));
    drop(lease);
    house.fault.saw(Call::Cancel(1));
    house.fault.saw(Call::Drop(1));
    assert_eq!(house.pool.counts(), SessionCounts::default());
    let (reused, health, _) = run(&mut house.pool.lease(far()).expect("a lease"));
    assert!(!reused && matches!(health, Health::Clean));
}

#[test]
fn a_dead_idle_session_is_replaced_within_its_lease() {
    let house = house(1, |call| if call == Call::Run(2) { Act::Lose } else { Act::Rows(1) });
    let _ = run(&mut house.pool.lease(far()).expect("a lease"));
    let mut lease = house.pool.lease(far()).expect("a lease");
    let (reused, health, sink) = run(&mut lease);
    assert!(reused && matches!(health, Health::Lost(_)) && sink.verdict.is_none());
    let (reused, health, sink) = run(&mut lease);
    assert!(!reused && matches!(health, Health::Clean));
    assert_eq!(sink.good().len(), 1);
    assert!(house.disposal.settle(far()));
    assert!(house.fault.log().contains(&Call::Drop(1)));
}

#[test]
fn a_panic_under_a_batch_leaves_no_session_behind() {
    let house = house(1, |call| if call == Call::Run(1) { Act::Panic } else { Act::Rows(1) });
    let pool = house.pool.clone();
    let lane = std::thread::spawn(move || run(&mut pool.lease(far()).expect("a lease")));
    assert!(lane.join().is_err());
    house.fault.saw(Call::Drop(1));
    assert_eq!(house.pool.counts(), SessionCounts::default());
    assert!(!run(&mut house.pool.lease(far()).expect("a lease")).0);
}

#[test]
fn a_failed_connect_keeps_its_reason_and_the_slot() {
    let house =
        house(1, |call| if call == Call::Connect(1) { Act::Fail(Reason::Auth) } else { Act::Rows(1) });
    let mut lease = house.pool.lease(far()).expect("a lease");
    assert_eq!(lease.session(far()).err().map(|error| error.reason()), Some(Reason::Auth));
    assert!(!run(&mut lease).0);
}

#[test]
fn a_busy_pool_is_waited_for_until_the_deadline() {
    let house = house(1, |_| Act::Rows(1));
    let held = house.pool.lease(far()).expect("a lease");
    let start = Instant::now();
    let error = house.pool.lease(Deadline::within(Duration::from_millis(50))).err().expect("an error");
    assert_eq!(error.reason(), Reason::Timeout);
    assert!((50..5_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(error.to_string().starts_with("all 1 sessions of the target are busy"), "{error}");

    let pool = house.pool;
    let waiting = std::thread::spawn(move || pool.lease(far()).is_ok());
    drop(held);
    assert!(waiting.join().expect("no panic"));
}

#[test]
fn who_waits_is_woken_when_a_dirty_session_comes_back() {
    let house = house(1, |call| if call == Call::Run(1) { Act::Spend } else { Act::Rows(1) });
    let mut held = house.pool.lease(far()).expect("a lease");
    let _ = run(&mut held);
    let pool = house.pool;
    let start = Instant::now();
    let waiting = std::thread::spawn(move || pool.lease(Deadline::within(Duration::from_secs(30))).is_ok());
    // Time to begin to wait; without it the test proves less and still passes.
    std::thread::sleep(Duration::from_millis(20));
    drop(held);
    assert!(waiting.join().expect("no panic"));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn a_target_whose_sessions_are_all_held_past_their_time_is_wedged_until_one_comes_free() {
    let house = house(2, |call| if matches!(call, Call::Run(_)) { Act::Hang } else { Act::Rows(1) });
    let lanes: Vec<_> = (0..2)
        .map(|_| {
            let pool = house.pool.clone();
            std::thread::spawn(move || {
                let mut lease = pool.lease(Deadline::within(Duration::from_millis(500))).expect("a lease");
                let _ = run(&mut lease);
            })
        })
        .collect();
    house.fault.saw(Call::Run(2));
    while house.pool.counts().late < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    let error = house.pool.lease(far()).err().expect("an error");
    assert_eq!(error.reason(), Reason::Wedged);
    assert!(start.elapsed() < Duration::from_secs(5));
    house.fault.release();
    lanes.into_iter().for_each(|lane| lane.join().expect("no panic"));
    assert!(house.pool.lease(far()).is_ok());
    assert_eq!(house.pool.counts(), SessionCounts { idle: 2, busy: 0, late: 0 });
}

#[test]
fn a_session_that_goes_on_in_the_server_keeps_its_place_until_it_has_ended() {
    let house = house(2, |call| if matches!(call, Call::Run(1 | 2)) { Act::Spend } else { Act::Rows(1) });
    house.fault.goes_on(true);
    let mut first = house.pool.lease(far()).expect("a lease");
    let _ = run(&mut first);
    drop(first);
    assert_eq!(house.pool.counts(), SessionCounts { idle: 0, busy: 0, late: 1 });
    // The other place is free, and its session is taken by who waits for one.
    let mut second = house.pool.lease(far()).expect("a lease");
    let mut third = house.pool.lease(far()).expect("a lease");
    second.reserve(far()).expect("a place");
    let error = third.reserve(Deadline::within(Duration::from_millis(100))).expect_err("no place");
    assert_eq!(error.reason(), Reason::Timeout, "{error}");
    let _ = run(&mut second);
    drop(second);
    // Both go on.
    let error = third.open(&mut None, far()).expect_err("no place");
    assert_eq!(error.reason(), Reason::Wedged, "{error}");
    drop(third);
    assert_eq!(house.pool.lease(far()).err().map(|error| error.reason()), Some(Reason::Wedged));
    assert_eq!(house.fault.log().iter().filter(|call| matches!(call, Call::Connect(_))).count(), 2);
    assert!(house.disposal.pending() == 2 && !house.fault.log().contains(&Call::Drop(1)));
    house.fault.goes_on(false);
    assert!(house.disposal.settle(far()));
    assert_eq!(house.pool.counts(), SessionCounts::default());
    assert!(!run(&mut house.pool.lease(far()).expect("a lease")).0);
}

#[test]
fn what_goes_on_is_ended_when_the_process_ends() {
    let house = house(1, |call| if matches!(call, Call::Run(_)) { Act::Spend } else { Act::Rows(1) });
    house.fault.goes_on(true);
    let _ = run(&mut house.pool.lease(far()).expect("a lease"));
    house.fault.saw(Call::Cancel(1));
    assert!(house.disposal.settle(Deadline::within(Duration::from_secs(2))));
    // Told a second time; this driver has no other way.
    assert_eq!(house.fault.log().iter().filter(|call| matches!(call, Call::Cancel(_))).count(), 2);
    assert!(house.fault.log().contains(&Call::Drop(1)));
}

#[test]
fn a_pool_that_goes_hands_its_idle_sessions_to_disposal() {
    let house = house(2, |call| if matches!(call, Call::Drop(_)) { Act::Hang } else { Act::Rows(1) });
    let mut one = house.pool.lease(far()).expect("a lease");
    let mut two = house.pool.lease(far()).expect("a lease");
    let _ = (run(&mut one), run(&mut two));
    drop((one, two));
    let start = Instant::now();
    drop(house.pool);
    assert!(start.elapsed() < Duration::from_secs(5), "a drop that hangs is not waited for");
    house.fault.saw(Call::Drop(2));
    assert!(!house.fault.log().contains(&Call::Cancel(1)), "an idle session runs nothing");
    house.fault.release();
    assert!(house.disposal.settle(far()));
}
