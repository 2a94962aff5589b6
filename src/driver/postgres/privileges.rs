//! What the user of a session may do: its attributes, its roles, the tables that it owns or may write.
//!
//! It looks at the user that logged in, whatever role `session_sql` took. One more excess privilege is a line in
//! [`ATTRIBUTES`] or [`ROLES`].

use crate::deadline::Deadline;
use crate::driver::privileges::suggested_reader_name;
use crate::driver::{Privileges, bounded_text, refused_functions};

use super::connection::{ExchangeError, PgConnection, TextRow};

/// How many tables are looked at: on a server with more these are enough.
const MAX_TABLES: usize = 10_000;
/// How many schemas the statements name.
const MAX_SCHEMAS: usize = 8;

/// Attributes of a role (the documentation's `CREATE ROLE`), and what they mean.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("rolcreaterole", "may make and change roles (CREATEROLE)"),
    ("rolcreatedb", "may make databases (CREATEDB)"),
    (
        "rolreplication",
        "may replicate, which reads everything and keeps WAL from being removed (REPLICATION)",
    ),
    ("rolbypassrls", "sees rows that row security hides (BYPASSRLS)"),
];

/// Predefined roles (the documentation's chapter of that name) that no reader needs.
const ROLES: &[&str] = &[
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_signal_backend",
    "pg_write_all_data",
    "pg_write_server_files",
];

/// How many functions are named.
const MAX_FUNCTIONS: usize = 5;

/// Asks the server. Three round trips.
pub(super) fn ask(connection: &mut PgConnection, by: Deadline) -> Result<Privileges, ExchangeError> {
    let mut ask = |question: String| -> Result<TextRow, ExchangeError> {
        Ok(connection.ask_catalog(&question, by)?.pop().unwrap_or_default())
    };
    let (role, tables, functions) = (ask(about_role())?, ask(about_tables())?, ask(about_functions())?);
    let user = bounded_text::name(text(&role, 0).unwrap_or_default());
    let risks = risks(&user, &role, &tables, &functions);
    let risks = risks.iter().map(String::as_str).map(bounded_text::message).collect();
    let grants = || grants(suggested_reader_name(&user), text(&tables, 4).unwrap_or("public"));
    Ok(Privileges::of(Some(user.clone()), risks, grants))
}

/// What PgBouncer's console reports: whether the user is one of `admin_users`. One round trip.
pub(super) fn ask_console(
    connection: &mut PgConnection,
    user: &str,
    by: Deadline,
) -> Result<Privileges, ExchangeError> {
    let rows = connection.ask("SHOW CONFIG", by)?;
    let admins = rows.iter().find(|row| text(row, 0) == Some("admin_users")).and_then(|row| text(row, 1));
    let is_admin = admins.unwrap_or_default().split(',').any(|name| name.trim() == user);
    let risk = format!("{user} is one of admin_users and may PAUSE, KILL and SHUTDOWN the pooler");
    let risks = if is_admin { vec![risk] } else { Vec::new() };
    let grants = || {
        let reader = suggested_reader_name(user);
        vec![format!("stats_users = {reader}  ; in pgbouncer.ini, with a line for it in its auth_file")]
    };
    Ok(Privileges::of(Some(user.to_owned()), risks, grants))
}

/// Columns: the user, superuser, those of [`ATTRIBUTES`], its roles among [`ROLES`].
fn about_role() -> String {
    let attributes: String = ATTRIBUTES.iter().map(|(column, _)| format!(", r.{column}")).collect();
    format!(
        "SELECT session_user, r.rolsuper{attributes}, (SELECT pg_catalog.string_agg(m.rolname, ', ' ORDER BY m.rolname) \
         FROM pg_catalog.pg_roles m WHERE m.rolname IN ('{}') AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')) \
         FROM pg_catalog.pg_roles r WHERE r.rolname = session_user",
        ROLES.join("', '")
    )
}

/// Columns: how many tables it owns, the first of them; how many others it may write, the first; the schemas.
/// `has_any_column_privilege` counts those on whole tables too.
fn about_tables() -> String {
    format!(
        "SELECT count(*) FILTER (WHERE owns), min(name) FILTER (WHERE owns), \
         count(*) FILTER (WHERE writes AND NOT owns), min(name) FILTER (WHERE writes AND NOT owns), \
         pg_catalog.array_to_string((pg_catalog.array_agg(DISTINCT schema))[1:{MAX_SCHEMAS}], ', ') \
         FROM (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, \
         pg_catalog.quote_ident(n.nspname) AS schema, \
         pg_catalog.pg_has_role(session_user, c.relowner, 'MEMBER') AS owns, \
         pg_catalog.has_schema_privilege(session_user, n.oid, 'USAGE') AND \
         (pg_catalog.has_table_privilege(session_user, c.oid, 'DELETE, TRUNCATE') OR \
         pg_catalog.has_any_column_privilege(session_user, c.oid, 'INSERT, UPDATE')) AS writes \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' \
         AND n.nspname <> 'information_schema' LIMIT {MAX_TABLES}) AS tables"
    )
}

