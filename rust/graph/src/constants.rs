//! The tensors a description refers to: each checked and digested once, when first used.

use std::sync::Arc;

use crate::Tensor;
use crate::shape::MAX_ELEMENTS;

pub(crate) struct Constants {
    tensors: Vec<Arc<Tensor>>,
    digests: Vec<Option<String>>,
    /// Elements of tensors that were used before. Operators keep copies of their own, so a
    /// small file must not be able to ask for many.
    repeated: usize,
}

impl Constants {
    pub fn new(tensors: Vec<Tensor>) -> Self {
        let digests = vec![None; tensors.len()];
        Self { tensors: tensors.into_iter().map(Arc::new).collect(), digests, repeated: 0 }
    }

    /// Tensor number `at` and its digest, or what is wrong with it.
    pub fn get(&mut self, at: usize) -> Result<(Arc<Tensor>, String), String> {
        let Some(tensor) = self.tensors.get(at) else {
            return Err(format!("is number {at}, only {} were given", self.tensors.len()));
        };
        if let Some(digest) = &self.digests[at] {
            self.repeated = self.repeated.saturating_add(tensor.len());
            if self.repeated > MAX_ELEMENTS {
                return Err(format!(
                    "is used again: repeated use adds up to more than {MAX_ELEMENTS} elements"
                ));
            }
            return Ok((tensor.clone(), digest.clone()));
        }
        check(tensor)?;
        let digest = digest(tensor);
        self.digests[at] = Some(digest.clone());
        Ok((tensor.clone(), digest))
    }
}

fn check(tensor: &Tensor) -> Result<(), String> {
    if let Some(axis) = tensor.shape().iter().position(|&size| size == 0) {
        return Err(format!("has shape {:?}: axis {axis} is empty", tensor.shape()));
    }
    match tensor.f32().iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(format!(
            "has {:e} at flat index {at}; every value must be finite in float32",
            tensor.f64()[at]
        )),
    }
}

/// BLAKE3 of shape and float64 values, in hex.
fn digest(tensor: &Tensor) -> String {
    let mut hasher = blake3::Hasher::new();
    for &size in [tensor.shape().len()].iter().chain(tensor.shape()) {
        hasher.update(&(size as u64).to_le_bytes());
    }
    for block in tensor.f64().chunks(1 << 12) {
        let bytes: Vec<u8> = block.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}
