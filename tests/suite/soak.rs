//! Thousands of scrapes of the real binary while its databases fail at random: every page is right and in time, and
//! memory, threads, descriptors and sessions stay flat.
//!
//! `make soak` makes 10,000 scrapes of the release build; `make test` a few hundred, with wider bounds. A round is
//! some scrapes at once, before or during which a fault may begin. In the first tenth some rounds are storms:
//! everything fails under the most scrapes at once, so that the exporter has met its worst before it is measured.
//! How many threads and sessions it uses while it works depends on chance, up to its bounds. A long soak therefore lets
//! it rest twice, and compares what is left then.
//! `SOAK_SEED` repeats the choices of a run. A new fault belongs to its part: `server`, `lite`, `wire`.

mod chance;
pub(crate) mod flat;
mod lite;
mod part;
mod scraper;
mod server;
mod steady;
mod wire;
mod world;

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::checker::checked;
use crate::exporter::Exporter;
use crate::process::poll;
use chance::Chance;
use flat::{Bound, Reading, Sessions, Windows};
use scraper::{Order, Tally, all_well, scrape};
use world::World;

/// From so many scrapes on a soak is long: the bounds of issue 3, and two rests.
const LONG: usize = 5000;
/// Scrapes at once in the largest round.
const MOST_AT_ONCE: u64 = 10;
/// Six targets on servers, three sessions each.
const POOLS: f64 = 18.0;
/// The longest back-off is 30 s; then comes a scrape that finds all well.
const RECOVERY: Duration = Duration::from_secs(60);
/// After so long without a scrape every session has been closed: `idle_timeout` is 5 s, "within half a minute".
const SESSIONS_END: Duration = Duration::from_secs(60);
/// After so long without work every thread that a burst needed has ended: 10 s those of scrapes, 30 s those of requests.
const THREADS_END: Duration = Duration::from_secs(35);

