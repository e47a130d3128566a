//! What the fuzz target `request` reaches.

use super::listing::Parameters;
use super::query::Rows;
use super::words;

/// What stands behind a path, as a listing reads it and as a word on an alert does.
///
/// # Errors
/// The first thing that is wrong, for people.
pub fn parameters(query: &str) -> Result<(), String> {
    let listing = Parameters::of_followed(Some(query), Rows::Alerts);
    let listing = listing.map(drop).map_err(|error| error.to_string());
    for rows in [Rows::Flows, Rows::Streams, Rows::Histograms] {
        let _ = Parameters::of_still(Some(query), rows);
    }
    let _ = words::word(0, Some(query), "key");
    listing
}
