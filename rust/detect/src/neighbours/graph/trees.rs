//! Random projection trees: points are halved along the difference of two of them, until few are
//! left together.

use aisec_numeric::Cancel;
use aisec_numeric::random::Stream;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::edges::Edges;
use super::rounds::offer;
use super::{Flat, LEAF};
use crate::Error;
use crate::neighbours::frame::{NOWHERE, PANEL};
use crate::neighbours::lists::NEVER;
use crate::neighbours::points::Layout;
use crate::neighbours::tile::{Side, compare};

/// Where members are: `factor` times their row, up to a shift that is the same for all.
pub(super) struct Space<R, F> {
    pub(super) row: R,
    pub(super) factor: F,
}

/// Members whose projections are worth another thread.
const MANY: usize = 1 << 13;

/// Orders the members so that those of a leaf follow one another, and returns the sizes of the
/// leaves: each half is halved until it has at most `most`.
pub(super) fn split<'a, R, F>(
    members: &mut [u32],
    node: u64,
    stream: &Stream,
    space: &Space<R, F>,
    most: usize,
) -> Vec<usize>
where
    R: Fn(u32) -> &'a [f32] + Sync,
    F: Fn(u32) -> f64 + Sync,
{
    let count = members.len();
    if count <= most.max(1) {
        members.sort_unstable();
        return vec![count];
    }
    let mut generator = stream.at(node, 0);
    let mut member = || members[generator.below(count as u32) as usize];
    let (one, other) = (member(), member());
    let difference: Vec<f32> = (space.row)(one)
        .iter()
        .zip((space.row)(other))
        .map(|(&a, &b)| {
            let (a, b) = (f64::from(a), f64::from(b));
            ((space.factor)(one) * a - (space.factor)(other) * b) as f32
        })
        .collect();
    let project = |&id: &u32| {
        let dot = Arch::new().dispatch(Dot((space.row)(id), &difference));
        ((space.factor)(id) as f32 * dot, id)
    };
    let mut projected: Vec<(f32, u32)> =
        members.par_iter().with_min_len(MANY).map(project).collect();
    projected.select_nth_unstable_by(count / 2, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    members.iter_mut().zip(projected).for_each(|(id, projected)| *id = projected.1);
    let (low, high) = members.split_at_mut(count / 2);
    let (mut sizes, rest) = rayon::join(
        || split(low, 2 * node, stream, space, most),
        || split(high, 2 * node + 1, stream, space, most),
    );
    sizes.extend(rest);
    sizes
}

struct Dot<'a>(&'a [f32], &'a [f32]);

impl WithSimd for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let ((a, rest), (b, rest_b)) = (self.0.as_chunks::<16>(), self.1.as_chunks::<16>());
        let mut sums = [0.0; 16];
        for (a, b) in a.iter().zip(b) {
            for lane in 0..16 {
                sums[lane] += a[lane] * b[lane];
            }
        }
        sums.iter_mut().zip(rest.iter().zip(rest_b)).for_each(|(sum, (a, b))| *sum += a * b);
        sums.iter().sum()
    }
}

/// Compares the points of every leaf of a tree with one another.
pub(super) fn compare_leaves(
    points: &Flat,
    edges: &Edges,
    stream: &Stream,
    cancel: &Cancel,
) -> Result<(), Error> {
    let mut members = Vec::from_iter(0..points.frame.len() as u32);
    let space = Space { row: |i: u32| points.row(i as usize), factor: |_| 1.0 };
    let sizes = split(&mut members, 1, stream, &space, LEAF);
    let mut rest = &members[..];
    let leaves: Vec<&[u32]> = sizes
        .into_iter()
        .map(|size| {
            let (leaf, after) = rest.split_at(size);
            rest = after;
            leaf
        })
        .collect();
    leaves.into_par_iter().try_for_each_init(
        || (Vec::new(), Vec::new()),
        |(panels, hits), leaf| {
            cancel.check()?;
            compare_leaf(points, edges, leaf, panels, hits);
            Ok(())
        },
    )
}

/// Compares points, ascending, with one another.
fn compare_leaf(
    points: &Flat,
    edges: &Edges,
    leaf: &[u32],
    panels: &mut Vec<Vec<f32>>,
    hits: &mut Vec<crate::neighbours::tile::Hit>,
) {
    let parts: Vec<&[u32]> = leaf.chunks(PANEL).collect();
    panels.resize_with(parts.len().max(panels.len()), Vec::new);
    let mut half = vec![[NOWHERE; PANEL]; parts.len()];
    for ((part, half), panel) in parts.iter().zip(&mut half).zip(panels.iter_mut()) {
        *half = points.gather(part, panel);
    }
    let thresholds = |part: &[u32]| {
        let mut least = [NEVER; PANEL];
        least.iter_mut().zip(part).for_each(|(least, &id)| *least = edges.least(id));
        least
    };
    for (c, columns) in parts.iter().enumerate() {
        for (r, rows) in parts[..=c].iter().enumerate() {
            let (row_least, column_least) = (thresholds(rows), thresholds(columns));
            let left = Side { values: &panels[r], half: &half[r], least: &row_least, first: 0 };
            let right = Side { values: &panels[c], half: &half[c], least: &column_least, first: 0 };
            compare(left, right, hits);
            for hit in hits.drain(..).filter(|hit| r < c || hit.row < hit.column) {
                offer(edges, &hit, rows[usize::from(hit.row)], columns[usize::from(hit.column)]);
            }
        }
    }
}
