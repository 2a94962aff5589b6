//! `process_*`: the metrics of every Prometheus client library, read from `/proc` for each page. The prometheus crate's own
//! collector counts CPU in whole seconds. Without `/proc` there are no rows.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::exposition::block::Block;
use crate::exposition::{Family, FamilyKind};
use crate::value::float::of_count;

/// Clock ticks per second in `/proc` (`USER_HZ`): 100 on every architecture that Rust supports on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// When this was read, and the start of the machine in Unix time. Read again only when the clock was set: the kernel sums
/// up all its interrupts for this file.
static BOOT_TIME: Mutex<Option<(Timestamp, f64)>> = Mutex::new(None);

fn boot_time(now: Timestamp) -> Option<f64> {
    let mut known = BOOT_TIME.lock();
    if let Some((read, boot)) = *known
        && read.agrees_with(now)
    {
        return Some(boot);
    }
    let machine = text("/proc/stat")?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    *known = Some((now, boot));
    Some(boot)
}

/// A file of `/proc`, which has no length: asking for it and then reading small pieces costs more than the file.
fn text(path: &str) -> Option<String> {
    let mut text = String::with_capacity(8 * 1024);
    File::open(path).ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

const HEADS: [(&str, FamilyKind, &str); 7] = [
    ("process_cpu_seconds_total", FamilyKind::Counter, "User and system CPU time."),
    ("process_max_fds", FamilyKind::Gauge, "The soft limit of open file descriptors."),
    ("process_open_fds", FamilyKind::Gauge, "Open file descriptors."),
    ("process_resident_memory_bytes", FamilyKind::Gauge, "Resident memory."),
    ("process_start_time_seconds", FamilyKind::Gauge, "Start of the process, in Unix time."),
    ("process_threads", FamilyKind::Gauge, "Threads."),
    ("process_virtual_memory_bytes", FamilyKind::Gauge, "Virtual memory."),
];

static FAMILIES: LazyLock<[Arc<Family>; 7]> =
    LazyLock::new(|| HEADS.map(|(name, kind, help)| Family::ours(name, kind, help)));

/// The families that can be read, each with its one sample.
pub(super) fn read() -> Vec<Block> {
    let stat = ProcStat::read();
    let values = [
        stat.cpu(),
        descriptor_limit(),
        open_descriptors(),
        stat.resident(),
        stat.start(),
        stat.field(20),
        stat.field(23),
    ];
    let block = |(family, value): (&Arc<Family>, Option<f64>)| {
        let mut block = Block::new(Arc::clone(family));
        block.sample(&[], value?);
        Some(block)
    };
    FAMILIES.iter().zip(values).filter_map(block).collect()
}

/// `/proc/self/stat` after the command's name, which may contain anything.
struct ProcStat(String);

impl ProcStat {
    fn read() -> Self {
        let text = text("/proc/self/stat").unwrap_or_default();
        ProcStat(text.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default())
    }

    /// A field by its number in proc(5); the first after the name is 3.
    fn field(&self, number: usize) -> Option<f64> {
        self.0.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
    }

    fn cpu(&self) -> Option<f64> {
        Some((self.field(14)? + self.field(15)?) / TICKS_PER_SECOND)
    }

    /// The kernel counts pages.
    fn resident(&self) -> Option<f64> {
        Some(self.field(24)? * of_count(rustix::param::page_size() as u64))
    }

    fn start(&self) -> Option<f64> {
        Some(boot_time(Timestamp::now())? + self.field(22)? / TICKS_PER_SECOND)
    }
}

/// Since Linux 6.2 the folder's size is their number. Before, they are listed, without the listing's own.
fn open_descriptors() -> Option<f64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return u32::try_from(size).ok().map(f64::from);
    }
    let listed = u32::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(f64::from(listed.saturating_sub(1)))
}

fn descriptor_limit() -> Option<f64> {
    rlimit::Resource::NOFILE.get_soft().ok().map(of_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_counted_in_hundredths_and_memory_in_bytes() {
        // Found by busy work: at least one tick of CPU passes in a bounded number of rounds.
        let mut rounds = 0u64;
        while ProcStat::read().cpu() == Some(0.0) && rounds < 1 << 20 {
            rounds += 1;
        }
        let cpu = ProcStat::read().cpu().unwrap();
        assert!(cpu > 0.0 && cpu < 3600.0, "{cpu}");
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: f64 = line.split_ascii_whitespace().next().unwrap().parse().unwrap();
        let resident = ProcStat::read().resident().unwrap();
        // The tests beside this one work on.
        assert!(resident > kib * 1024.0 / 4.0 && resident < kib * 1024.0 * 4.0, "{resident} {kib}");
        assert!(ProcStat::read().field(20).unwrap() >= 1.0, "threads");
    }

    #[test]
    fn the_start_is_before_now_and_after_the_boot() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let start = ProcStat::read().start().unwrap();
        assert!(start <= now + 1.0 && start > now - 86400.0, "{start} {now}");
    }

    #[test]
    fn open_descriptors_are_below_the_limit() {
        let open = open_descriptors().unwrap();
        assert!(open >= 3.0 && open <= descriptor_limit().unwrap(), "{open}");
    }
}
