//! pg_exporter's files of branches.
//!
//! Facts, from pgsty/pg_exporter 7582283: a branch makes metrics `NAME_COLUMN`, NAME being that of the branch unless `name`
//! says another; several branches of one NAME are for several servers. NULL is NaN, or `default` × `scale`. A result is kept
//! for `ttl` seconds; a query may take `timeout` seconds, 0.1 by default. Versions are numbers like `server_version_num`;
//! those of PgBouncer are made like that of 9.6.5. Each predicate must return one row that is true. Branches of later files
//! replace those of earlier ones. The databases that are found run the branches without the tag `cluster`. What is not a
//! number is NaN, and a column that is missing costs its own metric.

use std::collections::{HashMap, HashSet};

use super::address::AddressParts;
use super::assemble;
use super::custom_query::{QueryColumn, columns, is_custom_query, signs_of_query, with_usage};
use super::dialect::{ImportDialect, ImportSource, child, entries, items};
use super::families::{self, MOST_LABELS};
use super::model::{Entry, Imported, ImportedQuery, OutputFile, Value};
use super::negative_columns::negative_columns;
use super::report::Report;
use super::section::{Section, indented};
use super::unique_names::UniqueNames;
use crate::deadline::{duration_text, parse_duration};
use crate::error::SourcePosition;
use crate::inspect::sql_compare::column_names;
use crate::yaml::document::Node;

pub(super) const DIALECT: ImportDialect = ImportDialect { name: "pg_exporter", signs, convert };

/// Keys of a branch that no other dialect has beside `query` and `metrics`.
const OF_BRANCH: [&str; 10] = [
    "desc",
    "ttl",
    "timeout",
    "priority",
    "min_version",
    "max_version",
    "fatal",
    "skip",
    "tags",
    "predicate_queries",
];
/// The same for a column.
const OF_COLUMN: [&str; 4] = ["rename", "scale", "default", "bucket"];
/// The timeout of a branch that has none.
const TIMEOUT: &str = "100ms";
/// The databases that pg_exporter finds.
const DATABASES: &str = "SELECT datname AS database\nFROM pg_database\n\
                         WHERE datallowconn AND NOT datistemplate AND datname NOT IN ('postgres', current_database())";

fn signs(tree: &Node) -> Vec<String> {
    let mut signs: Vec<String> = Vec::new();
    for branch in entries(tree).iter().filter(|branch| is_custom_query(&branch.node)) {
        let columns = child(&branch.node, "metrics").map(items).unwrap_or_default();
        let has_column = |key: &str| {
            columns
                .iter()
                .filter_map(|column| entries(column).first())
                .any(|column| child(&column.node, key).is_some())
        };
        let of_branch = OF_BRANCH.iter().filter(|key| child(&branch.node, key).is_some());
        let keys: Vec<&'static str> =
            of_branch.chain(OF_COLUMN.iter().filter(|key| has_column(key))).copied().collect();
        // Without one, it may be postgres_exporter's as well.
        if !keys.is_empty() {
            signs_of_query(&mut signs, &branch.key, keys.into_iter());
        }
    }
    signs
}

fn convert(source: &ImportSource<'_>) -> Imported {
    let ImportSource { inputs, options, report } = *source;
    let mut files: Vec<BranchFile<'_>> = Vec::new();
    for input in inputs {
        let mut output = OutputFile { name: format!("{}.yaml", input.stem()), ..OutputFile::default() };
        output.top.comments = input.head_comments();
        let root = Section::root(input, report);
        let named = root.iter().flat_map(Section::named);
        let branches = named.map(|(name, section)| Branch::new(name, section)).collect();
        files.push(BranchFile { output, place: input.document.place(input.at, ""), branches });
    }
    without_replaced(&mut files, report);
    let to_console = options.url.as_deref().map(is_console);
    if let Some(to_console) = to_console {
        files.iter_mut().for_each(|file| file.keep_branches_for(to_console));
    }
    let of_databases = |branch: &Branch<'_>| !branch.is_console() && !branch.has_tag(&["cluster"]);
    let finds = to_console == Some(false) && files.iter().flat_map(|file| &file.branches).any(of_databases);
    let main = options.url.as_deref().map(|url| {
        let mut target = assemble::target(&console_url(url), report);
        if finds {
            target.entry.set("discover", Value::map([("sql", Value::Sql(DATABASES.to_owned()))]));
        }
        OutputFile { databases: vec![target], ..OutputFile::default() }
    });
    let target = main.as_ref().and_then(|main| main.databases.first()).map(|target| target.name.clone());
    let discovering = target.as_deref().filter(|_| finds);
    if let Some(file) = files.first() {
        let message = "pg_exporter's metrics about itself have other names here: `sql_exporter_target_up` for pg_up (an \
                       included file shows both, by `up`), `sql_exporter_target_info` for pg_version and pg_in_recovery, \
                       `sql_exporter_query_…` for pg_exporter_query_…";
        report.note(file.place.clone(), message);
    }
    if target.is_none() {
        files.iter().flat_map(|file| &file.branches).for_each(Branch::note_level);
    }
    let mut names = UniqueNames::default();
    let mut included: Vec<OutputFile> =
        files.into_iter().map(|file| file.convert(discovering, &mut names)).collect();
    included.retain(|file| main.is_none() || !file.queries.is_empty());
    families::unite(included.iter_mut().flat_map(|file| &mut file.queries), report);
    Imported { main, included }
}

