//! Linear bounds of `y = x` for positive `x` and `slope·x` otherwise: ReLU and leaky ReLU.

use aisec_numeric::rounding::{mul_down, mul_up, sub_down, sub_up};

use crate::operator::{Interval, Relaxation};

/// Lower slope, lower offset, upper slope, upper offset.
type Lines = [f64; 4];

/// Lines for every element of one sample.
///
/// Where the sign of `x` is known the lines are the function itself. Elsewhere one side is the
/// chord between the ends, and the other a line through zero whose slope is that of the longer
/// side (CROWN's adaptive choice, Zhang et al. 2018, arXiv:1811.00866).
pub(crate) fn relax(slope: f64, input: Interval) -> Relaxation {
    build(input, |_, l, u| lines(slope, l, u, adaptive(slope, l, u)))
}

/// [`relax`] with the slope of each line through zero.
pub(crate) fn relax_with(slope: f64, input: Interval, through_zero: &[f64]) -> Relaxation {
    let (low, high) = if slope <= 1.0 { (slope, 1.0) } else { (1.0, slope) };
    build(input, |i, l, u| {
        let chosen = through_zero[i];
        let inside = if chosen >= low { chosen.min(high) } else { low };
        lines(slope, l, u, inside)
    })
}

fn build(input: Interval, mut lines: impl FnMut(usize, f64, f64) -> Lines) -> Relaxation {
    let n = input.lower.len();
    let mut columns = [const { Vec::new() }; 4];
    columns.iter_mut().for_each(|column| column.reserve_exact(n));
    for (i, (&l, &u)) in input.lower.iter().zip(input.upper).enumerate() {
        let lines = lines(i, l, u);
        columns.iter_mut().zip(lines).for_each(|(column, x)| column.push(x));
    }
    let [lower_slope, lower_offset, upper_slope, upper_offset] = columns;
    Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset }
}

/// The elements whose sign is not known, NaN bounds included.
pub(crate) fn mark_loose(input: Interval, loose: &mut [bool]) {
    for (loose, (&l, &u)) in loose.iter_mut().zip(input.lower.iter().zip(input.upper)) {
        *loose |= !(l >= 0.0 || u <= 0.0);
    }
}

/// The ends' values, and zero where a negative slope dips there.
pub(crate) fn interval(slope: f64, input: Interval, lower: &mut [f64], upper: &mut [f64]) {
    let down = |x: f64| if x <= 0.0 { mul_down(slope, x) } else { x };
    let up = |x: f64| if x <= 0.0 { mul_up(slope, x) } else { x };
    for (i, (&l, &u)) in input.lower.iter().zip(input.upper).enumerate() {
        // Increasing, unless the slope is negative: then the least value is at zero if it is in
        // reach, and the largest at either end.
        (lower[i], upper[i]) = if slope >= 0.0 || l >= 0.0 {
            (down(l), up(u))
        } else if u <= 0.0 {
            (down(u), up(l))
        } else {
            (0.0, if up(l) >= up(u) { up(l) } else { up(u) })
        };
        if l.is_nan() || u.is_nan() {
            (lower[i], upper[i]) = (f64::NAN, f64::NAN);
        }
    }
}

/// The slope of the longer side; where both are equally long, up to rounding, that of the left
/// one, so that a checker whose bounds differ in the last digit finds the same line.
fn adaptive(slope: f64, l: f64, u: f64) -> f64 {
    if u > -l * (1.0 + 1e-9) { 1.0 } else { slope }
}

/// `through_zero` is the slope of the line that is not the chord, between `slope` and 1.
fn lines(slope: f64, l: f64, u: f64, through_zero: f64) -> Lines {
    if l.is_nan() || u.is_nan() {
        return lines(slope, f64::NEG_INFINITY, f64::INFINITY, through_zero);
    }
    if l >= 0.0 {
        return [1.0, 0.0, 1.0, 0.0];
    }
    if u <= 0.0 {
        return [slope, 0.0, slope, 0.0];
    }
    let chord = chord(slope, l, u);
    // With one infinite end the chord has that side's slope, its distance from that side is NaN
    // (infinity less infinity), which `max` and `min` skip, and the finite end decides; with two
    // the offset stays NaN, which proves nothing.
    if slope <= 1.0 {
        let offset =
            sub_up(end(slope, l, true), mul_down(chord, l)).max(sub_up(u, mul_down(chord, u)));
        [through_zero, 0.0, chord, offset]
    } else {
        let offset =
            sub_down(end(slope, l, false), mul_up(chord, l)).min(sub_down(u, mul_up(chord, u)));
        [chord, offset, through_zero, 0.0]
    }
}

