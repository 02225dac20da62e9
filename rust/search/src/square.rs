//! Square Attack: random search over windows, no gradients (Andriushchenko, Croce, Flammarion &
//! Hein, "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV
//! 2020), for Linf, L2, L1 and boxes.
//!
//! Windows, signs and orientation are drawn for each sample alone, from all positions including
//! the last row and column. Windows of a non-square image are scaled along each axis; a vector of
//! features is searched by blocks of consecutive features.

use std::sync::Arc;

use aisec_numeric::project::L1Workspace;
use aisec_numeric::random::{Generator, Stream};
use aisec_numeric::vector::sum_of;

use serde::Deserialize;

use crate::attack::{Sample, Setting, Start, parse};
use crate::bump::Bump;
use crate::layout::Window;
use crate::search::Record;
use crate::{Constraint, Error, Layout, Norm, Outcome, Region, Result, Search, square_tabular};

/// From which iteration on a smaller part of the sample is changed (AutoAttack's schedule, made
/// for 10 000 queries and not rescaled).
const SCHEDULE: [u32; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];

/// Proposals that change nothing are drawn again, at most this often.
const REDRAWS: usize = 16;

/// Fraction of the sample that a window covers at iteration `i`: `p_init`, halved each time `i`
/// passes 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000.
pub fn fraction(p_init: f64, iteration: u32) -> f64 {
    p_init / f64::from(1u32 << stage(iteration))
}

fn stage(iteration: u32) -> usize {
    SCHEDULE.iter().filter(|&&last| iteration > last).count()
}

/// The window of one stage of the schedule, and its shape for the L2 and L1 versions: upright and
/// transposed, where both exist.
#[derive(Debug, Clone)]
struct Stage {
    height: usize,
    width: usize,
    bumps: Vec<Bump>,
}

/// What all samples of one Square run share.
#[derive(Debug, Clone)]
pub struct SquareConfig {
    layout: Layout,
    norm: Norm,
    queries: u32,
    noise: Stream,
    stages: Vec<Stage>,
    /// The shape of one tile of the start point, L2 and L1 only.
    tile: Option<Stage>,
}

/// Tiles of the start point along each axis, L2 and L1.
const TILES: usize = 5;

impl SquareConfig {
    /// # Errors
    /// For the L0 norm, when there are no queries or `p_init` is not in (0, 1].
    pub fn new(
        shape: &[usize],
        norm: Norm,
        queries: u32,
        p_init: f64,
        seed: u64,
        restart: u32,
    ) -> Result<Self> {
        if queries == 0 {
            return Err(Error::input("queries must be at least 1, got 0"));
        }
        if !(p_init > 0.0 && p_init <= 1.0) {
            return Err(Error::input(format!("p_init={p_init} must be above 0 and at most 1")));
        }
        let layout = Layout::of(shape);
        let power = match norm {
            Norm::Linf | Norm::Box => None,
            Norm::L2 => Some(2),
            Norm::L1 => Some(1),
            Norm::L0 => return Err(Error::input("square does not search the L0 norm")),
        };
        let stages = (0..=SCHEDULE.len())
            .map(|stage| {
                let part = p_init / f64::from(1u32 << stage);
                let (height, width) = window_size(layout, part, power.is_some());
                Stage::new(height, width, power)
            })
            .collect();
        let tile = power.map(|power| {
            let side = |n: usize| (n / TILES).max(1);
            Stage::new(side(layout.height), side(layout.width), Some(power))
        });
        let noise = Stream::new(seed, "square", restart);
        Ok(Self { layout, norm, queries, noise, stages, tile })
    }

    /// What a point spends of the radius: the squared length (L2) or the length (L1) of its
    /// perturbation; searches of other norms do not ask.
    fn spent_by(&self, point: &[f32], clean: &[f32]) -> f64 {
        let delta = |point: f32, clean: f32| f64::from(point) - f64::from(clean);
        match self.norm {
            Norm::Linf | Norm::Box | Norm::L0 => 0.0,
            Norm::L2 => sum_of(point, clean, |p, x| delta(p, x) * delta(p, x)),
            Norm::L1 => sum_of(point, clean, |p, x| delta(p, x).abs()),
        }
    }
}

impl Stage {
    fn new(height: usize, width: usize, power: Option<u32>) -> Self {
        let bumps = power.map_or_else(Vec::new, |power| {
            let upright =
                (height > 1 || width == 1).then(|| Bump::new(height, width, power, false));
            let across = (width > 1).then(|| Bump::new(height, width, power, true));
            upright.into_iter().chain(across).collect()
        });
        Self { height, width, bumps }
    }

    fn draw_bump(&self, generator: &mut Generator) -> &Bump {
        &self.bumps[generator.below(self.bumps.len() as u32) as usize]
    }

