//! Branch and bound over the signs of neurons: beta-CROWN (Wang et al. 2021, arXiv:2103.06624),
//! and over the values that curves read (Shi et al. 2024, arXiv:2405.21063).
//!
//! Domains are taken in waves of a fixed size, so that what is explored does not depend on the
//! number of threads. A domain keeps its splits, slopes and multipliers, never bounds.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use aisec_numeric::Cancelled;
use rayon::prelude::*;

use crate::affine::affine_optimum;
use crate::alpha::Judge;
use crate::ascent::{Ascent, Tuning, ascend};
use crate::backward::Pool;
use crate::branch::{Candidate, Estimates};
use crate::crown::Analysis;
use crate::lanes::{Cut, Row, Workspace};
use crate::layout::Layout;
use crate::state::State;

/// Domains that are split together.
const WAVE: usize = 64;

/// Passes of a domain that has nothing left to split.
const LAST_ITERATIONS: usize = 100;

/// Part of the region where some clause is open.
#[derive(Clone)]
pub(crate) struct Domain {
    pub clause: usize,
    pub cuts: Vec<Cut>,
    pub betas: Vec<f32>,
    pub parameters: Vec<f32>,
    pub weights: Vec<f32>,
    /// What the search believes is a lower bound.
    pub bound: f32,
    /// Elements to try to split.
    candidates: Vec<Candidate>,
    /// Order of creation, which decides between equals.
    id: u64,
}

/// A domain whose clause cannot be met in it.
pub(crate) struct Refuted {
    pub clause: usize,
    pub cuts: Vec<Cut>,
    pub betas: Vec<f32>,
    pub parameters: Vec<f32>,
    pub weights: Vec<f32>,
    pub bound: f64,
}

/// How a wave ended.
pub(crate) enum Progress {
    /// Nothing is open.
    Done,
    /// More domains wait than memory holds.
    Full,
    /// Something was bounded.
    Wave {
        /// Points of open domains where their clause may be met.
        points: Vec<(usize, Vec<f32>)>,
        /// A domain without anything to split stays open.
        stuck: bool,
    },
}

pub(crate) struct SplitTree<'a> {
    analysis: Analysis<'a>,
    layout: &'a Layout<'a>,
    judge: Judge<'a>,
    estimates: Estimates<'a>,
    /// Rows of each clause.
    clauses: &'a [Vec<Row>],
    open: BinaryHeap<Domain>,
    /// Domains made while memory was short: the newest goes first.
    deep: Vec<Domain>,
    bytes: usize,
    limit: usize,
    tuning: Tuning,
    /// Domains that are split together.
    pub wave: usize,
    /// Domains bounded so far.
    pub domains: usize,
    /// The smallest bound of what was refuted.
    pub least: f64,
    next: u64,
    /// What bounds must exceed to count, by clause.
    margins: Vec<f64>,
    /// What was refuted, if that is to be kept.
    pub refuted: Vec<Refuted>,
    record: bool,
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Domain {}

impl PartialOrd for Domain {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Domain {
    /// The lowest bound first, then the oldest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.bound.total_cmp(&self.bound).then(other.id.cmp(&self.id))
    }
}

impl Domain {
    /// The whole region.
    pub fn whole(clause: usize, weights: Vec<f32>) -> Self {
        Self {
            clause,
            cuts: Vec::new(),
            betas: Vec::new(),
            parameters: Vec::new(),
            weights,
            bound: f32::NEG_INFINITY,
            candidates: Vec::new(),
            id: 0,
        }
    }

    fn bytes(&self) -> usize {
        4 * (self.parameters.len() + self.betas.len() + self.weights.len())
            + size_of::<Cut>() * self.cuts.len()
            + size_of::<Candidate>() * self.candidates.len()
            + size_of::<Self>()
    }
}

/// What bounding a part of the region gave.
struct Bounded {
    domain: Domain,
    /// In real arithmetic, where the search believes in a refutation.
    proven: f64,
    minimiser: Vec<f32>,
}

