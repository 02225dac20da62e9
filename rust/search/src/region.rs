//! Where a sample may move: a norm ball cut with the input range.

use std::sync::Arc;

use aisec_numeric::project::{self, L1Workspace};
use aisec_numeric::rounding::{gamma, to_f32_down, to_f32_up};
use aisec_numeric::vector::{map, sum_of};

use crate::{Error, Result};

/// The norm that measures a perturbation; `Box` is the whole input range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    Linf,
    L2,
    L1,
    /// How many values differ: coordinates, not pixels.
    L0,
    Box,
}

impl Norm {
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "linf" => Ok(Self::Linf),
            "l2" => Ok(Self::L2),
            "l1" => Ok(Self::L1),
            "l0" => Ok(Self::L0),
            "box" => Ok(Self::Box),
            _ => Err(Error::input(format!(
                "norm {name:?} is unknown; choose linf, l2, l1, l0 or box"
            ))),
        }
    }
}

/// The input range, shared by all samples: the float32 numbers inside the float64 limits.
#[derive(Debug, Clone)]
pub struct Bounds {
    lower: Arc<[f32]>,
    upper: Arc<[f32]>,
}

impl Bounds {
    /// # Errors
    /// When a limit is not finite or no float32 number lies between them.
    pub fn new(lower: &[f64], upper: &[f64]) -> Result<Self> {
        for (index, (&low, &high)) in lower.iter().zip(upper).enumerate() {
            let empty = to_f32_up(low) > to_f32_down(high);
            if !low.is_finite() || !high.is_finite() || empty {
                return Err(Error::input(format!(
                    "bounds [{low}, {high}] at input {index} hold no float32 number"
                )));
            }
        }
        Ok(Self {
            lower: lower.iter().map(|&low| to_f32_up(low)).collect(),
            upper: upper.iter().map(|&high| to_f32_down(high)).collect(),
        })
    }

    pub fn lower(&self) -> &[f32] {
        &self.lower
    }

    pub fn upper(&self) -> &[f32] {
        &self.upper
    }
}

/// The points one sample may become. Every point handed out lies inside without tolerance.
#[derive(Debug, Clone)]
pub struct Region {
    norm: Norm,
    eps: f64,
    clean: Vec<f32>,
    lower: Arc<[f32]>,
    upper: Arc<[f32]>,
}

/// How far below the radius points are placed, so that rounding them to float32 rarely takes
/// them outside.
const SLACK: f64 = 1.0 / 2_097_152.0;

impl Region {
    /// `eps` must not exceed the exact radius; it is not used by [`Norm::Box`].
    ///
    /// # Errors
    /// When the sample lies outside the bounds (for the norm balls) or `eps` is not a radius.
    pub fn new(norm: Norm, eps: f64, clean: &[f32], bounds: &Bounds) -> Result<Self> {
        if norm != Norm::Box && !(eps >= 0.0 && eps.is_finite()) {
            return Err(Error::input(format!("eps={eps} must be a finite number of at least 0")));
        }
        let outside = |(&x, (low, high)): (&f32, (&f32, &f32))| !(*low <= x && x <= *high);
        let mut limits = clean.iter().zip(bounds.lower.iter().zip(bounds.upper.iter()));
        if let Some(index) = limits.position(outside) {
            return Err(Error::input(format!(
                "input {index} is {}, outside its bounds [{}, {}]",
                clean[index], bounds.lower[index], bounds.upper[index]
            )));
        }
        let (mut lower, mut upper) = (bounds.lower.clone(), bounds.upper.clone());
        if norm == Norm::Linf {
            let range =
                |i: usize| project::linf_range(clean[i], eps, bounds.lower[i], bounds.upper[i]);
            lower = (0..clean.len()).map(|i| range(i).0).collect();
            upper = (0..clean.len()).map(|i| range(i).1).collect();
        }
        Ok(Self { norm, eps, clean: clean.to_vec(), lower, upper })
    }

    pub fn norm(&self) -> Norm {
        self.norm
    }

    pub fn eps(&self) -> f64 {
        self.eps
    }

    pub fn clean(&self) -> &[f32] {
        &self.clean
    }

