//! What differs between two pages: families, types, labels, series, values.
//!
//! Families of an exporter about itself are not compared where the other side has none of that name. Knows no HTTP and no
//! format.

use std::collections::{BTreeMap, BTreeSet};

use super::page::{Page, PageFamily, kind_name};
use crate::config::glob::Pattern;
use crate::exposition::sample_line::Sample;
use crate::exposition::{FamilyKind, line};
use crate::plain_text::counted;
use crate::value::float;

/// What exporters say about themselves: a name, or how names begin.
const ABOUT_ITSELF: &[&str] = &[
    // Client libraries of Go and Python.
    "go_*",
    "process_*",
    "promhttp_*",
    "python_*",
    // postgres_exporter, mysqld_exporter, pg_exporter and pgbouncer_exporter.
    "pg_exporter_*",
    "pg_scrape_collector_*",
    "postgres_exporter_*",
    "mysql_exporter_*",
    "mysqld_exporter_*",
    "pgbouncer_exporter_*",
    // justwatch/sql_exporter and burningalchemist/sql_exporter.
    "sql_exporter_*",
    "query_duration_seconds",
    "query_rows_returned",
    "scrape_duration_seconds",
    "scrape_errors_total",
    "up",
    // query-exporter.
    "database_errors_total",
    "queries_total",
    "query_interval",
    "query_latency",
    "query_timestamp",
];

/// Differences of one family that are shown one by one.
const MAX_ROWS: usize = 50;

/// Values of one series that are shown one by one.
const MAX_VALUES: usize = 5;

/// Names in one note.
const MAX_NAMES: usize = 10;

/// How far two values may be apart, as a part of the larger one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::commands::import) struct Tolerance(f64);

/// Reads the value of `--tolerance`.
///
/// # Errors
/// A sentence that says what a tolerance looks like.
pub(in crate::commands::import) fn read_tolerance(text: &str) -> Result<Tolerance, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Tolerance(percent / 100.0)),
        _ => Err(format!("{text:?} is not a tolerance: write a part of the value, such as 1% or 0.01%")),
    }
}

impl Tolerance {
    fn allows(self, one: f64, other: f64) -> bool {
        let is_near = || (one - other).abs() <= self.0 * one.abs().max(other.abs());
        one == other
            || (one.is_nan() && other.is_nan())
            || (one.is_finite() && other.is_finite() && is_near())
    }
}

/// What does not count.
pub(super) struct CompareRules {
    /// Names of families and samples.
    pub(super) ignore: Vec<Pattern>,
    /// Labels of both sides.
    pub(super) ignore_labels: Vec<String>,
    pub(super) tolerance: Tolerance,
    /// The label that we add to each series; empty for none. It counts in a family where the old exporter has it, too.
    pub(super) target_label: String,
}

/// One line of the report.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DifferenceRow {
    /// `family`, `type`, `label`, `series` or `value`.
    pub(super) what: &'static str,
    /// The family or the series.
    pub(super) of: String,
    pub(super) old: String,
    pub(super) ours: String,
}

/// What a comparison found.
#[derive(Debug, Default)]
pub(super) struct ComparedPages {
    /// In the order of the families' names.
    pub(super) rows: Vec<DifferenceRow>,
    /// As many as `rows` would have without a limit.
    pub(super) differences: usize,
    /// Families that at least one side has.
    pub(super) families: usize,
    /// Series that at least one side has.
    pub(super) series: usize,
    /// What the old exporter alone says about itself, as in [`ABOUT_ITSELF`], and how many families that is.
    about_itself: BTreeMap<&'static str, usize>,
    /// Samples of the old exporter that say since when something is counted.
    created: usize,
    /// Samples that [`CompareRules::ignore`] left out, of both sides.
    ignored: usize,
    /// The patterns that match nothing.
    unused: Vec<String>,
    /// Families with two help texts, which is not a difference.
    helps: Vec<String>,
}

