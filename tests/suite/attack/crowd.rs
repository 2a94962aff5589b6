//! Number: thousands of connections, all places taken, clients that come and leave rudely, no descriptor left.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Aftermath;
use super::client::{Client, Way};
use super::victim::{AT_ONCE, Figures, SLACK, Victim, bodies};
use crate::process::wait_for;

/// Idle connections.
const IDLE: usize = 2000;
/// What they may cost in KiB: 5 each.
const IDLE_MEMORY: usize = IDLE * 5;
/// Requests sent at once on one connection.
const PIPELINED: usize = 200;
/// Clients of a storm.
const STORM: usize = 300;
/// As many as are told at once that there is no place.
const BURST: usize = 64;
/// Rounds of clients that reset.
const ROUNDS: usize = 8;

/// Connections that say nothing.
fn idle(victim: &Victim, count: usize) -> Vec<Client> {
    // The soft limit is often 1024.
    rlimit::increase_nofile_limit(u64::MAX).expect("the soft limit of descriptors can be raised");
    (0..count).map(|_| victim.connect()).collect()
}

/// Thousands that say nothing: a new scraper is served at once, and they cost no thread and little memory.
pub(super) fn idle_crowd(victim: &Victim) -> Aftermath {
    let crowd = idle(victim, IDLE);
    victim.serves();
    let slack = Figures {
        resident: IDLE_MEMORY,
        anonymous: IDLE_MEMORY,
        descriptors: crowd.len() + SLACK.descriptors,
        ..SLACK
    };
    victim.holds_within(&slack);
    Aftermath::default()
}

/// The same at the usual cap: those who wait longest make room. The crowd stays.
pub(super) fn evicted_crowd(victim: &Victim) -> Aftermath {
    let held = idle(victim, IDLE);
    victim.serves();
    victim.holds_within(&Figures { descriptors: 256 + SLACK.descriptors, ..SLACK });
    Aftermath { answers: Vec::new(), held: held.into_iter().take(IDLE - 256).collect() }
}

/// Takes all usual places with answers that are not read, until one who comes late is refused; the status that one got.
fn fill(victim: &Victim) -> (Vec<Client>, u16) {
    let way = Way { narrow: true, ..Way::default() };
    let mut holders = Vec::new();
    let refusal = wait_for("a refusal", || {
        let mut holder = victim.connect_by(way);
        holder.get("/metrics");
        wait_for("the answer to begin", || holder.was_answered().then_some(()));
        holders.push(holder);
        let mut late = victim.connect();
        late.get("/metrics");
        Some(late.status()).filter(|status| *status != 200)
    });
    (holders, refusal)
}

/// The paths of an orchestrator's probes are answered.
fn probes_are_answered(victim: &Victim) {
    for path in ["/-/healthy", "/-/ready"] {
        let mut probe = victim.connect();
        probe.get(path);
        assert_eq!(probe.status(), 200, "{path} amid the attack");
    }
}

/// More connections than there are places for, none of them idle. Probes are answered all the same, also while others
/// crowd the places that are kept for them.
pub(super) fn full_house(victim: &Victim) -> Aftermath {
    let (_holders, refusal) = fill(victim);
    let _half_heads: Vec<Client> = (0..AT_ONCE * 4)
        .map(|_| {
            probes_are_answered(victim);
            half_head(victim)
        })
        .collect();
    vec![refusal].into()
}

/// Connections that are held at once amid a head or a handshake, more than there are places.
const HALVES: usize = 96;
/// How often somebody comes, meanwhile, who asks for more than half.
const SERVED: usize = 10;
/// Between two new ones: on a machine that is busy a client must come to send its head before all places have changed.
const PACE: Duration = Duration::from_millis(5);

fn half_head(victim: &Victim) -> Client {
    let mut client = victim.connect();
    client.send("GET /metrics HTTP/1.1\r\nX: ");
    client
}

/// Heads that stop half-way, for ever renewed.
pub(super) fn half_heads(victim: &Victim) -> Aftermath {
    renewed(victim, || half_head(victim))
}

/// All places are taken by what `begin` makes, and again as soon as one is closed. Scrapes and probes are answered.
pub(super) fn renewed(victim: &Victim, begin: impl Fn() -> Client + Sync) -> Aftermath {
    let over = AtomicBool::new(false);
    let before = victim.rejected()["connections"];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut crowd = VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                crowd.push_back(begin());
                crowd.drain(..crowd.len().saturating_sub(HALVES));
                std::thread::sleep(PACE);
            }
        });
        // Whatever fails here, the crowd ends.
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("all places to be taken", || (victim.rejected()["connections"] > before).then_some(()));
            for _ in 0..SERVED {
                victim.serves();
                probes_are_answered(victim);
            }
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(failure) = served {
            std::panic::resume_unwind(failure);
        }
    });
    Aftermath::default()
}

