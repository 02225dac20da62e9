//! Certificates of random networks, put together from what the certifier finds.
#![allow(dead_code)] // each test uses some of it

use aisec_bounds::{
    Inside, Leaf, Method, NodeBounds, Norm, Options, Parameters, Part, Proof, Region, RootSlopes,
    Split, USUAL, hex, margin_bounds, plain_proof,
};
use aisec_checker::{Arithmetic, Proven, Refusal, check_certificate};
use aisec_graph::{Graph, GraphSpec, Tensor};
use aisec_numeric::Cancel;

/// A small generator.
pub struct Numbers(pub u64);

impl Numbers {
    /// In [-1, 1).
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() + 1.0) * 0.5 * n as f64) as usize
    }
}

/// A region as a certificate says it: corners, and norm, centre and radius of a ball.
pub struct Place {
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    pub center: Vec<f64>,
    pub radius: f64,
    pub norm: Norm,
}

impl Place {
    pub fn new(center: Vec<f64>, radius: f64, norm: Norm) -> Self {
        let region = Region::ball(
            &vec![-2.0; center.len()],
            &vec![2.0; center.len()],
            &center,
            radius,
            norm,
        );
        let region = region.expect("the region is valid");
        let (lower, upper) = (region.lower().to_vec(), region.upper().to_vec());
        Self { lower, upper, center, radius, norm }
    }

    pub fn region(&self) -> Region {
        match self.norm {
            Norm::Linf => Region::cuboid(&self.lower, &self.upper),
            norm => Region::ball(&self.lower, &self.upper, &self.center, self.radius, norm),
        }
        .expect("the region is valid")
    }

    pub fn text(&self) -> String {
        let ball = match self.norm {
            Norm::Linf => "null".to_owned(),
            norm => format!(
                "{{\"norm\":\"{}\",\"center\":{},\"radius\":\"{}\"}}",
                if norm == Norm::L2 { "l2" } else { "l1" },
                list(&self.center),
                hex(self.radius)
            ),
        };
        format!(
            "{{\"lower\":{},\"upper\":{},\"ball\":{ball}}}",
            list(&self.lower),
            list(&self.upper)
        )
    }
}

pub fn list(values: &[f64]) -> String {
    let items: Vec<String> = values.iter().map(|&x| format!("\"{}\"", hex(x))).collect();
    format!("[{}]", items.join(","))
}

/// Rows and right-hand sides.
pub type Clause = (Vec<Vec<f64>>, Vec<f64>);

pub fn certificate(graph: &Graph, place: &Place, clauses: &[Clause], proof: &str) -> String {
    let clauses: Vec<String> = clauses
        .iter()
        .map(|(rows, rhs)| {
            let rows: Vec<String> = rows.iter().map(|row| list(row)).collect();
            format!("{{\"rows\":[{}],\"rhs\":{}}}", rows.join(","), list(rhs))
        })
        .collect();
    format!(
        "{{\"format\":\"aisec certificate\",\"version\":2,\"graph\":\"{}\",\"cases\":[{{\"region\":{},\"clauses\":[{}],\"proof\":{proof}}}]}}",
        graph.digest(),
        place.text(),
        clauses.join(",")
    )
}

pub fn bounds(graph: &Graph, place: &Place, rows: &[Vec<f64>], method: Method) -> Vec<f64> {
    let options = Options { method, memory_limit: None };
    margin_bounds(graph, vec![place.region()], &rows.concat(), options, &Cancel::new()).unwrap()
}

/// A certificate that each row stays above a little less than its bound.
pub fn plain(graph: &Graph, place: &Place, rows: &[Vec<f64>], method: Method) -> String {
    let bounds = bounds(graph, place, rows, method);
    let rhs: Vec<f64> = bounds.iter().map(|bound| bound - 1e-3 * (1.0 + bound.abs())).collect();
    let slack: Vec<f64> = bounds.iter().zip(&rhs).map(|(b, r)| (b - r).next_down()).collect();
    let clauses: Vec<Clause> =
        rows.iter().zip(&rhs).map(|(row, &rhs)| (vec![row.clone()], vec![rhs])).collect();
    certificate(graph, place, &clauses, &plain_proof(method, &slack))
}

pub fn check(graph: &Graph, text: &str) -> Result<Proven, Refusal> {
    check_certificate(graph, text.as_bytes(), Arithmetic::Float, &Cancel::new())
}

pub fn check_exactly(graph: &Graph, text: &str) -> Result<Proven, Refusal> {
    check_certificate(graph, text.as_bytes(), Arithmetic::Exact, &Cancel::new())
}

