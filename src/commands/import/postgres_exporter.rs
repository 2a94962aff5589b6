//! postgres_exporter's `queries.yaml` and `auth_modules`, and what speaks the same dialect: CloudNativePG's custom queries and
//! pgMonitor's files, and the custom queries of Percona's mysqld_exporter.
//!
//! Facts, from postgres_exporter dbb1987 and cloudnative-pg (2026): a column that is not a label makes the metric
//! NAMESPACE_COLUMN. NULL is NaN. Text that is not a number leaves out its sample alone, and so does an interval, also where
//! the usage is DURATION. `master: true` means the database of the DSN in place of those that auto-discovery finds; in
//! CloudNativePG, the primary. postgres_exporter reads `runonserver`, `metric_mapping` and `pg_version` and does nothing with
//! them.

use std::collections::HashSet;

use super::address;
use super::assemble;
use super::custom_query::{QueryColumn, columns, is_custom_query, signs_of_query, with_usage};
use super::dialect::{ImportDialect, ImportSource, child, entries, items, scalar};
use super::drivers::{SourceDriver, quoted_column};
use super::input::Input;
use super::model::{Entry, Imported, ImportedQuery, ImportedTarget, OutputFile, Value};
use super::report::Report;
use super::section::{Section, indented, sections_of};
use super::unique_names::UniqueNames;
use super::version_range::VersionRange;
use crate::config::packs;
use crate::inspect::sql_compare::column_names;
use crate::name::MetricName;
use crate::yaml::document::Node;

pub(super) const DIALECT: ImportDialect = ImportDialect { name: "postgres_exporter", signs, convert };

/// What the names of the columns of a histogram end in.
const PARTS: [&str; 4] = ["", "_bucket", "_sum", "_count"];
/// Keys of a namespace that CloudNativePG alone reads.
const OF_CLOUD_NATIVE_PG: [&str; 4] = ["predicate_query", "target_databases", "primary", "name"];

fn signs(tree: &Node) -> Vec<String> {
    let mut signs = Vec::new();
    if child(tree, "auth_modules").is_some_and(|modules| !entries(modules).is_empty()) {
        signs.push("it has `auth_modules`".to_owned());
    }
    // `customQueries` of CloudNativePG's chart is a list, whose items have names.
    let namespaces = entries(tree).iter().map(|entry| (entry.key.as_str(), &entry.node));
    let listed =
        items(tree).iter().filter(|item| child(item, "name").is_some()).map(|item| ("an item", item));
    for (name, namespace) in namespaces.chain(listed) {
        if is_custom_query(namespace) {
            let own = ["master", "cache_seconds", "runonserver"].iter().chain(&OF_CLOUD_NATIVE_PG[..3]);
            let keys = own.filter(|key| child(namespace, key).is_some()).copied();
            signs_of_query(&mut signs, name, keys);
        }
    }
    signs
}

fn convert(source: &ImportSource<'_>) -> Imported {
    let ImportSource { inputs, options, report } = *source;
    let mut imported = Imported::default();
    let mut names = UniqueNames::default();
    let mut main = OutputFile::default();
    if let Some(url) = &options.url {
        main.databases.push(assemble::target(url, report));
    }
    for input in inputs {
        let is_modules = child(&input.tree, "auth_modules").is_some();
        if is_modules {
            main.databases.extend(modules(input, source));
            main.top.comments.extend(input.head_comments());
        }
        let file = PostgresExporterConversion::new(input, source).file(&mut names, &mut main);
        if !file.queries.is_empty() || !is_modules {
            imported.included.push(file);
        }
    }
    imported.main = Some(main).filter(|main| !main.databases.is_empty());
    imported
}

/// One target for each module, whose server `/probe` would have named.
fn modules(input: &Input, source: &ImportSource<'_>) -> Vec<ImportedTarget> {
    let report = source.report;
    let Some(modules) = Section::root(input, report).and_then(|root| root.section("auth_modules")) else {
        return Vec::new();
    };
    let target = |(name, module): (&str, Section<'_>)| {
        let mut entry = module.entry();
        if module.text("type").is_some_and(|kind| kind != "userpass") {
            module.left_out("type", "the type is not `userpass`: its user and password are not known");
        }
        let login = module.section("userpass");
        let username = login.as_ref().and_then(|login| login.text("username"));
        if let Some(password) = login.as_ref().and_then(|login| login.text("password")) {
            entry.set("password", Value::Expanded(report.password(name, &password, "")));
        }
        let what = format!("the `target` of /probe for {name}: HOST:PORT/DATABASE");
        let server = report.variable(&format!("{name}_TARGET"), &what, "db.example:5432/postgres");
        let user = username.map(|user| format!("{}@", address::encoded(&user))).unwrap_or_default();
        let options = module.pairs("options").into_iter();
        let options: Vec<String> =
            options.map(|(key, value)| format!("{key}={}", address::encoded(&value))).collect();
        let query = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
        entry.set("url", Value::Expanded(format!("postgres://{user}{server}{query}")));
        module.dead_keys();
        let message =
            "an authentication module has no server, which the URL of `/probe` names: set the variable";
        report.note(module.place(), message);
        ImportedTarget { name: name.to_owned(), entry }
    };
    modules.named().into_iter().map(target).collect()
}

