//! The section `exporter:`: its keys, and the types they make.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::driver::MAX_CELL_BYTES;
use crate::error::SourcePosition;
use crate::logging::LogFormat;
use crate::metric::labels::reserved_label;
use crate::name::LabelName;
use crate::yaml::keys::{Keys, word};
use crate::yaml::writer::YamlValue;

use super::hosts::{self, AllowedHosts};
use super::listen::{self, ListenAddress};
use super::route_prefix::RoutePrefix;
use super::settings::{
    Choice, Settings, Show, Written, above_zero, at_least_one, at_least_one_byte, bytes, choice, optional,
    settings,
};

/// Nobody listens on more addresses; each is compared with all others.
const MOST_COMPARED: usize = 100;

/// The port without `listen` and `port`.
const PORT: u16 = 9399;

/// By default there is a worker for so many targets, within these bounds.
const TARGETS_PER_WORKER: usize = 4;
const WORKERS: (usize, usize) = (64, 512);

/// By default each target may have so many connections of clients: two servers of Prometheus keep one each.
const CLIENTS_PER_TARGET: usize = 2;

/// More queries over all targets than this: `query_metrics` is `failing` unless it is written.
const MANY_PAIRS: usize = 1000;

settings! {
    /// How `/metrics` and its neighbours are served, and the bounds of one scrape.
    #[derive(Debug, Clone)]
    pub struct Exporter, as written WrittenExporter {
        keys {
            /// One or several addresses to listen on: `host:port`, `:port`, `unix:PATH`, or `systemd` for the sockets of a socket unit.
            listen: Vec<ListenAddress> = vec![ListenAddress::AnyAddress(PORT)], addresses;
            /// `error`, `warn`, `info`, `debug`, `trace` or `off`.
            log_level: LevelFilter = LevelFilter::Info, choice;
            /// `text`, or `json` for one object a line.
            log_format: LogFormat = LogFormat::default(), choice;
            /// The timeout of a scrape that does not send its own.
            scrape_timeout: Duration = Duration::from_secs(10), above_zero;
            /// The longest timeout of a scrape, whatever Prometheus asks for.
            max_scrape_timeout: Option<Duration> = None, optional(above_zero);
            /// Subtracted from the timeout that Prometheus sends, for the way back. At most a quarter of the timeout.
            scrape_timeout_offset: Duration = Duration::from_millis(500), Keys::duration;
            /// The number of queries that run at once over all targets. Where there are several servers, one of them gets
            /// about half at most. With more than 256 targets, the default is a quarter of their number, at most 512.
            max_workers: usize = WORKERS.0, at_least_one;
            /// The most series on one page. Beyond it, the later query fails as a whole.
            max_series: u64 = 200_000, at_least_one;
            /// The largest page. Beyond it, the later query fails as a whole.
            max_page_bytes: u64 = 64 << 20, at_least_one_byte;
            /// The longest value of a database that is held in memory. A longer value fails its query.
            max_cell_bytes: usize = MAX_CELL_BYTES, at_least_one_byte;
            /// The longest label value, in bytes. See `labels_too_long` for what happens beyond it.
            max_label_length: usize = 1024, at_least_one;
            /// What a label value beyond `max_label_length` does: `error` fails the query, `truncate` cuts the value.
            /// A metric name that columns make is never cut.
            labels_too_long: LabelsTooLong = LabelsTooLong::Error, choice;
            /// The label that names the target. `""` leaves it out of your series.
            target_label: String = "target".to_owned(), target_label;
            /// Which queries have rows of their own in the exporter's metrics: `full` for all, `failing` for those that
            /// fail. With more than 1,000 pairs of target and query, the default is `failing`.
            query_metrics: QueryMetrics = QueryMetrics::Full, choice;
            /// The web-config file with TLS, users and response headers. See `docs/security.md`.
            web_config_file: Option<PathBuf> = None, optional(Keys::file);
            /// Who sees `/` and `/config`: `true` for everybody, `loopback` for this machine, `false` for nobody.
            enable_pages: Access = Access::Everybody, choice;
            /// Who may `POST /-/reload`: `true` for everybody, `loopback` for this machine, `false` for nobody.
            enable_reload: Access = Access::Loopback, choice;
            /// The `host:port` that `/sd` returns instead of the address of the request.
            advertise: Option<String> = None, optional(advertise);
            /// How long the exporter goes on serving after SIGTERM while `/-/ready` answers 503, so that load balancers
            /// stop sending requests. A second signal ends the delay.
            shutdown_delay: Duration = Duration::ZERO, Keys::duration;
            /// The path before all other paths, such as `/sql`: for a reverse proxy that passes paths on unchanged.
            route_prefix: RoutePrefix = RoutePrefix::default(), route_prefix;
        }
        fields {
            /// Limits of the public sockets.
            http: HttpLimits = HttpLimits::default();
            /// Where `target_label` stands.
            target_label_place: SourcePosition = SourcePosition::default();
            /// Names that requests for `/`, `/config` and reloads may have in `Host`.
            hosts: AllowedHosts = AllowedHosts::default();
        }
    }
}

