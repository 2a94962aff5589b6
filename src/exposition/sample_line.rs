//! Reads a sample line of any exporter, or of a person, in either format. What this program writes is in `line`.
//!
//! It accepts what Prometheus accepts, and blanks and tabs between the words. Time and memory are linear in the length of
//! the line, which the caller bounds.

use std::collections::BTreeMap;

use crate::name::{LabelName, MetricName};

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With the suffix of the type, such as `_bucket`.
    pub name: String,
    /// Their values without escapes.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
    /// As written: OpenMetrics has seconds, the text format milliseconds.
    pub timestamp: Option<f64>,
}

impl Sample {
    /// Reads a line. Blanks and tabs may stand between its words; an exemplar is dropped.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &str) -> Result<Sample, String> {
        let end = line.find([' ', '\t', '{']).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        MetricName::new(name)?;
        let (labels, rest) = match rest.trim_start_matches([' ', '\t']).strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let (value, timestamp) = value(rest)?;
        Ok(Sample { name: name.to_owned(), labels, value, timestamp })
    }
}

/// `\\`, `\n` and `\"` as what they stand for; other backslashes stay.
pub fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some(escaped @ ('\\' | '"' | 'n'))) => {
                out.push(if escaped == 'n' { '\n' } else { escaped });
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

/// The labels behind the opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    const BLANKS: [char; 2] = [' ', '\t'];
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, quoted) = rest.split_once('=').ok_or("the labels have no end")?;
        let name = name.trim_end_matches(BLANKS);
        LabelName::new(name)?;
        let quoted = quoted.trim_start_matches(BLANKS).strip_prefix('"');
        let quoted = quoted.ok_or_else(|| format!("the value of label {name} is not in quotes"))?;
        let end = closing_quote(quoted).ok_or_else(|| format!("the value of label {name} has no end"))?;
        let (value, after) = quoted.split_at(end);
        if labels.insert(name.to_owned(), unescaped(value)).is_some() {
            return Err(format!("label {name} is there twice"));
        }
        rest = after.strip_prefix('"').unwrap_or(after).trim_start_matches(BLANKS);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.starts_with('}') => {}
            None => return Err(format!("no comma and no brace after label {name}")),
        }
    }
}

/// Where the first quote is that no backslash escapes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

/// The value and a timestamp; an exemplar may follow.
fn value(rest: &str) -> Result<(f64, Option<f64>), String> {
    let (before, _exemplar) = rest.split_once('#').unwrap_or((rest, ""));
    let mut words = before.split([' ', '\t']).filter(|word| !word.is_empty());
    let word = words.next().ok_or("there is no value")?;
    let value: f64 = word.parse().map_err(|_| format!("the value {word:?} is not a number"))?;
    let timestamp = words.next().map(|stamp| {
        let number = stamp.parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| format!("the timestamp {stamp:?} is not a number"))
    });
    let timestamp = timestamp.transpose()?;
    match words.next() {
        None => Ok((value, timestamp)),
        Some(word) => Err(format!("{word:?} after the timestamp")),
    }
}
