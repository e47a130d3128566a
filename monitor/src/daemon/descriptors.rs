//! How many files the daemon may have open: programs, maps and clients are files, too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What it takes, with some clients.
const LEAST: u64 = 128;

/// What is set where it is less and may be more.
const USUAL: u64 = 1024;

/// Sees to it that there may be enough; its children have the same.
///
/// # Errors
/// There may not. One line.
pub fn allow_enough() -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    match wanted(limit.current, limit.maximum)? {
        None => Ok(()),
        current => setrlimit(Resource::Nofile, Rlimit { current, ..limit })
            .map_err(|error| format!("the number of open files cannot be set: {error}")),
    }
}

/// What is to be set, if anything. No limit is none.
fn wanted(current: Option<u64>, maximum: Option<u64>) -> Result<Option<u64>, String> {
    let enough = current.is_none_or(|current| current >= USUAL);
    let most = maximum.unwrap_or(USUAL).min(USUAL);
    match enough {
        true => Ok(None),
        false if most < LEAST => Err(format!(
            "it may have {most} files open at most, and needs {LEAST}: raise the limit ('ulimit -n', LimitNOFILE=)"
        )),
        false => Ok(Some(most)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn as_many_files_as_it_takes_and_a_clear_word_where_there_may_not_be() {
        assert_eq!(wanted(None, None), Ok(None));
        assert_eq!(wanted(Some(1024), Some(1024)), Ok(None));
        assert_eq!(wanted(Some(20), Some(524_288)), Ok(Some(1024)));
        assert_eq!(wanted(Some(20), None), Ok(Some(1024)));
        assert_eq!(wanted(Some(20), Some(200)), Ok(Some(200)));
        let told = wanted(Some(20), Some(20)).unwrap_err();
        assert!(told.contains("20 files open at most") && told.contains("ulimit -n"), "{told}");
    }
}
