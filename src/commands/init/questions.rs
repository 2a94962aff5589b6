//! What is asked where no URL is named: driver, place, database, user and password, each with a default.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::targets::{TypedPassword, TypedTarget, entry_of};
use super::terminal_input::Terminal;
use crate::commands::print_stderr_line;
use crate::driver::{Drivers, Endpoint};
use crate::error::Error;
use crate::secret::Secret;

/// What stays as it is in a part of a URL.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// … in the path of a file.
const PLAIN_PATH: &AsciiSet = &PLAIN.remove(b'/').remove(b' ').remove(b'+').remove(b',').remove(b'@');

/// Asks.
///
/// # Errors
/// The input ended.
pub(super) fn ask(terminal: &Terminal) -> Result<TypedTarget, Error> {
    print_stderr_line(
        "Which database? Enter takes what is in brackets, Ctrl-C ends. A configuration for several: sql-exporter init URL…",
    );
    let driver = ask_driver(terminal)?;
    // What a driver needs to know is what its endpoint has.
    let endpoint = entry_of(&format!("{{driver: {driver}, database: x}}"));
    match endpoint.as_deref().and_then(Endpoint::connection_config) {
        Some(login) => {
            let port = login.hosts.first().map_or(0, |host| host.port);
            let has_databases =
                endpoint.as_ref().is_some_and(|endpoint| endpoint.with_database("x").is_some());
            ask_server(terminal, driver, port, has_databases)
        }
        None => ask_file(terminal, driver),
    }
}

fn ask_driver(terminal: &Terminal) -> Result<&'static str, Error> {
    let drivers = Drivers::built_in();
    let names: Vec<&str> = drivers.names().collect();
    loop {
        let answer = terminal.line(&format!("Driver ({})", names.join(", ")), "postgres")?;
        match names.iter().find(|name| name.eq_ignore_ascii_case(&answer)) {
            Some(driver) => return Ok(driver),
            None => print_stderr_line(&format!("There is no driver {answer:?}.")),
        }
    }
}

fn ask_server(
    terminal: &Terminal,
    driver: &'static str,
    default_port: u16,
    has_databases: bool,
) -> Result<TypedTarget, Error> {
    let host = terminal.line("Host", "localhost")?;
    let port = loop {
        match terminal.line("Port", &default_port.to_string())?.parse::<u16>() {
            Ok(port) if port > 0 => break port,
            _ => print_stderr_line("A port is a number from 1 to 65535."),
        }
    };
    let user = terminal.line("User", &whoami::username().unwrap_or_default())?;
    let database = match (has_databases, driver) {
        (false, _) => String::new(),
        // MySQL has no database by default; the one of PostgreSQL is the user's name, which rarely exists.
        (true, "mysql" | "mariadb") => terminal.line("Database (none sees all)", "none")?,
        (true, _) => terminal.line("Database", "postgres")?,
    };
    let database = if database == "none" { String::new() } else { database };
    let password = terminal.password("Password (not shown; Enter for none)")?;
    let encoded = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = if bare.contains(':') { format!("[{bare}]") } else { encoded(bare) };
    let user = if user.is_empty() { user } else { encoded(&user) + "@" };
    let database = if database.is_empty() { database } else { format!("/{}", encoded(&database)) };
    Ok(TypedTarget {
        url: format!("{driver}://{user}{host}:{port}{database}"),
        password: TypedPassword::of_answer(password),
    })
}

fn ask_file(terminal: &Terminal, driver: &'static str) -> Result<TypedTarget, Error> {
    let file = loop {
        let file = terminal.line("File", "")?;
        if !file.is_empty() {
            break file;
        }
        print_stderr_line("Write the path of the database file.");
    };
    let slashes = if file.starts_with('/') { "//" } else { "" };
    let file = utf8_percent_encode(&file, PLAIN_PATH);
    let driver =
        Drivers::built_in().find(driver).and_then(|driver| driver.names().first()).unwrap_or(&driver);
    Ok(TypedTarget { url: format!("{driver}:{slashes}{file}"), password: None })
}

/// Asks for the password of a server that wants one.
///
/// # Errors
/// The input ended.
pub(super) fn ask_password(terminal: &Terminal, target: &str) -> Result<Option<TypedPassword>, Error> {
    let password: Secret = terminal.password(&format!("Password for {target} (not shown)"))?;
    Ok(TypedPassword::of_answer(password))
}