/// One input.
struct BranchFile<'s> {
    output: OutputFile,
    place: SourcePosition,
    branches: Vec<Branch<'s>>,
}

impl BranchFile<'_> {
    /// Takes out what pg_exporter does not run on the target: it is PgBouncer's console, or is not.
    fn keep_branches_for(&mut self, to_console: bool) {
        self.branches.retain(|branch| {
            let is_kept = branch.is_console() == to_console;
            if !is_kept {
                let message = "not in the result, as pg_exporter does not run it there: --url names another kind of server (the \
                               tag `pgbouncer` is for PgBouncer's console)";
                branch.section.note("tags", message);
            }
            is_kept
        });
    }

    /// `discovering`: the target whose databases run branches, too.
    fn convert(self, discovering: Option<&str>, names: &mut UniqueNames) -> OutputFile {
        let BranchFile { mut output, branches, .. } = self;
        let consoles = branches.iter().filter(|branch| branch.is_console()).count();
        let driver = match consoles {
            0 => Some("postgres"),
            all if all == branches.len() => Some("pgbouncer"),
            _ => None,
        };
        if let Some(driver) = driver {
            output.top.set("driver", driver);
            output.top.set("up", if driver == "pgbouncer" { "pgbouncer_up" } else { "pg_up" });
        }
        let has_default = |branch: &Branch<'_>| branch.timeout == 0.0;
        // A branch without a limit would inherit that of the file.
        let is_one_limit = branches.iter().all(|branch| branch.timeout >= 0.0);
        if is_one_limit && branches.iter().any(has_default) {
            output.top.set("timeout", TIMEOUT);
        }
        for branch in &branches {
            let Some(mut query) = branch.query() else { continue };
            query.entry.set("name", names.take(branch.name));
            if !is_one_limit && has_default(branch) {
                query.entry.set("timeout", TIMEOUT);
            }
            match (branch.is_console(), discovering) {
                (false, Some(target)) if branch.has_tag(&["cluster"]) => query.entry.set("database", target),
                (false, Some(target)) => {
                    query.entry.set("databases", Value::list([target.to_owned(), format!("{target}/*")]));
                }
                (is_console, _) if driver.is_none() => {
                    query.entry.set("driver", if is_console { "pgbouncer" } else { "postgres" });
                }
                _ => {}
            }
            output.queries.push(query);
        }
        output
    }
}

/// Takes out branches that one of the same name in a later file replaces.
fn without_replaced(files: &mut [BranchFile<'_>], report: &Report) {
    let mut last: HashMap<String, usize> = HashMap::new();
    for (at, file) in files.iter().enumerate() {
        last.extend(file.branches.iter().map(|branch| (branch.name.to_owned(), at)));
    }
    for (at, file) in files.iter_mut().enumerate() {
        file.branches.retain(|branch| {
            let is_last = last.get(branch.name) == Some(&at);
            if !is_last {
                let message =
                    format!("a later file has the branch {}, too, which replaces this one", branch.name);
                report.note(branch.section.place(), message);
            }
            is_last
        });
    }
}

/// Whether an address is that of PgBouncer's console: pg_exporter knows it by the name of the database.
fn is_console(url: &str) -> bool {
    AddressParts::of(url).is_some_and(|address| address.path == "pgbouncer")
}

/// The address with the scheme of PgBouncer's console, where it is one.
fn console_url(url: &str) -> String {
    match url.split_once("://") {
        Some((_, rest)) if is_console(url) => format!("pgbouncer://{rest}"),
        _ => url.to_owned(),
    }
}

/// A query with its conditions and columns.
struct Branch<'s> {
    name: &'s str,
    section: Section<'s>,
    tags: Vec<String>,
    /// 0 is the default, less than 0 means no limit.
    timeout: f64,
}

