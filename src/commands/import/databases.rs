//! Which database a source speaks of: by the scheme of an address, by a name, by its SQL.
//!
//! Knows no dialect and no key of a configuration.

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    /// The value of our `driver`.
    Supported(&'static str),
    /// The name of one that no driver is for.
    Lacking(&'static str),
}

use Database::{Lacking, Supported};

impl Database {
    /// The value of our `driver`.
    ///
    /// # Errors
    /// What a target or a query needs, behind its name.
    pub(super) fn driver(self) -> Result<&'static str, String> {
        match self {
            Supported(driver) => Ok(driver),
            Lacking(name) => Err(lacking(name)),
        }
    }
}

/// Why a target or a query is left out, behind its name.
pub(super) fn lacking(name: &str) -> String {
    format!("needs {name}, for which there is no driver")
}

/// What speaks for a kind of database.
struct Known {
    database: Database,
    /// Schemes of addresses, as xo/dburl has them.
    schemes: &'static [&'static str],
    /// Words in names of files and collectors.
    words: &'static [&'static str],
    /// Parts of statements, in lower case and with single blanks.
    marks: &'static [&'static str],
}

/// The more particular ones first: a statement for SQL Server may look like one for MySQL elsewhere.
#[rustfmt::skip]
static KNOWN: [Known; 12] = [
    Known {
        database: Lacking("SQL Server"),
        schemes: &["sqlserver", "ms", "mssql", "azuresql"],
        words: &["mssql", "sqlserver", "azuresql"],
        marks: &["sys.dm_", "sys.sysprocesses", "sys.databases", "sys.master_files", "sys.configurations", "msdb.dbo.", "(nolock)",
            "@@servername", "getdate()", "getutcdate()", "select top ", "select top(", " as [", "serverproperty("],
    },
    Known {
        database: Lacking("Oracle"),
        schemes: &["oracle", "or", "ora", "oci", "oci8", "odpi", "odpi-c", "godror", "gr"],
        words: &["oracle", "oracledb"],
        marks: &["v$", "from dba_", "join dba_", "sys_context(", "where rownum", "and rownum", "from cdb_"],
    },
    Known {
        database: Lacking("Snowflake"),
        schemes: &["snowflake", "sf"],
        words: &["snowflake"],
        marks: &["account_usage.", "table(information_schema.", "lateral flatten("],
    },
    Known {
        database: Lacking("ClickHouse"),
        schemes: &["clickhouse", "ch"],
        words: &["clickhouse"],
        marks: &["system.metrics", "system.events", "system.asynchronous_metrics", "system.parts", "system.replicas",
            "system.processes", "system.query_log"],
    },
    Known {
        database: Lacking("Db2"),
        schemes: &["db2", "go_ibm_db", "ibmdb"],
        words: &["db2"],
        marks: &["sysibm.", "sysibmadm.", "syscat.", "table(mon_get_", "table (mon_get_"],
    },
    Known {
        database: Lacking("SAP HANA"),
        schemes: &["hdb", "sa", "saphana", "sap", "hana"],
        words: &["hana", "saphana", "hanasql", "hdb"],
        marks: &["sys.m_", "from dummy"],
    },
    Known {
        database: Lacking("Vertica"),
        schemes: &["vertica", "ve"],
        words: &["vertica"],
        marks: &["v_monitor.", "v_catalog."],
    },
    Known {
        database: Lacking("SAP ASE"),
        schemes: &["tds", "ax", "ase", "sapase"],
        words: &["sybase", "sapase"],
        marks: &["master..mon", "master..sys"],
    },
    Known {
        database: Supported("pgbouncer"),
        schemes: &["pgbouncer"],
        words: &["pgbouncer"],
        marks: &["show pools", "show stats", "show lists", "show clients", "show servers"],
    },
    Known {
        database: Supported("mysql"),
        schemes: &["mysql", "my", "mariadb", "maria", "percona", "aurora", "memsql", "me", "tidb", "ti", "vitess", "vt",
            "mymysql", "mymy", "zm"],
        words: &["mysql", "mariadb", "percona", "innodb"],
        marks: &["performance_schema.", "information_schema.processlist", "show global ", "mysql.", "`", "unix_timestamp("],
    },
    Known {
        database: Supported("sqlite"),
        schemes: &["sqlite", "sqlite3", "sq", "file", "moderncsqlite", "modernsqlite", "mq"],
        words: &["sqlite", "sqlite3"],
        marks: &["sqlite_master", "sqlite_schema", "from pragma_", "unixepoch("],
    },
    Known {
        database: Supported("postgres"),
        schemes: &["postgres", "postgresql", "pg", "pgsql", "pgx", "px", "cockroachdb", "cr", "cockroach", "crdb", "cdb",
            "redshift", "rs"],
        words: &["postgres", "postgresql", "pg", "pgsql"],
        marks: &["pg_", "::"],
    },
];

/// The database of a scheme; `None` for one that is not known.
pub(super) fn of_scheme(scheme: &str) -> Option<Database> {
    KNOWN.iter().find(|known| known.schemes.contains(&scheme)).map(|known| known.database)
}

/// The database that names of files and collectors tell, else statements; `None` where nothing does.
pub(super) fn told<'t>(
    names: impl IntoIterator<Item = &'t str>,
    statements: impl IntoIterator<Item = &'t str>,
) -> Option<Database> {
    let words: Vec<String> = names
        .into_iter()
        .flat_map(|name| name.split(|c: char| !c.is_ascii_alphanumeric()))
        .map(str::to_ascii_lowercase)
        .collect();
    let by_name = KNOWN.iter().find(|known| words.iter().any(|word| known.words.contains(&word.as_str())));
    let by_name = by_name.map(|known| known.database);
    by_name.or_else(|| {
        let plain = |sql: &str| sql.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
        let statements: Vec<String> = statements.into_iter().map(plain).collect();
        let has = |mark: &&str| statements.iter().any(|sql| sql.contains(mark));
        KNOWN.iter().find(|known| known.marks.iter().any(has)).map(|known| known.database)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_told_by_a_scheme_by_a_name_and_by_sql() {
        assert_eq!(of_scheme("pgsql"), Some(Supported("postgres")));
        assert_eq!(of_scheme("sf"), Some(Lacking("Snowflake")));
        assert_eq!(of_scheme("gopher"), None);
        assert_eq!(told(["mssql_standard.collector"], []), Some(Lacking("SQL Server")));
        assert_eq!(told(["shanahan_stats"], []), None);
        for (sql, database) in [
            ("SELECT count(*)\n  FROM sys.dm_exec_sessions", Lacking("SQL Server")),
            ("SELECT name FROM V$SESSION", Lacking("Oracle")),
            ("SELECT * FROM snowflake.account_usage.query_history", Lacking("Snowflake")),
            ("SELECT value FROM system.metrics", Lacking("ClickHouse")),
            ("SELECT * FROM TABLE(MON_GET_BUFFERPOOL('', -2)) AS t", Lacking("Db2")),
            ("SELECT host FROM SYS.M_HOST_RESOURCE_UTILIZATION", Lacking("SAP HANA")),
            ("SHOW POOLS;", Supported("pgbouncer")),
            ("SELECT `n` FROM `t`", Supported("mysql")),
            ("SELECT count(*) FROM sqlite_master", Supported("sqlite")),
            ("SELECT 1::int", Supported("postgres")),
        ] {
            assert_eq!(told([], [sql]), Some(database), "{sql}");
        }
        assert_eq!(told(["orders"], ["SELECT count(*) FROM orders"]), None);
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
