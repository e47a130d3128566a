//! Who does not want to hear of what, and until when.

use jiff::Timestamp;

use crate::api::query::{Expression, Rows};
use crate::model::{AlertView, Silence};
use crate::record::{Context, ecs};

/// Silences at a time; twice as many where what was kept comes late, which is what is kept at most.
const MOST: usize = 256;

/// All silences in force.
#[derive(Default)]
pub struct Silences {
    list: Vec<(Silence, Expression)>,
    last_id: u64,
    /// What was kept is here: until then nobody knows which numbers are taken.
    restored: bool,
}

impl Silences {
    /// Takes over what was kept; a filter that this version does not know is left out. Where it comes late, all keep
    /// their numbers ([`Silences::add`]), unless the clock was set back: then what was made meanwhile keeps its own,
    /// and what had the same gets another one. True: there are some, which are to be kept as they are now.
    pub fn restore(&mut self, kept: Vec<Silence>) -> bool {
        self.restored = true;
        for mut silence in kept.into_iter().take(2 * MOST - self.list.len().min(MOST)) {
            if self.list.iter().any(|(known, _)| known.id == silence.id) {
                silence.id = self.last_id + 1;
            }
            self.last_id = self.last_id.max(silence.id);
            if let Ok(filter) = silence.filter.parse() {
                self.list.push((silence, filter));
            }
        }
        !self.list.is_empty()
    }

    /// One more; its id is given. As long as those that are kept are not known, it is the second of the clock, which
    /// none of them has.
    ///
    /// # Errors
    /// The filter is none, or there are too many.
    pub fn add(&mut self, silence: Silence) -> Result<Silence, String> {
        let filter: Expression = silence.filter.parse().map_err(|error| format!("filter: {error}"))?;
        Rows::Alerts.check_filter(&filter).map_err(|error| format!("filter: {error}"))?;
        if self.list.len() >= MOST {
            return Err(format!("there are {MOST} silences already"));
        }
        let second = if self.restored { 0 } else { u64::try_from(silence.at.as_second()).unwrap_or(0) };
        self.last_id = second.max(self.last_id + 1);
        let silence = Silence { id: self.last_id, ..silence };
        self.list.push((silence.clone(), filter));
        Ok(silence)
    }

    /// Ends one; `None`: there is none of that id.
    pub fn remove(&mut self, id: u64) -> Option<Silence> {
        let at = self.list.iter().position(|(silence, _)| silence.id == id)?;
        Some(self.list.remove(at).0)
    }

    /// Ends those whose time has come; true where one has.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.list.len();
        self.list.retain(|(silence, _)| silence.until > now);
        self.list.len() != before
    }

    pub fn all(&self) -> Vec<Silence> {
        self.list.iter().map(|(silence, _)| silence.clone()).collect()
    }

    /// The first that covers an alert.
    pub fn of(&self, alert: &AlertView) -> Option<Silence> {
        if self.list.is_empty() {
            return None;
        }
        let context = Context { host_name: String::new(), host_id: String::new(), version: String::new() };
        let mut line = Vec::new();
        ecs::encode_alert(&context, alert, &mut line);
        // Our own line is JSON; if ever not, nothing is silenced.
        let record = serde_json::from_slice(&line).ok()?;
        self.list.iter().find(|(_, filter)| filter.matches(&record)).map(|(silence, _)| silence.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn silence(rule: &str) -> Silence {
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let until = at + std::time::Duration::from_secs(3600);
        Silence { id: 0, filter: format!("rule == \"{rule}\""), by: 0, at, until, why: "known".into() }
    }

    #[test]
    fn a_number_that_somebody_saw_names_the_same_silence_when_what_was_kept_comes_late() {
        let mut before = Silences::default();
        before.restore(Vec::new());
        let kept: Vec<Silence> =
            ["plaintext", "scan"].map(|rule| before.add(silence(rule)).unwrap()).to_vec();
        assert_eq!(kept.iter().map(|one| one.id).collect::<Vec<_>>(), [1, 2]);
        let mut late = Silences::default();
        let mut seen: Vec<Silence> =
            ["weak-tls", "weak-cipher"].map(|rule| late.add(silence(rule)).unwrap()).to_vec();
        seen.extend(kept.clone());
        assert!(late.restore(kept));
        seen.push(late.add(silence("new-service")).unwrap());
        for one in &seen {
            assert_eq!(late.all().iter().filter(|known| known.id == one.id).collect::<Vec<_>>(), [one]);
        }
        // And so it is after the next start.
        let mut next = Silences::default();
        next.restore(late.all());
        for one in seen {
            assert_eq!(next.remove(one.id), Some(one));
        }
    }

    #[test]
    fn what_was_kept_is_not_left_out_for_what_was_made_without_it() {
        let full = || {
            let mut all = Silences::default();
            all.restore(Vec::new());
            (0..MOST).for_each(|_| drop(all.add(silence("scan")).unwrap()));
            all
        };
        let mut late = Silences::default();
        (0..MOST).for_each(|_| drop(late.add(silence("plaintext")).unwrap()));
        late.restore(full().all());
        assert_eq!(late.all().len(), 2 * MOST);
        assert!(late.add(silence("weak-tls")).is_err());
    }
}