/// One column: the names of the functions that its read-only mode does not stop, and that it may execute although not
/// everybody may.
fn about_functions() -> String {
    let names: Vec<&str> =
        refused_functions::FUNCTIONS.iter().flat_map(|(_, names)| *names).copied().collect();
    format!(
        "SELECT pg_catalog.string_agg(DISTINCT proname, ' ' ORDER BY proname) FROM pg_catalog.pg_proc \
         WHERE proname IN ('{}') AND pg_catalog.has_function_privilege(session_user, oid, 'EXECUTE') \
         AND NOT pg_catalog.has_function_privilege('public', oid, 'EXECUTE')",
        names.join("', '")
    )
}

fn risks(user: &str, role: &TextRow, tables: &TextRow, functions: &TextRow) -> Vec<String> {
    let holds = |column| text(role, column) == Some("t");
    if holds(1) {
        return vec![format!("{user} is a superuser: nothing is denied to it")];
    }
    let attributes = ATTRIBUTES.iter().enumerate().filter(|(index, _)| holds(index + 2));
    let mut risks: Vec<String> = attributes.map(|(_, (_, risk))| format!("{user} {risk}")).collect();
    if let Some(roles) = text(role, 2 + ATTRIBUTES.len()) {
        risks.push(format!("{user} is a member of {roles}"));
    }
    let counted = |what, count: usize| {
        let number: usize = text(tables, count)?.parse().ok()?;
        let first = text(tables, count + 1)?;
        let more = number.saturating_sub(1);
        let others = if more > 0 { format!(" and {more} more") } else { String::new() };
        let plural = if more > 0 { "tables" } else { "the table" };
        Some(format!("{user} {what} {plural} {first}{others}"))
    };
    risks.extend(counted("owns", 0));
    risks.extend(counted("may write", 2));
    if let Some(names) = text(functions, 0) {
        let names: Vec<&str> = names.split(' ').collect();
        let (named, more) = names.split_at(names.len().min(MAX_FUNCTIONS));
        let more =
            if more.is_empty() { String::new() } else { format!(" and {} more functions", more.len()) };
        let named = named.join(", ");
        risks.push(format!("{user} may execute {named}{more}, which the read-only mode does not stop"));
    }
    risks
}

fn grants(reader: &str, schemas: &str) -> Vec<String> {
    vec![
        format!("CREATE ROLE {reader} LOGIN PASSWORD '…';"),
        format!("GRANT pg_monitor TO {reader};"),
        format!("GRANT USAGE ON SCHEMA {schemas} TO {reader};"),
        format!("GRANT SELECT ON ALL TABLES IN SCHEMA {schemas} TO {reader};"),
    ]
}

fn text(row: &TextRow, column: usize) -> Option<&str> {
    row.get(column)?.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> TextRow {
        values.iter().map(|value| (*value != "-").then(|| (*value).to_owned())).collect()
    }

    #[test]
    fn each_power_is_a_sentence_and_a_superusers_is_one() {
        let role = row(&["app", "f", "t", "f", "f", "f", "pg_write_all_data"]);
        let tables = row(&["1", "public.a", "3", "public.b", "public"]);
        assert_eq!(
            risks("app", &role, &tables, &row(&["dblink pg_reload_conf"])),
            [
                "app may make and change roles (CREATEROLE)",
                "app is a member of pg_write_all_data",
                "app owns the table public.a",
                "app may write tables public.b and 2 more",
                "app may execute dblink, pg_reload_conf, which the read-only mode does not stop",
            ]
        );
        let role = row(&["postgres", "t", "t", "t", "t", "t", "pg_write_all_data"]);
        assert_eq!(
            risks("postgres", &role, &tables, &row(&["-"])),
            ["postgres is a superuser: nothing is denied to it"]
        );
    }

    #[test]
    fn a_reader_has_no_risks() {
        let role = row(&["exporter", "f", "f", "f", "f", "f", "-"]);
        assert!(risks("exporter", &role, &row(&["0", "-", "0", "-", "public"]), &row(&["-"])).is_empty());
    }
}
