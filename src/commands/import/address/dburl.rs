//! Addresses as sql_exporter takes them: URLs with the schemes of xo/dburl, and the older form of the Go driver for MySQL.
//!
//! Facts, from burningalchemist/sql_exporter bc4f8f3 and xo/dburl 7880f27: `$NAME` and `${NAME}` are environment variables in
//! all of an address. lib/pq, which all PostgreSQL schemes but `pgx` mean, has `sslmode=require` as its default. A path
//! without a host is the folder of a socket, with the database behind it.

use super::{AS_IN_URL, AddressParts, encoded, set_variable};
use crate::commands::address_text::is_secret;
use crate::commands::import::drivers::SourceDriver;
use crate::commands::import::durations;
use crate::commands::import::model::{Entry, Value};
use crate::commands::import::report::Report;
use crate::deadline::duration_text;

/// Parameters of PostgreSQL addresses that mean nothing here; those of pgx and lib/pq alone.
#[rustfmt::skip]
const DEAD_POSTGRES: [&str; 8] = [
    "binary_parameters", "disable_prepared_binary_result", "default_query_exec_mode",
    "statement_cache_capacity", "statement_cache_mode", "description_cache_capacity", "prefer_simple_protocol",
    "pool_max_conns",
];
/// Parameters of PostgreSQL addresses that are the same here. Others are settings of the session there.
#[rustfmt::skip]
const POSTGRES: [&str; 29] = [
    "host", "port", "hostaddr", "dbname", "user", "password", "passfile", "sslmode", "sslrootcert", "sslcert",
    "sslkey", "sslnegotiation", "sslsni", "sslcrl", "channel_binding", "target_session_attrs", "options",
    "connect_timeout", "load_balance_hosts", "application_name", "fallback_application_name", "keepalives",
    "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "client_encoding",
    "krbsrvname", "service",
];
/// Parameters of the Go driver for MySQL that are not variables of the session and mean nothing here.
#[rustfmt::skip]
const DEAD_MYSQL: [&str; 22] = [
    "allowAllFiles", "allowCleartextPasswords", "allowFallbackToPlaintext", "allowNativePasswords",
    "allowOldPasswords", "charset", "checkConnLiveness", "clientFoundRows", "collation", "columnsWithAlias",
    "compress", "connectionAttributes", "interpolateParams", "loc", "maxAllowedPacket", "multiStatements",
    "parseTime", "readTimeout", "rejectReadOnly", "serverPubKey", "timeTruncate", "writeTimeout",
];
/// Folders in which PostgreSQL's sockets usually are.
const SOCKET_FOLDERS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];
/// Schemes whose URL names a secret of a secret manager.
const SECRET_MANAGERS: [&str; 5] =
    ["awssecretsmanager", "gcpsecretmanager", "gcpsecretsmanager", "hashivault", "k8ssecret"];

/// A user and a password that stand apart from the address.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct SeparateLogin {
    pub(in super::super) username: Option<Value>,
    pub(in super::super) password: Option<Value>,
}

/// Reads the address of one target.
pub(in super::super) struct AddressReader<'s> {
    /// The name of the target.
    pub(in super::super) target: &'s str,
    pub(in super::super) report: &'s Report,
    /// What to take an address for that a variable or a secret manager holds.
    pub(in super::super) fallback: SourceDriver,
    pub(in super::super) login: SeparateLogin,
}

