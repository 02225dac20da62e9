//! Interval bound propagation over boxes (Gowal et al. 2018, arXiv:1810.12715), several samples
//! at a time: what a sample gets is bit for bit what it would get alone.

use aisec_graph::Graph;
use aisec_numeric::{Cancel, Cancelled};
use rayon::prelude::*;

use crate::backward::{Pool, Route};
use crate::crown::Method;
use crate::kernels;
use crate::margin::on_one_thread;
use crate::prepared::Prepared;
use crate::region::Region;
use crate::state::State;
use crate::trace::{Stop, Trace};

/// Lower bounds of `spec · output`, as [`crate::margin_bounds`] has them, by intervals alone; the
/// regions must be boxes. `rows` numbers of `spec` belong to a sample.
pub(crate) fn margins(
    prepared: &Prepared,
    regions: &[Region],
    spec: &[f64],
    cancel: &Cancel,
) -> Result<Vec<f64>, Cancelled> {
    let numbers = spec.len() / regions.len();
    let kept = kept(prepared);
    let some = |regions: &[Region], spec: &[f64]| {
        cancel.check()?;
        Ok(together(prepared, &kept, regions, spec))
    };
    let bounds: Vec<Vec<f64>> = if on_one_thread(prepared.graph, regions, Method::Ibp) {
        let parts = regions.chunks(Graph::TOGETHER).enumerate();
        let spec = |part: usize, count: usize| {
            &spec[part * Graph::TOGETHER * numbers..][..count * numbers]
        };
        parts.map(|(at, part)| some(part, spec(at, part.len()))).collect::<Result<_, _>>()?
    } else {
        let parts = regions.par_chunks(Graph::TOGETHER).enumerate();
        let spec = |part: usize, count: usize| {
            &spec[part * Graph::TOGETHER * numbers..][..count * numbers]
        };
        parts.map(|(at, part)| some(part, spec(at, part.len()))).collect::<Result<_, _>>()?
    };
    Ok(bounds.into_iter().flatten().collect())
}

/// The nodes that rows over the output meet: affine ones behind it, and those they read.
fn kept(prepared: &Prepared) -> Vec<bool> {
    let graph = prepared.graph;
    let mut kept = vec![false; graph.output() + 1];
    kept[graph.output()] = true;
    for node in (0..kept.len()).rev().filter(|&node| prepared.nodes[node].behind_output) {
        kept[node] = true;
        graph.nodes()[node].inputs.iter().for_each(|&input| kept[input] = true);
    }
    kept
}

fn together(prepared: &Prepared, kept: &[bool], regions: &[Region], spec: &[f64]) -> Vec<f64> {
    let (graph, batch) = (prepared.graph, regions.len());
    let corner = |side: fn(&Region) -> &[f64]| Vec::from_iter(regions.iter().map(side)).concat();
    let boxes = (corner(Region::lower), corner(Region::upper));
    let bounds = graph.intervals_of(kept, boxes, batch, |(lower, upper)| {
        kernels::widen(lower, f64::NEG_INFINITY);
        kernels::widen(upper, f64::INFINITY);
    });
    let numbers = spec.len() / batch;
    let mut pool = Pool::default();
    let mut found = Vec::new();
    let nowhere = Region::cuboid(&[], &[]).expect("it is empty");
    for (sample, region) in regions.iter().enumerate() {
        // Rows that stop before the input need not know it.
        let mut state = State::new(if kept[0] { region } else { &nowhere }.clone());
        for node in 1..kept.len() {
            let part = |values: &[f64]| {
                let len = values.len() / batch;
                values[sample * len..(sample + 1) * len].to_vec()
            };
            let (lower, upper) = (part(&bounds[node].0), part(&bounds[node].1));
            state.adopt(prepared, lower, upper, prepared.nodes[node].behind_output);
        }
        let trace = Trace::new(prepared, &state, graph.output(), None, Stop::Nonlinear);
        let route = Route::new(prepared, &state, &trace);
        let rows = &spec[sample * numbers..(sample + 1) * numbers];
        found.extend(route.lower_bounds(rows, numbers / graph.output_len(), &mut pool));
    }
    found
}
