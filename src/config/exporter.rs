//! The section `exporter:`, cooked.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::hosts;
use super::hosts::AllowedHosts;
use super::listen::ListenAddress;
use crate::driver::MAX_CELL_BYTES;
use crate::logging::LogFormat;
use crate::name::LabelName;
use crate::yaml::keys::Keys;
use crate::yaml::shape::Number;

use super::route_prefix::RoutePrefix;
use super::{conflicts, listen};

/// The port without `listen` and `port`.
const PORT: u16 = 9399;

/// The names of `log_level`, in any case. `warning` and `critical` are those of other programs' files.
const LEVELS: &[(&str, LevelFilter)] = &[
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
    ("off", LevelFilter::Off),
    ("warning", LevelFilter::Warn),
    ("critical", LevelFilter::Error),
];

pub(super) const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const LABELS_TOO_LONG: &[(&str, LabelsTooLong)] =
    &[("error", LabelsTooLong::Error), ("truncate", LabelsTooLong::Truncate)];
pub(super) const QUERY_METRICS: &[(&str, QueryMetrics)] =
    &[("full", QueryMetrics::Full), ("failing", QueryMetrics::Failing)];
pub(super) const WHO: &[(&str, Access)] =
    &[("true", Access::Everybody), ("loopback", Access::Loopback), ("false", Access::Nobody)];

/// More queries over all targets than this: `query_metrics` is `failing` unless it is written.
const MANY_PAIRS: usize = 1000;

/// How `/metrics` and its neighbours are served, and the bounds of one scrape.
#[derive(Debug, Clone)]
pub struct Exporter {
    /// Addresses to listen on.
    pub listen: Vec<ListenAddress>,
    /// `error`, `warn`, `info`, `debug`, `trace`, `off`.
    pub log_level: LevelFilter,
    /// One line of text, or one JSON object a line.
    pub log_format: LogFormat,
    /// The deadline of a scrape without the header.
    pub scrape_timeout: Duration,
    /// No scrape may take longer, whatever the header says.
    pub max_scrape_timeout: Option<Duration>,
    /// Taken off the header's time for the way back.
    pub scrape_timeout_offset: Duration,
    /// Threads that run queries, over all targets.
    pub max_workers: usize,
    /// The front door's limits.
    pub http: HttpLimits,
    /// Names that requests for `/`, `/config` and reloads may have in `Host`.
    pub hosts: AllowedHosts,
    /// More series on one page are dropped, query by query from the end.
    pub max_series: u64,
    /// More bytes on one page likewise.
    pub max_page_bytes: u64,
    /// A longer value (in bytes) that a database sends fails its query.
    pub max_cell_bytes: usize,
    /// Longer label values (in bytes) are an error, or cut.
    pub max_label_length: usize,
    /// Which of the two.
    pub labels_too_long: LabelsTooLong,
    /// The label that names the target on user series; empty = none.
    pub target_label: String,
    /// Whether rows of healthy queries are shown.
    pub query_metrics: QueryMetrics,
    /// TLS, users and answer headers of our own port; read by the front door.
    pub web_config_file: Option<PathBuf>,
    /// To whom `/` and `/config` are served.
    pub enable_pages: Access,
    /// Access may reload with POST.
    pub enable_reload: Access,
    /// The address that `/sd` gives instead of the request's own `Host`.
    pub advertise: Option<String>,
    /// What all paths of ours begin with.
    pub route_prefix: RoutePrefix,
}

/// What a label value beyond `max_label_length` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelsTooLong {
    /// Fails the query.
    #[default]
    Error,
    /// Is cut at a character's border.
    Truncate,
}

/// Which `query_*` rows a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueryMetrics {
    /// All.
    #[default]
    Full,
    /// Those of failing queries.
    Failing,
}

/// Access may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Everybody,
    /// Peers on this machine.
    Loopback,
    /// Nobody.
    Nobody,
}

impl Default for Exporter {
    fn default() -> Self {
        Exporter {
            listen: vec![ListenAddress::AnyAddress(PORT)],
            log_level: LevelFilter::Info,
            log_format: LogFormat::default(),
            scrape_timeout: Duration::from_secs(10),
            max_scrape_timeout: None,
            scrape_timeout_offset: Duration::from_millis(500),
            max_workers: 64,
            http: HttpLimits::default(),
            hosts: AllowedHosts::default(),
            max_series: 200_000,
            max_page_bytes: 64 << 20,
            max_cell_bytes: MAX_CELL_BYTES,
            max_label_length: 1024,
            labels_too_long: LabelsTooLong::default(),
            target_label: "target".to_owned(),
            query_metrics: QueryMetrics::default(),
            web_config_file: None,
            enable_pages: Access::Everybody,
            enable_reload: Access::Loopback,
            advertise: None,
            route_prefix: RoutePrefix::default(),
        }
    }
}