impl<'s> AddressReader<'s> {
    /// Sets the keys of the target; which database it is.
    ///
    /// # Errors
    /// Why the target has to be left out, behind its name.
    pub(in super::super) fn set(&self, entry: &mut Entry, address: &str) -> Result<&'static str, String> {
        let address = address.trim();
        if let Some(parts) = AddressParts::of(address).filter(|parts| !is_secret_manager(&parts.scheme)) {
            return match SourceDriver::known(&parts.scheme) {
                Some(SourceDriver::Ours("mysql")) => {
                    self.mysql(entry, &parts);
                    Ok("mysql")
                }
                Some(SourceDriver::Ours("sqlite")) => {
                    entry.set("driver", "sqlite");
                    let path = format!("{}{}", parts.host, parts.path);
                    entry.set("database", self.expanded(&path));
                    Ok("sqlite")
                }
                Some(SourceDriver::Ours(_)) => Ok(self.postgres(entry, &parts)),
                Some(lacking @ SourceDriver::Lacking(_)) => lacking.ours(),
                None if parts.has_slashes => SourceDriver::of_scheme(&parts.scheme).ours(),
                // What stands before the colon may be a user.
                None => self.variable(entry, address),
            };
        }
        self.variable(entry, address)
    }

    /// Sets the keys of a target whose server is known at a scrape only.
    ///
    /// # Errors
    /// There is no driver for it.
    pub(in super::super) fn template(&self, entry: &mut Entry) -> Result<&'static str, String> {
        let driver = self.fallback.ours()?;
        let what = format!("the server of {}", self.target);
        // Not of this machine: lints on the connection are to be found.
        let host = self.report.variable(&format!("{}_HOST", self.target), &what, "db.example");
        entry.set("driver", driver);
        entry.set("host", Value::Expanded(host));
        entry.set_if("username", self.login.username.clone());
        entry.set_if("password", self.login.password.clone());
        Ok(driver)
    }

    /// A variable for an address that the environment or a secret manager holds, or something else puts there.
    fn variable(&self, entry: &mut Entry, address: &str) -> Result<&'static str, String> {
        let driver = self.fallback.ours()?;
        let name = whole_variable(address);
        let scheme = address.split(':').next().unwrap_or_default();
        if name.is_none() && !address.is_empty() && !is_secret_manager(scheme) {
            let message = format!("the address of {} is not a URL: a variable stands for it", self.target);
            self.report.left_out(entry.origin.clone(), message);
        }
        set_variable(entry, name, self.target, &self.fallback, "", self.report);
        Ok(driver)
    }

    fn postgres(&self, entry: &mut Entry, parts: &AddressParts<'_>) -> &'static str {
        let AddressParts { scheme, is_socket, host, path, .. } = parts;
        let mut query: Vec<(String, String)> = Vec::new();
        let mut settings = Vec::new();
        for (name, value) in &parts.query {
            let written = |value: &str| match is_secret(&decoded(name), &decoded(value)) {
                true => self.password(value, AS_IN_URL),
                false => self.text(value),
            };
            match *name {
                name if DEAD_POSTGRES.contains(&name) => {}
                name if name == "sslpassword" || POSTGRES.contains(&name) => {
                    query.push((name.to_owned(), written(value)));
                }
                name => settings.push(format!("-c%20{name}%3D{}", written(&option_value(value)))),
            }
        }
        if !settings.is_empty() {
            let settings = settings.join("%20");
            match query.iter_mut().find(|(name, _)| name == "options") {
                Some((_, options)) => *options = format!("{options}%20{settings}"),
                None => query.push(("options".to_owned(), settings)),
            }
        }
        let (mut host, mut database) = (self.text(host), self.text(path));
        if *is_socket && !path.is_empty() {
            let (folder, port, name) = socket_folder(path);
            (host, database) = (String::new(), self.text(name));
            if !folder.is_empty() {
                query.insert(0, ("host".to_owned(), self.text(folder)));
            }
            query.extend(port.map(|port| ("port".to_owned(), port.to_owned())));
        }
        let has_socket = query.iter().any(|(name, value)| name == "host" && decoded(value).starts_with('/'));
        let (port, sslmode) = match scheme.as_str() {
            "cockroachdb" | "cr" | "cockroach" | "crdb" | "cdb" => (Some("26257"), Some("disable")),
            "redshift" | "rs" => (Some("5439"), Some("require")),
            "pgx" | "px" => (None, None),
            _ => (None, Some("require").filter(|_| !has_socket)),
        };
        // The console has another default here.
        let is_console = database == "pgbouncer";
        if let Some(port) = port.or(is_console.then_some("5432")).filter(|_| !has_port(&host)) {
            host = format!("{host}:{port}");
        }
        if let Some(mode) = sslmode.filter(|_| query.iter().all(|(name, _)| name != "sslmode")) {
            query.push(("sslmode".to_owned(), mode.to_owned()));
        }
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let login = self.login(entry, parts);
        entry.set("url", Value::Expanded(format!("postgres://{login}{host}/{database}{query}")));
        if !is_console {
            return "postgres";
        }
        entry.set("driver", "pgbouncer");
        "pgbouncer"
    }

    fn mysql(&self, entry: &mut Entry, parts: &AddressParts<'_>) {
        let mut tls: Vec<(&str, Value)> = Vec::new();
        let mut settings = Vec::new();
        for (name, value) in &parts.query {
            match (*name, *value) {
                ("tls", mode) => tls.insert(0, ("mode", self.tls_mode(mode, entry).into())),
                ("tls-ca", file) => tls.push(("ca", self.expanded(file))),
                ("tls-cert", file) => tls.push(("cert", self.expanded(file))),
                ("tls-key", file) => tls.push(("key", self.expanded(file))),
                ("timeout", time) => {
                    let ours = durations::parse(time).map(duration_text);
                    entry.set("connect_timeout", ours.unwrap_or_else(|| time.to_owned()));
                }
                (name, _) if DEAD_MYSQL.contains(&name) => {}
                (name, value) if is_secret(&decoded(name), value) => {
                    let message = format!(
                        "target {}: the parameter {:?} of its address may be a secret and is left out",
                        self.target,
                        decoded(name)
                    );
                    self.report.left_out(entry.origin.clone(), message);
                }
                (name, value) => {
                    settings.push(Value::Sql(format!("SET SESSION {name} = {}", decoded(value))));
                }
            }
        }
        if !tls.is_empty() {
            entry.set("tls", Value::map(tls));
        }
        if !settings.is_empty() {
            entry.set("session_sql", Value::List(settings));
        }
        if !parts.is_socket && !parts.is_raw {
            let login = self.login(entry, parts);
            let (host, database) = (self.text(parts.host), self.text(parts.path));
            entry.set("url", Value::Expanded(format!("mysql://{login}{host}/{database}")));
            return;
        }
        entry.set("driver", "mysql");
        let (mut place, mut database) = (parts.host, parts.path);
        if parts.is_socket {
            if !parts.is_raw {
                let end = parts.path.find(".sock").map_or(parts.path.len(), |at| at + ".sock".len());
                (place, database) = parts.path.split_at_checked(end).unwrap_or((parts.path, ""));
                database = database.trim_start_matches('/');
            }
            entry.set("socket", self.expanded(place));
        } else {
            let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
            entry.set("host", self.expanded(host));
            entry.set_if("port", self.given(port));
        }
        entry.set_if("database", self.given(database));
        entry.set_if("username", self.login.username.clone().or_else(|| self.given(parts.user)));
        let password = Some(parts.password).filter(|word| !word.is_empty());
        let password = password.map(|word| Value::Expanded(self.password(word, "")));
        entry.set_if("password", self.login.password.clone().or(password));
    }

    /// The mode of the Go driver's `tls`; for one that is not known, which may ask for more security, the strictest.
    fn tls_mode(&self, mode: &str, entry: &Entry) -> &'static str {
        match mode.to_ascii_lowercase().as_str() {
            "true" | "1" | "custom" => "verify-full",
            "skip-verify" => "require",
            "preferred" => "prefer",
            "false" | "0" => "disable",
            _ => {
                let message = format!(
                    "target {}: the TLS setting {mode:?} has no counterpart: `verify-full` stands for it",
                    self.target
                );
                self.report.left_out(entry.origin.clone(), message);
                "verify-full"
            }
        }
    }

    /// `user:password@`, or what the source has apart: the password as a key of its own.
    fn login(&self, entry: &mut Entry, parts: &AddressParts<'_>) -> String {
        let user = match &self.login.username {
            Some(Value::Text(name)) => encoded(name),
            Some(Value::Expanded(name)) => name.clone(),
            _ => self.text(parts.user),
        };
        entry.set_if("password", self.login.password.clone());
        let password = Some(parts.password).filter(|word| !word.is_empty() && self.login.password.is_none());
        match password.map(|word| self.password(word, AS_IN_URL)) {
            Some(password) => format!("{user}:{password}@"),
            None if user.is_empty() => String::new(),
            None => format!("{user}@"),
        }
    }

    /// The variable in place of a password; the source's own where it has one.
    pub(in super::super) fn password(&self, text: &str, form: &str) -> String {
        // `$ecret` is a password, too: there it stays where no variable has the name.
        let is_upper = |name: &str| !name.contains(|c: char| c.is_ascii_lowercase());
        if whole_variable(text).is_some_and(|name| text.starts_with("${") || is_upper(name)) {
            return self.text(text);
        }
        self.report.password(self.target, text, form)
    }

    /// As a value.
    pub(in super::super) fn expanded(&self, text: &str) -> Value {
        Value::Expanded(self.text(text))
    }

    /// As a value; none where it is empty.
    fn given(&self, text: &str) -> Option<Value> {
        (!text.is_empty()).then(|| self.expanded(text))
    }

    /// The text with `${NAME}` for each variable in it.
    fn text(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            match variable(after) {
                Some((name, after)) => {
                    out.push_str(&self.report.of_source(name, "as the other exporter reads it", "1"));
                    rest = after;
                }
                None => {
                    // The load takes `$${` for `${`.
                    out.push_str(if after.starts_with('{') { "$$" } else { "$" });
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }
}

fn is_secret_manager(scheme: &str) -> bool {
    SECRET_MANAGERS.contains(&scheme)
}

/// The name of a variable behind a `$`, and what follows it.
fn variable(after: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(braced) = after.strip_prefix('{') {
        return braced.split_once('}').filter(|(name, _)| !name.is_empty() && name.chars().all(is_part));
    }
    let end = after.find(|c: char| !is_part(c)).unwrap_or(after.len());
    let (name, after) = after.split_at_checked(end)?;
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_').then_some((name, after))
}

/// Whether an address is a variable as a whole: `$DSN`.
pub(in super::super) fn is_variable(address: &str) -> bool {
    whole_variable(address.trim()).is_some()
}

/// The name of the variable that a text is as a whole.
fn whole_variable(text: &str) -> Option<&str> {
    let (name, after) = variable(text.strip_prefix('$')?)?;
    after.is_empty().then_some(name)
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'))
}

/// The folder of a socket, its port, and the database behind it. There the file system decides where the folder ends.
fn socket_folder(path: &str) -> (&str, Option<&str>, &str) {
    let known = SOCKET_FOLDERS.into_iter().find(|folder| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    let end = match (known, path.find(':')) {
        (Some(folder), _) => folder.len(),
        (None, Some(colon)) => colon,
        (None, None) if std::path::Path::new(path).is_dir() => path.len(),
        (None, None) => path.rfind('/').unwrap_or(path.len()),
    };
    let (folder, rest) = path.split_at_checked(end).unwrap_or((path, ""));
    let (port, database) = match rest.strip_prefix(':') {
        Some(rest) => rest.split_once('/').map_or((Some(rest), ""), |(port, name)| (Some(port), name)),
        None => (None, rest.trim_start_matches('/')),
    };
    (folder, port, database)
}

/// A percent-encoded value as a word of PostgreSQL's `options`, which end at a blank.
fn option_value(text: &str) -> String {
    text.replace("%5C", "%5C%5C").replace("%5c", "%5C%5C").replace(['+', ' '], "%20").replace("%20", "%5C%20")
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that an address becomes, and the variables that it needs.
    fn keys(address: &str) -> String {
        let report = Report::default();
        let fallback = SourceDriver::Ours("postgres");
        let source =
            AddressReader { target: "shop", report: &report, fallback, login: SeparateLogin::default() };
        let mut entry = Entry::default();
        if let Err(why) = source.set(&mut entry, address) {
            return why;
        }
        let shown = |value: &Value| match value {
            Value::Text(text) | Value::Expanded(text) | Value::Sql(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let keys = entry.keys().iter().map(|(key, value)| format!("{key}={}", shown(value)));
        keys.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn addresses_of_postgresql() {
        for (address, expected) in [
            ("pg://u@db/shop?sslmode=disable", "url=postgres://u@db/shop?sslmode=disable"),
            ("postgres://u:p@db:5433/shop", "url=postgres://u:${SHOP_PASSWORD}@db:5433/shop?sslmode=require"),
            ("pgx://u@db/shop?default_query_exec_mode=simple_protocol", "url=postgres://u@db/shop"),
            (
                "pgsql://db/shop?sslmode=disable&binary_parameters=yes&search_path=a%2Cb&statement_timeout=5s",
                "url=postgres://db/shop?sslmode=disable&options=-c%20search_path%3Da%2Cb%20-c%20statement_timeout%3D5s",
            ),
            (
                "pg://db/shop?sslmode=disable&search_path=a,%20b",
                "url=postgres://db/shop?sslmode=disable&options=-c%20search_path%3Da,%5C%20b",
            ),
            (
                "postgresql://postgres@/var/run/postgresql/foo?sslmode=disable",
                "url=postgres://postgres@/foo?host=/var/run/postgresql&sslmode=disable",
            ),
            ("postgres:/run/postgresql:5433/foo", "url=postgres:///foo?host=/run/postgresql&port=5433"),
            ("postgres+unix:///opt/pg/foo", "url=postgres:///foo?host=/opt/pg"),
            ("postgres://u@/shop", "url=postgres://u@/shop?sslmode=require"),
            ("postgres://u@/shop?host=%2Frun%2Fpg", "url=postgres://u@/shop?host=%2Frun%2Fpg"),
            ("crdb://root@db/bank", "url=postgres://root@db:26257/bank?sslmode=disable"),
            ("rs://u@db/dev", "url=postgres://u@db:5439/dev?sslmode=require"),
            (
                "pg://u@db/pgbouncer?sslmode=disable",
                "url=postgres://u@db:5432/pgbouncer?sslmode=disable driver=pgbouncer",
            ),
            (
                "pg://u@db/x?sslmode=disable&app.token=p%20q&options=-c%20app.secret%3Dr&sslpassword=s",
                "url=postgres://u@db/x?sslmode=disable&options=${SHOP_PASSWORD_2}%20-c%20app.token%3D${SHOP_PASSWORD}\
                 &sslpassword=${SHOP_PASSWORD_3}",
            ),
            (
                "pg://u@[::1]/x?sslmode=disable&password=p",
                "url=postgres://u@[::1]/x?sslmode=disable&password=${SHOP_PASSWORD}",
            ),
        ] {
            assert_eq!(keys(address), expected, "{address}");
        }
    }

    #[test]
    fn addresses_of_mysql_and_sqlite() {
        for (address, expected) in [
            ("mysql://u:p@db/shop?parseTime=true&charset=utf8", "url=mysql://u:${SHOP_PASSWORD}@db/shop"),
            ("maria://u@db:3307/shop?timeout=5s", "connect_timeout=5s url=mysql://u@db:3307/shop"),
            ("maria://u@db/shop?timeout=1m30s", "connect_timeout=90s url=mysql://u@db/shop"),
            (
                "mysql://u:p/@x@tcp(db:3306)/shop",
                "driver=mysql host=db port=3306 database=shop username=u password=${SHOP_PASSWORD}",
            ),
            (
                "mysql://u@unix(/run/my.sock)/shop",
                "driver=mysql socket=/run/my.sock database=shop username=u",
            ),
            (
                "mysql:/var/run/mysqld/mysqld.sock/shop",
                "driver=mysql socket=/var/run/mysqld/mysqld.sock database=shop",
            ),
            ("sqlite://data/app.db?mode=ro", "driver=sqlite database=data/app.db"),
            ("mysql://u@db/shop?password=x&pass%77ord=x&parseTime=true", "url=mysql://u@db/shop"),
            ("sqlite3:/var/app.db", "driver=sqlite database=/var/app.db"),
        ] {
            assert_eq!(keys(address), expected, "{address}");
        }
        for (mode, ours) in
            [("mine", "verify-full"), ("$MODE", "verify-full"), ("1", "verify-full"), ("False", "disable")]
        {
            let tls = keys(&format!("mysql://db/x?tls={mode}"));
            assert!(tls.contains(&format!("Text(\"{ours}\")")), "{tls}");
        }
        let tls = keys("mysql://db/x?tls=custom&tls-ca=/ca.pem&time_zone=%27UTC%27");
        for part in ["verify-full", "/ca.pem", "SET SESSION time_zone = 'UTC'"] {
            assert!(tls.contains(part), "{tls}");
        }
    }

    #[test]
    fn addresses_with_variables_of_secret_managers_and_of_other_databases() {
        for (address, expected) in [
            ("${DSN}", "url=${DSN}"),
            ("$DSN", "url=${DSN}"),
            ("$shop_dsn", "url=${shop_dsn}"),
            (
                "pg://$user:$ecret@${db_host}/x?sslmode=disable",
                "url=postgres://${user}:${SHOP_PASSWORD}@${db_host}/x?sslmode=disable",
            ),
            (
                "pg://$DB_USER:${db_pass}@db/x?sslmode=disable",
                "url=postgres://${DB_USER}:${db_pass}@db/x?sslmode=disable",
            ),
            ("pg://u:a$$b$c@db/x?sslmode=disable", "url=postgres://u:${SHOP_PASSWORD}@db/x?sslmode=disable"),
            ("awssecretsmanager://shop?region=eu-central-1", "url=${SHOP_URL}"),
            ("sqlserver://u:p@db:1433/x", "needs SQL Server, for which there is no driver"),
            ("duckdb://x.db", "needs duckdb, for which there is no driver"),
            ("u:secret@tcp(db)/x", "url=${SHOP_URL}"),
            ("u:secret@db", "url=${SHOP_URL}"),
            ("user=u password=secret", "url=${SHOP_URL}"),
            ("@DATABASE_URL", "url=${SHOP_URL}"),
        ] {
            assert_eq!(keys(address), expected, "{address}");
        }
    }
}
