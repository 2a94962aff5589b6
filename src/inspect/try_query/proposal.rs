//! A metric definition for a statement that has none: made from its columns and rows, to be copied and improved.
//!
//! Texts become labels, numbers become values, one metric each. Names are legal and do not clash with the configuration.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::config::target::TargetConfig;
use crate::driver::{Column, ColumnContent, Sql};
use crate::exposition::{FamilyKind, reserved_names};
use crate::inspect::sql_compare::{tokens, with_depth};
use crate::metric::column::find;
use crate::metric::naming::our_prefix;
use crate::name::{LabelName, unused};
use crate::value::{Cell, Number};
use crate::yaml::writer::{self, block};

use super::recording_sink::OwnedValue;

/// What a column can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProposedUse {
    Label,
    Value,
    /// A value in Unix seconds.
    Moment,
    /// Nothing, and why.
    Nothing(&'static str),
}

/// Why a column of a document or a list is left out.
const DOCUMENT: &str = "a document or list; select what you need of it";

/// An entry of `queries:`, indented by two. `None` without columns that can be used.
pub(super) fn propose(
    config: &Config,
    target: &TargetConfig,
    sql: &Sql,
    columns: &[Column],
    rows: &[Vec<OwnedValue>],
) -> Option<String> {
    let uses: Vec<(&Column, ProposedUse)> =
        columns.iter().enumerate().map(|(place, column)| (column, usage(place, columns, rows))).collect();
    let subject = legal(&table(sql.text()).unwrap_or_else(|| target.name.clone()));
    let subject = if subject.is_empty() { "query".to_owned() } else { subject };
    let mut names = UnusedNames::of(config);
    let labels = labels(config, target, &subject, &uses);
    let mut metrics = String::new();
    for (place, (column, usage)) in uses.iter().enumerate() {
        let (ProposedUse::Value | ProposedUse::Moment) = usage else { continue };
        let wanted = wanted(&subject, column, *usage);
        let falls = rows.iter().filter_map(|row| row.get(place)).any(is_negative);
        let counts = wanted.ends_with("_total") && !falls;
        let kind = if counts { FamilyKind::Counter } else { FamilyKind::Gauge };
        let name = names.metric(&wanted, kind);
        let help = format!("Column {} of {subject}: say here what it counts.", column.name);
        metrics += &format!("      - name: {name}\n        help: {}\n", scalar(&help));
        metrics += if counts { "        type: counter\n" } else { "" };
        metrics += &labels;
        metrics += &format!("        value_column: {}\n", scalar(&column.name));
    }
    if metrics.is_empty() && labels.is_empty() {
        return None;
    }
    if metrics.is_empty() {
        let name = names.metric(&format!("{subject}_info"), FamilyKind::Info);
        let help = format!("The rows of {subject}: say here what they are.");
        metrics =
            format!("      - name: {name}\n        help: {}\n        type: info\n{labels}", scalar(&help));
    }
    let mut out = format!("  - name: {}\n", names.query(&subject));
    out += &format!("    database: {}\n", scalar(&target.name));
    out += &sql_key(sql.text());
    out += "    metrics:\n";
    out += &metrics;
    for (column, usage) in &uses {
        if let ProposedUse::Nothing(why) = usage {
            let name = column.name.replace(char::is_control, " ");
            out += &format!("    # column {name} ({}) is left out: {why}\n", column.type_name);
        }
    }
    Some(out)
}

/// The use of the column at `place`, by its type and, where that is not enough, by its values.
fn usage(place: usize, columns: &[Column], rows: &[Vec<OwnedValue>]) -> ProposedUse {
    let Some(column) = columns.get(place) else {
        return ProposedUse::Nothing("the result has no such column");
    };
    if find(columns, &column.name) != Ok(place) {
        return ProposedUse::Nothing("two columns have its name; give each its own with AS");
    }
    let lower = column.name.to_lowercase();
    let is_key = matches!(lower.as_str(), "id" | "uuid") || lower.ends_with("_id");
    let values = || rows.iter().filter_map(|row| row.get(place)).filter(|value| value.cell() != Cell::Null);
    let found = match column.content {
        ColumnContent::Number => ProposedUse::Value,
        ColumnContent::Moment => ProposedUse::Moment,
        ColumnContent::Text | ColumnContent::Bytes => ProposedUse::Label,
        ColumnContent::LocalTime => {
            ProposedUse::Nothing("local time of an unknown zone; select its Unix seconds")
        }
        ColumnContent::Other => ProposedUse::Nothing(DOCUMENT),
        ColumnContent::Unknown if values().next().is_none() => by_name(&column.type_name),
        ColumnContent::Unknown => values().map(by_value).reduce(together).unwrap_or(ProposedUse::Label),
    };
    if is_key && found == ProposedUse::Value { ProposedUse::Label } else { found }
}

