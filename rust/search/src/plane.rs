//! The shortest move from a point of a box to a plane, without leaving the box.

use aisec_numeric::vector::{LANES, map, sum_of, vectorized};

use crate::Norm;

/// A normal as moves need it, and buffers that they share.
#[derive(Debug, Default, Clone)]
pub struct PlaneWorkspace {
    /// The normal in units of its largest value.
    weight: Vec<f32>,
    unit: f32,
    /// How far each coordinate can go towards the plane.
    room: Vec<f32>,
    order: Vec<u32>,
}

impl PlaneWorkspace {
    /// Prepares moves to planes with this normal.
    pub fn set_normal(&mut self, normal: &[f32]) {
        let Self { weight, unit, .. } = self;
        *unit = largest(normal);
        weight.resize(normal.len(), 0.0);
        let (unit, part) = (*unit, 1.0 / *unit);
        if part.is_normal() {
            set_weights(
                weight,
                normal,
                #[inline(always)]
                |w| w * part,
            );
        } else {
            set_weights(
                weight,
                normal,
                #[inline(always)]
                |w| w / unit,
            );
        }
    }
}

#[inline(always)]
fn set_weights(weight: &mut [f32], normal: &[f32], scaled: impl Fn(f32) -> f32) {
    map(
        weight,
        [normal],
        #[inline(always)]
        |_, [w]| if w.abs() < f32::INFINITY { scaled(w) } else { 0.0 },
    );
}

/// Newton steps after which rounding alone is left; each passes a breakpoint, and few are needed.
const MOST_STEPS: usize = 100;

/// Interleaved partial sums of a pass: enough of them that float32 sums stay accurate.
const WIDE: usize = 2 * LANES;

/// Writes the move of least norm (`L0` counts as `L1`, `Box` as `Linf`) that takes `x`, whose value
/// `normal·x` is `gap` above the plane's (below it where negative), onto the plane and keeps it in
/// `[lower, upper]`; returns the norm of the move. A plane that misses the box is approached as far
/// as the box allows. The normal is the one last given to the workspace, whose values count as zero
/// where they are not finite.
///
/// The optimum moves every coordinate towards the plane: by the same amount (Linf), in proportion
/// to the normal (L2), or one after another by descending weight (L1), each no further than its
/// wall. The common factor solves a concave piecewise linear equation, by Newton's method from
/// below, which ends on the right piece after finitely many steps; the weight from which on
/// coordinates move is bracketed by bisection. Nothing is sorted but what the bracket leaves.
pub fn move_to_plane(
    norm: Norm,
    x: &[f32],
    gap: f64,
    walls: [&[f32]; 2],
    workspace: &mut PlaneWorkspace,
    delta: &mut [f32],
) -> f64 {
    let PlaneWorkspace { weight, unit, room, order } = workspace;
    if *unit == 0.0 || gap.is_nan() {
        delta.fill(0.0);
        return 0.0;
    }
    let down = gap > 0.0;
    let gap = gap.abs() / f64::from(*unit);
    measure(x, weight, down, walls, room);
    match norm {
        Norm::Linf | Norm::Box => {
            let (factor, slope) = factor::<false>(gap, weight, room);
            let most = stretch::<false>(factor, weight, room, down, delta);
            // A coordinate short of its wall has moved by the factor.
            if slope > 0.0 { f64::from(factor) } else { most }
        }
        Norm::L2 => {
            let (factor, _) = factor::<true>(gap, weight, room);
            stretch::<true>(factor, weight, room, down, delta).sqrt()
        }
        Norm::L1 | Norm::L0 => fill(gap, weight, room, order, down, delta),
    }
}

/// The largest finite magnitude.
fn largest(values: &[f32]) -> f32 {
    vectorized(
        #[inline(always)]
        || {
            let mut lanes = [0.0f32; WIDE];
            let larger = |most: f32, value: f32| {
                let size = value.abs();
                if size > most && size < f32::INFINITY { size } else { most }
            };
            let (chunks, rest) = values.as_chunks::<WIDE>();
            for chunk in chunks {
                for lane in 0..WIDE {
                    lanes[lane] = larger(lanes[lane], chunk[lane]);
                }
            }
            let rest = rest.iter().fold(0.0, |most, &value| larger(most, value));
            lanes.iter().fold(rest, |most, &value| most.max(value))
        },
    )
}

