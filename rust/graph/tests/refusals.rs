//! Hostile and malformed descriptions: one clear line each, never a panic, nothing allocated
//! that was not checked.

use aisec_graph::testing::{random_input, random_spec};
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Builds a graph of an input of `shape` and one more node; gives the refusal.
fn refusal(shape: Value, op: &str, attrs: Value, tensors: &[(&str, &[usize])]) -> String {
    let roles: serde_json::Map<String, Value> =
        tensors.iter().enumerate().map(|(i, (role, _))| ((*role).to_owned(), json!(i))).collect();
    let spec = json!({"nodes": [
        {"name": "x", "op": "input", "attrs": {"shape": shape}},
        {"name": "bad", "op": op, "inputs": [0], "tensors": roles, "attrs": attrs},
    ], "output": 1});
    let tensors = tensors
        .iter()
        .map(|(_, shape)| {
            let count = shape.iter().product();
            Tensor::new(shape.to_vec(), vec![0.5; count]).unwrap()
        })
        .collect();
    build(&spec.to_string(), tensors).expect_err("it must be refused")
}

fn build(spec: &str, tensors: Vec<Tensor>) -> Result<Graph, String> {
    GraphSpec::from_json(spec)
        .and_then(|spec| Graph::new(spec, tensors))
        .map_err(|error| error.to_string())
}

fn conv(stride: [i64; 2], padding: [i64; 4], dilation: [i64; 2], groups: i64) -> Value {
    json!({"stride": stride, "padding": padding, "dilation": dilation, "groups": groups})
}

fn pool(kernel: [i64; 2], stride: [i64; 2], padding: [i64; 4]) -> Value {
    json!({"kernel": kernel, "stride": stride, "padding": padding, "count_include_pad": true})
}

