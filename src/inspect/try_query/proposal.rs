//! A metric definition for a statement that has none: made of its columns and rows, to be pasted and improved.
//!
//! Texts become labels, numbers become values, one metric each. Names are legal and clash with nothing in the plan.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::config::database::Database;
use crate::driver::{Column, ColumnContent, Sql};
use crate::exposition::{FamilyKind, reserved_names};
use crate::inspect::sql_compare::tokens;
use crate::metric::column::find;
use crate::metric::naming::OUR_PREFIXES;
use crate::value::Cell;

use super::owned_rows::OwnedValue;
use super::yaml::{key, scalar, statement};

/// What a column is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Label,
    Value,
    /// A value in Unix seconds.
    Moment,
    /// Nothing, and why.
    Nothing(&'static str),
}

/// An entry of `queries:`, two blanks in, each line with its end. `None` without columns to make anything of.
pub(super) fn propose(
    plan: &Config,
    target: &Database,
    sql: &Sql,
    columns: &[Column],
    rows: &[Vec<OwnedValue>],
) -> Option<String> {
    let parts: Vec<(&Column, Part)> =
        columns.iter().enumerate().map(|(place, column)| (column, part(place, columns, rows))).collect();
    let subject = legal(&table(sql.text()).unwrap_or_else(|| target.name.clone()));
    let subject = if subject.is_empty() { "query".to_owned() } else { subject };
    let mut names = Names::of(plan);
    let labels = labels(plan, target, &subject, &parts);
    let mut metrics = String::new();
    for (place, (column, part)) in parts.iter().enumerate() {
        let (Part::Value | Part::Moment) = part else { continue };
        let wanted = wanted(&subject, column, *part);
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
    out += &statement(sql.text());
    out += "    metrics:\n";
    out += &metrics;
    for (column, part) in &parts {
        if let Part::Nothing(why) = part {
            let name = column.name.replace(char::is_control, " ");
            out += &format!("    # column {name} ({}) is left out: {why}\n", column.type_name);
        }
    }
    Some(out)
}

/// What the column at `place` is good for, by its type and, where that does not tell, by its values.
fn part(place: usize, columns: &[Column], rows: &[Vec<OwnedValue>]) -> Part {
    let Some(column) = columns.get(place) else { return Part::Nothing("it has gone") };
    if find(columns, &column.name) != Ok(place) {
        return Part::Nothing("two columns have its name; give each its own with AS");
    }
    let lower = column.name.to_lowercase();
    let is_key = matches!(lower.as_str(), "id" | "uuid") || lower.ends_with("_id");
    let values = || rows.iter().filter_map(|row| row.get(place)).filter(|kept| kept.cell() != Cell::Null);
    let found = match column.content {
        ColumnContent::Number => Part::Value,
        ColumnContent::Moment => Part::Moment,
        ColumnContent::Text | ColumnContent::Bytes => Part::Label,
        ColumnContent::LocalTime => Part::Nothing("local time of an unknown zone; select its Unix seconds"),
        ColumnContent::Other => Part::Nothing("a document or list; select what you need of it"),
        ColumnContent::Unknown if values().next().is_none() => by_name(&column.type_name),
        ColumnContent::Unknown => values().map(by_value).reduce(together).unwrap_or(Part::Label),
    };
    if is_key && found == Part::Value { Part::Label } else { found }
}

fn by_value(kept: &OwnedValue) -> Part {
    match kept.cell() {
        Cell::Null
        | Cell::Bool(_)
        | Cell::Int(_)
        | Cell::UInt(_)
        | Cell::Float(_)
        | Cell::Float32(_)
        | Cell::Number(_)
        | Cell::Time(_)
        | Cell::Interval { .. } => Part::Value,
        Cell::Date(_)
        | Cell::DateTime { .. }
        | Cell::LocalDate { .. }
        | Cell::LocalDateTime { .. }
        | Cell::NoDate(_) => Part::Moment,
        Cell::Text(_) | Cell::TextDate(_) | Cell::Bytes(_) => Part::Label,
        Cell::Other(_) => Part::Nothing("a document or list; select what you need of it"),
    }
}

/// Values of several kinds can all be labels, unless one can be nothing.
fn together(one: Part, other: Part) -> Part {
    match (one, other) {
        (Part::Nothing(why), _) | (_, Part::Nothing(why)) => Part::Nothing(why),
        _ if one == other => one,
        _ => Part::Label,
    }
}

/// By SQLite's rules of affinity (<https://sqlite.org/datatype3.html>, 3.1), where there is no value to look at.
fn by_name(type_name: &str) -> Part {
    let name = type_name.to_uppercase();
    let numeric = ["INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL"];
    if numeric.iter().any(|word| name.contains(word)) { Part::Value } else { Part::Label }
}

fn is_negative(kept: &OwnedValue) -> bool {
    matches!(kept.cell().number(), crate::value::Number::Value(value) if value < 0.0)
}

/// The key `labels` with its line's end; nothing without labels.
fn labels(plan: &Config, target: &Database, subject: &str, parts: &[(&Column, Part)]) -> String {
    let mut taken: BTreeSet<String> = target.labels.iter().map(|(name, _)| name.to_string()).collect();
    taken.extend([&plan.exporter.target_label, "le", "quantile"].map(str::to_owned));
    let columns = parts.iter().filter(|(_, part)| *part == Part::Label).map(|(column, _)| &*column.name);
    let pairs: Vec<(String, &str)> = columns
        .map(|column| {
            let plain = Some(legal(column)).filter(|name| !name.is_empty()).unwrap_or("label".to_owned());
            // Kept as it is where it can be: a map is longer than a list.
            let own = if is_label(column) { column.to_string() } else { plain.clone() };
            let name = free(&own, &format!("{subject}_{plain}"), |name| !taken.contains(name));
            taken.insert(name.clone());
            (name, column)
        })
        .collect();
    if pairs.is_empty() {
        return String::new();
    }
    if pairs.iter().all(|(name, column)| name == *column) {
        let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        let names: Vec<String> = names.into_iter().map(scalar).collect();
        return format!("        labels: [{}]\n", names.join(", "));
    }
    let pairs: Vec<String> =
        pairs.iter().map(|(name, column)| format!("{}: {}", key(name), scalar(column))).collect();
    format!("        labels: {{{}}}\n", pairs.join(", "))
}

fn is_label(text: &str) -> bool {
    crate::name::LabelName::new(text).is_ok() && !text.starts_with("__")
}

/// `subject_column`, without saying anything twice.
fn wanted(subject: &str, column: &Column, part: Part) -> String {
    let column = legal(&column.name);
    let name = match column.as_str() {
        "" | "value" | "column" => subject.to_owned(),
        _ if column == subject || column.starts_with(&format!("{subject}_")) => column,
        _ => format!("{subject}_{column}"),
    };
    if part == Part::Moment && !name.ends_with("_seconds") {
        return format!("{name}_timestamp_seconds");
    }
    name
}

/// Lower case, `_` for what is not legal, one at a time, none at the ends.
fn legal(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => name.push(c),
            _ if name.is_empty() || name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    let name = name.trim_end_matches('_');
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("n{name}") } else { name.to_owned() }
}

