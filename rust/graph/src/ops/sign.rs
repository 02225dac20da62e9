//! Sign.

use aisec_numeric::Scalar;
use aisec_numeric::rounding::{mul_down, sub_up};

use super::Build;
use crate::operator::{Interval, Operator, Relaxation, Site};
use crate::spec::Parts;

/// `y = 1` for positive `x`, -1 for negative, 0 at zero. Its derivative is taken to be zero.
#[derive(Debug, Clone)]
pub struct Sign;

impl Build for Sign {
    fn build(_parts: &mut Parts) -> Result<Self, String> {
        Ok(Self)
    }
}

fn sign<T: Scalar>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        x // zero, or NaN
    }
}

/// Slope and offset of a line above: 1, or where that leaves less area the line through the left
/// end and the step. It must reach -1 at the left end and, as it rises, 1 at zero.
fn above(l: f64, u: f64) -> (f64, f64) {
    if !(l < 0.0 && u >= 0.0 && u < -l) || l.is_infinite() {
        return (0.0, sign(u));
    }
    let slope = 2.0 / -l;
    if slope.is_infinite() {
        return (0.0, sign(u).max(0.0));
    }
    (slope, sub_up(-1.0, mul_down(slope, l)).max(1.0))
}

/// The same below, by symmetry.
fn below(l: f64, u: f64) -> (f64, f64) {
    let (slope, offset) = above(-u, -l);
    (slope, -offset)
}

impl Operator for Sign {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        Ok(inputs[0].to_vec())
    }

    fn forward<T: Scalar>(&self, _site: &Site, inputs: &[&[T]], output: &mut [T]) {
        output.iter_mut().zip(inputs[0]).for_each(|(y, &x)| *y = sign(x));
    }

    fn vjp<T: Scalar>(
        &self,
        _site: &Site,
        _inputs: &[&[T]],
        _output: &[T],
        _cotangent: &[T],
        _grads: &mut [&mut [T]],
    ) {
    }

    fn interval(&self, _site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]) {
        lower.iter_mut().zip(inputs[0].lower).for_each(|(y, &x)| *y = sign(x));
        upper.iter_mut().zip(inputs[0].upper).for_each(|(y, &x)| *y = sign(x));
    }

    fn is_affine(&self) -> bool {
        false
    }

    fn relax(&self, _site: &Site, inputs: &[Interval]) -> Relaxation {
        let ends = || inputs[0].lower.iter().zip(inputs[0].upper);
        let (lower_slope, lower_offset) = ends().map(|(&l, &u)| below(l, u)).unzip();
        let (upper_slope, upper_offset) = ends().map(|(&l, &u)| above(l, u)).unzip();
        Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset }
    }

    fn mark_loose(&self, _site: &Site, input: Interval, loose: &mut [bool]) {
        for (loose, (&l, &u)) in loose.iter_mut().zip(input.lower.iter().zip(input.upper)) {
            *loose |= !(l > 0.0 || u < 0.0);
        }
    }

    fn is_separable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use aisec_numeric::rounding::{add_down, add_up, mul_up};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

        #[test]
        fn lines_hold(
            l in prop_oneof![-2.0..2.0f64, -1e-300..1e-300f64, -1e9..1e9f64, Just(0.0)],
            width in prop_oneof![Just(0.0), 0.0..1e-300f64, 0.0..4.0f64, 0.0..1e10f64],
            t in 0.0..1.0f64,
        ) {
            let u = l + width;
            let ((ls, lo), (us, uo)) = (below(l, u), above(l, u));
            for x in [l, u, 0.0, 5e-324, -5e-324, (l + t * width).clamp(l, u)] {
                if l <= x && x <= u {
                    prop_assert!(add_down(mul_down(ls, x), lo) <= sign(x), "{} on [{}, {}]", x, l, u);
                    prop_assert!(add_up(mul_up(us, x), uo) >= sign(x), "{} on [{}, {}]", x, l, u);
                }
            }
        }
    }

    #[test]
    fn known_lines() {
        assert_eq!((below(1.0, 2.0), above(1.0, 2.0)), ((0.0, 1.0), (0.0, 1.0)));
        assert_eq!((below(-2.0, -1.0), above(-2.0, -1.0)), ((0.0, -1.0), (0.0, -1.0)));
        assert_eq!((below(-2.0, 1.0), above(-2.0, 1.0)), ((0.0, -1.0), (1.0, 1.0)));
        assert_eq!((below(-1.0, 2.0), above(-1.0, 2.0)), ((1.0, -1.0), (0.0, 1.0)));
        assert!(above(f64::NAN, 1.0).1 == 1.0 && above(-1.0, f64::NAN).1.is_nan());
    }
}
