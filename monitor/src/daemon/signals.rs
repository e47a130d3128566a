//! SIGTERM, SIGINT and SIGHUP, one at a time.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, select};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Reload,
    /// From a service manager, as a rule: another daemon may follow.
    Terminate,
    /// From a person at a terminal.
    Interrupt,
}

/// SIGTERM, SIGINT and SIGHUP, taken one at a time.
pub struct Signals {
    signals: Receiver<Signal>,
    /// For one that comes too early.
    again: Sender<Signal>,
}

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited<T> {
    For(T),
    /// Nothing, for so long.
    Late,
    /// The daemon is to end.
    Ended(Signal),
}

impl Signals {
    pub fn install() -> std::io::Result<Self> {
        outlive_limits(&Arc::default())?;
        let mut wanted = signal_hook::iterator::Signals::new([
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGHUP,
        ])?;
        let (sender, signals) = bounded(4);
        let again = sender.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in wanted.forever() {
                let signal = match signal {
                    signal_hook::consts::SIGHUP => Signal::Reload,
                    signal_hook::consts::SIGTERM => Signal::Terminate,
                    _ => Signal::Interrupt,
                };
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })?;
        Ok(Signals { signals, again })
    }

    /// Waits for what `answers` bring, and no longer than a signal to end, or `patience`, allows. A reload is for later.
    /// Where nobody is there to answer, that is late as well.
    pub fn wait<T>(&self, answers: &Receiver<T>, patience: Duration) -> Waited<T> {
        let (late, mut reload) = (after(patience), false);
        let waited = loop {
            select! {
                recv(answers) -> answer => break answer.map_or(Waited::Late, Waited::For),
                recv(self.signals) -> signal => match signal {
                    Ok(Signal::Reload) => reload = true,
                    Ok(signal) => break Waited::Ended(signal),
                    // There are none any more; see [`Signals::received`].
                    Err(_) => break Waited::Ended(Signal::Interrupt),
                },
                recv(late) -> _ => break Waited::Late,
            }
        };
        if reload {
            let _ = self.again.try_send(Signal::Reload);
        }
        waited
    }

    /// Where they come.
    pub fn received(&self) -> &Receiver<Signal> {
        &self.signals
    }
}

/// A file that is longer than it may be (`RLIMIT_FSIZE`) is an error of that write, as a full disk is, and not the
/// process's end. By a handler that does nothing: programs that are started have the signal as it was, which they
/// would not where it is ignored.
pub fn outlive_limits(ignored: &Arc<AtomicBool>) -> std::io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, ignored.clone()).map(drop)
}
