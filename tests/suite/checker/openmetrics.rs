//! Our own checker of OpenMetrics 1.0.0, written against the specification, and proven on the project's parser data.
//! It stops at the first fault.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Sample, legal_name, read_labels};

type Labels = BTreeMap<String, String>;

/// Reads a page; gives its samples, or the first fault with its line.
pub(crate) fn check(text: &str) -> Result<Vec<Sample>, String> {
    let mut checker = Checker::default();
    let mut lines = text.split('\n').enumerate();
    loop {
        let Some((number, line)) = lines.next() else { return Err("no # EOF".to_owned()) };
        if line == "# EOF" {
            break;
        }
        checker.line(line).map_err(|fault| format!("line {}: {fault}: {line}", number + 1))?;
    }
    match lines.map(|(_, line)| line).collect::<Vec<_>>()[..] {
        [] | [""] => checker.close().map(|()| checker.samples),
        _ => Err("something after # EOF".to_owned()),
    }
}

#[derive(Default)]
struct Checker {
    samples: Vec<Sample>,
    family: Family,
    /// Names of families, and those that they own.
    taken: HashSet<String>,
}

/// The family whose lines are being read.
#[derive(Default)]
struct Family {
    name: String,
    kind: Option<String>,
    unit: Option<String>,
    has_help: bool,
    points: Vec<Point>,
    groups: HashSet<Vec<(String, String)>>,
}

/// One sample of the family.
struct Point {
    suffix: String,
    labels: Labels,
    value: f64,
    stamp: Option<f64>,
    group: Vec<(String, String)>,
}

/// The suffixes of each type's samples; the first rows of OpenMetrics' table.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total", "_created"],
        "summary" => &["", "_count", "_sum", "_created"],
        "histogram" => &["_count", "_sum", "_bucket", "_created"],
        "gaugehistogram" => &["_gcount", "_gsum", "_bucket"],
        "info" => &["_info"],
        _ => &[""],
    }
}

const KINDS: &str = "unknown gauge counter stateset info histogram gaugehistogram summary";

impl Checker {
    fn line(&mut self, line: &str) -> Result<(), String> {
        match line.strip_prefix("# ") {
            Some(rest) => self.describe(rest),
            None => self.sample(line),
        }
    }

    fn describe(&mut self, rest: &str) -> Result<(), String> {
        let mut fields = rest.splitn(3, ' ');
        let (Some(what), Some(name), Some(text)) = (fields.next(), fields.next(), fields.next()) else {
            return Err("a comment that describes nothing".to_owned());
        };
        legal_name(name, true)?;
        if name != self.family.name {
            self.begin(name)?;
        }
        let family = &mut self.family;
        if !family.points.is_empty() {
            return Err("a description after samples".to_owned());
        }
        let first = match what {
            "TYPE" if KINDS.split(' ').any(|kind| kind == text) => {
                family.kind.replace(text.to_owned()).is_none()
            }
            "UNIT" if text.is_empty() || legal_name(text, true).is_ok() => {
                family.unit.replace(text.to_owned()).is_none()
            }
            "HELP" => !std::mem::replace(&mut family.has_help, true),
            _ => return Err("an unknown description".to_owned()),
        };
        if first { Ok(()) } else { Err("described twice".to_owned()) }
    }

    /// Ends the family at hand and begins another.
    fn begin(&mut self, name: &str) -> Result<(), String> {
        self.close()?;
        self.family = Family { name: name.to_owned(), ..Family::default() };
        Ok(())
    }

