//! The format of log lines: text for people, or one JSON object per line. Always to stderr.
//!
//! Owns the format only. Callers decide what to log; structured parts are key-value pairs of the `log` crate (`target`,
//! `query`, `reason`, `sqlstate`).

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;

use env_logger::fmt::{Formatter, Timestamp};
use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Record};

use crate::plain_text::{self, log_line, shortened};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Logs from this level on. Libraries log warnings at most.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

/// The format of the log, once it has started.
static STARTED: OnceLock<LogFormat> = OnceLock::new();

/// Logs what ends the process where lines of the log are for machines; false where they are not. Whatever the level is:
/// nothing else would say it.
pub fn end<E: Display>(errors: &[E]) -> bool {
    let is_json = STARTED.get() == Some(&LogFormat::Json);
    if is_json {
        set_level(LevelFilter::Error);
        errors.iter().for_each(|error| log::error!("{error}"));
    }
    is_json
}

/// Starts logging. The first call in a process wins.
pub fn start(level: LevelFilter, format: LogFormat) {
    let _ = STARTED.set(format);
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Warn).filter_module("sql_exporter", LevelFilter::Trace);
    match format {
        LogFormat::Text => builder.format(text),
        LogFormat::Json => builder.format(json),
    };
    // A second start in one process keeps the first logger.
    let _ = builder.try_init();
    set_level(level);
}

fn text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time: Timestamp = out.timestamp_millis();
    writeln!(out, "{time} {:<5} {}", record.level(), log_line(&record.args().to_string()))
}

fn json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    struct Pairs(serde_json::Map<String, serde_json::Value>);
    impl<'kvs> VisitSource<'kvs> for Pairs {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
            // An unknown part (no SQLSTATE) is left out.
            let text = value.to_string();
            if !text.is_empty() {
                self.0.insert(key.to_string(), shortened(&text).into());
            }
            Ok(())
        }
    }
    let mut pairs = Pairs(serde_json::Map::new());
    let time: Timestamp = out.timestamp_millis();
    pairs.0.insert("time".into(), time.to_string().into());
    pairs.0.insert("level".into(), record.level().as_str().to_lowercase().into());
    pairs.0.insert("message".into(), shortened(&record.args().to_string()).into());
    record.key_values().visit(&mut pairs).map_err(io::Error::other)?;
    writeln!(out, "{}", plain_text::json(&serde_json::Value::Object(pairs.0).to_string()))
}
