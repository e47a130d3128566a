//! The one binary: see [`monitor::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    monitor::cli::main()
}