#[test]
fn each_refusal_names_the_node_and_the_reason() {
    let image = json!([2, 4, 4]);
    let weights =
        |shape: &'static [usize], out: &'static [usize]| [("weight", shape), ("bias", out)];
    let none: &[(&str, &[usize])] = &[];
    let ones = [1, 1];
    let cases: Vec<(String, &str)> = vec![
        (refusal(json!([0]), "relu", json!({}), none), "axis 0 of shape [0] is empty"),
        (refusal(json!([-3]), "relu", json!({}), none), "invalid value: integer `-3`"),
        (refusal(json!([10_000_000_000_000u64]), "relu", json!({}), none), "has more than"),
        (refusal(json!([u64::MAX, u64::MAX]), "relu", json!({}), none), "has more than"),
        (refusal(json!(vec![1; 40]), "relu", json!({}), none), "40 axes"),
        (refusal(json!([3]), "mish", json!({}), none), "operator mish is not supported"),
        (refusal(json!([3]), "relu", json!({"slope": 1}), none), "unknown field `slope`"),
        (refusal(json!([3]), "leaky_relu", json!({}), none), "missing field `slope`"),
        (refusal(json!([3]), "leaky_relu", json!({"slope": 1e300}), none), "not finite in float32"),
        (refusal(json!([3]), "relu", json!({}), &[("weight", &[3])]), "tensor `weight` is not one"),
        (refusal(json!([3]), "affine", json!({}), none), "tensor `weight` is missing"),
        (refusal(json!([3]), "affine", json!({}), &weights(&[2, 4], &[2])), "last axis must be 4"),
        (refusal(json!([3]), "affine", json!({}), &weights(&[2, 3], &[5])), "expected [out, in]"),
        (refusal(json!([3]), "affine", json!({}), &weights(&[6], &[2])), "expected [out, in]"),
        (refusal(json!([]), "affine", json!({}), &weights(&[2, 3], &[2])), "last axis must be 3"),
        (refusal(json!([3]), "affine", json!({}), &weights(&[0, 3], &[0])), "axis 0 is empty"),
        (
            refusal(
                json!([3]),
                "conv2d",
                conv(ones, [0; 4], ones, 1),
                &weights(&[2, 3, 1, 1], &[2]),
            ),
            "must be [C, H, W]",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv(ones, [0; 4], ones, 1),
                &weights(&[2, 3, 1, 1], &[2]),
            ),
            "must have 3 channels, got 2",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv(ones, [0; 4], ones, 3),
                &weights(&[4, 1, 1, 1], &[4]),
            ),
            "divide 4 output channels",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv(ones, [0; 4], ones, 0),
                &weights(&[4, 2, 1, 1], &[4]),
            ),
            "groups 0",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv(ones, [0; 4], ones, 1),
                &weights(&[1, 2, 5, 5], &[1]),
            ),
            "kernel spans 5 positions, the padded input has 4",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv([0, 1], [0; 4], ones, 1),
                &weights(&[1, 2, 1, 1], &[1]),
            ),
            "stride [0, 1]: every entry must be >= 1",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv(ones, [-1, 0, 0, 0], ones, 1),
                &weights(&[1, 2, 1, 1], &[1]),
            ),
            "invalid value: integer `-1`",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv(ones, [i64::MAX; 4], ones, 1),
                &weights(&[1, 2, 1, 1], &[1]),
            ),
            "too large",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv(ones, [0; 4], [i64::MAX, 1], 1),
                &weights(&[1, 2, 3, 3], &[1]),
            ),
            "too large",
        ),
        (
            refusal(
                image.clone(),
                "conv2d",
                conv(ones, [1 << 18; 4], ones, 1),
                &weights(&[1, 2, 1, 1], &[1]),
            ),
            "has more than",
        ),
        (
            refusal(image.clone(), "avg_pool2d", pool([5, 5], ones, [0; 4]), none),
            "kernel spans 5 positions",
        ),
        (
            refusal(image.clone(), "avg_pool2d", pool([2, 2], ones, [2, 0, 0, 0]), none),
            "lies wholly in the padding",
        ),
        (refusal(image.clone(), "avg_pool2d", pool([0, 2], ones, [0; 4]), none), "kernel [0, 2]"),
        (refusal(image.clone(), "max_pool2d", pool([2, 2], ones, [0; 4]), none), "unknown field"),
        (refusal(image.clone(), "reshape", json!({"shape": [31]}), none), "different sizes"),
        (refusal(image.clone(), "reshape", json!({"shape": [-1]}), none), "integer `-1`"),
        (refusal(image.clone(), "reshape", json!({"shape": [u64::MAX, 2]}), none), "has more than"),
        (refusal(image.clone(), "transpose", json!({"perm": [0, 0, 1]}), none), "does not permute"),
        (refusal(image.clone(), "transpose", json!({"perm": [0, 1]}), none), "does not permute"),
        (refusal(image.clone(), "transpose", json!({"perm": [0, 1, 9]}), none), "does not permute"),
        (
            refusal(
                image.clone(),
                "pad",
                json!({"before": [0, 1], "after": [0, 1], "value": 0}),
                none,
            ),
            "need 3 entries",
        ),
        (
            refusal(
                json!([4]),
                "pad",
                json!({"before": [u64::MAX], "after": [9], "value": 0}),
                none,
            ),
            "has more than",
        ),
        (
            refusal(json!([4]), "pad", json!({"before": [0], "after": [1], "value": 1e39}), none),
            "not finite in float32",
        ),
        (refusal(image.clone(), "concat", json!({"axis": 3}), none), "axis 3 is out of range"),
        (
            refusal(json!([4]), "slice", json!({"starts": [0], "counts": [2], "steps": [0]}), none),
            "2 element(s) from 0 by 0",
        ),
        (
            refusal(json!([4]), "slice", json!({"starts": [0], "counts": [0], "steps": [1]}), none),
            "empty or out of range",
        ),
        (
            refusal(
                json!([4]),
                "slice",
                json!({"starts": [1], "counts": [3], "steps": [-1]}),
                none,
            ),
            "empty or out of range",
        ),
        (
            refusal(
                json!([4]),
                "slice",
                json!({"starts": [3], "counts": [u64::MAX], "steps": [i64::MAX]}),
                none,
            ),
            "empty or out of range",
        ),
        (
            refusal(json!([4]), "slice", json!({"starts": [], "counts": [], "steps": []}), none),
            "need 1",
        ),
        (refusal(json!([3]), "add", json!({}), none), "takes 2 input(s), got 1"),
        (refusal(json!([3]), "constant", json!({}), &[("value", &[3])]), "takes 0 input(s), got 1"),
        (refusal(json!([3]), "add_const", json!({}), &[("value", &[2])]), "does not broadcast"),
        (refusal(json!([3]), "mul_const", json!({}), &[("value", &[1, 3])]), "does not broadcast"),
        (refusal(json!([3]), "input", json!({"shape": [3]}), none), "node 0, and no other"),
    ];
    for (message, reason) in cases {
        assert!(message.contains(reason), "{message:?} does not say {reason:?}");
        assert!(message.starts_with("node "), "{message:?} does not name the node");
        assert!(!message.contains('\n') && message.len() < 500, "{message:?} is not one line");
    }
}

