//! Secrets in files: read only where nobody else can read or replace them.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{Key, KeyError, SecretPlace};
use crate::trust;

/// Longest secret: credentials of AWS with a session token, or the token of a web identity.
const LONGEST: u64 = 64 << 10;

/// Who may read it besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Nobody,
    /// systemd gives the group's bits to the mask of its access list.
    Group,
}

/// Reads the secret at a place.
///
/// # Errors
/// It is missing, too long, or somebody else can read or replace it.
pub fn read(place: &SecretPlace) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    match place {
        SecretPlace::File(path) => read_file(path, Others::Nobody),
        SecretPlace::Credential(name) => read_file(&credential(name)?, Others::Group),
    }
}

/// Where systemd put a credential (systemd.exec(5), CREDENTIALS). The environment names a directory.
///
/// # Errors
/// The service has none.
pub fn credential(name: &str) -> Result<PathBuf, KeyError> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    match directory {
        Some(directory) if directory.is_absolute() => Ok(directory.join(name)),
        _ => Err(KeyError::Refused(format!(
            "the credential {name} is not there: systemd gave no CREDENTIALS_DIRECTORY (LoadCredential=)"
        ))),
    }
}

fn read_file(path: &Path, others: Others) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let refused = |what: String| KeyError::Refused(format!("{}: {what}", path.display()));
    // No symbolic link, and nothing that one would wait for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).map_err(|error| {
            match error.raw_os_error() {
                Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
                    refused("is a symbolic link: a secret must be a file of its own".to_owned())
                }
                _ => refused(format!("can't be read: {error}")),
            }
        })?;
    let about = file.metadata().map_err(|error| refused(error.to_string()))?;
    let mask = if others == Others::Nobody { 0o077 } else { 0o037 };
    if !about.is_file() {
        return Err(refused("is no regular file".to_owned()));
    }
    if !trust::is_ours(&about) {
        return Err(refused(format!("belongs to user {}, who could replace it: expected root", about.uid())));
    }
    if about.mode() & mask != 0 {
        return Err(refused(format!(
            "has mode {:04o}: others can read it; chmod 600",
            about.mode() & 0o7777
        )));
    }
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    trust::nobody_else_replaces(directory).map_err(refused)?;
    let mut secret = Zeroizing::new(Vec::with_capacity(about.len().min(LONGEST) as usize + 1));
    file.take(LONGEST + 1).read_to_end(&mut secret).map_err(|error| refused(error.to_string()))?;
    if secret.len() as u64 > LONGEST {
        return Err(refused(format!("is longer than {LONGEST} bytes")));
    }
    Ok(secret)
}

/// 32 bytes, not all alike, as they are, in hex, or in base64; with a line's end or without.
pub fn parse_key(secret: &[u8]) -> Option<Key> {
    any_key(secret).filter(|key| !key.is_blank())
}

fn any_key(secret: &[u8]) -> Option<Key> {
    if let Some(key) = Key::from_bytes(secret) {
        return Some(key);
    }
    let text = std::str::from_utf8(secret).ok()?.trim();
    if text.len() == 64 {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        return Key::from_bytes(&bytes[..]);
    }
    Key::from_bytes(&Zeroizing::new(STANDARD.decode(text).ok()?))
}

/// A text without white space around it: a token.
///
/// # Errors
/// See [`read`]; or it is no text.
pub fn read_text(place: &SecretPlace) -> Result<Zeroizing<String>, KeyError> {
    let bytes = read(place)?;
    let text = std::str::from_utf8(&bytes).ok().map(str::trim).filter(|text| !text.is_empty());
    text.map(|text| Zeroizing::new(text.to_owned()))
        .ok_or_else(|| KeyError::Refused(format!("{place}: is empty or no text")))
}

