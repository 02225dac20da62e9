//! What the checker must not accept: a proof changed in one place, and text that is none.

mod support;

use aisec_bounds::{Norm, hex};
use aisec_checker::Refusal;
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;
use serde_json::{Value, json};
use support::{Place, certificate, check, check_exactly, list};

/// `y = relu(x1 + x2) + relu(x1 - x2) + relu(x2) + relu(3 - x2)`, small enough to reason about.
fn wedge() -> Graph {
    let spec = r#"{"nodes": [
        {"name": "x", "op": "input", "attrs": {"shape": [2]}},
        {"name": "z", "op": "affine", "inputs": [0], "tensors": {"weight": 0, "bias": 1}},
        {"name": "a", "op": "relu", "inputs": [1]},
        {"name": "y", "op": "affine", "inputs": [2], "tensors": {"weight": 2, "bias": 3}}
    ], "output": 3}"#;
    let tensors = [
        (vec![4, 2], vec![1.0, 1.0, 1.0, -1.0, 0.0, 1.0, 0.0, -1.0]),
        (vec![4], vec![0.0, 0.0, 0.0, 3.0]),
        (vec![1, 4], vec![1.0; 4]),
        (vec![1], vec![0.0]),
    ];
    let tensors = tensors.into_iter().map(|(shape, x)| Tensor::new(shape, x).unwrap()).collect();
    Graph::new(GraphSpec::from_json(spec).unwrap(), tensors).unwrap()
}

/// That `y > 3.4` over a box where it is at least 3.5.
///
/// The usual lines give 3.05. By the sign of `x1 + x2` and with slope 1 at `x2` it is `2·x1 + 3`
/// on both sides; where `x1 + x2 <= 0` the multiplier adds what is missing of that.
fn wedge_certificate() -> Value {
    let place = Place {
        lower: vec![0.25, -1.0],
        upper: vec![0.5, 0.2],
        center: vec![],
        radius: 0.0,
        norm: Norm::Linf,
    };
    let leaf = |beta: f64| {
        format!(
            "{{\"leaf\":[{{\"clause\":0,\"weights\":[\"0x1p+0\"],\"betas\":[\"{}\"],\"slopes\":[{{\"node\":2,\"at\":[2],\"lower\":[\"0x1p+0\"]}}],\"bound\":\"{}\"}}]}}",
            hex(beta),
            hex(0.1 - 1e-9)
        )
    };
    let weaker = |values: [f64; 4], by: f64| list(&values.map(|x| x + by));
    let claims = format!(
        "{{\"node\":1,\"lower\":{},\"upper\":{}}}",
        weaker([-0.75, 0.05, -1.0, 2.8], -1e-9),
        weaker([0.7, 1.5, 0.2, 4.0], 1e-9)
    );
    let proof = format!(
        "[{{\"bounds\":{{\"rule\":\"crown\",\"claims\":[{claims}]}}}},{{\"split\":[1,0,\"0x0p+0\"]}},{},{}]",
        leaf(1.0),
        leaf(0.0)
    );
    let text = certificate(&wedge(), &place, &[(vec![vec![1.0]], vec![3.4])], &proof);
    serde_json::from_str(&text).unwrap()
}

fn refused(certificate: &Value) -> String {
    let (graph, text) = (wedge(), certificate.to_string());
    let exact = check_exactly(&graph, &text).expect_err("exact arithmetic accepts it").to_string();
    let plain = check(&graph, &text).expect_err("the mutation is accepted").to_string();
    assert!(!plain.contains('\n') && !exact.contains('\n'));
    plain
}

#[test]
fn a_proof_by_splits_is_accepted() {
    let text = wedge_certificate().to_string();
    let proven = check(&wedge(), &text).unwrap();
    assert_eq!(proven, check_exactly(&wedge(), &text).unwrap());
    assert_eq!((proven.cases[0].leaves, proven.cases.len()), (2, 1));
    assert_eq!(proven.cases[0].clauses, [(vec![1.0], vec![3.4])]);
    assert!(proven.cases[0].bounds[0] > 0.099);
}