/// `exporter.http` without `hosts`: what bounds the clients of the public sockets (`docs/security.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Open connections; beyond, one that is not served closes, then 503. A few more are for probes.
    pub max_connections: usize,
    /// Per peer address; 0 = off.
    pub max_connections_per_address: usize,
    /// Bytes of a request head.
    pub max_head_bytes: usize,
    /// Header lines of a request head.
    pub max_header_lines: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// For a whole answer.
    pub write_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// Bytes of answers that are made or not yet read by their clients; beyond, 503.
    pub max_inflight_bytes: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            max_connections: 256,
            max_connections_per_address: 0,
            max_head_bytes: 16 << 10,
            max_header_lines: 100,
            head_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            max_inflight_bytes: 256 << 20,
        }
    }
}

impl Exporter {
    /// Takes the section's keys, if it is there. `pairs` is the number of queries over all targets, which decides
    /// the default of `query_metrics`. Faults are recorded, and the default stands in.
    pub(super) fn read(section: Option<Keys<'_>>, pairs: usize) -> Exporter {
        let mut exporter = Exporter::default();
        if pairs > MANY_PAIRS {
            exporter.query_metrics = QueryMetrics::Failing;
        }
        let Some(mut keys) = section else { return exporter };
        exporter.web_config_file = keys.file("web_config_file");
        addresses(&mut keys, &mut exporter.listen);
        set(&mut exporter.log_level, keys.choice("log_level", LEVELS));
        set(&mut exporter.log_format, keys.choice("log_format", LOG_FORMATS));
        times(&mut keys, &mut exporter);
        bounds(&mut keys, &mut exporter);
        set(&mut exporter.labels_too_long, keys.choice("labels_too_long", LABELS_TOO_LONG));
        set(&mut exporter.query_metrics, keys.choice("query_metrics", QUERY_METRICS));
        set(&mut exporter.enable_pages, keys.choice("enable_pages", WHO));
        set(&mut exporter.enable_reload, keys.choice("enable_reload", WHO));
        exporter.advertise = advertise(&mut keys);
        set(&mut exporter.route_prefix, route_prefix(&mut keys));
        target_label(&mut keys, &mut exporter.target_label);
        if let Some(mut inner) = keys.inner("http") {
            set(&mut exporter.hosts, listed(&mut inner));
            exporter.http = limits(inner);
        }
        keys.finish();
        exporter
    }
}

/// Reads a level as `log_level`, a flag and a variable write it.
///
/// # Errors
/// A sentence that lists the levels.
pub fn log_level(text: &str) -> Result<LevelFilter, String> {
    word(text, LEVELS)
}

/// Reads a format as `log_format`, a flag and a variable write it.
///
/// # Errors
/// A sentence that lists the formats.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    word(text, LOG_FORMATS)
}

fn word<T: Copy>(text: &str, table: &[(&str, T)]) -> Result<T, String> {
    let found = table.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is not one of {}", names.join(", "))
    })
}

fn set<T>(place: &mut T, written: Option<T>) {
    if let Some(value) = written {
        *place = value;
    }
}

/// `listen`, or `host` and `port` as in files of Du-gui/export-sql.
fn addresses(keys: &mut Keys<'_>, listen: &mut Vec<ListenAddress>) {
    let host = keys.text("host");
    let port: Option<u16> = keys.number("port", "a port from 0 to 65535");
    if let Some(texts) = keys.texts("listen") {
        for key in ["host", "port"].into_iter().filter(|key| keys.has(key)) {
            keys.fault_with_hint(key, "stands beside `listen`", "write `listen: HOST:PORT` alone");
        }
        if texts.is_empty() {
            keys.fault_with_hint("listen", "names no address", "leave it out for :9399");
        }
        let folder = keys.folder("listen");
        let read = |text: &String| {
            listen::listen(text, &folder).map_err(|message| keys.fault("listen", message)).ok()
        };
        *listen = texts.iter().filter_map(read).collect();
    } else if host.is_some() || port.is_some() {
        match listen::at_host(host.as_deref().unwrap_or_default(), port.unwrap_or(PORT)) {
            Ok(address) => *listen = vec![address],
            Err(message) => keys.fault("host", message),
        }
    }
}

