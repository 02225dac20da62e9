//! Losses an attack maximises, and their gradients in logit space.

/// `z_y - max_{i != y} z_i`, or `None` where either is not finite or any logit is NaN or +inf.
/// A logit of -inf elsewhere is a class the network rules out.
pub fn margin(logits: &[f32], label: usize) -> Option<f64> {
    let (other, _) = best_other(logits, label);
    let undefined = |z: &f32| z.is_nan() || *z == f32::INFINITY;
    let margin = f64::from(logits[label]) - other;
    (margin.is_finite() && !logits.iter().any(undefined)).then_some(margin)
}

/// The largest logit besides the label's, and its class (the first of equals).
fn best_other(logits: &[f32], label: usize) -> (f64, usize) {
    let mut best = (f64::NEG_INFINITY, label);
    for (class, &z) in logits.iter().enumerate() {
        if class != label && f64::from(z) > best.0 {
            best = (f64::from(z), class);
        }
    }
    best
}

/// What gradient attacks maximise.
///
/// Values are compared, never added, and gradients are used up to a positive factor, so each loss
/// is replaced by an increasing function of it that float64 cannot saturate, and its gradient is
/// scaled to order one: logits multiplied by 10^4 give the same attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Cross-entropy `-log softmax(z)_y = log(1 + sum_{i != y} exp(z_i - z_y))`, represented by
    /// the logarithm of that sum.
    CrossEntropy,
    /// Difference of logits ratio `-(z_y - max_{i != y} z_i) / (z_(1) - z_(3) + 1e-12)`, `z_(i)` the
    /// i-th largest logit (Croce & Hein, ICML 2020). With two classes there is no third logit and
    /// the ratio would be constant: the margin takes its place.
    Dlr,
    /// `max_{i != y} z_i - z_y`.
    Margin,
    /// Targeted difference of logits ratio `-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12)`.
    /// With three classes `z_(3)` stands for both; with two the targeted margin takes its place.
    TargetedDlr(usize),
    /// `z_t - z_y`.
    TargetedMargin(usize),
}

impl Loss {
    /// The loss where [`margin`] is defined.
    pub fn value(self, logits: &[f32], label: usize) -> f64 {
        let zy = f64::from(logits[label]);
        let (other, _) = best_other(logits, label);
        match self {
            Self::CrossEntropy => {
                let sum: f64 = others(logits, label).map(|(_, z)| (z - other).exp()).sum();
                other - zy + sum.ln()
            }
            Self::Dlr | Self::TargetedDlr(_) if logits.len() > 2 => {
                let other = self.target().map_or(other, |target| f64::from(logits[target]));
                -(zy - other) / self.spread(&largest(logits)[..logits.len().min(4)])
            }
            Self::Dlr | Self::Margin => other - zy,
            Self::TargetedDlr(target) | Self::TargetedMargin(target) => {
                f64::from(logits[target]) - zy
            }
        }
    }

    /// Whether a value of this loss exceeds zero in the loss's own units. Cross-entropy always does.
    pub fn is_positive(self, value: f64) -> bool {
        self == Self::CrossEntropy || value > 0.0
    }

    /// Writes the gradient of the loss with respect to the logits, up to a positive factor.
    pub fn cotangent(self, logits: &[f32], label: usize, cotangent: &mut [f32]) {
        cotangent.fill(0.0);
        let (other, runner_up) = best_other(logits, label);
        match self {
            Self::CrossEntropy => {
                let mut sum = 0.0;
                for (class, z) in others(logits, label) {
                    let weight = (z - other).exp();
                    cotangent[class] = weight as f32;
                    sum += weight;
                }
                cotangent[label] = -sum as f32;
            }
            Self::Dlr | Self::TargetedDlr(_) if logits.len() > 2 => {
                let class = self.target().unwrap_or(runner_up);
                let top = &largest(logits)[..logits.len().min(4)];
                let gap = f64::from(logits[label]) - f64::from(logits[class]);
                let ratio = gap / self.spread(top);
                // The gradient times the spread, of order one; a class that is ruled out has
                // no finite ratio.
                let ratio = if ratio.is_finite() { ratio } else { 0.0 };
                let scale = 1.0 / ratio.abs().max(1.0);
                let mut add = |class: usize, weight: f64| {
                    cotangent[class] = (f64::from(cotangent[class]) + weight * scale) as f32;
                };
                add(label, -1.0);
                add(class, 1.0);
                add(top[0].1, ratio);
                let low = self.lower_end(top);
                for &(_, class) in low {
                    add(class, -ratio / low.len() as f64);
                }
            }
            Self::Dlr | Self::Margin => {
                cotangent[label] = -1.0;
                cotangent[runner_up] = 1.0;
            }
            Self::TargetedDlr(target) | Self::TargetedMargin(target) => {
                cotangent[label] = -1.0;
                cotangent[target] = 1.0;
            }
        }
    }

