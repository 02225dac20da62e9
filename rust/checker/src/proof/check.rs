//! Walks a proof: every part of the region is reached, and in every part each clause is refuted.

use aisec_graph::Graph;
use aisec_numeric::Cancel;
use num_rational::BigRational;

use super::carry::{Carry, Multiplier, Stop};
use super::certificate::{
    BoundsClaim, Case, Certificate, Entry, Hex, Intermediate, MaximaRule, NormSpec, Refutation,
};
use super::domain::Domain;
use super::network::Network;
use super::number::Number;
use super::region::{Ball, Norm, Region};

/// How a proof is computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Float64 with every rounding error taken off.
    Float,
    /// Rationals: slow, for small networks.
    Exact,
}

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The text is not a certificate.
    #[error("not a certificate: {0}")]
    Malformed(String),
    /// It speaks of another network.
    #[error("the certificate is of graph {certificate}, this one is {graph}")]
    Graph { certificate: String, graph: String },
    /// The checker has no rule for an operator.
    #[error("cannot be checked: {0}")]
    Unsupported(String),
    /// It does not prove what it claims.
    #[error("{0}")]
    Unproven(String),
    #[error("cancelled")]
    Cancelled,
}

/// What a certificate proves, once it is accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    pub cases: Vec<ProvenCase>,
}

/// No point of the region meets any of the clauses.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvenCase {
    pub lower: Vec<f64>,
    pub upper: Vec<f64>,
    pub ball: Option<Ball>,
    /// Rows (row-major) and right-hand sides of `rows · y <= rhs`.
    pub clauses: Vec<(Vec<f64>, Vec<f64>)>,
    /// The least bound that was claimed, and proven, of each clause; infinite where clips alone
    /// refute it.
    pub bounds: Vec<f64>,
    pub leaves: usize,
}

/// Checks a certificate of `graph`.
///
/// Accepted means: no point of the region of any case has outputs that meet one of its clauses, in
/// real arithmetic.
///
/// # Errors
/// When the certificate is malformed, of another graph, or does not prove what it claims; or on
/// cancellation.
pub fn check_certificate(
    graph: &Graph,
    text: &[u8],
    arithmetic: Arithmetic,
    cancel: &Cancel,
) -> Result<Proven, Refusal> {
    let certificate = Certificate::parse(text).map_err(Refusal::Malformed)?;
    if certificate.graph != graph.digest() {
        let shown = certificate.graph.chars().filter(char::is_ascii_alphanumeric).take(64);
        return Err(Refusal::Graph {
            certificate: shown.collect(),
            graph: graph.digest().to_owned(),
        });
    }
    let network = Network::new(graph, cancel).map_err(Refusal::Unsupported)?;
    let other = graph.without_maxima().map(|graph| Network::new(graph, cancel));
    let other = other.transpose().map_err(Refusal::Unsupported)?;
    let check = |(number, case): (usize, &Case)| {
        let run = || {
            let network = match case.proof.first() {
                Some(Entry::Maxima(MaximaRule::Relu)) => {
                    other.as_ref().ok_or("the network has no max pooling that can be replaced")?
                }
                _ => &network,
            };
            let tree = Tree::of(network, case)?;
            let leaves = match arithmetic {
                Arithmetic::Float => tree.prove::<f64>()?,
                Arithmetic::Exact => tree.prove::<BigRational>()?,
            };
            Ok(proven(case, leaves))
        };
        run().map_err(|why: String| match cancel.check() {
            Err(_) => Refusal::Cancelled,
            Ok(()) => Refusal::Unproven(format!("case {number}: {why}")),
        })
    };
    let cases: Vec<ProvenCase> =
        certificate.cases.iter().enumerate().map(check).collect::<Result<_, _>>()?;
    cancel.check().map_err(|_| Refusal::Cancelled)?;
    Ok(Proven { cases })
}

fn floats(values: &[Hex]) -> Vec<f64> {
    values.iter().map(|x| x.0).collect()
}

fn ball(case: &Case) -> Option<Ball> {
    case.region.ball.as_ref().map(|ball| Ball {
        norm: if ball.norm == NormSpec::L2 { Norm::L2 } else { Norm::L1 },
        center: floats(&ball.center),
        radius: ball.radius.0,
    })
}

