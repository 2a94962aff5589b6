//! Bounds the heaps of glibc's allocator by `mallopt`, the only unsafe code of the crate.
//!
//! glibc gives each of many threads a heap of its own, up to eight per core. On a machine with 16 cores that would be up to
//! 128 heaps, and with 128 of them 500 idle targets took 36 MiB of resident memory; with two they take 30 MiB.

#[cfg(target_env = "gnu")]
mod glibc {
    use std::ffi::c_int;

    /// Heaps for all threads.
    const HEAPS: c_int = 2;

    pub(crate) fn set() {
        // SAFETY: `mallopt` takes two integers and locks the allocator's state itself; a parameter or a value that it does
        // not know changes nothing (it returns 0). <https://man7.org/linux/man-pages/man3/mallopt.3.html>
        #[expect(
            unsafe_code,
            reason = "std has no call for it; the variables glibc reads at the start leak to children"
        )]
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
    }

    /// Whether the administrator has tuned the allocator, by one of its own variables or a tunable of `malloc`.
    pub(crate) fn is_tuned_by_environment() -> bool {
        std::env::vars_os().any(|(name, value)| match name.to_str() {
            Some("GLIBC_TUNABLES") => value.to_string_lossy().contains("glibc.malloc."),
            Some(name) => name.starts_with("MALLOC_"),
            None => false,
        })
    }
}

/// Bounds the heaps, unless the environment tunes the allocator. Call it before other threads start.
pub fn set() {
    #[cfg(target_env = "gnu")]
    if !glibc::is_tuned_by_environment() {
        glibc::set();
    }
}
