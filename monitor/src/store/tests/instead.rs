//! Names under which something else stands than a file.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use rustix::fs::{CWD, Mode, mkfifoat};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// What somebody puts there.
type Put = fn(&Path);

const PUT: [(&str, Put); 3] = [
    ("a named pipe", |path| mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap()),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("a symbolic link", |path| symlink(path, path).unwrap()),
];

fn put(path: &Path, what: Put) {
    let _ = std::fs::remove_file(path);
    what(path);
}

/// Opens it on a thread of its own: what would wait for ever is a failure.
fn opened(site: &Site, what: &str) -> Result<Opened, StoreError> {
    let (said, heard) = mpsc::channel();
    let (path, keys) = (site.path.clone(), site.keys());
    std::thread::spawn(move || drop(said.send(Store::open(&path, &keys))));
    heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what}: nobody answers"))
}

#[test]
fn a_copy_that_is_no_file_is_as_a_damaged_one() {
    for (what, way) in PUT {
        let (site, saved) = Site::filled("instead", 3);
        for path in site.copies() {
            put(&path, way);
            let Opened { store, saved: found, damage, .. } = opened(&site, what).unwrap();
            assert_eq!(found, saved, "{what}");
            let told = damage.join("\n");
            assert!(told.contains(&format!("is {what}")) && told.contains("nothing is lost"), "{told}");
            assert!(copy::asides(&path)[0].symlink_metadata().is_ok(), "{what}");
            assert!(path.symlink_metadata().unwrap().is_file(), "{what}");
            store.close();
            std::fs::remove_file(&copy::asides(&path)[0]).unwrap();
        }
        // Both: nothing is there any more, and that is told.
        site.copies().iter().for_each(|path| put(path, way));
        let Opened { store, saved: found, damage, .. } = opened(&site, what).unwrap();
        assert_eq!(found, Saved::default(), "{what}");
        assert!(damage.join("\n").contains("nothing of what was kept could be saved"), "{damage:?}");
        store.close();
        assert_eq!(opened(&site, what).unwrap().damage, Vec::<String>::new(), "{what}");
    }
}

#[test]
fn what_stands_in_the_place_of_the_files_beside_it_holds_nothing_up() {
    for (what, way) in PUT {
        let (site, saved) = Site::filled("instead-beside", 3);
        // The sums: told as damaged.
        put(&sums::path(&site.path), way);
        let Opened { store, saved: found, damage, .. } = opened(&site, what).unwrap();
        assert_eq!((found, damage.is_empty()), (saved, false), "{what}");
        // Those of a file that is written anew, and of sums.
        for path in [site.path.clone(), sums::path(&site.path)] {
            put(&beside(&path, ".new"), way);
        }
        store.close();
        assert_eq!(opened(&site, what).unwrap().damage, Vec::<String>::new(), "{what}");
        // The lock: nobody can say whether there is another daemon.
        put(&lock_path(&site.path), way);
        let told = opened(&site, what).unwrap_err().to_string();
        let expected = format!("{}: is {what}", lock_path(&site.path).display());
        assert!(told.contains(&expected) && told.contains("take it away"), "{told}");
    }
}

/// What is in a directory is somebody's, and so is what a device is there for.
#[test]
fn a_directory_is_not_put_aside() {
    let (site, saved) = Site::filled("instead-directory", 3);
    let [first, copy] = paths(&site.path);
    std::fs::remove_file(&first).unwrap();
    std::fs::create_dir(&first).unwrap();
    let Opened { store, saved: found, damage, .. } = opened(&site, "a directory").unwrap();
    assert_eq!(found, saved);
    assert!(damage.join("\n").contains("is a directory"), "{damage:?}");
    assert!(store.lacks().is_some_and(|line| line.contains("a directory")), "{:?}", store.lacks());
    drop(store);
    std::fs::remove_file(&copy).unwrap();
    let told = opened(&site, "a directory").unwrap_err().to_string();
    assert!(told.contains("is a directory"), "{told}");
    assert!(first.is_dir());
}

#[test]
fn a_device_is_never_put_aside_or_written_over() {
    let site = Site::new("instead-device");
    // A null device, as /dev/null is; who may not make one cannot lose one.
    let made = rustix::fs::mknodat(
        CWD,
        &site.path,
        rustix::fs::FileType::CharacterDevice,
        Mode::RUSR | Mode::WUSR,
        rustix::fs::makedev(1, 3),
    );
    if made.is_err() {
        return;
    }
    let told = opened(&site, "a device").unwrap_err().to_string();
    assert!(told.contains("is a device"), "{told}");
    let is_there =
        || std::os::unix::fs::FileTypeExt::is_char_device(&site.path.metadata().unwrap().file_type());
    assert!(is_there());
    assert!(!copy::aside(&site.path).exists());
    // Not where the other copy is whole, either.
    let (whole, _) = Site::filled("instead-device-whole", 3);
    std::fs::copy(&whole.path, beside(&site.path, ".copy")).unwrap();
    std::fs::copy(crate::keys::default_file(&whole.path), crate::keys::default_file(&site.path)).unwrap();
    let store = opened(&site, "a device").unwrap().store;
    assert!(store.lacks().is_some_and(|line| line.contains("a device is there")), "{:?}", store.lacks());
    assert!(is_there());
}

/// With holes, which take no room on the disk and as long to read as bytes do.
#[test]
fn a_copy_that_was_stretched_is_not_read_to_its_end() {
    for at in 0..3 {
        let (site, saved) = Site::filled("stretched", 3);
        for path in site.copies().iter().enumerate().filter(|(copy, _)| at == 2 || at == *copy).map(|it| it.1)
        {
            OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 40).unwrap();
        }
        let Opened { store, saved: found, damage, .. } = opened(&site, "stretched").unwrap();
        assert_eq!((found, damage.is_empty()), (saved, false), "{at}: {damage:?}");
        store.close();
        assert_eq!(opened(&site, "stretched").unwrap().damage, Vec::<String>::new(), "{at}");
    }
}
