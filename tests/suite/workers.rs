//! Workers: permits, priorities, late work, panics, and the depth of their stacks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::Endpoint;
use sql_exporter::engine::workers::{Priority, ServerShare, WorkerCounts, Workers};
use sql_exporter::error::Reason;

use crate::recorder::run;
use crate::sqlite::Shop;

const PATIENCE: Duration = Duration::from_secs(20);

fn far() -> Deadline {
    Deadline::within(Duration::from_secs(600))
}

/// Starts work in the share of a server.
fn block_for(workers: &Workers, server: &Arc<ServerShare>) -> Blocked {
    let (start, started) = channel();
    let (gate, closed) = channel::<()>();
    let work = move || {
        start.send(()).ok();
        closed.recv().ok();
    };
    workers.start_for(Some(server), Priority::Normal, far(), Duration::ZERO, work).expect("accepted");
    Blocked { started, gate }
}

/// Work that says when it starts and blocks until the gate's sender is dropped.
struct Blocked {
    started: Receiver<()>,
    gate: Sender<()>,
}

fn block(workers: &Workers, priority: Priority, by: Deadline) -> Blocked {
    let (start, started) = channel();
    let (gate, closed) = channel::<()>();
    workers
        .start(priority, by, move || {
            start.send(()).ok();
            closed.recv().ok();
        })
        .expect("accepted");
    Blocked { started, gate }
}

impl Blocked {
    fn has_started(&self) {
        self.started.recv_timeout(PATIENCE).expect("the work starts");
    }

    fn is_waiting(&self) -> bool {
        self.started.try_recv().is_err()
    }
}

