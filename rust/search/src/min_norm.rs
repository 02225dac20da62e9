//! What attacks share that look for the nearest adversarial point: where they start, which point
//! is the nearest so far, and a last binary search towards the clean input.
//!
//! A minimum-norm attack is a [`Descent`]; [`MinNorm`] makes a search of it.

use std::sync::Arc;

use aisec_numeric::project::{self, L1Workspace};
use aisec_numeric::rounding::gamma;
use aisec_numeric::vector::{largest_difference, sum_of};

use crate::attack::Start;
use crate::region::{changed, keep_largest};
use crate::search::beyond_rounding;
use crate::{Bounds, Error, Norm, Outcome, Region, Result, Search, Setting, Status};

/// Halvings of the line from the clean input to a start point.
const START_HALVINGS: u32 = 10;
/// Halvings of the line from the clean input to the nearest point, at the end.
const LAST_HALVINGS: u32 = 12;

/// The clean input, the input range around it and the norm that measures a perturbation.
#[derive(Debug, Clone)]
pub struct Domain {
    norm: Norm,
    range: Region,
    width: f64,
}

impl Domain {
    /// # Errors
    /// For boxes, which have no distance, and when the sample lies outside the bounds.
    pub fn new(norm: Norm, clean: &[f32], bounds: &Bounds) -> Result<Self> {
        if norm == Norm::Box {
            return Err(Error::input("a box has no distance; minimum-norm attacks need a norm"));
        }
        let range = Region::new(Norm::Box, 0.0, clean, bounds)?;
        let widths = range.upper().iter().zip(range.lower());
        let width = widths.map(|(&high, &low)| f64::from(high) - f64::from(low));
        let width = width.fold(0.0, f64::max);
        Ok(Self { norm, range, width })
    }

    pub fn norm(&self) -> Norm {
        self.norm
    }

    pub fn clean(&self) -> &[f32] {
        self.range.clean()
    }

    pub fn lower(&self) -> &[f32] {
        self.range.lower()
    }

    pub fn upper(&self) -> &[f32] {
        self.range.upper()
    }

    /// The widest input range: the unit of step sizes.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Clips into the input range; NaN returns to the clean input.
    pub(crate) fn clip(&self, point: &mut [f32]) {
        self.range.project(point, &mut L1Workspace::default());
    }

    /// The distance to the clean input, rounded to nearest.
    pub(crate) fn length(&self, point: &[f32]) -> f64 {
        let delta = |a: f32, b: f32| f64::from(a) - f64::from(b);
        match self.norm {
            Norm::Linf | Norm::Box => largest_difference(self.clean(), point),
            Norm::L2 => sum_of(point, self.clean(), |a, b| delta(a, b) * delta(a, b)).sqrt(),
            Norm::L1 => sum_of(point, self.clean(), |a, b| delta(a, b).abs()),
            Norm::L0 => changed(self.clean(), point) as f64,
        }
    }

    /// An upper bound of the distance to the clean input.
    pub(crate) fn distance(&self, point: &[f32]) -> f64 {
        let length = self.length(point);
        // Twice the bound on the rounding of `length`, once for the checker's own.
        let rounding = 1.0 + 8.0 * gamma(point.len() + 4);
        if self.norm == Norm::L0 { length } else { length * rounding }
    }

    /// Moves a point into the ball of this radius and the input range: clips (Linf), scales then
    /// clips (L2), projects exactly (L1), clips and keeps the largest changes (L0). Distances may
    /// exceed `eps` by rounding.
    pub(crate) fn project(&self, point: &mut [f32], eps: f64, workspace: &mut L1Workspace) {
        match self.norm {
            Norm::Linf | Norm::Box => {
                let eps = eps as f32;
                for (value, &clean) in point.iter_mut().zip(self.clean()) {
                    *value = clean + (*value - clean).clamp(-eps, eps);
                }
                self.clip(point);
            }
            Norm::L2 => {
                let length = self.length(point);
                if length > eps {
                    let scale = (eps / length) as f32;
                    for (value, &clean) in point.iter_mut().zip(self.clean()) {
                        *value = clean + scale * (*value - clean);
                    }
                }
                self.clip(point);
            }
            Norm::L1 => {
                let (lower, upper) = (self.lower(), self.upper());
                project::l1_box(self.clean(), eps, lower, upper, point, workspace);
            }
            Norm::L0 => {
                self.clip(point);
                keep_largest(self.clean(), eps as usize, point);
            }
        }
    }

