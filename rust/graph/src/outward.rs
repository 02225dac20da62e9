//! Outward-rounded bounds that several operators share.

use std::cell::Cell;

use aisec_numeric::absolute::Spread;
use aisec_numeric::rounding::{add_down, add_up, gamma, mul_up, underflow};
use pulp::{Arch, NullaryFnOnce};

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

/// More than the factor that eight roundings take a number down by.
const GROW: f64 = 1.0 + 16.0 * f64::EPSILON;

/// More than eight products lose to underflow.
const LOST: f64 = f64::from_bits(16);

/// Bounds of `W·x + c` by midpoint and radius (Rump 1999): two plain products, `W·m + c` and
/// `|W|·r`, with their rounding errors covered by a wider radius. `products` writes them;
/// `terms` is the length of the sums, `largest` bounds `|c|`.
pub(crate) fn midpoint_radius(
    input: Interval,
    (terms, largest): (usize, f64),
    lower: &mut [f64],
    upper: &mut [f64],
    products: impl FnOnce(Spread, &mut [f64], &mut [f64]),
) {
    thread_local! {
        static BUFFER: Cell<Vec<f64>> = const { Cell::new(Vec::new()) };
    }
    // The computed centre is within gamma·(|W|·|m| + |c|) + lost of the real one; the first part
    // joins the radius before it is multiplied by |W|.
    let error = gamma(terms + 1);
    let len = input.lower.len();
    let mut buffer = BUFFER.take();
    if buffer.len() < 2 * len {
        buffer.resize(2 * len, 0.0);
    }
    let (middle, radius) = buffer[..2 * len].split_at_mut(len);
    Arch::new().dispatch(Centre { input, error, middle, radius });
    products(Spread { middle, radius }, lower, upper);
    BUFFER.set(buffer);
    let excess = Excess::of(terms);
    let constant = add_up(mul_up(error, largest), underflow(terms));
    Arch::new().dispatch(Reach { excess, constant, lower, upper });
}

/// Midpoints, and radii that cover the interval and `error·|midpoint|`.
struct Centre<'a, 'b> {
    input: Interval<'a>,
    error: f64,
    middle: &'b mut [f64],
    radius: &'b mut [f64],
}

impl NullaryFnOnce for Centre<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let ends = self.input.lower.iter().zip(self.input.upper);
        for ((&l, &u), (m, r)) in ends.zip(self.middle.iter_mut().zip(self.radius)) {
            *m = 0.5 * l + 0.5 * u;
            // Five roundings to nearest, each of a number that is not negative.
            *r = ((u - *m).max(*m - l) + self.error * m.abs()) * GROW + LOST;
        }
    }
}

/// Makes bounds of computed centres (in `lower`) and reaches (in `upper`).
struct Reach<'a> {
    excess: Excess,
    constant: f64,
    lower: &'a mut [f64],
    upper: &'a mut [f64],
}

impl NullaryFnOnce for Reach<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Excess { factor, lost } = self.excess;
        for (l, u) in self.lower.iter_mut().zip(self.upper) {
            let centre = *l;
            let reach = (*u + lost) * factor + self.constant;
            // The last rounding is relative to the result, at most |centre| + reach. Where the
            // centre has overflowed nothing is known of the end on this side: it becomes NaN.
            let reach = (reach + f64::EPSILON * centre.abs()) * GROW + LOST;
            *l = centre - reach;
            *u = centre + reach;
        }
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

#[cfg(test)]
mod tests {
    use aisec_numeric::rounding::{add_down, dot_down, dot_up};
    use proptest::prelude::*;

    use crate::operator::{Interval, Operator};
    use crate::{Graph, GraphSpec, Tensor};

    fn affine(weight: &[f64], bias: f64) -> Graph {
        let n = weight.len();
        let spec = serde_json::json!({
            "nodes": [
                {"name": "x", "op": "input", "attrs": {"shape": [n]}},
                {"name": "y", "op": "affine", "inputs": [0],
                 "tensors": {"weight": 0, "bias": 1}, "attrs": {}},
            ],
            "output": 1,
        });
        let weight = Tensor::new(vec![1, n], weight.to_vec()).unwrap();
        let bias = Tensor::new(vec![1], vec![bias]).unwrap();
        Graph::new(GraphSpec::from_json(&spec.to_string()).unwrap(), vec![weight, bias]).unwrap()
    }

    fn interval(graph: &Graph, lower: &[f64], upper: &[f64]) -> (f64, f64) {
        let (shapes, mut ends) = (graph.input_shapes(1), ([0.0], [0.0]));
        let input = Interval { lower, upper };
        graph.nodes()[1].op.interval(
            &graph.site(1, &shapes, 1),
            &[input],
            &mut ends.0,
            &mut ends.1,
        );
        (ends.0[0], ends.1[0])
    }

    /// Floats of every size, products that cancel or underflow among them.
    fn number() -> impl Strategy<Value = f64> {
        let exponent = prop_oneof![Just(0), -3..3i32, -320..30i32, -160..-150i32];
        (-1.0..1.0f64, exponent).prop_map(|(m, e)| m * 10f64.powi(e))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

        #[test]
        fn intervals_hold_the_range(
            terms in prop::collection::vec((number(), number(), number()), 1..9),
            bias in number(),
        ) {
            let weight: Vec<f64> = terms.iter().map(|t| t.0).collect();
            let lower: Vec<f64> = terms.iter().map(|t| t.1.min(t.2)).collect();
            let upper: Vec<f64> = terms.iter().map(|t| t.1.max(t.2)).collect();
            let corner = |low: bool| -> Vec<f64> {
                let pick = |i: usize| if (weight[i] > 0.0) == low { lower[i] } else { upper[i] };
                (0..weight.len()).map(pick).collect()
            };
            let graph = affine(&weight, bias);
            for (low, high) in [(lower.clone(), upper.clone()), (lower.clone(), lower.clone())] {
                let (l, u) = interval(&graph, &low, &high);
                let [least, most] = if low == high { [low.clone(), low] } else { [corner(true), corner(false)] };
                // Directed rounding encloses each end within a few digits.
                prop_assert!(l <= super::add_up(dot_up(&weight, &least), bias));
                prop_assert!(u >= add_down(dot_down(&weight, &most), bias));
            }
        }
    }

    #[test]
    fn an_overflow_says_nothing_of_the_end_beyond() {
        let graph = affine(&[1e30, 1e30], 0.0);
        let (l, u) = interval(&graph, &[1e300, 1e300], &[1e300, 1e300]);
        assert!(!l.is_finite() && l != f64::INFINITY && (u.is_nan() || u == f64::INFINITY));
    }
}
