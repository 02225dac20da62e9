//! Complete verification: whether any output over a region meets one of some clauses.
//!
//! CROWN first, alpha-CROWN for what it leaves open, then tuned intermediate bounds, then branch
//! and bound. A refutation is float64 with every rounding error taken off; a point that meets a
//! clause is confirmed by interval arithmetic.

use std::sync::Arc;

use aisec_graph::Graph;
use aisec_numeric::rounding::sub_down;
use aisec_numeric::{Cancel, Cancelled};

use crate::ascent::Tuning;
use crate::crown::{Analysis, Method};
use crate::forest::{Family, Forest, Seed};
use crate::lanes::Row;
use crate::layout::Layout;
use crate::margin::share;
use crate::prepared::Prepared;
use crate::proof::{Inside, Leaf, Part, Proof};
use crate::record::{Record, begun, leaf};
use crate::refine::{Effort, TunedBound};
use crate::region::Region;
use crate::split_tree::{Domain, Progress, SplitTree};
use crate::state::State;
use crate::trace::Stop;
use crate::warm::Warm;

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
    /// Scalar operations that slopes of intermediate bounds may cost beyond CROWN's; their
    /// branching may cost some times as many.
    pub effort: f64,
    /// Domains after which to give up.
    pub most_domains: usize,
    /// Whether to keep what a certificate is written from.
    pub record: bool,
    /// A proof that no point of a region of another size meets the clauses, to begin with.
    pub start: Option<Arc<Proof>>,
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
            start: None,
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
const FURTHER: Tuning = Tuning { iterations: 20, ..ROOT };
pub(crate) const HALF: Tuning =
    Tuning { iterations: 10, rate: 0.05, beta_rate: 0.05, decay: 0.97, stop: true };

/// Passes of one intermediate bound, at most.
const INTERMEDIATE: usize = 20;

/// How the whole region is bounded anew, round by round.
struct Round {
    /// Domains of one side of an intermediate bound.
    domains: usize,
    /// What these may cost, in terms of what slopes of intermediate bounds may.
    cost: f64,
    /// Domains of the tree over these bounds after which there is more to be had from closer ones.
    /// The domains of the last tree have intermediate bounds of their own.
    patience: usize,
}

const ROUNDS: [Round; 4] = [
    Round { domains: 0, cost: 0.0, patience: 512 },
    Round { domains: 64, cost: 3.0, patience: 1024 },
    Round { domains: 256, cost: 6.0, patience: 2048 },
    Round { domains: 1024, cost: 12.0, patience: 2048 },
];

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
    // Signs of differences can be split, windows cannot.
    let graph = graph.without_maxima().unwrap_or(graph);
    let prepared = Prepared::new(graph, cancel);
    let analysis = Analysis {
        prepared: &prepared,
        method: Method::Crown,
        block_bytes: share(search.memory_limit),
    };
    let (bound, least) = (f64::NEG_INFINITY, f64::INFINITY);
    let corners = || (region.lower().to_vec(), region.upper().to_vec());
    let inner = search.inner.clone().unwrap_or_else(corners);
    let record = Record::new(search.record);
    let warm = search.start.as_deref().map(|proof| Warm::new(proof, clauses.len()));
    let mut run = Run { analysis, clauses, search, inner, bound, least, domains: 0, record, warm };
    let answer = run.decide(region).unwrap_or(Answer::Open(Why::Timeout));
    let refuted = answer == Answer::Refuted;
    let proof = if refuted { run.record.finish() } else { None };
    let bound = if refuted { run.least } else { run.bound };
    Decision { answer, bound, domains: run.domains, proof }
}

pub(crate) struct Run<'a> {
    pub analysis: Analysis<'a>,
    pub clauses: &'a [Clause],
    pub search: &'a Search,
    pub inner: (Vec<f64>, Vec<f64>),
    /// The best that is known of what is open.
    pub bound: f64,
    /// The smallest bound of what was refuted.
    pub least: f64,
    pub domains: usize,
    pub record: Record,
    pub warm: Option<Warm<'a>>,
}

