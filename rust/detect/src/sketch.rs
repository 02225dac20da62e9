//! Scatter matrices in a few rows: frequent directions (Liberty, KDD 2013; Ghashami, Liberty,
//! Phillips & Woodruff, SIAM J. Comput. 2016), one sketch a class, for classes so many or features
//! so wide that matrices of `dim²` numbers do not fit.
//!
//! A sketch B never overestimates the scatter matrix S in any direction, and underestimates it by
//! at most what was shrunk away: 0 ≤ S - BᵀB ≤ δ·I, δ known exactly.

use std::collections::HashMap;

use aisec_numeric::Cancel;
use rayon::prelude::*;

use crate::rows::multiply;
use crate::{Error, Feature, symmetric};

/// The sketches of all classes.
#[derive(Debug)]
pub struct Sketch {
    dim: usize,
    /// Directions that survive a shrinking; a buffer holds twice as many rows.
    directions: usize,
    limit: usize,
    slots: HashMap<i64, usize>,
    classes: Vec<Class>,
    rows: u64,
    broken: bool,
}

#[derive(Debug)]
struct Class {
    label: i64,
    count: u64,
    mean: Vec<f64>,
    buffer: Vec<f64>,
    /// Squared length of all rows about the mean.
    total: f64,
    lost: f64,
}

/// What is known of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct Leading {
    pub label: i64,
    pub count: u64,
    pub mean: Vec<f64>,
    /// Mean squared distance to the mean: the trace of the covariance (divided by the count).
    pub variance: f64,
    /// Leading eigenvalues of the sketched covariance, descending; 0 where the sketch has fewer.
    pub eigenvalues: Vec<f64>,
    /// Their unit eigenvectors one after the other, entry of largest magnitude positive.
    pub vectors: Vec<f64>,
    /// No variance in any direction is larger than the sketch says by more than this.
    pub error: f64,
}

impl Sketch {
    /// Starts with no rows; at most `memory_limit` bytes are used beside the batches.
    pub fn new(dim: usize, directions: usize, memory_limit: usize) -> Result<Self, Error> {
        if dim == 0 || directions == 0 {
            return Err(Error::Empty);
        }
        Ok(Self {
            dim,
            directions,
            limit: memory_limit,
            slots: HashMap::new(),
            classes: Vec::new(),
            rows: 0,
            broken: false,
        })
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of one class.
    pub fn class_bytes(dim: usize, directions: usize) -> usize {
        // The buffer and the mean.
        directions
            .saturating_mul(2)
            .saturating_add(1)
            .saturating_mul(dim)
            .saturating_mul(size_of::<f64>())
    }

    /// Takes rows in order; row-major [labels.len(), dim]. Batches and threads do not change a bit.
    pub fn update<T: Feature>(
        &mut self,
        x: &[T],
        labels: &[i64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Incomplete);
        }
        let (dim, directions) = (self.dim, self.directions);
        if labels.len().checked_mul(dim) != Some(x.len()) {
            return Err(Error::Shape { values: x.len(), rows: labels.len(), dim });
        }
        self.broken = true;
        let refused = x.par_chunks_exact(dim).enumerate().find_map_first(|(row, values)| {
            let feature = values.iter().position(|&value| !value.into().is_finite())?;
            Some((row, feature))
        });
        if let Some((row, feature)) = refused {
            return Err(Error::NotFinite { row: self.rows + row as u64, feature });
        }
        let mut of_class: Vec<Vec<&[T]>> = vec![Vec::new(); self.classes.len()];
        for (row, &label) in x.chunks_exact(dim).zip(labels) {
            let slot = match self.slots.get(&label) {
                Some(&slot) => slot,
                None => {
                    self.check_memory(self.classes.len() + 1)?;
                    self.slots.insert(label, self.classes.len());
                    self.classes.push(Class::new(label, dim));
                    of_class.push(Vec::new());
                    self.classes.len() - 1
                }
            };
            of_class[slot].push(row);
        }
        self.classes
            .par_iter_mut()
            .zip(&of_class)
            .filter(|(_, rows)| !rows.is_empty())
            .try_for_each(|(class, rows)| {
                cancel.check()?;
                class.add(rows, directions)
            })?;
        self.rows += labels.len() as u64;
        self.broken = false;
        Ok(())
    }

