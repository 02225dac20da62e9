//! Lines below a curve: where they touch it, and offsets that are proven.

use aisec_numeric::rounding::{add_down, mul_down, mul_up, sub_down, sub_up};

use super::shape::Pieces;
use super::{Curve, Touch};
use crate::enclosure::range::{Range, negated};

/// Over an interval shorter than this, relative to its middle if that is below 1, the chord has the
/// derivative at its middle for a slope: the quotient of differences would be little but rounding
/// errors, and other code that finds the same line would not find it again.
const NARROW: f64 = 1e-4;

/// Halvings of the search for a tangent point.
const STEPS: usize = 60;

/// Points at which a curve of many pieces is looked at: an even number, so that its middle is
/// none of them.
const SAMPLES: usize = 64;

/// The curve, or its mirror image `-f(x)`.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub curve: Curve,
    pub flipped: bool,
}

impl Side {
    fn value(&self, x: f64) -> Range {
        let value = (self.curve.value)(x);
        if self.flipped { negated(value) } else { value }
    }

    fn slope(&self, x: f64) -> Range {
        let slope = (self.curve.slope)(x);
        if self.flipped { negated(slope) } else { slope }
    }

    /// Value and derivative in plain floating point.
    fn plain(&self, x: f64) -> (f64, f64) {
        let [value, slope, _] = (self.curve.plain)(x);
        if self.flipped { (-value, -slope) } else { (value, slope) }
    }

    /// A lower bound of the values on `[l, u]`.
    fn least(&self, l: f64, u: f64) -> f64 {
        if l.is_nan() || u.is_nan() {
            return f64::NAN;
        }
        let (low, high) = (self.curve.range)(l, u);
        if self.flipped { -high } else { low }
    }

    fn pieces(&self, l: f64, u: f64) -> Option<Pieces> {
        let known = l.is_finite() && u.is_finite() && self.curve.domain.holds(l, u);
        if known { self.curve.shape.pieces(l, u, self.flipped) } else { None }
    }

    /// The choice there is for the line below: of the points that have a tangent which stays below
    /// the curve, the middle of the interval (it leaves the least area) or the nearest to it.
    pub fn touch(&self, l: f64, u: f64) -> Touch {
        let Some(pieces) = self.pieces(l, u) else { return Touch { usual: 0.0, range: None } };
        self.touch_of(l, u, &pieces)
    }

    fn touch_of(&self, l: f64, u: f64, pieces: &Pieces) -> Touch {
        let middle = 0.5 * l + 0.5 * u;
        let between = |low: f64, high: f64| Touch {
            usual: middle.max(low).min(high),
            range: Some((low, high)),
        };
        // Where there is nothing to choose, a point of a concave piece says so.
        let chord = |at: f64| Touch { usual: at, range: None };
        match pieces[..] {
            [piece] if piece.convex => {
                let steep = |x: f64| self.plain(x).1.is_finite();
                let inside = |x: f64| x + (middle - x) / 16.0;
                let low = if steep(l) { l } else { inside(l) };
                let high = if steep(u) { u } else { inside(u) };
                between(low, high)
            }
            [_] => chord(middle),
            [a, b] if a.convex => {
                self.tangent(l, a.high, u).map_or(chord(b.high), |last| between(l, last))
            }
            [a, b] => self.tangent(u, b.low, l).map_or(chord(a.low), |first| between(first, u)),
            [a, b, c] if b.convex => {
                // Tangents at the ends of the convex piece that are no use give the empty range.
                let first = self.tangent(b.high, b.low, a.low);
                let last = self.tangent(b.low, b.high, c.high);
                match (first, last) {
                    (Some(first), Some(last)) if first <= last => between(first, last),
                    _ => chord(a.low),
                }
            }
            _ => {
                let concave = pieces.iter().find(|piece| !piece.convex);
                chord(concave.map_or(middle, |piece| 0.5 * piece.low + 0.5 * piece.high))
            }
        }
    }

    /// The point between `good` and `bad`, in a convex piece, nearest to `bad` whose tangent does
    /// not exceed the curve at `end`, on the side of `bad`; `None` if there is none.
    fn tangent(&self, good: f64, bad: f64, end: f64) -> Option<f64> {
        let height = self.plain(end).0;
        let overshoots = |at: f64| {
            let (value, slope) = self.plain(at);
            value + slope * (end - at) > height
        };
        if overshoots(good) {
            return None;
        }
        let (mut good, mut bad) = (good, bad);
        for _ in 0..STEPS {
            let middle = 0.5 * (good + bad);
            if overshoots(middle) { bad = middle } else { good = middle }
        }
        Some(good)
    }

    /// Slope and offset of a line below the curve on `[l, u]`.
    pub fn below(&self, l: f64, u: f64) -> (f64, f64) {
        match self.pieces(l, u) {
            None => self.level(l, u),
            Some(pieces) => {
                let touch = self.touch_of(l, u, &pieces);
                self.line(l, u, &pieces, touch.usual)
            }
        }
    }

    /// The line below that touches the curve at `point`, see [`crate::Activation::Curve`].
    pub fn below_at(&self, l: f64, u: f64, point: f64) -> (f64, f64) {
        match self.pieces(l, u) {
            None => self.level(l, u),
            Some(pieces) => self.line(l, u, &pieces, point),
        }
    }

