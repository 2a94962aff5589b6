//! A sink that keeps what it was given, for tests that look at a driver or a pool directly.

use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Column, Flow, Health, Job, MAX_CELL_BYTES, Row, RowSink, Session, Sql};
use sql_exporter::error::{Error, Reason, Result};
use sql_exporter::value::Cell;

/// Everything one job told its sink.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) columns: Option<Vec<Column>>,
    /// Each cell as `{:?}` shows it.
    pub(crate) rows: Vec<Vec<String>>,
    /// Rows seen, kept or not.
    pub(crate) seen: usize,
    pub(crate) verdict: Option<Result<()>>,
    pub(crate) took: Duration,
    /// Keep at most so many rows; then only count.
    pub(crate) keep: usize,
    /// Answer [`Flow::Stop`] at this row.
    pub(crate) stop_at: Option<usize>,
    /// Fail at this row.
    pub(crate) fail_at: Option<usize>,
}

impl Recorder {
    /// Keeps the first hundred rows.
    pub(crate) fn new() -> Self {
        Recorder { keep: 100, ..Recorder::default() }
    }

    /// The reason the job failed for; panics when it did not end or ended well.
    pub(crate) fn reason(&self) -> Reason {
        self.error().reason()
    }

    /// The error the job ended with; panics when it did not end or ended well.
    pub(crate) fn error(&self) -> &Error {
        match &self.verdict {
            Some(Err(error)) => error,
            other => panic!("the job ended with {other:?}, not with an error"),
        }
    }

    /// The rows of a job that ended well; panics when it did not.
    pub(crate) fn good(&self) -> &[Vec<String>] {
        assert_eq!(self.verdict, Some(Ok(())));
        &self.rows
    }
}

impl RowSink for Recorder {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        assert!(self.columns.is_none(), "columns were given twice");
        self.columns = Some(columns.to_vec());
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        let columns = self.columns.as_ref().map_or(0, Vec::len);
        assert!(self.columns.is_some(), "a row came before the columns");
        self.seen += 1;
        if self.rows.len() < self.keep {
            let cells = (0..columns).map(|column| row.cell(column).map(shown)).collect::<Result<_>>()?;
            self.rows.push(cells);
        }
        if self.fail_at == Some(self.seen) {
            return Err(Error::new(Reason::Value, "the sink had enough"));
        }
        Ok(if self.stop_at == Some(self.seen) { Flow::Stop } else { Flow::Continue })
    }

    fn end(&mut self, verdict: Result<()>, took: Duration) {
        assert!(self.verdict.is_none(), "a job ended twice");
        self.verdict = Some(verdict);
        self.took = took;
    }
}

fn shown(cell: Cell<'_>) -> String {
    format!("{cell:?}")
}

/// A statement without parameters.
pub(crate) fn job<'q>(sql: &'q Sql, allowance: Duration, sink: &'q mut dyn RowSink) -> Job<'q> {
    Job { sql, allowance, parameters: &[], max_cell_bytes: MAX_CELL_BYTES, sink }
}

/// Runs one statement and gives back what its sink saw.
pub(crate) fn run(session: &mut dyn Session, sql: &str, allowance: Duration) -> (Recorder, Health) {
    let mut recorder = Recorder::new();
    let health = run_into(session, sql, allowance, &mut recorder);
    (recorder, health)
}

/// Runs one statement into a sink of the caller's.
pub(crate) fn run_into(
    session: &mut dyn Session,
    sql: &str,
    allowance: Duration,
    sink: &mut dyn RowSink,
) -> Health {
    let sql = Sql::new(sql);
    session.run(&mut [job(&sql, allowance, sink)], Deadline::within(Duration::from_secs(60)))
}
