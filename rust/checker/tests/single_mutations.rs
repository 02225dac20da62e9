//! Certificates of every kind, changed in one place: refused, whatever the place.

mod support;

use aisec_bounds::{BoxNode, BoxProof, Halves, Method, Norm, hex};
use aisec_graph::Graph;
use aisec_graph::testing::{random_graph, random_input};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Clause, Numbers, Place, certificate, check, layered, plain, random_proof};

const NORMS: [Norm; 3] = [Norm::Linf, Norm::L2, Norm::L1];

/// The places in a certificate whose path ends in one of these names, list items included.
fn places(value: &Value, names: &[&str], at: &str, inside: bool, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                places(item, names, &format!("{at}/{i}"), inside, found);
            }
        }
        Value::Object(items) => {
            for (key, item) in items {
                let named = names.contains(&key.as_str());
                places(item, names, &format!("{at}/{key}"), named, found);
            }
        }
        _ if inside => found.push(at.to_owned()),
        _ => {}
    }
}

fn refused(
    graph: &Graph,
    good: &Value,
    change: impl FnOnce(&mut Value),
) -> Result<(), TestCaseError> {
    let mut changed = good.clone();
    change(&mut changed);
    prop_assert!(&changed != good, "nothing was changed");
    let found = check(graph, &changed.to_string());
    prop_assert!(found.is_err(), "accepted: {}", changed);
    Ok(())
}

