//! `tests:` of a file with queries: what a query makes of some rows. Read and checked at every load, run by `check` only;
//! serving drops them after the load.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexSet;

use crate::error::SourcePosition;
use crate::yaml::keys::{Keys, Literal, Named, nearest};

use super::foreach::{self, Foreach, ForeachValues};
use super::query::{Query, QueryEntry};

/// One test.
pub struct QueryTest {
    /// What it shows.
    pub name: String,
    /// The entry in its file.
    pub place: SourcePosition,
    /// The query as its file has it: no `overrides`, and on no target.
    pub query: Arc<Query>,
    /// What the database answers.
    pub given: TestInput,
    /// What `foreach.sql` returns, where the test writes the rows.
    pub foreach: Option<Arc<ForeachValues>>,
    /// What becomes of it.
    pub expected: TestExpectation,
}

/// Where the rows of a test come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestInput {
    /// The test itself; each row has a value for each column.
    Rows {
        /// Their names, in the order of the result.
        columns: Vec<String>,
        /// In the order of the columns.
        rows: Vec<Vec<Literal>>,
    },
    /// The query's statement on a SQLite database that this script makes.
    Sqlite(String),
}

/// How a test ends when all is well.
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
    let known = KnownQueries {
        queries: queries.iter().map(|query| (&*query.name, query)).collect(),
        // In their order, for hints.
        names: queries.iter().map(|query| &*query.name).filter(|name| !name.is_empty()).collect(),
        all: all_known,
    };
    let mut tests: Vec<QueryTest> = Vec::new();
    let mut names = HashSet::new();
    for mut item in items {
        let test = one(&mut item, &known);
        if let Some(test) = &test
            && !names.insert(test.name.clone())
        {
            item.fault("name", format!("another test in this file is called {:?}", test.name));
        }
        item.finish();
        tests.extend(test);
    }
    tests
}

/// The queries of the same file.
struct KnownQueries<'q> {
    queries: HashMap<&'q str, &'q QueryEntry>,
    names: Vec<&'q str>,
    /// False where one has no name: it may be the one that is missing.
    all: bool,
}

fn one(keys: &mut Keys<'_>, known: &KnownQueries<'_>) -> Option<QueryTest> {
    keys.require_one(&["name"], "a test needs a `name`: what it shows", None);
    keys.require_one(&["query"], "a test needs a `query` of this file", None);
    let name = keys.text("name");
    let query = keys.text("query").and_then(|name| find(keys, &name, known));
    let none = "nothing says what the database returns";
    keys.require_one(&["rows", "sqlite"], none, Some("write `rows` or `sqlite`"));
    let rows = rows(keys);
    let script = keys.literal("sqlite");
    let foreach = foreach::values(keys, "foreach").map(Arc::new);
    if let Some(query) = &query {
        check_foreach(keys, query);
    }
    let none = "nothing says what is expected";
    keys.require_one(&["exposition", "error"], none, Some("write `exposition` or `error`"));
    let (exposition, error) = (keys.literal("exposition"), keys.literal("error"));
    if error.as_ref().is_some_and(|part| part.trim().is_empty()) {
        keys.fault("error", "an empty text is part of every message: write a part of the expected one");
    }
    let given = rows.or(script.map(TestInput::Sqlite));
    let expected = exposition.map(TestExpectation::Exposition).or(error.map(TestExpectation::Error));
    Some(QueryTest {
        name: name?,
        place: keys.place(""),
        query: query?,
        given: given?,
        foreach,
        expected: expected?,
    })
}

/// Rows say what the statement of a query returns. What its `foreach.sql` returns, they do not say.
fn check_foreach(keys: &Keys<'_>, query: &Query) {
    let is_asked = matches!(query.foreach.as_deref(), Some(Foreach::Sql { .. })) && keys.has("rows");
    if is_asked && !keys.has("foreach") {
        let hint = "add `foreach`, a list of mappings of labels to values, or test with `sqlite`";
        keys.fault_with_hint("rows", "nothing says what `foreach.sql` returns", hint);
    } else if !is_asked && keys.has("foreach") {
        keys.fault("foreach", "`foreach` goes with the `rows` of a query that has `foreach.sql`");
    }
}

fn find(keys: &Keys<'_>, name: &str, known: &KnownQueries<'_>) -> Option<Arc<Query>> {
    if let Some(query) = known.queries.get(name) {
        return Some(Arc::new(query.resolve(&query.written, 0)));
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
    let values = |row: &Named<Literal>| {
        let of: HashMap<&String, &Literal> = row.iter().map(|(name, literal)| (name, literal)).collect();
        let value = |column: &String| of.get(column).map_or(Literal::Nothing, |literal| (*literal).clone());
        columns.iter().map(value).collect()
    };
    let rows = rows.iter().map(values).collect();
    Some(TestInput::Rows { columns, rows })
}

/// The columns that any row names, in the order first met.
fn names(rows: &[Named<Literal>]) -> Vec<String> {
    let names: IndexSet<&String> = rows.iter().flatten().map(|(name, _)| name).collect();
    names.into_iter().cloned().collect()
}
