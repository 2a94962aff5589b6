//! The labels of one metric: which column or constant each name stands for, and one row's labels as bytes.
//!
//! Labels are sorted by name, so that equal label sets are equal bytes. A type's `le` is last.

use std::borrow::Cow;

use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::line::{self, LabelBytes};
use crate::name::LabelName;
use crate::plain_text;
use crate::yaml::keys::Keys;

use super::column::BoundColumn;
use super::column_text::{BoundText, ColumnText};

/// Where a label's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelSource {
    /// A column, or a part of its text.
    Column(ColumnText),
    /// Always this text.
    Fixed(String),
    /// The metric type, sample by sample (`le`, a `value_label`).
    Type,
}

/// Why no label of a query or a target may have this name.
pub fn reserved_label(name: &str) -> Option<&'static str> {
    match name {
        "le" | "quantile" => Some("is reserved for histograms and summaries"),
        _ if name.starts_with("__") => Some("is reserved: `__` starts Prometheus's own labels"),
        _ => None,
    }
}

/// A legal label name that is not reserved; else a fault.
pub fn label_name(keys: &Keys<'_>, key: &str, name: &str) -> Option<LabelName> {
    match (LabelName::new(name), reserved_label(name)) {
        (Ok(_), Some(why)) => {
            keys.fault(key, format!("label `{name}` {why}"));
            None
        }
        (Ok(name), None) => Some(name),
        (Err(rule), _) => {
            let hint = "name it with a map: `labels: {legal_name: column}`";
            match key {
                "labels" if !keys.is_mapping("labels") => keys.fault_with_hint(key, rule, hint),
                _ => keys.fault(key, rule),
            }
            None
        }
    }
}

/// The labels of one metric, in the order written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Vec<Label>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Label {
    name: LabelName,
    source: LabelSource,
    /// What every row writes: all of a fixed label, the start of one from a column.
    bytes: Box<[u8]>,
}

impl Label {
    fn new(name: LabelName, source: LabelSource) -> Self {
        let mut bytes = Vec::new();
        match &source {
            LabelSource::Column(_) => line::open_label(name.as_str(), &mut bytes),
            LabelSource::Fixed(value) => bytes = line::label_bytes(&name, value),
            LabelSource::Type => {}
        }
        Label { name, source, bytes: bytes.into() }
    }
}

/// The order written: by name, `le` last.
fn order(name: &LabelName) -> (bool, &LabelName) {
    (name.as_str() == "le", name)
}

impl Labels {
    /// Sorts them into the order written.
    pub fn new(mut labels: Vec<(LabelName, LabelSource)>) -> Self {
        labels.sort_by(|(left, _), (right, _)| order(left).cmp(&order(right)));
        Labels(labels.into_iter().map(|(name, source)| Label::new(name, source)).collect())
    }

    /// The names in the order written.
    pub fn names(&self) -> impl Iterator<Item = &LabelName> {
        self.0.iter().map(|label| &label.name)
    }

    /// The labels in the order written, each with where its value comes from.
    pub fn iter(&self) -> impl Iterator<Item = (&LabelName, &LabelSource)> {
        self.0.iter().map(|label| (&label.name, &label.source))
    }

    /// Finds the columns. `more` are labels of the whole result.
    ///
    /// # Errors
    /// `missing_column`.
    pub fn bind<'l>(
        &'l self,
        columns: &[Column],
        more: &'l [(LabelName, String)],
    ) -> Result<BoundLabels<'l>> {
        let part = |label: &'l Label| {
            let bound = match &label.source {
                LabelSource::Column(text) => {
                    BoundLabel::Column { open: &label.bytes, text: text.bind(columns)? }
                }
                LabelSource::Fixed(_) => BoundLabel::Fixed(Cow::Borrowed(&label.bytes)),
                LabelSource::Type => BoundLabel::Gap,
            };
            Ok((&label.name, bound))
        };
        let mut bound = self.0.iter().map(part).collect::<Result<Vec<_>>>()?;
        for (name, text) in more {
            bound.push((name, BoundLabel::Fixed(Cow::Owned(line::label_bytes(name, text)))));
        }
        if !more.is_empty() {
            bound.sort_by(|(left, _), (right, _)| order(left).cmp(&order(right)));
        }
        Ok(BoundLabels(bound.into_iter().map(|(_, bound)| bound).collect()))
    }
}

/// How long a label value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelLimit {
    /// In bytes, before escaping.
    pub bytes: usize,
    /// True: a longer one is cut at a character boundary; false: it is an error.
    pub truncate: bool,
}

/// The labels of one metric, bound to the columns of a result.
#[derive(Debug)]
pub struct BoundLabels<'l>(Vec<BoundLabel<'l>>);

#[derive(Debug)]
enum BoundLabel<'l> {
    Fixed(Cow<'l, [u8]>),
    Column { open: &'l [u8], text: BoundText<'l> },
    Gap,
}

impl BoundLabels<'_> {
    /// False when the row does not match the pattern of a label: the metric leaves it out. `scratch` is any string.
    ///
    /// # Errors
    /// `protocol` from the row.
    pub fn find(&mut self, row: &dyn Row, scratch: &mut String) -> Result<bool> {
        for part in &mut self.0 {
            if let BoundLabel::Column { text, .. } = part
                && !text.find(row, scratch)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends the labels of the row that [`BoundLabels::find`] saw last to `out`. `scratch` is any string, kept from row
    /// to row.
    ///
    /// # Errors
    /// `limit` for a value that is too long, `protocol` from the row.
    pub fn write(
        &mut self,
        row: &dyn Row,
        limit: LabelLimit,
        scratch: &mut String,
        out: &mut LabelBytes,
    ) -> Result<()> {
        for part in &mut self.0 {
            match part {
                BoundLabel::Gap => out.mark_gap(),
                BoundLabel::Fixed(bytes) => out.bytes_mut().extend_from_slice(bytes),
                BoundLabel::Column { open, text } => {
                    let cell = text.column().cell(row)?;
                    let mut value = text.take(cell.label(scratch));
                    if value.len() > limit.bytes {
                        if !limit.truncate {
                            return Err(too_long(value.len(), limit, text.column()));
                        }
                        value = plain_text::start(value, limit.bytes);
                    }
                    let bytes = out.bytes_mut();
                    bytes.extend_from_slice(open);
                    line::label_value(value, bytes);
                    bytes.push(b'"');
                }
            }
        }
        Ok(())
    }

    /// Appends the labels of a sample without a row: those from columns are left out.
    pub fn write_fixed(&self, out: &mut LabelBytes) {
        for part in &self.0 {
            match part {
                BoundLabel::Gap => out.mark_gap(),
                BoundLabel::Fixed(bytes) => out.bytes_mut().extend_from_slice(bytes),
                BoundLabel::Column { .. } => {}
            }
        }
    }
}

fn too_long(length: usize, limit: LabelLimit, column: &BoundColumn) -> Error {
    let (name, max) = (column.name(), limit.bytes);
    let message = format!("column `{name}`: a label value of {length} bytes, max_label_length is {max}");
    Error::new(Reason::Limit, message)
        .with_hint("shorten it in the SQL, raise the limit or set `labels_too_long: truncate`")
}
