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
    let n = input.lower.len();
    let mut columns = [const { Vec::new() }; 4];
    columns.iter_mut().for_each(|column| column.reserve_exact(n));
    for (&l, &u) in input.lower.iter().zip(input.upper) {
        let lines = lines(slope, l, u);
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

fn lines(slope: f64, l: f64, u: f64) -> Lines {
    if l.is_nan() || u.is_nan() {
        return lines(slope, f64::NEG_INFINITY, f64::INFINITY);
    }
    if l >= 0.0 {
        return [1.0, 0.0, 1.0, 0.0];
    }
    if u <= 0.0 {
        return [slope, 0.0, slope, 0.0];
    }
    let chord = chord(slope, l, u);
    let through_zero = if u > -l { 1.0 } else { slope };
    // With one infinite end the chord has that side's slope, its distance from that side is NaN
    // (infinity less infinity), which `max` and `min` skip, and the finite end decides; with two
    // the offset stays NaN, which proves nothing.
    if slope <= 1.0 {
        let offset = sub_up(end(slope, l, true), mul_down(chord, l))
            .max(sub_up(u, mul_down(chord, u)));
        [through_zero, 0.0, chord, offset]
    } else {
        let offset = sub_down(end(slope, l, false), mul_up(chord, l))
            .min(sub_down(u, mul_up(chord, u)));
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
