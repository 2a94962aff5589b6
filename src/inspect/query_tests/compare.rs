//! Compares two expositions, family by family: what a test expects, and what its query made.

use std::sync::Arc;

use crate::config::query::Query;
use crate::engine::query_sink::RenderedResult;
use crate::exposition::openmetrics::OpenMetrics;
use crate::exposition::text::Text;
use crate::exposition::{FORMATS, Family, Format, reserved_names};
use crate::metric::naming::Naming;

use super::exposition::{ParsedExposition, ParsedSample, read};

/// Lines of one family that a report shows.
const MAX_LINES: usize = 40;

/// Lines that say how `rendered` differs from what is expected; none where it does not.
///
/// # Errors
/// A sentence: the expected text is not an exposition.
pub(super) fn differences(
    query: &Query,
    rendered: &RenderedResult,
    expected: &str,
) -> Result<Vec<String>, String> {
    let expected = read(expected)?;
    let format: &dyn Format = if expected.is_openmetrics { &OpenMetrics } else { &Text };
    let mut page = Vec::new();
    rendered.blocks.iter().for_each(|block| block.write(format, &mut page));
    let page = String::from_utf8_lossy(&page);
    let found = read(&page)?;
    let sections = sections(query, rendered, &expected);
    Ok(sections.iter().flat_map(|section| section.differences(&expected, &found)).collect())
}

/// A family, or a name that is expected and that no family has.
struct FamilySection {
    name: String,
    family: Option<Arc<Family>>,
    /// It has samples: only then a page shows its head.
    is_shown: bool,
}

/// The families in the order of the page, then those without samples, then the names that no family has.
fn sections(query: &Query, rendered: &RenderedResult, expected: &ParsedExposition<'_>) -> Vec<FamilySection> {
    let shown = rendered.blocks.iter().map(|block| (&block.family, true));
    let planned = query.metrics.iter().filter_map(|metric| match &metric.naming {
        Naming::Fixed(family) => Some((family, false)),
        Naming::ByColumn(_) => None,
    });
    let mut sections: Vec<FamilySection> = Vec::new();
    for (family, is_shown) in shown.chain(planned) {
        if sections.iter().all(|section| section.name != family.name.as_str()) {
            let (name, family) = (family.name.as_str().to_owned(), Some(Arc::clone(family)));
            sections.push(FamilySection { name, family, is_shown });
        }
    }
    let samples = expected.samples.iter().map(ParsedSample::name);
    for name in samples.chain(expected.heads.iter().map(|(name, _)| *name)) {
        if sections.iter().all(|section| !section.owns(name)) {
            sections.push(FamilySection { name: name.to_owned(), family: None, is_shown: false });
        }
    }
    sections
}

impl FamilySection {
    /// True for the family's own name, its samples' names, and the names that OpenMetrics' heads give it.
    fn owns(&self, name: &str) -> bool {
        let reserved = |family: &Arc<Family>| reserved_names(&self.name, family.kind);
        self.name == name
            || self.family.as_ref().is_some_and(|family| reserved(family).iter().any(|own| own == name))
    }

    /// Lines that say what differs; none where nothing does.
    fn differences(&self, expected: &ParsedExposition<'_>, found: &ParsedExposition<'_>) -> Vec<String> {
        let mut lines = self.head_differences(expected);
        let own = |sample: &&ParsedSample<'_>| self.owns(sample.name());
        let wanted: Vec<&ParsedSample<'_>> = expected.samples.iter().filter(own).collect();
        let found: Vec<&ParsedSample<'_>> = found.samples.iter().filter(own).collect();
        let mut good = 0;
        for sample in &wanted {
            match found.iter().find(|other| other.is_of_series(sample)) {
                Some(other) if other.equals(sample) => good += 1,
                Some(other) => lines.extend([format!("- {}", sample.line), format!("+ {}", other.line)]),
                None => lines.push(format!("- {}", sample.line)),
            }
        }
        let is_new = |other: &&&ParsedSample<'_>| !wanted.iter().any(|sample| sample.is_of_series(other));
        lines.extend(found.iter().filter(is_new).map(|other| format!("+ {}", other.line)));
        if lines.is_empty() {
            return lines;
        }
        if lines.len() > MAX_LINES {
            let rest = lines.len() - MAX_LINES;
            lines.truncate(MAX_LINES);
            lines.push(format!("… and {rest} more lines"));
        }
        let samples = if wanted.len() == 1 { "sample" } else { "samples" };
        lines.insert(0, format!("{}: {good} of {} {samples} as expected", self.name, wanted.len()));
        lines
    }

    /// A head line is right if any format writes it so.
    fn head_differences(&self, expected: &ParsedExposition<'_>) -> Vec<String> {
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
