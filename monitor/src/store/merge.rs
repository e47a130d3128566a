//! Opening: two copies are looked at, and put together record by record; what was wrong is told, and what is
//! not whole is written anew.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::copy::{self, Contents, Copy, Look, Records};
use super::envelope::Envelope;
use super::ledger::Ledger;
use super::limits::MOST;
use super::record::{self, Mark, Marks, Sealer, Table, parse, split_named, tag};
use super::sums::{self, Sums};
use super::{Held, Opened, Store, StoreError, clear, paths};
use crate::alert::{Change, Saved};
use crate::keys::{Key, KeyError, Keys, Wrapped};

/// A copy, as far as it can be trusted.
struct Read {
    look: Look,
    /// It was held open, and its name does not lead to it any more.
    away: bool,
    envelope: Option<Envelope>,
    sealer: Option<Sealer>,
    ledger: Option<Ledger>,
    /// Records that opened.
    genuine: Records,
    /// They are all that the ledger counts.
    complete: bool,
}

pub fn open(path: &Path, keys: &Keys, lock: File, held: Option<&Held>) -> Result<Opened, StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    let files = paths(path);
    let away = held.map(|held| held.away(path)).unwrap_or_default();
    let look = |at: usize| away[at].map_or_else(|| copy::look(&files[at]), copy::look_at).map_err(failed);
    let mut looks = [look(0)?, look(1)?];
    // An error of the disk is tried again, unless the other copy is there without any.
    let refused = looks.each_mut().map(|look| look.refused.take());
    for (at, error) in refused.into_iter().enumerate() {
        let other = &looks[1 - at];
        if let Some(source) = error
            && (!other.exists || other.damage.is_some())
        {
            return Err(failed(source));
        }
    }
    if looks[0].clear {
        return migrate(path, keys, lock);
    }
    let mut read = unlock(path, keys, looks, held)?;
    for (read, away) in read.iter_mut().zip(away) {
        read.away = away.is_some();
    }
    match choose(&read) {
        Some(chosen) => {
            let sealed = read.iter().all(|read| read.complete);
            let damage = if sealed { unsealed_left(path) } else { Vec::new() };
            let damage = damage.into_iter().map(Damage::Other).collect();
            Opening { path, keys, lock, damage }.put_together(read, chosen)
        }
        None => begin(path, keys, lock, &read),
    }
}

/// Removes what a start that was killed while it sealed a file of an earlier version has left in the clear. Gives
/// a line where that fails.
fn unsealed_left(path: &Path) -> Vec<String> {
    // One that could not be read to its end was set aside on purpose, and that was told.
    let is_clear = |aside: &PathBuf| copy::look(aside).is_ok_and(|look| look.clear && look.damage.is_none());
    copy::asides(path)
        .iter()
        .filter(|aside| is_clear(aside))
        .filter_map(|aside| remove_unsealed(path, aside))
        .collect()
}

fn remove_unsealed(path: &Path, aside: &Path) -> Option<String> {
    let removed = std::fs::remove_file(aside).and_then(|()| copy::sync_directory(path));
    removed.err().map(|error| format!("{}, in the clear, cannot be removed: {error}", aside.display()))
}

