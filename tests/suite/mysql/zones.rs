//! Dates and times are what `UNIX_TIMESTAMP` gives in that session, whatever its time zone is.

use crate::recorder::job;
use std::process::Stdio;
use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Column, Flow, Health, Row, RowSink, Session, Sql};
use sql_exporter::error::Result;
use sql_exporter::value::{Cell, Number};

use super::{LONG, login, open};
use crate::exporter::Setup;
use crate::servers::MariaDb;
use crate::servers::own::OwnMariaDb;

/// Local times: of winter and summer, around the hour that New York skips and the one that comes twice, of a war time
/// (1974), at the ends.
const TIMES: &[&str] = &[
    "2026-01-15 12:00:00",
    "2026-07-15 12:00:00.25",
    "2026-03-08 01:59:59.999999",
    "2026-03-08 02:00:00",
    "2026-03-08 02:30:00.5",
    "2026-03-08 03:00:00",
    "2026-11-01 00:59:59",
    "2026-11-01 01:00:00",
    "2026-11-01 01:59:59.5",
    "2026-11-01 02:00:00",
    "1974-02-01 00:00:00",
    "1970-01-02 00:00:00",
    "1969-12-31 23:59:59",
    "1969-12-31 11:00:01",
    "1969-07-20 00:00:00",
    "2037-12-31 00:00:00",
    "2040-01-01 00:00:00",
    "9999-12-31 23:59:59",
    "0000-00-00 00:00:00",
    "2026-00-15 00:00:00",
];

/// Moments: those that New York writes as 01:30 on 1 November, and others.
const MOMENTS: &[&str] = &["1793511000", "1793514600", "1", "1767323045.5", "1784116800", "2147483647"];

const PAIRS: &str = "SELECT dt, UNIX_TIMESTAMP(dt), d, UNIX_TIMESTAMP(d), ts, UNIX_TIMESTAMP(ts), \
                     IF(1, NOW(6), dt), UNIX_TIMESTAMP(NOW(6)) FROM times";

/// A table of them.
fn times(server: &MariaDb) {
    let mut sql = "SET time_zone = '+00:00';\nSET sql_mode = '';\n\
                   CREATE TABLE times (dt DATETIME(6), d DATE, ts TIMESTAMP(6) NULL);\n"
        .to_owned();
    for time in TIMES {
        sql += &format!("INSERT INTO times VALUES ('{time}', LEFT('{time}', 10), NULL);\n");
    }
    for moment in MOMENTS {
        sql += &format!("INSERT INTO times (ts) VALUES (FROM_UNIXTIME({moment}));\n");
    }
    server.run(&sql);
}

/// Pairs of columns: a time, and what the server's function gives for it.
#[derive(Default)]
struct Pairs {
    /// Type, text, our number, theirs.
    found: Vec<(String, String, Number, Number)>,
    types: Vec<String>,
    verdict: Option<Result<()>>,
}

impl RowSink for Pairs {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        self.types = columns.iter().map(|column| column.type_name.to_string()).collect();
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        for at in (0..self.types.len() / 2 * 2).step_by(2) {
            let (ours, theirs) = (row.cell(at)?, row.cell(at + 1)?);
            if ours != Cell::Null {
                let text = ours.label(&mut String::new()).to_owned();
                self.found.push((self.types[at].clone(), text, ours.number(), theirs.number()));
            }
        }
        Ok(Flow::Continue)
    }

    fn end(&mut self, verdict: Result<()>, _: Duration) {
        self.verdict = Some(verdict);
    }
}

/// Alone and prepared, together with another, and as text.
fn ways(session: &mut dyn Session) -> Vec<Pairs> {
    let mut all = Vec::new();
    for _ in 0..2 {
        all.push(pairs(session, PAIRS));
    }
    let (sql, other) = (Sql::new(PAIRS), Sql::new("SELECT NOW(), UNIX_TIMESTAMP(NOW())"));
    for _ in 0..2 {
        let (mut first, mut second) = (Pairs::default(), Pairs::default());
        let mut jobs = [job(&sql, LONG, &mut first), job(&other, LONG, &mut second)];
        let health = session.run(&mut jobs, Deadline::within(LONG));
        assert!(matches!(health, Health::Clean), "{health:?}");
        all.extend([first, second]);
    }
    // The driver sends it as text: a colon that may be a parameter.
    all.push(pairs(session, &PAIRS.replacen("dt", "IF(':x' = 'x', NULL, dt)", 1)));
    all
}

fn pairs(session: &mut dyn Session, sql: &str) -> Pairs {
    let (sql, mut pairs) = (Sql::new(sql), Pairs::default());
    let mut jobs = [job(&sql, LONG, &mut pairs)];
    let health = session.run(&mut jobs, Deadline::within(LONG));
    assert!(matches!(health, Health::Clean), "{health:?}");
    assert_eq!(pairs.verdict, Some(Ok(())));
    pairs
}

