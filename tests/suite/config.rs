//! Configurations that load, and what becomes of them. Those that do not are in `broken`.

mod include;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sql_exporter::config;
use sql_exporter::config::Config;
use sql_exporter::config::exporter::{Access, LabelsTooLong, QueryMetrics};
use sql_exporter::config::listen::ListenAddress;
use sql_exporter::config::query::Query;
use sql_exporter::config::server_sharing;
use sql_exporter::config::target::TargetConfig;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Driver, Drivers, Endpoint, Session};
use sql_exporter::error::{Error, Reason, Result};
use sql_exporter::logging::LogFormat;
use sql_exporter::yaml::keys::Keys;

/// A driver that takes the keys of a network driver and remembers them; it connects nowhere.
struct Paper;

struct Sheet(String);

impl Driver for Paper {
    fn names(&self) -> &'static [&'static str] {
        &["paper", "parchment"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let url = keys.text("url");
        let texts = ["host", "port", "database", "username"].map(|key| keys.text(key).unwrap_or_default());
        let password = keys.secret("password");
        let _ = keys.file("password_file");
        let params = keys.pairs("params").unwrap_or_default();
        let shown = url.unwrap_or_else(|| texts.join("|"));
        let password = password.map(|password| password.expose().to_owned()).unwrap_or_default();
        Some(Arc::new(Sheet(format!("{shown}|{password}|{params:?}"))))
    }
}

impl Endpoint for Sheet {
    fn connect(&self, _: Deadline) -> Result<Box<dyn Session>> {
        Err(Error::new(Reason::Connect, "paper"))
    }

    fn redacted_url(&self) -> String {
        self.0.clone()
    }
}

/// A folder with one configuration, gone with the value.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    fn with(self, name: &str, text: &str) -> Folder {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Config {
        load(&self.path("main.yaml"))
    }
}

fn load(path: &Path) -> Config {
    let environment = |name: &str| (name == "NAME").then(|| "world".to_owned());
    let drivers = Drivers::built_in().with(&Paper);
    match config::load(path, &environment, &drivers) {
        Ok(config) => config,
        Err(faults) => panic!("{}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>()),
    }
}

/// Loads one file.
fn main_file(text: &str) -> Config {
    Folder::new().with("main.yaml", text).load()
}

fn target<'p>(config: &'p Config, name: &str) -> &'p TargetConfig {
    config.targets.iter().find(|target| target.name == name).expect("the target")
}

fn query<'t>(target: &'t TargetConfig, name: &str) -> &'t Query {
    target.queries.iter().find(|query| &*query.name == name).expect("the query")
}

fn names(target: &TargetConfig) -> Vec<&str> {
    target.queries.iter().map(|query| &*query.name).collect()
}

fn shown(config: &Config, name: &str) -> String {
    target(config, name).endpoint.as_ref().expect("an endpoint").redacted_url()
}

fn warnings(config: &Config) -> Vec<&str> {
    config.warnings.iter().map(Error::message).collect()
}

/// `  - {name: NAME, …}` with a metric of the same name.
fn entry(name: &str, more: &str) -> String {
    format!("  - {{name: {name}, {more} sql: SELECT 1 AS value, metrics: [{{name: {name}, help: H.}}]}}\n")
}

#[test]
fn the_seeds_file_loads_unchanged_with_a_warning_for_its_mssql_target() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/compat/export-sql/config.yaml");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let config = load(&path);
    assert_eq!(
        warnings(&config),
        ["the driver mssql is not built in: target mssql_db is ignored, no query needs it"]
    );
    assert_eq!(config.targets.len(), 4);
    assert_eq!(names(target(&config, "mysql_db")), ["user_count", "order_metrics", "database_health"]);
    assert_eq!(target(&config, "postgres_db").driver, "postgres");
    assert!(target(&config, "mssql_db").endpoint.is_none());
    assert_eq!(config.exporter.log_level.as_str(), "INFO");
    assert_eq!(query(target(&config, "mysql_db"), "user_count").interval, Duration::from_secs(60));
}

#[test]
fn the_mini_form_is_a_query_with_one_metric() {
    let config = main_file(
        "databases: {a: {driver: paper}}\n\
         queries: [{name: q, sql: SELECT 1 AS n, metric_name: things, help: Things., value_column: n}]\n",
    );
    let metrics = &query(target(&config, "a"), "q").metrics;
    assert_eq!(metrics.len(), 1);
    assert_eq!(metrics[0].naming.text(), "things");
}