fn by_value(value: &OwnedValue) -> ProposedUse {
    match value.cell() {
        Cell::Text(_) | Cell::TextDate(_) | Cell::Bytes(_) => ProposedUse::Label,
        Cell::Other(_) => ProposedUse::Nothing(DOCUMENT),
        Cell::Date(_)
        | Cell::DateTime { .. }
        | Cell::LocalDate { .. }
        | Cell::LocalDateTime { .. }
        | Cell::NoDate(_) => ProposedUse::Moment,
        _ => ProposedUse::Value,
    }
}

/// Values of several kinds can all be labels, unless one cannot be used.
fn together(one: ProposedUse, other: ProposedUse) -> ProposedUse {
    match (one, other) {
        (ProposedUse::Nothing(why), _) | (_, ProposedUse::Nothing(why)) => ProposedUse::Nothing(why),
        _ if one == other => one,
        _ => ProposedUse::Label,
    }
}

/// By SQLite's rules of affinity (<https://sqlite.org/datatype3.html>, 3.1), where there is no value to look at.
fn by_name(type_name: &str) -> ProposedUse {
    let name = type_name.to_uppercase();
    let numeric = ["INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL"];
    if numeric.iter().any(|word| name.contains(word)) { ProposedUse::Value } else { ProposedUse::Label }
}

fn is_negative(value: &OwnedValue) -> bool {
    matches!(value.cell().number(), Number::Value(number) if number < 0.0)
}

/// The key `labels` with its line's end; nothing without labels.
fn labels(config: &Config, target: &TargetConfig, subject: &str, uses: &[(&Column, ProposedUse)]) -> String {
    let mut taken: BTreeSet<String> = target.labels.iter().map(|(name, _)| name.to_string()).collect();
    taken.extend([&config.exporter.target_label, "le", "quantile"].map(str::to_owned));
    let columns =
        uses.iter().filter(|(_, usage)| *usage == ProposedUse::Label).map(|(column, _)| &*column.name);
    let pairs: Vec<(String, &str)> = columns
        .map(|column| {
            let plain = Some(legal(column)).filter(|name| !name.is_empty()).unwrap_or("label".to_owned());
            // Kept as it is where it can be: a map is longer than a list.
            let own = if is_label(column) { column.to_string() } else { plain.clone() };
            let is_free = |name: &str| !taken.contains(name);
            let name = if is_free(&own) { own } else { unused(&format!("{subject}_{plain}"), "_", is_free) };
            taken.insert(name.clone());
            (name, column)
        })
        .collect();
    if pairs.is_empty() {
        return String::new();
    }
    if pairs.iter().all(|(name, column)| name == *column) {
        let names: Vec<String> = pairs.iter().map(|(name, _)| scalar(name)).collect();
        return format!("        labels: [{}]\n", names.join(", "));
    }
    let pairs: Vec<String> =
        pairs.iter().map(|(name, column)| format!("{}: {}", writer::scalar(name), scalar(column))).collect();
    format!("        labels: {{{}}}\n", pairs.join(", "))
}

fn is_label(text: &str) -> bool {
    LabelName::new(text).is_ok() && !text.starts_with("__")
}

/// `subject_column`, without saying anything twice.
fn wanted(subject: &str, column: &Column, usage: ProposedUse) -> String {
    let column = legal(&column.name);
    let name = match column.as_str() {
        "" | "value" | "column" => subject.to_owned(),
        _ if column == subject || column.starts_with(&format!("{subject}_")) => column,
        _ => format!("{subject}_{column}"),
    };
    if usage == ProposedUse::Moment && !name.ends_with("_seconds") {
        return format!("{name}_timestamp_seconds");
    }
    name
}

/// In lower case, with one `_` for what is not legal.
fn legal(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("_");
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("n{name}") } else { name }
}

/// The first table that the statement reads from, without its schema: the one of its own `FROM`, else of any.
fn table(sql: &str) -> Option<String> {
    let tokens = tokens(sql);
    let mut found: Vec<(usize, usize, &str)> =
        with_depth(&tokens).filter(|(.., token)| *token == "from").collect();
    found.sort_unstable();
    found.into_iter().find_map(|(_, from, _)| {
        let rest = tokens.get(from + 1..)?;
        let (first, rest) = rest.split_first().filter(|(first, _)| first.as_str() != "(")?;
        let last = match rest {
            [dot, name, dot_too, last, ..] if dot == "." && dot_too == "." && !name.is_empty() => last,
            [dot, name, ..] if dot == "." => name,
            _ => first,
        };
        Some(last.trim_matches(['"', '`', '\'']).to_owned())
    })
}

/// The names of the configuration, and those proposed here.
struct UnusedNames {
    queries: BTreeSet<String>,
    metrics: BTreeSet<String>,
}

