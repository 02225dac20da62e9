//! APGD against closed forms.

mod common;

use std::sync::Arc;

use aisec_numeric::Cancel;
use aisec_search::{
    Apgd, ApgdConfig, ApgdL1, Attack, Bounds, Loss, Norm, Outcome, Region, Result, Sample, Search,
    Setting, Status, checkpoints, run,
};
use common::{Linear, values};

const LOSSES: [Loss; 3] = [Loss::CrossEntropy, Loss::Dlr, Loss::Margin];

fn attack(net: &Linear, clean: &[f32], norm: Norm, eps: f64, loss: Loss, steps: usize) -> Outcome {
    let n = clean.len();
    let bounds = Bounds::new(&vec![0.0; n], &vec![1.0; n]).unwrap();
    let config = Arc::new(ApgdConfig::new(steps, 1, "apgd", 0));
    let region = || Region::new(norm, eps, clean, &bounds);
    let cancel = Cancel::new();
    let start = |_| -> Result<Box<dyn Search>> {
        let (config, region) = (config.clone(), region()?);
        Ok(match norm {
            Norm::L1 => Box::new(ApgdL1::new(config, region, loss, 0, 7, None)),
            _ => Box::new(Apgd::new(config, region, loss, 0, 7, None)),
        })
    };
    let mut outcomes = run(net, 1, 4, &cancel, start).unwrap();
    outcomes.remove(0)
}

/// Two classes whose margin `w·x + b` stays positive on the whole box.
fn robust_pair(n: usize) -> (Linear, Vec<f64>) {
    let w: Vec<f32> = values(n, 3).iter().map(|v| v - 0.5).collect();
    let wide = w.iter().map(|&w| f64::from(w)).collect();
    (Linear { weight: vec![w, vec![0.0; n]], bias: vec![n as f32, 0.0] }, wide)
}

/// Its margin in float64.
fn margin(w: &[f64], x: &[f32]) -> f64 {
    x.iter().zip(w).map(|(&x, w)| f64::from(x) * w).sum::<f64>() + w.len() as f64
}

#[test]
fn golden_checkpoints() {
    assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
    assert_eq!(checkpoints(1), [1]);
    assert_eq!(checkpoints(10), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert!(checkpoints(0).is_empty());
}

#[test]
fn linf_reaches_the_exact_optimum_of_a_linear_margin() {
    let n = 30;
    let (net, w) = robust_pair(n);
    let clean = values(n, 5);
    for eps in [0.01, 0.3, 0.9] {
        let optimum: f64 = clean
            .iter()
            .zip(&w)
            .map(|(&x, &w)| {
                let x = f64::from(x);
                w * if w > 0.0 { (x - eps).max(0.0) } else { (x + eps).min(1.0) }
            })
            .sum::<f64>()
            + n as f64;
        for loss in LOSSES {
            let outcome = attack(&net, &clean, Norm::Linf, eps, loss, 20);
            assert!(
                (outcome.margin - optimum).abs() < 1e-5,
                "{loss:?} {eps} {outcome:?} {optimum}"
            );
            assert_eq!(outcome.status, Status::Exhausted);
            assert_eq!((outcome.forwards, outcome.gradients), (21, 20));
        }
    }
}

#[test]
fn a_box_reaches_its_best_corner() {
    let n = 30;
    let (net, w) = robust_pair(n);
    let optimum: f64 = w.iter().map(|w| w.min(0.0)).sum::<f64>() + n as f64;
    let outcome = attack(&net, &values(n, 5), Norm::Box, 0.0, Loss::CrossEntropy, 20);
    assert!((outcome.margin - optimum).abs() < 1e-5, "{outcome:?} {optimum}");
}

#[test]
fn l2_reaches_the_exact_optimum_away_from_the_box() {
    let n = 30;
    let (net, w) = robust_pair(n);
    let clean: Vec<f32> = values(n, 5).iter().map(|v| 0.4 + 0.2 * v).collect();
    let length = w.iter().map(|w| w * w).sum::<f64>().sqrt();
    for eps in [0.01, 0.3] {
        for loss in LOSSES {
            let outcome = attack(&net, &clean, Norm::L2, eps, loss, 60);
            let gap = margin(&w, &outcome.x) - (margin(&w, &clean) - eps * length);
            assert!((-1e-7..1e-4 * eps).contains(&gap), "{loss:?} {eps} {gap}");
        }
    }
}

/// The optimum moves the coordinates with the largest |w| to their walls until eps is spent.
#[test]
fn l1_comes_within_a_hundredth_of_the_optimum() {
    let n = 30;
    let (net, w) = robust_pair(n);
    let clean = values(n, 5);
    for eps in [0.5, 2.0, 5.0] {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| w[b].abs().total_cmp(&w[a].abs()));
        let mut left = eps;
        let mut optimum = margin(&w, &clean);
        for i in order {
            let x = f64::from(clean[i]);
            let room: f64 = if w[i] > 0.0 { x } else { 1.0 - x };
            let moved = room.min(left);
            left -= moved;
            optimum -= moved * w[i].abs();
        }
        let outcome = attack(&net, &clean, Norm::L1, eps, Loss::CrossEntropy, 100);
        let gap = margin(&w, &outcome.x) - optimum;
        assert!((-1e-6..1e-2 * eps).contains(&gap), "{eps} {gap}");
    }
}