/// Opens the envelopes, and with them the records.
fn unlock(path: &Path, keys: &Keys, looks: [Look; 2], held: Option<&Held>) -> Result<[Read; 2], StoreError> {
    let envelopes = looks.each_ref().map(|look| look.envelope.as_deref().and_then(Envelope::decode));
    let mut opened: [Option<Sealer>; 2] = [None, None];
    let mut foreign = None;
    for at in 0..2 {
        let Some(envelope) = &envelopes[at] else { continue };
        if at == 1 && envelopes[0].as_ref() == Some(envelope) {
            opened[1] = opened[0].clone();
            continue;
        }
        if let Some(sealer) = held.and_then(|held| held.sealer(&envelope.wrapped)) {
            opened[at] = Some(sealer.clone());
            continue;
        }
        match keys.unwrap(&envelope.wrapped) {
            Ok(key) => opened[at] = Some(Sealer::new(&key)),
            // A crash while the key was changed leaves one copy under the old one.
            Err(error @ KeyError::Foreign { .. }) => foreign = Some(error),
            Err(source) => return Err(StoreError::Key { path: path.to_owned(), source }),
        }
    }
    // Files that hold something are never taken for damaged because a key is not there.
    if let (None, None, Some(source)) = (&opened[0], &opened[1], foreign) {
        return Err(StoreError::Key { path: path.to_owned(), source });
    }
    // Nor because it is another one, be it one that a service gives: what is sealed says by which key. (A damaged
    // envelope: the other copy's is the same.)
    let [a, b] = opened;
    for (sealer, envelope) in [&a, &b].into_iter().zip(&envelopes) {
        let (Some(sealer), Some(envelope)) = (sealer, envelope) else { continue };
        let mut under =
            looks.iter().zip(&envelopes).filter(|(_, other)| other.as_ref() == Some(envelope)).map(|it| it.0);
        if under.clone().any(|look| look.sealed().next().is_some())
            && !under.any(|look| look.sealed().any(|sealed| sealer.made(sealed)))
        {
            let Wrapped { kind, key_id, .. } = &envelope.wrapped;
            let what = format!("{kind} {key_id} answers with another key than it wrapped for this state");
            return Err(StoreError::Key { path: path.to_owned(), source: KeyError::Refused(what) });
        }
    }
    let sealers = [
        a.clone().or(b.clone().filter(|_| envelopes[0].is_none())),
        b.or(a.filter(|_| envelopes[1].is_none())),
    ];
    let mut envelopes = envelopes.into_iter();
    let mut sealers = sealers.into_iter();
    Ok(looks.map(|look| {
        let sealer = sealers.next().flatten();
        let envelope = envelopes.next().flatten();
        let mut genuine = Records::new();
        let mut ledger = None;
        if let Some(sealer) = &sealer {
            ledger = look.ledger.as_deref().and_then(|sealed| sealer.open_ledger(sealed));
            genuine = look.records.clone();
            genuine.retain(|address, sealed| sealer.open(address, sealed).is_some());
        }
        let complete = ledger.is_some_and(|ledger| count(&genuine).same_records(&ledger));
        Read { look, away: false, envelope, sealer, ledger, genuine, complete }
    }))
}

/// What a ledger would say of these.
fn count(records: &Records) -> Ledger {
    let mut ledger = Ledger::default();
    for (address, sealed) in records {
        ledger.count(address.table, None, Some(tag(sealed)));
    }
    ledger
}

/// The copy that counts: the newer one, unless it is not whole and under another key than the other, which is.
fn choose(read: &[Read; 2]) -> Option<usize> {
    let usable = |at: &usize| read[*at].sealer.is_some();
    let sequence = |at: usize| read[at].ledger.map(|ledger| ledger.sequence);
    let newer = [0, 1].into_iter().filter(usable).max_by_key(|at| (sequence(*at), 1 - *at))?;
    let other = 1 - newer;
    let apart = read[newer].envelope != read[other].envelope
        && read[newer].envelope.is_some()
        && read[other].envelope.is_some();
    Some(if apart && !read[newer].complete && read[other].complete { other } else { newer })
}

/// There is nothing yet; or nothing that anybody could read.
fn begin(path: &Path, keys: &Keys, lock: File, read: &[Read; 2]) -> Result<Opened, StoreError> {
    let mut damage = Vec::new();
    for (read, copy) in read.iter().zip(paths(path)) {
        if read.look.exists {
            let why = read.look.damage.as_deref().unwrap_or("holds no key");
            damage.push(format!(
                "{} could not be read ({why}), and is now {}",
                copy.display(),
                copy::aside(&copy).display()
            ));
        }
    }
    if !damage.is_empty() {
        damage.push("nothing of what was kept could be saved".to_owned());
    } else if sums::path(path).exists() {
        damage.push(format!("{} and its copy are gone: nothing of what was kept is there", path.display()));
    }
    let (key, wrapped) =
        keys.first_key().map_err(|source| StoreError::Key { path: path.to_owned(), source })?;
    let store = create(path, &key, wrapped, lock, &Records::new(), Ledger::default())?;
    Ok(Opened { store, saved: Saved::default(), damage, put_back: false })
}

