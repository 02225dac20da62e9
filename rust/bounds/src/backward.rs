//! Carries linear rows back through a graph and bounds them from below: CROWN (Zhang et al.
//! 2018, arXiv:1811.00866) with every rounding error accounted for.
//!
//! A row `a` at a node stands for `a · z`. Going back through an operator replaces it by rows
//! at the inputs and a constant such that the sum bounds `a · z` from below. The constant is
//! kept as a float that never exceeds the real one: what floating-point products may have added
//! to the row, measured against the sizes of the values it meets, is taken off it at once.

mod operators;
mod pass;
mod pool;
mod route;

pub(crate) use pool::Pool;
pub(crate) use route::Route;
