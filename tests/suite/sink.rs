//! The end of a run is told once, whatever a session does, and a failed query shows nothing.

use std::time::Duration;

use sql_exporter::driver::RowSink;
use sql_exporter::engine::query_sink::{RenderedResult, SizeHint, sink};
use sql_exporter::error::{Error, Reason, Result};
use sql_exporter::value::Cell;

use crate::table::{Cells, bare, columns, query};

const TOOK: Duration = Duration::from_millis(7);

/// The end that was told when `play` was over; the sink can tell it only once.
fn end(play: impl FnOnce(&mut dyn RowSink)) -> Option<Result<RenderedResult>> {
    let (query, context) = (query("{name: x}"), bare());
    let mut told = None;
    let ended = Box::new(|result, took| {
        assert_eq!(took, TOOK);
        told = Some(result);
    });
    let mut sink = sink(&query, &context, &[], SizeHint::default(), ended);
    play(&mut *sink);
    drop(sink);
    told
}

fn reason(end: Option<Result<RenderedResult>>) -> Option<Reason> {
    end?.err().map(|error| {
        assert_eq!(error.query(), Some("q"));
        error.reason()
    })
}

#[test]
fn a_good_run_tells_rows_and_series() {
    let rendered = end(|sink| {
        sink.columns(&columns(&["value"])).unwrap();
        sink.row(&Cells(&[Cell::Int(1)])).unwrap();
        sink.end(Ok(()), TOOK);
    });
    let rendered = rendered.unwrap().unwrap();
    assert_eq!((rendered.rows, rendered.series, rendered.blocks.len()), (1, 1, 1));
}

#[test]
fn a_run_that_fails_in_the_database_shows_none_of_its_rows() {
    let end = end(|sink| {
        sink.columns(&columns(&["value"])).unwrap();
        sink.row(&Cells(&[Cell::Int(1)])).unwrap();
        sink.end(Err(Error::new(Reason::Sql, "division by zero")), TOOK);
    });
    assert_eq!(reason(end), Some(Reason::Sql));
}

#[test]
fn a_row_that_fails_is_the_end_even_if_the_session_goes_on() {
    let end = end(|sink| {
        sink.columns(&columns(&["value"])).unwrap();
        drop(sink.row(&Cells(&[Cell::Text("abc")])).unwrap_err());
        let again = sink.row(&Cells(&[Cell::Int(1)])).unwrap_err();
        assert_eq!(again.reason(), Reason::Value);
        sink.end(Ok(()), TOOK);
    });
    assert_eq!(reason(end), Some(Reason::Value));
}

#[test]
fn a_missing_column_fails_before_the_first_row() {
    let end = end(|sink| {
        let error = sink.columns(&columns(&["other"])).unwrap_err();
        sink.end(Err(error), TOOK);
    });
    assert_eq!(reason(end), Some(Reason::MissingColumn));
}

#[test]
fn a_statement_without_a_result_is_no_query_for_metrics() {
    assert_eq!(reason(end(|sink| sink.end(Ok(()), TOOK))), Some(Reason::Protocol));
}

#[test]
fn a_sink_that_is_dropped_before_its_end_tells_nothing() {
    let end = end(|sink| {
        sink.columns(&columns(&["value"])).unwrap();
        sink.row(&Cells(&[Cell::Int(1)])).unwrap();
    });
    assert!(end.is_none());
}

#[test]
fn a_second_end_is_not_told() {
    let end = end(|sink| {
        sink.columns(&columns(&["value"])).unwrap();
        sink.end(Ok(()), TOOK);
        sink.end(Err(Error::new(Reason::Lost, "gone")), TOOK);
    });
    assert!(end.unwrap().is_ok());
}