/// The value at the left end `l < 0`, rounded up or down.
fn end(slope: f64, l: f64, up: bool) -> f64 {
    if up { mul_up(slope, l) } else { mul_down(slope, l) }
}

/// The slope of the chord over `l < 0 < u`, as a finite number between the two sides' slopes;
/// where an end is infinite, the slope of that side, which keeps the offset finite if one can.
fn chord(slope: f64, l: f64, u: f64) -> f64 {
    if u.is_infinite() {
        return 1.0;
    }
    if l.is_infinite() {
        return slope;
    }
    let quotient = (u - slope * l) / (u - l);
    let (low, high) = if slope <= 1.0 { (slope, 1.0) } else { (1.0, slope) };
    if quotient.is_nan() { 1.0 } else { quotient.clamp(low, high) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chosen(slope: f64, l: f64, u: f64) -> Lines {
        lines(slope, l, u, adaptive(slope, l, u))
    }

    fn value(slope: f64, x: f64) -> f64 {
        if x <= 0.0 { slope * x } else { x }
    }

    /// Floats of every size.
    fn number() -> impl Strategy<Value = f64> {
        (-1.0..1.0f64, prop_oneof![-300..300i32, -2..2i32]).prop_map(|(m, e)| m * 10f64.powi(e))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

        /// One rounding cannot lift a line that lies below a float above it.
        #[test]
        fn lines_hold(a in number(), b in number(), t in 0.0..1.0f64, adapt: bool,
                      slope in prop_oneof![Just(0.0), Just(0.5), Just(1.0), -2.0..3.0f64]) {
            let (l, u) = (a.min(b), a.max(b));
            let (low, high) = if slope <= 1.0 { (slope, 1.0) } else { (1.0, slope) };
            let chosen = if adapt { adaptive(slope, l, u) } else { (low + t * (high - low)).min(high) };
            let [ls, lo, us, uo] = lines(slope, l, u, chosen);
            let mut range = ([0.0], [0.0]);
            interval(slope, Interval { lower: &[l], upper: &[u] }, &mut range.0, &mut range.1);
            for x in [l, u, 0.0, (l + t * (u - l)).clamp(l, u)] {
                if l <= x && x <= u {
                    let y = value(slope, x);
                    let room = f64::EPSILON * y.abs() + f64::MIN_POSITIVE; // of `slope · x`
                    prop_assert!(ls.mul_add(x, lo) <= y + room, "{} at {}", ls, x);
                    prop_assert!(us.mul_add(x, uo) >= y - room, "{} at {}", us, x);
                    prop_assert!(range.0[0] <= y && y <= range.1[0]);
                }
            }
        }
    }

    #[test]
    fn infinite_ends_leave_valid_lines() {
        let inf = f64::INFINITY;
        assert_eq!(chosen(0.0, -inf, 5.0), [0.0, 0.0, 0.0, 5.0]);
        assert_eq!(chosen(0.0, -2.0, inf), [1.0, 0.0, 1.0, 2.0]);
        for unknown in
            [chosen(0.0, -inf, inf), chosen(0.0, f64::NAN, 1.0), chosen(0.1, -1.0, f64::NAN)]
        {
            assert!(!unknown[3].is_finite());
        }
    }

    #[test]
    fn slopes_are_moved_into_their_range() {
        let ends = Interval { lower: &[-1.0; 3], upper: &[1.0; 3] };
        let Relaxation::Elementwise { lower_slope, .. } =
            relax_with(0.25, ends, &[f64::NAN, -3.0, 1.5])
        else {
            unreachable!("the lines are element by element");
        };
        assert_eq!(lower_slope, [0.25, 0.25, 1.0]);
        let Relaxation::Elementwise { upper_slope, .. } = relax_with(2.0, ends, &[1.5, 0.0, 9.0])
        else {
            unreachable!("the lines are element by element");
        };
        assert_eq!(upper_slope, [1.5, 1.0, 2.0]);
    }

    #[test]
    fn the_lower_slope_is_that_of_the_longer_side() {
        assert_eq!(chosen(0.0, -1.0, 2.0)[0], 1.0);
        assert_eq!(chosen(0.0, -2.0, 1.0)[0], 0.0);
        assert_eq!(chosen(0.25, -2.0, 1.0)[0], 0.25);
        assert_eq!(chosen(0.0, 0.5, 1.0), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(chosen(0.0, -1.0, 0.0), [0.0; 4]);
    }
}