/// One input on its way.
struct PostgresExporterConversion<'s> {
    input: &'s Input,
    report: &'s Report,
    url: Option<&'s str>,
    keep_labels: bool,
    /// CloudNativePG's rules hold.
    is_cloud_native_pg: bool,
    /// What the statements are for: PostgreSQL, PgBouncer's console or MySQL.
    driver: &'static str,
    /// Some queries run in databases that a target discovers.
    discovers: bool,
    /// The names of the metrics of the pack that stands for the exporter's own.
    pack: HashSet<&'static str>,
}

/// The columns of the result that a column needs.
fn of_result(column: &QueryColumn<'_>) -> impl Iterator<Item = String> {
    let parts = if column.usage == "HISTOGRAM" { &PARTS[..] } else { &PARTS[..1] };
    parts.iter().map(|part| format!("{}{part}", column.name))
}

impl<'s> PostgresExporterConversion<'s> {
    fn new(input: &'s Input, source: &ImportSource<'s>) -> PostgresExporterConversion<'s> {
        let namespaces = || entries(&input.tree).iter().map(|entry| &entry.node).chain(items(&input.tree));
        let has = |key: &str| namespaces().any(|namespace| child(namespace, key).is_some());
        let is_cloud_native_pg = input.wrapper.labels.iter().any(|label| label == "cnpg.io/reload")
            || input.wrapper.key == "customQueries"
            || OF_CLOUD_NATIVE_PG.iter().any(|key| has(key));
        let statements = || namespaces().filter_map(|namespace| scalar(child(namespace, "query")?));
        let url = source.options.url.as_deref();
        let driver = match url.and_then(|url| url.split(':').next()) {
            Some(scheme) => SourceDriver::known(scheme),
            None => {
                SourceDriver::told([], statements()).filter(|_| statements().all(|sql| !sql.contains("pg_")))
            }
        };
        PostgresExporterConversion {
            input,
            report: source.report,
            url,
            driver: match driver {
                Some(SourceDriver::Ours(driver @ ("mysql" | "pgbouncer"))) => driver,
                _ => "postgres",
            },
            keep_labels: source.options.keep_labels,
            is_cloud_native_pg,
            discovers: has("target_databases"),
            pack: pack(),
        }
    }

    fn is_postgres_exporter(&self) -> bool {
        !self.is_cloud_native_pg && self.driver == "postgres"
    }

    fn file(&self, names: &mut UniqueNames, main: &mut OutputFile) -> OutputFile {
        let mut file = OutputFile { name: format!("{}.yaml", self.input.stem()), ..OutputFile::default() };
        file.top.comments = self.input.head_comments();
        file.tail = self.input.tail_comments();
        // `*` does not match the `/` in the name of a database that was discovered.
        let target =
            self.url.map_or_else(|| "*".to_owned(), |url| address::database(url).unwrap_or_default());
        match self.discovers {
            true => file.top.set("databases", Value::list([target.as_str()])),
            false => file.top.set("driver", self.driver),
        }
        for (name, section) in self.namespaces() {
            for (index, mut query) in self.queries(&name, &section, &target).into_iter().enumerate() {
                let suffix = if index == 0 { "" } else { "_histogram" };
                query.entry.set("name", names.take(&format!("{name}{suffix}")));
                file.queries.push(query);
            }
        }
        if !file.queries.is_empty() {
            self.label(main);
            self.changes();
        }
        if let Some(target) = main.databases.first_mut().filter(|_| self.discovers) {
            target.entry.set("discover", Value::Map(Vec::new()));
        }
        file
    }

    /// What changes for every file.
    fn changes(&self) {
        let of_all = [
            "a value that is not a number, and a column that the result lacks, fail their query; there the sample alone was left out",
            "a timestamp has fractions of a second as a value and is ISO 8601 as a label; there it is whole Unix seconds",
        ];
        let of_postgres_exporter = [
            "an interval is its seconds as a value and ISO 8601 as a label; there it made no sample, and had the server's form",
            "as a label a float is `1000000`, money `5.00` and a time of day `10:00:00`; there `1e+06`, `$5.00` and a number",
            "the metrics of postgres_exporter's own collectors (`pg_*`) are in the pack `builtin:compat/postgres_exporter`",
        ];
        let more = if self.is_postgres_exporter() { &of_postgres_exporter[..] } else { &[] };
        of_all.iter().chain(more).for_each(|message| self.report.note(None, *message));
    }

    /// The label that postgres_exporter adds to every sample.
    fn label(&self, main: &mut OutputFile) {
        if !self.is_postgres_exporter() {
            return;
        }
        let place = self.input.document.place(self.input.at, "");
        let server = self.url.and_then(address::host_and_port);
        match (self.keep_labels, server, main.databases.first_mut()) {
            (true, Some(server), Some(target)) => target.entry.set("labels", Value::map([("server", server)])),
            (true, ..) => self.report.left_out(
                place,
                "the label `server` is not kept: write `labels: {server: \"HOST:PORT\"}` on the target",
            ),
            (false, ..) => self.report.note(
                place,
                "the label `server` of all samples is left out: the label `target` names the database (--keep-labels)",
            ),
        }
    }

    /// The namespaces with their names.
    fn namespaces(&self) -> Vec<(String, Section<'s>)> {
        let Input { tree, path, at, .. } = self.input;
        if !items(tree).is_empty() {
            let sections = sections_of(self.input, self.report, items(tree), path, *at);
            let named = sections.into_iter().filter_map(|section| Some((section.text("name")?, section)));
            return named.collect();
        }
        let Some(root) = Section::root(self.input, self.report) else { return Vec::new() };
        let named = root.named().into_iter().filter(|(name, _)| *name != "auth_modules");
        named.map(|(name, section)| (name.to_owned(), section)).collect()
    }

    /// The query of a namespace, and one more for each histogram beside other metrics.
    fn queries(&self, name: &str, section: &Section<'s>, target: &str) -> Vec<ImportedQuery> {
        let sql = section.sql("query").unwrap_or_default();
        let sql = sql.as_str();
        if sql.is_empty() {
            let message = format!("without a `query` the namespace {name} makes no metrics");
            self.report.note(section.place(), message);
            return Vec::new();
        }
        let mut entry = section.entry();
        self.conditions(section, &mut entry);
        self.databases(section, &mut entry, target);
        if let Some(seconds) = section.number("cache_seconds").filter(|seconds| *seconds > 0.0) {
            entry.set("interval", format!("{seconds}s"));
            if self.is_cloud_native_pg {
                section.note("cache_seconds", "`cache_seconds` now has an effect: CloudNativePG ignores it");
            }
        }
        let space = section.text("name").unwrap_or_else(|| name.to_owned());
        let prefix = if self.is_cloud_native_pg { format!("cnpg_{space}") } else { space };
        // MySQL does not tell upper from lower case.
        let returned = column_names(sql).filter(|_| self.driver != "mysql");
        let mut columns = self.columns(section);
        columns.retain(|column| column.is_in(returned.as_deref(), of_result(column)));
        section.dead_keys();
        let unlisted = self.unlisted(section, returned, &columns);
        // What makes no metric has its comments at the query.
        let others = ["LABEL", "DISCARD"].iter().flat_map(|usage| with_usage(&columns, usage));
        entry.comments.extend(others.flat_map(|column| column.section.comments()));
        let names: Vec<&str> = with_usage(&columns, "LABEL").map(|column| &*column.name).collect();
        let labels = Value::list(names.iter().copied());
        let mut queries = Vec::new();
        let mut metrics: Vec<Entry> =
            columns.iter().filter_map(|column| self.metric(column, &prefix, &labels)).collect();
        metrics.extend(unlisted.iter().map_while(|column| untyped(section, column, &prefix, &labels)));
        if !metrics.is_empty() {
            let mut entry = entry.clone();
            let durations: Vec<&str> = with_usage(&columns, "DURATION").map(|column| &*column.name).collect();
            let sql = if self.is_cloud_native_pg { with_durations(sql, &durations) } else { sql.to_owned() };
            entry.set("sql", Value::Sql(sql));
            queries.push(ImportedQuery { entry, metrics });
        }
        for column in with_usage(&columns, "HISTOGRAM") {
            if !column.section.may_copy(entry.bytes() + sql.len()) {
                break;
            }
            let mut entry = entry.clone();
            entry.set("sql", Value::Sql(with_buckets(sql, &column.name, &names)));
            let metric = histogram(column, &prefix, &labels);
            queries.extend(metric.map(|metric| ImportedQuery { entry, metrics: vec![metric] }));
        }
        self.of_the_pack(section, &queries);
        if queries.is_empty() {
            section.leave_out(format!("the namespace {name} has no column that makes a metric"));
        }
        queries
    }

    /// The columns of the result that `metrics` does not list, each of which makes an untyped metric.
    fn unlisted(
        &self,
        section: &Section<'_>,
        returned: Option<Vec<String>>,
        columns: &[QueryColumn<'_>],
    ) -> Vec<String> {
        if self.is_cloud_native_pg {
            return Vec::new();
        }
        let Some(mut names) = returned else {
            section.note(
                "query",
                "columns that `metrics` does not list make no metrics; there they made untyped ones",
            );
            return Vec::new();
        };
        let mut known: HashSet<String> = columns.iter().flat_map(of_result).collect();
        names.retain(|name| MetricName::new(name).is_ok() && known.insert(name.clone()));
        names
    }

    /// A namespace of postgres_exporter's own name replaces the built-in one there.
    fn of_the_pack(&self, section: &Section<'_>, queries: &[ImportedQuery]) {
        if !self.is_postgres_exporter() {
            return;
        }
        let names = queries.iter().flat_map(|query| &query.metrics).filter_map(|metric| metric.text("name"));
        if names.into_iter().any(|name| self.pack.contains(name)) {
            let message = "the entry replaces metrics of postgres_exporter's own there: beside \
                           `builtin:compat/postgres_exporter`, switch the pack's query off with `overrides`";
            self.report.note(section.place(), message);
        }
    }

    /// `master`, `primary`, `runonserver` and `predicate_query`.
    fn conditions(&self, section: &Section<'_>, entry: &mut Entry) {
        let mut when: Vec<(&str, Value)> = Vec::new();
        let flags = ["master", "primary"].map(|key| section.flag(key) == Some(true));
        if self.is_cloud_native_pg && flags.contains(&true) {
            when.push(("role", "primary".into()));
        } else if flags.contains(&true) {
            section.note(
                "master",
                "`master: true` needs no key: a query runs on the targets that it names. There it left out the databases \
                 that auto-discovery found",
            );
        }
        if let Some(text) = section.text("runonserver").filter(|text| !text.trim().is_empty()) {
            match VersionRange::read(&text).map(|range| range.condition()) {
                Some(condition) => when.push(condition),
                None => {
                    section.left_out("runonserver", format!("{text:?} is not a range that can be converted"));
                }
            }
            if !self.is_cloud_native_pg {
                section.note(
                    "runonserver",
                    "`runonserver` now has an effect: postgres_exporter reads it and ignores it",
                );
            }
        }
        if let Some(sql) = section.sql("predicate_query") {
            when.retain(|(key, _)| *key != "sql");
            when.push(("sql", Value::Sql(sql)));
            section.note(
                "predicate_query",
                "`when.sql` is asked every 5 minutes, the predicate before each query",
            );
        }
        entry.set_nonempty("when", Value::map(when));
    }

    /// `target_databases`.
    fn databases(&self, section: &Section<'_>, entry: &mut Entry, target: &str) {
        let databases = section.texts("target_databases");
        if databases.is_empty() {
            return;
        }
        let below = databases.iter().map(|database| format!("{target}/{database}"));
        entry.set("databases", Value::list(below));
        section.note(
            "target_databases",
            "the databases are targets that `discover` finds, named TARGET/DATABASE: write `discover: {}` on the target",
        );
    }

    /// The metric of a column; `None` for labels, histograms and what is discarded.
    fn metric(&self, column: &QueryColumn<'_>, prefix: &str, labels: &Value) -> Option<Entry> {
        let QueryColumn { name, exported, usage, section } = column;
        let mut metric = column.metric(format!("{prefix}_{exported}"), labels)?;
        metric.set("value_column", name.as_str());
        metric.set("null", "nan");
        match usage.as_str() {
            "GAUGE" => {}
            "COUNTER" => {
                metric.set("type", "counter");
                metric.remove("null");
                section.note("usage", "NULL in a counter makes no sample; there it is NaN");
            }
            "DURATION" => {
                metric.set("name", format!("{prefix}_{exported}_milliseconds"));
                if self.is_cloud_native_pg {
                    metric.set("value_column", format!("{name}_milliseconds"));
                    metric.remove("null");
                } else {
                    metric.set("invalid", "skip");
                }
            }
            "MAPPEDMETRIC" => {
                let mapping = section.pairs("metric_mapping");
                if !mapping.is_empty() && !self.is_cloud_native_pg {
                    section.note(
                        "metric_mapping",
                        "`metric_mapping` now has an effect: postgres_exporter ignores it",
                    );
                }
                if !mapping.is_empty() {
                    metric.set("map", Value::map(mapping));
                    metric.remove("null");
                }
                metric.set("invalid", "skip");
            }
            _ => return None,
        }
        section.dead_keys();
        Some(metric)
    }

    /// The columns that a namespace lists.
    fn columns(&self, section: &Section<'s>) -> Vec<QueryColumn<'s>> {
        const USAGES: [&str; 7] =
            ["LABEL", "COUNTER", "GAUGE", "HISTOGRAM", "DURATION", "MAPPEDMETRIC", "DISCARD"];
        let column = |(name, section): (&'s str, Section<'s>)| {
            let mut usage = section.text("usage").unwrap_or_default();
            if !USAGES.contains(&usage.as_str()) {
                section
                    .note("usage", format!("{usage:?} is not a usage: the column is discarded there, too"));
                usage = "DISCARD".to_owned();
            }
            let renamed = if self.is_cloud_native_pg { section.text("name") } else { None };
            let exported = renamed.unwrap_or_else(|| name.to_owned());
            QueryColumn { name: name.to_owned(), exported, usage, section }
        };
        columns(section).into_iter().map(column).collect()
    }
}

fn histogram(column: &QueryColumn<'_>, prefix: &str, labels: &Value) -> Option<Entry> {
    let QueryColumn { name, exported, .. } = column;
    let mut metric = column.metric(format!("{prefix}_{exported}"), labels)?;
    metric.set("type", "histogram");
    column.section.note(
        "usage",
        "buckets that are not cumulative up to the count fail the query; there they were shown",
    );
    for (key, suffix) in [
        ("le_column", "_le"),
        ("value_column", "_bucket"),
        ("sum_column", "_sum"),
        ("count_column", "_count"),
    ] {
        metric.set(key, format!("{name}{suffix}"));
    }
    column.section.dead_keys();
    Some(metric)
}

/// The names in the pack `compat/postgres_exporter`.
fn pack() -> HashSet<&'static str> {
    let text = packs::text("compat/postgres_exporter").unwrap_or_default();
    let after = text.split("name: ").skip(1);
    after.filter_map(|rest| rest.split([',', '}', '\n']).next()).map(str::trim).collect()
}

