//! Auto-PGD for L1 (Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
//! classifiers", ICML 2021, algorithm 1): steps along the largest gradient coordinates, exact
//! projection onto the L1 ball cut with the box, sparsity of the step adapted to the best point's.

use std::sync::Arc;

use aisec_numeric::project::L1Workspace;

use crate::search::Record;
use crate::{ApgdConfig, GradientSearch, Loss, Norm, Outcome, Region, Search};

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
    config: Arc<ApgdConfig>,
    region: Region,
    label: usize,
    record: Record,
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
    sorted: Vec<f32>,
    projection: L1Workspace,
}

impl ApgdL1 {
    /// # Panics
    /// For any norm but L1.
    pub fn new(config: Arc<ApgdConfig>, region: Region, label: usize, sample: u64) -> Self {
        assert!(region.norm() == Norm::L1, "L1-APGD is for the L1 norm");
        let x = config.start(&region, sample);
        Self {
            label,
            record: Record::new(region.clean()),
            iteration: 0,
            window: (config.steps() * 4 / 100).max(1),
            step: 1.0,
            kept: KEPT,
            changed: x.len(),
            best: x.clone(),
            best_gradient: vec![0.0; x.len()],
            best_loss: f64::NEG_INFINITY,
            is_best: false,
            sorted: Vec::new(),
            projection: L1Workspace::default(),
            config,
            x,
            region,
        }
    }

    fn loss(&self) -> Loss {
        self.config.loss()
    }

    /// Adapts the step to the sparsity of the best point; goes back there when it became sparser.
    fn checkpoint(&mut self, gradient: &mut [f32]) {
        let pairs = self.best.iter().zip(self.region.clean());
        let changed = pairs.filter(|(best, clean)| best != clean).count();
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
        self.sorted.clear();
        self.sorted.extend(gradient.iter().map(|g| g.abs()));
        let rank = (((1.0 - self.kept) * len as f64) as usize).min(len - 1);
        let (_, &mut threshold, _) = self.sorted.select_nth_unstable_by(rank, f32::total_cmp);
        let moves = |g: f32| g.abs() >= threshold && g != 0.0;
        let count = gradient.iter().filter(|&&g| moves(g)).count();
        let size = (self.step * self.region.eps() / (count as f64 + 1e-10)) as f32;
        for (x, &g) in self.x.iter_mut().zip(gradient) {
            if moves(g) {
                *x += size.copysign(g);
            }
        }
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
        let loss = margin.map_or(f64::NEG_INFINITY, |_| self.loss().value(logits, self.label));
        self.is_best = loss > self.best_loss;
        if self.is_best {
            self.best_loss = loss;
            self.best.copy_from_slice(row);
        }
        self.iteration == self.config.steps()
            || self.region.is_point()
            || self.record.confident(logits)
    }

    fn finish(self) -> Outcome {
        self.record.finish()
    }
}

impl GradientSearch for ApgdL1 {
    fn cotangent(&self, logits: &[f32], cotangent: &mut [f32]) {
        self.loss().cotangent(logits, self.label, cotangent);
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
