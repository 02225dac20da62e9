//! Rotations and translations of images with bilinear interpolation.

use rayon::prelude::*;

/// A turn about the image's centre, then a shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    /// Degrees, counter-clockwise.
    pub rotation: f64,
    /// Pixels to the right.
    pub right: f64,
    /// Pixels down.
    pub down: f64,
}

/// Extent of one image, channels first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Extent {
    fn len(self) -> usize {
        self.channels * self.height * self.width
    }
}

/// Warps one image a row: `x` and `out` hold `warps.len()` images each, in parallel.
///
/// Every pixel of the result is the bilinear mean of the four pixels around the place it comes
/// from, summed in float64; pixels outside the image are `fill`. The result does not leave the
/// range of `fill` and the image. Multiples of 90 degrees with whole shifts move pixels exactly.
///
/// # Panics
///
/// Where the lengths do not fit each other.
pub fn warp_rows(x: &[f32], extent: Extent, warps: &[Warp], fill: f32, out: &mut [f32]) {
    assert_eq!(x.len(), extent.len() * warps.len());
    assert_eq!(x.len(), out.len());
    if x.is_empty() {
        return;
    }
    out.par_chunks_mut(extent.len())
        .zip(x.par_chunks(extent.len()))
        .zip(warps)
        .for_each(|((out, x), &by)| warp(x, extent, by, fill, out));
}

fn warp(x: &[f32], extent: Extent, by: Warp, fill: f32, out: &mut [f32]) {
    let Extent { height, width, .. } = extent;
    let plane = height * width;
    let (sin, cos) = sin_cos(by.rotation);
    let (middle_x, middle_y) = ((as_f64(width) - 1.0) / 2.0, (as_f64(height) - 1.0) / 2.0);
    for row in 0..height {
        let v = (as_f64(row) - middle_y) - by.down;
        for column in 0..width {
            let u = (as_f64(column) - middle_x) - by.right;
            let from_x = (u * cos - v * sin) + middle_x;
            let from_y = (u * sin + v * cos) + middle_y;
            let taps = Taps::at(from_x, from_y, width, height);
            for (x, out) in x.chunks(plane).zip(out.chunks_mut(plane)) {
                out[row * width + column] = taps.mean(x, fill);
            }
        }
    }
}

/// Index of a pixel outside the image.
const OUTSIDE: usize = usize::MAX;

/// The four pixels around a place, and their weights.
struct Taps {
    at: [usize; 4],
    weight: [f64; 4],
}

impl Taps {
    fn at(x: f64, y: f64, width: usize, height: usize) -> Self {
        let (left, right) = split(x);
        let (top, below) = split(y);
        let index = |row: i64, column: i64| match (usize::try_from(row), usize::try_from(column)) {
            (Ok(row), Ok(column)) if row < height && column < width => row * width + column,
            _ => OUTSIDE,
        };
        Self {
            at: [
                index(top, left),
                index(top, left + 1),
                index(top + 1, left),
                index(top + 1, left + 1),
            ],
            weight: [
                (1.0 - below) * (1.0 - right),
                (1.0 - below) * right,
                below * (1.0 - right),
                below * right,
            ],
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the result is float32")]
    fn mean(&self, x: &[f32], fill: f32) -> f32 {
        let value = self.at.map(|at| x.get(at).copied().unwrap_or(fill));
        let wide = value.map(f64::from);
        let sum = wide[0] * self.weight[0]
            + wide[1] * self.weight[1]
            + wide[2] * self.weight[2]
            + wide[3] * self.weight[3];
        // Weights of which rounding makes the sum differ from 1 cannot leave the range.
        let low = value[0].min(value[1]).min(value[2].min(value[3]));
        let high = value[0].max(value[1]).max(value[2].max(value[3]));
        (sum as f32).max(low).min(high)
    }
}

/// Splits a number into the whole number below it and what is left. Places further away than any
/// image is large count as that far away.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "clamped to whole numbers both types hold"
)]
fn split(value: f64) -> (i64, f64) {
    const FAR: f64 = (1_u64 << 50) as f64;
    let value = value.clamp(-FAR, FAR);
    // `f64::floor` is a call into the C library on the oldest processors that are supported.
    let toward_zero = value as i64;
    let below = toward_zero - i64::from(toward_zero as f64 > value);
    (below, value - below as f64)
}

