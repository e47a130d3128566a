//! Who does not want to hear of what, and until when.

use jiff::Timestamp;

use crate::api::query::Expression;
use crate::model::{AlertView, Silence};
use crate::record::{Context, ecs};

/// Silences at a time.
const MOST: usize = 256;

/// All silences in force.
#[derive(Default)]
pub struct Silences {
    list: Vec<(Silence, Expression)>,
    last_id: u64,
}

impl Silences {
    /// Takes over what was kept; a filter that this version does not know is left out. Where it comes late,
    /// what was made meanwhile keeps its number, and what had the same gets another one. True: there
    /// are some, which are to be kept as they are now.
    pub fn restore(&mut self, kept: Vec<Silence>) -> bool {
        for mut silence in kept.into_iter().take(MOST - self.list.len().min(MOST)) {
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

    /// One more; its id is given.
    ///
    /// # Errors
    /// The filter is none, or there are too many.
    pub fn add(&mut self, silence: Silence) -> Result<Silence, String> {
        let filter: Expression = silence.filter.parse().map_err(|error| format!("filter: {error}"))?;
        if self.list.len() >= MOST {
            return Err(format!("there are {MOST} silences already"));
        }
        self.last_id += 1;
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
