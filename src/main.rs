//! The binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    sql_exporter::driver::sqlite::hide_expected_panics();
    ExitCode::from(sql_exporter::cli::run(std::env::args_os().skip(1)))
}
