//! Scripted servers that say what no real one does: bytes without an end, lengths beyond all bounds; and real ones that do
//! not stop when they are told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::connection::tls::TlsMode;
use sql_exporter::driver::{Health, Session, Sql};
use sql_exporter::error::{Error, Reason};

use super::{LONG, login, open};
use crate::checker::checked;
use crate::exporter::Exporter;
use crate::process::{peak_memory, poll, wait_for};
use crate::recorder::{Recorder, job, run};
use crate::servers::Postgres;

const SOON: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [&[tag], &length[..], body].concat()
}

fn notice(length: usize) -> Vec<u8> {
    message(b'N', &[b"SNOTICE\0VNOTICE\0C00000\0M", &vec![b'x'; length][..], b"\0\0"].concat())
}

fn error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0M{text}\0\0").as_bytes())
}

/// A description of columns of text.
fn columns(names: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(names.len()).expect("few").to_be_bytes().to_vec();
    for name in names {
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }
    message(b'T', &body)
}

fn row(values: &[&[u8]]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).expect("short").to_be_bytes());
        body.extend_from_slice(value);
    }
    message(b'D', &body)
}

const READY: &[u8] = b"Z\0\0\0\x05I";
const DONE: &[u8] = b"C\0\0\0\x0dSELECT 1\0";

fn hear(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut body = vec![0; length.checked_sub(4)?];
    stream.read_exact(&mut body).ok()?;
    Some((head[0], body))
}

/// Hears the first message; false for a cancel.
fn greeted(stream: &mut TcpStream) -> bool {
    let mut length = [0; 4];
    if stream.read_exact(&mut length).is_err() {
        return false;
    }
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body).is_ok() && body[..4] == [0, 3, 0, 0]
}

fn let_in(stream: &mut TcpStream) -> bool {
    let status = message(b'S', b"server_version\x0015.4\0");
    let all = [&message(b'R', &[0; 4])[..], &status, &message(b'K', &[0; 8]), READY].concat();
    greeted(stream) && stream.write_all(&all).is_ok()
}

/// Where a session asks for itself, and for the query.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    /// By the simple protocol.
    Itself,
    /// The execution of a query.
    Query,
}

/// Answers as a server that has one column and one row, but where `other` does.
fn serve(mut stream: TcpStream, other: impl Fn(&mut TcpStream, Asked) -> bool) {
    if !let_in(&mut stream) {
        return;
    }
    let mut names = std::collections::HashMap::new();
    let mut bound = Vec::new();
    while let Some((tag, body)) = hear(&mut stream) {
        let mut words = body.split(|byte| *byte == 0);
        let answer = match tag {
            b'X' => return,
            b'Q' if other(&mut stream, Asked::Itself) => Vec::new(),
            b'Q' => [&columns(&["a"])[..], &row(&[b"f"]), DONE, READY].concat(),
            b'P' => {
                let name = words.next().unwrap_or_default().to_vec();
                names.insert(name, String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned());
                message(b'1', b"")
            }
            b'D' => [&message(b't', b"\0\0")[..], &columns(&["value"])].concat(),
            b'B' => {
                bound = words.nth(1).unwrap_or_default().to_vec();
                message(b'2', b"")
            }
            b'E' if names.get(&bound).is_some_and(|sql| sql.contains("'mine'")) => {
                if other(&mut stream, Asked::Query) { Vec::new() } else { [&row(&[b"1"])[..], DONE].concat() }
            }
            b'E' => [&row(&[b"1700000000.5", b"f", b"x"])[..], DONE].concat(),
            b'S' => READY.to_vec(),
            _ => Vec::new(),
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// A server each of whose connections does what the test says.
fn scripted(talk: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let talk = talk.clone();
            std::thread::spawn(move || talk(stream));
        }
    });
    port
}

fn at(port: u16) -> ConnectionConfig {
    let mut login = login(&Postgres { port, ..Postgres::shared("postgres") });
    login.tls.mode = TlsMode::Disable;
    login
}

/// What a login comes to.
fn refused_within(limit: Duration, talk: impl Fn(TcpStream) + Clone + Send + 'static) -> Error {
    let start = Instant::now();
    let connect = super::endpoint(at(scripted(talk))).connect(Deadline::within(limit));
    let error = connect.err().expect("no login");
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    error
}

