//! Constant tensors of a graph: weights, biases, offsets.

use std::any::Any;

use aisec_numeric::Scalar;

/// A constant, kept in float64 (the value the graph is defined by) and, rounded once, in
/// float32 (what searches run on). Row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Vec<f64>,
    rounded: Vec<f32>,
}

impl Tensor {
    /// Fails when the number of values is not the product of `shape`.
    pub fn new(shape: Vec<usize>, values: Vec<f64>) -> Result<Self, String> {
        let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if expected != Some(values.len()) {
            return Err(format!("tensor of shape {shape:?} holds {} values", values.len()));
        }
        let rounded = values.iter().map(|&v| v as f32).collect();
        Ok(Self { shape, values, rounded })
    }

    /// The tensor of the same shape with `f` applied to every value.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        let values: Vec<f64> = self.values.iter().map(|&value| f(value)).collect();
        let rounded = values.iter().map(|&value| value as f32).collect();
        Self { shape: self.shape.clone(), values, rounded }
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn f64(&self) -> &[f64] {
        &self.values
    }

    pub fn f32(&self) -> &[f32] {
        &self.rounded
    }

    /// The values in the precision `T` runs in.
    pub fn values<T: Scalar>(&self) -> &[T] {
        let exact: &dyn Any = &self.values;
        let rounded: &dyn Any = &self.rounded;
        exact
            .downcast_ref::<Vec<T>>()
            .or_else(|| rounded.downcast_ref::<Vec<T>>())
            .expect("a Scalar is f32 or f64")
    }
}
