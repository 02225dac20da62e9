//! Projections of one float32 sample onto a norm ball intersected with the input box, such that
//! the distance computed in float64 never exceeds the radius: what an attack returns must pass a
//! check without tolerance.
//!
//! `x` is the clean sample and must lie in the box `[lower, upper]`, `z` the point to project in
//! place; all slices have the same length. `eps` is a finite float64 that does not exceed the
//! exact radius. Coordinates of `z` that are NaN return to `x`, infinite ones count as the
//! largest float32, so the result is always a finite point of the set.

use crate::rounding::{add_down, add_up, gamma, mul_up, sqrt_up, sub_up, to_f32_down, to_f32_up};
use crate::vector::{LANES, map, sum_of, vectorized};

/// The float32 interval of the coordinate `x` within `eps`, intersected with `[lower, upper]`.
#[inline]
pub fn linf_range(x: f32, eps: f64, lower: f32, upper: f32) -> (f32, f32) {
    let x = f64::from(x);
    (to_f32_up(sub_up(x, eps)).max(lower), to_f32_down(add_down(x, eps)).min(upper))
}

/// Clips `z` into the Linf ball and the box: the exact projection.
pub fn linf(x: &[f32], eps: f64, lower: &[f32], upper: &[f32], z: &mut [f32]) {
    for (i, z) in z.iter_mut().enumerate() {
        let (low, high) = linf_range(x[i], eps, lower[i], upper[i]);
        *z = if z.is_nan() { x[i] } else { z.max(low).min(high) };
    }
}

/// Scales `z - x` into the L2 ball, then clips to the box. The clip only shortens `z - x`, as
/// `x` lies in the box.
pub fn l2(x: &[f32], eps: f64, lower: &[f32], upper: &[f32], z: &mut [f32]) {
    let limit = safe_radius(eps, x.len());
    let square = |sum, (&x, &z)| {
        let delta = offset(x, z);
        add_up(sum, mul_up(delta, delta))
    };
    let length = sqrt_up(x.iter().zip(&*z).fold(0.0, square));
    let scale = if length > limit { safe_radius(limit, x.len()) / length } else { 1.0 };
    clip(x, lower, upper, z, |delta| delta * scale);
    shrink(x, lower, upper, z, limit, l2_distance_up);
}

/// Scratch memory of [`l1_box`].
#[derive(Debug, Default)]
pub struct L1Workspace {
    /// How far each coordinate wants to move, and how far it can.
    size: Vec<f64>,
    room: Vec<f64>,
}

/// Projects `z` onto the L1 ball intersected with the box exactly (Croce and Hein, "Mind the box",
/// 2021): with `u = z - x` and `r_i` the room of coordinate `i` in the direction of `u_i`, the
/// result is `x_i + sign(u_i)·min(r_i, max(|u_i| - λ, 0))` for the least `λ >= 0` whose sum of
/// moves is at most `eps`. No sort: a few vectorised passes.
pub fn l1_box(
    x: &[f32],
    eps: f64,
    lower: &[f32],
    upper: &[f32],
    z: &mut [f32],
    workspace: &mut L1Workspace,
) {
    let limit = safe_radius(eps, x.len());
    let L1Workspace { size, room } = workspace;
    size.resize(x.len(), 0.0);
    room.resize(x.len(), 0.0);
    measure(x, lower, upper, z, size, room);
    let (sum, _) = moved(size, room, 0.0);
    let threshold =
        if sum > limit { threshold(size, room, safe_radius(limit, x.len()), limit) } else { 0.0 };
    clip(
        x,
        lower,
        upper,
        z,
        #[inline(always)]
        |delta| (delta.abs() - threshold).max(0.0).copysign(delta),
    );
    // Nearly always enough; the bound covers this sum's rounding and that of outward additions.
    let sum = sum_of(x, z, |x, z| (f64::from(z) - f64::from(x)).abs());
    if sum * (1.0 + 8.0 * gamma(x.len() + 4)) > eps {
        shrink(x, lower, upper, z, limit, l1_distance_up);
    }
}

