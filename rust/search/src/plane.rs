//! The shortest move from a point of a box to a plane, without leaving the box.

use crate::Norm;
use crate::region::{sum_of, vectorized};

/// Buffers that moves share.
#[derive(Debug, Default, Clone)]
pub struct PlaneWorkspace {
    /// `|normal|`, and how far each coordinate can go towards the plane.
    weight: Vec<f32>,
    room: Vec<f32>,
    order: Vec<u32>,
}

/// Newton steps after which rounding alone is left; each passes a breakpoint, and few are needed.
const MOST_STEPS: usize = 100;

/// Writes the move of least norm (`L0` counts as `L1`, `Box` as `Linf`) that takes `x` to the
/// plane `normal·z = offset` and keeps it in `[lower, upper]`. A plane that misses the box is
/// approached as far as the box allows. Values of the normal that are not finite count as zero.
///
/// The optimum moves every coordinate towards the plane: by the same amount (Linf), in proportion
/// to the normal (L2), or one after another by descending weight (L1), each no further than its
/// wall. The common factor solves a concave piecewise linear equation, by Newton's method from
/// below, which ends on the right piece after finitely many steps.
pub fn move_to_plane(
    norm: Norm,
    x: &[f32],
    normal: &[f32],
    offset: f64,
    [lower, upper]: [&[f32]; 2],
    workspace: &mut PlaneWorkspace,
    delta: &mut [f32],
) {
    let finite = |w: f32| if w.is_finite() { w } else { 0.0 };
    let gap = sum_of(x, normal, |x, w| f64::from(x) * f64::from(finite(w))) - offset;
    let down = gap > 0.0;
    let PlaneWorkspace { weight, room, order } = workspace;
    weight.clear();
    weight.extend(normal.iter().map(|&w| finite(w).abs()));
    room.clear();
    // The value falls where a coordinate with a positive weight falls, and rises the other way.
    let rooms = x.iter().zip(normal).zip(lower.iter().zip(upper));
    room.extend(rooms.map(
        |((&x, &w), (&low, &high))| {
            if (w > 0.0) == down { x - low } else { high - x }
        },
    ));
    let gap = gap.abs();
    let towards = |size: f32, w: f32| if (w > 0.0) == down { -size } else { size };
    if norm == Norm::L1 || norm == Norm::L0 {
        delta.fill(0.0);
        return fill(gap, weight, room, order, |i, size| delta[i] = towards(size, normal[i]));
    }
    let proportional = norm == Norm::L2;
    let mut factor = 0.0;
    for _ in 0..MOST_STEPS {
        let (at_walls, slope) = pieces(weight, room, factor, proportional);
        let next = (gap - at_walls) / slope;
        // Without slope every coordinate that counts is at its wall.
        if slope == 0.0 || next <= factor || next.is_nan() {
            break;
        }
        factor = next;
    }
    let sizes = weight.iter().zip(&*room).zip(normal).zip(delta);
    for (((&w, &r), &normal), delta) in sizes {
        let size = if proportional { factor * f64::from(w) } else { factor };
        let size = size.min(f64::from(r)) as f32;
        *delta = if w == 0.0 { 0.0 } else { towards(size, normal) };
    }
}

/// What the coordinates that `factor` takes to their walls contribute, and how fast the others
/// do, in a fixed order of interleaved partial sums.
fn pieces(weight: &[f32], room: &[f32], factor: f64, proportional: bool) -> (f64, f64) {
    const LANES: usize = 16;
    let term = |w: f32, r: f32| {
        let (w, r) = (f64::from(w), f64::from(r));
        let share = if proportional { w } else { 1.0 };
        if factor * share < r { (0.0, w * share) } else { (w * r, 0.0) }
    };
    vectorized(
        #[inline(always)]
        || {
            let (mut walls, mut slopes) = ([0.0f64; LANES], [0.0f64; LANES]);
            let ((w_chunks, w_rest), (r_chunks, r_rest)) =
                (weight.as_chunks::<LANES>(), room.as_chunks::<LANES>());
            for (w, r) in w_chunks.iter().zip(r_chunks) {
                for lane in 0..LANES {
                    let (wall, slope) = term(w[lane], r[lane]);
                    walls[lane] += wall;
                    slopes[lane] += slope;
                }
            }
            for (lane, (&w, &r)) in w_rest.iter().zip(r_rest).enumerate() {
                let (wall, slope) = term(w, r);
                walls[lane] += wall;
                slopes[lane] += slope;
            }
            (walls.iter().sum(), slopes.iter().sum())
        },
    )
}

