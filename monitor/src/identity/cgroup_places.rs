//! Where cgroups are that were seen while they were there: for processes that have ended, in cgroups that are gone.
//!
//! In: an id, and its place. Bounded, and shared: whose cgroups are many pushes out its own. A cgroup's id is never
//! given twice since boot (`kernfs_id` in `include/linux/kernfs.h`), so that a place once found stays right.

use std::collections::{HashMap, VecDeque};

use super::cgroup::Place;

/// Cgroups that are remembered. A place is some hundred bytes, 2 KiB at most.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Places {
    places: HashMap<u64, Place>,
    /// What each party has, oldest first.
    of_parties: HashMap<String, VecDeque<u64>>,
}

impl Places {
    pub fn get(&self, id: u64) -> Option<&Place> {
        self.places.get(&id)
    }

    pub fn remember(&mut self, id: u64, place: Place) {
        if self.places.contains_key(&id) {
            return;
        }
        let party = party(&place).to_owned();
        if self.places.len() >= MOST {
            self.forget_one(&party);
        }
        self.of_parties.entry(party).or_default().push_back(id);
        self.places.insert(id, place);
    }

    /// The oldest of the party that has most, or of this one where it has as many as others on average.
    fn forget_one(&mut self, party: &str) {
        let average = MOST / self.of_parties.len().max(1);
        let has_its_share = self.of_parties.get(party).is_some_and(|ids| ids.len() >= average.max(1));
        let loudest = if has_its_share {
            party.to_owned()
        } else {
            let loudest = self.of_parties.iter().max_by_key(|(_, ids)| ids.len());
            loudest.map(|(party, _)| party.clone()).unwrap_or_default()
        };
        let Some(ids) = self.of_parties.get_mut(&loudest) else { return };
        if let Some(id) = ids.pop_front() {
            self.places.remove(&id);
        }
        if ids.is_empty() {
            self.of_parties.remove(&loudest);
        }
    }
}

/// The unit of the host, or the outermost container or user: never what is chosen below it.
fn party(place: &Place) -> &str {
    let named = place.unit.as_deref().or(place.container.as_ref().map(|container| container.id.as_str()));
    named.and_then(|named| named.split('/').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(unit: &str) -> Place {
        Place { unit: Some(unit.to_owned()), container: None }
    }

    #[test]
    fn whose_cgroups_are_many_pushes_out_its_own() {
        let mut places = Places::default();
        places.remember(1, of("web.service"));
        for id in 2..10 * MOST as u64 {
            places.remember(id, of(&format!("user@7.service/run-{id}.scope")));
        }
        places.remember(3 * MOST as u64, of("late.service"));
        assert_eq!(places.get(1), Some(&of("web.service")));
        assert_eq!(places.get(2), None);
        let last = 10 * MOST as u64 - 1;
        assert_eq!(places.get(last), Some(&of(&format!("user@7.service/run-{last}.scope"))));
        assert_eq!(places.places.len(), MOST);
    }

    #[test]
    fn as_many_parties_as_there_are_places_are_bounded_too() {
        let mut places = Places::default();
        for id in 0..3 * MOST as u64 {
            places.remember(id, of(&format!("session-{id}.scope")));
            places.remember(id, of("another.service"));
        }
        assert_eq!((places.places.len(), places.of_parties.len()), (MOST, MOST));
        assert_eq!(
            places.get(3 * MOST as u64 - 1).and_then(|it| it.unit.as_deref()),
            Some("session-12287.scope")
        );
        places.remember(u64::MAX, Place::default());
        assert_eq!((places.get(u64::MAX), places.places.len()), (Some(&Place::default()), MOST));
    }
}
