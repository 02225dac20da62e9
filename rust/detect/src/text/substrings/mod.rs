//! Substrings of at least a given length that occur more than once (Lee et al., "Deduplicating
//! training data makes language models better", ACL 2022), exactly.
//!
//! A byte belongs to such a substring if a window of `length` bytes over it occurs elsewhere. Two
//! equal windows have the same anchor, the rightmost least hash of their runs of `length / 2`
//! bytes (winnowing: Schleimer, Wilkerson & Aiken, SIGMOD 2003), so only windows over anchors that
//! repeat can repeat. Anchors are sorted first, a few percent of all positions; then the windows
//! over repeated ones, whose bytes are compared where hashes agree.

mod anchors;
mod spans;

use std::io::{Read, Seek, Write};

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::hash::Hasher;
use super::{Documents, Error, Partitions, Record, check};

/// Bytes of documents that are hashed at once on all threads.
const BATCH: usize = 1 << 22;

/// Bytes `start..end` of a document every one of which is in a window that also occurs elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub document: u32,
    pub start: u32,
    pub end: u32,
    /// Its windows occur earlier, too: without all such spans, one occurrence of each is left.
    pub copy: bool,
    /// Where the first of its windows occurs first.
    pub source: (u32, u32),
}

/// Finds the spans, in order of position, copies of earlier windows apart from first occurrences.
///
/// `within` counts windows that repeat in one document only. At most `capacity` records of 16
/// bytes are in memory, the others in the three files, which are empty.
pub fn duplicate_substrings<F: Read + Write + Seek>(
    documents: &Documents,
    length: usize,
    within: bool,
    files: [F; 3],
    capacity: usize,
    cancel: &Cancel,
) -> Result<Vec<Span>, Error> {
    if u32::try_from(documents.bytes().len()).is_err() {
        return Err(Error::TooLarge);
    }
    let length = length.max(2);
    let text = Text { documents, table: table() };
    let [anchors, windows, found] = files;
    let repeated = text.repeated_anchors(length, Partitions::new(anchors, capacity), cancel)?;
    let mut partitions = Partitions::new(windows, capacity);
    text.in_batches(&mut partitions, cancel, |start, end, out| {
        text.candidates(start, end, length, &repeated, out);
    })?;
    drop(repeated);
    let mut pairs = Partitions::new(found, capacity);
    text.compare(length, within, partitions, &mut pairs, cancel)?;
    text.spans(length, pairs, cancel)
}

struct Text<'a> {
    documents: &'a Documents,
    table: [u64; 256],
}

fn table() -> [u64; 256] {
    let hasher = Hasher::new(0, "substrings");
    std::array::from_fn(|byte| hasher.number(byte as u64))
}

impl Text<'_> {
    fn bytes(&self) -> &[u8] {
        self.documents.bytes()
    }

    /// The document a position is in, and where that starts.
    fn locate(&self, position: u32) -> (u32, u32) {
        let ends = self.documents.ends();
        let document = ends.partition_point(|&end| end <= position as usize);
        let start = if document == 0 { 0 } else { ends[document - 1] };
        (document as u32, start as u32)
    }

    /// Calls `work(start, end, out)` for all documents, in parallel, and pushes what it found.
    fn in_batches<F: Read + Write + Seek>(
        &self,
        partitions: &mut Partitions<F>,
        cancel: &Cancel,
        work: impl Fn(usize, usize, &mut Vec<Record>) + Sync,
    ) -> Result<(), Error> {
        let ends = self.documents.ends();
        let mut first = 0;
        let mut begin = 0;
        while first < ends.len() {
            check(cancel)?;
            let mut last = first + 1;
            while last < ends.len() && ends[last] - begin <= BATCH {
                last += 1;
            }
            let found: Vec<Vec<Record>> = (first..last)
                .into_par_iter()
                .fold(Vec::new, |mut out, document| {
                    let start = if document == 0 { 0 } else { ends[document - 1] };
                    work(start, ends[document], &mut out);
                    out
                })
                .collect();
            for record in found.into_iter().flatten() {
                partitions.push(record)?;
            }
            begin = ends[last - 1];
            first = last;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
