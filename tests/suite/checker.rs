//! Our own checker of the text exposition format 0.0.4, written against the format's page alone and sharing no
//! code with the product. It reports what promtool and prometheus_client accept: duplicate samples, families
//! in two places, heads after samples, label names that differ within one family.

pub(crate) mod openmetrics;

use std::collections::{BTreeMap, HashMap, HashSet};

/// One sample line, unescaped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// The series name, suffix included.
    pub(crate) name: String,
    /// By label name.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// A page that passed.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Family name to type; a family without a head is `untyped`.
    pub(crate) types: BTreeMap<String, String>,
    /// In order.
    pub(crate) samples: Vec<Sample>,
}

impl Page {
    /// The value of the one sample with this name whose labels include `labels`; `None` when there is none.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            let has =
                |(key, value): &(&str, &str)| sample.labels.get(*key).map(String::as_str) == Some(*value);
            sample.name == name && labels.iter().all(has)
        };
        let found: Vec<&Sample> = self.samples.iter().filter(fits).collect();
        assert!(found.len() < 2, "{name}{labels:?} fits several samples: {found:?}");
        found.first().map(|sample| sample.value)
    }

    /// All samples of one series name.
    pub(crate) fn series(&self, name: &str) -> Vec<&Sample> {
        self.samples.iter().filter(|sample| sample.name == name).collect()
    }
}

/// Reads a page and gives every fault with its line number.
pub(crate) fn check(text: &str) -> Result<Page, Vec<String>> {
    let mut checker = Checker::default();
    if !text.is_empty() && !text.ends_with('\n') {
        checker.faults.push("the last line has no end".to_owned());
    }
    for (index, line) in text.split_terminator('\n').enumerate() {
        if let Err(fault) = checker.line(line) {
            checker.faults.push(format!("line {}: {fault}: {line}", index + 1));
        }
    }
    checker.histograms();
    if checker.faults.is_empty() { Ok(checker.page) } else { Err(checker.faults) }
}

/// A page that must be good.
pub(crate) fn checked(text: &str) -> Page {
    check(text).unwrap_or_else(|faults| panic!("{}\n--- in ---\n{text}", faults.join("\n")))
}

#[derive(Default)]
struct Checker {
    page: Page,
    faults: Vec<String>,
    /// The family whose lines are being read.
    current: String,
    /// Families that have had lines, the current one included.
    seen: HashSet<String>,
    /// Families that have had samples.
    sampled: HashSet<String>,
    helped: HashSet<String>,
    /// The label names of a family's first sample, `le` and `quantile` left out. Targets may bear different
    /// labels of their own, so each value of `target` has its own first sample.
    label_names: HashMap<(String, Option<String>), Vec<String>>,
    samples: HashSet<(String, BTreeMap<String, String>)>,
}

impl Checker {
    fn line(&mut self, line: &str) -> Result<(), String> {
        // Within a label value it is a character like any other.
        if line.ends_with('\r') {
            return Err("a carriage return".to_owned());
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            return self.help(rest);
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            return self.kind(rest);
        }
        if line.starts_with('#') {
            return Err("a comment that is neither HELP nor TYPE".to_owned());
        }
        self.sample(line)
    }

    /// Makes `family` the current one; a family whose lines stood earlier is split.
    fn enter(&mut self, family: &str) -> Result<(), String> {
        if self.current == family {
            return Ok(());
        }
        self.current = family.to_owned();
        if self.seen.insert(family.to_owned()) { Ok(()) } else { Err(format!("family {family} is split")) }
    }

    fn help(&mut self, rest: &str) -> Result<(), String> {
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        legal_name(name, true)?;
        unescape(text, false)?;
        self.enter(name)?;
        if self.sampled.contains(name) {
            return Err("HELP after samples".to_owned());
        }
        if self.helped.insert(name.to_owned()) { Ok(()) } else { Err("a second HELP".to_owned()) }
    }

    fn kind(&mut self, rest: &str) -> Result<(), String> {
        let (name, kind) = rest.split_once(' ').ok_or("TYPE without a type")?;
        legal_name(name, true)?;
        self.enter(name)?;
        if !matches!(kind, "counter" | "gauge" | "histogram" | "summary" | "untyped") {
            return Err(format!("unknown type {kind}"));
        }
        if self.sampled.contains(name) {
            return Err("TYPE after samples".to_owned());
        }
        match self.page.types.insert(name.to_owned(), kind.to_owned()) {
            None => Ok(()),
            Some(_) => Err("a second TYPE".to_owned()),
        }
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let sample = parse(line)?;
        let family = self.family_of(&sample.name).to_owned();
        self.enter(&family)?;
        self.page.types.entry(family.clone()).or_insert_with(|| "untyped".to_owned());
        self.sampled.insert(family);
        self.same_label_names(&sample)?;
        if !self.samples.insert((sample.name.clone(), sample.labels.clone())) {
            return Err("a duplicate sample".to_owned());
        }
        self.page.samples.push(sample);
        Ok(())
    }

