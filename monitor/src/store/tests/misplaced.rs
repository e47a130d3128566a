//! Files that are removed, or replaced, while they are open.

use std::os::unix::fs::symlink;

use super::*;

/// What somebody does to an open state, given its path.
type Done = fn(&Path);

const AWAY: [(&str, Done); 6] = [
    ("both removed", |path| paths(path).iter().for_each(|path| std::fs::remove_file(path).unwrap())),
    ("the copy removed", |path| std::fs::remove_file(&paths(path)[1]).unwrap()),
    ("all but the key removed", |path| {
        let key = crate::keys::default_file(path);
        for file in files(path).iter().filter(|file| file.exists() && **file != key) {
            std::fs::remove_file(file).unwrap();
        }
    }),
    ("replaced by what they were", |path| {
        for path in paths(path) {
            std::fs::copy(&path, beside(&path, ".saved")).unwrap();
            std::fs::rename(beside(&path, ".saved"), &path).unwrap();
        }
    }),
    ("replaced by something else", |path| {
        for path in paths(path) {
            std::fs::write(beside(&path, ".other"), "no state").unwrap();
            std::fs::rename(beside(&path, ".other"), &path).unwrap();
        }
    }),
    ("symbolic links elsewhere", |path| {
        for path in paths(path) {
            std::fs::remove_file(&path).unwrap();
            symlink("/nonexistent/state", &path).unwrap();
        }
    }),
];

#[test]
fn files_that_are_removed_or_replaced_while_open_are_written_anew_and_told() {
    for (what, done) in AWAY {
        let (site, saved) = Site::filled("misplaced", 3);
        let mut store = site.open().store;
        done(&site.path);
        let refused = store.keep(&[Change::Told(alert(4))]).unwrap();
        let line = refused.put_back.unwrap_or_else(|| panic!("{what}: nobody was told"));
        assert!(line.contains("removed or replaced while open"), "{what}: {line}");
        // Once, and what is kept then is kept there.
        assert_eq!(store.keep(&[Change::Told(alert(5))]).unwrap(), Refused::default(), "{what}");
        drop(store);
        let Opened { store, saved: found, damage, .. } = site.open();
        assert_eq!(damage, Vec::<String>::new(), "{what}");
        assert_eq!(
            (found.told.len(), &found.open, &found.silences),
            (5, &saved.open, &saved.silences),
            "{what}"
        );
        drop(store);
    }
}

#[test]
fn where_there_is_no_place_for_them_nothing_counts_as_kept_until_there_is_one() {
    let (site, saved) = Site::filled("no-place", 3);
    let mut store = site.open().store;
    let aside = site.directory.with_extension("aside");
    std::fs::rename(&site.directory, &aside).unwrap();
    std::fs::write(&site.directory, "no directory").unwrap();
    for _ in 0..2 {
        let told = store.keep(&[Change::Told(alert(4))]).unwrap_err();
        assert!(matches!(told, StoreError::Misplaced { .. }), "{told}");
        assert!(store.put_back().is_err());
    }
    std::fs::remove_file(&site.directory).unwrap();
    // It is made anew. The key is another matter: the daemon asks for it.
    assert!(store.keep(&[Change::Told(alert(4))]).unwrap().put_back.is_some());
    std::fs::copy(
        crate::keys::default_file(&aside.join("state.redb")),
        crate::keys::default_file(&site.path),
    )
    .unwrap();
    store.close();
    let Opened { saved: found, damage, .. } = site.open();
    assert_eq!((found.told.len(), found.open, damage), (4, saved.open, Vec::new()));
    std::fs::remove_dir_all(aside).unwrap();
}

#[test]
fn another_daemon_that_has_begun_there_meanwhile_is_left_alone() {
    let (site, _) = Site::filled("begun", 3);
    let mut store = site.open().store;
    let aside = site.directory.with_extension("aside");
    std::fs::rename(&site.directory, &aside).unwrap();
    let other = site.open().store;
    let told = store.keep(&[Change::Told(alert(4))]).unwrap_err().to_string();
    assert!(told.contains("another daemon has it open"), "{told}");
    drop(other);
    assert_eq!(site.open().damage, Vec::<String>::new());
    std::fs::remove_dir_all(aside).unwrap();
}

/// All of it, with the key.
fn remove_all(path: &Path) {
    for file in files(path).iter().filter(|file| file.exists()) {
        std::fs::remove_file(file).unwrap();
    }
}

/// As the daemon does: the default key is made where files were put back, and they are written anew under it.
fn with_a_key(site: &Site, store: &mut Store) {
    let (key, wrapped) = site.keys().first_key().unwrap();
    assert!(store.wants_another_key(&wrapped, Timestamp::now()));
    store.rewrite(&key, wrapped, Timestamp::now()).unwrap();
}

#[test]
fn what_is_removed_with_its_key_while_a_write_fails_is_there_again() {
    let (site, saved) = Site::filled("removed-failing", 3);
    let mut store = site.open().store;
    store.copies.iter_mut().flatten().for_each(Copy::close);
    let (held, line) = store.let_go();
    assert_eq!(line, None);
    remove_all(&site.path);
    let opened = Store::open_again(&site.path, &site.keys(), &held).unwrap();
    assert_eq!(opened.saved, saved);
    assert!(opened.put_back && opened.damage.last().is_some_and(|line| line == "nothing is lost"));
    let mut store = opened.store;
    drop(held);
    with_a_key(&site, &mut store);
    store.keep(&[Change::Told(alert(4))]).unwrap();
    store.close();
    let Opened { saved: found, damage, .. } = site.open();
    assert_eq!((found.told.len(), found.open, damage), (4, saved.open, Vec::new()));
}