impl<'s> Branch<'s> {
    fn new(name: &'s str, section: Section<'s>) -> Branch<'s> {
        let tags = section.texts("tags").iter().map(|tag| tag.trim().to_owned()).collect();
        let timeout = section.number("timeout").unwrap_or(0.0);
        Branch { name, section, tags, timeout }
    }

    fn has_tag(&self, tags: &[&str]) -> bool {
        self.tags.iter().any(|tag| tags.contains(&tag.as_str()))
    }

    fn is_console(&self) -> bool {
        self.has_tag(&["pgbouncer"])
    }

    /// What becomes of the difference between a server and its databases, where no target is known.
    fn note_level(&self) {
        if self.is_console() {
            return;
        }
        let message = match self.has_tag(&["cluster"]) {
            true => {
                "a branch with the tag `cluster` runs on every PostgreSQL target, also on those that `discover` finds: \
                 choose them by `databases`"
            }
            false => {
                "a branch without the tag `cluster` runs on the databases of a target where the target has `discover: {}`: \
                 pg_exporter finds them without being told (--auto-discovery)"
            }
        };
        self.section.note("tags", message);
    }

    fn query(&self) -> Option<ImportedQuery> {
        let Branch { section, .. } = self;
        let sql = section.sql("query").unwrap_or_default();
        if sql.is_empty() {
            section.left_out("query", "a branch without a `query`: pg_exporter does not read the file");
            return None;
        }
        let mut entry = section.entry();
        entry.comments.extend(section.text("desc").iter().flat_map(|desc| desc.lines()).map(str::to_owned));
        entry.set_if("interval", section.number("ttl").filter(|ttl| *ttl > 0.0).and_then(seconds));
        entry.set_if("timeout", Some(self.timeout).filter(|limit| *limit > 0.0).and_then(seconds));
        let is_known = self.conditions(&mut entry);
        if !is_known {
            return None;
        }
        if self.flag("skip") || self.needs_tag() {
            entry.set("enabled", "false");
        }
        if self.flag("fatal") {
            section.note(
                "fatal",
                "if this query fails, the others stay on the page, and `sql_exporter_query_success` is 0: there nothing \
                 else was left, and pg_up was 0",
            );
        }
        if section.take("priority").is_some() {
            section.note("priority", "queries have no order here: they run at the same time");
        }
        let prefix =
            section.text("name").filter(|name| !name.is_empty()).unwrap_or_else(|| self.name.to_owned());
        let columns = columns(section).into_iter();
        let mut columns: Vec<QueryColumn<'_>> =
            columns.filter_map(|(name, section)| column(name, section)).collect();
        section.dead_keys();
        let negative = negative_columns(&sql);
        let returned = column_names(&sql);
        columns.retain(|column| column.is_in(returned.as_deref(), std::iter::once(column.name.clone())));
        entry.set("sql", Value::Sql(sql));
        if with_usage(&columns, "LABEL").count() > MOST_LABELS {
            section.left_out("metrics", format!("a branch with more than {MOST_LABELS} labels"));
            return None;
        }
        let labels = labels(&columns);
        let metrics: Vec<Entry> =
            columns.iter().filter_map(|column| metric(column, &prefix, &labels, &negative)).collect();
        if metrics.is_empty() {
            section.leave_out(format!("the branch {} has no column that makes a metric", self.name));
            return None;
        }
        Some(ImportedQuery { entry, metrics })
    }

    fn flag(&self, key: &str) -> bool {
        self.section.flag(key) == Some(true)
    }

    /// `min_version`, `max_version`, `predicate_queries` and most tags; false where the branch runs nowhere.
    fn conditions(&self, entry: &mut Entry) -> bool {
        let mut when: Vec<(&str, Value)> = Vec::new();
        let bound = |key: &str, operator: &str| {
            let number = self.section.parsed(key, "a version", |text| text.trim().parse().ok());
            let number = number.filter(|number| *number > 0)?;
            Some(format!("{operator}{}", version(number)))
        };
        let bounds: Vec<String> =
            [bound("min_version", ">="), bound("max_version", "<")].into_iter().flatten().collect();
        if !bounds.is_empty() {
            when.push(("version", bounds.join(" ").into()));
        }
        let is_primary = self.has_tag(&["primary", "master", "leader"]);
        let is_replica = self.has_tag(&["standby", "replica", "slave"]);
        match (is_primary, is_replica) {
            (true, true) => {
                self.section
                    .left_out("tags", "no server is a primary and a replica: the branch runs nowhere");
                return false;
            }
            (true, false) => when.push(("role", "primary".into())),
            (false, true) => when.push(("role", "replica".into())),
            (false, false) => {}
        }
        let extensions: Vec<&str> = self.tags_with("extension:").collect();
        match extensions.as_slice() {
            [] => {}
            [one] => when.push(("extension", (*one).into())),
            several => when.push(("extension", Value::list(several.iter().copied()))),
        }
        if let Some(sql) = self.condition_sql() {
            if self.is_console() {
                let message = "PgBouncer's console answers no conditions: the branch is left out";
                self.section.left_out("tags", message);
                return false;
            }
            when.push(("sql", Value::Sql(sql)));
        }
        entry.set_nonempty("when", Value::map(when));
        true
    }

    fn tags_with(&self, prefix: &'static str) -> impl Iterator<Item = &str> {
        self.tags.iter().filter_map(move |tag| tag.strip_prefix(prefix))
    }

    /// One statement for the predicates, and for tags that `when` has no key for.
    fn condition_sql(&self) -> Option<String> {
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let databases = self.tags_with("dbname:").map(|name| format!("current_database() = {}", text(name)));
        let users = self.tags_with("username:").map(|name| format!("current_user = {}", text(name)));
        let schemas = self.tags_with("schema:").map(|name| {
            format!("EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {})", text(name))
        });
        let mut conditions: Vec<String> = databases.chain(users).chain(schemas).collect();
        let sections = self.section.sections("predicate_queries");
        let predicates: Vec<String> =
            sections.iter().filter_map(|section| section.sql("predicate_query")).collect();
        if let Some(section) = sections.first() {
            let message = "`when.sql` is asked every 5 minutes: a predicate before each query, or when its `ttl` is over";
            section.note("predicate_query", message);
        }
        let is_one_row = |sql: &&String| {
            let mut words = sql.split_whitespace().map(str::to_ascii_lowercase);
            words.next().as_deref() == Some("select")
                && words.next().is_some_and(|word| word.starts_with("exists"))
        };
        if let [predicate] = predicates.as_slice()
            && conditions.is_empty()
            && is_one_row(&predicate)
        {
            return Some(predicate.clone());
        }
        // No row is no, as NULL is.
        conditions.extend(predicates.iter().map(|sql| format!("coalesce((\n{}\n), false)", indented(sql))));
        (!conditions.is_empty()).then(|| format!("SELECT {}", conditions.join("\n  AND ")))
    }

    /// Tags of the exporter's own command line, which the file does not know.
    fn needs_tag(&self) -> bool {
        const KNOWN: [&str; 8] =
            ["cluster", "primary", "master", "leader", "standby", "replica", "slave", "pgbouncer"];
        const PREFIXES: [&str; 5] = ["extension:", "schema:", "dbname:", "username:", "not:"];
        let is_own = |tag: &&String| {
            !KNOWN.contains(&tag.as_str()) && !PREFIXES.iter().any(|prefix| tag.starts_with(prefix))
        };
        let mut needs = false;
        for tag in self.tags.iter().filter(is_own) {
            needs = true;
            let message = format!(
                "the branch runs where pg_exporter has the tag {tag:?} (--tag): `enabled: false` here, which `overrides` of \
                 a target can change"
            );
            self.section.note("tags", message);
        }
        for tag in self.tags_with("not:") {
            let message = format!(
                "the branch does not run where pg_exporter has the tag {tag:?} (--tag): write `enabled: false` in \
                 `overrides` of such a target"
            );
            self.section.note("tags", message);
        }
        needs
    }
}

