//! Lines for the log, on stderr.
//!
//! Whoever reads it may be gone, and the worker, which shares it, may have shut it: nobody fails for that, as
//! `eprintln!` would. What others chose (paths, names, answers) does nothing to a terminal, and makes no second line.

use std::fmt::Arguments;
use std::io::{self, Write};

use crate::record::printable;

/// Says one line.
pub(crate) fn line(line: Arguments<'_>) {
    let text = format!("{}\n", printable(&line.to_string()));
    // There is nowhere else to say that it could not be said.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Says one line, as `eprintln!` does, and goes on whatever becomes of it.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::say::line(format_args!($($arguments)*)) };
}
