//! The sliding window of convolutions and pools, along one axis.

use std::ops::Range;

use crate::patch::Patch;
use crate::shape::elements;

/// Longest kernel span and padded side.
const LONGEST: usize = 1 << 20;

const TOO_LARGE: &str = "kernel, dilation or padding is too large";

/// Which input positions each output position sees along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub before: usize,
    pub after: usize,
}

impl Window {
    /// The windows along height and width, from the wire format's attributes; `padding` is
    /// top, left, bottom, right.
    pub fn pair(
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        dilation: [usize; 2],
    ) -> Result<[Self; 2], String> {
        for (what, values) in [("kernel", kernel), ("stride", stride), ("dilation", dilation)] {
            if values.contains(&0) {
                return Err(format!("{what} {values:?}: every entry must be >= 1"));
            }
        }
        Ok([0, 1].map(|axis| Self {
            kernel: kernel[axis],
            stride: stride[axis],
            // One tap has no spacing; a huge one would overflow below.
            dilation: if kernel[axis] == 1 { 1 } else { dilation[axis] },
            before: padding[axis],
            after: padding[axis + 2],
        }))
    }

    /// The number of output positions over `input` positions, or why there are none.
    pub fn output(&self, input: usize) -> Result<usize, String> {
        let span = (self.kernel - 1).checked_mul(self.dilation).and_then(|s| s.checked_add(1));
        let padded = input.checked_add(self.before).and_then(|n| n.checked_add(self.after));
        let (Some(span), Some(padded)) = (span, padded) else {
            return Err(TOO_LARGE.to_owned());
        };
        // Windows wider than any image have no use, and bounded sizes cannot overflow below.
        if span > LONGEST || padded > LONGEST {
            return Err(TOO_LARGE.to_owned());
        }
        match padded.checked_sub(span) {
            Some(room) => Ok(room / self.stride + 1),
            None => Err(format!("kernel spans {span} positions, the padded input has {padded}")),
        }
    }

    /// The output shape of pooling `input` with `windows` along height and width; every
    /// window must see at least one position.
    pub fn pool(windows: [Self; 2], input: &[usize]) -> Result<Vec<usize>, String> {
        let &[channels, height, width] = input else {
            return Err(format!("the input's shape must be [C, H, W], got {input:?}"));
        };
        let sizes = [height, width];
        let shape = vec![channels, windows[0].output(sizes[0])?, windows[1].output(sizes[1])?];
        elements(&shape)?;
        for (window, size) in windows.iter().zip(sizes) {
            if let Some(at) = window.empty(size) {
                return Err(format!("window {at} lies wholly in the padding; use less padding"));
            }
        }
        Ok(shape)
    }

    /// An output position whose window misses the input altogether, if there is one.
    pub fn empty(&self, input: usize) -> Option<usize> {
        let last = self.output(input).ok()? - 1;
        // A window that starts inside the input sees at least that position.
        let starts_before = (0..=last).take_while(|at| at * self.stride < self.before);
        starts_before.chain([last]).find(|&at| self.taps(at, input).is_empty())
    }

    /// The kernel taps of output position `at` that fall inside the input.
    #[inline]
    pub fn taps(&self, at: usize, input: usize) -> Range<usize> {
        let start = (at * self.stride) as isize - self.before as isize;
        let dilation = self.dilation as isize;
        let first = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
        let room = input as isize - start;
        let last = if room > 0 { (room + dilation - 1) / dilation } else { 0 };
        first as usize..(last.min(self.kernel as isize).max(first)) as usize
    }

    /// Calls `visit(outputs, first)` for each line of the output and each kernel position, row
    /// by row: `outputs` are the indices within a channel of those that see the input there,
    /// the first of them at index `first` and each next one `axes[1].stride` further.
    pub fn sweep(
        axes: [Self; 2],
        input: [usize; 2],
        output: [usize; 2],
        mut visit: impl FnMut(Range<usize>, usize),
    ) {
        let [rows, columns] = axes;
        // Which outputs of a line see each kernel column, and where the first of them does.
        let seen = |l| (columns.outputs(l, input[1], output[1]), l);
        let columns: Vec<(Range<usize>, usize)> = (0..columns.kernel)
            .map(seen)
            .filter(|(outputs, _)| !outputs.is_empty())
            .map(|(outputs, l)| (outputs.clone(), columns.position(outputs.start, l)))
            .collect();
        for i in 0..output[0] {
            let line = i * output[1];
            for k in rows.taps(i, input[0]) {
                let row = rows.position(i, k) * input[1];
                for (outputs, column) in &columns {
                    visit(line + outputs.start..line + outputs.end, row + column);
                }
            }
        }
    }

    /// Calls `visit(packed, spread)` for the elements of `packed` and those of `spread` that lie
    /// `stride` apart, in step.
    #[inline(always)]
    pub fn spread<A, B>(
        stride: usize,
        packed: &mut [A],
        spread: &[B],
        mut visit: impl FnMut(&mut A, &B),
    ) {
        match (stride, packed.split_last_mut()) {
            (1, _) => packed.iter_mut().zip(spread).for_each(|(a, b)| visit(a, b)),
            // Whole pairs, so that they are loaded as vectors; the last may lack its second.
            (2, Some((last, packed))) => {
                let tail = 2 * packed.len();
                packed.iter_mut().zip(spread.chunks_exact(2)).for_each(|(a, b)| visit(a, &b[0]));
                visit(last, &spread[tail]);
            }
            (_, _) => {
                packed.iter_mut().zip(spread.iter().step_by(stride)).for_each(|(a, b)| visit(a, b));
            }
        }
    }

    /// The output positions, of `outputs`, for which `tap` falls inside the input.
    fn outputs(&self, tap: usize, input: usize, outputs: usize) -> Range<usize> {
        let reach = tap * self.dilation;
        let first = self.before.saturating_sub(reach).div_ceil(self.stride);
        let end = (input + self.before).saturating_sub(reach).div_ceil(self.stride).min(outputs);
        first..end.max(first)
    }

    /// The windows along height and width restricted to a patch of the output, and the patch of
    /// the `[C, H, W]` input that those see; `None` where they lie in the padding alone.
    pub fn crop(axes: [Self; 2], input: &[usize], patch: &Patch) -> Option<([Self; 2], Patch)> {
        let (rows, top, height) = axes[0].restrict(patch.top, patch.height, input[1])?;
        let (columns, left, width) = axes[1].restrict(patch.left, patch.width, input[2])?;
        Some(([rows, columns], Patch { top, left, height, width }))
    }

    /// The windows of `count` output positions from `first`: padding left over, and which input
    /// positions they see (start and length).
    fn restrict(&self, first: usize, count: usize, input: usize) -> Option<(Self, usize, usize)> {
        let start = (first * self.stride) as isize - self.before as isize;
        let last = ((first + count - 1) * self.stride + (self.kernel - 1) * self.dilation) as isize
            - self.before as isize;
        let (low, high) = (start.max(0), last.min(input as isize - 1));
        let window =
            Self { before: (low - start) as usize, after: (last - high) as usize, ..*self };
        (low <= high).then(|| (window, low as usize, (high - low + 1) as usize))
    }

    /// The input position under `tap` of output position `at`; the tap must be one of `taps`.
    #[inline]
    pub fn position(&self, at: usize, tap: usize) -> usize {
        at * self.stride + tap * self.dilation - self.before
    }
}