impl ComparedPages {
    /// Sentences on what was left out, and on what is not a difference.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.about_itself.is_empty() {
            let count = self.about_itself.values().sum::<usize>();
            let names: Vec<String> = self.about_itself.keys().map(|name| (*name).to_owned()).collect();
            notes.push(format!(
                "not compared: {} of the old exporter about itself ({})",
                counted(count, "family", "families"),
                listed(&names, ABOUT_ITSELF.len())
            ));
        }
        if self.created > 0 {
            notes.push(format!(
                "not compared: {} ending in _created: since when the old exporter counts",
                counted(self.created, "sample", "samples")
            ));
        }
        if self.ignored > 0 {
            notes.push(format!("not compared: {} by --ignore", counted(self.ignored, "sample", "samples")));
        }
        notes.extend(self.unused.iter().map(|pattern| format!("--ignore {pattern} matches nothing")));
        if !self.helps.is_empty() {
            notes.push(format!(
                "not a difference: the help text of {} ({})",
                counted(self.helps.len(), "family", "families"),
                listed(&self.helps, MAX_NAMES)
            ));
        }
        notes
    }

    fn add(&mut self, what: &'static str, of: &str, old: impl Into<String>, ours: impl Into<String>) {
        self.rows.push(DifferenceRow { what, of: of.to_owned(), old: old.into(), ours: ours.into() });
        self.differences += 1;
    }

    /// Drops rows of the last family above the limit.
    fn shorten_since(&mut self, first: usize, family: &str) {
        let more = self.rows.len().saturating_sub(first + MAX_ROWS);
        if more > 0 {
            self.rows.truncate(first + MAX_ROWS);
            let row = DifferenceRow {
                what: "…",
                of: format!("{more} more of {family}"),
                old: String::new(),
                ours: String::new(),
            };
            self.rows.push(row);
        }
    }
}

/// Some names, and how many more there are.
fn listed(names: &[String], most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let shown = names.get(..most).unwrap_or(names).join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn about_itself(name: &str) -> Option<&'static str> {
    let fits =
        |known: &&&str| known.strip_suffix('*').map_or(**known == name, |start| name.starts_with(start));
    ABOUT_ITSELF.iter().find(fits).copied()
}

/// Compares the page of an old exporter with ours.
pub(super) fn compare(mut old: Page, mut ours: Page, rules: &CompareRules) -> ComparedPages {
    let mut compared = ComparedPages { created: old.created, ..ComparedPages::default() };
    let mut used = vec![false; rules.ignore.len()];
    for page in [&mut old, &mut ours] {
        compared.ignored += drop_ignored(page, &rules.ignore, &mut used);
    }
    let unused = rules.ignore.iter().zip(&used).filter(|(_, used)| !**used);
    compared.unused = unused.map(|(pattern, _)| pattern.text().to_owned()).collect();
    let names: BTreeSet<String> = old.families.keys().chain(ours.families.keys()).cloned().collect();
    for name in names {
        let first = compared.rows.len();
        match (old.families.remove(&name), ours.families.remove(&name)) {
            (Some(old), Some(ours)) => compare_family(&name, old, ours, rules, &mut compared),
            (Some(old), None) => match about_itself(&name) {
                Some(known) => {
                    *compared.about_itself.entry(known).or_default() += 1;
                    continue;
                }
                None => add_lone(&name, Some(&old), None, &mut compared),
            },
            (None, ours) => add_lone(&name, None, ours.as_ref(), &mut compared),
        }
        compared.families += 1;
        compared.shorten_since(first, &name);
    }
    compared
}

/// Removes the samples whose name, or whose family's name, matches; returns how many.
fn drop_ignored(page: &mut Page, patterns: &[Pattern], used: &mut [bool]) -> usize {
    let mut count = 0;
    page.families.retain(|family, PageFamily { samples, .. }| {
        let before = samples.len();
        samples.retain(|sample| {
            let mut is_kept = true;
            for (pattern, used) in patterns.iter().zip(&mut *used) {
                if pattern.matches(family) || pattern.matches(&sample.name) {
                    (*used, is_kept) = (true, false);
                }
            }
            is_kept
        });
        count += before - samples.len();
        !samples.is_empty()
    });
    count
}