fn until(workers: &Workers, what: impl Fn(WorkerCounts) -> bool) -> WorkerCounts {
    let by = Instant::now() + PATIENCE;
    loop {
        let counts = workers.counts();
        if what(counts) {
            return counts;
        }
        assert!(Instant::now() < by, "{counts:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn work_beyond_the_permits_waits_and_runs_in_order() {
    let workers = Workers::new(1);
    let first = block(&workers, Priority::Normal, far());
    first.has_started();
    let (order, ordered) = channel();
    for number in 0..100 {
        let order = order.clone();
        workers
            .start(Priority::Normal, far(), move || order.send(number).expect("a reader"))
            .expect("accepted");
    }
    assert_eq!(workers.counts(), WorkerCounts { busy: 1, late: 0, waiting: 100, threads: 1, panics: 0 });
    drop(first.gate);
    let seen: Vec<i32> = (0..100).map(|_| ordered.recv_timeout(PATIENCE).expect("work")).collect();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert_eq!(until(&workers, |counts| counts.busy == 0).threads, 1);
}

#[test]
fn work_that_waits_begins_when_there_are_more_permits() {
    let workers = Workers::new(1);
    let work: Vec<_> = (0..3).map(|_| block(&workers, Priority::Normal, far())).collect();
    work[0].has_started();
    assert!(work[1].is_waiting());
    workers.resize(2);
    work[1].has_started();
    assert!(work[2].is_waiting());
}

#[test]
fn an_idle_thread_is_used_again() {
    let workers = Workers::new(8);
    for _ in 0..50 {
        let (done, ended) = channel();
        workers
            .start(Priority::Normal, far(), move || done.send(std::thread::current().id()).expect("a reader"))
            .expect("accepted");
        ended.recv_timeout(PATIENCE).expect("work");
        until(&workers, |counts| counts.busy == 0);
    }
    assert!(workers.counts().threads <= 2, "{:?}", workers.counts());
}

#[test]
fn doubtful_work_starts_last_and_holds_a_quarter_of_the_workers() {
    let workers = Workers::new(8);
    let doubtful: Vec<_> = (0..4).map(|_| block(&workers, Priority::Low, far())).collect();
    doubtful[0].has_started();
    doubtful[1].has_started();
    assert_eq!(workers.counts().waiting, 2);
    let regular: Vec<_> = (0..7).map(|_| block(&workers, Priority::Normal, far())).collect();
    for work in &regular[..6] {
        work.has_started();
    }
    assert_eq!(workers.counts(), WorkerCounts { busy: 8, late: 0, waiting: 3, threads: 8, panics: 0 });
    // A doubtful one ends: the regular one that waits goes first.
    let mut doubtful = doubtful.into_iter();
    drop(doubtful.next());
    regular[6].has_started();
    assert!(doubtful.as_slice().iter().skip(1).all(Blocked::is_waiting));
    drop(regular);
    doubtful.as_slice()[1].has_started();
    assert_eq!(until(&workers, |counts| counts.busy == 2).waiting, 1);
}

#[test]
fn a_server_leaves_permits_for_others_and_has_all_where_it_is_the_only_one() {
    let workers = Workers::new(8);
    let only = workers.share();
    let mut work: Vec<_> = (0..9).map(|_| block_for(&workers, &only)).collect();
    work[..8].iter().for_each(Blocked::has_started);
    assert_eq!((workers.counts().busy, workers.counts().waiting), (8, 1));
    let other = workers.share();
    work.push(block_for(&workers, &other));
    work.drain(..4);
    // Of the four that came free one is for the other server; the first one has more than are free.
    work[5].has_started();
    assert_eq!(until(&workers, |counts| counts.busy == 5).waiting, 1);
    work.remove(0);
    // Three of its own and one of the other's are held, four are free: the one that waits starts.
    work[3].has_started();
    assert_eq!(workers.counts().waiting, 0);
}

#[test]
fn the_threads_of_a_burst_end_though_some_work_goes_on() {
    let workers = Workers::new(40);
    let burst: Vec<_> = (0..40).map(|_| block(&workers, Priority::Normal, far())).collect();
    burst.iter().for_each(Blocked::has_started);
    drop(burst);
    // More often than each thread alone would have to be used to stay.
    until(&workers, |counts| {
        workers.start(Priority::Normal, far(), || {}).expect("accepted");
        counts.threads <= 20
    });
}

#[test]
fn late_work_gives_its_permit_to_the_next() {
    let workers = Workers::new(1);
    let late = block(&workers, Priority::Normal, Deadline::within(Duration::from_millis(1)));
    late.has_started();
    let next = block(&workers, Priority::Normal, far());
    until(&workers, |counts| counts.late == 1);
    assert!(next.is_waiting());
    workers.release_late();
    next.has_started();
    assert_eq!(workers.counts(), WorkerCounts { busy: 1, late: 1, waiting: 0, threads: 2, panics: 0 });
    drop(late.gate);
    until(&workers, |counts| counts.late == 0);
    // The one that came back did not give its permit away a second time.
    let third = block(&workers, Priority::Normal, far());
    assert!(third.is_waiting());
    drop(next.gate);
    third.has_started();
}

#[test]
fn too_much_late_work_refuses_new_work_at_once() {
    let workers = Workers::new(2);
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let work = block(&workers, Priority::Normal, Deadline::within(Duration::ZERO));
            workers.release_late();
            work.has_started();
            until(&workers, |counts| counts.busy == 0);
            work
        })
        .collect();
    let start = Instant::now();
    let error = workers.start(Priority::Normal, far(), || {}).expect_err("refused");
    assert_eq!(error.reason(), Reason::Wedged);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(workers.counts().late, 4);
    drop(stuck);
    until(&workers, |counts| counts.late == 0);
    assert!(workers.start(Priority::Normal, far(), || {}).is_ok());
}

#[test]
fn a_backlog_past_its_deadline_does_not_start_a_crowd_of_threads() {
    let workers = Workers::new(4);
    let stuck: Vec<_> =
        (0..4).map(|_| block(&workers, Priority::Normal, Deadline::within(Duration::ZERO))).collect();
    stuck.iter().for_each(Blocked::has_started);
    let (done, ended) = channel();
    for _ in 0..300 {
        let done = done.clone();
        workers
            .start(Priority::Normal, Deadline::within(Duration::ZERO), move || {
                done.send(()).expect("a reader");
            })
            .expect("accepted");
    }
    until(&workers, |counts| counts.late == 4);
    workers.release_late();
    for _ in 0..300 {
        ended.recv_timeout(PATIENCE).expect("every piece runs");
    }
    assert!(workers.counts().threads <= 12, "{:?}", workers.counts());
    drop(stuck);
}

