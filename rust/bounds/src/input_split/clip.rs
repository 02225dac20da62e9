//! Cuts off boxes what half-spaces say cannot hold a counterexample (Zhou et al. 2025,
//! arXiv:2512.11087).

use aisec_numeric::rounding::gamma;

use super::clauses::MARGIN;

/// Rounds of choosing the weights of a conjunction.
const ROUNDS: usize = 12;

/// `coefficients · x <= room` must hold for a counterexample; `size` is at least the absolute
/// value of every number `room` was computed from.
#[derive(Debug, Clone, Default)]
pub(super) struct HalfSpace {
    pub coefficients: Vec<f64>,
    pub room: f64,
    pub size: f64,
}

/// Shrinks the corners to where the half-space can be met, limits rounded outward; whether that
/// is anywhere.
pub(super) fn cut(plane: &HalfSpace, lower: &mut [f64], upper: &mut [f64]) -> bool {
    let d = lower.len();
    let (mut total, mut size) = (0.0, plane.size);
    for (&a, (&l, &u)) in plane.coefficients.iter().zip(lower.iter().zip(upper.iter())) {
        let term = a * if a > 0.0 { l } else { u };
        total += term;
        size += term.abs();
    }
    // Every sum here has at most d + 4 roundings, relative to the sizes of its terms.
    let (rounding, margin) = (gamma(4 * d + 32) * size + 1e-290, MARGIN * size);
    if total - rounding - margin > plane.room {
        return false;
    }
    // Nothing is cut to less than a margin; elsewhere no more is left than roundings ask for, so
    // that who checks it goes on with the same box.
    let spare = plane.room - total + rounding;
    let spare = if spare < margin { spare + margin } else { spare };
    for (&a, (l, u)) in plane.coefficients.iter().zip(lower.iter_mut().zip(upper.iter_mut())) {
        if a.abs() <= 1e-200 {
            continue;
        }
        let limit = (spare + a * if a > 0.0 { *l } else { *u }) / a;
        let outward = gamma(8) * limit.abs() + 1e-290;
        if !limit.is_finite() {
            continue;
        }
        if a > 0.0 {
            *u = u.min(limit + outward);
        } else {
            *l = l.max(limit - outward);
        }
        if *l > *u {
            return false;
        }
    }
    true
}

