//! Auto-PGD for L1 (Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
//! classifiers", ICML 2021, algorithm 1): steps along the largest gradient coordinates, exact
//! projection onto the L1 ball cut with the box, sparsity of the step adapted to the best point's.

use std::sync::Arc;

use aisec_numeric::project::L1Workspace;
use aisec_numeric::vector::{magnitude_at, map, sum_of};

use crate::region::changed;
use crate::search::Record;
use crate::{ApgdConfig, Bounds, Loss, Norm, Outcome, Region, Result, Search};

/// Fraction of the coordinates the first step moves.
const KEPT: f64 = 0.2;
/// Coordinates moved, relative to those the best point has changed.
const SPREAD: f64 = 1.5;
/// The step size never falls below this part of the radius.
const SMALLEST_STEP: f64 = 0.1;
/// A best point this much sparser than before restarts the step size.
const SPARSER: f64 = 0.95;

/// The search on one sample.
#[derive(Debug)]
pub struct ApgdL1 {
    steps: usize,
    region: Region,
    loss: Loss,
    label: usize,
    record: Record,
    /// Whether a point misclassified with confidence ends the search.
    stops: bool,
    /// Iterations finished; the start point is iteration 0.
    iteration: usize,
    /// Iterations between two checkpoints.
    window: usize,
    /// Step size in units of the radius.
    step: f64,
    /// Fraction of the coordinates a step moves.
    kept: f64,
    /// Coordinates the best point had changed at the last checkpoint.
    changed: usize,
    x: Vec<f32>,
    best: Vec<f32>,
    best_gradient: Vec<f32>,
    best_loss: f64,
    is_best: bool,
    projection: L1Workspace,
}

impl ApgdL1 {
    /// Begins at `start`, projected, or at random.
    ///
    /// # Panics
    /// For any norm but L1.
    pub fn new(
        config: Arc<ApgdConfig>,
        region: Region,
        loss: Loss,
        label: usize,
        sample: u64,
        start: Option<&[f32]>,
    ) -> Self {
        let search = match start {
            Some(start) => Self::from_point(config.steps(), region, loss, label, start),
            None => {
                let x = config.start(&region, sample);
                let d = x.len();
                Self::at(config.steps(), region, loss, label, x, d, KEPT)
            }
        };
        Self { stops: config.stops(), ..search }
    }

    /// Begins at a point, projected; the first step is as sparse as its perturbation.
    fn from_point(steps: usize, region: Region, loss: Loss, label: usize, start: &[f32]) -> Self {
        let x = region.nearest(start);
        let changed = changed(region.clean(), &x);
        let kept = changed as f64 / (SPREAD * x.len() as f64);
        Self::at(steps, region, loss, label, x, changed, kept)
    }

    fn at(
        steps: usize,
        region: Region,
        loss: Loss,
        label: usize,
        x: Vec<f32>,
        changed: usize,
        kept: f64,
    ) -> Self {
        assert!(region.norm() == Norm::L1, "L1-APGD is for the L1 norm");
        Self {
            steps,
            loss,
            label,
            record: Record::new(region.clean()),
            stops: true,
            iteration: 0,
            window: (steps * 4 / 100).max(1),
            step: 1.0,
            kept,
            changed,
            best: x.clone(),
            best_gradient: vec![0.0; x.len()],
            best_loss: f64::NEG_INFINITY,
            is_best: false,
            projection: L1Workspace::default(),
            x,
            region,
        }
    }

    /// Adapts the step to the sparsity of the best point; goes back there when it became sparser.
    fn checkpoint(&mut self, gradient: &mut [f32]) {
        let changed = changed(self.region.clean(), &self.best);
        if (changed as f64) < SPARSER * self.changed as f64 {
            self.step = 1.0;
            self.x.copy_from_slice(&self.best);
            gradient.copy_from_slice(&self.best_gradient);
        } else {
            self.step = (self.step / SPREAD).max(SMALLEST_STEP);
        }
        self.kept = changed as f64 / (SPREAD * self.x.len() as f64);
        self.changed = changed;
    }

