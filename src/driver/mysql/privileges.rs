//! What the user of a session may do, from `SHOW GRANTS`: its own privileges and those of its active roles.
//!
//! A line of that answer may hold the hash of a password: only privileges and objects are taken from it. A privilege that
//! a reader may have is an entry in [`HARMLESS`].

use crate::deadline::Deadline;
use crate::driver::privileges::suggested_reader_name;
use crate::driver::{Privileges, bounded_text};

use super::errors::CallError;
use super::protocol::{ProtocolClient, answer};
use super::server_info::ServerInfo;

/// Privileges that only read, of both flavours (the manuals' tables of privileges). REFERENCES does nothing without CREATE; it
/// shows names and sizes of tables (examples/grants/).
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "USAGE", "SELECT", "EXECUTE", "SHOW DATABASES", "SHOW VIEW", "SHOW_ROUTINE", "SHOW CREATE ROUTINE",
    "PROCESS", "REPLICATION CLIENT", "REPLICATION SLAVE", "REPLICATION REPLICA", "BINLOG MONITOR",
    "SLAVE MONITOR", "REPLICA MONITOR", "BACKUP_ADMIN", "REFERENCES",
];

/// How many privileges of one grant are named, and how many grants.
const MAX_NAMED: usize = 8;

/// Asks the server. One round trip.
pub(super) fn ask(
    client: &mut ProtocolClient,
    info: &ServerInfo,
    by: Deadline,
) -> Result<Privileges, CallError> {
    client.queue_queries(&[&info.own_limits(by), "SELECT CURRENT_USER()", "SHOW GRANTS"]);
    let limits_set = answer(client.read_done(by))?;
    let user = answer(client.read_table(by))?;
    let name = user.as_ref().ok().and_then(|table| table.first()?.first()?.as_deref());
    let name = bounded_text::name(name.unwrap_or_default());
    let mut risks = Risks::default();
    let all_read = client.read_each_row(by, |row| {
        let grant = row.first().and_then(|line| Grant::read(line.as_deref()?));
        risks.extend(grant.iter().flat_map(|grant| of_grant(&name, grant)));
        Ok(())
    });
    let all_read = answer(all_read)?;
    // Now that all answers are read, whatever the server said.
    limits_set.and(user.map(drop)).and(all_read)?;
    let statements = || grant_statements(&name, info.replication_privileges());
    Ok(Privileges::of(Some(name.clone()), risks.named(&name), statements))
}

/// One `GRANT … ON … TO …`.
#[derive(Debug, PartialEq, Eq)]
struct Grant {
    privileges: Vec<String>,
    /// As the server quotes it: `*.*`, `` `shop`.* ``.
    object: String,
    /// `WITH GRANT OPTION`.
    passes_on: bool,
}

impl Grant {
    /// `None` for what grants a role, and for partial revokes.
    fn read(line: &str) -> Option<Grant> {
        let rest = line.strip_prefix("GRANT ")?;
        let (privileges, rest) = split_at(rest, " ON ")?;
        let (object, tail) = split_at(rest, " TO ")?;
        let mut names = Vec::new();
        let mut left = privileges;
        while let Some((name, rest)) = split_at(left, ",") {
            names.push(plain(name));
            left = rest;
        }
        names.push(plain(left));
        Some(Grant {
            privileges: names,
            object: bounded_text::name(object),
            passes_on: tail.contains(" WITH GRANT OPTION"),
        })
    }
}

/// A privilege without the columns that it is for.
fn plain(privilege: &str) -> String {
    bounded_text::cut(privilege.split('(').next().unwrap_or_default().trim(), bounded_text::MAX_NAME_BYTES)
}

/// What stands before and after the first `mark` outside quotes and brackets.
fn split_at<'t>(text: &'t str, mark: &str) -> Option<(&'t str, &'t str)> {
    let (mut quote, mut depth) = (None, 0_u32);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) => quote = (c != open).then_some(open),
            (None, '`' | '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, _) if depth == 0 => {
                if let Some(after) = text.get(index..).and_then(|rest| rest.strip_prefix(mark)) {
                    return Some((text.get(..index)?, after));
                }
            }
            (None, _) => {}
        }
    }
    None
}

/// The first sentences about a user's grants, of which there may be any number.
#[derive(Default)]
struct Risks {
    first: Vec<String>,
    more: usize,
}

impl Risks {
    fn extend(&mut self, risks: impl Iterator<Item = String>) {
        for risk in risks {
            if self.first.len() < MAX_NAMED { self.first.push(risk) } else { self.more += 1 }
        }
    }

    fn named(mut self, user: &str) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("{user} has {} more privileges of that kind", self.more));
        }
        self.first
    }
}