    fn check_memory(&self, classes: usize) -> Result<(), Error> {
        // A thread that shrinks holds four further buffers: transposed, packed twice, shrunk.
        let busy = classes.saturating_add(4 * rayon::current_num_threads());
        let needed = Self::class_bytes(self.dim, self.directions).saturating_mul(busy);
        if needed > self.limit {
            let (dim, limit) = (self.dim, self.limit);
            return Err(Error::Memory { classes, dim, needed, limit });
        }
        Ok(())
    }

    /// Labels, counts and means, ascending by label.
    pub fn classes(&self) -> Result<impl Iterator<Item = (i64, u64, &[f64])>, Error> {
        self.check()?;
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_by_key(|class| class.label);
        Ok(classes.into_iter().map(|c| (c.label, c.count, c.mean.as_slice())))
    }

    /// The `count` leading directions of one class; None where there is no such class.
    pub fn leading(&self, label: i64, count: usize) -> Result<Option<Leading>, Error> {
        self.check()?;
        Ok(self.slots.get(&label).map(|&slot| self.classes[slot].leading(count)))
    }

    fn check(&self) -> Result<(), Error> {
        if self.broken {
            Err(Error::Incomplete)
        } else if self.rows == 0 {
            Err(Error::Empty)
        } else {
            Ok(())
        }
    }
}

impl Class {
    fn new(label: i64, dim: usize) -> Self {
        Self { label, count: 0, mean: vec![0.0; dim], buffer: Vec::new(), total: 0.0, lost: 0.0 }
    }

    /// A row off the mean m of the k rows before it adds k / (k + 1) (x - m)(x - m)ᵀ to the scatter.
    fn add<T: Feature>(&mut self, rows: &[&[T]], directions: usize) -> Result<(), Error> {
        let dim = self.mean.len();
        self.buffer.reserve_exact(2 * directions * dim - self.buffer.len());
        for row in rows {
            let before = self.count as f64;
            self.count += 1;
            let weight = (before / (before + 1.0)).sqrt();
            let start = self.buffer.len();
            if before > 0.0 {
                self.buffer.extend(
                    row.iter().zip(&self.mean).map(|(&value, mean)| weight * (value.into() - mean)),
                );
                self.total += self.buffer[start..].iter().map(|v| v * v).sum::<f64>();
            }
            for (mean, &value) in self.mean.iter_mut().zip(*row) {
                *mean += (value.into() - *mean) / (before + 1.0);
            }
            if self.buffer.len() == 2 * directions * dim {
                self.shrink(directions);
            }
        }
        if self.total.is_finite() { Ok(()) } else { Err(Error::Overflow { label: self.label }) }
    }

    /// Squares of the singular values of the buffer, descending, and the left singular vectors.
    fn decompose(&self) -> (Vec<f64>, Vec<f64>) {
        let dim = self.mean.len();
        let rows = self.buffer.len() / dim;
        let transposed: Vec<f64> =
            (0..dim * rows).map(|at| self.buffer[at % rows * dim + at / rows]).collect();
        symmetric::eigenpairs(&multiply(&self.buffer, dim, &transposed, rows), rows)
    }

    /// Keeps the leading `directions`, each shortened by the square of the next.
    fn shrink(&mut self, directions: usize) {
        let dim = self.mean.len();
        let rows = self.buffer.len() / dim;
        let (squares, vectors) = self.decompose();
        let cut = squares[directions].max(0.0);
        let weights: Vec<f64> = (0..directions)
            .flat_map(|i| {
                let square = squares[i].max(0.0);
                let scale =
                    if square > 0.0 { ((square - cut) / square).max(0.0).sqrt() } else { 0.0 };
                vectors[i * rows..][..rows].iter().map(move |value| scale * value)
            })
            .collect();
        self.buffer = multiply(&weights, rows, &self.buffer, dim);
        self.lost += cut;
    }