impl Run<'_> {
    fn decide(&mut self, region: Region) -> Result<Answer, Cancelled> {
        let rows: Vec<Vec<Row>> = self.clauses.iter().map(|clause| self.rows(clause)).collect();
        if rows.iter().any(Vec::is_empty) {
            // Every output meets it.
            return Ok(Answer::Met(self.inside(&middle(&region))));
        }
        let state = self.analysis.state(region.clone())?;
        let all: Vec<usize> = (0..rows.len()).collect();
        let mut number = self.begin(0, &state, &[], &all);
        let (open, leaves) = self.by_crown(&state)?;
        self.record.extend(number, leaves);
        self.domains += 1;
        if open.is_empty() {
            return Ok(Answer::Refuted);
        }
        // What was split before will be again.
        let split = |clause: &usize| self.warm.as_ref().is_some_and(|warm| warm.is_split(*clause));
        let (mut later, first): (Vec<usize>, Vec<usize>) = open.into_iter().partition(split);
        if !first.is_empty() {
            match self.split(&state, &rows, &first, number, Patience::None)? {
                Left::Open(open) => later.extend(open),
                Left::Answer(Answer::Refuted) => {}
                Left::Answer(answer) => return Ok(answer),
            }
        }
        if later.is_empty() {
            return Ok(Answer::Refuted);
        }
        later.sort_unstable();
        let mut open = later;
        let mut known = state.known(self.analysis.prepared);
        drop(state);
        // What took more than the first round before will again.
        let skipped = usize::from(self.warm.as_ref().is_some_and(|warm| warm.branched));
        for (at, round) in ROUNDS.iter().enumerate().skip(skipped) {
            let effort = |round: &Round| Effort {
                work: self.search.effort,
                iterations: INTERMEDIATE,
                branching: round.cost * self.search.effort,
                domains: round.domains,
                record: self.record.wanted(),
                warm: self.warm.as_ref(),
            };
            let (state, tuned) =
                self.analysis.tuned_state(region.clone(), &known, effort(round))?;
            let further = ROUNDS.get(at + 1).map(effort);
            let last = further.is_none_or(|next| !self.analysis.would_branch(&state, next));
            number = self.begin(number, &state, &tuned, &open);
            drop(tuned);
            let patience = if last {
                Patience::Forest(round.patience)
            } else {
                Patience::Tree(round.patience)
            };
            open = match self.split(&state, &rows, &open, number, patience)? {
                Left::Answer(answer) => return Ok(answer),
                Left::Open(open) => open,
            };
            known = state.known(self.analysis.prepared);
        }
        unreachable!("the last round goes on until there is an answer")
    }

    /// Notes that bounds were found for the whole region; returns the number of the part, which
    /// hangs in another one.
    fn begin(
        &mut self,
        parent: usize,
        state: &State,
        tuned: &[TunedBound],
        clauses: &[usize],
    ) -> usize {
        if !self.record.wanted() {
            return 0;
        }
        let Some(proof) = begun(self.analysis.prepared, state, tuned) else {
            self.record = Record::new(false);
            return 0;
        };
        let inside = Inside::Proof(proof);
        self.record.add(parent, Part { clauses: clauses.to_vec(), splits: Vec::new(), inside })
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

    /// Bounds the open clauses with tuned lines, and splits domains while patience lasts; returns
    /// the clauses that are open then. `number` is the part that `state` has the bounds of.
    fn split(
        &mut self,
        state: &State,
        rows: &[Vec<Row>],
        open: &[usize],
        number: usize,
        patience: Patience,
    ) -> Result<Left, Cancelled> {
        let prepared = self.analysis.prepared;
        let output = prepared.graph.output();
        let Some(layout) = Layout::new(prepared, state, output, &[]) else {
            return Ok(Left::Answer(Answer::Open(Why::NotFinite)));
        };
        let own_state = state.without_free(&layout);
        let limit = self.search.memory_limit.unwrap_or(MEMORY) / 2;
        let record = self.record.wanted();
        let mut tree = SplitTree::new(
            &self.analysis,
            &layout,
            (state, &own_state),
            rows,
            (HALF, limit),
            (0.0, record),
        );
        let weights = |clause: usize| weights(rows[clause].len());
        let start: Vec<Domain> = open
            .iter()
            .flat_map(|&clause| match &self.warm {
                Some(warm) => warm.domains(&layout, state, clause, &weights(clause)),
                None => vec![Domain::whole(clause, weights(clause))],
            })
            .collect();
        let before = self.domains;
        let mut progress = tree.begin(start, if self.warm.is_some() { &FURTHER } else { &ROOT })?;
        let mut leaves: Vec<Leaf> = Vec::new();
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
            leaves.extend(tree.refuted.drain(..).map(|refuted| leaf(&layout, &refuted, &[], 0)));
            let tired = match patience {
                Patience::None => true,
                Patience::Tree(most) | Patience::Forest(most) => tree.domains >= most,
            };
            if tree.waiting() > 0 && tired && !matches!(patience, Patience::Forest(_)) {
                let open = tree.clauses();
                // The others begin again.
                leaves.retain(|leaf| !open.contains(&leaf.clause));
                self.record.extend(number, leaves);
                self.bound = self.bound.max(tree.worst());
                return Ok(Left::Open(open));
            }
            if self.domains >= self.search.most_domains && tree.waiting() > 0 {
                break Answer::Open(Why::Domains);
            }
            if tired && tree.waiting() > 0 {
                self.record.extend(number, leaves);
                let family = Family { known: state.known(prepared), number };
                let seeds = tree.into_open().map(|domain| Seed::new(&layout, domain, &family));
                let forest = Forest::new(seeds.collect(), limit);
                return Ok(Left::Answer(self.grow(&state.region, rows, forest)));
            }
            progress = match tree.advance() {
                Ok(progress) => progress,
                Err(Cancelled) => break Answer::Open(Why::Timeout),
            };
        };
        if matches!(answer, Answer::Open(_)) {
            self.bound = self.bound.max(tree.worst());
        }
        self.record.extend(number, leaves);
        Ok(Left::Answer(answer))
    }
}

/// How long the whole region's tree grows.
#[derive(Clone, Copy)]
enum Patience {
    /// Not at all.
    None,
    /// So many domains.
    Tree(usize),
    /// So many domains, and trees of their own grow from what is open then.
    Forest(usize),
}

/// What a search leaves.
enum Left {
    Answer(Answer),
    /// The clauses that stay open.
    Open(Vec<usize>),
}

/// Where the weights of a clause's rows start: all alike.
fn weights(rows: usize) -> Vec<f32> {
    vec![1.0 / rows as f32; rows]
}

fn middle(region: &Region) -> Vec<f32> {
    let ends = region.lower().iter().zip(region.upper());
    ends.map(|(l, u)| (0.5 * l + 0.5 * u) as f32).collect()
}
