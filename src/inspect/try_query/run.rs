//! The trial on an open session: `when`, the database's plan, the statement, what is made of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::{Health, Job, MAX_CELL_BYTES, RowSink, Session, Sql};
use crate::engine::conditions::{BooleanSink, unmet_condition};
use crate::engine::query_sink::{RenderedResult, sink};
use crate::engine::targets::sample_context;
use crate::error::{Error, Reason, Result};
use crate::exposition::page::Families;
use crate::metric::column::find;
use crate::metric::labels::LabelSource;

use super::column_mapping::mapping;
use super::owned_rows::{OwnedValue, replay};
use super::proposal::propose;
use super::recording_sink::{RecordingSink, Seen};
use super::{Ask, Listing, Made, Times, Trial, What};

/// So many series from one query are worth a word.
const MANY: u64 = 1_000;

/// Does it all; the trial holds what came of it, errors of the statement too.
///
/// # Errors
/// The session must be cancelled and not be used again; with the reason where the trial does not have it.
pub(super) fn work(
    ask: &Ask<'_>,
    session: &mut dyn Session,
    by: Deadline,
    trial: &mut Trial,
) -> std::result::Result<(), Option<Error>> {
    if let Some(query) = ask.query() {
        when(ask, query, session, by, trial)?;
    }
    let explain = ask.target.endpoint.as_ref().and_then(|endpoint| endpoint.explain(ask.sql()));
    if let Some(sql) = explain.filter(|_| ask.explain) {
        // What fails here fails in the statement too, whose error has the right place.
        let (listing, ended) = listing(session, &sql, by);
        trial.plan = listing.ok();
        ended?;
    }
    let health = match &ask.what {
        What::Query(query) => configured(ask, query, session, by, trial),
        What::Statement(sql) => statement(ask, sql, session, by, trial),
    };
    usable(health)
}

/// What precedes the statement must leave a session that it can run on; `error` is why it does not, where that is known.
fn ready(health: Health, error: Option<Error>) -> std::result::Result<(), Option<Error>> {
    let lost = || Error::new(Reason::Lost, "the session could not go on");
    usable(health).map_err(|found| found.or(error).or_else(|| Some(lost())))
}

fn usable(health: Health) -> std::result::Result<(), Option<Error>> {
    match health {
        Health::Clean => Ok(()),
        Health::Spent => Err(None),
        Health::Lost(error) => Err(Some(error)),
    }
}

/// Notes why a scrape would leave the query out.
fn when(
    ask: &Ask<'_>,
    query: &Query,
    session: &mut dyn Session,
    by: Deadline,
    trial: &mut Trial,
) -> std::result::Result<(), Option<Error>> {
    let switch = |on: bool, what: &str| (!on).then(|| format!("enabled: false on the {what}"));
    trial.skipped.extend(switch(ask.target.enabled, "target"));
    trial.skipped.extend(switch(query.enabled, "query"));
    let Some(when) = query.when.as_deref() else { return Ok(()) };
    if when.role.is_some() {
        ready(session.refresh(by), None)?;
        trial.facts = Some(session.facts().clone());
    }
    if let Some(why) = unmet_condition(when, session.facts()) {
        trial.skipped.push(why);
    } else if let Some(sql) = &when.sql {
        let mut truth = BooleanSink::default();
        let health = session.run(
            &mut [Job { sql, allowance: by.left(), max_cell_bytes: MAX_CELL_BYTES, sink: &mut truth }],
            by,
        );
        match truth.verdict() {
            Some(Ok(true)) | None => {}
            Some(Ok(false)) => trial.skipped.push("when.sql says no".to_owned()),
            // A scrape fails with it; here the rows are shown all the same.
            Some(Err(error)) => trial.error = Some(error.in_query(&query.name)),
        }
        ready(health, trial.error.clone())?;
    }
    Ok(())
}

