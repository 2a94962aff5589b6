//! Servers that refuse, stay silent, trickle, cut or talk nonsense.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::{ConnectionConfig, HostPort};
use sql_exporter::driver::{Health, TlsState, mysql};
use sql_exporter::error::{Error, Reason};
use sql_exporter::secret::Secret;

use super::{LONG, login, open, session};
use crate::process::{free_port, variable, wait_for};
use crate::recorder::run;
use crate::servers::MariaDb;

const SOON: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

fn refused(login: ConnectionConfig, within: Duration) -> Error {
    mysql::endpoint(login).connect(Deadline::within(within)).err().expect("an error")
}

pub(super) fn at(port: u16) -> ConnectionConfig {
    let mut login = login(&MariaDb::shared("mysql"));
    login.hosts = vec![HostPort { host: "127.0.0.1".to_owned(), port }];
    login
}

/// Answers each connection by `talk`, on a thread that ends with the test binary.
pub(super) fn scripted(talk: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let talk = talk.clone();
            thread::spawn(move || talk(stream));
        }
    });
    port
}

/// A proxy to the real server that hands `relay` the server's bytes and the client to give them to.
fn proxied(relay: impl Fn(TcpStream, TcpStream) + Clone + Send + 'static) -> u16 {
    let real = SocketAddr::from(([127, 0, 0, 1], MariaDb::shared("mysql").port));
    scripted(move |client| {
        let Ok(server) = TcpStream::connect(real) else { return };
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Both);
        });
        relay(server, client);
    })
}

/// The payloads of the packets that the client has sent, of which the first is read as it comes; `None` at their end.
fn packets(client: &mut TcpStream) -> Option<Vec<Vec<u8>>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 1 << 16]);
    loop {
        let mut packets = Vec::new();
        let mut rest = &bytes[..];
        while let [a, b, c, _, ..] = *rest
            && let Some(packet) = rest.get(..4 + u32::from_le_bytes([a, b, c, 0]) as usize)
        {
            packets.push(packet.to_vec());
            rest = &rest[packet.len()..];
        }
        if rest.is_empty() && !packets.is_empty() {
            return Some(packets);
        }
        match client.read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
}

/// As ProxySQL 2.7 does: a command that comes with another one that is not answered ends the connection. What has no answer
/// may stand before one.
#[test]
fn a_proxy_that_takes_one_command_at_a_time_is_asked_one_by_one() {
    const CLOSES_A_STATEMENT: u8 = 25;
    let real = MariaDb::shared("mysql").port;
    let (connections, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, closed) = (Arc::clone(&connections), Arc::clone(&cut));
    let port = scripted(move |mut client| {
        opened.fetch_add(1, Ordering::Relaxed);
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", real)) else { return };
        let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
        while let Some(packets) = packets(&mut client) {
            let answered = packets.iter().filter(|packet| packet[4] != CLOSES_A_STATEMENT).count();
            if answered > 1 {
                closed.fetch_add(1, Ordering::Relaxed);
                break;
            }
            if server.write_all(&packets.concat()).is_err() {
                break;
            }
        }
        let _ = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
    });
    let endpoint = mysql::endpoint(at(port));
    for _ in 0..2 {
        let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
        for sql in ["SELECT 1", "SELECT @a := 1", "SELECT 2"] {
            let (sink, health) = run(&mut *session, sql, LONG);
            assert_eq!(sink.good().len(), 1);
            assert!(matches!(health, Health::Clean), "{health:?}");
        }
    }
    assert_eq!(
        (connections.load(Ordering::Relaxed), cut.load(Ordering::Relaxed)),
        (4, 2),
        "it is learned once"
    );
}

