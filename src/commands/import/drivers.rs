//! Which driver a scheme of another exporter means, and which one words and statements speak of where nothing names it.

/// The database behind a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Driver {
    /// One of ours, by the name that `driver` has.
    Ours(&'static str),
    /// One that we lack, as the source calls it.
    Lacking(String),
}

/// Schemes of drivers that are ours.
const OURS: [(&str, &[&str]); 3] = [
    ("postgres", &["postgres", "postgresql", "pg", "cockroachdb", "redshift"]),
    ("mysql", &["mysql", "mariadb"]),
    ("sqlite", &["sqlite", "sqlite3"]),
];
/// What speaks of a driver, in lower case: in the names of targets, of variables and of files, and in statements.
const WORDS: [(&str, &[&str]); 8] = [
    ("sqlserver", &["mssql", "sqlserver", "sql_server", "sys.dm_", "@@"]),
    ("oracle", &["oracle", "v$", " from dual"]),
    ("clickhouse", &["clickhouse"]),
    ("snowflake", &["snowflake"]),
    ("db2", &["db2", "sysibm"]),
    ("mysql", &["mysql", "maria", "show global "]),
    ("sqlite", &["sqlite"]),
    ("postgres", &["postgres", "pg", "::"]),
];

/// How far a text is read for words.
const LONGEST: usize = 1_000;

impl Driver {
    /// Of the scheme of an address, without `+` and what follows it.
    pub(super) fn of_scheme(scheme: &str) -> Driver {
        let scheme = scheme.split('+').next().unwrap_or_default().to_ascii_lowercase();
        let ours = OURS.iter().find(|(_, schemes)| schemes.contains(&scheme.as_str()));
        ours.map_or_else(|| Driver::Lacking(scheme), |(name, _)| Driver::Ours(name))
    }

    /// Of what the texts speak of; the first one that does decides.
    pub(super) fn guessed<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<Driver> {
        texts.into_iter().find_map(|text| {
            let text: String = text.chars().take(LONGEST).collect::<String>().to_lowercase();
            let (name, _) = WORDS.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)))?;
            Some(Driver::of_scheme(name))
        })
    }

    /// A whole address with which a configuration loads.
    pub(super) fn sample(&self) -> &'static str {
        match self {
            Driver::Ours("mysql") => "mysql://user@localhost/db",
            Driver::Ours("sqlite") => "sqlite:import.db",
            Driver::Ours(_) | Driver::Lacking(_) => "postgres://user@localhost/db",
        }
    }
}

/// The name of a column in a statement.
pub(super) fn quoted_column(name: &str, driver: &Driver) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match driver {
        _ if is_plain => name.to_owned(),
        Driver::Ours("mysql") => format!("`{}`", name.replace('`', "``")),
        Driver::Ours(_) | Driver::Lacking(_) => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_of_other_exporters() {
        assert_eq!(Driver::of_scheme("postgresql+psycopg2"), Driver::Ours("postgres"));
        assert_eq!(Driver::of_scheme("MariaDB+pymysql"), Driver::Ours("mysql"));
        assert_eq!(Driver::of_scheme("mssql+pymssql"), Driver::Lacking("mssql".to_owned()));
    }

    #[test]
    fn words_and_statements_tell_a_driver() {
        let guessed = |texts: &[&str]| Driver::guessed(texts.iter().copied());
        assert_eq!(guessed(&["PG_DATABASE_DSN"]), Some(Driver::Ours("postgres")));
        assert_eq!(guessed(&["DSN", "SELECT n FROM v$session"]), Some(Driver::Lacking("oracle".to_owned())));
        assert_eq!(guessed(&["SHOP_MYSQL", "SELECT 1::int"]), Some(Driver::Ours("mysql")));
        assert_eq!(guessed(&["DSN", "SELECT 1"]), None);
    }
}
