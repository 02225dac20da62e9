//! The hybrid of runs and packed bits in which levels and a dictionary's indices are stored.

/// Values in a row: one value again and again, or values of some bits each.
enum Run<'a> {
    Repeated(u32, usize),
    Packed(&'a [u8], usize),
}

/// The runs of `left` values of `bits` bits; None in place of a run where the bytes are damaged.
struct Runs<'a> {
    bytes: &'a [u8],
    bits: usize,
    left: usize,
}

impl<'a> Runs<'a> {
    fn next_run(&mut self) -> Option<Run<'a>> {
        let mut header = 0u64;
        let mut shift = 0;
        loop {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            header |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
            if shift > 56 {
                return None;
            }
        }
        let length = usize::try_from(header >> 1).ok().filter(|&length| length > 0)?;
        if header & 1 == 0 {
            let (value, rest) = self.bytes.split_at_checked(self.bits.div_ceil(8))?;
            self.bytes = rest;
            let value = value.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            let length = length.min(self.left);
            self.left -= length;
            Some(Run::Repeated(value, length))
        } else {
            // Some writers leave out the bytes behind the last value.
            let length = length.checked_mul(8)?.min(self.left);
            let size = length.checked_mul(self.bits)?.div_ceil(8);
            let whole = length.div_ceil(8) * self.bits;
            let (packed, _) = self.bytes.split_at_checked(size)?;
            self.bytes = self.bytes.get(whole..).unwrap_or_default();
            self.left -= length;
            Some(Run::Packed(packed, length))
        }
    }
}

/// Value number `index` of `bits` bits.
#[inline]
fn unpack(packed: &[u8], bits: usize, index: usize) -> u32 {
    let (at, shift) = (index * bits / 8, index * bits % 8);
    let word = match packed.get(at..).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => {
            let left = packed.get(at..).unwrap_or_default();
            left.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
        }
    };
    (word >> shift & ((1 << bits) - 1)) as u32
}

/// Whether `count` levels of at most `largest` are `shape` again and again, from its entry `first`
/// on.
pub(super) fn repeat(bytes: &[u8], largest: u8, count: usize, shape: &[u8], first: usize) -> bool {
    let bits = (u8::BITS - largest.leading_zeros()) as usize;
    let mut runs = Runs { bytes, bits, left: count };
    let mut at = first % shape.len();
    while runs.left > 0 {
        match runs.next_run() {
            None => return false,
            Some(Run::Repeated(value, _)) if shape.len() == 1 => {
                if value != u32::from(shape[0]) {
                    return false;
                }
            }
            Some(Run::Repeated(value, mut length)) => {
                while length > 0 {
                    let part = length.min(shape.len() - at);
                    if shape[at..at + part].iter().any(|&level| u32::from(level) != value) {
                        return false;
                    }
                    length -= part;
                    at = (at + part) % shape.len();
                }
            }
            Some(Run::Packed(packed, length)) => {
                for index in 0..length {
                    if unpack(packed, bits, index) != u32::from(shape[at]) {
                        return false;
                    }
                    at += 1;
                    if at == shape.len() {
                        at = 0;
                    }
                }
            }
        }
    }
    true
}

/// Writes the entries of a dictionary that `bytes` (their size in bits first) name to `out`; false
/// where they do not.
pub(super) fn look_up<T: Copy>(bytes: &[u8], dictionary: &[T], out: &mut [T]) -> bool {
    let Some((&bits, bytes)) = bytes.split_first() else { return out.is_empty() };
    if bits > 32 {
        return false;
    }
    let mut runs = Runs { bytes, bits: bits.into(), left: out.len() };
    let mut done = 0;
    while runs.left > 0 {
        match runs.next_run() {
            None => return false,
            Some(Run::Repeated(index, length)) => {
                let Some(&value) = dictionary.get(index as usize) else { return false };
                out[done..done + length].fill(value);
                done += length;
            }
            Some(Run::Packed(packed, length)) => {
                for (index, out) in out[done..done + length].iter_mut().enumerate() {
                    let index = unpack(packed, bits.into(), index);
                    let Some(&value) = dictionary.get(index as usize) else { return false };
                    *out = value;
                }
                done += length;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Encodes values, each stretch of equal ones of at least `run` as a run, others packed.
    fn encode(values: &[u32], bits: usize, run: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let varint = |bytes: &mut Vec<u8>, mut value: usize| {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        };
        let mut at = 0;
        while at < values.len() {
            let same = values[at..].iter().take_while(|&&value| value == values[at]).count();
            if same >= run {
                varint(&mut bytes, same << 1);
                bytes.extend(&values[at].to_le_bytes()[..bits.div_ceil(8)]);
                at += same;
                continue;
            }
            // Packed in eights: only the last may be short.
            let group = &values[at..values.len().min(at + 8)];
            varint(&mut bytes, 1 << 1 | 1);
            let mut word = 0u128;
            let mut words = Vec::new();
            for (i, &value) in group.iter().enumerate() {
                word |= u128::from(value) << (i % 4 * bits);
                if i % 4 == 3 || i == group.len() - 1 {
                    words.push((word, (i % 4 + 1) * bits));
                    word = 0;
                }
            }
            let mut all = Vec::new();
            for (word, length) in words {
                all.extend((0..length).map(|bit| (word >> bit & 1) as u8));
            }
            all.resize(8 * bits, 0);
            for byte in all.chunks(8) {
                bytes.push(byte.iter().rev().fold(0, |value, &bit| value << 1 | bit));
            }
            at += 8;
        }
        bytes
    }

    proptest! {
        #[test]
        fn a_repeated_shape_is_recognised(
            shape in prop::collection::vec(0u8..=3, 1..40),
            count in 1usize..300,
            first in 0usize..100,
            run in prop::sample::select(vec![1usize, 8, 1000]),
            other in prop::option::of(0usize..300),
        ) {
            let mut levels: Vec<u32> =
                (first..first + count).map(|at| shape[at % shape.len()].into()).collect();
            if let Some(other) = other.filter(|&other| other < count) {
                levels[other] ^= 1;
            }
            let expected = other.is_none_or(|other| other >= count);
            let bytes = encode(&levels, 2, run);
            prop_assert_eq!(repeat(&bytes, 3, count, &shape, first), expected);
        }

        #[test]
        fn entries_are_found(
            bits in 1usize..20,
            seed in prop::collection::vec(any::<u32>(), 1..200),
            run in prop::sample::select(vec![1usize, 3, 1000]),
        ) {
            let indices: Vec<u32> = seed.iter().map(|v| v % (1 << bits).min(5000)).collect();
            let dictionary: Vec<f64> = (0..5000).map(|i| f64::from(i) * 0.5).collect();
            let mut bytes = vec![bits as u8];
            bytes.extend(encode(&indices, bits, run));
            let mut out = vec![0.0; indices.len()];
            prop_assert!(look_up(&bytes, &dictionary, &mut out));
            let expected: Vec<f64> = indices.iter().map(|&i| f64::from(i) * 0.5).collect();
            prop_assert_eq!(&out, &expected);
            // A dictionary without the last entry that is named.
            let largest = *indices.iter().max().unwrap() as usize;
            prop_assert!(!look_up(&bytes, &dictionary[..largest], &mut out));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..60), count in 0usize..500,
        ) {
            let _ = repeat(&bytes, 1, count, &[0, 1, 1], 2);
            let _ = look_up(&bytes, &[1.0f32, 2.0], &mut vec![0.0; count]);
        }
    }
}