settings! {
    /// `exporter.http` without `hosts`: what bounds the clients of the public sockets (`docs/security.md`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct HttpLimits, as written WrittenHttpLimits {
        keys {
            /// The most open connections. Beyond it, a connection whose request head or handshake is not complete closes
            /// (counted), or an idle one (not counted); if all are being served, the answer is 503: `connections`.
            /// 8 more are kept for `/-/healthy` and `/-/ready`. With more than 128 targets, the default is twice their
            /// number; `discover.max` databases count as targets.
            max_connections: usize = 256, at_least_one;
            /// The most open connections of one address, with the same effect; `0` means no limit: `connections`.
            max_connections_per_address: usize = 0, any_number;
            /// The largest request head. Beyond it, the answer is 431: `head_size`.
            max_head_bytes: usize = 16 << 10, at_least_one_byte;
            /// The most header lines of a request. Beyond it, the answer is 431: `header_lines`.
            max_header_lines: usize = 100, at_least_one;
            /// The time for a request head. Beyond it, the answer is 408: `head_timeout`; for a TLS handshake: `tls`.
            head_timeout: Duration = Duration::from_secs(5), above_zero;
            /// The time for a whole answer. Beyond it, the connection closes: `write_timeout`.
            write_timeout: Duration = Duration::from_secs(30), above_zero;
            /// The time between two requests. Beyond it, the connection closes; nothing is counted.
            idle_timeout: Duration = Duration::from_secs(300), above_zero;
            /// The most bytes of all answers that are made or not yet read by their clients. Beyond it, the answer is
            /// 503 with `Retry-After`: `memory`. Answers up to 64 KiB do not count, and one answer alone always passes.
            max_inflight_bytes: usize = 256 << 20, bytes;
        }
        fields {
            /// `max_connections` is not written: it depends on the number of targets.
            follows_targets: bool = true;
        }
    }
}

/// What a label value beyond `max_label_length` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelsTooLong {
    /// Fails the query.
    Error,
    /// Is cut at the border of a character.
    Truncate,
}

impl Choice for LabelsTooLong {
    const WORDS: &'static [(&'static str, Self)] =
        &[("error", LabelsTooLong::Error), ("truncate", LabelsTooLong::Truncate)];
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

impl Choice for QueryMetrics {
    const WORDS: &'static [(&'static str, Self)] =
        &[("full", QueryMetrics::Full), ("failing", QueryMetrics::Failing)];
}

/// Who may use a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Everybody,
    /// Peers on this machine.
    Loopback,
    /// Nobody.
    Nobody,
}

impl Choice for Access {
    /// The other words are those of flags.
    const WORDS: &'static [(&'static str, Self)] = &[
        ("true", Access::Everybody),
        ("loopback", Access::Loopback),
        ("false", Access::Nobody),
        ("yes", Access::Everybody),
        ("on", Access::Everybody),
        ("no", Access::Nobody),
        ("off", Access::Nobody),
    ];
}

impl Show for ListenAddress {
    fn show(&self) -> YamlValue {
        YamlValue::text(self)
    }
}

impl Show for RoutePrefix {
    fn show(&self) -> YamlValue {
        YamlValue::Text(self.path("/"))
    }
}

impl Exporter {
    /// Takes the section's keys, if it is there. Some defaults depend on the number of `targets`, on how many these are at
    /// `most`, and on the number of `pairs` of target and query. Faults are recorded, and the default stands in.
    pub(super) fn read(section: Option<Keys<'_>>, targets: usize, most: usize, pairs: usize) -> Exporter {
        let (mut exporter, mut written) = (Exporter::default(), WrittenExporter::default());
        let mut written_http = WrittenHttpLimits::default();
        if let Some(mut keys) = section {
            written = WrittenExporter::read(&mut keys);
            exporter.target_label_place = keys.place("target_label");
            if let Some(mut http) = keys.inner("http") {
                exporter.hosts = listed(&mut http).unwrap_or_default();
                written_http = WrittenHttpLimits::read(&mut http);
                http.finish();
            }
            keys.finish();
        }
        if pairs > MANY_PAIRS {
            written.query_metrics.get_or_insert(QueryMetrics::Failing);
        }
        let workers = (targets / TARGETS_PER_WORKER).clamp(WORKERS.0, WORKERS.1);
        written.max_workers.get_or_insert(workers);
        exporter.set(written);
        exporter.http.follows_targets = written_http.max_connections.is_none();
        let clients = HttpLimits::default().max_connections.max(most * CLIENTS_PER_TARGET);
        written_http.max_connections.get_or_insert(clients);
        exporter.http.set(written_http);
        exporter
    }

