//! Products of two elements, and planes around them.

use super::cell::Cell;
use super::number::{Number, greatest, least};

/// Which element of each input an element of a product reads.
pub(crate) type Places = Vec<[usize; 2]>;

/// `slopes[0]·x + slopes[1]·y + offset`, below and above `x·y`.
#[derive(Debug, Clone)]
pub(crate) struct Plane<T> {
    pub slopes: [T; 2],
    pub below: T,
    pub above: T,
}

/// The places of a product of two shapes that broadcast.
pub(super) fn places(shapes: &[&[usize]], output: &[usize]) -> Places {
    let place = |flat: usize, shape: &[usize]| {
        let (mut rest, mut stride, mut at) = (flat, 1, 0);
        for axis in (0..output.len()).rev() {
            let index = rest % output[axis];
            rest /= output[axis];
            let size = (axis + shape.len()).checked_sub(output.len()).map_or(1, |own| shape[own]);
            if size > 1 {
                at += index * stride;
                stride *= size;
            }
        }
        at
    };
    let len = output.iter().product();
    (0..len).map(|flat| [place(flat, shapes[0]), place(flat, shapes[1])]).collect()
}

impl<T: Number> Plane<T> {
    /// At least the absolute values of its terms together.
    pub fn weight(&self, sizes: [&T; 2]) -> T {
        let offset = greatest([self.below.size(), self.above.size()]);
        let terms = [0, 1].map(|slot| self.slopes[slot].size().times_up(sizes[slot]));
        terms[0].plus_up(&terms[1]).plus_up(&offset)
    }
}

/// The least and the greatest product, and the planes whose slopes are those of the middle: what
/// `x·y` differs from a plane by is least and greatest at a corner.
pub(super) fn bounds<T: Number>(x: (&T, &T), y: (&T, &T)) -> (T, T, Plane<T>) {
    let corners = [(x.0, y.0), (x.0, y.1), (x.1, y.0), (x.1, y.1)];
    let low = least(corners.map(|(x, y)| x.times_down(y)));
    let high = greatest(corners.map(|(x, y)| x.times_up(y)));
    let middle = |(l, u): (&T, &T)| 0.5 * l.below() + 0.5 * u.above();
    let (a, b) = (middle(y), middle(x));
    if !(a.is_finite() && b.is_finite()) {
        let slopes = [T::zero(), T::zero()];
        return (low.clone(), high.clone(), Plane { slopes, below: low, above: high });
    }
    let (a, b) = (T::of(a), T::of(b));
    let below =
        corners.map(|(x, y)| x.times_down(y).minus_down(&a.times_up(x)).minus_down(&b.times_up(y)));
    let above =
        corners.map(|(x, y)| x.times_up(y).minus_up(&a.times_down(x)).minus_up(&b.times_down(y)));
    (low, high, Plane { slopes: [a, b], below: least(below), above: greatest(above) })
}

/// Bounds, weights and planes of all elements.
pub(super) fn cells<T: Number>(
    places: &Places,
    inputs: [&Cell<T>; 2],
) -> (Vec<T>, Vec<T>, Vec<T>, Vec<Plane<T>>) {
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    let (mut weight, mut planes) = (Vec::new(), Vec::new());
    for &[i, j] in places {
        let (low, high, plane) = bounds(
            (&inputs[0].lower[i], &inputs[0].upper[i]),
            (&inputs[1].lower[j], &inputs[1].upper[j]),
        );
        lower.push(low);
        upper.push(high);
        weight.push(plane.weight([&inputs[0].size[i], &inputs[1].size[j]]));
        planes.push(plane);
    }
    (lower, upper, weight, planes)
}

#[cfg(test)]
mod tests {
    use num_rational::BigRational;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In exact terms, for both arithmetics.
        #[test]
        fn planes_hold(
            x in -3.0..3.0f64, y in -3.0..3.0f64, wide in 0.0..2.0f64, high in 0.0..2.0f64,
            s in 0.0..1.0f64, t in 0.0..1.0f64,
        ) {
            let (xs, ys) = ((x, x + wide), (y, y + high));
            let of = BigRational::of;
            let plain = bounds((&xs.0, &xs.1), (&ys.0, &ys.1));
            let exact = bounds((&of(xs.0), &of(xs.1)), (&of(ys.0), &of(ys.1)));
            let x = of((xs.0 + s * wide).clamp(xs.0, xs.1));
            let y = of((ys.0 + t * high).clamp(ys.0, ys.1));
            let z = &x * &y;
            let plain = (of(plain.0), of(plain.1), Plane {
                slopes: plain.2.slopes.map(of), below: of(plain.2.below), above: of(plain.2.above),
            });
            for (low, high, plane) in [plain, exact] {
                prop_assert!(low <= z && z <= high);
                let line = &plane.slopes[0] * &x + &plane.slopes[1] * &y;
                prop_assert!(&line + &plane.below <= z && z <= &line + &plane.above);
            }
        }
    }

    #[test]
    fn shapes_broadcast() {
        assert_eq!(
            places(&[&[2, 1], &[3]], &[2, 3]),
            [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
        );
        assert_eq!(places(&[&[1], &[2]], &[2]), [[0, 0], [0, 1]]);
    }
}
