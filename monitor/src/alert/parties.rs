//! Whose each alert is, the least severe first and of those the oldest: what goes where something worse finds no room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::model::Severity;

/// Where an alert stands among those of its party: how severe it is, and as the how manieth of all it was opened.
pub type Place = (Severity, u64);

/// Keys of alerts by party and place.
#[derive(Debug, Default)]
pub struct Parties(HashMap<Arc<str>, BTreeMap<Place, String>, RandomState>);

impl Parties {
    /// How many one has.
    pub fn count(&self, party: &str) -> usize {
        self.0.get(party).map_or(0, BTreeMap::len)
    }

    pub fn add(&mut self, party: Arc<str>, place: Place, key: String) {
        self.0.entry(party).or_default().insert(place, key);
    }

    pub fn remove(&mut self, party: &str, place: Place) {
        let Some(all) = self.0.get_mut(party) else { return };
        all.remove(&place);
        if all.is_empty() {
            self.0.remove(party);
        }
    }

    /// Those that are less severe than `than`, what is to go first at first.
    pub fn less_severe(&self, party: &str, than: Severity) -> impl Iterator<Item = &String> {
        self.0.get(party).into_iter().flat_map(move |all| all.range(..(than, 0))).map(|(_, key)| key)
    }
}
