//! Moves to planes against linear and quadratic programs: `tests/golden/plane_moves.json`, which
//! `tests/golden/test_projections_solver.py` solves again.

use aisec_search::{Norm, PlaneWorkspace, move_to_plane};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Case {
    norm: String,
    x: Vec<f32>,
    normal: Vec<f32>,
    gap: f64,
    length: f64,
}

#[test]
fn moves_are_the_solvers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/plane_moves.json");
    let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.len() >= 60);
    let workspace = &mut PlaneWorkspace::default();
    for case in cases {
        let n = case.x.len();
        let (low, high) = (vec![0.0; n], vec![1.0; n]);
        let norm = Norm::parse(&case.norm).unwrap();
        let mut delta = vec![7.0; n];
        let walls = [&low[..], &high[..]];
        workspace.set_normal(&case.normal);
        let length = move_to_plane(norm, &case.x, case.gap, walls, workspace, &mut delta);
        assert!((length - case.length).abs() <= 1e-5 * (1.0 + case.length), "{case:?} {length}");
        let moved = delta.iter().zip(&case.normal).map(|(&d, &w)| f64::from(d) * f64::from(w));
        let reached: f64 = moved.sum();
        assert!((reached + case.gap).abs() <= 1e-5 * (1.0 + case.gap.abs()), "{case:?} {reached}");
        assert!(delta.iter().zip(&case.x).all(|(d, x)| (-1e-6..=1.000_001).contains(&(d + x))));
    }
}
