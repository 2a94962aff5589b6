//! Which driver a source speaks of: by the scheme of an address, by a name, by its SQL.
//!
//! Knows no dialect and no key of a configuration.

use std::borrow::Cow;

/// The driver behind a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SourceDriver {
    /// One of ours, by the name that `driver` has.
    Ours(&'static str),
    /// One that we lack, by the name of its database.
    Lacking(Cow<'static, str>),
}

use SourceDriver::{Lacking, Ours};

/// What speaks for a driver.
struct DriverSigns {
    driver: SourceDriver,
    /// Schemes of addresses, as xo/dburl has them.
    schemes: &'static [&'static str],
    /// Words in names of files and collectors.
    words: &'static [&'static str],
    /// Parts of statements, in lower case and with single blanks.
    marks: &'static [&'static str],
}

/// The more particular ones first: a statement for SQL Server may look like one for MySQL elsewhere.
#[rustfmt::skip]
static KNOWN: [DriverSigns; 12] = [
    DriverSigns {
        driver: Lacking(Cow::Borrowed("SQL Server")),
        schemes: &["sqlserver", "ms", "mssql", "azuresql"],
        words: &["mssql", "sqlserver", "azuresql"],
        marks: &["sys.dm_", "sys.sysprocesses", "sys.databases", "sys.master_files", "sys.configurations", "msdb.dbo.", "(nolock)",
            "@@servername", "getdate()", "getutcdate()", "select top ", "select top(", " as [", "serverproperty("],
    },
    DriverSigns {
        driver: Lacking(Cow::Borrowed("Oracle")),
        schemes: &["oracle", "or", "ora", "oci", "oci8", "odpi", "odpi-c", "godror", "gr"],
        words: &["oracle", "oracledb"],
        marks: &["v$", "from dba_", "join dba_", "sys_context(", "where rownum", "and rownum", "from cdb_"],
    },
    DriverSigns {
        driver: Lacking(Cow::Borrowed("Snowflake")),
        schemes: &["snowflake", "sf"],
        words: &["snowflake"],
        marks: &["account_usage.", "table(information_schema.", "lateral flatten("],
    },
    DriverSigns {
        driver: Lacking(Cow::Borrowed("ClickHouse")),
        schemes: &["clickhouse", "ch"],
        words: &["clickhouse"],
        marks: &["system.metrics", "system.events", "system.asynchronous_metrics", "system.parts", "system.replicas",
            "system.processes", "system.query_log"],
    },
    DriverSigns {
        driver: Lacking(Cow::Borrowed("Db2")),
        schemes: &["db2", "go_ibm_db", "ibmdb"],
        words: &["db2"],
        marks: &["sysibm.", "sysibmadm.", "syscat.", "table(mon_get_", "table (mon_get_"],
    },
    DriverSigns {
        driver: Lacking(Cow::Borrowed("SAP HANA")),
        schemes: &["hdb", "sa", "saphana", "sap", "hana"],
        words: &["hana", "saphana", "hanasql", "hdb"],
        marks: &["sys.m_", "from dummy"],
    },
    DriverSigns {
        driver: Lacking(Cow::Borrowed("Vertica")),
        schemes: &["vertica", "ve"],
        words: &["vertica"],
        marks: &["v_monitor.", "v_catalog."],
    },
    DriverSigns {
        driver: Lacking(Cow::Borrowed("SAP ASE")),
        schemes: &["tds", "ax", "ase", "sapase"],
        words: &["sybase", "sapase"],
        marks: &["master..mon", "master..sys"],
    },
    DriverSigns {
        driver: Ours("pgbouncer"),
        schemes: &["pgbouncer"],
        words: &["pgbouncer"],
        marks: &["show pools", "show stats", "show lists", "show clients", "show servers"],
    },
    DriverSigns {
        driver: Ours("mysql"),
        schemes: &["mysql", "my", "mariadb", "maria", "percona", "aurora", "memsql", "me", "tidb", "ti", "vitess", "vt",
            "mymysql", "mymy", "zm"],
        words: &["mysql", "mariadb", "percona", "innodb"],
        marks: &["performance_schema.", "information_schema.processlist", "show global ", "mysql.", "`", "unix_timestamp("],
    },
    DriverSigns {
        driver: Ours("sqlite"),
        schemes: &["sqlite", "sqlite3", "sq", "file", "moderncsqlite", "modernsqlite", "mq"],
        words: &["sqlite", "sqlite3"],
        marks: &["sqlite_master", "sqlite_schema", "from pragma_", "unixepoch("],
    },
    DriverSigns {
        driver: Ours("postgres"),
        schemes: &["postgres", "postgresql", "pg", "pgsql", "pgx", "px", "cockroachdb", "cr", "cockroach", "crdb", "cdb",
            "redshift", "rs"],
        words: &["postgres", "postgresql", "pg", "pgsql"],
        marks: &["pg_", "::"],
    },
];

/// How many characters of a statement are searched for marks.
const LONGEST: usize = 10_000;

impl SourceDriver {
    /// That of the scheme of an address, without `+` and what follows it; one that is not in the table is lacking.
    pub(super) fn of_scheme(scheme: &str) -> SourceDriver {
        SourceDriver::known(scheme).unwrap_or_else(|| {
            let scheme = scheme.split('+').next().unwrap_or_default();
            // What is not a scheme may be a piece of a password.
            let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            let is_scheme = !scheme.is_empty() && scheme.chars().all(is_legal);
            Lacking(if is_scheme {
                Cow::Owned(scheme.to_owned())
            } else {
                Cow::Borrowed("an unknown database")
            })
        })
    }

