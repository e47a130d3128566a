//! SIGTERM, SIGINT and SIGHUP, one at a time.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, bounded, select};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Reload,
    /// From a service manager, as a rule: another daemon may follow.
    Terminate,
    /// From a person at a terminal.
    Interrupt,
}

/// The same while there is nothing that has to be put away: a signal to end ends the process there and then, also
/// the first one of a container, for which the kernel does nothing by itself (pid_namespaces(7)). A reload is for later.
pub struct Early {
    ends: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Early {
    /// From here on.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn install() -> std::io::Result<Self> {
        let early = Early { ends: Arc::new(true.into()), reload: Arc::default() };
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register_conditional_shutdown(signal, 0, early.ends.clone())?;
        }
        signal_hook::flag::register(signal_hook::consts::SIGHUP, early.reload.clone())?;
        Ok(early)
    }
}

/// SIGTERM, SIGINT and SIGHUP, taken one at a time.
pub struct Signals {
    signals: Receiver<Signal>,
    /// A reload came while something else was waited for.
    reload: Cell<bool>,
    /// The daemon is to end when what was waited for has its turn.
    end: Cell<Option<Signal>>,
}

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited<T> {
    For(T),
    /// Nothing, for so long.
    Late,
    /// Nobody is there to answer any more.
    Gone,
    /// The daemon is to end.
    Ended(Signal),
}

impl Signals {
    /// From here on, in the place of [`Early`].
    ///
    /// # Errors
    /// The kernel refuses it, or there is no thread.
    pub fn install(early: &Early) -> std::io::Result<Self> {
        outlive_limits(&Arc::default())?;
        let mut wanted = signal_hook::iterator::Signals::new([
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGHUP,
        ])?;
        // One that comes between is heard twice, or ends the process as one before.
        early.ends.store(false, Ordering::SeqCst);
        let reload = Cell::new(early.reload.load(Ordering::SeqCst));
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
        Ok(Signals { signals, reload, end: Cell::default() })
    }

    /// Waits for what `answers` bring, and no longer than a signal to end, or `patience`, allows. A reload is for later.
    pub fn wait<T>(&self, answers: &Receiver<T>, patience: Duration) -> Waited<T> {
        let late = after(patience);
        loop {
            select! {
                recv(answers) -> answer => return answer.map_or(Waited::Gone, Waited::For),
                recv(self.signals) -> signal => match signal {
                    Ok(Signal::Reload) => self.reload.set(true),
                    Ok(signal) => return Waited::Ended(signal),
                    // There are none any more; see [`Signals::received`].
                    Err(_) => return Waited::Ended(Signal::Interrupt),
                },
                recv(late) -> _ => return Waited::Late,
            }
        }
    }

    /// Whether a reload came while something else was waited for; said once.
    pub fn reload_waits(&self) -> bool {
        self.reload.take()
    }

    /// Puts off a signal to end.
    pub fn put_off(&self, signal: Signal) {
        self.end.set(Some(signal));
    }

    /// One that was put off; said once.
    pub fn end_waits(&self) -> Option<Signal> {
        self.end.take()
    }

    /// Where they come. Nobody is at the other end any more where the thread that takes them is gone.
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

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    #[test]
    fn a_reload_that_comes_while_something_is_waited_for_is_for_later_and_is_one() {
        let (sender, signals) = bounded(4);
        let signals = Signals { signals, reload: Cell::default(), end: Cell::default() };
        let (_answer, answers) = bounded::<()>(1);
        for _ in 0..3 {
            let _ = sender.send(Signal::Reload);
        }
        assert_eq!(signals.wait(&answers, SOON), Waited::Late);
        assert!(signals.reload_waits() && !signals.reload_waits());
        let _ = sender.send(Signal::Reload);
        let _ = sender.send(Signal::Terminate);
        assert_eq!(signals.wait(&answers, SOON), Waited::Ended(Signal::Terminate));
        assert!(signals.reload_waits());
    }

    #[test]
    fn a_thread_of_signals_that_is_gone_ends_the_daemon() {
        let (sender, signals) = bounded(4);
        let signals = Signals { signals, reload: Cell::default(), end: Cell::default() };
        let (_answer, answers) = bounded::<()>(1);
        let _ = sender.send(Signal::Reload);
        drop(sender);
        assert_eq!(signals.wait(&answers, SOON), Waited::Ended(Signal::Interrupt));
        assert!(signals.received().recv().is_err(), "nobody notices");
    }
}
