//! Least values of linear functions over a box, or over what a norm ball leaves of it.

use super::number::{Number, larger, least, smaller};

/// How far inputs may be from a ball's centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    L2,
    L1,
}

/// `|x - center| <= radius`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ball {
    pub norm: Norm,
    pub center: Vec<f64>,
    pub radius: f64,
}

/// Inputs between two corners and, where there is one, in the ball.
#[derive(Debug, Clone)]
pub(crate) struct Region<T> {
    pub lower: Vec<T>,
    pub upper: Vec<T>,
    pub ball: Option<Ball>,
}

/// A lower bound of `Σ row·x` over a box.
pub(crate) fn box_minimum<T: Number>(row: &[T], lower: &[T], upper: &[T], size: &[T]) -> T {
    let (mut sum, mut terms) = (T::zero(), T::zero());
    for (e, a) in row.iter().enumerate() {
        if !a.is_zero() {
            sum.gather(a, if *a > T::zero() { &lower[e] } else { &upper[e] });
            if !T::EXACT {
                terms.gather(&a.size(), &size[e]);
            }
        }
    }
    sum.minus_down(&T::cost(row.len(), &terms, &T::one()))
}

impl<T: Number> Region<T> {
    /// A lower bound of `Σ row·x`; `size` is at least `|x|` in the box.
    pub fn minimum(&self, row: &[T], size: &[T]) -> T {
        let corner = box_minimum(row, &self.lower, &self.upper, size);
        match &self.ball {
            None => corner,
            Some(ball) => larger(corner, self.in_ball(ball, row)),
        }
    }

    /// Weak duality: for any `t >= 0` the least value is at least that of `row·x + t·(excess over
    /// the radius)` over the box alone, one coordinate at a time.
    fn in_ball(&self, ball: &Ball, row: &[T]) -> T {
        let radius = T::of(ball.radius);
        // a, centre, and the ends of x - centre, where the row is not zero; elsewhere the centre,
        // or what is nearest to it, costs nothing or helps the bound.
        let steps: Vec<(&T, T, T, T)> = (0..row.len())
            .filter(|&e| !row[e].is_zero())
            .map(|e| {
                let c = T::of(ball.center[e]);
                let (low, high) = (self.lower[e].minus_down(&c), self.upper[e].minus_up(&c));
                (&row[e], c, low, high)
            })
            .collect();
        let plain: Vec<(f64, f64, f64)> =
            steps.iter().map(|(a, _, low, high)| (a.below(), low.below(), high.above())).collect();
        let t = match ball.norm {
            Norm::L2 => l2_multiplier(&plain, ball.radius),
            Norm::L1 => l1_multiplier(&plain, ball.radius),
        };
        if !(t > 0.0 && t.is_finite()) {
            return T::of(-f64::MAX);
        }
        let t = T::of(t);
        let mut sum = T::zero();
        for (a, c, low, high) in &steps {
            let step = match ball.norm {
                Norm::L2 => l2_step(*a, &t, low, high),
                Norm::L1 => l1_step(*a, &t, low, high),
            };
            sum = sum.plus_down(&a.times_down(c)).plus_down(&step);
        }
        let allowed = match ball.norm {
            Norm::L2 => radius.times_up(&radius).times_up(&t).times_up(&T::of(0.5)),
            Norm::L1 => radius.times_up(&t),
        };
        sum.minus_down(&allowed)
    }
}

/// Shrinks a box to where `Σ row·x + constant <= 0` may hold; says whether that may be anywhere.
pub(crate) fn clip<T: Number>(row: &[T], constant: &T, lower: &mut [T], upper: &mut [T]) -> bool {
    let terms: Vec<(T, T)> = (0..row.len())
        .map(|e| {
            let end = if row[e] > T::zero() { &lower[e] } else { &upper[e] };
            (row[e].times_down(end), row[e].times_up(end))
        })
        .collect();
    let total = terms.iter().fold(constant.clone(), |sum, term| sum.plus_down(&term.0));
    if total > T::zero() {
        return false;
    }
    for (e, a) in row.iter().enumerate().filter(|(_, a)| !a.is_zero()) {
        // What the others and the constant leave of zero at most.
        let room = total.minus_down(&terms[e].1).negated();
        if *a > T::zero() {
            upper[e] = smaller(upper[e].clone(), room.over_up(a));
        } else {
            lower[e] = larger(lower[e].clone(), room.over_down(a));
        }
        if lower[e] > upper[e] {
            return false;
        }
    }
    true
}