    fn draw_window(&self, layout: Layout, generator: &mut Generator) -> Window {
        let mut place =
            |size: usize, side: usize| generator.below((size - side + 1) as u32) as usize;
        Window {
            row: place(layout.height, self.height),
            column: place(layout.width, self.width),
            height: self.height,
            width: self.width,
        }
    }
}

/// Sides of a window that covers `part` of the sample: the same share of each axis longer than
/// one. The smooth shapes of L2 and L1 need odd sides of at least three, where they fit.
fn window_size(layout: Layout, part: f64, smooth: bool) -> (usize, usize) {
    let axes = [layout.height, layout.width].iter().filter(|&&n| n > 1).count().max(1);
    let share = part.powf(1.0 / axes as f64);
    let side = |n: usize| {
        let side = ((share * n as f64).round() as usize).max(1);
        let side = if smooth { side.max(3) | 1 } else { side };
        side.min(n)
    };
    (side(layout.height), side(layout.width))
}

/// The parameters by name.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    queries: u32,
    p_init: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { queries: 5000, p_init: 0.8 }
    }
}

pub(crate) fn make(name: &'static str, options: &str, setting: &Setting) -> Result<Start> {
    let Options { queries, p_init } = parse(name, options)?;
    match &setting.constraint {
        None => {}
        Some(Constraint::Tabular(table)) => {
            return square_tabular::make(table.clone(), queries, p_init, setting);
        }
        Some(_) => return Err(Error::input("square does not search patches or frames")),
    }
    let Setting { shape, norm, seed, restart, .. } = setting;
    let config = SquareConfig::new(shape, *norm, queries, p_init, *seed, *restart)?;
    let (config, setting) = (Arc::new(config), setting.clone());
    Ok(Box::new(move |sample: &Sample<'_>| {
        let region = setting.region(sample.clean)?;
        let (label, id) = (sample.label, sample.id);
        Ok(Box::new(Square::new(config.clone(), region, label, id, sample.start)))
    }))
}

/// The search on one sample.
#[derive(Debug)]
pub struct Square {
    config: Arc<SquareConfig>,
    region: Region,
    label: usize,
    sample: u64,
    /// The accepted point is the record's: the smallest margin so far.
    record: Record,
    /// What its perturbation spends of the radius: the squared length (L2) or the length (L1).
    spent: f64,
    /// The first point, where it is not drawn.
    start: Option<Vec<f32>>,
    scratch: Vec<f32>,
    projection: L1Workspace,
}

impl Square {
    /// Begins at `start`, projected, or at random stripes (Linf, box) or tiles (L2, L1).
    pub fn new(
        config: Arc<SquareConfig>,
        region: Region,
        label: usize,
        sample: u64,
        start: Option<&[f32]>,
    ) -> Self {
        Self {
            config,
            label,
            sample,
            record: Record::new(region.clean()),
            spent: 0.0,
            start: start.map(|start| region.nearest(start)),
            region,
            scratch: Vec::new(),
            projection: L1Workspace::default(),
        }
    }

    /// Vertical stripes: each column of each channel at one end of its range.
    fn stripes(&self, generator: &mut Generator, row: &mut [f32]) {
        let layout = self.config.layout;
        for channel in 0..layout.channels {
            for column in 0..layout.width {
                let ends = self.end(generator);
                for line in 0..layout.height {
                    let index = layout.index(channel, line, column);
                    row[index] = ends[index];
                }
            }
        }
    }

    /// Either end of the region's intervals.
    fn end(&self, generator: &mut Generator) -> &[f32] {
        if generator.sign() > 0.0 { self.region.upper() } else { self.region.lower() }
    }

    /// Moves a window of the best point, channel by channel, to either end of its range.
    fn flip_window(&self, iteration: u32, generator: &mut Generator, row: &mut [f32]) {
        let layout = self.config.layout;
        let stage = &self.config.stages[stage(iteration)];
        let best = &self.record.x;
        row.copy_from_slice(best);
        for _ in 0..REDRAWS {
            let window = stage.draw_window(layout, generator);
            let mut changed = false;
            for channel in 0..layout.channels {
                let ends = self.end(generator);
                layout.window(channel, window, |index, _| {
                    row[index] = ends[index];
                    changed |= ends[index] != best[index];
                });
            }
            if changed {
                return;
            }
        }
    }