/// A margin that turns negative inside the region ends the search, and what was spent is exact.
#[test]
fn success_ends_the_search() {
    let net = Linear { weight: vec![vec![1.0; 4], vec![0.0; 4]], bias: vec![-1.5, 0.0] };
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let outcome = attack(&net, &[0.5; 4], norm, 0.9, Loss::CrossEntropy, 100);
        assert_eq!(outcome.status, Status::Found);
        assert!(outcome.margin < 0.0 && outcome.forwards < 100, "{outcome:?}");
        assert_eq!(outcome.forwards, outcome.gradients + 1);
    }
}

#[test]
fn a_region_of_one_point_costs_one_forward() {
    let (net, _) = robust_pair(3);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let outcome = attack(&net, &[0.1, 0.9, 0.5], norm, 0.0, Loss::Margin, 100);
        assert_eq!(outcome.x, [0.1, 0.9, 0.5]);
        assert_eq!((outcome.forwards, outcome.gradients), (1, 0));
        assert_eq!(outcome.status, Status::Exhausted);
    }
}

#[test]
fn logits_that_are_not_finite_are_never_a_success() {
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let net = Linear { weight: vec![vec![1.0; 3]; 2], bias: vec![broken, 0.0] };
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let outcome = attack(&net, &[0.5; 3], norm, 0.3, Loss::CrossEntropy, 10);
            assert_eq!(outcome.status, Status::NotFinite);
            assert_eq!(outcome.margin, f64::INFINITY);
            assert_eq!(outcome.x, [0.5; 3]);
        }
    }
}

#[test]
fn no_steps_evaluate_the_start_only() {
    let (net, _) = robust_pair(3);
    let outcome = attack(&net, &[0.5; 3], Norm::Linf, 0.1, Loss::CrossEntropy, 0);
    assert_eq!((outcome.forwards, outcome.gradients), (1, 0));
}

