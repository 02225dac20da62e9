//! One box and, depth first, its parts, until a number of boxes was bounded.

use std::ops::Range;

use aisec_numeric::{Cancel, Cancelled};

use super::bounder::Bounder;
use super::clauses::Clauses;
use super::clip::{HalfSpace, cut, weigh};
use super::record::Place;
use crate::Planes;
use crate::proof::{BoxNode, Halves, Joint};

/// A box that is not decided yet.
pub(super) struct Part<K> {
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    /// Of the worst clause over the box it was split from; an order, not a proof.
    pub slack: f64,
    pub known: K,
    pub place: Place,
}

/// What came of a part.
pub(super) struct Explored<K> {
    pub rest: Vec<Part<K>>,
    pub domains: usize,
    /// Clauses that are open after the last box was bounded.
    pub open: Vec<usize>,
    /// The node of the part, if it was bounded, and those below it; empty unless recorded.
    pub own: Option<BoxNode>,
    pub added: Vec<BoxNode>,
    /// Points that may be counterexamples.
    pub points: Vec<Vec<f64>>,
    /// A box that has no float64 between its corners was left.
    pub stuck: bool,
}

/// How parts are bounded and split.
pub(super) struct Explorer<'a, B> {
    pub bounder: &'a B,
    pub clauses: &'a Clauses,
    /// Boxes bounded before the rest is handed back.
    pub budget: usize,
    /// Whether the tree is written down.
    pub record: bool,
    pub cancel: &'a Cancel,
}

/// Reused from box to box.
#[derive(Default)]
pub(super) struct Buffers<S> {
    scratch: S,
    slack: Vec<f64>,
}

/// A box by its corners.
type Corners = (Vec<f64>, Vec<f64>);

/// Of a descent.
const STEPS: i32 = 5;
/// Most points handed back from one part.
const MAX_POINTS: usize = 4;