/// A column that a branch lists; `None`, reported, for a usage that there is not.
fn column<'s>(name: &str, section: Section<'s>) -> Option<QueryColumn<'s>> {
    let usage = section.text("usage").unwrap_or_default().trim().to_ascii_uppercase();
    if !["DISCARD", "LABEL", "GAUGE", "COUNTER", "HISTOGRAM"].contains(&usage.as_str()) {
        section.left_out("usage", format!("{usage:?} is not a usage: pg_exporter does not read the file"));
        return None;
    }
    let is_given = |text: &String| !text.is_empty();
    let name = section.text("name").filter(is_given).unwrap_or_else(|| name.to_owned());
    let exported = section.text("rename").filter(is_given).unwrap_or_else(|| name.clone());
    Some(QueryColumn { name, exported, usage, section })
}

/// The metric of a column; `None` for what makes none. `negative`: the columns that may be negative.
fn metric(
    column: &QueryColumn<'_>,
    prefix: &str,
    labels: &Value,
    negative: &HashSet<String>,
) -> Option<Entry> {
    let QueryColumn { name, exported, usage, section } = column;
    if matches!(usage.as_str(), "LABEL" | "DISCARD") {
        return None;
    }
    let mut metric = column.metric(format!("{prefix}_{exported}"), labels)?;
    metric.set("value_column", name.as_str());
    let scale = section.number("scale").unwrap_or(1.0);
    if scale == 0.0 {
        section.left_out("scale", "a factor of 0: write `value: 0` for a constant");
        return None;
    }
    metric.set_if("scale", section.text("scale").filter(|_| scale.to_bits() != 1_f64.to_bits()));
    // What stands for NULL is not scaled here.
    let default = section.number("default").map(|default| default * scale);
    metric.set_if("null", default.map(|default| default.to_string()));
    match usage.as_str() {
        "HISTOGRAM" => histogram(section, &mut metric),
        "COUNTER"
            if default.is_some_and(|default| default < 0.0)
                || negative.contains(&name.to_ascii_lowercase()) =>
        {
            section.note("usage", "a gauge here: a counter cannot be negative, and this one may be");
            metric.set("null", default.map_or_else(|| "nan".to_owned(), |default| default.to_string()));
        }
        "COUNTER" => {
            metric.set("type", "counter");
            if default.is_none() {
                section.note("usage", "NULL in a counter makes no sample; there it is NaN");
            }
        }
        _ if default.is_none() => metric.set("null", "nan"),
        _ => {}
    }
    section.dead_keys();
    Some(metric)
}