    /// Least value of each input: for Linf and boxes the region is exactly these intervals.
    pub fn lower(&self) -> &[f32] {
        &self.lower
    }

    pub fn upper(&self) -> &[f32] {
        &self.upper
    }

    /// Whether the clean input is the only point.
    pub fn is_point(&self) -> bool {
        let least = if self.norm == Norm::L0 { 1.0 } else { f64::MIN_POSITIVE };
        (self.norm != Norm::Box && self.eps < least)
            || self.lower.iter().zip(self.upper.iter()).all(|(low, high)| low == high)
    }

    /// Moves a point of any kind into the region: clips (Linf, box), scales then clips (L2),
    /// projects exactly (L1), or clips and keeps the largest changes (L0).
    pub fn project(&self, point: &mut [f32], workspace: &mut L1Workspace) {
        match self.norm {
            Norm::Linf | Norm::Box => self.clip(point),
            Norm::L2 => {
                let length = self.squared_length(point).sqrt();
                if length <= self.eps * (1.0 - SLACK) {
                    self.clip(point);
                } else {
                    self.scale_l2(point, self.eps / length);
                }
            }
            Norm::L1 => {
                project::l1_box(&self.clean, self.eps, &self.lower, &self.upper, point, workspace)
            }
            Norm::L0 => {
                self.clip(point);
                keep_largest(&self.clean, self.eps as usize, point);
            }
        }
    }

    /// The point that `project` moves `point` to.
    pub(crate) fn nearest(&self, point: &[f32]) -> Vec<f32> {
        let mut moved = point.to_vec();
        self.project(&mut moved, &mut L1Workspace::default());
        moved
    }

    /// Clips into `[lower, upper]`; NaN returns to the clean input.
    fn clip(&self, point: &mut [f32]) {
        self.map(point, |value, _| value);
    }

    /// Replaces each value by `new(value, clean)`, clipped into `[lower, upper]`; NaN returns to
    /// the clean input.
    #[inline(always)]
    fn map(&self, point: &mut [f32], new: impl Fn(f32, f32) -> f32) {
        map(
            point,
            [&self.clean, &self.lower, &self.upper],
            #[inline(always)]
            |value, [clean, lower, upper]| {
                // Comparisons with NaN are false: it is neither moved to a limit nor kept.
                let wanted = new(value, clean);
                let inside = if wanted < lower { lower } else { wanted };
                let inside = if inside > upper { upper } else { inside };
                if wanted.is_nan() { clean } else { inside }
            },
        );
    }

    /// Replaces the point by `clean + scale * (point - clean)`, clipped, where that has length
    /// `eps` before clipping.
    pub(crate) fn scale_l2(&self, point: &mut [f32], scale: f64) {
        let scale = (scale * (1.0 - SLACK)) as f32;
        self.map(point, |value, clean| clean + (value - clean) * scale);
        // Twice the bound on the rounding of the sum of squares, once for the checker's own.
        let rounding = 1.0 + 8.0 * gamma(point.len() + 4);
        if self.squared_length(point) * rounding > self.eps * self.eps {
            project::l2(&self.clean, self.eps, &self.lower, &self.upper, point);
        }
    }

    /// `|point - clean|^2` in float64.
    pub(crate) fn squared_length(&self, point: &[f32]) -> f64 {
        sum_of(point, &self.clean, |value, clean| {
            let delta = f64::from(value) - f64::from(clean);
            delta * delta
        })
    }

    /// The distance of the point in this region's norm (largest coordinate for boxes).
    pub fn distance(&self, point: &[f32]) -> f64 {
        match self.norm {
            Norm::Linf | Norm::Box => project::linf_distance_up(&self.clean, point),
            Norm::L2 => project::l2_distance_up(&self.clean, point),
            Norm::L1 => project::l1_distance_up(&self.clean, point),
            Norm::L0 => changed(&self.clean, point) as f64,
        }
    }
}

/// How many values of two points differ.
pub(crate) fn changed(clean: &[f32], point: &[f32]) -> usize {
    clean.iter().zip(point).filter(|(clean, value)| clean != value).count()
}

