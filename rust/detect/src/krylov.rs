//! Leading directions without covariance matrices: block Lanczos with full reorthogonalisation
//! (Golub & Underwood, 1977; Musco & Musco, *Randomized block Krylov methods*, NeurIPS 2015), one
//! pass over the data a block.
//!
//! For features so wide, or classes so many, that a matrix of `dim²` numbers a class does not fit:
//! memory is `dim × WIDTH` numbers a class and pass. Every number is one chain of operations over
//! the rows in their order, so neither batches nor threads change a bit.

use std::collections::HashMap;

use aisec_numeric::Cancel;
use aisec_numeric::random::Stream;
use pulp::Arch;
use rayon::prelude::*;

use crate::Error;
use crate::eigen::leading_eigenpair;
use crate::spectral::{ClassSpectrum, Spectral};
use crate::statistics::Feature;

/// Columns of a block: one of the widest registers.
const WIDTH: usize = 8;
/// Residual, relative to the eigenvalue, at which a class is done.
const TOLERANCE: f64 = 1e-6;
/// Rows projected, features updated by one task.
const ROWS: usize = 256;
const FEATURES: usize = 512;

type Block = Vec<[f64; WIDTH]>;
type Small = [[f64; WIDTH]; WIDTH];

/// The search for the leading direction of every class.
#[derive(Debug)]
pub struct Krylov {
    dim: usize,
    limit: usize,
    slots: HashMap<i64, usize>,
    classes: Vec<Class>,
    /// Complete passes; the first gathers means.
    passes: usize,
    rows: u64,
    broken: bool,
}

#[derive(Debug)]
struct Class {
    label: i64,
    count: u64,
    /// Rows of the current pass.
    seen: u64,
    shift: Vec<f64>,
    mean: Vec<f64>,
    /// Orthonormal blocks; the last one is multiplied in the current pass.
    basis: Vec<Block>,
    /// Σ (x - mean) (x - mean)ᵀ times the last block; of the first pass, sums in its first column.
    product: Block,
    /// basisᵀ · covariance · basis, lower block triangle, row after row.
    projected: Vec<Vec<Small>>,
    eigenvalue: f64,
    weights: Vec<f64>,
    /// Norm of covariance · direction - eigenvalue · direction.
    residual: f64,
    done: bool,
}

impl Krylov {
    /// Starts with no rows; at most `memory_limit` bytes are used beside the batches.
    pub fn new(dim: usize, memory_limit: usize) -> Result<Self, Error> {
        if dim == 0 {
            return Err(Error::Empty);
        }
        Ok(Self {
            dim,
            limit: memory_limit,
            slots: HashMap::new(),
            classes: Vec::new(),
            passes: 0,
            rows: 0,
            broken: false,
        })
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Takes the next rows of a pass; row-major [labels.len(), dim].
    pub fn update<T: Feature>(
        &mut self,
        x: &[T],
        labels: &[i64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Incomplete);
        }
        let dim = self.dim;
        if labels.len().checked_mul(dim) != Some(x.len()) {
            return Err(Error::Shape { values: x.len(), rows: labels.len(), dim });
        }
        self.broken = true;
        cancel.check()?;
        let mut of_class: Vec<Vec<&[T]>> = vec![Vec::new(); self.classes.len()];
        for (index, (row, &label)) in x.chunks_exact(dim).zip(labels).enumerate() {
            let slot = match self.slots.get(&label) {
                Some(&slot) => slot,
                None if self.passes == 0 => {
                    self.check_memory(self.classes.len() + 1, 0)?;
                    self.classes.push(Class::new(label, row));
                    self.slots.insert(label, self.classes.len() - 1);
                    of_class.push(Vec::new());
                    self.classes.len() - 1
                }
                None => {
                    return Err(Error::UnknownLabel { row: self.rows + index as u64, label });
                }
            };
            of_class[slot].push(row);
        }
        let sums = self.passes == 0;
        self.classes.par_iter_mut().zip(&of_class).with_max_len(1).for_each(|(class, rows)| {
            class.seen += rows.len() as u64;
            if sums {
                class.add_sums(rows);
            } else if !class.done {
                class.add_products(rows);
            }
        });
        if sums {
            let row = x.chunks_exact(dim).enumerate().find_map(|(row, values)| {
                let feature = values.iter().position(|&value| !value.into().is_finite())?;
                Some((row, feature))
            });
            if let Some((row, feature)) = row {
                return Err(Error::NotFinite { row: self.rows + row as u64, feature });
            }
        }
        self.rows += labels.len() as u64;
        self.broken = false;
        Ok(())
    }

