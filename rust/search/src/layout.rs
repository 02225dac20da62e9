//! Channels, rows and columns of a sample, for searches that change windows of it.

/// How a flat buffer is read as `channels` planes of `height` rows and `width` columns.
///
/// Any reading gives a valid search; a fitting one gives a good search. Three axes are an image,
/// channels first unless only the last axis is short enough to be channels; two axes are one
/// plane; anything else is a row of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    channel_stride: usize,
    row_stride: usize,
    column_stride: usize,
}

/// Colour and alpha.
const MOST_CHANNELS: usize = 4;

impl Layout {
    pub fn of(shape: &[usize]) -> Self {
        match *shape {
            [height, width, channels] if channels <= MOST_CHANNELS && height > MOST_CHANNELS => {
                Self {
                    channels,
                    height,
                    width,
                    channel_stride: 1,
                    row_stride: width * channels,
                    column_stride: channels,
                }
            }
            [channels, height, width] => Self::planes(channels, height, width),
            [height, width] => Self::planes(1, height, width),
            _ => Self::planes(1, 1, shape.iter().product()),
        }
    }

    fn planes(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
            channel_stride: height * width,
            row_stride: width,
            column_stride: 1,
        }
    }

    pub fn index(&self, channel: usize, row: usize, column: usize) -> usize {
        channel * self.channel_stride + row * self.row_stride + column * self.column_stride
    }

    /// Calls `visit(index, position)` for every element of a window in one channel; `position`
    /// counts through the window row by row.
    pub fn window(&self, channel: usize, window: Window, mut visit: impl FnMut(usize, usize)) {
        let mut position = 0;
        for row in window.row..window.row + window.height {
            let mut index = self.index(channel, row, window.column);
            for _ in 0..window.width {
                visit(index, position);
                index += self.column_stride;
                position += 1;
            }
        }
    }
}

/// A rectangle of rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub row: usize,
    pub column: usize,
    pub height: usize,
    pub width: usize,
}

impl Window {
    /// What two windows share, if anything.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let row = self.row.max(other.row);
        let column = self.column.max(other.column);
        let bottom = (self.row + self.height).min(other.row + other.height);
        let right = (self.column + self.width).min(other.column + other.width);
        (row < bottom && column < right).then(|| Self {
            row,
            column,
            height: bottom - row,
            width: right - column,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_as_people_mean_them() {
        let of = |shape: &[usize]| {
            let layout = Layout::of(shape);
            (layout.channels, layout.height, layout.width)
        };
        assert_eq!(of(&[3, 32, 32]), (3, 32, 32));
        assert_eq!(of(&[1, 28, 28]), (1, 28, 28));
        assert_eq!(of(&[32, 24, 3]), (3, 32, 24));
        assert_eq!(of(&[2, 2, 2]), (2, 2, 2));
        assert_eq!(of(&[8, 8]), (1, 8, 8));
        assert_eq!(of(&[784]), (1, 1, 784));
        assert_eq!(of(&[2, 3, 4, 5]), (1, 1, 120));
        assert_eq!(of(&[]), (1, 1, 1));
    }

    /// Every element is reached once, whatever the layout.
    #[test]
    fn indices_cover_the_buffer() {
        for shape in [&[3, 5, 7][..], &[6, 7, 3], &[6, 7], &[11], &[1, 9, 1]] {
            let layout = Layout::of(shape);
            let mut seen = vec![0; shape.iter().product()];
            let all = Window { row: 0, column: 0, height: layout.height, width: layout.width };
            for channel in 0..layout.channels {
                layout.window(channel, all, |index, _| seen[index] += 1);
            }
            assert!(seen.iter().all(|&count| count == 1), "{shape:?}");
        }
    }

    #[test]
    fn intersections() {
        let window = |row, column, height, width| Window { row, column, height, width };
        let a = window(0, 0, 3, 3);
        assert_eq!(a.intersection(window(2, 1, 3, 3)), Some(window(2, 1, 1, 2)));
        assert_eq!(a.intersection(window(3, 0, 1, 1)), None);
        assert_eq!(a.intersection(a), Some(a));
    }
}
