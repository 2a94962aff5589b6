//! How glibc's allocator is set for a process that serves for months. Safe Rust cannot tell it once it runs; it reads
//! its settings from the environment at its start, so the program starts itself once more.
//!
//! Measured by `make soak`, 10,000 scrapes under faults, resident memory in the second 1,000 and in the last: 35 and
//! 60 MiB without these settings, though what is in use stays at 2.5 MiB throughout. The mysql crate takes 8 MiB of
//! buffers a connection and touches a few KiB of them. After the first is freed, glibc no longer maps such blocks by
//! themselves but cuts them out of its heaps, one for each of many threads, and small blocks spread over that space.
//! What remained, 22 and 25 MiB, were up to 236 KiB of freed blocks that each of 60 threads keeps for itself. With all
//! three settings it is 17 and 18 MiB.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Blocks from 2 MiB are mapped and given back by themselves; two heaps for all threads; a thread keeps one freed
/// block of each size for itself, not seven; what one page takes stays at a heap's end for the next one.
const SETTINGS: &str = "glibc.malloc.mmap_threshold=2097152:glibc.malloc.arena_max=2:glibc.malloc.tcache_count=1:\
                        glibc.malloc.trim_threshold=1048576";
/// Where glibc reads them. What the environment says here, or in one of `MALLOC_…`, is left as it is.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// Says that the program has started itself already: one with file capabilities never sees the settings.
const DONE: &str = "SQL_EXPORTER_ALLOCATOR";

/// Starts the program again in this same process, with the settings; returns in the second start, or where that
/// cannot be. To be called before any thread and any file.
pub fn set() {
    let told = std::env::vars_os().any(|(name, _)| {
        name == TUNABLES || name == DONE || name.to_str().is_some_and(|name| name.starts_with("MALLOC_"))
    });
    if told || cfg!(not(target_env = "gnu")) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = words.next() {
        again.arg0(name);
    }
    // Comes back only when it fails: then the program goes on as it is.
    drop(again.args(words).env(DONE, "set").env(TUNABLES, SETTINGS).exec());
}
