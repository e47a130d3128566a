//! A service that answers with another key than it wrapped, and what was put aside before.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::keys::SecretPlace;
use crate::keys::tests::serve;

/// Keys of a server with Vault's transit engine that gives a key of its own, of 32 bytes, while `wrong` is true.
fn transit(site: &Site, wrong: &Arc<AtomicBool>) -> Keys {
    let wrong = wrong.clone();
    let (address, _) = serve(move |asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        let data = match asked.line.contains("/encrypt/") {
            true => json!({ "ciphertext": format!("vault:v1:{}", body["plaintext"].as_str().unwrap()) }),
            false if wrong.load(Ordering::Acquire) => json!({ "plaintext": STANDARD.encode([9; 32]) }),
            false => json!({ "plaintext": body["ciphertext"].as_str().unwrap().rsplit(':').next() }),
        };
        (200, json!({ "data": data }).to_string())
    });
    let token = site.directory.join("token");
    std::fs::write(&token, "a token").unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).unwrap();
    let key = Place::try_from("vault-transit:transit/streamwatch".to_owned()).unwrap();
    let mut settings = State { key, ..State::default() };
    (settings.vault.address, settings.vault.token) = (address, SecretPlace::File(token));
    Keys::new(&settings, &site.path).unwrap()
}

#[test]
fn a_service_that_answers_with_another_key_costs_nothing() {
    let site = Site::new("another-key");
    let wrong = Arc::new(AtomicBool::new(false));
    let keys = transit(&site, &wrong);
    let mut store = site.open_by(&keys).unwrap().store;
    // The files say it of themselves, be there records or none.
    for cursor in 0..3 {
        store.close();
        let whole = site.bytes();
        wrong.store(true, Ordering::Release);
        for _ in 0..2 {
            let told = site.open_by(&keys).unwrap_err();
            assert!(matches!(told, StoreError::Key { .. }), "{told}");
            let told = told.to_string();
            assert!(told.contains("transit/streamwatch v1") && told.contains("another key"), "{told}");
            assert_eq!(site.bytes(), whole);
            let told = keys.new_key().unwrap_err().to_string();
            assert!(told.contains("another key than it wrapped"), "{told}");
        }
        wrong.store(false, Ordering::Release);
        let opened = site.open_by(&keys).unwrap();
        assert_eq!((opened.saved.told.len() as u64, opened.damage), (cursor, Vec::new()));
        store = opened.store;
        store.keep(&[Change::Told(alert(cursor + 1))]).unwrap();
    }
    assert!(!beside(&site.path, ".broken").exists());
}

/// One copy's records are all damaged, its envelope is not: that is damage, and the other copy has them.
#[test]
fn a_copy_without_any_record_that_opens_is_damaged_where_the_key_opens_the_other() {
    let (site, saved) = Site::filled("none-opens", 4);
    let other = Site::filled("none-opens-other", 4).0;
    // That of another state, under the envelope of this one.
    let look = copy::look(&other.path).unwrap();
    let envelope = copy::look(&site.path).unwrap().envelope.unwrap();
    let contents = Contents { envelope: &envelope, ledger: &look.ledger.unwrap(), records: &look.records };
    Copy::create(&site.path, false, contents).unwrap();
    let Opened { saved: found, damage, .. } = site.open();
    assert_eq!(found, saved);
    assert!(damage.last().is_some_and(|line| line == "nothing is lost"), "{damage:?}");
}

#[test]
fn what_was_put_aside_before_is_not_written_over() {
    let site = Site::new("aside");
    let names = copy::asides(&site.path);
    for round in 0..names.len() + 2 {
        let text = format!("this is no database, {round}");
        for path in site.copies() {
            std::fs::write(&path, &text).unwrap();
        }
        let damage = site.open().damage;
        let name = &names[round.min(names.len() - 1)];
        assert!(damage[0].ends_with(&format!("is now {}", name.display())), "{damage:?}");
        assert_eq!(std::fs::read_to_string(name).unwrap(), text);
    }
    // The last name is that of the last one; those before stay.
    for (round, name) in names[..names.len() - 1].iter().enumerate() {
        assert_eq!(std::fs::read_to_string(name).unwrap(), format!("this is no database, {round}"));
    }
    assert!(names.iter().all(|name| files(&site.path).contains(name)));
}

#[test]
fn a_copy_of_another_state_is_put_aside_for_the_one_of_this_state() {
    let (site, saved) = Site::filled("ours", 4);
    let (other, _) = Site::filled("others", 30);
    for at in 0..2 {
        // With more commits than ours.
        std::fs::copy(&other.copies()[at], &site.copies()[at]).unwrap();
        let Opened { mut store, saved: found, damage, .. } = site.open();
        assert_eq!(found, saved);
        assert!(damage[0].contains("is under another key: it is written anew"), "{damage:?}");
        assert!(damage.last().is_some_and(|line| line == "nothing is lost"), "{damage:?}");
        assert!(store.is_whole());
        store.keep(&[]).unwrap();
        store.close();
        // The same while it is open.
        let mut store = site.open().store;
        std::fs::copy(&other.copies()[at], beside(&site.path, ".saved")).unwrap();
        std::fs::rename(beside(&site.path, ".saved"), &site.copies()[at]).unwrap();
        assert!(store.keep(&[]).unwrap().put_back.is_some());
        store.close();
        let opened = site.open();
        assert_eq!((opened.saved, opened.damage), (saved.clone(), Vec::new()));
    }
}
