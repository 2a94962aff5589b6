//! The binary: words in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    ExitCode::from(sql_exporter::cli::run(&words))
}