fn proven(case: &Case, leaves: usize) -> ProvenCase {
    let mut bounds = vec![f64::INFINITY; case.clauses.len()];
    for entry in &case.proof {
        if let Entry::Leaf(refutations) = entry {
            for refutation in refutations {
                let bound = &mut bounds[refutation.clause];
                *bound = bound.min(refutation.bound.0);
            }
        }
    }
    let clauses = case.clauses.iter().map(|clause| {
        (clause.rows.iter().flat_map(|row| floats(row)).collect(), floats(&clause.rhs))
    });
    ProvenCase {
        lower: floats(&case.region.lower),
        upper: floats(&case.region.upper),
        ball: ball(case),
        clauses: clauses.collect(),
        bounds,
        leaves,
    }
}

/// A case whose sizes and indices fit the network.
pub(super) struct Tree<'a> {
    pub network: &'a Network<'a>,
    pub case: &'a Case,
    /// Where the second part of each split starts.
    pub second: Vec<usize>,
}

/// A split above some part: it holds there.
pub(super) type Literal = (usize, usize, f64, bool);

/// A part of the region, and what is to be proven of it.
#[derive(Clone)]
pub(super) struct Part<T> {
    pub domain: Domain<T>,
    pub path: Vec<Literal>,
    /// The clauses to be refuted.
    pub needed: Vec<bool>,
    /// Bounds are those of interval arithmetic.
    pub cheap: bool,
}