/// MySQL Router with `connection_sharing` greets with the thread 0, of which a server says that there is none.
#[test]
fn without_the_number_of_a_thread_no_kill_counts_as_done() {
    let port = proxied(|mut server, mut client| {
        let mut greeting = [0; 1024];
        let length = server.read(&mut greeting).unwrap_or(0);
        let end_of_version = greeting.iter().skip(5).position(|byte| *byte == 0).unwrap() + 5;
        greeting[end_of_version + 1..][..4].fill(0);
        let _ = client.write_all(&greeting[..length]).and_then(|()| std::io::copy(&mut server, &mut client));
    });
    let mut session = open(at(port)).unwrap();
    run(&mut *session, "SELECT 1", LONG).0.good();
    let error = session.canceller().cancel(Deadline::within(LONG)).unwrap_err();
    assert!(error.message().contains("number of the server's thread"), "{error}");
}

#[test]
fn an_unknown_database_and_a_denied_one_are_told_apart() {
    let server = MariaDb::fresh("faults");
    let mut unknown = login(&server);
    unknown.database = Some("no_such_database".to_owned());
    assert!(refused(unknown, LONG).message().contains("no_such_database"));
    let user = format!("u_{}", server.database.chars().rev().take(20).collect::<String>());
    server.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'c4nary-user'"));
    let mut denied = login(&server);
    denied.username = Some(user);
    denied.password = PasswordSource::Given(Secret::new("c4nary-user".to_owned()));
    denied.database = Some("mysql".to_owned());
    assert_eq!(refused(denied.clone(), LONG).reason(), Reason::Permission);
    denied.database = None;
    let mut session = open(denied).unwrap();
    // Without the privilege to ask for channels the role comes from read_only.
    assert_eq!(session.facts().role, "primary");
    assert_eq!(run(&mut *session, "SELECT * FROM mysql.user", LONG).0.reason(), Reason::Permission);
}

#[test]
fn the_servers_objections_have_reasons() {
    let mut session = session(&MariaDb::fresh("faults"));
    for (sql, state) in [
        ("SELECT", Some("42000")),
        ("SELECT nothing", Some("42S22")),
        ("SELECT * FROM nothing", Some("42S02")),
        // The exporter says it itself, with what to write.
        ("SELECT ?", None),
        ("SHOW TABLES FROM nowhere", Some("42000")),
    ] {
        let (sink, health) = run(&mut *session, sql, LONG);
        assert_eq!((sink.reason(), sink.error().sqlstate()), (Reason::Sql, state), "{sql}");
        assert!(matches!(health, Health::Clean), "{sql}: {health:?}");
    }
}

#[test]
fn after_a_refused_connection_the_next_host_is_tried() {
    let mut login = login(&MariaDb::shared("mysql"));
    login.hosts.insert(0, HostPort { host: "127.0.0.1".to_owned(), port: free_port() });
    open(login).unwrap();
}

#[test]
fn a_missing_socket_is_connect_and_a_socket_is_local() {
    let mut login = login(&MariaDb::shared("mysql"));
    login.hosts.clear();
    login.socket = Some(PathBuf::from(variable("TEST_MARIADB_SOCKET")));
    assert_eq!(open(login.clone()).unwrap().facts().tls, TlsState::Local);
    login.socket = Some(PathBuf::from("/nowhere/mysql.sock"));
    let error = refused(login, LONG);
    assert_eq!(error.reason(), Reason::Connect);
    assert!(error.message().contains("/nowhere/mysql.sock"), "{error}");
}

