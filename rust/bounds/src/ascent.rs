//! Gradient ascent on a row's bound by its slopes, touching points, multipliers and weights:
//! alpha-CROWN (Xu et al. 2021, arXiv:2011.13824) and beta-CROWN (Wang et al. 2021,
//! arXiv:2103.06624), with gradients in closed form.

use std::ops::Range;

use aisec_graph::{Activation, Curve};
use aisec_numeric::Cancelled;

use crate::lanes::{Cut, Lane, Row, Workspace, pass};
use crate::layout::{Free, Layout, Lines};
use crate::tuned::PACKED;

/// How bounds are optimised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// Times a bound is evaluated; the first is CROWN's, each other follows a step of Adam.
    pub iterations: usize,
    /// Length of the first step of slopes, touching points and weights.
    pub rate: f32,
    /// Length of the first step of the multipliers of splits.
    pub beta_rate: f32,
    /// What lengths are multiplied with after each step.
    pub decay: f32,
    /// Whether a row is left alone once it is above zero.
    pub stop: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { iterations: 20, rate: 0.1, beta_rate: 0.05, decay: 0.98, stop: true }
    }
}

/// Numbers that climb together, with Adam's moments (Kingma and Ba 2015, arXiv:1412.6980).
#[derive(Clone, Default)]
struct Climber {
    now: Vec<f32>,
    best: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
    gradient: Vec<f32>,
}

/// Part of Adam's step that is the same for all numbers.
#[derive(Clone, Copy)]
struct Pace {
    rate: f32,
    mean: f32,
    square: f32,
}

const MEAN: f32 = 0.9;
const SQUARE: f32 = 0.999;

impl Pace {
    fn new(rate: f32, decay: f32, step: i32) -> Self {
        Self {
            rate: rate * decay.powi(step),
            mean: 1.0 / (1.0 - MEAN.powi(step + 1)),
            square: 1.0 / (1.0 - SQUARE.powi(step + 1)),
        }
    }
}

impl Climber {
    fn new(start: Vec<f32>) -> Self {
        let zeros = vec![0.0; start.len()];
        Self {
            best: start.clone(),
            now: start,
            mean: zeros.clone(),
            square: zeros.clone(),
            gradient: zeros,
        }
    }

    /// One step up, kept between `least` and `most`.
    fn step(&mut self, pace: Pace, least: &[f32], most: &[f32]) {
        pulp::Arch::new().dispatch(Step { climber: self, pace, least, most });
    }
}

/// A loop that is a type of its own, to be inlined into the code for the instruction set found.
struct Step<'a> {
    climber: &'a mut Climber,
    pace: Pace,
    least: &'a [f32],
    most: &'a [f32],
}

impl pulp::NullaryFnOnce for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { climber, pace, least, most } = self;
        let n = climber.now.len();
        let (now, gradient) = (&mut climber.now[..n], &climber.gradient[..n]);
        let (mean, square) = (&mut climber.mean[..n], &mut climber.square[..n]);
        let (least, most) = (&least[..n], &most[..n]);
        for i in 0..n {
            let g = gradient[i];
            mean[i] = MEAN * mean[i] + (1.0 - MEAN) * g;
            square[i] = SQUARE * square[i] + (1.0 - SQUARE) * g * g;
            let size = (square[i] * pace.square).sqrt() + 1e-8;
            let moved = now[i] + pace.rate * mean[i] * pace.mean / size;
            now[i] = if moved < least[i] {
                least[i]
            } else if moved > most[i] {
                most[i]
            } else {
                moved
            };
        }
    }
}

/// A row, what is chosen for it, and the best that was found.
pub(crate) struct Ascent<'a> {
    pub lane: Lane<'a>,
    parameters: Climber,
    betas: Climber,
    weights: Climber,
    /// The best bound so far, in float32.
    pub bound: f32,
    /// The point that the lane had at its last pass, where a caller asked for it.
    pub minimiser: Vec<f32>,
    /// Coefficients on the free elements' outputs at the best bound, and the lines there: what
    /// branching reads.
    pub coefficients: Vec<f32>,
    pub best_lines: Lines,
    /// Ranges of the parameters, where splits leave less than the layout has.
    limits: Option<Limits>,
    /// Hinges' elements whose sign splits give, and the slope there.
    fixed: Vec<(usize, f32)>,
    finished: bool,
}

