//! `connections`: an address, or a special form of one → the keys of a target, and what the labels of its samples say.

use crate::commands::import::dburl::DEAD_MYSQL;
use crate::commands::import::drivers::SourceDriver;
use crate::commands::import::model::{Entry, Value};
use crate::commands::import::report::Report;
use crate::commands::import::url::{self, UrlParts};
use crate::error::SourcePosition;

/// What begins and ends the name of a variable in an address on its way; a source has neither.
const TOKEN: [char; 2] = ['\u{e000}', '\u{e001}'];
/// What begins and ends it in the source. The second pair is that of the published example for Kubernetes.
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
    /// The address, with tokens in place of variables.
    text: String,
}

/// The address with a token for each variable.
pub(super) fn tokenised(text: &str) -> String {
    let mut out: String = text.chars().filter(|c| !TOKEN.contains(c)).collect();
    for (start, end) in TEMPLATES {
        let mut done = String::with_capacity(out.len());
        let mut rest = out.as_str();
        while let Some((before, (name, after))) =
            rest.split_once(start).and_then(|(before, rest)| Some((before, rest.split_once(end)?)))
        {
            done.push_str(before);
            if is_name(name) {
                done.push(TOKEN[0]);
                done.push_str(name.trim());
                done.push(TOKEN[1]);
            } else {
                [start, name, end].iter().for_each(|part| done.push_str(part));
            }
            rest = after;
        }
        done.push_str(rest);
        out = done;
    }
    out
}

/// Whether a text between two marks is the name of a variable.
pub(super) fn is_name(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a text is one variable; one that holds more than that is a secret as a whole.
fn is_token(text: &str) -> bool {
    text.starts_with(TOKEN[0]) && text.find(TOKEN[1]) == Some(text.len() - TOKEN[1].len_utf8())
}

/// Text with tokens as a value.
pub(super) fn expanded(text: &str, report: &Report, what: &str, sample: &str) -> Value {
    if !text.contains(TOKEN[0]) {
        return Value::from(text);
    }
    with_variables(&text.replace("${", "$${"), report, what, sample)
}

/// Text of the source, which may hold variables, as a value.
pub(super) fn templated(text: &str, report: &Report) -> Value {
    expanded(&tokenised(text), report, "as before", "a")
}

/// The name of the metric of a query: what a name cannot have is left out.
pub(super) fn metric_name(query: &str, report: &Report) -> Value {
    let is_kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':') || TOKEN.contains(c);
    let legal: String = tokenised(query).chars().filter(is_kept).collect();
    expanded(&format!("sql_{legal}"), report, "as before", "a")
}

/// Tokens as variables; the rest as it is.
fn with_variables(text: &str, report: &Report, what: &str, sample: &str) -> Value {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(TOKEN[0]) {
        let Some((name, after)) = after.split_once(TOKEN[1]) else { break };
        out.push_str(before);
        out.push_str(&report.variable(name, what, sample));
        rest = after;
    }
    out.push_str(rest);
    Value::Expanded(out)
}