/// The rows of a statement as they come, all of them.
fn listing(
    session: &mut dyn Session,
    sql: &Sql,
    by: Deadline,
) -> (Result<Listing>, std::result::Result<(), Option<Error>>) {
    let mut seen = Seen::default();
    let health = {
        let mut tap = RecordingSink::new(None, usize::MAX, &[], &mut seen);
        session
            .run(&mut [Job { sql, allowance: by.left(), max_cell_bytes: MAX_CELL_BYTES, sink: &mut tap }], by)
    };
    let verdict = seen.verdict.take().unwrap_or(Ok(()));
    let ended = ready(health, verdict.clone().err());
    (verdict.map(|()| seen.listing()), ended)
}

impl Seen {
    fn listing(self) -> Listing {
        Listing { columns: self.columns, rows: self.rows, count: self.count, stopped: self.stopped }
    }

    fn times(&self, began: Instant, trial: &mut Times) {
        trial.first_row = self.first.map(|first| first.duration_since(began));
        let rows = self.first.zip(self.last).map(|(first, last)| last.duration_since(first));
        trial.rows = rows.map(|rows| rows.saturating_sub(self.render_of_rows));
        trial.render = self.last.map(|_| self.render);
    }
}

/// A query through the production sink.
fn configured(
    ask: &Ask<'_>,
    query: &Query,
    session: &mut dyn Session,
    by: Deadline,
    trial: &mut Trial,
) -> Health {
    let context = sample_context(&ask.plan.exporter, ask.target);
    let labels = label_columns(query);
    let columns: Vec<String> = labels.iter().map(|(_, column)| column.clone()).collect();
    let (mut seen, mut told) = (Seen::default(), None);
    let began = Instant::now();
    let health = {
        let production = sink(query, &context, Box::new(|result, _| told = Some(result)));
        let mut tap = RecordingSink::new(Some(production), ask.rows, &columns, &mut seen);
        run(ask, query, session, &mut tap, by)
    };
    seen.times(began, &mut trial.times);
    let epoch = ask.target.endpoint.as_ref().and_then(|endpoint| endpoint.epoch_expression());
    if !seen.columns.is_empty() {
        trial.mapping = mapping(query, &seen.columns, &seen.unzoned, epoch);
    }
    match told {
        Some(Ok(rendered)) => {
            let most = labels.iter().zip(&seen.values).max_by_key(|(_, values)| values.len());
            let most = most.map(|((label, _), values)| (label.as_str(), values.len()));
            trial.warnings.extend(many(rendered.series, query.max_series, most));
            trial.made = Some(made(rendered));
        }
        Some(Err(error)) => trial.error = Some(error),
        // The session died: its error comes with its health.
        None => {}
    }
    if !seen.columns.is_empty() {
        trial.listing = Some(seen.listing());
    }
    match health {
        Health::Lost(error) => Health::Lost(error.in_query(&query.name)),
        health => health,
    }
}

/// As a lane runs it.
fn run(
    ask: &Ask<'_>,
    query: &Query,
    session: &mut dyn Session,
    sink: &mut dyn RowSink,
    by: Deadline,
) -> Health {
    if ask.target.snapshot {
        match session.snapshot(true, by) {
            Health::Clean => {}
            health => return health,
        }
    }
    let allowance = query.timeout.unwrap_or(Duration::MAX).min(by.left());
    let health = session.run(
        &mut [Job { sql: &query.sql, allowance, max_cell_bytes: ask.plan.exporter.max_cell_bytes, sink }],
        by,
    );
    match health {
        Health::Clean if ask.target.snapshot => session.snapshot(false, by),
        health => health,
    }
}

/// The labels that come from columns, each once, with the column.
fn label_columns(query: &Query) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for (name, origin) in query.metrics.iter().flat_map(|metric| metric.labels.iter()) {
        if let LabelSource::Column(column) = origin {
            labels.push((name.to_string(), column.clone()));
        }
    }
    labels.sort();
    labels.dedup();
    labels
}

