//! Descriptors that a process was given and knows nothing of.

use std::io;

/// No program that this process starts gets a descriptor from `first` on, whoever left it open.
///
/// # Errors
/// `/proc` cannot be read.
pub fn keep_from_programs(first: i32) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if number >= first {
            // SAFETY: sets a flag of the descriptor; where it is closed by now (that of this very list), the
            // kernel says so. Who owns it does not notice but by starting a program.
            let _ = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}
