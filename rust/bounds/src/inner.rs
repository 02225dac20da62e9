//! Intermediate bounds by branch and bound: what no lines over a whole region can show, its parts
//! do, and later layers gain from it.

use aisec_numeric::Cancelled;
use rayon::prelude::*;

use crate::complete::HALF;
use crate::crown::Analysis;
use crate::lanes::Row;
use crate::layout::Layout;
use crate::proof::Leaf;
use crate::record::leaf;
use crate::split_tree::{Domain, Progress, SplitTree};
use crate::state::State;

/// Domains split together.
const WAVE: usize = 4;

/// Passes of a row behind one domain, both ways, those that choose a split included.
const PASSES: f64 = 32.0;

/// Fewer domains gain too little.
const FEWEST: usize = 20;

/// Scalar operations of so many domains for each of some goals.
pub(crate) fn cost_of(layout: &Layout, goals: usize, domains: usize) -> f64 {
    PASSES * (goals * domains) as f64 * layout.work() as f64
}

/// How many domains each of some goals can have for half of what is left, so that later layers have
/// their share; none where that is too few to be worth it, or there is nothing to branch.
pub(crate) fn worth(layout: &Layout, goals: usize, left: f64, wanted: usize) -> usize {
    if goals == 0 || layout.parameters == 0 {
        return 0;
    }
    let domains = ((0.5 * left / cost_of(layout, goals, 1)) as usize).min(wanted);
    if domains < FEWEST { 0 } else { domains }
}

/// One side of an element, to be bounded.
pub(crate) struct Goal {
    pub element: usize,
    pub upper: bool,
    /// Parameters of the whole region's bound.
    pub start: Vec<f32>,
}

impl Analysis<'_> {
    /// Bounds of sides of elements of the node that the layout starts from, each by so many domains
    /// at most, and the parts they hold in, if those are kept. A side that is above zero is left
    /// alone.
    pub fn branch(
        &self,
        layout: &Layout,
        states: (&State, &State),
        goals: Vec<Goal>,
        (most, record): (usize, bool),
    ) -> Result<Vec<(f64, Vec<Leaf>)>, Cancelled> {
        let branch = |goal: Goal| {
            let sign = if goal.upper { -1.0 } else { 1.0 };
            let rows = [vec![Row { entries: vec![(goal.element, sign)], rhs: 0.0 }]];
            let how = (HALF, usize::MAX);
            let mut tree = SplitTree::new(self, layout, states, &rows, how, (0.0, true));
            tree.wave = WAVE;
            let mut root = Domain::whole(0, vec![1.0]);
            root.parameters = goal.start;
            let mut progress = tree.begin(vec![root], &HALF)?;
            while let Progress::Wave { stuck: false, .. } = progress
                && tree.domains < most
            {
                progress = tree.advance()?;
            }
            let (bound, parts) = tree.conclude();
            let kept = if record { &parts[..] } else { &[] };
            Ok((bound, kept.iter().map(|part| leaf(layout, part, &[], 0)).collect()))
        };
        goals.into_par_iter().map(branch).collect()
    }
}