    /// Where the bounds leave no line worth looking for.
    fn level(&self, l: f64, u: f64) -> (f64, f64) {
        (0.0, self.least(l, u))
    }

    fn line(&self, l: f64, u: f64, pieces: &Pieces, point: f64) -> (f64, f64) {
        let inside = if point > l { point.min(u) } else { l };
        let touched = pieces.iter().find(|piece| {
            let after = inside > piece.low || (inside == l && inside == piece.low);
            let before = inside < piece.high || (inside == u && inside == piece.high);
            piece.convex && after && before
        });
        let touch = touched.map(|_| inside);
        let slope = match touch {
            Some(point) => self.plain(point).1,
            None => self.usual_slope(l, u, pieces),
        };
        let slope = if slope.is_finite() { slope } else { 0.0 };
        (slope, self.offset(l, u, slope, pieces, touch))
    }

    /// Of the line where no tangent will do: the chord's, or with many pieces that of the convex
    /// hull at the middle.
    fn usual_slope(&self, l: f64, u: f64, pieces: &Pieces) -> f64 {
        let middle = 0.5 * l + 0.5 * u;
        let simple = pieces.len() < 3 || (pieces.len() == 3 && pieces[1].convex);
        let slope = if u - l < NARROW * middle.abs().min(1.0) || u - l < f64::MIN_POSITIVE {
            self.plain(middle).1
        } else if simple {
            (self.plain(u).0 - self.plain(l).0) / (u - l)
        } else {
            self.hull_slope(l, u)
        };
        let (least, most) = self.curve.slopes;
        let (least, most) = if self.flipped { (-most, -least) } else { (least, most) };
        slope.max(least).min(most)
    }

    /// The slope at the middle of the hull of some points of the curve: of the highest segment
    /// below it there.
    fn hull_slope(&self, l: f64, u: f64) -> f64 {
        let middle = 0.5 * l + 0.5 * u;
        let last = (SAMPLES - 1) as f64;
        let mut hull: Vec<(f64, f64)> = Vec::with_capacity(SAMPLES);
        for sample in 0..SAMPLES {
            let part = sample as f64 / last;
            let x = (1.0 - part) * l + part * u;
            let y = self.plain(x).0;
            while let [.., a, b] = hull[..]
                && (b.1 - a.1) * (x - b.0) >= (y - b.1) * (b.0 - a.0)
            {
                hull.pop();
            }
            hull.push((x, y));
        }
        let next = hull.iter().position(|point| point.0 > middle).unwrap_or(hull.len() - 1).max(1);
        let (a, b) = (hull[next - 1], hull[next]);
        (b.1 - a.1) / (b.0 - a.0)
    }

    /// The largest offset this can prove for a line of the given slope below the curve, whose
    /// tangent at `touch` has that slope.
    ///
    /// Where the curve is concave its distance from a line is least at an end; where it is convex
    /// it lies above any of its tangents, whose distance is least at an end too, and the tangent
    /// of the same slope loses nothing.
    fn offset(&self, l: f64, u: f64, slope: f64, pieces: &Pieces, touch: Option<f64>) -> f64 {
        let mut offset = f64::INFINITY;
        let mut done = l;
        for piece in pieces.iter() {
            let ends = [piece.low, piece.high];
            offset = smaller(offset, self.between(done, piece.low, slope));
            done = piece.high;
            if piece.convex {
                let within = |x: &f64| ends[0] <= *x && *x <= ends[1];
                let point = touch.filter(within).unwrap_or_else(|| self.parallel(ends, slope));
                let (value, steep) = (self.value(point).0, self.slope(point));
                for x in ends {
                    let run = (sub_down(x, point), sub_up(x, point));
                    let rise =
                        [(steep.0, run.0), (steep.0, run.1), (steep.1, run.0), (steep.1, run.1)]
                            .map(|(a, b)| if b == 0.0 { 0.0 } else { mul_down(a, b) });
                    let least = rise.into_iter().fold(f64::INFINITY, smaller);
                    offset = smaller(offset, sub_down(add_down(value, least), mul_up(slope, x)));
                }
            } else {
                for x in ends {
                    offset = smaller(offset, sub_down(self.value(x).0, mul_up(slope, x)));
                }
            }
        }
        smaller(offset, self.between(done, u, slope))
    }

    /// The offset next to a turn, where derivatives are at most 2.
    fn between(&self, l: f64, u: f64, slope: f64) -> f64 {
        if l >= u {
            return f64::INFINITY;
        }
        let least = sub_down(self.value(l).0, mul_up(2.0, sub_up(u, l)));
        sub_down(least, mul_up(slope, l).max(mul_up(slope, u)))
    }

    /// Where in a convex piece the derivative is nearest to `slope`.
    fn parallel(&self, [mut low, mut high]: [f64; 2], slope: f64) -> f64 {
        if self.plain(low).1 >= slope {
            return low;
        }
        if self.plain(high).1 <= slope {
            return high;
        }
        for _ in 0..STEPS {
            let middle = 0.5 * (low + high);
            if self.plain(middle).1 < slope { low = middle } else { high = middle }
        }
        low
    }
}

/// The smaller of two lower bounds; nothing is known where one is NaN.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NEG_INFINITY } else { a.min(b) }
}
