//! A graph up to one node as the search for slopes sees it: what is the same for all rows, in
//! float32.

use aisec_graph::{Activation, Node, Operator, Plane, Planes, Relaxation, Site};

use crate::bent::Bends;
use crate::lanes::Cut;
use crate::prepared::Prepared;
use crate::region::Region;
use crate::state::State;

/// The sign that an element is given which a hinge reads, or the side of a limit where one is that
/// a curve reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sign {
    /// The activation, not the node it reads.
    pub node: usize,
    pub element: usize,
    /// Zero for hinges.
    pub limit: f32,
    pub positive: bool,
}

impl Sign {
    /// Brings it into the bounds of an element.
    pub fn narrow(limit: f64, positive: bool, lower: &mut f64, upper: &mut f64) {
        if positive {
            *lower = lower.max(limit);
        } else {
            *upper = upper.min(limit);
        }
    }
}

/// The way from the input to `start`, and what of it can be chosen.
pub(crate) struct Layout<'a> {
    pub prepared: &'a Prepared<'a>,
    pub start: usize,
    /// The nodes `start` is computed from, itself included, in topological order.
    pub steps: Vec<Step>,
    pub activations: Vec<Free>,
    /// Elements with lines of their own, all activations together.
    pub elements: usize,
    /// Parameters of these elements.
    pub parameters: usize,
    pub lower: Vec<f32>,
    pub upper: Vec<f32>,
    pub region: &'a Region,
    pub bends: Bends,
}

pub(crate) struct Step {
    pub node: usize,
    pub role: Role,
}

pub(crate) enum Role {
    Input,
    /// A value that does not depend on the input.
    Constant,
    Affine,
    /// An index into `activations`.
    Activation(usize),
    /// Max pooling: the input element below each output, the one above it or a constant.
    Select {
        below: Vec<u32>,
        above: Vec<u32>,
        offset: Vec<f32>,
    },
    /// A product, or lines that are no choice: planes over the whole region.
    Pair(Pair),
}

/// Planes in float32, those below and those above.
pub(crate) struct Pair {
    pub places: Vec<[u32; 2]>,
    /// Slopes and offset.
    pub below: Vec<[f32; 3]>,
    pub above: Vec<[f32; 3]>,
}

/// In `Role::Select`, no element: the constant counts.
pub(crate) const NONE: u32 = u32::MAX;

/// An activation and those of its elements whose lines are chosen.
pub(crate) struct Free {
    pub node: usize,
    /// The node it reads.
    pub input: usize,
    pub kind: Activation,
    /// In ascending order.
    pub at: Vec<u32>,
    /// The bounds of what they read.
    pub ends: Vec<(f64, f64)>,
    /// Slopes of the other elements, zero for the free ones; empty if all are free.
    pub base: Vec<f32>,
    /// Where its elements and its parameters start among those of all activations.
    pub first: usize,
    pub first_parameter: usize,
    /// Of each parameter: what [`Operator::relax`] uses, and the range of choices.
    pub usual: Vec<f32>,
    pub least: Vec<f32>,
    pub most: Vec<f32>,
    /// Lines over the whole region for the usual parameters.
    pub lines: Lines,
}

/// Slopes and offsets of some elements, in order.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    pub lower_slope: Vec<f32>,
    pub lower_offset: Vec<f32>,
    pub upper_slope: Vec<f32>,
    pub upper_offset: Vec<f32>,
}

