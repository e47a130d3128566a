//! SIGTERM, SIGINT and SIGHUP, one at a time.

use std::thread;

use crossbeam_channel::{Receiver, bounded};

/// What a signal asks for.
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
}

impl Signals {
    pub fn install() -> std::io::Result<Self> {
        let mut wanted = signal_hook::iterator::Signals::new([
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGHUP,
        ])?;
        let (sender, signals) = bounded(4);
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
        Ok(Signals { signals })
    }

    /// Where they come.
    pub fn received(&self) -> &Receiver<Signal> {
        &self.signals
    }
}
