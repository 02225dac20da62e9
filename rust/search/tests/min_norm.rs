//! Minimum-norm attacks against closed forms.

mod common;

use aisec_numeric::Cancel;
use aisec_search::{
    Bounds, CarliniWagner, CarliniWagnerConfig, Ddn, DdnConfig, DeepFool, DeepFoolConfig, Descent,
    Domain, Fmn, FmnConfig, MinNorm, Network, Norm, Outcome, Result, Search, SigmaZero,
    SigmaZeroConfig, Status, run,
};
use common::{Linear, values};

const N: usize = 30;

fn fmn() -> Fmn {
    Fmn::new(FmnConfig { steps: 200, ..FmnConfig::default() }.check().unwrap())
}

fn ddn() -> Ddn {
    let config = DdnConfig { steps: 200, step_size: 1.0, radius_change: 0.05 };
    Ddn::new(config.check(Norm::L2).unwrap())
}

fn carlini_wagner() -> CarliniWagner {
    let config = CarliniWagnerConfig { steps: 400, runs: 9, step_size: 0.01, constant: 1e-3 };
    CarliniWagner::new(config.check(Norm::L2).unwrap())
}

fn deepfool(norm: Norm) -> DeepFool {
    let config = DeepFoolConfig { steps: 50, candidates: 10, overshoot: 0.02 };
    DeepFool::new(config.check(norm).unwrap())
}

fn sigma_zero() -> SigmaZero {
    let config = SigmaZeroConfig {
        steps: 300,
        step_size: 1.0,
        sigma: 1e-3,
        threshold: 0.3,
        threshold_step: 0.01,
    };
    SigmaZero::new(config.check(Norm::L0).unwrap())
}

fn attack<D>(
    net: &impl Network,
    clean: &[f32],
    norm: Norm,
    goal: f64,
    start: Option<&[f32]>,
    descent: impl Fn() -> D + Sync,
) -> Outcome
where
    D: Descent + 'static,
{
    let bounds = Bounds::new(&vec![0.0; clean.len()], &vec![1.0; clean.len()]).unwrap();
    let search = |_| -> Result<Box<dyn Search>> {
        let domain = Domain::new(norm, clean, &bounds)?;
        Ok(Box::new(MinNorm::new(domain, 0, goal, start, descent())) as Box<dyn Search>)
    };
    run(net, 1, 4, &Cancel::new(), search).unwrap().remove(0)
}

/// Three classes; the nearest boundary is `gap` away from `clean` in every norm's own terms.
fn three_classes(gap: f32) -> (Linear, Vec<f32>) {
    let clean: Vec<f32> = values(N, 5).iter().map(|v| 0.4 + 0.2 * v).collect();
    let near: Vec<f32> = values(N, 3).iter().map(|v| v - 0.5).collect();
    let far: Vec<f32> = values(N, 4).iter().map(|v| v - 0.5).collect();
    let at = |w: &[f32]| w.iter().zip(&clean).map(|(w, x)| w * x).sum::<f32>();
    let bias = vec![0.0, -gap - at(&near), -4.0 * gap - at(&far)];
    (Linear { weight: vec![vec![0.0; N], near, far], bias }, clean)
}

fn size(values: impl Iterator<Item = f64>, norm: Norm) -> f64 {
    match norm {
        Norm::Linf => values.fold(0.0, |most, v| most.max(v.abs())),
        Norm::L2 => values.map(|v| v * v).sum::<f64>().sqrt(),
        Norm::L1 => values.map(f64::abs).sum(),
        _ => values.filter(|&v| v != 0.0).count() as f64,
    }
}

fn distance(clean: &[f32], x: &[f32], norm: Norm) -> f64 {
    size(clean.iter().zip(x).map(|(&a, &b)| f64::from(b) - f64::from(a)), norm)
}

/// `|gap| / |w|_q`, which holds while no wall is reached.
fn closed_form(net: &Linear, norm: Norm, gap: f64) -> f64 {
    let w = net.weight[1].iter().map(|&w| f64::from(w));
    let dual = match norm {
        Norm::Linf => Norm::L1,
        Norm::L1 => Norm::Linf,
        norm => norm,
    };
    gap / size(w, dual)
}