/// The sentences about one grant.
fn of_grant(user: &str, grant: &Grant) -> Vec<String> {
    let Grant { privileges, object, passes_on } = grant;
    let mut risks = Vec::new();
    let mut others = Vec::new();
    for name in privileges {
        risks.push(match name.as_str() {
            "ALL PRIVILEGES" | "ALL" => {
                let among = if object == "*.*" { ", SUPER and FILE among them" } else { "" };
                format!("{user} has ALL PRIVILEGES on {object}{among}")
            }
            "SUPER" => {
                format!("{user} has SUPER: it may change settings, end sessions and write a read-only server")
            }
            "FILE" => format!("{user} has FILE: it may read and write files on the server's machine"),
            "PROXY" => format!("{user} has PROXY: it may act as {object}"),
            name => {
                if name != "GRANT OPTION" && !HARMLESS.contains(&name) {
                    others.push(name);
                }
                continue;
            }
        });
    }
    if let Some(named) = others.get(..others.len().min(MAX_NAMED)).filter(|named| !named.is_empty()) {
        let more = others.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        risks.push(format!("{user} has {}{more} on {object}", named.join(", ")));
    }
    if *passes_on || privileges.iter().any(|name| name == "GRANT OPTION") {
        risks.push(format!("{user} may grant its privileges on {object} to others (GRANT OPTION)"));
    }
    risks
}

/// For a user on the same machines. `replication`: the flavour's privileges to see the state of replication.
fn grant_statements(user: &str, replication: &str) -> Vec<String> {
    let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    let reader = format!("'{}'@'{}'", suggested_reader_name(name), host.replace('\'', "''"));
    vec![
        format!("CREATE USER {reader} IDENTIFIED BY '…';"),
        format!("GRANT SELECT, PROCESS, {replication} ON *.* TO {reader};"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn risks_of(lines: &[&str]) -> Vec<String> {
        let mut risks = Risks::default();
        let grants = lines.iter().filter_map(|line| Grant::read(line));
        risks.extend(grants.flat_map(|grant| of_grant("u@%", &grant)));
        risks.named("u@%")
    }

    #[test]
    fn what_reads_is_no_risk() {
        let lines = [
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*94BDCEBE19083CE2A1F959FD02F964C7AF4CFC29'",
            "GRANT SELECT, PROCESS, REPLICATION CLIENT ON *.* TO `u`@`%`",
            "GRANT SELECT (`a`, `b ON c`), SHOW VIEW ON `shop`.`t` TO `u`@`%`",
            "GRANT `reader`@`%` TO `u`@`%`",
            "REVOKE SELECT ON `mysql`.* FROM `u`@`%`",
        ];
        assert_eq!(risks_of(&lines), [""; 0]);
    }

    #[test]
    fn what_writes_is_named_with_its_object() {
        assert_eq!(
            risks_of(&["GRANT SELECT, INSERT, UPDATE (`a`, `b`) ON `shop`.`t` TO `u`@`%`"]),
            ["u@% has INSERT, UPDATE on `shop`.`t`"]
        );
        assert_eq!(
            risks_of(&["GRANT FILE, PROCESS ON *.* TO 'u'@'%'"]),
            ["u@% has FILE: it may read and write files on the server's machine"]
        );
        assert_eq!(
            risks_of(&[
                "GRANT ALL PRIVILEGES ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*94BD' WITH GRANT OPTION"
            ]),
            [
                "u@% has ALL PRIVILEGES on *.*, SUPER and FILE among them",
                "u@% may grant its privileges on *.* to others (GRANT OPTION)"
            ]
        );
        assert_eq!(
            risks_of(&["GRANT ALL PRIVILEGES ON `s`.* TO `u`@`%`"]),
            ["u@% has ALL PRIVILEGES on `s`.*"]
        );
        assert_eq!(risks_of(&["GRANT PROXY ON ''@'%' TO 'u'@'%'"]), ["u@% has PROXY: it may act as ''@'%'"]);
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let names: Vec<String> = (0..12).map(|index| format!("POWER_{index}")).collect();
        let line = format!("GRANT {} ON *.* TO `u`@`%`", names.join(", "));
        assert!(risks_of(&[&line])[0].ends_with("POWER_7 and 4 more on *.*"), "{:?}", risks_of(&[&line]));
        let lines: Vec<String> = (0..12).map(|db| format!("GRANT INSERT ON `d{db}`.* TO `u`@`%`")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(risks_of(&lines).last().unwrap(), "u@% has 4 more privileges of that kind");
    }

    #[test]
    fn the_reader_comes_from_the_same_machines() {
        assert_eq!(
            grant_statements("exporter@10.%", "REPLICATION CLIENT"),
            [
                "CREATE USER 'sql_exporter'@'10.%' IDENTIFIED BY '…';",
                "GRANT SELECT, PROCESS, REPLICATION CLIENT ON *.* TO 'sql_exporter'@'10.%';"
            ]
        );
    }
}