/// A session whose zone is set so.
fn in_zone(server: &MariaDb, zone: &str) -> Box<dyn Session> {
    let mut login = login(server);
    login.session_sql = vec![format!("SET time_zone = '{zone}'")];
    open(login).expect("a session")
}

/// All numbers are the server's. Gives how many times have none though the server has one, of `TIMESTAMP`s only.
fn compare(session: &mut dyn Session, zone: &str) -> usize {
    let mut unsaid = 0;
    for way in ways(session) {
        assert!(!way.found.is_empty(), "{zone}: {:?}", way.verdict);
        for (kind, text, ours, theirs) in &way.found {
            match (ours, theirs) {
                (Number::Value(ours), Number::Value(theirs)) => {
                    assert_eq!(ours, theirs, "{zone}: {kind} {text}");
                }
                (Number::NotNumber, Number::Null) => {}
                // 0 for what is out of range, and for the zero TIMESTAMP.
                (Number::NotNumber, Number::Value(theirs)) if *theirs <= 0.0 => {}
                (Number::NotNumber, Number::Value(_)) if kind == "TIMESTAMP" => unsaid += 1,
                other => panic!("{zone}: {kind} {text}: {other:?}"),
            }
        }
    }
    unsaid
}

#[test]
fn with_an_offset_every_time_is_the_servers() {
    let server = MariaDb::fresh("zones");
    times(&server);
    for zone in ["+00:00", "-03:30", "+05:45", "+13:00", "-12:59", "SYSTEM"] {
        assert_eq!(compare(&mut *in_zone(&server, zone), zone), 0, "{zone}");
    }
}

#[test]
fn with_a_name_every_time_is_the_servers_but_a_timestamp_that_is_written_twice() {
    let own = OwnMariaDb::start(&[]);
    let server = MariaDb { database: "zones".to_owned(), ..own.access().clone() };
    own.access().run("CREATE DATABASE zones");
    times(&server);
    let zones = [
        // The two moments that are written 01:30, in five ways.
        ("America/New_York", 2 * 5),
        ("Asia/Kolkata", 0),
        ("Europe/Istanbul", 0),
        ("Pacific/Apia", 0),
        ("Australia/Lord_Howe", 0),
        ("UTC", 0),
    ];
    for (zone, _) in zones {
        load_zone(&server, zone);
    }
    for (zone, unsaid) in zones {
        assert_eq!(compare(&mut *in_zone(&server, zone), zone), unsaid, "{zone}");
    }
    // A server whose tables know no summer time after 2006.
    server.run(
        "SET @zone = (SELECT time_zone_id FROM mysql.time_zone_name WHERE name = 'America/New_York');\n\
         DELETE FROM mysql.time_zone_transition WHERE time_zone_id = @zone AND transition_time > 1167609600;\n\
         UPDATE mysql.time_zone_name SET name = 'America/Detroit' WHERE time_zone_id = @zone",
    );
    let stale = pairs(&mut *in_zone(&server, "America/Detroit"), PAIRS);
    assert!(stale.found.iter().all(|(_, _, ours, _)| *ours == Number::NotNumber), "{:?}", stale.found);
}

/// What the server's own tool makes of the machine's rules for a zone.
fn load_zone(server: &MariaDb, zone: &str) {
    let tool = std::process::Command::new("mariadb-tzinfo-to-sql")
        .args([&format!("/usr/share/zoneinfo/{zone}"), zone])
        .output()
        .expect("mariadb-tzinfo-to-sql comes with mariadb-server");
    let mut client = std::process::Command::new("mariadb")
        .args(["--no-defaults", "-h", "127.0.0.1", "-u", "root", "-P", &server.port.to_string(), "mysql"])
        .env("MYSQL_PWD", &server.password)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the client runs");
    std::io::Write::write_all(&mut client.stdin.take().expect("its stdin"), &tool.stdout).expect("it reads");
    assert!(client.wait().expect("it ends").success(), "{zone}");
}

