//! What a statement's result looks like, and its rows, read in place.

use std::collections::HashMap;

use crate::driver::advice::Advice;
use crate::driver::{Column, Row, bounded_text};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

use super::advice;
use super::connection::{LongPart, MessageFields, RowBounds, TooLong};
use super::values::{TextStyles, ValueType, rewrite, type_name};

/// The most columns of a result: PostgreSQL itself has at most 1,664.
const MAX_COLUMNS: usize = 4_096;

/// What a statement's result looks like.
#[derive(Debug, Clone, Default)]
pub(super) struct ResultShape {
    /// Name and type of each column.
    pub(super) columns: Vec<Column>,
    /// What each column's values mean.
    pub(super) value_types: Vec<ValueType>,
    /// For each column whether its values come in binary (1) or as text (0); empty when all are text.
    pub(super) formats: Vec<i16>,
    /// How many parameters the statement has.
    pub(super) parameters: usize,
    /// The type OIDs of columns that only this server has, by column.
    unknown: Vec<(usize, u32)>,
}

impl ResultShape {
    /// Reads a `RowDescription`. A domain comes as its base type.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut fields = MessageFields(body);
        let mut shape = ResultShape::default();
        let count = usize::from(fields.short()?);
        if count > MAX_COLUMNS {
            return None;
        }
        for column in 0..count {
            let name = bounded_text::name(fields.text()?).into();
            let (_table, _number) = (fields.long()?, fields.short()?);
            let oid = fields.long()?;
            let (_size, _modifier, format) = (fields.short()?, fields.long()?, fields.short()?);
            let value_type = ValueType::of(oid);
            if value_type.is_none() {
                shape.unknown.push((column, oid));
            }
            // Its category tells what its text means, where that is asked: a query of the simple protocol has no time to.
            let value_type = value_type.unwrap_or(ValueType::Text);
            let (type_name, content) = (type_name(oid).into(), value_type.content());
            shape.value_types.push(value_type);
            shape.formats.push(i16::from(format == 1));
            shape.columns.push(Column { name, type_name, advice: advice::of(oid), quote: '"', content });
        }
        Some(shape)
    }

    /// Asks for the formats that are read best. A statement's own description does not tell them.
    pub(super) fn choose_formats(&mut self) {
        let is_binary = |value_type: &ValueType| value_type.is_binary();
        self.formats.clear();
        if self.value_types.iter().any(is_binary) {
            self.formats.extend(self.value_types.iter().map(|value_type| i16::from(is_binary(value_type))));
        }
    }

    /// True where values come as they were asked for; false after the statement's types have changed.
    pub(super) fn has_chosen_formats(&self) -> bool {
        self.value_types.iter().zip(&self.formats).all(|(kind, format)| *format == 0 || kind.is_binary())
    }

    /// True where a value can be read only with the styles of its own transaction.
    pub(super) fn has_money(&self) -> bool {
        self.value_types.contains(&ValueType::Money)
    }

    fn is_binary(&self, column: usize) -> bool {
        self.formats.get(column) == Some(&1)
    }

    /// The error of a value that cannot be read.
    fn unreadable(&self, column: usize, styles: &TextStyles) -> Error {
        let names = self.columns.get(column).map(|column| (&*column.name, &*column.type_name));
        let (name, type_name) = names.unwrap_or(("?", "?"));
        let value_type = self.value_types.get(column).filter(|_| !self.is_binary(column));
        if let Some(setting) = value_type.and_then(|value_type| value_type.unreadable_in(styles)) {
            let message =
                format!("column {name} ({type_name}): with {setting} its text cannot be read exactly");
            return Error::new(Reason::Value, message).with_hint(format!(
                "select extract(epoch FROM {name}), or leave out params: {{protocol: simple}}"
            ));
        }
        let message = format!("column {name}: the server sent a value that cannot be read as {type_name}");
        Error::new(Reason::Protocol, message)
    }
}

/// The types that only one server has (enums, extensions), by OID: their names and categories, asked once per session.
#[derive(Debug, Default)]
pub(super) struct ServerTypes(HashMap<u32, (String, ValueType, Advice)>);

