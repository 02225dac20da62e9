//! Bytes of strangers: the seeds of the fuzz targets, replayed and mutated.

#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;
#[path = "../../../fuzz/src/parquet.rs"]
mod parquet;
#[path = "../../../fuzz/src/statistics.rs"]
mod statistics;
#[path = "../../../fuzz/src/text.rs"]
mod text;

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use aisec_detect::Statistics;
use aisec_numeric::Cancel;
use mutate::replay;

/// Panics of the decoders are caught inside, and not worth a line each here.
#[test]
fn tables() {
    let shown = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let found = panic::catch_unwind(|| replay("parquet", 3000, parquet::run));
    panic::set_hook(shown);
    assert!(found.is_ok(), "a panic got out: `make fuzz` finds the bytes");
}

#[test]
fn sent_statistics() {
    replay("statistics", 10_000, statistics::run);
}

#[test]
fn documents() {
    replay("text", 4000, text::run);
}

/// Those that are whole are read.
#[test]
fn seeds_are_statistics() {
    for name in ["0", "1", "2"] {
        let bytes = fs::read(folder("statistics").join(name)).unwrap();
        assert!(Statistics::from_bytes(&bytes, 1 << 24).is_ok());
    }
}

/// Writes the seeds but for the tables, which `fuzz/make_tables.py` writes.
#[test]
#[ignore = "writes into fuzz/seeds: run it by hand when formats change"]
fn write_seeds() {
    for (number, (dim, first, part_rows)) in
        [(1, 0, 8), (3, 16, 8), (2, 8, 4)].into_iter().enumerate()
    {
        let mut statistics = Statistics::new(dim, 1 << 24, first, part_rows).unwrap();
        let x: Vec<f64> = (0..8 * dim).map(|i| (i * i % 7) as f64).collect();
        let labels: Vec<i64> = (0..8).map(|i| i64::from(i % 3)).collect();
        statistics.update(&x, &labels, &Cancel::new()).unwrap();
        let bytes = statistics.to_bytes().unwrap();
        fs::write(folder("statistics").join(format!("{number}")), bytes).unwrap();
    }
    for (number, text) in [
        "One two, THREE.\nfour  five\tsix\u{3000}seven\n\nİstanbul ẞ ﬁn\u{301} e\u{301}\n漢字かな ไทย ລາວ བོད་ မြန်မာ ខ្មែរ".as_bytes(),
        "\u{202e}abc\u{200b}\u{feff}\n👩‍👩‍👧‍👦 \u{e0001}\n\u{1d11e}".as_bytes(),
        b"good\n\xff\xfe bad\n\xe2\x82\n\xf0\x9f\x98\x80 \xc0\x80",
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(folder("text").join(format!("{number}")), text).unwrap();
    }
}

fn folder(target: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    fs::create_dir_all(&folder).unwrap();
    folder
}