/// Both copies, new.
fn create(
    path: &Path,
    key: &Key,
    wrapped: Wrapped,
    lock: File,
    records: &Records,
    before: Ledger,
) -> Result<Store, StoreError> {
    let sealer = Sealer::new(key);
    let envelope = Envelope { wrapped, made: Timestamp::now() };
    let mut ledger = count(records);
    (ledger.sequence, ledger.seals) = (before.sequence + 1, records.len() as u64 + 1);
    let sealed =
        sealer.seal_ledger(&ledger).map_err(|source| StoreError::Key { path: path.to_owned(), source })?;
    sums::remove(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    let contents = Contents { envelope: &envelope.encode(), ledger: &sealed, records };
    let mut copies = [None, None];
    for (open, copy) in copies.iter_mut().zip(paths(path)) {
        let made = Copy::create(&copy, true, contents);
        *open = Some(made.map_err(|what| StoreError::Database { path: copy, what })?);
    }
    let Envelope { wrapped, made } = envelope;
    let marks: Marks = records.iter().map(|(address, sealed)| (*address, Mark::of(sealed))).collect();
    Ok(Store {
        path: path.to_owned(),
        told: VecDeque::new(),
        used: record::used(&marks),
        most: MOST,
        marks,
        full: Default::default(),
        known: vec![(wrapped.clone(), sealer.clone())],
        lacks: [None, None],
        sealer,
        envelope: wrapped,
        made,
        ledger,
        copies,
        put_back: None,
        lock,
    })
}

/// From the file of an earlier version.
fn migrate(path: &Path, keys: &Keys, lock: File) -> Result<Opened, StoreError> {
    let (result, changes) = clear::read(path);
    let (key, wrapped) =
        keys.first_key().map_err(|source| StoreError::Key { path: path.to_owned(), source })?;
    // Sealed beside the old one first, which goes when the new one takes its name.
    let sealer = Sealer::new(&key);
    let (records, told) = super::records_of(&changes, &sealer)
        .map_err(|source| StoreError::Key { path: path.to_owned(), source })?;
    // `create` sets aside what it replaces: this one is to be gone, since all can read it.
    let aside = copy::aside(path);
    let mut store = create(path, &key, wrapped, lock, &records, Ledger::default())?;
    store.told = told;
    let mut damage = vec![format!("{} was in the clear: it is sealed now", path.display())];
    match result {
        Ok(()) => damage.extend(remove_unsealed(path, &aside)),
        Err(why) => damage.push(format!(
            "not all of it could be read ({why}): the old file, in the clear, is now {}",
            aside.display()
        )),
    }
    Ok(Opened { saved: saved(&changes), store, damage, put_back: false })
}

fn saved(changes: &[Change]) -> Saved {
    let mut saved = Saved::default();
    for change in changes {
        match change.clone() {
            Change::Open(alert) => saved.open.push(alert),
            Change::Told(alert) => saved.told.push(alert),
            Change::Silences(all) => saved.silences = all,
            Change::Baseline(crate::detect::Baseline::Kept(stream, past)) => {
                saved.baselines.push((stream, past))
            }
            Change::Closed(_) | Change::Baseline(crate::detect::Baseline::Gone(_)) => {}
        }
    }
    saved
}

/// What was wrong, to be told once it is known what became of it.
enum Damage {
    /// Of the copy at this place, which is to be written anew; where the old file goes then.
    Copy {
        at: usize,
        what: String,
        aside: Option<PathBuf>,
    },
    Other(String),
}

impl Damage {
    /// In words. `written`: the copies that are there by now.
    fn line(self, files: &[PathBuf; 2], written: [bool; 2]) -> String {
        match self {
            Damage::Copy { at, what, .. } if !written[at] => format!("{} {what}", files[at].display()),
            Damage::Copy { at, what, aside } => {
                let aside = aside.map(|aside| format!("; the old file is now {}", aside.display()));
                let aside = aside.unwrap_or_default();
                format!("{} {what}: it is written anew{aside}", files[at].display())
            }
            Damage::Other(line) => line,
        }
    }
}

struct Opening<'a> {
    path: &'a Path,
    keys: &'a Keys,
    lock: File,
    damage: Vec<Damage>,
}

