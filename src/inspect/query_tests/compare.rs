//! Compares two expositions, family by family: what a test expects, and what its query made.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::query::Query;
use crate::engine::query_sink::RenderedResult;
use crate::exposition::openmetrics::OpenMetrics;
use crate::exposition::text::Text;
use crate::exposition::{FORMATS, Family, Format, reserved_names};

use super::exposition::{ParsedExposition, SeriesKey, read};

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
    let mut sections = Sections::of(query, rendered);
    expected.samples.keys().for_each(|series| sections.owner(&series.name).wanted.push(series));
    expected.heads.iter().for_each(|(name, line)| sections.owner(name).heads.push(line));
    found.samples.keys().for_each(|series| sections.owner(&series.name).found.push(series));
    Ok(sections.all.iter().flat_map(|section| section.differences(&expected, &found)).collect())
}

/// A family, or a name that is expected and that no family has.
#[derive(Default)]
struct FamilySection<'e> {
    name: String,
    family: Option<Arc<Family>>,
    /// It has samples: only then a page shows its head.
    is_shown: bool,
    /// The lines about it that are expected.
    heads: Vec<&'e str>,
    wanted: Vec<&'e SeriesKey>,
    found: Vec<&'e SeriesKey>,
}

/// The families in the order of the page, then those without samples, then the names that no family has.
#[derive(Default)]
struct Sections<'e> {
    all: Vec<FamilySection<'e>>,
    /// By the family's own name, its samples' names, and the names that OpenMetrics' heads give it.
    by_name: HashMap<String, usize>,
}

impl<'e> Sections<'e> {
    fn of(query: &Query, rendered: &RenderedResult) -> Self {
        let shown = rendered.blocks.iter().map(|block| (&block.family, true));
        let planned = query.metrics.iter().filter_map(|metric| Some((metric.naming.fixed()?, false)));
        let mut sections = Sections::default();
        for (family, is_shown) in shown.chain(planned) {
            let name = family.name.as_str();
            if sections.all.iter().all(|section| section.name != name) {
                let index = sections.all.len();
                for owned in reserved_names(name, family.kind) {
                    sections.by_name.entry(owned).or_insert(index);
                }
                let (name, family) = (name.to_owned(), Some(Arc::clone(family)));
                sections.all.push(FamilySection { name, family, is_shown, ..FamilySection::default() });
            }
        }
        sections
    }

    /// The section to which a sample or a head of this name belongs.
    fn owner(&mut self, name: &str) -> &mut FamilySection<'e> {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => {
                self.by_name.insert(name.to_owned(), self.all.len());
                self.all.push(FamilySection { name: name.to_owned(), ..FamilySection::default() });
                self.all.len() - 1
            }
        };
        &mut self.all[index]
    }
}

impl FamilySection<'_> {
    /// Lines that say what differs; none where nothing does.
    fn differences(&self, expected: &ParsedExposition<'_>, found: &ParsedExposition<'_>) -> Vec<String> {
        let mut lines = self.head_differences();
        let mut good = 0;
        for series in &self.wanted {
            let sample = &expected.samples[*series];
            match found.samples.get(*series) {
                Some(other) if other.equals(sample) => good += 1,
                Some(other) => lines.extend([format!("- {}", sample.line), format!("+ {}", other.line)]),
                None => lines.push(format!("- {}", sample.line)),
            }
        }
        let new = self.found.iter().filter(|series| !expected.samples.contains_key(**series));
        lines.extend(new.map(|series| format!("+ {}", found.samples[*series].line)));
        if lines.is_empty() {
            return lines;
        }
        if lines.len() > MAX_LINES {
            let rest = lines.len() - MAX_LINES;
            lines.truncate(MAX_LINES);
            lines.push(format!("… and {rest} more lines"));
        }
        let samples = if self.wanted.len() == 1 { "sample" } else { "samples" };
        lines.insert(0, format!("{}: {good} of {} {samples} as expected", self.name, self.wanted.len()));
        lines
    }

    /// A head line is right if any format writes it so.
    fn head_differences(&self) -> Vec<String> {
        let heads = self.written_heads();
        let mut lines = Vec::new();
        for line in &self.heads {
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
    fn written_heads(&self) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(family) = self.family.as_ref().filter(|_| self.is_shown) {
            FORMATS.iter().for_each(|format| format.head(family, &mut out));
        }
        String::from_utf8_lossy(&out).lines().map(str::to_owned).collect()
    }
}
