//! Trees that grow from open domains of other trees, each over intermediate bounds of its own.
//!
//! Bounds that are computed anew where some signs are known are much tighter than clamped ones,
//! but cost as much as many domains; so a tree is grown over them until it has paid for them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use aisec_graph::Operator;
use aisec_numeric::Cancelled;
use rayon::prelude::*;

use crate::ascent::Tuning;
use crate::complete::{Answer, HALF, Run, Why};
use crate::crown::Analysis;
use crate::lanes::{Cut, Row};
use crate::layout::{Layout, Sign};
use crate::proof::{Inside, Part, Proof};
use crate::record::{begun, leaf, splits};
use crate::refine::{Known, Signed};
use crate::region::Region;
use crate::split_tree::{Domain, Progress, SplitTree};
use crate::state::State;

/// Bounds over those found anew must be above zero by this fraction of the numbers involved.
const MARGIN: f64 = 1e-9;

/// Trees grown at a time.
const WAVE: usize = 8;

/// A tree has at least, and at most, so many domains before others grow from it.
const DOMAINS: (usize, usize) = (64, 4096);

/// How much longer a tree may take than its intermediate bounds, which are carried back in float64
/// and in small groups: by the count of scalar operations.
const PRICE: f64 = 4.0;

/// What seeds from one tree share: the bounds it was grown over, and its number in the record.
#[derive(Clone)]
pub(crate) struct Family {
    pub known: Known,
    pub number: usize,
}

/// An open domain, apart from the tree it comes from.
pub(crate) struct Seed {
    clause: usize,
    /// From the whole region on.
    signs: Vec<Sign>,
    family: Family,
    /// Its share of the family's bytes.
    share: usize,
    betas: Vec<f32>,
    weights: Vec<f32>,
    bound: f32,
    id: u64,
}

impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Seed {}

impl PartialOrd for Seed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seed {
    /// The lowest bound first, then the oldest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.bound.total_cmp(&self.bound).then(other.id.cmp(&self.id))
    }
}

impl Seed {
    /// All of a domain's signs are among its cuts.
    pub fn new(layout: &Layout, domain: Domain, family: &Family) -> Self {
        Self {
            clause: domain.clause,
            signs: domain.cuts.iter().map(|cut| layout.sign(cut)).collect(),
            family: family.clone(),
            share: 0,
            betas: domain.betas,
            weights: domain.weights,
            bound: domain.bound,
            id: 0,
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.share
            + size_of::<Sign>() * self.signs.len()
            + 4 * (self.betas.len() + self.weights.len())
    }
}

/// Seeds that wait.
pub(crate) struct Forest {
    open: BinaryHeap<Seed>,
    /// Seeds put when memory was short: the newest goes first.
    deep: Vec<Seed>,
    bytes: usize,
    limit: usize,
    next: u64,
}

/// What goes next.
pub(crate) enum Taken {
    Seeds(Vec<Seed>),
    Nothing,
    /// More seeds wait than memory holds.
    Full,
}

impl Forest {
    pub fn new(seeds: Vec<Seed>, limit: usize) -> Self {
        let mut forest =
            Self { open: BinaryHeap::new(), deep: Vec::new(), bytes: 0, limit, next: 0 };
        forest.put_all(seeds);
        forest
    }