impl<'r> WrittenConnection<'r> {
    pub(super) fn new(text: String, place: SourcePosition, report: &'r Report) -> WrittenConnection<'r> {
        WrittenConnection { name: String::new(), place, report, text }
    }

    /// Names for the target, the best first.
    pub(super) fn names(&self) -> Vec<String> {
        let clean = |text: &str| -> String {
            let text = text.rsplit(':').next().unwrap_or(text);
            let legal = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
            text.chars().filter(|c| !TOKEN.contains(c)).map(legal).collect()
        };
        let host_name = |host: &str| host.split(':').next().unwrap_or_default().to_owned();
        let names = match UrlParts::of(&self.text) {
            Some(parts) if parts.scheme == "mysql" || parts.scheme == "rds-mysql" => {
                let go = GoAddress::of(&self.text);
                vec![go.database.to_owned(), host_name(go.address)]
            }
            Some(parts) if parts.scheme.starts_with("cloudsql") => {
                let database = Some(parts.path.to_owned()).filter(|path| !path.contains('*'));
                database.into_iter().chain([parts.host.to_owned()]).collect()
            }
            Some(parts) if parts.path.contains("clude:") => vec![host_name(parts.host)],
            Some(parts) => vec![parts.path.to_owned(), host_name(parts.host)],
            None => vec![self.text.to_lowercase()],
        };
        let mut names: Vec<String> =
            names.iter().map(|name| clean(name)).filter(|name| !name.is_empty()).collect();
        names.push(names.join("_"));
        names.retain(|name| !name.is_empty());
        if names.is_empty() { vec!["db".to_owned()] } else { names }
    }

    fn expanded(&self, text: &str) -> Value {
        expanded(text, self.report, &format!("as before (a connection of {})", self.name), "1")
    }

    fn secret(&self, password: &str) -> Value {
        if is_token(password) {
            return self.expanded(password);
        }
        Value::Expanded(self.report.password(&self.name, password, ""))
    }

    /// What the connection is; `None`, reported, where it is not one. `hints` are texts that may speak of the driver where a
    /// variable holds the address.
    pub(super) fn read<'h>(&self, hints: impl FnOnce() -> Vec<&'h str>) -> Option<ConnectionEntry> {
        let mut entry = Entry::at(self.place.clone());
        let Some(parts) = UrlParts::of(&self.text) else {
            if !self.text.starts_with(TOKEN[0]) {
                self.report.left_out(
                    self.place.clone(),
                    "the connection is not DRIVER://USER:PASSWORD@HOST/DATABASE",
                );
                return None;
            }
            let driver =
                SourceDriver::told([self.text.as_str()], hints()).unwrap_or(SourceDriver::Ours("postgres"));
            if matches!(driver, SourceDriver::Ours(_)) {
                let what = format!("the URL of {}, such as {}", self.name, driver.sample());
                entry.set("url", expanded(&self.text, self.report, &what, driver.sample()));
            }
            return Some(ConnectionEntry { driver, entry, labels: Vec::new() });
        };
        let labels = vec![
            ("driver", parts.scheme.to_owned()),
            ("host", parts.host.to_owned()),
            ("database", parts.path.to_owned()),
            ("user", parts.user.to_owned()),
        ];
        let mut connection = ConnectionEntry { driver: SourceDriver::Ours("postgres"), entry, labels };
        match parts.scheme {
            "postgres" | "postgresql" | "pg" => self.postgres(&parts, &mut connection),
            "rds-postgres" => self.rds_postgres(&parts, &mut connection),
            "mysql" | "rds-mysql" => self.mysql(parts.scheme, &mut connection),
            "cloudsql-postgres" | "cloudsql-mysql" => return self.cloud_sql(&parts, connection),
            scheme => {
                connection.driver = match SourceDriver::of_scheme(scheme) {
                    lacking @ SourceDriver::Lacking(_) => lacking,
                    // That exporter has no such driver.
                    SourceDriver::Ours(_) => SourceDriver::Lacking(scheme.to_owned().into()),
                };
            }
        }
        Some(connection)
    }

    fn postgres(&self, parts: &UrlParts<'_>, connection: &mut ConnectionEntry) {
        let mut text = self.text.replacen("pg://", "postgres://", 1);
        let pattern = ["include:", "exclude:"]
            .into_iter()
            .find_map(|mode| Some((mode, parts.path.strip_prefix(mode)?)));
        if let Some((mode, patterns)) = pattern {
            text = text.replacen(&format!("/{mode}{patterns}"), "/postgres", 1);
            let patterns = patterns.replace(',', "|").replace('\'', "''");
            let not = if mode == "exclude:" { "NOT " } else { "" };
            let sql = format!(
                "SELECT datname AS database FROM pg_database WHERE NOT datistemplate AND {not}datname ~ '{patterns}'"
            );
            connection.entry.set("discover", Value::map([("sql", Value::Sql(sql))]));
        }
        // The client of that exporter requires TLS where the address does not say otherwise.
        if !parts.query.split('&').any(|option| option.starts_with("sslmode=")) {
            text.push_str(if parts.query.is_empty() { "?sslmode=require" } else { "&sslmode=require" });
        }
        connection.entry.set("url", self.url(&text, parts));
        // PgBouncer's console, which has another driver here.
        if parts.path == "pgbouncer" {
            connection.driver = SourceDriver::Ours("pgbouncer");
            connection.entry.set("driver", "pgbouncer");
        }
    }