/// The room towards the plane: the value falls where a coordinate with a positive weight falls, and
/// rises the other way.
fn measure(
    x: &[f32],
    weight: &[f32],
    down: bool,
    [lower, upper]: [&[f32]; 2],
    room: &mut Vec<f32>,
) {
    room.resize(x.len(), 0.0);
    map(
        room,
        [x, weight, lower, upper],
        #[inline(always)]
        |_, [x, w, low, high]| if (w > 0.0) == down { x - low } else { high - x },
    );
}

/// The common factor, and how fast the value still changes with it there.
fn factor<const PROPORTIONAL: bool>(gap: f64, weight: &[f32], room: &[f32]) -> (f32, f64) {
    let mut factor = 0.0f32;
    for _ in 0..MOST_STEPS {
        let (at_walls, slope) = pieces::<PROPORTIONAL>(weight, room, factor);
        let next = ((gap - at_walls) / slope) as f32;
        // Without slope every coordinate that counts is at its wall.
        if slope == 0.0 || next <= factor || next.is_nan() {
            return (factor, slope);
        }
        factor = next;
    }
    (factor, 1.0)
}

/// What the coordinates that `factor` takes to their walls contribute, and how fast the others do.
fn pieces<const PROPORTIONAL: bool>(weight: &[f32], room: &[f32], factor: f32) -> (f64, f64) {
    vectorized(
        #[inline(always)]
        || {
            let term = |w: f32, r: f32| {
                let w = w.abs();
                let share = if PROPORTIONAL { w } else { 1.0 };
                if factor * share < r { (0.0, w * share) } else { (w * r, 0.0) }
            };
            let (mut walls, mut slopes) = ([0.0f32; WIDE], [0.0f32; WIDE]);
            let (weights, weight_rest) = weight.as_chunks::<WIDE>();
            let (rooms, room_rest) = room.as_chunks::<WIDE>();
            for (w, r) in weights.iter().zip(rooms) {
                for lane in 0..WIDE {
                    let (wall, slope) = term(w[lane], r[lane]);
                    walls[lane] += wall;
                    slopes[lane] += slope;
                }
            }
            let (mut wall, mut slope) = (total(&walls), total(&slopes));
            for (&w, &r) in weight_rest.iter().zip(room_rest) {
                let (more, faster) = term(w, r);
                wall += f64::from(more);
                slope += f64::from(faster);
            }
            (wall, slope)
        },
    )
}

fn total(lanes: &[f32; WIDE]) -> f64 {
    lanes.iter().map(|&sum| f64::from(sum)).sum()
}

/// Writes the move by `factor`; returns its largest coordinate or, in proportion, the sum of
/// their squares.
fn stretch<const PROPORTIONAL: bool>(
    factor: f32,
    weight: &[f32],
    room: &[f32],
    down: bool,
    delta: &mut [f32],
) -> f64 {
    map(
        delta,
        [weight, room],
        #[inline(always)]
        |_, [w, r]| {
            let size = if PROPORTIONAL { factor * w.abs() } else { factor };
            let size = if size < r { size } else { r };
            let size = if w == 0.0 { 0.0 } else { size };
            if (w > 0.0) == down { -size } else { size }
        },
    );
    match PROPORTIONAL {
        true => sum_of(delta, delta, |d, _| f64::from(d) * f64::from(d)),
        false => f64::from(largest(delta)),
    }
}

/// Halvings of the weight from which on coordinates are thought to move.
const HALVINGS: usize = 24;
/// Halvings of the bracket around it.
const BISECTIONS: usize = 6;