#[test]
fn malformed_descriptions_say_what_is_wrong() {
    let node = |body: &str| format!("{{\"nodes\": [{body}], \"output\": 0}}");
    let input = r#"{"name": "x", "op": "input", "attrs": {"shape": [2]}}"#;
    for (spec, reason) in [
        (String::new(), "EOF"),
        (
            node(&format!(
                r#"{{"name": "x", "op": "input", "attrs": {{"shape": {}"#,
                "[".repeat(99_999)
            )),
            "recursion limit",
        ),
        (node(""), "there are no nodes"),
        (node(r#"{"name": "x", "op": "relu"}"#), "must be `input`"),
        (node(r#"{"name": "x", "op": "input", "hidden": 1}"#), "unknown field `hidden`"),
        (node(r#"{"name": "x"}"#), "missing field `op`"),
        (node(r#"{"name": "x", "op": "input", "inputs": [-1]}"#), "integer `-1`"),
        (node(r#"{"name": "x", "op": "input", "inputs": [0.5]}"#), "floating point `0.5`"),
        (format!(r#"{{"nodes": [{input}], "output": 1}}"#), "output 1 is not a node"),
        (format!(r#"{{"nodes": [{input}], "output": 0, "seed": 1}}"#), "unknown field `seed`"),
        (format!(r#"{{"nodes": [{input}]}}"#), "missing field `output`"),
        (
            node(&format!(r#"{input}, {{"name": "loop", "op": "relu", "inputs": [1]}}"#)),
            "input 1 is not one of the",
        ),
        (
            node(&format!(
                r#"{input}, {{"name": "y", "op": "relu", "inputs": [18446744073709551615]}}"#
            )),
            "is not one of the",
        ),
        (
            node(&format!(
                r#"{input}, {{"name": "c", "op": "constant", "tensors": {{"value": 7}}}}"#
            )),
            "tensor `value` is number 7, only 0 were given",
        ),
    ] {
        let message = build(&spec, vec![]).expect_err("it must be refused");
        assert!(message.contains(reason), "{message:?} does not say {reason:?}");
        assert!(!message.contains('\n') && message.len() < 500, "{message:?} is not one line");
    }
}

#[test]
fn non_finite_and_zero_constants_are_refused_by_name() {
    let spec = |op: &str| {
        json!({"nodes": [
            {"name": "x", "op": "input", "attrs": {"shape": [2]}},
            {"name": "bad", "op": op, "inputs": [0], "tensors": {"value": 0}},
        ], "output": 1})
        .to_string()
    };
    for value in [f64::NAN, f64::INFINITY, -1e300] {
        let tensor = Tensor::new(vec![2], vec![1.0, value]).unwrap();
        let message = build(&spec("add_const"), vec![tensor]).unwrap_err();
        assert!(message.contains("node 1 (bad): tensor `value` has"), "{message}");
        assert!(message.contains("at flat index 1"), "{message}");
    }
    for value in [0.0, -0.0, 1e-60] {
        let tensor = Tensor::new(vec![2], vec![1.0, value]).unwrap();
        let message = build(&spec("div_const"), vec![tensor]).unwrap_err();
        assert!(message.contains("cannot divide by it"), "{message}");
    }
}

#[test]
fn names_from_strangers_stay_on_one_line() {
    let name = "evil\n\u{1b}[31m".repeat(1000);
    let spec =
        json!({"nodes": [{"name": name, "op": "input", "attrs": {"shape": [0]}}], "output": 0});
    let message = build(&spec.to_string(), vec![]).unwrap_err();
    assert!(!message.chars().any(char::is_control) && message.len() < 1000, "{message:?}");
}

#[test]
fn the_sum_over_all_nodes_is_bounded_too() {
    let mut nodes = vec![json!({"name": "x", "op": "input", "attrs": {"shape": [1 << 27]}})];
    for index in 0..3 {
        nodes.push(json!({"name": "r", "op": "relu", "inputs": [index]}));
    }
    let spec = json!({"nodes": nodes, "output": 3});
    let message = build(&spec.to_string(), vec![]).unwrap_err();
    assert!(message.contains("node 2 (r): nodes up to here have more than"), "{message}");
}

#[test]
fn one_tensor_cannot_be_multiplied_into_many() {
    let mut nodes = vec![json!({"name": "x", "op": "input", "attrs": {"shape": [1, 512]}})];
    for index in 0..1100 {
        let tensors = json!({"weight": 0, "bias": 1});
        nodes.push(json!({"name": "fc", "op": "affine", "inputs": [index], "tensors": tensors}));
    }
    let spec = json!({"nodes": nodes, "output": 1}).to_string();
    let weight = Tensor::new(vec![512, 512], vec![0.1; 512 * 512]).unwrap();
    let bias = Tensor::new(vec![512], vec![0.0; 512]).unwrap();
    let message = build(&spec, vec![weight, bias]).unwrap_err();
    assert!(message.contains("(fc): tensor `weight` is used again"), "{message}");
}

#[test]
fn joining_has_a_limit() {
    let nodes = [
        json!({"name": "x", "op": "input", "attrs": {"shape": [1]}}),
        json!({"name": "all", "op": "concat", "inputs": vec![0; 1025], "attrs": {"axis": 0}}),
    ];
    let message = build(&json!({"nodes": nodes, "output": 1}).to_string(), vec![]).unwrap_err();
    assert!(message.contains("takes 1 to 1024 input(s), got 1025"), "{message}");
}

#[test]
fn digests_ignore_the_numbering_of_tensors() {
    let digest = |first: usize, values: [f64; 2]| {
        let add = |input: usize, tensor: usize| json!({"name": "a", "op": "add_const", "inputs": [input], "tensors": {"value": tensor}});
        let input = json!({"name": "x", "op": "input", "attrs": {"shape": [1]}});
        let nodes = [input, add(0, first), add(1, 1 - first)];
        let tensors = values.map(|value| Tensor::new(vec![1], vec![value]).unwrap());
        let spec = json!({"nodes": nodes, "output": 2}).to_string();
        build(&spec, tensors.into()).unwrap().digest().to_owned()
    };
    assert_eq!(digest(0, [1.0, 2.0]), digest(1, [2.0, 1.0]));
    assert_ne!(digest(0, [1.0, 2.0]), digest(0, [2.0, 1.0]));
}

#[test]
fn digests_tell_computations_apart_and_ignore_names() {
    let digest = |name: &str, slope: Value, bias: f64| {
        let spec = json!({"nodes": [
            {"name": name, "op": "input", "attrs": {"shape": [2]}},
            {"name": "y", "op": "leaky_relu", "inputs": [0], "attrs": {"slope": slope}},
            {"name": "z", "op": "add_const", "inputs": [1], "tensors": {"value": 0}},
        ], "output": 2});
        let tensor = Tensor::new(vec![1], vec![bias]).unwrap();
        build(&spec.to_string(), vec![tensor]).unwrap().digest().to_owned()
    };
    let base = digest("x", json!(1), 0.5);
    assert_eq!(base, digest("other", json!(1.0), 0.5));
    assert_ne!(base, digest("x", json!(1.5), 0.5));
    assert_ne!(base, digest("x", json!(1), 0.5000000000000001));
    assert_eq!(base.len(), 64);
}

/// The places in a JSON document, as paths.
fn places(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    found.push(path.clone());
    let mut inside = |key: String, value: &Value| {
        path.push(key);
        places(value, path, found);
        path.pop();
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| inside(key.clone(), value)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| inside(index.to_string(), value));
        }
        _ => {}
    }
}

fn hostile(choice: usize) -> Value {
    let values = [
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(-1),
        json!(1 << 20),
        json!(1u64 << 31),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e13),
        json!(1e300),
        json!(0.5),
        Value::Null,
        json!(""),
        json!("relu"),
        json!("conv2d"),
        json!([]),
        json!([1, 1]),
        json!([0]),
        json!({}),
        json!([3, 2, 2]),
        json!(true),
    ];
    values[choice % values.len()].clone()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    /// Whatever is done to a valid description, it is accepted and runs, or is refused in one
    /// line.
    #[test]
    fn mutated_descriptions_never_panic(
        seed: u64,
        nodes in 1usize..8,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..100), 1..4),
        shuffle: bool,
    ) {
        let (spec, mut tensors) = random_spec(seed, nodes, 2);
        let mut document = serde_json::to_value(&spec).unwrap();
        for (place, choice) in edits {
            let mut found = Vec::new();
            places(&document, &mut Vec::new(), &mut found);
            let path = &found[place.index(found.len())];
            let pointer: String = path.iter().map(|key| format!("/{key}")).collect();
            let target = document.pointer_mut(&pointer).unwrap();
            match (choice % 5, &mut *target) {
                (0, Value::Array(list)) if !list.is_empty() => {
                    list.remove(choice % list.len());
                }
                (1, Value::Array(list)) if !list.is_empty() => {
                    list.push(list[choice % list.len()].clone());
                }
                (0, Value::Object(map)) => {
                    if let Some(key) = map.keys().nth(choice % map.len().max(1)).cloned() {
                        map.remove(&key);
                    }
                }
                _ => *target = hostile(choice),
            }
        }
        if shuffle {
            tensors.reverse();
        }
        match build(&document.to_string(), tensors) {
            Err(message) => {
                prop_assert!(!message.contains('\n') && message.len() < 1200, "{}", message);
            }
            Ok(graph) => {
                let total: usize = graph.nodes().iter().map(|node| node.len()).sum();
                if total < 100_000 && graph.work() < 10_000_000 {
                    let x = random_input(seed, &graph, 2);
                    let cotangent = vec![1.0; 2 * graph.output_len()];
                    graph.value_and_vjp(&x, 2, &cotangent, &Cancel::new()).unwrap();
                    graph.interval(graph.output(), &x, &x, 2, &Cancel::new()).unwrap();
                }
            }
        }
    }
}