    /// The family that a series name belongs to: its suffix counts only where the type has it.
    fn family_of<'n>(&self, name: &'n str) -> &'n str {
        for (suffix, kinds) in [
            // What this format does not know is untyped: a gaugehistogram.
            ("_bucket", &["histogram", "untyped"][..]),
            ("_gsum", &["untyped"]),
            ("_gcount", &["untyped"]),
            ("_sum", &["histogram", "summary"]),
            ("_count", &["histogram", "summary"]),
        ] {
            let stem = name.strip_suffix(suffix);
            let kind = stem.and_then(|stem| self.page.types.get(stem));
            if let (Some(stem), Some(kind)) = (stem, kind)
                && kinds.contains(&kind.as_str())
            {
                return stem;
            }
        }
        name
    }

    fn same_label_names(&mut self, sample: &Sample) -> Result<(), String> {
        let own = |name: &&String| !matches!(name.as_str(), "le" | "quantile");
        let names: Vec<String> = sample.labels.keys().filter(own).cloned().collect();
        let family = (self.current.clone(), sample.labels.get("target").cloned());
        let first = self.label_names.entry(family).or_insert_with(|| names.clone());
        if *first == names {
            Ok(())
        } else {
            Err(format!("label names {names:?}, the family began with {first:?}"))
        }
    }

    /// Each histogram has rising buckets up to `+Inf`, which equals its count.
    fn histograms(&mut self) {
        let is_histogram =
            |name: &&String| self.page.types.get(*name).is_some_and(|kind| kind == "histogram");
        let names: Vec<String> = self.page.types.keys().filter(is_histogram).cloned().collect();
        for name in names {
            let mut groups: BTreeMap<BTreeMap<String, String>, Vec<(String, f64)>> = BTreeMap::new();
            for bucket in self.page.series(&format!("{name}_bucket")) {
                let mut labels = bucket.labels.clone();
                let le = labels.remove("le").unwrap_or_default();
                groups.entry(labels).or_default().push((le, bucket.value));
            }
            for (labels, buckets) in groups {
                if let Err(fault) = self.histogram(&name, &labels, &buckets) {
                    self.faults.push(format!("histogram {name}{labels:?}: {fault}"));
                }
            }
        }
    }

    fn histogram(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        buckets: &[(String, f64)],
    ) -> Result<(), String> {
        let bounds = buckets.iter().map(|(le, _)| number(le)).collect::<Result<Vec<f64>, String>>()?;
        if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("le does not rise".to_owned());
        }
        if buckets.windows(2).any(|pair| pair[0].1 > pair[1].1) {
            return Err("buckets are not cumulative".to_owned());
        }
        if bounds.last() != Some(&f64::INFINITY) {
            return Err("no +Inf bucket".to_owned());
        }
        let find = |suffix: &str| {
            let series = format!("{name}{suffix}");
            self.page.samples.iter().find(|s| s.name == series && s.labels == *labels).map(|s| s.value)
        };
        // OpenMetrics: both or neither, and neither where a bound is below 0.
        match (find("_sum"), find("_count")) {
            (None, None) => Ok(()),
            (Some(_), None) => Err("no _count".to_owned()),
            (None, Some(_)) => Err("no _sum".to_owned()),
            _ if bounds.iter().any(|bound| *bound < 0.0) => Err("a sum with a bound below 0".to_owned()),
            (_, count) if count != buckets.last().map(|(_, value)| *value) => {
                Err("_count is not the +Inf bucket".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn parse(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    legal_name(name, true)?;
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = read_labels(inner, &mut labels)?;
    }
    let mut fields = rest.strip_prefix(' ').ok_or("no blank before the value")?.split(' ');
    let value = number(fields.next().unwrap_or_default())?;
    if let Some(stamp) = fields.next() {
        stamp.parse::<i64>().map_err(|_| format!("bad timestamp {stamp:?}"))?;
    }
    if fields.next().is_some() {
        return Err("more than value and timestamp".to_owned());
    }
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// Reads `name="value",…}` and gives what follows.
fn read_labels<'l>(mut rest: &'l str, labels: &mut BTreeMap<String, String>) -> Result<&'l str, String> {
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return if labels.is_empty() { Err("empty braces".to_owned()) } else { Ok(after) };
        }
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        legal_name(name, false)?;
        let end = closing_quote(after).ok_or("a label value without an end")?;
        let value = unescape(&after[..end], true)?;
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("label {name} twice"));
        }
        rest = &after[end + 1..];
        if let Some(after) = rest.strip_prefix(',') {
            if after.starts_with('}') {
                return Err("a comma before the brace".to_owned());
            }
            rest = after;
        } else if !rest.starts_with('}') {
            return Err("no comma between labels".to_owned());
        }
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

fn unescape(text: &str, quotes: bool) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('\\') => plain.push('\\'),
            Some('n') => plain.push('\n'),
            Some('"') if quotes => plain.push('"'),
            other => return Err(format!("bad escape \\{}", other.unwrap_or(' '))),
        }
    }
    Ok(plain)
}

fn legal_name(name: &str, colon: bool) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
    if !name.is_empty() && name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(())
    } else {
        Err(format!("illegal name {name:?}"))
    }
}

/// What Go's ParseFloat and Rust's agree on, written the one way that we write it.
fn number(text: &str) -> Result<f64, String> {
    match text {
        "NaN" => return Ok(f64::NAN),
        "+Inf" => return Ok(f64::INFINITY),
        "-Inf" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e');
    if text.chars().all(plain) && !text.starts_with('+') {
        text.parse().map_err(|_| format!("bad number {text:?}"))
    } else {
        Err(format!("bad number {text:?}"))
    }
}

#[cfg(test)]
mod tests;
