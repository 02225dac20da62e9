//! Coefficients of many rows side by side: element `e` of row `r` at `e * width + r`.

use crate::operator::{Operator, Site};

/// Rows over an operator's output; `site.batch` is their width, a multiple of
/// [`aisec_numeric::beside::LANES`].
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f64],
    /// Elements that are not alive are zero in every row.
    pub alive: Option<&'a [bool]>,
}

/// Rows over one of its inputs, to be written.
#[derive(Debug)]
pub struct Part<'a> {
    pub values: &'a mut [f64],
    /// Elements that are not wanted may be left at zero.
    pub wanted: Option<&'a [bool]>,
}

/// [`Operator::vjp`], the rows laid out one after another for it.
pub(crate) fn by_rows<O: Operator>(op: &O, site: &Site, rows: Rows, parts: &mut [Part]) {
    let width = site.batch;
    let cotangent = one_after_another(rows.values, width);
    let mut grads: Vec<Vec<f64>> = parts.iter().map(|part| vec![0.0; part.values.len()]).collect();
    let mut views: Vec<&mut [f64]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
    op.vjp(site, &[], &[], &cotangent, &mut views);
    for (part, grad) in parts.iter_mut().zip(&grads) {
        side_by_side(grad, width, part.values);
    }
}

/// Copies rows that are side by side into rows one after another.
pub fn one_after_another(values: &[f64], width: usize) -> Vec<f64> {
    let len = values.len() / width.max(1);
    let mut rows = vec![0.0; values.len()];
    for (e, values) in values.chunks_exact(width.max(1)).enumerate() {
        values.iter().enumerate().for_each(|(r, &value)| rows[r * len + e] = value);
    }
    rows
}

/// Copies rows one after another into the first of `width` rows side by side.
pub fn side_by_side(rows: &[f64], width: usize, values: &mut [f64]) {
    let len = values.len() / width.max(1);
    for (r, row) in rows.chunks_exact(len.max(1)).enumerate() {
        let column = values[r..].iter_mut().step_by(width.max(1));
        column.zip(row).for_each(|(value, &x)| *value = x);
    }
}
