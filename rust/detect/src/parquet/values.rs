//! From decoded or stored values to the engine's numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use half::f16;
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;

use super::schema::Kind;
use super::{TableError, damaged};

/// A type that values are turned into.
pub trait Value: Copy + Default + Send + Sync + 'static {
    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
    fn from_i64(value: i64) -> Self;
    fn from_u64(value: u64) -> Self;
}

macro_rules! value {
    ($type:ty) => {
        impl Value for $type {
            fn from_f32(value: f32) -> Self {
                value as $type
            }
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn from_i64(value: i64) -> Self {
                value as $type
            }
            fn from_u64(value: u64) -> Self {
                value as $type
            }
        }
    };
}
value!(f32);
value!(f64);
value!(i64);

/// Turns values in plain encoding into `out`, from value number `skip` on; false if there are too few.
pub(super) fn plain<T: Value>(kind: Kind, bytes: &[u8], skip: usize, out: &mut [T]) -> bool {
    fn each<T, const N: usize>(
        bytes: &[u8],
        skip: usize,
        out: &mut [T],
        value: impl Fn([u8; N]) -> T,
    ) -> bool {
        let Some(values) = bytes.as_chunks::<N>().0.get(skip..).and_then(|v| v.get(..out.len()))
        else {
            return false;
        };
        out.iter_mut().zip(values).for_each(|(out, bytes)| *out = value(*bytes));
        true
    }
    match kind {
        Kind::F32 => each(bytes, skip, out, |b| T::from_f32(f32::from_le_bytes(b))),
        Kind::F64 => each(bytes, skip, out, |b| T::from_f64(f64::from_le_bytes(b))),
        Kind::F16 => each(bytes, skip, out, |b| T::from_f32(f16::from_le_bytes(b).to_f32())),
        Kind::I32 => each(bytes, skip, out, |b| T::from_i64(i32::from_le_bytes(b).into())),
        Kind::U32 => each(bytes, skip, out, |b| T::from_u64(u32::from_le_bytes(b).into())),
        Kind::I64 => each(bytes, skip, out, |b| T::from_i64(i64::from_le_bytes(b))),
        Kind::U64 => each(bytes, skip, out, |b| T::from_u64(u64::from_le_bytes(b))),
        Kind::Bool => {
            if bytes.len().saturating_mul(8) < skip.saturating_add(out.len()) {
                return false;
            }
            for (index, out) in (skip..).zip(out) {
                *out = T::from_i64((bytes[index / 8] >> (index % 8) & 1).into());
            }
            true
        }
    }
}

/// Levels that came with values.
#[derive(Default)]
pub(super) struct Levels {
    pub(super) definition: Vec<i16>,
    pub(super) repetition: Vec<i16>,
}

/// Reads at most `records` rows with their levels; values are appended to `out`. Returns the rows.
///
/// The decoder is another's and the file a stranger's: should it panic, the file is damaged.
pub(super) fn decode<T: Value>(
    reader: &mut ColumnReader,
    kind: Kind,
    records: usize,
    levels: &mut Levels,
    out: &mut Vec<T>,
) -> Result<usize, TableError> {
    levels.definition.clear();
    levels.repetition.clear();
    macro_rules! read {
        ($reader:expr, $convert:expr) => {{
            let mut values = Vec::new();
            let (records, ..) = $reader.read_records(
                records,
                Some(&mut levels.definition),
                Some(&mut levels.repetition),
                &mut values,
            )?;
            out.extend(values.iter().map($convert));
            Ok(records)
        }};
    }
    guard(AssertUnwindSafe(|| -> Result<usize, ParquetError> {
        match (reader, kind) {
            (ColumnReader::BoolColumnReader(r), _) => read!(r, |&v| T::from_i64(v.into())),
            (ColumnReader::FloatColumnReader(r), _) => read!(r, |&v| T::from_f32(v)),
            (ColumnReader::DoubleColumnReader(r), _) => read!(r, |&v| T::from_f64(v)),
            (ColumnReader::Int32ColumnReader(r), Kind::U32) => {
                read!(r, |&v| T::from_u64((v as u32).into()))
            }
            (ColumnReader::Int32ColumnReader(r), _) => read!(r, |&v| T::from_i64(v.into())),
            (ColumnReader::Int64ColumnReader(r), Kind::U64) => read!(r, |&v| T::from_u64(v as u64)),
            (ColumnReader::Int64ColumnReader(r), _) => read!(r, |&v| T::from_i64(v)),
            (ColumnReader::FixedLenByteArrayColumnReader(r), Kind::F16) => read!(r, |v| {
                let bytes = v.data().first_chunk().copied().unwrap_or_default();
                T::from_f32(f16::from_le_bytes(bytes).to_f32())
            }),
            _ => unreachable!("a leaf's kind comes from its physical type"),
        }
    }))
}

