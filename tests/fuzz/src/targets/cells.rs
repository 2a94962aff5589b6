//! Cells of any kind through metrics of any type: a page that is legal in both formats, or an error of the query.

use sql_exporter::error::Reason;
use sql_exporter::value::{Cell, LocalTimeError};

use crate::checker::{checked, openmetrics};
use crate::table::{Table, bare, open_page, page, query, render};

/// What an input may be run through; its first byte chooses.
const METRICS: [&str; 17] = [
    "{name: x, help: 'H', labels: [a, b], invalid: skip}",
    "{name: x_total, type: counter, labels: [a], duplicates: first}",
    "{name: x, type: unknown, 'null': nan, empty: 0}",
    "{name: x, labels: [a], timestamp_column: b, invalid: skip}",
    "{name: 'x_{a}', labels: [b], invalid: skip}",
    "{name: x, type: histogram, labels: [a], value_column: value, buckets: [-1, 0.5, 10]}",
    "{name: x, type: histogram, labels: [a], le_column: b, value_column: value, sum_column: c, count_column: d}",
    "{name: x, type: histogram, bucket_columns: {'0.1': a, '5': b}, sum_column: c, count_column: d}",
    "{name: x, type: gaugehistogram, labels: [a], value_column: value, scale: 0.001, invalid: skip}",
    "{name: x, type: summary, labels: [a], quantile_columns: {'0.5': b, '0.99': value}, sum_column: c, count_column: d}",
    "{name: x_info, type: info, labels: [a, b, c]}",
    "{name: x, type: stateset, labels: [b], state_column: a, states: [on, 'off']}",
    "{name: x_total, type: counter, labels: [a], value_columns: [b, value], value_label: c, duplicates: sum, invalid: skip, map: {on: 1}}",
    "{name: x, labels: {l: {column: a, pattern: '^(.)(.*)$', lower: true}}, duplicates: first, invalid: skip}",
    "{name: 'x_{a|^o(.+)$}_{b}_s', type: summary, sum_column: c, count_column: d, duplicates: first}",
    "{name: x, type: gaugehistogram, labels: [a], le_column: b, value_column: value, cumulative: false, duplicates: first}",
    "{name: 'x_{a}_s', type: histogram, value_column: value, buckets: [0.5, 10], 'null': 0, invalid: skip}",
];
const COLUMNS: [&str; 5] = ["a", "b", "c", "d", "value"];

/// Takes an input apart.
struct Input<'d>(&'d [u8]);

impl<'d> Input<'d> {
    fn bytes(&mut self, count: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.bytes(8);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    fn small(&mut self) -> u32 {
        let mut bytes = [0; 4];
        let taken = self.bytes(4);
        bytes[..taken.len()].copy_from_slice(taken);
        u32::from_le_bytes(bytes)
    }

    fn piece(&mut self) -> &'d [u8] {
        let length = self.byte() % 24;
        self.bytes(length.into())
    }

    /// Text as a database gives it: UTF-8.
    fn text(&mut self) -> &'d str {
        let piece = self.piece();
        match std::str::from_utf8(piece) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&piece[..error.valid_up_to()]).expect("checked"),
        }
    }

    fn cell(&mut self) -> Cell<'d> {
        match self.byte() % 20 {
            0 => Cell::Null,
            1 => Cell::Bool(self.byte() % 2 == 1),
            2 => Cell::Int(self.number().cast_signed()),
            3 => Cell::UInt(self.number()),
            4 => Cell::Float(f64::from_bits(self.number())),
            5 => Cell::Float32(f32::from_bits(self.small())),
            6 => Cell::Number(self.text()),
            7 => Cell::Bytes(self.piece()),
            8 => Cell::Date(self.number().cast_signed()),
            9 => Cell::Time(self.number().cast_signed()),
            10 => Cell::DateTime { micros: self.number().cast_signed(), zoned: self.byte() % 2 == 1 },
            11 => {
                let (months, days) = (self.small().cast_signed(), self.small().cast_signed());
                Cell::Interval { months, days, micros: self.number().cast_signed() }
            }
            12 => Cell::Other(self.text()),
            // More small numbers and words than chance would bring: they make whole histograms.
            13 => Cell::Int(i64::from(self.byte())),
            14 => Cell::LocalDateTime {
                micros: self.number().cast_signed(),
                moment: Ok(self.number().cast_signed()),
            },
            15 => Cell::LocalDate { days: self.number().cast_signed(), moment: Err(LocalTimeError::Twice) },
            16 => Cell::NoDate(self.text()),
            18 => Cell::TextDate(self.text()),
            17 => Cell::Float(f64::from(self.byte().cast_signed()) / 8.0),
            _ => Cell::Text(self.text()),
        }
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let metric = METRICS[usize::from(input.byte()) % METRICS.len()];
    let mut rows = Vec::new();
    while !input.0.is_empty() && rows.len() < 64 {
        rows.push(COLUMNS.map(|_| input.cell()));
    }
    let rows: Vec<&[Cell<'_>]> = rows.iter().map(<[Cell<'_>; 5]>::as_slice).collect();
    match render(&query(metric), &bare(), &Table::new(&COLUMNS, &rows)) {
        Ok(rendered) => {
            checked(&page(&rendered));
            openmetrics::check(&open_page(&rendered)).expect("legal OpenMetrics");
        }
        Err(error) => {
            let known = [Reason::Value, Reason::Type, Reason::Duplicate, Reason::Limit];
            assert!(known.contains(&error.reason()), "{error}");
        }
    }
}
