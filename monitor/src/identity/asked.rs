//! What a policy asks of identities beyond the usual: costly, so that it is looked at only then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const HASHES: u8 = 1;
const WORKLOADS: u8 = 2;

/// Shared between who puts a policy in force and the resolver.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<AtomicU8>);

impl Asked {
    /// `hashes`: SHA-256 of executables; `workloads`: images, names and labels of containers.
    pub fn set(&self, hashes: bool, workloads: bool) {
        let bits = if hashes { HASHES } else { 0 } | if workloads { WORKLOADS } else { 0 };
        self.0.store(bits, Ordering::Relaxed);
    }

    pub fn hashes(&self) -> bool {
        self.0.load(Ordering::Relaxed) & HASHES != 0
    }

    pub fn workloads(&self) -> bool {
        self.0.load(Ordering::Relaxed) & WORKLOADS != 0
    }
}