/// More than one address may have; another address is served all the same.
pub(super) fn full_address(victim: &Victim) -> Aftermath {
    let (_holders, refusal) = fill(victim);
    victim.serves_by(Way { from: Some(IpAddr::from([127, 0, 0, 2])), ..Way::default() });
    vec![refusal].into()
}

/// Hundreds who come while all places are taken, and do not leave when they are told so.
pub(super) fn storm_at_the_cap(victim: &Victim) -> Aftermath {
    let (holders, _) = fill(victim);
    let storm: Vec<Client> = (0..STORM).map(|_| victim.connect()).collect();
    let answers: Vec<u16> = storm.into_iter().map(Client::status).collect();
    drop(holders);
    answers.into()
}

/// Who looks whether the port is open, a thousand times.
pub(super) fn knocks(victim: &Victim) -> Aftermath {
    (0..IDLE / 2).for_each(|_| drop(victim.connect()));
    victim.serves();
    Aftermath::default()
}

/// Clients that reset before they said anything, or amid a head.
pub(super) fn resets_in_the_head(victim: &Victim) -> Aftermath {
    for said in ["", "G", "GET / HTTP/1.1\r\nHost"].repeat(ROUNDS) {
        let mut client = victim.connect();
        client.send(said);
        client.reset();
    }
    Aftermath::default()
}

/// Clients that end their half amid a head.
pub(super) fn half_closes_in_the_head(victim: &Victim) -> Aftermath {
    let clients = ["", "G", "GET / HTTP/1.1\r\nHost: a\r\n"].map(|said| {
        let mut client = victim.connect();
        client.send(said);
        client.half_close();
        client.status()
    });
    clients.to_vec().into()
}

/// Clients that reset while their page is made.
pub(super) fn resets_before_the_answer(victim: &Victim) -> Aftermath {
    for _ in 0..ROUNDS {
        let mut clients: Vec<Client> = (1..AT_ONCE).map(|_| victim.connect()).collect();
        clients.iter_mut().for_each(|client| assert!(client.get("/metrics")));
        clients.into_iter().for_each(Client::reset);
        // It waits for the run that they began.
        victim.serves();
    }
    Aftermath::default()
}

/// Clients that reset after a part of the page.
pub(super) fn resets_amid_the_answer(victim: &Victim) -> Aftermath {
    for _ in 0..ROUNDS {
        let mut clients: Vec<Client> = (1..AT_ONCE).map(|_| victim.connect()).collect();
        clients.iter_mut().for_each(|client| assert!(client.get("/metrics")));
        for mut client in clients {
            client.take(1000);
            client.reset();
        }
    }
    Aftermath::default()
}

/// Hundreds of requests at once: all are answered, in order. Each asks for a target of its own that is not there,
/// and the answer names it.
pub(super) fn pipelined_requests(victim: &Victim) -> Aftermath {
    let request = |number: usize| {
        let last = if number + 1 == PIPELINED { "Connection: close\r\n" } else { "" };
        format!("GET /metrics?target=n{number}e HTTP/1.1\r\nHost: a\r\n{last}\r\n")
    };
    let mut client = victim.connect();
    assert!(client.send((0..PIPELINED).map(request).collect::<String>()));
    let answers = bodies(&client.rest());
    assert_eq!(answers.len(), PIPELINED);
    for (number, (_, body)) in answers.iter().enumerate() {
        assert!(body.contains(&format!("`n{number}e`")), "answer {number}: {body}");
    }
    answers.into_iter().map(|(status, _)| status).collect::<Vec<u16>>().into()
}

/// Clients that have connected and asked for the page before the exporter accepts the first of them.
fn burst(victim: &Victim, count: usize) -> Vec<Client> {
    victim.freeze();
    let mut clients: Vec<Client> = (0..count).map(|_| victim.connect()).collect();
    clients.iter_mut().for_each(|client| assert!(client.get("/metrics")));
    victim.thaw();
    clients
}

/// More requests at once than there are places for: each gets an answer, none is closed for the next one.
pub(super) fn burst_at_the_cap(victim: &Victim) -> Aftermath {
    let clients = burst(victim, BURST);
    let answers: Vec<u16> = clients.into_iter().map(Client::status).collect();
    assert!(answers.contains(&200), "nobody was served");
    answers.into()
}

/// Hundreds of requests at once where the process may open few files: what fails is told, or the connection ends.
pub(super) fn starved_storm(victim: &Victim) -> Aftermath {
    let mut answers = Vec::new();
    for _ in 0..ROUNDS {
        let storm = burst(victim, STORM);
        answers.extend(storm.into_iter().map(Client::status));
    }
    answers.into()
}
