//! Points that meet a clause beyond doubt.

use aisec_numeric::rounding::{add_up, mul_up};

use crate::complete::Run;

impl Run<'_> {
    /// The first of the points that meets its clause beyond doubt.
    pub(crate) fn counterexample(&self, points: &[(usize, Vec<f32>)]) -> Option<Vec<f64>> {
        let graph = self.analysis.prepared.graph;
        let len = graph.output_len();
        let points: Vec<&(usize, Vec<f32>)> =
            points.iter().filter(|(_, x)| !x.is_empty()).collect();
        let flat: Vec<f32> = points.iter().flat_map(|(_, x)| x.iter().copied()).collect();
        let outputs = graph.forward::<f32>(&flat, points.len());
        for ((clause, x), y) in points.into_iter().zip(outputs.chunks_exact(len)) {
            let clause = &self.clauses[*clause];
            let near = clause.rows.chunks_exact(len).zip(&clause.rhs_upper).all(|(row, &rhs)| {
                let value: f64 = row.iter().zip(y).map(|(a, &y)| a * f64::from(y)).sum();
                value <= rhs + 1e-4 * (1.0 + rhs.abs())
            });
            if !near {
                continue;
            }
            let x = self.inside(x);
            let Ok((low, high)) =
                graph.interval(graph.output(), &x, &x, 1, self.analysis.prepared.cancel)
            else {
                continue;
            };
            let met = clause.rows.chunks_exact(len).zip(&clause.rhs_lower).all(|(row, &rhs)| {
                let ends = row.iter().zip(low.iter().zip(&high));
                let most = ends.fold(0.0, |sum, (&a, (&l, &h))| {
                    if a == 0.0 { sum } else { add_up(sum, mul_up(a, if a > 0.0 { h } else { l })) }
                });
                most <= rhs
            });
            if met {
                return Some(x);
            }
        }
        None
    }

    /// A point moved between the inner corners.
    pub(crate) fn inside(&self, x: &[f32]) -> Vec<f64> {
        let ends = self.inner.0.iter().zip(&self.inner.1);
        x.iter().zip(ends).map(|(&x, (&l, &h))| f64::from(x).max(l).min(h)).collect()
    }
}
