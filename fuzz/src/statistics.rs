//! Statistics as bytes: refused, or written again as they were.

use aisec_detect::Statistics;

pub fn run(data: &[u8]) {
    if let Ok(mut found) = Statistics::from_bytes(data, 1 << 24) {
        assert_eq!(found.to_bytes().expect("they were read"), data);
    }
}
