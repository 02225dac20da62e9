//! Seeds replayed as they are and with random changes: what the tests on stable do.

use std::fs;
use std::path::Path;

/// Calls `run` with every seed of a target, then `times` times with one that is changed.
pub fn replay(target: &str, times: usize, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).expect("there are seeds");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it is read").path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> =
        paths.iter().map(|path| fs::read(path).expect("it is read")).collect();
    seeds.iter().for_each(|seed| run(seed));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..times {
        let mut data = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            change(&mut data, &seeds, &mut random);
        }
        run(&data);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// Numbers that parsers trip over, in text and in bytes.
const TEXTS: [&str; 12] = [
    "0",
    "-1",
    "1e999",
    "4294967296",
    "18446744073709551615",
    "\"0x1p+1023\"",
    "\"-0x0p+0\"",
    "\"0x1p-1022\"",
    "null",
    "[]",
    "{}",
    "[[",
];
const BYTES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'[', b'9'];

fn change(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(data.len() + 1);
    let end = (at + 1 + random.below(16)).min(data.len());
    match random.below(9) {
        0 => data.truncate(at),
        1 if at < data.len() => data[at] ^= 1 << random.below(8),
        2 if at < data.len() => data[at] = BYTES[random.below(BYTES.len())],
        // A number, in text or in bytes, becomes another one.
        3 => {
            let digit = |byte: &u8| byte.is_ascii_hexdigit();
            let first = (at..data.len()).find(|&i| digit(&data[i])).unwrap_or(at);
            let last = (first..data.len()).find(|&i| !digit(&data[i])).unwrap_or(data.len());
            data.splice(first..last, TEXTS[random.below(TEXTS.len())].bytes());
        }
        4 => {
            let wide = 1 << random.below(4);
            let value = [0, 1, u64::MAX, u64::MAX >> 1, 1 << 31, 1 << 16][random.below(6)];
            if let Some(part) = data.get_mut(at..at + wide) {
                part.copy_from_slice(&value.to_le_bytes()[..wide]);
            }
        }
        5 => {
            data.drain(at.min(end)..end);
        }
        // Something twice, or from another seed.
        6 => {
            let part = data[at.min(end)..end].repeat(1 + random.below(40));
            data.splice(at..at, part);
        }
        7 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            let to = (from + random.below(200)).min(other.len());
            data.splice(at..end.max(at), other[from..to].iter().copied());
        }
        _ => {
            if let Some(byte) = data.get_mut(at) {
                *byte = byte.wrapping_add(1);
            }
        }
    }
}
