//! Searches over a model the caller owns: ask for points, tell the logits.

use rayon::prelude::*;

use crate::{Outcome, Result, Search};

/// A queue of searches, of which a batch is live at a time.
///
/// `ask` fills a caller's buffer and `tell` takes the logits of exactly those rows. A search that
/// ends leaves the batch and the next one of the queue takes its place, so the batch stays full
/// while work remains. Which searches share a batch changes no result.
pub struct Pool<S> {
    live: Vec<(usize, S)>,
    /// Searches that were asked and not yet told.
    asked: usize,
    next: usize,
    count: usize,
    input_len: usize,
}

impl<S: Search> Pool<S> {
    /// A queue of `count` searches on samples of `input_len` values.
    pub fn new(count: usize, input_len: usize) -> Self {
        Self { live: Vec::new(), asked: 0, next: 0, count, input_len }
    }

    /// Searches not yet finished.
    pub fn remaining(&self) -> usize {
        self.count - self.next + self.live.len()
    }

    /// Writes one point for each of up to `rows.len() / input_len` searches and returns how many,
    /// 0 when all searches are finished. `start(i)` gives the i-th search of the queue. Points
    /// that were asked for and never told are given again.
    ///
    /// # Errors
    /// What `start` refuses.
    pub fn ask(
        &mut self,
        rows: &mut [f32],
        start: impl Fn(usize) -> Result<S> + Sync,
    ) -> Result<usize> {
        let room = rows.len() / self.input_len.max(1);
        let more = self.next..self.count.min(self.next + room.saturating_sub(self.live.len()));
        let new = more.clone().into_par_iter().map(|i| Ok((i, start(i)?)));
        self.live.extend(new.collect::<Result<Vec<_>>>()?);
        self.next = more.end;
        self.asked = self.live.len().min(room);
        let rows = rows.par_chunks_exact_mut(self.input_len.max(1));
        self.live[..self.asked]
            .par_iter_mut()
            .zip(rows)
            .with_min_len(8)
            .for_each(|((_, search), row)| search.ask(row));
        Ok(self.asked)
    }

    /// The queue positions of the rows written by the last `ask`.
    pub fn asked(&self) -> impl Iterator<Item = usize> + '_ {
        self.live[..self.asked].iter().map(|&(index, _)| index)
    }

    /// Takes the logits of the rows written by the last `ask` and returns the searches that ended,
    /// with their position in the queue.
    ///
    /// # Panics
    /// If there is not one row of logits for each row asked.
    pub fn tell(&mut self, rows: &[f32], logits: &[f32], classes: usize) -> Vec<(usize, Outcome)> {
        assert_eq!(logits.len(), self.asked * classes, "one row of logits for each row asked");
        let rows = rows.par_chunks_exact(self.input_len.max(1));
        let logits = logits.par_chunks_exact(classes);
        let done: Vec<bool> = self.live[..self.asked]
            .par_iter_mut()
            .zip(rows.zip(logits))
            .with_min_len(8)
            .map(|((_, search), (row, logits))| search.tell(row, logits))
            .collect();
        self.asked = 0;
        let mut done = done.into_iter();
        let ended = self.live.extract_if(.., |_| done.next().unwrap_or(false));
        ended.map(|(index, search)| (index, search.finish())).collect()
    }
}
