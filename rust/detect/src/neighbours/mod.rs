//! Nearest neighbours of every sample among the others: exact in one symmetric sweep, or from a
//! graph where there are too many.
//!
//! The sweep multiplies every pair of blocks once, in float32, and each product serves the samples
//! of both ([`tile`]). It only proposes: a few candidates more than asked for are ranked in float64
//! from the samples as given, and where the rounding of float32 could have cost a neighbour, the
//! sample is compared with all others again ([`exact`]). So the neighbours are those of float64,
//! equal distances by index, for any order, division into blocks and number of threads.

use std::sync::Mutex;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use crate::Error;

mod copies;
mod exact;
mod frame;
mod graph;
mod lists;
mod points;
mod rows;
#[cfg(test)]
mod tests;
mod tile;
mod votes;

use copies::Copies;
use frame::{Frame, PANEL};
pub use graph::{NeighbourGraph, Recall};
use lists::{Lists, NEVER};
use points::{Layout, Points};
pub use rows::Metric;
use rows::Rows;
use tile::{Hit, Side, compare};
pub use votes::{Ballot, NeighbourVotes};

/// Panels in a block: at 128 features two blocks stay in the second cache.
const BLOCK_PANELS: usize = 5;
const BLOCK: usize = BLOCK_PANELS * PANEL;
/// Candidates kept beyond `k`, so that most samples are settled by them.
const SPARE: usize = 6;
/// Pairs that are gathered before the lists take them.
const GATHERED: usize = 1 << 12;

/// A search for the neighbours of all samples, in parts.
#[derive(Debug)]
pub struct Neighbours {
    rows: Rows,
    copies: Copies,
    points: Points,
    k: usize,
    lists: Vec<Mutex<Lists>>,
    /// Pairs of blocks that are done.
    done: usize,
}

impl Neighbours {
    /// Prepares the search for the `k` nearest of each row of `x` `[samples, dim]`.
    ///
    /// # Errors
    /// When a feature is not finite, or the rows do not have `dim` features.
    ///
    /// # Panics
    /// When `k` is zero or not below the number of samples, or there are 2^32 samples.
    pub fn new(x: Vec<f32>, dim: usize, k: usize, metric: Metric) -> Result<Self, Error> {
        let rows = Rows::new(x, dim, metric)?;
        let samples = rows.len();
        assert!(k > 0 && k < samples && u32::try_from(samples).is_ok(), "0 < k < samples < 2^32");
        let copies = Copies::new(&rows);
        let points = Points::new(&rows, copies.first());
        let count = points.frame().len();
        // A single point has no pairs.
        let lists = (0..if count > 1 { count } else { 0 })
            .step_by(BLOCK)
            .map(|first| {
                let width = (k + SPARE).min(count - 1);
                Mutex::new(Lists::new((count - first).min(BLOCK), width))
            })
            .collect();
        Ok(Self { rows, copies, points, k, lists, done: 0 })
    }

    /// Bytes that a search holds, beside the samples that it is given.
    pub fn memory(samples: usize, dim: usize, k: usize) -> usize {
        // The samples, the points; candidates; what is found, and its groups.
        samples * (2 * 4 * dim + 8 * (k + SPARE) + 24 * k + 160)
    }

    /// Pairs of blocks that were multiplied, and that there are.
    pub fn progress(&self) -> (usize, usize) {
        let blocks = self.lists.len();
        (self.done, blocks * (blocks + 1) / 2)
    }

    /// Multiplies up to `pairs` further pairs of blocks.
    ///
    /// # Errors
    /// When cancelled; the search has to be started again.
    pub fn advance(&mut self, pairs: usize, cancel: &Cancel) -> Result<(), Error> {
        let (done, total) = self.progress();
        let end = total.min(done.saturating_add(pairs));
        (done..end).into_par_iter().try_for_each_init(Vec::new, |hits, pair| {
            cancel.check()?;
            let (row, column) = block_pair(pair, self.lists.len());
            self.multiply(row, column, hits);
            Ok::<(), Error>(())
        })?;
        self.done = end;
        Ok(())
    }

    fn multiply(&self, row: usize, column: usize, hits: &mut Vec<Hit>) {
        let panels = |block: usize| {
            block * BLOCK_PANELS..((block + 1) * BLOCK_PANELS).min(self.points.frame().panels())
        };
        let mut least = [[NEVER; BLOCK]; 2];
        let same = row == column;
        self.exchange(row, column, hits, &mut least);
        for (c, right) in panels(column).enumerate() {
            let (values, half) = (self.points.values(right), self.points.frame().halves(right));
            for (r, left) in panels(row).enumerate() {
                let [rows, columns] = &least;
                let (rows, columns) = (rows.as_chunks().0, columns.as_chunks().0);
                let own = Side {
                    values: self.points.values(left),
                    half: self.points.frame().halves(left),
                    least: &rows[r],
                    first: r * PANEL,
                };
                compare(own, Side { values, half, least: &columns[c], first: c * PANEL }, hits);
            }
            if hits.len() >= if same { 1 } else { GATHERED } {
                self.exchange(row, column, hits, &mut least);
            }
        }
        self.exchange(row, column, hits, &mut least);
    }

