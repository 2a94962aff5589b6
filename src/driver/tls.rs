//! Encryption towards a server: the five modes and their files (DESIGN 2), and rustls' configuration of them.

use std::path::PathBuf;

/// How much is demanded. Names and meanings are libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Mode {
    /// Plain text, written out: a clear-text password is then allowed.
    Disable,
    /// Encrypted where the server offers it.
    #[default]
    Prefer,
    /// Encrypted, not verified.
    Require,
    /// The certificate chains to `ca` (or the system's roots).
    VerifyCa,
    /// And names the host.
    VerifyFull,
}

/// The names of [`Mode`] in a configuration.
pub const MODES: &[(&str, Mode)] = &[
    ("disable", Mode::Disable),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

/// The `tls` keys of a `databases:` entry.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// What is demanded.
    pub mode: Mode,
    /// Trusted certificates (PEM) instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate chain (PEM).
    pub cert: Option<PathBuf>,
    /// Our key (PEM).
    pub key: Option<PathBuf>,
    /// The name to verify instead of the host (PostgreSQL only).
    pub server_name: Option<String>,
}