    /// Ends a pass. Returns how many classes have not converged: another pass improves them.
    pub fn finish_pass(&mut self, cancel: &Cancel) -> Result<usize, Error> {
        if self.broken {
            return Err(Error::Incomplete);
        }
        if self.rows == 0 {
            return Err(Error::Empty);
        }
        self.broken = true;
        self.check_memory(self.classes.len(), self.passes + 1)?;
        let first = self.passes == 0;
        self.classes.par_iter_mut().with_max_len(1).try_for_each(|class| {
            if first {
                class.count = class.seen;
                class.start();
            } else if class.seen != class.count {
                return Err(Error::Changed { label: class.label });
            } else if !class.done {
                class.extend(cancel)?;
            }
            class.seen = 0;
            Ok(())
        })?;
        self.passes += 1;
        self.rows = 0;
        self.broken = false;
        Ok(self.classes.iter().filter(|class| !class.done).count())
    }

    /// Whether statistics of one further pass fit.
    pub fn fits(&self) -> bool {
        self.check_memory(self.classes.len(), self.passes + 1).is_ok()
    }

    fn check_memory(&self, classes: usize, blocks: usize) -> Result<(), Error> {
        // The basis, the product, and what is left of it while it is made orthogonal.
        let needed = (blocks + 2)
            .saturating_mul(classes)
            .saturating_mul(self.dim)
            .saturating_mul(size_of::<[f64; WIDTH]>());
        if needed > self.limit {
            let (dim, limit) = (self.dim, self.limit);
            return Err(Error::Memory { classes, dim, needed, limit });
        }
        Ok(())
    }

    /// The directions found, ascending by label, and for each the norm of covariance · direction -
    /// eigenvalue · direction, divided by the eigenvalue (0 where that is 0): an eigenvalue of
    /// the covariance lies that near, relatively, to the one stated.
    pub fn spectral(&self) -> Result<(Spectral, Vec<f64>), Error> {
        if self.broken || self.passes < 2 || self.rows > 0 {
            return Err(Error::Incomplete);
        }
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_by_key(|class| class.label);
        let spectra: Result<Vec<_>, _> =
            classes.par_iter().map(|class| class.spectrum(self.dim)).collect();
        let errors = classes
            .iter()
            .map(|c| if c.eigenvalue > 0.0 { c.residual / c.eigenvalue } else { 0.0 })
            .collect();
        Ok((Spectral::new(self.dim, spectra?), errors))
    }
}

impl Class {
    fn new<T: Feature>(label: i64, row: &[T]) -> Self {
        Self {
            label,
            count: 0,
            seen: 0,
            shift: row.iter().map(|&value| value.into()).collect(),
            mean: Vec::new(),
            basis: Vec::new(),
            product: vec![[0.0; WIDTH]; row.len()],
            projected: Vec::new(),
            eigenvalue: 0.0,
            weights: Vec::new(),
            residual: 0.0,
            done: false,
        }
    }

