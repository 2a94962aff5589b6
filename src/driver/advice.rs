//! What to write where the values of a column are not numbers. Each driver has a table of types;
//! `tests/suite/conformance` runs every entry on a real server.

/// What to write, by the column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// This expression of the column, `{}`, is a number.
    Write(&'static str),
    /// A date or time that the database converts itself.
    Convert {
        /// Unix seconds.
        moment: &'static str,
        /// The same, and NULL for what is not a date or out of range.
        or_null: &'static str,
    },
    /// Bytes: usable as a label, or by their length.
    Bytes,
    /// Usable as a label.
    Label,
}

/// The length of a binary value in every database.
pub const LENGTH: &str = "length({})";

/// The advice of `table` for a type; types that are not in it are usable as labels.
pub fn find(table: &[(&str, Advice)], type_name: &str) -> Advice {
    let known = table.iter().find(|(name, _)| *name == type_name);
    known.map_or(Advice::Label, |(_, advice)| *advice)
}

/// `expression` of the column called `name`, under that name: `unixepoch(at) AS at`. `quote` encloses a name.
pub fn written(expression: &str, name: &str, quote: char) -> String {
    let alias = if is_plain(name) { name.to_owned() } else { quoted(name, quote) };
    format!("{} AS {alias}", applied(expression, name, quote))
}

/// `expression` of the column called `name`: `unixepoch(at)`.
pub fn applied(expression: &str, name: &str, quote: char) -> String {
    // Databases call a column without a name of its own what its expression is: `max(at)`.
    let is_expression = name.contains('(');
    let term = if is_plain(name) || is_expression { name.to_owned() } else { quoted(name, quote) };
    expression.replace("{}", &term)
}

fn quoted(name: &str, quote: char) -> String {
    let inner = name.replace(quote, &format!("{quote}{quote}"));
    format!("{quote}{inner}{quote}")
}

/// True for a name that every database reads without quotes.
fn is_plain(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    starts && rest && !RESERVED.contains(&name)
}

/// Words that a column may be called and that some database reserves. One that is missing here is shown without
/// quotes, one too many with quotes.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "abort", "action", "add", "after", "all", "alter", "analyse", "analyze", "and", "any", "array", "as", "asc",
    "asensitive", "attach", "authorization", "before", "begin", "between", "binary", "both", "by", "call", "cascade",
    "case", "cast", "change", "check", "collate", "collation", "column", "commit", "concurrently", "condition",
    "conflict", "constraint", "continue", "convert", "create", "cross", "cube", "current", "current_date",
    "current_time", "current_timestamp", "current_user", "cursor", "database", "databases", "day_hour", "default",
    "deferred", "delayed", "delete", "desc", "describe", "detach", "distinct", "div", "do", "drop", "dual", "each",
    "else", "elseif", "empty", "enclosed", "end", "escape", "escaped", "except", "exclude", "exclusive", "exists",
    "exit", "explain", "fail", "false", "fetch", "filter", "first", "float", "following", "for", "force", "foreign",
    "freeze", "from", "full", "fulltext", "function", "generated", "get", "glob", "grant", "group", "grouping",
    "groups", "having", "if", "ignore", "ilike", "immediate", "in", "index", "indexed", "initially", "inner", "inout",
    "insert", "instead", "int", "integer", "intersect", "interval", "into", "is", "isnull", "iterate", "join", "key",
    "keys", "kill", "lag", "last", "last_value", "lateral", "lead", "leading", "leave", "left", "like", "limit",
    "linear", "lines", "load", "localtime", "localtimestamp", "lock", "long", "loop", "manual", "match", "materialized",
    "mod", "natural", "no", "not", "nothing", "notnull", "nth_value", "ntile", "null", "nulls", "numeric", "of",
    "offset", "on", "only", "optimize", "option", "or", "order", "others", "out", "outer", "outfile", "over",
    "overlaps", "parallel", "partition", "percent_rank", "placing", "plan", "pragma", "preceding", "precision",
    "primary", "procedure", "purge", "qualify", "query", "raise", "range", "rank", "read", "reads", "real",
    "recursive", "references", "regexp", "reindex", "release", "rename", "repeat", "replace", "require", "resignal",
    "restrict", "return", "returning", "revoke", "right", "rlike", "rollback", "row", "row_number", "rows",
    "savepoint", "schema", "schemas", "select", "sensitive", "separator", "session_user", "set", "show", "signal",
    "similar", "smallint", "some", "spatial", "specific", "sql", "starting", "stored", "symmetric", "system", "table",
    "tablesample", "temp", "temporary", "terminated", "then", "ties", "to", "trailing", "transaction", "trigger",
    "true", "unbounded", "undo", "union", "unique", "unlock", "unsigned", "update", "usage", "use", "user", "using",
    "vacuum", "values", "varying", "variadic", "verbose", "view", "virtual", "when", "where", "while", "window", "with",
    "without", "write", "xor", "year_month", "zerofill",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_where_it_must_be() {
        for (name, quote, expected) in [
            ("at", '"', "f(at) AS at"),
            ("created_at2", '`', "f(created_at2) AS created_at2"),
            ("createdAt", '"', "f(\"createdAt\") AS \"createdAt\""),
            ("order", '`', "f(`order`) AS `order`"),
            ("last run", '"', "f(\"last run\") AS \"last run\""),
            ("a\"b", '"', "f(\"a\"\"b\") AS \"a\"\"b\""),
            ("max(at)", '`', "f(max(at)) AS `max(at)`"),
            ("2", '"', "f(\"2\") AS \"2\""),
        ] {
            assert_eq!(written("f({})", name, quote), expected);
        }
    }

    #[test]
    fn a_type_that_nothing_is_known_of_is_good_as_a_label() {
        let table = [("pg_lsn", Advice::Write("{} - '0/0'"))];
        assert_eq!(find(&table, "pg_lsn"), Advice::Write("{} - '0/0'"));
        assert_eq!(find(&table, "inet"), Advice::Label);
    }
}
