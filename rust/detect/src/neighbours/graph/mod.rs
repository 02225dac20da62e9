//! Neighbours from a graph, for more samples than all pairs of which can be compared: most are
//! found, and how many is measured.
//!
//! NN-descent (Dong, Moses, Li, "Efficient k-nearest neighbor graph construction for generic
//! similarity measures", WWW 2011): neighbours of neighbours are compared, round after round, and
//! each point keeps the nearest it met. It starts from the leaves of random projection trees
//! (Dasgupta and Freund, STOC 2008). Rounds are synchronous, every key has the same bits wherever
//! it is computed, and random choices are hashes of what is chosen, so the graph does not depend
//! on threads.

use aisec_numeric::Cancel;
use aisec_numeric::random::Stream;
use rayon::prelude::*;

use super::copies::Copies;
use super::exact::{Nearest, settle_all};
use super::frame::{Frame, PANEL};
use super::points::Layout;
use super::rows::{Metric, Rows};
use crate::Error;

mod edges;
mod recall;
mod rounds;
mod trees;

use edges::Edges;
pub use recall::Recall;
use rounds::Chosen;

/// Candidates kept beyond `k`: they are what rounds go on from.
const SPARE: usize = 12;
/// Trees whose leaves are compared.
const TREES: usize = 6;
/// Points in a leaf, at most.
const LEAF: usize = 5 * PANEL;
/// Rounds, at most.
const ROUNDS: usize = 12;
/// Rounds end when fewer than this share of the edges is new.
const CONVERGED: f64 = 0.001;
/// Samples whose neighbours are searched for exactly, to measure the rest.
const QUERIES: usize = 1024;

/// A search for most of the neighbours of all samples, in parts.
#[derive(Debug)]
pub struct NeighbourGraph {
    rows: Rows,
    copies: Copies,
    points: Flat,
    edges: Edges,
    k: usize,
    seed: u64,
    /// Trees and rounds that are done.
    done: usize,
    converged: bool,
}

impl NeighbourGraph {
    /// Prepares the search for the `k` nearest of each row of `x` `[samples, dim]`; `seed` names
    /// the random choices.
    ///
    /// # Errors
    /// When a feature is not finite, or the rows do not have `dim` features.
    ///
    /// # Panics
    /// When `k` is zero or not below the number of samples, or there are 2^31 samples.
    pub fn new(
        x: Vec<f32>,
        dim: usize,
        k: usize,
        metric: Metric,
        seed: u64,
    ) -> Result<Self, Error> {
        let rows = Rows::new(x, dim, metric)?;
        let samples = rows.len();
        assert!(k > 0 && k < samples && samples < 1 << 31, "0 < k < samples < 2^31");
        let copies = Copies::new(&rows);
        // Near samples get near positions, so that they are near in memory.
        let mut order = copies.first().to_vec();
        let lengths = |i: u32| match metric {
            Metric::Cosine => 1.0 / rows.length(i as usize),
            Metric::Euclidean => 1.0,
        };
        let space = trees::Space { row: |i| rows.row(i as usize), factor: lengths };
        trees::split(&mut order, 1, &Stream::new(seed, "neighbour layout", 0), &space, PANEL);
        let points = Flat::new(&rows, order);
        let count = points.frame.len();
        let edges = Edges::new(count, (k + SPARE).min(count.saturating_sub(1)));
        Ok(Self { rows, copies, points, edges, k, seed, done: 0, converged: count < 2 })
    }

    /// Bytes that a search holds, beside the samples that it is given.
    pub fn memory(samples: usize, dim: usize, k: usize) -> usize {
        // The samples, the points; edges; those chosen in a round; what is found, and its groups.
        samples * (2 * 4 * dim + 8 * (k + SPARE) + 16 * rounds::CHOSEN + 24 * k + 160)
    }

    /// Trees and rounds that are done, and that there are at most.
    pub fn progress(&self) -> (usize, usize) {
        (if self.converged { TREES + ROUNDS } else { self.done }, TREES + ROUNDS)
    }

