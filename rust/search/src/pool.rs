//! Searches over a model the caller owns: ask for points, tell the logits, give the gradients.

use rayon::prelude::*;

use crate::{Outcome, Result, Search};

/// Searches that share a parallel task: one is too little work for it.
const TOGETHER: usize = 8;

/// A queue of searches, of which a batch is live at a time.
///
/// `ask` fills a caller's buffer, `tell` takes the logits of exactly those rows and `step` their
/// gradients where they are wanted. A search that ends leaves the batch and the next one of the
/// queue takes its place, so the batch stays full while work remains. Which searches share a
/// batch changes no result.
pub struct Pool {
    live: Vec<Live>,
    /// How many rows were handed out and not yet told: the first of `live`.
    asked: usize,
    /// Whether the last rows handed out are to be differentiated.
    differentiate: bool,
    /// How many rows were told whose gradients are awaited.
    told: usize,
    next: usize,
    count: usize,
    input_len: usize,
    classes: usize,
}

struct Live {
    index: usize,
    search: Box<dyn Search>,
    /// The row of the last batch that waits for its gradient.
    row: Option<usize>,
}

/// What a batch of logits led to.
pub struct Told {
    /// The searches that ended, with their position in the queue.
    pub ended: Vec<(usize, Outcome)>,
    /// What to pull back, one row a row told, zero for searches that ended; empty where the
    /// batch wants no gradients.
    pub cotangents: Vec<f32>,
}

impl Pool {
    /// A queue of `count` searches on samples of `input_len` values in `classes` classes.
    pub fn new(count: usize, input_len: usize, classes: usize) -> Self {
        Self {
            live: Vec::new(),
            asked: 0,
            differentiate: false,
            told: 0,
            next: 0,
            count,
            input_len,
            classes,
        }
    }

    /// Searches not yet finished.
    pub fn remaining(&self) -> usize {
        self.count - self.next + self.live.len()
    }

    /// Writes one point for each of up to `rows.len() / input_len` searches and returns how many,
    /// 0 when all searches are finished, and whether they are to be differentiated: of the live
    /// searches those that are and those that are not take turns, the more numerous first.
    /// `start(i)` gives the i-th search of the queue. Points that were asked for and never told
    /// are given again.
    ///
    /// # Errors
    /// What `start` refuses.
    pub fn ask(
        &mut self,
        rows: &mut [f32],
        start: impl Fn(usize) -> Result<Box<dyn Search>> + Sync,
    ) -> Result<(usize, bool)> {
        let room = rows.len() / self.input_len.max(1);
        let more = self.next..self.count.min(self.next + room.saturating_sub(self.live.len()));
        let new = more
            .clone()
            .into_par_iter()
            .map(|index| start(index).map(|search| Live { index, search, row: None }));
        self.live.extend(new.collect::<Result<Vec<_>>>()?);
        self.next = more.end;
        let wanted = self.live.iter().filter(|live| live.search.needs_gradient()).count();
        self.differentiate = 2 * wanted >= self.live.len() && wanted > 0;
        let differentiate = self.differentiate;
        self.live.sort_by_key(|live| live.search.needs_gradient() != differentiate);
        let same = if differentiate { wanted } else { self.live.len() - wanted };
        self.asked = same.min(room);
        self.told = 0;
        let rows = rows.par_chunks_exact_mut(self.input_len.max(1));
        self.live[..self.asked]
            .par_iter_mut()
            .zip(rows)
            .with_min_len(TOGETHER)
            .for_each(|(live, row)| live.search.ask(row));
        Ok((self.asked, self.differentiate))
    }

    /// How many rows the last `ask` wrote that are not yet told.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// How many rows were told whose gradients are awaited.
    pub fn told(&self) -> usize {
        self.told
    }

    /// Takes the logits of the rows written by the last `ask`.
    ///
    /// # Panics
    /// If there is not one row of logits for each row asked.
    pub fn tell(&mut self, rows: &[f32], logits: &[f32]) -> Told {
        assert_eq!(logits.len(), self.asked * self.classes, "one row of logits for each row asked");
        let batch = &mut self.live[..self.asked];
        let points = rows.par_chunks_exact(self.input_len.max(1));
        let rows = points.zip(logits.par_chunks_exact(self.classes)).enumerate();
        let done: Vec<bool> = batch
            .par_iter_mut()
            .zip(rows)
            .with_min_len(TOGETHER)
            .map(|(live, (row, (point, logits)))| {
                live.row = Some(row);
                live.search.tell(point, logits)
            })
            .collect();
        let mut cotangents = vec![0.0; if self.differentiate { logits.len() } else { 0 }];
        if self.differentiate {
            let rows = logits.par_chunks_exact(self.classes);
            let rows = rows.zip(cotangents.par_chunks_exact_mut(self.classes)).zip(&done);
            batch.par_iter_mut().zip(rows).with_min_len(TOGETHER).for_each(
                |(live, ((logits, cotangent), done))| {
                    if !done {
                        live.search.cotangent(logits, cotangent);
                    }
                },
            );
        }
        self.told = if self.differentiate { self.asked } else { 0 };
        self.asked = 0;
        let mut done = done.into_iter();
        let ended = self.live.extract_if(.., |_| done.next().unwrap_or(false));
        let ended = ended.map(|live| (live.index, live.search.finish())).collect();
        Told { ended, cotangents }
    }

    /// Takes the pull-backs of the cotangents of the last `tell`, which it may overwrite.
    ///
    /// # Panics
    /// If there is not one gradient for each row told.
    pub fn step(&mut self, gradients: &mut [f32]) {
        assert_eq!(gradients.len(), self.told * self.input_len, "one gradient for each row told");
        let mut rows: Vec<_> =
            gradients.chunks_exact_mut(self.input_len.max(1)).map(Some).collect();
        let waiting = self.live.iter_mut().filter_map(|live| {
            let row = rows[live.row.take()?].take()?;
            Some((&mut live.search, row))
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting
            .par_iter_mut()
            .with_min_len(TOGETHER)
            .for_each(|(search, gradient)| search.step(gradient));
        self.told = 0;
    }
}