/// Weights, none negative, of conditions that a point must meet together, such that their sum is
/// hard to meet in the box: multiplicative weights on the dual of "some point meets all".
/// Conditions whose numbers are not finite get the weight zero.
pub(super) fn weigh(planes: &[HalfSpace], lower: &[f64], upper: &[f64]) -> Vec<f64> {
    let known = |p: &HalfSpace| p.room.is_finite() && p.coefficients.iter().all(|a| a.is_finite());
    let mut weights: Vec<f64> = planes.iter().map(|p| f64::from(u8::from(known(p)))).collect();
    let count: f64 = weights.iter().sum();
    if count == 0.0 {
        return weights;
    }
    weights.iter_mut().for_each(|w| *w /= count);
    let (mut best, mut best_weights) = (f64::NEG_INFINITY, weights.clone());
    let mut excess = vec![0.0; planes.len()];
    let mut corner = vec![0.0; lower.len()];
    for _ in 0..ROUNDS {
        for (i, x) in corner.iter_mut().enumerate() {
            let total: f64 = planes
                .iter()
                .zip(&weights)
                .filter(|(_, w)| **w > 0.0)
                .map(|(p, w)| w * p.coefficients[i])
                .sum();
            *x = if total > 0.0 { lower[i] } else { upper[i] };
        }
        let mut value = 0.0;
        for ((excess, plane), &w) in excess.iter_mut().zip(planes).zip(&weights) {
            *excess = 0.0;
            if w > 0.0 {
                let at: f64 = plane.coefficients.iter().zip(&corner).map(|(a, x)| a * x).sum();
                *excess = at - plane.room;
                value += w * *excess;
            }
        }
        if value > best {
            best = value;
            best_weights.clone_from(&weights);
        }
        let scale = excess.iter().fold(0.0, |m: f64, e| m.max(e.abs()));
        let scale = if scale > 0.0 { scale } else { 1.0 };
        weights.iter_mut().zip(&excess).for_each(|(w, e)| *w *= (e / scale).exp());
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum.max(1e-300));
    }
    best_weights
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space(coefficients: &[f64], room: f64) -> HalfSpace {
        HalfSpace { coefficients: coefficients.to_vec(), room, size: room.abs() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

        /// Eighths are exact in float64, and so is whether the point meets the condition, by a hair
        /// or not.
        #[test]
        fn no_point_that_meets_the_condition_is_cut_off(
            numbers in prop::collection::vec((-16..=16i32, -16..=16i32, -16..=16i32, 0..=8i32), 1..4),
            spare in prop_oneof![Just(0), 0..40i32],
        ) {
            let eighths = |n: i32| f64::from(n) / 8.0;
            let mut lower: Vec<f64> = numbers.iter().map(|n| eighths(n.0.min(n.1))).collect();
            let mut upper: Vec<f64> = numbers.iter().map(|n| eighths(n.0.max(n.1))).collect();
            let plane: Vec<f64> = numbers.iter().map(|n| eighths(n.2)).collect();
            let part = numbers.iter().map(|n| f64::from(n.3) / 8.0);
            let x: Vec<f64> =
                lower.iter().zip(&upper).zip(part).map(|((l, u), t)| l + t * (u - l)).collect();
            let value: f64 = plane.iter().zip(&x).map(|(a, x)| a * x).sum();
            let before = (lower.clone(), upper.clone());
            prop_assert!(cut(&space(&plane, value + eighths(spare)), &mut lower, &mut upper));
            for i in 0..x.len() {
                prop_assert!(lower[i] <= x[i] && x[i] <= upper[i]);
                prop_assert!(before.0[i] <= lower[i] && upper[i] <= before.1[i]);
            }
        }
    }

    #[test]
    fn cuts_what_it_can() {
        // x_0 + x_1 <= -1.5 on the square: each input is at most -0.5.
        let (mut lower, mut upper) = ([-1.0; 2], [1.0; 2]);
        assert!(cut(&space(&[1.0, 1.0], -1.5), &mut lower, &mut upper));
        assert_eq!(lower, [-1.0; 2]);
        assert!(upper.iter().all(|u| (u + 0.5).abs() < 1e-8 && *u >= -0.5));
        assert!(!cut(&space(&[1.0, 1.0], -2.5), &mut lower, &mut upper));
    }

    #[test]
    fn conditions_that_exclude_each_other_get_weights_that_show_it() {
        // x_0 - x_1 <= -0.1 and x_1 - x_0 <= -0.1, and one that knows nothing.
        let planes = [
            space(&[1.0, -1.0], -0.1),
            space(&[-1.0, 1.0], -0.1),
            space(&[0.0, 0.0], f64::INFINITY),
        ];
        let weights = weigh(&planes, &[-1.0; 2], &[1.0; 2]);
        assert!(weights[0] > 0.0 && weights[1] > 0.0 && weights[2] == 0.0);
        let sum: Vec<f64> = (0..2)
            .map(|i| planes.iter().zip(&weights).map(|(p, w)| w * p.coefficients[i]).sum())
            .collect();
        let room = -0.1 * (weights[0] + weights[1]);
        assert!(!cut(&space(&sum, room), &mut [-1.0; 2], &mut [1.0; 2]));
    }

    #[test]
    fn what_is_not_finite_cuts_nothing() {
        for (a, room) in [(f64::NAN, 0.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
            let (mut lower, mut upper) = ([-1.0], [1.0]);
            assert!(cut(&space(&[a], room), &mut lower, &mut upper));
            assert_eq!((lower, upper), ([-1.0], [1.0]));
        }
    }
}
