//! Sorting of records that do not fit in memory: a radix sort by leading bytes.
//!
//! Records are gathered in memory; a full buffer is distributed over 256 partitions by the leading
//! byte and appended to one file. Reading back, a partition that fits is sorted in memory, one
//! that does not is divided by its next byte. Every record is written once and, where keys are
//! hashes, read once; records with equal keys come in ascending order of what they carry.

use std::io::{Read, Seek, SeekFrom, Write};

use aisec_numeric::Cancel;
use rayon::prelude::*;

use super::{Error, check};

/// A key and what it belongs to, ordered in this order.
pub type Record = (u64, u32);

const BYTES: usize = 12;
/// Bytes of a record that are sorted by: the key's, then the value's.
const DIGITS: u32 = 12;
/// Records read from the file at once.
const CHUNK: usize = 1 << 14;

/// Records in memory, and in `file` those that did not fit.
#[derive(Debug)]
pub struct Partitions<F> {
    file: F,
    end: u64,
    segments: Vec<Vec<(u64, usize)>>,
    buffer: Vec<Record>,
    capacity: usize,
}

impl<F: Read + Write + Seek> Partitions<F> {
    /// Keeps at most `capacity` records in memory (twice that for a moment); `file` is empty.
    pub fn new(file: F, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { file, end: 0, segments: vec![Vec::new(); 256], buffer: Vec::new(), capacity }
    }

    pub fn push(&mut self, record: Record) -> Result<(), Error> {
        if self.buffer.len() == self.capacity {
            self.spill()?;
        }
        self.buffer.push(record);
        Ok(())
    }

    /// Bytes written to the file.
    pub fn spilled(&self) -> u64 {
        self.end
    }

    fn spill(&mut self) -> Result<(), Error> {
        let mut counts = [0usize; 257];
        for &record in &self.buffer {
            counts[digit(record, 0) + 1] += 1;
        }
        for i in 0..256 {
            counts[i + 1] += counts[i];
        }
        let mut at = counts;
        let mut bytes = vec![0u8; self.buffer.len() * BYTES];
        for &record in &self.buffer {
            let place = &mut at[digit(record, 0)];
            bytes[*place * BYTES..][..8].copy_from_slice(&record.0.to_le_bytes());
            bytes[*place * BYTES + 8..][..4].copy_from_slice(&record.1.to_le_bytes());
            *place += 1;
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&bytes)?;
        for (partition, window) in counts.windows(2).enumerate() {
            if window[1] > window[0] {
                let start = self.end + (window[0] * BYTES) as u64;
                self.segments[partition].push((start, window[1] - window[0]));
            }
        }
        self.end += bytes.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Visits all records in ascending order.
    pub fn sorted(
        mut self,
        cancel: &Cancel,
        mut visit: impl FnMut(Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.end == 0 {
            self.buffer.par_sort_unstable();
            return self.buffer.into_iter().try_for_each(visit);
        }
        self.spill()?;
        for first in 0..256 {
            let segments = std::mem::take(&mut self.segments[first]);
            let count: usize = segments.iter().map(|&(_, count)| count).sum();
            self.range(&segments, count, &mut vec![first], cancel, &mut visit)?;
        }
        Ok(())
    }

    /// Visits the `count` records whose leading bytes are `prefix`.
    fn range(
        &mut self,
        segments: &[(u64, usize)],
        count: usize,
        prefix: &mut Vec<usize>,
        cancel: &Cancel,
        visit: &mut impl FnMut(Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let depth = prefix.len() as u32;
        if count == 0 {
            return Ok(());
        }
        if count <= self.capacity || depth == DIGITS {
            return self.take(segments, prefix, 0..256, cancel, visit);
        }
        let mut counts = [0usize; 256];
        self.read(segments, cancel, |record| {
            if has_prefix(record, prefix) {
                counts[digit(record, depth)] += 1;
            }
        })?;
        let mut next = 0;
        while next < 256 {
            let (mut end, mut sum) = (next + 1, counts[next]);
            while end < 256 && sum + counts[end] <= self.capacity {
                sum += counts[end];
                end += 1;
            }
            if sum > self.capacity {
                prefix.push(next);
                self.range(segments, sum, prefix, cancel, visit)?;
                prefix.pop();
            } else if sum > 0 {
                self.take(segments, prefix, next..end, cancel, visit)?;
            }
            next = end;
        }
        Ok(())
    }

    /// Sorts and visits the records of `prefix` whose next byte is one of `next`.
    fn take(
        &mut self,
        segments: &[(u64, usize)],
        prefix: &[usize],
        next: std::ops::Range<usize>,
        cancel: &Cancel,
        visit: &mut impl FnMut(Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let depth = prefix.len() as u32;
        let mut records = std::mem::take(&mut self.buffer);
        records.clear();
        self.read(segments, cancel, |record| {
            if has_prefix(record, prefix)
                && (depth == DIGITS || next.contains(&digit(record, depth)))
            {
                records.push(record);
            }
        })?;
        records.par_sort_unstable();
        check(cancel)?;
        records.iter().try_for_each(|&record| visit(record))?;
        self.buffer = records;
        Ok(())
    }

    fn read(
        &mut self,
        segments: &[(u64, usize)],
        cancel: &Cancel,
        mut each: impl FnMut(Record),
    ) -> Result<(), Error> {
        let mut bytes = vec![0; CHUNK * BYTES];
        for &(start, count) in segments {
            check(cancel)?;
            self.file.seek(SeekFrom::Start(start))?;
            let mut left = count;
            while left > 0 {
                let some = &mut bytes[..left.min(CHUNK) * BYTES];
                self.file.read_exact(some)?;
                for record in some.as_chunks::<BYTES>().0 {
                    let (mut key, mut value) = ([0; 8], [0; 4]);
                    key.copy_from_slice(&record[..8]);
                    value.copy_from_slice(&record[8..]);
                    each((u64::from_le_bytes(key), u32::from_le_bytes(value)));
                }
                left -= some.len() / BYTES;
            }
        }
        Ok(())
    }
}

/// The byte at a depth, most significant first.
fn digit((key, value): Record, depth: u32) -> usize {
    let whole = u128::from(key) << 32 | u128::from(value);
    (whole >> (8 * (DIGITS - 1 - depth))) as usize & 0xFF
}

fn has_prefix(record: Record, prefix: &[usize]) -> bool {
    prefix.iter().enumerate().skip(1).all(|(depth, &byte)| digit(record, depth as u32) == byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn key() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), 0u64..3, (0u64..4).prop_map(|low| 0xAB00_0000_0000_0000 | low)]
    }

    proptest! {
        /// Whatever fits in memory, the order is that of a sort.
        #[test]
        fn sorts(records in prop::collection::vec((key(), 0u32..600), 0..300), capacity in 1usize..400) {
            let mut partitions = Partitions::new(Cursor::new(Vec::new()), capacity);
            for &record in &records {
                partitions.push(record).unwrap();
            }
            let mut found = Vec::new();
            partitions.sorted(&Cancel::new(), |record| { found.push(record); Ok(()) }).unwrap();
            let mut expected = records;
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
