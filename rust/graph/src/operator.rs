//! The contract every operator file fulfils.

use aisec_numeric::Scalar;
use aisec_numeric::conv::Unit;

use crate::beside::{Part, Rows, by_rows};
use crate::curve::Curve;
use crate::pair::Planes;
use crate::patch::{Cropped, Patch};

/// Where an operator is applied: how many samples lie one after another in each buffer, and
/// the per-sample shapes of its inputs and its output (the batch axis is never part of a shape).
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub batch: usize,
    pub inputs: &'a [&'a [usize]],
    pub output: &'a [usize],
}

impl Site<'_> {
    pub fn input_len(&self, index: usize) -> usize {
        self.inputs[index].iter().product()
    }

    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }
}

/// Element-wise float64 bounds of a node, `batch` samples one after another.
#[derive(Debug, Clone, Copy)]
pub struct Interval<'a> {
    pub lower: &'a [f64],
    pub upper: &'a [f64],
}

/// Linear bounds of an operator's output in terms of its input, for one sample and given
/// input bounds. All lines hold in real arithmetic for the exact float coefficients stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Relaxation {
    /// The operator is affine in its inputs: [`Operator::vjp`] carries coefficients back
    /// exactly (up to the rounding covered by [`Operator::terms`] and [`Operator::magnitude`])
    /// and its value at zero is the constant part.
    Affine,
    /// `lower_slope·x + lower_offset <= y <= upper_slope·x + upper_offset`, element by element.
    Elementwise {
        lower_slope: Vec<f64>,
        lower_offset: Vec<f64>,
        upper_slope: Vec<f64>,
        upper_offset: Vec<f64>,
    },
    /// Each output depends on one element of each of two inputs, and lies between two planes.
    Planes(Planes),
    /// Each output is bounded below by one input element, and above by one input element plus
    /// `upper_offset` or, where `upper_index` is `None`, by the constant `upper_offset`.
    Select { lower_index: Vec<usize>, upper_index: Vec<Option<usize>>, upper_offset: Vec<f64> },
}

/// An operator whose lines, element by element, depend on numbers that may be chosen.
#[derive(Debug, Clone, Copy)]
pub enum Activation {
    /// `y = x` for positive `x`, `slope·x` otherwise. One parameter an element: where the sign of
    /// `x` is open, the slope of the line through zero that is not the chord, between `slope`
    /// and 1.
    Hinge { slope: f64 },
    /// A smooth function. Two parameters an element, those of all lower lines first: the point
    /// where the lower line touches a convex part of the curve, and where the upper line touches
    /// a concave part. A point where the curve bends the other way, or turns, stands for the
    /// chord (of a curve that turns more than twice: for the segment of the hull).
    Curve(Curve),
}

impl Activation {
    /// Parameters of one element.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Hinge { .. } => 1,
            Self::Curve(_) => 2,
        }
    }
}

/// What [`Operator::vjp`] reads besides the cotangent; the executor keeps nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    pub inputs: bool,
    pub output: bool,
}

impl Reads {
    /// Affine operators: the cotangent alone.
    pub const NOTHING: Self = Self { inputs: false, output: false };
    pub const INPUTS: Self = Self { inputs: true, output: false };
    pub const OUTPUT: Self = Self { inputs: false, output: true };
}

/// One operator's rules, side by side. Buffers are row-major and hold `site.batch` samples.
///
/// Every sample is computed bit for bit the same whatever the batch, its position in it and
/// the number of threads: sums run over a fixed order that depends on shapes alone.
pub trait Operator {
    /// The output shape, or what is wrong with the inputs.
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String>;

    /// Writes the output for every sample.
    fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]);

    /// What [`Operator::vjp`] reads; the slices it does not ask for may be empty.
    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    /// Whether the output is the first input's buffer under another shape.
    fn is_view(&self) -> bool {
        false
    }

    /// Multiplications and additions of one sample's `forward`, roughly; used to size chunks.
    fn work(&self, site: &Site) -> usize {
        site.output_len()
    }

    /// Adds the vector-Jacobian product of `cotangent` to `grads[i]` for each input `i`.
    /// Reads of `inputs` and `output` only what [`Operator::reads`] names.
    fn vjp<T: Scalar>(
        &self,
        site: &Site,
        inputs: &[&[T]],
        output: &[T],
        cotangent: &[T],
        grads: &mut [&mut [T]],
    );

    /// Affine operators: [`Operator::vjp`] of `site.batch` rows side by side, which replaces what is
    /// in `parts`, one for each input.
    fn vjp_beside(&self, site: &Site, rows: Rows, parts: &mut [Part])
    where
        Self: Sized,
    {
        by_rows(self, site, rows, parts);
    }

    /// [`Operator::vjp_beside`] of single elements of the output, one a row, for operators that
    /// need not sum anything for it; otherwise nothing is written and the answer is false.
    fn units_beside(&self, site: &Site, units: &[Unit], part: &mut [f64]) -> bool {
        let _ = (site, units, part);
        false
    }

    /// Whether each input has the output's elements in the same order, and each element of the
    /// output depends on those in its place alone.
    fn keeps_places(&self) -> bool {
        false
    }

    /// Outward-rounded bounds of the output over the input boxes, for every sample; NaN where
    /// infinite bounds leave nothing to say.
    fn interval(&self, site: &Site, inputs: &[Interval], lower: &mut [f64], upper: &mut [f64]);

    /// Whether the operator is affine in its inputs, so that [`Operator::relax`] has nothing
    /// to choose.
    fn is_affine(&self) -> bool {
        true
    }

    /// Whether each output reads at most one input element and no two outputs the same one, so
    /// that a box is mapped onto a box.
    fn is_separable(&self) -> bool {
        false
    }

    /// Linear bounds for one sample (`site.batch == 1`) given sound input bounds.
    fn relax(&self, site: &Site, inputs: &[Interval]) -> Relaxation {
        let _ = (site, inputs);
        Relaxation::Affine
    }

    /// The family [`Operator::relax`] picks its lines from, if there is a choice.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// [`Operator::relax`] with the parameters that [`Operator::activation`] describes, all of a
    /// sample's elements in order. Any numbers give lines that hold: what lies outside an
    /// element's range is moved into it.
    fn relax_with(&self, site: &Site, inputs: &[Interval], parameters: &[f64]) -> Relaxation {
        let _ = parameters;
        self.relax(site, inputs)
    }

    /// Operators that are not affine: marks the elements of an input whose bounds, were they
    /// tighter, would tighten [`Operator::relax`] (one sample).
    fn mark_loose(&self, site: &Site, input: Interval, loose: &mut [bool]) {
        let _ = (site, input, loose);
    }

    /// Affine operators: the longest sum (number of products) behind one entry of `vjp`, 0 where
    /// values are only moved. Rounding errors are bounded by gamma of this length, so `vjp` must
    /// be a plain sum of products in some order, with or without fused multiply-add, and its
    /// value at zero must be free of rounding.
    fn terms(&self, site: &Site) -> usize {
        let _ = site;
        0
    }

    /// Affine operators: an upper bound of `|W|·x + |c|` for non-negative `x` (one sample),
    /// where `W` and `c` are the operator's matrix and constant. Other operators have none.
    fn magnitude(&self, site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
        let _ = (site, inputs);
        output.fill(f64::INFINITY);
    }

    /// The operator restricted to a patch of its `[C, H, W]` output, or `None` when it does not
    /// act locally on images. `vjp` and `relax` of the part are those of the whole there.
    fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>>
    where
        Self: Sized,
    {
        let _ = (site, patch);
        None
    }
}