impl ServerTypes {
    /// The statement that asks for those in `shapes` that are not known yet. Rows: OID, name, category.
    pub(super) fn question(&self, shapes: &[ResultShape]) -> Option<String> {
        let unknown = shapes.iter().flat_map(|shape| &shape.unknown).map(|(_, oid)| oid);
        let oids: Vec<String> =
            unknown.filter(|oid| !self.0.contains_key(oid)).map(ToString::to_string).collect();
        (!oids.is_empty()).then(|| {
            format!(
                "SELECT oid, pg_catalog.format_type(oid, NULL), typcategory FROM pg_catalog.pg_type \
                 WHERE oid OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.oid[])",
                oids.join(",")
            )
        })
    }

    /// Keeps one row of the answer.
    pub(super) fn learn(&mut self, row: &[Option<String>]) {
        if let [Some(oid), Some(name), Some(category)] = row
            && let Ok(oid) = oid.parse()
        {
            let name = bounded_text::name(name);
            self.0.insert(oid, (name, ValueType::of_category(category), advice::of_category(category)));
        }
    }

    /// Fills in what is known.
    pub(super) fn complete(&self, shape: &mut ResultShape) {
        for (index, oid) in &shape.unknown {
            if let Some((name, value_type, advice)) = self.0.get(oid)
                && let Some(column) = shape.columns.get_mut(*index)
                && let Some(slot) = shape.value_types.get_mut(*index)
            {
                column.type_name = name.as_str().into();
                column.content = value_type.content();
                column.advice = *advice;
                *slot = *value_type;
            }
        }
    }
}

/// Where each value of a row is in the row's body, `None` being NULL. One allocation for all rows.
#[derive(Default)]
pub(super) struct PgValueSpans(Vec<Option<(usize, usize)>>);

impl PgValueSpans {
    /// Finds the values of a `DataRow`, and rewrites in place those that must be.
    ///
    /// # Errors
    /// `protocol`, when the row is not what its description says; `limit`.
    pub(super) fn find(
        &mut self,
        body: &mut [u8],
        shape: &ResultShape,
        styles: &TextStyles,
        bounds: RowBounds,
    ) -> Result<()> {
        self.0.clear();
        let wrong =
            || Error::new(Reason::Protocol, "the server sent a row that does not match its description");
        let mut fields = MessageFields(body);
        let count = usize::from(fields.short().ok_or_else(wrong)?);
        if count != shape.value_types.len() {
            return Err(wrong());
        }
        let mut at = 2;
        for column in 0..count {
            let length = fields.long().ok_or_else(wrong)?;
            at += 4;
            if length == u32::MAX {
                self.0.push(None);
                continue;
            }
            let length = length as usize;
            if length > bounds.cell {
                let too_long = TooLong { what: LongPart::Cell(column), length, most: bounds.cell };
                return Err(too_long.of_query(Some(shape)));
            }
            fields.bytes(length).ok_or_else(wrong)?;
            self.0.push(Some((at, at + length)));
            at += length;
        }
        for (column, (span, value_type)) in self.0.iter_mut().zip(&shape.value_types).enumerate() {
            if let Some((start, end)) = span
                && value_type.is_rewritten()
                && !shape.is_binary(column)
            {
                let bytes = body.get_mut(*start..*end).ok_or_else(wrong)?;
                let length = rewrite(*value_type, styles, bytes);
                *end = *start + length.ok_or_else(|| shape.unreadable(column, styles))?;
            }
        }
        Ok(())
    }
}

/// One row, read in place.
pub(super) struct PgRow<'a> {
    pub(super) body: &'a [u8],
    pub(super) spans: &'a PgValueSpans,
    pub(super) shape: &'a ResultShape,
    /// How the server writes what comes as text.
    pub(super) styles: &'a TextStyles,
}

impl Row for PgRow<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        let wrong = || self.shape.unreadable(column, self.styles);
        let value_type = self.shape.value_types.get(column).ok_or_else(wrong)?;
        let Some((start, end)) = *self.spans.0.get(column).ok_or_else(wrong)? else { return Ok(Cell::Null) };
        let bytes = self.body.get(start..end).ok_or_else(wrong)?;
        let cell = match self.shape.is_binary(column) {
            true => value_type.binary_cell(bytes),
            false => value_type.cell(bytes, self.styles),
        };
        cell.ok_or_else(wrong)
    }
}
