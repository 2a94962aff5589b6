//! The targets of the new configuration: read as the exporter reads them, named, and without their secrets.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::address::{self, FileAddress};
use super::names;
use super::variables::{self, Variables};
use crate::commands::CommandErrors;
use crate::config::target::TargetConfig;
use crate::config::{self, Config};
use crate::driver::connection::password::PasswordSource;
use crate::driver::connection::tls::TlsRequirement;
use crate::driver::{Drivers, Endpoint};
use crate::error::Error;
use crate::file;
use crate::secret::Secret;
use crate::yaml::keys::Reader;
use crate::yaml::writer::scalar;

/// A file in the current folder, from which relative paths start.
const CURRENT: &str = "./sql-exporter.yaml";

/// A database as the user named it.
pub(super) struct TypedTarget {
    /// Its URL, which may hold a password and `${VAR}`.
    pub(super) url: String,
    /// A password beside it.
    pub(super) password: Option<TypedPassword>,
}

/// The answer to a question for a password.
pub(super) enum TypedPassword {
    /// `${NAME}`: the variable has it.
    Variable(String),
    /// The password itself.
    Secret(Secret),
}

impl TypedPassword {
    /// Of what was typed; an empty password counts as no password.
    pub(super) fn of_answer(answer: Secret) -> Option<TypedPassword> {
        let name = answer.expose().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(is_part);
        match name.filter(is_name) {
            _ if answer.is_empty() => None,
            Some(name) => Some(TypedPassword::Variable(format!("${{{name}}}"))),
            None => Some(TypedPassword::Secret(answer)),
        }
    }
}

/// A target for the file.
pub(super) struct NewTarget {
    /// Its name.
    pub(super) name: String,
    /// Its URL without secrets.
    url: String,
    /// `${SHOP_PASSWORD}`.
    password: Option<String>,
    /// The driver's label, for what depends on it before anybody connects.
    pub(super) driver: &'static str,
    /// The scheme of its URL, where it has one: `mariadb`.
    pub(super) scheme: String,
    /// The database's name does not depend on a variable that is not set.
    pub(super) is_known: bool,
    /// A server on the network whose identity nobody verifies.
    pub(super) is_unverified: bool,
}

impl NewTarget {
    /// Gives it a password.
    pub(super) fn set_password(&mut self, password: TypedPassword, variables: &mut Variables) {
        self.password = Some(match password {
            TypedPassword::Variable(variable) => variable,
            TypedPassword::Secret(secret) => variables.add(&self.name, "password", secret),
        });
    }

    /// Adds its entry under `databases`, with comments before it.
    pub(super) fn write(&self, comments: &str, out: &mut String) {
        // Writing to a text cannot fail.
        let _ = write!(out, "{comments}  {}:\n    url: {}\n", scalar(&self.name), scalar(&self.url));
        if let Some(password) = &self.password {
            // `${NAME}`, which is plain where it is not inside braces.
            let _ = writeln!(out, "    password: {password}");
        }
        if self.is_unverified {
            out.push_str("    lint_off: [L010]  # Nobody verifies who the server is. Better: sslmode=verify-full, without this line.\n");
        }
    }
}

/// Reads the targets. The file is to be at `file`.
///
/// # Errors
/// A URL that is wrong; it is not shown.
pub(super) fn read(
    typed: Vec<TypedTarget>,
    file: &Path,
    variables: &mut Variables,
) -> Result<Vec<NewTarget>, Vec<Error>> {
    let (mut targets, mut faults, mut known) = (Vec::new(), Vec::new(), HashSet::new());
    let count = typed.len();
    for (index, typed) in typed.into_iter().enumerate() {
        let which = if count == 1 { "the URL".to_owned() } else { format!("URL {}", index + 1) };
        match target(typed, file, &mut known, variables) {
            Ok(target) => targets.push(target),
            Err(CommandErrors(errors)) => faults.extend(errors.iter().map(|error| about(&which, error))),
        }
    }
    if faults.is_empty() { Ok(targets) } else { Err(faults) }
}

/// A fault of a file that nobody has written, as one of an argument.
fn about(which: &str, error: &Error) -> Error {
    Error::config(format!("{which}: {}", error.message())).with_hint_if_any(error.hint())
}

fn target(
    typed: TypedTarget,
    file: &Path,
    known: &mut HashSet<String>,
    variables: &mut Variables,
) -> Result<NewTarget, CommandErrors> {
    if address::is_ambiguous(&typed.url) {
        let error = Error::config("the URL holds an `@` behind its `?`");
        let hint = "write @ and ? in a password or in a parameter as %40 and %3F";
        return Err(error.with_hint(hint).into());
    }
    let (TypedTarget { url, password }, config) = checked(typed, variables)?;
    let Some(endpoint) = &config.endpoint else {
        let names: Vec<&str> = Drivers::built_in().names().collect();
        let error = Error::config(format!("there is no driver {:?}", config.driver));
        return Err(error.with_hint(format!("drivers: {}", names.join(", "))).into());
    };
    let named = name_of(&**endpoint);
    // What a variable that is not set stands for here names nothing.
    let is_known = entry_of_url(&url, &variables.with_other_sample())
        .is_some_and(|endpoint| name_of(&*endpoint) == named);
    let name = names::target(if is_known { &named } else { "" }, known);
    let is_unverified =
        !matches!(endpoint.tls_requirement(), TlsRequirement::Local | TlsRequirement::Identity);
    let (driver, scheme) = (config.driver, url.split(':').next().unwrap_or_default().to_ascii_lowercase());
    let FileAddress { url, password: taken } = match endpoint.connection_config() {
        Some(_) => {
            let secret = given_password(&**endpoint);
            address::without_secrets(&url, secret.as_ref(), &name, variables)
        }
        None => FileAddress { url: file_url(url, &endpoint.redacted_url(), file), password: None },
    };
    let mut target = NewTarget { name, url, password: taken, driver, scheme, is_known, is_unverified };
    if let Some(password) = password {
        target.set_password(password, variables);
    }
    check_same(&target, &**endpoint, variables)?;
    Ok(target)
}

