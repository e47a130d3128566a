//! The calls of the kernel that no library makes safe, and nothing else: so that the crate where decisions
//! are made and bytes are read forbids unsafe code.
//!
//! In: descriptors of this process. Out: safe values. Must never: look into what a record says.

pub mod bpf;
mod mapping;
mod ring;

pub use mapping::Mapping;
pub use ring::RingReader;
