//! Time: heads that trickle, answers that are not read, connections that do nothing.

use super::Aftermath;
use super::client::{Client, Way, status};
use super::victim::{AT_ONCE, Victim};
use crate::process::wait_for;
use crate::web_client::Reply;

/// Connections that are slow at once.
const SLOW: usize = 64;
/// Requests that are sent and whose answers are not read.
const UNREAD: usize = 50;

/// Slowloris: many connections, of which each sends a byte of an endless head now and then.
pub(super) fn trickled_heads(victim: &Victim) -> Aftermath {
    let mut bytes = b"GET /metrics HTTP/1.1\r\nHost: a\r\n".iter().chain(b"a: b\r\n".iter().cycle());
    let mut waiting: Vec<Client> = (0..SLOW).map(|_| victim.connect()).collect();
    let mut answered = Vec::new();
    let mut turn = || {
        let byte = bytes.next().expect("an endless head");
        for client in &mut waiting {
            client.send([*byte]);
        }
        answered.extend(waiting.extract_if(.., Client::was_answered));
        waiting.is_empty()
    };
    turn();
    victim.serves();
    wait_for("all slow heads to be cut off", || turn().then_some(()));
    answered.into_iter().map(Client::status).collect::<Vec<u16>>().into()
}

/// One head in pieces that arrive one by one is a good head: nothing is refused that comes in time.
pub(super) fn heads_in_pieces(victim: &Victim) -> Aftermath {
    let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| victim.connect()).collect();
    for byte in b"\r\nGET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" {
        clients.iter_mut().for_each(|client| assert!(client.send([*byte])));
    }
    clients.into_iter().map(Client::status).collect::<Vec<u16>>().into()
}

/// Readers with small buffers that have asked for the page; one worker is left for others.
fn readers(victim: &Victim) -> Vec<Client> {
    let way = Way { narrow: true, ..Way::default() };
    let mut readers: Vec<Client> = (1..AT_ONCE).map(|_| victim.connect_by(way)).collect();
    readers.iter_mut().for_each(|reader| assert!(reader.get("/metrics")));
    readers
}

/// Answers that were given up so far.
fn given_up(victim: &Victim) -> u64 {
    victim.rejected()["write_timeout"]
}

/// Waits until so many answers were given up, with something to do meanwhile.
fn until_cut(victim: &Victim, wanted: u64, mut meanwhile: impl FnMut()) {
    wait_for("the answers to be given up", || {
        meanwhile();
        (given_up(victim) >= wanted).then_some(())
    });
}

/// What the readers find when they read at last: an answer that began well and is cut.
fn cut(readers: Vec<Client>) -> Aftermath {
    let statuses = readers.into_iter().map(|reader| {
        let answer = reader.rest();
        assert!(Reply::parse(&answer, false).is_err(), "an answer that was not read is whole");
        status(&answer)
    });
    statuses.collect::<Vec<u16>>().into()
}

/// Slowloris on the answer: nobody reads it.
pub(super) fn deaf_readers(victim: &Victim) -> Aftermath {
    let before = given_up(victim);
    let readers = readers(victim);
    until_cut(victim, before + readers.len() as u64, || {});
    cut(readers)
}

/// Readers that always take a little: the deadline is that of the whole answer.
pub(super) fn nibbling_readers(victim: &Victim) -> Aftermath {
    let before = given_up(victim);
    let mut readers = readers(victim);
    let wanted = before + readers.len() as u64;
    until_cut(victim, wanted, || readers.iter_mut().for_each(|reader| reader.take(512)));
    cut(readers)
}

/// Many requests on one connection of which no answer is read.
pub(super) fn unread_pipeline(victim: &Victim) -> Aftermath {
    let before = given_up(victim);
    let mut client = victim.connect_by(Way { narrow: true, ..Way::default() });
    client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(UNREAD));
    until_cut(victim, before + 1, || {});
    cut(vec![client])
}

/// Connections that are left open, some of them after a request: the exporter closes them, and refuses nothing.
pub(super) fn abandoned_connections(victim: &Victim) -> Aftermath {
    let mut held: Vec<Client> = (0..2 * SLOW).map(|_| victim.connect()).collect();
    let asking = held.iter_mut().take(SLOW);
    asking.for_each(|client| assert!(client.send("GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n")));
    victim.serves();
    Aftermath { answers: Vec::new(), held }
}

/// Answers that nobody reads, one after the other, so that none shares its rows with another: the memory for them has an
/// end, and probes are answered beyond it.
pub(super) fn unread_pages(victim: &Victim) -> Aftermath {
    let way = Way { narrow: true, ..Way::default() };
    let ask = |_| {
        let mut reader = victim.connect_by(way);
        assert!(reader.get("/metrics"));
        wait_for("an answer to begin", || reader.was_answered().then_some(()));
        reader
    };
    let readers: Vec<Client> = (1..AT_ONCE).map(ask).collect();
    let mut probe = victim.connect();
    probe.get("/-/healthy");
    assert_eq!(probe.status(), 200);
    let answers: Vec<u16> = readers.into_iter().map(Client::status).collect();
    assert_eq!(answers[0], 200, "one alone fits");
    answers.into()
}
