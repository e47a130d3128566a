//! Memory that is shared: with the kernel, or with the next process over a file.

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping. Others may write it at any time: words are read and written as atomics.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; every access is atomic, or of bytes that the
// caller knows to be still.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of a file or a map, from `offset` on; both in whole pages.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(fd: impl AsFd, offset: usize, length: usize, writable: bool) -> io::Result<Mapping> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start =
            unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, fd, offset as u64)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, length })
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The word at an offset, a multiple of 8.
    ///
    /// # Panics
    /// It is not within the mapping, or not aligned.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.length);
        // SAFETY: within the mapping and aligned, as checked.
        unsafe { self.start.add(offset).cast::<AtomicU64>().as_ref() }
    }

    /// The half word at an offset, a multiple of 4.
    pub(crate) fn half(&self, offset: usize) -> Option<&AtomicU32> {
        if !offset.is_multiple_of(4) || offset + 4 > self.length {
            return None;
        }
        // SAFETY: within the mapping and aligned, as checked.
        Some(unsafe { self.start.add(offset).cast::<AtomicU32>().as_ref() })
    }

    /// Bytes of the mapping.
    ///
    /// # Safety
    /// Nobody writes them while the slice lives.
    pub(crate) unsafe fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        if offset.checked_add(length)? > self.length {
            return None;
        }
        // SAFETY: within the mapping as checked; the rest is the caller's promise.
        Some(unsafe { std::slice::from_raw_parts(self.start.add(offset).as_ptr(), length) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}
