//! `dsn`: an address of SQLAlchemy, or its parts → the keys of a target.

use super::tags::{self, TaggedText};
use crate::commands::import::dburl;
use crate::commands::import::dialect::entries;
use crate::commands::import::drivers::SourceDriver;
use crate::commands::import::model::{Entry, Value};
use crate::commands::import::section::Section;
use crate::commands::import::url;
use crate::commands::settings::variable_name;

/// Options of an address that MySQL's clients for Python have and that are ours, too.
const OF_MYSQL: [&str; 7] =
    ["ssl_ca", "ssl_cert", "ssl_key", "ssl_mode", "unix_socket", "connect_timeout", "host"];
/// Those that change nothing here.
const NEEDLESS: [&str; 4] = ["charset", "use_unicode", "autocommit", "binary_prefix"];

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
        dburl::set_variable(entry, Some(&variable), name, &driver, ", without `+DRIVER`", database.report);
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
    match &driver {
        SourceDriver::Ours("sqlite") => {
            let url = url::of_sqlalchemy(text.split('?').next().unwrap_or_default());
            if matches!(url.as_str(), "sqlite://" | "sqlite:" | "sqlite::memory:") {
                database
                    .left_out("dsn", "a database in memory is a new, empty one in each session: name a file");
                return None;
            }
            entry.set("url", url);
        }
        SourceDriver::Ours(ours) => {
            let (address, options) = url::split_query(text);
            let address = address.split_once("://").map_or(address, |(_, address)| address);
            let options: Vec<&str> =
                options.split('&').filter(|option| keeps(database, ours, option)).collect();
            let query = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
            let address = format!("{ours}://{address}{query}");
            entry.set("url", Value::Expanded(url::without_password(&address, name, database.report)));
        }
        SourceDriver::Lacking(_) => {}
    }
    Some(driver)
}

/// Whether an option of an address is one here, too; one that is not is reported where it means something.
fn keeps(database: &Section<'_>, driver: &str, option: &str) -> bool {
    let key = option.split('=').next().unwrap_or_default();
    if driver != "mysql" || OF_MYSQL.contains(&key) {
        return !key.is_empty();
    }
    if !key.is_empty() && !NEEDLESS.contains(&key) {
        database.left_out("dsn", format!("the option `{key}` of the address has no counterpart"));
    }
    false
}

/// The address in parts.
fn parts(dsn: &Section<'_>, name: &str, entry: &mut Entry) -> Option<SourceDriver> {
    let dialect = dsn.text("dialect")?;
    let driver = SourceDriver::of_scheme(&dialect);
    let SourceDriver::Ours(ours) = driver else { return Some(driver) };
    let options =
        dsn.pairs("options").into_iter().filter(|(key, _)| ours != "sqlite" && keeps(dsn, ours, key));
    let options: Vec<String> =
        options.map(|(key, value)| format!("{key}={}", url::encoded(&value))).collect();
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
            Some(Value::Text(text)) => url::encoded(&text),
            Some(Value::Expanded(text)) => text,
            _ => String::new(),
        };
        let behind = |text: String, sign: char| if text.is_empty() { text } else { format!("{text}{sign}") };
        let before = |sign: char, text: String| if text.is_empty() { text } else { format!("{sign}{text}") };
        let server = format!("{}{}{}", behind(part("user"), '@'), part("host"), before(':', part("port")));
        let address = format!("{ours}://{server}/{}?{}", part("database"), options.join("&"));
        entry.set("url", Value::Expanded(url::without_password(&address, name, dsn.report)));
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
