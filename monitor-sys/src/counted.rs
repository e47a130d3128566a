//! The daemon's own allocator, and what it was asked for, counted for each thread by itself: for what measures it.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use crate::memory::Allocator;

/// To be the allocator of the whole program; without that [`measure`] finds nothing.
pub struct Counting(Allocator);

impl Counting {
    pub const NEW: Counting = Counting(Allocator);
}

/// What a thread asked for between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// How often.
    pub count: u64,
    /// Bytes that it then had more than before, as they were asked for.
    pub bytes: i64,
    /// The most that it had more than before at a time.
    pub most_bytes: i64,
}

thread_local! {
    static COUNTED: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0, most_bytes: 0 }) };
}

/// Does something, and counts what it asks for on this thread.
pub fn measure(work: impl FnOnce()) -> Allocations {
    COUNTED.set(Allocations::default());
    work();
    COUNTED.get()
}

fn took(bytes: usize) {
    let mut counted = COUNTED.get();
    counted.count += 1;
    counted.bytes += bytes as i64;
    counted.most_bytes = counted.most_bytes.max(counted.bytes);
    COUNTED.set(counted);
}

fn gave_back(bytes: usize) {
    let mut counted = COUNTED.get();
    counted.bytes -= bytes as i64;
    COUNTED.set(counted);
}

// SAFETY: hands everything on as it came. The counters are words of the thread that need no allocation and no end.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        gave_back(layout.size());
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        gave_back(layout.size());
        took(size);
        // SAFETY: the caller's promise.
        unsafe { self.0.realloc(at, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting::NEW;

    #[test]
    fn what_is_asked_for_and_given_back_is_counted() {
        let mut kept = None;
        let counted = measure(|| {
            drop(std::hint::black_box(vec![1_u8; 1000]));
            kept = Some(std::hint::black_box(vec![0_u8; 600]));
        });
        assert_eq!(counted, Allocations { count: 2, bytes: 600, most_bytes: 1000 });
        assert_eq!(measure(|| drop(kept.take())), Allocations { bytes: -600, ..Allocations::default() });
        let grown = measure(|| {
            let mut bytes = std::hint::black_box(Vec::<u8>::with_capacity(10));
            bytes.reserve_exact(50);
            std::hint::black_box(&bytes);
        });
        assert_eq!((grown.count, grown.bytes), (2, 0));
        assert_eq!(measure(|| ()), Allocations::default());
    }
}
