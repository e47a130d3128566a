//! Changes that cannot be written yet, in bounded memory: of each alert and stream the last one.

use std::collections::{BTreeMap, HashMap};

use crate::alert::{Change, KEPT, Saved, SavedAlert};
use crate::detect::Baseline;
use crate::model::Silence;

/// What a change takes besides its texts, about.
const EACH: usize = 256;

/// Changes put together.
#[derive(Debug)]
pub struct Pending {
    most: usize,
    bytes: usize,
    open: HashMap<String, Option<SavedAlert>>,
    told: BTreeMap<u64, SavedAlert>,
    silences: Option<Vec<Silence>>,
    baselines: HashMap<String, Option<Vec<u8>>>,
    /// Changes that found no room, since the start.
    pub dropped: u64,
}

impl Pending {
    /// With room for about so many bytes.
    pub fn new(most: usize) -> Pending {
        Pending {
            most,
            bytes: 0,
            open: HashMap::new(),
            told: BTreeMap::new(),
            silences: None,
            baselines: HashMap::new(),
            dropped: 0,
        }
    }

    /// Takes changes, in their order. Gives how many found no room. Alerts have a quarter of it that
    /// baselines do not get.
    pub fn add(&mut self, changes: impl IntoIterator<Item = Change>) -> u64 {
        let before = self.dropped;
        for change in changes {
            match change {
                Change::Open(alert) => self.put_open(alert.key.clone(), Some(alert)),
                Change::Closed(key) => self.put_open(key, None),
                Change::Told(alert) => {
                    let old = self.told.get(&alert.cursor).map_or(0, alert_size);
                    if self.replaces(old, alert_size(&alert), self.most) {
                        self.told.insert(alert.cursor, alert);
                    }
                    // More are not kept on the disk either.
                    if self.told.len() > KEPT
                        && let Some((_, oldest)) = self.told.pop_first()
                    {
                        self.bytes -= alert_size(&oldest).min(self.bytes);
                    }
                }
                // All there are, each time: a few.
                Change::Silences(all) => {
                    let old = self.silences.as_deref().map_or(0, silences_size);
                    if self.replaces(old, silences_size(&all), self.most) {
                        self.silences = Some(all);
                    }
                }
                Change::Baseline(Baseline::Kept(stream, past)) => self.put_baseline(stream, Some(past)),
                Change::Baseline(Baseline::Gone(stream)) => self.put_baseline(stream, None),
            }
        }
        self.dropped - before
    }

    fn put_open(&mut self, key: String, alert: Option<SavedAlert>) {
        let size = |alert: &Option<SavedAlert>| alert.as_ref().map_or(EACH, alert_size);
        let old = self.open.get(&key).map_or(0, size);
        if self.replaces(old, size(&alert), self.most) {
            self.open.insert(key, alert);
        }
    }

    fn put_baseline(&mut self, stream: String, past: Option<Vec<u8>>) {
        let old = self.baselines.get(&stream).map_or(0, |past| baseline_size(&stream, past.as_ref()));
        let new = baseline_size(&stream, past.as_ref());
        if self.replaces(old, new, self.most / 4 * 3) {
            self.baselines.insert(stream, past);
        }
    }

    /// Takes the room for something in the place of something `old` (0: of nothing), or counts that there was none.
    /// Then what is there stays: better late than nothing.
    fn replaces(&mut self, old: usize, new: usize, most: usize) -> bool {
        let others = self.bytes - old.min(self.bytes);
        let fits = others + new <= most;
        if fits {
            self.bytes = others + new;
        } else {
            self.dropped += 1;
        }
        fits
    }

