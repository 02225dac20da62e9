//! How large neighbourhoods vote: for each sample, the labels of its `k` nearest others, `k` being
//! that of its class, as many as a class has samples if need be.
//!
//! So many neighbours are not kept. The keys of a panel of points to all others are computed, those
//! that may be among the nearest counted, and the ones at the rim that float32 does not settle
//! ranked in float64. The result is exact, equal distances by index.

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::copies::Copies;
use super::exact::Nearest;
use super::frame::PANEL;
use super::lists::{NEVER, NOTHING};
use super::points::{Layout, Points};
use super::rows::{Metric, Rows};
use super::tile::{Side, compare};
use crate::Error;

/// Points whose keys tell where the nearest begin.
const SAMPLE: usize = 2048;

/// The votes in the neighbourhood of one sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ballot {
    /// Neighbours of the same class.
    pub own: u32,
    /// Neighbours of the most frequent other class, the first of equally frequent ones.
    pub rival: u32,
    /// That class.
    pub class: u32,
    /// The nearest neighbours.
    pub ids: Vec<u32>,
    pub distances: Vec<f32>,
}

/// A count of the votes for all samples, in parts.
#[derive(Debug)]
pub struct NeighbourVotes {
    rows: Rows,
    copies: Copies,
    points: Points,
    /// The class of each sample.
    class: Vec<u32>,
    /// Neighbours that vote, by class.
    k: Vec<usize>,
    near: usize,
    ballots: Vec<Ballot>,
    /// Panels of points that are done.
    done: usize,
}

impl NeighbourVotes {
    /// Prepares the count for each row of `x` `[samples, dim]`, of which `class` is below the length
    /// of `k`; the `near` nearest are kept.
    ///
    /// # Errors
    /// When a feature is not finite, or the rows do not have `dim` features.
    ///
    /// # Panics
    /// When a `k` or `near` is zero or not below the number of samples, there are 2^32 samples, or
    /// `class` does not fit.
    pub fn new(
        x: Vec<f32>,
        dim: usize,
        metric: Metric,
        class: Vec<u32>,
        k: Vec<usize>,
        near: usize,
    ) -> Result<Self, Error> {
        let rows = Rows::new(x, dim, metric)?;
        let samples = rows.len();
        assert!(u32::try_from(samples).is_ok() && class.len() == samples);
        assert!(class.iter().all(|&class| (class as usize) < k.len()));
        assert!(k.iter().chain([&near]).all(|k| (1..samples).contains(k)));
        let copies = Copies::new(&rows);
        let points = Points::new(&rows, copies.first());
        let ballots = vec![Ballot::default(); samples];
        Ok(Self { rows, copies, points, class, k, near, ballots, done: 0 })
    }

    /// Bytes that a count holds, beside the samples that it is given, with this many threads.
    pub fn memory(samples: usize, dim: usize, near: usize, threads: usize) -> usize {
        samples * (2 * 4 * dim + 12 * near + 200) + threads * samples * 3 * 8 * PANEL
    }

    /// Panels of points that are done, and that there are, and one for the samples of zeros.
    pub fn progress(&self) -> (usize, usize) {
        (self.done, self.points.frame().panels() + 1)
    }

    /// Counts the votes for up to `panels` further panels of points.
    ///
    /// # Errors
    /// When cancelled; the count has to be started again.
    pub fn advance(&mut self, panels: usize, cancel: &Cancel) -> Result<(), Error> {
        let (done, total) = self.progress();
        let end = total.min(done.saturating_add(panels));
        let counted: Vec<Vec<(u32, Ballot)>> = (done..end)
            .into_par_iter()
            .map(|panel| {
                if panel + 1 == total {
                    return Ok(self.copies.zeros().iter().map(|&i| (i, self.alone(i))).collect());
                }
                self.count(panel, cancel)
            })
            .collect::<Result<_, Error>>()?;
        for (sample, ballot) in counted.into_iter().flatten() {
            self.ballots[sample as usize] = ballot;
        }
        self.done = end;
        Ok(())
    }

    /// The votes for every sample.
    ///
    /// # Panics
    /// When the count has not come to its end.
    pub fn ballots(&self) -> &[Ballot] {
        let (done, total) = self.progress();
        assert_eq!(done, total, "all panels are counted");
        &self.ballots
    }

    /// A sample of zeros: all others are as far, so the first ones vote.
    fn alone(&self, sample: u32) -> Ballot {
        let others = (0..self.rows.len() as u32).filter(|&id| id != sample);
        let k = self.k[self.class[sample as usize] as usize];
        let mut ballot = self.tally(sample, others.clone().take(k));
        ballot.ids = others.take(self.near).collect();
        ballot.distances = vec![self.rows.distance(1.0); self.near];
        ballot
    }

    fn tally(&self, sample: u32, voters: impl Iterator<Item = u32>) -> Ballot {
        let mut counts = vec![0u32; self.k.len()];
        voters.for_each(|id| counts[self.class[id as usize] as usize] += 1);
        let class = self.class[sample as usize];
        let own = std::mem::take(&mut counts[class as usize]);
        let mut ballot = Ballot { own, ..Ballot::default() };
        for (class, &votes) in counts.iter().enumerate() {
            if votes > ballot.rival {
                (ballot.rival, ballot.class) = (votes, class as u32);
            }
        }
        ballot
    }