impl<'a> Ascent<'a> {
    /// From the usual lines, or from those of `parameters`; weights are not negative and not all
    /// zero.
    pub fn new(
        layout: &Layout,
        rows: &'a [Row],
        weights: Vec<f32>,
        parameters: Option<&[f32]>,
    ) -> Self {
        let usual = || layout.activations.iter().flat_map(|f| f.usual.iter().copied()).collect();
        let start: Vec<f32> = parameters.map_or_else(usual, <[f32]>::to_vec);
        Self {
            lane: Lane::new(layout, rows, weights.clone()),
            parameters: Climber::new(start),
            betas: Climber::default(),
            weights: Climber::new(weights),
            bound: f32::NEG_INFINITY,
            minimiser: Vec::new(),
            coefficients: Vec::new(),
            best_lines: Lines::default(),
            limits: None,
            fixed: Vec::new(),
            finished: false,
        }
    }

    /// Splits, the lines of the elements split, and multipliers to start from.
    pub fn split(&mut self, layout: &Layout, cuts: Vec<Cut>, betas: Vec<f32>) {
        self.fixed.clear();
        for (number, cut) in cuts.iter().enumerate() {
            if cuts[..number].iter().any(|other| layout.same(cut, other)) {
                continue;
            }
            for (free, at) in layout.read_by(cut) {
                let element = free.at[at] as usize;
                let (l, u) = layout.part(free, element, &cuts);
                match free.kind {
                    Activation::Curve(curve) => self.bend(layout, free, &curve, (at, (l, u))),
                    Activation::Hinge { slope } => self.fold(free, slope as f32, (at, (l, u))),
                }
            }
        }
        self.lane.cuts = cuts;
        self.lane.betas.clone_from(&betas);
        self.betas = Climber::new(betas);
    }

    /// Takes the lines of a hinge's element over the part of its bounds that splits leave.
    fn fold(&mut self, free: &Free, slope: f32, (at, (l, u)): (usize, (f64, f64))) {
        let (lines, element) = (&mut self.lane.lines, free.first + at);
        if l >= 0.0 || u <= 0.0 {
            self.fixed.push((element, if l >= 0.0 { 1.0 } else { slope }));
            (lines.lower_offset[element], lines.upper_offset[element]) = (0.0, 0.0);
            return;
        }
        let (l, u) = (l as f32, u as f32);
        let chord = (u - slope * l) / (u - l);
        let (side, offset) = if slope <= 1.0 {
            (&mut lines.upper_slope, &mut lines.upper_offset)
        } else {
            (&mut lines.lower_slope, &mut lines.lower_offset)
        };
        (side[element], offset[element]) = (chord, u - chord * u);
    }

    /// Takes the usual lines of a curve's element over the part of its bounds that splits leave,
    /// and moves what is chosen for it into what can be chosen there.
    fn bend(
        &mut self,
        layout: &Layout,
        free: &Free,
        curve: &Curve,
        (at, (l, u)): (usize, (f64, f64)),
    ) {
        let limits = self.limits.get_or_insert_with(|| Limits::new(layout));
        let bent = layout.bends.between(free.node, curve, (l, u));
        let (lines, element) = (&mut self.lane.lines, free.first + at);
        let [below, above] = bent.lines;
        (lines.lower_slope[element], lines.lower_offset[element]) = below;
        (lines.upper_slope[element], lines.upper_offset[element]) = above;
        for (side, (usual, (least, most))) in bent.touches.into_iter().enumerate() {
            let own = free.first_parameter + side * free.at.len() + at;
            (limits.least[own], limits.most[own]) = (least, most);
            for point in [&mut self.parameters.now[own], &mut self.parameters.best[own]] {
                *point = if least < most { point.max(least).min(most) } else { usual };
            }
        }
    }

    /// Multipliers and weights to judge by, whatever was found before.
    pub fn settle(&mut self, betas: Vec<f32>, weights: Vec<f32>) {
        self.betas.best = betas;
        self.weights.best = weights;
    }

    /// Takes the nearest slopes that a certificate packs.
    pub fn round(&mut self, layout: &Layout) {
        for free in layout.activations.iter().filter(|free| free.packs()) {
            let range = free.first_parameter..free.first_parameter + free.usual.len();
            for slope in &mut self.parameters.best[range] {
                *slope = (*slope * PACKED).round() / PACKED;
            }
        }
    }

    pub fn parameters(&self) -> &[f32] {
        &self.parameters.best
    }

    pub fn betas(&self) -> &[f32] {
        &self.betas.best
    }

    pub fn weights(&self) -> &[f32] {
        &self.weights.best
    }

    /// Lines of the present parameters.
    fn aim(&mut self, layout: &Layout, shared: &Limits) {
        let limits = self.limits.as_ref().unwrap_or(shared);
        for free in &layout.activations {
            let range = free.first_parameter..free.first_parameter + free.usual.len();
            let ends = limits.within(range.clone());
            free.aim(&self.parameters.now[range], ends, &mut self.lane.lines, free.first);
        }
        for &(element, slope) in &self.fixed {
            // The slope of an element that was split is no choice.
            self.lane.lines.lower_slope[element] = slope;
            self.lane.lines.upper_slope[element] = slope;
        }
        self.lane.betas.clone_from(&self.betas.now);
        self.lane.weights.clone_from(&self.weights.now);
    }

