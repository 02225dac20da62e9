//! The L2 attack of Carlini & Wagner ("Towards evaluating the robustness of neural networks",
//! IEEE S&P 2017, section VI-A), with confidence 0.
//!
//! Adam minimises `|x' - x|² + c·max(z_y - max_{i != y} z_i, 0)` over `w`, `x'` being the middle of
//! the input range plus half its width times `tanh(w)`; the constant `c` is found by a search that
//! raises it by ten until an attack succeeds and then halves the interval.

use serde::Deserialize;

use crate::attack::{Start, parse};
use crate::min_norm::{Descent, Domain, Seen, margin_cotangent, searches};
use crate::{Error, Norm, Result, Setting};

/// Keeps `atanh` finite at the walls of the input range.
const INSIDE: f64 = 0.999_999;
/// Progress is compared this often in one run.
const COMPARISONS: usize = 10;
/// A run ends when the loss has not fallen below this part of what it was.
const PROGRESS: f64 = 0.9999;
/// Adam's averages (Kingma & Ba, 2015).
const BETA: (f64, f64) = (0.9, 0.999);
const TINY: f64 = 1e-8;

/// How fast a search moves.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CarliniWagnerConfig {
    /// Gradients of one run.
    pub steps: usize,
    /// Runs, each with another constant.
    pub runs: usize,
    /// Adam's step size.
    pub step_size: f64,
    /// The first constant.
    pub constant: f64,
}

impl Default for CarliniWagnerConfig {
    fn default() -> Self {
        Self { steps: 1000, runs: 9, step_size: 0.01, constant: 1e-3 }
    }
}

impl CarliniWagnerConfig {
    /// # Errors
    /// When a parameter is out of its range, and for norms other than L2.
    pub fn check(self, norm: Norm) -> Result<Self> {
        if norm != Norm::L2 {
            return Err(Error::input("carlini-wagner is for the L2 norm"));
        }
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let counts = self.steps > 0 && self.runs > 0;
        if !counts || !positive(self.step_size) || !positive(self.constant) {
            return Err(Error::input(
                "carlini-wagner needs steps >= 1, runs >= 1, a positive step size and constant",
            ));
        }
        Ok(self)
    }
}

pub(crate) fn make(name: &str, options: &str, setting: &Setting) -> Result<Start> {
    let config = parse::<CarliniWagnerConfig>(name, options)?.check(setting.norm)?;
    Ok(searches(setting, move || CarliniWagner::new(config)))
}

/// The descent on one sample.
#[derive(Debug)]
pub struct CarliniWagner {
    config: CarliniWagnerConfig,
    x: Vec<f32>,
    /// `w` and the gradient of the margin at the start, which every run shares.
    start: Vec<f64>,
    start_gradient: Vec<f32>,
    w: Vec<f64>,
    tanh: Vec<f64>,
    mean: Vec<f64>,
    square: Vec<f64>,
    /// The constant, and the interval it is searched in.
    constant: f64,
    low: f64,
    high: f64,
    /// Runs finished, steps of this one, and whether it found an adversarial point.
    run: usize,
    done: usize,
    success: bool,
    last_loss: f64,
    adversarial: bool,
}

impl CarliniWagner {
    pub fn new(config: CarliniWagnerConfig) -> Self {
        Self {
            config,
            x: vec![],
            start: vec![],
            start_gradient: vec![],
            w: vec![],
            tanh: vec![],
            mean: vec![],
            square: vec![],
            constant: config.constant,
            low: 0.0,
            high: f64::INFINITY,
            run: 0,
            done: 0,
            success: false,
            last_loss: f64::INFINITY,
            adversarial: false,
        }
    }

    fn restart(&mut self) {
        self.w.clone_from(&self.start);
        self.mean.fill(0.0);
        self.square.fill(0.0);
        (self.done, self.success, self.last_loss) = (0, false, f64::INFINITY);
    }

