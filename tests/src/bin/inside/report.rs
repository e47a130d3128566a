//! Samples out, and the clock that they are taken with.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

pub fn sample(bench: &str, variant: &str, value: f64, unit: &str) {
    println!("{}", json!({ "bench": bench, "variant": variant, "value": value, "unit": unit }));
}

/// Processor time of this thread.
pub fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// What `work` gives, and the processor time that this thread spent on it.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = thread_time();
    let given = work();
    (given, thread_time() - began)
}

pub fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
