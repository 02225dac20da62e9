//! From float32 candidates to exact neighbours: ranks in float64, and a second look at the points
//! whose candidates float32 does not settle.

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::frame::{Frame, PANEL};
use super::lists::{Lists, NEVER};
use super::points::Layout;
use super::rows::Rows;
use super::tile::{Side, compare};
use crate::Error;

/// Ranks, and the samples they belong to, of one point: nearest first, equal ranks by sample.
#[derive(Debug)]
pub(super) struct Nearest {
    found: Vec<(f64, u32)>,
    k: usize,
}

impl Nearest {
    pub(super) fn new(k: usize) -> Self {
        Self { found: Vec::with_capacity(k + 1), k }
    }

    /// A pair that may come again.
    pub(super) fn offer(&mut self, rank: f64, sample: u32) {
        let before = |&(r, s): &(f64, u32)| r < rank || r == rank && s < sample;
        if self.found.len() == self.k && self.found.last().is_some_and(before) {
            return;
        }
        let place = self.found.partition_point(before);
        if self.found.get(place).is_some_and(|&(_, s)| s == sample) {
            return;
        }
        self.found.insert(place, (rank, sample));
        self.found.truncate(self.k);
    }

    pub(super) fn into_found(self) -> Vec<(f64, u32)> {
        self.found
    }
}

/// Ranks the candidates of one point. Says whether no other point can be among the `k` nearest.
pub(super) fn settle(
    rows: &Rows,
    points: &Frame,
    position: usize,
    candidates: impl Iterator<Item = u32>,
    last: f32,
    k: usize,
) -> (Vec<(f64, u32)>, bool) {
    let own = points.sample(position) as usize;
    let mut nearest = Nearest::new(k);
    let mut count = 0;
    for id in candidates {
        let sample = points.sample(id as usize);
        nearest.offer(rows.rank(own, sample as usize), sample);
        count += 1;
    }
    let found = nearest.into_found();
    let sure = count + 1 >= points.len()
        || found
            .get(k - 1)
            .is_some_and(|&(rank, _)| -f64::from(last) >= points.certain(position, rank));
    (found, sure)
}

/// Compares the points at some positions with all others, and ranks every pair that may be among
/// the `k` nearest; `found` has what is known of each, and gets what there is.
pub(super) fn settle_all(
    rows: &Rows,
    layout: &impl Layout,
    positions: &[u32],
    found: &mut [&mut Vec<(f64, u32)>],
    k: usize,
    cancel: &Cancel,
) -> Result<(), Error> {
    let points = layout.frame();
    let work = positions.par_chunks(PANEL).zip(found.par_chunks_mut(PANEL));
    work.try_for_each(|(positions, found)| {
        let (mut values, mut buffer) = (Vec::new(), Vec::new());
        let half = layout.gather(positions, &mut values);
        let mut least = [NEVER; PANEL];
        let mut nearest = Vec::new();
        for ((least, &position), found) in least.iter_mut().zip(positions).zip(found.iter()) {
            let rank = found[k - 1].0;
            // Rounded down: more pairs are looked at.
            *least = (-points.certain(position as usize, rank) as f32).next_down();
            let mut known = Nearest::new(k);
            found.iter().for_each(|&(rank, sample)| known.offer(rank, sample));
            nearest.push(known);
        }
        let left = Side { values: &values, half: &half, least: &least, first: 0 };
        let mut hits = Vec::new();
        for panel in 0..points.panels() {
            cancel.check()?;
            let (values, half) = (layout.panel(panel, &mut buffer), points.halves(panel));
            compare(left, Side { values, half, least: &[NEVER; PANEL], first: 0 }, &mut hits);
            for hit in hits.drain(..) {
                let (position, other) =
                    (positions[usize::from(hit.row)], panel * PANEL + usize::from(hit.column));
                if other != position as usize {
                    let (own, other) = (points.sample(position as usize), points.sample(other));
                    let rank = rows.rank(own as usize, other as usize);
                    nearest[usize::from(hit.row)].offer(rank, other);
                }
            }
        }
        for (found, nearest) in found.iter_mut().zip(nearest) {
            **found = nearest.into_found();
        }
        Ok(())
    })
}

/// What [`settle`] gives for all points of a block.
pub(super) fn settle_block(
    rows: &Rows,
    points: &Frame,
    first: usize,
    lists: &Lists,
    count: usize,
    k: usize,
) -> Vec<(Vec<(f64, u32)>, bool)> {
    (0..count)
        .map(|i| {
            let (candidates, last) = lists.candidates(i);
            settle(rows, points, first + i, candidates, last, k)
        })
        .collect()
}
