//! The policy: read before all else, and anew at a reload, then on a thread of its own. A long one takes a second and
//! more to be checked, in which signals are heard, hooks looked after and workers started.
//!
//! In: what the settings name. Out: the texts, checked, and what they ask of identities. Must never: read two at a
//! time; keep one that was wanted from being read since it was changed.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded, never};

use super::start::{RunError, RunOptions, spawn};
use crate::config::{Config, Origin};
use crate::identity::Asked;
use crate::names::host_resolvers;
use crate::policy::{Policy, PolicyError, PolicyTexts, Wants};

/// A policy that is in order.
pub struct Loaded {
    pub texts: PolicyTexts,
    wants: Wants,
    /// Services and clients in it.
    pub count: usize,
    /// Its file or directory; `None`: the built-in one.
    pub name: Option<String>,
    /// DNS servers whose answers count where it names none.
    pub resolvers: Vec<IpAddr>,
}

impl Loaded {
    /// Reads what the settings name, and checks it.
    ///
    /// # Errors
    /// It cannot be read, or is wrong: with its place.
    pub fn read(config: &Config, origin: &Origin) -> Result<Loaded, RunError> {
        let texts = match &config.policy.file {
            Some(path) => Policy::texts(path).map_err(|error| match error {
                unreadable @ PolicyError::Unreadable { .. } => {
                    RunError::from(origin.blame("policy.file", format!("policy.file: {unreadable}")))
                }
                error => error.into(),
            })?,
            None => PolicyTexts::default(),
        };
        if let Some(others) = texts.others() {
            say!("streamwatch: {others}");
        }
        let policy = Policy::compile(&texts)?;
        Ok(Loaded {
            texts,
            wants: policy.wants(),
            count: policy.len(),
            name: config.policy.file.as_ref().map(|path| path.display().to_string()),
            resolvers: host_resolvers(),
        })
    }

    /// The same, with the settings as they are now.
    ///
    /// # Errors
    /// As [`Loaded::read`], or the settings are wrong.
    pub fn read_anew(options: &RunOptions) -> Result<Loaded, RunError> {
        let (config, origin) = Config::read(options.config.as_deref(), options.overrides.clone())?;
        Loaded::read(&config, &origin)
    }

    /// Has identities looked up as it wants them.
    pub fn ask(&self, of: &Asked) {
        of.set(self.wants.hashes, self.wants.workloads);
    }
}

/// What came of reading it anew; `None`: nothing, it came to no end.
pub type Outcome<T> = Option<Result<T, RunError>>;

/// Reads it anew, on a thread of its own, once at a time.
pub struct Readings<T> {
    read: Arc<dyn Fn() -> Result<T, RunError> + Send + Sync>,
    /// What the one that runs will bring.
    running: Option<Receiver<Result<T, RunError>>>,
    /// It was asked for since that one began.
    again: bool,
}

impl<T: Send + 'static> Readings<T> {
    pub fn new(read: impl Fn() -> Result<T, RunError> + Send + Sync + 'static) -> Self {
        Readings { read: Arc::new(read), running: None, again: false }
    }

    /// One that begins from here on: at once, or when the one that runs is done ([`Readings::came`]).
    ///
    /// # Errors
    /// There is no thread.
    pub fn ask(&mut self) -> Result<(), RunError> {
        if self.running.is_some() {
            self.again = true;
            return Ok(());
        }
        let (done, running) = bounded(1);
        let read = self.read.clone();
        spawn("policy", move || drop(done.send(read())))?;
        self.running = Some(running);
        Ok(())
    }

    /// Where the one that runs is heard of, to be given to [`Readings::came`].
    pub fn running(&self) -> Receiver<Result<T, RunError>> {
        self.running.clone().unwrap_or_else(never)
    }

    /// It is done; whether another one was asked for meanwhile.
    pub fn came<E>(&mut self, what: Result<Result<T, RunError>, E>) -> (Outcome<T>, bool) {
        self.running = None;
        (what.ok(), std::mem::take(&mut self.again))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    /// For as long as nobody else keeps the processors.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn one_is_read_at_a_time_and_once_more_where_it_was_asked_for_meanwhile() {
        let (began, begins) = bounded(10);
        let (let_go, held) = bounded::<()>(10);
        let count = AtomicU32::new(0);
        let mut readings = Readings::new(move || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let _ = (began.send(number), held.recv_timeout(PATIENCE));
            Ok(number)
        });
        readings.ask().unwrap();
        assert_eq!(begins.recv_timeout(PATIENCE), Ok(0));
        // Whoever reads has what is there by now, or not: three times more is once more.
        for _ in 0..3 {
            readings.ask().unwrap();
        }
        assert!(readings.running().try_recv().is_err() && begins.try_recv().is_err(), "two at a time");
        for (number, expected) in [(0, true), (1, false)] {
            let_go.send(()).unwrap();
            let came = readings.running().recv_timeout(PATIENCE);
            let (came, again) = readings.came(came);
            assert!(matches!(came, Some(Ok(read)) if read == number), "{number}");
            assert_eq!(again, expected, "behind {number}");
            if again {
                readings.ask().unwrap();
                assert_eq!(begins.recv_timeout(PATIENCE), Ok(1));
            }
        }
        assert!(readings.running().try_recv().is_err());
        // And anew where nothing runs.
        readings.ask().unwrap();
        assert_eq!(begins.recv_timeout(PATIENCE), Ok(2));
        let_go.send(()).unwrap();
        let came = readings.running().recv_timeout(PATIENCE);
        assert!(matches!(readings.came(came), (Some(Ok(2)), false)));
    }

    #[test]
    fn one_that_comes_to_no_end_is_none_and_the_next_is_read() {
        let first = AtomicU32::new(0);
        let mut readings = Readings::new(move || {
            if first.fetch_add(1, Ordering::Relaxed) == 0 {
                std::panic::resume_unwind(Box::new("a fault of ours"));
            }
            Ok(())
        });
        readings.ask().unwrap();
        let came = readings.running().recv_timeout(PATIENCE);
        assert!(matches!(readings.came(came), (None, false)));
        readings.ask().unwrap();
        let came = readings.running().recv_timeout(PATIENCE);
        assert!(matches!(readings.came(came), (Some(Ok(())), false)));
    }
}
