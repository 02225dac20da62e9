//! Certificates of a few small networks: never a panic, and whatever is accepted is true at
//! every point that is tried.

use std::sync::LazyLock;

use aisec_checker::{Arithmetic, Norm, ProvenCase, check_certificate};
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;

/// Rational numbers grow without end: only short certificates are checked in them.
const SHORT: usize = 4096;

pub fn run(data: &[u8]) {
    let digest = |graph: &&Graph| {
        let digest = graph.digest().as_bytes();
        data.windows(digest.len()).any(|part| part == digest)
    };
    let graph = GRAPHS.iter().find(digest).unwrap_or(&GRAPHS[0]);
    let few = data.len() <= SHORT;
    for arithmetic in [Arithmetic::Float, Arithmetic::Exact].into_iter().take(1 + usize::from(few))
    {
        match check_certificate(graph, data, arithmetic, &Cancel::new()) {
            Err(refusal) => {
                let line = refusal.to_string();
                assert!(!line.contains(|c: char| c.is_control()) && line.len() < 1000, "{line:?}");
            }
            Ok(proven) => proven.cases.iter().for_each(|case| holds(graph, case)),
        }
    }
}

/// Panics if a point of the region has outputs that meet a clause.
pub fn holds(graph: &Graph, case: &ProvenCase) {
    let n = graph.input_len();
    let middle: Vec<f64> = (0..n).map(|i| 0.5 * case.lower[i] + 0.5 * case.upper[i]).collect();
    let mut points = vec![middle];
    let mut state = 1u64;
    for number in 0..48u32 {
        let mut share = |i: usize| match number {
            0..16 => f64::from(number >> (i % 4) & 1),
            _ => {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 11) as f64 / (1u64 << 53) as f64
            }
        };
        let point = (0..n).map(|i| {
            let part = share(i);
            (case.lower[i] * (1.0 - part) + case.upper[i] * part)
                .clamp(case.lower[i], case.upper[i])
        });
        points.push(point.collect());
    }
    for mut x in points {
        if let Some(ball) = &case.ball {
            let steps: Vec<f64> = x.iter().zip(&ball.center).map(|(x, c)| x - c).collect();
            let length = match ball.norm {
                Norm::L1 => steps.iter().map(|d| d.abs()).sum::<f64>(),
                Norm::L2 => steps.iter().map(|d| d * d).sum::<f64>().sqrt(),
            };
            let scale = (ball.radius * (1.0 - 1e-9) / length).min(1.0);
            if !length.is_finite() || !scale.is_finite() {
                continue;
            }
            x = ball.center.iter().zip(&steps).map(|(c, d)| c + scale * d).collect();
        }
        let inside = (0..n).all(|i| case.lower[i] <= x[i] && x[i] <= case.upper[i]);
        if !inside {
            continue;
        }
        let found = graph.interval(graph.output(), &x, &x, 1, &Cancel::new());
        let (low, high) = found.expect("points are boxes");
        for (rows, rhs) in &case.clauses {
            let met = rows.chunks_exact(low.len()).zip(rhs).all(|(row, rhs)| {
                let terms = row.iter().zip(low.iter().zip(&high));
                let most: f64 = terms.clone().map(|(a, (l, u))| (a * l).max(a * u)).sum();
                let size: f64 = terms.map(|(a, (l, u))| a.abs() * l.abs().max(u.abs())).sum();
                most + 1e-12 * size < *rhs
            });
            assert!(!met || rhs.is_empty(), "accepted, but {x:?} meets {rows:?} <= {rhs:?}");
        }
    }
}

/// The networks that certificates may speak of.
pub static GRAPHS: LazyLock<Vec<Graph>> = LazyLock::new(|| {
    let affine = |input: usize, at: usize| {
        format!(
            r#"{{"name":"z","op":"affine","inputs":[{input}],"tensors":{{"weight":{at},"bias":{}}}}}"#,
            at + 1
        )
    };
    let on =
        |op: &str, inputs: &[usize]| format!(r#"{{"name":"a","op":"{op}","inputs":{inputs:?}}}"#);
    let input = |shape: &str| format!(r#"{{"name":"x","op":"input","attrs":{{"shape":{shape}}}}}"#);
    let layered = vec![
        input("[2]"),
        affine(0, 0),
        on("relu", &[1]),
        affine(2, 2),
        on("relu", &[3]),
        affine(4, 4),
    ];
    let smooth = vec![
        input("[2]"),
        affine(0, 0),
        on("tanh", &[1]),
        on("sigmoid", &[1]),
        on("add", &[2, 3]),
        affine(4, 2),
    ];
    let pooled = vec![
        input("[1,3,3]"),
        r#"{"name":"c","op":"conv2d","inputs":[0],"tensors":{"weight":0,"bias":1},"attrs":{"stride":[1,1],"padding":[0,0,0,0],"dilation":[1,1],"groups":1}}"#.to_owned(),
        r#"{"name":"a","op":"leaky_relu","inputs":[1],"attrs":{"slope":0.25}}"#.to_owned(),
        r#"{"name":"p","op":"max_pool2d","inputs":[2],"attrs":{"kernel":[2,1],"stride":[1,1],"padding":[0,0,0,0],"dilation":[1,1]}}"#.to_owned(),
        r#"{"name":"f","op":"reshape","inputs":[3],"attrs":{"shape":[4]}}"#.to_owned(),
        affine(4, 2),
    ];
    vec![
        build(&layered, &[&[4, 2], &[4], &[3, 4], &[3], &[2, 3], &[2]]),
        build(&smooth, &[&[3, 2], &[3], &[2, 3], &[2]]),
        build(&pooled, &[&[2, 1, 2, 2], &[2], &[2, 4], &[2]]),
    ]
});

/// Constants are sixteenths, from a small generator.
fn build(nodes: &[String], shapes: &[&[usize]]) -> Graph {
    let mut state = 5u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 59) as f64 / 16.0 - 1.0
    };
    let tensors = shapes.iter().map(|shape| {
        let values = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::new(shape.to_vec(), values).expect("sizes fit")
    });
    let spec = format!(r#"{{"nodes":[{}],"output":{}}}"#, nodes.join(","), nodes.len() - 1);
    Graph::new(GraphSpec::from_json(&spec).expect("it is JSON"), tensors.collect())
        .expect("it is a graph")
}