fn check(outcome: &Outcome, clean: &[f32], norm: Norm, expected: f64, within: f64) {
    let found = distance(clean, &outcome.x, norm);
    assert_eq!(outcome.status, Status::Found);
    assert!(outcome.margin < 0.0);
    assert!(outcome.x.iter().all(|x| (0.0..=1.0).contains(x)));
    let ratio = found / expected;
    assert!((1.0 - 1e-6..1.0 + within).contains(&ratio), "{norm:?}: {ratio}");
}

#[test]
fn the_distance_to_a_plane() {
    for gap in [0.02, 0.1] {
        let (net, clean) = three_classes(gap);
        let gap = f64::from(gap);
        let expected = |norm| closed_form(&net, norm, gap);
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let outcome = attack(&net, &clean, norm, 0.0, None, fmn);
            check(&outcome, &clean, norm, expected(norm), 0.01);
            assert_eq!(outcome.gradients, 200);
        }
        for norm in [Norm::Linf, Norm::L2] {
            let outcome = attack(&net, &clean, norm, 0.0, None, || deepfool(norm));
            check(&outcome, &clean, norm, expected(norm), 0.001);
            assert!(outcome.gradients <= 4, "{outcome:?}");
        }
    }
}

/// Cross-entropy heads for all classes at once unless one has most of the probability, and Adam's
/// steps resolve no distance below its step size: larger logits, further away.
#[test]
fn the_euclidean_distance_to_a_steep_plane() {
    for gap in [0.2, 0.4] {
        let (mut net, clean) = three_classes(gap);
        let expected = closed_form(&net, Norm::L2, f64::from(gap));
        net.weight.iter_mut().flatten().chain(&mut net.bias).for_each(|value| *value *= 50.0);
        let outcome = attack(&net, &clean, Norm::L2, 0.0, None, ddn);
        check(&outcome, &clean, Norm::L2, expected, 0.01);
        let outcome = attack(&net, &clean, Norm::L2, 0.0, None, carlini_wagner);
        check(&outcome, &clean, Norm::L2, expected, 0.01);
    }
}

/// The fewest values whose largest possible moves cross the boundary.
#[test]
fn the_fewest_changes() {
    for gap in [0.1, 0.5, 1.0] {
        let (net, clean) = three_classes(gap);
        let mut gains: Vec<f32> = net.weight[1]
            .iter()
            .zip(&clean)
            .map(|(w, x)| if *w > 0.0 { w * (1.0 - x) } else { -w * x })
            .collect();
        gains.sort_by(|a, b| b.total_cmp(a));
        let mut sum = 0.0;
        let fewest = 1 + gains
            .iter()
            .position(|g| {
                sum += g;
                sum > gap
            })
            .unwrap();
        let outcome = attack(&net, &clean, Norm::L0, 0.0, None, fmn);
        assert!(distance(&clean, &outcome.x, Norm::L0) <= fewest as f64 + 1.0, "{gap}");
        let outcome = attack(&net, &clean, Norm::L0, 0.0, None, sigma_zero);
        assert!(distance(&clean, &outcome.x, Norm::L0) <= fewest as f64 + 1.0, "{gap}");
        assert!(distance(&clean, &outcome.x, Norm::L0) >= fewest as f64, "{gap}");
    }
}

/// Two walls: the direct way is closed, a start on the far side is not.
#[test]
fn a_start_is_drawn_to_the_boundary() {
    let (net, clean) = three_classes(0.1);
    let start: Vec<f32> = net.weight[1].iter().map(|w| if *w > 0.0 { 1.0 } else { 0.0 }).collect();
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let outcome = attack(&net, &clean, norm, 0.0, Some(&start), fmn);
        check(&outcome, &clean, norm, closed_form(&net, norm, 0.1), 0.01);
    }
    let outcome = attack(&net, &clean, Norm::L0, 0.0, Some(&start), fmn);
    assert!(distance(&clean, &outcome.x, Norm::L0) <= 3.0);
    // A start that is not adversarial costs one evaluation.
    let direct = attack(&net, &clean, Norm::L2, 0.0, None, fmn);
    let useless = attack(&net, &clean, Norm::L2, 0.0, Some(&clean), fmn);
    assert_eq!(useless.x, direct.x);
    assert_eq!(useless.forwards, direct.forwards + 1);
}

