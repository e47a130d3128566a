//! The calls of the kernel that no library makes safe, and nothing else: so that the crate where decisions
//! are made and bytes are read forbids unsafe code.
//!
//! In: descriptors of this process. Out: safe values. Must never: look into what a record says.

pub mod bpf;
pub mod confined;
pub mod counted;
mod descriptors;
mod handles;
mod mapping;
pub mod memory;
mod peer;
mod ring;
mod user_namespace;

pub use descriptors::keep_from_programs;
pub use handles::open_cgroup;
pub use mapping::Mapping;
pub use peer::{Peer, netns_cookie, netns_cookie_of, peer, peer_groups};
pub use ring::RingReader;
pub use user_namespace::{owner_of_user_namespace, parent_of_user_namespace, user_namespace_of};