    /// What only a whole family shows.
    fn close(&mut self) -> Result<(), String> {
        let family = std::mem::take(&mut self.family);
        if family.name.is_empty() {
            return Ok(());
        }
        let kind = family.kind();
        let unit = family.unit.as_deref().filter(|unit| !unit.is_empty());
        let fits =
            |unit: &str| !matches!(kind, "info" | "stateset") && family.name.ends_with(&format!("_{unit}"));
        if let Some(unit) = unit.filter(|unit| !fits(unit)) {
            return Err(format!("the unit {unit} of {}, {kind}", family.name));
        }
        let names = suffixes(kind).iter().chain(&[""]).map(|suffix| format!("{}{suffix}", family.name));
        for name in names.collect::<BTreeSet<String>>() {
            if !self.taken.insert(name.clone()) {
                return Err(format!("the name {name} is taken"));
            }
        }
        if kind.ends_with("histogram") {
            family.histograms()?;
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, rest) = line.split_at(end);
        legal_name(name, true)?;
        let own = |suffix: &&&str| name.strip_suffix(**suffix) == Some(self.family.name.as_str());
        let suffix =
            match suffixes(self.family.kind()).iter().filter(|_| !self.family.name.is_empty()).find(own) {
                Some(suffix) => (*suffix).to_owned(),
                None => {
                    self.begin(name)?;
                    String::new()
                }
            };
        let (labels, rest) = labels_of(rest)?;
        let (rest, exemplar) = rest.split_once(" # ").map_or((rest, None), |(rest, more)| (rest, Some(more)));
        let (value, stamp) = value_of(rest)?;
        if let Some(exemplar) = exemplar {
            self.family.exemplar(&suffix, exemplar)?;
        }
        self.samples.push(Sample { name: name.to_owned(), labels: labels.clone(), value });
        self.family.add(suffix, labels, value, stamp)
    }
}

/// `{…}`, where there are some, and what follows.
fn labels_of(rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    match rest.strip_prefix('{') {
        None => Ok((labels, rest)),
        Some(inner) if inner.starts_with('}') => Ok((labels, &inner[1..])),
        Some(inner) => {
            let rest = read_labels(inner, &mut labels)?;
            Ok((labels, rest))
        }
    }
}

/// ` value` or ` value timestamp`.
fn value_of(rest: &str) -> Result<(f64, Option<f64>), String> {
    let mut fields = rest.strip_prefix(' ').ok_or("no blank before the value")?.split(' ');
    let value = number(fields.next().unwrap_or_default())?;
    let stamp = fields.next().map(number).transpose()?;
    if stamp.is_some_and(|stamp| !stamp.is_finite()) || fields.next().is_some() {
        return Err("no timestamp".to_owned());
    }
    Ok((value, stamp))
}

fn number(text: &str) -> Result<f64, String> {
    let plain = text.trim_start_matches(['+', '-']).to_lowercase();
    let is_word = matches!(plain.as_str(), "nan" | "inf" | "infinity");
    let is_number = plain.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | '+' | '-'));
    let number = text.parse().map_err(|_| format!("bad number {text:?}"))?;
    if is_word || is_number { Ok(number) } else { Err(format!("bad number {text:?}")) }
}

impl Family {
    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("unknown")
    }

    fn exemplar(&self, suffix: &str, exemplar: &str) -> Result<(), String> {
        let may_have = matches!(
            (self.kind(), suffix),
            ("counter", "_total") | ("histogram" | "gaugehistogram", "_bucket")
        );
        if !may_have || !exemplar.starts_with('{') {
            return Err("an exemplar where none may be".to_owned());
        }
        let (labels, rest) = labels_of(exemplar)?;
        value_of(rest)?;
        let length: usize =
            labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if length > 128 { Err("an exemplar that is too long".to_owned()) } else { Ok(()) }
    }

    fn add(&mut self, suffix: String, labels: Labels, value: f64, stamp: Option<f64>) -> Result<(), String> {
        self.check_value(&suffix, &labels, value)?;
        let group = self.group(&suffix, &labels);
        if let Some(last) = self.points.last().filter(|last| last.group == group) {
            match (last.stamp, stamp) {
                (None, None) => {}
                (Some(before), Some(now)) if before <= now || self.kind() == "info" => {}
                _ => return Err("timestamps within a group".to_owned()),
            }
            let same =
                |point: &Point| point.suffix == suffix && point.labels == labels && point.stamp == stamp;
            if stamp.is_none() && self.kind() != "info" && self.points.iter().any(same) {
                return Err("a duplicate sample".to_owned());
            }
        } else if !self.groups.insert(group.clone()) {
            return Err("a group in two places".to_owned());
        }
        self.points.push(Point { suffix, labels, value, stamp, group });
        Ok(())
    }

    /// What the samples of one metric have in common. Those of an info cannot be told apart.
    fn group(&self, suffix: &str, labels: &Labels) -> Vec<(String, String)> {
        let own = match (self.kind(), suffix) {
            ("info", _) => return Vec::new(),
            ("summary", "") => "quantile",
            ("stateset", _) => self.name.as_str(),
            ("histogram" | "gaugehistogram", "_bucket") => "le",
            _ => "",
        };
        let rest = labels.iter().filter(|(name, _)| *name != own);
        rest.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn check_value(&self, suffix: &str, labels: &Labels, value: f64) -> Result<(), String> {
        let label = |name: &str| labels.get(name).map(String::as_str);
        let good = match (self.kind(), suffix) {
            ("stateset", _) => label(&self.name).is_some() && (value == 0.0 || value == 1.0),
            ("info", _) => value == 1.0,
            ("summary", "") => {
                let quantile = label("quantile").and_then(|quantile| number(quantile).ok());
                quantile.is_some_and(|quantile| (0.0..=1.0).contains(&quantile))
                    && (value >= 0.0 || value.is_nan())
            }
            (_, "_bucket") => {
                let is_bound =
                    label("le").is_some_and(|le| le == "+Inf" || number(le).is_ok_and(f64::is_finite));
                is_bound && value >= 0.0 && value.fract() == 0.0
            }
            (_, "_count" | "_gcount") => value >= 0.0 && value.fract() == 0.0,
            (_, "_total" | "_sum") => value >= 0.0,
            (_, "_gsum") => !value.is_nan(),
            _ => true,
        };
        if good { Ok(()) } else { Err(format!("no {} has this", self.kind())) }
    }

    /// Each histogram at each moment: buckets that rise up to `+Inf`, sum and count that agree.
    fn histograms(&self) -> Result<(), String> {
        let same = |one: &Point, other: &Point| one.group == other.group && one.stamp == other.stamp;
        self.points.chunk_by(same).try_for_each(histogram)
    }
}

