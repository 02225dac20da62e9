//! Linear bounds of functions of one number that are convex and concave by turns.
//!
//! Slopes are chosen in plain floating point; an offset is then computed so that the line holds
//! for exactly that slope, from enclosures of the function and its derivative alone.

mod shape;
mod side;

pub(crate) use shape::{Domain, Shape};
use side::Side;

use crate::enclosure::range::Range;
use crate::operator::{Interval, Relaxation};

/// A function, its derivative, and how it bends.
#[derive(Debug, Clone, Copy)]
pub struct Curve {
    /// An enclosure of the value at a point.
    pub(crate) value: fn(f64) -> Range,
    /// An enclosure of the derivative at a point.
    pub(crate) slope: fn(f64) -> Range,
    /// Bounds of all values between two numbers, which are not NaN; all there are where the
    /// function is not defined somewhere between.
    pub(crate) range: fn(f64, f64) -> Range,
    /// The function and its first two derivatives in plain floating point.
    pub(crate) plain: fn(f64) -> [f64; 3],
    /// The derivative lies between these.
    pub(crate) slopes: Range,
    pub(crate) shape: Shape,
    pub(crate) domain: Domain,
}

/// Where one of an element's lines may touch the curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Touch {
    /// The parameter behind the line of [`crate::Operator::relax`].
    pub usual: f64,
    /// The points whose tangents stay on their side of the curve; `None` where there is nothing
    /// to choose.
    pub range: Option<(f64, f64)>,
}

impl Curve {
    /// What lines stay below the curve and, upside down, above it.
    fn sides(&self) -> [Side; 2] {
        [false, true].map(|flipped| Side { curve: *self, flipped })
    }

    /// The function and its first two derivatives in plain floating point.
    pub fn derivatives(&self, x: f64) -> [f64; 3] {
        (self.plain)(x)
    }

    /// What there is to choose for the lower and for the upper line of one element.
    pub fn touches(&self, l: f64, u: f64) -> [Touch; 2] {
        self.sides().map(|side| side.touch(l, u))
    }

    /// Slope and offset of the lines that [`crate::Operator::relax`] draws for one element: below and
    /// above.
    pub fn usual(&self, l: f64, u: f64) -> [(f64, f64); 2] {
        let [below, above] = self.sides();
        let (slope, offset) = above.below(l, u);
        [below.below(l, u), (-slope, -offset)]
    }

    /// Lines for every element of one sample.
    pub(crate) fn relax(&self, input: Interval) -> Relaxation {
        let [below, above] = self.sides();
        build(input, |_, l, u| (below.below(l, u), above.below(l, u)))
    }

    /// [`Curve::relax`] with the points where the lines touch, those of all lower lines first.
    pub(crate) fn relax_with(&self, input: Interval, points: &[f64]) -> Relaxation {
        let [below, above] = self.sides();
        let n = input.lower.len();
        build(input, |i, l, u| {
            (below.below_at(l, u, points[i]), above.below_at(l, u, points[n + i]))
        })
    }

    /// Wherever the bounds differ, tighter ones give closer lines.
    pub(crate) fn mark_loose(&self, input: Interval, loose: &mut [bool]) {
        let bounds = input.lower.iter().zip(input.upper);
        loose.iter_mut().zip(bounds).for_each(|(loose, (l, u))| *loose |= l != u);
    }

    pub(crate) fn interval(&self, input: Interval, lower: &mut [f64], upper: &mut [f64]) {
        for (i, (&l, &u)) in input.lower.iter().zip(input.upper).enumerate() {
            let nothing = l.is_nan() || u.is_nan();
            (lower[i], upper[i]) = if nothing { (f64::NAN, f64::NAN) } else { (self.range)(l, u) };
        }
    }
}

/// Lines from those below the curve and below its mirror image.
fn build(
    input: Interval,
    mut lines: impl FnMut(usize, f64, f64) -> ((f64, f64), (f64, f64)),
) -> Relaxation {
    let n = input.lower.len();
    let mut columns = [const { Vec::new() }; 4];
    columns.iter_mut().for_each(|column| column.reserve_exact(n));
    for (i, (&l, &u)) in input.lower.iter().zip(input.upper).enumerate() {
        let ((lower_slope, lower_offset), (mirrored_slope, mirrored_offset)) = lines(i, l, u);
        let line = [lower_slope, lower_offset, -mirrored_slope, -mirrored_offset];
        columns.iter_mut().zip(line).for_each(|(column, x)| column.push(x));
    }
    let [lower_slope, lower_offset, upper_slope, upper_offset] = columns;
    Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset }
}

#[cfg(test)]
mod tests;
