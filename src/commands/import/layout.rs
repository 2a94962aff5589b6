//! Where the parts of the result stand in its file, as a person would write it: keys in the order of docs/configuration.md,
//! blocks for SQL, short entries on one line, comments where the source had them.
//!
//! Owns the order and the lines. How a scalar, a block or a comment is written belongs to `yaml/writer.rs`.

use std::sync::LazyLock;

use super::model::{Entry, ImportedQuery, ImportedTarget, OutputFile, Value};
use crate::config::schema::KeyDocs;
use crate::yaml::writer::{self, block, scalar};

/// A line is no longer where it can be broken.
const WIDTH: usize = 110;

/// The order of keys in an entry; other keys come last. Those of targets and metrics are in the order of their tables.
type Order = [&'static str];

const TOP: &Order = &["collector", "driver", "databases", "up", "timeout", "interval", "defaults"];
/// Keys at the top that come after the queries.
const TOP_LAST: &Order = &["include", "exporter"];
#[rustfmt::skip]
const QUERY: &Order = &[
    "name", "database", "databases", "driver", "when", "foreach", "sql", "timeout", "interval", "keep_last", "enabled",
];
/// The tables of `docs/configuration.md`.
static DOCS: LazyLock<KeyDocs> = LazyLock::new(KeyDocs::new);

/// The text of a file.
pub(super) fn text_of(file: &OutputFile) -> String {
    let mut out = FileLayout::default();
    out.comments(&file.top.comments, 0);
    let (last, first): (Vec<_>, Vec<_>) =
        file.top.keys().iter().cloned().partition(|(key, _)| TOP_LAST.contains(key));
    if !first.is_empty() {
        out.gap();
    }
    ordered(&first, TOP).iter().for_each(|(key, value)| out.key(key, value, 0));
    if !file.databases.is_empty() {
        out.heading(file, "databases");
        file.databases.iter().for_each(|target| out.target(target));
    }
    if !file.queries.is_empty() {
        out.heading(file, "queries");
        file.queries.iter().enumerate().for_each(|(index, query)| out.query(query, index > 0));
    }
    for (key, value) in ordered(&last, TOP_LAST) {
        out.gap();
        out.comments(&headings(file, key), 0);
        out.key(key, &value, 0);
    }
    if !file.tail.is_empty() {
        out.gap();
        out.comments(&file.tail, 0);
    }
    out.0
}

/// The comments above a key at the top.
fn headings(file: &OutputFile, key: &str) -> Vec<String> {
    let of_key = file.headings.iter().filter(|(known, _)| *known == key);
    of_key.map(|(_, comment)| comment.clone()).collect()
}

#[derive(Default)]
struct FileLayout(String);

impl FileLayout {
    fn line(&mut self, depth: usize, text: &str) {
        for piece in [&*"  ".repeat(depth), text, "\n"] {
            self.0.push_str(piece);
        }
    }

    /// An empty line where something stands above.
    fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
    }

    fn heading(&mut self, file: &OutputFile, key: &str) {
        self.gap();
        self.comments(&headings(file, key), 0);
        self.line(0, &format!("{key}:"));
    }

    fn comments(&mut self, comments: &[String], depth: usize) {
        for comment in comments {
            let comment = writer::comment(comment);
            let is_apart = !comment.is_empty() && !comment.starts_with('#');
            let text = format!("#{}{comment}", if is_apart { " " } else { "" });
            self.line(depth, &text);
        }
    }

    fn target(&mut self, target: &ImportedTarget) {
        // A target of several lines stands apart from the one above.
        let is_later = !self.0.ends_with("databases:\n");
        let order: Vec<&str> = DOCS.order("databases").collect();
        let pairs = ordered(target.entry.keys(), &order);
        let is_short = |flow: &String| {
            pairs.len() <= 3 && !target.entry.has_comment_behind() && fits(1, &target.name, flow)
        };
        let flow = flow_pairs(&pairs).filter(is_short);
        if is_later && flow.is_none() {
            self.0.push('\n');
        }
        self.comments(&target.entry.comments_above(), 1);
        match flow {
            Some(flow) => self.line(1, &format!("{}: {flow}", scalar(&target.name))),
            None => {
                self.line(1, &format!("{}:", scalar(&target.name)));
                self.entry(&target.entry, &order, 2, "");
            }
        }
    }

    fn query(&mut self, query: &ImportedQuery, is_later: bool) {
        if is_later {
            self.0.push('\n');
        }
        self.comments(&query.entry.comments_above(), 1);
        self.entry(&query.entry, QUERY, 2, "  - ");
        if query.metrics.is_empty() {
            return;
        }
        self.line(2, "metrics:");
        let order: Vec<&str> = DOCS.order("metrics").collect();
        let is_short = |metric: &Entry| {
            let pairs = ordered(metric.keys(), &order);
            !metric.has_comment_behind() && flow_pairs(&pairs).is_some_and(|flow| fits(3, "", &flow))
        };
        // One style for all metrics of a query.
        let all_short = query.metrics.iter().all(is_short);
        for metric in &query.metrics {
            self.comments(&metric.comments_above(), 3);
            let pairs = ordered(metric.keys(), &order);
            match flow_pairs(&pairs).filter(|_| all_short) {
                Some(flow) => self.line(3, &format!("- {flow}")),
                None => self.entry(metric, &order, 4, "      - "),
            }
        }
    }

    /// Keys one below the other; `dash` stands before the first one in place of its indent.
    fn entry(&mut self, entry: &Entry, order: &Order, depth: usize, dash: &str) {
        for (index, (key, value)) in ordered(entry.keys(), order).into_iter().enumerate() {
            let behind: Vec<&str> = entry
                .behind
                .iter()
                .filter(|(of, _)| of == key)
                .map(|(_, comment)| comment.as_str())
                .collect();
            let start = self.0.len();
            self.key(key, &value, depth);
            if !behind.is_empty() {
                // On the line of the key, which is the first one.
                let end = self.0.get(start..).and_then(|text| text.find('\n')).map_or(start, |at| start + at);
                self.0.insert_str(end, &format!("  # {}", writer::comment(&behind.join(" "))));
            }
            if index == 0 && !dash.is_empty() {
                self.0.replace_range(start..start + dash.len(), dash);
            }
        }
    }

    fn key(&mut self, key: &str, value: &Value, depth: usize) {
        let key = plain_or_quoted(key);
        let block_of = |text: &str| block(text, depth + 1).map(|block| format!("{key}: {block}"));
        let line = match value {
            Value::Text(text) if text.contains('\n') => block_of(&escaped(text)),
            Value::Sql(text) if text.contains('\n') || !is_plain_line(text) => block_of(&format!("{text}\n")),
            _ => None,
        };
        if let Some(line) = line {
            return self.line(depth, &line);
        }
        if let Some(flow) = inline(value).filter(|flow| is_scalar(value) || fits(depth, &key, flow)) {
            return self.line(depth, &format!("{key}: {flow}"));
        }
        self.line(depth, &format!("{key}:"));
        self.below(value, depth + 1);
    }

    /// A list or a mapping that does not fit a line.
    fn below(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Map(pairs) => pairs.iter().for_each(|(key, value)| self.key(key, value, depth)),
            Value::List(items) => {
                for item in items {
                    let inline = inline(item).filter(|flow| is_scalar(item) || fits(depth, "- ", flow));
                    let text = match item {
                        Value::Sql(text) if !is_plain_line(text) => block(&format!("{text}\n"), depth + 1),
                        _ => None,
                    };
                    match text.or(inline) {
                        Some(text) => self.line(depth, &format!("- {text}")),
                        None => {
                            let start = self.0.len();
                            self.below(item, depth + 1);
                            let indent = "  ".repeat(depth);
                            let end = (start + indent.len() + 2).min(self.0.len());
                            self.0.replace_range(start..end, &format!("{indent}- "));
                        }
                    }
                }
            }
            Value::Text(_) | Value::Expanded(_) | Value::Sql(_) => {}
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::Text(_) | Value::Expanded(_) | Value::Sql(_))
}