impl<'a> Layout<'a> {
    /// `None` where there is nothing to choose: `start` does not depend on the input, or a line
    /// needs a number that float32 or the state does not have.
    ///
    /// Elements with a sign are kept among the free ones, though the state's bounds know it, so
    /// that their signs can have multipliers.
    pub fn new(
        prepared: &'a Prepared<'a>,
        state: &'a State,
        start: usize,
        signs: &[Sign],
    ) -> Option<Self> {
        let nodes = prepared.graph.nodes();
        let mut needed = vec![false; start + 1];
        needed[start] = true;
        for node in (0..=start).rev() {
            if needed[node] {
                nodes[node].inputs.iter().for_each(|&input| needed[input] = true);
            }
        }
        if !needed[0] {
            return None; // a constant
        }
        let mut activations: Vec<Free> = Vec::new();
        let (mut elements, mut parameters) = (0, 0);
        let mut steps = Vec::new();
        for index in (0..=start).filter(|&node| needed[node]) {
            let node = &nodes[index];
            let role = if index == 0 {
                Role::Input
            } else if node.inputs.is_empty() {
                Role::Constant
            } else if prepared.nodes[index].affine {
                Role::Affine
            } else if let Some(kind) = node.op.activation() {
                let free = Free::new(state, node, index, kind, signs, (elements, parameters))?;
                elements += free.at.len();
                parameters += free.usual.len();
                activations.push(free);
                Role::Activation(activations.len() - 1)
            } else {
                select(state, index)?
            };
            steps.push(Step { node: index, role });
        }
        let region = &state.region;
        let narrow = |corner: &[f64]| corner.iter().map(|&x| x as f32).collect();
        let (lower, upper) = (narrow(region.lower()), narrow(region.upper()));
        Some(Self {
            prepared,
            start,
            steps,
            activations,
            elements,
            parameters,
            lower,
            upper,
            region,
            bends: Bends::default(),
        })
    }

    /// The cut that gives an element its sign, if the layout has the element.
    pub fn cut(&self, sign: &Sign) -> Option<Cut> {
        let activation = self.activations.iter().position(|free| free.node == sign.node)?;
        let element = u32::try_from(sign.element).ok()?;
        let at = self.activations[activation].at.binary_search(&element).ok()?;
        Some(Cut { activation, at, limit: sign.limit, positive: sign.positive })
    }

    /// The sign that a cut gives.
    pub fn sign(&self, cut: &Cut) -> Sign {
        let free = &self.activations[cut.activation];
        let element = free.at[cut.at] as usize;
        Sign { node: free.node, element, limit: cut.limit, positive: cut.positive }
    }

    /// Whether two cuts are of the same element.
    pub fn same(&self, cut: &Cut, other: &Cut) -> bool {
        let place = |cut: &Cut| {
            let free = &self.activations[cut.activation];
            (free.input, free.at[cut.at])
        };
        (cut.activation, cut.at) == (other.activation, other.at) || place(cut) == place(other)
    }

    /// The activations that read the element of a cut, and its place in each.
    pub fn read_by(&self, cut: &Cut) -> impl Iterator<Item = (&Free, usize)> {
        let free = &self.activations[cut.activation];
        let (node, element) = (free.input, free.at[cut.at]);
        let readers = self.activations.iter().filter(move |free| free.input == node);
        readers.filter_map(move |free| Some((free, free.at.binary_search(&element).ok()?)))
    }

    /// The bounds of an element that an activation has free, where some cuts hold.
    pub fn part(&self, free: &Free, element: usize, cuts: &[Cut]) -> (f64, f64) {
        let at = free.at.binary_search(&(element as u32)).expect("it is free");
        let (mut lower, mut upper) = free.ends[at];
        for cut in cuts {
            let other = &self.activations[cut.activation];
            if other.input == free.input && other.at[cut.at] as usize == element {
                Sign::narrow(f64::from(cut.limit), cut.positive, &mut lower, &mut upper);
            }
        }
        // Bounds that cross by a rounding leave no point, so that any will do.
        if lower > upper { (upper, lower) } else { (lower, upper) }
    }

    /// Numbers one row keeps alive in the search: node buffers, lines, marks and parameters.
    pub fn row_size(&self) -> usize {
        let nodes = self.prepared.graph.nodes();
        let buffers: usize = self.steps.iter().map(|step| nodes[step.node].len()).sum();
        2 * buffers + 7 * self.elements + 5 * self.parameters
    }
}