    /// Moves the coordinates with the largest gradients by the same amount, `step` in total.
    fn advance(&mut self, gradient: &[f32]) {
        let len = self.x.len();
        let rank = (((1.0 - self.kept) * len as f64) as usize).min(len - 1);
        let threshold = magnitude_at(gradient, rank);
        let moves = |g: f32| g.abs() >= threshold && g != 0.0;
        let count = sum_of(gradient, gradient, |g, _| if moves(g) { 1.0 } else { 0.0 });
        let size = (self.step * self.region.eps() / (count + 1e-10)) as f32;
        map(
            &mut self.x,
            [gradient],
            #[inline(always)]
            |x, [g]| if moves(g) { x + size.copysign(g) } else { x },
        );
        self.region.project(&mut self.x, &mut self.projection);
        self.iteration += 1;
    }
}

impl Search for ApgdL1 {
    fn ask(&mut self, row: &mut [f32]) {
        row.copy_from_slice(&self.x);
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let margin = self.record.learn(row, logits, self.label);
        let loss = margin.map_or(f64::NEG_INFINITY, |_| self.loss.value(logits, self.label));
        self.is_best = loss > self.best_loss;
        if self.is_best {
            self.best_loss = loss;
            self.best.copy_from_slice(row);
        }
        self.iteration == self.steps
            || self.region.is_point()
            || (self.stops && self.record.confident(logits))
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.record.finish()
    }

    fn needs_gradient(&self) -> bool {
        true
    }

    fn cotangent(&self, logits: &[f32], cotangent: &mut [f32]) {
        self.loss.cotangent(logits, self.label, cotangent);
    }

    fn step(&mut self, gradient: &mut [f32]) {
        self.record.gradients += 1;
        if self.is_best {
            self.best_gradient.copy_from_slice(gradient);
        }
        if self.iteration > 0 && self.iteration.is_multiple_of(self.window) {
            self.checkpoint(gradient);
        }
        self.advance(gradient);
    }
}

/// Part of the iterations spent at three times and at twice the radius.
const STAGE: f64 = 0.3;

/// L1-APGD that begins with larger radii (section 3.2 of the paper): three runs at 3, 2 and 1
/// times the radius, each from the point of highest loss of the one before, projected. The last
/// one gives the outcome.
#[derive(Debug)]
pub struct LargeRadius {
    current: ApgdL1,
    /// Radius and iterations of the runs to come, the next one last.
    later: Vec<(Region, usize)>,
    /// What the runs before have spent.
    forwards: u64,
    gradients: u64,
}

impl LargeRadius {
    /// Begins at `start`, projected, or at normal noise around the clean input.
    ///
    /// # Errors
    /// When the sample lies outside the bounds.
    pub fn new(
        config: &ApgdConfig,
        region: Region,
        bounds: &Bounds,
        loss: Loss,
        label: usize,
        sample: u64,
        start: Option<&[f32]>,
    ) -> Result<Self> {
        let wider =
            |factor: f64| Region::new(Norm::L1, factor * region.eps(), region.clean(), bounds);
        let steps = config.steps();
        let part = ((STAGE * steps as f64).ceil() as usize).min(steps / 2);
        let first = wider(3.0)?;
        let later = vec![(wider(1.0)?, steps - 2 * part), (wider(2.0)?, part)];
        let start = start.map_or_else(|| config.start(&first, sample), <[f32]>::to_vec);
        let mut current = ApgdL1::from_point(part, first, loss, label, &start);
        current.stops = false;
        Ok(Self { current, later, forwards: 0, gradients: 0 })
    }
}

impl Search for LargeRadius {
    fn ask(&mut self, row: &mut [f32]) {
        self.current.ask(row);
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        if !self.current.tell(row, logits) {
            return false;
        }
        let Some((region, steps)) = self.later.pop() else { return true };
        let before = &self.current;
        self.forwards += before.record.forwards;
        self.gradients += before.record.gradients;
        let mut next = ApgdL1::from_point(steps, region, before.loss, before.label, &before.best);
        next.stops = self.later.is_empty();
        self.current = next;
        false
    }

    fn finish(self: Box<Self>) -> Outcome {
        let last = self.current.record.finish();
        Outcome {
            forwards: self.forwards + last.forwards,
            gradients: self.gradients + last.gradients,
            ..last
        }
    }

    fn needs_gradient(&self) -> bool {
        true
    }

    fn cotangent(&self, logits: &[f32], cotangent: &mut [f32]) {
        if self.current.record.forwards > 0 {
            self.current.cotangent(logits, cotangent);
        } else {
            cotangent.fill(0.0);
        }
    }

    fn step(&mut self, gradient: &mut [f32]) {
        // The gradient of a run's last point moves nothing: the next run begins elsewhere.
        if self.current.record.forwards > 0 {
            self.current.step(gradient);
        }
    }
}
