//! Reads a page of metrics: text format 0.0.4 or OpenMetrics 1.0.0, of any exporter.
//!
//! It accepts what Prometheus accepts, and more: blanks and tabs between the words of a line, families in any order and in
//! several places, samples before their head. Timestamps, exemplars and units are read and dropped. Time and memory are
//! linear in the length of the text, which the caller bounds.

use std::collections::BTreeMap;

use crate::exposition::openmetrics::OpenMetrics;
use crate::exposition::sample_line::{Sample, unescaped};
use crate::exposition::text::Text;
use crate::exposition::{FamilyKind, Format};
use crate::metric::TYPES;
use crate::name::MetricName;
use crate::plain_text::one_line;

/// The part of a faulty line to show, in characters.
const LONGEST_EXCERPT: usize = 120;

/// The format of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// Text format 0.0.4.
    Text,
    /// OpenMetrics: it names a counter without `_total`, an info without `_info`, and ends with `# EOF`.
    OpenMetrics,
}

impl Syntax {
    /// How we write it.
    pub(super) fn format(self) -> &'static dyn Format {
        match self {
            Syntax::Text => &Text,
            Syntax::OpenMetrics => &OpenMetrics,
        }
    }
}

/// What a page says.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Families that have samples, by the name that their samples have without a suffix of the type: a counter has the same
    /// name in both formats.
    pub(super) families: BTreeMap<String, PageFamily>,
    /// Samples that say since when a counter, a histogram or a summary counts. They belong to no family.
    pub(super) created: usize,
}

/// One family.
#[derive(Debug)]
pub(super) struct PageFamily {
    pub(super) kind: FamilyKind,
    pub(super) help: String,
    /// In the page's order.
    pub(super) samples: Vec<Sample>,
}

/// The word for a type.
pub(super) fn kind_name(kind: FamilyKind) -> &'static str {
    TYPES.iter().find(|known| known.kind == kind).map_or("unknown", |known| known.name)
}

/// What the samples of a type add to the family's name.
fn suffixes(kind: FamilyKind) -> &'static [&'static str] {
    match kind {
        FamilyKind::Counter => &["_total"],
        FamilyKind::Histogram => &["_bucket", "_sum", "_count"],
        FamilyKind::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        FamilyKind::Summary => &["_sum", "_count"],
        FamilyKind::Info => &["_info"],
        FamilyKind::Gauge | FamilyKind::StateSet | FamilyKind::Unknown => &[],
    }
}

/// Reads a page.
///
/// # Errors
/// What is wrong with which line.
pub(super) fn read(text: &str, syntax: Syntax) -> Result<Page, String> {
    let mut reader = PageReader { syntax, heads: BTreeMap::new(), samples: Vec::new(), has_ended: false };
    for (index, line) in text.lines().enumerate() {
        reader.line(line.trim_matches([' ', '\t'])).map_err(|fault| {
            let start: String = line.chars().take(LONGEST_EXCERPT).collect();
            format!("line {}: {fault}: {}", index + 1, one_line(&start))
        })?;
    }
    if syntax == Syntax::OpenMetrics && !reader.has_ended {
        return Err("the page has no last line `# EOF`: it is cut off".to_owned());
    }
    Ok(reader.page())
}

#[derive(Default)]
struct FamilyHead {
    kind: Option<FamilyKind>,
    help: String,
}

struct PageReader {
    syntax: Syntax,
    /// By the name in the head.
    heads: BTreeMap<String, FamilyHead>,
    samples: Vec<Sample>,
    has_ended: bool,
}