#[test]
fn a_panic_is_counted_and_costs_neither_permit_nor_thread() {
    let workers = Workers::new(1);
    for _ in 0..3 {
        workers.start(Priority::Normal, far(), || panic!("as the test wants it")).expect("accepted");
    }
    let (done, ended) = channel();
    workers.start(Priority::Normal, far(), move || done.send(()).expect("a reader")).expect("accepted");
    ended.recv_timeout(PATIENCE).expect("work after the panics");
    assert_eq!(
        until(&workers, |counts| counts.busy == 0),
        WorkerCounts { busy: 0, late: 0, waiting: 0, threads: 1, panics: 3 }
    );
}

#[test]
fn a_lane_has_a_name_and_work_outlives_the_workers() {
    let workers = Workers::new(2);
    let (done, ended) = channel();
    let (gate, closed) = channel::<()>();
    workers
        .start(Priority::Normal, far(), move || {
            closed.recv().ok();
            done.send(std::thread::current().name().map(str::to_owned)).expect("a reader");
        })
        .expect("accepted");
    drop(workers);
    drop(gate);
    assert_eq!(ended.recv_timeout(PATIENCE).expect("work").as_deref(), Some("lane-1"));
}

#[test]
fn many_threads_start_work_at_once_and_all_of_it_runs() {
    let workers = Arc::new(Workers::new(3));
    let (done, ended) = channel();
    let starters: Vec<_> = (0..8)
        .map(|_| {
            let (workers, done) = (Arc::clone(&workers), done.clone());
            std::thread::spawn(move || {
                for number in 0..200 {
                    let done = done.clone();
                    let priority = if number % 3 == 0 { Priority::Low } else { Priority::Normal };
                    workers
                        .start(priority, far(), move || done.send(()).expect("a reader"))
                        .expect("accepted");
                }
            })
        })
        .collect();
    starters.into_iter().for_each(|starter| starter.join().expect("no panic"));
    for _ in 0..1600 {
        ended.recv_timeout(PATIENCE).expect("work");
    }
    let counts = until(&workers, |counts| counts.busy == 0);
    assert!(counts.threads <= 3 && counts.waiting == 0, "{counts:?}");
}

#[test]
fn the_deepest_sql_fits_the_stack_of_a_lane() {
    let workers = Workers::new(1);
    let deep = [
        format!("SELECT {}1", "1+".repeat(990)),
        format!("SELECT {}1", "- ".repeat(990)),
        format!("SELECT {}'a'", "'a'||".repeat(990)),
        format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(499)),
        format!("SELECT * FROM {}(SELECT 1){}", "(SELECT * FROM ".repeat(300), ")".repeat(300)),
        format!("SELECT count(*) FROM json_tree('{}{}')", "[".repeat(999), "]".repeat(999)),
        format!("SELECT '{}' GLOB '{}'", "a".repeat(4_000), "*a".repeat(2_000)),
        format!("SELECT '{}' LIKE '{}'", "a".repeat(50_000), "%a".repeat(25_000)),
    ];
    let (done, ended) = channel();
    // A stack that is too small ends the whole process.
    workers
        .start(Priority::Normal, far(), move || {
            let shop = Shop::new();
            let mut session = shop.file().connect(far()).expect("a session");
            let verdicts = deep.map(|sql| run(&mut *session, &sql, PATIENCE).0.verdict.expect("an end"));
            done.send(verdicts.map(|verdict| verdict.map_err(|error| error.to_string()))).expect("a reader");
        })
        .expect("accepted");
    let verdicts = ended.recv_timeout(PATIENCE).expect("an answer");
    let (last, others) = verdicts.split_last().expect("eight");
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!(*last, Err("LIKE or GLOB pattern too complex [SQLITE_ERROR]".to_owned()));
}
