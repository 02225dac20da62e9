//! Complete verification: whether any output over a region meets one of some clauses.
//!
//! CROWN first, alpha-CROWN for what it leaves open, then tuned intermediate bounds, then branch
//! and bound. A refutation is float64 with every rounding error taken off; a point that meets a
//! clause is confirmed by interval arithmetic.

use aisec_graph::Graph;
use aisec_numeric::rounding::{add_up, mul_up, sub_down};
use aisec_numeric::{Cancel, Cancelled};
use rayon::prelude::*;

use crate::ascent::Tuning;
use crate::crown::{Analysis, Method};
use crate::forest::{Forest, Grown, Seed, Taken, grow};
use crate::lanes::Row;
use crate::layout::Layout;
use crate::margin::share;
use crate::prepared::Prepared;
use crate::proof::{Leaf, NodeBounds, Proof, RootSlopes, Split};
use crate::refine::{Effort, TunedBound};
use crate::region::Region;
use crate::split_tree::{Domain, Progress, Refuted, SplitTree};
use crate::state::State;
use crate::trace::Stop;

/// Outputs with `row · y <= rhs` in every row.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    /// Row-major, each over the output; exact.
    pub rows: Vec<f64>,
    /// One a row, rounded down: what is below is met.
    pub rhs_lower: Vec<f64>,
    /// One a row, rounded up: what is above is not met.
    pub rhs_upper: Vec<f64>,
}

/// How a question is decided; none of it makes a wrong answer.
#[derive(Debug, Clone)]
pub struct Search {
    /// Bytes that coefficients and the queue may take.
    pub memory_limit: Option<usize>,
    /// Scalar operations that intermediate bounds may cost beyond CROWN's.
    pub effort: f64,
    /// Domains after which to give up.
    pub most_domains: usize,
    /// Whether to keep what a certificate is written from.
    pub record: bool,
    /// Points between these corners are in the region beyond doubt; the region's own otherwise.
    pub inner: Option<(Vec<f64>, Vec<f64>)>,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            memory_limit: None,
            effort: 1e11,
            most_domains: usize::MAX,
            record: false,
            inner: None,
        }
    }
}

/// What was found out.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// No point of the region meets any clause.
    Refuted,
    /// This point meets one.
    Met(Vec<f64>),
    /// Neither is known.
    Open(Why),
}

/// Why a question stayed open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Timeout,
    Memory,
    Domains,
    /// Every neuron is split, or none can be.
    NothingToSplit,
    /// No finite bounds are known.
    NotFinite,
}

/// An answer, and what was spent on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub answer: Answer,
    /// How far above its right-hand sides some row, or weighted mean of rows, of each clause
    /// provably stays: above zero where refuted, below zero in what is left where open; `-inf`
    /// where nothing is known.
    pub bound: f64,
    /// Parts of the region that were bounded.
    pub domains: usize,
    /// With `record`, of a refutation.
    pub proof: Option<Proof>,
}

/// Queue and proof when no limit is given.
const MEMORY: usize = 2 << 30;

/// Passes of the whole region, of one half of a domain.
const ROOT: Tuning = Tuning { iterations: 40, rate: 0.1, beta_rate: 0.05, decay: 0.98, stop: true };
pub(crate) const HALF: Tuning =
    Tuning { iterations: 10, rate: 0.05, beta_rate: 0.05, decay: 0.97, stop: true };

/// Domains of the whole region's tree, after which each gets intermediate bounds of its own.
const FIRST: usize = 512;

/// Passes of one intermediate bound, at most.
const INTERMEDIATE: usize = 20;

/// Decides whether some point of the region meets one of the clauses.
///
/// Cancelling ends the search early, with what is known by then. The same for equal calls that
/// are not cancelled, whatever the number of threads.
pub fn decide(
    graph: &Graph,
    region: Region,
    clauses: &[Clause],
    search: &Search,
    cancel: &Cancel,
) -> Decision {
    let prepared = Prepared::new(graph, cancel);
    let analysis = Analysis {
        prepared: &prepared,
        method: Method::Crown,
        block_bytes: share(search.memory_limit),
    };
    let (bound, least) = (f64::NEG_INFINITY, f64::INFINITY);
    let corners = || (region.lower().to_vec(), region.upper().to_vec());
    let inner = search.inner.clone().unwrap_or_else(corners);
    let mut run = Run { analysis, clauses, search, inner, bound, least, domains: 0 };
    let (answer, proof) = match run.decide(region) {
        Ok((Answer::Refuted, proof)) => (Answer::Refuted, proof),
        Ok((answer, _)) => (answer, None),
        Err(Cancelled) => (Answer::Open(Why::Timeout), None),
    };
    let bound = if answer == Answer::Refuted { run.least } else { run.bound };
    Decision { answer, bound, domains: run.domains, proof }
}

