//! Graphs of strangers: a description, a zero byte, tensors. What is accepted runs, and its bounds
//! hold at points.
//!
//! A tensor is its number of axes, its axes, one byte each, and float32 values; those that are
//! missing are zero.

use aisec_bounds::{Method, Options, Region, margin_bounds, plain_proof};
use aisec_checker::{Arithmetic, check_certificate};
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;

/// Larger graphs are only built.
const WORK: usize = 1 << 18;

pub fn run(data: &[u8]) {
    let (text, mut rest) = match data.iter().position(|&byte| byte == 0) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &data[..0]),
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut tensors = Vec::new();
    while let Some(tensor) = tensor(&mut rest) {
        tensors.push(tensor);
    }
    match GraphSpec::from_json(text).and_then(|spec| Graph::new(spec, tensors)) {
        Ok(graph) => works(&graph),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains(|c: char| c.is_control()) && line.len() < 1200, "{line:?}");
        }
    }
}

fn tensor(rest: &mut &[u8]) -> Option<Tensor> {
    let (&axes, tail) = rest.split_first()?;
    let (shape, mut tail) = tail.split_at_checked(usize::from(axes % 5))?;
    let shape: Vec<usize> = shape.iter().map(|&n| usize::from(n)).collect();
    let count = shape.iter().product::<usize>();
    if count > 1 << 16 {
        return None;
    }
    let values = (0..count).map(|_| {
        let Some((bytes, after)) = tail.split_first_chunk() else { return 0.0 };
        tail = after;
        f64::from(f32::from_le_bytes(*bytes))
    });
    let tensor = Tensor::new(shape, values.collect()).ok();
    *rest = tail;
    tensor
}

/// Runs every engine on a graph that is small enough.
fn works(graph: &Graph) {
    let total: usize = graph.nodes().iter().map(|node| node.len()).sum();
    if total > 1 << 12 || graph.work() > WORK {
        return;
    }
    let cancel = &Cancel::new();
    let (n, outputs) = (graph.input_len(), graph.output_len());
    let at = |step: usize| -> Vec<f64> {
        (0..n).map(|i| ((i * 7 + step * 5) % 17) as f64 / 8.0 - 1.0).collect()
    };
    let (lower, upper) = (vec![-1.0; n], vec![1.0; n]);
    let bounds = graph.interval(graph.output(), &lower, &upper, 1, cancel).expect("it runs");
    let rows: Vec<f64> = (0..outputs).map(|i| if i % 2 == 0 { 1.0 } else { -0.5 }).collect();
    let region = || vec![Region::cuboid(&lower, &upper).expect("it is a box")];
    let least: Vec<f64> = [Method::Ibp, Method::CrownIbp, Method::Crown]
        .into_iter()
        .filter_map(|method| {
            let options = Options { method, memory_limit: None };
            margin_bounds(graph, region(), &rows, options, cancel).ok().map(|found| found[0])
        })
        .collect();
    let cotangent = vec![1.0; outputs];
    for step in 0..4 {
        let x = at(step);
        graph.value_and_vjp(&x, 1, &cotangent, cancel).expect("it runs");
        let (low, high) = graph.interval(graph.output(), &x, &x, 1, cancel).expect("it runs");
        for i in 0..outputs {
            let apart = low[i] > bounds.1[i] || high[i] < bounds.0[i];
            assert!(!apart, "{x:?}: output {i} in {}..{}, not {bounds:?}", low[i], high[i]);
        }
        let terms = rows.iter().zip(low.iter().zip(&high));
        let most: f64 = terms.clone().map(|(a, (l, u))| (a * l).max(a * u)).sum();
        let size: f64 = terms.map(|(a, (l, u))| a.abs() * l.abs().max(u.abs())).sum();
        for bound in &least {
            let above = most + 1e-9 * size < *bound;
            assert!(!above, "{x:?}: {most} is below the bound {bound}");
        }
    }
    // The checker's own rules for the operators.
    let hex = |x: f64| format!("\"{}\"", aisec_bounds::hex(x));
    let all = |x: f64| vec![hex(x); n].join(",");
    let row: Vec<String> = rows.iter().map(|&x| hex(x)).collect();
    let text = format!(
        r#"{{"format":"aisec certificate","version":2,"graph":"{}","cases":[{{"region":{{"lower":[{}],"upper":[{}]}},"clauses":[{{"rows":[[{}]],"rhs":["{}"]}}],"proof":{}}}]}}"#,
        graph.digest(),
        all(-1.0),
        all(1.0),
        row.join(","),
        aisec_bounds::hex(-1e300),
        plain_proof(Method::Crown, &[1.0])
    );
    let found = check_certificate(graph, text.as_bytes(), Arithmetic::Float, cancel);
    if let Err(refusal) = found {
        let line = refusal.to_string();
        assert!(!line.contains("not a certificate"), "{line}");
    }
}