impl UnusedNames {
    fn of(config: &Config) -> UnusedNames {
        let metrics = config.queries.iter().flat_map(|query| query.metrics.iter());
        let aliases = config.targets.iter().flat_map(|target| &target.aliases);
        UnusedNames {
            queries: config.queries.iter().map(|query| query.name.to_string()).collect(),
            metrics: metrics
                .flat_map(|metric| reserved_names(metric.naming.text(), metric.naming.kind()))
                .chain(aliases.map(|alias| alias.family.name.to_string()))
                .collect(),
        }
    }

    fn query(&self, wanted: &str) -> String {
        unused(wanted, "_", |name| !self.queries.contains(name))
    }

    /// A name of which nothing is taken; the suffix that its kind needs stays last.
    fn metric(&mut self, wanted: &str, kind: FamilyKind) -> String {
        let wanted = if our_prefix(wanted).is_some() { format!("db_{wanted}") } else { wanted.to_owned() };
        let suffix = ["_total", "_info", "_seconds"].into_iter().find(|suffix| wanted.ends_with(suffix));
        let suffix = suffix.unwrap_or_default();
        let stem = wanted.strip_suffix(suffix).unwrap_or(&wanted);
        let is_free = |stem: &str| {
            reserved_names(&format!("{stem}{suffix}"), kind).iter().all(|name| !self.metrics.contains(name))
        };
        let name = format!("{}{suffix}", unused(stem, "_", is_free));
        self.metrics.extend(reserved_names(&name, kind));
        name
    }
}

/// A value in block or flow style, in which `${` means itself.
fn scalar(text: &str) -> String {
    writer::scalar(&text.replace("${", "$${"))
}

/// The key `sql` of a query, indented by four: as a block where a block can hold it. It is never expanded.
fn sql_key(sql: &str) -> String {
    let text = block(&format!("{sql}\n"), 3).unwrap_or_else(|| writer::scalar(sql));
    format!("    sql: {text}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::yaml::document::Document;
    use crate::yaml::keys::{Keys, Reader};

    #[test]
    fn names_are_made_legal() {
        let cases = [
            ("Orders", "orders"),
            ("count(*)", "count"),
            ("  Größe in m²", "gr_e_in_m"),
            ("95th", "n95th"),
            ("?column?", "column"),
            ("日本", ""),
            ("a__b", "a_b"),
        ];
        for (text, expected) in cases {
            assert_eq!(legal(text), expected, "{text}");
        }
    }

    #[test]
    fn the_table_is_that_of_the_statements_own_from() {
        let cases = [
            ("SELECT a FROM orders", Some("orders")),
            ("SELECT extract(epoch FROM x) FROM public.\"Big Orders\" o", Some("Big Orders")),
            ("SELECT a FROM db.sch.t, u", Some("t")),
            ("SELECT a FROM (SELECT b FROM inner_one) x", Some("inner_one")),
            ("SELECT 1", None),
            ("SELECT a FROM `t`", Some("t")),
        ];
        for (sql, expected) in cases {
            assert_eq!(table(sql).as_deref(), expected, "{sql}");
        }
    }

    fn read(yaml: String, key: &'static str, literal: bool) -> Option<String> {
        let document = Document::parse("x.yaml", Path::new("."), yaml).expect("YAML");
        let reader = Reader::new(&|_| None);
        let mut keys = Keys::root(&document, &reader).expect("a mapping");
        if literal { keys.literal(key) } else { keys.text(key) }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let texts = [
            "orders",
            "true",
            "No",
            "~",
            "12",
            "1e3",
            "a: b",
            "a #b",
            "it's \"so\"",
            "back\\slash",
            "${HOME}",
            "",
            " a ",
            "count(*)",
            "é日本",
            "tab\there",
            "line\nbreak",
            "\u{1b}[2J",
            "\u{9b}x\u{85}y",
            "- a",
            "*x",
            "&x",
            "a.",
            "\u{feff}x",
            "\u{2028}",
        ];
        for text in texts {
            assert_eq!(read(format!("a: {}\n", scalar(text)), "a", false).as_deref(), Some(text), "{text:?}");
            let flow = format!("a: {}\nb: [{}]\n", scalar(text), scalar(text));
            assert_eq!(read(flow, "a", false).as_deref(), Some(text), "{text:?}");
        }
    }

    #[test]
    fn statements_are_read_back_from_blocks_and_from_quotes() {
        let statements = [
            "SELECT 1",
            "SELECT a,\n  b -- ${HOME}: #x\n\nFROM t\n\tWHERE x = '\"'",
            "SELECT 'a\u{1b}b'",
            "SELECT 'a\rb'",
            "SELECT '日本', '\u{85}'",
        ];
        for sql in statements {
            let yaml = format!("query:\n{}", sql_key(sql)).replace("query:\n", "");
            let found = read(
                yaml.lines().map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect(),
                "sql",
                true,
            );
            assert_eq!(found.as_deref().map(str::trim_end), Some(sql));
        }
    }
}