    fn add_sums<T: Feature>(&mut self, rows: &[&[T]]) {
        let shift = &self.shift;
        let parts = self.product.par_chunks_mut(FEATURES).zip(shift.par_chunks(FEATURES));
        parts.enumerate().for_each(|(part, (sums, shift))| {
            for row in rows {
                let row = &row[part * FEATURES..][..shift.len()];
                for ((sum, &value), shift) in sums.iter_mut().zip(row).zip(shift) {
                    sum[0] += value.into() - shift;
                }
            }
        });
    }

    fn add_products<T: Feature>(&mut self, rows: &[&[T]]) {
        let (Some(block), mean) = (self.basis.last(), &self.mean) else { return };
        let mut along = vec![[0.0; WIDTH]; rows.len()];
        along.par_chunks_mut(ROWS).zip(rows.par_chunks(ROWS)).for_each(|(along, rows)| {
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (along, row) in along.iter_mut().zip(rows) {
                        *along = project(row, mean, block);
                    }
                },
            );
        });
        self.product.par_chunks_mut(FEATURES).enumerate().for_each(|(part, product)| {
            let mean = &mean[part * FEATURES..][..product.len()];
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (row, along) in rows.iter().zip(&along) {
                        let row = &row[part * FEATURES..][..product.len()];
                        for ((product, &value), mean) in product.iter_mut().zip(row).zip(mean) {
                            let value = value.into() - mean;
                            for (product, along) in product.iter_mut().zip(along) {
                                *product += value * along;
                            }
                        }
                    }
                },
            );
        });
    }

    /// From sums to the mean and the first block.
    fn start(&mut self) {
        let count = self.count as f64;
        let sums = self.product.iter().map(|sum| sum[0]);
        self.mean = self.shift.iter().zip(sums).map(|(shift, sum)| shift + sum / count).collect();
        self.shift = Vec::new();
        let mut draw = Stream::new(0, "block-krylov", 0).at(self.label.cast_unsigned(), 0);
        let mut block: Block = (0..self.mean.len())
            .map(|_| std::array::from_fn(|_| f64::from(draw.normal())))
            .collect();
        orthonormalise(&mut block);
        self.basis.push(block);
        self.product.fill([0.0; WIDTH]);
    }

    /// Takes the product into the projection, finds the leading pair, and makes the next block.
    fn extend(&mut self, cancel: &Cancel) -> Result<(), Error> {
        let count = self.count as f64;
        let mut rest = std::mem::take(&mut self.product);
        let mut scale = 0.0f64;
        for value in rest.iter_mut().flatten() {
            *value /= count;
            scale = scale.max(value.abs());
        }
        if !scale.is_finite() {
            return Err(Error::Overflow { label: self.label });
        }
        let row: Vec<Small> = self.basis.iter().map(|block| inner(block, &rest)).collect();
        // Twice is enough: what is left is orthogonal to working precision.
        for _ in 0..2 {
            for block in &self.basis {
                let along = inner(block, &rest);
                subtract(&mut rest, block, &along);
            }
        }
        self.projected.push(row);
        let size = self.basis.len() * WIDTH;
        let mut matrix = vec![0.0; size * size];
        for (k, row) in self.projected.iter().enumerate() {
            for (j, block) in row.iter().enumerate() {
                for (a, entries) in block.iter().enumerate() {
                    for (b, &value) in entries.iter().enumerate() {
                        let (i, j) = (j * WIDTH + a, k * WIDTH + b);
                        // The diagonal blocks are symmetric but for rounding: one half decides.
                        if i <= j {
                            matrix[i * size + j] = value;
                            matrix[j * size + i] = value;
                        }
                    }
                }
            }
        }
        let (eigenvalue, weights) = leading_eigenpair(&matrix, size, cancel)?;
        let triangle = orthonormalise(&mut rest);
        let last = &weights[size - WIDTH..];
        self.residual = (0..WIDTH)
            .map(|i| (0..WIDTH).map(|j| triangle[i][j] * last[j]).sum::<f64>().powi(2))
            .sum::<f64>()
            .sqrt();
        (self.eigenvalue, self.weights) = (eigenvalue, weights);
        // A basis of the whole space is exact.
        self.done = self.residual <= TOLERANCE * eigenvalue
            || self.basis.len() * WIDTH >= rest.len().min(self.count as usize);
        self.product = if self.done { Vec::new() } else { vec![[0.0; WIDTH]; rest.len()] };
        if !self.done {
            self.basis.push(rest);
        }
        Ok(())
    }

    fn spectrum(&self, dim: usize) -> Result<ClassSpectrum, Error> {
        let mut direction = vec![0.0; dim];
        for (block, weights) in self.basis.iter().zip(self.weights.chunks_exact(WIDTH)) {
            for (value, row) in direction.iter_mut().zip(block) {
                *value += row.iter().zip(weights).map(|(a, b)| a * b).sum::<f64>();
            }
        }
        let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
        let largest =
            direction.iter().fold(0.0, |best: f64, v| if v.abs() > best.abs() { *v } else { best });
        if length > 0.0 && self.eigenvalue > 0.0 {
            direction.iter_mut().for_each(|value| *value /= length.copysign(largest));
        } else {
            direction.fill(0.0);
        }
        if !self.eigenvalue.is_finite() {
            return Err(Error::Overflow { label: self.label });
        }
        Ok(ClassSpectrum {
            label: self.label,
            count: self.count,
            mean: self.mean.clone(),
            eigenvalue: self.eigenvalue,
            direction,
        })
    }
}