/// Writes `|z - x|` and how far the box lets each coordinate move in that direction.
fn measure(x: &[f32], lower: &[f32], upper: &[f32], z: &[f32], size: &mut [f64], room: &mut [f64]) {
    vectorized(
        #[inline(always)]
        || {
            let points = x.iter().zip(z);
            for ((&x, &z), size) in points.clone().zip(size) {
                *size = offset(x, z).abs();
            }
            for (((&x, &z), (&low, &high)), room) in points.zip(lower.iter().zip(upper)).zip(room) {
                let wall = if z < x { low } else { high };
                *room = (f64::from(wall) - f64::from(x)).abs();
            }
        },
    );
}

/// The sum of the moves shrunk by `threshold`, and how many of them would change with it.
fn moved(size: &[f64], room: &[f64], threshold: f64) -> (f64, f64) {
    vectorized(
        #[inline(always)]
        || {
            let term = |size: f64, room: f64| {
                let left = size - threshold;
                let left = if left > 0.0 { left } else { 0.0 };
                let free = if left > 0.0 && left < room { 1.0 } else { 0.0 };
                (if left < room { left } else { room }, free)
            };
            let (mut sums, mut frees) = ([0.0f64; LANES], [0.0f64; LANES]);
            let (sizes, size_rest) = size.as_chunks::<LANES>();
            let (rooms, room_rest) = room.as_chunks::<LANES>();
            for (size, room) in sizes.iter().zip(rooms) {
                for lane in 0..LANES {
                    let (sum, free) = term(size[lane], room[lane]);
                    sums[lane] += sum;
                    frees[lane] += free;
                }
            }
            let (mut sum, mut free) = (sums.iter().sum(), frees.iter().sum());
            for (&size, &room) in size_rest.iter().zip(room_rest) {
                let (more, one) = term(size, room);
                sum += more;
                free += one;
            }
            (sum, free)
        },
    )
}

/// More passes than a search needs whose every other one halves an interval of float64.
const MOST_PASSES: usize = 2500;

/// The threshold at which the sum of moves is `target`, or above it at most `limit`.
///
/// The sum falls with the threshold, piecewise linearly: convexly where moves arrive at zero,
/// concavely where they leave a wall. Newton's method ends on the right piece; where it neither
/// halves the excess nor the slope, its interval is halved instead.
fn threshold(size: &[f64], room: &[f64], target: f64, limit: f64) -> f64 {
    let (mut low, mut high) = (0.0, largest(size));
    let mut at = 0.0;
    let (mut last_excess, mut last_free) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..MOST_PASSES {
        let (sum, free) = moved(size, room, at);
        let excess = sum - target;
        if excess.abs() <= limit - target {
            return at;
        }
        if excess > 0.0 {
            low = at
        } else {
            high = at
        }
        let slow = excess.abs() > 0.5 * last_excess && free > 0.5 * last_free;
        (last_excess, last_free) = (excess.abs(), free);
        let newton = at + excess / free;
        let middle = low + 0.5 * (high - low);
        at = if !slow && newton > low && newton < high { newton } else { middle };
        if at <= low || at >= high {
            break;
        }
    }
    high
}

/// The largest of sizes that are not negative.
fn largest(size: &[f64]) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let mut lanes = [0.0f64; LANES];
            let (chunks, rest) = size.as_chunks::<LANES>();
            for chunk in chunks {
                for lane in 0..LANES {
                    lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
                }
            }
            rest.iter().chain(&lanes).fold(0.0, |most, &size| f64::max(most, size))
        },
    )
}

/// `z - x` with the oddities of float32 removed.
#[inline(always)]
fn offset(x: f32, z: f32) -> f64 {
    if z.is_nan() { 0.0 } else { f64::from(z.clamp(-f32::MAX, f32::MAX)) - f64::from(x) }
}

