//! `process_*`: what every Prometheus client says of its process, read from `/proc` when it is asked for. The
//! prometheus crate's own collector counts CPU in whole seconds. Where there is no `/proc`, there are no rows.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, LazyLock};

use crate::exposition::block::Block;
use crate::exposition::{Family, FamilyKind};
use crate::name::MetricName;

/// Clock ticks a second in `/proc` (`USER_HZ`): 100 on every architecture Rust's Linux targets have.
const TICKS: f64 = 100.0;

/// When the machine started, in Unix time. Read once: the kernel counts all its interrupts for this file.
static BOOT: LazyLock<Option<f64>> = LazyLock::new(|| {
    let machine = text("/proc/stat")?;
    machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
});

/// A file of `/proc`, which says that it has no length: to be asked for that, and read in small pieces then, costs more
/// than the file.
fn text(path: &str) -> Option<String> {
    let mut text = String::with_capacity(8 * 1024);
    File::open(path).ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The families that can be read, each with its one sample.
pub(super) fn read() -> Vec<Block> {
    let stat = Stat::read();
    let status = Status::read();
    let gauge = FamilyKind::Gauge;
    let rows = [
        ("process_cpu_seconds_total", FamilyKind::Counter, "User and system CPU time.", stat.cpu()),
        ("process_max_fds", gauge, "The soft limit of open file descriptors.", descriptor_limit()),
        ("process_open_fds", gauge, "Open file descriptors.", open_descriptors()),
        ("process_resident_memory_bytes", gauge, "Resident memory.", status.bytes("VmRSS")),
        ("process_start_time_seconds", gauge, "Start of the process, in Unix time.", stat.start()),
        ("process_threads", gauge, "Threads.", status.number("Threads")),
        ("process_virtual_memory_bytes", gauge, "Virtual memory.", status.bytes("VmSize")),
    ];
    let block = |(name, kind, help, value): (&str, FamilyKind, &str, Option<f64>)| {
        let name = MetricName::new(name).ok()?;
        let mut block = Block::new(Arc::new(Family::new(name, kind, help)));
        block.sample(&[], value?);
        Some(block)
    };
    rows.into_iter().filter_map(block).collect()
}

/// `/proc/self/stat` after the command's name, which may hold anything.
struct Stat(String);

impl Stat {
    fn read() -> Self {
        let text = text("/proc/self/stat").unwrap_or_default();
        Stat(text.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default())
    }

    /// A field by its number in proc(5); the first after the name is 3.
    fn field(&self, number: usize) -> Option<f64> {
        self.0.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
    }

    fn cpu(&self) -> Option<f64> {
        Some((self.field(14)? + self.field(15)?) / TICKS)
    }

    fn start(&self) -> Option<f64> {
        Some((*BOOT)? + self.field(22)? / TICKS)
    }
}

/// `/proc/self/status`.
struct Status(String);

impl Status {
    fn read() -> Self {
        Status(text("/proc/self/status").unwrap_or_default())
    }

    fn number(&self, key: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }

    /// The file counts in KiB.
    fn bytes(&self, key: &str) -> Option<f64> {
        self.number(key).map(|kib| kib * 1024.0)
    }
}

/// Without the one that this listing holds itself.
fn open_descriptors() -> Option<f64> {
    let listed = u32::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(f64::from(listed.saturating_sub(1)))
}

#[expect(clippy::cast_precision_loss, reason = "a limit of 2^53 and more is no limit")]
fn descriptor_limit() -> Option<f64> {
    rlimit::Resource::NOFILE.get_soft().ok().map(|limit| limit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_counted_in_hundredths_and_memory_in_bytes() {
        // Found by busy work: at least one tick of CPU passes in a bounded number of rounds.
        let mut rounds = 0u64;
        while Stat::read().cpu() == Some(0.0) && rounds < 1 << 20 {
            rounds += 1;
        }
        let cpu = Stat::read().cpu().unwrap();
        assert!(cpu > 0.0 && cpu < 3600.0, "{cpu}");
        assert!(Status::read().bytes("VmRSS").unwrap() > 100.0 * 1024.0);
        assert!(Status::read().number("Threads").unwrap() >= 1.0);
    }

    #[test]
    fn the_start_is_before_now_and_after_the_boot() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let start = Stat::read().start().unwrap();
        assert!(start <= now + 1.0 && start > now - 86400.0, "{start} {now}");
    }

    #[test]
    fn open_descriptors_are_below_the_limit() {
        let open = open_descriptors().unwrap();
        assert!(open >= 3.0 && open <= descriptor_limit().unwrap(), "{open}");
    }
}
