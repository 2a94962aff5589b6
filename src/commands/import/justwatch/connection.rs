//! `connections`: an address, or a special form of one → the keys of a target, and what the labels of its samples say.

use crate::commands::import::address::AddressParts;
use crate::commands::import::address::dburl::{AddressReader, SeparateLogin};
use crate::commands::import::drivers::SourceDriver;
use crate::commands::import::model::{Entry, Value};
use crate::commands::import::report::Report;
use crate::commands::settings::variables;
use crate::error::SourcePosition;

/// What begins and ends the name of a variable in the source. The second pair is that of the published example for Kubernetes.
const TEMPLATES: [(&str, &str); 2] = [("{{", "}}"), ("[[", "]]")];

/// What a connection is.
pub(super) struct ConnectionEntry {
    pub(super) driver: SourceDriver,
    /// The keys of the target, but for `session_sql`.
    pub(super) entry: Entry,
    /// The labels that the exporter adds: `driver`, `host`, `database`, `user`; none where a variable holds the address.
    pub(super) labels: Vec<(&'static str, String)>,
}

impl ConnectionEntry {
    /// Whether the queries run on the databases that the target discovers, in place of the target.
    pub(super) fn discovers(&self) -> bool {
        self.entry.get("discover").is_some()
    }
}

/// A connection as the source has it.
pub(super) struct WrittenConnection<'r> {
    /// The name of the target that it is to be.
    pub(super) name: String,
    pub(super) place: SourcePosition,
    pub(super) report: &'r Report,
    /// The address, with `${NAME}` for variables.
    pub(super) address: String,
}

/// Whether a text between two marks is the name of a variable.
pub(super) fn is_name(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// The text with `${NAME}` for each variable.
pub(super) fn with_variables(text: &str) -> String {
    TEMPLATES.iter().fold(text.to_owned(), |text, (start, end)| {
        let (mut out, mut rest) = (String::new(), text.as_str());
        while let Some((before, (name, after))) =
            rest.split_once(start).and_then(|(before, rest)| Some((before, rest.split_once(end)?)))
        {
            out.push_str(before);
            match is_name(name) {
                true => out += &format!("${{{}}}", name.trim().to_ascii_uppercase()),
                false => out.extend([start, name, end]),
            }
            rest = after;
        }
        out + rest
    })
}

/// Text of the source, which may hold variables, as a value.
pub(super) fn templated(text: &str, report: &Report) -> Value {
    let literal = text.replace("${", "$${");
    let expanded = with_variables(&literal);
    if expanded == literal {
        return Value::from(text);
    }
    uses(&expanded, report);
    Value::Expanded(expanded)
}

/// Lists the variables of a text, which may be a name.
fn uses(text: &str, report: &Report) {
    variables(text).for_each(|(name, _)| drop(report.of_source(name, "as before", "a")));
}

/// The name of the metric of a query: what a name cannot have is left out.
pub(super) fn metric_name(query: &str, report: &Report) -> Value {
    let legal =
        |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':'), "");
    let text = with_variables(&query.replace('$', ""));
    uses(&text, report);
    let mut name = "sql_".to_owned();
    let mut rest = text.as_str();
    while let Some((before, (variable, after))) =
        rest.split_once("${").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        name += &format!("{}${{{variable}}}", legal(before));
        rest = after;
    }
    Value::Expanded(name + &legal(rest))
}

