//! The example of an own query: statistics of the user's largest table, or of the database.

use super::names::MetricNames;
use super::targets::NewTarget;
use crate::config::target::TargetConfig;
use crate::driver::bounded_text;
use crate::driver::user_tables::{StatisticsValue, UserTable};
use crate::inspect::server_profile::ServerProfile;
use crate::plain_text::one_line;
use crate::yaml::writer::{block, comment, scalar};

/// The longest name of a table in a text for people, in bytes.
const LONGEST_SHOWN: usize = 80;

/// The query as an item of `queries`. `among_several`: it says on which target it runs. `None` where the database has no
/// tables to ask about.
pub(super) fn query(
    target: &NewTarget,
    config: &TargetConfig,
    profile: &ServerProfile,
    among_several: bool,
    names: &mut MetricNames,
) -> Option<String> {
    let tables = config.endpoint.as_ref()?.user_tables()?;
    let (statement, subject, about) = match &profile.largest_table {
        Some(table) => {
            let shown = shown(table);
            (
                tables.of_table(table),
                table.name.as_str(),
                format!("The largest table of {} is {shown}. Its rows are not counted.", target.name),
            )
        }
        None => (tables.of_database(), "database", without_table(target, profile)),
    };
    let suffixes: Vec<&str> = statement.values.iter().map(|value| value.suffix).collect();
    let base = names.base(&target.name, subject, &suffixes);
    let sql = block(&format!("{}\n", statement.sql), 3).unwrap_or_else(|| scalar(&statement.sql));
    let mut out = super::file::wrapped(&about, "  # ", "  # ");
    out += &format!("  - name: {base}\n");
    if among_several {
        out += &format!("    database: {}\n", scalar(&target.name));
    }
    out += &format!("    sql: {sql}\n    interval: 1m\n    metrics:\n");
    for StatisticsValue { column, suffix, help } in statement.values {
        let shown = profile.largest_table.as_ref().map(shown).unwrap_or_default();
        // Variables are expanded in a help.
        let help = scalar(&help.replace("{}", &shown).replace("${", "$${"));
        out +=
            &format!("      - name: {base}_{suffix}\n        help: {help}\n        value_column: {column}\n");
    }
    Some(out)
}

/// The name of a table for people.
fn shown(table: &UserTable) -> String {
    let UserTable { schema, name, .. } = table;
    let name = if schema == "main" { name.clone() } else { format!("{schema}.{name}") };
    let name = comment(&one_line(&bounded_text::cut(&name, LONGEST_SHOWN)));
    name.trim().to_owned()
}

fn without_table(target: &NewTarget, profile: &ServerProfile) -> String {
    let name = &target.name;
    match (&profile.server, &profile.unknown_table) {
        (_, Some(error)) => {
            let error = bounded_text::cut(&error.headline(), 2 * LONGEST_SHOWN);
            format!("The tables of {name} are not known ({error}), so this is about the database.")
        }
        (Some(_), None) => format!("No table of {name} can be asked about, so this is about the database."),
        (None, None) => format!("An example for {name}. Without --offline it is about your largest table."),
    }
}
