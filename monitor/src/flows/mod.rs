//! The bounded table of flows, and the streams that they add up to.
//!
//! In: events, identities. Out: flows and streams as they stand. Must never: grow beyond its
//! configured size, or lose a byte of a total.

mod certificates;
mod closed;
mod endpoint;
mod entry;
mod evidence;
mod interned;
mod judge;
mod key;
mod marks;
mod name;
mod order;
mod peers;
mod places;
mod reader;
mod seldom;
mod shares;
mod slab;
mod space;
mod streams;
mod table;

pub use certificates::Shown;
pub use endpoint::Endpoint;
pub use entry::Flow;
pub use evidence::{Evidence, doubt_what_did_not_come, doubt_what_was_lost};
pub use interned::Interned;
pub use judge::Judge;
pub use key::{FlowKey, key_of, key_of_capture, key_of_socket};
pub use marks::{Detected, Holds, Marks};
pub use name::of as id_of_socket;
pub use reader::{FlowsReader, Place, Row, Scene};
pub(crate) use shares::Shares;
pub use slab::{FlowId, FlowRead, FlowWrite};
pub use space::Space;
pub use streams::{IDENTITY_BYTES, Party, STREAMS, Stream, StreamId, StreamKey, Streams};
pub use table::{Addresses, Table};
