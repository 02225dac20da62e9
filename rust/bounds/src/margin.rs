//! Lower bounds of linear functions of the output, for a batch of samples.

use aisec_graph::Graph;
use aisec_numeric::{Cancel, Cancelled};
use rayon::prelude::*;

use crate::crown::{Analysis, Method, Planes};
use crate::ibp;
use crate::prepared::Prepared;
use crate::region::Region;

/// How bounds are computed; none of it but the method changes a result.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub method: Method,
    /// Bytes that the coefficients of all threads together may take; rows are carried back in
    /// smaller blocks, down to eight at a time, to stay below it.
    pub memory_limit: Option<usize>,
}

/// Coefficients of one block stay in the second-level cache.
const BLOCK_BYTES: usize = 4 << 20;

/// Bytes that the coefficients of one thread may take.
pub(crate) fn share(memory_limit: Option<usize>) -> usize {
    let threads = rayon::current_num_threads();
    memory_limit.map_or(BLOCK_BYTES, |limit| (limit / threads).min(BLOCK_BYTES))
}

/// Lower bounds of `spec · output` over each sample's region, valid in real arithmetic; `-inf`
/// where nothing finite is known.
///
/// `spec` holds, for each region, the same number of rows over the graph's output. The result
/// has one bound a row and is the same bit for bit for any batch, block size and thread count.
///
/// # Errors
/// When cancelled.
pub fn margin_bounds(
    graph: &Graph,
    regions: Vec<Region>,
    spec: &[f64],
    options: Options,
    cancel: &Cancel,
) -> Result<Vec<f64>, Cancelled> {
    if regions.is_empty() {
        return Ok(Vec::new());
    }
    if options.method == Method::Ibp && regions.iter().all(Region::is_box) {
        return ibp::margins(&Prepared::new(graph, cancel), &regions, spec, cancel);
    }
    let rows = spec.len() / regions.len();
    let other = match options.method {
        Method::AlphaCrown(_) => graph.without_maxima().map(|graph| Prepared::new(graph, cancel)),
        _ => None,
    };
    let bounds = each(graph, regions, options, cancel, |analysis, sample, region| {
        let spec = &spec[sample * rows..(sample + 1) * rows];
        match &other {
            Some(prepared) => without_maxima(analysis, prepared, region, spec),
            None => analysis.margins(region, spec),
        }
    })?;
    Ok(bounds.into_iter().flatten().collect())
}

/// The better bounds of CROWN and, on the graph without max pooling, which has slopes to choose, of
/// alpha-CROWN.
fn without_maxima(
    analysis: &Analysis,
    prepared: &Prepared,
    region: Region,
    spec: &[f64],
) -> Result<Vec<f64>, Cancelled> {
    let plain = Analysis { method: Method::Crown, ..*analysis };
    let mut bounds = plain.margins(region.clone(), spec)?;
    let stops = matches!(analysis.method, Method::AlphaCrown(tuning) if tuning.stop);
    if !(stops && bounds.iter().all(|&bound| bound > 0.0)) {
        let tuned = Analysis { prepared, ..*analysis }.margins(region, spec)?;
        bounds.iter_mut().zip(tuned).for_each(|(bound, tuned)| *bound = bound.max(tuned));
    }
    Ok(bounds)
}

/// Planes over the input below `spec · output`, one set a region, and bounds as
/// [`margin_bounds`] gives, up to rounding: each plane holds at every point of its region in real arithmetic.
///
/// `spec` is as for [`margin_bounds`], and so is what the result does not depend on.
///
/// # Errors
/// When cancelled.
pub fn margin_planes(
    graph: &Graph,
    regions: Vec<Region>,
    spec: &[f64],
    options: Options,
    cancel: &Cancel,
) -> Result<Planes, Cancelled> {
    if regions.is_empty() {
        return Ok(Planes::default());
    }
    let rows = spec.len() / regions.len();
    let found = each(graph, regions, options, cancel, |analysis, sample, region| {
        analysis.planes(region, &spec[sample * rows..(sample + 1) * rows])
    })?;
    let mut planes = Planes::default();
    for part in found {
        planes.bounds.extend(part.bounds);
        planes.coefficients.extend(part.coefficients);
        planes.constants.extend(part.constants);
    }
    Ok(planes)
}

/// Whether bounds take so little time that they are computed on the calling thread alone.
pub fn on_one_thread(graph: &Graph, regions: &[Region], method: Method) -> bool {
    // Each interval takes two products; linear bounds of intermediate nodes, many.
    method.by_intervals() && graph.is_small(2 * regions.len()) && regions.iter().all(Region::is_box)
}

/// Analyses all regions on all threads; answers keep the order of the regions.
fn each<T: Send>(
    graph: &Graph,
    regions: Vec<Region>,
    options: Options,
    cancel: &Cancel,
    analyse: impl Fn(&Analysis, usize, Region) -> Result<T, Cancelled> + Sync,
) -> Result<Vec<T>, Cancelled> {
    let prepared = Prepared::new(graph, cancel);
    if on_one_thread(graph, &regions, options.method) {
        // Without asking how many threads there are, which would start some.
        let block_bytes = options.memory_limit.map_or(BLOCK_BYTES, |limit| limit.min(BLOCK_BYTES));
        let analysis = Analysis { prepared: &prepared, method: options.method, block_bytes };
        let each = regions.into_iter().enumerate();
        return each.map(|(sample, region)| analyse(&analysis, sample, region)).collect();
    }
    let block_bytes = share(options.memory_limit);
    let analysis = Analysis { prepared: &prepared, method: options.method, block_bytes };
    regions
        .into_par_iter()
        .enumerate()
        .map(|(sample, region)| {
            cancel.check()?;
            analyse(&analysis, sample, region)
        })
        .collect()
}
