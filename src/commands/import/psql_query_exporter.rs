//! psql-query-exporter's sources with their databases and queries.
//!
//! Facts, from alex-karpenko/psql-query-exporter a96d5e9: a key that is absent, or a duration of 0, is that of the level
//! above. `${NAME}` is replaced in `host`, `port`, `user`, `password` and the paths of certificates only. The name of a metric
//! is `metric_prefix`, `_` and `metric_name`, also where the prefix is empty; its help is `description`, else that name. The
//! value is in the first column unless `values` says another. All metrics are gauges. Queries run in the background; after
//! failures the last values stay for `metric_expiration_time`, for ever where that is 0. `verify-ca` and `verify-full` trust
//! the system's authorities beside `sslrootcert`; the other modes verify nothing.

use std::path::Path;
use std::time::Duration;

use super::address;
use super::dialect::{ImportDialect, ImportSource, child, entries, items};
use super::durations;
use super::families::{self, MOST_LABELS};
use super::model::{Entry, Imported, ImportedQuery, ImportedTarget, OutputFile, Value};
use super::report::Report;
use super::section::{Section, indented};
use super::shared_queries::SharedQueries;
use super::unique_names::UniqueNames;
use crate::deadline::duration_text;
use crate::yaml::document::Node;

pub(super) const DIALECT: ImportDialect = ImportDialect { name: "psql-query-exporter", signs, convert };

/// The values of `sslmode`.
const MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

fn signs(tree: &Node) -> Vec<String> {
    let sources = child(tree, "sources").map(entries).unwrap_or_default();
    let databases =
        || sources.iter().flat_map(|source| child(&source.node, "databases").map(items).unwrap_or_default());
    let queries =
        || databases().flat_map(|database| child(database, "queries").map(items).unwrap_or_default());
    let mut signs = Vec::new();
    if databases().any(|database| child(database, "dbname").is_some()) {
        signs.push("`sources` have `databases` with a `dbname`".to_owned());
    }
    if queries().any(|query| child(query, "query").is_some() && child(query, "metric_name").is_some()) {
        signs.push("their `queries` have a `query` and a `metric_name`".to_owned());
    }
    signs
}

fn convert(source: &ImportSource<'_>) -> Imported {
    let mut conversion = PsqlConversion {
        report: source.report,
        main: OutputFile::default(),
        targets: UniqueNames::default(),
        queries: SharedQueries::default(),
    };
    for input in source.inputs {
        let Some(root) = Section::root(input, source.report) else { continue };
        conversion.main.top.comments.extend(input.head_comments());
        conversion.file(&root);
    }
    let PsqlConversion { mut main, mut queries, report, .. } = conversion;
    families::unite(queries.queries(), report);
    common(&mut main.top, queries.queries().collect());
    main.queries = queries.finish(main.databases.len() == 1);
    Imported { main: Some(main), ..Imported::default() }
}

/// What a level leaves to those below it.
#[derive(Clone)]
struct LevelSettings {
    interval: Duration,
    timeout: Duration,
    expiration: Duration,
    prefix: Option<String>,
    mode: &'static str,
    root_certificate: Option<Value>,
    certificate: Option<Value>,
    key: Option<Value>,
}

impl Default for LevelSettings {
    fn default() -> LevelSettings {
        LevelSettings {
            interval: Duration::from_secs(1800),
            timeout: Duration::from_secs(10),
            expiration: Duration::ZERO,
            prefix: None,
            mode: "prefer",
            root_certificate: None,
            certificate: None,
            key: None,
        }
    }
}

impl LevelSettings {
    /// With what a section says.
    fn with(&self, section: &Section<'_>) -> LevelSettings {
        let time = |key: &str, above: Duration| {
            let time = section.parsed(key, "a duration", durations::parse);
            time.filter(|time| !time.is_zero()).unwrap_or(above)
        };
        for key in ["backoff_interval", "max_backoff_interval"] {
            if section.take(key).is_some() {
                section.note(key, "attempts to connect have a back-off of their own: 1 s, doubling to 30 s");
            }
        }
        let path = |key: &str, above: &Option<Value>| {
            let own = section.text(key).map(|path| certificate(path, key, section));
            own.or_else(|| above.clone())
        };
        let known = |mode: &str| MODES.into_iter().find(|known| *known == mode);
        let what = format!("one of {}: `verify-full` stands for it", MODES.join(", "));
        let mode = section.parsed("sslmode", &what, known);
        LevelSettings {
            interval: time("scrape_interval", self.interval),
            timeout: time("query_timeout", self.timeout),
            expiration: time("metric_expiration_time", self.expiration),
            prefix: section.text("metric_prefix").or_else(|| self.prefix.clone()),
            // One that is not known may ask for more security than there is above.
            mode: mode.unwrap_or(if section.has("sslmode") { "verify-full" } else { self.mode }),
            root_certificate: path("sslrootcert", &self.root_certificate),
            certificate: path("sslcert", &self.certificate),
            key: path("sslkey", &self.key),
        }
    }

