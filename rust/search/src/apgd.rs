//! Auto-PGD for Linf, L2 and boxes (Croce & Hein, "Reliable evaluation of adversarial robustness
//! with an ensemble of diverse parameter-free attacks", ICML 2020, algorithm 1).
//!
//! A box is treated as a Linf ball whose radius differs by input: half its width.

use std::sync::Arc;

use aisec_numeric::project::L1Workspace;
use aisec_numeric::random::Stream;

use serde::Deserialize;

use crate::attack::{Sample, Setting, Start, parse};
use crate::search::Record;
use crate::{ApgdL1, Error, LargeRadius, Loss, Norm, Outcome, Region, Result, Search};
use aisec_numeric::vector::{map, sum_of};

/// Fraction of increasing steps below which the step size is halved.
const RHO: f64 = 0.75;
/// Weight of the new step; the rest is momentum.
const MOMENTUM: f32 = 0.75;

/// What all samples of one APGD run share.
#[derive(Debug, Clone)]
pub struct ApgdConfig {
    steps: usize,
    checkpoints: Vec<usize>,
    noise: Stream,
    /// Whether a clear success ends the search.
    stops: bool,
}

impl ApgdConfig {
    /// `attack` names the random numbers of the start.
    pub fn new(steps: usize, seed: u64, attack: &str, restart: u32) -> Self {
        let noise = Stream::new(seed, attack, restart);
        Self { steps, checkpoints: checkpoints(steps), noise, stops: true }
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    pub(crate) fn stops(&self) -> bool {
        self.stops
    }

    /// Linf, box: uniform noise scaled so that one coordinate reaches the radius; L2: a random
    /// direction of length `eps`; L1: standard normal noise. Projected into the region.
    pub fn start(&self, region: &Region, sample: u64) -> Vec<f32> {
        let mut generator = self.noise.at(sample, 0);
        let clean = region.clean();
        let mut x: Vec<f32> = match region.norm() {
            Norm::L1 => clean.iter().map(|x| x + generator.normal()).collect(),
            Norm::L2 => {
                let noise: Vec<f32> = clean.iter().map(|_| generator.normal()).collect();
                let length = sum_of(&noise, &noise, |g, _| f64::from(g) * f64::from(g)).sqrt();
                let scale = region.eps() / length.max(f64::MIN_POSITIVE);
                let moved = |(&x, &u): (&f32, &f32)| (f64::from(x) + scale * f64::from(u)) as f32;
                clean.iter().zip(&noise).map(moved).collect()
            }
            norm => {
                let noise: Vec<f32> = clean.iter().map(|_| generator.signed()).collect();
                let largest = noise.iter().fold(f32::MIN_POSITIVE, |m, u| m.max(u.abs()));
                let radius = |i: usize| match norm {
                    Norm::Linf => region.eps() as f32,
                    _ => 0.5 * (region.upper()[i] - region.lower()[i]),
                };
                (0..clean.len()).map(|i| clean[i] + radius(i) * (noise[i] / largest)).collect()
            }
        };
        region.project(&mut x, &mut L1Workspace::default());
        x
    }
}

/// After how many iterations the step size is reconsidered: a first window of 22 % of the
/// iterations, each next one shorter by 3 %, down to 6 %.
pub fn checkpoints(steps: usize) -> Vec<usize> {
    let percent = |p: usize| (steps * p / 100).max(1);
    let (mut window, mut at, mut found) = (percent(22), 0, Vec::new());
    loop {
        at += window;
        if at > steps {
            return found;
        }
        found.push(at);
        window = window.saturating_sub(percent(3)).max(percent(6));
    }
}

/// The parameters by name.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    steps: usize,
    /// L1 only: three runs, at three, two and one times the radius.
    large_radius: bool,
    /// Not ending at the first clear success: the example found is the most confident one.
    to_the_end: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { steps: 100, large_radius: false, to_the_end: false }
    }
}