    fn url(&self, text: &str, parts: &UrlParts<'_>) -> Value {
        let what = format!("as before (a connection of {})", self.name);
        if parts.password.is_some_and(is_token) {
            return expanded(text, self.report, &what, "1");
        }
        let text = url::without_password(text, &self.name, self.report);
        with_variables(&text, self.report, &what, "1")
    }

    /// The command that makes a token of AWS in place of a password.
    fn aws_token(&self, host: &str, port: &str, user: &str, entry: &mut Entry) {
        let region = self.report.variable("AWS_REGION", "the region of AWS, as before", "eu-west-1");
        let command =
            ["aws", "rds", "generate-db-auth-token", "--hostname", host, "--port", port, "--username", user];
        let words = command.iter().map(|word| self.expanded(word));
        let words = words.chain([Value::from("--region"), Value::Expanded(region)]);
        entry.set("password_command", Value::List(words.collect()));
        entry.set("tls", Value::map([("mode", "require")]));
        self.report.note(
            self.place.clone(),
            "the exporter made the token of AWS itself: the command `aws` of `password_command` makes it now",
        );
    }

    fn rds_postgres(&self, parts: &UrlParts<'_>, connection: &mut ConnectionEntry) {
        let entry = &mut connection.entry;
        let (host, port) = parts.host.split_once(':').unwrap_or((parts.host, "5432"));
        entry.set("driver", "postgres");
        for (key, text) in [("host", host), ("database", parts.path), ("username", parts.user)] {
            entry.set(key, self.expanded(text));
        }
        if port != "5432" {
            entry.set("port", self.expanded(port));
        }
        self.aws_token(host, port, parts.user, entry);
        for (_, value) in connection.labels.iter_mut().filter(|(name, _)| *name == "driver") {
            *value = "postgres".to_owned();
        }
    }

