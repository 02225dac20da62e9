//! Single-thread rates of the kernels on shapes that matter, in GFLOP/s (best of many runs):
//! `cargo run --release -p aisec-numeric --example throughput`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use aisec_numeric::Scalar;
use aisec_numeric::conv::Convolution;
use aisec_numeric::gemm::PackedMatrix;

fn rate(flops: usize, mut work: impl FnMut()) -> f64 {
    let flops = flops as f64;
    let repeats = (2e7 / flops).ceil() as usize;
    let mut best = f64::INFINITY;
    for _ in 0..200 {
        let start = Instant::now();
        (0..repeats).for_each(|_| work());
        best = best.min(start.elapsed().as_secs_f64() / repeats as f64);
    }
    flops / best * 1e-9
}

fn values<T: Scalar>(len: usize) -> Vec<T> {
    (0..len).map(|i| T::from_f64((i % 17) as f64 / 17.0)).collect()
}

fn product<T: Scalar>(rows: usize, inner: usize, columns: usize) -> f64 {
    let left = values::<T>(rows * inner);
    let packed = PackedMatrix::new(inner, columns, None, |k, n| T::from_f64((k + n) as f64));
    let mut out = vec![T::ZERO; rows * columns];
    rate(2 * rows * inner * columns, || packed.multiply_rows(&left, &mut out, false))
}

/// Forward and input gradient of a square convolution.
fn convolution<T: Scalar>(
    [out, channels, kernel, stride, padding, size]: [usize; 6],
) -> (f64, f64) {
    let samples = 8;
    let output = (size + 2 * padding - kernel) / stride + 1;
    let shape = [out, channels, kernel, kernel];
    let convolution = Convolution::new(shape, [stride; 2], [1; 2], 1);
    let place = convolution.place([size; 2], [padding; 2], [output; 2]);
    let (weight, bias) = (values::<T>(shape.iter().product()), values::<T>(out));
    let mut x = values::<T>(samples * channels * size * size);
    let mut y = vec![T::ZERO; samples * out * output * output];
    let flops = 2 * y.len() * channels * kernel * kernel;
    let forward = rate(flops, || convolution.forward(&place, &weight, &bias, &x, &mut y));
    y.fill(T::ONE);
    (forward, rate(flops, || convolution.input_gradient(&place, &weight, &y, &mut x)))
}

fn main() {
    for (rows, inner, columns) in
        [(1000, 1000, 1000), (16, 1568, 100), (1, 1568, 100), (16, 100, 1568), (64, 100, 10)]
    {
        let (single, double) =
            (product::<f32>(rows, inner, columns), product::<f64>(rows, inner, columns));
        println!("{rows:4} x {inner:4} x {columns:4}: {single:6.1} f32 {double:6.1} f64");
    }
    for case in [
        [16, 1, 4, 2, 1, 28],
        [32, 16, 4, 2, 1, 14],
        [8, 3, 3, 2, 1, 32],
        [16, 8, 3, 2, 1, 16],
        [16, 16, 3, 1, 1, 8],
        [16, 8, 1, 2, 0, 16],
        [64, 64, 3, 1, 1, 32],
    ] {
        let (single, double) = (convolution::<f32>(case), convolution::<f64>(case));
        println!("{case:2?}: {single:6.1?} f32 {double:6.1?} f64 (forward, gradient)");
    }
}
