//! The nearest points that each point met, taken from any thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use crate::neighbours::lists::NOTHING;

/// Marks an edge that no round has gone on from.
pub(super) const FRESH: u32 = 1 << 31;
/// What an unused place holds.
const NONE: u32 = u32::MAX;
/// Points that share a lock.
const SHARED: usize = 64;

/// For each point the largest keys met, equal ones by point. What is kept after all offers is the
/// same for any order of them.
#[derive(Debug)]
pub(super) struct Edges {
    blocks: Vec<Mutex<Block>>,
    /// The bits of the last key of each point, which an offer has to reach. Late news only lets
    /// more through to the lock.
    last: Vec<AtomicU32>,
    width: usize,
}

#[derive(Debug)]
struct Block {
    keys: Vec<f32>,
    ids: Vec<u32>,
}

impl Edges {
    pub(super) fn new(points: usize, width: usize) -> Self {
        let blocks = (0..points)
            .step_by(SHARED)
            .map(|first| {
                let size = (points - first).min(SHARED) * width;
                Mutex::new(Block { keys: vec![NOTHING; size], ids: vec![NONE; size] })
            })
            .collect();
        let last = (0..points).map(|_| AtomicU32::new(NOTHING.to_bits())).collect();
        Self { blocks, last, width }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// What a key has to reach to be of interest to a point.
    pub(super) fn least(&self, point: u32) -> f32 {
        f32::from_bits(self.last[point as usize].load(Ordering::Relaxed))
    }

    /// An edge that may be there already.
    pub(super) fn offer(&self, point: u32, key: f32, other: u32) {
        if key < self.least(point) {
            return;
        }
        let (block, place) = (point as usize / SHARED, point as usize % SHARED);
        let mut block = self.blocks[block].lock().expect("no thread panics with edges");
        let list = place * self.width..(place + 1) * self.width;
        let Block { keys, ids } = &mut *block;
        let (keys, ids) = (&mut keys[list.clone()], &mut ids[list]);
        let before = |i: &usize| keys[*i] > key || keys[*i] == key && ids[*i] & !FRESH < other;
        let place = (0..self.width).position(|i| !before(&i)).unwrap_or(self.width);
        if place == self.width || keys[place] == key && ids[place] & !FRESH == other {
            return;
        }
        keys.copy_within(place..self.width - 1, place + 1);
        ids.copy_within(place..self.width - 1, place + 1);
        (keys[place], ids[place]) = (key, other | FRESH);
        self.last[point as usize].store(keys[self.width - 1].to_bits(), Ordering::Relaxed);
    }

    /// The points that a point has edges to.
    pub(super) fn of(&self, point: usize) -> Vec<u32> {
        let block = self.blocks[point / SHARED].lock().expect("no thread panics with edges");
        let first = point % SHARED * self.width;
        let ids = block.ids[first..first + self.width].iter();
        ids.filter(|&&id| id != NONE).map(|id| id & !FRESH).collect()
    }

    /// Edges that no round has gone on from.
    pub(super) fn fresh(&self) -> usize {
        let fresh = |block: &Mutex<Block>| {
            let block = block.lock().expect("no thread panics with edges");
            block.ids.iter().filter(|&&id| id != NONE && id & FRESH != 0).count()
        };
        self.blocks.par_iter().map(fresh).sum()
    }

    /// Calls `visit` with each point and its edges, in parallel by blocks; what it leaves fresh
    /// stays so.
    pub(super) fn visit<T: Send>(
        &mut self,
        visit: impl Fn(u32, &mut [u32]) -> T + Sync,
    ) -> Vec<Vec<T>> {
        let width = self.width;
        let each = |(index, block): (usize, &mut Mutex<Block>)| {
            let block = block.get_mut().expect("no thread panics with edges");
            let lists = block.ids.chunks_exact_mut(width).enumerate();
            lists
                .map(|(i, ids)| {
                    let used = ids.iter().position(|&id| id == NONE).unwrap_or(width);
                    visit((index * SHARED + i) as u32, &mut ids[..used])
                })
                .collect()
        };
        self.blocks.par_iter_mut().enumerate().map(each).collect()
    }
}