fn session(other: impl Fn(&mut TcpStream, Asked) -> bool + Clone + Send + 'static) -> Box<dyn Session> {
    open(at(scripted(move |stream| serve(stream, other.clone())))).unwrap_or_else(|error| panic!("{error}"))
}

/// Sends again and again, until nobody listens any more.
/// Sends a message until nobody reads any more. In large writes: a call for each message takes long on a busy machine.
fn flood(stream: &mut TcpStream, message: &[u8]) -> bool {
    let many = message.repeat(16_384 / message.len() + 1);
    while stream.write_all(&many).is_ok() {}
    true
}

#[test]
fn a_login_that_is_never_silent_ends() {
    type Talk = fn(&mut TcpStream) -> bool;
    let talks: [(Talk, Reason); 8] = [
        // Notices before and after the password; settings; an error, a message of 1 GB.
        (|stream| greeted(stream) && flood(stream, &notice(1000)), Reason::Protocol),
        (
            |stream| {
                greeted(stream)
                    && stream.write_all(&message(b'R', &[0; 4])).is_ok()
                    && flood(stream, &notice(1000).repeat(100))
            },
            Reason::Limit,
        ),
        (
            |stream| {
                greeted(stream)
                    && stream.write_all(&message(b'R', &[0; 4])).is_ok()
                    && flood(stream, &message(b'S', &[&b"a\0"[..], &[b'x'; 1000], b"\0"].concat()))
            },
            Reason::Limit,
        ),
        (
            |stream| greeted(stream) && stream.write_all(&error("28P01", &"x".repeat(10_000_000))).is_ok(),
            Reason::Limit,
        ),
        (
            |stream| {
                greeted(stream)
                    && stream.write_all(b"N\x3f\xff\xff\xff").is_ok()
                    && flood(stream, &[b'x'; 4096])
            },
            Reason::Limit,
        ),
        // The answer to the session's first question: rows, one row, nothing.
        (
            |stream| {
                let_in(stream)
                    && hear(stream).is_some()
                    && stream.write_all(&columns(&["a"])).is_ok()
                    && flood(stream, &row(&[b""]).repeat(1000))
            },
            Reason::Limit,
        ),
        (
            |stream| {
                let_in(stream)
                    && hear(stream).is_some()
                    && stream.write_all(&columns(&["a"])).is_ok()
                    && stream.write_all(b"D\x30\0\0\0\0\x01\x2f\xff\xff\xf0").is_ok()
                    && flood(stream, &[b'x'; 4096])
            },
            Reason::Limit,
        ),
        (|stream| let_in(stream) && hear(stream).is_some() && hear(stream).is_none(), Reason::Timeout),
    ];
    for (place, (talk, reason)) in talks.into_iter().enumerate() {
        let limit = if reason == Reason::Timeout { SOON } else { PATIENCE / 2 };
        let error = refused_within(limit, move |mut stream| {
            let _ = talk(&mut stream);
        });
        assert_eq!(error.reason(), reason, "{place}: {error}");
        assert!(error.to_string().len() < 500, "{place}");
    }
}