/// A family that one side has.
fn add_lone(name: &str, old: Option<&PageFamily>, ours: Option<&PageFamily>, compared: &mut ComparedPages) {
    let told = |family: Option<&PageFamily>| match family {
        Some(family) => format!("{}, {} series", kind_name(family.kind), family.samples.len()),
        None => "-".to_owned(),
    };
    compared.series += [old, ours].into_iter().flatten().map(|family| family.samples.len()).sum::<usize>();
    compared.add("family", name, told(old), told(ours));
}

/// The values of a series on both sides, sorted. There are several where the labels that tell them apart do not count.
type SeriesValues = [Vec<f64>; 2];

fn compare_family(
    name: &str,
    mut old: PageFamily,
    mut ours: PageFamily,
    rules: &CompareRules,
    compared: &mut ComparedPages,
) {
    if old.kind != ours.kind {
        compared.add("type", name, kind_name(old.kind), kind_name(ours.kind));
    }
    if old.help != ours.help {
        compared.helps.push(name.to_owned());
    }
    clean(&mut old, &rules.ignore_labels);
    clean(&mut ours, &rules.ignore_labels);
    let old_labels = label_names(&old);
    if !old_labels.contains(&rules.target_label) {
        for sample in &mut ours.samples {
            sample.labels.remove(&rules.target_label);
        }
    }
    let our_labels = label_names(&ours);
    let lone: BTreeSet<String> = old_labels.symmetric_difference(&our_labels).cloned().collect();
    for label in &lone {
        let side = |labels: &BTreeSet<String>| if labels.contains(label) { label.as_str() } else { "-" };
        compared.add("label", name, side(&old_labels), side(&our_labels));
    }
    let mut series: BTreeMap<String, SeriesValues> = BTreeMap::new();
    for (side, family) in [old, ours].into_iter().enumerate() {
        for mut sample in family.samples {
            sample.labels.retain(|label, _| !lone.contains(label));
            if let Some(values) = series.entry(written(&sample)).or_default().get_mut(side) {
                values.push(sample.value);
            }
        }
    }
    compared.series += series.len();
    for (of, values) in &mut series {
        compare_values(of, values, rules.tolerance, compared);
    }
}

/// Labels as Prometheus knows them: an empty one is none, and bounds and quantiles are numbers.
fn clean(family: &mut PageFamily, ignored: &[String]) {
    let bound = match family.kind {
        FamilyKind::Histogram | FamilyKind::GaugeHistogram => "le",
        FamilyKind::Summary => "quantile",
        _ => "",
    };
    for sample in &mut family.samples {
        sample.labels.retain(|name, value| !value.is_empty() && !ignored.contains(name));
        if let Some(value) = sample.labels.get_mut(bound)
            && let Ok(number) = value.parse::<f64>()
        {
            *value = number_text(number);
        }
    }
}

/// The labels of a family, without those that its type gives it.
fn label_names(family: &PageFamily) -> BTreeSet<String> {
    let names = family.samples.iter().flat_map(|sample| sample.labels.keys());
    names.filter(|name| !matches!(name.as_str(), "le" | "quantile")).cloned().collect()
}

fn compare_values(
    of: &str,
    [old, ours]: &mut SeriesValues,
    tolerance: Tolerance,
    compared: &mut ComparedPages,
) {
    old.sort_by(f64::total_cmp);
    ours.sort_by(f64::total_cmp);
    let is_same =
        old.len() == ours.len() && old.iter().zip(&*ours).all(|(old, ours)| tolerance.allows(*old, *ours));
    if !is_same {
        let what = if old.is_empty() || ours.is_empty() { "series" } else { "value" };
        compared.add(what, of, values_text(old), values_text(ours));
    }
}

fn values_text(values: &[f64]) -> String {
    let texts: Vec<String> = values.iter().map(|value| number_text(*value)).collect();
    if texts.is_empty() { "-".to_owned() } else { listed(&texts, MAX_VALUES) }
}

