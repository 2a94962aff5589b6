//! What the HTTP server withstands: every attack of [`table`] against the running binary, on an exporter of its own. After
//! each the process lives, memory, threads and descriptors are back where they were, and a scrape works.
//!
//! A new attack is an entry in the table and, where no function fits, one more in `heads`, `slow` or `crowd`. The
//! table runs once for each [`dial::Dial`], the way in.

/// A table of attacks, and in a module for each way in a test for each entry.
macro_rules! attacks {
    (over { $($way:ident: $dial:ident,)* } $attacks:tt) => {
        attacks!(@table $attacks);
        $(attacks!(@tests $way $dial $attacks);)*
    };
    (@table { $($name:ident { $($field:ident: $value:expr,)* })* }) => {
        pub(in crate::attack) const TABLE: &[Attack] =
            &[$(Attack { name: stringify!($name), $($field: $value,)* ..USUAL }),*];
    };
    (@tests $way:ident $dial:ident { $($name:ident $entry:tt)* }) => {
        mod $way {
            use crate::attack::{dial::Dial, survives};

            $(#[test]
            fn $name() {
                survives(super::TABLE, stringify!($name), Dial::$dial);
            })*
        }
    };
}

mod client;
mod crowd;
mod dial;
mod handshakes;
mod heads;
mod logins;
mod slow;
mod table;
mod table_plain;
mod table_tls;
mod table_users;
mod victim;

use client::Client;
use dial::Dial;
use victim::Victim;

/// The answer of a connection that ended without one.
const CLOSED: u16 = 0;

/// One attack: what it is made of, what it may get, what it is counted as.
struct Attack {
    name: &'static str,
    /// Each `reason` of `sql_exporter_http_requests_rejected_total` that it raises; it must not raise another.
    reasons: &'static [&'static str],
    /// What a connection of it may be answered with.
    answers: &'static [u16],
    /// Keys of `exporter.http` beyond which it goes.
    hits: &'static [&'static str],
    /// `exporter.http`, as in YAML.
    limits: &'static str,
    /// The page's length in rows of [`victim::ROW`] bytes.
    rows: usize,
    /// How many files the exporter may open, where that is part of the attack.
    descriptors: Option<u32>,
    run: fn(&Victim) -> Aftermath,
}

/// What an attack without words of its own is: refused requests that no limit is about.
const USUAL: Attack = Attack {
    name: "",
    reasons: &[],
    answers: &[],
    hits: &[],
    limits: "",
    rows: 1,
    descriptors: None,
    run: |_| Aftermath::default(),
};

/// What an attack leaves.
#[derive(Default)]
struct Aftermath {
    /// The status of each answer, or [`CLOSED`].
    answers: Vec<u16>,
    /// Connections that the attacker does not close: the exporter must recover all the same.
    held: Vec<Client>,
}

impl From<Vec<u16>> for Aftermath {
    fn from(answers: Vec<u16>) -> Self {
        Aftermath { answers, held: Vec::new() }
    }
}

/// Runs an attack of `table` on an exporter that is reached by `dial`, and looks whether it has come to harm.
fn survives(table: &[Attack], name: &str, dial: Dial) {
    let attack = table.iter().find(|attack| attack.name == name).expect("an attack of the table");
    let victim = Victim::start(attack, dial);
    let before = victim.rejected();
    let left = (attack.run)(&victim);
    assert_eq!(
        left.answers.is_empty(),
        attack.answers.is_empty(),
        "{name}: answers {:?}, expected are {:?}",
        left.answers,
        attack.answers
    );
    let strange: Vec<u16> =
        left.answers.iter().copied().filter(|answer| !attack.answers.contains(answer)).collect();
    assert!(strange.is_empty(), "{name} was answered with {strange:?}");
    victim.recovers();
    let raised = victim.raised_since(&before);
    assert_eq!(raised, attack.reasons, "{name}: the reasons that rose");
    drop(left.held);
}

/// The limits of the HTTP server, and the reason that each is counted under. An idle connection is closed, not refused.
const LIMITS: [(&str, Option<&str>); 9] = [
    ("max_connections", Some("connections")),
    ("max_connections_per_address", Some("connections")),
    ("max_head_bytes", Some("head_size")),
    ("max_header_lines", Some("header_lines")),
    ("head_timeout", Some("head_timeout")),
    ("write_timeout", Some("write_timeout")),
    ("idle_timeout", None),
    ("max_inflight_bytes", Some("memory")),
    ("hosts", Some("host")),
];

/// Every attack on every way in.
fn all() -> impl Iterator<Item = &'static Attack> {
    [table::TABLE, table_plain::TABLE, table_tls::TABLE, table_users::TABLE].into_iter().flatten()
}

/// The keys of `exporter.http` in the table of `docs/configuration.md`.
fn documented() -> Vec<&'static str> {
    let text = include_str!("../../docs/configuration.md");
    let table = text.split("<!-- keys: exporter.http -->").nth(1).expect("the table of limits");
    let rows = table.lines().take_while(|line| !line.starts_with("<!--"));
    rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[test]
fn every_documented_limit_is_hit_by_an_attack_that_raises_its_reason() {
    assert_eq!(documented().len(), LIMITS.len(), "{:?}", documented());
    for key in documented() {
        let (_, reason) = LIMITS.iter().find(|(known, _)| *known == key).expect("a limit without an attack");
        let mut hits = all().filter(|attack| attack.hits.contains(&key));
        let raises = |attack: &Attack| reason.is_none_or(|reason| attack.reasons.contains(&reason));
        assert!(hits.any(raises), "no attack on {key} raises {reason:?}");
    }
}

#[test]
fn no_two_attacks_share_a_name() {
    let mut names: Vec<&str> = all().map(|attack| attack.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all().count());
}