/// A lower bound of `a·d + t·d²/2` over `[low, high]`: at an end where it is monotone, else its
/// least value anywhere.
fn l2_step<T: Number>(a: &T, t: &T, low: &T, high: &T) -> T {
    let half = T::of(0.5);
    let at = |d: &T| {
        let square = d.times_down(d); // any sign of d
        a.times_down(d).plus_down(&square.times_down(t).times_down(&half))
    };
    if a.plus_up(&t.times_up(high)) <= T::zero() {
        at(high)
    } else if a.plus_down(&t.times_down(low)) >= T::zero() {
        at(low)
    } else {
        a.times_up(a).over_up(t).times_up(&half).negated()
    }
}

/// A lower bound of `a·d + t·|d|` over `[low, high]`: linear on both sides of zero.
fn l1_step<T: Number>(a: &T, t: &T, low: &T, high: &T) -> T {
    let at = |d: &T| a.times_down(d).plus_down(&t.times_down(&d.size()));
    let mut ends = vec![at(low), at(high)];
    if *low <= T::zero() && *high >= T::zero() {
        ends.push(T::zero());
    }
    least(ends)
}

/// About the best multiplier of a Euclidean ball: coordinates whose best step leaves the box stay
/// at its end, the others share the rest of the radius.
fn l2_multiplier(steps: &[(f64, f64, f64)], radius: f64) -> f64 {
    let mut t = steps.iter().map(|(a, ..)| a * a).sum::<f64>().sqrt() / radius;
    for _ in 0..64 {
        let (mut free, mut spent) = (0.0, 0.0);
        for &(a, low, high) in steps {
            let step = -a / t;
            let end = step.clamp(low.min(0.0), high.max(0.0));
            if end == step { free += a * a } else { spent += end * end }
        }
        let rest = radius * radius - spent;
        let next = (free / rest).sqrt();
        // It only ever shrinks; where the ball reaches all corners it would vanish.
        if !(rest > 0.0 && next < t * (1.0 - 1e-13) && next > 0.0) {
            break;
        }
        t = next;
    }
    t
}

/// The best multiplier of an L1 ball: the slope at which the radius, spent on the steepest
/// coordinates first, runs out.
fn l1_multiplier(steps: &[(f64, f64, f64)], radius: f64) -> f64 {
    let mut order: Vec<(f64, f64)> = steps
        .iter()
        .map(|&(a, low, high)| (a.abs(), if a > 0.0 { -low } else { high }.max(0.0)))
        .collect();
    order.sort_unstable_by(|x, y| y.0.total_cmp(&x.0));
    let mut left = radius;
    for &(slope, room) in &order {
        left -= room;
        if left <= 0.0 {
            return slope;
        }
    }
    // The whole box is in reach: the box's own bound is as good.
    f64::NAN
}

#[cfg(test)]
mod tests {
    use num_rational::BigRational;
    use proptest::prelude::*;

    use super::*;

