//! Results: without values, without rows, with very many.

use sql_exporter::error::Reason;

use crate::checker::checked;
use crate::exporter::Exporter;
use crate::{judges, process};

use super::bench::{Bench, Query, config};
use super::subject::Subject;

/// `sql` gives one row of a NULL `value` and a NULL `label`.
pub(super) fn null<S: Subject>(sql: &str) {
    let metrics = "{name: skipped}, {name: skipped_too, labels: [label], null: skip}, {name: counted, null: 7}, \
         {name: unknown, null: nan}, {name: labelled, labels: [label], value: 1}";
    let queries = [Query::new("nothing", sql).metrics(metrics)];
    let seen = Bench::new(&S::fresh().entry(&[]), &queries).scrape();
    seen.good("nothing");
    let values = |name| seen.page.series(name).iter().map(|sample| sample.value).collect::<Vec<_>>();
    assert_eq!((values("skipped"), values("skipped_too")), (vec![], vec![]));
    assert_eq!(values("counted"), [7.0]);
    assert!(matches!(values("unknown")[..], [unknown] if unknown.is_nan()), "{}", seen.text);
    assert!(seen.text.contains("labelled{target=\"t\",label=\"\"} 1\n"), "{}", seen.text);
    assert_eq!(seen.own("query_rows", "nothing"), Some(1.0));
}

/// `sql` gives a column `value` and no row.
pub(super) fn without_rows<S: Subject>(sql: &str) {
    let queries = [
        Query::new("empty", sql),
        Query::new("zero", sql).metrics("{name: zero, empty: 0}"),
        Query::new("amiss", sql).metrics("{name: amiss, value_column: valeu}"),
    ];
    let seen = Bench::new(&S::fresh().entry(&[]), &queries).scrape();
    seen.good("empty");
    assert!(seen.page.series("empty").is_empty(), "{}", seen.text);
    assert_eq!((seen.own("query_rows", "empty"), seen.own("query_series", "empty")), (Some(0.0), Some(0.0)));
    assert_eq!(seen.value("zero"), 0.0);
    // The columns are there also where no row is.
    let error = seen.failed("amiss", Reason::MissingColumn);
    assert_eq!(error.message(), "the result has no column `valeu`; it has `value`");
}

/// `before` prepares, `sql` fails for `reason` after its fifty-thousandth row, with `says` in the message.
pub(super) fn late_error<S: Subject>(before: &str, sql: &str, reason: Reason, says: &str) {
    let subject = S::fresh();
    subject.run(before);
    let limits = "max_series: 200000";
    let queries =
        [Query::new("broken", sql).labels("value").with(limits), Query::new("next", "SELECT 1 AS value")];
    let bench = Bench::new(&subject.entry(&[("max_connections", "1")]), &queries);
    for _ in 0..2 {
        let seen = bench.scrape();
        let error = seen.failed("broken", reason).to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(seen.value("next"), 1.0);
        assert!(seen.up() && bench.only("next").value("next") == 1.0);
    }
}

/// `sql` gives a text of 16 MB in `huge`, and 1 in `value`.
pub(super) fn huge_text<S: Subject>(sql: &str) {
    let queries = [
        Query::new("ignored", sql),
        Query::new("label", sql).labels("huge"),
        Query::new("number", sql).metrics("{name: number, value_column: huge}"),
    ];
    let subject = S::fresh();
    let entry = subject.entry(&[("max_connections", "1")]);
    let seen = Bench::with(&entry, &queries, "{max_cell_bytes: 20MiB}").scrape();
    assert_eq!(seen.value("ignored"), 1.0);
    let error = seen.failed("label", Reason::Limit).message();
    assert_eq!(error, "column `huge`: a label value of 16777216 bytes, max_label_length is 1024");
    let error = seen.failed("number", Reason::Value).message();
    assert!(error.contains("(16777216 bytes) is not a number") && error.len() < 200, "{error}");
}

/// Characters in one label: few enough for the limit of its bytes, so many that the labels are few.
const CHUNK: usize = 64;

/// `decoded` makes text of the UTF-8 in hexadecimal that stands for `{}`; `first` is the first character that the
/// database can keep.
pub(super) fn unicode<S: Subject>(decoded: &str, first: char) {
    let characters: Vec<char> = (first..=char::MAX).collect();
    let labels: Vec<String> = characters.chunks(CHUNK).map(|chunk| chunk.iter().collect()).collect();
    let subject = S::fresh();
    subject.run("CREATE TABLE texts (value INT, label TEXT)");
    for (at, part) in labels.chunks(2_000).enumerate() {
        let row = |(index, label): (usize, &String)| {
            let hexadecimal: String = label.bytes().map(|byte| format!("{byte:02x}")).collect();
            format!("({}, {})", at * 2_000 + index, decoded.replace("{}", &hexadecimal))
        };
        let rows: Vec<String> = part.iter().enumerate().map(row).collect();
        subject.run(&format!("INSERT INTO texts VALUES {}", rows.join(", ")));
    }
    let query = Query::new("texts", "SELECT value, label FROM texts ORDER BY value").labels("label");
    let seen = Bench::new(&subject.entry(&[]), &[query]).scrape();
    seen.good("texts");
    judges::promtool(&seen.text).expect("promtool reads it");
    let ours =
        seen.page.series("texts").into_iter().map(|sample| (sample.value, sample.labels["label"].clone()));
    assert_labels(&labels, ours, "our checker");
    let theirs = judges::prometheus_client(&seen.text).expect("prometheus_client reads it").into_iter();
    let theirs = theirs.filter(|sample| sample.name == "texts");
    let theirs =
        theirs.map(|sample| (sample.value.parse().expect("a number"), sample.labels["label"].clone()));
    assert_labels(&labels, theirs, "prometheus_client");
}

fn assert_labels(expected: &[String], found: impl Iterator<Item = (f64, String)>, reader: &str) {
    let mut count = 0;
    for ((value, label), (index, expected)) in found.zip(expected.iter().enumerate()) {
        assert!(value == index as f64 && label == *expected, "{reader}: {label:?} is not {expected:?}");
        count += 1;
    }
    assert_eq!(count, expected.len(), "{reader}");
}

/// What a large page may take beside itself: buffers, and the table that finds duplicates.
const BESIDE: usize = 8 << 20;

/// `sql` gives a hundred thousand rows of a distinct `label` and a `value`.
pub(super) fn streamed<S: Subject>(sql: &str) {
    let queries = [
        Query::new("large", sql).labels("label").with("max_series: 100000"),
        Query::new("small", "SELECT 1 AS value"),
    ];
    let subject = S::fresh();
    let exporter = Exporter::serve(&config(&subject.entry(&[]), &queries, "{}"));
    let page = |query: &str| {
        let reply = exporter.get(&format!("/metrics?query={query}"));
        assert_eq!(reply.status, 200);
        let peak = process::peak_memory(exporter.pid());
        (reply.text().to_owned(), peak)
    };
    let (_, baseline) = page("small");
    let (text, peak) = page("large");
    let samples = checked(&text).series("large").len();
    assert_eq!(samples, 100_000, "{}", exporter.log());
    let most = baseline + text.len() + BESIDE;
    assert!(peak <= most, "peak {peak}, at most {most}: before {baseline}, the page {}", text.len());
}
