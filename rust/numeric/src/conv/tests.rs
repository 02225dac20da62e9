use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::absolute::Spread;

#[derive(Debug, Clone)]
struct Case {
    groups: usize,
    /// Of one group.
    channels: [usize; 2],
    input: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Top, left, bottom, right.
    padding: [usize; 4],
}

impl Case {
    fn output(&self) -> Option<[usize; 2]> {
        let axis = |i: usize| {
            let span = (self.kernel[i] - 1) * self.dilation[i] + 1;
            let padded = self.input[i] + self.padding[i] + self.padding[i + 2];
            Some(padded.checked_sub(span)? / self.stride[i] + 1)
        };
        Some([axis(0)?, axis(1)?])
    }

    /// (weight, input, output) indices of every product of one sample, in the kernels' order.
    fn products(&self) -> Vec<[usize; 3]> {
        let output = self.output().unwrap();
        let [channels, out] = self.channels;
        let mut products = Vec::new();
        for o in 0..out * self.groups {
            for (i, j) in pairs(0..output[0], 0..output[1]) {
                for c in 0..channels {
                    for (k, l) in pairs(0..self.kernel[0], 0..self.kernel[1]) {
                        let y = i * self.stride[0] + k * self.dilation[0];
                        let x = j * self.stride[1] + l * self.dilation[1];
                        let (Some(y), Some(x)) =
                            (y.checked_sub(self.padding[0]), x.checked_sub(self.padding[1]))
                        else {
                            continue;
                        };
                        if y < self.input[0] && x < self.input[1] {
                            let weight = (o * channels + c) * self.kernel[0] + k;
                            let channel = o / out * channels + c;
                            products.push([
                                weight * self.kernel[1] + l,
                                (channel * self.input[0] + y) * self.input[1] + x,
                                (o * output[0] + i) * output[1] + j,
                            ]);
                        }
                    }
                }
            }
        }
        products
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let two = |range: Range<usize>| [range.clone(), range];
    let four = [0..3usize, 0..3, 0..3, 0..3];
    (1..3usize, [1..19usize, 1..12], [1..25usize, 1..25], two(1..5), two(1..4), two(1..3), four)
        .prop_map(|(groups, channels, input, kernel, stride, dilation, padding)| Case {
            groups,
            channels,
            input,
            kernel,
            stride,
            dilation,
            padding,
        })
        .prop_filter("the kernel fits", |case| case.output().is_some())
}

fn values<T: Scalar>(len: usize, name: &str) -> Vec<T> {
    let mut generator = crate::random::Stream::new(0, name, 0).at(0, 0);
    (0..len).map(|_| T::from_f64(f64::from(generator.signed()))).collect()
}

fn check<T: Scalar>(case: &Case, tolerance: f64) {
    let [channels, out] = case.channels;
    let (groups, output, batch) = (case.groups, case.output().unwrap(), 3);
    let weight_shape = [out * groups, channels, case.kernel[0], case.kernel[1]];
    let convolution = Convolution::new(weight_shape, case.stride, case.dilation, groups);
    let place = convolution.place(case.input, [case.padding[0], case.padding[1]], output);
    let weight = values::<T>(weight_shape.iter().product(), "weight");
    let bias = values::<T>(out * groups, "bias");
    let (plane, out_plane) = (case.input[0] * case.input[1], output[0] * output[1]);
    let (length, out_length) = (channels * groups * plane, out * groups * out_plane);
    let x = values::<T>(batch * length, "x");
    let mut y = values::<T>(batch * out_length, "overwritten");
    convolution.forward(&place, &weight, &bias, &x, &mut y);
    let cotangent = values::<T>(batch * out_length, "cotangent");
    let before = values::<T>(batch * length, "gradient");
    let mut gradient = before.clone();
    convolution.input_gradient(&place, &weight, &cotangent, &mut gradient);

    let products = case.products();
    for s in 0..batch {
        let x = &x[s * length..][..length];
        let mut expected: Vec<T> = (0..out_length).map(|index| bias[index / out_plane]).collect();
        for &[w, i, o] in &products {
            expected[o] = x[i].mul_add(weight[w], expected[o]);
        }
        assert_eq!(y[s * out_length..][..out_length], expected);

        let cotangent = &cotangent[s * out_length..][..out_length];
        let mut expected = vec![0.0; length];
        for &[w, i, o] in &products {
            expected[i] += weight[w].to_f64() * cotangent[o].to_f64();
        }
        let gradient = &gradient[s * length..][..length];
        for (i, expected) in expected.iter().enumerate() {
            let expected = expected + before[s * length + i].to_f64();
            assert!((gradient[i].to_f64() - expected).abs() < tolerance, "pixel {i}");
        }

        // A sample alone gives the same bits.
        let mut alone = before[s * length..][..length].to_vec();
        convolution.input_gradient(&place, &weight, cotangent, &mut alone);
        assert_eq!(alone, gradient);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agrees_with_the_definition(case in cases()) {
        check::<f64>(&case, 1e-12);
        check::<f32>(&case, 1e-3);
    }
}

/// Both kernels are exercised, whatever the estimates say, and give the same bits.
#[test]
fn channels_and_lines_agree() {
    for (channels, stride, dilation) in [(1, 2, 1), (3, 1, 2), (17, 3, 1), (5, 2, 3), (4, 4, 1)] {
        let shape = [6, channels, 3, 4];
        let weight = values::<f64>(shape.iter().product(), "weight");
        let bias = values::<f64>(6, "bias");
        let output = [3, 4].map(|k| (13 + 3 - (k - 1) * dilation - 1) / stride + 1);
        let x = values::<f64>(channels * 169, "x");
        let cotangent = values::<f64>(6 * output[0] * output[1], "cotangent");
        let results = [Form::Channels, Form::Lines].map(|form| {
            let convolution = Convolution::new(shape, [stride; 2], [dilation; 2], 1);
            let place = convolution.place_as([13, 13], [1, 2], output, [Some(form); 2]);
            let mut y = vec![0.0; cotangent.len()];
            convolution.forward(&place, &weight, &bias, &x, &mut y);
            let mut gradient = vec![0.5; x.len()];
            convolution.input_gradient(&place, &weight, &cotangent, &mut gradient);
            (y, gradient)
        });
        assert_eq!(results[0], results[1]);
    }
}

#[test]
fn no_samples_and_no_positions() {
    let convolution = Convolution::new([2, 1, 2, 2], [1, 1], [1, 1], 1);
    let place = convolution.place([3, 3], [0, 0], [2, 2]);
    convolution.forward::<f32>(&place, &[1.0; 8], &[0.0; 2], &[], &mut []);
    convolution.input_gradient::<f32>(&place, &[1.0; 8], &[], &mut []);
}

#[test]
fn strides_beyond_the_image() {
    for stride in [9, 1 << 40] {
        let convolution = Convolution::new([2, 1, 2, 2], [stride; 2], [1, 1], 1);
        let place = convolution.place([3, 3], [1, 1], [1, 1]);
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut y = [0.0; 2];
        convolution.forward::<f64>(&place, &weight, &[0.5; 2], &[1.0; 9], &mut y);
        assert_eq!(y, [4.5, 8.5]); // the last tap alone sees a pixel
        let mut gradient = [0.0; 9];
        convolution.input_gradient::<f64>(&place, &weight, &[1.0, 10.0], &mut gradient);
        assert_eq!(gradient, [84.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// In channels, at least; lines are left to the caller.
    #[test]
    fn centres_and_reaches_have_the_bits_of_two_convolutions(case in cases()) {
        let [channels, out] = case.channels;
        let (groups, output, batch) = (case.groups, case.output().unwrap(), 2);
        let shape = [out * groups, channels, case.kernel[0], case.kernel[1]];
        let convolution = Convolution::new(shape, case.stride, case.dilation, groups);
        let before = [case.padding[0], case.padding[1]];
        let form = [Some(Form::Channels), None];
        let place = convolution.place_as(case.input, before, output, form);
        let weight = values::<f64>(shape.iter().product(), "weight");
        let bias = values::<f64>(out * groups, "bias");
        let length = batch * channels * groups * case.input[0] * case.input[1];
        let (middle, radius) = (values::<f64>(length, "middle"), values::<f64>(length, "radius"));
        let fresh = || vec![9.0; batch * out * groups * output[0] * output[1]];
        let (mut centre, mut reach) = (fresh(), fresh());
        let x = Spread { middle: &middle, radius: &radius };
        let parts = (&weight[..], &bias[..]);
        prop_assert!(convolution.forward_absolute(&place, parts, x, &mut centre, &mut reach));
        let mut expected = [fresh(), fresh()];
        convolution.forward(&place, &weight, &bias, &middle, &mut expected[0]);
        let sizes: Vec<f64> = weight.iter().map(|w| w.abs()).collect();
        let (absolute, none) = (convolution.unpacked(), vec![0.0; bias.len()]);
        absolute.forward(&place, &sizes, &none, &radius, &mut expected[1]);
        prop_assert_eq!([centre, reach], expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Rows side by side, what is dead or unwanted left out, and single entries.
    #[test]
    fn rows_side_by_side_agree_with_the_definition(case in cases(), seed: u64, rows in 1..11usize) {
        let [channels, out] = case.channels;
        let (groups, output) = (case.groups, case.output().unwrap());
        let shape = [out * groups, channels, case.kernel[0], case.kernel[1]];
        let convolution = Convolution::new(shape, case.stride, case.dilation, groups);
        let before = [case.padding[0], case.padding[1]];
        let frame = Frame { input: case.input, before, output };
        let weight = values::<f64>(shape.iter().product(), "weight");
        let length = channels * groups * case.input[0] * case.input[1];
        let out_length = out * groups * output[0] * output[1];
        let width = rows.next_multiple_of(8);
        let mut mixed = crate::random::Stream::new(seed, "mask", 0).at(0, 0);
        let mut mask = |n: usize| Vec::from_iter((0..n).map(|_| mixed.signed() > -0.3));
        let (alive, wanted) = (mask(out_length), mask(length));
        let mut cotangent = values::<f64>(out_length * width, "cotangent");
        let products = case.products();
        let mut gradient = values::<f64>(length * width, "overwritten");
        // Dead entries hold anything.
        for (e, row) in cotangent.chunks_exact_mut(width).enumerate().filter(|(e, _)| !alive[*e]) {
            row.fill(if e % 2 == 0 { f64::NAN } else { 1.0 });
        }
        convolution.gradient_beside(
            &frame, &weight, (&cotangent, Some(&alive)), width, (&mut gradient, Some(&wanted)),
        );
        let mut expected = vec![0.0; length * width];
        for &[w, i, o] in products.iter().filter(|[_, i, o]| alive[*o] && wanted[*i]) {
            for r in 0..width {
                expected[i * width + r] += weight[w] * cotangent[o * width + r];
            }
        }
        for (got, expected) in gradient.iter().zip(&expected) {
            prop_assert!((got - expected).abs() < 1e-12);
        }

        let units: Vec<Unit> = (0..rows)
            .map(|r| Unit {
                element: (seed as usize).wrapping_add(r * 7) % out_length,
                factor: if r % 2 == 0 { 1.0 } else { -1.0 },
            })
            .collect();
        convolution.gradient_of_units(&frame, &weight, &units, width, &mut gradient);
        let mut cotangent = vec![0.0; out_length * width];
        for (r, unit) in units.iter().enumerate() {
            cotangent[unit.element * width + r] = unit.factor;
        }
        let mut same = values::<f64>(length * width, "overwritten too");
        convolution.gradient_beside(&frame, &weight, (&cotangent, None), width, (&mut same, None));
        prop_assert_eq!(gradient, same);
    }
}