    fn target(self) -> Option<usize> {
        match self {
            Self::TargetedDlr(target) | Self::TargetedMargin(target) => Some(target),
            Self::CrossEntropy | Self::Dlr | Self::Margin => None,
        }
    }

    /// The denominator of a difference of logits ratio.
    fn spread(self, top: &[(f64, usize)]) -> f64 {
        let low = self.lower_end(top);
        let mean = low.iter().map(|(z, _)| z).sum::<f64>() / low.len() as f64;
        top[0].0 - mean + 1e-12
    }

    /// The logits whose mean a ratio's denominator subtracts from the largest.
    fn lower_end(self, top: &[(f64, usize)]) -> &[(f64, usize)] {
        let last = if self.target().is_some() { top.len() } else { 3 };
        &top[2..last]
    }
}

fn others(logits: &[f32], label: usize) -> impl Iterator<Item = (usize, f64)> {
    logits.iter().map(|&z| f64::from(z)).enumerate().filter(move |&(class, _)| class != label)
}

/// Logits with their classes, in descending order.
type Top = [(f64, usize); 4];

/// The four largest logits, of equal ones the first; filled up with negative infinity.
fn largest(logits: &[f32]) -> Top {
    let mut top = [(f64::NEG_INFINITY, 0); 4];
    for (class, &z) in logits.iter().enumerate() {
        let z = f64::from(z);
        let above = top.iter().take_while(|entry| entry.0 >= z).count();
        if above < top.len() {
            top[above..].rotate_right(1);
            top[above] = (z, class);
        }
    }
    top
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOSSES: [Loss; 5] = [
        Loss::CrossEntropy,
        Loss::Dlr,
        Loss::Margin,
        Loss::TargetedDlr(1),
        Loss::TargetedMargin(1),
    ];

    /// The textbook forms, in float64.
    fn textbook(loss: Loss, z: &[f64], y: usize) -> f64 {
        let mut sorted = z.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let other =
            (0..z.len()).filter(|&i| i != y).map(|i| z[i]).fold(f64::NEG_INFINITY, f64::max);
        match loss {
            Loss::CrossEntropy => z.iter().map(|v| v.exp()).sum::<f64>().ln() - z[y],
            Loss::Dlr if z.len() > 2 => -(z[y] - other) / (sorted[0] - sorted[2] + 1e-12),
            Loss::Dlr | Loss::Margin => other - z[y],
            Loss::TargetedDlr(t) if z.len() > 3 => {
                -(z[y] - z[t]) / (sorted[0] - 0.5 * (sorted[2] + sorted[3]) + 1e-12)
            }
            Loss::TargetedDlr(t) if z.len() == 3 => {
                -(z[y] - z[t]) / (sorted[0] - sorted[2] + 1e-12)
            }
            Loss::TargetedDlr(t) | Loss::TargetedMargin(t) => z[t] - z[y],
        }
    }

    #[test]
    fn closed_forms() {
        let logits = [1.0f32, 3.0, 2.0, -1.0];
        assert_eq!(margin(&logits, 1), Some(1.0));
        assert_eq!(margin(&logits, 3), Some(-4.0));
        // -(3 - 2) / (3 - 1) and -(-1 - 3) / (3 - 1)
        assert!((Loss::Dlr.value(&logits, 1) + 0.5).abs() < 1e-12);
        assert!((Loss::Dlr.value(&logits, 3) - 2.0).abs() < 1e-11);
        assert_eq!(Loss::Dlr.value(&[0.0, 2.5], 1), -2.5);
        // -(3 - 2) / (3 - (1 - 1) / 2) and, of three classes, -(3 - 2) / (3 - 1)
        assert!((Loss::TargetedDlr(2).value(&logits, 1) + 1.0 / 3.0).abs() < 1e-12);
        assert!((Loss::TargetedDlr(2).value(&logits[..3], 1) + 0.5).abs() < 1e-12);
        assert_eq!(Loss::TargetedDlr(0).value(&[0.0, 2.5], 1), -2.5);
        assert_eq!(Loss::TargetedMargin(3).value(&logits, 0), -2.0);
        assert!(Loss::CrossEntropy.is_positive(-100.0) && !Loss::Dlr.is_positive(0.0));
    }

    #[test]
    fn undefined_margins() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for logits in [[nan, 0.0, 1.0], [0.0, nan, 1.0], [0.0, 1.0, inf], [inf, 0.0, 1.0]] {
            assert_eq!(margin(&logits, 0), None, "{logits:?}");
        }
        assert_eq!(margin(&[0.0, -inf, 1.0], 0), Some(-1.0));
        assert_eq!(margin(&[0.0, -inf, -inf], 0), None);
        assert_eq!(margin(&[-inf, 0.0, 1.0], 0), None);
    }

    #[test]
    fn scaling_logits_does_not_flatten_cross_entropy() {
        let logits = [9e4f32, 1e4, 2e4];
        let mut cotangent = [0.0; 3];
        Loss::CrossEntropy.cotangent(&logits, 0, &mut cotangent);
        assert_eq!(cotangent, [-1.0, 0.0, 1.0]);
        let closer = [9e4f32, 1e4, 2.5e4];
        assert!(Loss::CrossEntropy.value(&closer, 0) > Loss::CrossEntropy.value(&logits, 0));
    }

    proptest! {
        #[test]
        fn values_are_ordered_as_the_textbook_loss(
            a in prop::collection::vec(-4.0f32..4.0, 2..7), shift in prop::collection::vec(-1.0f32..1.0, 7),
            y in 0usize..7,
        ) {
            let y = if y % a.len() == 1 { 0 } else { y % a.len() };
            let b: Vec<f32> = a.iter().zip(&shift).map(|(a, s)| a + s).collect();
            let wide = |z: &[f32]| z.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            for loss in LOSSES {
                let expected = textbook(loss, &wide(&a), y) - textbook(loss, &wide(&b), y);
                let found = loss.value(&a, y) - loss.value(&b, y);
                prop_assert!(expected.abs() < 1e-9 || found.signum() == expected.signum());
            }
        }

        /// The cotangent is a positive multiple of the numerical gradient.
        #[test]
        fn cotangents_are_gradients(z in prop::collection::vec(-4.0f32..4.0, 2..7), y in 0usize..7) {
            let y = if y % z.len() == 1 { 0 } else { y % z.len() };
            let mut sorted: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
            sorted.sort_by(f64::total_cmp);
            prop_assume!(sorted.windows(2).all(|w| w[1] - w[0] > 1e-3));
            for loss in LOSSES {
                let mut cotangent = vec![0.0; z.len()];
                loss.cotangent(&z, y, &mut cotangent);
                let wide: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
                let numeric: Vec<f64> = (0..z.len()).map(|i| {
                    let at = |h: f64| {
                        let mut w = wide.clone();
                        w[i] += h;
                        textbook(loss, &w, y)
                    };
                    (at(1e-5) - at(-1e-5)) / 2e-5
                }).collect();
                let unit = |v: &[f64]| {
                    let n = v.iter().map(|x| x * x).sum::<f64>().sqrt();
                    v.iter().map(|x| x / n).collect::<Vec<_>>()
                };
                prop_assume!(numeric.iter().map(|g| g * g).sum::<f64>() > 1e-8);
                let found = unit(&cotangent.iter().map(|&c| f64::from(c)).collect::<Vec<_>>());
                for (f, e) in found.iter().zip(unit(&numeric)) {
                    prop_assert!((f - e).abs() < 1e-3, "{loss:?} {found:?} {numeric:?}");
                }
            }
        }
    }
}
