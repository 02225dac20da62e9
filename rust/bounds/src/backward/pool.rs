//! Buffers for rows.

use std::cell::Cell;

/// Buffers that are used again from one block of rows to the next, and by the thread's next pool.
pub(crate) struct Pool {
    free: Vec<Vec<f64>>,
}

thread_local! {
    static KEPT: Cell<Vec<Vec<f64>>> = const { Cell::new(Vec::new()) };
}

/// Most buffers, and their length, that are kept.
const BUFFERS: usize = 12;
const LONGEST: usize = 1 << 18;

impl Default for Pool {
    fn default() -> Self {
        Self { free: KEPT.take() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut kept = std::mem::take(&mut self.free);
        kept.retain(|buffer| buffer.capacity() <= LONGEST);
        // During a thread's end there is nowhere to keep them.
        let _ = KEPT.try_with(|cell| cell.set(kept));
    }
}

impl Pool {
    /// A buffer of `len` zeros.
    pub fn take(&mut self, len: usize) -> Vec<f64> {
        let mut buffer = self.take_any(len);
        buffer.fill(0.0);
        buffer
    }

    /// A buffer of `len` numbers that will be written over: one of that length, which need not be
    /// filled, or the smallest that is long enough.
    pub(super) fn take_any(&mut self, len: usize) -> Vec<f64> {
        let fitting = self.free.iter().enumerate().filter(|(_, buffer)| buffer.capacity() >= len);
        let best = fitting.min_by_key(|(_, buffer)| (buffer.len() != len, buffer.capacity()));
        let mut buffer = match best.map(|(at, _)| at) {
            Some(at) => self.free.swap_remove(at),
            None => Vec::with_capacity(len),
        };
        buffer.resize(len, 0.0);
        buffer
    }

    pub(super) fn give(&mut self, buffer: Vec<f64>) {
        if self.free.len() == BUFFERS {
            self.free.swap_remove(0);
        }
        self.free.push(buffer);
    }
}
