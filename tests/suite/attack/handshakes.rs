//! Clients that never come as far as a request: handshakes that stop, that make no sense, that are none.

use super::client::{Client, status};
use super::crowd::renewed;
use super::victim::Victim;
use super::{Aftermath, CLOSED};

/// Clients of each kind.
const CROWD: usize = 100;

/// The first bytes of a handshake: a record of 512 bytes is announced.
const BEGUN: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// Handshakes that stop after some bytes. Others are served meanwhile.
pub(super) fn stalled(victim: &Victim) -> Aftermath {
    let begin = |count: usize| {
        let mut client = victim.raw();
        client.send(&BEGUN[..1 + count % BEGUN.len()]);
        client
    };
    let clients: Vec<Client> = (0..CROWD).map(begin).collect();
    victim.serves();
    clients.into_iter().map(|client| verdict(&client.rest())).collect::<Vec<_>>().into()
}

/// Records that hold nonsense.
pub(super) fn garbage(victim: &Victim) -> Aftermath {
    let send = |count: usize| {
        let mut client = victim.raw();
        let length = u8::try_from(count).unwrap_or(u8::MAX);
        client.send([&[22, 3, 1, 0, length][..], &vec![length; count]].concat());
        client.half_close();
        verdict(&client.rest())
    };
    (1..CROWD).map(send).collect::<Vec<_>>().into()
}

/// What TLS itself says (an alert) is not an answer.
fn verdict(said: &[u8]) -> u16 {
    if said.first() == Some(&21) { CLOSED } else { status(said) }
}

/// Requests without TLS.
pub(super) fn plain(victim: &Victim) -> Aftermath {
    let ask = |_| {
        let mut client = victim.raw();
        client.get("/metrics");
        client.status()
    };
    (0..CROWD).map(ask).collect::<Vec<_>>().into()
}

/// Who looks whether the port is open, and says nothing.
pub(super) fn silent(victim: &Victim) -> Aftermath {
    (0..CROWD * 10).for_each(|_| drop(victim.raw()));
    victim.serves();
    Aftermath::default()
}

/// Handshakes that stop half-way, for ever renewed.
pub(super) fn half(victim: &Victim) -> Aftermath {
    renewed(victim, || {
        let mut client = victim.raw();
        client.send(BEGUN);
        client
    })
}
