//! Rectangular parts of an image-shaped node, so that coefficients that live in a receptive
//! field are computed and stored there alone.

/// Rows `top..top + height` and columns `left..left + width` of every channel of a node of
/// shape `[channels, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Patch {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

/// An operator restricted to a patch of its output, and the patch of each input that it reads.
#[derive(Debug, Clone)]
pub struct Cropped<O> {
    pub op: O,
    pub inputs: Vec<Patch>,
}

impl Patch {
    /// All of a node, if its shape is an image's.
    pub fn whole(shape: &[usize]) -> Option<Self> {
        match *shape {
            [_, height, width] => Some(Self { top: 0, left: 0, height, width }),
            _ => None,
        }
    }

    /// The shape of the part.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        vec![shape[0], self.height, self.width]
    }

    /// The smallest patch that holds both.
    pub fn union(&self, other: &Self) -> Self {
        let (top, left) = (self.top.min(other.top), self.left.min(other.left));
        let bottom = (self.top + self.height).max(other.top + other.height);
        let right = (self.left + self.width).max(other.left + other.width);
        Self { top, left, height: bottom - top, width: right - left }
    }

    /// The part of one sample of shape `shape`.
    pub fn gather<T: Copy>(&self, shape: &[usize], values: &[T]) -> Vec<T> {
        let mut part = Vec::with_capacity(shape[0] * self.height * self.width);
        for start in self.starts(shape) {
            part.extend_from_slice(&values[start..start + self.width]);
        }
        part
    }

    /// Adds this part to the part `into` that holds it, of the same node; every element is `width`
    /// numbers.
    pub fn add_beside(&self, part: &[f64], into: &Self, width: usize, sum: &mut [f64]) {
        let inner = Self { top: self.top - into.top, left: self.left - into.left, ..*self };
        let line = self.width * width;
        let channels = part.len() / (self.height * line).max(1);
        let shape = [channels, into.height, into.width];
        let starts = inner.starts(&shape);
        for (start, values) in starts.zip(part.chunks_exact(line.max(1))) {
            let sum = &mut sum[start * width..][..line];
            sum.iter_mut().zip(values).for_each(|(s, &x)| *s += x);
        }
    }

    /// Where an element of the whole node lies in the part, if it does.
    pub fn locate(&self, shape: &[usize], index: usize) -> Option<usize> {
        let (plane, column) = (index / shape[2], index % shape[2]);
        let (channel, row) = (plane / shape[1], plane % shape[1]);
        let (row, column) = (row.checked_sub(self.top)?, column.checked_sub(self.left)?);
        (row < self.height && column < self.width)
            .then(|| (channel * self.height + row) * self.width + column)
    }

    /// Where each line of the part starts in the whole sample.
    fn starts(&self, shape: &[usize]) -> impl Iterator<Item = usize> {
        let (patch, channels, rows, columns) = (*self, shape[0], shape[1], shape[2]);
        (0..channels).flat_map(move |channel| {
            (0..patch.height)
                .map(move |row| (channel * rows + patch.top + row) * columns + patch.left)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gather_locate_and_add_agree() {
        let shape = [2, 4, 5];
        let values: Vec<f64> = (0..40).map(f64::from).collect();
        let patch = Patch { top: 1, left: 2, height: 2, width: 3 };
        let part = patch.gather(&shape, &values);
        assert_eq!(patch.shape(&shape), [2, 2, 3]);
        for (index, &value) in values.iter().enumerate() {
            match patch.locate(&shape, index) {
                Some(at) => assert_eq!(part[at], value),
                None => assert!(!part.contains(&value)),
            }
        }
        let whole = Patch::whole(&shape).unwrap();
        let part: Vec<f64> = part.iter().flat_map(|&x| [x, -x]).collect();
        let mut sum = vec![0.0; 80];
        patch.add_beside(&part, &whole, 2, &mut sum);
        for (index, &value) in values.iter().enumerate() {
            let value = if patch.locate(&shape, index).is_some() { value } else { 0.0 };
            assert_eq!(sum[2 * index..][..2], [value, -value]);
        }
    }

    #[test]
    fn union_holds_both() {
        let a = Patch { top: 0, left: 3, height: 2, width: 1 };
        let b = Patch { top: 2, left: 1, height: 1, width: 2 };
        assert_eq!(a.union(&b), Patch { top: 0, left: 1, height: 3, width: 3 });
    }
}
