//! The perturbation shape of Square's L2 and L1 versions: two pyramids of opposite sign side by
//! side (Andriushchenko et al., "Square Attack", ECCV 2020, equation 2).

/// One window of the shape, row by row, of unit norm.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bump {
    pub values: Vec<f32>,
}

impl Bump {
    /// `power` is 2 for L2 and 1 for L1, the norm in which the result has length one. The halves
    /// lie one above the other, or side by side when `transposed`.
    pub fn new(height: usize, width: usize, power: u32, transposed: bool) -> Self {
        let (long, across) = if transposed { (width, height) } else { (height, width) };
        let mut values = vec![0.0f64; height * width];
        for (start, length, sign) in [(0, long / 2, 1.0), (long / 2, long - long / 2, -1.0)] {
            let half = pyramid(length, across, power);
            let norm = norm(&half, power);
            for i in 0..length {
                for j in 0..across {
                    let (row, column) = if transposed { (j, start + i) } else { (start + i, j) };
                    values[row * width + column] = sign * half[i * across + j] / norm;
                }
            }
        }
        let norm = norm(&values, power);
        Self { values: values.iter().map(|value| (value / norm) as f32).collect() }
    }
}

fn norm(values: &[f64], power: u32) -> f64 {
    let sum: f64 = values.iter().map(|value| value.abs().powi(power as i32)).sum();
    sum.powf(1.0 / f64::from(power))
}

/// Boxes of half-width j - 1 = 0, 1, ... around the middle, summed; the j-th has height `1/j^2` for
/// L2 and `1/j^4` for L1.
fn pyramid(height: usize, width: usize, power: u32) -> Vec<f64> {
    let (middle_row, middle_column) = (height / 2, width / 2);
    let boxes = middle_row.max(middle_column) + 1;
    // sums[r]: all boxes that reach distance r from the middle.
    let mut sums = vec![0.0; boxes + 1];
    for reach in (0..boxes).rev() {
        sums[reach] = sums[reach + 1] + ((reach + 1) as f64).powi(-4 / power as i32);
    }
    let mut values = Vec::with_capacity(height * width);
    for row in 0..height {
        for column in 0..width {
            let reach = row.abs_diff(middle_row).max(column.abs_diff(middle_column));
            values.push(sums[reach]);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pyramid_by_hand() {
        // 3x3: the outer ring is in box 1 only, the middle in both.
        let mut expected = vec![0.25; 9];
        expected[4] = 1.25;
        assert_eq!(pyramid(3, 3, 2), expected);
        assert_eq!(pyramid(3, 3, 1)[..5], [0.0625, 0.0625, 0.0625, 0.0625, 1.0625]);
    }

    #[test]
    fn halves_are_opposite_and_the_whole_has_unit_norm() {
        for (height, width) in [(3, 3), (5, 5), (25, 25), (7, 3), (1, 8), (2, 2)] {
            for power in [1, 2] {
                for transposed in [false, true] {
                    let long = if transposed { width } else { height };
                    if long < 2 {
                        continue;
                    }
                    let bump = Bump::new(height, width, power, transposed);
                    let signed: Vec<f64> = bump.values.iter().map(|&v| f64::from(v)).collect();
                    assert!((norm(&signed, power) - 1.0).abs() < 1e-6);
                    let mass = |positive: bool| {
                        let part = signed.iter().filter(|v| (**v > 0.0) == positive);
                        part.map(|v| v.abs().powi(power as i32)).sum::<f64>()
                    };
                    assert!((mass(true) - 0.5).abs() < 1e-6 && (mass(false) - 0.5).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn transposition_swaps_the_axes() {
        let (a, b) = (Bump::new(5, 5, 2, false), Bump::new(5, 5, 2, true));
        for i in 0..5 {
            for j in 0..5 {
                assert_eq!(a.values[i * 5 + j], b.values[j * 5 + i]);
            }
        }
        assert!(a.values[0] > 0.0 && a.values[24] < 0.0);
    }

    #[test]
    fn a_single_cell_is_one_step_down() {
        assert_eq!(Bump::new(1, 1, 2, false).values, [-1.0]);
    }
}