impl<B: Bounder> Explorer<'_, B> {
    pub fn explore(
        &self,
        part: Part<B::Known>,
        buffers: &mut Buffers<B::Scratch>,
    ) -> Explored<B::Known> {
        let mut result = Explored {
            rest: vec![part],
            domains: 0,
            open: Vec::new(),
            own: None,
            added: Vec::new(),
            points: Vec::new(),
            stuck: false,
        };
        while result.domains < self.budget && !result.stuck {
            let Some(part) = result.rest.pop() else { break };
            if self.bound(&part, &mut result, buffers).is_err() {
                result.rest.push(part); // cancelled
                break;
            }
            if !result.points.is_empty() {
                break;
            }
        }
        result
    }

    /// Bounds a box and puts what is left of it back in two halves.
    fn bound(
        &self,
        part: &Part<B::Known>,
        result: &mut Explored<B::Known>,
        buffers: &mut Buffers<B::Scratch>,
    ) -> Result<(), Cancelled> {
        self.cancel.check()?;
        let Buffers { scratch, slack } = buffers;
        let planes = self.bounder.planes(&part.known, &part.lower, &part.upper, scratch)?;
        self.clauses.slack(&planes, slack);
        let mut node = BoxNode::default();
        let hull = self.clip(part, &planes, slack, scratch, &mut node.joint)?;
        result.domains += 1;
        result.open.clear();
        result.open.extend((0..slack.len()).filter(|&clause| slack[clause] <= 0.0));
        if let Some((lower, upper)) = hull {
            self.suggest(part, &planes, slack, result);
            let input = self.axis(&planes, slack, &lower, &upper);
            let at = lower[input] + 0.5 * (upper[input] - lower[input]);
            let worst = slack.iter().copied().fold(f64::INFINITY, f64::min);
            let known = self.bounder.narrowed(&part.known, &part.lower, &part.upper, scratch);
            let (mut left, mut right) = (upper.clone(), lower.clone());
            left[input] = at;
            right[input] = at;
            result.stuck |= !(lower[input] < at && at < upper[input]);
            let below = result.added.len();
            let mut child = |lower, upper, known, place| {
                result.rest.push(Part { lower, upper, slack: worst, known, place });
            };
            if self.record {
                node.halves = Some(Halves { input, at, below, above: below + 1 });
                result.added.resize(below + 2, BoxNode::default());
            }
            child(right, upper, known.clone(), Place::Added(below + 1));
            child(lower, left, known, Place::Added(below));
        }
        if self.record {
            match part.place {
                Place::Tree(_) => result.own = Some(node),
                Place::Added(at) => result.added[at] = node,
            }
        }
        Ok(())
    }

    /// Tries the centre of the box and the lowest corner of the plane that is hardest to meet for
    /// the clause that is nearest; in the first box of a part descends from both.
    fn suggest(
        &self,
        part: &Part<B::Known>,
        planes: &Planes,
        slack: &[f64],
        result: &mut Explored<B::Known>,
    ) {
        let ranges = self.clauses.ranges().zip(slack);
        let Some((rows, _)) = ranges.min_by(|a, b| a.1.total_cmp(b.1)) else { return };
        let corners = || part.lower.iter().zip(&part.upper);
        let centre: Vec<f64> = corners().map(|(l, u)| l + 0.5 * (u - l)).collect();
        let over = |row: &usize| planes.bounds[*row] - self.clauses.rhs[*row];
        let hardest = rows.clone().max_by(|a, b| over(a).total_cmp(&over(b)));
        let corner = hardest.map(|row| {
            let plane = &planes.coefficients[row * centre.len()..][..centre.len()];
            plane.iter().zip(corners()).map(|(&a, (&l, &u))| if a > 0.0 { l } else { u }).collect()
        });
        let steps = if result.domains == 1 { STEPS } else { 0 };
        for start in [Some(centre), corner].into_iter().flatten() {
            if result.points.len() < MAX_POINTS {
                result.points.extend(self.descend(part, rows.clone(), start, steps));
            }
        }
    }

    /// Goes down the worst of the rows by signed gradients, in steps that halve; the first point
    /// that seems to be a counterexample.
    fn descend(
        &self,
        part: &Part<B::Known>,
        rows: Range<usize>,
        mut x: Vec<f64>,
        steps: i32,
    ) -> Option<Vec<f64>> {
        let corners = || part.lower.iter().zip(&part.upper);
        for step in 0..=steps {
            // The search goes on in float32 where it can.
            x.iter_mut().zip(corners()).for_each(|(x, (&l, &u))| {
                *x = f64::from(*x as f32).clamp(l, u);
            });
            let values = self.bounder.values(&part.known, &x);
            if self.clauses.met(&values) {
                return Some(x);
            }
            let over = |row: &usize| values[*row] - self.clauses.rhs[*row];
            let worst = rows.clone().max_by(|a, b| over(a).total_cmp(&over(b)))?;
            if step < steps {
                let gradient = self.bounder.gradient(&part.known, &x, worst);
                let size = 0.5_f64.powi(step);
                for ((x, (&l, &u)), slope) in x.iter_mut().zip(corners()).zip(gradient) {
                    let sign = if slope == 0.0 { 0.0 } else { slope.signum() };
                    *x = (*x - size * (u - l) * sign).clamp(l, u);
                }
            }
        }
        None
    }

    /// The hull of where the open clauses may be met, `None` where that is nowhere; conditions
    /// that follow from those of a clause are added to `joint`.
    fn clip(
        &self,
        part: &Part<B::Known>,
        planes: &Planes,
        slack: &mut [f64],
        scratch: &mut B::Scratch,
        joint: &mut Vec<Joint>,
    ) -> Result<Option<Corners>, Cancelled> {
        let width = part.lower.len();
        let mut hull: Option<Corners> = None;
        for (clause, rows) in self.clauses.ranges().enumerate() {
            if slack[clause] > 0.0 {
                continue;
            }
            let half_space = |planes: &Planes, row: usize, rhs: f64, size: f64| HalfSpace {
                coefficients: planes.coefficients[row * width..][..width].to_vec(),
                room: rhs - planes.constants[row],
                size: size + planes.constants[row].abs(),
            };
            let rhs = &self.clauses.rhs[rows.clone()];
            let spaces: Vec<HalfSpace> = rows
                .clone()
                .zip(rhs)
                .map(|(row, &rhs)| half_space(planes, row, rhs, rhs.abs()))
                .collect();
            let (mut lower, mut upper) = (part.lower.clone(), part.upper.clone());
            let mut possible =
                (0..2).all(|_| spaces.iter().all(|space| cut(space, &mut lower, &mut upper)));
            if possible && rows.len() > 1 {
                let chosen = weigh(&spaces, &lower, &upper);
                let mut weights = vec![0.0; self.clauses.rhs.len()];
                weights[rows.clone()].copy_from_slice(&chosen);
                let (known, corners) = (&part.known, (&part.lower, &part.upper));
                let found =
                    self.bounder.combined(known, &weights, corners.0, corners.1, scratch)?;
                let terms = || chosen.iter().zip(rhs).map(|(weight, rhs)| weight * rhs);
                let size = (4 * rows.len()) as f64 * terms().map(f64::abs).sum::<f64>();
                let space = half_space(&found, 0, terms().sum(), size);
                possible = (0..2).all(|_| cut(&space, &mut lower, &mut upper));
                joint.push(Joint { clause, weights: chosen });
            }
            if !possible {
                slack[clause] = f64::INFINITY;
                continue;
            }
            let (hull_lower, hull_upper) =
                hull.get_or_insert((vec![f64::INFINITY; width], vec![f64::NEG_INFINITY; width]));
            for i in 0..width {
                hull_lower[i] = hull_lower[i].min(lower[i]);
                hull_upper[i] = hull_upper[i].max(upper[i]);
            }
        }
        Ok(hull)
    }

    /// The input to split.
    ///
    /// The edge is weighed with the square root of the planes' relative slopes across it, summed
    /// over open clauses. Slopes alone, as in smart branching, follow what loose relaxations
    /// exaggerate; edges alone ignore inputs that hardly matter; the mean makes smaller trees
    /// than either.
    fn axis(&self, planes: &Planes, slack: &[f64], lower: &[f64], upper: &[f64]) -> usize {
        let width = lower.len();
        let mut score = vec![0.0; width];
        for (rows, &slack) in self.clauses.ranges().zip(slack) {
            if slack > 0.0 {
                continue;
            }
            let mut relative = vec![0.0_f64; width];
            for row in rows {
                let plane = &planes.coefficients[row * width..][..width];
                let steepest = plane.iter().fold(0.0, |m: f64, a| m.max(a.abs()));
                let steepest = if steepest > 0.0 { steepest } else { 1.0 };
                relative.iter_mut().zip(plane).for_each(|(r, a)| *r = r.max(a.abs() / steepest));
            }
            for i in 0..width {
                score[i] += relative[i].max(1e-6).sqrt() * (upper[i] - lower[i]);
            }
        }
        (0..width).fold(0, |best, i| if score[i] > score[best] { i } else { best })
    }
}