#[test]
fn a_server_that_trickles_its_greeting_times_out_at_the_deadline() {
    let port = scripted(|mut stream| {
        let _ = stream.write_all(&[0xff, 0xff, 0, 0, 10]);
        while stream.write_all(b"8").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let start = Instant::now();
    let error = refused(at(port), SOON);
    assert_eq!(error.reason(), Reason::Timeout);
    assert!(start.elapsed() >= SOON && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn a_silent_server_collects_no_logins_and_is_found_when_it_speaks_again() {
    let (real, speaks) = (MariaDb::shared("mysql").port, Arc::new(AtomicBool::new(false)));
    let (logins, mute) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&speaks));
    let counted = Arc::clone(&logins);
    let port = scripted(move |mut client| {
        if mute.load(Ordering::Relaxed) {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", real)) else { return };
            let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut up, &mut down));
            let _ = std::io::copy(&mut server, &mut client);
        } else {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = client.read(&mut [0; 64]);
            counted.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let endpoint = mysql::endpoint(at(port));
    for _ in 0..5 {
        let error = endpoint.connect(Deadline::within(Duration::from_millis(200))).err().expect("an error");
        assert_eq!(error.reason(), Reason::Timeout);
    }
    wait_for("the logins to leave", || (logins.load(Ordering::Relaxed) == 0).then_some(()));
    speaks.store(true, Ordering::Relaxed);
    endpoint.connect(Deadline::within(PATIENCE)).map(drop).expect("a session");
}

#[test]
fn a_server_that_trickles_its_rows_times_out_at_the_deadline() {
    let port = proxied(|mut server, mut client| {
        let mut buffer = vec![0; 65_536];
        while let Ok(size @ 1..) = server.read(&mut buffer) {
            let (quick, slow) = buffer[..size].split_at(size.min(20_000));
            let _ = client.write_all(quick);
            for byte in slow {
                thread::sleep(Duration::from_millis(20));
                if client.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        }
    });
    let mut session = open(at(port)).unwrap();
    let start = Instant::now();
    let (sink, health) = run(&mut *session, "SELECT REPEAT('x', 60000)", SOON);
    assert_eq!(sink.reason(), Reason::Timeout);
    assert!(matches!(health, Health::Spent), "{health:?}");
    assert!(start.elapsed() >= SOON && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn half_a_row_is_lost() {
    let port = proxied(|mut server, mut client| {
        // More than a login takes, less than the rows.
        let mut left = 30_000;
        let mut buffer = vec![0; 65_536];
        while let Ok(size @ 1..) = server.read(&mut buffer) {
            let now = size.min(left);
            let _ = client.write_all(&buffer[..now]);
            left -= now;
            if left == 0 {
                let _ = client.shutdown(Shutdown::Both);
                return;
            }
        }
    });
    let mut session = open(at(port)).unwrap();
    let (sink, health) = run(&mut *session, "SELECT REPEAT('x', 1000) FROM seq_1_to_100", LONG);
    let Health::Lost(error) = health else { panic!("{health:?}") };
    assert_eq!((error.reason(), error.message()), (Reason::Lost, "the server closed the connection"));
    assert_eq!(sink.verdict, None);
}

#[test]
fn nonsense_instead_of_a_greeting_is_an_error_and_no_panic() {
    for (nonsense, reason) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], Reason::Protocol),
        (b"\x01\0\0\0\x09", Reason::Protocol),
        (b"\0\0\0\0", Reason::Protocol),
        (b"\x05\0\0\0\x0a8.0\0", Reason::Protocol),
        (b"", Reason::Connect),
    ] {
        let port = scripted(move |mut stream| {
            let _ = stream.write_all(nonsense);
        });
        let error = refused(at(port), LONG);
        assert_eq!(error.reason(), reason, "{nonsense:?}: {error}");
    }
}

#[test]
fn a_server_that_is_full_says_so() {
    let port = scripted(|mut stream| {
        let _ = stream.write_all(b"\x17\0\0\0\xff\x10\x04Too many connections");
    });
    let error = refused(at(port), LONG);
    assert_eq!((error.reason(), error.message()), (Reason::Server, "Too many connections (error 1040)"));
}

#[test]
fn a_password_that_changed_in_its_file_is_read_again() {
    let server = MariaDb::fresh("faults");
    let folder = crate::process::folder();
    let file = folder.path().join("password");
    std::fs::write(&file, "c4nary-old\n").unwrap();
    let mut login = login(&server);
    login.password = PasswordSource::File(file.clone());
    assert_eq!(refused(login.clone(), LONG).reason(), Reason::Auth);
    std::fs::write(&file, &server.password).unwrap();
    open(login).unwrap();
}