#[test]
fn defaults_fill_what_an_entry_leaves_out_and_the_entry_wins() {
    let config = main_file(&format!(
        "defaults:\n  \
           database: {{driver: paper, username: reader, params: {{a: 1, b: 2}}, labels: {{env: prod}}, max_connections: 7}}\n  \
           query: {{databases: '*', timeout: 2s, max_rows: 5}}\n\
         databases:\n  \
           a: {{host: one}}\n  \
           b: {{host: two, username: owner, params: {{b: 3}}, labels: {{site: x}}, max_connections: 1}}\n\
         queries:\n{}{}",
        entry("q", ""),
        entry("r", "database: b, timeout: 9s,")
    ));
    assert_eq!(shown(&config, "a"), r#"one|||reader||[("a", "1"), ("b", "2")]"#);
    assert_eq!(shown(&config, "b"), r#"two|||owner||[("b", "3"), ("a", "1")]"#);
    assert_eq!((target(&config, "a").max_connections, target(&config, "b").max_connections), (7, 1));
    assert_eq!(target(&config, "b").labels.len(), 2);
    assert_eq!(names(target(&config, "a")), ["q"]);
    assert_eq!(names(target(&config, "b")), ["q", "r"]);
    let (q, r) = (query(target(&config, "b"), "q"), query(target(&config, "b"), "r"));
    assert_eq!((q.timeout, r.timeout), (Some(Duration::from_secs(2)), Some(Duration::from_secs(9))));
    assert_eq!((q.max_rows, r.max_rows, r.max_series), (5, 5, 20_000));
}

#[test]
fn scalars_keep_the_text_typed() {
    let config = main_file(&format!(
        "databases:\n  \
           a: {{driver: paper, password: 007, database: 1.10, username: yes, labels: {{level: 1.10, on: off, n: 0x1F}}}}\n\
         queries:\n{}",
        entry("q", "")
    ));
    assert_eq!(shown(&config, "a"), "||1.10|yes|007|[]");
    let labels = target(&config, "a").labels.iter().map(|(name, value)| format!("{name}={value}"));
    assert_eq!(labels.collect::<Vec<_>>(), ["level=1.10", "n=0x1F", "on=off"]);
}

#[test]
fn a_password_may_hold_any_character() {
    let config = main_file("databases:\n  a: {driver: paper, password: 'p@ss: w/o#rd%20''\"\\{$${x}é'}\n");
    assert_eq!(shown(&config, "a"), "||||p@ss: w/o#rd%20'\"\\{${x}é|[]");
}

#[test]
fn variables_are_replaced_everywhere_but_in_sql() {
    let config = main_file(
        "databases:\n  a: {driver: paper, host: \"${NAME}\", port: \"${PORT:-5432}\", labels: {who: \"hello ${NAME}\"}}\n\
         queries:\n  - {name: q, sql: \"SELECT '${NAME}' AS value\", timeout: \"${T:-3}\", metric_name: q}\n",
    );
    assert_eq!(shown(&config, "a"), "world|5432||||[]");
    assert_eq!(target(&config, "a").labels[0].1, "hello world");
    let query = query(target(&config, "a"), "q");
    assert_eq!(
        (query.sql.text(), query.timeout),
        ("SELECT '${NAME}' AS value", Some(Duration::from_secs(3)))
    );
}

#[test]
fn a_query_runs_where_it_says() {
    let config = main_file(&format!(
        "databases:\n  shop: {{driver: paper}}\n  eu-1: {{driver: paper}}\n  eu-2: {{driver: parchment}}\n  \
           eu-2/stock: {{driver: paper}}\n  file: {{driver: sqlite, database: x.db}}\n\
         queries:\n{}{}{}{}{}",
        entry("one", "database: shop,"),
        entry("star", "databases: 'eu-*',"),
        entry("stars", "databases: ['eu-2/**', file],"),
        entry("all", "databases: '**',"),
        entry("driver", "driver: parchment,"),
    ));
    let runs = |name| names(target(&config, name));
    assert_eq!(runs("shop"), ["one", "all", "driver"]);
    assert_eq!(runs("eu-1"), ["star", "all", "driver"]);
    assert_eq!(runs("eu-2"), ["star", "all", "driver"]);
    assert_eq!(runs("eu-2/stock"), ["stars", "all", "driver"]);
    assert_eq!(runs("file"), ["stars", "all"]);
    assert_eq!(target(&config, "eu-2").driver, "paper", "a driver has one name");
    let orders: Vec<usize> = target(&config, "shop").queries.iter().map(|query| query.order).collect();
    assert_eq!(orders, [0, 3, 4]);
}

#[test]
fn overrides_change_queries_and_those_of_a_target_have_the_last_word() {
    let config = main_file(&format!(
        "databases:\n  a: {{driver: paper}}\n  b: {{driver: paper, overrides: {{'slow*': {{timeout: 9s, enabled: true}}}}}}\n\
         overrides:\n  '*': {{max_series: 7}}\n  slow_one: {{enabled: false, interval: 5m, timeout: 1s}}\n\
         queries:\n{}{}",
        entry("slow_one", "databases: '*', timeout: 3s,"),
        entry("quick", "databases: '*',"),
    ));
    let (a, b) = (query(target(&config, "a"), "slow_one"), query(target(&config, "b"), "slow_one"));
    assert_eq!((a.enabled, b.enabled), (false, true));
    assert_eq!((a.timeout, b.timeout), (Some(Duration::from_secs(1)), Some(Duration::from_secs(9))));
    assert_eq!((a.interval, b.interval), (Duration::from_secs(300), Duration::from_secs(300)));
    assert_eq!((a.max_series, query(target(&config, "a"), "quick").max_series), (7, 7));
}

#[test]
fn a_disabled_query_may_contradict_the_one_that_replaces_it() {
    let other =
        "  - {name: new, sql: SELECT 1 AS value, metrics: [{name: old, help: Other., labels: [region]}]}\n";
    let config = main_file(&format!(
        "databases: {{a: {{driver: paper}}}}\nqueries:\n{}{other}",
        entry("old", "enabled: no,")
    ));
    assert!(!query(target(&config, "a"), "old").enabled);
}

#[test]
fn a_target_that_nothing_needs_may_have_a_driver_that_is_not_built_in() {
    let text = "databases:\n  a: {driver: paper}\n  m: {driver: MSSQL, instance: x, port: 1433}\n  u: {url: 'oracle://db1/x'}\n\
                queries:\n";
    let config = main_file(&format!(
        "{text}{}{}",
        entry("q", "database: a,"),
        entry("off", "database: m, enabled: false,")
    ));
    assert_eq!(target(&config, "m").driver, "mssql");
    assert_eq!(
        warnings(&config),
        [
            "the driver mssql is not built in: target m is ignored, no query needs it",
            "the driver oracle is not built in: target u is ignored, no query needs it",
        ]
    );
}

#[test]
fn a_target_may_be_a_url_under_either_name_or_in_a_file() {
    let config = Folder::new()
        .with("main.yaml", "databases:\n  a: {url: 'paper://u@h/d'}\n  b: {url_file: secret/url}\n  c: {connection_string: 'sqlite:x.db'}\n")
        .with("secret/url", "sqlite:y.db\n")
        .load();
    let drivers: Vec<&str> = config.targets.iter().map(|target| target.driver).collect();
    assert_eq!(drivers, ["paper", "sqlite", "sqlite"]);
}

#[test]
fn an_entrys_own_url_says_more_than_the_defaults_driver() {
    let config = main_file(
        "defaults: {database: {driver: paper}}\ndatabases: {a: {url: 'sqlite:x.db'}, b: {}, c: {driver: sqlite, database: y.db}}\n",
    );
    let drivers: Vec<&str> = config.targets.iter().map(|target| target.driver).collect();
    assert_eq!(drivers, ["sqlite", "paper", "sqlite"]);
    let config = main_file(
        "defaults: {database: {url: 'postgres://u@h/d'}}\ndatabases: {a: {connection_string: 'sqlite:x.db'}}\n",
    );
    assert_eq!(config.targets.first().map(|target| target.driver), Some("sqlite"));
}

#[test]
fn a_default_for_a_driver_that_no_target_uses_is_known() {
    let config = main_file(
        "defaults: {database: {username: u, tls: {mode: require}, password_command: [./token]}}\n\
         databases: {a: {driver: sqlite, database: x.db}}\n",
    );
    assert_eq!(config.targets.len(), 1);
}

#[test]
fn the_section_exporter_is_read_whole() {
    let config = main_file(
        "databases: {a: {driver: paper}}\n\
         exporter:\n  listen: [':0', '127.0.0.1:9400', 'unix:/run/x.sock']\n  log_level: DEBUG\n  log_format: json\n  \
           scrape_timeout: 20s\n  max_scrape_timeout: 1m\n  scrape_timeout_offset: 250ms\n  max_workers: 8\n  \
           max_series: 10\n  max_page_bytes: 1MiB\n  max_label_length: 64\n  labels_too_long: truncate\n  \
           target_label: ''\n  query_metrics: failing\n  enable_pages: loopback\n  \
           http: {max_connections: 5, max_connections_per_address: 2, max_head_bytes: 4KiB, max_header_lines: 20, \
                  head_timeout: 1s, write_timeout: 2s, idle_timeout: 3s}\n",
    );
    let exporter = &config.exporter;
    assert_eq!(exporter.listen.len(), 3);
    assert_eq!((exporter.log_level, exporter.log_format), (log::LevelFilter::Debug, LogFormat::Json));
    assert_eq!(exporter.scrape_timeout, Duration::from_secs(20));
    assert_eq!(exporter.max_scrape_timeout, Some(Duration::from_secs(60)));
    assert_eq!(exporter.scrape_timeout_offset, Duration::from_millis(250));
    assert_eq!((exporter.max_workers, exporter.max_series, exporter.max_page_bytes), (8, 10, 1 << 20));
    assert_eq!((exporter.max_label_length, exporter.labels_too_long), (64, LabelsTooLong::Truncate));
    assert_eq!(exporter.target_label, "");
    assert_eq!((exporter.query_metrics, exporter.enable_pages), (QueryMetrics::Failing, Access::Loopback));
    let limits = exporter.http;
    assert_eq!(
        (limits.max_connections, limits.max_connections_per_address, limits.max_head_bytes),
        (5, 2, 4096)
    );
    assert_eq!((limits.max_header_lines, limits.idle_timeout), (20, Duration::from_secs(3)));
}

#[test]
fn defaults_depend_on_the_number_of_targets() {
    let servers = |targets: &[(usize, &str)], more: &str| {
        let entry = |(host, more): (&str, &str), n: usize| {
            format!("  {host}{n}: {{driver: postgres, host: {host}, database: d{n}, username: u{n}{more}}}\n")
        };
        let entries: String =
            targets.iter().flat_map(|&(count, host)| (0..count).map(move |n| entry((host, ""), n))).collect();
        main_file(&format!("databases:\n{entries}{}{more}", entry(("many", ", max_connections: 2"), 900)))
    };
    let config = servers(&[(20, "many"), (19, "few")], "");
    let of = |name: &str| target(&config, name).max_connections;
    assert_eq!((of("many0"), of("many19"), of("many900"), of("few0")), (1, 1, 2, 3));
    assert_eq!((config.exporter.max_workers, config.exporter.http.max_connections), (64, 256));
    let config = servers(&[(399, "many")], "");
    assert_eq!((config.exporter.max_workers, config.exporter.http.max_connections), (100, 800));
    let written = "exporter: {max_workers: 5, http: {max_connections: 7}}\n";
    let config = servers(&[(399, "many")], written);
    assert_eq!((config.exporter.max_workers, config.exporter.http.max_connections), (5, 7));
}

#[test]
fn the_files_that_sessions_may_take_are_counted_by_server_and_user() {
    let config = main_file(
        "databases:\n  a: {driver: postgres, host: one, username: u, max_connections: 15}\n  \
           b: {driver: postgres, host: one, username: u, max_connections: 15}\n  \
           c: {driver: postgres, host: one, username: v, max_connections: 4}\n  \
           off: {driver: postgres, host: two, enabled: false}\n  \
           file: {driver: sqlite, database: x.db, max_connections: 2}\n",
    );
    assert_eq!(server_sharing::descriptors(config.targets.iter().map(|target| &**target)), 20 + 4 + 6);
}

#[test]
fn the_seeds_host_and_port_are_an_address_too() {
    let listen = |section: &str| {
        main_file(&format!("databases: {{a: {{driver: paper}}}}\nexporter: {section}\n")).exporter.listen
    };
    let tcp = |text: &str| vec![ListenAddress::Tcp(text.parse().expect("an address"))];
    assert_eq!(listen("{host: 0.0.0.0, port: 9090}"), tcp("0.0.0.0:9090"));
    assert_eq!(listen("{host: '::1'}"), tcp("[::1]:9399"));
    assert_eq!(listen("{port: 9090}"), [ListenAddress::AnyAddress(9090)]);
    assert_eq!(listen("{}"), [ListenAddress::AnyAddress(9399)]);
}

#[test]
fn above_a_thousand_queries_only_failing_ones_have_rows_unless_it_is_written() {
    let databases: String = (0..501).map(|n| format!("  t{n}: {{driver: paper}}\n")).collect();
    let text = format!(
        "databases:\n{databases}queries:\n{}{}",
        entry("q", "databases: '*',"),
        entry("r", "databases: '*',")
    );
    assert_eq!(main_file(&text).exporter.query_metrics, QueryMetrics::Failing);
    let written = format!("{text}exporter: {{query_metrics: full}}\n");
    assert_eq!(main_file(&written).exporter.query_metrics, QueryMetrics::Full);
}

/// A reader would take them for where the target connects to.
#[test]
fn the_shown_entry_leaves_out_defaults_that_it_replaces() {
    let config = main_file(
        "defaults: {database: {host: default.example, port: 7000, database: defaults, username: nobody}}\n\
         databases:\n  url: {url: 'postgres://me@own.example:7001/mine'}\n  socket: {driver: postgres, socket: /run/pg}\n  \
         rest: {driver: postgres, username: me}\nqueries: []\n",
    );
    let shown = |name| target(&config, name).redacted.yaml();
    assert_eq!(shown("url"), "url: postgres://me@own.example:7001/mine\n");
    assert_eq!(
        shown("socket"),
        "driver: postgres\nsocket: /run/pg\nport: 7000\ndatabase: defaults\nusername: nobody\n"
    );
    assert_eq!(
        shown("rest"),
        "driver: postgres\nusername: me\nhost: default.example\nport: 7000\ndatabase: defaults\n"
    );
    let config = main_file(
        "defaults: {database: {driver: mysql, socket: ./run/x.sock}}\n\
         databases: {host: {host: db}, rest: {}}\nqueries: []\n",
    );
    let shown = |name| target(&config, name).redacted.yaml();
    assert_eq!(shown("host"), "host: db\ndriver: mysql\n");
    assert_eq!(shown("rest"), "driver: mysql\nsocket: ./run/x.sock\n");
}

/// A configuration with every section, cut and bent: each of these is an error or loads, and none panics.
#[test]
fn no_cut_and_no_stray_character_makes_the_load_panic() {
    let whole = "defaults: {database: {driver: paper, labels: {a: b}}, query: {timeout: 2s}}\n\
                 databases:\n  shop: {url: 'paper://u:p@h/d', collectors: ['!x/*'], overrides: {'q*': {max_rows: 1}}}\n  \
                   file: {driver: sqlite, database: \"${NAME:-x}.db\"}\n\
                 queries:\n  - name: q\n    databases: ['**']\n    sql: |\n      SELECT 1\n    metrics:\n      \
                   - {name: m, help: é, type: counter, labels: {a: c}, static_labels: {s: t}, value: 1, scale: 2}\n\
                 include: ['builtin:sqlite/*', 'none/*.yaml']\nexporter: {listen: [':0', 'unix:x'], http: {max_head_bytes: 4KiB}}\n";
    let folder = Folder::new();
    let path = folder.path("main.yaml");
    let drivers = Drivers::built_in().with(&Paper);
    let bent = |at: usize, with: &str| format!("{}{with}{}", &whole[..at], &whole[at..]);
    let places = (0..whole.len()).filter(|at| whole.is_char_boundary(*at)).step_by(3);
    let mut loaded = 0;
    for at in places {
        for text in
            [whole[..at].to_owned(), bent(at, "*"), bent(at, "{"), bent(at, "\n- "), bent(at, "\u{0}")]
        {
            std::fs::write(&path, text).expect("written");
            loaded += usize::from(config::load(&path, &|_| None, &drivers).is_ok());
        }
    }
    assert!(loaded > 0, "some of these are harmless");
}