    fn tls(&self, section: &Section<'_>) -> Option<Value> {
        let is_verified = self.mode.starts_with("verify");
        if self.root_certificate.is_some() {
            let message = match is_verified {
                true => {
                    "only the certificates in `sslrootcert` are trusted here; there the system's are as well"
                }
                false => {
                    "`sslrootcert` has no effect there, as nothing is verified: it is left out, because here \
                          `require` verifies by it"
                }
            };
            section.note("sslrootcert", message);
        }
        let mut tls: Vec<(&str, Value)> = Vec::new();
        if self.mode != "prefer" {
            tls.push(("mode", self.mode.into()));
        }
        tls.extend(self.root_certificate.clone().filter(|_| is_verified).map(|path| ("ca", path)));
        tls.extend(self.certificate.clone().map(|path| ("cert", path)));
        tls.extend(self.key.clone().map(|path| ("key", path)));
        (!tls.is_empty()).then(|| Value::map(tls))
    }
}

struct PsqlConversion<'s> {
    report: &'s Report,
    main: OutputFile,
    /// The names of the targets.
    targets: UniqueNames,
    queries: SharedQueries,
}

impl PsqlConversion<'_> {
    fn file(&mut self, root: &Section<'_>) {
        let defaults = root.section("defaults");
        let level = defaults
            .as_ref()
            .map_or_else(LevelSettings::default, |section| LevelSettings::default().with(section));
        defaults.iter().for_each(unknown);
        let sources = root.section("sources");
        for (name, source) in sources.iter().flat_map(Section::named) {
            self.source(name, &source, &level);
        }
        unknown(root);
    }

    fn source(&mut self, name: &str, source: &Section<'_>, level: &LevelSettings) {
        let level = level.with(source);
        let mut server = Entry::default();
        server.set("driver", "postgres");
        for (key, theirs) in [("host", "host"), ("port", "port"), ("username", "user")] {
            server.set_if(key, source.text(theirs).map(|text| expanded(text, source)));
        }
        let password = source.text("password").filter(|password| !password.is_empty());
        let variable =
            |password: &String| Value::Expanded(address::variable(password, name, "", self.report));
        server.set_if("password", password.as_ref().map(variable));
        let databases = source.sections("databases");
        let is_only = databases.len() == 1;
        for (index, database) in databases.iter().enumerate() {
            let level = level.with(database);
            let dbname = database.text("dbname").unwrap_or_default();
            if !database.may_keep(&server) {
                continue;
            }
            let mut entry = server.clone();
            entry.origin = Some(database.place());
            entry.comments = if index == 0 { source.comments() } else { Vec::new() };
            entry.comments.extend(database.comments());
            entry.set("database", dbname.as_str());
            entry.set_if("tls", level.tls(source));
            let target =
                self.targets.take(&if is_only { name.to_owned() } else { format!("{name}-{dbname}") });
            self.main.databases.push(ImportedTarget { name: target.clone(), entry });
            for query in database.sections("queries") {
                self.query(&query, &level, &target);
            }
            unknown(database);
        }
        unknown(source);
    }

    fn query(&mut self, section: &Section<'_>, level: &LevelSettings, target: &str) {
        let level = level.with(section);
        let (Some(sql), Some(name)) = (section.sql("query"), section.text("metric_name")) else {
            section.leave_out("a query needs a `query` and a `metric_name`");
            return;
        };
        if level.prefix.as_deref() == Some("") {
            section.note("metric_prefix", "an empty prefix leaves a `_` before the name, there as here");
        }
        let name = level.prefix.as_ref().map_or_else(|| name.clone(), |prefix| format!("{prefix}_{name}"));
        let metric = MetricTemplate {
            help: section.text("description").unwrap_or_else(|| name.clone()),
            labels: section.texts("var_labels"),
            constant: section.pairs("const_labels"),
            name: name.clone(),
        };
        if metric.labels.len() + metric.constant.len() > MOST_LABELS {
            section.leave_out(format!("a query with more than {MOST_LABELS} labels"));
            return;
        }
        let mut entry = section.entry();
        let (sql, metrics) = metric.metrics(section, sql);
        unknown(section);
        entry.set("sql", Value::Sql(sql));
        entry.set("interval", duration_text(level.interval));
        entry.set("timeout", duration_text(level.timeout));
        changes(section, &level, !metric.labels.is_empty());
        if !level.expiration.is_zero() {
            entry.set("keep_last", duration_text(level.expiration));
        }
        self.queries.add(name, ImportedQuery { entry, metrics }, [target.to_owned()]);
    }
}