fn times(keys: &mut Keys<'_>, exporter: &mut Exporter) {
    set(&mut exporter.scrape_timeout, above_zero(keys, "scrape_timeout"));
    exporter.max_scrape_timeout = above_zero(keys, "max_scrape_timeout");
    set(&mut exporter.scrape_timeout_offset, keys.duration("scrape_timeout_offset"));
}

fn above_zero(keys: &mut Keys<'_>, key: &'static str) -> Option<Duration> {
    let time = keys.duration(key)?;
    if time.is_zero() {
        keys.fault(key, "0 leaves no time: write a duration above 0");
    }
    Some(time)
}

fn bounds(keys: &mut Keys<'_>, exporter: &mut Exporter) {
    set(&mut exporter.max_workers, count(keys, "max_workers"));
    set(&mut exporter.max_series, count(keys, "max_series"));
    set(&mut exporter.max_page_bytes, keys.size("max_page_bytes"));
    set(&mut exporter.max_cell_bytes, size(keys, "max_cell_bytes"));
    set(&mut exporter.max_label_length, count(keys, "max_label_length"));
}

/// `host:port`, as it stands in the JSON of `/sd`.
fn advertise(keys: &mut Keys<'_>) -> Option<String> {
    let text = keys.text("advertise")?;
    let (host, port) = text.rsplit_once(':').unwrap_or((&text, ""));
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(is_host) || port.parse::<u16>().is_err() {
        let message = format!("{text:?} is no address that others can reach");
        keys.fault_with_hint("advertise", message, "write host:port, without a scheme");
    }
    Some(text)
}

fn route_prefix(keys: &mut Keys<'_>) -> Option<RoutePrefix> {
    let text = keys.text("route_prefix")?;
    RoutePrefix::parse(&text).map_err(|message| keys.fault("route_prefix", message)).ok()
}

/// A whole number of at least 1.
fn count<T: Number + Default + PartialEq>(keys: &mut Keys<'_>, key: &'static str) -> Option<T> {
    let count: T = keys.number(key, "a whole number of at least 1")?;
    if count == T::default() {
        keys.fault(key, "0 lets nothing through: write a whole number of at least 1");
    }
    Some(count)
}

fn target_label(keys: &mut Keys<'_>, label: &mut String) {
    let Some(text) = keys.text("target_label") else { return };
    if let Some(why) = conflicts::reserved(&text) {
        keys.fault("target_label", format!("the label {text} is reserved: {why}"));
    } else if let Err(message) = LabelName::new(&text)
        && !text.is_empty()
    {
        keys.fault_with_hint("target_label", message, "write \"\" for no label");
    }
    *label = text;
}

/// Reads the section `exporter.http`, but for `hosts`.
fn limits(mut keys: Keys<'_>) -> HttpLimits {
    let mut limits = HttpLimits::default();
    set(&mut limits.max_connections, count(&mut keys, "max_connections"));
    let unbounded_at_0 = keys.number("max_connections_per_address", "a whole number (0 = no limit)");
    set(&mut limits.max_connections_per_address, unbounded_at_0);
    set(&mut limits.max_head_bytes, size(&mut keys, "max_head_bytes"));
    set(&mut limits.max_header_lines, count(&mut keys, "max_header_lines"));
    set(&mut limits.head_timeout, above_zero(&mut keys, "head_timeout"));
    set(&mut limits.write_timeout, above_zero(&mut keys, "write_timeout"));
    set(&mut limits.idle_timeout, above_zero(&mut keys, "idle_timeout"));
    set(&mut limits.max_inflight_bytes, size(&mut keys, "max_inflight_bytes"));
    keys.finish();
    limits
}

/// Names of this server.
fn listed(keys: &mut Keys<'_>) -> Option<AllowedHosts> {
    let names = keys.texts("hosts")?;
    let read = |name: &String| hosts::pattern(name).map_err(|message| keys.fault("hosts", message)).ok();
    Some(AllowedHosts::Listed(names.iter().filter_map(read).collect()))
}

fn size(keys: &mut Keys<'_>, key: &'static str) -> Option<usize> {
    usize::try_from(keys.size(key)?).ok()
}
