//! From a hash to the places in the table that may be meant.

use hashbrown::HashTable;

/// Places by hash. Holds 32 bits of the hash: so a place that is not meant is hardly ever looked at, and
/// growing looks at no flow. By place, not in the table, of which up to half is empty.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: HashTable<u32>,
    hashes: Vec<u32>,
}

impl Places {
    /// A place that is not in there.
    pub fn insert(&mut self, hash: u64, index: u32) {
        let (short, at) = (shortened(hash), index as usize);
        if self.hashes.len() <= at {
            self.hashes.resize(at + 1, 0);
        }
        self.hashes[at] = short;
        let hashes = &self.hashes;
        self.places.insert_unique(spread(short), index, |index| spread(hashes[*index as usize]));
    }

    /// True where it was in there.
    pub fn remove(&mut self, hash: u64, index: u32) -> bool {
        match self.places.find_entry(spread(shortened(hash)), |other| *other == index) {
            Ok(found) => {
                found.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Every place that was put in with this hash, and seldom another.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        let short = shortened(hash);
        self.places
            .iter_hash(spread(short))
            .copied()
            .filter(move |index| self.hashes.get(*index as usize) == Some(&short))
    }
}

fn shortened(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// hashbrown takes its bucket from the low bits and its tag from the high ones: both must differ.
fn spread(short: u32) -> u64 {
    u64::from(short).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_until_it_is_taken_out() {
        let mut places = Places::default();
        for index in 0..10_000 {
            places.insert(u64::from(index / 2) << 32, index);
        }
        let mut two: Vec<u32> = places.candidates(7 << 32).collect();
        two.sort_unstable();
        assert_eq!(two, [14, 15]);
        places.remove(7 << 32, 14);
        assert_eq!(places.candidates(7 << 32).collect::<Vec<_>>(), [15]);
    }
}
