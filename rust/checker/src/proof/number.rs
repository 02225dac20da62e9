//! The two arithmetics a proof can be checked in: float64 with every rounding accounted for, and
//! exact rationals.

use std::fmt::Debug;

use aisec_numeric::rounding;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

use super::lanes::wide;
use super::linear::Linear;
use super::lines::Lines;
use super::window_lanes::gather_windows;

/// Numbers whose plain operations round to nearest or not at all, with a bound of what that
/// costs, and whose directed operations never lie on the wrong side of the real result.
pub(crate) trait Number: Clone + PartialOrd + Send + Sync + Debug + 'static {
    /// Whether nothing is ever rounded.
    const EXACT: bool;

    /// The float, which must be finite where numbers are exact.
    fn of(x: f64) -> Self;
    /// A float that does not exceed the number.
    fn below(&self) -> f64;
    /// A float that the number does not exceed.
    fn above(&self) -> f64;

    fn plus(&self, other: &Self) -> Self;
    fn times(&self, other: &Self) -> Self;
    fn over(&self, divisor: &Self) -> Self;
    fn negated(&self) -> Self;
    fn size(&self) -> Self;
    /// Adds `a · b`.
    fn gather(&mut self, a: &Self, b: &Self);
    /// Adds to `sums` multiples of rows of a matrix as wide: (row, factor) each.
    fn gather_rows(sums: &mut [Self], factors: &[(usize, Self)], matrix: &[f64]) {
        for (row, factor) in factors {
            let row = &matrix[row * sums.len()..][..sums.len()];
            sums.iter_mut().zip(row).for_each(|(sum, &w)| sum.gather(factor, &Self::of(w)));
        }
    }
    /// Adds to each line of `sums` (as wide as the matrix, which has `out` rows) the rows of the
    /// matrix times the coefficients of the same line of `lines`.
    fn gather_lines(
        sums: &mut [Self],
        lines: &[Self],
        (out, wide): (usize, usize),
        matrix: &[f64],
    ) {
        let mut factors = Vec::with_capacity(out);
        for (line, sums) in lines.chunks_exact(out).zip(sums.chunks_exact_mut(wide)) {
            factors.clear();
            let parts = line.iter().enumerate().filter(|(_, a)| !a.is_zero());
            factors.extend(parts.map(|(i, a)| (i, a.clone())));
            Self::gather_rows(sums, &factors, matrix);
        }
    }
    /// See [`super::window_lanes::gather_windows`]; false, with nothing done, where there is no such
    /// loop.
    fn gather_windows(
        _sums: &mut [Self],
        _wide: usize,
        _rows: &[Self],
        _len: usize,
        _linear: &Linear,
    ) -> bool {
        false
    }
    /// `Σ row·constants` and, where numbers are rounded, `Σ |row|·weight`.
    fn weigh(row: &[Self], constants: &[f64], weight: &[Self]) -> (Self, Self) {
        let (mut sum, mut size) = (Self::zero(), Self::zero());
        for (i, a) in row.iter().enumerate().filter(|(_, a)| !a.is_zero()) {
            if constants[i] != 0.0 {
                sum.gather(a, &Self::of(constants[i]));
            }
            if !Self::EXACT {
                size.gather(&a.size(), &weight[i]);
            }
        }
        (sum, size)
    }
    /// Adds to `sums` a row times the slopes of lines, the lower ones where it is positive;
    /// returns the same of their offsets, and `Σ |row|·weight` as [`Number::weigh`] does.
    fn bend(row: &[Self], lines: &Lines<Self>, weight: &[Self], sums: &mut [Self]) -> (Self, Self) {
        let (mut sum, mut size) = (Self::zero(), Self::zero());
        for (i, a) in row.iter().enumerate().filter(|(_, a)| !a.is_zero()) {
            let (slope, offset) = if *a > Self::zero() {
                (&lines.lower_slope[i], &lines.lower_offset[i])
            } else {
                (&lines.upper_slope[i], &lines.upper_offset[i])
            };
            sums[i].gather(a, slope);
            sum.gather(a, offset);
            if !Self::EXACT {
                size.gather(&a.size(), &weight[i]);
            }
        }
        (sum, size)
    }
    /// `Σ |weights|·sizes`.
    fn reach(weights: &[f64], sizes: &[Self]) -> Self {
        let mut sum = Self::zero();
        weights.iter().zip(sizes).for_each(|(w, size)| sum.gather(&Self::of(w.abs()), size));
        sum
    }

    fn plus_down(&self, other: &Self) -> Self;
    fn times_down(&self, other: &Self) -> Self;
    fn over_down(&self, divisor: &Self) -> Self;
    fn plus_up(&self, other: &Self) -> Self {
        self.negated().plus_down(&other.negated()).negated()
    }
    fn times_up(&self, other: &Self) -> Self {
        self.negated().times_down(other).negated()
    }
    fn over_up(&self, divisor: &Self) -> Self {
        self.negated().over_down(divisor).negated()
    }
    fn minus_down(&self, other: &Self) -> Self {
        self.plus_down(&other.negated())
    }
    fn minus_up(&self, other: &Self) -> Self {
        self.plus_up(&other.negated())
    }

    /// An upper bound of what plain operations can have cost a sum of `terms` products whose
    /// absolute values sum, in plain operations, to `size`; `reach` bounds what the sum is
    /// multiplied with later (at least 1).
    fn cost(terms: usize, size: &Self, reach: &Self) -> Self;

    fn zero() -> Self {
        Self::of(0.0)
    }
    fn one() -> Self {
        Self::of(1.0)
    }
    fn is_zero(&self) -> bool {
        *self == Self::zero()
    }
}