    /// That of a scheme in the table.
    pub(super) fn known(scheme: &str) -> Option<SourceDriver> {
        let scheme = scheme.split('+').next().unwrap_or_default().to_ascii_lowercase();
        KNOWN.iter().find(|known| known.schemes.contains(&scheme.as_str())).map(|known| known.driver.clone())
    }

    /// What the names of variables, targets, files and collectors tell, else statements; `None` where nothing does.
    pub(super) fn told<'t>(
        names: impl IntoIterator<Item = &'t str>,
        statements: impl IntoIterator<Item = &'t str>,
    ) -> Option<SourceDriver> {
        let words: Vec<String> = names
            .into_iter()
            .flat_map(|name| name.split(|c: char| !c.is_ascii_alphanumeric()))
            .map(str::to_ascii_lowercase)
            .collect();
        let plain = |sql: &str| {
            let start: String = sql.chars().take(LONGEST).collect();
            start.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let statements: Vec<String> = statements.into_iter().map(plain).collect();
        let has = |mark: &&str| statements.iter().any(|sql| sql.contains(mark));
        // A console answers SHOW alone: a name that says `pgbouncer` may mean tables about it.
        let may_be_console = statements.is_empty() || has(&"show ");
        let is_named = |known: &&DriverSigns| {
            words.iter().any(|word| known.words.contains(&word.as_str()))
                && (may_be_console || known.driver != Ours("pgbouncer"))
        };
        let known = KNOWN.iter().find(is_named);
        let known = known.or_else(|| KNOWN.iter().find(|known| known.marks.iter().any(has)));
        known.map(|known| known.driver.clone())
    }

    /// The value of our `driver`.
    ///
    /// # Errors
    /// What a target or a query needs, behind its name.
    pub(super) fn ours(&self) -> Result<&'static str, String> {
        match self {
            Ours(driver) => Ok(driver),
            Lacking(name) => Err(format!("needs {name}, for which there is no driver")),
        }
    }

    /// A whole address with which a configuration loads.
    pub(super) fn sample(&self) -> &'static str {
        match self {
            Ours("mysql") => "mysql://user@localhost/db",
            Ours("sqlite") => "sqlite:import.db",
            Ours("pgbouncer") => "postgres://user@localhost/pgbouncer",
            Ours(_) | Lacking(_) => "postgres://user@localhost/db",
        }
    }
}

/// The name of a column in a statement.
pub(super) fn quoted_column(name: &str, driver: &SourceDriver) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match driver {
        _ if is_plain => name.to_owned(),
        Ours("mysql") => format!("`{}`", name.replace('`', "``")),
        Ours(_) | Lacking(_) => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(name: &'static str) -> SourceDriver {
        Lacking(Cow::Borrowed(name))
    }

    #[test]
    fn a_driver_is_told_by_a_scheme_by_a_name_and_by_sql() {
        assert_eq!(SourceDriver::of_scheme("pgsql"), Ours("postgres"));
        assert_eq!(SourceDriver::of_scheme("postgresql+psycopg2"), Ours("postgres"));
        assert_eq!(SourceDriver::of_scheme("MariaDB+pymysql"), Ours("mysql"));
        assert_eq!(SourceDriver::of_scheme("mssql+pymssql"), lacking("SQL Server"));
        assert_eq!(SourceDriver::of_scheme("athena"), lacking("athena"));
        assert_eq!(SourceDriver::of_scheme("user:secret@"), lacking("an unknown database"));
        assert_eq!(SourceDriver::known("gopher"), None);
        assert_eq!(SourceDriver::told(["mssql_standard.collector"], []), Some(lacking("SQL Server")));
        assert_eq!(SourceDriver::told(["shanahan_stats"], []), None);
        assert_eq!(SourceDriver::told(["PG_DATABASE_DSN"], []), Some(Ours("postgres")));
        assert_eq!(SourceDriver::told(["SHOP_MYSQL"], ["SELECT 1::int"]), Some(Ours("mysql")));
        for (sql, database) in [
            ("SELECT count(*)\n  FROM sys.dm_exec_sessions", lacking("SQL Server")),
            ("SELECT name FROM V$SESSION", lacking("Oracle")),
            ("SELECT * FROM snowflake.account_usage.query_history", lacking("Snowflake")),
            ("SELECT value FROM system.metrics", lacking("ClickHouse")),
            ("SELECT * FROM TABLE(MON_GET_BUFFERPOOL('', -2)) AS t", lacking("Db2")),
            ("SELECT host FROM SYS.M_HOST_RESOURCE_UTILIZATION", lacking("SAP HANA")),
            ("SHOW POOLS;", Ours("pgbouncer")),
            ("SELECT `n` FROM `t`", Ours("mysql")),
            ("SELECT count(*) FROM sqlite_master", Ours("sqlite")),
            ("SELECT 1::int", Ours("postgres")),
        ] {
            assert_eq!(SourceDriver::told([], [sql]), Some(database), "{sql}");
        }
        let about_it = SourceDriver::told(["pgbouncer_fdw"], ["SELECT a FROM pgbouncer_pools"]);
        assert_eq!(about_it, None);
        assert_eq!(SourceDriver::told(["bouncer-pgbouncer"], []), Some(Ours("pgbouncer")));
        assert_eq!(SourceDriver::told(["orders"], ["SELECT count(*) FROM orders"]), None);
    }

    #[test]
    fn each_scheme_means_one_database() {
        let mut schemes: Vec<&str> = KNOWN.iter().flat_map(|known| known.schemes).copied().collect();
        let count = schemes.len();
        schemes.sort_unstable();
        schemes.dedup();
        assert_eq!(schemes.len(), count);
    }
}
