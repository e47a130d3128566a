//! Files that are damaged while nobody has them open, and what a crash leaves.

use super::*;

/// One file is damaged: everything is there, and it is told.
fn damaged(site: &Site, whole: &[(PathBuf, Vec<u8>)], saved: &Saved, what: &str) {
    let opened = site.open();
    assert_eq!(&opened.saved, saved, "{what}");
    assert!(!opened.damage.is_empty(), "{what}: nobody was told");
    assert!(
        !opened.damage.iter().any(|line| line.contains(" lost"))
            || opened.damage.iter().any(|line| line == "nothing is lost"),
        "{what}: {:?}",
        opened.damage
    );
    // What was written anew is whole.
    opened.store.close();
    let again = site.open();
    assert_eq!((&again.saved, &again.damage), (saved, &Vec::new()), "{what}, opened again");
    drop(again);
    site.put(whole);
}

#[test]
fn any_flipped_bit_is_told_and_nothing_is_lost() {
    let (site, saved) = Site::filled("flips", 12);
    let whole = site.bytes();
    let mut random = random(1);
    for (path, bytes) in &whole {
        let header = (0..320).step_by(9);
        let length = bytes.len();
        let anywhere: Vec<usize> = (0..60).map(|_| random.random_range(0..length)).collect();
        for at in header.chain(anywhere).filter(|at| *at < length) {
            let mut broken = bytes.clone();
            let bit = random.random_range(0..8);
            broken[at] ^= 1 << bit;
            std::fs::write(path, broken).unwrap();
            damaged(&site, &whole, &saved, &format!("bit {bit} of byte {at} of {}", path.display()));
        }
    }
}

#[test]
fn any_truncation_is_told_and_nothing_is_lost() {
    let (site, saved) = Site::filled("cuts", 12);
    let whole = site.bytes();
    let mut random = random(2);
    for (path, bytes) in &whole {
        let some: Vec<usize> = (0..20).map(|_| random.random_range(0..bytes.len())).collect();
        for length in [0, 1, 64, 4096, bytes.len() - 1].into_iter().chain(some) {
            std::fs::write(path, &bytes[..length.min(bytes.len() - 1)]).unwrap();
            damaged(&site, &whole, &saved, &format!("{} cut to {length}", path.display()));
        }
    }
    for (path, _) in &whole[..2] {
        std::fs::remove_file(path).unwrap();
        damaged(&site, &whole, &saved, &format!("{} removed", path.display()));
    }
}

/// Both files are damaged in any way: no panic, nothing that was not kept, and what is missing is told.
#[test]
fn damage_to_both_copies_costs_what_is_damaged_and_is_told() {
    let (site, saved) = Site::filled("both", 40);
    let whole = site.bytes();
    let mut random = random(3);
    let (mut saved_some, mut lost_some) = (0, 0);
    for round in 0..150 {
        let mut broken = whole.clone();
        for (_, bytes) in &mut broken[..2] {
            for _ in 0..1 + round % 7 {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            if round % 5 == 0 {
                bytes.truncate(random.random_range(0..bytes.len()));
            }
        }
        site.put(&broken);
        let Opened { store, saved: found, damage, .. } = site.open();
        drop(store);
        let told = damage.join("; ");
        assert!(!damage.is_empty(), "round {round}");
        let genuine = found.open.iter().all(|alert| saved.open.contains(alert))
            && found.told.iter().all(|alert| saved.told.contains(alert))
            && found.silences.iter().all(|silence| saved.silences.contains(silence))
            && found.baselines.iter().all(|baseline| saved.baselines.contains(baseline));
        assert!(genuine, "round {round}: {told}");
        if found == saved {
            saved_some += 1;
        } else {
            lost_some += 1;
            let says = ["lost", "nothing of what was kept", "as they were before", "commits"];
            assert!(
                says.iter().any(|word| told.contains(word)) && !told.contains("nothing is lost"),
                "round {round}: {told}"
            );
        }
        let Opened { saved: again, damage, .. } = site.open();
        assert_eq!((again, damage), (found, Vec::new()), "round {round}");
        site.put(&whole);
    }
    assert!(saved_some > 0 && lost_some > 0, "{saved_some} {lost_some}");
}

/// The record of one table is overwritten in both copies: that one is lost, and no other.
#[test]
fn a_record_that_is_damaged_in_both_copies_costs_that_record() {
    let (site, saved) = Site::filled("record", 3);
    let keys = site.keys();
    let look = copy::look(&site.path).unwrap();
    let envelope = Envelope::decode(look.envelope.as_deref().unwrap()).unwrap();
    let sealer = Sealer::new(&keys.unwrap(&envelope.wrapped).unwrap());
    let victim = &look.records[&sealer.address(Table::Told, &2_u64.to_be_bytes())];
    for path in site.copies() {
        let mut bytes = std::fs::read(&path).unwrap();
        let found: Vec<usize> =
            (0..bytes.len() - victim.len()).filter(|at| bytes[*at..].starts_with(victim)).collect();
        assert!(!found.is_empty());
        for at in found {
            bytes[at + 30] ^= 1;
        }
        std::fs::write(path, bytes).unwrap();
    }
    let Opened { saved: found, damage, .. } = site.open();
    assert!(damage.iter().any(|line| line == "1 of 3 alerts told are lost"), "{damage:?}");
    assert_eq!(found.told, [alert(1), alert(3)]);
    assert_eq!(
        (&found.open, &found.silences, &found.baselines),
        (&saved.open, &saved.silences, &saved.baselines)
    );
}

#[test]
fn a_crash_between_the_two_commits_is_made_up_for_without_a_word() {
    let (site, _) = Site::filled("between", 3);
    let [_, second] = site.copies();
    let before = std::fs::read(&second).unwrap();
    let mut store = site.open().store;
    store.keep(&[Change::Told(alert(4))]).unwrap();
    drop(store);
    std::fs::write(&second, &before).unwrap();
    let Opened { store, saved, damage, .. } = site.open();
    assert_eq!((saved.told.len(), damage), (4, Vec::new()));
    drop(store);
    // Two commits are no crash.
    let mut store = site.open().store;
    store.keep(&[Change::Told(alert(5))]).unwrap();
    drop(store);
    std::fs::write(&second, before).unwrap();
    let Opened { saved, damage, .. } = site.open();
    assert_eq!(saved.told.len(), 5);
    assert!(damage[0].contains("lacks the last 2 commits") && damage[1] == "nothing is lost", "{damage:?}");
}

#[test]
fn files_that_are_no_state_are_put_aside_and_told() {
    let site = Site::new("broken");
    for path in site.copies() {
        std::fs::write(path, b"this is no database").unwrap();
    }
    let Opened { saved, damage, .. } = site.open();
    assert_eq!(saved, Saved::default());
    assert!(damage.len() == 3 && damage[2] == "nothing of what was kept could be saved", "{damage:?}");
    for path in site.copies() {
        assert_eq!(std::fs::read(beside(&path, ".broken")).unwrap(), b"this is no database");
    }
}
