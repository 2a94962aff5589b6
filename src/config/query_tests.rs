//! `tests:` of a file with queries: what a query makes of some rows. Read and checked at every load, run by `check` only;
//! serving drops them with the plan.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::SourcePosition;
use crate::yaml::keys::{Keys, nearest};
use crate::yaml::rows::{Literal, LiteralRow};

use super::query::{Query, QueryEntry};

/// One case.
pub struct QueryTest {
    /// What it shows.
    pub name: String,
    /// The entry in its file.
    pub place: SourcePosition,
    /// The query as its file has it: no `overrides`, and on no target.
    pub query: Arc<Query>,
    /// What the database answers.
    pub given: TestInput,
    /// What becomes of it.
    pub expected: TestExpectation,
}

/// Where the rows of a case come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestInput {
    /// The case itself; each row has a value for each column.
    Rows {
        /// Their names, in the order of the result.
        columns: Vec<String>,
        /// In the order of the columns.
        rows: Vec<Vec<Literal>>,
    },
    /// The query's statement on a SQLite database that this script makes.
    Sqlite(String),
}

/// How a case ends when all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestExpectation {
    /// With these samples, as text.
    Exposition(String),
    /// With an error whose message holds this.
    Error(String),
}

/// Takes the key `tests`; `queries` are those of the same file, all of them if `all_known`. Faults are recorded.
pub(super) fn read(keys: &mut Keys<'_>, queries: &[QueryEntry], all_known: bool) -> Vec<QueryTest> {
    let items = keys.items("tests").unwrap_or_default();
    let known = Known {
        queries: queries.iter().map(|query| (&*query.name, query)).collect(),
        // In their order, for hints.
        names: queries.iter().map(|query| &*query.name).filter(|name| !name.is_empty()).collect(),
        all: all_known,
    };
    let mut cases: Vec<QueryTest> = Vec::new();
    let mut names = HashSet::new();
    for mut item in items {
        let case = one(&mut item, &known);
        if let Some(case) = &case
            && !names.insert(case.name.clone())
        {
            item.fault("name", format!("a test of this file is called {:?} already", case.name));
        }
        item.finish();
        cases.extend(case);
    }
    cases
}

/// The queries of the same file.
struct Known<'q> {
    queries: HashMap<&'q str, &'q QueryEntry>,
    names: Vec<&'q str>,
    /// False where one has no name: it may be the one that is missing.
    all: bool,
}

fn one(keys: &mut Keys<'_>, known: &Known<'_>) -> Option<QueryTest> {
    let name = needed(keys, "name", "a test needs a `name`: what it shows");
    let query = needed(keys, "query", "a test needs a `query` of this file");
    let query = query.and_then(|name| find(keys, &name, known));
    keys.one_of(&["rows", "sqlite"]);
    one_of_two(keys, &["rows", "sqlite"], "nothing says what the database answers");
    let rows = rows(keys);
    let script = keys.literal("sqlite");
    keys.one_of(&["exposition", "error"]);
    one_of_two(keys, &["exposition", "error"], "nothing says what is expected");
    let (exposition, error) = (keys.literal("exposition"), keys.literal("error"));
    if error.as_ref().is_some_and(|part| part.trim().is_empty()) {
        keys.fault("error", "every message holds an empty text: write a part of the one that is expected");
    }
    let given = rows.or(script.map(TestInput::Sqlite));
    let expected = exposition.map(TestExpectation::Exposition).or(error.map(TestExpectation::Error));
    Some(QueryTest { name: name?, place: keys.place(""), query: query?, given: given?, expected: expected? })
}

fn needed(keys: &mut Keys<'_>, key: &'static str, message: &str) -> Option<String> {
    let group: &[&str] = if key == "name" { &["name"] } else { &["query"] };
    keys.one_of(group);
    let text = keys.text(key);
    if !keys.has(key) {
        keys.lacks("", group, message, None);
    }
    text
}

fn find(keys: &Keys<'_>, name: &str, known: &Known<'_>) -> Option<Arc<Query>> {
    if let Some(query) = known.queries.get(name) {
        return Some(Arc::new(query.resolve(query.settings, 0)));
    }
    if known.all {
        let message = format!("this file has no query {name:?}");
        match nearest(name, known.names.iter().copied()) {
            Some(near) => keys.fault_with_hint("query", message, format!("did you mean {near:?}?")),
            None => keys.fault("query", message),
        }
    }
    None
}

fn one_of_two(keys: &Keys<'_>, group: &'static [&'static str; 2], none: &str) {
    let [first, second] = group;
    match (keys.has(first), keys.has(second)) {
        (true, true) => {
            keys.fault_with_hint(second, format!("stands beside `{first}`"), "write one of them");
        }
        (false, false) => keys.lacks("", group, none, Some(format!("write `{first}` or `{second}`"))),
        _ => {}
    }
}

/// `rows` with `columns`. Without `columns` each row names them all: one that is missing may be a slip.
fn rows(keys: &mut Keys<'_>) -> Option<TestInput> {
    let written = keys.texts("columns");
    let rows = keys.rows("rows");
    if written.is_some() && !keys.has("rows") {
        keys.fault("columns", "`columns` goes with `rows`");
    }
    let rows = rows?;
    let columns = written.clone().unwrap_or_else(|| names(&rows));
    let all: HashSet<&String> = columns.iter().collect();
    for (index, row) in rows.iter().enumerate() {
        let own: HashSet<&String> = row.iter().map(|(name, _)| name).collect();
        let lacks = columns.iter().find(|column| !own.contains(column));
        if let (Some(column), None) = (lacks, &written) {
            let hint = format!("write `{column}: ~` for NULL, or name the `columns` of all rows");
            keys.fault_with_hint("rows", format!("row {} has no column `{column}`", index + 1), hint);
        }
        if let Some((name, _)) = row.iter().find(|(name, _)| !all.contains(name)) {
            keys.fault(
                "rows",
                format!("row {} has the column `{name}`, which is not in `columns`", index + 1),
            );
        }
    }
    let values = |row: &LiteralRow| {
        let of: HashMap<&String, &Literal> = row.iter().map(|(name, literal)| (name, literal)).collect();
        let value = |column: &String| of.get(column).map_or(Literal::Nothing, |literal| (*literal).clone());
        columns.iter().map(value).collect()
    };
    let rows = rows.iter().map(values).collect();
    Some(TestInput::Rows { columns, rows })
}

/// The columns that any row names, in the order first met.
fn names(rows: &[LiteralRow]) -> Vec<String> {
    let mut known = HashSet::new();
    let new = rows.iter().flatten().map(|(name, _)| name).filter(|name| known.insert(*name));
    new.cloned().collect()
}