fn select(state: &State, index: usize) -> Option<Role> {
    match &state.nodes[index].relaxation {
        Relaxation::Planes(planes) => return pair(planes).map(Role::Pair),
        Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset } => {
            let plane = |slope: &[f64], offset: &[f64]| Plane {
                slopes: [slope.to_vec(), vec![0.0; slope.len()]],
                offset: offset.to_vec(),
            };
            let lower = plane(lower_slope, lower_offset);
            let upper = plane(upper_slope, upper_offset);
            return pair(&Planes { from: [None, None], lower, upper }).map(Role::Pair);
        }
        _ => {}
    }
    let Relaxation::Select { lower_index, upper_index, upper_offset } =
        &state.nodes[index].relaxation
    else {
        return None;
    };
    let narrow = |at: usize| u32::try_from(at).ok();
    Some(Role::Select {
        below: lower_index.iter().map(|&at| narrow(at)).collect::<Option<_>>()?,
        above: upper_index.iter().map(|at| at.map_or(Some(NONE), narrow)).collect::<Option<_>>()?,
        offset: upper_offset.iter().map(|&offset| offset as f32).collect(),
    })
}

/// `None` where a number is not finite in float32.
fn pair(planes: &Planes) -> Option<Pair> {
    let side = |plane: &Plane| -> Option<Vec<[f32; 3]>> {
        let entry = |i: usize| {
            let numbers =
                [plane.slopes[0][i], plane.slopes[1][i], plane.offset[i]].map(|x| x as f32);
            numbers.iter().all(|x| x.is_finite()).then_some(numbers)
        };
        (0..plane.offset.len()).map(entry).collect()
    };
    let places = (0..planes.lower.offset.len()).map(|i| planes.places(i).map(|at| at as u32));
    Some(Pair {
        places: places.collect(),
        below: side(&planes.lower)?,
        above: side(&planes.upper)?,
    })
}

impl Free {
    fn new(
        state: &State,
        node: &Node,
        index: usize,
        kind: Activation,
        signs: &[Sign],
        (first, first_parameter): (usize, usize),
    ) -> Option<Self> {
        let input = node.inputs[0];
        let (lower, upper) = (&state.nodes[input].lower, &state.nodes[input].upper);
        let Relaxation::Elementwise { lower_slope, lower_offset, upper_slope, upper_offset } =
            &state.nodes[index].relaxation
        else {
            return None;
        };
        let open = |i: usize| match kind {
            Activation::Hinge { .. } => !(lower[i] >= 0.0 || upper[i] <= 0.0),
            Activation::Curve(_) => true,
        };
        let mut signed: Vec<usize> =
            signs.iter().filter(|sign| sign.node == index).map(|sign| sign.element).collect();
        signed.sort_unstable();
        let named = |i: &usize| open(*i) || signed.binary_search(i).is_ok();
        let at: Vec<usize> = (0..lower.len()).filter(named).collect();
        let pick = |values: &[f64]| -> Option<Vec<f32>> {
            let picked = at.iter().map(|&i| values[i] as f32);
            picked.map(|x| x.is_finite().then_some(x)).collect()
        };
        let lines = Lines {
            lower_slope: pick(lower_slope)?,
            lower_offset: pick(lower_offset)?,
            upper_slope: pick(upper_slope)?,
            upper_offset: pick(upper_offset)?,
        };
        let mut base = Vec::new();
        if at.len() < lower.len() {
            base.extend(lower_slope.iter().map(|&slope| slope as f32));
            at.iter().for_each(|&i| base[i] = 0.0);
        }
        let (mut usual, mut least, mut most) = (Vec::new(), Vec::new(), Vec::new());
        let ends: Vec<(f64, f64)> = at.iter().map(|&i| (lower[i], upper[i])).collect();
        let mut parameter = |value: f64, range: (f64, f64)| {
            usual.push(value as f32);
            least.push(range.0 as f32);
            most.push(range.1 as f32);
        };
        match kind {
            Activation::Hinge { slope } => {
                let range = (slope.min(1.0), slope.max(1.0));
                let through_zero = if slope <= 1.0 { lower_slope } else { upper_slope };
                for &i in &at {
                    let known = (through_zero[i], through_zero[i]);
                    parameter(through_zero[i], if open(i) { range } else { known });
                }
            }
            Activation::Curve(curve) => {
                let touches: Vec<_> = ends.iter().map(|&(l, u)| curve.touches(l, u)).collect();
                for side in 0..2 {
                    for touch in touches.iter().map(|touches| touches[side]) {
                        parameter(touch.usual, touch.range.unwrap_or((touch.usual, touch.usual)));
                    }
                }
            }
        }
        let at = at.into_iter().map(|i| u32::try_from(i).ok()).collect::<Option<_>>()?;
        Some(Self {
            node: index,
            input,
            kind,
            at,
            ends,
            base,
            first,
            first_parameter,
            usual,
            least,
            most,
            lines,
        })
    }