    /// Chooses the next constant.
    fn end_run(&mut self) {
        if self.success {
            self.high = self.high.min(self.constant);
        } else {
            self.low = self.low.max(self.constant);
        }
        self.constant =
            if self.high.is_finite() { 0.5 * (self.low + self.high) } else { 10.0 * self.constant };
        self.run += 1;
        self.restart();
    }

    /// Whether the run is over, given the loss at its latest point.
    fn run_over(&mut self, loss: f64) -> bool {
        let every = (self.config.steps / COMPARISONS).max(1);
        if self.done > 0 && self.done.is_multiple_of(every) {
            if loss > PROGRESS * self.last_loss {
                return true;
            }
            self.last_loss = loss;
        }
        self.done == self.config.steps
    }

    fn place(&mut self, domain: &Domain) {
        self.tanh.clear();
        self.tanh.extend(self.w.iter().map(|w| w.tanh()));
        let range = domain.lower().iter().zip(domain.upper());
        for ((x, tanh), (&low, &high)) in self.x.iter_mut().zip(&self.tanh).zip(range) {
            let (low, high) = (f64::from(low), f64::from(high));
            *x = (0.5 * (low + high) + 0.5 * (high - low) * tanh) as f32;
        }
        domain.clip(&mut self.x);
    }
}

impl Descent for CarliniWagner {
    fn begin(&mut self, domain: &Domain, x: &[f32]) {
        let range = domain.lower().iter().zip(domain.upper());
        let start = x.iter().zip(range).map(|(&x, (&low, &high))| {
            let (x, low, high) = (f64::from(x), f64::from(low), f64::from(high));
            let half = 0.5 * (high - low);
            if half > 0.0 { (INSIDE * (x - 0.5 * (low + high)) / half).atanh() } else { 0.0 }
        });
        self.start = start.collect();
        self.mean = vec![0.0; x.len()];
        self.square = vec![0.0; x.len()];
        self.x = x.to_vec();
        self.restart();
        self.place(domain);
    }

    fn point(&self) -> &[f32] {
        &self.x
    }

    fn tell(&mut self, seen: Seen, _: &[f32], _: usize) -> bool {
        self.adversarial = seen.adversarial;
        self.success |= seen.adversarial;
        let loss = seen.distance * seen.distance + self.constant * seen.margin.max(0.0);
        if self.run_over(loss) {
            self.end_run();
        }
        self.run == self.config.runs
    }

    fn cotangent(&self, logits: &[f32], label: usize, cotangent: &mut [f32]) {
        if !self.adversarial {
            margin_cotangent(logits, label, cotangent);
        }
    }

    fn step(&mut self, domain: &Domain, _: Seen, gradient: &mut [f32]) {
        if self.start_gradient.is_empty() {
            self.start_gradient.extend_from_slice(gradient);
        }
        if self.done == 0 {
            // After the first run the point just evaluated is the end of the run before.
            gradient.copy_from_slice(&self.start_gradient);
            self.place(domain);
        }
        self.done += 1;
        let power = self.done as i32;
        let correct = (1.0 - BETA.0.powi(power), 1.0 - BETA.1.powi(power));
        for i in 0..self.x.len() {
            let half = 0.5 * (f64::from(domain.upper()[i]) - f64::from(domain.lower()[i]));
            let slope = half * (1.0 - self.tanh[i] * self.tanh[i]);
            let delta = f64::from(self.x[i]) - f64::from(domain.clean()[i]);
            let g = slope * (2.0 * delta - self.constant * f64::from(gradient[i]));
            self.mean[i] = BETA.0 * self.mean[i] + (1.0 - BETA.0) * g;
            self.square[i] = BETA.1 * self.square[i] + (1.0 - BETA.1) * g * g;
            let root = (self.square[i] / correct.1).sqrt() + TINY;
            self.w[i] -= self.config.step_size * self.mean[i] / correct.0 / root;
        }
        self.place(domain);
    }
}
