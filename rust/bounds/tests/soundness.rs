//! No point of a region ever falls below its bounds, whatever the operators, norm or method.

use aisec_bounds::{Method, Norm, Options, Region, Tuning, margin_bounds, margin_planes};
use aisec_graph::Graph;
use aisec_graph::testing::{random_bent_graph, random_graph, random_input};
use aisec_numeric::Cancel;
use aisec_numeric::rounding::{add_down, add_up, mul_down, mul_up};
use proptest::prelude::*;

/// A small generator for points and rows.
struct Numbers(u64);

impl Numbers {
    /// In [-1, 1).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    }
}

const METHODS: [Method; 4] = [Method::Ibp, Method::CrownIbp, Method::Crown, ALPHA];

/// Few steps, long enough to reach the ends of every range.
const ALPHA: Method = Method::AlphaCrown(Tuning {
    iterations: 6,
    rate: 0.5,
    beta_rate: 0.5,
    decay: 0.9,
    stop: false,
});

fn bounds(graph: &Graph, region: &Region, spec: &[f64], method: Method) -> Vec<f64> {
    let options = Options { method, memory_limit: None };
    margin_bounds(graph, vec![region.clone()], spec, options, &Cancel::new()).unwrap()
}

/// An upper bound of `row · output(x)` in real arithmetic.
fn value_above(graph: &Graph, x: &[f64], row: &[f64]) -> f64 {
    let (low, high) = graph.interval(graph.output(), x, x, 1, &Cancel::new()).unwrap();
    row.iter()
        .zip(low.iter().zip(&high))
        .fold(0.0, |sum, (&a, (&l, &h))| add_up(sum, mul_up(a, if a > 0.0 { h } else { l })))
}

/// Every other one has operators that bend.
fn graph(seed: u64, nodes: usize) -> Graph {
    if seed.is_multiple_of(2) {
        random_graph(seed, nodes, 3)
    } else {
        random_bent_graph(seed, nodes, 3)
    }
}

/// Whether the sign of some value at `x` hangs on rounding.
fn a_sign_is_open(graph: &Graph, x: &[f64]) -> bool {
    graph.nodes().iter().filter(|node| node.op.name() == "sign").any(|node| {
        let (low, high) = graph.interval(node.inputs[0], x, x, 1, &Cancel::new()).unwrap();
        low.iter().zip(&high).any(|(&l, &h)| l <= 0.0 && h >= 0.0)
    })
}