struct Run<'a> {
    analysis: Analysis<'a>,
    clauses: &'a [Clause],
    search: &'a Search,
    inner: (Vec<f64>, Vec<f64>),
    /// The best that is known of what is open.
    bound: f64,
    /// The smallest bound of what was refuted.
    least: f64,
    domains: usize,
}

/// Intermediate bounds and what they were found with.
struct Root {
    state: State,
    tuned: Vec<TunedBound>,
}

type Found = (Answer, Option<Proof>);

impl Run<'_> {
    fn decide(&mut self, region: Region) -> Result<Found, Cancelled> {
        let rows: Vec<Vec<Row>> = self.clauses.iter().map(|clause| self.rows(clause)).collect();
        if rows.iter().any(Vec::is_empty) {
            // Every output meets it.
            return Ok((Answer::Met(self.inside(&middle(&region))), None));
        }
        let state = self.analysis.state(region.clone())?;
        let root = Root { state, tuned: Vec::new() };
        let (open, leaves) = self.by_crown(&root.state)?;
        self.domains += 1;
        if open.is_empty() {
            let proof = self.search.record.then(|| self.proof(&root, leaves));
            return Ok((Answer::Refuted, proof.flatten()));
        }
        let first = self.split(&root, &rows, &open, leaves, false)?;
        let Some(open) = first.1 else { return Ok(first.0.expect("an answer or open clauses")) };
        let effort = Effort {
            work: self.search.effort,
            iterations: INTERMEDIATE,
            record: self.search.record,
        };
        let (state, tuned) = self.analysis.tuned_state(region, effort)?;
        let root = Root { state, tuned };
        // A certificate has one set of intermediate bounds, so all clauses start again from them.
        let (open, leaves) =
            if self.search.record { self.by_crown(&root.state)? } else { (open, Vec::new()) };
        if open.is_empty() {
            let proof = self.search.record.then(|| self.proof(&root, leaves));
            return Ok((Answer::Refuted, proof.flatten()));
        }
        let last = self.split(&root, &rows, &open, leaves, true)?;
        Ok(last.0.expect("the search goes on until there is an answer"))
    }

    fn rows(&self, clause: &Clause) -> Vec<Row> {
        let len = self.analysis.prepared.graph.output_len();
        let rows = clause.rows.chunks_exact(len).zip(&clause.rhs_upper);
        rows.map(|(row, &rhs)| Row::new(row, rhs)).collect()
    }

    /// Which clauses plain CROWN leaves open, and leaves for the others.
    fn by_crown(&mut self, state: &State) -> Result<(Vec<usize>, Vec<Leaf>), Cancelled> {
        let output = self.analysis.prepared.graph.output();
        let (mut open, mut leaves) = (Vec::new(), Vec::new());
        let mut worst = f64::INFINITY;
        for (number, clause) in self.clauses.iter().enumerate() {
            let bounds = self.analysis.rows(state, output, &clause.rows, Stop::Input)?;
            let slacks = bounds.iter().zip(&clause.rhs_upper).map(|(&b, &rhs)| sub_down(b, rhs));
            let slacks: Vec<f64> = slacks.collect();
            let best = (0..slacks.len()).max_by(|&a, &b| slacks[a].total_cmp(&slacks[b]));
            let best = best.expect("clauses without rows were answered before");
            if slacks[best] > 0.0 {
                self.least = self.least.min(slacks[best]);
                let mut weights = vec![0.0; slacks.len()];
                weights[best] = 1.0;
                leaves.push(Leaf {
                    clause: number,
                    splits: Vec::new(),
                    slopes: Vec::new(),
                    betas: Vec::new(),
                    weights,
                    bound: slacks[best],
                    lower: None,
                    upper: None,
                });
            } else {
                worst = worst.min(slacks[best]);
                open.push(number);
            }
        }
        self.bound = self.bound.max(worst);
        Ok((open, leaves))
    }

    /// Bounds the open clauses with tuned lines; with `deep` splits domains until there is an
    /// answer, and otherwise returns the clauses that stay open.
    fn split(
        &mut self,
        root: &Root,
        rows: &[Vec<Row>],
        open: &[usize],
        leaves: Vec<Leaf>,
        deep: bool,
    ) -> Result<(Option<Found>, Option<Vec<usize>>), Cancelled> {
        let prepared = self.analysis.prepared;
        let output = prepared.graph.output();
        let Some(layout) = Layout::new(prepared, &root.state, output, &[]) else {
            return Ok((Some((Answer::Open(Why::NotFinite), None)), None));
        };
        let own_state = root.state.without_free(&layout);
        let limit = self.search.memory_limit.unwrap_or(MEMORY) / 2;
        let mut tree = SplitTree::new(
            &self.analysis,
            &layout,
            (&root.state, &own_state),
            rows,
            (HALF, limit),
            self.search.record,
        );
        let start = open.iter().map(|&clause| Domain::whole(clause, weights(rows[clause].len())));
        let before = self.domains;
        let mut progress = tree.begin(start.collect(), &ROOT)?;
        let answer = loop {
            self.domains = before + tree.domains;
            self.least = self.least.min(tree.least);
            match progress {
                Progress::Done => break Answer::Refuted,
                Progress::Full => break Answer::Open(Why::Memory),
                Progress::Wave { points, stuck } => {
                    if let Some(point) = self.counterexample(&points) {
                        break Answer::Met(point);
                    }
                    if stuck {
                        break Answer::Open(Why::NothingToSplit);
                    }
                }
            }
            if tree.waiting() > 0 && !deep {
                return Ok((None, Some(tree.clauses())));
            }
            if self.domains >= self.search.most_domains && tree.waiting() > 0 {
                break Answer::Open(Why::Domains);
            }
            if !self.search.record && tree.domains >= FIRST && tree.waiting() > 0 {
                let seeds = tree.into_open().map(|domain| Seed::new(&layout, domain)).collect();
                let answer = self.grow(&root.state, rows, seeds)?;
                return Ok((Some((answer, None)), None));
            }
            progress = match tree.advance() {
                Ok(progress) => progress,
                Err(Cancelled) => break Answer::Open(Why::Timeout),
            };
        };
        if matches!(answer, Answer::Open(_)) {
            self.bound = self.bound.max(tree.worst());
        }
        let proof = match (&answer, &tree.refuted) {
            (Answer::Refuted, Some(refuted)) => {
                let mut all = leaves;
                all.extend(refuted.iter().map(|refuted| leaf(&layout, refuted)));
                self.proof(root, all)
            }
            _ => None,
        };
        Ok((Some((answer, proof)), None))
    }

    /// Goes on from open domains, each with intermediate bounds of its own.
    fn grow(
        &mut self,
        known: &State,
        rows: &[Vec<Row>],
        seeds: Vec<Seed>,
    ) -> Result<Answer, Cancelled> {
        let limit = self.search.memory_limit.unwrap_or(MEMORY) / 2;
        let mut forest = Forest::new(seeds, limit);
        loop {
            let taken = match forest.take() {
                Taken::Nothing => return Ok(Answer::Refuted),
                Taken::Full => {
                    self.bound = self.bound.max(forest.worst());
                    return Ok(Answer::Open(Why::Memory));
                }
                Taken::Seeds(taken) => taken,
            };
            let grown = taken
                .par_iter()
                .map(|seed| grow(&self.analysis, known, rows, seed))
                .collect::<Result<Vec<Grown>, Cancelled>>();
            let grown = match grown {
                Ok(grown) => grown,
                Err(Cancelled) => {
                    taken.into_iter().for_each(|seed| forest.put(seed));
                    self.bound = self.bound.max(forest.worst());
                    return Ok(Answer::Open(Why::Timeout));
                }
            };
            let mut stuck = false;
            for grown in grown {
                self.domains += grown.domains;
                self.least = self.least.min(grown.least);
                stuck |= grown.stuck;
                if let Some(point) = self.counterexample(&grown.points) {
                    return Ok(Answer::Met(point));
                }
                grown.open.into_iter().for_each(|seed| forest.put(seed));
            }
            let why = match (stuck, self.domains >= self.search.most_domains) {
                (true, _) => Why::NothingToSplit,
                (_, true) if !forest.is_empty() => Why::Domains,
                _ => continue,
            };
            self.bound = self.bound.max(forest.worst());
            return Ok(Answer::Open(why));
        }
    }

    /// The first of the points that meets its clause beyond doubt.
    fn counterexample(&self, points: &[(usize, Vec<f32>)]) -> Option<Vec<f64>> {
        let graph = self.analysis.prepared.graph;
        let len = graph.output_len();
        let points: Vec<&(usize, Vec<f32>)> =
            points.iter().filter(|(_, x)| !x.is_empty()).collect();
        let flat: Vec<f32> = points.iter().flat_map(|(_, x)| x.iter().copied()).collect();
        let outputs = graph.forward::<f32>(&flat, points.len());
        for ((clause, x), y) in points.into_iter().zip(outputs.chunks_exact(len)) {
            let clause = &self.clauses[*clause];
            let near = clause.rows.chunks_exact(len).zip(&clause.rhs_upper).all(|(row, &rhs)| {
                let value: f64 = row.iter().zip(y).map(|(a, &y)| a * f64::from(y)).sum();
                value <= rhs + 1e-4 * (1.0 + rhs.abs())
            });
            if !near {
                continue;
            }
            let x = self.inside(x);
            let Ok((low, high)) =
                graph.interval(graph.output(), &x, &x, 1, self.analysis.prepared.cancel)
            else {
                continue;
            };
            let met = clause.rows.chunks_exact(len).zip(&clause.rhs_lower).all(|(row, &rhs)| {
                let ends = row.iter().zip(low.iter().zip(&high));
                let most = ends.fold(0.0, |sum, (&a, (&l, &h))| {
                    if a == 0.0 { sum } else { add_up(sum, mul_up(a, if a > 0.0 { h } else { l })) }
                });
                most <= rhs
            });
            if met {
                return Some(x);
            }
        }
        None
    }

    /// A point moved between the inner corners.
    fn inside(&self, x: &[f32]) -> Vec<f64> {
        let ends = self.inner.0.iter().zip(&self.inner.1);
        x.iter().zip(ends).map(|(&x, (&l, &h))| f64::from(x).max(l).min(h)).collect()
    }

    fn proof(&self, root: &Root, leaves: Vec<Leaf>) -> Option<Proof> {
        let prepared = self.analysis.prepared;
        let read = |node: &usize| !prepared.nodes[*node].readers.is_empty();
        let bounds = (1..root.state.nodes.len()).filter(read).map(|node| NodeBounds {
            node,
            lower: root.state.nodes[node].lower.clone(),
            upper: root.state.nodes[node].upper.clone(),
        });
        let mut slopes_root = Vec::new();
        for same in root.tuned.chunk_by(|a, b| a.node == b.node) {
            let layout = Layout::new(prepared, &root.state, same[0].node, &[])?;
            slopes_root.extend(same.iter().map(|tuned| RootSlopes {
                node: tuned.node,
                rows: vec![(tuned.element, tuned.upper)],
                slopes: layout.spread(&tuned.parameters),
            }));
        }
        Some(Proof { slopes_root, bounds: bounds.collect(), leaves })
    }
}

fn leaf(layout: &Layout, refuted: &Refuted) -> Leaf {
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
    Leaf {
        clause: refuted.clause,
        splits: refuted
            .cuts
            .iter()
            .map(|cut| {
                let free = &layout.activations[cut.activation];
                Split { node: free.input, index: free.at[cut.at] as usize, positive: cut.positive }
            })
            .collect(),
        slopes: layout.spread(&refuted.parameters),
        betas: wide(&refuted.betas),
        weights: wide(&refuted.weights),
        bound: refuted.bound,
        lower: None,
        upper: None,
    }
}

/// Where the weights of a clause's rows start: all alike.
fn weights(rows: usize) -> Vec<f32> {
    vec![1.0 / rows as f32; rows]
}

fn middle(region: &Region) -> Vec<f32> {
    let ends = region.lower().iter().zip(region.upper());
    ends.map(|(l, u)| (0.5 * l + 0.5 * u) as f32).collect()
}
