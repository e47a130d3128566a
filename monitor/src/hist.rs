//! HDR histograms of three significant digits, kept sparse: a stream that saw ten values holds ten.
//!
//! A value is stored as the lowest of the values that HdrHistogram takes for equal at this
//! precision, so turning one into a full histogram loses nothing.

use foldhash::HashMap;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::status::HistogramView;

/// Three digits need 2048 sub-buckets: the 11 highest bits of a value count.
const BITS: u32 = 11;

/// One histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sparse {
    counts: HashMap<u64, u64>,
    total: u64,
    sum: u128,
}

impl Sparse {
    pub fn record(&mut self, value: u64) {
        *self.counts.entry(lowest_equivalent(value)).or_insert(0) += 1;
        self.total += 1;
        self.sum += u128::from(value);
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Sparse) {
        for (value, count) in &other.counts {
            *self.counts.entry(*value).or_insert(0) += count;
        }
        self.total += other.total;
        self.sum += other.sum;
    }

    pub fn len(&self) -> u64 {
        self.total
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub fn clear(&mut self) {
        *self = Sparse::default();
    }

    /// The same as a full histogram; `None` only where the library cannot hold it.
    fn full(&self) -> Option<Histogram<u64>> {
        let mut histogram = Histogram::<u64>::new(3).ok()?;
        for (value, count) in &self.counts {
            histogram.record_n(*value, *count).ok()?;
        }
        Some(histogram)
    }

    /// Percentiles, and the histogram in HdrHistogram's V2 encoding (deflated, base64).
    pub fn view(&self, stream: Option<&str>, name: &str, unit: &str) -> Option<HistogramView> {
        let histogram = self.full()?;
        let mut encoded = Vec::new();
        V2DeflateSerializer::new().serialize(&histogram, &mut encoded).ok()?;
        Some(HistogramView {
            stream: stream.map(str::to_owned),
            name: name.to_owned(),
            unit: unit.to_owned(),
            count: histogram.len(),
            min: histogram.min(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            mean: if self.total == 0 { 0.0 } else { self.sum as f64 / self.total as f64 },
            v2: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, encoded),
        })
    }
}

fn lowest_equivalent(value: u64) -> u64 {
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(BITS);
    value >> shift << shift
}

/// What is measured, once overall and once a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    pub duration_ns: Sparse,
    pub client_bytes: Sparse,
    pub server_bytes: Sparse,
    pub rtt_us: Sparse,
    pub setup_ns: Sparse,
    pub handshake_ns: Sparse,
    pub first_response_ns: Sparse,
}

/// What one closed flow adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub duration_ns: Option<u64>,
    pub client_bytes: u64,
    pub server_bytes: u64,
    pub rtt_us: Option<u64>,
    pub setup_ns: Option<u64>,
    /// From the client's hello until the handshake was seen to be through.
    pub handshake_ns: Option<u64>,
    pub first_response_ns: Option<u64>,
}

impl Measures {
    pub fn record(&mut self, sample: &Sample) {
        let put = |histogram: &mut Sparse, value: Option<u64>| {
            if let Some(value) = value {
                histogram.record(value);
            }
        };
        put(&mut self.duration_ns, sample.duration_ns);
        put(&mut self.client_bytes, Some(sample.client_bytes));
        put(&mut self.server_bytes, Some(sample.server_bytes));
        put(&mut self.rtt_us, sample.rtt_us);
        put(&mut self.setup_ns, sample.setup_ns);
        put(&mut self.handshake_ns, sample.handshake_ns);
        put(&mut self.first_response_ns, sample.first_response_ns);
    }

    /// The histograms that have counted anything.
    pub fn views(&self, stream: Option<&str>) -> Vec<HistogramView> {
        [
            ("duration_ns", "ns", &self.duration_ns),
            ("client_bytes", "bytes", &self.client_bytes),
            ("server_bytes", "bytes", &self.server_bytes),
            ("rtt_us", "us", &self.rtt_us),
            ("setup_ns", "ns", &self.setup_ns),
            ("handshake_ns", "ns", &self.handshake_ns),
            ("first_response_ns", "ns", &self.first_response_ns),
        ]
        .into_iter()
        .filter(|(_, _, histogram)| !histogram.is_empty())
        .filter_map(|(name, unit, histogram)| histogram.view(stream, name, unit))
        .collect()
    }

    pub fn clear(&mut self) {
        *self = Measures::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use proptest::prelude::*;

    proptest! {
        /// Sparse and full give the same counts at every value.
        #[test]
        fn sparse_is_as_precise_as_the_library(values in proptest::collection::vec(0u64..1 << 48, 1..200)) {
            let mut sparse = Sparse::default();
            let mut full = Histogram::<u64>::new(3).expect("three digits");
            for value in &values {
                sparse.record(*value);
                full.record(*value).expect("resizes");
            }
            let turned = sparse.full().expect("fits");
            for quantile in [0.0, 0.5, 0.9, 0.99, 1.0] {
                prop_assert!(full.equivalent(full.value_at_quantile(quantile), turned.value_at_quantile(quantile)));
            }
            prop_assert_eq!(full.len(), turned.len());
        }

        #[test]
        fn merged_is_what_both_counted(a in proptest::collection::vec(any::<u32>(), 0..50), b in proptest::collection::vec(any::<u32>(), 0..50)) {
            let mut left = Sparse::default();
            let mut right = Sparse::default();
            let mut both = Sparse::default();
            a.iter().for_each(|v| left.record(u64::from(*v)));
            b.iter().for_each(|v| right.record(u64::from(*v)));
            a.iter().chain(&b).for_each(|v| both.record(u64::from(*v)));
            left.merge(&right);
            prop_assert_eq!(left, both);
        }
    }

    #[test]
    fn the_v2_encoding_reads_back() {
        let mut sparse = Sparse::default();
        (1..=1000).for_each(|value| sparse.record(value));
        let view = sparse.view(None, "rtt_us", "us").expect("fits");
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &view.v2).expect("base64");
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).expect("V2");
        assert_eq!(read.len(), 1000);
        assert_eq!(read.value_at_quantile(0.5), view.p50);
    }
}