fn histogram(points: &[Point]) -> Result<(), String> {
    let value = |suffix: &str| points.iter().find(|point| point.suffix == suffix).map(|point| point.value);
    let buckets = points.iter().filter(|point| point.suffix == "_bucket");
    let buckets: Vec<(f64, f64)> = buckets
        .map(|point| Ok((number(&point.labels["le"])?, point.value)))
        .collect::<Result<_, String>>()?;
    let (sum, gsum) = (value("_sum"), value("_gsum"));
    let count = value("_count").or(value("_gcount"));
    let has_negative = buckets.iter().any(|(le, _)| *le < 0.0);
    let fault = match buckets.last() {
        _ if buckets.windows(2).any(|pair| pair[0].0 >= pair[1].0) => "bounds that do not rise",
        _ if buckets.windows(2).any(|pair| pair[0].1 > pair[1].1) => "buckets that fall",
        None => "no bucket",
        Some((le, _)) if *le != f64::INFINITY => "no +Inf bucket",
        Some((_, all)) if count.is_some_and(|count| count != *all) => "a count that is not the +Inf bucket",
        _ if (sum.is_some() || gsum.is_some()) != count.is_some() => "a sum or a count alone",
        _ if has_negative && sum.is_some() => "a sum with a bound below 0",
        _ if !has_negative && gsum.is_some_and(|sum| sum < 0.0) => "a negative sum",
        _ => return Ok(()),
    };
    Err(format!("a histogram with {fault}"))
}

/// The project's own data: each page is read or refused as it says.
#[test]
fn the_checker_judges_the_parser_data_of_openmetrics() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/openmetrics-parsers");
    let Ok(cases) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    // A backslash before any other character stands for both there; what we write has none, and is refused for it.
    const STRICTER: [&str; 2] = ["escaping", "label_escaping"];
    let mut wrong = Vec::new();
    for case in cases.map(|case| case.expect("a folder").path()).filter(|case| case.is_dir()) {
        let told = std::fs::read_to_string(case.join("test.json")).expect("a case");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let page = std::fs::read(case.join(told["file"].as_str().expect("a file"))).expect("a page");
        let read = String::from_utf8(page).map_err(|error| error.to_string()).and_then(|page| check(&page));
        let is_stricter = STRICTER.iter().any(|name| case.ends_with(name)) && read.is_err();
        if !is_stricter && read.is_ok() != told["shouldParse"].as_bool().expect("a verdict") {
            wrong.push(format!("{}: {:?}", case.display(), read.err()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
