//! Judges of an exposition that are not ours: promtool and prometheus_client's text parser.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::checker::{Page, checked};
use crate::process::{is_complete, variable};

/// Passes a page through all three judges and returns what our own checker read. Without `tests/run` there is only our
/// own checker.
pub(crate) fn judge(text: &str) -> Page {
    if !is_complete() {
        return checked(text);
    }
    promtool(text).unwrap_or_else(|error| panic!("promtool: {error}\n--- in ---\n{text}"));
    let page = checked(text);
    let parsed = prometheus_client(text).unwrap_or_else(|error| panic!("prometheus_client: {error}"));
    assert_eq!(parsed.len(), page.samples.len(), "prometheus_client counts other samples than our checker");
    page
}

/// promtool's parse. A lint (exit 3) is an opinion about names, no fault.
pub(crate) fn promtool(text: &str) -> Result<(), String> {
    let program = variable("TEST_PROMTOOL");
    let output = feed(Command::new(program).args(["check", "metrics"]), text);
    match output.status.code() {
        Some(0 | 3) => Ok(()),
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A sample as prometheus_client read it; `NaN` and the infinities as their text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) family: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: String,
}

const PARSER: &str = r"
import json, sys
from prometheus_client.parser import text_string_to_metric_families
text = sys.stdin.buffer.read().decode('utf-8')
rows = [[f.name, f.type, s.name, s.labels, repr(s.value)]
        for f in text_string_to_metric_families(text) for s in f.samples]
json.dump(rows, sys.stdout)
";

/// What prometheus_client's parser of the text format reads.
pub(crate) fn prometheus_client(text: &str) -> Result<Vec<Parsed>, String> {
    client(PARSER, text)
}

fn client(script: &str, text: &str) -> Result<Vec<Parsed>, String> {
    let program = variable("TEST_PYTHON");
    let output = feed(Command::new(program).args(["-c", script]), text);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    rows.iter().map(|row| parsed(row).ok_or_else(|| format!("unexpected {row}"))).collect()
}

fn parsed(row: &Value) -> Option<Parsed> {
    let text = |index: usize| Some(row.get(index)?.as_str()?.to_owned());
    let labels = row.get(3)?.as_object()?;
    let labels = labels.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Some(Parsed {
        family: text(0)?,
        kind: text(1)?,
        name: text(2)?,
        labels: labels.collect::<Option<_>>()?,
        value: text(4)?,
    })
}

const OPENMETRICS: &str = r"
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
text = sys.stdin.buffer.read().decode('utf-8')
rows = [[f.name, f.type, s.name, s.labels, repr(float(s.value))]
        for f in text_string_to_metric_families(text) for s in f.samples]
json.dump(rows, sys.stdout)
";

/// Passes a page of OpenMetrics through both judges, prometheus_client's strict parser and our own checker; gives what
/// the parser read.
pub(crate) fn openmetrics(text: &str) -> Vec<Parsed> {
    let parsed = client(OPENMETRICS, text);
    let parsed = parsed.unwrap_or_else(|error| panic!("openmetrics: {error}\n--- in ---\n{text}"));
    let ours = crate::checker::openmetrics::check(text);
    let ours = ours.unwrap_or_else(|fault| panic!("{fault}\n--- in ---\n{text}"));
    assert_eq!(parsed.len(), ours.len(), "the parser counts other samples than our checker");
    parsed
}

/// Runs a command on `input`. The input is written on a thread of its own: a full pipe must not block both sides.
fn feed(command: &mut Command, input: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut pipe = child.stdin.take().expect("stdin is a pipe");
    std::thread::scope(|scope| {
        // A judge that has seen enough closes its side: its exit code tells.
        scope.spawn(move || pipe.write_all(input.as_bytes()));
        child.wait_with_output().expect("the judge ends")
    })
}