fn guard(
    work: AssertUnwindSafe<impl FnOnce() -> Result<usize, ParquetError>>,
) -> Result<usize, TableError> {
    match catch_unwind(work) {
        Ok(Ok(records)) => Ok(records),
        Ok(Err(ParquetError::External(error))) => match error.downcast::<TableError>() {
            Ok(error) => Err(*error),
            Err(_) => Err(damaged("values cannot be decoded")),
        },
        Ok(Err(_)) | Err(_) => Err(damaged("values cannot be decoded")),
    }
}

/// Whether `count` one-bit levels in the hybrid of runs and packed bits are all 1; None where that
/// cannot be told.
pub(super) fn all_ones(mut bytes: &[u8], count: usize) -> Option<bool> {
    let mut left = count;
    while left > 0 {
        let mut header = 0u64;
        let mut shift = 0;
        loop {
            let (&byte, rest) = bytes.split_first()?;
            bytes = rest;
            header |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
            if shift > 56 {
                return None;
            }
        }
        let length = usize::try_from(header >> 1).ok()?;
        if header & 1 == 0 {
            let (&value, rest) = bytes.split_first()?;
            bytes = rest;
            if length > 0 && value != 1 {
                return Some(false);
            }
            left = left.saturating_sub(length);
        } else {
            let (packed, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            for &byte in packed {
                let ones = left.min(8);
                if u16::from(byte).trailing_ones() < ones as u32 {
                    return Some(false);
                }
                left -= ones;
            }
        }
        if length == 0 {
            return None;
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encodes levels as runs where `run` says so and as packed bits elsewhere.
    fn encode(levels: &[bool], runs: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let varint = |bytes: &mut Vec<u8>, mut value: usize| {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        };
        if runs {
            for run in levels.chunk_by(|a, b| a == b) {
                varint(&mut bytes, run.len() << 1);
                bytes.push(run[0].into());
            }
        } else {
            varint(&mut bytes, levels.len().div_ceil(8) << 1 | 1);
            for group in levels.chunks(8) {
                bytes.push(group.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit)));
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn ones_are_told_from_zeros(zero in prop::option::of(0usize..300), len in 1usize..300, runs: bool) {
            let mut levels = vec![true; len];
            if let Some(zero) = zero.filter(|&zero| zero < len) {
                levels[zero] = false;
            }
            let bytes = encode(&levels, runs);
            prop_assert_eq!(all_ones(&bytes, len), Some(levels.iter().all(|&level| level)));
        }

        #[test]
        fn any_levels_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..50), count in 0usize..1000) {
            let _ = all_ones(&bytes, count);
        }
    }

    #[test]
    fn plain_values() {
        let mut out = [0.0f32; 2];
        let bytes: Vec<u8> = [1.5f32, -2.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(plain(Kind::F32, &bytes, 1, &mut out));
        assert_eq!(out, [-2.0, 3.0]);
        assert!(!plain(Kind::F32, &bytes, 2, &mut out));
        assert!(plain(Kind::Bool, &[0b0100_0000, 1], 6, &mut out));
        assert_eq!(out, [1.0, 0.0]);
        assert!(!plain(Kind::Bool, &[0], 7, &mut out));
        assert!(plain(Kind::F16, &[0, 0x3c, 0, 0xc0], 0, &mut out));
        assert_eq!(out, [1.0, -2.0]);
        assert!(plain(Kind::U32, &u64::MAX.to_le_bytes(), 0, &mut out));
        assert_eq!(out, [4_294_967_295u32 as f32; 2]);
        assert!(plain(Kind::I32, &u64::MAX.to_le_bytes(), 0, &mut out));
        assert_eq!(out, [-1.0; 2]);
        let mut wide = [0.0f64];
        assert!(plain(Kind::U64, &u64::MAX.to_le_bytes(), 0, &mut wide));
        assert_eq!(wide, [u64::MAX as f64]);
        assert!(plain(Kind::F64, &0.1f64.to_le_bytes(), 0, &mut wide));
        assert_eq!(wide, [0.1]);
    }
}