fn fits(depth: usize, key: &str, flow: &str) -> bool {
    2 * depth + key.len() + 2 + flow.len() <= WIDTH
}

/// One line of SQL that needs no quotes and is not long.
fn is_plain_line(text: &str) -> bool {
    text.len() < WIDTH - 10 && !text.contains('\n') && scalar(text) == text
}

/// As `scalar` has it, but for the words of the key `null`, which the load takes as they are.
fn plain_or_quoted(text: &str) -> String {
    if matches!(text, "null" | "nan") { text.to_owned() } else { scalar(text) }
}

/// `${` as the load takes it for itself.
fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

/// A value on one line, also a statement that no block can hold.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Sql(text) => Some(scalar(text)),
        _ => flow(value),
    }
}

/// A value on one line, where a person would write it so.
fn flow(value: &Value) -> Option<String> {
    Some(match value {
        Value::Text(text) => plain_or_quoted(&escaped(text)),
        Value::Expanded(text) => scalar(text),
        Value::Sql(text) if text.contains('\n') => return None,
        Value::Sql(text) => scalar(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(flow).collect::<Option<_>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Map(pairs) => return flow_pairs(pairs),
    })
}

fn flow_pairs<K: AsRef<str>>(pairs: &[(K, Value)]) -> Option<String> {
    let pair =
        |(key, value): &(K, Value)| Some(format!("{}: {}", plain_or_quoted(key.as_ref()), flow(value)?));
    let pairs: Vec<String> = pairs.iter().map(pair).collect::<Option<_>>()?;
    Some(format!("{{{}}}", pairs.join(", ")))
}

/// The keys in our order.
fn ordered(keys: &[(&'static str, Value)], order: &Order) -> Vec<(&'static str, Value)> {
    let mut keys = keys.to_vec();
    let rank = |key: &str| order.iter().position(|known| *known == key).unwrap_or(order.len());
    keys.sort_by_key(|(key, _)| (*key == "lint_off", rank(key)));
    keys
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::yaml::document::{Document, Node, NodeValue};

    /// Texts that YAML, variables or our own words may take for something else.
    const TEXTS: [&str; 36] = [
        "",
        " ",
        "a",
        "a: b",
        "- x",
        "#c",
        "a #c",
        "'q'",
        "\"",
        "${X}",
        "$${X}",
        "null",
        "nan",
        "~",
        "true",
        "é\u{1f600}",
        "a\nb",
        "a\n\n  b\n",
        "tab\there",
        " lead",
        "trail ",
        "@x",
        "%x",
        "{a}",
        "[b]",
        "a,b",
        "*a",
        "&a",
        "!x",
        "|",
        ">",
        "1e3",
        "\u{85}x",
        "\u{2028}\nx",
        "\\n",
        "a:",
    ];

    fn child<'n>(node: &'n Node, key: &str) -> &'n Node {
        let NodeValue::Map(entries) = &node.value else { panic!("{node:?}") };
        &entries.iter().find(|entry| entry.key == key).unwrap_or_else(|| panic!("no {key}: {node:?}")).node
    }

    fn text(node: &Node) -> String {
        match &node.value {
            NodeValue::Scalar(text) => text.clone(),
            NodeValue::Null => "null".to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn any_text_reads_back_as_itself() {
        for case in TEXTS {
            let mut query = ImportedQuery::default();
            query.entry.set("name", case);
            query.entry.set("sql", Value::Sql(case.to_owned()));
            query.entry.set("when", Value::map([("sql", Value::Sql(case.to_owned()))]));
            query.entry.set("foreach", Value::list([Value::map([(case, case), ("other", case)])]));
            query.entry.comments = vec![case.to_owned()];
            query.entry.behind = vec![("name".to_owned(), "why".to_owned())];
            let mut metric = Entry::default();
            metric.set("help", case);
            query.metrics.push(metric);
            let file = OutputFile { queries: vec![query], ..OutputFile::default() };
            let written = text_of(&file);
            let read = Document::parse("x", Path::new("."), written.clone());
            let read = read.unwrap_or_else(|error| panic!("{case:?}: {error}\n{written}"));
            let NodeValue::List(queries) = &child(&read.tree, "queries").value else { panic!("{written}") };
            let query = &queries[0];
            // What a statement holds is as typed; in other texts `$${` stands for `${`.
            let escaped = case.replace("${", "$${");
            assert_eq!(text(child(query, "name")), escaped, "{written}");
            assert_eq!(text(child(child(query, "when"), "sql")).trim_end(), case.trim_end(), "{written}");
            assert_eq!(text(child(query, "sql")).trim_end(), case.trim_end(), "{written}");
            let NodeValue::List(values) = &child(query, "foreach").value else { panic!("{written}") };
            assert_eq!(text(child(&values[0], "other")), escaped, "{written}");
            let NodeValue::List(metrics) = &child(query, "metrics").value else { panic!("{written}") };
            assert_eq!(text(child(&metrics[0], "help")), escaped, "{written}");
        }
    }
}