/// Moves the coordinates by descending weight, of equal ones the first, until `gap` is closed.
fn fill(
    mut gap: f64,
    weight: &[f32],
    room: &[f32],
    order: &mut Vec<u32>,
    mut set: impl FnMut(usize, f32),
) {
    order.clear();
    let useful = (0..weight.len()).filter(|&i| weight[i] > 0.0 && room[i] > 0.0);
    order.extend(useful.map(|i| i as u32));
    let larger = |a: &u32, b: &u32| weight[*b as usize].total_cmp(&weight[*a as usize]);
    order.sort_unstable_by(|a, b| larger(a, b).then(a.cmp(b)));
    for &i in &*order {
        let i = i as usize;
        let (w, r) = (f64::from(weight[i]), f64::from(room[i]));
        if gap <= 0.0 {
            return;
        }
        let size = (gap / w).min(r);
        set(i, size as f32);
        gap -= w * size;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(norm: Norm, delta: &[f32]) -> f64 {
        let sizes = delta.iter().map(|&d| f64::from(d.abs()));
        match norm {
            Norm::Linf => sizes.fold(0.0, f64::max),
            Norm::L2 => sizes.map(|d| d * d).sum::<f64>().sqrt(),
            _ => sizes.sum(),
        }
    }

    fn value(x: &[f32], w: &[f32]) -> f64 {
        x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
    }

    /// The lowest value of `normal·z` within `radius` of `x` in the unit box: the problem of the
    /// other side, which is solved coordinate by coordinate.
    fn lowest(norm: Norm, x: &[f32], w: &[f32], radius: f64) -> f64 {
        let room = |i: usize| f64::from(if w[i] > 0.0 { x[i] } else { 1.0 - x[i] });
        let weight = |i: usize| f64::from(w[i]).abs();
        let n = x.len();
        let gain: f64 = match norm {
            Norm::Linf => (0..n).map(|i| weight(i) * room(i).min(radius)).sum(),
            Norm::L2 => {
                // The moves are min(factor |w|, room); their length grows with the factor.
                let at = |factor: f64| (0..n).map(move |i| (factor * weight(i)).min(room(i)));
                let length = |factor: f64| at(factor).map(|d| d * d).sum::<f64>().sqrt();
                let (mut low, mut high) = (0.0, 1e9);
                for _ in 0..200 {
                    let middle = 0.5 * (low + high);
                    if length(middle) <= radius { low = middle } else { high = middle }
                }
                at(low).enumerate().map(|(i, d)| weight(i) * d).sum()
            }
            _ => {
                let mut order: Vec<usize> = (0..n).collect();
                order.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)));
                let mut left = radius;
                let mut sum = 0.0;
                for i in order {
                    let d = room(i).min(left);
                    left -= d;
                    sum += d * weight(i);
                }
                sum
            }
        };
        value(x, w) - gain
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// The move stays in the box, ends on the plane where the box meets it, and no shorter
        /// move reaches the plane: the lowest value within its length is the plane's.
        #[test]
        fn moves_are_feasible_and_shortest(
            x in prop::collection::vec(prop_oneof![6 => 0.0f32..=1.0, 1 => Just(0.0f32), 1 => Just(1.0f32)], 1..60),
            w in prop::collection::vec(prop_oneof![8 => -2.0f32..2.0, 1 => Just(0.0f32)], 60),
            part in 0.0f64..1.3,
        ) {
            let n = x.len();
            let w = &w[..n];
            let (low, high) = (vec![0.0; n], vec![1.0; n]);
            let bottom: f64 = w.iter().map(|&w| f64::from(w.min(0.0))).sum();
            let here = value(&x, w);
            let offset = here + part * (bottom - here);
            for norm in [Norm::Linf, Norm::L2, Norm::L1] {
                for flip in [1.0f32, -1.0] {
                    // Both signs of the normal describe the same plane.
                    let normal: Vec<f32> = w.iter().map(|w| flip * w).collect();
                    let mut delta = vec![7.0; n];
                    let workspace = &mut PlaneWorkspace::default();
                    let offset = f64::from(flip) * offset;
                    move_to_plane(norm, &x, &normal, offset, [&low, &high], workspace, &mut delta);
                    let z: Vec<f32> = x.iter().zip(&delta).map(|(x, d)| x + d).collect();
                    prop_assert!(z.iter().all(|z| (-1e-6..=1.000_001).contains(z)));
                    let reached = f64::from(flip) * value(&z, &normal);
                    let wanted = (f64::from(flip) * offset).max(bottom);
                    let scale = 1e-5 * (1.0 + n as f64);
                    prop_assert!((reached - wanted).abs() < scale, "{norm:?} {reached} {wanted}");
                    let least = lowest(norm, &x, w, size(norm, &delta) * (1.0 - 1e-5) - 1e-6);
                    prop_assert!(least > wanted - scale, "{norm:?} {least} {wanted}");
                    let shorter = lowest(norm, &x, w, size(norm, &delta) * 0.98 - 1e-3);
                    prop_assert!(
                        shorter > wanted || size(norm, &delta) < 2e-3 || part > 0.999,
                        "{norm:?}: a shorter move reaches the plane"
                    );
                }
            }
        }
    }

    #[test]
    fn by_hand() {
        let (low, high) = ([0.0; 3], [1.0; 3]);
        let (x, w) = ([0.5, 0.5, 0.9], [1.0, -2.0, 2.0]);
        // 0.5 - 1 + 1.8 = 1.3; the plane is 0.8 below.
        let moved = |norm| {
            let mut delta = [0.0; 3];
            let workspace = &mut PlaneWorkspace::default();
            move_to_plane(norm, &x, &w, 0.5, [&low, &high], workspace, &mut delta);
            delta
        };
        let close = |a: [f32; 3], b: [f32; 3]| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(moved(Norm::Linf), [-0.16, 0.16, -0.16]));
        assert!(close(moved(Norm::L2), [-0.8 / 9.0, 1.6 / 9.0, -1.6 / 9.0]));
        assert!(close(moved(Norm::L1), [0.0, 0.4, 0.0]));
    }

    #[test]
    fn odd_normals_move_nothing_or_to_the_walls() {
        let (low, high) = ([0.0; 2], [1.0; 2]);
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let moved = |w: [f32; 2], offset: f64| {
                let mut delta = [7.0; 2];
                let workspace = &mut PlaneWorkspace::default();
                move_to_plane(norm, &[0.25; 2], &w, offset, [&low, &high], workspace, &mut delta);
                delta
            };
            assert_eq!(moved([0.0, 0.0], 1.0), [0.0, 0.0], "{norm:?}");
            assert_eq!(moved([f32::NAN, f32::INFINITY], 1.0), [0.0, 0.0], "{norm:?}");
            assert_eq!(moved([1.0, -1.0], 5.0), [0.75, -0.25], "{norm:?}");
            assert_eq!(moved([1.0, f32::NAN], 1.0), [0.75, 0.0], "{norm:?}");
            assert_eq!(moved([1.0, 1.0], 0.5), [0.0, 0.0], "{norm:?}");
        }
    }
}
