//! How long a jiffy is. The kernel does not tell user space its `HZ`, so a program reads jiffies
//! and nanoseconds together, twice.

use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::maps::{Array, MapData};
use aya::programs::{CgroupSkb, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};

use super::OBJECT;

/// What is assumed where it cannot be measured: Debian's and most distributions' value.
const USUAL_HZ: u64 = 250;

/// Jiffies a second, measured; the usual value where the kernel cannot run a program on demand.
pub fn hz() -> u64 {
    measure().unwrap_or(USUAL_HZ)
}

fn measure() -> Option<u64> {
    let mut ebpf = EbpfLoader::new()
        .map_max_entries("EVENTS", 4096)
        .map_max_entries("OVERFLOW", 1)
        .map_max_entries("DECISIONS", 1)
        .map_max_entries("UDP_FLOWS", 1)
        .load(OBJECT)
        .ok()?;
    let program: &mut CgroupSkb = ebpf.program_mut("clock")?.try_into().ok()?;
    program.load().ok()?;
    let before = read(&mut ebpf)?;
    let deadline = Instant::now() + Duration::from_millis(100);
    while Instant::now() < deadline {
        sleep(Duration::from_millis(10));
    }
    let after = read(&mut ebpf)?;
    let jiffies = after[0].checked_sub(before[0])?;
    let elapsed = after[1].checked_sub(before[1])?;
    let measured = (jiffies as u128 * 1_000_000_000 / u128::from(elapsed.max(1))) as u64;
    [100, 250, 300, 1000].into_iter().min_by_key(|hz: &u64| hz.abs_diff(measured))
}

fn read(ebpf: &mut Ebpf) -> Option<[u64; 2]> {
    let program: &mut CgroupSkb = ebpf.program_mut("clock")?.try_into().ok()?;
    // A frame as BPF_PROG_TEST_RUN wants it: at least an Ethernet header.
    let frame = [0u8; 64];
    program.test_run(TestRunOptions { data_in: Some(&frame), ..Default::default() }).ok()?;
    let map: Array<&MapData, [u64; 2]> = Array::try_from(ebpf.map("CLOCK")?).ok()?;
    map.get(&0, 0).ok()
}