    /// What was kept before, and was not to be had until now, is not pushed out by what was learnt without it: the
    /// past of a stream stays, silences stay beside those made since, and an alert that is open in both goes on.
    pub fn give_way_to(&mut self, saved: &Saved) {
        if let Some(since) = self.silences.take() {
            let is_known = |one: &Silence| saved.silences.iter().any(|known| known.id == one.id);
            let old = silences_size(&since);
            let since: Vec<Silence> = since.into_iter().filter(|one| !is_known(one)).collect();
            let all = [saved.silences.clone(), since].concat();
            if all.len() == saved.silences.len() || !self.replaces(old, silences_size(&all), self.most) {
                self.bytes -= old.min(self.bytes);
            } else {
                self.silences = Some(all);
            }
        }
        for (stream, _) in &saved.baselines {
            if let Some(past) = self.baselines.remove(stream) {
                self.bytes -= baseline_size(stream, past.as_ref()).min(self.bytes);
            }
        }
        for before in &saved.open {
            let Some(Some(alert)) = self.open.get_mut(&before.key) else { continue };
            alert.count = alert.count.saturating_add(before.count);
            alert.first_seen = alert.first_seen.min(before.first_seen);
            if alert.acknowledged.is_none() {
                alert.acknowledged.clone_from(&before.acknowledged);
            }
        }
    }

    /// Changes that wait.
    pub fn len(&self) -> usize {
        self.open.len() + self.told.len() + usize::from(self.silences.is_some()) + self.baselines.len()
    }

    /// What they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, to be kept; they stay until [`Pending::clear`].
    pub fn changes(&self) -> Vec<Change> {
        let open = self.open.iter().map(|(key, alert)| match alert {
            Some(alert) => Change::Open(alert.clone()),
            None => Change::Closed(key.clone()),
        });
        let baselines = self.baselines.iter().map(|(stream, past)| {
            Change::Baseline(match past {
                Some(past) => Baseline::Kept(stream.clone(), past.clone()),
                None => Baseline::Gone(stream.clone()),
            })
        });
        open.chain(self.told.values().cloned().map(Change::Told))
            .chain(self.silences.clone().map(Change::Silences))
            .chain(baselines)
            .collect()
    }

    /// They are kept.
    pub fn clear(&mut self) {
        *self = Pending { dropped: self.dropped, ..Pending::new(self.most) };
    }
}

/// What changes take, about.
pub fn size_of(changes: &[Change]) -> usize {
    let size = |change: &Change| match change {
        Change::Open(alert) | Change::Told(alert) => alert_size(alert),
        Change::Closed(key) => EACH + key.len(),
        Change::Silences(all) => silences_size(all),
        Change::Baseline(Baseline::Kept(stream, past)) => baseline_size(stream, Some(past)),
        Change::Baseline(Baseline::Gone(stream)) => baseline_size(stream, None),
    };
    changes.iter().map(size).sum()
}

fn baseline_size(stream: &str, past: Option<&Vec<u8>>) -> usize {
    EACH + stream.len() + past.map_or(0, Vec::len)
}

fn alert_size(alert: &SavedAlert) -> usize {
    let known = alert.acknowledged.as_ref().map_or(0, |known| EACH + known.why.len());
    let silenced = alert.silenced.as_ref().map_or(0, silence_size);
    EACH + alert.key.len() + alert.reason.len() + alert.remedy.len() + known + silenced
}

fn silences_size(silences: &[Silence]) -> usize {
    EACH + silences.iter().map(silence_size).sum::<usize>()
}

