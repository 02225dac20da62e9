//! What a search costs beside the model: microseconds a step with logits and gradients for free.
//!
//! `cargo run --release -p aisec-search --example bookkeeping [ATTACK]`

#![allow(clippy::print_stdout)]

use std::time::Instant;

use aisec_numeric::random::Stream;
use aisec_search::{Attack, Bounds, Norm, Sample, Setting};

const REPEATS: usize = 30;
const CLASSES: usize = 10;

fn main() {
    let attacks = [("apgd-ce", None), ("apgd-t", Some(3)), ("fab-t", Some(3)), ("square", None)];
    let only = std::env::args().nth(1);
    let chosen = |name: &str| only.as_deref().is_none_or(|only| only == name);
    for shape in [vec![1, 28, 28], vec![3, 32, 32]] {
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let line = attacks.iter().filter(|(name, _)| chosen(name)).map(|&(name, target)| {
                format!("{name} {:.2} us", 1e6 * step(&shape, norm, name, target))
            });
            println!("{shape:?} {norm:?}: {}", line.collect::<Vec<_>>().join(", "));
        }
    }
}

/// Seconds an evaluation, the fastest of several searches.
fn step(shape: &[usize], norm: Norm, name: &str, target: Option<usize>) -> f64 {
    let n: usize = shape.iter().product();
    let mut noise = Stream::new(1, "bookkeeping", 0).at(0, 0);
    let clean: Vec<f32> = (0..n).map(|_| noise.uniform()).collect();
    let gradient: Vec<f32> = (0..n).map(|_| noise.signed()).collect();
    let mut logits: Vec<f32> = (0..CLASSES).map(|_| noise.uniform()).collect();
    logits[0] = 3.0;
    let setting = Setting {
        shape: shape.to_vec(),
        classes: CLASSES,
        norm,
        eps: match norm {
            Norm::Linf => 0.1,
            Norm::L2 => 2.0,
            _ => 12.0,
        },
        bounds: Bounds::new(&vec![0.0; n], &vec![1.0; n]).expect("a box"),
        constraint: None,
        seed: 0,
        restart: 0,
    };
    let attack = Attack::new(name, "{}", &setting).expect("an attack");
    let (mut row, mut cotangent, mut pulled) = (vec![0.0; n], vec![0.0; CLASSES], gradient.clone());
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let sample = Sample { clean: &clean, label: 0, id: 0, target, start: None };
        let mut search = attack.start(&sample).expect("a search");
        let (mut evaluations, mut level) = (0, 0.0);
        let start = Instant::now();
        loop {
            let differentiate = search.needs_gradient();
            search.ask(&mut row);
            evaluations += 1;
            // The margin shrinks for a while and grows again, as under a real attack.
            level += if evaluations % 40 < 20 { 0.01 } else { -0.009 };
            logits[1] = level;
            if search.tell(&row, &logits) {
                break;
            }
            if differentiate {
                search.cotangent(&logits, &mut cotangent);
                pulled.copy_from_slice(&gradient);
                search.step(&mut pulled);
            }
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(evaluations));
    }
    best
}
