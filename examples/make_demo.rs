//! Makes the demo's database file from its SQL: `cargo run --example make_demo [TARGET [SQL]]`.
//!
//! The exporter only reads, so the demo's data comes from here. An existing file is replaced in one step.

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo");
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let target = arguments.next().unwrap_or_else(|| demo.join("shop.db"));
    let source = arguments.next().unwrap_or_else(|| demo.join("shop.sql"));
    make(&target, &source)
}

pub(crate) fn make(target: &Path, source: &Path) -> Result<(), Box<dyn Error>> {
    let sql = std::fs::read_to_string(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let fresh = target.with_extension("new.db");
    let _ = std::fs::remove_file(&fresh);
    let connection = rusqlite::Connection::open(&fresh)?;
    connection.execute_batch(&format!("BEGIN;\n{sql}\nCOMMIT;"))?;
    connection.close().map_err(|(_, error)| error)?;
    std::fs::rename(&fresh, target)?;
    Ok(())
}