    /// Tiles, each with the shape in either direction, as long as the region allows.
    fn tiles(&mut self, generator: &mut Generator, row: &mut [f32]) {
        let layout = self.config.layout;
        let tile = self.config.tile.as_ref().expect("the smooth norms have tiles");
        let clean = self.region.clean();
        row.copy_from_slice(clean);
        let count = |size: usize, side: usize| (size / side).min(TILES);
        let (rows, columns) = (count(layout.height, tile.height), count(layout.width, tile.width));
        let top = (layout.height - rows * tile.height) / 2;
        let left = (layout.width - columns * tile.width) / 2;
        for place in 0..rows * columns {
            let window = Window {
                row: top + place / columns * tile.height,
                column: left + place % columns * tile.width,
                height: tile.height,
                width: tile.width,
            };
            let bump = tile.draw_bump(generator);
            for channel in 0..layout.channels {
                let sign = generator.sign();
                layout.window(channel, window, |index, position| {
                    row[index] += sign * bump.values[position];
                });
            }
        }
        let spent = self.config.spent_by(row, clean);
        self.stretch(row, spent);
    }

    /// Moves the perturbation of one window into another, adds the shape there, and spends what
    /// the best point leaves of the radius.
    fn move_window(&mut self, iteration: u32, generator: &mut Generator, row: &mut [f32]) {
        let layout = self.config.layout;
        let stage = &self.config.stages[stage(iteration)];
        let clean = self.region.clean();
        let best = &self.record.x;
        let target = stage.draw_window(layout, generator);
        let source = stage.draw_window(layout, generator);
        let bump = stage.draw_bump(generator);
        let power = if self.config.norm == Norm::L2 { 2 } else { 1 };
        let root = |sum: f64| if power == 2 { sum.sqrt() } else { sum };
        let term = |value: f64| if power == 2 { value * value } else { value.abs() };
        let delta = |index: usize| f64::from(best[index]) - f64::from(clean[index]);
        let sum_over = |channel: usize, window: Window| {
            let mut sum = 0.0;
            layout.window(channel, window, |index, _| sum += term(delta(index)));
            sum
        };

        let both = target.intersection(source);
        let mut freed = 0.0;
        let mut in_target = Vec::with_capacity(layout.channels);
        for channel in 0..layout.channels {
            let sum = sum_over(channel, target);
            in_target.push(sum);
            let shared = both.map_or(0.0, |window| sum_over(channel, window));
            freed += sum + sum_over(channel, source) - shared;
        }
        let unused = (term(self.region.eps()) - self.spent).max(0.0);
        let channels = layout.channels as f64;
        let length = match power {
            2 => (unused / channels + freed).sqrt(),
            _ => (unused / channels + freed) * channels,
        };

        row.copy_from_slice(best);
        for channel in 0..layout.channels {
            layout.window(channel, source, |index, _| row[index] = clean[index]);
        }
        for channel in 0..layout.channels {
            let sign = f64::from(generator.sign());
            let old = 1.0 / (1e-12 + root(in_target[channel]));
            self.scratch.clear();
            let mut sum = 0.0;
            layout.window(channel, target, |index, position| {
                let value = sign * f64::from(bump.values[position]) + old * delta(index);
                sum += term(value);
                self.scratch.push(value as f32);
            });
            let scale = (length / (1e-12 + root(sum))) as f32;
            layout.window(channel, target, |index, position| {
                row[index] = clean[index] + scale * self.scratch[position];
            });
        }
        let spent = self.spent - freed + channels * term(length);
        self.stretch(row, spent);
    }

    /// Gives the perturbation, of which `spent` is known, length `eps`; then clips it to the box
    /// (L2) or projects (L1).
    fn stretch(&mut self, row: &mut [f32], spent: f64) {
        let eps = self.region.eps();
        if self.config.norm == Norm::L2 {
            return self.region.scale_l2(row, eps / spent.max(f64::MIN_POSITIVE).sqrt());
        }
        let scale = (eps / spent.max(f64::MIN_POSITIVE)) as f32;
        for (value, &clean) in row.iter_mut().zip(self.region.clean()) {
            *value = clean + (*value - clean) * scale;
        }
        self.region.project(row, &mut self.projection);
    }
}

impl Search for Square {
    fn ask(&mut self, row: &mut [f32]) {
        let iteration = self.record.forwards as u32;
        if iteration == 0
            && let Some(start) = &self.start
        {
            return row.copy_from_slice(start);
        }
        let mut generator = self.config.noise.at(self.sample, iteration);
        let corners = matches!(self.config.norm, Norm::Linf | Norm::Box);
        match (iteration, corners) {
            (0, true) => self.stripes(&mut generator, row),
            (0, false) => self.tiles(&mut generator, row),
            (_, true) => self.flip_window(iteration, &mut generator, row),
            (_, false) => self.move_window(iteration, &mut generator, row),
        }
    }

    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool {
        let before = self.record.margin;
        self.record.learn(row, logits, self.label);
        if self.record.margin < before {
            self.spent = self.config.spent_by(row, self.region.clean());
        }
        self.record.forwards >= u64::from(self.config.queries)
            || self.region.is_point()
            || self.record.confident(logits)
    }

    fn finish(self: Box<Self>) -> Outcome {
        self.record.finish()
    }
}