/// Undoes all but the `count` largest changes, of equal ones the first: the nearest point in any
/// other norm that differs from `clean` in at most `count` values.
pub(crate) fn keep_largest(clean: &[f32], count: usize, point: &mut [f32]) {
    if changed(clean, point) <= count {
        return;
    }
    let size = |i: usize| (f64::from(point[i]) - f64::from(clean[i])).abs();
    let mut order: Vec<usize> = (0..point.len()).collect();
    let larger = |a: &usize, b: &usize| size(*b).total_cmp(&size(*a)).then(a.cmp(b));
    order.select_nth_unstable_by(count, larger);
    for &i in &order[count..] {
        point[i] = clean[i];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NORMS: [Norm; 5] = [Norm::Linf, Norm::L2, Norm::L1, Norm::L0, Norm::Box];

    fn unit_box(n: usize) -> Bounds {
        Bounds::new(&vec![0.0; n], &vec![1.0; n]).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn projections_stay_inside_and_rest(
            clean in prop::collection::vec(0.0f32..=1.0, 1..40),
            moves in prop::collection::vec(prop_oneof![9 => -2.0f32..2.0, 1 => Just(f32::NAN)], 40),
            eps in prop_oneof![0.0..3.0f64, Just(0.0), 1e-6..1e-4f64],
        ) {
            let bounds = unit_box(clean.len());
            for norm in NORMS {
                let region = Region::new(norm, eps, &clean, &bounds).unwrap();
                let mut point: Vec<f32> = clean.iter().zip(&moves).map(|(x, m)| x + m).collect();
                region.project(&mut point, &mut L1Workspace::default());
                prop_assert!(point.iter().all(|v| (0.0..=1.0).contains(v)));
                prop_assert!(norm == Norm::Box || region.distance(&point) <= eps);
                if region.is_point() {
                    prop_assert_eq!(&point, &clean);
                }
                let once = point.clone();
                region.project(&mut point, &mut L1Workspace::default());
                let moved = once.iter().zip(&point).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                prop_assert!(f64::from(moved) <= 2e-6 * eps.min(1.0), "{norm:?} {moved}");
            }
        }
    }

    #[test]
    fn l0_keeps_the_largest_changes() {
        let region = Region::new(Norm::L0, 2.0, &[0.5; 5], &unit_box(5)).unwrap();
        // The second and the last tie once the last is clipped; the first of equals stays.
        let mut point = [0.6, 0.0, 0.5, 0.75, 1.5];
        region.project(&mut point, &mut L1Workspace::default());
        assert_eq!(point, [0.5, 0.0, 0.5, 0.5, 1.0]);
        assert_eq!(region.distance(&point), 2.0);
        let mut point = [0.6, 0.0, 1.0, 0.5, 1.5];
        region.project(&mut point, &mut L1Workspace::default());
        assert_eq!(point, [0.5, 0.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn l2_uses_nearly_the_whole_radius() {
        let clean = vec![0.5; 3072];
        let region = Region::new(Norm::L2, 0.5, &clean, &unit_box(3072)).unwrap();
        let mut point: Vec<f32> = (0..3072).map(|i| (i % 7) as f32 / 6.0).collect();
        region.project(&mut point, &mut L1Workspace::default());
        let distance = region.distance(&point);
        assert!(distance <= 0.5 && distance > 0.5 * (1.0 - 2e-6), "{distance}");
    }

    #[test]
    fn refusals() {
        assert!(Bounds::new(&[0.0], &[f64::NAN]).is_err());
        assert!(Bounds::new(&[1.0], &[0.0]).is_err());
        assert!(Bounds::new(&[0.1], &[0.1]).is_err(), "0.1 is not a float32 number");
        let bounds = unit_box(2);
        for eps in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Region::new(Norm::Linf, eps, &[0.0, 0.0], &bounds).is_err());
        }
        let error = Region::new(Norm::L2, 1.0, &[0.0, 1.5], &bounds).unwrap_err().to_string();
        assert!(error.contains("input 1 is 1.5"), "{error}");
        assert!(Region::new(Norm::L2, 1.0, &[0.0, f32::NAN], &bounds).is_err());
        assert!(Norm::parse("l3").is_err());
    }
}