    fn floats() -> impl Strategy<Value = f64> {
        prop_oneof![-2.0..2.0f64, Just(0.0), -1e-3..1e-3f64]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        /// No point of the region falls below the bound, in either arithmetic, and both agree;
        /// some point comes close.
        #[test]
        fn minima_are_below_all_points(
            row in prop::collection::vec(floats(), 3),
            center in prop::collection::vec(-1.0..1.0f64, 3),
            radius in 0.01..2.0f64,
            corners in prop::collection::vec((-1.0..0.9f64, 0.0..1.0f64), 3),
            points in prop::collection::vec(prop::collection::vec(0.0..=1.0f64, 3), 60),
            l1: bool,
        ) {
            let lower: Vec<f64> = corners.iter().zip(&center).map(|((l, _), c)| l.min(*c)).collect();
            let upper: Vec<f64> =
                corners.iter().zip(&center).map(|((l, w), c)| (l + w).max(*c)).collect();
            let norm = if l1 { Norm::L1 } else { Norm::L2 };
            let ball = Some(Ball { norm, center: center.clone(), radius });
            let size: Vec<f64> = (0..3).map(|e| lower[e].abs().max(upper[e].abs())).collect();
            let region = Region { lower: lower.clone(), upper: upper.clone(), ball: ball.clone() };
            let bound = region.minimum(&row, &size);
            let of = |values: &[f64]| values.iter().map(|&x| BigRational::of(x)).collect::<Vec<_>>();
            let exact = Region { lower: of(&lower), upper: of(&upper), ball };
            let best = exact.minimum(&of(&row), &of(&size));
            prop_assert!(BigRational::of(bound) <= best.clone().plus(&BigRational::of(1e-12)));
            prop_assert!((bound - best.below()).abs() < 1e-9);
            let mut least = f64::INFINITY;
            for point in &points {
                let x: Vec<f64> = (0..3).map(|e| lower[e] + point[e] * (upper[e] - lower[e])).collect();
                // Drawn towards the centre until it is inside.
                let d: Vec<f64> = (0..3).map(|e| x[e] - center[e]).collect();
                let length = if l1 { d.iter().map(|d| d.abs()).sum::<f64>() } else { d.iter().map(|d| d * d).sum::<f64>().sqrt() };
                let scale = (radius * (1.0 - 1e-12) / length).min(1.0);
                let value: f64 = (0..3).map(|e| row[e] * (center[e] + scale * d[e])).sum();
                prop_assert!(value >= bound - 1e-12, "{} {}", value, bound);
                least = least.min(value);
            }
            let span: f64 = (0..3).map(|e| row[e].abs() * (upper[e] - lower[e]).min(2.0 * radius)).sum();
            prop_assert!(least - bound <= 0.8 * span + 1e-12);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        /// Clipping loses no point that meets the condition, and no box that holds one.
        #[test]
        fn clips_keep_what_meets_the_condition(
            row in prop::collection::vec(floats(), 3),
            constant in -2.0..2.0f64,
            points in prop::collection::vec(prop::collection::vec(-1.0..=1.0f64, 3), 40),
        ) {
            let (mut lower, mut upper) = (vec![-1.0; 3], vec![1.0; 3]);
            let some = clip(&row, &constant, &mut lower, &mut upper);
            let of = |values: &[f64]| values.iter().map(|&x| BigRational::of(x)).collect::<Vec<_>>();
            let (mut low, mut high) = (of(&[-1.0; 3]), of(&[1.0; 3]));
            let exact = clip(&of(&row), &BigRational::of(constant), &mut low, &mut high);
            prop_assert!(some || !exact);
            for x in &points {
                let value = of(&row).iter().zip(of(x)).fold(BigRational::of(constant), |sum, (a, x)| sum + a * x);
                if value <= BigRational::of(0.0) {
                    prop_assert!(some && (0..3).all(|e| lower[e] <= x[e] && x[e] <= upper[e]));
                    prop_assert!(exact && (0..3).all(|e| low[e] <= BigRational::of(x[e]) && BigRational::of(x[e]) <= high[e]));
                }
            }
            for e in (0..3).filter(|_| some && exact) {
                prop_assert!((low[e].below() - lower[e]).abs() < 1e-9 && (high[e].below() - upper[e]).abs() < 1e-9
                    || row[e].abs() < 1e-3);
            }
        }
    }

    #[test]
    fn known_minima() {
        let region = |norm, radius| Region {
            lower: vec![-1.0, -1.0],
            upper: vec![1.0, 1.0],
            ball: Some(Ball { norm, center: vec![0.0, 0.0], radius }),
        };
        let size = [1.0, 1.0];
        let close = |x: f64, y: f64| x <= y && y - x < 1e-12;
        assert!(close(region(Norm::L2, 0.5).minimum(&[3.0, 4.0], &size), -2.5));
        assert!(close(region(Norm::L1, 0.5).minimum(&[3.0, 4.0], &size), -2.0));
        assert!(close(region(Norm::L1, 1.5).minimum(&[3.0, 4.0], &size), -5.5));
        assert!(close(region(Norm::L2, 9.0).minimum(&[3.0, 4.0], &size), -7.0));
        // x2 stops at -1: the rest of the radius, sqrt(1.25 - 1), is left to x1.
        assert!(close(region(Norm::L2, 1.25f64.sqrt()).minimum(&[1.0, 40.0], &size), -40.5));
        let points = region(Norm::L2, 0.0).minimum(&[3.0, 4.0], &size);
        assert!(close(points, -7.0), "{points}");
    }
}