/// Changes that no certificate survives: another model, an entry dropped, an entry twice.
fn structure(graph: &Graph, good: &Value, numbers: &mut Numbers) -> Result<(), TestCaseError> {
    refused(graph, good, |v| {
        let mut digest = v["graph"].as_str().unwrap().to_owned().into_bytes();
        let at = numbers.below(digest.len());
        digest[at] = if digest[at] == b'0' { b'1' } else { b'0' };
        v["graph"] = json!(String::from_utf8(digest).unwrap());
    })?;
    let proof = |v: &Value| v["cases"][0]["proof"].as_array().unwrap().clone();
    let entries = proof(good);
    for leaf in (0..entries.len()).filter(|&i| entries[i].get("leaf").is_some()) {
        let mut without = entries.clone();
        without.remove(leaf);
        refused(graph, good, |v| v["cases"][0]["proof"] = json!(without))?;
        let mut twice = entries.clone();
        twice.insert(leaf, entries[leaf].clone());
        refused(graph, good, |v| v["cases"][0]["proof"] = json!(twice))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// Plain certificates say all there is to prove: no more than their bounds, and of no larger
    /// right-hand side.
    #[test]
    fn plain_ones(seed: u64, nodes in 0usize..10, size in 0.001..0.3f64) {
        let graph = random_graph(seed, nodes, 3);
        let mut numbers = Numbers(seed);
        let norm = NORMS[numbers.below(3)];
        let place = Place::new(random_input(seed, &graph, 1), size, norm);
        let rows = vec![vec![1.0, -1.0, 0.0], (0..3).map(|_| numbers.next()).collect()];
        for method in [Method::Ibp, Method::CrownIbp, Method::Crown] {
            let text = plain(&graph, &place, &rows, method);
            let good: Value = serde_json::from_str(&text).unwrap();
            let proven = check(&graph, &text).unwrap();
            structure(&graph, &good, &mut numbers)?;
            let clause = numbers.below(2);
            let bound = proven.cases[0].bounds[clause];
            // Interval arithmetic alone may be claimed where lines prove more.
            if method == Method::Ibp {
                continue;
            }
            let rhs = proven.cases[0].clauses[clause].1[0];
            let more = 1e-6 * (1.0 + rhs.abs() + bound);
            refused(&graph, &good, |v| {
                v["cases"][0]["proof"][1]["leaf"][clause]["bound"] = json!(hex(bound + more));
            })?;
            refused(&graph, &good, |v| {
                v["cases"][0]["clauses"][clause]["rhs"][0] = json!(hex(rhs + more));
            })?;
        }
    }

    /// Proofs by signs: any slope, weight or multiplier out of its range.
    #[test]
    fn those_by_splits(seed: u64, size in 0.05..0.8f64, compact: bool) {
        let mut numbers = Numbers(seed);
        let graph = layered(seed, &[2, 4, 3, 2], "relu");
        let norm = NORMS[numbers.below(3)];
        let place = Place::new(vec![numbers.next(), numbers.next()], size, norm);
        let proof = random_proof(&graph, &place, 2, &mut numbers);
        let entries = proof.write(&graph, &place.region(), 2, compact).unwrap();
        let clause: Clause = (vec![vec![1.0, -1.0]], vec![-1000.0]);
        let text = certificate(&graph, &place, &[clause.clone(), clause], &entries);
        prop_assert_eq!(check(&graph, &text).err(), None);
        let good: Value = serde_json::from_str(&text).unwrap();
        structure(&graph, &good, &mut numbers)?;
        let mut slopes = Vec::new();
        places(&good["cases"][0]["proof"], &["lower", "upper"], "/cases/0/proof", false, &mut slopes);
        // Bounds of nodes have the same names, and are no slopes.
        slopes.retain(|at| at.contains("/slopes/"));
        for at in slopes {
            let outside = if numbers.next() > 0.0 { 1.0 + 1e-9 } else { -1e-9 };
            refused(&graph, &good, |v| *v.pointer_mut(&at).unwrap() = json!(hex(outside)))?;
        }
        let mut signed = Vec::new();
        places(&good["cases"][0]["proof"], &["weights", "betas"], "/cases/0/proof", false, &mut signed);
        for at in signed {
            refused(&graph, &good, |v| *v.pointer_mut(&at).unwrap() = json!(hex(-1e-9)))?;
        }
        let mut bounds = Vec::new();
        places(&good["cases"][0]["proof"], &["bound"], "/cases/0/proof", false, &mut bounds);
        for at in bounds {
            let far = 1e6;
            refused(&graph, &good, |v| *v.pointer_mut(&at).unwrap() = json!(hex(far)))?;
            refused(&graph, &good, |v| *v.pointer_mut(&at).unwrap() = json!(hex(0.0)))?;
        }
    }

    /// Proofs by boxes: a split of nothing, a weight below zero, a claim that some point refutes.
    #[test]
    fn those_by_boxes(seed: u64, size in 0.05..0.5f64) {
        let mut numbers = Numbers(seed);
        let graph = layered(seed, &[2, 4, 3, 2], "relu");
        let place = Place::new(vec![numbers.next(), numbers.next()], size, Norm::Linf);
        let mut nodes = vec![BoxNode::default()];
        let mut at = 0;
        while nodes.len() < 7 {
            let (input, below) = (at % 2, nodes.len());
            let cut = place.center[input] + 0.3 * size * numbers.next();
            nodes[at].halves = Some(Halves { input, at: cut, below, above: below + 1 });
            nodes.extend([BoxNode::default(), BoxNode::default()]);
            at += 1;
        }
        let entries = BoxProof { nodes, by_intervals: false }.write().unwrap();
        let clause: Clause = (vec![vec![1.0, -1.0]], vec![-1000.0]);
        let text = certificate(&graph, &place, &[clause], &entries);
        prop_assert_eq!(check(&graph, &text).err(), None);
        let good: Value = serde_json::from_str(&text).unwrap();
        structure(&graph, &good, &mut numbers)?;
        let splits = good["cases"][0]["proof"].as_array().unwrap();
        for at in (0..splits.len()).filter(|&i| splits[i].get("split").is_some()) {
            for (part, to) in [(0, 99), (1, 2)] {
                refused(&graph, &good, |v| v["cases"][0]["proof"][at]["split"][part] = json!(to))?;
            }
        }
        // Everything meets this one.
        refused(&graph, &good, |v| v["cases"][0]["clauses"][0]["rhs"][0] = json!(hex(1000.0)))?;
        let joint = json!([{"clause": 0, "weights": [hex(-1e-9)]}]);
        refused(&graph, &good, |v| v["cases"][0]["proof"][0]["clip"]["joint"] = joint)?;
    }
}
