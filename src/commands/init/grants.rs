//! The statements that make a role with no more privileges than the packs and the example need, as comments.
//!
//! They are those of `examples/grants/`, without the comments that explain them.

use std::collections::{BTreeSet, HashMap};

use super::file::{commented, wrapped};
use super::targets::NewTarget;
use crate::config::target::TargetConfig;
use crate::driver::bounded_text;
use crate::driver::connection::ConnectionConfig;
use crate::inspect::server_profile::ServerProfile;
use crate::plain_text::is_unsafe;

/// The sessions that the scripts allow, which are those of one target.
const ONE_TARGET: u32 = 5;
/// Sessions of a target that end statements in others.
const CANCELS: u32 = 2;

/// A script, and what belongs around it.
struct Script {
    /// The flavours of servers.
    flavor: &'static str,
    /// Its name in `examples/grants/`.
    name: &'static str,
    text: &'static str,
    role: &'static str,
    /// Who runs it, and where.
    run_by: &'static str,
    /// What the number of sessions follows.
    limit: &'static str,
    /// The last statement.
    password: &'static str,
}

const SCRIPTS: [Script; 3] = [
    Script {
        flavor: "postgresql",
        name: "postgres.sql",
        text: include_str!("../../../examples/grants/postgres.sql"),
        role: "exporter",
        run_by: "as a superuser, in psql",
        limit: "CONNECTION LIMIT",
        password: r"\password exporter",
    },
    Script {
        flavor: "mysql",
        name: "mysql.sql",
        text: include_str!("../../../examples/grants/mysql.sql"),
        role: "'exporter'@'%'",
        run_by: "as an administrator, in mysql",
        limit: "MAX_USER_CONNECTIONS",
        password: "ALTER USER exporter IDENTIFIED BY '…' ACCOUNT UNLOCK;",
    },
    Script {
        flavor: "mariadb",
        name: "mariadb.sql",
        text: include_str!("../../../examples/grants/mariadb.sql"),
        role: "'exporter'@'%'",
        run_by: "as an administrator, in mariadb",
        limit: "MAX_USER_CONNECTIONS",
        password: "ALTER USER exporter IDENTIFIED BY '…' ACCOUNT UNLOCK;",
    },
];

/// A section for each kind of server.
pub(super) fn sections(targets: &[(&NewTarget, &TargetConfig, &ServerProfile)]) -> String {
    let mut out = String::new();
    for script in &SCRIPTS {
        let of_script: Vec<_> = targets
            .iter()
            .filter(|(target, _, profile)| flavor(target, profile) == script.flavor)
            .copied()
            .collect();
        if !of_script.is_empty() {
            out.push('\n');
            script.write(&of_script, &mut out);
        }
    }
    if targets.iter().any(|(target, ..)| target.driver == "pgbouncer") {
        out +=
            "\n# PgBouncer: a user in `stats_users` of pgbouncer.ini, and in its auth_file, may only look.\n";
    }
    if targets.iter().any(|(target, ..)| target.driver == "sqlite") {
        out += "\n# SQLite: the user that runs sql-exporter needs to be able to read the file. It is opened read-only.\n";
    }
    out
}

/// What the server says, else what the URL says.
fn flavor<'t>(target: &'t NewTarget, profile: &'t ServerProfile) -> &'t str {
    match (&profile.server, target.driver) {
        (Some(server), _) => &server.facts.flavor,
        (None, "postgres") => "postgresql",
        (None, "mysql") if target.scheme == "mariadb" => "mariadb",
        (None, driver) => driver,
    }
}

impl Script {
    fn write(&self, targets: &[(&NewTarget, &TargetConfig, &ServerProfile)], out: &mut String) {
        let Script { name, text, role, run_by, limit, password, .. } = self;
        *out +=
            &wrapped(&format!("{}. Once for each server (its primary), {run_by}:", self.about()), "# ", "# ");
        let statements = text.lines().filter(|line| !line.starts_with("--") && !line.trim().is_empty());
        let [of_one, of_all] = [ONE_TARGET, sessions(targets)].map(|sessions| format!("{limit} {sessions}"));
        statements.for_each(|line| commented(&line.replace(&of_one, &of_all), out));
        // In the order of the targets, each once.
        let mut known = BTreeSet::new();
        for (_, config, profile) in targets.iter().filter(|(target, ..)| target.is_known) {
            if let Some(grant) = grant(config, profile, role)
                && known.insert(grant.clone())
            {
                commented(&grant, out);
            }
        }
        commented(password, out);
        *out += &wrapped(
            &format!(
                "Then name exporter as the user in the URL. examples/grants/{name} of the project says what each statement \
                 is for; without one, what it shows is absent."
            ),
            "# ",
            "# ",
        );
    }

    /// The first sentence of the script, before its details.
    fn about(&self) -> String {
        let lines = self.text.lines().map_while(|line| line.strip_prefix("--")).map(str::trim);
        let comment: Vec<&str> = lines.collect();
        let comment = comment.join(" ");
        comment.split(':').next().unwrap_or_default().trim().to_owned()
    }
}

/// Those that the server with the most targets has to allow.
fn sessions(targets: &[(&NewTarget, &TargetConfig, &ServerProfile)]) -> u32 {
    let mut servers: HashMap<String, u32> = HashMap::new();
    for (_, config, _) in targets {
        let server = config.login().map(ConnectionConfig::server).unwrap_or_default();
        let sessions = servers.entry(server).or_default();
        *sessions += config.max_connections + CANCELS;
    }
    servers.into_values().max().unwrap_or(ONE_TARGET)
}

/// What the example needs, in the database of the target.
fn grant(config: &TargetConfig, profile: &ServerProfile, role: &str) -> Option<String> {
    let of_table = || profile.largest_table.as_ref().map(|table| table.schema.clone());
    let name = config.login()?.database.clone().or_else(of_table)?;
    // A name with the end of a line would leave the comment.
    let is_plain = !name.contains(is_unsafe) && name.len() <= bounded_text::MAX_NAME_BYTES;
    config.endpoint.as_ref()?.user_tables()?.grant(&name, role).filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_says_what_it_makes() {
        for (script, about) in SCRIPTS.iter().zip([
            "A role for the exporter on PostgreSQL 12 to 18 that may monitor and nothing else",
            "A user for the exporter on MySQL 5.7 to 9.7 that may monitor and nothing else",
            "A user for the exporter on MariaDB 10.5.9 and later that may monitor and nothing else",
        ]) {
            assert_eq!(script.about(), about);
            assert_eq!(script.text.matches(&format!("{} {ONE_TARGET}", script.limit)).count(), 1);
        }
    }
}
