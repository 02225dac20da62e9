//! Anchors of windows, and the windows over those that repeat.

use std::io::{Read, Seek, Write};

use aisec_numeric::Cancel;

use super::super::hash::mix;
use super::super::{Error, Partitions, Record};
use super::Text;

/// Odd, 5 modulo 8.
const MULTIPLIER: u64 = 0xAF25_1AF3_B0F0_25B5;

/// The bytes of an anchor.
fn anchor_length(length: usize) -> usize {
    length / 2
}

/// One bit a byte of all documents.
pub(super) struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, at: u32) {
        self.0[at as usize / 64] |= 1 << (at % 64);
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

impl Text<'_> {
    /// Hashes of the runs of `width` bytes that start at `from..to`.
    fn roll(&self, from: usize, to: usize, width: usize, mut each: impl FnMut(usize, u64)) {
        let bytes = self.bytes();
        let leaving = (0..width).fold(1u64, |power, _| power.wrapping_mul(MULTIPLIER));
        let mut sum = 0u64;
        for &byte in &bytes[from..from + width - 1] {
            sum = sum.wrapping_mul(MULTIPLIER).wrapping_add(self.table[byte as usize]);
        }
        for at in from..to {
            let entering = self.table[bytes[at + width - 1] as usize];
            sum = sum.wrapping_mul(MULTIPLIER).wrapping_add(entering);
            if at > from {
                let left = self.table[bytes[at - 1] as usize];
                sum = sum.wrapping_sub(left.wrapping_mul(leaving));
            }
            each(at, mix(sum));
        }
    }

    /// Positions of anchors that occur more than once.
    pub(super) fn repeated_anchors<F: Read + Write + Seek>(
        &self,
        length: usize,
        mut partitions: Partitions<F>,
        cancel: &Cancel,
    ) -> Result<Bits, Error> {
        self.in_batches(&mut partitions, cancel, |start, end, out| {
            self.anchors(start, end, length, out);
        })?;
        let mut repeated = Bits(vec![0; self.bytes().len() / 64 + 1]);
        let mut last = None;
        partitions.sorted(cancel, |(key, position)| {
            if let Some((same, before)) = last
                && same == key
            {
                repeated.set(before);
                repeated.set(position);
            }
            last = Some((key, position));
            Ok(())
        })?;
        Ok(repeated)
    }

    /// The anchors of all windows of a document, each once.
    fn anchors(&self, start: usize, end: usize, length: usize, out: &mut Vec<Record>) {
        if end - start < length {
            return;
        }
        let width = anchor_length(length);
        let window = length - width + 1;
        let mut recent = vec![0u64; window];
        let mut least = (u64::MAX, start);
        let mut chosen = usize::MAX;
        self.roll(start, end - width + 1, width, |at, hash| {
            recent[at % window] = hash;
            if hash <= least.0 {
                least = (hash, at);
            } else if least.1 + window <= at {
                least = (u64::MAX, at);
                for old in at + 1 - window..=at {
                    if recent[old % window] <= least.0 {
                        least = (recent[old % window], old);
                    }
                }
            }
            if at + 1 - start >= window && least.1 != chosen {
                chosen = least.1;
                out.push((least.0, chosen as u32));
            }
        });
    }

    /// Hashes of a document's windows over repeated anchors.
    pub(super) fn candidates(
        &self,
        start: usize,
        end: usize,
        length: usize,
        repeated: &Bits,
        out: &mut Vec<Record>,
    ) {
        if end - start < length {
            return;
        }
        let reach = length - anchor_length(length);
        let last = end - length;
        let mut from = None;
        // One past the last window over the anchors seen so far.
        let mut until = start;
        for at in start..=end - anchor_length(length) {
            if !repeated.get(at) {
                continue;
            }
            let first = at.saturating_sub(reach).max(start);
            if let Some(begin) = from
                && first > until
            {
                self.roll(begin, until, length, |at, hash| out.push((hash, at as u32)));
                from = None;
            }
            from.get_or_insert(first);
            until = at.min(last) + 1;
        }
        if let Some(begin) = from {
            self.roll(begin, until, length, |at, hash| out.push((hash, at as u32)));
        }
    }
}
