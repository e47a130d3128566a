//! Encoded parts of records, kept as long as there is room.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// Encoded bytes kept of one kind; with more, all are forgotten and encoded again.
const MOST_BYTES: usize = 4 << 20;

/// What one value costs beside its bytes, about.
const EACH: usize = 96;

/// Parts of values of one type, `N` each, by where the value lies.
#[derive(Debug)]
pub(super) struct Kept<T, const N: usize> {
    parts: HashMap<usize, Parts<T, N>, RandomState>,
    bytes: usize,
}

#[derive(Debug)]
struct Parts<T, const N: usize> {
    /// Held, so that no other value comes to lie there.
    _value: Arc<T>,
    bytes: Box<[u8]>,
    ends: [usize; N],
}

impl<T, const N: usize> Default for Kept<T, N> {
    fn default() -> Self {
        Kept { parts: HashMap::default(), bytes: 0 }
    }
}

impl<T, const N: usize> Kept<T, N> {
    /// The parts of a value; `encode` makes those that are not kept.
    pub fn get(&mut self, value: &Arc<T>, encode: impl FnOnce(&T, [&mut Vec<u8>; N])) -> [&[u8]; N] {
        let place = Arc::as_ptr(value).addr();
        if !self.parts.contains_key(&place) {
            let parts = Parts::encode(value, encode);
            self.bytes += parts.bytes.len() + EACH;
            if self.bytes > MOST_BYTES {
                self.parts.clear();
                self.bytes = parts.bytes.len() + EACH;
            }
            self.parts.insert(place, parts);
        }
        self.parts.get(&place).map_or([&[]; N], Parts::each)
    }
}

impl<T, const N: usize> Parts<T, N> {
    fn encode(value: &Arc<T>, encode: impl FnOnce(&T, [&mut Vec<u8>; N])) -> Self {
        let mut parts = [const { Vec::new() }; N];
        encode(value, parts.each_mut());
        let mut end = 0;
        let ends = parts.each_ref().map(|part| {
            end += part.len();
            end
        });
        Parts { _value: value.clone(), bytes: parts.concat().into(), ends }
    }

    fn each(&self) -> [&[u8]; N] {
        let mut start = 0;
        self.ends.map(|end| {
            let part = &self.bytes[start..end];
            start = end;
            part
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(value: &String, parts: [&mut Vec<u8>; 2]) {
        let [first, second] = parts;
        first.extend_from_slice(value.as_bytes());
        second.resize(1 << 16, b'x');
    }

    #[test]
    fn parts_are_those_of_their_value_and_bounded() {
        let mut kept = Kept::default();
        for n in 0..1000 {
            let value = Arc::new(format!("{n}"));
            for _ in 0..2 {
                let [first, second] = kept.get(&value, encode);
                assert_eq!(first, value.as_bytes());
                assert_eq!(second.len(), 1 << 16);
            }
        }
        let held: usize = kept.parts.values().map(|parts| parts.bytes.len()).sum();
        assert!(held <= MOST_BYTES);
    }
}
