//! How many bands of how many rows.

/// A signature cut into bands of rows; two documents that agree in all rows of a band are
/// candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bands {
    pub bands: usize,
    pub rows: usize,
}

/// Intervals of the composite Simpson rule on each side of the threshold.
const STEPS: usize = 512;

impl Bands {
    /// The bands of at most `permutations` values in all that make the weighted area of errors
    /// least: of false positives, the probability to be a candidate below `threshold`, and of
    /// false negatives, that not to be one above. Of equally good ones that with the fewest rows.
    pub fn optimal(
        threshold: f64,
        permutations: usize,
        false_positives: f64,
        false_negatives: f64,
    ) -> Self {
        let mut best = (f64::INFINITY, Self { bands: 1, rows: 1 });
        for rows in 1..=permutations {
            for bands in 1..=permutations / rows {
                let this = Self { bands, rows };
                let positive = simpson(0.0, threshold, |s| candidate_probability(s, this));
                let negative = simpson(threshold, 1.0, |s| 1.0 - candidate_probability(s, this));
                let area = false_positives * positive + false_negatives * negative;
                if area < best.0 {
                    best = (area, this);
                }
            }
        }
        best.1
    }
}

/// The probability that documents of Jaccard similarity `s` agree in some band.
pub fn candidate_probability(s: f64, bands: Bands) -> f64 {
    1.0 - power(1.0 - power(s, bands.rows), bands.bands)
}

/// Multiplications in a fixed order, so that the choice is the same on every machine.
fn power(mut base: f64, mut exponent: usize) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

fn simpson(from: f64, to: f64, f: impl Fn(f64) -> f64) -> f64 {
    let step = (to - from) / STEPS as f64;
    let weight = |i: usize| match i {
        0 | STEPS => 1.0,
        _ if i % 2 == 1 => 4.0,
        _ => 2.0,
    };
    (0..=STEPS).map(|i| weight(i) * f(from + step * i as f64)).sum::<f64>() * step / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_in_closed_form() {
        // One band of r rows: s^r, with area t^(r+1)/(r+1) below t.
        let one = Bands { bands: 1, rows: 7 };
        let area = simpson(0.0, 0.8, |s| candidate_probability(s, one));
        assert!((area - 0.8f64.powi(8) / 8.0).abs() < 1e-11);
        // b bands of one row: 1 - (1 - s)^b, whose complement has area (1 - t)^(b+1)/(b+1).
        let many = Bands { bands: 9, rows: 1 };
        let area = simpson(0.3, 1.0, |s| 1.0 - candidate_probability(s, many));
        assert!((area - 0.7f64.powi(10) / 10.0).abs() < 1e-11);
    }

    #[test]
    fn best_of_all_and_moved_by_the_weights() {
        let balanced = Bands::optimal(0.8, 128, 0.5, 0.5);
        assert_eq!(balanced, Bands { bands: 9, rows: 13 });
        let recall = Bands::optimal(0.8, 128, 0.1, 0.9);
        let precision = Bands::optimal(0.8, 128, 0.9, 0.1);
        let at = |bands| candidate_probability(0.8, bands);
        assert!(at(precision) < at(balanced) && at(balanced) < at(recall));
        assert_eq!(Bands::optimal(0.5, 1, 0.5, 0.5), Bands { bands: 1, rows: 1 });
    }
}
