//! Sizes of nodes, checked before anything is allocated.

/// Most axes a node may have.
pub const MAX_RANK: usize = 16;

/// Most elements one node of one sample may have, and all nodes of one sample together.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// The number of elements of `shape`, or why a node cannot have that shape.
pub(crate) fn elements(shape: &[usize]) -> Result<usize, String> {
    if shape.len() > MAX_RANK {
        return Err(format!("{} axes, at most {MAX_RANK} are supported", shape.len()));
    }
    if let Some(axis) = shape.iter().position(|&size| size == 0) {
        return Err(format!("axis {axis} of shape {shape:?} is empty; every size must be >= 1"));
    }
    shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size).filter(|&n| n <= MAX_ELEMENTS))
        .ok_or_else(|| {
            format!("shape {shape:?} has more than {MAX_ELEMENTS} elements a sample; use a smaller model")
        })
}

/// Row-major strides.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}