/// The metric of a column that `metrics` does not list.
fn untyped(section: &Section<'_>, column: &str, prefix: &str, labels: &Value) -> Option<Entry> {
    let mut metric = Entry::at(section.place_of("query"));
    metric.set("name", format!("{prefix}_{column}"));
    metric.set("help", format!("Unknown metric from {prefix}"));
    metric.set("type", "unknown");
    metric.set_nonempty("labels", labels.clone());
    metric.set("value_column", column);
    metric.set("null", "nan");
    metric.set("invalid", "skip");
    section.may_keep(&metric).then_some(metric)
}

/// The statement with the arrays of bounds and counts as one row a bucket.
fn with_buckets(sql: &str, column: &str, labels: &[&str]) -> String {
    let [bounds, le, counts, sum, count] =
        ["", "_le", "_bucket", "_sum", "_count"].map(|suffix| quoted(&format!("{column}{suffix}")));
    let labels: String = labels.iter().map(|label| format!("q.{}, ", quoted(label))).collect();
    format!(
        "SELECT {labels}b.{le}, b.{counts}, q.{sum}, q.{count}\nFROM (\n{}\n) AS q\n\
         CROSS JOIN LATERAL unnest(q.{bounds}, q.{counts}) AS b ({le}, {counts})",
        indented(sql)
    )
}

/// The statement with a column of milliseconds for each column that holds a duration as text.
fn with_durations(sql: &str, columns: &[&str]) -> String {
    if columns.is_empty() {
        return sql.to_owned();
    }
    let milliseconds = columns.iter().map(|column| {
        let (from, to) = (quoted(column), quoted(&format!("{column}_milliseconds")));
        format!(",\n  trunc(extract(epoch FROM nullif(q.{from}, '-1')::interval) * 1000) AS {to}")
    });
    let columns: String = milliseconds.collect();
    format!("SELECT q.*{columns}\nFROM (\n{}\n) AS q", indented(sql))
}

fn quoted(name: &str) -> String {
    quoted_column(name, &SourceDriver::Ours("postgres"))
}