    /// Compares the leaves of a tree, or what a round chooses.
    ///
    /// # Errors
    /// When cancelled; the search has to be started again.
    pub fn advance(&mut self, cancel: &Cancel) -> Result<(), Error> {
        if self.converged {
            return Ok(());
        }
        if self.done < TREES {
            let stream = Stream::new(self.seed, "neighbour tree", self.done as u32);
            trees::compare_leaves(&self.points, &self.edges, &stream, cancel)?;
        } else {
            let chosen = Chosen::new(&mut self.edges, self.seed, self.done as u64);
            rounds::compare_chosen(&self.points, &self.edges, &chosen, cancel)?;
            let size = self.points.frame.len() * self.edges.width();
            self.converged = self.edges.fresh() as f64 <= CONVERGED * size as f64;
        }
        self.done += 1;
        self.converged |= self.done == TREES + ROUNDS;
        Ok(())
    }

    /// The neighbours: indices and distances `[samples, k]`, nearest first, equal distances by
    /// index, and how many of the true ones these are.
    ///
    /// # Errors
    /// When cancelled.
    ///
    /// # Panics
    /// When the search has not come to its end.
    pub fn finish(&self, cancel: &Cancel) -> Result<(Vec<u32>, Vec<f32>, Recall), Error> {
        assert!(self.converged, "all trees and rounds are done");
        let frame = &self.points.frame;
        let k = self.k.min(frame.len().saturating_sub(1));
        let found: Vec<_> = (0..frame.len())
            .into_par_iter()
            .map(|position| {
                let mut nearest = Nearest::new(k);
                let own = frame.sample(position) as usize;
                for other in self.edges.of(position) {
                    let other = frame.sample(other as usize);
                    nearest.offer(self.rows.rank(own, other as usize), other);
                }
                nearest.into_found()
            })
            .collect();
        let recall = self.recall(&found, k, cancel)?;
        let (ids, distances) = super::expand(&self.rows, &self.copies, frame, found, self.k);
        Ok((ids, distances, recall))
    }

    fn recall(
        &self,
        found: &[Vec<(f64, u32)>],
        k: usize,
        cancel: &Cancel,
    ) -> Result<Recall, Error> {
        let count = found.len();
        if count < 2 {
            return Ok(Recall::new(&[]));
        }
        let stream = Stream::new(self.seed, "neighbour recall", 0);
        let mut drawn: Vec<(u32, u32)> = (0..count as u32)
            .into_par_iter()
            .map(|i| (stream.at(u64::from(self.points.frame.sample(i as usize)), 0).next_u32(), i))
            .collect();
        drawn.par_sort_unstable();
        let queries: Vec<u32> = drawn.into_iter().take(QUERIES).map(|(_, i)| i).collect();
        let mut exact: Vec<_> = queries.iter().map(|&i| found[i as usize].clone()).collect();
        let mut slots: Vec<_> = exact.iter_mut().collect();
        settle_all(&self.rows, &self.points, &queries, &mut slots, k, cancel)?;
        let shares: Vec<f64> = queries
            .iter()
            .zip(&exact)
            .map(|(&i, exact)| {
                let furthest = exact[k - 1].0;
                let right = found[i as usize].iter().filter(|(rank, _)| *rank <= furthest);
                right.count() as f64 / k as f64
            })
            .collect();
        Ok(Recall::new(&shares))
    }
}

/// Points one after the other.
#[derive(Debug)]
struct Flat {
    frame: Frame,
    values: Vec<f32>,
}

impl Flat {
    fn new(rows: &Rows, order: Vec<u32>) -> Self {
        let frame = Frame::new(rows, order);
        let mut values = vec![0.0; frame.len() * frame.dim];
        values.par_chunks_exact_mut(frame.dim).enumerate().for_each(|(position, point)| {
            point.iter_mut().zip(frame.point(rows, position)).for_each(|(to, value)| *to = value);
        });
        Self { frame, values }
    }

    fn row(&self, position: usize) -> &[f32] {
        &self.values[position * self.frame.dim..][..self.frame.dim]
    }
}

impl Layout for Flat {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn panel<'a>(&'a self, index: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let first = index * PANEL;
        let last = (first + PANEL).min(self.frame.len());
        self.gather(&Vec::from_iter(first as u32..last as u32), buffer);
        buffer
    }

    fn point(&self, position: usize) -> (&[f32], usize) {
        (self.row(position), 1)
    }
}

/// Mixes a choice into a hash: which of several is chosen.
fn mix(seed: u64, round: u64, one: u32, other: u32) -> u32 {
    let mut state = seed ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    state ^= u64::from(one) << 32 | u64::from(other);
    // The finaliser of SplitMix64.
    state = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ state >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (state >> 32) as u32
}