#[test]
fn the_servers_own_zone_is_known_where_its_offset_stays_and_else_the_error_says_what_to_write() {
    // In the notation that needs no files: India, and New York.
    let india = OwnMariaDb::start_in_zone("IST-5:30", &["--default-time-zone=SYSTEM"]);
    let server = MariaDb { database: "zones".to_owned(), ..india.access().clone() };
    india.access().run("CREATE DATABASE zones");
    times(&server);
    assert_eq!(compare(&mut *open(login(&server)).unwrap(), "IST-5:30"), 0);

    let new_york = OwnMariaDb::start_in_zone("EST5EDT,M3.2.0,M11.1.0", &["--default-time-zone=SYSTEM"]);
    let config = |sql: &str| {
        format!(
            "databases: {{t: {}}}\nqueries:\n  - name: q\n    sql: {sql}\n    metrics: [{{name: q, value_column: at}}]\n",
            new_york.access().entry()
        )
    };
    let plain = "SELECT TIMESTAMP '2026-07-02 03:04:05' AS at";
    let output = Setup::new(&config(plain)).once();
    let said = "\"2026-07-02T03:04:05\" is local time, and the offset of the session's time_zone is not known for it; \
                write `UNIX_TIMESTAMP(at) AS at` in the SELECT";
    assert!(output.errors().contains(said) && output.code() == 1, "{}", output.errors());
    let checked = Setup::new(&config(plain)).args(&["check", "--connect"]).output();
    let said =
        "column `at` is of type DATETIME, local time, and the offset of the session's time_zone is not known";
    assert!(checked.text().contains(said) || checked.errors().contains(said), "{}", checked.text());
    let output = Setup::new(&config(&format!("SELECT UNIX_TIMESTAMP(at) AS at FROM ({plain}) AS q"))).once();
    assert!(output.text().contains("q{target=\"t\"} 1782975845\n"), "{}", output.text());
}

#[test]
fn a_function_that_sets_the_zone_changes_no_number() {
    let server = MariaDb::fresh("zones");
    server.run(
        "CREATE FUNCTION moves() RETURNS INT BEGIN SET SESSION time_zone = '+09:00'; RETURN 1; END;\n\
         CREATE TABLE times (ts TIMESTAMP);\nINSERT INTO times VALUES ('2026-01-02 03:04:05')",
    );
    let mut session = in_zone(&server, "-03:30");
    let after = "SELECT ts, UNIX_TIMESTAMP(ts), @@time_zone FROM times";
    for statement in ["SELECT moves()", "SELECT moves() + GET_LOCK('zones', 0)"] {
        for _ in 0..3 {
            pairs(&mut *session, statement);
            let seen = pairs(&mut *session, after);
            let Some((_, text, ours, theirs)) = seen.found.first() else { panic!("no row") };
            assert_eq!((text.as_str(), ours), ("2026-01-01T23:34:05", theirs));
        }
    }
}

#[test]
fn a_timestamp_column_is_the_moment_and_a_label_what_the_database_writes() {
    let server = MariaDb::fresh("zones");
    let entry = server.entry_with("session_sql: [\"SET time_zone = '+05:00'\"]");
    let output = Setup::new(&format!(
        "databases: {{t: {entry}}}\nqueries:\n  - name: q\n    sql: SELECT 1 AS value, TIMESTAMP '2026-01-02 03:04:05.5' \
         AS at, DATE '2026-01-02' AS day\n    metrics: [{{name: q, labels: [at, day], timestamp_column: at}}]\n"
    ))
    .once();
    let expected = "q{target=\"t\",at=\"2026-01-02T03:04:05.5\",day=\"2026-01-02\"} 1 1767305045500\n";
    assert!(output.text().contains(expected), "{}{}", output.text(), output.errors());
}

#[test]
fn a_date_that_is_in_no_calendar_is_named_or_left_out() {
    let server = MariaDb::fresh("zones");
    server.run(
        "SET sql_mode = 'ALLOW_INVALID_DATES';\nCREATE TABLE bad (id INT, dt DATETIME);\n\
         INSERT INTO bad VALUES (1, '2026-01-02 03:04:05'), (2, '2026-02-31 00:00:00'), (3, '0000-00-00'), \
         (4, '2026-01-00')",
    );
    let config = |sql: &str, more: &str| {
        format!(
            "databases: {{t: {}}}\nqueries:\n  - name: q\n    sql: {sql}\n    \
             metrics: [{{name: q, labels: [id], value_column: dt{more}}}]\n",
            server.entry()
        )
    };
    for (id, text) in [(2, "2026-02-31 00:00:00"), (3, "0000-00-00 00:00:00"), (4, "2026-01-00 00:00:00")] {
        let output = Setup::new(&config(&format!("SELECT id, dt FROM bad WHERE id IN (1, {id})"), "")).once();
        let said = format!(
            "(DATETIME): \"{text}\" is not a date; write `NULLIF(UNIX_TIMESTAMP(dt), 0) AS dt` in the SELECT"
        );
        assert!(output.errors().contains(&said), "{}", output.errors());
    }
    let good = "q{target=\"t\",id=\"1\"} 1767323045\n";
    for config in [
        config("SELECT id, dt FROM bad", ", invalid: skip"),
        config("SELECT id, NULLIF(UNIX_TIMESTAMP(dt), 0) AS dt FROM bad", ""),
    ] {
        let output = Setup::new(&config).once();
        let samples: Vec<&str> = output.text().lines().filter(|line| line.starts_with("q{")).collect();
        assert_eq!(samples, [good.trim_end()], "{}", output.errors());
    }
}
