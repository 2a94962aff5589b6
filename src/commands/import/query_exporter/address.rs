//! `dsn`: an address of SQLAlchemy, or its parts → the keys of a target.

use super::tags::{self, TaggedText};
use crate::commands::import::address::{self, sqlalchemy};
use crate::commands::import::dialect::entries;
use crate::commands::import::drivers::SourceDriver;
use crate::commands::import::model::{Entry, Value};
use crate::commands::import::section::Section;
use crate::commands::settings::variable_name;

/// Sets the keys of the address; the driver that it is for, or `None` where there is no address. `hints` are texts that may
/// speak of the driver where a variable holds the address.
pub(super) fn read<'h>(
    database: &Section<'_>,
    name: &str,
    entry: &mut Entry,
    hints: impl FnOnce() -> Vec<&'h str>,
) -> Option<SourceDriver> {
    let is_parts = database
        .take("dsn")
        .is_some_and(|dsn| entries(&dsn.node).iter().any(|entry| !entry.key.starts_with('!')));
    if is_parts {
        return parts(&database.section("dsn")?, name, entry);
    }
    if !database.has("dsn") {
        database.leave_out(format!("the database {name} has no `dsn`"));
        return None;
    }
    let text = match tags::text(database, "dsn")? {
        // As versions before 4 write the tags.
        TaggedText::Plain(text) => match (text.strip_prefix("env:"), text.strip_prefix("file:")) {
            (Some(variable), _) => TaggedText::Variable(variable.to_owned()),
            (_, Some(file)) => TaggedText::File(file.to_owned()),
            _ => TaggedText::Plain(text),
        },
        text => text,
    };
    let variable = match text {
        TaggedText::Plain(text) => return of_text(database, &text, name, entry),
        TaggedText::Variable(variable) => variable,
        // A file with an address holds a password as a rule.
        TaggedText::File(file) => {
            let note = format!("the file {file} holds an address of SQLAlchemy: a variable stands for it");
            database.note("dsn", note);
            variable_name(&format!("{name}_DSN"))
        }
    };
    let driver =
        SourceDriver::told([variable.as_str(), name], hints()).unwrap_or(SourceDriver::Ours("postgres"));
    if matches!(driver, SourceDriver::Ours(_)) {
        address::set_variable(entry, Some(&variable), name, &driver, ", without `+DRIVER`", database.report);
    }
    Some(driver)
}

/// `dialect[+driver]://user:password@host:port/database?option=value`
fn of_text(database: &Section<'_>, text: &str, name: &str, entry: &mut Entry) -> Option<SourceDriver> {
    let Some((scheme, _)) = text.split_once("://") else {
        database.left_out("dsn", "the address is not DIALECT://USER:PASSWORD@HOST/DATABASE");
        return None;
    };
    let driver = SourceDriver::of_scheme(scheme);
    let left_out = |message| database.left_out("dsn", message);
    match &driver {
        SourceDriver::Ours("sqlite") => {
            let url = sqlalchemy::as_url(text.split('?').next().unwrap_or_default(), left_out);
            if matches!(url.as_str(), "sqlite://" | "sqlite:" | "sqlite::memory:") {
                left_out("a database in memory is a new, empty one in each session: name a file".to_owned());
                return None;
            }
            entry.set("url", url);
        }
        SourceDriver::Ours(ours) => {
            let url = sqlalchemy::as_url(text, left_out);
            let rest = url.split_once(':').map_or("", |(_, rest)| rest);
            let url = address::without_password(&format!("{ours}:{rest}"), name, database.report);
            entry.set("url", Value::Expanded(url));
        }
        SourceDriver::Lacking(_) => {}
    }
    Some(driver)
}

/// The address in parts.
fn parts(dsn: &Section<'_>, name: &str, entry: &mut Entry) -> Option<SourceDriver> {
    let dialect = dsn.text("dialect")?;
    let driver = SourceDriver::of_scheme(&dialect);
    let SourceDriver::Ours(ours) = driver else { return Some(driver) };
    let options = dsn.pairs("options").into_iter().filter(|_| ours != "sqlite");
    let option = |(key, value): (String, String)| {
        let written = format!("{key}={}", address::encoded(&value));
        sqlalchemy::option(ours, &written).map_err(|message| dsn.left_out("options", message)).ok()?
    };
    let options: Vec<String> = options.filter_map(option).collect();
    if options.is_empty() {
        entry.set("driver", ours);
        for (theirs, key) in
            [("host", "host"), ("port", "port"), ("database", "database"), ("user", "username")]
        {
            entry.set_if(key, tags::value(dsn, theirs));
        }
    } else {
        // Only a URL takes all of them: some are keys of their own here.
        let part = |key: &str| match tags::value(dsn, key) {
            Some(Value::Text(text)) if key == "host" && text.contains(':') => format!("[{text}]"),
            Some(Value::Text(text)) => address::encoded(&text),
            Some(Value::Expanded(text)) => text,
            _ => String::new(),
        };
        let behind = |text: String, sign: char| if text.is_empty() { text } else { format!("{text}{sign}") };
        let before = |sign: char, text: String| if text.is_empty() { text } else { format!("{sign}{text}") };
        let server = format!("{}{}{}", behind(part("user"), '@'), part("host"), before(':', part("port")));
        let url = format!("{ours}://{server}/{}?{}", part("database"), options.join("&"));
        entry.set("url", Value::Expanded(address::without_password(&url, name, dsn.report)));
    }
    let password = match tags::text(dsn, "password") {
        None => None,
        Some(TaggedText::File(file)) => {
            entry.set("password_file", file);
            None
        }
        Some(TaggedText::Variable(variable)) => Some(tags::variable(dsn, &variable, "password")),
        Some(TaggedText::Plain(password)) => Some(Value::Expanded(dsn.report.password(name, &password, ""))),
    };
    entry.set_if("password", password);
    dsn.dead_keys();
    Some(driver)
}
