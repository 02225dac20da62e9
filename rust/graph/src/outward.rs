//! Outward-rounded bounds that several operators share.

use aisec_numeric::rounding::{add_down, add_up, gamma, mul_up, sub_down, sub_up, underflow};

use crate::operator::{Interval, Operator, Site};

/// Operators that only move values: their bounds move in the same way.
pub(crate) fn moved<O: Operator>(
    op: &O,
    site: &Site,
    inputs: &[Interval],
    lower: &mut [f64],
    upper: &mut [f64],
) {
    let lowers: Vec<&[f64]> = inputs.iter().map(|input| input.lower).collect();
    op.forward(site, &lowers, lower);
    let uppers: Vec<&[f64]> = inputs.iter().map(|input| input.upper).collect();
    op.forward(site, &uppers, upper);
}

/// How far a sum of `terms` computed products, of non-negative numbers, may lie below the real
/// one: `real <= (computed + lost)·factor`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Excess {
    factor: f64,
    lost: f64,
}

impl Excess {
    pub fn of(terms: usize) -> Self {
        // 1 / (1 - gamma(n)) <= 1 + 2·gamma(n) where gamma(n) <= 1/2; beyond that nothing is known.
        let error = gamma(terms);
        let factor = if error <= 0.5 { add_up(1.0, 2.0 * error) } else { f64::INFINITY };
        Self { factor, lost: underflow(terms) }
    }

    /// An upper bound of the real sum.
    #[inline]
    pub fn cover(self, computed: f64) -> f64 {
        mul_up(add_up(computed, self.lost), self.factor)
    }
}

/// Bounds of `W·x + c` by midpoint and radius (Rump 1999): two plain products, `W·m + c` by
/// `op` and `|W|·r` by `absolute` (whose constant must be zero), with their rounding errors
/// covered by a wider radius. `terms` is the length of the sums, `largest` bounds `|c|`.
pub(crate) fn midpoint_radius<O: Operator>(
    op: &O,
    absolute: &O,
    site: &Site,
    input: Interval,
    (terms, largest): (usize, f64),
    lower: &mut [f64],
    upper: &mut [f64],
) {
    // The computed centre is within gamma·(|W|·|m| + |c|) + lost of the real one; the first part
    // joins the radius before it is multiplied by |W|.
    let error = gamma(terms + 1);
    let mut middle = Vec::with_capacity(input.lower.len());
    let mut radius = Vec::with_capacity(input.lower.len());
    for (&l, &u) in input.lower.iter().zip(input.upper) {
        let m = 0.5 * l + 0.5 * u;
        let r = sub_up(u, m).max(sub_up(m, l));
        middle.push(m);
        radius.push(add_up(r, mul_up(error, m.abs())));
    }
    op.forward(site, &[&middle], lower);
    absolute.forward(site, &[&radius], upper);
    let excess = Excess::of(terms);
    let constant = add_up(mul_up(error, largest), underflow(terms));
    for (l, u) in lower.iter_mut().zip(upper) {
        let (centre, reach) = (*l, add_up(excess.cover(*u), constant));
        *l = sub_down(centre, reach);
        *u = add_up(centre, reach);
    }
}

/// The largest absolute value; infinite if any is NaN.
pub(crate) fn largest(values: &[f64]) -> f64 {
    values.iter().fold(
        0.0,
        |most: f64, value| {
            if value.is_nan() { f64::INFINITY } else { most.max(value.abs()) }
        },
    )
}

/// Bounds of an average with non-negative weights computed by `op` in sums of `terms`.
pub(crate) fn average<O: Operator>(
    op: &O,
    site: &Site,
    input: Interval,
    terms: usize,
    lower: &mut [f64],
    upper: &mut [f64],
) {
    let error = gamma(terms);
    let excess = Excess::of(terms);
    for (values, output, up) in [(input.lower, lower, false), (input.upper, upper, true)] {
        let sizes: Vec<f64> = values.iter().map(|x| x.abs()).collect();
        let mut size = vec![0.0; output.len()];
        op.forward(site, &[&sizes], &mut size);
        op.forward(site, &[values], output);
        for (y, &size) in output.iter_mut().zip(&size) {
            let reach = add_up(mul_up(error, excess.cover(size)), excess.lost);
            *y = if up { add_up(*y, reach) } else { add_down(*y, -reach) };
        }
    }
}
