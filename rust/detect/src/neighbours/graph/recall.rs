//! How many of the true neighbours were found, from samples whose neighbours are known.

/// One minus the chance that [`Recall::low`] is above the recall of all samples.
const CONFIDENCE: f64 = 0.95;

/// The share of true neighbours that were found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recall {
    /// Its mean over the samples that were looked at.
    pub mean: f64,
    /// A lower bound for all samples that holds with 95 % confidence.
    pub low: f64,
    /// Samples that were looked at.
    pub samples: usize,
}

impl Recall {
    /// From the shares of samples drawn at random. The bound is the empirical Bernstein bound
    /// (Maurer and Pontil, COLT 2009, theorem 4), which assumes nothing of the shares.
    pub(super) fn new(shares: &[f64]) -> Self {
        let samples = shares.len();
        if samples == 0 {
            return Self { mean: 1.0, low: 1.0, samples };
        }
        let count = samples as f64;
        let mean = shares.iter().sum::<f64>() / count;
        if samples == 1 {
            return Self { mean, low: 0.0, samples };
        }
        let spread = shares.iter().map(|share| (share - mean) * (share - mean)).sum::<f64>();
        let log = (2.0 / (1.0 - CONFIDENCE)).ln();
        let slack =
            (2.0 * spread / (count - 1.0) * log / count).sqrt() + 7.0 * log / (3.0 * (count - 1.0));
        Self { mean, low: (mean - slack).max(0.0), samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let log = 40f64.ln();
        let all = Recall::new(&[1.0; 101]);
        assert!((all.mean, all.samples) == (1.0, 101));
        assert!((all.low - (1.0 - 7.0 * log / 300.0)).abs() < 1e-12);
        let half = Recall::new(&[[0.5; 500], [1.0; 500]].concat());
        let spread = 62.5 / 999.0;
        let slack = (2.0 * spread * log / 1000.0f64).sqrt() + 7.0 * log / (3.0 * 999.0);
        assert!((half.low - (0.75 - slack)).abs() < 1e-12);
        assert_eq!(Recall::new(&[0.0, 1.0]).low, 0.0);
    }
}