impl PageReader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        if self.has_ended {
            return Err("a line after `# EOF`".to_owned());
        }
        match line.strip_prefix('#') {
            Some(comment) => self.comment(comment),
            None => {
                self.samples.push(Sample::read(line)?);
                Ok(())
            }
        }
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let (word, rest) = first_word(comment);
        if self.syntax == Syntax::OpenMetrics && word == "EOF" {
            self.has_ended = true;
        }
        if !matches!(word, "HELP" | "TYPE") {
            return Ok(());
        }
        let (name, rest) = first_word(rest);
        MetricName::new(name)?;
        let head = self.heads.entry(name.to_owned()).or_default();
        if word == "HELP" {
            head.help = unescaped(rest);
            return Ok(());
        }
        // Text format 0.0.4 has another word for `unknown`.
        let word = if rest == "untyped" { "unknown" } else { rest };
        let kind = TYPES.iter().find(|known| known.name == word).map(|known| known.kind);
        let kind = kind.ok_or_else(|| format!("{rest:?} is not a type"))?;
        if head.kind.replace(kind).is_some_and(|earlier| earlier != kind) {
            return Err(format!("a second type of {name}"));
        }
        Ok(())
    }

    fn kind(&self, name: &str) -> Option<FamilyKind> {
        self.heads.get(name)?.kind
    }

    /// Sorts the samples into families.
    fn page(mut self) -> Page {
        let mut page = Page::default();
        for sample in std::mem::take(&mut self.samples) {
            if self.is_created(&sample.name) {
                page.created += 1;
                continue;
            }
            let head = self.head_of(&sample.name);
            let kind = self.kind(head).unwrap_or(FamilyKind::Unknown);
            let family = match kind {
                FamilyKind::Counter | FamilyKind::Info => &sample.name,
                _ => head,
            };
            let new = || {
                let help = self.heads.get(head).map(|head| head.help.clone()).unwrap_or_default();
                PageFamily { kind, help, samples: Vec::new() }
            };
            page.families.entry(family.to_owned()).or_insert_with(new).samples.push(sample);
        }
        page
    }

    /// The name in the head of a sample's family; without a head it is the sample's own name.
    fn head_of<'n>(&self, sample: &'n str) -> &'n str {
        if self.heads.contains_key(sample) {
            return sample;
        }
        let stem = sample.rsplit_once('_').map(|(stem, _)| stem);
        let is_head = |stem: &&str| {
            let added = sample.get(stem.len()..).unwrap_or_default();
            self.kind(stem).is_some_and(|kind| suffixes(kind).contains(&added))
        };
        stem.filter(is_head).unwrap_or(sample)
    }

    /// Python's client has these samples in families of their own in the text format.
    fn is_created(&self, sample: &str) -> bool {
        let Some(stem) = sample.strip_suffix("_created") else { return false };
        let counts =
            |name: &str, kinds: &[FamilyKind]| self.kind(name).is_some_and(|kind| kinds.contains(&kind));
        counts(stem, &[FamilyKind::Counter, FamilyKind::Histogram, FamilyKind::Summary])
            || counts(&format!("{stem}_total"), &[FamilyKind::Counter])
    }
}

