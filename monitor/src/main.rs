//! The one binary: see [`monitor::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

use monitor_sys::memory::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    monitor::cli::main()
}
