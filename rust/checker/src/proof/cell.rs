//! One node in one part of the input region.

use super::linear::Linear;
use super::lines::{Line, Lines};
use super::number::{Number, greatest};
use super::pair::Plane;

/// One node's bounds, and how it is bounded by lines in its inputs.
#[derive(Debug, Clone)]
pub(crate) struct Cell<T> {
    pub lower: Vec<T>,
    pub upper: Vec<T>,
    /// At least the absolute value of every element.
    pub size: Vec<T>,
    /// At least the absolute values of all terms of an element together, once its line is
    /// evaluated: what rounding errors are relative to.
    pub weight: Vec<T>,
    /// At least 1 and the sum of the sizes of the inputs: what underflow is relative to.
    pub reach: T,
    pub how: How<T>,
}

#[derive(Debug, Clone)]
pub(crate) enum How<T> {
    Linear,
    Lines(Lines<T>),
    Picks(Vec<Pick<T>>),
    Planes(Vec<Plane<T>>),
}

/// An output of a maximum: at least the input `below`; at most the input `above` (nothing, where
/// that is not one of them) plus `offset`.
#[derive(Debug, Clone)]
pub(crate) struct Pick<T> {
    pub below: usize,
    pub above: Option<usize>,
    pub offset: T,
    /// The largest upper bound.
    pub most: T,
}

/// At least the absolute values between the bounds.
pub(super) fn sizes<T: Number>(lower: &[T], upper: &[T]) -> Vec<T> {
    lower.iter().zip(upper).map(|(l, u)| greatest([l.size(), u.size()])).collect()
}

impl<T: Number> Line<T> {
    /// See `Cell::weight`.
    pub fn weight(&self, size: &T) -> T {
        let slope = greatest([self.lower_slope.size(), self.upper_slope.size()]);
        let offset = greatest([self.lower_offset.size(), self.upper_offset.size()]);
        slope.times_up(size).plus_up(&offset)
    }
}

/// The weight of one element of an affine operator.
pub(super) fn magnitude<T: Number>(
    linear: &Linear,
    output: usize,
    inputs: &[&Cell<T>],
    reach: &T,
) -> T {
    let (mut size, mut count) = (T::zero(), 0);
    linear.terms(output, |slot, start, weights| {
        count += weights.len();
        size = size.plus(&T::reach(weights, &inputs[slot].size[start..start + weights.len()]));
    });
    let cost = T::cost(count, &size, reach);
    let divisor = linear.divisor(output).abs();
    let mut size = size.plus_up(&cost);
    if divisor != 1.0 {
        size = size.over_up(&T::of(divisor));
    }
    size.plus_up(&T::of(linear.constant(output).abs()))
}

/// Bounds of one element of an affine operator, and its weight.
pub(super) fn range<T: Number>(
    linear: &Linear,
    output: usize,
    inputs: &[&Cell<T>],
    reach: &T,
) -> (T, T, T) {
    let (mut low, mut high, mut size) = (T::zero(), T::zero(), T::zero());
    let mut count = 0;
    let mut exact = true;
    linear.terms(output, |slot, start, weights| {
        let cell = inputs[slot];
        let part = start..start + weights.len();
        let (l, u, m) = (&cell.lower[part.clone()], &cell.upper[part.clone()], &cell.size[part]);
        exact = exact && count == 0 && weights == [1.0];
        count += weights.len();
        for (i, &w) in weights.iter().enumerate() {
            let weight = T::of(w);
            low.gather(&weight, if w >= 0.0 { &l[i] } else { &u[i] });
            high.gather(&weight, if w >= 0.0 { &u[i] } else { &l[i] });
            size.gather(&T::of(w.abs()), &m[i]);
        }
    });
    // What is only moved stays as it is.
    if !exact {
        let cost = T::cost(count, &size, reach);
        (low, high) = (low.minus_down(&cost), high.plus_up(&cost));
        size = size.plus_up(&cost);
    }
    let (divisor, constant) = (linear.divisor(output), linear.constant(output));
    if divisor != 1.0 {
        let d = T::of(divisor);
        (low, high) = if divisor > 0.0 {
            (low.over_down(&d), high.over_up(&d))
        } else {
            (high.over_down(&d), low.over_up(&d))
        };
        size = size.over_up(&d.size());
    }
    if constant != 0.0 {
        let c = T::of(constant);
        (low, high) = (low.plus_down(&c), high.plus_up(&c));
        size = size.plus_up(&c.size());
    }
    (low, high, size)
}

/// Bounds that are closer than this, relative to 1 or themselves, count as equal: the choice must
/// not hang on the last bit of a bound.
const TIE: f64 = 1e-9;

/// Below: the first input whose lower bound is the largest, but for a tie. Above: that input and
/// what another one can exceed it by, where that is no more than a tie.
pub(super) fn pick<T: Number>(window: &[usize], cell: &Cell<T>) -> Pick<T> {
    let largest = greatest(window.iter().map(|&i| cell.lower[i].clone())).below();
    let tie = if largest.is_finite() { TIE * (1.0 + largest.abs()) } else { 0.0 };
    let floor = T::of((largest - tie).clamp(-f64::MAX, f64::MAX));
    let below = window.iter().copied().find(|&i| cell.lower[i] >= floor).unwrap_or(window[0]);
    let most = greatest(window.iter().map(|&i| cell.upper[i].clone()));
    let others = window.iter().filter(|&&i| i != below);
    let excess = others.map(|&i| cell.upper[i].minus_up(&cell.lower[below]));
    let excess = greatest(excess.chain([T::zero()]));
    if excess.above() <= 2.0 * tie {
        Pick { below, above: Some(below), offset: excess, most }
    } else {
        Pick { below, above: None, offset: most.clone(), most }
    }
}