    /// Puts seeds that one tree leaves.
    fn put_all(&mut self, seeds: Vec<Seed>) {
        let count = seeds.len();
        for mut seed in seeds {
            let known = seed.family.known.iter().map(|(_, lower, _)| 16 * lower.len());
            seed.share = known.sum::<usize>() / count;
            self.put(seed);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.deep.is_empty()
    }

    pub fn put(&mut self, mut seed: Seed) {
        seed.id = self.next;
        self.next += 1;
        self.bytes += seed.bytes();
        if 2 * self.bytes > self.limit {
            self.deep.push(seed);
        } else {
            self.open.push(seed);
        }
    }

    pub fn take(&mut self) -> Taken {
        if self.is_empty() {
            return Taken::Nothing;
        }
        if self.bytes > self.limit {
            return Taken::Full;
        }
        let mut taken = Vec::new();
        while taken.len() < WAVE {
            let Some(seed) = self.deep.pop().or_else(|| self.open.pop()) else { break };
            self.bytes -= seed.bytes();
            taken.push(seed);
        }
        Taken::Seeds(taken)
    }

    /// The lowest bound of what waits, as the search believes, less more than its rounding.
    pub fn worst(&self) -> f64 {
        let worst = self.open.iter().chain(&self.deep).map(|seed| f64::from(seed.bound));
        let worst = worst.fold(f64::INFINITY, f64::min);
        worst - 1e-3 * worst.abs()
    }
}

/// What became of a seed.
struct Grown {
    open: Vec<Seed>,
    domains: usize,
    least: f64,
    /// Points where a clause may be met.
    points: Vec<(usize, Vec<f32>)>,
    stuck: bool,
    /// Where it hangs, and what was found; if that is kept.
    part: Option<(usize, Part)>,
}

impl Run<'_> {
    /// Goes on from open domains, each with intermediate bounds of its own.
    pub(crate) fn grow(
        &mut self,
        region: &Region,
        rows: &[Vec<Row>],
        mut forest: Forest,
    ) -> Answer {
        loop {
            let taken = match forest.take() {
                Taken::Nothing => return Answer::Refuted,
                Taken::Full => {
                    self.bound = self.bound.max(forest.worst());
                    return Answer::Open(Why::Memory);
                }
                Taken::Seeds(taken) => taken,
            };
            let record = self.record.wanted();
            let grown = taken
                .par_iter()
                .map(|seed| grow(&self.analysis, region, rows, seed, record))
                .collect::<Result<Vec<Grown>, Cancelled>>();
            let Ok(grown) = grown else {
                taken.into_iter().for_each(|seed| forest.put(seed));
                self.bound = self.bound.max(forest.worst());
                return Answer::Open(Why::Timeout);
            };
            let mut stuck = false;
            for mut grown in grown {
                self.domains += grown.domains;
                self.least = self.least.min(grown.least);
                stuck |= grown.stuck;
                if let Some(point) = self.counterexample(&grown.points) {
                    return Answer::Met(point);
                }
                if let Some((parent, part)) = grown.part {
                    let number = self.record.add(parent, part);
                    grown.open.iter_mut().for_each(|seed| seed.family.number = number);
                }
                forest.put_all(grown.open);
            }
            let why = match (stuck, self.domains >= self.search.most_domains) {
                (true, _) => Why::NothingToSplit,
                (_, true) if !forest.is_empty() => Why::Domains,
                _ => continue,
            };
            self.bound = self.bound.max(forest.worst());
            return Answer::Open(why);
        }
    }
}

/// Grows a tree from a seed.
fn grow(
    analysis: &Analysis,
    region: &Region,
    rows: &[Vec<Row>],
    seed: &Seed,
    record: bool,
) -> Result<Grown, Cancelled> {
    let mut grown = Grown {
        open: Vec::new(),
        domains: 0,
        least: f64::INFINITY,
        points: Vec::new(),
        stuck: false,
        part: None,
    };
    let prepared = analysis.prepared;
    let output = prepared.graph.output();
    let part = |inside| {
        let (clauses, splits) = (vec![seed.clause], splits(prepared, &seed.signs));
        Some((seed.family.number, Part { clauses, splits, inside }))
    };
    let state = match analysis.signed_state(region.clone(), &seed.family.known, &seed.signs)? {
        Signed::There(state) => state,
        Signed::Nowhere(node, index) => {
            grown.domains = 1;
            grown.part = part(Inside::Nothing { node, index }).filter(|_| record);
            return Ok(grown);
        }
    };
    let Some(layout) = Layout::new(prepared, &state, output, &seed.signs) else {
        grown.stuck = true;
        return Ok(grown);
    };
    let own_state = state.without_free(&layout);
    // Who checks a certificate finds these bounds again, in another order of summation.
    let kept = (MARGIN, record);
    let mut tree =
        SplitTree::new(analysis, &layout, (&state, &own_state), rows, (HALF, usize::MAX), kept);
    let cuts: Vec<Cut> = seed.signs.iter().filter_map(|sign| layout.cut(sign)).collect();
    let mut root = Domain::whole(seed.clause, seed.weights.clone());
    root.bound = seed.bound;
    let begun_with = if cuts.len() == seed.signs.len() { cuts.len() } else { 0 };
    if begun_with > 0 {
        (root.cuts, root.betas) = (cuts, seed.betas.clone());
    }
    let most = domains_worth(analysis, &layout, &state);
    let first = Tuning { iterations: 2 * HALF.iterations, rate: 0.1, ..HALF };
    let mut progress = tree.begin(vec![root], &first)?;
    loop {
        match progress {
            Progress::Done | Progress::Full => break,
            Progress::Wave { points, stuck } => {
                grown.points.extend(points);
                grown.stuck |= stuck;
            }
        }
        if grown.stuck || tree.domains >= most {
            break;
        }
        progress = tree.advance()?;
    }
    (grown.domains, grown.least) = (tree.domains, tree.least);
    if record {
        let leaves = tree.refuted.iter().map(|r| leaf(&layout, r, &seed.signs, begun_with));
        let proof = begun(prepared, &state, &[]).unwrap_or_default();
        let proof = Proof { leaves: leaves.collect(), ..proof };
        grown.part = part(Inside::Proof(proof));
    }
    let family = Family { known: state.known(prepared), number: 0 };
    grown.open = tree
        .into_open()
        .map(|domain| {
            let mut next = Seed::new(&layout, domain, &family);
            if begun_with < seed.signs.len() {
                // The cuts are those after the seed's.
                next.betas.splice(..0, vec![0.0; seed.signs.len()]);
                next.signs.splice(..0, seed.signs.iter().copied());
            }
            next
        })
        .collect();
    Ok(grown)
}

/// How many domains pay for the intermediate bounds they share.
fn domains_worth(analysis: &Analysis, layout: &Layout, state: &State) -> usize {
    let prepared = analysis.prepared;
    let mut bounds = 0.0;
    let mut before = 0.0;
    for (index, facts) in prepared.nodes.iter().enumerate().take(layout.start + 1) {
        let shapes = prepared.graph.input_shapes(index);
        let node = &prepared.graph.nodes()[index];
        before += node.op.work(&layout.site(index, &shapes, 1)) as f64;
        if !facts.readers.is_empty() && !facts.affine_in_input {
            let loose = analysis.loose(state, index).iter().filter(|&&loose| loose).count();
            bounds += (2 * loose) as f64 * before;
        }
    }
    let domain = (3 * HALF.iterations * layout.work().max(1)) as f64;
    ((PRICE * bounds / domain) as usize).clamp(DOMAINS.0, DOMAINS.1)
}
