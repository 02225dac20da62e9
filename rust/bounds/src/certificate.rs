//! Proofs in the certificate format (`docs/certificates.md`): the entries of a case's `proof`.

use std::fmt::Write;

use aisec_graph::{Graph, Interval, Operator, Relaxation, Site};

use crate::crown::Method;
use crate::layout::Sign;
use crate::proof::{BoxProof, Inside, Leaf, Parameters, Part, Proof, Split, USUAL};
use crate::region::Region;

/// Claims are this much weaker than what was computed, relative to 1 or themselves, so that other
/// code, which sums in another order, can prove them.
const SLACK: f64 = 1e-9;

/// Any bound above zero.
const POSITIVE: f64 = f64::from_bits(1);

/// Why a proof cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proof cannot be written: {0}")]
pub struct Unwritable(String);

/// A float as a certificate spells it: `-0x1.8p-3`.
///
/// # Panics
/// If it is not finite.
pub fn hex(x: f64) -> String {
    assert!(x.is_finite(), "certificates hold finite numbers");
    let bits = x.to_bits();
    let sign = if x.is_sign_negative() { "-" } else { "" };
    let (mantissa, biased) = (bits & ((1 << 52) - 1), (bits >> 52 & 0x7ff) as i64);
    if x == 0.0 {
        return format!("{sign}0x0p+0");
    }
    let (lead, exponent) = if biased == 0 { (0, -1022) } else { (1, biased - 1023) };
    let digits = format!("{mantissa:013x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("{sign}0x{lead}{point}{digits}p{exponent:+}")
}

fn list(values: impl IntoIterator<Item = f64>) -> String {
    let items: Vec<String> = values.into_iter().map(|x| format!("\"{}\"", hex(x))).collect();
    format!("[{}]", items.join(","))
}

/// What is claimed where `bound` was computed: less, and still above zero if it was.
fn claimed(bound: f64) -> f64 {
    let slack = SLACK * (1.0 + bound.abs());
    if bound > 0.0 { (bound - slack).max(0.5 * bound).max(POSITIVE) } else { bound - slack }
}

/// The proof that clauses of one row each are refuted by lower bounds of `row · y - rhs`, which are
/// above zero, over the whole region.
pub fn plain_proof(method: Method, bounds: &[f64]) -> String {
    let rule = match method {
        Method::Ibp | Method::CrownIbp => "interval",
        _ => "crown",
    };
    let refutations = bounds.iter().enumerate().map(|(clause, &bound)| {
        format!(
            "{{\"clause\":{clause},\"weights\":[\"0x1p+0\"],\"bound\":\"{}\"}}",
            hex(claimed(bound))
        )
    });
    let refutations: Vec<String> = refutations.collect();
    format!("[{{\"bounds\":{{\"rule\":\"{rule}\"}}}},{{\"leaf\":[{}]}}]", refutations.join(","))
}

impl Proof {
    /// The entries, as JSON; nodes are those of the graph without max pooling. With `compact`, bounds that follow from the usual lines are left to
    /// the checker to find again.
    ///
    /// # Errors
    /// When the leaves of a clause are not the ends of one tree.
    pub fn write(
        &self,
        graph: &Graph,
        region: &Region,
        clauses: usize,
        compact: bool,
    ) -> Result<String, Unwritable> {
        let all: Vec<usize> = (0..clauses).collect();
        let mut entries = Vec::new();
        let graph = match graph.without_maxima() {
            Some(other) => {
                entries.push("{\"maxima\":\"relu\"}".to_owned());
                other
            }
            None => graph,
        };
        Writer { graph, region, proof: self, compact }.all(&all, 0, &mut entries)?;
        Ok(format!("[{}]", entries.join(",")))
    }
}

fn numbers(values: &[usize]) -> String {
    values.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Slopes of ReLU's lower lines, of all elements or of those listed, whichever is shorter.
fn packed(node: usize, slopes: &[u8]) -> Option<String> {
    let chosen: Vec<usize> = (0..slopes.len()).filter(|&i| slopes[i] != USUAL).collect();
    let listed = numbers(&chosen);
    let mut text = String::new();
    let mut digits = |slope: u8| match slope {
        USUAL => text.push_str(".."),
        slope => write!(text, "{slope:02x}").expect("text can grow"),
    };
    if chosen.is_empty() {
        return None;
    }
    if listed.len() + 2 * chosen.len() + 8 < 2 * slopes.len() {
        chosen.iter().for_each(|&i| digits(slopes[i]));
        return Some(format!("{{\"node\":{node},\"at\":[{listed}],\"packed\":\"{text}\"}}"));
    }
    slopes.iter().for_each(|&slope| digits(slope));
    Some(format!("{{\"node\":{node},\"packed\":\"{text}\"}}"))
}

struct Writer<'a> {
    graph: &'a Graph,
    region: &'a Region,
    proof: &'a Proof,
    compact: bool,
}

/// What ends a branch of a proof's tree.
#[derive(Clone, Copy)]
enum End<'a> {
    Leaf(&'a Leaf),
    Part(&'a Part),
}

impl<'a> End<'a> {
    fn splits(self) -> &'a [Split] {
        match self {
            Self::Leaf(leaf) => &leaf.splits,
            Self::Part(part) => &part.splits,
        }
    }
}

impl<'a> Writer<'a> {
    /// The proof for some clauses, in a part that so many splits lead to.
    fn all(
        &self,
        clauses: &[usize],
        depth: usize,
        entries: &mut Vec<String>,
    ) -> Result<(), Unwritable> {
        entries.push(self.bounds()?);
        let shared = |part: &&Part| part.clauses.len() > 1 && part.splits.len() == depth;
        if let Some(part) = self.proof.parts.iter().find(shared) {
            let others: Vec<usize> =
                clauses.iter().copied().filter(|k| !part.clauses.contains(k)).collect();
            if !others.is_empty() {
                entries.push(format!("{{\"apart\":[{}]}}", numbers(&others)));
                self.refuted(&others, depth, entries)?;
            }
            return self.part(part, depth, entries);
        }
        self.refuted(clauses, depth, entries)
    }

    /// A leaf for all of some clauses, or a tree for each of them.
    fn refuted(
        &self,
        clauses: &[usize],
        depth: usize,
        entries: &mut Vec<String>,
    ) -> Result<(), Unwritable> {
        let leaves = self.proof.leaves.iter().filter(|leaf| clauses.contains(&leaf.clause));
        let leaves: Vec<&Leaf> = leaves.collect();
        if leaves.len() == clauses.len() && leaves.iter().all(|leaf| leaf.splits.len() == depth) {
            entries.push(self.leaf(&leaves)?);
            return Ok(());
        }
        let ends = |clause: usize| {
            let leaves = self.proof.leaves.iter().filter(move |leaf| leaf.clause == clause);
            let parts = self.proof.parts.iter().filter(move |part| part.clauses == [clause]);
            leaves.map(End::Leaf).chain(parts.map(End::Part)).collect::<Vec<End>>()
        };
        let each: Vec<(usize, Vec<End>)> = clauses.iter().map(|&k| (k, ends(k))).collect();
        self.clauses(&each, depth, entries)
    }

    fn part(
        &self,
        part: &'a Part,
        depth: usize,
        entries: &mut Vec<String>,
    ) -> Result<(), Unwritable> {
        match &part.inside {
            Inside::Nothing { node, index } => {
                entries.push("{\"bounds\":{\"rule\":\"crown\"}}".to_owned());
                entries.push(format!("{{\"nothing\":[{node},{index}]}}"));
                Ok(())
            }
            Inside::Proof(proof) => {
                Self { proof, compact: true, ..*self }.all(&part.clauses, depth, entries)
            }
        }
    }

    fn bounds(&self) -> Result<String, Unwritable> {
        let mut claims = Vec::new();
        for known in &self.proof.bounds {
            let parts: Vec<_> =
                self.proof.slopes_root.iter().filter(|part| part.node == known.node).collect();
            let trees: Vec<_> =
                self.proof.trees.iter().filter(|tree| tree.node == known.node).collect();
            if self.compact && parts.is_empty() && trees.is_empty() {
                continue;
            }
            let finite = |x: f64| x.clamp(-f64::MAX, f64::MAX);
            let weaker = |x: f64, sign: f64| finite(x - sign * SLACK * (1.0 + x.abs()));
            let mut by = Vec::new();
            for part in parts {
                let side = |upper: bool| {
                    let rows = part.rows.iter().filter(|row| row.1 == upper);
                    rows.map(|row| row.0.to_string()).collect::<Vec<_>>().join(",")
                };
                let slopes = self.slopes(&part.slopes, &[])?;
                by.push(format!(
                    "{{\"lower\":[{}],\"upper\":[{}],\"slopes\":{slopes}}}",
                    side(false),
                    side(true)
                ));
            }
            for tree in trees {
                let mut branches = Vec::new();
                self.branches(&tree.leaves.iter().collect::<Vec<_>>(), 0, &mut branches)?;
                by.push(format!(
                    "{{\"{}\":[{}],\"slopes\":[],\"tree\":[{}]}}",
                    if tree.upper { "upper" } else { "lower" },
                    tree.element,
                    branches.join(",")
                ));
            }
            claims.push(format!(
                "{{\"node\":{},\"lower\":{},\"upper\":{},\"by\":[{}]}}",
                known.node,
                list(known.lower.iter().map(|&x| weaker(x, 1.0))),
                list(known.upper.iter().map(|&x| weaker(x, -1.0))),
                by.join(",")
            ));
        }
        Ok(format!("{{\"bounds\":{{\"rule\":\"crown\",\"claims\":[{}]}}}}", claims.join(",")))
    }

    /// The tree that leaves of a bound are the ends of.
    fn branches(
        &self,
        leaves: &[&Leaf],
        depth: usize,
        branches: &mut Vec<String>,
    ) -> Result<(), Unwritable> {
        let broken = || Unwritable("parts of a bound are not the ends of one tree".to_owned());
        if let [leaf] = leaves
            && leaf.splits.len() == depth
        {
            let slopes = self.slopes(&leaf.slopes, &leaf.splits)?;
            let betas = if leaf.betas.iter().any(|&beta| beta != 0.0) {
                format!(",\"betas\":{}", list(leaf.betas.clone()))
            } else {
                String::new()
            };
            branches.push(format!("{{\"leaf\":{{\"slopes\":{slopes}{betas}}}}}"));
            return Ok(());
        }
        let place = |leaf: &Leaf| leaf.splits.get(depth).map(|s| (s.node, s.index, s.at));
        let (node, index, at) = leaves.first().and_then(|leaf| place(leaf)).ok_or_else(broken)?;
        if !leaves.iter().all(|leaf| place(leaf) == Some((node, index, at))) {
            return Err(broken());
        }
        let (above, below): (Vec<&Leaf>, Vec<&Leaf>) =
            leaves.iter().partition(|leaf| leaf.splits[depth].positive);
        branches.push(format!("{{\"split\":[{node},{index},\"{}\"]}}", hex(at)));
        self.branches(&below, depth + 1, branches)?;
        self.branches(&above, depth + 1, branches)
    }

    /// A tree for each clause, set apart from the others by halves.
    fn clauses(
        &self,
        each: &[(usize, Vec<End>)],
        depth: usize,
        entries: &mut Vec<String>,
    ) -> Result<(), Unwritable> {
        if let [(_, ends)] = each {
            return self.tree(ends, depth, entries);
        }
        let (left, right) = each.split_at(each.len() / 2);
        let listed: Vec<usize> = left.iter().map(|(clause, _)| *clause).collect();
        entries.push(format!("{{\"apart\":[{}]}}", numbers(&listed)));
        self.clauses(left, depth, entries)?;
        self.clauses(right, depth, entries)
    }

    /// Ends that share their first `depth` splits.
    fn tree(
        &self,
        ends: &[End],
        depth: usize,
        entries: &mut Vec<String>,
    ) -> Result<(), Unwritable> {
        let broken = || Unwritable("its leaves are not the ends of one tree".to_owned());
        if let Some(end) = ends.iter().find(|end| end.splits().len() <= depth) {
            return match *end {
                End::Leaf(leaf) if leaf.splits.len() == depth => {
                    entries.push(self.leaf(&[leaf])?);
                    Ok(())
                }
                End::Part(part) if part.splits.len() == depth => self.part(part, depth, entries),
                _ => Err(broken()),
            };
        }
        let place = |end: &End| {
            let Split { node, index, at, .. } = end.splits()[depth];
            (node, index, at)
        };
        let (node, index, at) = place(ends.first().ok_or_else(broken)?);
        if !ends.iter().all(|end| place(end) == (node, index, at)) {
            return Err(broken());
        }
        let (above, below): (Vec<End>, Vec<End>) =
            ends.iter().partition(|end| end.splits()[depth].positive);
        entries.push(format!("{{\"split\":[{node},{index},\"{}\"]}}", hex(at)));
        self.tree(&below, depth + 1, entries)?;
        self.tree(&above, depth + 1, entries)
    }

    fn leaf(&self, leaves: &[&Leaf]) -> Result<String, Unwritable> {
        let mut parts = Vec::new();
        for leaf in leaves {
            if leaf.lower.is_some() || leaf.upper.is_some() {
                return Err(Unwritable("boxes have a proof of their own".to_owned()));
            }
            let mut part =
                format!("{{\"clause\":{},\"weights\":{}", leaf.clause, list(leaf.weights.clone()));
            if leaf.betas.iter().any(|&beta| beta != 0.0) {
                write!(part, ",\"betas\":{}", list(leaf.betas.clone())).expect("text can grow");
            }
            let slopes = self.slopes(&leaf.slopes, &leaf.splits)?;
            if slopes != "[]" {
                write!(part, ",\"slopes\":{slopes}").expect("text can grow");
            }
            write!(part, ",\"bound\":\"{}\"}}", hex(claimed(leaf.bound))).expect("text can grow");
            parts.push(part);
        }
        Ok(format!("{{\"leaf\":[{}]}}", parts.join(",")))
    }

    /// The slopes that operators' parameters stand for, where they are not the usual ones.
    fn slopes(
        &self,
        chosen: &[(usize, Parameters)],
        splits: &[Split],
    ) -> Result<String, Unwritable> {
        let mut parts = Vec::new();
        for (at, parameters) in chosen {
            let parameters = match parameters {
                Parameters::Packed(slopes) => {
                    parts.extend(packed(*at, slopes));
                    continue;
                }
                Parameters::Each(parameters) => parameters,
            };
            let node = &self.graph.nodes()[*at];
            let (lower, upper) = self.known(node.inputs[0], splits)?;
            let shapes = self.graph.input_shapes(*at);
            let site = Site { batch: 1, inputs: &shapes, output: &node.shape };
            let inputs = [Interval { lower: &lower, upper: &upper }];
            let (usual, own) =
                (node.op.relax(&site, &inputs), node.op.relax_with(&site, &inputs, parameters));
            let (
                Relaxation::Elementwise { lower_slope, upper_slope, .. },
                Relaxation::Elementwise { lower_slope: below, upper_slope: above, .. },
            ) = (usual, own)
            else {
                return Err(Unwritable(format!("node {at} has no slopes")));
            };
            let differs: Vec<usize> = (0..below.len())
                .filter(|&i| below[i] != lower_slope[i] || above[i] != upper_slope[i])
                .collect();
            if differs.is_empty() {
                continue;
            }
            let at_list: Vec<String> = differs.iter().map(usize::to_string).collect();
            let mut part = format!("{{\"node\":{at},\"at\":[{}]", at_list.join(","));
            for (side, own, usual) in
                [("lower", &below, &lower_slope), ("upper", &above, &upper_slope)]
            {
                if differs.iter().any(|&i| own[i] != usual[i]) {
                    let values = list(differs.iter().map(|&i| own[i]));
                    write!(part, ",\"{side}\":{values}").expect("text can grow");
                }
            }
            parts.push(part + "}");
        }
        Ok(format!("[{}]", parts.join(",")))
    }

    /// Bounds of a node that an activation reads, as splits leave them.
    fn known(&self, at: usize, splits: &[Split]) -> Result<(Vec<f64>, Vec<f64>), Unwritable> {
        let (mut lower, mut upper) = if at == 0 {
            (self.region.lower().to_vec(), self.region.upper().to_vec())
        } else {
            let known = self.proof.bounds.iter().find(|known| known.node == at);
            let known = known.ok_or_else(|| Unwritable(format!("node {at} has no bounds")))?;
            (known.lower.clone(), known.upper.clone())
        };
        for split in splits.iter().filter(|split| split.node == at) {
            let ends = (&mut lower[split.index], &mut upper[split.index]);
            Sign::narrow(split.at, split.positive, ends.0, ends.1);
        }
        Ok((lower, upper))
    }
}

impl BoxProof {
    /// The entries, as JSON.
    ///
    /// # Errors
    /// When the nodes are not one tree.
    pub fn write(&self) -> Result<String, Unwritable> {
        let mut entries = Vec::new();
        // What is still to be written, the next one last.
        let mut rest = vec![0];
        while let Some(at) = rest.pop() {
            let broken = || Unwritable("its boxes are not the nodes of one tree".to_owned());
            let node = self.nodes.get(at).ok_or_else(broken)?;
            if entries.len() > 4 * self.nodes.len() {
                return Err(broken());
            }
            let joint: Vec<String> = node
                .joint
                .iter()
                .map(|joint| {
                    let weights = list(joint.weights.clone());
                    format!("{{\"clause\":{},\"weights\":{weights}}}", joint.clause)
                })
                .collect();
            let mut parts = Vec::new();
            if self.by_intervals {
                parts.push("\"rule\":\"interval\"".to_owned());
            }
            if !joint.is_empty() {
                parts.push(format!("\"joint\":[{}]", joint.join(",")));
            }
            entries.push(format!("{{\"clip\":{{{}}}}}", parts.join(",")));
            match &node.halves {
                None => entries.push("{\"leaf\":[]}".to_owned()),
                Some(halves) => {
                    let cut = hex(halves.at);
                    entries.push(format!("{{\"split\":[0,{},\"{cut}\"]}}", halves.input));
                    rest.extend([halves.above, halves.below]);
                }
            }
        }
        Ok(format!("[{}]", entries.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_floats() {
        for (x, text) in [
            (1.0, "0x1p+0"),
            (-0.1875, "-0x1.8p-3"),
            (0.1, "0x1.999999999999ap-4"),
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (f64::from_bits(1), "0x0.0000000000001p-1022"),
            (f64::MIN_POSITIVE, "0x1p-1022"),
            (f64::MAX, "0x1.fffffffffffffp+1023"),
        ] {
            assert_eq!(hex(x), text);
        }
    }

    #[test]
    fn claims_stay_above_zero() {
        for bound in [f64::from_bits(1), 1e-300, 1e-9, 1.0, 1e300] {
            assert!(claimed(bound) > 0.0 && claimed(bound) <= bound);
        }
        assert!(claimed(-1.0) < -1.0);
    }
}