    /// A point between the clean input (`t = 0`) and `far` (`t = 1`), on the path along which the
    /// norm shrinks and the rest of the perturbation is kept as far as possible: the straight line
    /// (L2), clipped (Linf), shrunk by the same amount everywhere (L1), the smallest changes
    /// undone (L0).
    pub(crate) fn between(&self, far: &[f32], t: f64, point: &mut [f32]) {
        let largest = largest_difference(self.clean(), far);
        let part = |delta: f64| match self.norm {
            Norm::Linf | Norm::Box => delta.clamp(-t * largest, t * largest),
            Norm::L2 => t * delta,
            Norm::L1 => (delta.abs() - (1.0 - t) * largest).max(0.0).copysign(delta),
            Norm::L0 => delta,
        };
        for ((value, &far), &clean) in point.iter_mut().zip(far).zip(self.clean()) {
            let wide = f64::from(clean);
            *value = (wide + part(f64::from(far) - wide)) as f32;
        }
        if self.norm == Norm::L0 {
            let count = changed(self.clean(), far) as f64;
            keep_largest(self.clean(), (t * count).ceil() as usize, point);
        }
        self.clip(point);
    }
}

/// Searches with this descent, which end within the setting's radius.
pub(crate) fn searches<D: Descent + 'static>(
    setting: &Setting,
    descent: impl Fn() -> D + Send + Sync + 'static,
) -> Start {
    let (norm, goal, bounds) = (setting.norm, setting.eps, setting.bounds.clone());
    Box::new(move |sample| {
        let domain = Domain::new(norm, sample.clean, &bounds)?;
        Ok(Box::new(MinNorm::new(domain, sample.label, goal, sample.start, descent())))
    })
}

/// What is known of the point just evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// `z_y - max_{i != y} z_i`.
    pub margin: f64,
    /// Whether the margin is negative beyond float32 rounding.
    pub adversarial: bool,
    /// Distance to the clean input.
    pub distance: f64,
    /// Distance of the nearest adversarial point so far, this one included; infinite where none.
    pub nearest: f64,
}

/// A minimum-norm attack between its start and the last binary search.
pub trait Descent: Send + Sync {
    /// Starts at a point of the domain: the clean input, or an adversarial point.
    fn begin(&mut self, domain: &Domain, x: &[f32]);

    /// The next point to evaluate; always in the input range.
    fn point(&self) -> &[f32];

    /// Learns what was seen there; true when no gradient is wanted any more.
    fn tell(&mut self, seen: Seen, logits: &[f32], label: usize) -> bool;

    /// Writes the direction in logit space whose pull-back is wanted.
    fn cotangent(&self, logits: &[f32], label: usize, cotangent: &mut [f32]);

    /// Learns the pull-back at the point just evaluated, and moves on.
    fn step(&mut self, domain: &Domain, seen: Seen, gradient: &mut [f32]);
}

/// Gradient of `max_{i != y} z_i - z_y` in logit space.
pub(crate) fn margin_cotangent(logits: &[f32], label: usize, cotangent: &mut [f32]) {
    crate::Loss::Margin.cotangent(logits, label, cotangent);
}

/// From `start` to `end` along half a cosine.
pub(crate) fn cosine(start: f64, end: f64, done: usize, steps: usize) -> f64 {
    let angle = std::f64::consts::PI * done as f64 / steps.max(1) as f64;
    end + 0.5 * (start - end) * (1.0 + angle.cos())
}

/// Binary search on the way from the clean input to `far`, which is adversarial.
#[derive(Debug)]
struct Line {
    far: Vec<f32>,
    low: f64,
    high: f64,
    left: u32,
    at: f64,
}

impl Line {
    /// With `at = 1` the far end is evaluated first, to see whether it is adversarial.
    fn new(far: Vec<f32>, halvings: u32, at: f64) -> Self {
        Self { far, low: 0.0, high: 1.0, left: halvings, at }
    }

    /// True when the search is over.
    fn tell(&mut self, adversarial: bool) -> bool {
        if adversarial {
            self.high = self.at;
        } else {
            self.low = self.at;
        }
        let over = self.left == 0 || self.low >= self.high;
        self.left = self.left.saturating_sub(1);
        self.at = 0.5 * (self.low + self.high);
        over
    }
}

#[derive(Debug)]
enum Phase {
    Start(Line),
    Descent,
    Last(Line),
}

