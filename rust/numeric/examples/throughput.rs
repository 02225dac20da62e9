//! Single-thread rate of the matrix product on shapes that matter:
//! `cargo run --release -p aisec-numeric --example throughput`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use aisec_numeric::Scalar;
use aisec_numeric::gemm::PackedMatrix;

fn rate<T: Scalar>(name: &str, rows: usize, inner: usize, columns: usize) {
    let left: Vec<T> = (0..rows * inner).map(|i| T::from_f64((i % 17) as f64 / 17.0)).collect();
    let packed = PackedMatrix::new(inner, columns, None, |k, n| T::from_f64((k + n) as f64 * 1e-3));
    let mut out = vec![T::ZERO; rows * columns];
    let flops = 2.0 * (rows * inner * columns) as f64;
    let repeats = (2e9 / flops).ceil() as usize;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..repeats {
            packed.multiply_rows(&left, &mut out, false);
        }
        best = best.min(start.elapsed().as_secs_f64() / repeats as f64);
    }
    println!("{name:10} {rows:5} x {inner:5} x {columns:5}: {:6.1} GFLOP/s", flops / best * 1e-9);
}

fn main() {
    for (rows, inner, columns) in [
        (1000, 1000, 1000),
        (48, 1568, 100),
        (1, 1568, 100),
        (49, 256, 32),
        (196, 16, 16),
        (49, 128, 16),
        (64, 144, 16),
        (64, 1568, 10),
        (64, 100, 1568),
    ] {
        rate::<f32>("float32", rows, inner, columns);
        rate::<f64>("float64", rows, inner, columns);
    }
}
