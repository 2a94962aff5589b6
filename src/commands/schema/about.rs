//! What each key is for, in the words of `docs/configuration.md`. `keys.txt` is its key tables, one key a line, written
//! by a test of the suite: change the page, then run `make docs`.

/// `SCOPE.KEY | default | what it is for`; the scope is empty at the root of the configuration.
const TABLE: &str = include_str!("keys.txt");

/// Keys of these mappings stand in the table of another: defaults and overrides are what they are of, and a query may
/// hold its one metric's keys, a file those of all its queries.
const ALSO: &[(&str, &str)] = &[
    ("database", "databases"),
    ("query", "queries"),
    ("overrides", "queries"),
    ("queries", "metrics"),
    ("collector", "queries"),
];

/// The sentence about `key` of the mapping called `scope`, with the default.
pub(super) fn about(scope: &str, key: &str) -> Option<String> {
    find(scope, key).or_else(|| {
        let others = ALSO.iter().filter(|(name, _)| *name == scope);
        others.filter_map(|(_, other)| about(other, key)).next()
    })
}

fn find(scope: &str, key: &str) -> Option<String> {
    TABLE.lines().find_map(|line| {
        let mut cells = line.split(" | ");
        if cells.next()?.rsplit_once('.') != Some((scope, key)) {
            return None;
        }
        let (default, text) = (cells.next()?, cells.next()?);
        Some(match default.strip_prefix("needed") {
            Some(or) => format!("{text}\n\nNeeded{or}"),
            None if matches!(default, "" | "none") => text.to_owned(),
            None => format!("{text}\n\nDefault: {default}"),
        })
    })
}