/// `blockᵀ (x - mean)`: four chains, added at the end.
#[inline(always)]
fn project<T: Feature>(x: &[T], mean: &[f64], block: &[[f64; WIDTH]]) -> [f64; WIDTH] {
    let mut sums = [[0.0; WIDTH]; 4];
    for (index, ((&x, mean), block)) in x.iter().zip(mean).zip(block).enumerate() {
        let value = x.into() - mean;
        for (sum, entry) in sums[index % 4].iter_mut().zip(block) {
            *sum += value * entry;
        }
    }
    std::array::from_fn(|i| (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]))
}

/// `leftᵀ · right`.
fn inner(left: &[[f64; WIDTH]], right: &[[f64; WIDTH]]) -> Small {
    let mut sums = [[0.0; WIDTH]; WIDTH];
    for (left, right) in left.iter().zip(right) {
        for (sums, left) in sums.iter_mut().zip(left) {
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += left * right;
            }
        }
    }
    sums
}

/// `from -= block · along`.
fn subtract(from: &mut [[f64; WIDTH]], block: &[[f64; WIDTH]], along: &Small) {
    for (from, block) in from.iter_mut().zip(block) {
        for (block, along) in block.iter().zip(along) {
            for (from, along) in from.iter_mut().zip(along) {
                *from -= block * along;
            }
        }
    }
}

/// Makes the columns orthonormal (Gram & Schmidt, twice); columns that depend on others become 0.
/// Returns the triangle R with `columns = result · R`.
fn orthonormalise(block: &mut [[f64; WIDTH]]) -> Small {
    let mut triangle = [[0.0; WIDTH]; WIDTH];
    for column in 0..WIDTH {
        let before = norm(block, column);
        for _ in 0..2 {
            for other in 0..column {
                let along: f64 = block.iter().map(|row| row[other] * row[column]).sum();
                triangle[other][column] += along;
                block.iter_mut().for_each(|row| row[column] -= along * row[other]);
            }
        }
        let length = norm(block, column);
        triangle[column][column] = length;
        let dependent = length <= 1e-13 * before || length < f64::MIN_POSITIVE;
        block
            .iter_mut()
            .for_each(|row| row[column] = if dependent { 0.0 } else { row[column] / length });
    }
    triangle
}

fn norm(block: &[[f64; WIDTH]], column: usize) -> f64 {
    block.iter().map(|row| row[column] * row[column]).sum::<f64>().sqrt()
}
