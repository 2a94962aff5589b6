//! The headers that decide about format, coding and time: whatever they hold, there is an answer, and a scrape has a
//! time within the bounds of `docs/scraping.md`.

use std::time::{Duration, Instant};

use sql_exporter::config::exporter::Exporter;
use sql_exporter::server::endpoints::metrics;
use sql_exporter::server::negotiate;
use sql_exporter::server::{BodyPart, Method, Peer, Request, Response};

const NAMES: [&str; 3] = ["accept", "accept-encoding", "x-prometheus-scrape-timeout-seconds"];

/// A header a line; its first byte says which.
fn request(text: &str) -> Request {
    let header = |line: &str| {
        let mut characters = line.chars();
        let name = NAMES[characters.next()? as usize % NAMES.len()];
        Some((name.to_owned(), characters.as_str().trim().to_owned()))
    };
    Request {
        method: Method::Get,
        path: "/metrics".to_owned(),
        query: Vec::new(),
        headers: text.lines().filter_map(header).collect(),
        peer: Peer::Unix,
        authenticated: false,
        over_tls: false,
        received: Instant::now(),
    }
}

pub(crate) fn run(data: &[u8]) {
    let request = request(&String::from_utf8_lossy(data));
    let mut response = Response::exposition(&Vec::new(), negotiate::format(&request));
    response.body = vec![BodyPart::Owned(vec![b'x'; 4096])];
    negotiate::compress(&mut response, &request);
    assert_eq!(response.status, 200);
    let coded = response.headers.iter().filter(|(name, _)| *name == "Content-Encoding").count();
    let length = response.length();
    assert!(coded <= 1 && (coded == 1) == (length < 4096), "{coded} codings of {length} bytes");

    let exporter = Exporter::default();
    let budget = metrics::time_budget(&request, &exporter);
    assert!((Duration::from_micros(7500)..=Duration::from_secs(3600)).contains(&budget), "{budget:?}");
}