/// APGD with the loss that its name says.
pub(crate) fn make(name: &'static str, options: &str, setting: &Setting) -> Result<Start> {
    let Options { steps, large_radius, to_the_end } = parse(name, options)?;
    if setting.norm == Norm::L0 {
        return Err(Error::input(format!("{name} does not search the L0 norm; use sigma-zero")));
    }
    let mut config = ApgdConfig::new(steps, setting.seed, name, setting.restart);
    config.stops = !to_the_end;
    let config = Arc::new(config);
    let setting = setting.clone();
    Ok(Box::new(move |sample: &Sample<'_>| {
        let loss = match (name, sample.target) {
            ("apgd-margin-t", Some(target)) => Loss::TargetedMargin(target),
            (_, Some(target)) => Loss::TargetedDlr(target),
            ("apgd-dlr", None) => Loss::Dlr,
            ("apgd-margin", None) => Loss::Margin,
            _ => Loss::CrossEntropy,
        };
        let region = setting.region(sample.clean)?;
        let config = config.clone();
        let (label, id, start) = (sample.label, sample.id, sample.start);
        Ok(match setting.norm {
            Norm::L1 if large_radius => Box::new(LargeRadius::new(
                &config,
                region,
                &setting.bounds,
                loss,
                label,
                id,
                start,
            )?),
            Norm::L1 => Box::new(ApgdL1::new(config, region, loss, label, id, start)),
            _ => Box::new(Apgd::new(config, region, loss, label, id, start)),
        })
    }))
}

/// The search on one sample.
#[derive(Debug)]
pub struct Apgd {
    config: Arc<ApgdConfig>,
    loss: Loss,
    region: Region,
    label: usize,
    record: Record,
    /// Iterations finished; the start point is iteration 0.
    iteration: usize,
    /// Step size in units of the radius.
    step: f64,
    /// The last points and one to write: which is which changes instead of what they hold.
    points: [Vec<f32>; 4],
    x: usize,
    previous: usize,
    best: usize,
    best_gradient: Vec<f32>,
    best_loss: f64,
    /// Whether the point just evaluated has the highest loss so far.
    is_best: bool,
    last_loss: f64,
    /// Steps of the current window that increased the loss.
    increases: usize,
    /// Checkpoints passed.
    passed: usize,
    /// Whether the last checkpoint halved the step, and the highest loss then.
    halved: bool,
    loss_at_checkpoint: f64,
}

impl Apgd {
    /// Begins at `start`, projected, or at random.
    ///
    /// # Panics
    /// For the L1 norm, whose APGD is another algorithm, and L0, which has none.
    pub fn new(
        config: Arc<ApgdConfig>,
        region: Region,
        loss: Loss,
        label: usize,
        sample: u64,
        start: Option<&[f32]>,
    ) -> Self {
        let known = [Norm::Linf, Norm::L2, Norm::Box].contains(&region.norm());
        assert!(known, "L1 needs L1-APGD, L0 another attack");
        let x = match start {
            Some(start) => region.nearest(start),
            None => config.start(&region, sample),
        };
        Self {
            config,
            loss,
            label,
            record: Record::new(region.clean()),
            iteration: 0,
            step: 2.0,
            x: 0,
            previous: 0,
            best: 0,
            best_gradient: vec![0.0; x.len()],
            best_loss: f64::NEG_INFINITY,
            is_best: false,
            last_loss: f64::NEG_INFINITY,
            increases: 0,
            passed: 0,
            halved: true,
            loss_at_checkpoint: f64::NEG_INFINITY,
            points: [x.clone(), x.clone(), x.clone(), x],
            region,
        }
    }

    /// Counts an increase of the loss. The first comparison is with zero, not with the start
    /// point, as in the reference implementation.
    fn compare(&mut self, loss: f64) {
        let increased = match self.iteration {
            0 => false,
            1 => loss > f64::NEG_INFINITY && self.loss.is_positive(loss),
            _ => loss > self.last_loss,
        };
        self.increases += usize::from(increased);
        self.last_loss = loss;
    }

