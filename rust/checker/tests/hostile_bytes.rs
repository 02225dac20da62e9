//! Bytes of strangers: the seeds of the fuzz targets, replayed and mutated.

mod support;

#[path = "../../../fuzz/src/certificate.rs"]
mod certificate;
#[path = "../../../fuzz/src/constraint.rs"]
mod constraint;
#[path = "../../../fuzz/src/graph.rs"]
mod graph;
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

use std::fs;
use std::path::Path;

use aisec_bounds::{BoxNode, BoxProof, Halves, Joint, Method, Norm};
use aisec_graph::testing::random_spec;
use mutate::replay;
use support::{Clause, Numbers, Place, check, check_exactly, plain, random_proof};

#[test]
fn certificates() {
    replay("certificate", 6000, certificate::run);
}

#[test]
fn constraints() {
    replay("constraint", 20_000, constraint::run);
}

#[test]
fn graphs() {
    replay("graph", 6000, graph::run);
}

/// The seeds are what they were written as: certificates that both arithmetics accept.
#[test]
fn seeds_are_accepted() {
    let mut count = 0;
    for (name, text) in certificates_to_start_from() {
        let stored = fs::read_to_string(folder("certificate").join(&name)).unwrap();
        let graph = |text: &str| {
            certificate::GRAPHS.iter().find(|graph| text.contains(graph.digest())).unwrap()
        };
        for text in [&text, &stored] {
            assert_eq!(check(graph(text), text).err(), None, "{name}");
            if !name.contains("joint") {
                assert_eq!(check_exactly(graph(text), text).err(), None, "{name}");
            }
        }
        count += 1;
    }
    assert_eq!(count, 14);
}

/// Writes the seeds of the targets that are tested here.
#[test]
#[ignore = "writes into fuzz/seeds: run it by hand when formats change"]
fn write_seeds() {
    for (name, text) in certificates_to_start_from() {
        fs::write(folder("certificate").join(name), text).unwrap();
    }
    for seed in 0..24 {
        let (spec, tensors) = random_spec(seed, 1 + seed as usize % 7, 2);
        let mut bytes = serde_json::to_vec(&spec).unwrap();
        bytes.push(0);
        for tensor in tensors {
            bytes.push(tensor.shape().len() as u8);
            bytes.extend(tensor.shape().iter().map(|&n| n as u8));
            bytes.extend(tensor.f32().iter().flat_map(|x| x.to_le_bytes()));
        }
        if bytes.len() < 8000 {
            fs::write(folder("graph").join(format!("random-{seed}")), bytes).unwrap();
        }
    }
    let constraints = [
        r#"{"patch":{"height":2,"width":3}}"#,
        r#"{"frame":{"width":1}}"#,
        r#"{"tabular":{"metric":"l1","limit":2.5,"features":[{"kind":"number","column":0,"integer":true,"down":true,"up":false,"reach":0.5,"weight":1.0},{"kind":"onehot","column":1,"size":3,"weight":2.0}]}}"#,
        r#"{"tabular":{"metric":"l0","limit":2,"features":[{"kind":"number","column":13,"integer":false,"down":true,"up":true,"reach":null,"weight":0.0}]}}"#,
    ];
    for (number, text) in constraints.iter().enumerate() {
        constraint::run(text.as_bytes());
        assert!(aisec_checker::Constraint::parse(text).is_ok(), "{text}");
        fs::write(folder("constraint").join(format!("{number}")), text).unwrap();
    }
}

fn folder(target: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// One of every kind.
fn certificates_to_start_from() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, graph) in certificate::GRAPHS.iter().enumerate() {
        let center = vec![0.25; graph.input_len()];
        for (norm, radius) in [(Norm::Linf, 0.25), (Norm::L2, 0.5), (Norm::L1, 0.75)] {
            let place = Place::new(center.clone(), radius, norm);
            let method = [Method::Crown, Method::CrownIbp, Method::Ibp][at];
            let text = plain(graph, &place, &[vec![1.0, -1.0], vec![0.5, 1.0]], method);
            found.push((format!("plain-{at}-{norm:?}").to_lowercase(), text));
        }
    }
    let graph = &certificate::GRAPHS[0];
    let clause: Clause = (vec![vec![1.0, -1.0]], vec![-40.0]);
    for (name, norm, compact) in
        [("splits", Norm::Linf, false), ("compact", Norm::L2, true), ("ball", Norm::L1, false)]
    {
        let place = Place::new(vec![0.25, -0.25], 0.5, norm);
        let proof = random_proof(graph, &place, 2, &mut Numbers(3));
        let entries = proof.write(graph, &place.region(), 2, compact).unwrap();
        let text = support::certificate(graph, &place, &[clause.clone(), clause.clone()], &entries);
        found.push((name.to_owned(), text));
    }
    let both: Clause = (vec![vec![1.0, -1.0], vec![-1.0, 1.0]], vec![-40.0, 1.0]);
    for joint in [false, true] {
        let mut nodes = vec![BoxNode::default(), BoxNode::default(), BoxNode::default()];
        nodes[0].halves = Some(Halves { input: 1, at: -0.125, below: 1, above: 2 });
        if joint {
            nodes[1].joint = vec![Joint { clause: 0, weights: vec![1.0, 0.5] }];
        }
        let entries = BoxProof { nodes, by_intervals: false }.write().unwrap();
        let place = Place::new(vec![0.25, -0.25], 0.5, Norm::Linf);
        let name = if joint { "joint" } else { "boxes" };
        found.push((
            name.to_owned(),
            support::certificate(graph, &place, std::slice::from_ref(&both), &entries),
        ));
    }
    found
}