#[test]
fn scrapes_under_random_faults_are_right_in_time_and_leave_nothing_behind() {
    let total = number("SOAK_SCRAPES").unwrap_or(300);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let seed = number("SOAK_SEED").unwrap_or(u64::from(clock.subsec_nanos()));
    println!("{total} scrapes, SOAK_SEED={seed}");
    let total = usize::try_from(total).expect("a number of scrapes");
    let window = total / 5;
    let began = Instant::now();
    let mut soak = Soak::new(seed);
    let mut early = None;
    while soak.scrapes < total {
        let before = soak.scrapes / 1000;
        soak.round(total);
        if total >= LONG && early.is_none() && soak.scrapes >= 2 * window {
            early = Some(soak.rest());
        }
        if let Some(now) = soak.readings.last().filter(|_| soak.scrapes / 1000 > before) {
            println!("{:6} scrapes, {} KiB, {} threads", now.scrapes, now.memory, now.threads);
        }
    }
    let took = began.elapsed();
    let recovery = soak.recover();
    let (mut table, mut grown) = Windows::new(&soak.readings, total, window).compare(&bounds(total));
    if let Some(early) = early {
        let late = soak.rest();
        let (at_rest, left) = Windows { second: vec![&early], last: vec![&late] }.compare(&bounds_at_rest());
        table.push_str("\nat rest:\n");
        table.push_str(&at_rest);
        grown.extend(left);
    }
    println!("{}in {took:.0?}, all well again after {recovery:.1?}\n\n{table}", soak.report());
    assert!(grown.is_empty(), "{} (SOAK_SEED={seed})\n{table}", grown.join("; "));
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// The bounds while it works. Chance decides how many threads and sessions it uses, and each takes memory; in a short soak it
/// has barely met each of its threads once.
fn bounds(total: usize) -> [Bound; 7] {
    let unknown = if total >= LONG { 1.0 } else { 6.0 };
    let bound = |what, read, units| Bound { what, read, percent: 5.0, units };
    [
        bound("resident memory, KiB", |reading| Some(reading.memory), 8192.0),
        bound("threads", |reading| Some(reading.threads), 32.0),
        bound("descriptors", |reading| Some(reading.descriptors), 12.0),
        bound("sessions in the servers", |reading| Some(reading.sessions?.server), 6.0),
        bound("sql_exporter_sessions", |reading| Some(reading.sessions?.said), 6.0),
        bound("sessions we do not know of", |reading| Some(reading.sessions?.unknown()), unknown),
        bound("sessions beyond the pools", |reading| Some(reading.sessions?.beyond(POOLS)), 0.0),
    ]
}

/// The bounds while it rests, when no session is left. Chance has no part in it: a leak of one in some thousand scrapes shows.
fn bounds_at_rest() -> [Bound; 3] {
    [
        Bound {
            what: "resident memory, KiB",
            read: |reading| Some(reading.memory),
            percent: 5.0,
            units: 2048.0,
        },
        Bound { what: "threads", read: |reading| Some(reading.threads), percent: 0.0, units: 2.0 },
        Bound { what: "descriptors", read: |reading| Some(reading.descriptors), percent: 0.0, units: 2.0 },
    ]
}

/// One soak: the exporter, the world around it, and what was seen.
struct Soak {
    chance: Chance,
    exporter: Exporter,
    world: World,
    /// A client left during the last round: its scrape may still run.
    left: bool,
    rounds: usize,
    scrapes: usize,
    tally: Tally,
    readings: Vec<Reading>,
}

impl Soak {
    fn new(seed: u64) -> Self {
        let (world, exporter) = World::start();
        Soak {
            chance: Chance::new(seed),
            exporter,
            world,
            left: false,
            rounds: 0,
            scrapes: 0,
            tally: Tally::default(),
            readings: Vec::new(),
        }
    }

    /// Some scrapes at once; a fault may begin before them or under them.
    fn round(&mut self, total: usize) {
        self.world.age();
        let storm = self.scrapes < (total / 10).min(1000) && self.rounds.is_multiple_of(10);
        if storm {
            (0..self.world.size()).for_each(|_| self.world.fail(&mut self.chance));
        }
        let begins = self.chance.percent(15);
        let amid = begins && self.chance.percent(40);
        if begins && !amid {
            self.world.fail(&mut self.chance);
        }
        let orders = self.orders(storm, amid || self.world.hangs(), total - self.scrapes);
        let truth = self.world.advance(amid || self.left);
        let tallies: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
            let ask = |order| scrape(&self.exporter, order, &truth);
            let scrapes: Vec<_> = orders.iter().map(|order| scope.spawn(move || ask(order))).collect();
            if amid {
                self.world.fail(&mut self.chance);
            }
            scrapes.into_iter().map(|scrape| scrape.join().expect("a scrape that did not panic")).collect()
        });
        for (order, tally) in orders.iter().zip(tallies) {
            self.tally.add(tally.unwrap_or_else(|fault| {
                let (scrapes, log) = (self.scrapes, self.exporter.log());
                panic!("{log}\n{fault}\nafter {scrapes} scrapes, {order:?}, {truth:?}")
            }));
        }
        self.left = orders.iter().any(|order| order.leaves);
        self.scrapes += orders.len();
        self.rounds += 1;
        self.read();
    }

    fn orders(&mut self, storm: bool, hangs: bool, most: usize) -> Vec<Order> {
        let chance = &mut self.chance;
        let (low, high) = chance.pick(&[(60, (1, 1)), (25, (2, 4)), (15, (5, MOST_AT_ONCE))]);
        let count = if storm { MOST_AT_ONCE } else { chance.between(low, high) };
        // Where scrapes wait up to their deadline, most are short, or a soak would take hours.
        let long = if hangs { 1000 } else { 5000 };
        let timeout =
            chance.pick(&[(if hangs { 10 } else { 80 }, long), (10, 50), (5, 100), (5, 300), (5, 500)]);
        let targets = ["lite", "pg", "maria", "sick_pg", "sick_maria", "sick_lite", "wire_pg", "wire_maria"];
        let order = |_| Order {
            timeout: Duration::from_millis(timeout),
            only: chance.percent(10).then(|| chance.pick(&targets.map(|target| (1, target)))),
            leaves: chance.percent(4),
        };
        (0..count.min(most as u64)).map(order).collect()
    }

    /// Reads what the exporter holds; while all is well, also its sessions.
    fn read(&mut self) {
        let sessions = self.world.sessions().map(|server| {
            let page = checked(self.exporter.get("/-/metrics").text());
            let said = page.series("sql_exporter_sessions");
            let said = said.iter().filter(|sample| !sample.labels["target"].ends_with("lite"));
            Sessions { server: server as f64, said: said.map(|sample| sample.value).sum() }
        });
        self.readings.push(Reading::of(self.exporter.pid(), self.scrapes, sessions));
    }

    /// Makes no scrape until every session is closed and every thread that waits for work has ended.
    fn rest(&mut self) -> Reading {
        self.recover();
        poll("the end of idle sessions", SESSIONS_END, || {
            let page = checked(self.exporter.get("/-/metrics").text());
            let are_ended = page.series("sql_exporter_sessions").iter().all(|sample| sample.value == 0.0);
            (are_ended && self.world.sessions() == Some(0)).then_some(())
        });
        std::thread::sleep(THREADS_END);
        Reading::of(self.exporter.pid(), self.scrapes, None)
    }

    /// Ends all faults; gives the time until a scrape found everything well and no query was late.
    fn recover(&mut self) -> Duration {
        self.world.heal();
        let began = Instant::now();
        poll("a scrape that finds all well", RECOVERY, || {
            let page = checked(&self.exporter.metrics());
            let late = page.value("sql_exporter_late_workers", &[]) != Some(0.0);
            (all_well(&page) && !late).then_some(())
        });
        began.elapsed()
    }

    /// What was done and seen, a line each.
    fn report(&self) -> String {
        let Tally { complete, partial, left, cut, late, latest, reasons } = &self.tally;
        let mut text = format!(
            "{} scrapes in {} rounds: {complete} complete, {partial} partial, {left} clients left\n\
             steady targets cut by a short deadline: {cut}; answers after the scraper's timeout: {late}, at most by {latest:?}\n",
            self.scrapes, self.rounds
        );
        for (title, counts) in [
            ("faults", self.world.faults.iter().map(|(name, count)| (*name, *count)).collect()),
            (
                "failed queries",
                reasons.iter().map(|(reason, count)| (reason.as_str(), *count)).collect::<Vec<_>>(),
            ),
        ] {
            let total: usize = counts.iter().map(|(_, count)| count).sum();
            writeln!(text, "{total} {title}").expect("a string");
            for (name, count) in counts {
                writeln!(text, "  {count:7} {name}").expect("a string");
            }
        }
        text
    }
}
