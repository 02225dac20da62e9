//! Projections of one float32 sample onto a norm ball intersected with the input box, such that
//! the distance computed in float64 never exceeds the radius: what an attack returns must pass a
//! check without tolerance.
//!
//! `x` is the clean sample and must lie in the box `[lower, upper]`, `z` the point to project in
//! place; all slices have the same length. `eps` is a finite float64 that does not exceed the
//! exact radius. Coordinates of `z` that are NaN return to `x`, infinite ones count as the
//! largest float32, so the result is always a finite point of the set.

use crate::rounding::{add_down, add_up, gamma, mul_up, sqrt_up, sub_up, to_f32_down, to_f32_up};

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
    clip(x, lower, upper, z, |delta| delta);
    if l2_distance_up(x, z) <= limit {
        return;
    }
    shrink(x, lower, upper, z, limit, l2_distance_up);
}

/// Scratch memory of [`l1_box`].
#[derive(Debug, Default)]
pub struct L1Workspace {
    /// (threshold, change of the slope) where the shrunk sum bends.
    bends: Vec<(f64, f64)>,
}

/// Projects `z` onto the L1 ball intersected with the box exactly (Croce and Hein, "Mind the box",
/// 2021): with `u = z - x` and `r_i` the room of coordinate `i` in the direction of `u_i`, the
/// result is `x_i + sign(u_i)·min(r_i, max(|u_i| - λ, 0))` for the least `λ >= 0` whose sum of
/// moves is at most `eps`. Costs a sort.
pub fn l1_box(
    x: &[f32],
    eps: f64,
    lower: &[f32],
    upper: &[f32],
    z: &mut [f32],
    workspace: &mut L1Workspace,
) {
    let limit = safe_radius(eps, x.len());
    let room = |i: usize, delta: f64| {
        let x = f64::from(x[i]);
        if delta < 0.0 { x - f64::from(lower[i]) } else { f64::from(upper[i]) - x }
    };
    let moves = |i: usize, z: f32| {
        let delta = offset(x[i], z);
        (delta.abs(), room(i, delta))
    };

    // The sum of moves falls from its value at λ = 0; coordinate i bends it downwards at
    // |u_i| - r_i (it leaves the box's wall) and upwards at |u_i| (it has arrived at x_i).
    let bends = &mut workspace.bends;
    bends.clear();
    let (mut sum, mut slope) = (0.0, 0.0);
    for (i, &z) in z.iter().enumerate() {
        let (size, room) = moves(i, z);
        let moved = size.min(room);
        if moved > 0.0 {
            sum += moved;
            if size > room {
                bends.push((size - room, 1.0));
            } else {
                slope += 1.0;
            }
            bends.push((size, -1.0));
        }
    }
    let mut threshold = 0.0;
    if sum > limit {
        bends.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut at, mut left) = (0.0, sum);
        let mut found = None;
        for &(bend, change) in bends.iter() {
            let next = left - slope * (bend - at);
            if next <= limit {
                found = Some(if slope > 0.0 { at + (left - limit) / slope } else { bend });
                break;
            }
            (at, left) = (bend, next);
            slope += change;
        }
        threshold = found.unwrap_or(at);
        // The running sum has rounded once a bend; solve the linear piece again from scratch.
        let (mut fixed, mut free, mut count) = (0.0, 0.0, 0.0);
        for (i, &z) in z.iter().enumerate() {
            let (size, room) = moves(i, z);
            if size - threshold >= room {
                fixed += room;
            } else if size > threshold {
                free += size;
                count += 1.0;
            }
        }
        if count > 0.0 {
            threshold = ((fixed + free - limit) / count).max(0.0);
        }
    }
    clip(x, lower, upper, z, |delta| (delta.abs() - threshold).max(0.0).copysign(delta));
    if l1_distance_up(x, z) > eps {
        shrink(x, lower, upper, z, limit, l1_distance_up);
    }
}

/// `z - x` with the oddities of float32 removed.
#[inline]
fn offset(x: f32, z: f32) -> f64 {
    if z.is_nan() { 0.0 } else { f64::from(z.clamp(-f32::MAX, f32::MAX)) - f64::from(x) }
}

/// Replaces `z` by `x + moved(z - x)`, rounded towards `x` and clipped to the box.
#[inline]
fn clip(x: &[f32], lower: &[f32], upper: &[f32], z: &mut [f32], moved: impl Fn(f64) -> f64) {
    for (i, z) in z.iter_mut().enumerate() {
        let delta = offset(x[i], *z);
        let wanted = moved(delta);
        let target = if wanted == delta && z.is_finite() {
            *z
        } else {
            let sum = f64::from(x[i]) + wanted;
            if wanted < 0.0 { to_f32_up(sum).min(x[i]) } else { to_f32_down(sum).max(x[i]) }
        };
        *z = target.max(lower[i]).min(upper[i]);
    }
}

/// Scales `z - x` down until its length is at most `limit`. One pass is nearly always enough;
/// the next ones shrink faster and faster and the last resort is `x` itself.
fn shrink(
    x: &[f32],
    lower: &[f32],
    upper: &[f32],
    z: &mut [f32],
    limit: f64,
    length: impl Fn(&[f32], &[f32]) -> f64,
) {
    let mut slack = f64::EPSILON;
    while slack < 1.0 {
        let scale = limit / length(x, z) * (1.0 - slack);
        clip(x, lower, upper, z, |delta| delta * scale);
        if length(x, z) <= limit {
            return;
        }
        slack *= 16.0;
    }
    z.copy_from_slice(x);
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
