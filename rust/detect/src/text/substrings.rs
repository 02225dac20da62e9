//! Substrings of at least a given length that occur more than once (Lee et al., "Deduplicating
//! training data makes language models better", ACL 2022), exactly.
//!
//! A byte belongs to such a substring if a window of `length` bytes over it occurs elsewhere. Two
//! equal windows have the same anchor, the rightmost least hash of their runs of `length / 2`
//! bytes (winnowing: Schleimer, Wilkerson & Aiken, SIGMOD 2003), so only windows over anchors that
//! repeat can repeat. Anchors are sorted first, a few percent of all positions; then the windows
//! over repeated ones, whose bytes are compared where hashes agree.

use std::io::{Read, Seek, Write};

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::hash::{Hasher, mix};
use super::{Documents, Error, Partitions, Record, check};

/// Odd, 5 modulo 8.
const MULTIPLIER: u64 = 0xAF25_1AF3_B0F0_25B5;
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

/// The bytes of an anchor.
fn anchor_length(length: usize) -> usize {
    length / 2
}

/// One bit a byte of all documents.
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, at: u32) {
        self.0[at as usize / 64] |= 1 << (at % 64);
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
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
    fn repeated_anchors<F: Read + Write + Seek>(
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
    fn candidates(
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

    /// Pairs (window, its first occurrence) of windows that repeat, by comparing bytes.
    fn compare<F: Read + Write + Seek>(
        &self,
        length: usize,
        within: bool,
        windows: Partitions<F>,
        pairs: &mut Partitions<F>,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let bytes = |at: u32| &self.bytes()[at as usize..at as usize + length];
        let mut key = None;
        let mut groups: Vec<Group> = Vec::new();
        windows.sorted(cancel, |(hash, at)| {
            if key != Some(hash) {
                key = Some(hash);
                groups.clear();
            }
            let Some(group) = groups.iter_mut().find(|group| bytes(group.first) == bytes(at))
            else {
                let pending = vec![at];
                groups.push(Group { first: at, end: self.document_end(at), pending, told: false });
                return Ok(());
            };
            group.pending.push(at);
            if group.told || within || at as usize >= group.end {
                group.told = true;
                for window in group.pending.drain(..) {
                    pairs.push((u64::from(window), group.first))?;
                }
            }
            Ok(())
        })
    }

    fn document_end(&self, position: u32) -> usize {
        self.documents.ends()[self.locate(position).0 as usize]
    }

    /// Unites windows; pairs come in order of position.
    fn spans<F: Read + Write + Seek>(
        &self,
        length: usize,
        pairs: Partitions<F>,
        cancel: &Cancel,
    ) -> Result<Vec<Span>, Error> {
        let mut spans: Vec<Span> = Vec::new();
        // The open span of first occurrences and that of copies.
        let mut open: [Option<usize>; 2] = [None, None];
        pairs.sorted(cancel, |(window, first)| {
            let window = window as u32;
            let (document, start) = self.locate(window);
            let (from, copy) = (window - start, first != window);
            let end = from + length as u32;
            if let Some(index) = open[usize::from(copy)]
                && spans[index].document == document
                && from <= spans[index].end
            {
                spans[index].end = end;
                return Ok(());
            }
            let (source, source_start) = self.locate(first);
            open[usize::from(copy)] = Some(spans.len());
            let source = (source, first - source_start);
            spans.push(Span { document, start: from, end, copy, source });
            Ok(())
        })?;
        Ok(spans)
    }
}

/// Windows with the same bytes.
struct Group {
    first: u32,
    /// Where the document of the first ends.
    end: usize,
    /// Windows of which it is not known yet that they count.
    pending: Vec<u32>,
    told: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::io::Cursor;

    fn find(texts: &[Vec<u8>], length: usize, within: bool, capacity: usize) -> Vec<Span> {
        let mut documents = Documents::new(0);
        for text in texts {
            documents.push(text).unwrap();
        }
        let files = std::array::from_fn(|_| Cursor::new(Vec::new()));
        duplicate_substrings(&documents, length, within, files, capacity, &Cancel::new()).unwrap()
    }

    /// For every byte whether it is in a first occurrence, and whether in a copy.
    type Marks = Vec<Vec<(bool, bool)>>;

    fn marks(texts: &[Vec<u8>], spans: &[Span]) -> Marks {
        let mut marks: Marks = texts.iter().map(|text| vec![(false, false); text.len()]).collect();
        for span in spans {
            for at in span.start..span.end {
                let mark = &mut marks[span.document as usize][at as usize];
                *(if span.copy { &mut mark.1 } else { &mut mark.0 }) = true;
            }
        }
        marks
    }

    fn brute(texts: &[Vec<u8>], length: usize, within: bool) -> Marks {
        let mut seen: HashMap<&[u8], Vec<(usize, usize)>> = HashMap::new();
        for (document, text) in texts.iter().enumerate() {
            for (start, window) in text.windows(length).enumerate() {
                seen.entry(window).or_default().push((document, start));
            }
        }
        let mut marks = marks(texts, &[]);
        for places in seen.values() {
            let across = places.iter().any(|place| place.0 != places[0].0);
            if places.len() > 1 && (within || across) {
                for (i, &(document, start)) in places.iter().enumerate() {
                    for mark in &mut marks[document][start..start + length] {
                        *(if i > 0 { &mut mark.1 } else { &mut mark.0 }) = true;
                    }
                }
            }
        }
        marks
    }

    fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let random = prop::collection::vec(0u8..3, 0..60);
        let repeated = (0u8..2, 0usize..60).prop_map(|(byte, count)| vec![byte; count]);
        let long = (prop::collection::vec(any::<u8>(), 0..20), 1usize..4)
            .prop_map(|(part, times)| part.repeat(times));
        prop::collection::vec(prop_oneof![random, repeated, long], 0..8)
    }

    proptest! {
        #[test]
        fn exactly_what_brute_force_finds(
            texts in texts(), length in 2usize..12, within: bool, capacity in 1usize..300,
        ) {
            let spans = find(&texts, length, within, capacity);
            prop_assert_eq!(marks(&texts, &spans), brute(&texts, length, within));
            for span in &spans {
                let (document, start) = (span.source.0 as usize, span.source.1 as usize);
                let from = span.start as usize;
                prop_assert_eq!(
                    &texts[document][start..start + length],
                    &texts[span.document as usize][from..from + length]
                );
                prop_assert_eq!(span.copy, (span.source.0, span.source.1) < (span.document, span.start));
            }
        }

        /// A passage planted in two documents is found, whatever surrounds it.
        #[test]
        fn planted_passage(
            before in prop::collection::vec(any::<u8>(), 0..300),
            passage in prop::collection::vec(any::<u8>(), 50..200),
            other in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let texts = [[&before[..], &passage].concat(), [&other[..], &passage, &before].concat()];
            let spans = find(&texts, 50, false, 1000);
            let copy = spans.iter().find(|span| span.copy).unwrap();
            prop_assert!(copy.document == 1 && copy.start as usize <= other.len());
            prop_assert!(copy.end as usize >= other.len() + passage.len());
        }
    }

    /// Thue–Morse sequences agree in hash modulo 2^64; bytes tell them apart.
    #[test]
    fn equal_hashes_of_different_bytes() {
        let bit = |i: usize| (i.count_ones() & 1) as u8;
        let one: Vec<u8> = (0..4096).map(bit).collect();
        let two: Vec<u8> = (0..4096).map(|i| 1 - bit(i)).collect();
        assert!(find(&[one.clone(), two.clone()], 4096, true, 100).is_empty());
        assert_eq!(find(&[one.clone(), two, one], 4096, true, 100).len(), 2);
    }
}
