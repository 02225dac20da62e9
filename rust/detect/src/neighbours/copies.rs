//! Samples that are the same, feature by feature: one of each is searched for, and its neighbours
//! are those of all. So a thousand copies of a sample, all at distance zero, cost nothing.

use rayon::prelude::*;

use super::rows::{Metric, Rows};

/// Which samples are copies of one another.
#[derive(Debug)]
pub(super) struct Copies {
    /// The first sample of each group, ascending.
    first: Vec<u32>,
    /// The group of each sample; none for a sample of zeros that has no direction.
    group: Vec<Option<u32>>,
    /// The samples of group `g`, ascending: `members[start[g]..start[g + 1]]`.
    members: Vec<u32>,
    start: Vec<usize>,
    /// Samples of zeros, for cosines: they are as far from all others.
    zeros: Vec<u32>,
}

impl Copies {
    pub(super) fn new(rows: &Rows) -> Self {
        let aside = |i: usize| rows.metric == Metric::Cosine && rows.length(i) == 0.0;
        let zeros = (0..rows.len()).filter(|&i| aside(i)).map(|i| i as u32).collect();
        let mut hashed: Vec<(u64, u32)> = (0..rows.len())
            .into_par_iter()
            .filter(|&i| !aside(i))
            .map(|i| (hash(rows.row(i)), i as u32))
            .collect();
        hashed.par_sort_unstable();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for run in hashed.chunk_by(|a, b| a.0 == b.0) {
            let mut run: Vec<u32> = run.iter().map(|&(_, i)| i).collect();
            // Almost always all are equal; a sort parts those that are not.
            run.sort_by(|&a, &b| order(rows, a, b).then(a.cmp(&b)));
            groups.extend(run.chunk_by(|&a, &b| order(rows, a, b).is_eq()).map(<[u32]>::to_vec));
        }
        groups.sort_unstable_by_key(|group| group[0]);
        let mut group = vec![None; rows.len()];
        let (mut first, mut members, mut start) = (Vec::new(), Vec::new(), vec![0]);
        for (g, samples) in groups.iter().enumerate() {
            first.push(samples[0]);
            samples.iter().for_each(|&i| group[i as usize] = Some(g as u32));
            members.extend_from_slice(samples);
            start.push(members.len());
        }
        Self { first, group, members, start, zeros }
    }

    /// The first sample of each group, ascending.
    pub(super) fn first(&self) -> &[u32] {
        &self.first
    }

    /// The samples that are copies of this one, itself among them, ascending.
    pub(super) fn alike(&self, sample: u32) -> &[u32] {
        self.members(self.group[sample as usize].expect("zeros are kept apart"))
    }

    /// Samples that are as far from all others.
    pub(super) fn zeros(&self) -> &[u32] {
        &self.zeros
    }

    fn members(&self, group: u32) -> &[u32] {
        &self.members[self.start[group as usize]..self.start[group as usize + 1]]
    }

    /// The `k` neighbours of a sample: ranks and samples, nearest first. `found` has, at the first
    /// sample of each group, the ranks and first samples of the groups nearest to it.
    pub(super) fn expand(
        &self,
        sample: usize,
        k: usize,
        found: &[Vec<(f64, u32)>],
    ) -> Vec<(f64, u32)> {
        let others = |ids: &[u32], rank: f64, out: &mut Vec<(f64, u32)>| {
            let ids = ids.iter().filter(|&&id| id as usize != sample);
            out.extend(ids.take(k).map(|&id| (rank, id)));
        };
        let mut near = Vec::with_capacity(2 * k);
        let Some(group) = self.group[sample] else {
            let all = (0..self.group.len() as u32).filter(|&id| id as usize != sample);
            return all.take(k).map(|id| (1.0, id)).collect();
        };
        others(self.members(group), 0.0, &mut near);
        for &(rank, other) in &found[self.first[group as usize] as usize] {
            let group = self.group[other as usize].expect("zeros are not searched for");
            others(self.members(group), rank, &mut near);
        }
        others(&self.zeros, 1.0, &mut near);
        near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.truncate(k);
        near
    }
}

/// The bits of a value, the same for both zeros.
fn bits(value: f32) -> u32 {
    (value + 0.0).to_bits()
}

fn order(rows: &Rows, a: u32, b: u32) -> std::cmp::Ordering {
    let bits = |i: u32| rows.row(i as usize).iter().map(|&value| bits(value));
    bits(a).cmp(bits(b))
}

/// Mixes the bits of a row; equal rows have equal hashes.
fn hash(row: &[f32]) -> u64 {
    let mut lanes = [0x9E37_79B9_7F4A_7C15u64; 4];
    for (i, &value) in row.iter().enumerate() {
        let lane = &mut lanes[i % 4];
        *lane = (*lane ^ u64::from(bits(value))).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        *lane ^= *lane >> 32;
    }
    lanes.iter().fold(0, |mixed: u64, lane| {
        let mixed = (mixed ^ lane).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        mixed ^ mixed >> 29
    })
}
