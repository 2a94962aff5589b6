//! The exporter under attack: what it serves, what it holds, what it counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Attack;
use super::client::{Client, Way, replies};
use super::dial::Dial;
use crate::exporter::{Exporter, Setup};
use crate::process::{bound, poll, signal};
use crate::web_client::Reply;

/// The bytes of a row's label: 20,000 rows, as many as a query may make, are more than the kernel's buffers hold.
pub(super) const ROW: usize = 400;
/// Answers under way at once in the warm-up, and at most in an attack: threads that are no longer needed leave after
/// half a minute only.
pub(super) const AT_ONCE: usize = 4;
/// How often the warm-up asks for as many pages.
const WARM: usize = 3;
/// A scraper that comes during an attack waits no longer.
const PROMPT: Duration = Duration::from_secs(1);
/// After an attack everything is as before within this.
const RECOVERY: Duration = Duration::from_secs(10);

/// What the process holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    /// Resident, in KiB: all, and what is not backed by a file.
    pub(super) resident: usize,
    pub(super) anonymous: usize,
    pub(super) threads: usize,
    pub(super) descriptors: usize,
}

/// By how much it may hold more than before.
pub(super) const SLACK: Figures =
    Figures { resident: 8 << 10, anonymous: 8 << 10, threads: 4, descriptors: 8 };

impl Figures {
    /// Reads `/proc` of a process, which must run.
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the exporter lives");
        let field = |name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the exporter lives");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the exporter lives").count();
        Figures {
            resident: field("VmRSS:"),
            anonymous: field("RssAnon:"),
            threads: field("Threads:"),
            descriptors,
        }
    }

    /// None of them is above `base` by more than `slack`.
    pub(super) fn within(&self, base: &Figures, slack: &Figures) -> bool {
        self.resident <= base.resident + slack.resident
            && self.anonymous <= base.anonymous + slack.anonymous
            && self.threads <= base.threads + slack.threads
            && self.descriptors <= base.descriptors + slack.descriptors
    }
}

/// How often each reason was counted.
pub(super) type Counts = BTreeMap<String, u64>;

/// A serving exporter, warmed up.
pub(super) struct Victim {
    exporter: Exporter,
    dial: Dial,
    rows: usize,
    /// It may open few files. Panics are part of that: those of tiny_http, which is replaced then.
    starved: bool,
    base: Figures,
}

impl Victim {
    /// Starts what `attack` is run against.
    pub(super) fn start(attack: &Attack, dial: Dial) -> Self {
        let config = format!(
            "databases: {{db: {{driver: sqlite, database: a.db}}}}\n\
             queries:\n\
             - name: page\n  \
               sql: WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT printf('%0{ROW}d', i) AS label, 7 AS value FROM n\n  \
               metrics: [{{name: page, labels: [label]}}]\n\
             exporter:\n  http: {{{}}}\n{}",
            attack.rows,
            attack.limits,
            dial.keys()
        );
        let mut setup = dial.equip(Setup::new(&config).file("a.db", ""));
        if let Some(most) = attack.descriptors {
            setup = setup.descriptors(most);
        }
        let exporter = setup.serve();
        let base = Figures::of(exporter.pid());
        let mut victim =
            Victim { exporter, dial, rows: attack.rows, starved: attack.descriptors.is_some(), base };
        victim.warm_up();
        victim.base = victim.figures();
        victim
    }

