//! `when`: the conditions under which a query applies to the server that a session found. Read here, decided by
//! `engine/conditions` with what the session knows.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::driver::{RelationName, Sql};
use crate::yaml::folds::Folded;
use crate::yaml::keys::{Keys, word};

/// All conditions of one query; each must hold. What `defaults` say is shared by all queries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct When {
    /// The server's version; empty = any.
    pub version: Arc<[VersionBound]>,
    /// The server's flavour is one of these; empty = any.
    pub flavor: Arc<[&'static str]>,
    /// The server's role.
    pub role: Option<ServerRole>,
    /// The database has all of these.
    pub extensions: Arc<[ExtensionBound]>,
    /// All of these exist, and the user can read them.
    pub relations: Arc<[RelationName]>,
    /// A statement that gives one boolean.
    pub sql: Option<Arc<Sql>>,
    /// That statement, where lines of the file are joined in it.
    pub folded: Arc<[Folded]>,
}

/// An extension or plugin of some versions: `pg_stat_statements >=1.8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionBound {
    /// Its name.
    pub name: String,
    /// Its version; empty = any.
    pub version: Vec<VersionBound>,
}

impl ExtensionBound {
    /// Reads a name and the comparisons after it.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn new(text: &str) -> Result<ExtensionBound, String> {
        let mut words = text.split_whitespace();
        let is_name = |name: &&str| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        let Some(name) = words.next().filter(is_name) else {
            let example = "\"pg_stat_statements\" or \"pg_stat_statements >=1.8\"";
            return Err(format!("{text:?} does not begin with the name of an extension: write {example}"));
        };
        let version = words.map(VersionBound::new).collect::<Result<_, _>>()?;
        Ok(ExtensionBound { name: name.to_owned(), version })
    }
}

/// What a server is to its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    /// Takes writes.
    Primary,
    /// Follows another server.
    Replica,
}

impl ServerRole {
    /// As in `ServerFacts::role`.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerRole::Primary => "primary",
            ServerRole::Replica => "replica",
        }
    }
}

const ROLES: &[(&str, Option<ServerRole>)] =
    &[("primary", Some(ServerRole::Primary)), ("replica", Some(ServerRole::Replica)), ("any", None)];

/// The flavours that sessions tell.
const FLAVORS: &[(&str, &str)] = &[
    ("postgresql", "postgresql"),
    ("postgres", "postgresql"),
    ("pgbouncer", "pgbouncer"),
    ("mysql", "mysql"),
    ("mariadb", "mariadb"),
    ("sqlite", "sqlite"),
];

/// One comparison with a version: `>=14`, `<8.0.22`, `=15`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionBound {
    accepts: &'static [Ordering],
    numbers: Vec<u32>,
}

/// The longer operators first: `>` is the beginning of `>=`.
const OPERATORS: [(&str, &[Ordering]); 6] = [
    (">=", &[Ordering::Greater, Ordering::Equal]),
    ("<=", &[Ordering::Less, Ordering::Equal]),
    ("!=", &[Ordering::Less, Ordering::Greater]),
    (">", &[Ordering::Greater]),
    ("<", &[Ordering::Less]),
    ("=", &[Ordering::Equal]),
];

impl VersionBound {
    /// Reads one word.
    ///
    /// # Errors
    /// A sentence that says what a comparison looks like.
    pub fn new(text: &str) -> Result<VersionBound, String> {
        let wrong =
            || format!("{text:?} is not a comparison with a version: write \">=14 <17\" or \"=10.11\"");
        let (operator, accepts) =
            OPERATORS.into_iter().find(|(operator, _)| text.starts_with(operator)).ok_or_else(wrong)?;
        let numbers: Option<Vec<u32>> =
            text[operator.len()..].split('.').map(|number| number.parse().ok()).collect();
        Ok(VersionBound { accepts, numbers: numbers.ok_or_else(wrong)? })
    }

