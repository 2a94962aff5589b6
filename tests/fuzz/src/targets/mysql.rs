//! What a MySQL server says, from its greeting on: a login and rows, or an error, and each within its bounds.
//!
//! An input is what the server sends whatever it hears. Its first byte says how much of that is given: a good login, the
//! answers to the set-up, a statement that is prepared or not. Then come records of a kind, a length and so many bytes:
//! the next packet, the first packet of an answer, or bytes as they are.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::TlsConfig;
use sql_exporter::driver::{Column, Flow, Health, Job, Row, RowSink, Sql, mysql};
use sql_exporter::error::{Error, Result};
use sql_exporter::secret::Secret;
use sql_exporter::value::Cell;

/// Small, so that inputs reach it.
const MAX_CELL_BYTES: usize = 64;
/// What is asked of a session before its first statement.
const SET_UP: usize = 11;
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const NOT_PREPARED: &[u8] = b"\xff\x0f\x05#HY000no";
const PREPARED: &[u8] = &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn greeting(tracks: bool) -> Vec<u8> {
    let high: [u8; 2] = if tracks { [0x88, 0x01] } else { [0x08, 0x00] };
    let mut packet = b"\x0a5.6\0\x2a\0\0\0abcdefgh\0\x00\xa2\x2d\x02\0".to_vec();
    packet.extend_from_slice(&high);
    packet.extend_from_slice(b"\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0mysql_native_password\0");
    packet
}

/// What was said so far, and the number of the next packet.
#[derive(Default)]
struct Speech {
    bytes: Vec<u8>,
    sequence: u8,
}

impl Speech {
    fn say(&mut self, payload: &[u8], number: Option<u8>) {
        let now = number.unwrap_or(self.sequence);
        self.sequence = now.wrapping_add(1);
        let [a, b, c, ..] = payload.len().to_le_bytes();
        self.bytes.extend_from_slice(&[a, b, c, now]);
        self.bytes.extend_from_slice(payload);
    }
}

/// The bytes of an input.
fn said(data: &[u8]) -> Vec<u8> {
    let mut speech = Speech::default();
    let (first, mut rest) = data.split_first().unwrap_or((&0, &[]));
    let has = |bit: u8| first & bit != 0;
    if has(1) {
        speech.say(&greeting(has(8)), Some(0));
        speech.say(OK, Some(2));
        if has(2) {
            (0..SET_UP).for_each(|_| speech.say(OK, Some(1)));
            speech.say(OK, Some(1));
            speech.say(if has(4) { PREPARED } else { NOT_PREPARED }, Some(1));
            speech.say(OK, Some(1));
        }
    }
    while let [kind, length, after @ ..] = rest {
        let (payload, left) = after.split_at(after.len().min((*length).into()));
        match kind % 4 {
            0 | 1 => speech.say(payload, None),
            2 => speech.say(payload, Some(1)),
            _ => speech.bytes.extend_from_slice(payload),
        }
        rest = left;
    }
    speech.bytes
}

fn serve(mut stream: UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut heard = [0; 4096];
    while matches!(stream.read(&mut heard), Ok(1..)) {}
}

fn bounded(error: &Error) {
    assert!(error.message().len() < 4096, "{} bytes", error.message().len());
    if let Some(state) = error.sqlstate() {
        assert!(state.len() == 5 && state.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{state:?}");
    }
}

/// Reads each cell of each row.
#[derive(Default)]
struct Reader {
    columns: usize,
    ended: bool,
}

impl RowSink for Reader {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        assert!(columns.len() <= 4096);
        assert!(columns.iter().all(|column| column.name.len() <= 1024 && column.type_name.len() <= 256));
        self.columns = columns.len();
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        for column in 0..self.columns {
            match row.cell(column)? {
                Cell::Text(text) | Cell::Other(text) => assert!(text.len() <= MAX_CELL_BYTES),
                Cell::Bytes(bytes) => assert!(bytes.len() <= MAX_CELL_BYTES),
                _ => {}
            }
        }
        Ok(Flow::Continue)
    }

    fn end(&mut self, verdict: Result<()>, _: Duration) {
        assert!(!std::mem::replace(&mut self.ended, true), "a job ended twice");
        if let Err(error) = verdict {
            bounded(&error);
        }
    }
}

pub(crate) fn run(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).expect("a socket");
    let bytes = said(data);
    let server = std::thread::spawn(move || listener.accept().map(|(stream, _)| serve(stream, &bytes)));
    let login = ConnectionConfig {
        hosts: Vec::new(),
        socket: Some(path),
        database: None,
        username: Some("u".to_owned()),
        password: PasswordSource::Given(Secret::new("c4nary-fuzz".to_owned())),
        tls: TlsConfig::default(),
        params: Vec::new(),
        read_only: true,
        session_sql: Vec::new(),
        connect_timeout: Duration::from_secs(10),
    };
    let by = Deadline::within(Duration::from_secs(10));
    match mysql::endpoint(login).connect(by) {
        Err(error) => bounded(&error),
        Ok(mut session) => {
            assert!(session.facts().version.len() <= 256);
            let (sql, mut sink) = (Sql::new("SELECT 1"), Reader::default());
            let allowance = Duration::from_secs(10);
            let mut jobs = [Job {
                sql: &sql,
                allowance,
                parameters: &[],
                max_cell_bytes: MAX_CELL_BYTES,
                sink: &mut sink,
            }];
            match session.run(&mut jobs, by) {
                Health::Lost(error) => bounded(&error),
                Health::Clean | Health::Spent => {
                    assert!(sink.ended, "a session that lives has ended its job");
                }
            }
        }
    }
    assert!(!by.passed(), "a server that has said everything is not waited for");
    server.join().expect("the server").expect("a connection");
}