    /// The lines that depend on parameters, for the parameters given, which lie between `least` and
    /// `most`.
    pub fn aim(
        &self,
        parameters: &[f32],
        (least, most): (&[f32], &[f32]),
        lines: &mut Lines,
        first: usize,
    ) {
        let count = self.at.len();
        let range = first..first + count;
        match self.kind {
            Activation::Hinge { slope } if slope <= 1.0 => {
                lines.lower_slope[range].copy_from_slice(parameters);
            }
            Activation::Hinge { .. } => lines.upper_slope[range].copy_from_slice(parameters),
            Activation::Curve(curve) => {
                let (below, above) = parameters.split_at(count);
                let sides = [
                    (below, &least[..count], &most[..count]),
                    (above, &least[count..], &most[count..]),
                ];
                for (side, (points, least, most)) in sides.into_iter().enumerate() {
                    for (i, &point) in points.iter().enumerate() {
                        if least[i] >= most[i] {
                            continue; // nothing to choose
                        }
                        let point = f64::from(point);
                        let [value, slope, _] = curve.derivatives(point);
                        let offset = (value - slope * point) as f32;
                        if side == 0 {
                            lines.lower_slope[first + i] = slope as f32;
                            lines.lower_offset[first + i] = offset;
                        } else {
                            lines.upper_slope[first + i] = slope as f32;
                            lines.upper_offset[first + i] = offset;
                        }
                    }
                }
            }
        }
    }

    /// Gradient of the row's bound by the parameters, from the coefficients on the activation's
    /// outputs and the values that it reads at the minimiser (both of the free elements).
    pub fn gradient(
        &self,
        parameters: &[f32],
        (least, most): (&[f32], &[f32]),
        (coefficients, values): (&[f32], &[f32]),
        gradient: &mut [f32],
    ) {
        let count = self.at.len();
        match self.kind {
            Activation::Hinge { slope } => {
                let below = slope <= 1.0;
                for ((g, &a), &z) in gradient.iter_mut().zip(coefficients).zip(values) {
                    *g = if below { a.max(0.0) } else { a.min(0.0) } * z;
                }
            }
            Activation::Curve(curve) => {
                for (i, (&a, &z)) in coefficients.iter().zip(values).enumerate() {
                    let own = if a > 0.0 { i } else { count + i };
                    (gradient[i], gradient[count + i]) = (0.0, 0.0);
                    if least[own] < most[own] {
                        let point = f64::from(parameters[own]);
                        let bend = curve.derivatives(point)[2];
                        gradient[own] = a * (bend * (f64::from(z) - point)) as f32;
                    }
                }
            }
        }
    }
}

impl Layout<'_> {
    /// Scalar operations of carrying one row one way, roughly.
    pub fn work(&self) -> usize {
        let graph = self.prepared.graph;
        let work = |step: &Step| {
            let (node, shapes) = (&graph.nodes()[step.node], graph.input_shapes(step.node));
            node.op.work(&self.site(step.node, &shapes, 1))
        };
        self.steps.iter().map(work).sum()
    }

    /// Where `node` is applied to `count` rows.
    pub fn site<'s>(&'s self, node: usize, shapes: &'s [&'s [usize]], count: usize) -> Site<'s> {
        Site { batch: count, inputs: shapes, output: &self.prepared.graph.nodes()[node].shape }
    }
}
