//! Attacks that only a port with TLS has.

use super::{Attack, CLOSED, USUAL, handshakes};

attacks! {
    over {
        tls: Tls,
    }
    {
        stalled_handshakes {
            reasons: &["tls"], answers: &[CLOSED], limits: "head_timeout: 500ms",
            run: handshakes::stalled,
        }
        garbage_handshakes { reasons: &["tls"], answers: &[CLOSED], run: handshakes::garbage, }
        plain_requests { reasons: &["tls"], answers: &[400], run: handshakes::plain, }
        half_handshakes {
            reasons: &["connections"], limits: "max_connections: 64, head_timeout: 1m",
            run: handshakes::half,
        }
        silent_knocks { run: handshakes::silent, }
    }
}
