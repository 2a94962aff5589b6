//! Names that are legal and unique: of targets, of queries, of metrics.

use std::collections::HashSet;

use crate::name::unused;

/// The longest name of a target.
const LONGEST_TARGET: usize = 60;
/// The longest part of a metric's name that a target or a table gives.
const LONGEST_PART: usize = 40;
/// What stands before a name that would look like one of a pack or of the exporter.
const OWN: &str = "app";
/// First words of names that belong to the exporter, and to Prometheus' own clients.
const RESERVED: [&str; 6] = ["sql", "process", "go", "promhttp", "up", "scrape"];

/// A name for a target of what its address says, with characters that need no quotes and make no pattern.
pub(super) fn target(text: &str, known: &mut HashSet<String>) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name: String = text.chars().take(LONGEST_TARGET).map(|c| if is_plain(c) { c } else { '_' }).collect();
    let name = if name.chars().any(char::is_alphanumeric) { name } else { "db".to_owned() };
    unused(&name, "-", |name| known.insert(name.to_owned()))
}

/// Names of queries and metrics that are taken.
pub(super) struct MetricNames {
    known: HashSet<String>,
    first_words: HashSet<String>,
}

impl MetricNames {
    /// Those of the packs.
    pub(super) fn new(known: HashSet<String>) -> MetricNames {
        let words = known.iter().map(|name| first_word(name).to_owned());
        let first_words = words.chain(RESERVED.map(str::to_owned)).collect();
        MetricNames { known, first_words }
    }

    /// A beginning for names of metrics, which is the name of a query as well: of a target, and of a table in it. No name
    /// with one of the suffixes is taken.
    pub(super) fn base(&mut self, target: &str, table: &str, suffixes: &[&str]) -> String {
        let (target, table) = (part(target, "db"), part(table, "table"));
        let own = self.first_words.contains(first_word(&target)) || target.starts_with(char::is_numeric);
        let base = if own { format!("{OWN}_{target}_{table}") } else { format!("{target}_{table}") };
        let known = &mut self.known;
        let base = unused(&base, "_", |base| {
            let taken = suffixes.iter().any(|suffix| known.contains(&format!("{base}_{suffix}")));
            !taken && known.insert(base.to_owned())
        });
        self.known.extend(suffixes.iter().map(|suffix| format!("{base}_{suffix}")));
        base
    }
}

fn first_word(name: &str) -> &str {
    name.split('_').next().unwrap_or_default()
}

/// What may stand in a metric's name, in lower case.
fn part(text: &str, otherwise: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= LONGEST_PART {
            break;
        }
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    let part = out.trim_end_matches('_');
    if part.is_empty() { otherwise.to_owned() } else { part.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_plain_name_of_its_own() {
        let mut known = HashSet::new();
        for (text, expected) in [
            ("shop", "shop"),
            ("shop", "shop-2"),
            ("my db/*", "my_db__"),
            ("!x", "_x"),
            ("", "db"),
            ("\n?", "db-2"),
            ("größe", "größe"),
        ] {
            assert_eq!(target(text, &mut known), expected, "{text:?}");
        }
        assert_eq!(target(&"é".repeat(1000), &mut known).chars().count(), LONGEST_TARGET);
    }

    #[test]
    fn names_of_metrics_are_legal_and_not_those_of_packs() {
        let known = ["pg_locks", "mysql_status_{variable_name}"];
        let mut names = MetricNames::new(known.map(str::to_owned).into());
        for (target, table, expected) in [
            ("shop", "users", "shop_users"),
            ("shop", "orders", "shop_orders"),
            ("shop", "or_ders", "shop_or_ders"),
            ("shop", "ORDERS", "shop_orders_2"),
            ("shop", "Users", "shop_users_2"),
            ("pg", "locks", "app_pg_locks"),
            ("mysql-5", "x", "app_mysql_5_x"),
            ("7", "--", "app_7_table"),
            ("größe", "${X}: #*/'\"\n", "gr_e_x"),
        ] {
            assert_eq!(names.base(target, table, &["rows", "bytes"]), expected);
        }
        assert_eq!(names.base("a", &"b".repeat(10_000), &["rows"]).len(), 2 + LONGEST_PART);
    }
}