/// Points of the region: its centre, corners along single rows' gradients, random ones.
fn points(
    graph: &Graph,
    region: &Region,
    center: &[f64],
    radius: f64,
    norm: Norm,
    spec: &[f64],
    numbers: &mut Numbers,
) -> Vec<Vec<f64>> {
    let (lower, upper) = (region.lower(), region.upper());
    let inside = |step: &[f64]| -> Vec<f64> {
        // A little inside, so that rounding cannot leave the ball.
        let length = match norm {
            Norm::Linf => step.iter().fold(0.0, |m: f64, s| m.max(s.abs())),
            Norm::L2 => step.iter().map(|s| s * s).sum::<f64>().sqrt(),
            Norm::L1 => step.iter().map(|s| s.abs()).sum(),
        };
        let scale = if length > 0.0 { radius * (1.0 - 1e-12) / length } else { 0.0 };
        (0..step.len()).map(|i| (center[i] + scale * step[i]).clamp(lower[i], upper[i])).collect()
    };
    let mut points = vec![center.to_vec()];
    for row in spec.chunks_exact(graph.output_len()) {
        let (_, gradient) = graph.value_and_vjp(center, 1, row, &Cancel::new()).unwrap();
        let signs: Vec<f64> = gradient.iter().map(|g| -g.signum()).collect();
        points.push(inside(&signs));
        points.push(inside(&gradient.iter().map(|g| -g).collect::<Vec<f64>>()));
        let steepest = (0..gradient.len())
            .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
            .unwrap();
        let mut axis = vec![0.0; gradient.len()];
        axis[steepest] = -gradient[steepest].signum();
        points.push(inside(&axis));
        // Projected gradient descent from there.
        let mut x = points[points.len() - 2].clone();
        for _ in 0..5 {
            let (_, gradient) = graph.value_and_vjp(&x, 1, row, &Cancel::new()).unwrap();
            let step: Vec<f64> = (0..x.len())
                .map(|i| (x[i] - center[i]) - 0.4 * radius * gradient[i].signum())
                .collect();
            x = inside(&step);
            points.push(x.clone());
        }
    }
    for _ in 0..20 {
        let random: Vec<f64> = (0..center.len()).map(|_| numbers.next()).collect();
        points.push(inside(&random));
        points.push(inside(&random.iter().map(|r| r.signum()).collect::<Vec<f64>>()));
    }
    points
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_point_is_below_a_plane(
        seed: u64,
        nodes in 0usize..16,
        radius in prop_oneof![Just(0.0), 1e-6..1e-3f64, 0.01..0.3f64, 0.5..3.0f64],
    ) {
        let graph = graph(seed, nodes);
        let center = random_input(seed, &graph, 1);
        let mut numbers = Numbers(seed);
        let lower: Vec<f64> = center.iter().map(|c| c - radius).collect();
        let upper: Vec<f64> = center.iter().map(|c| c + radius).collect();
        let region = Region::cuboid(&lower, &upper).unwrap();
        let spec = [1.0, -1.0, 0.0, 0.3, 0.0, -2.0, -1.0, 1.0, 1.0];
        let options = Options { method: Method::Crown, memory_limit: None };
        let planes =
            margin_planes(&graph, vec![region.clone()], &spec, options, &Cancel::new()).unwrap();
        for (&a, &b) in planes.bounds.iter().zip(&bounds(&graph, &region, &spec, Method::Crown)) {
            prop_assert!((a - b).abs() <= 1e-12 * a.abs().max(1.0), "{} is not {}", a, b);
        }
        let radius = 4.0 * radius + 1.0;
        for x in points(&graph, &region, &center, radius, Norm::Linf, &spec, &mut numbers) {
            let rows = spec.chunks_exact(3).zip(planes.coefficients.chunks_exact(x.len()));
            for ((row, plane), &constant) in rows.zip(&planes.constants) {
                let value = value_above(&graph, &x, row);
                let below = plane
                    .iter()
                    .zip(&x)
                    .fold(constant, |sum, (&a, &x)| add_down(sum, mul_down(a, x)));
                prop_assert!(below <= value, "{} > {}", below, value);
            }
        }
    }

    #[test]
    fn no_point_is_below_a_bound(
        seed: u64,
        nodes in 0usize..16,
        norm in prop_oneof![Just(Norm::Linf), Just(Norm::L2), Just(Norm::L1)],
        radius in prop_oneof![Just(0.0), 1e-6..1e-3f64, 0.01..0.3f64, 0.5..3.0f64],
    ) {
        let graph = graph(seed, nodes);
        let center = random_input(seed, &graph, 1);
        let mut numbers = Numbers(seed);
        let lower: Vec<f64> = center.iter().map(|c| c - 0.4 * (1.0 + numbers.next())).collect();
        let upper: Vec<f64> = center.iter().map(|c| c + 0.4 * (1.0 + numbers.next())).collect();
        let region = Region::ball(&lower, &upper, &center, radius, norm).unwrap();
        let spec = [1.0, -1.0, 0.0, 0.3, 0.0, -2.0, -1.0, 1.0, 1.0];
        let found = METHODS.map(|method| bounds(&graph, &region, &spec, method));
        let [ibp, crown_ibp, crown, alpha] = &found;
        for row in 0..3 {
            prop_assert!(ibp[row].is_finite());
            // CROWN's own way back through tighter intermediate bounds may be looser by chance,
            // since lower slopes jump; all others are never looser than what they start from.
            prop_assert!(crown_ibp[row] >= ibp[row] && crown[row] >= ibp[row]);
            prop_assert!(alpha[row] >= crown[row]);
        }
        for x in points(&graph, &region, &center, radius, norm, &spec, &mut numbers) {
            for (row, spec) in spec.chunks_exact(3).enumerate() {
                let value = value_above(&graph, &x, spec);
                for found in &found {
                    prop_assert!(value >= found[row], "{} < {}", value, found[row]);
                }
            }
        }
    }

    /// The bound of a single point is its value, up to rounding, unless rounding alone can turn a
    /// sign.
    #[test]
    fn a_point_has_tight_bounds(seed: u64, nodes in 0usize..16) {
        let graph = graph(seed, nodes);
        let x = random_input(seed, &graph, 1);
        prop_assume!(!a_sign_is_open(&graph, &x));
        let region = Region::cuboid(&x, &x).unwrap();
        let spec = [1.0, -1.0, 0.0];
        let value = value_above(&graph, &x, &spec);
        for method in METHODS {
            let bound = bounds(&graph, &region, &spec, method)[0];
            prop_assert!(bound <= value && value - bound < 1e-9 * (1.0 + value.abs()), "{} {}", bound, value);
        }
    }

    /// Neither other samples, nor memory, nor threads change a bit.
    #[test]
    fn bounds_do_not_depend_on_how_they_are_computed(seed: u64, nodes in 0usize..16) {
        let graph = graph(seed, nodes);
        let batch = 3;
        let (x, len) = (random_input(seed, &graph, batch), graph.input_len());
        let regions: Vec<Region> = (0..batch)
            .map(|sample| {
                let center = &x[sample * len..(sample + 1) * len];
                let (low, high) = (vec![-9.0; len], vec![9.0; len]);
                Region::ball(&low, &high, center, 0.3, Norm::L2).unwrap()
            })
            .collect();
        let spec = [1.0, -1.0, 0.5].repeat(2 * batch);
        for method in [Method::Crown, ALPHA] {
        let run = |limit: Option<usize>, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let options = Options { method, memory_limit: limit };
            pool.install(|| {
                margin_bounds(&graph, regions.clone(), &spec, options, &Cancel::new()).unwrap()
            })
        };
        let whole = run(None, 3);
        prop_assert_eq!(&run(Some(1), 1), &whole);
        prop_assert_eq!(&run(Some(10_000), 2), &whole);
        for (sample, region) in regions.iter().enumerate() {
            let alone = bounds(&graph, region, &spec[..6], method);
            prop_assert_eq!(&alone[..], &whole[2 * sample..2 * sample + 2]);
        }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Intervals are computed for several samples at a time.
    #[test]
    fn a_sample_has_the_same_interval_bounds_in_any_batch(seed: u64, nodes in 0usize..16) {
        let graph = graph(seed, nodes);
        let mut numbers = Numbers(seed);
        let (count, len) = (2 * Graph::TOGETHER + 1, graph.input_len());
        let centers = random_input(seed, &graph, count);
        let regions: Vec<Region> = centers
            .chunks_exact(len)
            .map(|center| {
                let radius = 0.5 + 0.5 * numbers.next();
                let corner = |side: f64| Vec::from_iter(center.iter().map(|c| c + side * radius));
                Region::cuboid(&corner(-1.0), &corner(1.0)).unwrap()
            })
            .collect();
        let spec: Vec<f64> = (0..count * 2 * graph.output_len()).map(|_| numbers.next()).collect();
        let options = Options { method: Method::Ibp, memory_limit: None };
        let all = margin_bounds(&graph, regions.clone(), &spec, options, &Cancel::new()).unwrap();
        for (sample, region) in regions.iter().enumerate() {
            let rows = &spec[sample * 2 * graph.output_len()..][..2 * graph.output_len()];
            let alone = bounds(&graph, region, rows, Method::Ibp);
            prop_assert_eq!(&all[2 * sample..2 * sample + 2], &alone[..]);
        }
    }
}
