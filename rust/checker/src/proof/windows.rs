//! Windows that slide over images, as convolutions and pooling have them.

use aisec_graph::Node;

use super::linear::attr;

/// Windows sliding over images.
#[derive(Debug)]
pub(crate) struct Windows {
    input: [usize; 2],
    output: [usize; 2],
    pub kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Above and left.
    padding: [usize; 2],
}

impl Windows {
    /// From attributes `stride`, `padding` (top, left, bottom, right) and perhaps `dilation`.
    pub fn new(node: &Node, input: &[usize], kernel: [usize; 2]) -> Result<Self, String> {
        let padding: [usize; 4] = attr(&node.attrs, "padding")?;
        let dilation = match node.attrs.get("dilation") {
            Some(_) => attr(&node.attrs, "dilation")?,
            None => [1, 1],
        };
        Ok(Self {
            input: [input[1], input[2]],
            output: [node.shape[1], node.shape[2]],
            kernel,
            stride: attr(&node.attrs, "stride")?,
            dilation,
            padding: [padding[0], padding[1]],
        })
    }

    pub fn area(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub fn outputs(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The most windows that one position is in.
    pub fn overlap(&self) -> usize {
        let mut seen = vec![0; self.area()];
        (0..self.outputs()).for_each(|at| self.taps(at, |_, position| seen[position] += 1));
        seen.into_iter().max().unwrap_or(0)
    }

    /// Calls `visit(tap, position)` for the kernel entries that fall on the image, of the window
    /// of one output position.
    pub fn taps(&self, output: usize, mut visit: impl FnMut(usize, usize)) {
        let place = |axis: usize, at: usize, tap: usize| {
            (at * self.stride[axis] + tap * self.dilation[axis])
                .checked_sub(self.padding[axis])
                .filter(|&position| position < self.input[axis])
        };
        let (i, j) = (output / self.output[1], output % self.output[1]);
        for k in 0..self.kernel[0] {
            let Some(row) = place(0, i, k) else { continue };
            for l in 0..self.kernel[1] {
                if let Some(column) = place(1, j, l) {
                    visit(k * self.kernel[1] + l, row * self.input[1] + column);
                }
            }
        }
    }
}
