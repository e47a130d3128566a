//! The thread that writes down what must outlive the daemon, and holds it while it cannot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use jiff::Timestamp;

use super::state::{Answer, Ask, Keeping, Opener};
use super::work::Order;
use crate::alert::{Change, Saved};
use crate::keys::{Key, KeyError, Wrapped};
use crate::store::{Held, Opened, Pending, Store, StoreError};
use crate::tally::Tally;

/// Changes that come within this time are written together: each commit waits for the disk.
const TOGETHER: Duration = Duration::from_millis(200);

/// Between two attempts to open the files: doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// How long the core may take to put together what was kept with what it has.
const RESTORE: Duration = Duration::from_secs(5);

/// What goes into the keeper and out of it.
pub struct Links {
    pub changes: Receiver<Vec<Change>>,
    pub orders: Sender<Order>,
    /// Somebody wants the key to be looked at again.
    pub check: Receiver<()>,
    pub keeping: Arc<Keeping>,
    pub opener: Opener,
}

/// Its state.
pub struct Keeper {
    links: Links,
    store: Option<Store>,
    /// What is held of one that could not be written to.
    held: Option<Arc<Held>>,
    /// There is one copy alone, which was told; when the other one is tried again.
    lacks: bool,
    retry_copy: Duration,
    /// Its files are open, and not at their places: what is written to them is gone with them.
    misplaced: bool,
    /// The default key file may be gone as well: it is to be made where there is none.
    lacks_key: bool,
    /// The opener was asked for it.
    makes_key: bool,
    pending: Pending,
    /// Changes that came.
    received: u64,
    /// The core has what was kept.
    restored: bool,
    /// The opener has a question.
    asked: bool,
    /// When it is to be asked next, and how long after that.
    next: Instant,
    retry: Duration,
    check_every: Duration,
    /// What was told of last, so that it is told once.
    told: Option<String>,
    /// The files could be opened again; whether they can be written is still to be seen.
    reopened: bool,
}

impl Keeper {
    /// `store`: what the start has opened already, and the core has taken over.
    pub fn new(links: Links, store: Option<Store>, memory_bytes: usize, check_every: Duration) -> Keeper {
        let mut keeper = Keeper {
            pending: Pending::new(memory_bytes),
            received: 0,
            restored: store.is_some(),
            asked: false,
            next: Instant::now() + FIRST_RETRY,
            retry: FIRST_RETRY,
            check_every,
            told: None,
            reopened: false,
            links,
            store: None,
            held: None,
            lacks: false,
            retry_copy: FIRST_RETRY,
            misplaced: false,
            lacks_key: false,
            makes_key: false,
        };
        if let Some(store) = store {
            keeper.take(store);
        }
        keeper
    }

    /// The start has not waited for the answer, or has got this one.
    #[must_use]
    pub fn waiting(mut self, why: Option<&StoreError>) -> Keeper {
        match why {
            Some(error) => self.without(&error.to_string()),
            None => {
                self.asked = true;
                self.without(&format!("no answer yet from {}", self.links.opener.who));
            }
        }
        self
    }

    /// Keeps until the core has hung up, and then what is left.
    pub fn run(mut self) {
        let mut since: Option<Instant> = None;
        let mut answers = self.links.opener.answers.clone();
        let mut check = self.links.check.clone();
        loop {
            let now = Instant::now();
            if let Some(at) = since
                && self.can_write()
                && now >= at + TOGETHER
            {
                since = None;
                self.write();
            }
            if now >= self.next && self.misplaced {
                self.write();
            } else if !self.asked && now >= self.next {
                self.makes_key = self.store.is_some() && std::mem::take(&mut self.lacks_key);
                let ask = match (&self.store, self.makes_key) {
                    (None, _) => self.opening(),
                    (Some(_), false) => Ask::Key,
                    (Some(_), true) => Ask::FirstKey,
                };
                self.ask(ask);
            }
            let until = match since {
                Some(at) if self.can_write() => (at + TOGETHER).min(self.next),
                _ if self.asked && !self.misplaced => now + LAST_RETRY,
                _ => self.next,
            };
            select! {
                recv(self.links.changes) -> batch => {
                    let Ok(batch) = batch else { break };
                    self.hold(batch);
                    since.get_or_insert_with(Instant::now);
                }
                recv(answers) -> answer => match answer {
                    Ok(answer) => {
                        self.answered(answer);
                        since.get_or_insert_with(Instant::now);
                    }
                    Err(_) => answers = never(),
                },
                recv(check) -> order => match order {
                    Ok(()) => self.next = Instant::now(),
                    Err(_) => check = never(),
                },
                default(until.saturating_duration_since(Instant::now())) => {}
            }
        }
        self.finish();
    }

