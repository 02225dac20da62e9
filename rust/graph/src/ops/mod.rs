//! The operators. To add one: its file, and its line in the list below.

use std::ops::RangeInclusive;

use aisec_numeric::Scalar;
use aisec_numeric::conv::Unit;

use crate::beside::{Part, Rows};
use crate::operator::{Activation, Interval, Operator, Reads, Relaxation, Site};
use crate::patch::{Cropped, Patch};
use crate::spec::Parts;

mod curved;
mod strided;
mod window;

pub(crate) use window::Window;

/// How an operator is made from its description.
pub(crate) trait Build: Sized {
    /// How many inputs it takes.
    const INPUTS: RangeInclusive<usize> = 1..=1;

    fn build(parts: &mut Parts) -> Result<Self, String>;
}

macro_rules! operators {
    ($($name:literal => $module:ident::$type:ident,)*) => {
        $(
            mod $module;
            pub use $module::$type;
        )*

        /// Any operator.
        #[derive(Debug, Clone)]
        pub enum Op {
            $($type($type),)*
        }

        impl Op {
            /// Every operator's name in the wire format.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The operator's name in the wire format.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$type(_) => $name,)* }
            }

            /// `None` when there is no operator of that name.
            pub(crate) fn build(name: &str, parts: &mut Parts) -> Option<Result<Self, String>> {
                match name {
                    $($name => Some(build::<$type>(parts).map(Op::$type)),)*
                    _ => None,
                }
            }
        }

        impl Operator for Op {
            fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
                match self { $(Op::$type(op) => op.shape(inputs),)* }
            }

            fn forward<T: Scalar>(&self, site: &Site, inputs: &[&[T]], output: &mut [T]) {
                match self { $(Op::$type(op) => op.forward(site, inputs, output),)* }
            }

            fn reads(&self) -> Reads {
                match self { $(Op::$type(op) => op.reads(),)* }
            }

            fn is_view(&self) -> bool {
                match self { $(Op::$type(op) => op.is_view(),)* }
            }

            fn work(&self, site: &Site) -> usize {
                match self { $(Op::$type(op) => op.work(site),)* }
            }

            fn vjp<T: Scalar>(
                &self,
                site: &Site,
                inputs: &[&[T]],
                output: &[T],
                cotangent: &[T],
                grads: &mut [&mut [T]],
            ) {
                match self {
                    $(Op::$type(op) => op.vjp(site, inputs, output, cotangent, grads),)*
                }
            }

            fn interval(
                &self,
                site: &Site,
                inputs: &[Interval],
                lower: &mut [f64],
                upper: &mut [f64],
            ) {
                match self { $(Op::$type(op) => op.interval(site, inputs, lower, upper),)* }
            }

            fn vjp_beside(&self, site: &Site, rows: Rows, parts: &mut [Part]) {
                match self { $(Op::$type(op) => op.vjp_beside(site, rows, parts),)* }
            }

            fn units_beside(&self, site: &Site, units: &[Unit], part: &mut [f64]) -> bool {
                match self { $(Op::$type(op) => op.units_beside(site, units, part),)* }
            }

            fn keeps_places(&self) -> bool {
                match self { $(Op::$type(op) => op.keeps_places(),)* }
            }

            fn is_affine(&self) -> bool {
                match self { $(Op::$type(op) => op.is_affine(),)* }
            }

            fn is_separable(&self) -> bool {
                match self { $(Op::$type(op) => op.is_separable(),)* }
            }

            fn mark_loose(&self, site: &Site, input: Interval, loose: &mut [bool]) {
                match self { $(Op::$type(op) => op.mark_loose(site, input, loose),)* }
            }

            fn crop(&self, site: &Site, patch: &Patch) -> Option<Cropped<Self>> {
                match self {
                    $(Op::$type(op) => op
                        .crop(site, patch)
                        .map(|part| Cropped { op: Op::$type(part.op), inputs: part.inputs }),)*
                }
            }

            fn relax(&self, site: &Site, inputs: &[Interval]) -> Relaxation {
                match self { $(Op::$type(op) => op.relax(site, inputs),)* }
            }

            fn activation(&self) -> Option<Activation> {
                match self { $(Op::$type(op) => op.activation(),)* }
            }

            fn relax_with(&self, site: &Site, inputs: &[Interval], parameters: &[f64]) -> Relaxation {
                match self { $(Op::$type(op) => op.relax_with(site, inputs, parameters),)* }
            }

            fn terms(&self, site: &Site) -> usize {
                match self { $(Op::$type(op) => op.terms(site),)* }
            }

            fn magnitude(&self, site: &Site, inputs: &[&[f64]], output: &mut [f64]) {
                match self { $(Op::$type(op) => op.magnitude(site, inputs, output),)* }
            }
        }
    };
}

operators! {
    "input" => input::Input,
    "constant" => constant::Constant,
    "affine" => affine::Affine,
    "conv2d" => conv2d::Conv2d,
    "add_const" => add_const::AddConst,
    "mul_const" => mul_const::MulConst,
    "div_const" => div_const::DivConst,
    "add" => add::Add,
    "sub" => sub::Sub,
    "reshape" => reshape::Reshape,
    "transpose" => transpose::Transpose,
    "pad" => pad::Pad,
    "avg_pool2d" => avg_pool2d::AvgPool2d,
    "max_pool2d" => max_pool2d::MaxPool2d,
    "concat" => concat::Concat,
    "slice" => slice::Slice,
    "relu" => relu::Relu,
    "leaky_relu" => leaky_relu::LeakyRelu,
    "sigmoid" => sigmoid::Sigmoid,
    "tanh" => tanh::Tanh,
    "exp" => exp::Exp,
    "log" => log::Log,
    "sqrt" => sqrt::Sqrt,
    "reciprocal" => reciprocal::Reciprocal,
    "square" => square::Square,
    "cube" => cube::Cube,
    "sin" => sin::Sin,
    "cos" => cos::Cos,
    "erf" => erf::Erf,
    "softplus" => softplus::Softplus,
    "elu" => elu::Elu,
    "silu" => silu::Silu,
    "gelu" => gelu::Gelu,
    "mul" => mul::Mul,
    "sign" => sign::Sign,
}

fn build<O: Build>(parts: &mut Parts) -> Result<O, String> {
    let (least, most) = (*O::INPUTS.start(), *O::INPUTS.end());
    let given = parts.inputs.len();
    if (least..=most).contains(&given) {
        return O::build(parts);
    }
    let takes = if least == most { least.to_string() } else { format!("{least} to {most}") };
    Err(format!("takes {takes} input(s), got {given}"))
}
