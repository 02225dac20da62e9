//! FAB against closed forms.

mod common;

use std::sync::Arc;

use aisec_numeric::Cancel;
use aisec_search::{Bounds, Domain, Fab, FabConfig, Norm, Outcome, Result, Search, Status, run};
use common::{Linear, values};

const N: usize = 40;

fn attack(
    net: &Linear,
    clean: &[f32],
    norm: Norm,
    steps: usize,
    target: Option<usize>,
    goal: f64,
) -> Outcome {
    let bounds = Bounds::new(&vec![0.0; clean.len()], &vec![1.0; clean.len()]).unwrap();
    let config = Arc::new(FabConfig { steps, random_start: false });
    let start = |_| -> Result<Box<dyn Search>> {
        let domain = Domain::new(norm, clean, &bounds)?;
        Ok(Box::new(Fab::new(config.clone(), domain, 0, target, goal, None)))
    };
    run(net, 1, 4, &Cancel::new(), start).unwrap().remove(0)
}

fn distance(norm: Norm, clean: &[f32], x: &[f32]) -> f64 {
    let delta = clean.iter().zip(x).map(|(&a, &b)| (f64::from(b) - f64::from(a)).abs());
    match norm {
        Norm::Linf => delta.fold(0.0, f64::max),
        Norm::L2 => delta.map(|d| d * d).sum::<f64>().sqrt(),
        _ => delta.sum(),
    }
}

/// Logits 0 for the label; the other classes are `gaps` below zero at `clean`.
fn classes(clean: &[f32], gaps: &[f32]) -> (Linear, Vec<Vec<f64>>) {
    let mut net = Linear { weight: vec![vec![0.0; N]], bias: vec![0.0] };
    let mut wide = vec![];
    for (class, gap) in gaps.iter().enumerate() {
        let w: Vec<f32> = values(N, 20 + class as u64).iter().map(|v| v - 0.5).collect();
        let at: f32 = w.iter().zip(clean).map(|(w, x)| w * x).sum();
        net.bias.push(-gap - at);
        wide.push(w.iter().map(|&w| f64::from(w)).collect());
        net.weight.push(w);
    }
    (net, wide)
}

/// The distance to the boundary of a linear class, away from the walls.
fn closed_form(norm: Norm, w: &[f64], gap: f32) -> f64 {
    let dual = match norm {
        Norm::Linf => w.iter().map(|w| w.abs()).sum::<f64>(),
        Norm::L2 => w.iter().map(|w| w * w).sum::<f64>().sqrt(),
        _ => w.iter().fold(0.0f64, |m, w| m.max(w.abs())),
    };
    f64::from(gap) / dual
}

#[test]
fn reaches_the_nearest_point_of_a_linear_boundary() {
    let clean: Vec<f32> = values(N, 5).iter().map(|v| 0.4 + 0.2 * v).collect();
    let (net, w) = classes(&clean, &[0.05, 0.12, 0.03]);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let distances: Vec<f64> =
            w.iter().zip([0.05, 0.12, 0.03]).map(|(w, gap)| closed_form(norm, w, gap)).collect();
        for target in [None, Some(1), Some(2), Some(3)] {
            // Any wrong class counts, so the nearest boundary bounds what targets can find.
            let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
            let wanted = target.map_or(nearest, |class| distances[class - 1]);
            let outcome = attack(&net, &clean, norm, 60, target, 0.0);
            assert_eq!(outcome.status, Status::Found);
            let found = distance(norm, &clean, &outcome.x);
            assert!(found >= nearest * (1.0 - 1e-5), "{norm:?} {target:?} {found} {nearest}");
            assert!(found <= wanted * 1.06, "{norm:?} {target:?} {found} {wanted}");
        }
    }
}

/// Where walls are in the way the nearest point is that of the exact projection.
#[test]
fn walls_are_respected() {
    let clean: Vec<f32> = values(N, 6).iter().map(|v| (1.4 * v - 0.2).clamp(0.0, 1.0)).collect();
    let (net, _) = classes(&clean, &[1.5]);
    let (low, high) = (vec![0.0; N], vec![1.0; N]);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let outcome = attack(&net, &clean, norm, 100, Some(1), 0.0);
        let mut exact = vec![0.0; N];
        let value = |(&w, &x): (&f32, &f32)| f64::from(w) * f64::from(x);
        let at: f64 = net.weight[1].iter().zip(&clean).map(value).sum();
        let gap = at + f64::from(net.bias[1]);
        let workspace = &mut aisec_search::PlaneWorkspace::default();
        let walls = [&low[..], &high[..]];
        workspace.set_normal(&net.weight[1]);
        aisec_search::move_to_plane(norm, &clean, gap, walls, workspace, &mut exact);
        let moved: Vec<f32> = clean.iter().zip(&exact).map(|(x, d)| x + d).collect();
        let (found, wanted) = (distance(norm, &clean, &outcome.x), distance(norm, &clean, &moved));
        assert!(outcome.x.iter().all(|x| (0.0..=1.0).contains(x)));
        assert!((1.0 - 1e-4..1.06).contains(&(found / wanted)), "{norm:?} {found} {wanted}");
    }
}

/// Targeted: one gradient and one more evaluation an iteration. Untargeted: a gradient a class.
#[test]
fn what_is_spent_is_exact() {
    let clean = vec![0.5; N];
    let (net, _) = classes(&clean, &[0.3, 0.4, 0.5]);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let outcome = attack(&net, &clean, norm, 7, Some(2), 0.0);
        assert_eq!((outcome.forwards, outcome.gradients), (14, 7));
        let outcome = attack(&net, &clean, norm, 7, None, 0.0);
        assert_eq!((outcome.forwards, outcome.gradients), (28, 21));
        // Near enough at the first check.
        let outcome = attack(&net, &clean, norm, 7, Some(2), 1e9);
        assert_eq!((outcome.forwards, outcome.gradients), (2, 1));
    }
}

#[test]
fn dead_ends_end_the_search() {
    let flat = Linear { weight: vec![vec![0.0; N]; 3], bias: vec![1.0, 0.0, 0.5] };
    let outcome = attack(&flat, &[0.5; N], Norm::Linf, 100, Some(1), 0.0);
    assert_eq!((outcome.status, outcome.gradients), (Status::Exhausted, 1));
    for bad in [f32::NAN, f32::INFINITY] {
        let net = Linear { weight: vec![vec![1.0; N]; 2], bias: vec![bad, 0.0] };
        let outcome = attack(&net, &[0.5; N], Norm::L2, 100, None, 0.0);
        assert_eq!((outcome.status, outcome.forwards), (Status::NotFinite, 1));
    }
    // A class that is ruled out has no boundary.
    let net = Linear { weight: vec![vec![1.0; N]; 3], bias: vec![0.0, f32::NEG_INFINITY, -1.0] };
    let outcome = attack(&net, &[0.5; N], Norm::L2, 100, Some(1), 0.0);
    assert_eq!((outcome.status, outcome.gradients), (Status::Exhausted, 0));
}