/// Layers of the given sizes with an activation between them.
pub fn layered(seed: u64, sizes: &[usize], activation: &str) -> Graph {
    let mut numbers = Numbers(seed);
    let mut nodes =
        vec![format!("{{\"name\":\"x\",\"op\":\"input\",\"attrs\":{{\"shape\":[{}]}}}}", sizes[0])];
    let mut tensors = Vec::new();
    for (layer, pair) in sizes.windows(2).enumerate() {
        if layer > 0 {
            let input = nodes.len() - 1;
            nodes.push(format!("{{\"name\":\"a\",\"op\":\"{activation}\",\"inputs\":[{input}]}}"));
        }
        let input = nodes.len() - 1;
        let scale = (3.0 / pair[0] as f64).sqrt();
        let mut values = |n: usize| (0..n).map(|_| numbers.next() * scale).collect::<Vec<f64>>();
        let (weight, bias) = (values(pair[0] * pair[1]), values(pair[1]));
        let at = tensors.len();
        tensors.push(Tensor::new(vec![pair[1], pair[0]], weight).unwrap());
        tensors.push(Tensor::new(vec![pair[1]], bias).unwrap());
        nodes.push(format!(
            "{{\"name\":\"z\",\"op\":\"affine\",\"inputs\":[{input}],\"tensors\":{{\"weight\":{at},\"bias\":{}}}}}",
            at + 1
        ));
    }
    let spec = format!("{{\"nodes\":[{}],\"output\":{}}}", nodes.join(","), nodes.len() - 1);
    Graph::new(GraphSpec::from_json(&spec).unwrap(), tensors).unwrap()
}

/// A random tree over the hidden units of a network with one hidden layer of ReLUs or two.
pub fn random_proof(graph: &Graph, place: &Place, clauses: usize, numbers: &mut Numbers) -> Proof {
    let units: Vec<(usize, usize)> = (1..graph.nodes().len())
        .filter(|&at| graph.nodes()[at].op.name() == "relu")
        .map(|at| (graph.nodes()[at].inputs[0], at))
        .collect();
    let everything = graph.intervals(&place.lower, &place.upper);
    let bounds: Vec<NodeBounds> = units
        .iter()
        .map(|&(node, _)| {
            let (lower, upper) = everything[node].clone();
            NodeBounds { node, lower, upper }
        })
        .collect();
    let slopes = |numbers: &mut Numbers| -> Vec<(usize, Parameters)> {
        units
            .iter()
            .map(|&(_, at)| {
                let n = graph.nodes()[at].shape[0];
                let parameters = if numbers.below(2) == 0 {
                    Parameters::Each((0..n).map(|_| 0.5 * (numbers.next() + 1.0)).collect())
                } else {
                    let slope = |k| if k > 128 { USUAL } else { k as u8 };
                    Parameters::Packed((0..n).map(|_| slope(numbers.below(160))).collect())
                };
                (at, parameters)
            })
            .collect()
    };
    let (mut leaves, mut parts) = (Vec::new(), Vec::new());
    for clause in 0..clauses {
        let mut open = vec![Vec::new()];
        while let Some(splits) = open.pop() {
            let free: Vec<(usize, usize)> = units
                .iter()
                .flat_map(|&(node, at)| (0..graph.nodes()[at].shape[0]).map(move |i| (node, i)))
                .filter(|&(node, index)| {
                    !splits.iter().any(|s: &Split| (s.node, s.index) == (node, index))
                })
                .collect();
            if splits.len() < 4 && numbers.below(3) > 0 && !free.is_empty() {
                let (node, index) = free[numbers.below(free.len())];
                for positive in [false, true] {
                    let mut more = splits.clone();
                    more.push(Split { node, index, at: 0.0, positive });
                    open.push(more);
                }
            } else {
                let betas = splits.iter().map(|_| (numbers.next() * 0.5).max(0.0)).collect();
                let leaf = Leaf {
                    clause,
                    splits: splits.clone(),
                    slopes: slopes(numbers),
                    betas,
                    weights: vec![1.0],
                    bound: f64::from_bits(2),
                    lower: None,
                    upper: None,
                };
                if numbers.below(3) > 0 {
                    leaves.push(leaf);
                } else {
                    // Bounds found anew, for this leaf alone.
                    let (bounds, leaves) = (bounds.clone(), vec![leaf]);
                    let inside = Inside::Proof(Proof { bounds, leaves, ..Proof::default() });
                    parts.push(Part { clauses: vec![clause], splits, inside });
                }
            }
        }
    }
    let last = units[units.len() - 1].0;
    let slopes_root = if units.len() > 1 {
        vec![RootSlopes {
            node: last,
            rows: vec![(0, false), (1, true)],
            slopes: slopes(numbers)[..1].to_vec(),
        }]
    } else {
        Vec::new()
    };
    Proof { slopes_root, bounds, leaves, parts, ..Proof::default() }
}
