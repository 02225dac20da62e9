//! The forward pass of a convolution and of its absolute weights, in one pass over the weights.

use super::forward::{Channels, Forward};
use super::{Convolution, Place, surround};
use crate::absolute::Spread;
use crate::simd::Lanes;

impl Convolution {
    /// `centre = bias + weight ∗ middle` and `reach = |weight| ∗ radius` for every sample; `false`,
    /// and nothing written, where the convolution runs in lines, whose weights are few.
    ///
    /// # Panics
    /// When the slices do not hold the same number of whole samples.
    pub fn forward_absolute(
        &self,
        place: &Place,
        (weight, bias): (&[f64], &[f64]),
        x: Spread,
        centre: &mut [f64],
        reach: &mut [f64],
    ) -> bool {
        let Forward::Channels(tables) = &place.forward else { return false };
        let (count, length, out_length) = self.samples(place, x.middle, centre);
        assert_eq!(self.samples(place, x.radius, reach).0, count, "as many radii as middles");
        let packs = self.channel_packs(weight, bias);
        let Channels { padded, copied, rows, taps, positions } = tables;
        let (plane, out) = (padded[0] * padded[1], self.group_out());
        let copy = if *copied { self.groups * self.channels * plane } else { 0 };
        f64::with_scratch(2 * copy, |images| {
            images.fill(0.0);
            let (middle, radius) = images.split_at_mut(copy);
            for sample in 0..count {
                let part = sample * length..(sample + 1) * length;
                let mut x = Spread { middle: &x.middle[part.clone()], radius: &x.radius[part] };
                if *copied {
                    surround(x.middle, place.input, middle, *padded, place.before);
                    surround(x.radius, place.input, radius, *padded, place.before);
                    x = Spread { middle, radius };
                }
                for (group, pack) in packs.iter().enumerate() {
                    let from = group * self.channels * plane;
                    let to = sample * out_length + group * out * positions.len();
                    pack.multiply_absolute(
                        Spread { middle: &x.middle[from..], radius: &x.radius[from..] },
                        (rows, taps),
                        (positions, positions.len()),
                        &mut centre[to..],
                        &mut reach[to..],
                    );
                }
            }
        });
        true
    }
}