    fn leading(&self, count: usize) -> Leading {
        let dim = self.mean.len();
        let rows = self.buffer.len() / dim;
        let samples = self.count as f64;
        let mut eigenvalues = vec![0.0; count];
        let mut out = vec![0.0; count * dim];
        if rows > 0 {
            let (squares, vectors) = self.decompose();
            let floor = 1e-13 * squares[0].max(0.0);
            let found = squares.iter().take(count).filter(|square| **square > floor).count();
            if found > 0 {
                let directions = multiply(&vectors[..found * rows], rows, &self.buffer, dim);
                for (i, direction) in directions.chunks_exact(dim).enumerate() {
                    eigenvalues[i] = squares[i] / samples;
                    let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
                    let largest = direction
                        .iter()
                        .fold(0.0, |best: f64, v| if v.abs() > best.abs() { *v } else { best });
                    let scale = length.copysign(largest);
                    let out = &mut out[i * dim..][..dim];
                    out.iter_mut().zip(direction).for_each(|(out, v)| *out = v / scale);
                }
            }
        }
        Leading {
            label: self.label,
            count: self.count,
            mean: self.mean.clone(),
            variance: self.total / samples,
            eigenvalues,
            vectors: out,
            error: self.lost / samples,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::covariance;
    use aisec_numeric::random::Stream;
    use proptest::prelude::*;

    fn sketch(x: &[f64], labels: &[i64], dim: usize, directions: usize, batch: usize) -> Sketch {
        let mut sketch = Sketch::new(dim, directions, 1 << 30).unwrap();
        for (x, labels) in x.chunks(batch * dim).zip(labels.chunks(batch)) {
            sketch.update(x, labels, &Cancel::new()).unwrap();
        }
        sketch
    }

    proptest! {
        #[test]
        fn the_error_bound_holds(
            rows in 2usize..90,
            dim in 1usize..12,
            directions in 1usize..6,
            seed in 0u64..1000,
        ) {
            let mut draw = Stream::new(seed, "rows", 0).at(0, 0);
            let x: Vec<f64> = (0..rows * dim)
                .map(|at| f64::from(draw.normal()) * (1 + at % dim) as f64 + 100.0)
                .collect();
            let found = sketch(&x, &vec![3; rows], dim, directions, 13);
            let leading = found.leading(3, 2 * directions).unwrap().unwrap();
            let scale = (rows as f64 - 1.0) / rows as f64;
            let full: Vec<f64> = covariance(&x, dim).iter().map(|v| v * scale).collect();
            let trace: f64 = full.iter().step_by(dim + 1).sum();
            prop_assert!((leading.variance - trace).abs() <= 1e-9 * trace);
            // full - sketch lies between 0 and the error.
            let mut gap = full.clone();
            for (value, u) in leading.eigenvalues.iter().zip(leading.vectors.chunks(dim)) {
                for i in 0..dim {
                    for j in 0..dim {
                        gap[i * dim + j] -= value * u[i] * u[j];
                    }
                }
            }
            let (values, _) = symmetric::eigenpairs(&gap, dim);
            let slack = 1e-8 * trace;
            prop_assert!(values[dim - 1] >= -slack, "{:?}", values);
            prop_assert!(values[0] <= leading.error + slack, "{:?} {}", values, leading.error);
        }
    }

    #[test]
    fn exact_where_the_rank_is_small() {
        let (rows, dim) = (500, 20);
        let mut draw = Stream::new(0, "rows", 0).at(0, 0);
        let mut x = vec![0.0; rows * dim];
        for row in x.chunks_mut(dim) {
            let (a, b) = (f64::from(draw.normal()), f64::from(draw.normal()));
            row[3] = 5.0 * a + 1.0;
            row[7] = b - 2.0;
        }
        let found = sketch(&x, &vec![0; rows], dim, 4, 64);
        let leading = found.leading(0, 3).unwrap().unwrap();
        assert!(leading.error < 1e-12 && leading.eigenvalues[2] < 1e-10);
        assert!((leading.vectors[3] - 1.0).abs() < 1e-3 && leading.eigenvalues[0] > 20.0);
    }

    #[test]
    fn batches_do_not_change_a_bit_and_memory_is_held() {
        let (rows, dim) = (300, 7);
        let mut draw = Stream::new(9, "rows", 0).at(0, 0);
        let x: Vec<f64> = (0..rows * dim).map(|_| f64::from(draw.normal())).collect();
        let labels: Vec<i64> = (0..rows as i64).map(|i| i * i % 3).collect();
        let one = sketch(&x, &labels, dim, 3, rows);
        let many = sketch(&x, &labels, dim, 3, 11);
        for label in [0, 1] {
            assert_eq!(one.leading(label, 3), many.leading(label, 3));
        }
        assert_eq!(one.leading(5, 1), Ok(None));
        let mut small = Sketch::new(dim, 3, 4000).unwrap();
        let labels: Vec<i64> = (0..rows as i64).collect();
        let error = small.update(&x, &labels, &Cancel::new()).unwrap_err();
        assert!(matches!(error, Error::Memory { dim: 7, .. }), "{error}");
        assert_eq!(small.update(&x, &labels, &Cancel::new()), Err(Error::Incomplete));
    }
}