    fn hold(&mut self, batch: Vec<Change>) {
        self.links.keeping.has_come(&batch);
        let count = batch.len() as u64;
        self.received += count;
        let memory = &self.links.keeping.memory;
        memory.of(0).offer(count);
        memory.of(0).lose(self.pending.add(batch));
        memory.observed(self.pending.bytes());
        let (waits, dropped) = (self.pending.len() as u64, self.pending.dropped);
        self.links.keeping.change(|view| (view.pending, view.dropped) = (waits, dropped));
    }

    /// How the files are to be opened.
    fn opening(&self) -> Ask {
        self.held.clone().map_or(Ask::Open, Ask::Again)
    }

    fn can_write(&self) -> bool {
        self.store.is_some() && !self.misplaced
    }

    fn write(&mut self) {
        let Some(store) = &mut self.store else { return };
        if self.pending.is_empty() {
            match store.put_back() {
                // What came took back what came before it.
                Ok(line) => {
                    self.is_put_back(line);
                    self.one_or_both();
                    self.links.keeping.wrote(self.received);
                    self.is_kept();
                }
                Err(error) => self.failed(&error),
            }
            return;
        }
        match store.keep(&self.pending.changes()) {
            Ok(refused) => {
                self.pending.clear();
                self.pending.dropped += refused.changes;
                let (memory, dropped) = (&self.links.keeping.memory, self.pending.dropped);
                memory.observed(0);
                memory.of(0).lose(refused.changes);
                memory.of(0).settle(Tally::deliver);
                if !refused.told.is_empty() {
                    self.links.keeping.damage(&refused.told);
                }
                self.is_put_back(refused.put_back);
                self.one_or_both();
                self.links.keeping.change(|view| (view.pending, view.dropped) = (0, dropped));
                self.links.keeping.wrote(self.received);
                self.is_kept();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Files had to be written anew where they were, perhaps.
    fn is_put_back(&mut self, line: Option<String>) {
        if let Some(line) = line {
            self.links.keeping.damage(&[line]);
            (self.lacks_key, self.next) = (true, Instant::now());
        }
    }

    /// Whether both copies are kept. Where one is not, that is told once.
    fn one_or_both(&mut self) {
        let Some(store) = &self.store else { return };
        let (lacks, whole) = (store.lacks(), store.is_whole());
        self.links.keeping.change(|view| view.whole = whole);
        if let Some(line) = &lacks
            && !self.lacks
        {
            self.links.keeping.damage(std::slice::from_ref(line));
            self.retry_copy = FIRST_RETRY;
            self.next = self.next.min(Instant::now() + self.retry_copy);
        }
        self.lacks = lacks.is_some();
    }

    /// Nothing can be written now: the changes stay, and the files are opened again. They are all that there is of what
    /// was kept, and are not let go of until then, since their names and their key may be gone.
    fn failed(&mut self, error: &StoreError) {
        self.misplaced = matches!(error, StoreError::Misplaced { .. });
        self.reopened = true;
        if !self.misplaced
            && let Some(store) = self.store.take()
        {
            let (held, put_back) = store.let_go();
            self.held = Some(Arc::new(held));
            self.is_put_back(put_back);
        }
        self.again(&error.to_string());
    }

    fn ask(&mut self, ask: Ask) {
        self.asked = self.links.opener.ask.send(ask).is_ok();
        self.next = Instant::now() + self.retry;
    }

    fn answered(&mut self, answer: Answer) {
        self.asked = false;
        match answer {
            Answer::Opened(opened) => self.opened(*opened),
            Answer::Key(key) => self.looked_at(key),
        }
    }

    fn opened(&mut self, opened: Result<Opened, StoreError>) {
        match opened {
            Ok(Opened { store, saved, damage, put_back }) => {
                self.links.keeping.damage(&damage);
                self.lacks_key |= put_back;
                if !std::mem::replace(&mut self.restored, true) {
                    self.restore(saved);
                }
                self.reopened = true;
                self.take(store);
            }
            Err(error) => self.again(&error.to_string()),
        }
    }

    /// Gives the core what was kept before; what it puts together comes back as changes.
    fn restore(&mut self, saved: Saved) {
        self.pending.give_way_to(&saved);
        let (done, wait) = bounded(1);
        // Whoever asked may have left.
        let done = Box::new(move |damaged| {
            let _ = done.send(damaged);
        });
        if self.links.orders.send(Order::Restore(Box::new(saved), done)).is_ok()
            && let Ok(damaged) = wait.recv_timeout(RESTORE)
            && damaged > 0
        {
            self.links.keeping.damage(&[format!("{damaged} baselines could not be read, and begin anew")]);
        }
    }

    fn take(&mut self, store: Store) {
        let key_id = store.key_id().to_owned();
        let kept = !self.reopened;
        self.links.keeping.change(|view| (view.kept, view.key_id) = (kept, Some(key_id)));
        (self.store, self.held) = (Some(store), None);
        // Soon: what was opened by a key of before is written anew under that of now.
        self.next = Instant::now() + FIRST_RETRY;
        self.one_or_both();
    }

    /// Written, and not only opened: a disk that is full can be read.
    fn is_kept(&mut self) {
        self.misplaced = false;
        if !std::mem::take(&mut self.reopened) {
            return;
        }
        self.told = None;
        self.retry = FIRST_RETRY;
        self.links.keeping.change(|view| {
            view.kept = true;
            (view.waiting_since, view.reason) = (None, None);
        });
        say!(
            "streamwatch: the state is kept again in {}, with what was held in memory",
            self.links.keeping.view().file
        );
    }

    /// Later, and longer each time.
    fn again(&mut self, why: &str) {
        self.next = Instant::now() + self.retry;
        self.retry = (self.retry * 2).min(LAST_RETRY);
        self.without(why);
    }

    fn without(&mut self, why: &str) {
        self.links.keeping.change(|view| {
            view.kept = false;
            view.waiting_since.get_or_insert_with(|| Timestamp::now().to_string());
            view.reason = Some(why.to_owned());
        });
        // Once: a service that is not there would fill the log.
        if self.told.as_deref() != Some(why) {
            say!(
                "streamwatch: the state is not kept now: {why}; watching goes on, and what is to be kept is held \
                 in memory"
            );
            self.told = Some(why.to_owned());
        }
    }

    /// The source of keys was asked in the course of things, and the files are looked at.
    fn looked_at(&mut self, key: Result<(Key, Wrapped), KeyError>) {
        self.look_at(key);
        self.one_or_both();
        if self.lacks && self.store.is_some() && !self.misplaced {
            self.retry_copy = (self.retry_copy * 2).min(LAST_RETRY);
            self.next = self.next.min(Instant::now() + self.retry_copy);
        }
    }

    fn look_at(&mut self, key: Result<(Key, Wrapped), KeyError>) {
        // One that could not be made is wanted still.
        self.lacks_key |= std::mem::take(&mut self.makes_key) && key.is_err();
        let Some(store) = &mut self.store else {
            // A write failed meanwhile.
            self.next = Instant::now();
            return;
        };
        if self.misplaced {
            return;
        }
        match store.put_back() {
            Ok(None) => {}
            Ok(line) => return self.is_put_back(line),
            Err(error) => return self.failed(&error),
        }
        self.next = Instant::now() + self.check_every;
        match key {
            Err(error) => {
                // What is open stays open: the key is needed at the next start.
                let reason = format!("the key could not be looked at: {error}");
                if self.told.as_deref() != Some(&reason) {
                    say!("streamwatch: state: {reason}; it is kept under the one before");
                    self.told = Some(reason.clone());
                }
                self.links.keeping.change(|view| view.reason = Some(reason));
                self.next = Instant::now() + self.retry.min(self.check_every);
                self.retry = (self.retry * 2).min(LAST_RETRY);
            }
            Ok((key, wrapped)) => {
                self.retry = FIRST_RETRY;
                self.told = None;
                self.links.keeping.change(|view| view.reason = None);
                if !store.wants_another_key(&wrapped, Timestamp::now()) {
                    return;
                }
                let key_id = wrapped.key_id.clone();
                match store.rewrite(&key, wrapped, Timestamp::now()) {
                    Ok(()) => {
                        say!("streamwatch: state: written anew under the key {key_id}");
                        self.links.keeping.change(|view| view.key_id = Some(key_id));
                    }
                    Err(error) => self.failed(&error),
                }
            }
        }
    }

    /// The end: once more what can be done for what is held.
    fn finish(mut self) {
        if self.store.is_some() {
            self.write();
        }
        if self.store.is_none() && (self.held.is_some() || !self.pending.is_empty()) {
            self.open_once_more();
        }
        if self.store.is_some() && self.lacks_key {
            if !self.asked {
                self.makes_key = std::mem::take(&mut self.lacks_key);
                self.ask(Ask::FirstKey);
            }
            let patience = Instant::now() + self.links.opener.patience;
            if let Ok(Answer::Key(key)) = self.links.opener.answers.recv_deadline(patience) {
                self.asked = false;
                self.looked_at(key);
            }
        }
        self.links.keeping.memory.of(0).settle(Tally::lose);
        if let Some(line) = self.last_line() {
            say!("streamwatch: {line}");
        } else if let Some(store) = self.store {
            store.close();
        }
        self.links.opener.finish();
    }

    /// What is said at the end of a state that is not kept as it should be.
    fn last_line(&self) -> Option<String> {
        let why = self.told.as_deref().unwrap_or_default();
        let waits = self.pending.len() as u64 + self.pending.dropped;
        match self.store {
            Some(_) if self.misplaced => Some(format!("the state is not kept: {why}")),
            Some(_) if self.lacks_key => {
                Some(format!("the state is not kept: nothing opens it without its key: {why}"))
            }
            Some(_) if self.pending.is_empty() => None,
            None if self.lacks_key => Some(format!("the state is not kept: {why}")),
            _ if waits > 0 => Some(format!("{waits} changes of the state were not kept: {why}")),
            None if self.held.is_some() => Some(format!("the state could not be opened again: {why}")),
            _ => None,
        }
    }

    /// The core is gone: what was kept stays as it is, with what is held on top.
    fn open_once_more(&mut self) {
        let patience = Instant::now() + self.links.opener.patience;
        if !self.asked {
            self.ask(self.opening());
        }
        while let Ok(answer) = self.links.opener.answers.recv_deadline(patience) {
            self.asked = false;
            let Answer::Opened(opened) = answer else {
                self.ask(self.opening());
                continue;
            };
            match *opened {
                Ok(Opened { store, saved, damage, put_back }) => {
                    self.links.keeping.damage(&damage);
                    self.lacks_key |= put_back;
                    if !self.restored {
                        self.pending.give_way_to(&saved);
                    }
                    (self.store, self.held) = (Some(store), None);
                    self.write();
                }
                Err(error) => self.again(&error.to_string()),
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::daemon::state::{self, Answer};

    #[test]
    fn a_state_that_could_not_be_opened_again_is_told_at_the_end_though_nothing_waits() {
        let directory = crate::temporary::directory();
        let place = directory.path();
        let mut config = Config::default();
        config.alerts.state = Some(place.join("state.redb"));
        let keeping = Arc::new(Keeping::new(&config));
        let (opener, patience) = state::begin(&config, &keeping).expect("begun");
        let Ok(Answer::Opened(opened)) = opener.answers.recv_timeout(patience) else { panic!("no answer") };
        let store = opened.expect("a state").store;
        let links = Links { changes: never(), orders: bounded(1).0, check: never(), keeping, opener };
        let mut keeper = Keeper::new(links, Some(store), 4096, Duration::from_secs(3600));
        assert_eq!(keeper.last_line(), None);
        keeper.failed(&StoreError::InUse { path: place.join("x") });
        let line = keeper.last_line().expect("a line");
        assert!(line.starts_with("the state could not be opened again: "), "{line}");
        assert!(!line.ends_with(": "), "{line}");
        keeper.hold(vec![Change::Closed("a".into())]);
        let line = keeper.last_line().expect("a line");
        assert!(line.starts_with("1 changes of the state were not kept: "), "{line}");
    }
}
