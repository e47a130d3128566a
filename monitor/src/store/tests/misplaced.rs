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
        let Opened { store, saved: found, damage } = site.open();
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