impl Opening<'_> {
    fn put_together(mut self, read: [Read; 2], chosen: usize) -> Result<Opened, StoreError> {
        let path = self.path;
        let files = paths(path);
        let (main, other) = (&read[chosen], &read[1 - chosen]);
        let (Some(sealer), Some(envelope)) =
            (main.sealer.clone(), main.envelope.clone().or_else(|| other.envelope.clone()))
        else {
            return begin(path, self.keys, self.lock, &read);
        };
        let sums = sums::check(path, &sealer);
        let same_key = other.envelope.is_none() || main.envelope.is_none() || other.envelope == main.envelope;
        let mut records = main.genuine.clone();
        if !main.complete && same_key {
            for (address, sealed) in &other.genuine {
                records.entry(*address).or_insert_with(|| sealed.clone());
            }
        }
        let found = count(&records);
        let wanted = main.ledger.or(other.ledger);
        let whole = wanted.is_some_and(|wanted| wanted.same_records(&found));
        let mut ledger = wanted.unwrap_or(found);
        let lost = self.lost(wanted.as_ref(), &found);
        if !whole {
            let Ledger { sequence, seals, .. } = ledger;
            ledger = Ledger { sequence: sequence + 1, seals: seals + 1, ..found };
        }

        // Which copy has to be written anew, and whether that is worth a word.
        let mut anew = [false; 2];
        let before = self.damage.len();
        for at in 0..2 {
            let this = &read[at];
            let what = self.wrong(this, &ledger, whole, matches!(sums, Sums::None));
            let changed = matches!(sums, Sums::Same(same) if !same[at]);
            anew[at] = what.is_some() || changed;
            let what = match what {
                Some(what) if what.is_empty() => continue,
                Some(what) => what,
                None if changed => "has changed since the orderly stop, where no record is".to_owned(),
                None => continue,
            };
            let aside = files[at].exists().then(|| copy::aside(&files[at]));
            self.damage.push(Damage::Copy { at, what, aside });
        }
        if sums == Sums::Damaged {
            self.damage.push(Damage::Other(format!("{} is damaged", sums::path(path).display())));
        }
        let damaged = self.damage.len() > before;
        let lost = lost.or_else(|| damaged.then(|| "nothing is lost".to_owned()));
        self.damage.extend(lost.map(Damage::Other));
        let put_back = read.iter().any(|read| read.away);
        self.write(sealer, envelope, ledger, records, anew, put_back)
    }

    /// What is wrong with a copy; empty: nothing that a crash between two commits does not explain.
    fn wrong(&self, read: &Read, ledger: &Ledger, whole: bool, crashed: bool) -> Option<String> {
        if read.away {
            return Some("was removed or replaced while it could not be written".to_owned());
        }
        if !read.look.exists {
            return Some("is missing".to_owned());
        }
        if let Some(why) = &read.look.damage {
            return Some(format!("is damaged ({why})"));
        }
        if read.envelope.is_none() {
            return Some("has a damaged key".to_owned());
        }
        let Some(own) = read.ledger else {
            return Some(
                if read.sealer.is_some() { "has a damaged ledger" } else { "is under another key" }.into(),
            );
        };
        let bad = read.look.records.len() - read.genuine.len();
        if bad > 0 {
            return Some(format!("has {bad} damaged records"));
        }
        if !read.complete {
            return Some("lacks records".to_owned());
        }
        let behind = ledger.sequence.saturating_sub(own.sequence);
        match behind {
            0 => (!whole).then(String::new),
            1 if crashed => Some(String::new()),
            _ => Some(format!("lacks the last {behind} commits")),
        }
    }

    /// What is missing for good, in words.
    fn lost(&self, wanted: Option<&Ledger>, found: &Ledger) -> Option<String> {
        let Some(wanted) = wanted else {
            return Some("how much is lost cannot be told: no ledger is left".to_owned());
        };
        let lost: Vec<String> = Table::ALL
            .into_iter()
            .filter(|table| !wanted.same_table(found, *table))
            .map(|table| match wanted.records(table).saturating_sub(found.records(table)) {
                0 => format!("some {} are as they were before", table.what()),
                missing => format!("{missing} of {} {} are lost", wanted.records(table), table.what()),
            })
            .collect();
        (!lost.is_empty()).then(|| lost.join(", "))
    }

    fn write(
        self,
        sealer: Sealer,
        envelope: Envelope,
        ledger: Ledger,
        records: Records,
        anew: [bool; 2],
        put_back: bool,
    ) -> Result<Opened, StoreError> {
        let path = self.path;
        let sealed = sealer
            .seal_ledger(&ledger)
            .map_err(|source| StoreError::Key { path: path.to_owned(), source })?;
        sums::remove(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let contents = Contents { envelope: &envelope.encode(), ledger: &sealed, records: &records };
        let mut copies = [None, None];
        let mut lacks = [None, None];
        let files = paths(path);
        for (at, file) in files.iter().enumerate() {
            let result = if anew[at] { Copy::create(file, true, contents) } else { Copy::open(file) };
            match result {
                Ok(copy) => copies[at] = Some(copy),
                Err(what) => lacks[at] = Some(what),
            }
        }
        if let [Some(what), Some(_)] = lacks {
            return Err(StoreError::Database { path: path.to_owned(), what });
        }
        let written = copies.each_ref().map(Option::is_some);
        let damage = self.damage.into_iter().map(|damage| damage.line(&files, written)).collect();
        let (saved, told) = decode(&sealer, &records);
        let marks: Marks = records.iter().map(|(address, sealed)| (*address, Mark::of(sealed))).collect();
        let Envelope { wrapped, made } = envelope;
        let store = Store {
            path: path.to_owned(),
            known: vec![(wrapped.clone(), sealer.clone())],
            lacks,
            sealer,
            envelope: wrapped,
            made,
            ledger,
            used: record::used(&marks),
            most: MOST,
            marks,
            full: Default::default(),
            told,
            copies,
            put_back: None,
            lock: self.lock,
        };
        Ok(Opened { store, saved, damage, put_back })
    }
}

/// What the records say. Those of another version that are not understood are left where they are.
fn decode(sealer: &Sealer, records: &Records) -> (Saved, VecDeque<u64>) {
    let mut saved = Saved::default();
    for (address, sealed) in records {
        let Some(plain) = sealer.open(address, sealed) else { continue };
        let Some((name, value)) = split_named(&plain) else { continue };
        match address.table {
            Table::Open => saved.open.extend(parse(value)),
            Table::Told => saved.told.extend(parse(value)),
            Table::Silences => saved.silences.extend(parse(value)),
            Table::Baselines => {
                saved.baselines.push((String::from_utf8_lossy(name).into_owned(), value.to_owned()));
            }
            Table::Certificates => {
                saved.certificates.push((String::from_utf8_lossy(name).into_owned(), value.to_owned()));
            }
        }
    }
    saved.open.sort_by(|a, b| a.key.cmp(&b.key));
    saved.told.sort_by_key(|alert| alert.cursor);
    saved.silences.sort_by_key(|silence| silence.id);
    saved.baselines.sort();
    let told = saved.told.iter().map(|alert| alert.cursor).collect();
    (saved, told)
}