    /// Halves the step and returns to the best point where progress has stalled.
    fn checkpoint(&mut self, gradient: &mut [f32]) {
        let before = if self.passed == 0 { 0 } else { self.config.checkpoints[self.passed - 1] };
        let window = self.iteration - before;
        let oscillates = self.increases as f64 <= RHO * window as f64;
        let stalls = !self.halved && self.loss_at_checkpoint >= self.best_loss;
        self.halved = oscillates || stalls;
        self.loss_at_checkpoint = self.best_loss;
        self.increases = 0;
        self.passed += 1;
        if self.halved {
            self.step /= 2.0;
            self.x = self.best;
            gradient.copy_from_slice(&self.best_gradient);
        }
    }

    /// `x + step·direction`, with momentum, each projected.
    fn advance(&mut self, gradient: &[f32]) {
        let momentum = if self.iteration == 0 { 1.0 } else { MOMENTUM };
        let used = [self.x, self.previous, self.best];
        let free = (0..self.points.len()).find(|i| !used.contains(i)).expect("four points");
        let mut next = std::mem::take(&mut self.points[free]);
        let (x, old) = (&self.points[self.x][..], &self.points[self.previous][..]);
        let region = &self.region;
        match region.norm() {
            Norm::Linf | Norm::Box => {
                let ball = region.norm() == Norm::Linf;
                let size = if ball { self.step * region.eps() } else { 0.5 * self.step } as f32;
                map(
                    &mut next,
                    [x, old, gradient, region.lower(), region.upper()],
                    #[inline(always)]
                    |_, [x, old, g, low, high]| {
                        let size = if ball { size } else { size * (high - low) };
                        let stepped = clamp(x + size * sign(g), low, high);
                        clamp(mix(momentum, x, stepped, old), low, high)
                    },
                );
            }
            Norm::L2 | Norm::L1 | Norm::L0 => {
                let length = sum_of(gradient, gradient, |g, _| f64::from(g) * f64::from(g)).sqrt();
                let scale = if length > 0.0 { self.step * region.eps() / length } else { 0.0 };
                map(
                    &mut next,
                    [x, gradient],
                    #[inline(always)]
                    |_, [x, g]| (f64::from(x) + scale * f64::from(g)) as f32,
                );
                region.project(&mut next, &mut L1Workspace::default());
                map(
                    &mut next,
                    [x, old],
                    #[inline(always)]
                    |stepped, [x, old]| mix(momentum, x, stepped, old),
                );
                region.project(&mut next, &mut L1Workspace::default());
            }
        }
        self.points[free] = next;
        (self.previous, self.x) = (self.x, free);
        self.iteration += 1;
    }
}

/// The step with momentum: part of the way to the point stepped to, and on as before.
#[inline(always)]
fn mix(momentum: f32, x: f32, stepped: f32, old: f32) -> f32 {
    x + momentum * (stepped - x) + (1.0 - momentum) * (x - old)
}

#[inline(always)]
fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}

/// -1, 0 or 1; 0 for NaN.
#[inline(always)]
fn sign(g: f32) -> f32 {
    let up = if g > 0.0 { 1.0 } else { 0.0 };
    let down = if g < 0.0 { 1.0 } else { 0.0 };
    up - down
}

impl Search for Apgd {
    fn ask(&mut self, row: &mut [f32]) {
        row.copy_from_slice(&self.points[self.x]);
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let margin = self.record.learn(row, logits, self.label);
        let loss = match margin {
            Some(_) => self.loss.value(logits, self.label),
            None => f64::NEG_INFINITY,
        };
        self.compare(loss);
        self.is_best = loss > self.best_loss;
        if self.is_best {
            self.best_loss = loss;
            self.best = self.x;
        }
        self.iteration == self.config.steps
            || self.region.is_point()
            || (self.config.stops && self.record.confident(logits))
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
        if self.config.checkpoints.get(self.passed) == Some(&self.iteration) {
            self.checkpoint(gradient);
        }
        self.advance(gradient);
    }
}