#[test]
fn a_write_that_fails_behind_files_that_were_put_back_without_their_key_costs_nothing() {
    let (site, saved) = Site::filled("put-back-failing", 3);
    let mut store = site.open().store;
    remove_all(&site.path);
    store.find_or_put_back().unwrap();
    // The disk takes nothing more.
    store.copies.iter_mut().flatten().for_each(Copy::close);
    let (held, line) = store.let_go();
    assert!(line.is_some_and(|line| line.contains("removed or replaced while open")), "nobody is told");
    // Sealed by a file key that nothing on the disk opens.
    assert!(matches!(Store::open(&site.path, &site.keys()), Err(StoreError::InUse { .. })));
    let opened = Store::open_again(&site.path, &site.keys(), &held).unwrap();
    assert_eq!((&opened.saved, &opened.damage), (&saved, &Vec::new()));
    let mut store = opened.store;
    with_a_key(&site, &mut store);
    drop(held);
    store.close();
    let Opened { saved: found, damage, .. } = site.open();
    assert_eq!((found, damage), (saved, Vec::new()));
}

#[test]
fn what_is_held_is_not_let_go_of_where_there_is_no_place_for_it() {
    let (site, saved) = Site::filled("held", 3);
    let (held, _) = site.open().store.let_go();
    let aside = site.directory.with_extension("aside");
    std::fs::rename(&site.directory, &aside).unwrap();
    std::fs::write(&site.directory, "no directory").unwrap();
    std::fs::remove_dir_all(aside).unwrap();
    for _ in 0..2 {
        assert!(Store::open_again(&site.path, &site.keys(), &held).is_err());
    }
    std::fs::remove_file(&site.directory).unwrap();
    let opened = Store::open_again(&site.path, &site.keys(), &held).unwrap();
    assert!(opened.saved == saved && opened.put_back);
}

#[test]
fn where_one_copy_has_no_place_the_other_is_kept_and_that_is_told() {
    for at in 0..2 {
        let (site, saved) = Site::filled(&format!("one-{at}"), 3);
        let mut store = site.open().store;
        // What stands in its place is somebody's, and cannot be replaced.
        let path = &site.copies()[at];
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        for cursor in 4..8 {
            assert_eq!(store.keep(&[Change::Told(alert(cursor))]).unwrap(), Refused::default());
            assert_eq!(store.put_back().unwrap(), None);
        }
        let line = store.lacks().unwrap();
        assert!(line.starts_with(&format!("{} cannot be written (", path.display())), "{line}");
        assert!(!store.is_whole());
        // It can be opened like that, and a new key is taken.
        drop(store);
        let Opened { mut store, damage, .. } = site.open();
        assert!(damage.iter().all(|line| !line.contains("written anew")), "{damage:?}");
        assert!(store.lacks().is_some_and(|line| line.contains(" cannot be written (")));
        let (key, wrapped) = site.keys().new_key().unwrap();
        store.rewrite(&key, wrapped, Timestamp::now()).unwrap();
        store.keep(&[Change::Told(alert(8))]).unwrap();
        assert!(!store.is_whole());
        // And with a place there are two again.
        std::fs::remove_dir_all(path).unwrap();
        assert!(store.put_back().unwrap().is_some_and(|line| line.contains("is written there anew")));
        assert!(store.is_whole() && store.lacks().is_none());
        store.keep(&[Change::Told(alert(9))]).unwrap();
        store.close();
        std::fs::remove_file(&site.copies()[1 - at]).unwrap();
        let Opened { saved: found, .. } = site.open();
        assert_eq!((found.told.len(), found.open), (9, saved.open));
    }
}

#[test]
fn a_copy_that_comes_back_to_its_place_without_what_was_kept_since_is_none() {
    let (site, _) = Site::filled("stale", 3);
    let mut store = site.open().store;
    let [_, copy] = site.copies();
    let aside = site.directory.join("aside");
    std::fs::rename(&copy, &aside).unwrap();
    std::fs::create_dir(&copy).unwrap();
    store.keep(&[Change::Told(alert(4))]).unwrap();
    std::fs::remove_dir(&copy).unwrap();
    std::fs::rename(&aside, &copy).unwrap();
    store.keep(&[Change::Told(alert(5))]).unwrap();
    assert!(store.put_back().unwrap().is_some());
    store.close();
    std::fs::remove_file(&site.path).unwrap();
    assert_eq!(site.open().saved.told.len(), 5);
}

#[test]
fn an_attempt_that_comes_to_no_end_takes_one_name_of_those_put_aside() {
    let (site, _) = Site::filled("attempts", 3);
    let [path, _] = site.copies();
    let look = copy::look(&path).unwrap();
    let (envelope, ledger) = (look.envelope.unwrap(), look.ledger.unwrap());
    let contents = Contents { envelope: &envelope, ledger: &ledger, records: &look.records };
    let names = copy::asides(&path);
    // Put aside, and then nothing more: as where the disk fails in between.
    for _ in 0..5 {
        assert_eq!(copy::aside(&path), names[0]);
        copy::put_aside(&path).unwrap();
    }
    Copy::create(&path, true, contents).unwrap();
    assert!(names[0].exists() && names[1..].iter().all(|name| !name.exists()));
    Copy::create(&path, true, contents).unwrap();
    assert!(names[1].exists(), "another one has another name");
}
