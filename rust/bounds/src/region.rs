//! The set of inputs a bound must cover: a box, possibly cut with an L1 or L2 ball.

use aisec_graph::Patch;
use aisec_numeric::rounding::{
    add_down, add_up, gamma, mul_down, mul_up, sub_down, sub_up, underflow,
};

use crate::kernels::{around, least};

/// The norm a perturbation is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    Linf,
    L2,
    L1,
}

/// What is wrong with a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    #[error("lower exceeds upper (or is not a number) at element {0}")]
    Inverted(usize),
    #[error("the ball does not meet the box at element {0}")]
    Disjoint(usize),
    #[error("radius must be finite and at least 0")]
    Radius,
    #[error("center is not finite at element {0}")]
    Center(usize),
}

/// One sample's inputs. Boxes and balls are rounded outward, never inward.
#[derive(Debug, Clone)]
pub struct Region {
    lower: Vec<f64>,
    upper: Vec<f64>,
    ball: Option<Ball>,
}

/// `‖x - center‖ <= radius` with `below <= x - center <= above` from the box.
#[derive(Debug, Clone)]
struct Ball {
    norm: Norm,
    center: Vec<f64>,
    below: Vec<f64>,
    above: Vec<f64>,
    radius: f64,
}

impl Region {
    /// The box between two corners.
    pub fn cuboid(lower: &[f64], upper: &[f64]) -> Result<Self, RegionError> {
        if let Some(at) = (0..lower.len())
            .find(|&i| lower[i] > upper[i] || !lower[i].is_finite() || !upper[i].is_finite())
        {
            return Err(RegionError::Inverted(at));
        }
        Ok(Self { lower: lower.to_vec(), upper: upper.to_vec(), ball: None })
    }

    /// The box cut with a norm ball.
    pub fn ball(
        lower: &[f64],
        upper: &[f64],
        center: &[f64],
        radius: f64,
        norm: Norm,
    ) -> Result<Self, RegionError> {
        let mut region = Self::cuboid(lower, upper)?;
        if !(radius >= 0.0 && radius.is_finite()) {
            return Err(RegionError::Radius);
        }
        if !around(center, radius, &mut region.lower, &mut region.upper) {
            let known = |at: &usize| center[*at].is_finite();
            let met = |at: &usize| region.lower[*at] <= region.upper[*at];
            let at = (0..center.len()).find(|at| !(known(at) && met(at))).unwrap_or(0);
            return Err(match known(&at) {
                true => RegionError::Disjoint(at),
                false => RegionError::Center(at),
            });
        }
        if norm != Norm::Linf {
            let steps = |corner: &[f64], step: fn(f64, f64) -> f64| {
                corner.iter().zip(center).map(|(&x, &c)| step(x, c)).collect()
            };
            region.ball = Some(Ball {
                norm,
                center: center.to_vec(),
                below: steps(&region.lower, sub_down),
                above: steps(&region.upper, sub_up),
                radius,
            });
        }
        Ok(region)
    }

    pub fn lower(&self) -> &[f64] {
        &self.lower
    }

    pub fn upper(&self) -> &[f64] {
        &self.upper
    }

    /// Whether the region is nothing but a box.
    pub fn is_box(&self) -> bool {
        self.ball.is_none()
    }

    /// Norm, centre and radius of the ball that cuts the box.
    pub(crate) fn round(&self) -> Option<(Norm, &[f64], f64)> {
        self.ball.as_ref().map(|ball| (ball.norm, &ball.center[..], ball.radius))
    }

    /// The region of the coordinates inside a patch; the others are held at no cost, which is
    /// exact for rows that are zero there.
    pub(crate) fn crop(&self, shape: &[usize], patch: &Patch) -> Self {
        let crop = |values: &[f64]| patch.gather(shape, values);
        Self {
            lower: crop(&self.lower),
            upper: crop(&self.upper),
            ball: self.ball.as_ref().map(|ball| Ball {
                norm: ball.norm,
                center: crop(&ball.center),
                below: crop(&ball.below),
                above: crop(&ball.above),
                radius: ball.radius,
            }),
        }
    }

    /// A lower bound of `row · x` over the region.
    pub(crate) fn minimum(&self, row: &[f64]) -> f64 {
        let corner = box_minimum(row, &self.lower, &self.upper);
        match &self.ball {
            None => corner,
            Some(ball) => larger(corner, ball.minimum(row)),
        }
    }

    /// Replaces a row by a point of the region where it is about smallest; a guide, not a bound.
    pub(crate) fn minimiser(&self, row: &mut [f32]) {
        let wide: Vec<f64> = row.iter().map(|&a| f64::from(a)).collect();
        match &self.ball {
            None => {
                let ends = self.lower.iter().zip(&self.upper);
                row.iter_mut().zip(ends).for_each(|(a, (&l, &u))| {
                    *a = if *a > 0.0 { l } else { u } as f32;
                });
            }
            Some(ball) => ball.minimiser(&wide, row),
        }
    }
}

/// The better of two valid lower bounds, NaN counting as none.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || a.is_nan() { b } else { a }
}

/// A lower bound of `row · x` over `lower <= x <= upper`.
pub(crate) fn box_minimum(row: &[f64], lower: &[f64], upper: &[f64]) -> f64 {
    let (sum, size) = least(row, lower, upper);
    lowered(sum, size, row.len())
}

/// A computed sum of `terms` products less the most its rounding can have added, where `size`
/// is the computed sum of absolute values (itself too small by at most a factor `1 - gamma`).
pub(crate) fn lowered(sum: f64, size: f64, terms: usize) -> f64 {
    sub_down(sum, add_up(mul_up(gamma(2 * terms + 16), size), underflow(4 * terms + 8)))
}

