//! Files that are open, at their places: a name that leads to one of them no more, and a copy that has no place.

use super::copy::{Contents, Copy};
use super::{Store, StoreError, held, lock, paths};

impl Store {
    /// Writes a file anew whose name does not lead to it any more, since somebody has removed or replaced it or its
    /// directory; and one that could not be written. All can be read for as long as one is open. Gives a line where
    /// there was one. What is not kept then is told by [`Store::lacks`].
    ///
    /// # Errors
    /// [`StoreError::Misplaced`]: there is no place for any. This is to be tried again, and the store not to be
    /// dropped until then.
    pub fn put_back(&mut self) -> Result<Option<String>, StoreError> {
        self.lacks = [None, None];
        self.place()
    }

    /// [`Store::put_back`], less what could not be written before.
    fn place(&mut self) -> Result<Option<String>, StoreError> {
        let files = paths(&self.path);
        let is_there = |copy: &Option<Copy>, at: usize| {
            copy.as_ref().is_some_and(|copy| copy.is_open() && copy.is_at(&files[at]))
        };
        let there = [0, 1].map(|at| is_there(&self.copies[at], at));
        let mut lacks = [None, None];
        let (mut put_back, mut were_open) = (Vec::new(), false);
        for at in 0..2 {
            if there[at] {
                continue;
            }
            if let Some(what) = &self.lacks[at]
                && there[1 - at]
            {
                lacks[at] = Some(what.clone());
                continue;
            }
            match self.written_anew(at, there[1 - at]) {
                Ok(copy) => {
                    were_open |= self.copies[at].replace(copy).is_some();
                    put_back.push(files[at].display().to_string());
                }
                Err(what) => lacks[at] = Some(what),
            }
        }
        if let [Some(what), Some(_)] = lacks {
            return Err(StoreError::Misplaced { path: self.path.clone(), what });
        }
        self.go_without(lacks);
        Ok((!put_back.is_empty()).then(|| {
            let (files, were) = (put_back.join(" and "), if put_back.len() > 1 { "were" } else { "was" });
            let why = if were_open { "removed or replaced while open" } else { "not to be written before" };
            format!("{files} {were} {why}: all that is kept is written there anew")
        }))
    }

    /// One of the copies at its place, with all that there is.
    fn written_anew(&mut self, at: usize, other_is_there: bool) -> Result<Copy, String> {
        // Others may have begun anew there.
        if !held::is_lock_of(&self.lock, &self.path) {
            self.lock = lock(&self.path).map_err(|error| error.to_string())?;
        }
        let from = if other_is_there { [1 - at, at] } else { [at, 1 - at] };
        let mut told = None;
        for open in from.into_iter().filter_map(|from| self.copies[from].as_ref()) {
            let (envelope, ledger, records) = match open.contents() {
                Ok(contents) => contents,
                Err(what) => {
                    told = told.or(Some(what));
                    continue;
                }
            };
            // One that could not be written lacks what was kept since.
            if self.sealer.open_ledger(&ledger) == Some(self.ledger) {
                let contents = Contents { envelope: &envelope, ledger: &ledger, records: &records };
                return Copy::create(&paths(&self.path)[at], true, contents);
            }
        }
        Err(told.unwrap_or_else(|| "is not open".to_owned()))
    }

    /// What is not kept is not taken for a copy, whatever becomes of its name.
    pub(super) fn go_without(&mut self, lacks: [Option<String>; 2]) {
        for (copy, lacks) in self.copies.iter_mut().zip(&lacks) {
            if lacks.is_some() {
                *copy = None;
            }
        }
        self.lacks = lacks;
    }

    /// A line where only one of the copies is kept now.
    pub fn lacks(&self) -> Option<String> {
        let mut lacks = paths(&self.path).into_iter().zip(&self.lacks);
        lacks.find_map(|(path, what)| {
            let what = what.as_ref()?;
            Some(format!(
                "{} cannot be written ({what}): there is one copy alone until it can",
                path.display()
            ))
        })
    }

    /// As [`Store::put_back`]; what there is to tell is kept for the next one who asks, whatever fails before.
    pub(super) fn find_or_put_back(&mut self) -> Result<(), StoreError> {
        let line = self.place()?;
        self.put_back = self.put_back.take().or(line);
        Ok(())
    }
}