/// Moves the coordinates by descending weight, of equal ones the first, until `gap` is closed;
/// returns the sum of the moves.
fn fill(
    gap: f64,
    weight: &[f32],
    room: &[f32],
    order: &mut Vec<u32>,
    down: bool,
    delta: &mut [f32],
) -> f64 {
    // What is heavier than `high` does not close the gap, what is heavier than `low` does, or
    // all that there is does not.
    let (mut low, mut high) = (0.0f32, 1.0f32);
    let mut closed = 0.0;
    for _ in 0..HALVINGS {
        let middle = 0.5 * high;
        let sum = heavier(weight, room, middle);
        if sum >= gap {
            low = middle;
            break;
        }
        (high, closed) = (middle, sum);
    }
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        let sum = heavier(weight, room, middle);
        if sum >= gap { low = middle } else { (high, closed) = (middle, sum) }
    }
    order.clear();
    let mut size = 0.0f64;
    for (i, delta) in delta.iter_mut().enumerate() {
        let (w, r) = (weight[i], room[i]);
        *delta = 0.0;
        if w.abs() > high {
            *delta = if (w > 0.0) == down { -r } else { r };
            size += f64::from(r);
        } else if w.abs() > low && r > 0.0 {
            order.push(i as u32);
        }
    }
    let heavy = |i: &u32| weight[*i as usize].abs();
    let larger = |a: &u32, b: &u32| heavy(b).total_cmp(&heavy(a));
    order.sort_unstable_by(|a, b| larger(a, b).then(a.cmp(b)));
    let mut gap = gap - closed;
    for &i in &*order {
        if gap <= 0.0 {
            break;
        }
        let i = i as usize;
        let (w, r) = (f64::from(weight[i].abs()), f64::from(room[i]));
        let step = (gap / w).min(r);
        delta[i] = if (weight[i] > 0.0) == down { -step } else { step } as f32;
        size += step;
        gap -= w * step;
    }
    size
}

/// How much of the gap the coordinates above a weight close at their walls.
fn heavier(weight: &[f32], room: &[f32], limit: f32) -> f64 {
    vectorized(
        #[inline(always)]
        || {
            let mut lanes = [0.0f32; WIDE];
            let term = |w: f32, r: f32| if w.abs() > limit { w.abs() * r } else { 0.0 };
            let (weights, weight_rest) = weight.as_chunks::<WIDE>();
            let (rooms, room_rest) = room.as_chunks::<WIDE>();
            for (w, r) in weights.iter().zip(rooms) {
                for lane in 0..WIDE {
                    lanes[lane] += term(w[lane], r[lane]);
                }
            }
            let rest = weight_rest.iter().zip(room_rest).map(|(&w, &r)| f64::from(term(w, r)));
            total(&lanes) + rest.sum::<f64>()
        },
    )
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
                    workspace.set_normal(&normal);
                    let gap = f64::from(flip) * (here - offset);
                    let length =
                        move_to_plane(norm, &x, gap, [&low, &high], workspace, &mut delta);
                    prop_assert!((length - size(norm, &delta)).abs() <= 1e-5 * (1.0 + length));
                    let z: Vec<f32> = x.iter().zip(&delta).map(|(x, d)| x + d).collect();
                    prop_assert!(z.iter().all(|z| (-1e-6..=1.000_001).contains(z)));
                    let reached = f64::from(flip) * value(&z, &normal);
                    let wanted = offset.max(bottom);
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
            workspace.set_normal(&w);
            move_to_plane(norm, &x, 0.8, [&low, &high], workspace, &mut delta);
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
            let moved = |w: [f32; 2], gap: f64| {
                let mut delta = [7.0; 2];
                let workspace = &mut PlaneWorkspace::default();
                workspace.set_normal(&w);
                move_to_plane(norm, &[0.25; 2], gap, [&low, &high], workspace, &mut delta);
                delta
            };
            assert_eq!(moved([0.0, 0.0], -1.0), [0.0, 0.0], "{norm:?}");
            assert_eq!(moved([f32::NAN, f32::INFINITY], -1.0), [0.0, 0.0], "{norm:?}");
            assert_eq!(moved([1.0, -1.0], -5.0), [0.75, -0.25], "{norm:?}");
            assert_eq!(moved([1.0, f32::NAN], -0.75), [0.75, 0.0], "{norm:?}");
            assert_eq!(moved([1.0, 1.0], 0.0), [0.0, 0.0], "{norm:?}");
        }
    }
}