impl Ball {
    /// By weak duality, for any multiplier `t >= 0`,
    /// `min a·d s.t. ‖d‖ <= r, d in box  >=  min over the box of a·d + penalty_t(d) - t·bound`,
    /// a sum over coordinates that is solved exactly; `t` is chosen close to the best one.
    fn minimum(&self, row: &[f64]) -> f64 {
        let (base, base_size) = least(row, &self.center, &self.center);
        let base = lowered(base, base_size, row.len());
        let shift = match self.norm {
            Norm::L1 => self.l1(row),
            Norm::L2 => self.l2(row),
            Norm::Linf => unreachable!("an Linf ball is a box"),
        };
        add_down(base, shift)
    }

    /// See [`Region::minimiser`].
    fn minimiser(&self, row: &[f64], point: &mut [f32]) {
        let moved = |i: usize, step: f64| {
            (self.center[i] + step.max(self.below[i]).min(self.above[i])) as f32
        };
        match self.norm {
            Norm::L2 => {
                let t = self.l2_multiplier(row);
                for (i, (x, &a)) in point.iter_mut().zip(row).enumerate() {
                    *x = moved(i, if t > 0.0 && a != 0.0 { -a / t } else { 0.0 });
                }
            }
            Norm::L1 | Norm::Linf => {
                let mut order: Vec<usize> = (0..row.len()).collect();
                order.sort_unstable_by(|&a, &b| row[b].abs().total_cmp(&row[a].abs()));
                let mut left = self.radius;
                for i in order {
                    let room = if row[i] > 0.0 { -self.below[i] } else { self.above[i] };
                    let step = room.min(left).max(0.0);
                    point[i] = moved(i, if row[i] > 0.0 { -step } else { step });
                    left -= step;
                }
            }
        }
    }

    /// `Σ min over d in [below, above] of a·d + t|d|  -  t·r`: each piece is convex and
    /// piecewise linear, so its minimum is at an end or at zero.
    fn l1(&self, row: &[f64]) -> f64 {
        let t = self.l1_multiplier(row);
        let mut sum = 0.0;
        for ((&a, &low), &high) in row.iter().zip(&self.below).zip(&self.above) {
            let at = |d: f64| add_down(mul_down(a, d), mul_down(t, d.abs()));
            let ends = at(low).min(at(high));
            if ends.is_nan() {
                return f64::NAN;
            }
            sum = add_down(sum, if low <= 0.0 && high >= 0.0 { ends.min(0.0) } else { ends });
        }
        sub_down(sum, mul_up(t, self.radius))
    }

    /// The slope at which spending the radius on the steepest coordinates first runs out.
    fn l1_multiplier(&self, row: &[f64]) -> f64 {
        let mut order: Vec<(f64, f64)> = row
            .iter()
            .zip(self.below.iter().zip(&self.above))
            .filter(|(a, _)| **a != 0.0)
            .map(|(&a, (&low, &high))| (a.abs(), if a > 0.0 { -low } else { high }))
            .collect();
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut left = self.radius;
        for (slope, room) in order {
            left -= room.max(0.0);
            if left <= 0.0 {
                return slope;
            }
        }
        0.0
    }

    /// `Σ min over d in [below, above] of a·d + t·d²/2  -  t·r²/2`.
    ///
    /// The sign of `a + t·d` is exact under one rounding, so where it says that a piece is
    /// monotone its end is the exact minimiser; elsewhere `-a²/(2t)` bounds it.
    fn l2(&self, row: &[f64]) -> f64 {
        let t = self.l2_multiplier(row);
        if !(1e-290..1e290).contains(&t) {
            return f64::NEG_INFINITY; // the box bound stands
        }
        let (mut sum, mut size) = (0.0, 0.0);
        for ((&a, &low), &high) in row.iter().zip(&self.below).zip(&self.above) {
            let term = if t.mul_add(high, a) <= 0.0 {
                high * t.mul_add(0.5 * high, a)
            } else if t.mul_add(low, a) >= 0.0 {
                low * t.mul_add(0.5 * low, a)
            } else {
                -(a * a) / (2.0 * t)
            };
            sum += term;
            size += term.abs();
        }
        // The factor `a + t·d/2` of an end can cancel no more than to half of `|a|`
        // (`|t·d| <= |a|` there), so every term has a relative error of a few roundings.
        // Only a² and a·d may underflow; a²'s loss is divided by 2t.
        let lost = mul_up(underflow(4 * row.len() + 8), 1.0 + 1.0 / t + t + self.radius);
        let error = add_up(mul_up(gamma(2 * row.len() + 64), size), lost);
        let penalty = mul_up(mul_up(self.radius, self.radius), 0.5 * t).next_up();
        sub_down(sub_down(sum, error), penalty)
    }

    /// Multiplier of the Euclidean ball by an active-set iteration: coordinates that reach the
    /// box stay there, the others share what is left of the radius in proportion to `a`.
    fn l2_multiplier(&self, row: &[f64]) -> f64 {
        let budget = self.radius * self.radius;
        let mut t = row.iter().map(|a| a * a).sum::<f64>().sqrt() / self.radius;
        for _ in 0..32 {
            let (mut free, mut fixed) = (0.0, 0.0);
            for ((&a, &low), &high) in row.iter().zip(&self.below).zip(&self.above) {
                let step = -a / t;
                if step >= high {
                    fixed += high * high;
                } else if step <= low {
                    fixed += low * low;
                } else {
                    free += a * a;
                }
            }
            let left = budget - fixed;
            if left <= 0.0 || free <= 0.0 {
                break;
            }
            let next = (free / left).sqrt();
            if next.partial_cmp(&(t * (1.0 - 1e-9))) != Some(std::cmp::Ordering::Less) {
                break;
            }
            t = next;
        }
        t
    }
}
