//! Lines of curves over parts of their bounds, kept: most domains of a tree share theirs.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use aisec_graph::Curve;

/// Most parts that are kept.
const MOST: usize = 1 << 16;

/// What a curve has between two numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bent {
    /// Slope and offset of the usual lines, below and above.
    pub lines: [(f32, f32); 2],
    /// Of each line, the parameter behind it and the range of choices.
    pub touches: [(f32, (f32, f32)); 2],
}

impl Bent {
    fn new(curve: &Curve, l: f64, u: f64) -> Self {
        let touches = curve.touches(l, u).map(|touch| {
            let usual = touch.usual as f32;
            (usual, touch.range.map_or((usual, usual), |(low, high)| (low as f32, high as f32)))
        });
        let lines = curve.usual(l, u).map(|(slope, offset)| (slope as f32, offset as f32));
        Self { lines, touches }
    }
}

/// Those of one layout, by activation and bounds.
#[derive(Debug, Default)]
pub(crate) struct Bends {
    known: RwLock<HashMap<(usize, u64, u64), Bent>>,
}

impl Bends {
    /// The lines of a curve, which a number stands for, between two numbers.
    pub fn between(&self, number: usize, curve: &Curve, (l, u): (f64, f64)) -> Bent {
        let key = (number, l.to_bits(), u.to_bits());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        known.unwrap_or_else(|| {
            let found = Bent::new(curve, l, u);
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(key, found);
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use aisec_graph::testing::random_bent_graph;
    use aisec_graph::{Activation, Operator};

    use super::*;

    /// What is kept is what would be found again, also of other curves between the same numbers.
    #[test]
    fn what_is_kept_is_what_was_found() {
        let bends = Bends::default();
        let mut seen = 0;
        for seed in 0..40 {
            for (number, node) in random_bent_graph(seed, 12, 2).nodes().iter().enumerate() {
                let Some(Activation::Curve(curve)) = node.op.activation() else { continue };
                let key = 1000 * seed as usize + number;
                for (l, u) in [(0.5, 2.0), (0.25, 2.0), (0.5, 2.0)] {
                    let (kept, fresh) =
                        (bends.between(key, &curve, (l, u)), Bent::new(&curve, l, u));
                    assert_eq!((kept.lines, kept.touches), (fresh.lines, fresh.touches));
                    seen += 1;
                }
            }
        }
        assert!(seen > 60, "{seen}");
    }
}
