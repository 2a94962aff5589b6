//! The binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sql_exporter::cli::run(std::env::args_os().skip(1)))
}