    fn count(&self, panel: usize, cancel: &Cancel) -> Result<Vec<(u32, Ballot)>, Error> {
        let frame = self.points.frame();
        let first = panel * PANEL;
        let count = (frame.len() - first).min(PANEL);
        let all = 0..frame.panels();
        let mut least = [NEVER; PANEL];
        least[..count].fill(NOTHING);
        // Points come in random order, so the first are a sample of them.
        let sampled = self.keys(panel, &least, all.clone().take(SAMPLE.div_ceil(PANEL)), cancel)?;
        for (row, keys) in sampled.into_iter().enumerate().take(count) {
            let samples = self.copies.alike(frame.sample(first + row));
            let k = samples.iter().map(|&i| self.k[self.class[i as usize] as usize]).max();
            let k = k.unwrap_or(0).max(self.near) as f64;
            let share = keys.len() as f64 * k / frame.len() as f64;
            // Three deviations more than their share, so that there are enough almost always.
            let rank = (share + 3.0 * share.sqrt() + 8.0) as usize;
            let mut keys: Vec<f32> = keys.into_iter().map(|(key, _)| key).collect();
            if rank < keys.len() {
                least[row] = *keys.select_nth_unstable_by(rank, |a, b| b.total_cmp(a)).1;
            }
        }
        let mut found = self.keys(panel, &least, all.clone(), cancel)?;
        let mut counted = Vec::new();
        let mut short = [NEVER; PANEL];
        for (row, keys) in found.iter_mut().enumerate().take(count) {
            match self.vote(first + row, keys, least[row]) {
                Some(ballots) => counted.extend(ballots),
                None => short[row] = NOTHING,
            }
        }
        if short.contains(&NOTHING) {
            let mut found = self.keys(panel, &short, all, cancel)?;
            for (row, keys) in found.iter_mut().enumerate().take(count) {
                if short[row] == NOTHING {
                    let ballots = self.vote(first + row, keys, NOTHING);
                    counted.extend(ballots.expect("all others are there"));
                }
            }
        }
        Ok(counted)
    }

    /// The other points, by number, whose keys reach `least`, for each point of a panel.
    fn keys(
        &self,
        panel: usize,
        least: &[f32; PANEL],
        others: impl Iterator<Item = usize>,
        cancel: &Cancel,
    ) -> Result<Vec<Vec<(f32, u32)>>, Error> {
        let frame = self.points.frame();
        let side = |panel, least| Side {
            values: self.points.values(panel),
            half: frame.halves(panel),
            least,
            first: 0,
        };
        let (mut hits, mut keys) = (Vec::new(), vec![Vec::new(); PANEL]);
        for other in others {
            cancel.check()?;
            compare(side(panel, least), side(other, &[NEVER; PANEL]), &mut hits);
            for hit in hits.drain(..) {
                if other != panel || hit.row != hit.column {
                    let number = other * PANEL + usize::from(hit.column);
                    keys[usize::from(hit.row)].push((hit.key, number as u32));
                }
            }
        }
        Ok(keys)
    }

    /// The ballots of a point's samples, if the points whose keys reach `least` suffice.
    fn vote(
        &self,
        position: usize,
        keys: &mut Vec<(f32, u32)>,
        least: f32,
    ) -> Option<Vec<(u32, Ballot)>> {
        let frame = self.points.frame();
        // From points to samples.
        let samples = self.copies.alike(frame.sample(position));
        let mut others = Vec::with_capacity(keys.len() + samples.len());
        for (key, number) in keys.drain(..) {
            let alike = self.copies.alike(frame.sample(number as usize));
            others.extend(alike.iter().map(|&id| (key, id)));
        }
        others.extend(samples.iter().map(|&id| (frame.key(0.0), id)));
        others.extend(self.copies.zeros().iter().map(|&id| (frame.key(1.0), id)));
        samples
            .iter()
            .map(|&sample| {
                let k = self.k[self.class[sample as usize] as usize];
                let (inside, rim) = self.nearest(position, sample, &others, k, least)?;
                let mut ballot = self.tally(sample, inside.into_iter().chain(rim));
                let (inside, rim) = self.nearest(position, sample, &others, self.near, least)?;
                let mut nearest = Nearest::new(self.near);
                for id in inside.into_iter().chain(rim) {
                    nearest.offer(self.rows.rank(sample as usize, id as usize), id);
                }
                for (rank, id) in nearest.into_found() {
                    ballot.ids.push(id);
                    ballot.distances.push(self.rows.distance(rank));
                }
                Some((sample, ballot))
            })
            .collect()
    }

    /// The `k` nearest of `others`, unordered: those that certainly are, and those of the rest that
    /// float64 ranks first. None where some others below `least` may be among them.
    ///
    /// Keys are within `spread` of ranks. So a key more than twice that above the k-th is certainly
    /// among the nearest, and one as far below is not.
    fn nearest(
        &self,
        position: usize,
        sample: u32,
        others: &[(f32, u32)],
        k: usize,
        least: f32,
    ) -> Option<(Vec<u32>, Vec<u32>)> {
        let others = || others.iter().filter(|&&(_, id)| id != sample);
        let mut keys: Vec<f32> = others().map(|&(key, _)| key).collect();
        if keys.len() < k {
            return None;
        }
        let rim = *keys.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
        let spread = 3.0 * self.points.frame().spread(position, rim);
        let (low, high) = (f64::from(rim) - spread, f64::from(rim) + spread);
        if least > NOTHING && f64::from(least) > low {
            return None;
        }
        let inside: Vec<u32> =
            others().filter(|&&(key, _)| f64::from(key) > high).map(|&(_, id)| id).collect();
        let between = |&&(key, _): &&(f32, u32)| (low..=high).contains(&f64::from(key));
        let mut unsure: Vec<(f64, u32)> = others()
            .filter(between)
            .map(|&(_, id)| (self.rows.rank(sample as usize, id as usize), id))
            .collect();
        let left = k - inside.len();
        if left < unsure.len() {
            unsure.select_nth_unstable_by(left, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            unsure.truncate(left);
        }
        Some((inside, unsure.into_iter().map(|(_, id)| id).collect()))
    }
}