impl Number for f64 {
    const EXACT: bool = false;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    fn below(&self) -> f64 {
        *self
    }
    fn above(&self) -> f64 {
        *self
    }
    #[inline(always)]
    fn plus(&self, other: &Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn times(&self, other: &Self) -> Self {
        self * other
    }
    #[inline(always)]
    fn over(&self, divisor: &Self) -> Self {
        self / divisor
    }
    #[inline(always)]
    fn negated(&self) -> Self {
        -self
    }
    #[inline(always)]
    fn size(&self) -> Self {
        self.abs()
    }
    #[inline(always)]
    fn gather(&mut self, a: &Self, b: &Self) {
        *self += a * b;
    }
    fn gather_rows(sums: &mut [f64], factors: &[(usize, f64)], matrix: &[f64]) {
        wide::gather_rows(sums, factors, matrix);
    }
    fn gather_lines(sums: &mut [f64], lines: &[f64], sizes: (usize, usize), matrix: &[f64]) {
        wide::gather_lines(sums, sizes.1, lines, sizes, matrix);
    }
    fn gather_windows(
        sums: &mut [f64],
        wide: usize,
        rows: &[f64],
        len: usize,
        linear: &Linear,
    ) -> bool {
        gather_windows(sums, wide, rows, len, linear);
        true
    }
    fn weigh(row: &[f64], constants: &[f64], weight: &[f64]) -> (f64, f64) {
        wide::weigh(row, constants, weight)
    }
    fn bend(row: &[f64], lines: &Lines<f64>, weight: &[f64], sums: &mut [f64]) -> (f64, f64) {
        wide::bend(row, lines, weight, sums)
    }
    fn reach(weights: &[f64], sizes: &[f64]) -> f64 {
        wide::reach(weights, sizes)
    }
    #[inline]
    fn plus_down(&self, other: &Self) -> Self {
        rounding::add_down(*self, *other)
    }
    #[inline]
    fn times_down(&self, other: &Self) -> Self {
        rounding::mul_down(*self, *other)
    }
    #[inline]
    fn over_down(&self, divisor: &Self) -> Self {
        rounding::div_down(*self, *divisor)
    }

    /// With `n` terms, the sum is within `gamma(n)·S + n·2^-1074` of the real one, `S` being the
    /// real sum of sizes, and the computed `size` is at least `(1 - gamma(n))·S - n·2^-1074`.
    /// So `gamma(2n)` of the computed size covers the first part; the other one may still be
    /// multiplied. It is taken `2^52` times too large, so that no number here is subnormal, which
    /// would be slow; the last factor is for the roundings of this line itself.
    fn cost(terms: usize, size: &Self, reach: &Self) -> Self {
        const SMALL: usize = 1 << 20;
        let n = 2 * terms + 16;
        // Below `2^20` terms `gamma(n)` is at most `(1 + 2^-32)` times `n·2^-53`.
        let gamma = if n < SMALL {
            n as f64 * (f64::EPSILON / 2.0 * (1.0 + 1.0 / (1u64 << 30) as f64))
        } else {
            rounding::gamma(n)
        };
        let underflow = (2 * n) as f64 * (f64::MIN_POSITIVE * reach);
        (gamma * size + underflow) * (1.0 + 4.0 * f64::EPSILON)
    }
}

impl Number for BigRational {
    const EXACT: bool = true;

    fn of(x: f64) -> Self {
        BigRational::from_float(x).expect("only finite floats become rationals")
    }
    fn below(&self) -> f64 {
        let mut near = self.to_f64().unwrap_or(f64::NAN);
        while near.is_finite() && BigRational::of(near) > *self {
            near = near.next_down();
        }
        if near == f64::INFINITY { f64::MAX } else { near }
    }
    fn above(&self) -> f64 {
        -(-self.clone()).below()
    }
    fn plus(&self, other: &Self) -> Self {
        self + other
    }
    fn times(&self, other: &Self) -> Self {
        self * other
    }
    fn over(&self, divisor: &Self) -> Self {
        self / divisor
    }
    fn negated(&self) -> Self {
        -self.clone()
    }
    fn size(&self) -> Self {
        self.abs()
    }
    fn gather(&mut self, a: &Self, b: &Self) {
        *self += a * b;
    }
    fn plus_down(&self, other: &Self) -> Self {
        self + other
    }
    fn times_down(&self, other: &Self) -> Self {
        self * other
    }
    fn over_down(&self, divisor: &Self) -> Self {
        self / divisor
    }
    fn cost(_terms: usize, _size: &Self, _reach: &Self) -> Self {
        Zero::zero()
    }
}

/// The larger of two lower bounds; one that is not a number says nothing.
pub(crate) fn larger<T: Number>(a: T, b: T) -> T {
    if b > a || a.partial_cmp(&a).is_none() { b } else { a }
}

/// The smaller of two upper bounds; one that is not a number says nothing.
pub(crate) fn smaller<T: Number>(a: T, b: T) -> T {
    if b < a || a.partial_cmp(&a).is_none() { b } else { a }
}

/// The least of some numbers, NaN if one is.
pub(crate) fn least<T: Number>(values: impl IntoIterator<Item = T>) -> T {
    let mut values = values.into_iter();
    let first = values.next().expect("there is at least one");
    values.fold(first, |a, b| if b < a || b.partial_cmp(&b).is_none() { b } else { a })
}

/// The greatest of some numbers, NaN if one is.
pub(crate) fn greatest<T: Number>(values: impl IntoIterator<Item = T>) -> T {
    least(values.into_iter().map(|x| x.negated())).negated()
}

#[cfg(test)]
mod tests;
