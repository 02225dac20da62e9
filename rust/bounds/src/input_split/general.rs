//! Bounds of any graph over a box, never looser than those over the box it was cut from.

use aisec_graph::Graph;
use aisec_numeric::Cancelled;

use super::bounder::Bounder;
use crate::Planes;
use crate::crown::Analysis;
use crate::region::Region;
use crate::state::State;

pub(super) use crate::refine::Known;

/// CROWN over the graph as it is.
pub(super) struct General<'a> {
    pub analysis: Analysis<'a>,
    pub rows: &'a [f64],
}

impl General<'_> {
    fn state(&self, known: &Known, lower: &[f64], upper: &[f64]) -> Result<State, Cancelled> {
        let region = Region::cuboid(lower, upper).expect("boxes are cut from a box");
        let prepared = self.analysis.prepared;
        let mut state = State::new(region);
        let mut known = known.iter().peekable();
        for index in 1..=prepared.graph.output() {
            state.push(prepared, true);
            if let Some((_, below, above)) = known.next_if(|(node, _, _)| *node == index) {
                let node = &mut state.nodes[index];
                node.lower.iter_mut().zip(below).for_each(|(l, &known)| *l = l.max(known));
                node.upper.iter_mut().zip(above).for_each(|(u, &known)| *u = u.min(known));
                node.measure();
            }
            self.analysis.refine(&mut state, index)?;
        }
        Ok(state)
    }
}

impl Bounder for General<'_> {
    type Known = Known;
    type Scratch = Option<State>;

    const BUDGET: usize = 2;

    fn planes(
        &self,
        known: &Known,
        lower: &[f64],
        upper: &[f64],
        scratch: &mut Option<State>,
    ) -> Result<Planes, Cancelled> {
        let state = scratch.insert(self.state(known, lower, upper)?);
        self.analysis.planes_within(state, self.rows)
    }

    fn combined(
        &self,
        _known: &Known,
        weights: &[f64],
        _lower: &[f64],
        _upper: &[f64],
        scratch: &mut Option<State>,
    ) -> Result<Planes, Cancelled> {
        let state = scratch.as_ref().expect("planes come first");
        let outputs = self.analysis.prepared.graph.output_len();
        let mut row = vec![0.0; outputs];
        for (given, &weight) in self.rows.chunks_exact(outputs).zip(weights) {
            row.iter_mut().zip(given).for_each(|(sum, &a)| *sum += weight * a);
        }
        let mut planes = self.analysis.planes_within(state, &row)?;
        // The sum's coefficients are rounded; outputs are within the last node's bounds.
        let output = &state.nodes[self.analysis.prepared.graph.output()];
        let error = rounding(self.rows, weights, &output.lower, &output.upper);
        planes.bounds[0] -= error;
        planes.constants[0] -= error;
        Ok(planes)
    }

    fn narrowed(
        &self,
        _known: &Known,
        _lower: &[f64],
        _upper: &[f64],
        scratch: &mut Option<State>,
    ) -> Known {
        scratch.as_ref().expect("planes come first").known(self.analysis.prepared)
    }

    fn values(&self, _known: &Known, x: &[f64]) -> Vec<f64> {
        values(self.analysis.prepared.graph, self.rows, x)
    }

    fn gradient(&self, _known: &Known, x: &[f64], row: usize) -> Vec<f64> {
        let graph = self.analysis.prepared.graph;
        let row = &self.rows[row * graph.output_len()..][..graph.output_len()];
        let found = graph.value_and_vjp(x, 1, row, self.analysis.prepared.cancel);
        found.map_or_else(|_| vec![0.0; x.len()], |(_, gradient)| gradient)
    }

    fn bytes(&self, known: &Known) -> usize {
        known.iter().map(|(_, lower, _)| 16 * lower.len() + 64).sum()
    }
}

/// At least twice what the roundings of `Σ weights·rows` can change of its product with an output
/// between the bounds, roundings of the difference to it included.
fn rounding(rows: &[f64], weights: &[f64], lower: &[f64], upper: &[f64]) -> f64 {
    let reach = || lower.iter().zip(upper).map(|(l, u)| l.abs().max(u.abs()));
    let size: f64 = rows
        .chunks_exact(lower.len())
        .zip(weights)
        .map(|(row, weight)| {
            weight * row.iter().zip(reach()).map(|(a, reach)| a.abs() * reach).sum::<f64>()
        })
        .sum();
    aisec_numeric::rounding::gamma(8 * (weights.len() + lower.len()) + 64) * size + 1e-290
}

fn values(graph: &Graph, rows: &[f64], x: &[f64]) -> Vec<f64> {
    let outputs = graph.forward(x, 1);
    let dot = |row: &[f64]| row.iter().zip(&outputs).map(|(a, y)| a * y).sum();
    rows.chunks_exact(outputs.len()).map(dot).collect()
}