/// Replaces `z` by `x + moved(z - x)`, rounded towards `x` and clipped to the box.
#[inline(always)]
fn clip(x: &[f32], lower: &[f32], upper: &[f32], z: &mut [f32], moved: impl Fn(f64) -> f64) {
    map(
        z,
        [x, lower, upper],
        #[inline(always)]
        |z, [x, low, high]| {
            let delta = offset(x, z);
            let wanted = moved(delta);
            let up = wanted > 0.0;
            let end = f64::from(x) + wanted;
            let near = end as f32;
            let beyond = if up { f64::from(near) > end } else { f64::from(near) < end };
            let near = if beyond { neighbour(near, up) } else { near };
            // Rounding may have crossed `x`.
            let crossed = if up { near < x } else { near > x };
            let near = if crossed { x } else { near };
            let keep = wanted == delta && z.abs() < f32::INFINITY;
            let target = if keep { z } else { near };
            let target = if target < low { low } else { target };
            if target > high { high } else { target }
        },
    );
}

/// The next float32 below (or above) a finite one, without branches.
#[inline(always)]
fn neighbour(value: f32, below: bool) -> f32 {
    let bits = value.to_bits();
    let outward = (value < 0.0) == below;
    let next = if outward { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let least = if below { 1 << 31 | 1 } else { 1 };
    f32::from_bits(if value == 0.0 { least } else { next })
}

/// Scales `z - x` down until its length is at most `limit`: nearly always it is already. Each
/// pass shrinks faster, and the last resort is `x` itself.
fn shrink(
    x: &[f32],
    lower: &[f32],
    upper: &[f32],
    z: &mut [f32],
    limit: f64,
    length: impl Fn(&[f32], &[f32]) -> f64,
) {
    let mut slack = f64::EPSILON;
    loop {
        let current = length(x, z);
        if current <= limit {
            return;
        }
        if slack >= 1.0 {
            return z.copy_from_slice(x);
        }
        let scale = limit / current * (1.0 - slack);
        clip(x, lower, upper, z, |delta| delta * scale);
        slack *= 16.0;
    }
}

/// Slightly less than `eps`, so that a check that rounds every operation outward still passes.
fn safe_radius(eps: f64, len: usize) -> f64 {
    eps * (1.0 - 4.0 * gamma(len + 4))
}

/// An upper bound of the largest coordinate of `|z - x|`.
pub fn linf_distance_up(x: &[f32], z: &[f32]) -> f64 {
    distance(x, z, f64::max)
}

/// An upper bound of the Euclidean distance.
pub fn l2_distance_up(x: &[f32], z: &[f32]) -> f64 {
    sqrt_up(distance(x, z, |sum, delta| add_up(sum, mul_up(delta, delta))))
}

/// An upper bound of the sum of `|z - x|`.
pub fn l1_distance_up(x: &[f32], z: &[f32]) -> f64 {
    distance(x, z, add_up)
}

#[inline]
fn distance(x: &[f32], z: &[f32], accumulate: impl Fn(f64, f64) -> f64) -> f64 {
    x.iter().zip(z).fold(0.0, |sum, (&x, &z)| {
        let (x, z) = (f64::from(x), f64::from(z));
        accumulate(sum, if z < x { sub_up(x, z) } else { sub_up(z, x) })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    struct Case {
        x: Vec<f32>,
        z: Vec<f32>,
        lower: Vec<f32>,
        upper: Vec<f32>,
        eps: f64,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let value = || prop_oneof![8 => 0.0f32..=1.0, 1 => Just(0.0), 1 => Just(1.0)];
        let moved = prop_oneof![
            12 => -0.5f32..1.5,
            2 => (0i8..5).prop_map(|k| f32::from(k) / 4.0), // ties
            1 => Just(f32::NAN),
            1 => Just(f32::INFINITY),
            1 => Just(f32::MIN),
            1 => Just(1e-40f32),
        ];
        let radius = prop_oneof![0.0..3.0f64, Just(0.0), Just(8.0 / 255.0), 1e-9..1e-6f64];
        (prop::collection::vec((value(), moved, any::<bool>()), 0..20), radius).prop_map(
            |(points, eps)| {
                let (low, high) = (0.0f32, 1.0f32);
                Case {
                    x: points.iter().map(|p| p.0).collect(),
                    z: points.iter().map(|p| p.1).collect(),
                    lower: points.iter().map(|p| if p.2 { p.0 } else { low }).collect(),
                    upper: points.iter().map(|_| high).collect(),
                    eps,
                }
            },
        )
    }

    fn in_box(case: &Case, z: &[f32]) -> bool {
        (0..z.len()).all(|i| case.lower[i] <= z[i] && z[i] <= case.upper[i])
    }

    /// `z - x` as the projections read it.
    fn offsets(case: &Case) -> Vec<f64> {
        case.x.iter().zip(&case.z).map(|(&x, &z)| offset(x, z)).collect()
    }

    proptest! {
           #![proptest_config(ProptestConfig::with_cases(2000))]

           #[test]
           fn linf_is_the_nearest_point(case in cases()) {
               let mut z = case.z.clone();
               linf(&case.x, case.eps, &case.lower, &case.upper, &mut z);
               prop_assert!(in_box(&case, &z) && linf_distance_up(&case.x, &z) <= case.eps);
               for (i, &p) in z.iter().enumerate().filter(|&(i, _)| !case.z[i].is_nan()) {
                   // Every neighbour towards the original leaves the set.
                   let q = if p < case.z[i] { p.next_up() } else { p.next_down() };
                   let outside = q < case.lower[i]
                       || q > case.upper[i]
                       || linf_distance_up(&[case.x[i]], &[q]) > case.eps;
                   prop_assert!(p == case.z[i] || outside);
               }
           }

           #[test]
           fn l2_stays_inside_and_close_to_the_formula(case in cases()) {
               let mut z = case.z.clone();
               l2(&case.x, case.eps, &case.lower, &case.upper, &mut z);
               prop_assert!(in_box(&case, &z) && l2_distance_up(&case.x, &z) <= case.eps);
               let delta = offsets(&case);
               let length = delta.iter().map(|d| d * d).sum::<f64>().sqrt();
               let scale = if length > case.eps { case.eps / length } else { 1.0 };
               for i in 0..z.len() {
                   let x = f64::from(case.x[i]);
                   let expected = (x + delta[i] * scale)
                       .clamp(f64::from(case.lower[i]), f64::from(case.upper[i]));
                   prop_assert!((f64::from(z[i]) - expected).abs() <= 1e-7, "{i} {expected} {z:?}");
               }
               let once = z.clone();
               l2(&case.x, case.eps, &case.lower, &case.upper, &mut z);
               prop_assert_eq!(once, z);
           }

           /// The multiplier by bisection instead of by sorting.
           #[test]
           fn l1_matches_bisection(case in cases()) {
               let mut z = case.z.clone();
               let mut workspace = L1Workspace::default();
               l1_box(&case.x, case.eps, &case.lower, &case.upper, &mut z, &mut workspace);
               prop_assert!(in_box(&case, &z) && l1_distance_up(&case.x, &z) <= case.eps);
               let delta = offsets(&case);
               let moved = |threshold: f64| -> Vec<f64> {
                   delta.iter().enumerate().map(|(i, &d)| {
                       let x = f64::from(case.x[i]);
                       let room = if d < 0.0 { x - f64::from(case.lower[i]) }
                           else { f64::from(case.upper[i]) - x };
                       (d.abs() - threshold).max(0.0).min(room).copysign(d)
                   }).collect()
               };
               let total = |m: &[f64]| m.iter().map(|m| m.abs()).sum::<f64>();
               let (mut low, mut high) = (0.0f64, 4e38f64);
               for _ in 0..400 {
                   let geometric = high > 4.0 * low + 1.0;
    let middle = if geometric { (high * (low + 1e-3)).sqrt() } else { 0.5 * (low + high) };
                   if total(&moved(middle)) > case.eps { low = middle } else { high = middle }
               }
               let expected = if total(&moved(0.0)) <= case.eps { moved(0.0) } else { moved(high) };
               // Infinite coordinates give thresholds around 1e38, where no bisection resolves 1.
               let huge = delta.iter().any(|d| d.abs() > 1e6);
               for i in 0..z.len() {
                   let got = f64::from(z[i]) - f64::from(case.x[i]);
                   prop_assert!(huge || (got - expected[i]).abs() <= 2e-7, "{i} {got} {expected:?}");
               }
               let once = z.clone();
               l1_box(&case.x, case.eps, &case.lower, &case.upper, &mut z, &mut workspace);
               prop_assert_eq!(once, z);
           }

           /// `p` is the projection of `u` onto a convex set exactly when `(u-p)·(y-p) <= 0` for all
           /// `y` of the set.
           #[test]
           fn l1_satisfies_the_variational_inequality(mut case in cases(), other in prop::collection::vec(-2.0f32..2.0, 20)) {
               case.z.iter_mut().for_each(|z| *z = if z.is_nan() { 0.0 } else { z.clamp(-9.0, 9.0) });
               let mut workspace = L1Workspace::default();
               let mut p = case.z.clone();
               l1_box(&case.x, case.eps, &case.lower, &case.upper, &mut p, &mut workspace);
               let mut y = other[..p.len()].to_vec();
               l1_box(&case.x, case.eps, &case.lower, &case.upper, &mut y, &mut workspace);
               let product: f64 = (0..p.len()).map(|i| {
                   let p = f64::from(p[i]);
                   (f64::from(case.z[i]) - p) * (f64::from(y[i]) - p)
               }).sum();
               prop_assert!(product <= 1e-5, "{product}");
           }
       }

    #[test]
    fn l1_by_hand() {
        // u = (0.9, 0.5, -0.1); the wall stops coordinate 0 after 0.25.
        let (x, lower, upper) = ([0.75f32, 0.25, 0.5], [0.0f32; 3], [1.0f32; 3]);
        let mut z = [1.65f32, 0.75, 0.4];
        l1_box(&x, 0.5, &lower, &upper, &mut z, &mut L1Workspace::default());
        // Sum of moves 0.25 + (0.5 - λ) + max(0.1 - λ, 0) = 0.5 at λ = 0.25.
        for (got, expected) in z.iter().zip([1.0, 0.5, 0.5]) {
            assert!((got - expected).abs() < 1e-6, "{z:?}");
        }
    }

    #[test]
    fn high_dimension_and_tiny_radius() {
        let n = 3072;
        let x: Vec<f32> = (0..n).map(|i| (i % 7) as f32 / 7.0).collect();
        let far: Vec<f32> = (0..n).map(|i| ((i * 31) % 11) as f32 / 5.0 - 0.5).collect();
        let (lower, upper) = (vec![0.0; n], vec![1.0; n]);
        for eps in [1e-7, 0.01, 0.5, 12.0] {
            let (mut two, mut one) = (far.clone(), far.clone());
            l2(&x, eps, &lower, &upper, &mut two);
            l1_box(&x, eps, &lower, &upper, &mut one, &mut L1Workspace::default());
            assert!(l2_distance_up(&x, &two) <= eps && l1_distance_up(&x, &one) <= eps);
            if eps == 12.0 {
                assert!(l1_distance_up(&x, &one) > eps * (1.0 - 1e-4));
            }
        }
    }
}