impl<'a> SplitTree<'a> {
    /// With the whole region as the domain of each clause that is named.
    pub fn new(
        analysis: &Analysis<'a>,
        layout: &'a Layout<'a>,
        (state, own_state): (&'a State, &'a State),
        clauses: &'a [Vec<Row>],
        (tuning, limit): (Tuning, usize),
        (margin, record): (f64, bool),
    ) -> Self {
        let size = |row: &Row| {
            let sizes = &state.nodes[layout.start].size;
            row.entries.iter().map(|&(at, a)| a.abs() * sizes[at]).sum::<f64>() + row.rhs.abs()
        };
        let margins = clauses.iter().map(|rows| rows.iter().map(size).fold(0.0, f64::max) * margin);
        Self {
            margins: margins.collect(),
            analysis: *analysis,
            layout,
            judge: Judge::new(analysis, layout, state, own_state),
            estimates: Estimates::new(layout),
            clauses,
            open: BinaryHeap::new(),
            deep: Vec::new(),
            bytes: 0,
            limit,
            tuning,
            wave: WAVE,
            domains: 0,
            least: f64::INFINITY,
            next: 0,
            refuted: Vec::new(),
            record,
        }
    }

    /// Bounds the domains that everything comes from; what stays open waits to be split.
    pub fn begin(&mut self, roots: Vec<Domain>, tuning: &Tuning) -> Result<Progress, Cancelled> {
        let bounded = self.bound(roots, tuning)?;
        Ok(self.sort(bounded, 0))
    }

    /// What is open.
    pub fn into_open(self) -> impl Iterator<Item = Domain> {
        self.open.into_sorted_vec().into_iter().chain(self.deep)
    }

    /// Splits the domains that are furthest from being refuted.
    pub fn advance(&mut self) -> Result<Progress, Cancelled> {
        if self.waiting() == 0 {
            return Ok(Progress::Done);
        }
        if self.bytes > self.limit {
            return Ok(Progress::Full);
        }
        let taken = self.take();
        match self.split(&taken) {
            Ok((bounded, whole)) => Ok(self.sort(bounded, whole)),
            Err(cancelled) => {
                taken.into_iter().for_each(|domain| self.put(domain));
                Err(cancelled)
            }
        }
    }

    /// The clauses of open domains, ascending.
    pub fn clauses(&self) -> Vec<usize> {
        let mut clauses: Vec<usize> =
            self.open.iter().chain(&self.deep).map(|domain| domain.clause).collect();
        clauses.sort_unstable();
        clauses.dedup();
        clauses
    }

    /// Domains that are open.
    pub fn waiting(&self) -> usize {
        self.open.len() + self.deep.len()
    }

    /// What every part's row is at least, and all parts that were recorded or are open.
    pub fn conclude(mut self) -> (f64, Vec<Refuted>) {
        let open: Vec<Domain> = self.open.drain().chain(self.deep.drain(..)).collect();
        let ascent =
            |domain: &Domain| self.ascent(domain, domain.cuts.clone(), domain.betas.clone());
        let bounds: Vec<Vec<f64>> = open
            .par_chunks(self.analysis.lanes(self.layout))
            .map_init(Pool::default, |pool, domains| {
                let ascents: Vec<Ascent> = domains.iter().map(ascent).collect();
                self.judge.bounds(&ascents, pool)
            })
            .collect();
        let open = open.into_iter().zip(bounds.into_iter().flatten());
        let open = open.map(|(Domain { clause, cuts, betas, parameters, weights, .. }, bound)| {
            Refuted { clause, cuts, betas, parameters, weights, bound }
        });
        self.refuted.extend(open);
        let least = self.refuted.iter().map(|part| part.bound).fold(f64::INFINITY, f64::min);
        (least, self.refuted)
    }

    /// The lowest bounds of open domains that can be proven; the smallest of what is open, but for
    /// the search's own rounding errors.
    pub fn worst(&self) -> f64 {
        let all = self.open.iter().chain(&self.deep);
        let Some(worst) = all.max() else { return f64::INFINITY };
        let ascent = self.ascent(worst, worst.cuts.clone(), worst.betas.clone());
        self.judge.bounds(&[ascent], &mut Pool::default())[0]
    }

    fn take(&mut self) -> Vec<Domain> {
        let mut taken = Vec::new();
        while taken.len() < self.wave {
            let Some(domain) = self.deep.pop().or_else(|| self.open.pop()) else { break };
            self.bytes -= domain.bytes();
            taken.push(domain);
        }
        taken
    }

    fn put(&mut self, domain: Domain) {
        self.bytes += domain.bytes();
        if 2 * self.bytes > self.limit {
            self.deep.push(domain);
        } else {
            self.open.push(domain);
        }
    }

