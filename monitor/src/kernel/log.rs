//! Lines of the kernel programs, in debug builds of them: read from their own ring, written to stderr.

use std::thread;
use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;

const EVERY: Duration = Duration::from_millis(50);

/// Writes each line to stderr.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        say!("kernel programs: {}", record.args());
    }

    fn flush(&self) {}
}

/// Reads them for as long as the daemon runs. An object that was built without them is told, and no
/// reason to stop.
pub fn follow(ebpf: &mut Ebpf) {
    match EbpfLogger::init_with_logger(ebpf, Lines) {
        Ok(mut logger) => {
            thread::spawn(move || {
                loop {
                    logger.flush();
                    thread::sleep(EVERY);
                }
            });
        }
        Err(error) => say!("streamwatch: the kernel programs say nothing: {error}"),
    }
}