fn number_text(value: f64) -> String {
    let mut text = String::new();
    float::write(value, |part| text.push_str(part));
    text
}

/// `name{label="value"}`, with the labels in order.
fn written(sample: &Sample) -> String {
    let mut out = sample.name.clone().into_bytes();
    for (index, (name, value)) in sample.labels.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{" } else { b"," });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        line::label_value(value, &mut out);
        out.push(b'"');
    }
    if !sample.labels.is_empty() {
        out.push(b'}');
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::page::{Syntax, read};
    use super::*;

    fn rules() -> CompareRules {
        CompareRules {
            ignore: Vec::new(),
            ignore_labels: Vec::new(),
            tolerance: Tolerance::default(),
            target_label: "target".to_owned(),
        }
    }

    fn compared(old: &str, ours: &str, rules: &CompareRules) -> ComparedPages {
        let page = |text| read(text, Syntax::Text).unwrap();
        compare(page(old), page(ours), rules)
    }

    /// The rows as text.
    fn rows(old: &str, ours: &str, rules: &CompareRules) -> Vec<String> {
        let compared = compared(old, ours, rules);
        assert_eq!(compared.rows.len(), compared.differences);
        let row =
            |DifferenceRow { what, of, old, ours }: &DifferenceRow| format!("{what} {of} | {old} | {ours}");
        compared.rows.iter().map(row).collect()
    }

    #[test]
    fn what_is_equal_differs_in_nothing() {
        let old = "# HELP a Old.\n# TYPE a gauge\na{x=\"1\",y=\"\"} 1e3 5\na{x=\"2\"} NaN\nb +Inf\n\
             # TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 2\n";
        let ours = "b{target=\"t\"} Inf\n# TYPE h histogram\nh_bucket{target=\"t\",le=\"+Inf\"} 2\n\
             h_bucket{target=\"t\",le=\"1.0\"} 2\n# HELP a Ours.\n# TYPE a gauge\na{target=\"t\",x=\"2\"} nan\n\
             a{target=\"t\",x=\"1\"} 1000\n";
        let compared = compared(old, ours, &rules());
        assert_eq!((compared.rows, compared.families, compared.series), (Vec::new(), 3, 5));
        assert_eq!(compared.helps, ["a"]);
    }

    #[test]
    fn each_kind_of_difference_is_one_row() {
        let old = "# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 2\n# TYPE gone counter\ngone 1\n# TYPE l gauge\n\
             l{server=\"s\",x=\"1\"} 1\nl{server=\"s\",x=\"2\"} 5\n";
        let ours = "# TYPE a counter\na{x=\"1\"} 1.5\na{x=\"3\"} 2\n# TYPE l gauge\nl{x=\"1\",env=\"e\"} 1\n\
             l{x=\"2\",env=\"e\"} 6\nmore 1\nmore{x=\"1\"} 1\n";
        let expected = [
            "type a | gauge | counter",
            "value a{x=\"1\"} | 1 | 1.5",
            "series a{x=\"2\"} | 2 | -",
            "series a{x=\"3\"} | - | 2",
            "family gone | counter, 1 series | -",
            "label l | - | env",
            "label l | server | -",
            "value l{x=\"2\"} | 5 | 6",
            "family more | - | unknown, 2 series",
        ];
        assert_eq!(rows(old, ours, &rules()), expected);
    }

    #[test]
    fn series_that_only_an_ignored_label_tells_apart_are_compared_together() {
        let with = |label: &str| CompareRules { ignore_labels: vec![label.to_owned()], ..rules() };
        let old = "a{s=\"1\"} 1\na{s=\"2\"} 2\n";
        assert_eq!(rows(old, "a{s=\"x\"} 2\na{s=\"y\"} 1\n", &with("s")), [""; 0]);
        assert_eq!(rows(old, "a{s=\"x\"} 2\n", &with("s")), ["value a | 1, 2 | 2"]);
        let ours = "a{target=\"t\"} 1\na{target=\"u\"} 2\n";
        assert_eq!(rows(old, ours, &with("s")), [""; 0], "our own label does not count");
        assert_eq!(rows(ours, ours, &rules()), [""; 0]);
        let theirs = "a{target=\"t\"} 1\na{target=\"v\"} 2\n";
        let expected = ["series a{target=\"u\"} | - | 2", "series a{target=\"v\"} | 2 | -"];
        assert_eq!(rows(theirs, ours, &rules()), expected, "it counts where both have it");
        assert_eq!(rows(theirs, "a 1\n", &rules())[0], "label a | target | -");
    }

    #[test]
    fn values_may_be_apart_as_far_as_allowed() {
        let near = read_tolerance("1%").unwrap();
        let cases = [(100.0, 99.0, true), (100.0, 98.9, false), (-100.0, -101.0, true), (1.0, -1.0, false)];
        for (one, other, expected) in cases {
            assert_eq!(near.allows(one, other), expected, "{one} {other}");
        }
        assert!(near.allows(0.0, -0.0) && near.allows(f64::INFINITY, f64::INFINITY));
        assert!(!near.allows(f64::INFINITY, 1.0) && !near.allows(f64::NAN, 1.0));
        assert!(!near.allows(f64::INFINITY, f64::NEG_INFINITY));
        assert!(!Tolerance::default().allows(1.0, 1.0 + f64::EPSILON));
        for text in ["1", "", "%", "-1%", "101%", "NaN%", "inf%", "a%"] {
            assert!(read_tolerance(text).is_err(), "{text}");
        }
    }

    #[test]
    fn families_about_the_old_exporter_are_left_out_unless_we_have_them() {
        let old = "go_threads 5\nprocess_open_fds 3\nup 1\n# TYPE c_total counter\nc_total 1\n# TYPE c_created gauge\n\
             c_created 5\nqueries_total 3\n";
        let ours = "# TYPE c_total counter\nc_total 1\nqueries_total 4\ngo_mine 1\n";
        let compared = compared(old, ours, &rules());
        let names: Vec<&str> = compared.rows.iter().map(|row| row.of.as_str()).collect();
        assert_eq!(names, ["go_mine", "queries_total"]);
        let notes = compared.notes();
        assert_eq!(
            notes,
            [
                "not compared: 3 families of the old exporter about itself (go_*, process_*, up)",
                "not compared: 1 sample ending in _created: since when the old exporter counts"
            ]
        );
    }

    #[test]
    fn names_are_ignored_by_pattern() {
        let ignore = ["a_*", "h_sum", "never*"].map(|text| Pattern::new(text).unwrap()).to_vec();
        let old = "a_x 1\n# TYPE h summary\nh_sum 1\nh_count 1\n";
        let compared =
            compared(old, "# TYPE h summary\nh_sum 2\nh_count 1\n", &CompareRules { ignore, ..rules() });
        assert_eq!((compared.rows.len(), compared.ignored), (0, 3));
        assert_eq!(compared.unused, ["never*"]);
    }

    /// The labels of a page are as many as its exporter likes: each sample must not be held against all of them.
    #[test]
    fn many_labels_of_one_side_take_no_longer_than_their_number() {
        let old: String = (0..30_000).map(|label| format!("a{{l{label}=\"1\"}} 1\n")).collect();
        let compared = compared(&old, "a 1\n", &rules());
        assert_eq!((compared.rows.len(), compared.differences), (MAX_ROWS + 1, 30_001));
    }

    #[test]
    fn a_family_has_a_limited_number_of_rows() {
        let page =
            |value: u8| (0..80).map(|x| format!("a{{x=\"{x:02}\"}} {value}\n")).collect::<String>() + "b 1\n";
        let compared = compared(&page(1), &page(2).replace("b 1", "b 2"), &rules());
        assert_eq!((compared.rows.len(), compared.differences), (MAX_ROWS + 2, 81));
        assert_eq!((&*compared.rows[MAX_ROWS].of, &*compared.rows[MAX_ROWS + 1].of), ("30 more of a", "b"));
    }
}
