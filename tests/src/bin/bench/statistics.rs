//! Medians, spread, and the confidence interval of a paired ratio.

use serde::Serialize;

/// Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

fn student(freedom: usize) -> f64 {
    match freedom {
        0 => f64::INFINITY,
        1..=30 => T[freedom - 1],
        _ => 1.96 + 2.4 / freedom as f64,
    }
}

/// The middle of the values; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Linear between neighbours; NaN of none.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = part * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// Half the distance between the quartiles, as a share of the median.
pub fn spread(values: &[f64]) -> f64 {
    (quantile(values, 0.75) - quantile(values, 0.25)) / 2.0 / median(values)
}

/// `with / without`, pair by pair: the geometric mean, and its 95 % confidence interval (Student's t
/// on the logarithms).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    pub fn of(without: &[f64], with: &[f64]) -> Ratio {
        let logs: Vec<f64> = without.iter().zip(with).map(|(a, b)| (b / a).ln()).collect();
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let margin = student(logs.len().saturating_sub(1)) * (variance / count).sqrt();
        Ratio { value: mean.exp(), low: (mean - margin).exp(), high: (mean + margin).exp() }
    }

    /// Half the width of the interval.
    pub fn margin(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_and_quartiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0, 5.0]), 1.0 / 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratio_of_equal_pairs_is_exact() {
        let ratio = Ratio::of(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]);
        assert!((ratio.value - 2.0).abs() < 1e-12);
        assert!(ratio.margin() < 1e-9);
    }

    /// A worked example: the logarithms are 0, 0.1, 0.2, so mean 0.1, deviation 0.1, and the margin is
    /// 4.303 * 0.1 / sqrt(3).
    #[test]
    fn interval_is_students() {
        let with: Vec<f64> = [0.0_f64, 0.1, 0.2].iter().map(|log| log.exp()).collect();
        let ratio = Ratio::of(&[1.0; 3], &with);
        let margin = 4.303 * 0.1 / 3.0_f64.sqrt();
        assert!((ratio.low.ln() - (0.1 - margin)).abs() < 1e-9);
        assert!((ratio.high.ln() - (0.1 + margin)).abs() < 1e-9);
    }

    #[test]
    fn one_pair_says_nothing() {
        let ratio = Ratio::of(&[1.0], &[1.0]);
        assert!(!(ratio.low > 0.0 && ratio.high < f64::INFINITY));
    }
}
