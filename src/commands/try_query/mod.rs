//! `try`: one query, or any SQL, once on one target. Exit 0 when it worked, 1 when the query or the connection failed, 2
//! for wrong words or a wrong configuration.
//!
//! It chooses and runs through `check::trial`; `text` and `json` print what came of it. (`try` is a word of Rust's.)

mod json;
mod text;

use std::io::Read;
use std::time::Duration;

use argh::FromArgs;

use super::run::start;
use super::settings::{GlobalArgs, Settings, environment};
use super::terminal::Progress;
use crate::config::Config;
use crate::config::database::Database;
use crate::driver::{Drivers, Sql};
use crate::error::Error;
use crate::file;
use crate::inspect::try_query;
use crate::inspect::try_query::{Ask, Grip, What};

use super::{Print, print_json, print_text};

/// More SQL than this is none.
const MAX_SQL: u64 = 1 << 20;

/// Run one query once and show its rows, what becomes of them and where the time goes: exit 0 good, 1 it failed, 2 wrong words or configuration.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "try",
    help_triggers("-h", "--help", "help"),
    example = "Look at a configured query, and at the database's plan for it:\n  {command_name} -c shop.yaml --query orders --plan",
    example = "Begin a new query with its SQL; a definition to paste is proposed:\n  {command_name} -c shop.yaml --target shop --sql 'SELECT status, count(*) AS orders FROM orders GROUP BY status'"
)]
pub struct Options {
    /// the query, by its name
    #[argh(option)]
    query: Option<String>,

    /// any SQL instead; `-` reads it from stdin
    #[argh(option)]
    sql: Option<String>,

    /// where; may be left out when only one target can be meant
    #[argh(option)]
    target: Option<String>,

    /// how many rows to show (default 10)
    #[argh(option, default = "10")]
    rows: usize,

    /// show how the database would run it, without running it for that
    #[argh(switch)]
    plan: bool,

    /// how long all of it may take (default 60s)
    #[argh(option, default = "Duration::from_secs(60)", from_str_fn(super::read_timeout))]
    timeout: Duration,

    /// text (default) or json
    #[argh(option, default = "Print::Text", from_str_fn(Print::read))]
    format: Print,
}

/// Runs it and prints. Blocks, at most for `--timeout` and a moment.
///
/// # Errors
/// Wrong words, a wrong configuration; what the database says is printed and told by the exit code.
pub fn run(words: &GlobalArgs, options: &Options) -> Result<u8, Vec<Error>> {
    let sql = options.sql.as_deref().map(statement).transpose().map_err(|error| vec![error])?;
    let settings = Settings::new(words, &environment).map_err(|error| vec![error])?;
    let plan = settings.load(&environment, &Drivers::built_in())?;
    super::start_logging(&plan, &settings.warnings);
    let (target, what) = choose(&plan, options, sql).map_err(|error| vec![error])?;
    let (rows, explain, timeout) = (options.rows, options.plan, options.timeout);
    let ask = Ask { plan: &plan, target, what, rows, explain, timeout };
    let grip = Grip::default();
    let outside = grip.clone();
    let _interruption = start::at_signal(move || outside.stop()).map_err(|error| vec![error])?;
    let progress = Progress::start(format!("running on target {}", target.name));
    let trial = try_query::run(&ask, &grip);
    drop(progress);
    if trial.interrupted {
        // Whoever did it ends the process, with the exit code of the signal.
        loop {
            std::thread::park();
        }
    }
    match options.format {
        Print::Text => print_text(&text::render(&ask, &trial)),
        Print::Json => print_json(&json::document(&ask, &trial)),
    }
    .map_err(|error| vec![error])?;
    Ok(u8::from(trial.error.is_some()))
}

/// The SQL that `--sql` means.
fn statement(word: &str) -> Result<Sql, Error> {
    let mut text = word.to_owned();
    if word == "-" {
        let mut bytes = Vec::new();
        let failed = |why: &dyn std::fmt::Display| Error::config(format!("--sql -: stdin: {why}"));
        std::io::stdin().lock().take(MAX_SQL).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        text = file::decode_text(bytes).map_err(|unread| failed(&unread))?;
    }
    let sql = Sql::new(&text);
    if sql.text().is_empty() { Err(Error::config("--sql holds no statement")) } else { Ok(sql) }
}

fn choose<'p>(plan: &'p Config, options: &Options, sql: Option<Sql>) -> Result<(&'p Database, What), Error> {
    let target = options.target.as_deref();
    let (target, what) = match (&options.query, sql) {
        (Some(query), None) => {
            let (target, query) = try_query::query(plan, query, target)?;
            (target, What::Query(query))
        }
        (None, Some(sql)) => (try_query::target(plan, target)?, What::Statement(sql)),
        (Some(_), Some(_)) => return Err(Error::config("--query and --sql do not go together: name one")),
        (None, None) => {
            let error = Error::config("there is nothing to try");
            return Err(error.with_hint("write --query NAME or --sql 'SELECT …'"));
        }
    };
    if target.endpoint.is_none() {
        let driver = target.driver;
        return Err(Error::config(format!("target {}: the driver {driver} is not built in", target.name)));
    }
    Ok((target, what))
}
