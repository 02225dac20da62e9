//! Roundings, sums and their cost, against rationals.

use super::*;

#[test]
fn floats_around_rationals_are_on_their_sides() {
    let third = BigRational::of(1.0).over(&BigRational::of(3.0));
    for x in [third.clone(), third.negated(), BigRational::of(0.5), BigRational::of(0.0)] {
        let (low, high) = (BigRational::of(x.below()), BigRational::of(x.above()));
        assert!(low <= x && x <= high);
        assert!(x.above() - x.below() <= f64::EPSILON * 0.5);
    }
    let huge = BigRational::of(f64::MAX).times(&BigRational::of(4.0));
    assert_eq!((huge.below(), huge.above()), (f64::MAX, f64::INFINITY));
    let tiny = BigRational::of(f64::from_bits(1)).over(&BigRational::of(4.0));
    assert!(tiny.below() == 0.0 && tiny.above() > 0.0);
}

#[test]
fn rows_are_gathered_at_every_width() {
    for wide in 1..40usize {
        let matrix: Vec<f64> = (0..3 * wide).map(|i| (i * i % 17) as f64 - 8.0).collect();
        let factors = [(2, 0.5), (0, -3.0)];
        let mut sums = vec![1.0; wide];
        f64::gather_rows(&mut sums, &factors, &matrix);
        let exact = factors.map(|(row, factor)| (row, BigRational::of(factor)));
        let mut other = vec![BigRational::of(1.0); wide];
        BigRational::gather_rows(&mut other, &exact, &matrix);
        for (i, sum) in sums.iter().enumerate() {
            assert_eq!(*sum, 1.0 + 0.5 * matrix[2 * wide + i] - 3.0 * matrix[i]);
            assert_eq!(BigRational::of(*sum), other[i]);
        }
    }
}

#[test]
fn lines_are_gathered_in_any_number() {
    let number = |i: usize| ((i * i * 3 + i) % 29) as f64 / 3.0 - 4.5;
    for (out, wide, lines) in [(1, 1, 1), (3, 5, 4), (7, 50, 9), (20, 8, 8), (4, 23, 3)] {
        let matrix: Vec<f64> = (0..out * wide).map(number).collect();
        // Some coefficients are zero in one line, some in all.
        let zero = |i: usize| i % 7 == 2 || i % out == 1;
        let values: Vec<f64> =
            (0..lines * out).map(|i| if zero(i) { 0.0 } else { number(i + 5) }).collect();
        let of = |values: &[f64]| values.iter().map(|&x| BigRational::of(x)).collect::<Vec<_>>();
        let (mut sums, mut exact) = (vec![0.25; lines * wide], of(&vec![0.25; lines * wide]));
        f64::gather_lines(&mut sums, &values, (out, wide), &matrix);
        BigRational::gather_lines(&mut exact, &of(&values), (out, wide), &matrix);
        let cost = BigRational::of(f64::cost(out + 1, &(30.0 * out as f64), &1.0));
        for (sum, real) in sums.iter().zip(&exact) {
            assert!((BigRational::of(*sum) - real).abs() <= cost);
        }
    }
}

/// What is charged is never less than the bound from the literature, and little more.
#[test]
fn cost_is_the_known_one() {
    for terms in [0, 1, 50, 3000, 524_279, 524_280, 10_000_000] {
        for size in [0.0, 1e-320, 1e-300, 1.0, 1e100] {
            for reach in [1.0, 1e10, 1e200] {
                let known = rounding::mul_up(rounding::gamma(2 * terms), size);
                let lost = rounding::mul_up(rounding::underflow(2 * terms), reach);
                let cost = f64::cost(terms, &size, &reach);
                assert!(cost >= rounding::add_up(known, lost));
                assert!(cost <= known + 17.0 * f64::EPSILON * size + 1e-290 * reach);
            }
        }
    }
    assert_eq!(f64::cost(3, &f64::INFINITY, &1.0), f64::INFINITY);
    assert_eq!(f64::cost(3, &1.0, &f64::INFINITY), f64::INFINITY);
}

#[test]
fn nan_is_no_bound() {
    assert_eq!(larger(f64::NAN, 1.0), 1.0);
    assert_eq!(larger(1.0, f64::NAN), 1.0);
    assert_eq!(smaller(f64::NAN, 1.0), 1.0);
    assert!(least([1.0, f64::NAN, 2.0]).is_nan() && least([f64::NAN, 1.0]).is_nan());
    assert!(greatest([1.0, f64::NAN]).is_nan());
    assert_eq!((least([2.0, 1.0]), greatest([2.0, 1.0])), (1.0, 2.0));
}

/// Worst cases of accumulated rounding stay within the cost.
#[test]
fn cost_covers_plain_sums() {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    for n in 1..60usize {
        let terms: Vec<(f64, f64)> = (0..n).map(|_| (next(), next() * 1e8)).collect();
        let (mut sum, mut size, mut exact) = (0.0, 0.0, BigRational::of(0.0));
        for (a, b) in &terms {
            sum.gather(a, b);
            size += (a * b).abs();
            exact.gather(&BigRational::of(*a), &BigRational::of(*b));
        }
        let cost = f64::cost(n, &size, &1.0);
        assert!((BigRational::of(sum) - exact).abs() <= BigRational::of(cost));
    }
}