/// What a scrape changes in meaning.
fn changes(section: &Section<'_>, level: &LevelSettings, has_labels: bool) {
    section.note(
        "scrape_interval",
        "queries run when Prometheus scrapes: `interval` is how long a result is used, there how often the query runs",
    );
    if level.expiration.is_zero() {
        section.note(
            "metric_expiration_time",
            "while a query fails, its values are left out: there the last ones stay (`keep_last` keeps them for a time)",
        );
    }
    if has_labels {
        section.note(
            "var_labels",
            "a row that is gone is gone, and two rows with the same labels are an error: there the last value of each set of \
             labels stays",
        );
    }
    section.note("values", "NULL makes no sample: there the value before it stays, 0 at first");
}

/// Moves what all queries say to `defaults`.
fn common(top: &mut Entry, mut queries: Vec<&mut ImportedQuery>) {
    let mut defaults = Vec::new();
    for key in ["timeout", "interval", "keep_last"] {
        let mut values = queries.iter().map(|query| query.entry.get(key));
        let Some(Some(first)) = values.next() else { continue };
        if queries.len() > 1 && values.all(|value| value == Some(first)) {
            defaults.push((key, first.clone()));
            queries.iter_mut().for_each(|query| drop(query.entry.remove(key)));
        }
    }
    if !defaults.is_empty() {
        top.set("defaults", Value::map([("query", Value::map(defaults))]));
    }
}

/// What the metrics of a query have in common.
struct MetricTemplate {
    name: String,
    help: String,
    labels: Vec<String>,
    constant: Vec<(String, String)>,
}

impl MetricTemplate {
    /// The statement and the metrics of its rows.
    fn metrics(&self, section: &Section<'_>, sql: String) -> (String, Vec<Entry>) {
        let values = section.section("values");
        let listed =
            |key: &str| values.as_ref().filter(|values| values.has(key)).map(|values| values.sections(key));
        let field = |value: &Section<'_>| {
            value.take("type");
            let field = value.text("field");
            if field.is_none() {
                value.leave_out("a value needs a `field`");
            }
            field
        };
        if let Some(list) = listed("multi_labels").or_else(|| listed("multi_suffixes")) {
            let mut metrics = Vec::new();
            for value in list {
                let mut labels = value.pairs("labels");
                labels.retain(|(name, _)| self.constant.iter().all(|(constant, _)| constant != name));
                labels.extend(self.constant.iter().cloned());
                let (name, help) = match value.text("suffix") {
                    Some(suffix) => (format!("{}_{suffix}", self.name), format!("{}: {suffix}", self.help)),
                    None => (self.name.clone(), self.help.clone()),
                };
                metrics.extend(
                    field(&value).and_then(|field| self.metric(&value, &name, &help, &field, labels)),
                );
                unknown(&value);
            }
            values.iter().for_each(unknown);
            return (sql, metrics);
        }
        let single = values.as_ref().and_then(|values| values.section("single"));
        let given = single.as_ref().and_then(|single| {
            single.take("type");
            single.text("field")
        });
        single.iter().chain(&values).for_each(unknown);
        let (sql, field) = match given.or_else(|| first_column(&sql)) {
            Some(field) => (sql, field),
            None => (with_first_column(&sql), "value".to_owned()),
        };
        let metric = self.metric(section, &self.name, &self.help, &field, self.constant.clone());
        (sql, metric.into_iter().collect())
    }

    fn metric(
        &self,
        origin: &Section<'_>,
        name: &str,
        help: &str,
        field: &str,
        constant: Vec<(String, String)>,
    ) -> Option<Entry> {
        let mut metric = Entry::at(origin.place());
        metric.set("name", name);
        metric.set_if("help", Some(help).filter(|help| !help.trim().is_empty()));
        metric.set_nonempty("labels", Value::list(self.labels.iter().map(String::as_str)));
        metric.set_nonempty("static_labels", Value::map(constant));
        metric.set("value_column", field);
        origin.may_keep(&metric).then_some(metric)
    }
}