    /// Gives the pairs to the lists of both blocks, and renews the thresholds.
    fn exchange(
        &self,
        row: usize,
        column: usize,
        hits: &mut Vec<Hit>,
        least: &mut [[f32; BLOCK]; 2],
    ) {
        if row == column {
            // Both orders of a pair are met; each serves its row.
            hits.retain(|hit| hit.row != hit.column);
        }
        let (first, second) = (row * BLOCK, column * BLOCK);
        {
            let mut lists = self.lists[row].lock().expect("no thread panics with a list");
            lists.offer(hits, |hit| (hit.row.into(), second + usize::from(hit.column)));
            lists.thresholds(&mut least[0]);
        }
        if row != column {
            let mut lists = self.lists[column].lock().expect("no thread panics with a list");
            lists.offer(hits, |hit| (hit.column.into(), first + usize::from(hit.row)));
            lists.thresholds(&mut least[1]);
        }
        hits.clear();
    }

    /// The neighbours: indices and distances `[samples, k]`, nearest first, equal distances by
    /// index.
    ///
    /// # Errors
    /// When cancelled.
    ///
    /// # Panics
    /// When the search has not come to its end.
    pub fn finish(&self, cancel: &Cancel) -> Result<(Vec<u32>, Vec<f32>), Error> {
        let (done, total) = self.progress();
        assert_eq!(done, total, "all pairs of blocks are multiplied");
        let (rows, points) = (&self.rows, self.points.frame());
        let k = self.k.min(points.len().saturating_sub(1));
        let blocks: Vec<_> = self
            .lists
            .par_iter()
            .enumerate()
            .map(|(block, lists)| {
                cancel.check()?;
                let lists = lists.lock().expect("no thread panics with a list");
                let count = (points.len() - block * BLOCK).min(BLOCK);
                Ok(exact::settle_block(rows, points, block * BLOCK, &lists, count, k))
            })
            .collect::<Result<_, Error>>()?;
        let (mut found, sure): (Vec<_>, Vec<_>) = blocks.into_iter().flatten().unzip();
        let positions: Vec<u32> = (0..sure.len()).filter(|&i| !sure[i]).map(|i| i as u32).collect();
        let mut unsettled: Vec<_> =
            found.iter_mut().zip(&sure).filter(|(_, sure)| !**sure).map(|(f, _)| f).collect();
        exact::settle_all(rows, &self.points, &positions, &mut unsettled, k, cancel)?;
        Ok(expand(rows, &self.copies, points, found, self.k))
    }
}

/// From what was found for each point to the neighbours of every sample.
fn expand(
    rows: &Rows,
    copies: &Copies,
    points: &Frame,
    found: Vec<Vec<(f64, u32)>>,
    k: usize,
) -> (Vec<u32>, Vec<f32>) {
    let mut by_sample = vec![Vec::new(); rows.len()];
    for (position, found) in found.into_iter().enumerate() {
        by_sample[points.sample(position) as usize] = found;
    }
    let (mut ids, mut distances) = (vec![0; rows.len() * k], vec![0.0; rows.len() * k]);
    ids.par_chunks_exact_mut(k).zip(distances.par_chunks_exact_mut(k)).enumerate().for_each(
        |(sample, (ids, distances))| {
            let near = copies.expand(sample, k, &by_sample);
            for ((id, distance), (rank, near)) in ids.iter_mut().zip(distances).zip(near) {
                (*id, *distance) = (near, rows.distance(rank));
            }
        },
    );
    (ids, distances)
}

/// The pair of blocks with number `pair`, the first not after the second. Blocks meet themselves
/// first: what they find is the first threshold.
fn block_pair(pair: usize, blocks: usize) -> (usize, usize) {
    let Some(pair) = pair.checked_sub(blocks) else { return (pair, pair) };
    let mut second = (((8 * pair + 1) as f64).sqrt() as usize).div_ceil(2).max(1);
    while second * (second + 1) / 2 <= pair {
        second += 1;
    }
    while second * (second - 1) / 2 > pair {
        second -= 1;
    }
    (pair - second * (second - 1) / 2, second)
}