    /// Whether a server of this version is meant. Only as many numbers are compared as the bound has: 14.5 is `=14`.
    pub fn holds(&self, version: &[u32]) -> bool {
        let theirs = (0..self.numbers.len()).map(|place| version.get(place).copied().unwrap_or(0));
        self.accepts.contains(&theirs.cmp(self.numbers.iter().copied()))
    }
}

/// The numbers at the beginning of a version as servers write it: `15.18 (Debian …)`, `10.11.6-MariaDB`.
pub fn version_numbers(version: &str) -> Vec<u32> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let end = version.find(|c| !digits(c)).unwrap_or(version.len());
    version[..end].split('.').map_while(|number| number.parse().ok()).collect()
}

const KEYS: &[&str] = &["version", "flavor", "role", "extension", "relation", "sql"];

/// Takes the key `when`; `statement` makes the one of `when.sql`. What is not written there is as in `defaults`.
pub(super) fn read(
    keys: &mut Keys<'_>,
    statement: fn(&str) -> Sql,
    defaults: Option<&When>,
) -> Option<Arc<When>> {
    let mut keys = keys.inner("when")?;
    let mut when = defaults.cloned().unwrap_or_default();
    if let Some(version) = keys.text("version") {
        let bounds = version.split([' ', ',']).filter(|word| !word.is_empty());
        when.version = bounds.filter_map(|word| keys.valid("version", VersionBound::new(word))).collect();
    }
    keys.words("flavor", FLAVORS.iter().map(|(name, _)| *name));
    if let Some(flavors) = keys.parsed("flavor", |text| word(text, FLAVORS)) {
        when.flavor = flavors.into();
    }
    if let Some(role) = keys.choice("role", ROLES) {
        when.role = role;
    }
    if let Some(extensions) = keys.parsed("extension", ExtensionBound::new) {
        when.extensions = extensions.into();
    }
    if let Some(relations) = keys.parsed("relation", RelationName::new) {
        when.relations = relations.into();
    }
    if let Some(text) = keys.literal("sql") {
        let sql = statement(&text);
        if sql.text().is_empty() {
            keys.fault("sql", "has no statement");
        }
        when.sql = Some(sql.into());
        when.folded = keys.folded("sql").into();
    }
    if !KEYS.iter().any(|key| keys.has(key)) {
        let message = "has no condition: write `version`, `flavor`, `role`, `extension`, `relation` or `sql`";
        keys.lacks("", KEYS, message, None);
    }
    keys.finish();
    Some(when.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(bounds: &str, version: &str) -> bool {
        let version = version_numbers(version);
        bounds.split(' ').all(|bound| VersionBound::new(bound).expect("a bound").holds(&version))
    }

    #[test]
    fn a_bound_compares_as_many_numbers_as_it_has() {
        assert!(holds(">=14 <17", "15.18 (Debian 15.18-0+deb12u1)"));
        assert!(holds("=14", "14.5") && !holds(">14", "14.5") && holds("<=14", "14.5"));
        assert!(holds(">=10.11", "10.11.6-MariaDB") && !holds("<10.11", "10.11.6-MariaDB"));
        assert!(holds("!=8.0", "8.4.1") && holds(">=3.50.2", "3.50.2") && !holds(">=17", "16.9"));
        assert!(holds(">=14.0.1", "15"));
    }

    #[test]
    fn an_extension_has_a_name_and_any_comparisons() {
        let bound = ExtensionBound::new("pg_stat_statements >=1.8 <2").expect("a bound");
        assert_eq!((bound.name.as_str(), bound.version.len()), ("pg_stat_statements", 2));
        assert_eq!(ExtensionBound::new("uuid-ossp").expect("a bound").version, []);
        for text in ["", ">=1.8", "a >=1.8 b", "a>=1", "a 1.8", "a'b"] {
            assert!(ExtensionBound::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_bound_is_said() {
        for text in ["14", ">=", "=>14", ">=fourteen", ">= 14", "~14"] {
            assert!(VersionBound::new(text).is_err(), "{text}");
        }
    }
}