/// A text in which `${NAME}` is replaced.
fn expanded(text: String, section: &Section<'_>) -> Value {
    if !has_variables(&text) {
        return Value::Text(text);
    }
    section.report.uses(&text);
    Value::Expanded(text)
}

/// Whether a text has variables, and each `${` is one.
fn has_variables(text: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let mut names = text.split("${").skip(1).map(|rest| rest.split_once('}').map_or("", |(name, _)| name));
    text.contains("${") && names.all(is_name)
}

/// The path of a certificate.
fn certificate(path: String, key: &str, section: &Section<'_>) -> Value {
    if Path::new(&path).is_relative() && !path.starts_with("${") {
        section.note(key, "a path is relative to the file that names it, there to the working directory");
    }
    expanded(path, section)
}

/// Reports what psql-query-exporter refuses.
fn unknown(section: &Section<'_>) {
    section.leave_out_untaken("psql-query-exporter does not know this key, and does not start with it");
}

/// The name of the first column, where the words say it: `count(*)`, `x`, `t.x`, `… AS x`.
fn first_column(sql: &str) -> Option<String> {
    let rest = sql.get(..6).filter(|word| word.eq_ignore_ascii_case("select")).and(sql.get(6..))?;
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let item = rest.split(',').next()?;
    let words: Vec<&str> = item.split_whitespace().collect();
    let end = words.iter().position(|word| word.eq_ignore_ascii_case("from")).unwrap_or(words.len());
    // A constant has another name, whatever it is called.
    let is_constant = |name: &str| ["null", "true", "false"].contains(&name);
    let is_name = |name: &str| {
        !is_constant(name)
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let words = words.get(..end)?;
    let balanced = words.iter().all(|word| word.matches('(').count() == word.matches(')').count());
    let name = match words {
        [one] => {
            let function = one.split_once('(').filter(|(_, rest)| rest.find(')') == Some(rest.len() - 1));
            const AGGREGATES: [&str; 5] = ["count", "sum", "avg", "min", "max"];
            match function {
                Some((name, _)) => Some(name).filter(|name| AGGREGATES.contains(name)),
                None => one.rsplit('.').next(),
            }
        }
        [.., word, name] if word.eq_ignore_ascii_case("as") => Some(*name),
        _ => None,
    };
    name.filter(|name| balanced && is_name(name)).map(str::to_owned)
}

/// The statement with the name `value` for its first column.
fn with_first_column(sql: &str) -> String {
    format!("SELECT *\nFROM (\n{}\n) AS result (value)", indented(sql))
}

#[cfg(test)]
mod tests {
    use super::{first_column, has_variables};

    #[test]
    fn variables_have_names() {
        for (text, expected) in [
            ("${A}", true),
            ("a${A_1}b${B}", true),
            ("plain", false),
            ("a${b", false),
            ("${A}${B-C}", false),
            ("${}", false),
        ] {
            assert_eq!(has_variables(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_column_has_a_name_where_it_is_plain() {
        for (sql, expected) in [
            ("select count(*) from t", Some("count")),
            ("SELECT t.size, x FROM t", Some("size")),
            ("select max(a) - 1 as spread, b from t", Some("spread")),
            ("select sum(a)", Some("sum")),
            ("select coalesce(a, 0) from t", None),
            ("select * from t", None),
            ("select count(*) - 1 from t", None),
            ("select greatest(a, b) as c from t", None),
            ("select now() from t", None),
            ("with a as (select 1) select * from a", None),
            ("select 1", None),
            ("select true from t", None),
            ("select Count(*)", None),
        ] {
            assert_eq!(first_column(sql).as_deref(), expected, "{sql}");
        }
    }
}
