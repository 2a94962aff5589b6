//! Databases that do not let the exporter in.

use std::net::TcpListener;
use std::time::Duration;

use sql_exporter::error::Reason;

use super::bench::{Bench, Query};
use super::subject::Subject;

const ONE: &str = "SELECT 1 AS value";

/// With `changes` to its entry the target is down for `reason`, whose message holds `says`, and stays so.
pub(super) fn shut<S: Subject>(changes: &[(&str, &str)], reason: Reason, says: &str) {
    let subject = S::fresh();
    let bench = Bench::new(&subject.entry(changes), &[Query::new("p", ONE), Query::new("q", ONE)]);
    for _ in 0..2 {
        let seen = bench.scrape();
        assert!(!seen.up(), "{}", seen.text);
        for query in ["p", "q"] {
            let error = seen.failed(query, reason).to_string();
            assert!(error.contains(says) && !error.contains("c4nary"), "{error}");
        }
        assert!(seen.took < Duration::from_secs(10), "{:?}", seen.took);
    }
    assert!(Bench::new(&subject.entry(&[]), &[]).scrape().up(), "without {changes:?} it is not down");
}

/// A server started with `options` has no TLS: who demands it is not let in, who prefers it is.
pub(super) fn without_tls<S: Subject>(options: &[&str]) {
    let subject = S::own(options);
    for mode in ["require", "verify-ca", "verify-full"] {
        let tls = format!("{{mode: {mode}}}");
        let seen = Bench::new(&subject.entry(&[("tls", &tls)]), &[Query::new("q", ONE)]).scrape();
        assert!(!seen.up(), "{}", seen.text);
        seen.failed("q", Reason::Tls);
    }
    let seen = Bench::new(&subject.entry(&[("tls", "{mode: prefer}")]), &[Query::new("q", ONE)]).scrape();
    assert_eq!(seen.value("q"), 1.0);
    assert_eq!(seen.page.series("sql_exporter_target_info")[0].labels["tls"], "plain text");
}

/// The port of a listener that accepts every connection and never says a word.
pub(super) fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    std::thread::spawn(move || {
        let _held: Vec<_> = listener.incoming().collect();
    });
    port
}

/// A port that nobody listens on.
pub(super) fn closed() -> String {
    crate::process::free_port().to_string()
}