/// Sine and cosine of an angle in degrees, exact at multiples of 90.
fn sin_cos(degrees: f64) -> (f64, f64) {
    let turn = degrees.rem_euclid(360.0);
    let quarter = (turn / 90.0).round();
    let (sin, cos) = (turn - quarter * 90.0).to_radians().sin_cos();
    match to_index(quarter) % 4 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[expect(clippy::cast_precision_loss, reason = "images are smaller than 2^52 pixels a side")]
fn as_f64(value: usize) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole numbers of pixels or quarter turns"
)]
fn to_index(value: f64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warped(x: &[f32], extent: Extent, by: Warp) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len()];
        warp_rows(x, extent, &[by], 0.0, &mut out);
        out
    }

    const EXTENT: Extent = Extent { channels: 1, height: 2, width: 2 };
    const STILL: Warp = Warp { rotation: 0.0, right: 0.0, down: 0.0 };

    #[test]
    fn quarter_turns_and_whole_shifts_move_pixels_exactly() {
        let x = [0.1, 0.2, 0.3, 0.4];
        assert_eq!(warped(&x, EXTENT, STILL), x);
        assert_eq!(warped(&x, EXTENT, Warp { rotation: 360.0, ..STILL }), x);
        // Counter-clockwise: the right column becomes the top row.
        assert_eq!(warped(&x, EXTENT, Warp { rotation: 90.0, ..STILL }), [0.2, 0.4, 0.1, 0.3]);
        assert_eq!(warped(&x, EXTENT, Warp { rotation: -90.0, ..STILL }), [0.3, 0.1, 0.4, 0.2]);
        assert_eq!(warped(&x, EXTENT, Warp { rotation: 180.0, ..STILL }), [0.4, 0.3, 0.2, 0.1]);
        assert_eq!(warped(&x, EXTENT, Warp { right: 1.0, ..STILL }), [0.0, 0.1, 0.0, 0.3]);
        assert_eq!(warped(&x, EXTENT, Warp { down: -1.0, ..STILL }), [0.3, 0.4, 0.0, 0.0]);
        assert_eq!(warped(&x, EXTENT, Warp { down: 9e15, ..STILL }), [0.0; 4]);
    }

    #[test]
    fn half_a_pixel_is_the_mean_of_two() {
        let x = [0.25, 0.75, 1.0, 0.0];
        let out = warped(&x, EXTENT, Warp { right: -0.5, ..STILL });
        assert_eq!(out, [0.5, 0.375, 0.5, 0.0]);
    }

    #[test]
    fn every_row_has_its_own_warp_and_every_channel_the_same() {
        let extent = Extent { channels: 2, height: 1, width: 2 };
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut out = [0.0; 8];
        warp_rows(&x, extent, &[STILL, Warp { right: 1.0, ..STILL }], 9.0, &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 9.0, 5.0, 9.0, 7.0]);
        warp_rows(&[], extent, &[], 0.0, &mut []);
    }

    #[test]
    fn values_stay_in_their_range() {
        let extent = Extent { channels: 1, height: 5, width: 7 };
        let x = vec![0.1_f32; extent.len()];
        for step in 0..200 {
            let by = Warp {
                rotation: f64::from(step) * 1.7 - 170.0,
                right: f64::from(step) * 0.013,
                down: f64::from(step) * -0.017,
            };
            for value in warped(&x, extent, by) {
                assert!((0.0..=0.1).contains(&value), "{value}");
            }
        }
    }
}
