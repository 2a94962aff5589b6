//! Scripted servers that say what no real one does: counts and lengths beyond all bounds, logins and answers without an
//! end, other methods of login, a KILL that is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Health, Job, Session, Sql, mysql};
use sql_exporter::error::{Error, Reason};

use super::faults::{at, scripted};
use super::{LONG, open};
use crate::recorder::{Recorder, job, run};

const SOON: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

/// A packet with its header.
fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, ..] = payload.len().to_le_bytes();
    [&[a, b, c, sequence], payload].concat()
}

fn send(stream: &mut TcpStream, sequence: u8, payload: &[u8]) -> bool {
    stream.write_all(&packet(sequence, payload)).is_ok()
}

/// The payload of the client's next packet.
fn hear(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}

/// A greeting as MySQL's, without TLS.
fn greeting(plugin: &str) -> Vec<u8> {
    let mut packet = b"\x0a9.7.0\0\x2a\0\0\0abcdefgh\0".to_vec();
    // Protocol 4.1, secure connection, transactions; plugins.
    packet.extend_from_slice(&[0x00, 0xa2, 45, 2, 0, 0x08, 0x00, 21]);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(b"ijklmnopqrst\0");
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const END: &[u8] = &[0xfe, 0, 0, 2, 0];

fn refusal(code: u16, message: &str) -> Vec<u8> {
    [&[0xff], &code.to_le_bytes()[..], b"#HY000", message.as_bytes()].concat()
}

/// Lets everybody in.
fn enter(stream: &mut TcpStream) -> Option<()> {
    send(stream, 0, &greeting("mysql_native_password"));
    hear(stream)?;
    send(stream, 2, OK).then_some(())
}

fn counted(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat()
}

/// A result of text in one row.
fn rows(stream: &mut TcpStream, cells: &[&str]) {
    let column = |name: &str| {
        [counted("def"), counted(""), counted(""), counted(""), counted(name), counted("")]
            .concat()
            .into_iter()
            .chain([12, 45, 0, 0, 1, 0, 0, 253, 0, 0, 0, 0, 0])
            .collect::<Vec<u8>>()
    };
    let mut sequence = 1;
    let mut next = |payload: &[u8]| {
        send(stream, sequence, payload);
        sequence += 1;
    };
    next(&[u8::try_from(cells.len()).expect("few columns")]);
    cells.iter().for_each(|_| next(&column("c")));
    next(END);
    next(&cells.iter().flat_map(|cell| counted(cell)).collect::<Vec<u8>>());
    next(END);
}

/// Answers the questions of a set-up, and hands everything else to `other`; its answer goes out as it is.
fn serve(mut stream: TcpStream, other: impl Fn(&mut TcpStream, &[u8]) -> bool) {
    if enter(&mut stream).is_none() {
        return;
    }
    while let Some(command) = hear(&mut stream) {
        let text = String::from_utf8_lossy(&command[1..]).into_owned();
        match (command[0], text.as_str()) {
            (3, "SELECT @@version, CONCAT_WS(',', @@sql_mode, @@character_set_client)") => {
                rows(&mut stream, &["9.7.0", ""]);
            }
            (3, "SELECT @@max_execution_time" | "SELECT @@read_only" | "SELECT LENGTH(@@init_connect)") => {
                rows(&mut stream, &["0"]);
            }
            (3, "SELECT @@lock_wait_timeout") => rows(&mut stream, &["100"]),
            // As a proxy that does not know these variables.
            (3, text) if text.contains("sql_select_limit") || text.contains("session_track") => {
                let _ = send(&mut stream, 1, &refusal(1193, "Unknown system variable"));
            }
            (3, text) if text.starts_with("SET ") => drop(send(&mut stream, 1, OK)),
            (3, text) if text.starts_with("SELECT @@time_zone") => {
                let _ = send(&mut stream, 1, &refusal(1193, "no"));
            }
            (3, text) if text.starts_with("SELECT RELEASE_ALL_LOCKS()") => {
                let _ = send(&mut stream, 1, &refusal(1305, "no"));
            }
            (3, "SHOW REPLICA STATUS") => drop(send(&mut stream, 1, &refusal(1227, "no"))),
            (1, _) => return,
            (31, _) => drop(send(&mut stream, 1, OK)),
            // Nothing is prepared here: all goes as text.
            (22, _) => drop(send(&mut stream, 1, &refusal(1295, "no"))),
            _ if other(&mut stream, &command) => {}
            _ => return,
        }
    }
}

fn session(other: impl Fn(&mut TcpStream, &[u8]) -> bool + Clone + Send + 'static) -> Box<dyn Session> {
    open(at(scripted(move |stream| serve(stream, other.clone())))).expect("a session")
}

/// What a login comes to.
fn refused(talk: impl Fn(TcpStream) + Clone + Send + 'static) -> Error {
    refused_within(PATIENCE / 2, talk)
}

fn refused_within(limit: Duration, talk: impl Fn(TcpStream) + Clone + Send + 'static) -> Error {
    let start = Instant::now();
    let endpoint = mysql::endpoint(at(scripted(talk)));
    let error = endpoint.connect(Deadline::within(limit)).err().expect("no login");
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    error
}

#[test]
fn more_columns_than_there_can_be_cost_nothing_but_the_session() {
    // 2^36 columns, then 5,000, then the length of a file that a client should send.
    for announced in [&b"\xfe\0\0\0\0\x10\0\0\0"[..], b"\xfc\x88\x13", b"\xfb/etc/passwd"] {
        let mut session = session(move |stream, _| send(stream, 1, announced));
        let (sink, health) = run(&mut *session, "SELECT 1", LONG);
        let Health::Lost(error) = health else { panic!("{health:?}") };
        assert_eq!((error.reason(), sink.verdict), (Reason::Protocol, None));
        // To a question of our own, at the login.
        let error = refused(move |mut stream| {
            if enter(&mut stream).is_some() {
                while hear(&mut stream).is_some() && send(&mut stream, 1, announced) {}
            }
        });
        assert_eq!(error.reason(), Reason::Protocol, "{error}");
    }
}

#[test]
fn a_login_that_is_never_silent_ends() {
    type Talk = fn(&mut TcpStream) -> Option<()>;
    let talks: [(Talk, Reason); 6] = [
        // A greeting without an end.
        (
            |stream| loop {
                stream.write_all(&packet(0, &[b'x'; 60_000])).ok()?;
            },
            Reason::Protocol,
        ),
        // A payload that goes on in packet after packet.
        (
            |stream| loop {
                stream.write_all(&packet(0, &[0; 0xff_ffff])).ok()?;
            },
            Reason::Protocol,
        ),
        // Another method after the other.
        (
            |stream| {
                send(stream, 0, &greeting("mysql_native_password"));
                let mut sequence = 2;
                while hear(stream).is_some() {
                    send(stream, sequence, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0");
                    sequence = sequence.wrapping_add(2);
                }
                None
            },
            Reason::Protocol,
        ),
        // One that has always more to say.
        (
            |stream| {
                send(stream, 0, &greeting("caching_sha2_password"));
                hear(stream)?;
                for sequence in 2..=255 {
                    stream.write_all(&packet(sequence, b"\x01\x03")).ok()?;
                }
                Some(())
            },
            Reason::Protocol,
        ),
        // Let in, and then an answer to the first question that does not end.
        (
            |stream| {
                enter(stream)?;
                hear(stream)?;
                rows(stream, &["x"]);
                let column = packet(2, &[counted("def"), vec![0; 60_000]].concat());
                stream.write_all(&packet(1, &[0xfc, 0, 0x10])).ok()?;
                loop {
                    stream.write_all(&column).ok()?;
                }
            },
            Reason::Protocol,
        ),
        // Nothing at all.
        (|stream| hear(stream).map(drop), Reason::Timeout),
    ];
    for (place, (talk, reason)) in talks.into_iter().enumerate() {
        let limit = if reason == Reason::Timeout { SOON } else { PATIENCE / 2 };
        let error = refused_within(limit, move |mut stream| {
            let _ = talk(&mut stream);
        });
        assert_eq!(error.reason(), reason, "{place}: {error}");
    }
}

/// Small pieces, one after the other: each is in time, all of them are not.
#[test]
fn rows_that_trickle_end_at_the_deadline() {
    let mut session = session(|stream, _| {
        let answer = [packet(1, &[1]), packet(2, &[b'x'; 1000])].concat();
        answer.iter().all(|byte| {
            std::thread::sleep(Duration::from_millis(10));
            stream.write_all(&[*byte]).is_ok()
        })
    });
    let start = Instant::now();
    let (sink, health) = {
        let sql = sql_exporter::driver::Sql::new("SELECT 1");
        let mut sink = crate::recorder::Recorder::new();
        let mut jobs = [job(&sql, LONG, &mut sink)];
        let health = session.run(&mut jobs, Deadline::within(SOON));
        (sink, health)
    };
    assert_eq!(sink.reason(), Reason::Timeout);
    assert!(matches!(health, Health::Spent), "{health:?}");
    assert!(start.elapsed() >= SOON && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn what_a_server_says_is_kept_in_bounds() {
    let long = Arc::new(refusal(1064, &"é".repeat(30_000)));
    let said = Arc::clone(&long);
    let mut session = session(move |stream, _| send(stream, 1, &said));
    let (sink, health) = run(&mut *session, "SELECT 1", LONG);
    assert!(matches!(health, Health::Clean), "{health:?}");
    assert!(sink.error().message().len() < 2100, "{}", sink.error().message().len());
    assert!(!sink.error().message().contains('\u{fffd}'), "a character was cut in two");
    // A code that is not an error code, with an escape in it.
    let mut odd = self::session(|stream, _| send(stream, 1, b"\xff\x28\x04#\x1b[31mred"));
    assert_eq!(run(&mut *odd, "SELECT 1", LONG).0.error().sqlstate(), Some("HY000"));
    // An error of 10 MB at the login.
    let error = refused(|mut stream| {
        let _ = stream.write_all(&packet(0, &refusal(1040, &"x".repeat(10_000_000))));
    });
    assert_eq!(error.reason(), Reason::Protocol);
    assert!(error.to_string().len() < 500, "{}", error.to_string().len());
    // A version of 60 KB.
    let version = "9".repeat(60_000);
    let error = refused(move |mut stream| {
        let _ = stream.write_all(&packet(0, &[b"\x0a", version.as_bytes(), b"\0"].concat()));
    });
    assert_eq!(error.reason(), Reason::Protocol);
}

#[test]
fn a_method_of_login_that_we_do_not_have_is_named() {
    for (said, part) in [
        (&b"\xfeauthentication_webauthn_client\0abc"[..], "plugin authentication_webauthn_client"),
        (b"\xfe", "before MySQL 4.1"),
        (b"\x02authentication_webauthn_client\0abc", "second factor (plugin authentication_webauthn_client)"),
    ] {
        let error = refused(move |mut stream| {
            send(&mut stream, 0, &greeting("mysql_native_password"));
            if hear(&mut stream).is_some() {
                send(&mut stream, 2, said);
                let _ = hear(&mut stream);
            }
        });
        assert_eq!(error.reason(), Reason::Auth, "{error}");
        assert!(error.message().contains(part) && error.hint().is_some(), "{error}");
    }
}

/// On this machine a password may go under the server's key, but not under a key that is not valid.
#[test]
fn a_key_that_is_none_ends_the_login() {
    let error = refused(|mut stream| {
        send(&mut stream, 0, &greeting("caching_sha2_password"));
        hear(&mut stream);
        send(&mut stream, 2, b"\x01\x04");
        assert_eq!(hear(&mut stream).as_deref(), Some(&[2][..]), "the client asks for the key");
        send(&mut stream, 4, b"\x01-----BEGIN PUBLIC KEY-----\nQUJD\n-----END PUBLIC KEY-----\n");
        assert_eq!(hear(&mut stream), None);
    });
    assert_eq!(error.reason(), Reason::Protocol, "{error}");
}

#[test]
fn a_kill_that_is_refused_says_so_and_what_goes_on() {
    for (code, is_good) in [(1095, false), (1094, true), (1227, false)] {
        let session = session(move |stream, command| {
            match String::from_utf8_lossy(&command[1..]).as_ref() {
                "KILL QUERY 42" => drop(send(stream, 1, &refusal(code, "You are not owner of thread 42"))),
                "SELECT info FROM information_schema.processlist WHERE id = 42" => {
                    rows(stream, &["SHOW STATUS\n WHERE hidden()"]);
                }
                other => panic!("{other}"),
            }
            true
        });
        let done = session.canceller().cancel(Deadline::within(PATIENCE));
        let Err(error) = done else {
            assert!(is_good, "{code}");
            continue;
        };
        let said = error.to_string();
        for part in ["thread 42", &code.to_string(), "it still runs: SHOW STATUS WHERE hidden()"] {
            assert!(!is_good && said.contains(part), "{said}");
        }
    }
}

/// A server says so when it closes a session that did nothing for long; nobody had asked.
#[test]
fn a_farewell_that_nobody_asked_for_is_lost_not_nonsense() {
    let mut session = session(|stream, _| {
        send(stream, 0, &refusal(4031, "disconnected by the server"));
        false
    });
    let health = session.ping(Deadline::within(LONG));
    let Health::Lost(error) = health else { panic!("{health:?}") };
    assert_eq!(error.reason(), Reason::Lost, "{error}");
}

/// A column definition as MySQL writes it.
fn column(name: &str) -> Vec<u8> {
    let names = [counted("def"), counted(""), counted(""), counted(""), counted(name), counted("")].concat();
    [&names[..], &[12, 45, 0, 0, 1, 0, 0, 253, 0, 0, 0, 0, 0]].concat()
}

/// The answer of one row with cells of such lengths, which says the length of each and sends it as far as `sent` bytes.
fn long_row(lengths: &[usize], sent: usize) -> Vec<u8> {
    let mut row = Vec::new();
    for length in lengths {
        row.push(0xfe);
        row.extend_from_slice(&length.to_le_bytes());
        row.resize(row.len() + length, b'x');
    }
    let mut answer = packet(1, &[u8::try_from(lengths.len()).expect("few columns")]);
    let mut sequence = 2_u8;
    for _ in lengths {
        answer.extend_from_slice(&packet(sequence, &column("c")));
        sequence += 1;
    }
    answer.extend_from_slice(&packet(sequence, END));
    for part in row.chunks(0xff_ffff) {
        sequence = sequence.wrapping_add(1);
        answer.extend_from_slice(&packet(sequence, part));
    }
    answer.truncate(answer.len().min(sent));
    if answer.len() < sent {
        answer.extend_from_slice(&packet(sequence.wrapping_add(1), END));
    }
    answer
}

const ALL: usize = usize::MAX;
const MIB: usize = 1 << 20;

/// Where a row shows by its length that a value is too long, nothing of it is read; else it is read, and the session
/// goes on.
#[test]
fn a_value_that_is_too_long_costs_its_query_only() {
    for (lengths, sent, goes_on, says) in [
        (&[MIB][..], ALL, true, ""),
        (&[MIB + 1], ALL, true, "column `c` has more than 1048576 bytes"),
        (&[20 * MIB], 200, false, "column `c` has more than 1048576 bytes"),
        (&[0, MIB + 1], ALL, true, "column `c` has more than 1048576 bytes"),
        (&[MIB; 16], ALL, true, ""),
        // Its first part alone is not too long.
        (&[MIB; 20], 16_779_000, false, "a row has more than 17825792 bytes"),
    ] {
        let answer = Arc::new(long_row(lengths, sent));
        let mut session = session(move |stream, _| {
            stream.write_all(&answer).is_ok() && (sent == ALL || hear(stream).is_some())
        });
        let (sink, health) = run(&mut *session, "SELECT 1", LONG);
        if says.is_empty() {
            sink.good();
        } else {
            assert_eq!(sink.reason(), Reason::Limit);
            assert!(sink.error().to_string().contains(says), "{}", sink.error());
        }
        assert_eq!(matches!(health, Health::Clean), goes_on, "{lengths:?}: {health:?}");
        assert_eq!(matches!(health, Health::Spent), !goes_on, "{lengths:?}: {health:?}");
    }
}

/// Rows that nobody wants any more are dropped for a while only, counted in rows and in bytes.
#[test]
fn a_result_that_is_not_wanted_is_not_read_to_its_end() {
    for (length, many) in [(10, 900), (10, 5_000), (MIB / 2, 20)] {
        let mut session = session(move |stream, _| {
            let mut sequence = 1;
            let mut next = |payload: &[u8]| {
                let sent = send(stream, sequence, payload);
                sequence = sequence.wrapping_add(1);
                sent
            };
            let row = [&[0xfe], &length.to_le_bytes()[..], &vec![b'x'; length]].concat();
            next(&[1]) && next(&column("c")) && next(END) && (0..many).all(|_| next(&row)) && next(END)
        });
        let mut sink = crate::recorder::Recorder { stop_at: Some(1), ..Default::default() };
        let health = crate::recorder::run_into(&mut *session, "SELECT 1", LONG, &mut sink);
        sink.good();
        assert_eq!(matches!(health, Health::Clean), many == 900, "{many} of {length}: {health:?}");
    }
}

/// A login has one budget to its end; a question of our own has one, in bytes and in cells.
#[test]
fn answers_to_our_own_questions_are_bounded() {
    // A long answer to each question of the set-up.
    let error = refused(|mut stream| {
        if enter(&mut stream).is_none() {
            return;
        }
        while hear(&mut stream).is_some() {
            let long = "x".repeat(300_000);
            let row = [&[0xfe], &long.len().to_le_bytes()[..], long.as_bytes()].concat();
            let parts = [vec![1], column("c"), END.to_vec(), row, END.to_vec()];
            for (sequence, part) in (1..).zip(parts) {
                send(&mut stream, sequence, &part);
            }
        }
    });
    assert_eq!(error.reason(), Reason::Protocol, "{error}");
    // Rows of one NULL after the other, until the question for the role is given up.
    let mut session = session(|stream, _| {
        send(stream, 1, &[1]) && send(stream, 2, &column("c")) && send(stream, 3, END) && {
            let mut sequence = 3_u8;
            loop {
                sequence = sequence.wrapping_add(1);
                if !send(stream, sequence, &[0xfb]) {
                    return false;
                }
            }
        }
    });
    let error = session.privileges(Deadline::within(LONG)).unwrap_err();
    assert_eq!(error.reason(), Reason::Protocol, "{error}");
}

/// A session that was given up counts until the server is done with it, whatever the server says to the KILL.
#[test]
fn a_statement_that_goes_on_is_noticed_and_so_is_its_end() {
    let (done, ends) = std::sync::mpsc::channel::<()>();
    let ends = Arc::new(std::sync::Mutex::new(ends));
    let mut session = session(move |stream, command| {
        if command[1..].starts_with(b"KILL") {
            return send(stream, 1, &refusal(1095, "You are not owner of thread 42"));
        }
        if String::from_utf8_lossy(command).contains("processlist") {
            rows(stream, &["SELECT 1"]);
            return true;
        }
        let _ = ends.lock().expect("the end").recv_timeout(PATIENCE);
        // What was asked is answered; there is nothing more to read.
        send(stream, 1, &refusal(1317, "Query execution was interrupted")) && hear(stream).is_some()
    });
    let sql = sql_exporter::driver::Sql::new("SELECT 1");
    let mut sink = crate::recorder::Recorder::new();
    let job = job(&sql, LONG, &mut sink);
    assert!(matches!(session.run(&mut [job], Deadline::within(SOON)), Health::Spent));
    assert_eq!(sink.reason(), Reason::Timeout);
    for _ in 0..3 {
        assert!(!session.server_work().has_ended());
        assert_eq!(session.canceller().cancel(Deadline::within(PATIENCE)).unwrap_err().reason(), Reason::Sql);
    }
    drop(done);
    crate::process::wait_for("the server to be done", || session.server_work().has_ended().then_some(()));
}

/// One that sends on and on is not listened to for ever: it ends when its socket is closed.
#[test]
fn a_result_without_an_end_is_not_read_after_its_deadline() {
    let mut session = session(|stream, _| {
        send(stream, 1, &[1]) && send(stream, 2, &column("c")) && send(stream, 3, END) && {
            let rows: Vec<u8> = (4..=255).chain(0..=3).flat_map(|sequence| packet(sequence, &[0])).collect();
            while stream.write_all(&rows).is_ok() {}
            false
        }
    });
    assert!(session.server_work().has_ended(), "nothing was asked");
    let (sink, health) = run(&mut *session, "SELECT 1", SOON);
    assert_eq!(sink.reason(), Reason::Timeout);
    assert!(matches!(health, Health::Spent), "{health:?}");
    crate::process::wait_for("the session to be let go", || session.server_work().has_ended().then_some(()));
}

/// MySQL ends `COUNT(*)` of a large InnoDB table at its limit with the error of a cancel, and counts it among the statements
/// that its limit has ended: the next one is none of them.
#[test]
fn an_error_of_a_cancel_at_the_limit_is_a_timeout() {
    const ALLOWED: Duration = Duration::from_secs(1);
    for (works, reason) in [(ALLOWED * 96 / 100, Reason::Timeout), (Duration::ZERO, Reason::Cancelled)] {
        let mut session =
            session(move |stream, command| match String::from_utf8_lossy(&command[1..]).as_ref() {
                "SELECT COUNT(*) FROM t" => {
                    std::thread::sleep(works);
                    send(stream, 1, &refusal(1317, "Query execution was interrupted"))
                }
                "SELECT 1" => {
                    rows(stream, &["1"]);
                    true
                }
                "SHOW SESSION STATUS LIKE 'max_execution_time_exceeded'" => {
                    rows(stream, &["Max_execution_time_exceeded", "1"]);
                    true
                }
                _ => false,
            });
        let texts = ["SELECT COUNT(*) FROM t", "SELECT 1"].map(Sql::new);
        let mut sinks = [Recorder::new(), Recorder::new()];
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for (sql, sink) in texts.iter().zip(&mut sinks) {
            jobs.push(job(sql, ALLOWED, sink));
        }
        let health = session.run(&mut jobs, Deadline::within(LONG));
        assert_eq!(sinks[0].reason(), reason, "{}", sinks[0].error());
        assert_eq!(sinks[1].good().len(), 1);
        assert_eq!(matches!(health, Health::Spent), reason == Reason::Cancelled, "{health:?}");
    }
}
