//! Runs searches over a network on all threads.

use std::sync::Mutex;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use crate::{Network, Outcome, Result, Search};

/// Turns between two refills; a search that ends in between leaves its place empty until then.
const TURNS: usize = 8;

/// One thread's share: a batch in the network's layout.
struct Lane<'n, N: Network> {
    network: &'n N,
    workspace: N::Workspace,
    points: Vec<f32>,
    logits: Vec<f32>,
    /// Empty until a gradient is wanted.
    cotangents: Vec<f32>,
    gradients: Vec<f32>,
}

impl<'n, N: Network> Lane<'n, N> {
    fn new(network: &'n N, width: usize) -> Self {
        Self {
            network,
            workspace: N::Workspace::default(),
            points: vec![0.0; width * network.input_len()],
            logits: vec![0.0; width * network.num_classes()],
            cotangents: vec![],
            gradients: vec![],
        }
    }

    /// One point for every live search: those that want its gradient as one batch, the others
    /// as another.
    fn turn(&mut self, live: &mut [&mut Slot]) {
        live.sort_by_key(|slot| !slot.search.needs_gradient());
        let gradients = live.iter().take_while(|slot| slot.search.needs_gradient()).count();
        let (descending, querying) = live.split_at_mut(gradients);
        if !descending.is_empty() {
            self.evaluate(descending, true);
            self.descend(descending);
        }
        if !querying.is_empty() {
            self.evaluate(querying, false);
        }
    }

    /// One point and its logits for every search, densely packed; marks those that are done.
    fn evaluate(&mut self, live: &mut [&mut Slot], record: bool) {
        let (len, classes) = (self.network.input_len(), self.network.num_classes());
        let points = &mut self.points[..live.len() * len];
        let logits = &mut self.logits[..live.len() * classes];
        for (slot, row) in live.iter_mut().zip(points.chunks_exact_mut(len)) {
            slot.search.ask(row);
        }
        if record {
            self.network.record(&mut self.workspace, points, live.len(), logits);
        } else {
            self.network.forward(&mut self.workspace, points, live.len(), logits);
        }
        let rows = points.chunks_exact(len).zip(logits.chunks_exact(classes));
        for (slot, (row, logits)) in live.iter_mut().zip(rows) {
            slot.done = slot.search.tell(row, logits);
        }
    }

    /// Gradients for the searches of the last `evaluate` that go on.
    fn descend(&mut self, live: &mut [&mut Slot]) {
        if live.iter().all(|slot| slot.done) {
            return;
        }
        self.cotangents.resize(self.logits.len(), 0.0);
        self.gradients.resize(self.points.len(), 0.0);
        let (len, classes) = (self.network.input_len(), self.network.num_classes());
        let logits = self.logits.chunks_exact(classes);
        let cotangents = &mut self.cotangents[..live.len() * classes];
        for ((slot, logits), row) in
            live.iter().zip(logits).zip(cotangents.chunks_exact_mut(classes))
        {
            if slot.done {
                row.fill(0.0);
            } else {
                slot.search.cotangent(logits, row);
            }
        }
        let gradients = &mut self.gradients[..live.len() * len];
        let points = &self.points[..live.len() * len];
        self.network.gradient(&mut self.workspace, points, live.len(), cotangents, gradients);
        for (slot, row) in live.iter_mut().zip(gradients.chunks_exact_mut(len)) {
            if !slot.done {
                slot.search.step(row);
            }
        }
    }
}

struct Slot {
    index: usize,
    search: Box<dyn Search>,
    done: bool,
}

/// Runs `count` searches, `start(i)` giving the i-th, and returns their outcomes in that order.
/// `width` is the largest batch of one thread.
///
/// The live searches are shared evenly among the threads, advance a few turns, those that ended
/// are replaced, and so on.
///
/// # Errors
/// What `start` refuses, or cancellation.
pub fn run<N: Network>(
    network: &N,
    count: usize,
    width: usize,
    cancel: &Cancel,
    start: impl Fn(usize) -> Result<Box<dyn Search>> + Sync,
) -> Result<Vec<Outcome>> {
    let threads = rayon::current_num_threads();
    let width = width.clamp(1, count.div_ceil(threads).max(1));
    let lanes: Vec<_> = (0..threads).map(|_| Mutex::new(Lane::new(network, width))).collect();
    let mut outcomes: Vec<Option<Outcome>> = (0..count).map(|_| None).collect();
    let mut live: Vec<Slot> = Vec::new();
    let mut next = 0;
    loop {
        cancel.check()?;
        let more = next..count.min(next + threads * width - live.len());
        next = more.end;
        let new = |index| start(index).map(|search| Slot { index, search, done: false });
        live.extend(more.into_par_iter().map(new).collect::<Result<Vec<_>>>()?);
        if live.is_empty() {
            return Ok(outcomes.into_iter().flatten().collect());
        }
        let share = live.len().div_ceil(threads);
        live.par_chunks_mut(share).zip(&lanes).for_each(|(share, lane)| {
            // One share a lane: the lock is never contended.
            let mut lane = lane.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut share: Vec<&mut Slot> = share.iter_mut().collect();
            for _ in 0..TURNS {
                if share.is_empty() || cancel.check().is_err() {
                    return;
                }
                lane.turn(&mut share);
                share.retain(|slot| !slot.done);
            }
        });
        for slot in live.extract_if(.., |slot| slot.done) {
            outcomes[slot.index] = Some(slot.search.finish());
        }
    }
}
