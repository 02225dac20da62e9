//! Rows, minus the mean of their class, in a basis of their class: what the second pass of every
//! subspace detector computes.

use aisec_numeric::Cancel;
use aisec_numeric::gemm::PackedMatrix;
use rayon::prelude::*;

use crate::{Error, Feature};

/// Rows projected by one task.
const ROWS: usize = 256;

/// A mean and a basis for each class.
#[derive(Debug)]
pub struct Projection {
    dim: usize,
    width: usize,
    classes: Vec<Class>,
}

#[derive(Debug)]
struct Class {
    label: i64,
    mean: Vec<f64>,
    basis: PackedMatrix<f64>,
}

impl Projection {
    /// `means` are [c, dim], `bases` [c, dim, width], both row-major; labels in any order.
    pub fn new(
        dim: usize,
        width: usize,
        labels: &[i64],
        means: &[f64],
        bases: &[f64],
    ) -> Result<Self, Error> {
        let rows = labels.len();
        if dim == 0 || width == 0 {
            return Err(Error::Empty);
        }
        for (values, dim) in [(means.len(), dim), (bases.len(), dim * width)] {
            if values != rows * dim {
                return Err(Error::Shape { values, rows, dim });
            }
        }
        let mut classes: Vec<_> = labels
            .iter()
            .zip(means.chunks_exact(dim))
            .zip(bases.chunks_exact(dim * width))
            .map(|((&label, mean), basis)| Class {
                label,
                mean: mean.to_vec(),
                basis: PackedMatrix::new(dim, width, None, |k, n| basis[k * width + n]),
            })
            .collect();
        classes.sort_by_key(|class| class.label);
        Ok(Self { dim, width, classes })
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// Projects the rows of `x`, row-major [labels.len(), dim], to [labels.len(), width]; `first`
    /// is the number of rows before them, for messages.
    ///
    /// Every number is one chain of operations over the features of its row.
    pub fn apply<T: Feature>(
        &self,
        x: &[T],
        labels: &[i64],
        first: u64,
        cancel: &Cancel,
    ) -> Result<Vec<f64>, Error> {
        let (dim, width) = (self.dim, self.width);
        if labels.len().checked_mul(dim) != Some(x.len()) {
            return Err(Error::Shape { values: x.len(), rows: labels.len(), dim });
        }
        let mut out = vec![0.0; labels.len() * width];
        out.par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * dim).zip(labels.par_chunks(ROWS)))
            .enumerate()
            .try_for_each(|(chunk, (out, (x, labels)))| {
                cancel.check()?;
                self.rows(x, labels, first + (chunk * ROWS) as u64, out)
            })?;
        Ok(out)
    }

    fn rows<T: Feature>(
        &self,
        x: &[T],
        labels: &[i64],
        first: u64,
        out: &mut [f64],
    ) -> Result<(), Error> {
        let (dim, width) = (self.dim, self.width);
        let mut order = Vec::with_capacity(labels.len());
        for (row, &label) in labels.iter().enumerate() {
            let class = self
                .classes
                .binary_search_by_key(&label, |class| class.label)
                .map_err(|_| Error::UnknownLabel { row: first + row as u64, label })?;
            order.push((class, row));
        }
        order.sort_unstable();
        let (mut centred, mut product) = (Vec::new(), Vec::new());
        for same in order.chunk_by(|a, b| a.0 == b.0) {
            let class = &self.classes[same[0].0];
            centred.clear();
            for &(_, row) in same {
                let values = x[row * dim..][..dim].iter().zip(&class.mean);
                centred.extend(values.map(|(&value, mean)| value.into() - mean));
            }
            product.resize(same.len() * width, 0.0);
            class.basis.multiply_rows(&centred, &mut product, false);
            for (&(_, row), product) in same.iter().zip(product.chunks_exact(width)) {
                if !product.iter().all(|value| value.is_finite()) {
                    let row = first + row as u64;
                    let values = &x[(row - first) as usize * dim..][..dim];
                    let feature = values.iter().position(|&value| !value.into().is_finite());
                    return Err(match feature {
                        Some(feature) => Error::NotFinite { row, feature },
                        None => Error::Overflow { label: class.label },
                    });
                }
                out[row * width..][..width].copy_from_slice(product);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> (Projection, Vec<f32>, Vec<i64>) {
        let (dim, width) = (5, 3);
        let means: Vec<f64> = (0..2 * dim).map(|i| i as f64 * 0.25).collect();
        let bases: Vec<f64> = (0..2 * dim * width).map(|i| (i % 7) as f64 - 3.0).collect();
        let projection = Projection::new(dim, width, &[9, -4], &means, &bases).unwrap();
        let x = (0..700 * dim).map(|i| (i % 13) as f32 - 6.0).collect();
        let labels = (0..700).map(|i| if i % 3 == 0 { 9 } else { -4 }).collect();
        (projection, x, labels)
    }

    #[test]
    fn agrees_with_plain_loops_in_any_batch() {
        let (projection, x, labels) = fixture();
        let cancel = Cancel::new();
        let whole = projection.apply(&x, &labels, 0, &cancel).unwrap();
        for (row, &label) in labels.iter().enumerate() {
            let class = usize::from(label == -4);
            for n in 0..3 {
                let expected: f64 = (0..5)
                    .map(|k| {
                        let mean = (class * 5 + k) as f64 * 0.25;
                        let basis = ((class * 15 + k * 3 + n) % 7) as f64 - 3.0;
                        (f64::from(x[row * 5 + k]) - mean) * basis
                    })
                    .sum();
                assert!((whole[row * 3 + n] - expected).abs() < 1e-12);
            }
        }
        let parts: Vec<f64> = (0..700)
            .step_by(37)
            .flat_map(|first| {
                let last = 700.min(first + 37);
                let x = &x[first * 5..last * 5];
                projection.apply(x, &labels[first..last], first as u64, &cancel).unwrap()
            })
            .collect();
        assert_eq!(parts, whole);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (projection, mut x, mut labels) = fixture();
        let cancel = Cancel::new();
        x[300 * 5 + 2] = f32::NAN;
        let error = projection.apply(&x, &labels, 1000, &cancel).unwrap_err();
        assert_eq!(error, Error::NotFinite { row: 1300, feature: 2 });
        x[300 * 5 + 2] = 0.0;
        labels[10] = 3;
        let error = projection.apply(&x, &labels, 0, &cancel).unwrap_err();
        assert_eq!(error, Error::UnknownLabel { row: 10, label: 3 });
        assert!(Projection::new(2, 1, &[0], &[0.0], &[0.0, 0.0]).is_err());
    }
}
