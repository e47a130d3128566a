//! The one place where bytes that somebody else wrote become structures by a cast: any bytes, at any address, of any
//! length. `cargo xtask test` runs these under Miri too, which sees a read that is out of bounds, misaligned or of
//! memory that nobody wrote, and what breaks the rules for references.

use std::fmt::Debug;

use monitor_common::{
    CaptureHead, Counters, Decision, FlowEvent, JournalSlot, Kind, Owner, Plain, Record, Refusal, Settings,
    UdpFlow, UdpKey, decode,
};

/// Bytes that look random and are the same every time (xorshift64).
fn noise(seed: u64) -> impl FnMut() -> u8 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    }
}

/// Reads `T` at every address modulo 8, of memory that ends where it ends, and back.
fn any_bytes_are_one<T: Plain + Debug>() {
    let size = size_of::<T>();
    let mut byte = noise(size as u64);
    for offset in 0..8 {
        // Exactly as long as it must be: a read beyond is out of bounds.
        let memory: Box<[u8]> = (0..offset + size).map(|_| byte()).collect();
        let value = T::read_from(&memory[offset..]).expect("long enough");
        assert_eq!(value.as_bytes(), &memory[offset..]);
        // Every field is read.
        assert!(!format!("{value:?}").is_empty());
        assert!(T::read_from(&memory[offset + 1..]).is_none());
    }
    assert!(T::read_from(&[]).is_none());
}

#[test]
fn any_bytes_at_any_address_are_a_value_and_the_same_bytes_again() {
    any_bytes_are_one::<CaptureHead>();
    any_bytes_are_one::<Decision>();
    any_bytes_are_one::<FlowEvent>();
    any_bytes_are_one::<JournalSlot>();
    any_bytes_are_one::<Owner>();
    any_bytes_are_one::<UdpFlow>();
    any_bytes_are_one::<UdpKey>();
}

#[test]
fn what_is_only_written_here_is_written_whole() {
    any_bytes_are_one_unshown::<Counters>();
    any_bytes_are_one_unshown::<Settings>();
}

fn any_bytes_are_one_unshown<T: Plain>() {
    let memory: Box<[u8]> = (0..=size_of::<T>()).map(|index| index as u8).collect();
    let value = T::read_from(&memory[1..]).expect("long enough");
    assert_eq!(value.as_bytes(), &memory[1..]);
    assert!(T::read_from(&memory[2..]).is_none());
}

#[test]
fn any_record_is_read_or_refused_and_no_byte_is_made_up() {
    let mut byte = noise(7);
    let longest = size_of::<FlowEvent>().max(size_of::<CaptureHead>()) + 40;
    // Miri is a thousand times slower; what it looks for depends on the lengths about the ends.
    let (step, kinds) = if cfg!(miri) {
        (19, vec![0, Kind::Open as u8, Kind::Capture as u8])
    } else {
        (1, (0..=12).collect())
    };
    let about = |size: usize| size.saturating_sub(2)..size + 3;
    let ends = about(0).chain(about(size_of::<FlowEvent>())).chain(about(size_of::<CaptureHead>()));
    for length in (0..longest).step_by(step).chain(ends) {
        for &kind in &kinds {
            let mut memory: Box<[u8]> = (0..length + 1).map(|_| byte()).collect();
            // At an odd address; lengths of data about the end of the record.
            let record = &mut memory[1..];
            if let Some(first) = record.first_mut() {
                *first = kind;
            }
            let head = size_of::<CaptureHead>();
            if let Some(at) = length_of_data(record) {
                let data = u32::from(byte() % 80);
                at.copy_from_slice(&data.to_ne_bytes());
            }
            let record = &*record;
            match decode(record) {
                Ok(Record::Flow(read, event)) => {
                    assert_eq!(Some(read), Kind::from_byte(kind));
                    assert_eq!(event.as_bytes(), &record[..size_of::<FlowEvent>()]);
                }
                Ok(Record::Capture(read, data)) => {
                    assert_eq!(read.as_bytes(), &record[..head]);
                    assert_eq!(data, &record[head..head + read.len as usize]);
                }
                Err(Refusal::Kind(refused)) => assert!(refused == kind && Kind::from_byte(kind).is_none()),
                Err(Refusal::Short) => assert!(is_short(record)),
            }
        }
    }
}

/// Where a capture says how much data it carries.
fn length_of_data(record: &mut [u8]) -> Option<&mut [u8]> {
    let at = std::mem::offset_of!(CaptureHead, len);
    record.get_mut(at..at + 4)
}

fn is_short(record: &[u8]) -> bool {
    let capture = record.first().is_some_and(|kind| *kind == Kind::Capture as u8);
    if !capture {
        return record.len() < size_of::<FlowEvent>();
    }
    CaptureHead::read_from(record)
        .is_none_or(|head| record.len() - size_of::<CaptureHead>() < head.len as usize)
}

#[test]
fn a_length_of_four_gigabytes_is_refused() {
    let head = CaptureHead { kind: Kind::Capture as u8, len: u32::MAX, ..CaptureHead::default() };
    assert_eq!(decode(head.as_bytes()).err(), Some(Refusal::Short));
}
