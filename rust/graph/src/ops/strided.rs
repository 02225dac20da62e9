//! A strided view of a row-major buffer, walked in the order of a packed one: what transpose,
//! slice, pad, concat and broadcast constants have in common.

use std::sync::Arc;

use aisec_numeric::Scalar;

use crate::Tensor;
use crate::patch::Patch;
use crate::shape::MAX_RANK;

/// `packed[i]` lies beside `strided[offset + Σ index·stride]`, with `i` counting row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strided {
    outer: Vec<(usize, isize)>,
    len: usize,
    stride: isize,
    offset: usize,
}

impl Strided {
    /// `dims` are (size, stride), outermost first. Every index they reach must be in range of
    /// the buffers given later.
    pub fn new(dims: impl IntoIterator<Item = (usize, isize)>, offset: usize) -> Self {
        let mut merged: Vec<(usize, isize)> = Vec::new();
        for (size, stride) in dims {
            if size == 1 {
                continue;
            }
            match merged.last_mut() {
                Some(last) if last.1 == stride * size as isize => *last = (last.0 * size, stride),
                _ => merged.push((size, stride)),
            }
        }
        let (len, stride) = merged.pop().unwrap_or((1, 1));
        Self { outer: merged, len, stride, offset }
    }

    /// `value_shape` broadcast to `shape` by numpy's rules, or `None` when it does not fit.
    pub fn broadcast(value_shape: &[usize], shape: &[usize]) -> Option<Self> {
        let missing = shape.len().checked_sub(value_shape.len())?;
        let mut dims = vec![(1, 0); shape.len()];
        let mut stride = 1;
        for axis in (0..shape.len()).rev() {
            let size = if axis < missing { 1 } else { value_shape[axis - missing] };
            if size != 1 && size != shape[axis] {
                return None;
            }
            dims[axis] = (shape[axis], if size == 1 { 0 } else { stride });
            stride *= size as isize;
        }
        Some(Self::new(dims, 0))
    }

    /// The part of a value, broadcast to `shape` by this view, that lies in a patch: the same
    /// value where it does not vary over the image.
    pub fn crop(
        &self,
        value: &Arc<Tensor>,
        shape: &[usize],
        patch: &Patch,
    ) -> Option<(Arc<Tensor>, Self)> {
        let part = patch.shape(shape);
        if value.shape().iter().rev().take(2).all(|&size| size == 1) {
            return Self::broadcast(value.shape(), &part).map(|view| (value.clone(), view));
        }
        let mut whole = vec![0.0; shape.iter().product()];
        self.gather(value.f64(), &mut whole);
        let value = Tensor::new(part.clone(), patch.gather(shape, &whole)).ok()?;
        Self::broadcast(&part, &part).map(|view| (Arc::new(value), view))
    }

    /// Calls `run(packed_start, strided_start)` for each innermost run, in packed order.
    fn runs(&self, mut run: impl FnMut(usize, usize)) {
        let mut index = [0usize; MAX_RANK];
        let mut position = self.offset as isize;
        let mut packed = 0;
        loop {
            run(packed, position as usize);
            packed += self.len;
            let mut axis = self.outer.len();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                let (size, stride) = self.outer[axis];
                index[axis] += 1;
                position += stride;
                if index[axis] < size {
                    break;
                }
                index[axis] = 0;
                position -= stride * size as isize;
            }
        }
    }

    /// Calls `visit(packed, strided)` for each pair of slices where the strided side is
    /// contiguous or a single repeated element, and for each pair of elements otherwise.
    fn pairs(&self, mut visit: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>)) {
        let (len, stride) = (self.len, self.stride);
        self.runs(|packed, strided| match stride {
            1 => visit(packed..packed + len, strided..strided + len),
            0 => visit(packed..packed + len, strided..strided + 1),
            _ => {
                for i in 0..len {
                    let at = (strided as isize + stride * i as isize) as usize;
                    visit(packed + i..packed + i + 1, at..at + 1);
                }
            }
        });
    }

    /// `output[i] = combine(input[i], strided[..])` over one packed sample.
    pub fn zip<T: Copy, U: Copy>(
        &self,
        input: &[U],
        strided: &[U],
        output: &mut [T],
        combine: impl Fn(U, U) -> T,
    ) {
        self.pairs(|p, s| match (&input[p.clone()], &strided[s]) {
            (input, &[value]) => {
                output[p].iter_mut().zip(input).for_each(|(o, &x)| *o = combine(x, value));
            }
            (input, values) => {
                let pairs = input.iter().zip(values);
                output[p].iter_mut().zip(pairs).for_each(|(o, (&x, &v))| *o = combine(x, v));
            }
        });
    }

    /// `grad[i] += combine(cotangent[i], strided[..])` over one packed sample.
    pub fn zip_add<T: Scalar>(
        &self,
        cotangent: &[T],
        strided: &[T],
        grad: &mut [T],
        combine: impl Fn(T, T) -> T,
    ) {
        self.pairs(|p, s| match (&cotangent[p.clone()], &strided[s]) {
            (cotangent, &[value]) => {
                grad[p].iter_mut().zip(cotangent).for_each(|(g, &c)| *g += combine(c, value));
            }
            (cotangent, values) => {
                let pairs = cotangent.iter().zip(values);
                grad[p].iter_mut().zip(pairs).for_each(|(g, (&c, &v))| *g += combine(c, v));
            }
        });
    }

    /// `packed = strided[view]`.
    pub fn gather<T: Copy>(&self, strided: &[T], packed: &mut [T]) {
        let len = self.len;
        self.runs(|p, s| {
            let packed = &mut packed[p..p + len];
            match self.stride {
                1 => packed.copy_from_slice(&strided[s..s + len]),
                _ => self.each(s, |i, at| packed[i] = strided[at]),
            }
        });
    }

    /// `strided[view] = packed`; no two packed elements may share a strided one.
    pub fn scatter<T: Copy>(&self, packed: &[T], strided: &mut [T]) {
        let len = self.len;
        self.runs(|p, s| {
            let packed = &packed[p..p + len];
            match self.stride {
                1 => strided[s..s + len].copy_from_slice(packed),
                _ => self.each(s, |i, at| strided[at] = packed[i]),
            }
        });
    }

    /// `packed += strided[view]`.
    pub fn gather_add<T: Scalar>(&self, strided: &[T], packed: &mut [T]) {
        let len = self.len;
        self.runs(|p, s| {
            let packed = &mut packed[p..p + len];
            match self.stride {
                1 => packed.iter_mut().zip(&strided[s..s + len]).for_each(|(p, &s)| *p += s),
                _ => self.each(s, |i, at| packed[i] += strided[at]),
            }
        });
    }

    /// `strided[view] += packed`; no two packed elements may share a strided one.
    pub fn scatter_add<T: Scalar>(&self, packed: &[T], strided: &mut [T]) {
        let len = self.len;
        self.runs(|p, s| {
            let packed = &packed[p..p + len];
            match self.stride {
                1 => strided[s..s + len].iter_mut().zip(packed).for_each(|(s, &p)| *s += p),
                _ => self.each(s, |i, at| strided[at] += packed[i]),
            }
        });
    }

    /// Calls `visit(i, index)` for the elements of the run that starts at index `start`.
    #[inline(always)]
    fn each(&self, start: usize, mut visit: impl FnMut(usize, usize)) {
        let mut at = start as isize;
        for i in 0..self.len {
            visit(i, at as usize);
            at += self.stride;
        }
    }
}