    fn mysql(&self, scheme: &str, connection: &mut ConnectionEntry) {
        let go = GoAddress::of(&self.text);
        let entry = &mut connection.entry;
        connection.driver = SourceDriver::Ours("mysql");
        entry.set("driver", "mysql");
        let (host, port) = match go.address.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (go.address, "3306"),
        };
        if go.protocol == "unix" {
            entry.set("socket", self.expanded(go.address));
        } else if !host.is_empty() {
            entry.set("host", self.expanded(host));
            if port != "3306" {
                entry.set("port", self.expanded(port));
            }
        }
        for (key, text) in [("database", go.database), ("username", go.user)] {
            entry.set_if(key, Some(text).filter(|text| !text.is_empty()).map(|text| self.expanded(text)));
        }
        if scheme == "rds-mysql" {
            self.aws_token(host, port, go.user, entry);
        } else {
            entry.set_if(
                "password",
                go.password.filter(|password| !password.is_empty()).map(|password| self.secret(password)),
            );
            self.go_options(go.options, entry);
        }
        let address = match (go.address, go.address.contains(':')) {
            ("", _) => "127.0.0.1:3306".to_owned(),
            (address, true) => address.to_owned(),
            (address, false) if go.protocol == "unix" => address.to_owned(),
            (address, false) => format!("{address}:3306"),
        };
        connection.labels = vec![
            ("driver", "mysql".to_owned()),
            ("host", address),
            ("database", go.database.to_owned()),
            ("user", go.user.to_owned()),
        ];
    }

    /// `tls` of the Go driver; its other options change nothing here, or are reported.
    fn go_options(&self, options: &str, entry: &mut Entry) {
        // Without the option that driver does not encrypt.
        let mut mode = "disable";
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match (key, value) {
                ("tls", "true") => mode = "verify-full",
                ("tls", "skip-verify") => mode = "require",
                ("tls", "preferred") => mode = "prefer",
                ("tls", "false") => mode = "disable",
                ("timeout", _) => {}
                (key, _) if DEAD_MYSQL.contains(&key) => {}
                (key, _) => self.report.left_out(
                    self.place.clone(),
                    format!("the option `{key}` of the connection has no counterpart"),
                ),
            }
        }
        if mode != "disable" {
            entry.set("tls", Value::map([("mode", mode)]));
        }
    }

    /// `cloudsql-postgres://user:password@PROJECT:REGION:INSTANCE/database`
    fn cloud_sql(&self, parts: &UrlParts<'_>, mut connection: ConnectionEntry) -> Option<ConnectionEntry> {
        if parts.host.contains('*') {
            let message =
                "a pattern of Cloud SQL instances has no counterpart: write a connection for each instance";
            self.report.left_out(self.place.clone(), message);
            return None;
        }
        let ours = if parts.scheme == "cloudsql-mysql" { "mysql" } else { "postgres" };
        connection.driver = SourceDriver::Ours(ours);
        let entry = &mut connection.entry;
        entry.set("driver", ours);
        let what = format!(
            "where the Cloud SQL Auth Proxy of {} listens, such as localhost",
            parts.host.replace(TOKEN, "")
        );
        entry.set(
            "host",
            Value::Expanded(self.report.variable(&format!("{}_HOST", self.name), &what, "localhost")),
        );
        entry.set("username", self.expanded(parts.user));
        entry.set_if("password", parts.password.map(|password| self.secret(password)));
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
            entry.set("database", self.expanded(parts.path));
        }
        self.report.note(
            self.place.clone(),
            "the exporter had a connector of Google Cloud: run the Cloud SQL Auth Proxy, and set the variable to where it listens",
        );
        Some(connection)
    }
}

/// `mysql://user:password@tcp(host:port)/database?options`, the form of the Go driver behind a scheme.
struct GoAddress<'t> {
    user: &'t str,
    password: Option<&'t str>,
    protocol: &'t str,
    address: &'t str,
    database: &'t str,
    options: &'t str,
}

impl<'t> GoAddress<'t> {
    fn of(text: &'t str) -> GoAddress<'t> {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        // The last `/`: a password and a socket may hold one.
        let (before, database) = text.rsplit_once('/').unwrap_or((text, ""));
        let (database, options) = database.split_once('?').unwrap_or((database, ""));
        let (login, server) = before.rsplit_once('@').unwrap_or(("", before));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let (protocol, address) = match server.split_once('(') {
            Some((protocol, address)) => (protocol, address.trim_end_matches(')')),
            None => ("tcp", server),
        };
        GoAddress { user, password, protocol, address, database, options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_tokens_until_the_address_is_taken_apart() {
        let report = Report::default();
        let text = tokenised("postgres://u:{{ pass }}@[[HOST]]/db{{");
        assert_eq!(text, "postgres://u:\u{e000}pass\u{e001}@\u{e000}HOST\u{e001}/db{{");
        let value = expanded(&text, &report, "", "1");
        assert_eq!(value, Value::Expanded("postgres://u:${PASS}@${HOST}/db{{".to_owned()));
    }

    #[test]
    fn the_form_of_the_go_driver() {
        let GoAddress { user, password, protocol, address, database, options } =
            GoAddress::of("mysql://u:p@/w@tcp(db.example:3307)/shop?tls=true");
        assert_eq!((user, password, protocol), ("u", Some("p@/w"), "tcp"));
        assert_eq!((address, database, options), ("db.example:3307", "shop", "tls=true"));
    }
}
