//! Where tests put files: gone with the test, also with one that fails.

use tempfile::TempDir;

/// A directory for this test alone, removed on drop.
///
/// # Panics
/// There is no place for one.
pub fn directory() -> TempDir {
    let made = tempfile::Builder::new().prefix("streamwatch-test-").tempdir();
    made.unwrap_or_else(|error| panic!("no directory for a test: {error}"))
}
