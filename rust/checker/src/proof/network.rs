//! A graph as the checker reads it: operators from their definitions, nothing of their code.

use aisec_graph::Graph;
use aisec_numeric::Cancel;

use super::curve::Curve;
use super::functions::Function;
use super::linear::{Linear, attr};
use super::lines::Activation;
use super::pair::{self, Places};
use super::windows::Windows;

/// What a node computes.
#[derive(Debug)]
pub(crate) enum Rule {
    Input,
    Linear(Linear),
    Active(Activation),
    /// A product of two elements, for each element.
    Product(Places),
    /// The largest of some elements of the input, for each element.
    Largest(Vec<Vec<usize>>),
}

#[derive(Debug)]
pub(crate) struct Place {
    pub rule: Rule,
    pub inputs: Vec<usize>,
    pub len: usize,
    /// What a linear rule adds to each element.
    pub constants: Vec<f64>,
    /// The nodes that are not linear and read this one.
    pub readers: Vec<usize>,
    /// Interval arithmetic gives the exact range of each element over a box of inputs.
    pub exact_on_boxes: bool,
    /// Every path from the input is linear.
    pub linear_in_input: bool,
    /// The most terms that meet in one coefficient carried back through the node.
    pub fan: usize,
}

/// Everything up to the output.
#[derive(Debug)]
pub(crate) struct Network<'a> {
    pub places: Vec<Place>,
    pub cancel: &'a Cancel,
}

impl<'a> Network<'a> {
    /// Fails with the operator that has no rule here.
    pub fn new(graph: &Graph, cancel: &'a Cancel) -> Result<Self, String> {
        let mut places: Vec<Place> = Vec::new();
        let mut boxes: Vec<bool> = Vec::new();
        for (at, node) in graph.nodes().iter().take(graph.output() + 1).enumerate() {
            let name = node.op.name();
            let fail = |why: String| format!("node {at} ({name}): {why}");
            let rule = match name {
                "input" => Rule::Input,
                "relu" => Rule::Active(Activation::Hinge(0.0)),
                "leaky_relu" => {
                    Rule::Active(Activation::Hinge(attr(&node.attrs, "slope").map_err(fail)?))
                }
                "sigmoid" => Rule::Active(Activation::Curve(Curve::Sigmoid)),
                "tanh" => Rule::Active(Activation::Curve(Curve::Tanh)),
                "sign" => Rule::Active(Activation::Sign),
                "mul" => Rule::Product(pair::places(&graph.input_shapes(at), &node.shape)),
                "max_pool2d" => {
                    let input = graph.input_shapes(at)[0];
                    let kernel = attr(&node.attrs, "kernel").map_err(fail)?;
                    let windows = Windows::new(node, input, kernel).map_err(fail)?;
                    let (area, outputs) = (input[1] * input[2], node.shape[1] * node.shape[2]);
                    let window = |output: usize| {
                        let mut seen = Vec::new();
                        let first = output / outputs * area;
                        windows.taps(output % outputs, |_, position| seen.push(first + position));
                        seen
                    };
                    Rule::Largest((0..node.len()).map(window).collect())
                }
                name if Function::named(name).is_some() => {
                    let function = Function::named(name).expect("it was found");
                    Rule::Active(Activation::Bend(function))
                }
                _ => match Linear::new(graph, at).map_err(fail)? {
                    Some(linear) => Rule::Linear(linear),
                    None => return Err(fail("the checker knows no such operator".to_owned())),
                },
            };
            let linear = matches!(rule, Rule::Input | Rule::Linear(_));
            let separable = match &rule {
                Rule::Input | Rule::Active(_) => true,
                Rule::Linear(linear) => linear.is_separable(),
                Rule::Largest(_) | Rule::Product(_) => false,
            };
            let from_box = node.inputs.len() <= 1 && node.inputs.iter().all(|&input| boxes[input]);
            boxes.push(from_box && separable);
            if !linear {
                node.inputs.iter().for_each(|&input| places[input].readers.push(at));
            }
            let constants = match &rule {
                Rule::Linear(linear) => (0..node.len()).map(|i| linear.constant(i)).collect(),
                _ => Vec::new(),
            };
            let fan = match &rule {
                Rule::Linear(linear) => linear.fan(),
                Rule::Input | Rule::Active(_) => 1,
                Rule::Largest(_) | Rule::Product(_) => node.len(),
            };
            places.push(Place {
                rule,
                constants,
                inputs: node.inputs.clone(),
                len: node.len(),
                readers: Vec::new(),
                exact_on_boxes: from_box,
                linear_in_input: linear && node.inputs.iter().all(|&i| places[i].linear_in_input),
                // An input may be in several slots; what is there already, and a division.
                fan: fan * node.inputs.len() + 2,
            });
        }
        Ok(Self { places, cancel })
    }

    pub fn output(&self) -> usize {
        self.places.len() - 1
    }
}