/// The first word, and what follows it.
fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim_start_matches([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str, syntax: Syntax) -> Page {
        read(text, syntax).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
    }

    /// `name kind: sample{a=b} value, …` of each family.
    fn shown(page: &Page) -> Vec<String> {
        let sample = |sample: &Sample| {
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}{{{}}} {}", sample.name, labels.join(","), sample.value)
        };
        let family = |(name, family): (&String, &PageFamily)| {
            let samples: Vec<String> = family.samples.iter().map(sample).collect();
            format!("{name} {}: {}", kind_name(family.kind), samples.join(", "))
        };
        page.families.iter().map(family).collect()
    }

    #[test]
    fn families_have_the_same_names_in_both_formats() {
        let text = good(
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
             # TYPE a_created gauge\na_created{x=\"1\"} 1.7e9\n# TYPE empty gauge\n",
            Syntax::Text,
        );
        let open = good(
            "# TYPE a counter\n# UNIT a seconds\n# HELP a Of a.\na_total{x=\"1\"} 2.0 123.4 # {id=\"}\"} 1 5\n\
             a_created{x=\"1\"} 1.7e9\n# TYPE b info\nb_info{v=\"1\"} 1\n# EOF\n",
            Syntax::OpenMetrics,
        );
        assert_eq!(shown(&text), ["a_total counter: a_total{x=1} 2", "b_info gauge: b_info{v=1} 1"]);
        assert_eq!(shown(&open), ["a_total counter: a_total{x=1} 2", "b_info info: b_info{v=1} 1"]);
        assert_eq!((text.created, open.created), (1, 1));
        assert_eq!((&*text.families["a_total"].help, &*open.families["a_total"].help), ("Of a.", "Of a."));
    }

    #[test]
    fn samples_of_a_compound_type_are_one_family_wherever_they_are() {
        let page = good(
            "h_sum 3\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nother_sum 4\nh_count 1\n# TYPE s summary\n\
             s{quantile=\"0.5\"} NaN\ns_sum 1\ns_created 5\n# TYPE h_max gauge\nh_max 1\n",
            Syntax::Text,
        );
        let expected = [
            "h histogram: h_sum{} 3, h_bucket{le=+Inf} 1, h_count{} 1",
            "h_max gauge: h_max{} 1",
            "other_sum unknown: other_sum{} 4",
            "s summary: s{quantile=0.5} NaN, s_sum{} 1",
        ];
        assert_eq!((shown(&page), page.created), (expected.map(str::to_owned).to_vec(), 1));
    }

    #[test]
    fn a_line_may_have_blanks_and_escapes() {
        let page = good(
            " \ta { x = \"1 \\\\ \\\" \\n } é\\q\" , y=\"\",}\t+Inf 5 \n#comment\n\n# TYPE  a   untyped \r\na -4e-1\n",
            Syntax::Text,
        );
        assert_eq!(shown(&page), ["a unknown: a{x=1 \\ \" \n } é\\q,y=} inf, a{} -0.4"]);
    }

    #[test]
    fn a_faulty_line_is_told_by_its_number() {
        let cases = [
            ("a 1\n<html>", "line 2: \"<html>\" is not a legal metric name"),
            ("a", "line 1: there is no value"),
            ("a one", "line 1: the value \"one\" is not a number"),
            ("a-1", "line 1: \"a-1\" is not a legal metric name"),
            ("{\"a.b\"} 1", "line 1: \"\" is not a legal metric name"),
            ("a 1 now", "line 1: the timestamp \"now\" is not a number"),
            ("a 1 2 3", "line 1: \"3\" after the timestamp"),
            ("a{x=\"1} 1", "line 1: the value of label x has no end"),
            ("a{x=1} 1", "line 1: the value of label x is not in quotes"),
            ("a{x=\"1\" y=\"2\"} 1", "line 1: no comma and no brace after label x"),
            ("a{x=\"1\",x=\"2\"} 1", "line 1: label x is there twice"),
            ("a{x.y=\"1\"} 1", "line 1: \"x.y\" is not a legal label name"),
            ("a{x 1", "line 1: the labels have no end"),
            ("# TYPE a number", "line 1: \"number\" is not a type"),
            ("# TYPE a gauge\n# TYPE a counter", "line 2: a second type of a"),
        ];
        for (text, expected) in cases {
            let fault = read(text, Syntax::Text).unwrap_err();
            assert!(fault.starts_with(expected), "{fault}");
        }
    }

    #[test]
    fn openmetrics_ends_with_eof() {
        assert!(read("a 1\n", Syntax::OpenMetrics).unwrap_err().contains("cut off"));
        assert!(
            read("a 1\n# EOF\nb 1\n", Syntax::OpenMetrics).unwrap_err().starts_with("line 3: a line after")
        );
        assert_eq!(shown(&good("# EOF\n# EOFX\na 1\n", Syntax::Text)), ["a unknown: a{} 1"]);
    }

    proptest::proptest! {
        /// Also of texts that are nearly a page.
        #[test]
        fn no_text_makes_it_panic(
            text in "([ab_]{0,3}|[{}\"\\\\=, \t]|#|# (TYPE|HELP|EOF)|gauge|_total|1|NaN|é|\n){0,40}",
        ) {
            let _ = read(&text, Syntax::Text);
            let _ = read(&text, Syntax::OpenMetrics);
        }
    }

    /// Of `../shared/openmetrics-parsers`: what is not faulty can be read.
    #[test]
    fn the_good_pages_of_the_openmetrics_project_are_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/openmetrics-parsers");
        let Ok(cases) = std::fs::read_dir(folder) else {
            eprintln!("left out: the pages of the OpenMetrics project are not in ../shared");
            return;
        };
        let mut read_well = 0;
        for case in cases {
            let case = case.unwrap().path();
            if std::fs::read_to_string(case.join("test.json")).unwrap().contains("\"shouldParse\": true") {
                let text = std::fs::read_to_string(case.join("metrics")).unwrap();
                if let Err(fault) = read(&text, Syntax::OpenMetrics) {
                    panic!("{}: {fault}", case.display());
                }
                read_well += 1;
            }
        }
        assert!(read_well > 20, "{read_well}");
    }
}
