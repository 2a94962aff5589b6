//! Two expositions, family by family: what a case expects, and what its query made.

use std::sync::Arc;

use crate::config::query::Query;
use crate::engine::query_sink::RenderedResult;
use crate::exposition::openmetrics::OpenMetrics;
use crate::exposition::text::Text;
use crate::exposition::{FORMATS, Family, Format, reserved_names};
use crate::metric::naming::Naming;

use super::Verdict;
use super::samples::{Exposition, Sample, read};

/// Lines of one family that a report shows.
const SHOWN: usize = 40;

/// Holds what came against `expected`.
pub(super) fn compare(query: &Query, rendered: &RenderedResult, expected: &str) -> Verdict {
    let expected = match read(expected) {
        Ok(expected) => expected,
        Err(what) => return Verdict::Fail(vec![what]),
    };
    let format: &dyn Format = if expected.is_openmetrics { &OpenMetrics } else { &Text };
    let mut page = Vec::new();
    rendered.blocks.iter().for_each(|block| block.write(format, &mut page));
    let page = String::from_utf8_lossy(&page);
    // Invariant: what this program writes, this program reads.
    let got = match read(&page) {
        Ok(got) => got,
        Err(what) => return Verdict::Fail(vec![what]),
    };
    let lines: Vec<String> = sections(query, rendered, &expected)
        .iter()
        .flat_map(|section| section.diff(&expected, &got))
        .collect();
    if lines.is_empty() { Verdict::Pass } else { Verdict::Fail(lines) }
}

/// What is compared by itself: a family, or a name that is expected and that no family has.
struct Section {
    name: String,
    family: Option<Arc<Family>>,
    /// It has samples: only then a page shows its head.
    is_shown: bool,
}

/// The families in the order of the page, those without samples behind them, then the names that are nobody's.
fn sections(query: &Query, rendered: &RenderedResult, expected: &Exposition<'_>) -> Vec<Section> {
    let shown = rendered.blocks.iter().map(|block| (&block.family, true));
    let planned = query.metrics.iter().filter_map(|metric| match &metric.naming {
        Naming::Fixed(family) => Some((family, false)),
        Naming::ByColumn(_) => None,
    });
    let mut sections: Vec<Section> = Vec::new();
    for (family, is_shown) in shown.chain(planned) {
        if sections.iter().all(|section| section.name != family.name.as_str()) {
            let (name, family) = (family.name.as_str().to_owned(), Some(Arc::clone(family)));
            sections.push(Section { name, family, is_shown });
        }
    }
    let samples = expected.samples.iter().map(|sample| sample.series.name.as_str());
    for name in samples.chain(expected.heads.iter().map(|(name, _)| *name)) {
        if sections.iter().all(|section| !section.owns(name)) {
            sections.push(Section { name: name.to_owned(), family: None, is_shown: false });
        }
    }
    sections
}

impl Section {
    /// True for the family's own name, its samples' names, and the names that OpenMetrics' heads give it.
    fn owns(&self, name: &str) -> bool {
        let reserved = |family: &Arc<Family>| reserved_names(&self.name, family.kind);
        self.name == name
            || self.family.as_ref().is_some_and(|family| reserved(family).iter().any(|own| own == name))
    }

    /// Lines that say what differs; none where nothing does.
    fn diff(&self, expected: &Exposition<'_>, got: &Exposition<'_>) -> Vec<String> {
        let mut lines = self.diff_heads(expected);
        let own = |sample: &&Sample<'_>| self.owns(&sample.series.name);
        let wanted: Vec<&Sample<'_>> = expected.samples.iter().filter(own).collect();
        let came: Vec<&Sample<'_>> = got.samples.iter().filter(own).collect();
        let mut good = 0;
        for sample in &wanted {
            match came.iter().find(|one| one.series == sample.series) {
                Some(one) if one.is(sample) => good += 1,
                Some(one) => lines.extend([format!("- {}", sample.line), format!("+ {}", one.line)]),
                None => lines.push(format!("- {}", sample.line)),
            }
        }
        let is_new = |one: &&&Sample<'_>| wanted.iter().all(|sample| sample.series != one.series);
        lines.extend(came.iter().filter(is_new).map(|one| format!("+ {}", one.line)));
        if lines.is_empty() {
            return lines;
        }
        if lines.len() > SHOWN {
            let rest = lines.len() - SHOWN;
            lines.truncate(SHOWN);
            lines.push(format!("… and {rest} lines more"));
        }
        let samples = if wanted.len() == 1 { "sample" } else { "samples" };
        lines.insert(0, format!("{}: {good} of {} {samples} as expected", self.name, wanted.len()));
        lines
    }

    /// A head line is right where any format writes it so.
    fn diff_heads(&self, expected: &Exposition<'_>) -> Vec<String> {
        let heads = self.heads();
        let mut lines = Vec::new();
        for (_, line) in expected.heads.iter().filter(|(name, _)| self.owns(name)) {
            if heads.iter().any(|own| own == line) {
                continue;
            }
            lines.push(format!("- {line}"));
            let word = line.split_whitespace().nth(1);
            lines.extend(
                heads.iter().find(|own| own.split_whitespace().nth(1) == word).map(|own| format!("+ {own}")),
            );
        }
        lines
    }

    /// The head's lines in every format; none without samples.
    fn heads(&self) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(family) = self.family.as_ref().filter(|_| self.is_shown) {
            FORMATS.iter().for_each(|format| format.head(family, &mut out));
        }
        String::from_utf8_lossy(&out).lines().map(str::to_owned).collect()
    }
}