fn histogram(section: &Section<'_>, metric: &mut Entry) {
    let buckets = section.texts("bucket");
    let is_signed = buckets.iter().any(|bound| bound.trim().starts_with('-'));
    metric.set("type", "histogram");
    metric.set("buckets", Value::list(buckets));
    section.note(
        "usage",
        "a histogram here: there three gauges of the same names, and `le` without the `.0` of whole numbers",
    );
    if is_signed {
        section.left_out("bucket", "a histogram with a bound below 0 has no _sum and no _count");
    }
}

/// The labels of all metrics.
fn labels(columns: &[QueryColumn<'_>]) -> Value {
    let labels = || with_usage(columns, "LABEL");
    if labels().all(|label| label.name == label.exported) {
        return Value::list(labels().map(|label| label.name.as_str()));
    }
    Value::map(labels().map(|label| (&label.exported, label.name.as_str())))
}

/// A number of seconds as a duration.
fn seconds(number: f64) -> Option<String> {
    parse_duration(&number.to_string()).ok().map(duration_text)
}

/// 90604 is 9.6.4, 150004 is 15.4.
fn version(number: u32) -> String {
    let mut parts = match number {
        100_000.. => vec![number / 10_000, number % 10_000],
        _ => vec![number / 10_000, number / 100 % 100, number % 100],
    };
    while parts.len() > 1 && parts.last() == Some(&0) {
        parts.pop();
    }
    parts.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::{console_url, version};

    #[test]
    fn versions_are_read_as_the_servers_number_them() {
        for (number, expected) in
            [(90_400, "9.4"), (90_604, "9.6.4"), (100_000, "10"), (150_004, "15.4"), (10_800, "1.8")]
        {
            assert_eq!(version(number), expected);
        }
    }

    #[test]
    fn the_console_is_known_by_its_database() {
        assert_eq!(
            console_url("postgres://u:p@h:6432/pgbouncer?sslmode=disable"),
            "pgbouncer://u:p@h:6432/pgbouncer?sslmode=disable"
        );
        assert_eq!(console_url("postgres://pgbouncer/shop"), "postgres://pgbouncer/shop");
        assert_eq!(console_url("postgres://u:a/?p@h/pgbouncer"), "pgbouncer://u:a/?p@h/pgbouncer");
    }
}
