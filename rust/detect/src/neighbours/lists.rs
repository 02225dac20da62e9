//! The best candidates of the points of one block.

use super::tile::Hit;

/// Below every key, above the keys of what only fills a panel.
pub(super) const NOTHING: f32 = -1e38;
/// Above every key.
pub(super) const NEVER: f32 = 1e38;

/// Candidates by key, the largest first.
#[derive(Debug)]
pub(super) struct Lists {
    keys: Vec<f32>,
    ids: Vec<u32>,
    /// The last key of each list, which a candidate has to exceed.
    last: Vec<f32>,
    width: usize,
}

impl Lists {
    pub(super) fn new(points: usize, width: usize) -> Self {
        Self {
            keys: vec![NOTHING; points * width],
            ids: vec![u32::MAX; points * width],
            last: vec![NOTHING; points],
            width,
        }
    }

    /// The thresholds of all points: below them nothing is of interest.
    pub(super) fn thresholds(&self, least: &mut [f32]) {
        let (used, rest) = least.split_at_mut(self.last.len());
        used.copy_from_slice(&self.last);
        rest.fill(NEVER);
    }

    /// Takes the pairs, of which `side` gives the point of this block and the number of the other.
    pub(super) fn offer(&mut self, hits: &[Hit], side: impl Fn(&Hit) -> (usize, usize)) {
        for hit in hits {
            let (point, other) = side(hit);
            if hit.key > self.last[point] {
                self.insert(point, hit.key, other as u32);
            }
        }
    }

    fn insert(&mut self, point: usize, key: f32, id: u32) {
        let list = point * self.width..(point + 1) * self.width;
        let (keys, ids) = (&mut self.keys[list.clone()], &mut self.ids[list]);
        let mut place = keys.len() - 1;
        while place > 0 && key > keys[place - 1] {
            (keys[place], ids[place]) = (keys[place - 1], ids[place - 1]);
            place -= 1;
        }
        (keys[place], ids[place]) = (key, id);
        self.last[point] = keys[keys.len() - 1];
    }

    /// The candidates of a point, and the key that no other point exceeds.
    pub(super) fn candidates(&self, point: usize) -> (impl Iterator<Item = u32>, f32) {
        let list = &self.ids[point * self.width..(point + 1) * self.width];
        (list.iter().copied().take_while(|&id| id != u32::MAX), self.last[point])
    }
}