/// Every single change that makes a proof say more, or nothing, is refused.
#[test]
fn mutations_are_refused() {
    let good = wedge_certificate();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        assert_ne!(certificate, good, "the mutation changes nothing");
        refused(&certificate)
    };
    let case = |v: &mut Value, at: &str, to: Value| {
        *v.pointer_mut(&format!("/cases/0/{at}")).unwrap() = to
    };
    let set = |at: &'static str, to: Value| changed(&move |v| case(v, at, to.clone()));
    let h = |x: f64| json!(hex(x));

    // Another model's hash.
    assert!(changed(&|v| v["graph"] = json!("0".repeat(64))).contains("of graph 000"));
    assert!(changed(&|v| v["version"] = json!(1)).contains("version 2"));
    // Slopes out of range.
    for slope in [-1e-6, 1.0 + 1e-6, 2.0, -0.5] {
        assert!(set("proof/2/leaf/0/slopes/0/lower/0", h(slope)).contains("not in [0, 1]"));
    }
    // Slopes, multipliers and splits that leave the bound unproven.
    for (at, to) in [
        ("proof/2/leaf/0/slopes/0/lower/0", h(0.9)),
        ("proof/2/leaf/0/betas/0", h(0.0)),
        ("proof/3/leaf/0/betas/0", h(1.0)),
        ("proof/1/split/2", h(0.25)),
        ("proof/1/split/1", json!(1)),
        // A bound shifted by 1e-6, of leaves and of nodes.
        ("proof/2/leaf/0/bound", h(0.1 + 1e-6 - 1e-9)),
        ("proof/3/leaf/0/bound", h(0.1 + 1e-6 - 1e-9)),
        ("proof/0/bounds/claims/0/lower/0", h(-0.75 + 1e-6)),
        ("proof/0/bounds/claims/0/lower/3", h(2.8 + 1e-6)),
        ("proof/0/bounds/claims/0/upper/0", h(0.7 - 1e-6)),
        ("proof/0/bounds/claims/0/upper/2", h(0.2 - 1e-6)),
        // A stronger claim: a larger region, a larger right-hand side, another row.
        ("region/lower/0", h(0.25 - 1e-6)),
        ("region/lower/1", h(-1.0 - 1e-6)),
        ("region/upper/1", h(0.2 + 1e-6)),
        ("clauses/0/rhs/0", h(3.4 + 1e-6)),
        ("clauses/0/rows/0/0", h(1.0 - 1e-5)),
    ] {
        let why = set(at, to);
        assert!(why.contains("claimed") && why.contains("proven"), "{at}: {why}");
    }
    // Bounds that refute nothing, whatever is proven.
    for bound in [0.0, -0.0, -1.0] {
        assert!(set("proof/2/leaf/0/bound", h(bound)).contains("refutes nothing"));
    }
    // Negative weights and multipliers.
    assert!(set("proof/2/leaf/0/weights/0", h(-1.0)).contains("none negative"));
    assert!(set("proof/2/leaf/0/betas/0", h(-1e-9)).contains("negative"));
    assert!(set("proof/2/leaf/0/weights/0", h(0.0)).contains("proven"));
    // Leaves dropped, twice, or of nothing.
    assert!(
        changed(&|v| drop(v["cases"][0]["proof"].as_array_mut().unwrap().pop()))
            .contains("ends before")
    );
    assert!(
        changed(&|v| drop(v["cases"][0]["proof"].as_array_mut().unwrap().remove(2)))
            .contains("ends before")
    );
    assert!(changed(&|v| case(v, "proof", json!([]))).contains("ends before"));
    let twice = changed(&|v| {
        let leaves = v["cases"][0]["proof"].as_array_mut().unwrap();
        leaves.push(leaves[2].clone());
    });
    assert!(twice.contains("no part of the proof"));
    assert!(set("proof/3", json!({"leaf": []})).contains("clause 0 is not refuted"));
    assert!(set("proof/3", json!({"apart": [0]})).contains("ends before"));
    // Signs flipped: the leaves change places.
    let swapped = changed(&|v| v["cases"][0]["proof"].as_array_mut().unwrap().swap(2, 3));
    assert!(swapped.contains("claimed"));
    // References to nothing.
    for (at, to, why) in [
        ("proof/1/split/0", json!(4), "no element"),
        ("proof/1/split/1", json!(4), "no element"),
        ("proof/2/leaf/0/clause", json!(1), "no clause 1"),
        ("proof/2/leaf/0/slopes/0/node", json!(1), "slopes do not fit"),
        ("proof/2/leaf/0/slopes/0/node", json!(99), "slopes do not fit"),
        ("proof/2/leaf/0/slopes/0/at/0", json!(4), "slopes do not fit"),
        ("proof/2/leaf/0/slopes/0/upper", json!(["0x0p+0", "0x0p+0"]), "slopes do not fit"),
        ("proof/2/leaf/0/betas", json!(["0x0p+0", "0x0p+0"]), "2 multipliers for 1 splits"),
        ("proof/2/leaf/0/weights", json!([]), "one a row"),
        ("proof/0/bounds/claims/0/node", json!(0), "do not fit"),
        ("proof/0/bounds/claims/0/node", json!(3), "do not fit"),
        ("proof/0/bounds/claims/0/lower", json!([]), "do not fit"),
        ("region/lower", json!(["0x0p+0"]), "corners"),
        ("region/upper/0", h(0.125), "lower exceeds upper"),
        ("clauses/0/rows/0", json!([]), "clause 0"),
        ("clauses/0/rhs", json!([]), "clause 0"),
    ] {
        let found = set2(&good, at, to);
        assert!(found.contains(why), "{at}: {found}");
    }
}

