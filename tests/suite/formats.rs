//! Both formats: golden pages of each type before all judges, and what is negotiated over HTTP.
//!
//! A type's page is `tests/golden/NAME.yaml` on an empty SQLite file; `TEST_BLESS=1` writes the missing `.txt`
//! (text) and `.om` (OpenMetrics).

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::checker::checked;
use crate::command::setup;
use crate::exporter::Exporter;
use crate::judges::{judge, openmetrics};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The names of all golden pages.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(folder()).expect("golden pages");
    let names =
        files.filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn golden(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.yaml"))).expect("a configuration")
}

/// The page in one format, held against its file.
fn page(name: &str, format: &str, suffix: &str) -> String {
    let output = setup(&golden(name)).args(&["collect", "--no-self-metrics", "--format", format]).output();
    assert_eq!(output.code(), 0, "{name}: {}", output.errors());
    let file = folder().join(format!("{name}.{suffix}"));
    if std::env::var_os("TEST_BLESS").is_some() && !file.exists() {
        std::fs::write(&file, output.text()).expect("a golden page");
    }
    let expected = std::fs::read_to_string(&file).expect("a golden page");
    assert_eq!(output.text(), expected, "{}", file.display());
    output.text().to_owned()
}

/// Lines of samples; explicit timestamps, which each format writes in its own way, are left out.
fn samples(text: &str) -> Vec<&str> {
    let value_ends = |line: &str| {
        let labels = line.rfind('}').map_or(0, |end| end + 1);
        line[labels..].match_indices(' ').nth(1).map_or(line.len(), |(at, _)| labels + at)
    };
    text.lines().filter(|line| !line.starts_with('#')).map(|line| &line[..value_ends(line)]).collect()
}

#[test]
fn every_type_passes_all_judges_in_both_formats_and_says_the_same_in_both() {
    let names = names();
    assert!(names.len() >= 10, "{names:?}");
    for name in &names {
        let (text, open) = (page(name, "text", "txt"), page(name, "openmetrics", "om"));
        assert_eq!(samples(&text), samples(&open), "{name}");
        let (one, other) = (judge(&text), openmetrics(&open));
        let same = one.samples.iter().all(|sample| {
            other.iter().any(|parsed| {
                let value: f64 = parsed.value.parse().expect("a number");
                let is_same = value == sample.value || value.is_nan() && sample.value.is_nan();
                parsed.name == sample.name && parsed.labels == sample.labels && is_same
            })
        });
        assert!(same && one.samples.len() == other.len(), "{name}: {:?}\n{other:?}", one.samples);
    }
}

/// All golden queries in one exporter, but for those with timestamps of their own, which are long ago.
pub(crate) fn all() -> Exporter {
    let queries: String = names()
        .iter()
        .filter(|name| *name != "timestamp")
        .map(|name| {
            let text = golden(name);
            let (_, queries) = text.split_once("queries:\n").expect("queries");
            queries.replace("- name: ", &format!("- name: {name}_"))
        })
        .collect();
    setup(&format!("databases: {{shop: {{driver: sqlite, database: shop.db}}}}\nqueries:\n{queries}")).serve()
}

#[test]
fn a_page_with_the_exporters_own_metrics_is_openmetrics() {
    let exporter = all();
    for path in ["/metrics", "/-/metrics", "/metrics?target=shop"] {
        let reply = exporter.get_with(path, &[("Accept", "application/openmetrics-text;version=1.0.0")]);
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(reply.header("content-type"), Some(content_type));
        assert!(!openmetrics(reply.text()).is_empty(), "{path}");
    }
}

#[test]
fn the_format_is_negotiated_and_never_refused() {
    let exporter = all();
    let (text, open) = (
        "text/plain; version=0.0.4; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    );
    let nonsense = "q=,;\"/*".repeat(1_400);
    let cases = [
        // Prometheus 2.42, and 3 with native histograms.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            open,
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            open,
        ),
        ("text/plain;version=0.0.4", text),
        ("application/openmetrics-text;q=0, */*", text),
        ("image/png", text),
        ("", text),
        (&nonsense, text),
    ];
    for (accept, expected) in cases {
        let reply = exporter.get_with("/-/metrics", &[("Accept", accept)]);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(expected)), "{accept}");
        assert_eq!(reply.header("vary"), Some("Accept, Accept-Encoding"));
    }
    let two = [("Accept", "image/png"), ("Accept", "application/openmetrics-text")];
    assert_eq!(
        exporter.get_with("/-/metrics", &two).header("content-type"),
        Some(open),
        "two headers are one list"
    );
}

#[test]
fn a_compressed_page_is_the_page() {
    let exporter = all();
    let plain = exporter.get_with("/metrics?query=gauge_stock", &[("Accept-Encoding", "gzip;q=0")]);
    assert_eq!(plain.header("content-encoding"), None);
    let reply = exporter.get_with("/metrics", &[("Accept-Encoding", "gzip, deflate")]);
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(reply.body.as_slice()).read_to_string(&mut text).expect("gzip");
    assert!(checked(&text).value("stock", &[("item", "né 💚")]) == Some(-2.5), "{text}");
    assert!(reply.body.len() < text.len() / 2);
    assert_eq!(exporter.get("/metrics").header("content-encoding"), None);
    let healthy = exporter.get_with("/-/healthy", &[("Accept-Encoding", "gzip")]);
    assert_eq!(
        (healthy.header("content-encoding"), healthy.text()),
        (None, "sql-exporter is healthy\n"),
        "too short to gain"
    );
    let head = exporter.request("HEAD", "/-/metrics", &[("Accept-Encoding", "gzip")]);
    assert!(head.body.is_empty() && head.header("content-length").is_some());
}