/// A margin `(0.5 - x)³`: the linearised boundary is always nearer than the real one.
struct Cubic;

impl Network for Cubic {
    type Workspace = ();

    fn input_len(&self) -> usize {
        1
    }

    fn num_classes(&self) -> usize {
        2
    }

    fn forward(&self, (): &mut (), x: &[f32], _: usize, logits: &mut [f32]) {
        for (x, logits) in x.iter().zip(logits.chunks_exact_mut(2)) {
            logits.copy_from_slice(&[(0.5 - x).powi(3), 0.0]);
        }
    }

    fn record(&self, workspace: &mut (), x: &[f32], batch: usize, logits: &mut [f32]) {
        self.forward(workspace, x, batch, logits);
    }

    fn gradient(&self, (): &mut (), x: &[f32], _: usize, cotangent: &[f32], gradient: &mut [f32]) {
        for ((g, x), c) in gradient.iter_mut().zip(x).zip(cotangent.chunks_exact(2)) {
            *g = -3.0 * c[0] * (0.5 - x).powi(2);
        }
    }
}

/// Newton's steps alone would come ever closer and never cross.
#[test]
fn a_boundary_that_recedes_is_crossed() {
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let outcome = attack(&Cubic, &[0.1], norm, 0.0, None, fmn);
        check(&outcome, &[0.1], norm, 0.4, 0.01);
    }
}

/// A search that only has to come within a radius ends there.
#[test]
fn goals_end_searches() {
    let (net, clean) = three_classes(0.1);
    let expected = closed_form(&net, Norm::L2, 0.1);
    let outcome = attack(&net, &clean, Norm::L2, 1.2 * expected, None, fmn);
    check(&outcome, &clean, Norm::L2, expected, 0.2);
    assert!(outcome.gradients < 50, "{outcome:?}");
    // Misclassified as it is.
    let (net, clean) = three_classes(-0.1);
    let outcome = attack(&net, &clean, Norm::L2, 0.0, None, fmn);
    assert_eq!((outcome.forwards, outcome.gradients), (1, 0));
    assert_eq!(outcome.x, clean);
    assert_eq!(outcome.status, Status::Found);
}

/// No point of the box is adversarial, and flat networks are given up.
#[test]
fn nothing_to_find() {
    let (net, clean) = three_classes(100.0);
    let outcome = attack(&net, &clean, Norm::L2, 0.0, None, fmn);
    assert_eq!(outcome.status, Status::Exhausted);
    assert_eq!((outcome.margin, &outcome.x), (f64::INFINITY, &clean));
    let flat = Linear { weight: vec![vec![0.0; N]; 3], bias: vec![1.0, 0.0, 0.0] };
    let outcome = attack(&flat, &clean, Norm::Linf, 0.0, None, fmn);
    assert_eq!((outcome.status, outcome.gradients), (Status::Exhausted, 1));
    let outcome = attack(&flat, &clean, Norm::Linf, 0.0, None, || deepfool(Norm::Linf));
    assert_eq!((outcome.status, outcome.gradients), (Status::Exhausted, 2));
    for broken in [f32::NAN, f32::INFINITY] {
        let net = Linear { weight: vec![vec![1.0; N]; 2], bias: vec![broken, 0.0] };
        let outcome = attack(&net, &clean, Norm::L2, 0.0, None, fmn);
        assert_eq!(outcome.status, Status::NotFinite);
        assert_eq!((outcome.margin, outcome.gradients), (f64::INFINITY, 0));
    }
}

#[test]
fn refusals() {
    let bounds = Bounds::new(&[0.0], &[1.0]).unwrap();
    assert!(Domain::new(Norm::Box, &[0.5], &bounds).is_err());
    assert!(Domain::new(Norm::L2, &[1.5], &bounds).is_err());
    let config = FmnConfig::default();
    assert!(FmnConfig { steps: 0, ..config }.check().is_err());
    assert!(FmnConfig { step_size: Some(f64::NAN), ..config }.check().is_err());
    assert!(FmnConfig { radius_change: (1.0, 0.0), ..config }.check().is_err());
    assert!(DeepFoolConfig { steps: 1, candidates: 1, overshoot: 0.0 }.check(Norm::L1).is_err());
}
