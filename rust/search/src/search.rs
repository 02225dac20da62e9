//! The state machine every attack on one sample is.

/// How a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A point with a negative margin was found; not yet re-checked.
    Found,
    /// The budget is spent and every logit seen was finite.
    Exhausted,
    /// Some point gave logits that are not finite, and no point was misclassified.
    NotFinite,
}

/// What a search found on one sample and what it spent.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub status: Status,
    /// The evaluated point with the smallest margin; the clean input where none was finite.
    pub x: Vec<f32>,
    /// The margin there, infinite where no logits were finite.
    pub margin: f64,
    /// Points evaluated.
    pub forwards: u64,
    /// Gradients evaluated.
    pub gradients: u64,
    /// How much of the margin the last 10 points took off, or the second half of fewer;
    /// NaN where the search is for something else.
    pub late: f64,
}

/// Points at the end of a search that tell whether it has come to rest.
const LATE: usize = 10;

/// An attack on one sample: proposes a point, learns its logits and, where it wants one, a
/// gradient, proposes the next.
pub trait Search: Send + Sync {
    /// Writes the next point to evaluate.
    fn ask(&mut self, row: &mut [f32]);

    /// Learns the logits of the point written by the last `ask`; true when the search is over.
    fn tell(&mut self, row: &[f32], logits: &[f32]) -> bool;

    /// Gives up what was found.
    fn finish(self: Box<Self>) -> Outcome;

    /// Whether the point of the next `ask` is to be differentiated: then a `tell` that does not
    /// end the search is followed by `cotangent` and `step`.
    fn needs_gradient(&self) -> bool {
        false
    }

    /// Writes the direction in logit space whose pull-back is wanted; its scale is free.
    fn cotangent(&self, _logits: &[f32], cotangent: &mut [f32]) {
        cotangent.fill(0.0);
    }

    /// Learns the pull-back, which it may overwrite, and moves to the next point.
    fn step(&mut self, _gradient: &mut [f32]) {}
}

/// The smallest margin of a search so far, and whether that is enough.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub x: Vec<f32>,
    pub margin: f64,
    pub not_finite: bool,
    pub forwards: u64,
    pub gradients: u64,
    /// The smallest margin after each of the last points, by their number modulo its length.
    trail: [f64; 16],
}

/// A margin this much below zero, relative to the largest logit, is negative beyond float32
/// rounding of the forward pass.
const CONFIDENT: f64 = 1.0 / 65536.0;
/// A margin this much below zero ends a search: other hardware decides the point the same. Smaller
/// negative margins are kept and searched further.
const CLEAR: f64 = 1.0 / 4096.0;

/// Whether a margin is negative beyond float32 rounding of these logits.
pub(crate) fn beyond_rounding(margin: f64, logits: &[f32]) -> bool {
    margin < -CONFIDENT * largest(logits)
}

fn largest(logits: &[f32]) -> f64 {
    let finite = logits.iter().filter(|z| z.is_finite());
    finite.fold(0.0f64, |scale, &z| scale.max(f64::from(z).abs()))
}

impl Record {
    pub fn new(clean: &[f32]) -> Self {
        Self {
            x: clean.to_vec(),
            margin: f64::INFINITY,
            not_finite: false,
            forwards: 0,
            gradients: 0,
            trail: [f64::INFINITY; 16],
        }
    }

    /// Takes the logits at `row`. Returns the margin, or `None` where it is not finite.
    pub fn learn(&mut self, row: &[f32], logits: &[f32], label: usize) -> Option<f64> {
        self.forwards += 1;
        let margin = crate::loss::margin(logits, label);
        match margin {
            None => self.not_finite = true,
            Some(margin) => {
                if margin < self.margin {
                    self.margin = margin;
                    self.x.copy_from_slice(row);
                }
            }
        }
        self.trail[self.forwards as usize % self.trail.len()] = self.margin;
        margin
    }

    /// Whether the best margin is negative beyond float32 rounding of these logits.
    pub fn confident(&self, logits: &[f32]) -> bool {
        self.margin < -CLEAR * largest(logits)
    }

    /// What the last points took off the margin.
    fn late(&self) -> f64 {
        let steps = self.forwards.saturating_sub(1) as usize;
        let back = LATE.min(steps.div_ceil(2));
        self.trail[(self.forwards as usize - back) % self.trail.len()] - self.margin
    }

    pub fn finish(self) -> Outcome {
        let late = if self.forwards == 0 { f64::NAN } else { self.late() };
        let status = if self.margin < 0.0 {
            Status::Found
        } else if self.not_finite {
            Status::NotFinite
        } else {
            Status::Exhausted
        };
        Outcome {
            status,
            x: self.x,
            margin: self.margin,
            forwards: self.forwards,
            gradients: self.gradients,
            late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of points with these margins.
    fn late(margins: &[f32]) -> f64 {
        let mut record = Record::new(&[0.0]);
        for &margin in margins {
            record.learn(&[margin], &[margin, 0.0], 0);
        }
        record.finish().late
    }

    #[test]
    fn what_the_last_points_gain() {
        let falling: Vec<f32> = (0..40).map(|i| 100.0 - i as f32).collect();
        assert_eq!(late(&falling), 10.0);
        // The second half of fewer than twenty steps.
        assert_eq!(late(&falling[..9]), 4.0);
        assert_eq!(late(&falling[..2]), 1.0);
        assert_eq!(late(&falling[..1]), 0.0);
        assert!(late(&[]).is_nan());
        // The smallest margin so far counts, not the last.
        let mut early = vec![1.0; 40];
        early[20] = 0.25;
        assert_eq!(late(&early), 0.0);
        early[30] = 0.125;
        assert_eq!(late(&early), 0.125);
        // Margins that are not numbers change nothing.
        early[39] = f32::NAN;
        assert_eq!(late(&early), 0.125);
        assert!(late(&[f32::NAN; 5]).is_nan());
    }
}
