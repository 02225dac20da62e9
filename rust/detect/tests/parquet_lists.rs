//! Columns of lists, decoded page by page: every layout a writer may choose gives the same rows.

use std::io;
use std::sync::Arc;

use aisec_detect::parquet::{ReadAt, Rows, Table, TableError};
use aisec_numeric::Cancel;
use parquet::basic::{ConvertedType, Encoding, Repetition, Type as Physical};
use parquet::data_type::{FloatType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use proptest::prelude::*;

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.0[from..from + buffer.len()]);
        Ok(())
    }

    fn preferred_read(&self) -> usize {
        // Small, so that pages lie across reads.
        700
    }
}

/// How a file is written.
#[derive(Debug, Clone)]
struct Layout {
    groups: Vec<usize>,
    width: usize,
    second: bool,
    dictionary: bool,
    split: bool,
    page: usize,
    nullable: bool,
}

/// Rows of `width` values as lists, with labels; `change` may spoil the levels of a row group.
fn write(
    layout: &Layout,
    value: impl Fn(usize) -> f32,
    change: impl Fn(usize, &mut Vec<f32>, &mut Vec<i16>, &mut Vec<i16>),
) -> Vec<u8> {
    let repetition = if layout.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let element = Type::primitive_type_builder("element", Physical::FLOAT)
        .with_repetition(repetition)
        .build()
        .unwrap();
    let list = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()
        .unwrap();
    let lists = Type::group_type_builder("x")
        .with_repetition(repetition)
        .with_converted_type(ConvertedType::LIST)
        .with_fields(vec![Arc::new(list)])
        .build()
        .unwrap();
    let label = Type::primitive_type_builder("label", Physical::INT64)
        .with_repetition(Repetition::REQUIRED)
        .build()
        .unwrap();
    let schema = Type::group_type_builder("schema")
        .with_fields(vec![Arc::new(lists), Arc::new(label)])
        .build()
        .unwrap();
    let mut properties = WriterProperties::builder()
        .set_writer_version(if layout.second {
            WriterVersion::PARQUET_2_0
        } else {
            WriterVersion::PARQUET_1_0
        })
        .set_dictionary_enabled(layout.dictionary)
        .set_data_page_size_limit(layout.page)
        .set_write_batch_size(16);
    if !layout.dictionary {
        let encoding = if layout.split { Encoding::BYTE_STREAM_SPLIT } else { Encoding::PLAIN };
        properties = properties.set_encoding(encoding);
    }
    let mut file = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut file, Arc::new(schema), Arc::new(properties.build()))
            .unwrap();
    let full = if layout.nullable { 3 } else { 1 };
    let mut first = 0;
    for (index, &rows) in layout.groups.iter().enumerate() {
        let count = rows * layout.width;
        let mut values: Vec<f32> = (0..count).map(|at| value(first * layout.width + at)).collect();
        let mut definition = vec![full; count];
        let mut repetition: Vec<i16> =
            (0..count).map(|at| i16::from(at % layout.width > 0)).collect();
        change(index, &mut values, &mut definition, &mut repetition);
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<FloatType>()
            .write_batch(&values, Some(&definition), Some(&repetition))
            .unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = (first..first + rows).map(|row| row as i64 * 3 - 5).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        first += rows;
    }
    writer.close().unwrap();
    file
}

/// All rows from `first` on, `batch` at a time.
fn read(file: &[u8], first: usize, batch: usize) -> Result<(Vec<f32>, Vec<i64>), TableError> {
    let table = Arc::new(Table::open(Arc::new(Bytes(file.to_vec())), None)?);
    let width = table.dim();
    let mut rows = Rows::<f32>::new(table, first as u64, 1 << 20);
    let (mut x, mut labels) = (Vec::new(), Vec::new());
    loop {
        let (mut part, mut own) = (vec![0.0; batch * width], vec![0; batch]);
        let count = rows.read(&mut part, &mut own, &Cancel::new())?;
        x.extend_from_slice(&part[..count * width]);
        labels.extend_from_slice(&own[..count]);
        if count < batch {
            return Ok((x, labels));
        }
    }
}

fn layouts() -> impl Strategy<Value = Layout> {
    let groups = prop::collection::vec(1usize..60, 1..4);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (groups, 1usize..40, flags, 64usize..3000).prop_map(
        |(groups, width, (second, dictionary, split, nullable), page)| Layout {
            groups,
            width,
            second,
            dictionary,
            split,
            page,
            nullable,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn every_layout_gives_the_same_rows(
        layout in layouts(), first in 0usize..180, batch in 1usize..70, few: bool,
    ) {
        let value = |at: usize| if few { (at * 7 % 5) as f32 } else { (at * 31 % 1009) as f32 };
        let file = write(&layout, value, |_, _, _, _| ());
        let rows: usize = layout.groups.iter().sum();
        let first = first.min(rows);
        let (x, labels) = read(&file, first, batch).unwrap();
        let expected: Vec<f32> = (first * layout.width..rows * layout.width).map(value).collect();
        prop_assert_eq!(x, expected);
        prop_assert_eq!(labels, (first..rows).map(|row| row as i64 * 3 - 5).collect::<Vec<_>>());
    }

    #[test]
    fn plain_values_and_dictionaries_are_decoded_in_parallel(layout in layouts(), skip in 0usize..9) {
        let file = write(&layout, |at| (at * 7 % 5) as f32, |_, _, _, _| ());
        let table = Arc::new(Table::open(Arc::new(Bytes(file)), None).unwrap());
        let (first, width) = (skip.min(layout.groups[0] - 1), table.dim());
        let mut rows = Rows::<f32>::new(table, first as u64, 1 << 20);
        rows.read(&mut vec![0.0; width], &mut [0], &Cancel::new()).unwrap();
        prop_assert_eq!(rows.in_parallel(), layout.dictionary || !layout.split);
    }

    #[test]
    fn a_row_that_is_otherwise_is_named(
        layout in layouts(), at in 0usize..1000, batch in 1usize..70, null: bool,
    ) {
        let layout = Layout { nullable: true, ..layout };
        let rows: usize = layout.groups.iter().sum();
        prop_assume!(layout.width > 1 && (null || rows > 1));
        let row = at % rows;
        let mut first = 0;
        let group = layout.groups.iter().position(|&rows| {
            let inside = row < first + rows;
            if !inside {
                first += rows;
            }
            inside
        });
        let file = write(&layout, |at| at as f32, |index, values, definition, repetition| {
            if Some(index) == group {
                // Within the row: a null, or a value too few.
                let place = (row - first) * layout.width + 1;
                values.remove(place);
                if null {
                    definition[place] = 2;
                } else {
                    definition.remove(place);
                    repetition.remove(place);
                }
            }
        });
        let error = read(&file, 0, batch).unwrap_err();
        let named = match &error {
            TableError::Null { row: named, .. } if null => Some(*named),
            // The first row says how many values a row has.
            TableError::Ragged { row: named, .. } if !null => {
                Some(if row == 0 { *named - 1 } else { *named })
            }
            _ => None,
        };
        prop_assert_eq!(named, Some(row as u64), "{}", error);
    }

    #[test]
    fn damaged_bytes_are_read_or_refused(layout in layouts(), at: usize, to: u8, cut: bool) {
        let mut file = write(&layout, |at| (at % 50) as f32, |_, _, _, _| ());
        let at = at % file.len();
        if cut {
            file.drain(at..at + 1);
        } else {
            file[at] = to;
        }
        let _ = read(&file, 0, 17);
    }
}
