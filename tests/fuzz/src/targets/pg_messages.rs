//! What a PostgreSQL server sends, from the first byte to the last: whatever it is, a login and a query end, soon and with
//! a short error.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::{TlsConfig, TlsMode};
use sql_exporter::driver::connection::{ConnectionConfig, HostPort};
use sql_exporter::driver::{Column, Flow, Health, Job, Row, RowSink, Sql, postgres};
use sql_exporter::error::{Error, Result};

const SOON: Duration = Duration::from_secs(2);
/// Small, so that inputs reach it.
const MAX_CELL_BYTES: usize = 1000;

/// Reads every cell.
#[derive(Default)]
struct Reader {
    columns: usize,
    verdict: Option<Result<()>>,
}

impl RowSink for Reader {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        self.columns = columns.len();
        assert!(self.columns <= 4_096 && columns.iter().all(|column| column.name.len() <= 256));
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        for column in 0..self.columns {
            row.cell(column)?;
        }
        Ok(Flow::Continue)
    }

    fn end(&mut self, verdict: Result<()>, _: Duration) {
        assert!(self.verdict.is_none(), "a job ended twice");
        self.verdict = Some(verdict);
    }
}

fn is_short(error: &Error) {
    assert!(error.to_string().len() < 8_000, "{error}");
    let code = error.sqlstate().unwrap_or_default();
    assert!(code.is_empty() || code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
}

/// The first byte says how queries are sent.
fn login(port: u16, way: u8) -> ConnectionConfig {
    let (name, value) = match way % 3 {
        0 => ("pooler", "session"),
        1 => ("pooler", "transaction"),
        _ => ("protocol", "simple"),
    };
    ConnectionConfig {
        hosts: vec![HostPort { host: "127.0.0.1".to_owned(), port }],
        socket: None,
        database: Some("app".to_owned()),
        username: Some("exporter".to_owned()),
        password: PasswordSource::None,
        tls: TlsConfig { mode: TlsMode::Disable, ..TlsConfig::default() },
        params: vec![(name.to_owned(), value.to_owned())],
        read_only: true,
        session_sql: Vec::new(),
        connect_timeout: SOON,
    }
}

fn talk(port: u16, way: u8) {
    let endpoint = postgres::endpoint(login(port, way)).expect("known parameters");
    let mut session = match endpoint.connect(Deadline::within(SOON)) {
        Ok(session) => session,
        Err(error) => return is_short(&error),
    };
    assert!(session.facts().version.len() <= 256);
    let sql = Sql::new("SELECT 1 AS value, 'x' AS label");
    let mut sink = Reader::default();
    let mut jobs = [Job {
        sql: &sql,
        allowance: SOON,
        parameters: &[],
        max_cell_bytes: MAX_CELL_BYTES,
        sink: &mut sink,
    }];
    let health = session.run(&mut jobs, Deadline::within(SOON));
    match (&health, &sink.verdict) {
        (Health::Lost(error), _) | (_, Some(Err(error))) => is_short(error),
        (_, verdict) => assert!(verdict.is_some(), "a job without an end"),
    }
    let _ = session.server_work();
}

pub(crate) fn run(data: &[u8]) {
    let Some((way, bytes)) = data.split_first() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            // Nobody may listen any more.
            let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
            let mut heard = [0; 4096];
            while stream.read(&mut heard).is_ok_and(|count| count > 0) {}
        });
        talk(port, *way);
    });
    assert!(start.elapsed() < SOON * 5, "{:?}", start.elapsed());
}