/// Batch width, order and threads change nothing, and refilled batches lose no sample.
#[test]
fn outcomes_do_not_depend_on_how_they_were_computed() {
    let (n, count) = (12, 37);
    let weight = values(3 * n, 8).chunks(n).map(<[f32]>::to_vec).collect();
    let net = Linear { weight, bias: vec![0.1, 0.0, 0.2] };
    let clean = values(n * count, 9);
    let bounds = Bounds::new(&[0.0; 12], &[1.0; 12]).unwrap();
    let config = Arc::new(ApgdConfig::new(30, 1, "apgd-ce", 0));
    let run = |threads: usize, width: usize, order: &[usize]| {
        let start = |i: usize| -> Result<Box<dyn Search>> {
            let i = order[i];
            let region = Region::new(Norm::Linf, 0.06, &clean[i * n..(i + 1) * n], &bounds)?;
            let config = config.clone();
            Ok(Box::new(Apgd::new(config, region, Loss::CrossEntropy, i % 3, i as u64, None)))
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| aisec_search::run(&net, order.len(), width, &Cancel::new(), start)).unwrap()
    };
    let forward: Vec<usize> = (0..count).collect();
    let expected = run(1, 1, &forward);
    assert!(expected.iter().any(|o| o.status == Status::Found));
    assert!(expected.iter().any(|o| o.status == Status::Exhausted));
    for (threads, width) in [(1, 64), (2, 3), (3, 64), (4, 1)] {
        assert_eq!(run(threads, width, &forward), expected, "{threads} {width}");
    }
    let backward: Vec<usize> = (0..count).rev().collect();
    let mut outcomes = run(2, 5, &backward);
    outcomes.reverse();
    assert_eq!(outcomes, expected);
    assert!(run(2, 5, &[]).is_empty());
}

#[test]
fn cancellation_and_refusals_end_a_run() {
    let (net, _) = robust_pair(3);
    let bounds = Bounds::new(&[0.0; 3], &[1.0; 3]).unwrap();
    let config = Arc::new(ApgdConfig::new(10, 1, "apgd", 0));
    let run = |cancel: &Cancel, x: f32| {
        aisec_search::run(&net, 2, 4, cancel, |_| {
            let region = Region::new(Norm::Linf, 0.1, &[x; 3], &bounds)?;
            Ok(Box::new(Apgd::new(config.clone(), region, Loss::Margin, 0, 0, None)))
        })
    };
    let cancel = Cancel::new();
    assert!(run(&cancel, 0.5).is_ok());
    assert!(run(&cancel, 2.0).unwrap_err().to_string().contains("outside its bounds"));
    cancel.cancel();
    assert_eq!(run(&cancel, 0.5).unwrap_err(), aisec_search::Error::Cancelled);
}

#[test]
fn to_the_end_the_most_confident_example_is_found() {
    let n = 30;
    let clean: Vec<f32> = values(n, 5).iter().map(|v| 0.4 + 0.2 * v).collect();
    let (mut net, w) = robust_pair(n);
    net.bias[0] = (0.5 + n as f64 - margin(&w, &clean)) as f32;
    // Few coordinates move far: the L1 optimum takes many steps, the Linf one a single step.
    let steepest = w.iter().map(|w| w.abs()).sum::<f64>();
    for (norm, eps, gain) in [(Norm::L1, 3.0, 0.1), (Norm::Linf, 0.2, 0.0)] {
        let setting = Setting {
            shape: vec![n],
            classes: 2,
            norm,
            eps,
            bounds: Bounds::new(&vec![0.0; n], &vec![1.0; n]).unwrap(),
            constraint: None,
            seed: 1,
            restart: 0,
        };
        let outcome = |to_the_end: bool| {
            let options = format!(r#"{{"steps": 60, "to_the_end": {to_the_end}}}"#);
            let attack = Attack::new("apgd-margin", &options, &setting).unwrap();
            let sample = Sample { clean: &clean, label: 0, id: 7, target: None, start: None };
            run(&net, 1, 4, &Cancel::new(), |_| attack.start(&sample)).unwrap().remove(0)
        };
        let (early, late) = (outcome(false), outcome(true));
        assert_eq!((early.status, late.status), (Status::Found, Status::Found));
        assert!(early.forwards < 30, "{norm:?} {early:?}");
        assert_eq!((late.forwards, late.gradients), (61, 60));
        assert!(late.margin <= early.margin - gain, "{norm:?} {late:?} {early:?}");
        if norm == Norm::Linf {
            assert!((late.margin - (0.5 - eps * steepest)).abs() < 1e-4, "{late:?}");
        }
    }
}