    fn ascent(&self, domain: &Domain, cuts: Vec<Cut>, betas: Vec<f32>) -> Ascent<'a> {
        let rows = &self.clauses[domain.clause][..];
        let start = (!domain.parameters.is_empty()).then_some(&domain.parameters[..]);
        let mut ascent = Ascent::new(self.layout, rows, domain.weights.clone(), start);
        ascent.split(self.layout, cuts, betas);
        ascent
    }

    /// Both halves of each domain, bounded; at the end the domains that have none, of which the
    /// number is returned too.
    fn split(&self, taken: &[Domain]) -> Result<(Vec<Bounded>, usize), Cancelled> {
        let chosen = self.choose(taken)?;
        let mut halves = Vec::with_capacity(2 * taken.len());
        let mut whole = Vec::new();
        for (domain, chosen) in taken.iter().zip(chosen) {
            match chosen {
                Some(split) => {
                    halves.extend([true, false].map(|half| half_of(domain, &split, half)))
                }
                None => whole.push(domain.clone()),
            }
        }
        let mut bounded = self.bound(halves, &self.tuning)?;
        let count = whole.len();
        bounded.extend(self.settle(whole)?);
        Ok((bounded, count))
    }

    /// The split of each domain whose worse half has the best bound, by one pass each.
    fn choose(&self, taken: &[Domain]) -> Result<Vec<Option<Candidate>>, Cancelled> {
        let trials: Vec<(usize, Candidate, bool)> = taken
            .iter()
            .enumerate()
            .filter(|(_, domain)| domain.candidates.len() > 1)
            .flat_map(|(at, domain)| domain.candidates.iter().map(move |&cut| (at, cut)))
            .flat_map(|(at, cut)| [(at, cut, true), (at, cut, false)])
            .collect();
        let once = Tuning { iterations: 1, stop: false, ..self.tuning };
        let bounds: Vec<Vec<f32>> = trials
            .par_chunks(self.analysis.lanes(self.layout))
            .map_init(Workspace::default, |workspace, trials| {
                let mut ascents: Vec<Ascent> = trials
                    .iter()
                    .map(|(at, split, positive)| {
                        let half = half_of(&taken[*at], split, *positive);
                        self.ascent(&half, half.cuts.clone(), half.betas.clone())
                    })
                    .collect();
                ascend(self.layout, &mut ascents, &once, 0.0, false, workspace)?;
                Ok(ascents.iter().map(|ascent| ascent.bound).collect())
            })
            .collect::<Result<_, Cancelled>>()?;
        let bounds: Vec<f32> = bounds.into_iter().flatten().collect();
        let mut best: Vec<Option<((f32, f32), Candidate)>> = vec![None; taken.len()];
        for (pair, trial) in bounds.chunks_exact(2).zip(trials.chunks_exact(2)) {
            let (at, cut, _) = trial[0];
            // What is refuted counts no more than that.
            let (a, b) = (pair[0].min(0.0), pair[1].min(0.0));
            let score = (a.min(b), a.max(b));
            if best[at].is_none_or(|(other, _)| score > other) {
                best[at] = Some((score, cut));
            }
        }
        let fallback = |domain: &Domain| {
            domain.candidates.first().copied().or_else(|| self.estimates.any(&domain.cuts))
        };
        Ok(taken
            .iter()
            .zip(best)
            .map(|(domain, best)| best.map(|(_, cut)| cut).or_else(|| fallback(domain)))
            .collect())
    }

    /// Bounds parts of the region with optimised lines and multipliers.
    fn bound(&self, parts: Vec<Domain>, tuning: &Tuning) -> Result<Vec<Bounded>, Cancelled> {
        self.each(&parts, |ascents, workspace| {
            ascend(self.layout, ascents, tuning, 0.0, true, workspace)
        })
    }

    /// Bounds parts where nothing is left to split: exactly where the network is affine there,
    /// and with many passes elsewhere.
    fn settle(&self, parts: Vec<Domain>) -> Result<Vec<Bounded>, Cancelled> {
        let last = Tuning { iterations: LAST_ITERATIONS, rate: 0.1, decay: 0.99, ..self.tuning };
        self.each(&parts, |ascents, workspace| {
            ascend(self.layout, ascents, &last, 0.0, true, workspace)?;
            for ascent in ascents.iter_mut().filter(|ascent| ascent.bound <= 0.0) {
                if let Some(optimum) = affine_optimum(self.layout, ascent, workspace) {
                    ascent.settle(optimum.betas, optimum.weights);
                    ascent.minimiser = optimum.point.unwrap_or_default();
                    ascent.bound = f32::MIN_POSITIVE; // float64 decides
                }
            }
            Ok(())
        })
    }

    fn each(
        &self,
        parts: &[Domain],
        improve: impl Fn(&mut [Ascent], &mut Workspace) -> Result<(), Cancelled> + Sync,
    ) -> Result<Vec<Bounded>, Cancelled> {
        let bounded: Vec<Vec<Bounded>> = parts
            .par_chunks(self.analysis.lanes(self.layout))
            .map_init(Workspace::default, |workspace, parts| {
                let mut ascents: Vec<Ascent> = parts
                    .iter()
                    .map(|part| self.ascent(part, part.cuts.clone(), part.betas.clone()))
                    .collect();
                improve(&mut ascents, workspace)?;
                ascents.iter_mut().for_each(|ascent| ascent.round(self.layout));
                let mut proven = self.prove(&ascents);
                for (bound, part) in proven.iter_mut().zip(parts) {
                    let counts = *bound > self.margins[part.clause];
                    *bound = if counts { *bound } else { bound.min(0.0) };
                }
                Ok(parts
                    .iter()
                    .zip(ascents)
                    .zip(proven)
                    .map(|((part, ascent), proven)| self.gather(part, ascent, proven))
                    .collect())
            })
            .collect::<Result<_, Cancelled>>()?;
        Ok(bounded.into_iter().flatten().collect())
    }

    /// Bounds in real arithmetic of those that the search believes to be refuted.
    fn prove(&self, ascents: &[Ascent]) -> Vec<f64> {
        let (mut proven, mut pool) = (vec![f64::NEG_INFINITY; ascents.len()], Pool::default());
        let positive = |ascent: &Ascent| ascent.bound > 0.0;
        let mut at = 0;
        for run in ascents.chunk_by(|a, b| positive(a) == positive(b)) {
            if positive(&run[0]) {
                proven[at..at + run.len()].copy_from_slice(&self.judge.bounds(run, &mut pool));
            }
            at += run.len();
        }
        proven
    }

    fn gather(&self, part: &Domain, ascent: Ascent, proven: f64) -> Bounded {
        let domain = Domain {
            clause: part.clause,
            betas: ascent.betas().to_vec(),
            parameters: ascent.parameters().to_vec(),
            weights: ascent.weights().to_vec(),
            // Where float64 does not confirm it there is nothing between this and zero.
            bound: ascent.bound.max(part.bound).min(0.0),
            candidates: if proven > 0.0 {
                Vec::new()
            } else {
                self.estimates.candidates(&ascent, &part.cuts)
            },
            cuts: part.cuts.clone(),
            id: 0,
        };
        Bounded { domain, proven, minimiser: ascent.minimiser }
    }

    /// Puts away what is refuted, and what is open in the queue; the last `whole` have nothing
    /// left to split.
    fn sort(&mut self, bounded: Vec<Bounded>, whole: usize) -> Progress {
        let (mut points, mut stuck) = (Vec::new(), false);
        let halves = bounded.len() - whole;
        for (at, Bounded { mut domain, proven, minimiser }) in bounded.into_iter().enumerate() {
            self.domains += 1;
            if proven > 0.0 {
                self.least = self.least.min(proven);
                if self.record {
                    let Domain { clause, cuts, betas, parameters, weights, .. } = domain;
                    let bound = proven;
                    self.refuted.push(Refuted { clause, cuts, betas, parameters, weights, bound });
                }
                continue;
            }
            points.push((domain.clause, minimiser));
            stuck |= at >= halves;
            domain.id = self.next;
            self.next += 1;
            self.put(domain);
        }
        Progress::Wave { points, stuck }
    }
}

/// One half of a domain, to be bounded.
fn half_of(domain: &Domain, split: &Candidate, positive: bool) -> Domain {
    let mut half = Domain { candidates: Vec::new(), ..domain.clone() };
    let Candidate { activation, at, limit, .. } = *split;
    half.cuts.push(Cut { activation, at, limit, positive });
    half.betas.push(split.betas[usize::from(!positive)]);
    half
}