    /// The section with all its values.
    pub(super) fn redacted(&self) -> YamlValue {
        let hosts = match &self.hosts {
            AllowedHosts::Machine => {
                let text = "addresses, localhost and this machine's names without a login; else any";
                YamlValue::text(text)
            }
            AllowedHosts::Listed(names) => names.show(),
        };
        let http = YamlValue::map(self.http.shown().into_iter().chain([("hosts", hosts)]));
        YamlValue::map(self.shown().into_iter().chain([("http", http)]))
    }
}

/// Reads a level as `log_level`, a flag and a variable write it.
///
/// # Errors
/// A sentence that lists the levels.
pub fn log_level(text: &str) -> Result<LevelFilter, String> {
    word(text, LevelFilter::WORDS)
}

/// Reads a format as `log_format`, a flag and a variable write it.
///
/// # Errors
/// A sentence that lists the formats.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    word(text, LogFormat::WORDS)
}

/// `listen`, or `host` and `port` as in files of Du-gui/export-sql.
fn addresses(keys: &mut Keys<'_>, key: &'static str) -> Option<Vec<ListenAddress>> {
    let host = keys.text("host");
    let port: Option<u16> = keys.number("port", "a port from 0 to 65535");
    let folder = keys.folder(key);
    let Some(addresses) = keys.parsed(key, |text| listen::listen(text, &folder)) else {
        (host.is_some() || port.is_some()).then_some(())?;
        let address = listen::at_host(host.as_deref().unwrap_or_default(), port.unwrap_or(PORT));
        return keys.valid("host", address).map(|address| vec![address]);
    };
    for other in ["host", "port"].into_iter().filter(|other| keys.has(other)) {
        keys.fault_with_hint(other, "cannot be combined with `listen`", "write `listen: HOST:PORT` alone");
    }
    if keys.count(key) == 0 && keys.is_list(key) {
        keys.fault_with_hint(key, "has no address", "leave it out for :9399");
    }
    let few = addresses.get(..addresses.len().min(MOST_COMPARED)).unwrap_or_default();
    let others =
        |(at, one): (usize, _)| few.iter().skip(at + 1).map(move |other: &ListenAddress| (one, other));
    let mut pairs = few.iter().enumerate().flat_map(others);
    if let Some((one, other)) = pairs.find(|(one, other)| other.overlaps(one)) {
        let hint = "leave one of them out: `:PORT` and `[::]:PORT` are all addresses of this machine";
        keys.fault_with_hint(key, format!("{one} and {other} cannot be open at once"), hint);
    }
    Some(addresses)
}

/// `host:port`, as it stands in the JSON of `/sd`.
fn advertise(keys: &mut Keys<'_>, key: &'static str) -> Option<String> {
    let text = keys.text(key)?;
    let (host, port) = text.rsplit_once(':').unwrap_or((&text, ""));
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(is_of_name),
    };
    if !is_host || port.starts_with('+') || port.parse::<NonZeroU16>().is_err() {
        let message = format!("{text:?} is not an address that others can reach");
        keys.fault_with_hint(key, message, "write host:port or [IPv6]:port, without a scheme");
    }
    Some(text)
}

fn route_prefix(keys: &mut Keys<'_>, key: &'static str) -> Option<RoutePrefix> {
    let prefix = RoutePrefix::parse(&keys.text(key)?);
    keys.valid(key, prefix)
}

fn target_label(keys: &mut Keys<'_>, key: &'static str) -> Option<String> {
    let text = keys.text(key)?;
    if let Some(why) = reserved_label(&text) {
        keys.fault(key, format!("the label {text} {why}"));
    } else if let Err(message) = LabelName::new(&text)
        && !text.is_empty()
    {
        keys.fault_with_hint(key, message, "write \"\" for no label");
    }
    Some(text)
}

fn any_number(keys: &mut Keys<'_>, key: &'static str) -> Option<usize> {
    keys.number(key, "a whole number (0 = no limit)")
}

/// Names of this server.
fn listed(keys: &mut Keys<'_>) -> Option<AllowedHosts> {
    keys.parsed("hosts", hosts::pattern).map(AllowedHosts::Listed)
}
