//! What the fuzz target `request` reaches.

use super::listing::Parameters;
use super::words;

/// What stands behind a path, as a listing reads it and as a word on an alert does.
///
/// # Errors
/// The first thing that is wrong, for people.
pub fn parameters(query: &str) -> Result<(), String> {
    let listing = Parameters::of_followed(Some(query)).map(drop).map_err(|error| error.to_string());
    let _ = Parameters::of_still(Some(query));
    let _ = words::word(0, Some(query), "key");
    listing
}
