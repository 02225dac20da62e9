//! Statistics as bytes, to send between processes: little-endian numbers, nothing else.
//!
//! Magic, then as u64: features, rows of a part, first row, rows, sets of classes; each set: its
//! classes, and for each of them label, count, mean and the lower triangle of the scatter matrix.

use crate::Error;
use crate::class::ClassMoments;
use crate::statistics::{Part, Statistics};

const MAGIC: &[u8; 8] = b"AISTAT01";

impl Statistics {
    /// Writes the statistics; a last part that is short is closed: no rows can follow.
    pub fn to_bytes(&mut self) -> Result<Vec<u8>, Error> {
        let (dim, part_rows) = (self.dim(), self.part_rows());
        let (first, rows) = (self.first(), self.rows());
        let parts = self.parts()?;
        let classes: usize = parts.iter().map(Part::len).sum();
        let mut bytes = Vec::with_capacity(classes * class_length(dim) + 256);
        bytes.extend(MAGIC);
        for number in [dim as u64, part_rows, first, rows, parts.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        for part in parts {
            bytes.extend((part.len() as u64).to_le_bytes());
            for (label, moments) in part {
                bytes.extend(label.to_le_bytes());
                bytes.extend(moments.count.to_le_bytes());
                bytes.extend(moments.mean.iter().flat_map(|value| value.to_le_bytes()));
                for i in 0..dim {
                    bytes.extend((0..=i).flat_map(|j| moments.scatter(i, j).to_le_bytes()));
                }
            }
        }
        Ok(bytes)
    }

    /// Reads what [`Statistics::to_bytes`] wrote; sizes are checked before anything is allocated.
    pub fn from_bytes(bytes: &[u8], memory_limit: usize) -> Result<Self, Error> {
        let mut input = Input(bytes.strip_prefix(MAGIC).ok_or(Error::Bytes)?);
        let dim = usize::try_from(input.number()?).map_err(|_| Error::Bytes)?;
        let square = dim.checked_add(1).and_then(|next| next.checked_mul(dim));
        square.and_then(|n| n.checked_mul(8)).ok_or(Error::Bytes)?;
        let (part_rows, first, rows) = (input.number()?, input.number()?, input.number()?);
        let empty = Self::new(dim, memory_limit, first, part_rows).map_err(|_| Error::Bytes)?;
        let mut parts = Vec::new();
        let mut left = rows;
        for _ in 0..input.number()? {
            let mut part = Part::new();
            let mut part_left = if first == 0 { left } else { left.min(part_rows) };
            for _ in 0..input.number()? {
                let label = input.number()?.cast_signed();
                let count = input.number()?;
                if part.last_key_value().is_some_and(|(&last, _)| last >= label) || count == 0 {
                    return Err(Error::Bytes);
                }
                part_left = part_left.checked_sub(count).ok_or(Error::Bytes)?;
                left -= count;
                let mean = input.floats(dim)?;
                let lower = input.floats(dim.checked_mul(dim + 1).ok_or(Error::Bytes)? / 2)?;
                part.insert(label, ClassMoments::from_lower(count, mean, &lower));
            }
            if part_left > 0 {
                return Err(Error::Bytes);
            }
            parts.push(part);
        }
        if left > 0 || !input.0.is_empty() || (first == 0 && parts.len() > 1) {
            return Err(Error::Bytes);
        }
        empty.with_parts(rows, parts)
    }
}

fn class_length(dim: usize) -> usize {
    8 * (2 + dim + dim * (dim + 1) / 2)
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn number(&mut self) -> Result<u64, Error> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Error::Bytes)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f64>, Error> {
        let length = count.checked_mul(size_of::<f64>()).ok_or(Error::Bytes)?;
        let (floats, rest) = self.0.split_at_checked(length).ok_or(Error::Bytes)?;
        self.0 = rest;
        Ok(floats.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }
}