/// What was typed, and the target that it makes. A variable with a value that the URL breaks at, or takes for something else,
/// becomes a password beside it.
fn checked(
    typed: TypedTarget,
    variables: &mut Variables,
) -> Result<(TypedTarget, Arc<TargetConfig>), CommandErrors> {
    // Relative paths are those of who types.
    let as_typed = one(&format!("{{url: {}}}", scalar(&typed.url)), variables);
    let has_password = |config: &Arc<TargetConfig>| {
        config.endpoint.as_deref().is_some_and(|endpoint| given_password(endpoint).is_some())
    };
    let is_held = typed.password.is_some() || as_typed.as_ref().is_ok_and(has_password);
    let Some((url, inside)) = address::password_apart(&typed.url).filter(|_| !is_held) else {
        return Ok((typed, as_typed?));
    };
    let variable = variables.without_default(inside);
    match one(&format!("{{url: {}, password: \"{variable}\"}}", scalar(&url)), variables) {
        Ok(config) => Ok((TypedTarget { url, password: Some(TypedPassword::Variable(variable)) }, config)),
        Err(_) => Ok((typed, as_typed?)),
    }
}

/// The target without its secrets is the same one, with the same password, and its URL holds none.
fn check_same(target: &NewTarget, typed: &dyn Endpoint, variables: &Variables) -> Result<(), CommandErrors> {
    let mut entry = String::new();
    target.write("", &mut entry);
    let config = load(Path::new(CURRENT), format!("databases:\n{entry}"), variables)?;
    let written = config.targets.first().and_then(|target| target.endpoint.clone());
    let is_same = written.is_some_and(|written| {
        let is_same_password =
            given_password(typed).is_none_or(|typed| given_password(&*written) == Some(typed));
        let is_same_place =
            typed.connection_config().is_none() || written.redacted_url() == typed.redacted_url();
        is_same_password && is_same_place
    });
    // A password that is left where every variable has a known value is in the text.
    let left =
        entry_of_url(&target.url, &Variables::samples()).and_then(|endpoint| given_password(&*endpoint));
    if is_same && left.is_none_or(|left| left.expose() == variables::SAMPLE) {
        return Ok(());
    }
    let error = Error::config("the password cannot be taken out of the URL");
    let example = "'postgres://USER:${DB_PASSWORD}@HOST/DATABASE'";
    Err(error.with_hint(format!("write it as a variable, in quotes: {example}")).into())
}

fn given_password(endpoint: &dyn Endpoint) -> Option<Secret> {
    match endpoint.connection_config().map(|login| &login.password) {
        Some(PasswordSource::Given(secret)) => Some(secret.clone()),
        _ => None,
    }
}

/// What names the database, else the server: the name of the database or of the file without its suffix.
fn name_of(endpoint: &dyn Endpoint) -> String {
    match endpoint.connection_config() {
        Some(login) => {
            let host = || login.hosts.first().map(|host| host.host.clone());
            login.database.clone().or_else(host).unwrap_or_default()
        }
        None => {
            let url = endpoint.redacted_url();
            Path::new(&url).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
        }
    }
}

/// The URL of a file as typed, where the configuration is in the current folder; else the path from the root.
fn file_url(typed: String, absolute: &str, file: &Path) -> String {
    let is_here = file::folder(file).canonicalize().ok() == PathBuf::from(".").canonicalize().ok();
    if is_here || typed.contains("${") {
        return typed;
    }
    let options = typed.split_once('?').map(|(_, options)| format!("?{options}")).unwrap_or_default();
    absolute.replace('%', "%25").replace('?', "%3F") + &options
}

/// The only target of an entry.
fn one(entry: &str, variables: &Variables) -> Result<Arc<TargetConfig>, CommandErrors> {
    let config = load(Path::new(CURRENT), format!("databases: {{target: {entry}}}\n"), variables)?;
    let missing = || Error::machine("a configuration without its target");
    Ok(config.targets.into_iter().next().ok_or_else(missing)?)
}

fn entry_of_url(url: &str, variables: &Variables) -> Option<Arc<dyn Endpoint>> {
    one(&format!("{{url: {}}}", scalar(url)), variables).ok()?.endpoint.clone()
}

/// The endpoint of an entry that names a driver.
pub(super) fn entry_of(entry: &str) -> Option<Arc<dyn Endpoint>> {
    one(entry, &Variables::default()).ok()?.endpoint.clone()
}

/// Loads a text as the exporter would load the file.
///
/// # Errors
/// The faults of the text.
pub(super) fn load(file: &Path, text: String, variables: &Variables) -> Result<Config, Vec<Error>> {
    let variables = variables.clone();
    let environment = move |name: &str| variables.value(name);
    let config = config::load_or_invalid(file, Some(text), &Drivers::built_in(), Reader::new(&environment));
    config.map_err(|invalid| invalid.faults)
}