/// The search of one minimum-norm attack on one sample.
///
/// A start point (an input of another class, say) is first drawn to the boundary. The outcome is
/// the nearest adversarial point evaluated, whatever its distance.
#[derive(Debug)]
pub struct MinNorm<D> {
    domain: Arc<Domain>,
    label: usize,
    goal: f64,
    descent: D,
    phase: Phase,
    /// The point just evaluated, where its gradient is wanted.
    seen: Option<Seen>,
    nearest: Vec<f32>,
    distance: f64,
    margin: f64,
    not_finite: bool,
    forwards: u64,
    gradients: u64,
}

impl<D: Descent> MinNorm<D> {
    /// Ends at the first point no further than `goal`; 0 spends the whole budget. `start` is a
    /// point that should be adversarial; without one the search begins at the clean input.
    pub fn new(
        domain: Domain,
        label: usize,
        goal: f64,
        start: Option<&[f32]>,
        mut descent: D,
    ) -> Self {
        let phase = match start {
            Some(start) => {
                let mut far = start.to_vec();
                domain.clip(&mut far);
                Phase::Start(Line::new(far, START_HALVINGS, 1.0))
            }
            None => {
                descent.begin(&domain, domain.clean());
                Phase::Descent
            }
        };
        Self {
            nearest: domain.clean().to_vec(),
            domain: Arc::new(domain),
            label,
            goal,
            descent,
            phase,
            seen: None,
            distance: f64::INFINITY,
            margin: f64::INFINITY,
            not_finite: false,
            forwards: 0,
            gradients: 0,
        }
    }

    /// Takes the logits at `row` and keeps the point where it is the nearest adversarial one.
    fn learn(&mut self, row: &[f32], logits: &[f32]) -> Option<Seen> {
        self.forwards += 1;
        let Some(margin) = crate::loss::margin(logits, self.label) else {
            self.not_finite = true;
            return None;
        };
        let adversarial = beyond_rounding(margin, logits);
        if adversarial {
            let distance = self.domain.distance(row);
            if distance < self.distance {
                self.distance = distance;
                self.margin = margin;
                self.nearest.copy_from_slice(row);
            }
        }
        let distance = self.domain.length(row);
        Some(Seen { margin, adversarial, distance, nearest: self.distance })
    }

    /// The last binary search, where there is anything to search.
    fn last(&mut self) -> bool {
        let halvings = match self.domain.norm {
            Norm::L0 => (self.distance + 1.0).log2().ceil().max(0.0) as u32,
            _ => LAST_HALVINGS,
        };
        self.phase = Phase::Last(Line::new(self.nearest.clone(), halvings, 0.5));
        self.distance.is_infinite()
    }
}

impl<D: Descent> Search for MinNorm<D> {
    fn ask(&mut self, row: &mut [f32]) {
        match &self.phase {
            Phase::Start(line) | Phase::Last(line) => self.domain.between(&line.far, line.at, row),
            Phase::Descent => row.copy_from_slice(self.descent.point()),
        }
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let seen = self.learn(row, logits);
        self.seen = None;
        if self.distance <= self.goal {
            return true;
        }
        match &mut self.phase {
            Phase::Start(line) => {
                if line.tell(seen.is_some_and(|seen| seen.adversarial)) {
                    // The clean input, where the start was not adversarial.
                    self.descent.begin(&self.domain, &self.nearest);
                    self.phase = Phase::Descent;
                }
                false
            }
            Phase::Last(line) => line.tell(seen.is_some_and(|seen| seen.adversarial)),
            Phase::Descent => match seen {
                Some(seen) if !self.descent.tell(seen, logits, self.label) => {
                    self.seen = Some(seen);
                    false
                }
                _ => self.last(),
            },
        }
    }

    fn finish(self: Box<Self>) -> Outcome {
        let status = match (self.distance.is_finite(), self.not_finite) {
            (true, _) => Status::Found,
            (false, true) => Status::NotFinite,
            (false, false) => Status::Exhausted,
        };
        Outcome {
            status,
            x: self.nearest,
            margin: self.margin,
            forwards: self.forwards,
            gradients: self.gradients,
            late: f64::NAN,
        }
    }

    fn needs_gradient(&self) -> bool {
        matches!(self.phase, Phase::Descent)
    }

    fn cotangent(&self, logits: &[f32], cotangent: &mut [f32]) {
        cotangent.fill(0.0);
        if self.seen.is_some() {
            self.descent.cotangent(logits, self.label, cotangent);
        }
    }

    fn step(&mut self, gradient: &mut [f32]) {
        if let Some(seen) = self.seen.take() {
            self.gradients += 1;
            self.descent.step(&self.domain, seen, gradient);
        }
    }
}