fn silence_size(silence: &Silence) -> usize {
    EACH + silence.filter.len() + silence.why.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AlertView;
    use crate::record::samples;

    fn alert(cursor: u64, key: &str) -> SavedAlert {
        SavedAlert::of(&AlertView { cursor, key: key.to_owned(), ..samples::alert() })
    }

    #[test]
    fn of_what_repeats_the_last_counts() {
        let mut pending = Pending::new(1 << 20);
        for cursor in 0..1000 {
            pending.add([Change::Open(alert(cursor, "a")), Change::Closed("b".into())]);
            pending.add([Change::Baseline(Baseline::Kept("s".into(), vec![cursor as u8; 100]))]);
        }
        assert_eq!((pending.len(), pending.dropped), (3, 0));
        assert!(pending.changes().contains(&Change::Open(alert(999, "a"))));
        assert!(pending.bytes < 4096, "{}", pending.bytes);
        pending.clear();
        assert!(pending.is_empty() && pending.bytes == 0);
    }

    #[test]
    fn memory_is_bounded_what_finds_no_room_is_counted_and_alerts_have_room_of_their_own() {
        let most = 1 << 16;
        let mut pending = Pending::new(most);
        let offered = 500;
        for n in 0..offered {
            pending.add([Change::Baseline(Baseline::Kept(format!("s{n}"), vec![0; 1000]))]);
        }
        let held = pending.baselines.len() as u64;
        assert!(held > 10 && pending.bytes <= most / 4 * 3);
        assert_eq!(held + pending.dropped, offered);
        assert_eq!(pending.add([Change::Open(alert(1, "a"))]), 0);
        for n in 0..offered {
            pending.add([Change::Open(alert(n, &format!("a{n}")))]);
            assert!(pending.bytes <= most);
        }
        let dropped = pending.dropped;
        // What was held is brought up to date all the same.
        assert_eq!(pending.add([Change::Open(alert(7, "a"))]), 0);
        assert_eq!(pending.dropped, dropped);
    }

    #[test]
    fn what_was_kept_before_is_not_pushed_out_by_what_was_learnt_without_it() {
        let mut pending = Pending::new(1 << 20);
        let young = SavedAlert { count: 2, ..alert(9, "a") };
        let mut old = SavedAlert { count: 40, ..alert(1, "a") };
        old.first_seen = "2020-01-01T00:00:00Z".parse().expect("a time");
        let at = old.first_seen;
        old.acknowledged = Some(crate::model::Acknowledgement { by: 0, at, until: at, why: "known".into() });
        pending.add([Change::Open(young), Change::Silences(Vec::new())]);
        for stream in ["known", "new"] {
            pending.add([Change::Baseline(Baseline::Kept(stream.into(), vec![1; 100]))]);
        }
        let saved = Saved {
            open: vec![old.clone(), alert(2, "b")],
            baselines: vec![("known".into(), vec![2; 500])],
            ..Saved::default()
        };
        pending.give_way_to(&saved);
        let changes = pending.changes();
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert!(changes.contains(&Change::Baseline(Baseline::Kept("new".into(), vec![1; 100]))));
        let open = changes.iter().find_map(|change| match change {
            Change::Open(alert) => Some(alert),
            _ => None,
        });
        let open = open.expect("it is open");
        assert_eq!((open.count, open.cursor, open.first_seen), (42, 9, old.first_seen));
        assert_eq!(open.acknowledged, old.acknowledged);
        let left = pending.bytes;
        pending.give_way_to(&Saved::default());
        assert_eq!(pending.bytes, left);
    }

    #[test]
    fn silences_that_were_made_without_those_kept_before_are_kept_with_them() {
        let silence = |id| Silence {
            id,
            filter: "rule == \"scan\"".into(),
            by: 0,
            at: jiff::Timestamp::UNIX_EPOCH,
            until: jiff::Timestamp::UNIX_EPOCH,
            why: "known".into(),
        };
        let mut pending = Pending::new(1 << 20);
        pending.add([Change::Silences(vec![silence(7)])]);
        pending.give_way_to(&Saved { silences: vec![silence(1), silence(2)], ..Saved::default() });
        assert_eq!(pending.changes(), [Change::Silences([1, 2, 7].map(silence).to_vec())]);
        assert_eq!(pending.bytes, size_of(&pending.changes()));
    }

    #[test]
    fn what_takes_the_place_of_something_smaller_takes_its_own_room() {
        let most = 1 << 16;
        let mut pending = Pending::new(most);
        let long = |cursor| SavedAlert { reason: "x".repeat(3000), ..alert(cursor, "a") };
        for cursor in 0..40 {
            assert_eq!(pending.add([Change::Told(alert(cursor, "a"))]), 0);
        }
        let dropped = (0..200).map(|n| pending.add([Change::Told(long(n % 40))])).sum::<u64>();
        let held: usize = pending.told.values().map(alert_size).sum();
        assert!(dropped > 0 && held <= most && held <= pending.bytes, "{dropped} {held} {}", pending.bytes);
    }

    #[test]
    fn what_was_told_is_held_as_long_as_the_disk_would_hold_it() {
        let mut pending = Pending::new(64 << 20);
        pending.add((0..KEPT as u64 + 10).map(|cursor| Change::Told(alert(cursor, "a"))));
        assert_eq!((pending.told.len(), pending.dropped), (KEPT, 0));
        assert_eq!(pending.told.first_key_value().map(|(cursor, _)| *cursor), Some(10));
    }
}
