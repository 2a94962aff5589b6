//! One suite for every database: each case of `table.rs` is one behaviour, run on each database of [`subject`]
//! or absent from it with the reason. `cargo test conformance::` shows each pair as a test of its own.
//!
//! A new case is a row in the table and, where no behaviour fits, one function. A case runs as a user would see
//! it: YAML, plan, scrape, the text of the page. What only one driver has (poolers, pinned faults of a protocol)
//! stands in that driver's own module.

mod advice;
mod bench;
mod deadline;
mod door;
mod late;
mod result;
mod session;
pub(crate) mod subject;
mod table;
pub(crate) mod types;
pub(crate) mod value;
mod write;

use table::CASES;

/// The order of a row's cells.
const SUBJECTS: [&str; 3] = ["postgres", "mariadb", "sqlite"];

/// A row of the table, for the tests about the table itself.
struct Case {
    name: &'static str,
    /// The entry of [`DEMANDED`] that it is for.
    item: &'static str,
    /// For each of [`SUBJECTS`] why it has no such case; `None` where it has.
    absent: [Option<&'static str>; 3],
}

/// The list of issue 2, item 3, in its words, and what later issues added.
const DEMANDED: [&str; 37] = [
    "every column type as value and as label",
    "advice",
    "NULL",
    "zero rows",
    "100k rows streamed",
    "error after 50k rows",
    "wrong password",
    "unknown host",
    "refused",
    "accepts-and-stays-silent",
    "TLS demanded and missing",
    "a query past its deadline",
    "write: INSERT",
    "write: DDL",
    "write: writing CTE",
    "write: function with effect",
    "write: COMMIT",
    "write: DO",
    "write: SET",
    "write: INTO OUTFILE",
    "write: ATTACH",
    "write: VACUUM INTO",
    "write: second statement",
    "write: session change",
    "a server killed and back",
    "a dead idle session",
    "a deadline that strikes the neighbour",
    "a statement that ignores its cancel",
    "2^53+1",
    "40-digit NUMERIC",
    "Infinity",
    "NaN",
    "dates",
    "intervals",
    "unsigned 64-bit",
    "huge text",
    "all of Unicode",
];

#[test]
fn the_table_has_a_case_for_everything_that_is_demanded() {
    let covered = |item: &str| CASES.iter().any(|case| case.item == item);
    let missing: Vec<&str> = DEMANDED.into_iter().filter(|item| !covered(item)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    let strange: Vec<&str> =
        CASES.iter().filter(|case| !DEMANDED.contains(&case.item)).map(|case| case.name).collect();
    assert!(strange.is_empty(), "{strange:?} are for nothing that is demanded: extend the list");
}

#[test]
fn no_database_lacks_a_case_without_a_reason() {
    for case in CASES {
        assert!(case.absent.iter().any(Option::is_none), "{}: on no database at all", case.name);
        for (subject, absent) in SUBJECTS.iter().zip(case.absent) {
            let is_reason = absent.is_none_or(|reason| reason.split(' ').count() > 3);
            assert!(is_reason, "{} on {subject}: {absent:?} is not a reason", case.name);
        }
    }
}

#[test]
fn every_database_with_a_type_system_shows_at_least_25_types() {
    let counts = [&types::POSTGRES, &types::MARIADB].map(|types| {
        let mut names: Vec<&str> = types.all.iter().map(|known| known.declared).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    });
    assert!(counts.iter().all(|count| *count >= 25), "{counts:?}");
}