pub(super) fn need(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

impl Tree<'_> {
    /// Proves the case; returns how many leaves it took.
    fn prove<T: Number>(&self) -> Result<usize, String> {
        let exact = |values: &[Hex]| values.iter().map(|x| T::of(x.0)).collect();
        let region = Region {
            lower: exact(&self.case.region.lower),
            upper: exact(&self.case.region.upper),
            ball: ball(self.case),
        };
        let domain = Domain::new(self.network, region)?;
        if let Some(boxes) = domain.in_floats().and_then(|domain| self.boxes(domain)) {
            return self.walk_boxes(0, boxes);
        }
        let part = Part {
            domain,
            path: Vec::new(),
            needed: vec![true; self.case.clauses.len()],
            cheap: true,
        };
        self.walk(0, part)
    }

    /// Proves the part that starts at an entry.
    fn walk<T: Number>(&self, at: usize, part: Part<T>) -> Result<usize, String> {
        self.network.cancel.check().map_err(|_| "cancelled".to_owned())?;
        let place = |why: String| format!("entry {at}: {why}");
        match &self.case.proof[at] {
            Entry::Maxima(_) => self.walk(at + 1, part),
            Entry::Leaf(refutations) => {
                self.leaf(&part, refutations).map_err(place)?;
                Ok(1)
            }
            Entry::Bounds(claim) => {
                let domain = part.domain.redraw(self.network, claim).map_err(place)?;
                self.walk(at + 1, Part { domain, cheap: is_cheap(claim), ..part })
            }
            &Entry::Nothing(node, index) => {
                let cell = &part.domain.cells[node];
                let (lower, upper) = (&cell.lower[index], &cell.upper[index]);
                // What is not a number excludes nothing.
                need(lower > upper, || {
                    format!(
                        "node {node}, element {index} lies between {:e} and {:e}",
                        lower.below(),
                        upper.above()
                    )
                })
                .map_err(place)?;
                Ok(1)
            }
            Entry::Clip(joint) => self.walk(at + 1, self.clip(part, joint).map_err(place)?),
            Entry::Apart(clauses) => {
                let side = |listed: bool| {
                    let mut part = part.clone();
                    for (k, needed) in part.needed.iter_mut().enumerate() {
                        *needed &= clauses.contains(&k) == listed;
                    }
                    self.walk(if listed { at + 1 } else { self.second[at] }, part)
                };
                let (first, second) = rayon::join(|| side(true), || side(false));
                Ok(first? + second?)
            }
            &Entry::Split(node, index, Hex(limit)) => {
                let side = |above: bool| {
                    let mut side = part.clone();
                    side.domain = part.domain.cut(self.network, (node, index), limit, above);
                    side.path.push((node, index, limit, above));
                    self.walk(if above { self.second[at] } else { at + 1 }, side)
                };
                let (below, above) = rayon::join(|| side(false), || side(true));
                Ok(below? + above?)
            }
        }
    }

    fn leaf<T: Number>(&self, part: &Part<T>, refutations: &[Refutation]) -> Result<(), String> {
        let refuted = |k: usize| refutations.iter().any(|refutation| refutation.clause == k);
        let open = (0..part.needed.len()).find(|&k| part.needed[k] && !refuted(k));
        need(open.is_none(), || format!("clause {} is not refuted", open.unwrap_or(0)))?;
        // Those that need nothing of their own are carried back together.
        let (plain, special): (Vec<&Refutation>, Vec<&Refutation>) =
            refutations.iter().partition(|r| r.slopes.is_empty() && r.betas.is_empty());
        let mut groups: Vec<Vec<&Refutation>> = plain.chunks(64).map(<[_]>::to_vec).collect();
        groups.extend(special.into_iter().map(|refutation| vec![refutation]));
        groups.iter().try_for_each(|group| self.refute(part, group))
    }

    /// Carries back one row for each refutation; they share slopes and multipliers.
    fn refute<T: Number>(&self, part: &Part<T>, group: &[&Refutation]) -> Result<(), String> {
        let (first, domain) = (group[0], &part.domain);
        let drawn;
        let domain = if first.slopes.is_empty() {
            domain
        } else {
            drawn = domain.with_slopes(self.network, &first.slopes)?;
            &drawn
        };
        let multipliers = multipliers(&part.path, &first.betas)?;
        let output = self.network.output();
        let (mut rows, mut constants) = (Vec::new(), Vec::new());
        for refutation in group {
            let (row, constant) =
                self.combined::<T>(domain, refutation.clause, &refutation.weights);
            rows.extend(row);
            constants.push(constant);
        }
        let mut best: Vec<Option<T>> = vec![None; group.len()];
        // What the bounds of the last activations give is cheap, and all there is to interval
        // arithmetic.
        let stops: &[Stop] =
            if part.cheap { &[Stop::Bounds, Stop::Input] } else { &[Stop::Input, Stop::Bounds] };
        for &stop in stops {
            let proven = |k: usize, best: &Option<T>| {
                best.as_ref().is_some_and(|b| *b > T::zero() && *b >= T::of(group[k].bound.0))
            };
            if best.iter().enumerate().all(|(k, best)| proven(k, best)) {
                break;
            }
            let (cells, region) = (&domain.cells, &*domain.region);
            let carry =
                Carry { network: self.network, cells, region, stop, multipliers: &multipliers };
            let found = carry.minima(output, rows.clone());
            for ((best, found), constant) in best.iter_mut().zip(found).zip(&constants) {
                let bound = found.plus_down(constant);
                if best
                    .as_ref()
                    .is_none_or(|known| bound > *known || known.partial_cmp(known).is_none())
                {
                    *best = Some(bound);
                }
            }
        }
        for (refutation, best) in group.iter().zip(best) {
            let best = best.expect("one pass was made");
            let claimed = refutation.bound.0;
            need(claimed > 0.0, || {
                format!("clause {}: a bound of {claimed:e} refutes nothing", refutation.clause)
            })?;
            need(best > T::zero() && best >= T::of(claimed), || {
                format!(
                    "clause {}: bound {claimed:e} is claimed, {:e} is proven",
                    refutation.clause,
                    best.below()
                )
            })?;
        }
        Ok(())
    }
}

fn is_cheap(claim: &BoundsClaim) -> bool {
    claim.rule == Intermediate::Interval && claim.claims.is_empty()
}

/// The multipliers of the splits of inner nodes, in the order of the path.
pub(super) fn multipliers(path: &[Literal], betas: &[Hex]) -> Result<Vec<Multiplier>, String> {
    if betas.is_empty() {
        return Ok(Vec::new());
    }
    let inner: Vec<&Literal> = path.iter().filter(|literal| literal.0 > 0).collect();
    need(inner.len() == betas.len(), || {
        format!("{} multipliers for {} splits", betas.len(), inner.len())
    })?;
    let pair = |(&&(node, index, at, positive), beta): (&&Literal, &Hex)| Multiplier {
        node,
        index,
        positive,
        at,
        weight: beta.0,
    };
    Ok(inner.iter().zip(betas).map(pair).filter(|m| m.weight > 0.0).collect())
}