    fn keep(&mut self) {
        if self.lane.bound > self.bound {
            self.bound = self.lane.bound;
            self.parameters.best.clone_from(&self.parameters.now);
            self.betas.best.clone_from(&self.betas.now);
            self.weights.best.clone_from(&self.weights.now);
            self.coefficients.clone_from(&self.lane.coefficients);
            self.best_lines.lower_slope.clone_from(&self.lane.lines.lower_slope);
            self.best_lines.upper_slope.clone_from(&self.lane.lines.upper_slope);
        }
    }

    fn climb(&mut self, layout: &Layout, tuning: &Tuning, shared: &Limits, step: i32) {
        let limits = self.limits.as_ref().unwrap_or(shared);
        let pace = Pace::new(tuning.rate, tuning.decay, step);
        for free in &layout.activations {
            let range = free.first_parameter..free.first_parameter + free.usual.len();
            let marks = free.first..free.first + free.at.len();
            free.gradient(
                &self.parameters.now[range.clone()],
                limits.within(range.clone()),
                (&self.lane.coefficients[marks.clone()], &self.lane.values[marks]),
                &mut self.parameters.gradient[range],
            );
        }
        self.parameters.step(pace, &limits.least, &limits.most);
        if !self.lane.cuts.is_empty() {
            for (gradient, cut) in self.betas.gradient.iter_mut().zip(&self.lane.cuts) {
                let at = layout.activations[cut.activation].first + cut.at;
                *gradient = -cut.sign() * (self.lane.values[at] - cut.limit);
            }
            let ends = (vec![0.0; self.lane.cuts.len()], vec![f32::MAX; self.lane.cuts.len()]);
            let pace = Pace::new(tuning.beta_rate, tuning.decay, step);
            self.betas.step(pace, &ends.0, &ends.1);
        }
        let rows = self.lane.rows.len();
        if rows > 1 {
            self.weights.gradient.clone_from(&self.lane.residuals);
            let before = self.weights.now.clone();
            self.weights.step(pace, &vec![0.0; rows], &vec![1.0; rows]);
            let sum: f32 = self.weights.now.iter().sum();
            if sum > 1e-3 {
                self.weights.now.iter_mut().for_each(|w| *w /= sum);
            } else {
                self.weights.now = before;
            }
        }
    }
}

/// Ranges of all parameters of a layout.
#[derive(Clone)]
struct Limits {
    least: Vec<f32>,
    most: Vec<f32>,
}

impl Limits {
    fn new(layout: &Layout) -> Self {
        let gather = |side: fn(&Free) -> &[f32]| {
            layout.activations.iter().flat_map(|free| side(free).iter().copied()).collect()
        };
        Self { least: gather(|f| &f.least), most: gather(|f| &f.most) }
    }

    fn within(&self, range: Range<usize>) -> (&[f32], &[f32]) {
        (&self.least[range.clone()], &self.most[range])
    }
}

/// Improves the bounds of all rows; each ends as it would have without the others.
///
/// A row is finished once its bound exceeds `goal`, if the tuning says so. With `points` the
/// point of its last pass stays in `minimiser`.
pub(crate) fn ascend(
    layout: &Layout,
    ascents: &mut [Ascent],
    tuning: &Tuning,
    goal: f32,
    points: bool,
    workspace: &mut Workspace,
) -> Result<(), Cancelled> {
    let limits = Limits::new(layout);
    let input = layout.lower.len();
    for step in 0..tuning.iterations.max(1) {
        layout.prepared.cancel.check()?;
        let mut active: Vec<&mut Ascent> =
            ascents.iter_mut().filter(|ascent| !ascent.finished).collect();
        if active.is_empty() {
            break;
        }
        active.iter_mut().for_each(|ascent| ascent.aim(layout, &limits));
        {
            let mut lanes: Vec<&mut Lane> =
                active.iter_mut().map(|ascent| &mut ascent.lane).collect();
            pass(layout, &mut lanes, workspace);
        }
        let last = step + 1 == tuning.iterations.max(1);
        for (ascent, point) in active.iter_mut().zip(workspace.minimisers.chunks_exact(input)) {
            ascent.keep();
            ascent.finished = tuning.stop && ascent.bound > goal;
            if points && (last || ascent.finished) {
                ascent.minimiser = point.to_vec();
            }
            if !(last || ascent.finished) {
                ascent.climb(layout, tuning, &limits, step as i32);
            }
        }
    }
    ascents.iter_mut().for_each(|ascent| ascent.finished = false);
    Ok(())
}
