//! Which columns hold the features and the labels.

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::TableError;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
}

/// A column of numbers: its index among the leaves of the schema.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Whether every value is a float32, too.
    pub(super) single: bool,
}

/// How the features of a row are stored.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    /// A column a feature.
    Columns(Vec<Leaf>),
    /// One column of lists of equal length.
    Lists(Leaf),
}

/// Finds the columns; `label` names the label column, or None takes `label` where there is one.
pub(super) fn columns(
    schema: &SchemaDescriptor,
    label: Option<&str>,
) -> Result<(Layout, Option<Leaf>), TableError> {
    let fields = schema.root_schema().get_fields();
    let names: Vec<_> = fields.iter().map(|field| field.name()).collect();
    let label = label.or(names.contains(&"label").then_some("label"));
    if let Some(label) = label
        && !names.contains(&label)
    {
        let columns: Vec<_> = names.iter().map(|name| name.escape_debug().to_string()).collect();
        return Err(TableError::NoLabel { label: label.to_owned(), columns: columns.join(", ") });
    }
    let mut of_root: Vec<Vec<usize>> = vec![Vec::new(); fields.len()];
    for leaf in 0..schema.num_columns() {
        of_root[schema.get_column_root_idx(leaf)].push(leaf);
    }
    let mut label_leaf = None;
    let mut features = Vec::new();
    for (name, leaves) in names.iter().zip(&of_root) {
        let column = match leaves.as_slice() {
            &[index] => Some((index, schema.column(index))),
            _ => None,
        };
        let found = column.as_ref().and_then(|(index, column)| leaf(*index, name, column));
        if Some(*name) == label {
            let scalar = column.as_ref().is_some_and(|(_, column)| column.max_rep_level() == 0);
            match found {
                Some(leaf) if scalar && is_integer(leaf.kind) => label_leaf = Some(leaf),
                _ => {
                    let kind = column.map_or("nested".to_owned(), |(_, column)| type_name(&column));
                    return Err(TableError::LabelType { label: (*name).to_owned(), kind });
                }
            }
            continue;
        }
        let Some(leaf) = found else {
            let kind = column.map_or("nested".to_owned(), |(_, column)| type_name(&column));
            return Err(TableError::ColumnType { column: (*name).to_owned(), kind });
        };
        let nested = column.is_some_and(|(_, column)| column.max_rep_level() > 0);
        features.push((leaf, nested));
    }
    let layout = match features.as_slice() {
        [] => return Err(TableError::NoFeatures),
        [(leaf, true)] => Layout::Lists(leaf.clone()),
        many => {
            if let Some((leaf, _)) = many.iter().find(|(_, nested)| *nested) {
                let column = leaf.name.clone();
                return Err(TableError::ColumnType { column, kind: "list".to_owned() });
            }
            Layout::Columns(features.into_iter().map(|(leaf, _)| leaf).collect())
        }
    };
    Ok((layout, label_leaf))
}

fn is_integer(kind: Kind) -> bool {
    matches!(kind, Kind::I32 | Kind::U32 | Kind::I64 | Kind::U64)
}

/// None where the values are not plain numbers, or stand in a struct.
fn leaf(index: usize, name: &str, column: &ColumnDescriptor) -> Option<Leaf> {
    // A list adds a level for itself, each level a name or two to the path.
    if column.max_rep_level() == 0 && column.path().parts().len() > 1 {
        return None;
    }
    let (kind, single) = match (column.physical_type(), column.logical_type_ref()) {
        (Physical::BOOLEAN, _) => (Kind::Bool, true),
        (Physical::FLOAT, _) => (Kind::F32, true),
        (Physical::DOUBLE, _) => (Kind::F64, false),
        (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Float16)) => (Kind::F16, true),
        (physical @ (Physical::INT32 | Physical::INT64), logical) => {
            let long = physical == Physical::INT64;
            let (bits, signed) = match (logical, column.converted_type()) {
                (Some(LogicalType::Integer(integer)), _) => (integer.bit_width, integer.is_signed),
                (Some(_), _) => return None,
                (None, ConvertedType::NONE) => (if long { 64 } else { 32 }, true),
                (None, ConvertedType::INT_8) => (8, true),
                (None, ConvertedType::INT_16) => (16, true),
                (None, ConvertedType::INT_32) => (32, true),
                (None, ConvertedType::INT_64) => (64, true),
                (None, ConvertedType::UINT_8) => (8, false),
                (None, ConvertedType::UINT_16) => (16, false),
                (None, ConvertedType::UINT_32) => (32, false),
                (None, ConvertedType::UINT_64) => (64, false),
                _ => return None,
            };
            let kind = match (long, signed) {
                (false, true) => Kind::I32,
                (false, false) => Kind::U32,
                (true, true) => Kind::I64,
                (true, false) => Kind::U64,
            };
            (kind, bits <= 16)
        }
        _ => return None,
    };
    Some(Leaf { index, name: name.to_owned(), kind, single })
}

fn type_name(column: &ColumnDescriptor) -> String {
    if column.max_rep_level() == 0 && column.path().parts().len() > 1 {
        return "struct".to_owned();
    }
    let name = match (column.logical_type_ref(), column.converted_type()) {
        (Some(logical), _) => {
            let name = format!("{logical:?}");
            name.split(['(', ' ', '{']).next().unwrap_or_default().to_lowercase()
        }
        (None, ConvertedType::NONE) => format!("{}", column.physical_type()).to_lowercase(),
        (None, converted) => format!("{converted}").to_lowercase(),
    };
    if column.max_rep_level() > 0 { format!("list of {name}") } else { name }
}
