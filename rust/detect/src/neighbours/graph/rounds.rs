//! A round of NN-descent: what is near the same point is compared with one another.

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::edges::{Edges, FRESH};
use super::{Flat, mix};
use crate::Error;
use crate::neighbours::frame::PANEL;
use crate::neighbours::lists::NEVER;
use crate::neighbours::points::Layout;
use crate::neighbours::tile::{Hit, Side, compare};

/// Edges of a kind (fresh or not, from a point or to it) that a round goes on from.
pub(super) const CHOSEN: usize = PANEL / 4;

/// Lists of at most [`CHOSEN`] points for each point.
#[derive(Debug)]
struct Lists {
    ids: Vec<u32>,
    counts: Vec<u8>,
}

impl Lists {
    fn of(&self, point: usize) -> &[u32] {
        &self.ids[point * CHOSEN..][..usize::from(self.counts[point])]
    }

    fn gather(points: usize, lists: impl Iterator<Item = Vec<u32>>) -> Self {
        let mut gathered = Self { ids: vec![0; points * CHOSEN], counts: vec![0; points] };
        let places = gathered.ids.chunks_exact_mut(CHOSEN).zip(&mut gathered.counts);
        for ((ids, count), list) in places.zip(lists) {
            ids[..list.len()].copy_from_slice(&list);
            *count = list.len() as u8;
        }
        gathered
    }

    /// The same edges from their other ends: of those to a point, the ones with the least hashes.
    fn reversed(&self, seed: u64, round: u64) -> Self {
        let points = self.counts.len();
        let mut start = vec![0u32; points + 1];
        let edges = || (0..points).flat_map(|from| self.of(from).iter().map(move |&to| (from, to)));
        edges().for_each(|(_, to)| start[to as usize + 1] += 1);
        for i in 0..points {
            start[i + 1] += start[i];
        }
        let mut next = start.clone();
        let mut from = vec![0u32; start[points] as usize];
        for (point, to) in edges() {
            from[next[to as usize] as usize] = point as u32;
            next[to as usize] += 1;
        }
        let lists = (0..points).map(|to| {
            let all = &from[start[to] as usize..start[to + 1] as usize];
            least(all.iter().copied(), |id| mix(seed, !round, id, to as u32))
        });
        Self::gather(points, lists)
    }
}

/// The [`CHOSEN`] points with the least hashes.
fn least(ids: impl Iterator<Item = u32>, hash: impl Fn(u32) -> u32) -> Vec<u32> {
    let mut hashed: Vec<(u32, u32)> = ids.map(|id| (hash(id), id)).collect();
    if hashed.len() > CHOSEN {
        hashed.select_nth_unstable(CHOSEN);
        hashed.truncate(CHOSEN);
    }
    hashed.into_iter().map(|(_, id)| id).collect()
}

/// What a round goes on from.
#[derive(Debug)]
pub(super) struct Chosen {
    fresh: [Lists; 2],
    known: [Lists; 2],
}

impl Chosen {
    /// Chooses edges at random; the fresh ones among them are fresh no more.
    pub(super) fn new(edges: &mut Edges, seed: u64, round: u64) -> Self {
        let both = edges.visit(|point, ids| {
            let hash = |id| mix(seed, round, point, id);
            let all = |fresh: bool, ids: &[u32]| -> Vec<u32> {
                let ids = ids.iter().filter(|&&id| (id & FRESH != 0) == fresh);
                least(ids.map(|id| id & !FRESH), hash)
            };
            let (fresh, known) = (all(true, ids), all(false, ids));
            for id in ids {
                if fresh.contains(&(*id & !FRESH)) {
                    *id &= !FRESH;
                }
            }
            (fresh, known)
        });
        let (fresh, known): (Vec<_>, Vec<_>) = both.into_iter().flatten().unzip();
        let count = fresh.len();
        let lists = |forward: Vec<Vec<u32>>| {
            let forward = Lists::gather(count, forward.into_iter());
            let reversed = forward.reversed(seed, round);
            [forward, reversed]
        };
        let (fresh, known) = rayon::join(|| lists(fresh), || lists(known));
        Self { fresh, known }
    }

    /// The points around a point, ascending, fresh ones marked. At most a panel of them.
    fn around(&self, point: usize, out: &mut Vec<u32>) {
        out.clear();
        let mark = |lists: &[Lists; 2], mark: u32, out: &mut Vec<u32>| {
            lists.iter().for_each(|lists| out.extend(lists.of(point).iter().map(|id| id | mark)));
        };
        mark(&self.fresh, FRESH, out);
        mark(&self.known, 0, out);
        // A point that is here twice is kept as fresh.
        out.sort_unstable_by_key(|id| (id & !FRESH, !id & FRESH));
        out.dedup_by_key(|id| *id & !FRESH);
    }
}

/// Compares the points around every point, and offers what is near.
pub(super) fn compare_chosen(
    points: &Flat,
    edges: &Edges,
    chosen: &Chosen,
    cancel: &Cancel,
) -> Result<(), Error> {
    (0..points.frame.len()).into_par_iter().with_min_len(64).try_for_each_init(
        || (Vec::new(), Vec::new(), Vec::new(), Vec::new()),
        |(around, ids, values, hits), point| {
            if point % 64 == 0 {
                cancel.check()?;
            }
            chosen.around(point, around);
            if around.iter().all(|id| id & FRESH == 0) {
                return Ok(());
            }
            ids.clear();
            ids.extend(around.iter().map(|id| id & !FRESH));
            let wanted = |hit: &Hit| {
                (around[usize::from(hit.row)] | around[usize::from(hit.column)]) & FRESH != 0
            };
            compare_among(points, edges, ids, values, hits, wanted);
            Ok(())
        },
    )
}

/// Compares up to a panel of points, ascending, with one another.
fn compare_among(
    points: &Flat,
    edges: &Edges,
    ids: &[u32],
    values: &mut Vec<f32>,
    hits: &mut Vec<Hit>,
    wanted: impl Fn(&Hit) -> bool,
) {
    let half = points.gather(ids, values);
    let mut least = [NEVER; PANEL];
    least.iter_mut().zip(ids).for_each(|(least, &id)| *least = edges.least(id));
    let side = Side { values, half: &half, least: &least, first: 0 };
    compare(side, side, hits);
    // The smaller point is the row, always, so that the bits of a key are the same everywhere.
    for hit in hits.drain(..).filter(|hit| hit.row < hit.column && wanted(hit)) {
        offer(edges, &hit, ids[usize::from(hit.row)], ids[usize::from(hit.column)]);
    }
}

/// Offers a pair to both of its points.
pub(super) fn offer(edges: &Edges, hit: &Hit, row: u32, column: u32) {
    edges.offer(row, hit.key, column);
    edges.offer(column, hit.key, row);
}