/// Each byte is in time, all of them are not.
#[test]
fn bytes_one_by_one_end_at_the_deadline() {
    let slowly = |stream: &mut TcpStream, bytes: &[u8]| {
        bytes.iter().all(|byte| {
            std::thread::sleep(Duration::from_millis(10));
            stream.write_all(&[*byte]).is_ok()
        })
    };
    let error = refused_within(SOON, move |mut stream| {
        let _ = greeted(&mut stream) && slowly(&mut stream, &notice(1000));
    });
    assert_eq!(error.reason(), Reason::Timeout, "{error}");
    let mut session =
        session(move |stream, asked| asked == Asked::Query && slowly(stream, &row(&[&[b'x'; 1000]])));
    let sql = Sql::new("SELECT 'mine'");
    let mut sink = Recorder::new();
    let start = Instant::now();
    let mut jobs = [job(&sql, LONG, &mut sink)];
    let health = session.run(&mut jobs, Deadline::within(SOON));
    assert_eq!(sink.reason(), Reason::Timeout);
    assert!(matches!(health, Health::Spent), "{health:?}");
    assert!(start.elapsed() >= SOON && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn an_answer_without_bounds_fails_its_query() {
    type Answer = fn(&mut TcpStream) -> bool;
    let answers: [(Answer, Reason); 7] = [
        (|stream| flood(stream, &notice(1000)), Reason::Limit),
        (|stream| flood(stream, &message(b'S', b"TimeZone\0UTC\0")), Reason::Limit),
        (
            |stream| stream.write_all(b"E\x3f\xff\xff\xff").is_ok() && flood(stream, &[b'x'; 4096]),
            Reason::Limit,
        ),
        (
            |stream| {
                stream.write_all(b"D\x3f\xff\xff\xff\0\x01\x3f\xff\xff\xf0").is_ok()
                    && flood(stream, &[b'x'; 4096])
            },
            Reason::Limit,
        ),
        // A row of which no length of a value has come.
        (
            |stream| {
                stream.write_all(b"D\x7f\xff\xff\xff").is_ok() && stream.shutdown(Shutdown::Write).is_ok()
            },
            Reason::Limit,
        ),
        // Another description: 60,000 columns.
        (
            |stream| {
                let body = [
                    &[0xea, 0x60][..],
                    &b"a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0".repeat(60_000),
                ]
                .concat();
                stream.write_all(&message(b'T', &body)).is_ok() && flood(stream, &row(&[b"1"]))
            },
            Reason::Limit,
        ),
        (|stream| stream.write_all(b"D\0\0\0\x02").is_ok(), Reason::Protocol),
    ];
    for (place, (answer, reason)) in answers.into_iter().enumerate() {
        let mut session = session(move |stream, asked| asked == Asked::Query && answer(stream));
        let (sink, health) = run(&mut *session, "SELECT 'mine'", Duration::from_secs(5));
        let told = match health {
            Health::Lost(error) => error,
            health => {
                assert!(matches!(health, Health::Spent), "{place}: {health:?}");
                sink.error().clone()
            }
        };
        assert_eq!(told.reason(), reason, "{place}: {told}");
        // Whatever still comes, it is not kept, and the session ends.
        poll("the end", PATIENCE, || session.server_work().has_ended().then_some(()));
    }
}

#[test]
fn what_a_server_says_is_kept_in_bounds() {
    let long = "é".repeat(30_000);
    let said = error("\u{1b}[31mred", &long);
    let mut session = session(move |stream, asked| asked == Asked::Query && stream.write_all(&said).is_ok());
    let (sink, _) = run(&mut *session, "SELECT 'mine'", LONG);
    let told = sink.error();
    assert!(told.message().len() <= 2048 && told.message().ends_with('…'), "{}", told.message().len());
    assert_eq!(told.sqlstate().unwrap_or_default(), "");
    // A version of 100 KB.
    let session = open(at(scripted(|mut stream| {
        let status = message(b'S', format!("server_version\x0015.4{}\0", "9".repeat(100_000)).as_bytes());
        let all = [&message(b'R', &[0; 4])[..], &status, &message(b'K', &[0; 8]), READY].concat();
        if greeted(&mut stream) && stream.write_all(&all).is_ok() {
            while hear(&mut stream).is_some() {
                let _ = stream.write_all(&[&columns(&["a"])[..], &row(&[b"f"]), DONE, READY].concat());
            }
        }
    })));
    assert!(session.unwrap_or_else(|error| panic!("{error}")).facts().version.len() <= 256);
}

/// A server with a function that goes on for `seconds` whatever it is told.
fn stubborn(module: &str) -> Postgres {
    let server = Postgres::fresh(module);
    server.run(
        "CREATE FUNCTION stubborn(seconds int) RETURNS int LANGUAGE plpgsql AS $$
         DECLARE t timestamptz := clock_timestamp(); BEGIN
           LOOP BEGIN PERFORM pg_sleep(0.05); EXCEPTION WHEN query_canceled THEN NULL; END;
             EXIT WHEN clock_timestamp() > t + make_interval(secs => seconds); END LOOP; RETURN 1; END $$",
    );
    server
}

fn active(watch: &mut ::postgres::Client, server: &Postgres) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND query LIKE '%stubborn%' \
               AND pid <> pg_backend_pid()";
    watch.query_one(sql, &[&server.database]).unwrap().get(0)
}

#[test]
fn a_statement_that_goes_on_after_its_cancel_counts_until_it_has_ended() {
    let server = stubborn("stubborn");
    let mut watch = Postgres::shared("postgres").client();
    let exporter = Exporter::serve(&format!(
        "databases: {{p: {}}}\nqueries: [{{name: q, sql: SELECT stubborn(8) AS value, metrics: [{{name: q}}]}}]\n\
         exporter: {{scrape_timeout: 500ms}}\n",
        server.entry_with("max_connections: 2"),
    ));
    let reason = |page: &str| {
        let rows = checked(page);
        let rows = rows.series("sql_exporter_query_failure_reason");
        rows.first().map(|row| row.labels["reason"].clone()).unwrap_or_default()
    };
    let mut reasons = Vec::new();
    for _ in 0..6 {
        reasons.push(reason(&exporter.metrics()));
        assert!(active(&mut watch, &server) <= 2, "{reasons:?}");
        std::thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(reasons.first().map(String::as_str), Some("timeout"));
    assert_eq!(reasons.last().map(String::as_str), Some("wedged"), "{reasons:?}");
    let own = checked(exporter.get("/-/metrics").text());
    assert_eq!(own.value("sql_exporter_sessions", &[("target", "p"), ("state", "late")]), Some(2.0));
    poll("the server to end them", Duration::from_secs(30), || {
        (active(&mut watch, &server) == 0).then_some(())
    });
    wait_for("the recovery", || (reason(&exporter.metrics()) != "wedged").then_some(()));
}

#[test]
fn what_goes_on_is_ended_with_the_process() {
    let server = stubborn("stubborn_end");
    let mut watch = Postgres::shared("postgres").client();
    let exporter = Exporter::serve(&format!(
        "databases: {{p: {}}}\nqueries: [{{name: q, sql: SELECT stubborn(60) AS value, metrics: [{{name: q}}]}}]\n\
         exporter: {{scrape_timeout: 500ms}}\n",
        server.entry_with("max_connections: 1"),
    ));
    wait_for("the statement", || {
        drop(exporter.metrics());
        (active(&mut watch, &server) == 1).then_some(())
    });
    drop(exporter.stop("TERM"));
    poll("the end in the server", Duration::from_secs(10), || {
        (active(&mut watch, &server) == 0).then_some(())
    });
}

/// A target that a reload drops, or has under another name, leaves nothing that nobody counts.
#[test]
fn what_goes_on_is_ended_with_its_target() {
    let server = stubborn("stubborn_reload");
    let mut watch = Postgres::shared("postgres").client();
    let config = |target: &str| {
        format!(
            "databases: {{{target}: {}}}\nqueries: [{{name: q, sql: SELECT stubborn(60) AS value, metrics: [{{name: q}}]}}]\n\
             exporter: {{scrape_timeout: 500ms}}\n",
            server.entry_with("max_connections: 1"),
        )
    };
    let exporter = Exporter::serve(&config("p0"));
    for turn in 1..3 {
        wait_for("the statement", || {
            drop(exporter.metrics());
            (active(&mut watch, &server) == 1).then_some(())
        });
        std::fs::write(exporter.file("sql-exporter.yaml"), config(&format!("p{turn}"))).expect("written");
        assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200, "{}", exporter.log());
        poll("the end in the server", Duration::from_secs(20), || {
            (active(&mut watch, &server) == 0).then_some(())
        });
    }
}

/// The whole process: what a server sends without an end is not held.
#[test]
fn floods_cost_no_memory() {
    let port = scripted(|mut stream| {
        let _ = greeted(&mut stream)
            && stream.write_all(&message(b'R', &[0; 4])).is_ok()
            && flood(&mut stream, &notice(60_000));
    });
    let other = scripted(|stream| {
        serve(stream, |stream, asked| asked == Asked::Query && flood(stream, &notice(60_000)));
    });
    let exporter = Exporter::serve(&format!(
        "databases:\n  a: {{url: 'postgres://u@127.0.0.1:{port}/d?sslmode=disable'}}\n  \
         b: {{url: 'postgres://u@127.0.0.1:{other}/d?sslmode=disable'}}\n\
         queries: [{{name: q, databases: '*', sql: \"SELECT 'mine' AS value\", metrics: [{{name: q}}]}}]\n\
         exporter: {{scrape_timeout: 3s}}\n"
    ));
    for _ in 0..3 {
        let page = checked(&exporter.metrics());
        for target in ["a", "b"] {
            let row = [("target", target), ("query", "q"), ("reason", "limit")];
            assert_eq!(
                page.value("sql_exporter_query_failure_reason", &row),
                Some(1.0),
                "{}",
                exporter.log()
            );
        }
    }
    assert!(peak_memory(exporter.pid()) < 150 << 20, "{}", peak_memory(exporter.pid()));
}