fn many(series: u64, max: u64, most: Option<(&str, usize)>) -> Option<String> {
    let is_near = series.saturating_mul(10) > max.saturating_mul(8);
    let mut text = match (series > MANY, is_near) {
        (false, false) => return None,
        (_, true) => format!("{series} series, and max_series is {max}"),
        (true, false) => format!("{series} series from one query are many"),
    };
    if let Some((label, values)) = most {
        text += &format!(": label `{label}` has the most values, {values}");
    }
    Some(text)
}

fn made(rendered: RenderedResult) -> Made {
    let RenderedResult { blocks, series, skipped, .. } = rendered;
    let families: Families =
        blocks.into_iter().map(|block| (Arc::clone(&block.family), vec![block])).collect();
    Made { families, series, skipped }
}

/// A statement without metrics: its rows, and what the proposed definition makes of them.
fn statement(ask: &Ask<'_>, sql: &Sql, session: &mut dyn Session, by: Deadline, trial: &mut Trial) -> Health {
    let mut seen = Seen::default();
    let began = Instant::now();
    let health = {
        let mut tap = RecordingSink::new(None, ask.rows, &[], &mut seen);
        session.run(
            &mut [Job {
                sql,
                allowance: by.left(),
                max_cell_bytes: ask.plan.exporter.max_cell_bytes,
                sink: &mut tap,
            }],
            by,
        )
    };
    seen.times(began, &mut trial.times);
    trial.times.render = None;
    match seen.verdict.take() {
        Some(Ok(())) if seen.columns.is_empty() => {
            let error = Error::new(Reason::Protocol, "the statement has no result");
            trial.error = Some(error.with_hint("a query for metrics returns rows"));
        }
        Some(Ok(())) => proposed(ask, sql, &seen, trial),
        Some(Err(error)) => trial.error = Some(error),
        None => {}
    }
    if !seen.columns.is_empty() {
        trial.listing = Some(seen.listing());
    }
    health
}

/// The label with the most values in the rows kept, and how many.
fn widest(query: &Query, seen: &Seen) -> Option<(String, usize)> {
    let text = |kept: &OwnedValue| kept.cell().label(&mut String::new()).to_owned();
    let counted = |(label, column): (String, String)| {
        let place = find(&seen.columns, &column).ok()?;
        let texts: HashSet<String> = seen.kept.iter().filter_map(|row| row.get(place)).map(text).collect();
        Some((label, texts.len()))
    };
    label_columns(query).into_iter().filter_map(counted).max_by_key(|(_, values)| *values)
}

fn proposed(ask: &Ask<'_>, sql: &Sql, seen: &Seen, trial: &mut Trial) {
    let Some(yaml) = propose(ask.plan, ask.target, sql, &seen.columns, &seen.kept) else { return };
    let query = match config::one_query(&format!("queries:\n{yaml}")) {
        Ok(query) => query,
        Err(errors) => {
            let why: Vec<String> = errors.iter().map(Error::headline).collect();
            trial.warnings.push(format!("what is proposed does not load: {}", why.join("; ")));
            return;
        }
    };
    let context = sample_context(&ask.plan.exporter, ask.target);
    let epoch = ask.target.endpoint.as_ref().and_then(|endpoint| endpoint.epoch_expression());
    trial.mapping = mapping(&query, &seen.columns, &seen.unzoned, epoch);
    trial.proposal = Some(yaml);
    let mut told = None;
    let began = Instant::now();
    {
        let mut sink = sink(&query, &context, Box::new(|result, _| told = Some(result)));
        replay(&seen.columns, &seen.kept, &mut *sink);
    }
    trial.times.render = Some(began.elapsed());
    match told {
        Some(Ok(rendered)) => {
            let most = widest(&query, seen);
            let most = most.as_ref().map(|(label, values)| (label.as_str(), *values));
            trial.warnings.extend(many(rendered.series, query.max_series, most));
            trial.made = Some(made(rendered));
        }
        Some(Err(error)) => {
            let sentence = error.message();
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            trial.warnings.push(format!("what is proposed fails on these rows: {sentence}{hint}"));
        }
        None => {}
    }
}
