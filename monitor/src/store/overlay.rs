//! A file that is read and not changed: what redb writes to it (repairs) stays in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

/// What is written is kept in blocks of this size.
const BLOCK: u64 = 4096;

/// Longest file that is read: a damaged length must not fill the memory.
const LONGEST: u64 = 4 << 30;

/// A file below, blocks above.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    state: Mutex<State>,
    refused: Refused,
}

/// The first error of the file itself: the disk's, not what somebody wrote to it.
#[derive(Clone, Debug, Default)]
pub struct Refused(Arc<Mutex<Option<io::Error>>>);

impl Refused {
    pub fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, error: &io::Error) {
        // Shorter than it was a moment ago: that is damage.
        if error.kind() != io::ErrorKind::UnexpectedEof {
            let again =
                error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(again);
        }
    }
}

#[derive(Debug)]
struct State {
    /// As the database sees it.
    length: u64,
    /// Of the file that can still be seen.
    below: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub fn new(file: File) -> io::Result<Overlay> {
        let length = file.metadata()?.len();
        let state = State { length, below: length, blocks: BTreeMap::new() };
        Ok(Overlay { file, state: Mutex::new(state), refused: Refused::default() })
    }

    /// What the file refuses from now on.
    pub fn refused(&self) -> Refused {
        self.refused.clone()
    }

    /// One block as it is now.
    fn block(&self, state: &State, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = state.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; BLOCK as usize];
        let start = number * BLOCK;
        let there = state.below.saturating_sub(start).min(BLOCK) as usize;
        self.file.read_exact_at(&mut block[..there], start).inspect_err(|error| self.refused.note(error))?;
        Ok(block)
    }
}

fn beyond() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the file")
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= state.length);
        let end = end.ok_or_else(beyond)?;
        let mut at = offset;
        while at < end {
            let within = at % BLOCK;
            let take = (BLOCK - within).min(end - at);
            let block = self.block(&state, at / BLOCK)?;
            let to = (at - offset) as usize;
            out[to..to + take as usize].copy_from_slice(&block[within as usize..(within + take) as usize]);
            at += take;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "an impossible length"));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if length < state.length {
            state.below = state.below.min(length);
            state.blocks.split_off(&length.div_ceil(BLOCK));
            // Of the last block nothing is seen again if the file grows.
            if !length.is_multiple_of(BLOCK) && state.blocks.contains_key(&(length / BLOCK)) {
                let mut block = self.block(&state, length / BLOCK)?;
                block[(length % BLOCK) as usize..].fill(0);
                state.blocks.insert(length / BLOCK, block);
            }
        }
        state.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= state.length);
        let end = end.ok_or_else(beyond)?;
        let mut at = offset;
        while at < end {
            let within = at % BLOCK;
            let take = (BLOCK - within).min(end - at);
            let mut block = self.block(&state, at / BLOCK)?;
            let from = (at - offset) as usize;
            block[within as usize..(within + take) as usize]
                .copy_from_slice(&data[from..from + take as usize]);
            state.blocks.insert(at / BLOCK, block);
            at += take;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Length(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..12_000, proptest::collection::vec(1_u8.., 0..6000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            (0_u64..16_000).prop_map(Step::Length),
        ]
    }

    #[test]
    fn an_error_of_the_disk_is_no_damage() {
        let directory = crate::temporary::directory();
        let path = directory.path().join("refused");
        std::fs::write(&path, [1; 100]).unwrap();
        // Open for writing alone: reading it is refused.
        let file = File::options().write(true).open(&path).unwrap();
        let overlay = Overlay::new(file).unwrap();
        assert!(overlay.read(0, &mut [0; 10]).is_err());
        assert!(overlay.refused().take().is_some_and(|error| error.raw_os_error().is_some()));
        let overlay = Overlay::new(File::open(&path).unwrap()).unwrap();
        std::fs::write(&path, [1; 10]).unwrap();
        assert!(overlay.read(0, &mut [0; 100]).is_err());
        assert!(overlay.refused().take().is_none(), "a file that was cut is damaged");
    }

    proptest! {
        #[test]
        fn it_reads_as_a_file_would_and_the_file_stays(
            below in proptest::collection::vec(any::<u8>(), 0..10_000),
            steps in proptest::collection::vec(step(), 0..12),
        ) {
            let directory = crate::temporary::directory();
            let path = directory.path().join("overlay");
            std::fs::write(&path, &below).unwrap();
            let overlay = Overlay::new(File::open(&path).unwrap()).unwrap();
            let mut model = below.clone();
            for step in steps {
                match step {
                    Step::Length(length) => {
                        overlay.set_len(length).unwrap();
                        model.resize(length as usize, 0);
                    }
                    Step::Write(at, data) => {
                        let end = at as usize + data.len();
                        prop_assert_eq!(overlay.write(at, &data).is_ok(), end <= model.len());
                        if end <= model.len() {
                            model[at as usize..end].copy_from_slice(&data);
                        }
                    }
                }
                let mut all = vec![0; model.len()];
                overlay.read(0, &mut all).unwrap();
                prop_assert_eq!(&all, &model);
                prop_assert!(overlay.read(1, &mut all).is_err() || all.is_empty());
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), below);
        }
    }
}
