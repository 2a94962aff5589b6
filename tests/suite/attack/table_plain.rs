//! Attacks in plain text only: they talk to an exporter that stands still, or has no room to shake hands. And a crowd
//! far above the usual cap: what 2,000 sessions of TLS held, 10 KB each, glibc keeps for the next ones.

use super::table::LARGE;
use super::{Attack, CLOSED, USUAL, crowd};

attacks! {
    over {
        plain: Plain,
    }
    {
        burst_at_the_cap {
            reasons: &["connections"], answers: &[200, 503], hits: &["max_connections"],
            limits: "max_connections: 4", rows: LARGE, run: crowd::burst_at_the_cap,
        }
        starved_storm {
            reasons: &["connections"], answers: &[200, 503, CLOSED], hits: &["max_connections"],
            descriptors: Some(64), run: crowd::starved_storm,
        }
        idle_crowd { limits: "max_connections: 3000", run: crowd::idle_crowd, }
    }
}