    /// Pages at once, each asked for until it is whole: where the limits are for slow readers, a busy
    /// machine may be too slow at first.
    fn warm_up(&self) {
        let at_once = if self.starved { 1 } else { AT_ONCE };
        let pages = || (0..WARM).for_each(|_| self.wait_for_page("a first page", Duration::from_secs(60)));
        std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(pages))));
    }

    fn wait_for_page(&self, what: &str, limit: Duration) {
        poll(what, limit, || {
            let mut client = self.connect();
            client.get("/metrics");
            self.check(&client.rest()).ok()
        });
    }

    /// A socket on which nothing is said yet, not even by TLS.
    pub(super) fn raw(&self) -> Client {
        Client::connect(Dial::Plain, self.exporter.address())
    }

    pub(super) fn connect(&self) -> Client {
        Client::connect(self.dial, self.exporter.address())
    }

    pub(super) fn connect_by(&self, way: Way) -> Client {
        Client::connect_by(self.dial, self.exporter.address(), way)
    }

    /// Sends bytes on a connection of their own; the status of the answer.
    pub(super) fn say(&self, bytes: impl AsRef<[u8]>) -> u16 {
        let mut client = self.connect();
        client.send(bytes);
        client.status()
    }

    /// Whether this is a whole page with all rows.
    fn check(&self, answer: &[u8]) -> Result<(), String> {
        let reply = Reply::parse(answer, false)?;
        let rows = reply.text().matches("\npage{").count();
        if reply.status == 200 && rows == self.rows {
            return Ok(());
        }
        Err(format!("status {}, {rows} rows", reply.status))
    }

    /// A new scraper is served, and at once.
    pub(super) fn serves(&self) {
        self.serves_by(Way::default());
    }

    /// The same for one who comes in a certain way.
    pub(super) fn serves_by(&self, way: Way) {
        let asked = Instant::now();
        let mut client = self.connect_by(way);
        client.get("/metrics");
        let answer = client.rest();
        let took = asked.elapsed();
        self.check(&answer).expect("a page amid the attack");
        // A large page takes a debug build's time.
        assert!(self.rows > 1 || took < bound(PROMPT), "a scrape amid the attack took {took:?}");
    }

    /// It stands still until [`Victim::thaw`]. The signal only asks: its threads stop one by one.
    pub(super) fn freeze(&self) {
        let pid = self.exporter.pid();
        signal("STOP", &[pid]);
        let stands = |status: String| status.contains("\nState:\tT");
        poll("every thread to stop", bound(RECOVERY), || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the exporter lives");
            let statuses = tasks.map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
            statuses.into_iter().all(|status| status.is_some_and(stands)).then_some(())
        });
    }

    pub(super) fn thaw(&self) {
        signal("CONT", &[self.exporter.pid()]);
    }

    pub(super) fn figures(&self) -> Figures {
        Figures::of(self.exporter.pid())
    }

    /// Holds amid an attack no more than `slack` above what it held before.
    pub(super) fn holds_within(&self, slack: &Figures) {
        let now = self.figures();
        assert!(now.within(&self.base, slack), "{now:?} amid the attack, before it {:?}", self.base);
    }

    /// The refusals so far, by reason. Asks until it is let in.
    pub(super) fn rejected(&self) -> Counts {
        let own = poll("the exporter's own metrics", bound(RECOVERY), || {
            let mut client = self.connect();
            client.get("/-/metrics");
            Reply::parse(&client.rest(), false).ok().filter(|reply| reply.status == 200)
        });
        let name = "sql_exporter_http_requests_rejected_total{reason=\"";
        let rows = own.text().lines().filter_map(|line| line.strip_prefix(name)?.split_once("\"} "));
        rows.map(|(reason, count)| (reason.to_owned(), count.parse().expect("a count"))).collect()
    }

    /// The reasons that rose, in alphabetical order.
    pub(super) fn raised_since(&self, before: &Counts) -> Vec<String> {
        let now = self.rejected();
        let rose = now.into_iter().filter(|(reason, count)| before.get(reason) < Some(count));
        rose.map(|(reason, _)| reason).collect()
    }

    /// The process lives, holds no more than before, and serves; all within the time for it.
    pub(super) fn recovers(&self) {
        let started = Instant::now();
        let mut now = self.figures();
        while !now.within(&self.base, &SLACK) {
            let base = self.base;
            assert!(started.elapsed() < bound(RECOVERY), "{now:?} after the attack, before it {base:?}");
            std::thread::sleep(Duration::from_millis(20));
            now = self.figures();
        }
        self.wait_for_page("a scrape after the attack", bound(RECOVERY));
        let log = self.exporter.log();
        assert!(self.starved || !log.contains("panicked"), "{log}");
    }
}

/// Answers of one connection, in order.
pub(super) fn bodies(answer: &[u8]) -> Vec<(u16, String)> {
    replies(answer).iter().map(|reply| (reply.status, reply.text().to_owned())).collect()
}