impl WrittenConnection<'_> {
    /// Names for the target, the best first.
    pub(super) fn names(&self) -> Vec<String> {
        let clean = |text: &str| -> String {
            let legal = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
            text.chars().filter(|c| !"${}".contains(*c)).map(legal).collect()
        };
        let names = match self.parts() {
            // The instance of `PROJECT:REGION:INSTANCE`.
            Some(parts) if parts.scheme.starts_with("cloudsql") => {
                let instance = parts.host.rsplit(':').next().unwrap_or_default();
                [Some(parts.path).filter(|path| !path.contains('*')).unwrap_or_default(), instance]
            }
            Some(parts) => {
                let database = Some(parts.path).filter(|path| !path.contains("clude:"));
                let host = parts.host.split(':').next().unwrap_or_default();
                [database.unwrap_or_default().trim_start_matches('/'), host]
            }
            // Of another text any part may be a piece of a password.
            None if self.address.starts_with("${") => [self.address.as_str(), ""],
            None => ["", ""],
        };
        let mut names: Vec<String> = names.map(clean).into_iter().filter(|name| !name.is_empty()).collect();
        if self.parts().is_none() {
            names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        }
        names.push(names.join("_"));
        names.retain(|name| !name.is_empty());
        if names.is_empty() { vec!["db".to_owned()] } else { names }
    }

    fn parts(&self) -> Option<AddressParts<'_>> {
        AddressParts::of(&self.address).filter(|parts| parts.has_slashes)
    }

    /// What the connection is; `None`, reported, where it is not one. `hints` are texts that may speak of the driver where a
    /// variable holds the address.
    pub(super) fn read<'h>(&self, hints: impl FnOnce() -> Vec<&'h str>) -> Option<ConnectionEntry> {
        let mut entry = Entry::at(self.place.clone());
        let mut reader = AddressReader {
            target: &self.name,
            report: self.report,
            fallback: SourceDriver::Ours("postgres"),
            login: SeparateLogin::default(),
        };
        let Some(parts) = self.parts() else {
            reader.fallback = SourceDriver::told([self.address.as_str()], hints()).unwrap_or(reader.fallback);
            let driver = reader.set(&mut entry, &self.address).map_or(reader.fallback, SourceDriver::Ours);
            return Some(ConnectionEntry { driver, entry, labels: Vec::new() });
        };
        let scheme = parts.scheme.trim_start_matches("rds-").to_owned();
        let port = if scheme == "mysql" { ":3306" } else { "" };
        let host = match parts.host {
            "" if !port.is_empty() => format!("127.0.0.1{port}"),
            host if host.contains([':', '/']) => host.to_owned(),
            host => format!("{host}{port}"),
        };
        let (database, user) = (parts.path.to_owned(), parts.user.to_owned());
        let labels = vec![("driver", scheme), ("host", host), ("database", database), ("user", user)];
        let driver = match parts.scheme.as_str() {
            "postgres" | "postgresql" | "pg" => self.postgres(&reader, &parts, &mut entry),
            "mysql" => reader.set(&mut entry, &self.address).ok()?,
            "rds-postgres" | "rds-mysql" => self.rds(&reader, &parts, &mut entry),
            "cloudsql-postgres" | "cloudsql-mysql" => self.cloud_sql(&reader, &parts, &mut entry)?,
            scheme => {
                let driver = match SourceDriver::of_scheme(scheme) {
                    lacking @ SourceDriver::Lacking(_) => lacking,
                    // That exporter has no such driver.
                    SourceDriver::Ours(_) => SourceDriver::Lacking(scheme.to_owned().into()),
                };
                return Some(ConnectionEntry { driver, entry, labels });
            }
        };
        Some(ConnectionEntry { driver: SourceDriver::Ours(driver), entry, labels })
    }

    fn postgres(
        &self,
        reader: &AddressReader<'_>,
        parts: &AddressParts<'_>,
        entry: &mut Entry,
    ) -> &'static str {
        let mut address = self.address.clone();
        for (mode, not) in [("include:", ""), ("exclude:", "NOT ")] {
            let Some(patterns) = parts.path.strip_prefix(mode) else { continue };
            address = address.replacen(&format!("/{mode}{patterns}"), "/postgres", 1);
            let patterns = patterns.replace(',', "|").replace('\'', "''");
            let sql = format!(
                "SELECT datname AS database FROM pg_database WHERE NOT datistemplate AND {not}datname ~ '{patterns}'"
            );
            entry.set("discover", Value::map([("sql", Value::Sql(sql))]));
        }
        reader.set(entry, &address).unwrap_or("postgres")
    }

    /// An address for which that exporter makes a token of AWS in place of a password.
    fn rds(&self, reader: &AddressReader<'_>, parts: &AddressParts<'_>, entry: &mut Entry) -> &'static str {
        let (ours, usual) =
            if parts.scheme == "rds-mysql" { ("mysql", "3306") } else { ("postgres", "5432") };
        let (host, port) = parts.host.split_once(':').unwrap_or((parts.host, usual));
        entry.set("driver", ours);
        for (key, text) in [("host", host), ("database", parts.path), ("username", parts.user)] {
            entry.set(key, reader.expanded(text));
        }
        entry.set_if("port", Some(port).filter(|port| *port != usual).map(|port| reader.expanded(port)));
        let region = self.report.variable("AWS_REGION", "the region of AWS, as before", "eu-west-1");
        let command =
            ["aws", "rds", "generate-db-auth-token", "--hostname", host, "--port", port, "--username"];
        let words = command.into_iter().chain([parts.user, "--region"]).map(|word| reader.expanded(word));
        entry.set("password_command", Value::List(words.chain([Value::Expanded(region)]).collect()));
        entry.set("tls", Value::map([("mode", "require")]));
        self.report.note(
            self.place.clone(),
            "the exporter made the token of AWS itself: the command `aws` of `password_command` makes it now",
        );
        ours
    }

    /// `cloudsql-postgres://user:password@PROJECT:REGION:INSTANCE/database`
    fn cloud_sql(
        &self,
        reader: &AddressReader<'_>,
        parts: &AddressParts<'_>,
        entry: &mut Entry,
    ) -> Option<&'static str> {
        if parts.host.contains('*') {
            let message =
                "a pattern of Cloud SQL instances has no counterpart: write a connection for each instance";
            self.report.left_out(self.place.clone(), message);
            return None;
        }
        let ours = if parts.scheme == "cloudsql-mysql" { "mysql" } else { "postgres" };
        entry.set("driver", ours);
        let what = format!("where the Cloud SQL Auth Proxy of {} listens, such as localhost", parts.host);
        let host = self.report.variable(&format!("{}_HOST", self.name), &what, "localhost");
        entry.set("host", Value::Expanded(host));
        entry.set("username", reader.expanded(parts.user));
        let password = Some(parts.password).filter(|password| !password.is_empty());
        entry.set_if("password", password.map(|password| Value::Expanded(reader.password(password, ""))));
        if parts.path.contains('*') {
            let like = parts.path.replace('\'', "''").replace('_', "\\_").replace('*', "%");
            let databases = if ours == "postgres" {
                entry.set("database", "postgres");
                "SELECT datname AS database FROM pg_database WHERE NOT datistemplate AND datname"
            } else {
                "SELECT schema_name AS `database` FROM information_schema.schemata WHERE schema_name"
            };
            let sql = format!("{databases} LIKE '{like}'");
            entry.set("discover", Value::map([("sql", Value::Sql(sql))]));
        } else {
            entry.set("database", reader.expanded(parts.path));
        }
        self.report.note(
            self.place.clone(),
            "the exporter had a connector of Google Cloud: run the Cloud SQL Auth Proxy, and set the variable to where it listens",
        );
        Some(ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_one_form_before_the_address_is_taken_apart() {
        let text = "postgres://u:{{ pass }}@[[HOST]]/db{{";
        assert_eq!(with_variables(text), "postgres://u:${PASS}@${HOST}/db{{");
        let value = templated(text, &Report::default());
        assert_eq!(value, Value::Expanded("postgres://u:${PASS}@${HOST}/db{{".to_owned()));
    }

    #[test]
    fn the_form_of_the_go_driver() {
        let address = "mysql://u:p@/w@tcp(db.example:3307)/shop?tls=true";
        let AddressParts { user, password, is_socket, host, path, query, .. } =
            AddressParts::of(address).unwrap();
        assert_eq!((user, password, is_socket), ("u", "p@/w", false));
        assert_eq!((host, path, query.as_slice()), ("db.example:3307", "shop", &[("tls", "true")][..]));
    }
}
