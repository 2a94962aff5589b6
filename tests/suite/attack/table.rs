//! The attacks, and a test for each of them on each way in. What only one way has stands in `table_plain`,
//! `table_tls` and `table_users`.

use super::{Attack, CLOSED, USUAL, crowd, heads, slow};

/// As many rows as a query may make: a page of 8 MB.
pub(super) const LARGE: usize = 20_000;

attacks! {
    over {
        plain: Plain,
        tls: Tls,
    }
    {
        trickled_heads {
            reasons: &["head_timeout"], answers: &[408], hits: &["head_timeout"],
            limits: "head_timeout: 500ms", run: slow::trickled_heads,
        }
        heads_in_pieces { answers: &[200], run: slow::heads_in_pieces, }
        deaf_readers {
            reasons: &["write_timeout"], answers: &[200], hits: &["write_timeout"],
            limits: "write_timeout: 1s", rows: LARGE, run: slow::deaf_readers,
        }
        nibbling_readers {
            reasons: &["write_timeout"], answers: &[200], hits: &["write_timeout"],
            limits: "write_timeout: 1s", rows: LARGE, run: slow::nibbling_readers,
        }
        unread_pipeline {
            reasons: &["write_timeout"], answers: &[200], hits: &["write_timeout"],
            limits: "write_timeout: 1s", rows: LARGE, run: slow::unread_pipeline,
        }
        abandoned_connections {
            hits: &["idle_timeout"], limits: "idle_timeout: 500ms", run: slow::abandoned_connections,
        }
        evicted_crowd { run: crowd::evicted_crowd, }
        full_house {
            reasons: &["connections"], answers: &[503], hits: &["max_connections"],
            limits: "max_connections: 3", rows: LARGE, run: crowd::full_house,
        }
        full_address {
            reasons: &["connections"], answers: &[503], hits: &["max_connections_per_address"],
            limits: "max_connections_per_address: 3", rows: LARGE, run: crowd::full_address,
        }
        storm_at_the_cap {
            reasons: &["connections"], answers: &[503, CLOSED], hits: &["max_connections"],
            limits: "max_connections: 3", rows: LARGE, run: crowd::storm_at_the_cap,
        }
        half_heads {
            reasons: &["connections"], limits: "max_connections: 64, head_timeout: 1m",
            run: crowd::half_heads,
        }
        unread_pages {
            reasons: &["memory"], answers: &[200, 503], hits: &["max_inflight_bytes"],
            limits: "max_inflight_bytes: 12MiB", rows: LARGE, run: slow::unread_pages,
        }
        requests_of_other_sites {
            reasons: &["host"], answers: &[403], hits: &["hosts"],
            limits: "hosts: [metrics.example]", run: heads::requests_of_other_sites,
        }
        knocks { run: crowd::knocks, }
        resets_in_the_head { run: crowd::resets_in_the_head, }
        resets_before_the_answer { rows: LARGE, run: crowd::resets_before_the_answer, }
        resets_amid_the_answer { rows: LARGE, run: crowd::resets_amid_the_answer, }
        half_closes_in_the_head { answers: &[CLOSED], run: crowd::half_closes_in_the_head, }
        pipelined_requests { answers: &[400], run: crowd::pipelined_requests, }
        // Who pushes far more than is read may lose the answer to a reset.
        endless_heads {
            reasons: &["head_size"], answers: &[431, CLOSED], hits: &["max_head_bytes"],
            run: heads::endless_heads,
        }
        heads_a_byte_too_long {
            reasons: &["head_size"], answers: &[431], hits: &["max_head_bytes"],
            limits: "max_head_bytes: 1KiB", run: heads::heads_a_byte_too_long,
        }
        many_header_lines {
            reasons: &["header_lines"], answers: &[431, CLOSED], hits: &["max_header_lines"],
            run: heads::many_header_lines,
        }
        one_header_line_too_many {
            reasons: &["header_lines"], answers: &[431], hits: &["max_header_lines"],
            limits: "max_header_lines: 10", run: heads::one_header_line_too_many,
        }
        bodies { reasons: &["body"], answers: &[413], run: heads::bodies, }
        contradicting_lengths { reasons: &["malformed"], answers: &[400], run: heads::contradicting_lengths, }
        broken_headers { reasons: &["malformed"], answers: &[400], run: heads::broken_headers, }
        broken_hosts { reasons: &["malformed"], answers: &[400], run: heads::broken_hosts, }
        expectations { reasons: &["malformed"], answers: &[417], run: heads::expectations, }
        forged_pass { answers: &[200], run: heads::forged_pass, }
        no_requests { reasons: &["malformed"], answers: &[400], run: heads::no_requests, }
        other_versions { reasons: &["malformed"], answers: &[505], run: heads::other_versions, }
        odd_methods { reasons: &["method"], answers: &[405], run: heads::odd_methods, }
        odd_targets { reasons: &["malformed"], answers: &[400], run: heads::odd_targets, }
        strange_paths { answers: &[404], run: heads::strange_paths, }
        requests_to_a_proxy { answers: &[200], run: heads::requests_to_a_proxy, }
        strange_queries { answers: &[400], run: heads::strange_queries, }
        searches_with_markup { answers: &[200], run: heads::searches_with_markup, }
    }
}