/// Makes a key file, whole or not at all, where there is none.
///
/// # Errors
/// The file system refuses.
pub fn make(path: &Path) -> Result<(), KeyError> {
    let refused =
        |error: std::io::Error| KeyError::Refused(format!("{}: can't be made: {error}", path.display()));
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).map_err(refused)?;
    let unfinished = path.with_extension("key.new");
    let _ = std::fs::remove_file(&unfinished);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(refused)?;
    file.write_all(Key::random()?.bytes()).map_err(refused)?;
    file.sync_all().map_err(refused)?;
    // Unlike a rename, this replaces nothing.
    let linked = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished).map_err(refused)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(refused(error)),
        _ => {}
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(refused)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::{PermissionsExt, symlink};

    use rustix::process::geteuid;

    use super::*;

    fn told(path: &Path) -> String {
        read(&SecretPlace::File(path.to_owned())).unwrap_err().to_string()
    }

    #[test]
    fn a_key_file_that_others_can_read_or_replace_is_refused() {
        let place = crate::temporary::directory();
        let directory = place.path();
        let path = directory.join("key");
        std::fs::write(&path, [7; 32]).unwrap();
        let mode = |mode: u32| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        for bad in [0o640, 0o604, 0o620, 0o602, 0o644, 0o601] {
            mode(bad);
            assert!(told(&path).contains(&format!("has mode {bad:04o}")), "{}", told(&path));
        }
        for good in [0o600, 0o400] {
            mode(good);
            assert_eq!(read(&SecretPlace::File(path.clone())).unwrap().as_slice(), [7; 32]);
        }
        let link = directory.join("link");
        symlink(&path, &link).unwrap();
        assert!(told(&link).contains("is a symbolic link"));
        assert!(told(directory).contains("is no regular file"));
        assert!(told(&directory.join("none")).contains("can't be read"));
        let of_directory =
            |mode| std::fs::set_permissions(directory, PermissionsExt::from_mode(mode)).unwrap();
        for bad in [0o777, 0o775, 0o757] {
            of_directory(bad);
            let told = told(&path);
            assert!(
                told.contains(&format!("of mode {bad:04o}: others can replace it; chmod go-w ")),
                "{told}"
            );
        }
        // As /tmp is: only who has a file can rename or remove it.
        for good in [0o1777, 0o755, 0o700] {
            of_directory(good);
            assert!(read(&SecretPlace::File(path.clone())).is_ok(), "{good:o}");
        }
        // The same of those that lead there, whatever leads to them.
        let within = directory.join("within");
        std::fs::create_dir(&within).unwrap();
        let path_within = within.join("key");
        std::fs::copy(&path, &path_within).unwrap();
        symlink(&within, directory.join("other")).unwrap();
        let by_link = directory.join("other/key");
        assert!(read(&SecretPlace::File(by_link.clone())).is_ok());
        of_directory(0o770);
        for path in [&path_within, &by_link] {
            assert!(told(path).contains("of mode 0770"), "{}", told(path));
        }
        of_directory(0o700);
        // Only root can give a file away.
        if geteuid().is_root() {
            use std::os::unix::fs::chown;
            chown(&within, Some(1), None).unwrap();
            assert!(told(&path_within).contains("which belongs to user 1, who can replace it"));
            chown(&path, Some(1), None).unwrap();
            assert!(told(&path).contains("belongs to user 1"));
        }
    }

    #[test]
    fn a_key_is_32_bytes_in_one_of_three_forms() {
        let bytes: Vec<u8> = [0xab, 0xcd].repeat(16);
        let id = Key::from_bytes(&bytes).unwrap().id();
        let hex = "abcd".repeat(16);
        let base64 = STANDARD.encode(&bytes);
        for form in [bytes, hex.clone().into_bytes(), format!("{hex}\n").into(), base64.into()] {
            assert_eq!(parse_key(&form).unwrap().id(), id);
        }
        for wrong in
            [&b""[..], b"short", &[1; 31], &[1; 33], "+a+b".repeat(16).as_bytes(), &[0; 32], &[b'a'; 64]]
        {
            assert!(parse_key(wrong).is_none());
        }
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_alone() {
        let place = crate::temporary::directory();
        let directory = place.path();
        let path = directory.join("state.key");
        make(&path).unwrap();
        let first = read(&SecretPlace::File(path.clone())).unwrap();
        assert_eq!((first.len(), std::fs::metadata(&path).unwrap().mode() & 0o777), (32, 0o600));
        make(&path).unwrap();
        assert_eq!(read(&SecretPlace::File(path)).unwrap(), first);
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 1);
    }
}