/// The first table that the statement reads from, without its schema: the one of its own `FROM`, else of any.
fn table(sql: &str) -> Option<String> {
    let tokens = tokens(sql);
    let mut depth = 0_i32;
    let mut found: Vec<(i32, usize)> = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            "from" => found.push((depth, place + 1)),
            _ => {}
        }
    }
    found.sort_unstable();
    found.into_iter().find_map(|(_, place)| {
        let rest = tokens.get(place..)?;
        let (first, rest) = rest.split_first().filter(|(first, _)| first.as_str() != "(")?;
        let last = match rest {
            [dot, name, dot_too, last, ..] if dot == "." && dot_too == "." && !name.is_empty() => last,
            [dot, name, ..] if dot == "." => name,
            _ => first,
        };
        Some(last.trim_matches(['"', '`', '\'']).to_owned())
    })
}

/// `wanted`, else `other`, else that with a number: the first that is free.
fn free(wanted: &str, other: &str, is_free: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{other}_{number}"));
    let mut all = [wanted.to_owned(), other.to_owned()].into_iter().chain(numbered);
    all.find(|name| is_free(name)).unwrap_or_default()
}

/// The names that the plan has, and those given out here.
struct Names {
    queries: BTreeSet<String>,
    metrics: BTreeSet<String>,
}

impl Names {
    fn of(plan: &Config) -> Names {
        let metrics = plan.queries.iter().flat_map(|query| query.metrics.iter());
        Names {
            queries: plan.queries.iter().map(|query| query.name.to_string()).collect(),
            metrics: metrics
                .flat_map(|metric| reserved_names(metric.naming.text(), metric.naming.kind()))
                .collect(),
        }
    }

    fn query(&self, wanted: &str) -> String {
        free(wanted, wanted, |name| !self.queries.contains(name))
    }

    /// A name of which nothing is taken; the suffix that its kind needs stays last.
    fn metric(&mut self, wanted: &str, kind: FamilyKind) -> String {
        let ours = OUR_PREFIXES.iter().any(|prefix| wanted.starts_with(prefix));
        let wanted = if ours { format!("db_{wanted}") } else { wanted.to_owned() };
        let suffix = ["_total", "_info", "_seconds"].into_iter().find(|suffix| wanted.ends_with(suffix));
        let suffix = suffix.unwrap_or_default();
        let stem = wanted.strip_suffix(suffix).unwrap_or(&wanted);
        let is_free = |stem: &str| {
            reserved_names(&format!("{stem}{suffix}"), kind).iter().all(|name| !self.metrics.contains(name))
        };
        let name = format!("{}{suffix}", free(stem, stem, is_free));
        self.metrics.extend(reserved_names(&name, kind));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
