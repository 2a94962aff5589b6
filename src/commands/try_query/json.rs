//! A trial for machines. The fields are a promise; what is not known is null.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::exposition::page::pieces;
use crate::exposition::text::Text;
use crate::inspect::try_query::{Ask, Listing, Mapped, Trial};

/// One document. Times are seconds, values are text, NULL is null.
pub(super) fn document(ask: &Ask<'_>, trial: &Trial) -> String {
    let made = trial.made.as_ref();
    let exposition = made.map(|made| {
        let pieces = pieces(&made.families, &Text);
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let listing = trial.listing.as_ref();
    let times = &trial.times;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let document = json!({
        "target": ask.target.name,
        "driver": ask.target.driver,
        "version": trial.facts.as_ref().map(|facts| &facts.version),
        "query": ask.query().map(|query| &*query.name),
        "sql": ask.sql().text(),
        "skipped_because": trial.skipped,
        "columns": listing.map(columns),
        "rows": listing.map(|listing| &listing.rows),
        "row_count": listing.map(|listing| listing.count),
        "mapping": trial.mapping.iter().map(mapped).collect::<Vec<_>>(),
        "plan": trial.plan.as_ref().map(|plan| json!({"columns": columns(plan), "rows": plan.rows})),
        "exposition": exposition,
        "series": made.map(|made| made.series),
        "families": made.map(|made| made.families.len()),
        "values_skipped": made.map(|made| json!({
            "null": made.skipped.null,
            "invalid": made.skipped.invalid,
            "duplicate": made.skipped.duplicate,
        })),
        "proposal": trial.proposal,
        "warnings": trial.warnings,
        "seconds": {
            "connect": seconds(times.connect),
            "first_row": seconds(times.first_row),
            "rows": seconds(times.rows),
            "render": seconds(times.render),
        },
        "error": trial.error.as_ref().map(error),
    });
    format!("{document:#}\n")
}

fn columns(listing: &Listing) -> Vec<Value> {
    let column = |column: &crate::driver::Column| json!({"name": *column.name, "type": *column.type_name});
    listing.columns.iter().map(column).collect()
}

/// `becomes` is null for a column that no metric uses, `type` for one that the result lacks.
fn mapped(mapped: &Mapped) -> Value {
    json!({
        "column": mapped.column,
        "type": mapped.type_name,
        "becomes": Some(&mapped.becomes).filter(|becomes| !becomes.is_empty()),
        "metrics": mapped.metrics,
        "rule": mapped.rule,
    })
}

fn error(error: &Error) -> Value {
    let place = error.place();
    let known = place.filter(|place| place.line > 0);
    let reason = match error.kind() {
        ErrorKind::Query(reason) => Some(reason.as_str()),
        ErrorKind::Config | ErrorKind::Machine => None,
    };
    json!({
        "reason": reason,
        "message": error.message(),
        "sqlstate": error.sqlstate(),
        "hint": error.hint(),
        "file": place.map(|place| &place.file),
        "line": known.map(|place| place.line),
        "column": known.map(|place| place.column),
        "path": place.map(|place| &place.path).filter(|path| !path.is_empty()),
    })
}