/// Sets a value that may not be there yet.
fn set2(good: &Value, at: &str, to: Value) -> String {
    let mut certificate = good.clone();
    let (parent, key) = at.rsplit_once('/').unwrap();
    let parent = certificate.pointer_mut(&format!("/cases/0/{parent}")).unwrap();
    match parent {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = to,
        other => other[key] = to,
    }
    assert_ne!(&certificate, good);
    refused(&certificate)
}

/// Numbers that are none, keys that are unknown, and types that differ, at every place.
#[test]
fn nothing_but_a_certificate_is_read() {
    fn places(value: &Value, at: String, found: &mut Vec<String>) {
        found.push(at.clone());
        match value {
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(i, item)| places(item, format!("{at}/{i}"), found));
            }
            Value::Object(items) => {
                items.iter().for_each(|(key, item)| places(item, format!("{at}/{key}"), found));
            }
            _ => {}
        }
    }
    let good = wedge_certificate();
    let mut all = Vec::new();
    places(&good, String::new(), &mut all);
    for at in &all {
        let odd = [
            json!("nan"),
            json!("inf"),
            json!("-inf"),
            json!("0x1p+2000"),
            json!(-1),
            json!(1.5),
            json!(true),
            json!({"more": 1}),
            json!([[]]),
            json!("0x1.8"),
            json!(null),
        ];
        for value in odd {
            let mut certificate = good.clone();
            *certificate.pointer_mut(at).unwrap() = value.clone();
            // A region without a ball is one; so it was.
            if certificate != good && check(&wedge(), &certificate.to_string()).is_ok() {
                panic!("{at} = {value} is accepted");
            }
        }
        let mut certificate = good.clone();
        if let Some(object) = certificate.pointer_mut(at).unwrap().as_object_mut() {
            object.insert("more".to_owned(), json!(1));
            let why = check(&wedge(), &certificate.to_string()).unwrap_err();
            assert!(matches!(why, Refusal::Malformed(_)), "{at}: {why}");
        }
    }
    let text = good.to_string();
    for end in (0..text.len()).step_by(7) {
        assert!(matches!(check(&wedge(), &text[..end]), Err(Refusal::Malformed(_))));
    }
    for text in [
        format!("{text} {{}}"),
        text.replacen("\"version\"", "\"version\":2,\"version\"", 1),
        "[".repeat(100_000),
        "{\"format\":".repeat(50_000),
        "\u{0}".to_owned(),
        "{\"format\":\"aisec certificate\",\"version\":2,\"graph\":\"\\u001b[31m\",\"cases\":[]}"
            .to_owned(),
    ] {
        let why = check(&wedge(), &text).unwrap_err().to_string();
        assert!(!why.contains(|c: char| c.is_control()), "{why:?}");
    }
}

/// A chain of splits that never ends is refused before anything is proven.
#[test]
fn deep_trees_are_refused() {
    let mut certificate = wedge_certificate();
    let proof = certificate["cases"][0]["proof"].as_array_mut().unwrap();
    let (split, leaf) = (proof[1].clone(), proof[2].clone());
    proof.truncate(1);
    proof.extend(std::iter::repeat_n(split, 30_000));
    proof.extend(std::iter::repeat_n(leaf, 30_001));
    assert!(refused(&certificate).contains("below the other"));
}

#[test]
fn cancelled_work_is_no_proof() {
    let cancel = Cancel::new();
    cancel.cancel();
    let text = wedge_certificate().to_string();
    let found = aisec_checker::check_certificate(
        &wedge(),
        text.as_bytes(),
        aisec_checker::Arithmetic::Float,
        &cancel,
    );
    assert_eq!(found, Err(Refusal::Cancelled));
}
