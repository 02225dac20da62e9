//! Decision-based and sparse searches against closed forms.

mod common;

use std::sync::Arc;

use aisec_numeric::Cancel;
use aisec_search::{
    Bounds, Domain, HopSkipJump, HopSkipJumpConfig, Network, Norm, Outcome, Rays, RaysConfig,
    Region, Search, SparseRs, SparseRsConfig, Status, run,
};
use common::{Linear, values};

const N: usize = 36;
const SHAPE: [usize; 3] = [1, 6, 6];

fn unit_box(n: usize) -> Bounds {
    Bounds::new(&vec![0.0; n], &vec![1.0; n]).unwrap()
}

/// A network whose answers carry no more than a label.
struct LabelOnly(Linear);

impl Network for LabelOnly {
    type Workspace = ();

    fn input_len(&self) -> usize {
        self.0.input_len()
    }

    fn num_classes(&self) -> usize {
        self.0.num_classes()
    }

    fn forward(&self, (): &mut (), x: &[f32], batch: usize, logits: &mut [f32]) {
        self.0.forward(&mut (), x, batch, logits);
        for logits in logits.chunks_exact_mut(self.num_classes()) {
            let largest = (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            logits.fill(0.0);
            logits[largest.unwrap()] = 1.0;
        }
    }

    fn record(&self, (): &mut (), x: &[f32], batch: usize, logits: &mut [f32]) {
        self.forward(&mut (), x, batch, logits);
    }

    fn gradient(&self, (): &mut (), _: &[f32], _: usize, _: &[f32], _: &mut [f32]) {
        panic!("a decision has no gradient");
    }
}

/// Two classes; the boundary is at margin `gap` from `clean`, in the middle of the range.
fn two_classes(gap: f32) -> (Linear, Vec<f32>) {
    let clean: Vec<f32> = values(N, 5).iter().map(|v| 0.45 + 0.1 * v).collect();
    let weight: Vec<f32> = values(N, 3).iter().map(|v| v - 0.5).collect();
    let at: f32 = weight.iter().zip(&clean).map(|(w, x)| w * x).sum();
    (Linear { weight: vec![vec![0.0; N], weight], bias: vec![0.0, -gap - at] }, clean)
}

fn dual(net: &Linear, norm: Norm) -> f64 {
    let w = net.weight[1].iter().map(|&w| f64::from(w));
    match norm {
        Norm::L2 => w.map(|w| w * w).sum::<f64>().sqrt(),
        _ => w.map(f64::abs).sum(),
    }
}

fn hop_skip_jump(norm: Norm, queries: u32) -> Arc<HopSkipJumpConfig> {
    Arc::new(HopSkipJumpConfig::new(&SHAPE, norm, queries, [50, 10_000], 100, 3, 0).unwrap())
}

fn decide(net: &impl Network, search: impl Search + 'static) -> Outcome {
    let search = std::sync::Mutex::new(Some(Box::new(search) as Box<dyn Search>));
    let start = |_| Ok(search.lock().unwrap().take().unwrap());
    run(net, 1, 4, &Cancel::new(), start).unwrap().remove(0)
}

fn measured(norm: Norm, clean: &[f32], x: &[f32]) -> f64 {
    assert!(x.iter().all(|v| (0.0..=1.0).contains(v)));
    let delta = clean.iter().zip(x).map(|(&a, &b)| f64::from(b) - f64::from(a));
    match norm {
        Norm::L2 => delta.map(|d| d * d).sum::<f64>().sqrt(),
        _ => delta.fold(0.0, |most, d| most.max(d.abs())),
    }
}

#[test]
fn hop_skip_jump_comes_close_to_the_nearest_boundary() {
    for norm in [Norm::L2, Norm::Linf] {
        let (net, clean) = two_classes(0.5);
        let nearest = 0.5 / dual(&net, norm);
        let domain = || Domain::new(norm, &clean, &unit_box(N)).unwrap();
        let search = |queries, goal, start: Option<&[f32]>| {
            HopSkipJump::new(hop_skip_jump(norm, queries), domain(), 0, 7, goal, start)
        };
        let outcome = decide(&net, search(5000, 0.0, None));
        let distance = measured(norm, &clean, &outcome.x);
        assert_eq!((outcome.status, outcome.forwards), (Status::Found, 5000));
        assert!(outcome.margin < 0.0);
        assert!(distance >= nearest && distance < 1.05 * nearest, "{norm:?} {distance} {nearest}");

        // A label is all it uses.
        let label_only = LabelOnly(net);
        let same = decide(&label_only, search(5000, 0.0, None));
        assert_eq!(same.x, outcome.x, "{norm:?}");

        // Near enough ends the search; more queries never hurt.
        let goal = decide(&label_only, search(5000, 1.5 * nearest, None));
        assert!(measured(norm, &clean, &goal.x) <= 1.5 * nearest && goal.forwards < 5000);
        let few = decide(&label_only, search(500, 0.0, None));
        assert!(measured(norm, &clean, &few.x) >= distance && few.forwards == 500);

        // A given start is the first point asked; one of the same class gives way to noise.
        let weight = &label_only.0.weight[1];
        let start: Vec<f32> = weight.iter().map(|&w| f32::from(w > 0.0)).collect();
        let mut asked = vec![0.0; N];
        search(5, 0.0, Some(&start)).ask(&mut asked);
        assert_eq!(asked, start);
        let outcome = decide(&label_only, search(5000, 0.0, Some(&clean)));
        assert_eq!(outcome.status, Status::Found);
    }
}

#[test]
fn rays_finds_the_ray_of_the_nearest_boundary() {
    let (net, clean) = two_classes(0.5);
    let nearest = 0.5 / dual(&net, Norm::Linf);
    for tolerance in [1e-3, 1e-5] {
        let domain = Domain::new(Norm::Linf, &clean, &unit_box(N)).unwrap();
        let config = Arc::new(RaysConfig::new(Norm::Linf, 3000, tolerance).unwrap());
        let search = Rays::new(config, domain, 0, 0.0);
        let outcome = decide(&LabelOnly(Linear { ..two_classes(0.5).0 }), search);
        let distance = measured(Norm::Linf, &clean, &outcome.x);
        assert!(distance >= nearest && distance <= nearest + tolerance, "{distance} {nearest}");
        assert_eq!((outcome.status, outcome.forwards), (Status::Found, 3000));
    }
    let domain = Domain::new(Norm::Linf, &clean, &unit_box(N)).unwrap();
    let config = Arc::new(RaysConfig::new(Norm::Linf, 3000, 1e-3).unwrap());
    let outcome = decide(&net, Rays::new(config, domain, 0, 2.0 * nearest));
    assert!(measured(Norm::Linf, &clean, &outcome.x) <= 2.0 * nearest && outcome.forwards < 3000);
}

/// The margin of a linear network under `count` changes: every value moved to its better end,
/// the largest gains kept.
fn sparse_optimum(net: &Linear, clean: &[f32], count: usize) -> f64 {
    let slope = |i: usize| f64::from(net.weight[1][i]) - f64::from(net.weight[0][i]);
    let mut gains: Vec<f64> = clean
        .iter()
        .enumerate()
        .map(|(i, &x)| {
            let room = if slope(i) > 0.0 { 1.0 - f64::from(x) } else { f64::from(x) };
            slope(i).abs() * room
        })
        .collect();
    gains.sort_by(|a, b| b.total_cmp(a));
    let at = |row: usize| {
        let terms = net.weight[row].iter().zip(clean);
        terms.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>() + f64::from(net.bias[row])
    };
    at(0) - at(1) - gains[..count].iter().sum::<f64>()
}

#[test]
fn sparse_rs_reaches_the_exact_optimum_of_a_linear_margin() {
    let (net, _) = two_classes(50.0);
    // Some values at the end of their range from which a move to the other pays.
    let mut clean = values(N, 5);
    for i in [3, 4, 17] {
        clean[i] = f32::from(net.weight[1][i] < 0.0);
    }
    for count in [1, 5, 20, N - 1, N] {
        // A fraction of a change is none.
        let region = Region::new(Norm::L0, count as f64 + 0.5, &clean, &unit_box(N)).unwrap();
        let config = Arc::new(SparseRsConfig::new(Norm::L0, 8000, 0.3, 1, 0).unwrap());
        let outcome = decide(&net, SparseRs::new(config, region.clone(), 0, 3));
        let optimum = sparse_optimum(&net, &clean, count);
        assert!((outcome.margin - optimum).abs() < 1e-4, "{count}: {} {optimum}", outcome.margin);
        assert!(region.distance(&outcome.x) <= count as f64);
        assert_eq!((outcome.status, outcome.forwards), (Status::Exhausted, 8000));
    }
    let (net, clean) = two_classes(0.5);
    let region = Region::new(Norm::L0, 8.0, &clean, &unit_box(N)).unwrap();
    let config = Arc::new(SparseRsConfig::new(Norm::L0, 2000, 0.3, 1, 0).unwrap());
    let outcome = decide(&net, SparseRs::new(config.clone(), region.clone(), 0, 3));
    assert_eq!(outcome.status, Status::Found);
    assert!(outcome.forwards < 2000 && region.distance(&outcome.x) <= 8.0);
    let region = Region::new(Norm::L0, 0.9, &clean, &unit_box(N)).unwrap();
    assert_eq!(decide(&net, SparseRs::new(config, region, 0, 3)).forwards, 1);
}

/// The schedule of the paper's appendix at its budget of 10 000, and stretched.
#[test]
fn sparse_rs_golden_schedule() {
    let config = SparseRsConfig::new(Norm::L0, 10_000, 0.3, 0, 0).unwrap();
    let shares = [(1, 2), (50, 2), (51, 4), (201, 5), (501, 6), (1001, 8), (2001, 10)];
    for (iteration, part) in shares.into_iter().chain([(4001, 12), (6001, 15), (8001, 20)]) {
        assert_eq!(config.swaps(iteration, 2001), 600 / part, "{iteration}");
    }
    assert_eq!(config.swaps(9000, 3), 1);
    let config = SparseRsConfig::new(Norm::L0, 1000, 0.3, 0, 0).unwrap();
    assert_eq!((config.swaps(5, 2000), config.swaps(6, 2000)), (300, 150));
}

/// Starts every search of this file on sample `i`.
fn searches(clean: &[f32], i: usize) -> Vec<Box<dyn Search>> {
    let bounds = unit_box(N);
    let clean = &clean[i * N..(i + 1) * N];
    let mut all: Vec<Box<dyn Search>> = vec![];
    for norm in [Norm::L2, Norm::Linf] {
        let domain = Domain::new(norm, clean, &bounds).unwrap();
        let config = hop_skip_jump(norm, 400);
        all.push(Box::new(HopSkipJump::new(config, domain, i % 3, i as u64, 0.02, None)));
    }
    let domain = Domain::new(Norm::Linf, clean, &bounds).unwrap();
    let config = Arc::new(RaysConfig::new(Norm::Linf, 200, 1e-3).unwrap());
    all.push(Box::new(Rays::new(config, domain, i % 3, 0.02)));
    let region = Region::new(Norm::L0, 4.0, clean, &bounds).unwrap();
    let config = Arc::new(SparseRsConfig::new(Norm::L0, 200, 0.3, 2, 0).unwrap());
    all.push(Box::new(SparseRs::new(config, region, i % 3, i as u64)));
    all
}

/// Outcomes bit for bit, NaN equal to NaN.
fn written(outcomes: &[Outcome]) -> String {
    format!("{outcomes:?}")
}

#[test]
fn no_batch_changes_an_outcome() {
    let count = 13;
    let clean = values(N * count, 9);
    let w = values(3 * N, 8);
    let net =
        Linear { weight: w.chunks(N).map(<[f32]>::to_vec).collect(), bias: vec![0.3, 0.0, 0.1] };
    for kind in 0..4 {
        let start = |i| Ok(searches(&clean, i).swap_remove(kind));
        let expected = run(&net, count, 1, &Cancel::new(), start).unwrap();
        assert!(expected.iter().any(|o| o.status == Status::Found));
        for width in [3, 64] {
            let found = run(&net, count, width, &Cancel::new(), start).unwrap();
            assert_eq!(written(&found), written(&expected));
        }
        let reversed = |i| Ok(searches(&clean, count - 1 - i).swap_remove(kind));
        let mut backwards = run(&net, count, 5, &Cancel::new(), reversed).unwrap();
        backwards.reverse();
        assert_eq!(written(&backwards), written(&expected), "{kind}");
    }
}

#[test]
fn asking_is_idempotent() {
    let clean = values(N, 9);
    let (net, _) = two_classes(0.1);
    for kind in 0..4 {
        let mut search = searches(&clean, 0).swap_remove(kind);
        let (mut a, mut b, mut logits) = (vec![0.0; N], vec![7.0; N], [0.0; 2]);
        for _ in 0..150 {
            search.ask(&mut a);
            search.ask(&mut b);
            assert_eq!(a, b, "{kind}");
            net.forward(&mut (), &a, 1, &mut logits);
            if search.tell(&a, &logits) {
                break;
            }
        }
    }
}

#[test]
fn logits_that_are_not_finite_are_never_a_success() {
    for broken in [f32::NAN, f32::INFINITY] {
        let net = Linear { weight: vec![vec![1.0; N]; 3], bias: vec![0.0, broken, 0.0] };
        for kind in 0..4 {
            let clean = values(N, 9);
            let start = |_| Ok(searches(&clean, 0).swap_remove(kind));
            let outcome = run(&net, 1, 1, &Cancel::new(), start).unwrap().remove(0);
            assert_eq!(outcome.status, Status::NotFinite, "{kind}");
            assert_eq!(outcome.x, clean);
        }
    }
}

/// What no point of the input range changes is open, after no more than the start points.
#[test]
fn a_constant_network_has_no_adversarial_point() {
    let net = Linear { weight: vec![vec![0.0; N]; 3], bias: vec![1.0, 0.0, 0.0] };
    let clean = values(N, 9);
    for kind in 0..4 {
        let start = |_| Ok(searches(&clean, 0).swap_remove(kind));
        let outcome = run(&net, 1, 1, &Cancel::new(), start).unwrap().remove(0);
        assert_eq!(outcome.status, Status::Exhausted, "{kind}");
        assert_eq!(outcome.forwards, [100, 100, 200, 200][kind]);
    }
}

#[test]
fn refusals() {
    let hop =
        |norm, queries, probes| HopSkipJumpConfig::new(&SHAPE, norm, queries, probes, 1, 0, 0);
    assert!(hop(Norm::L1, 10, [1, 1]).is_err() && hop(Norm::L2, 0, [1, 1]).is_err());
    assert!(hop(Norm::L2, 10, [0, 1]).is_err() && hop(Norm::L2, 10, [1, 0]).is_err());
    assert!(RaysConfig::new(Norm::L2, 10, 1e-3).is_err());
    assert!(RaysConfig::new(Norm::Linf, 0, 1e-3).is_err());
    assert!(RaysConfig::new(Norm::Linf, 10, f64::NAN).is_err());
    assert!(SparseRsConfig::new(Norm::Linf, 10, 0.3, 0, 0).is_err());
    assert!(SparseRsConfig::new(Norm::L0, 0, 0.3, 0, 0).is_err());
    assert!(SparseRsConfig::new(Norm::L0, 10, 0.0, 0, 0).is_err());
}
