//! Parquet files from memory: refused in one line, or read to the end, in bounded memory.

use std::io;
use std::sync::Arc;

use aisec_detect::parquet::{ReadAt, Rows, Table, Value};
use aisec_numeric::Cancel;

/// For decoded columns.
const LIMIT: usize = 1 << 20;
/// Rows that are read at a time, and how often.
const ROWS: usize = 1000;
const TIMES: usize = 8;

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let part =
            usize::try_from(offset).ok().and_then(|at| self.0.get(at..)?.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

pub fn run(data: &[u8]) {
    for label in [None, Some("y")] {
        match Table::open(Arc::new(Bytes(data.to_vec())), label) {
            Err(error) => one_line(&error.to_string()),
            Ok(table) => {
                let table = Arc::new(table);
                read::<f32>(&table, 0);
                read::<f64>(&table, table.rows() / 2);
            }
        }
    }
}

fn read<T: Value + Default + Clone>(table: &Arc<Table>, first: u64) {
    let dim = table.dim();
    if dim > 1 << 12 {
        return;
    }
    let mut rows = Rows::<T>::new(table.clone(), first, LIMIT);
    let (mut x, mut labels) = (vec![T::default(); ROWS * dim], vec![0; ROWS]);
    for _ in 0..TIMES {
        match rows.read(&mut x, &mut labels, &Cancel::new()) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return one_line(&error.to_string()),
        }
    }
}

fn one_line(text: &str) {
    assert!(!text.contains('\n') && text.len() < 4000, "{text:?}");
}
