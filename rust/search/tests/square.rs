//! Square against closed forms, and its schedule.

mod common;

use std::sync::Arc;

use aisec_numeric::Cancel;
use aisec_search::{
    Bounds, Norm, Outcome, Pool, Region, Result, Search, Square, SquareConfig, Status, fraction,
    run,
};
use common::{Linear, values};

fn attack(net: &Linear, shape: &[usize], norm: Norm, eps: f64, queries: u32) -> Outcome {
    let n = shape.iter().product();
    let clean = values(n, 5);
    let bounds = Bounds::new(&vec![0.0; n], &vec![1.0; n]).unwrap();
    let config = Arc::new(SquareConfig::new(shape, norm, queries, 0.8, 3, 0).unwrap());
    let start = |_| -> Result<Box<dyn Search>> {
        let region = Region::new(norm, eps, &clean, &bounds)?;
        Ok(Box::new(Square::new(config.clone(), region, 0, 11, None)))
    };
    let mut outcomes = run(net, 1, 4, &Cancel::new(), start).unwrap();
    let outcome = outcomes.remove(0);
    let region = Region::new(norm, eps, &clean, &bounds).unwrap();
    assert!(norm == Norm::Box || region.distance(&outcome.x) <= eps);
    assert!(outcome.x.iter().all(|v| (0.0..=1.0).contains(v)));
    outcome
}

/// Two classes whose margin `w·x + n` stays positive on the whole box.
fn robust_pair(n: usize) -> (Linear, Vec<f64>) {
    let w: Vec<f32> = values(n, 3).iter().map(|v| v - 0.5).collect();
    let wide = w.iter().map(|&w| f64::from(w)).collect();
    (Linear { weight: vec![w, vec![0.0; n]], bias: vec![n as f32, 0.0] }, wide)
}

#[test]
fn golden_schedule() {
    let changes = [
        (1, 0.8),
        (10, 0.8),
        (11, 0.4),
        (50, 0.4),
        (51, 0.2),
        (200, 0.2),
        (201, 0.1),
        (500, 0.1),
        (501, 0.05),
        (1000, 0.05),
        (1001, 0.025),
        (2000, 0.025),
        (2001, 0.0125),
        (4000, 0.0125),
        (4001, 0.00625),
        (6000, 0.00625),
        (6001, 0.003125),
        (8000, 0.003125),
        (8001, 0.0015625),
    ];
    for (iteration, expected) in changes {
        assert_eq!(fraction(0.8, iteration), expected, "{iteration}");
    }
}

/// Every shape: images, non-square images, channels last, one row, vectors, single values. The
/// last windows are single elements, so coordinate search must end at the optimal corner.
#[test]
fn linf_reaches_the_exact_optimum_of_a_linear_margin() {
    for shape in [&[1, 4, 4][..], &[3, 5, 2], &[6, 3, 2], &[1, 1, 9], &[7, 3], &[24], &[1], &[]] {
        let n: usize = shape.iter().product();
        let (net, w) = robust_pair(n);
        let clean = values(n, 5);
        let eps = 0.25;
        let optimum: f64 = clean
            .iter()
            .zip(&w)
            .map(|(&x, &w)| {
                let x = f64::from(x);
                w * if w > 0.0 { (x - eps).max(0.0) } else { (x + eps).min(1.0) }
            })
            .sum::<f64>()
            + n as f64;
        let outcome = attack(&net, shape, Norm::Linf, eps, 3000);
        assert!((outcome.margin - optimum).abs() < 1e-5, "{shape:?} {} {optimum}", outcome.margin);
        assert_eq!((outcome.forwards, outcome.gradients), (3000, 0));
        let corner: f64 = w.iter().map(|w| w.min(0.0)).sum::<f64>() + n as f64;
        let outcome = attack(&net, shape, Norm::Box, 0.0, 3000);
        assert!((outcome.margin - corner).abs() < 1e-5, "{shape:?}");
    }
}

/// Random search does not reach a smooth optimum exactly, but must come close to it.
#[test]
fn l2_and_l1_come_close_to_the_optimum() {
    for shape in [&[1, 5, 5][..], &[3, 6, 4], &[20]] {
        let n: usize = shape.iter().product();
        let (net, w) = robust_pair(n);
        let clean = values(n, 5);
        let at: f64 = clean.iter().zip(&w).map(|(&x, w)| f64::from(x) * w).sum::<f64>() + n as f64;
        let length = w.iter().map(|w| w * w).sum::<f64>().sqrt();
        let outcome = attack(&net, shape, Norm::L2, 0.2, 5000);
        let reached = (at - outcome.margin) / (0.2 * length);
        assert!(reached > 0.5 && reached <= 1.0 + 1e-5, "{shape:?} {reached}");
        let largest = w.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
        let outcome = attack(&net, shape, Norm::L1, 0.2, 5000);
        let reached = (at - outcome.margin) / (0.2 * largest);
        assert!(reached > 0.5 && reached <= 1.0 + 1e-4, "{shape:?} {reached}");
    }
}

#[test]
fn success_ends_the_search_and_counts_its_queries() {
    let bias = 0.3 - values(4, 5).iter().sum::<f32>();
    let net = Linear { weight: vec![vec![1.0; 4], vec![0.0; 4]], bias: vec![bias, 0.0] };
    for norm in [Norm::Linf, Norm::L2, Norm::L1, Norm::Box] {
        let outcome = attack(&net, &[1, 2, 2], norm, 1.0, 500);
        assert_eq!(outcome.status, Status::Found, "{norm:?}");
        assert!(outcome.margin < 0.0 && outcome.forwards < 500);
    }
}

#[test]
fn a_region_of_one_point_costs_one_query() {
    let (net, _) = robust_pair(6);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let outcome = attack(&net, &[6], norm, 0.0, 100);
        assert_eq!(outcome.forwards, 1);
        assert_eq!(outcome.x, values(6, 5));
    }
}

#[test]
fn logits_that_are_not_finite_are_never_a_success() {
    for broken in [f32::NAN, f32::INFINITY] {
        let net = Linear { weight: vec![vec![1.0; 4]; 2], bias: vec![0.0, broken] };
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let outcome = attack(&net, &[1, 2, 2], norm, 0.3, 20);
            assert_eq!((outcome.status, outcome.forwards), (Status::NotFinite, 20));
            assert_eq!(outcome.x, values(4, 5));
        }
    }
}

#[test]
fn refusals() {
    for (queries, p_init) in [(0, 0.8), (10, 0.0), (10, 1.5), (10, f64::NAN)] {
        assert!(SquareConfig::new(&[4], Norm::Linf, queries, p_init, 0, 0).is_err());
    }
}

/// Ask and tell over a model the caller owns gives what the native run gives, for any batch.
#[test]
fn the_pool_agrees_with_the_native_run() {
    use aisec_search::Network;
    let shape = [1, 4, 4];
    let (n, count) = (16, 23);
    let w = values(3 * n, 8);
    let net =
        Linear { weight: w.chunks(n).map(<[f32]>::to_vec).collect(), bias: vec![0.3, 0.0, 0.1] };
    let clean = values(n * count, 9);
    let bounds = Bounds::new(&[0.0; 16], &[1.0; 16]).unwrap();
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let config = Arc::new(SquareConfig::new(&shape, norm, 60, 0.8, 3, 0).unwrap());
        let start = |i: usize| -> Result<Box<dyn Search>> {
            let region = Region::new(norm, 0.2, &clean[i * n..(i + 1) * n], &bounds)?;
            Ok(Box::new(Square::new(config.clone(), region, i % 3, i as u64, None)))
        };
        let expected = run(&net, count, 3, &Cancel::new(), start).unwrap();
        assert!(expected.iter().any(|o| o.status == Status::Found));
        assert!(expected.iter().any(|o| o.status == Status::Exhausted));
        for batch in [1, 5, 64] {
            let mut pool = Pool::new(count, n, 3);
            let (mut rows, mut logits) = (vec![0.0; batch * n], vec![0.0; batch * 3]);
            let mut found: Vec<Option<Outcome>> = vec![None; count];
            loop {
                let (asked, differentiate) = pool.ask(&mut rows, start).unwrap();
                if asked == 0 {
                    break;
                }
                assert!(!differentiate);
                assert_eq!(pool.asked(), asked);
                assert_eq!(asked, pool.remaining().min(batch), "the batch stays full");
                let (rows, logits) = (&rows[..asked * n], &mut logits[..asked * 3]);
                net.forward(&mut (), rows, asked, logits);
                for (index, outcome) in pool.tell(rows, logits).ended {
                    assert!(found[index].replace(outcome).is_none());
                }
            }
            let found: Vec<Outcome> = found.into_iter().flatten().collect();
            assert_eq!(found, expected, "{norm:?} {batch}");
        }
    }
}

/// Asking twice without telling gives the same points.
#[test]
fn asking_is_idempotent() {
    let bounds = Bounds::new(&[0.0; 9], &[1.0; 9]).unwrap();
    let clean = values(9, 1);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let config = Arc::new(SquareConfig::new(&[1, 3, 3], norm, 10, 0.8, 0, 0).unwrap());
        let region = Region::new(norm, 0.1, &clean, &bounds).unwrap();
        let mut search = Square::new(config.clone(), region, 0, 0, None);
        for _ in 0..3 {
            let (mut a, mut b) = (vec![0.0; 9], vec![7.0; 9]);
            search.ask(&mut a);
            search.ask(&mut b);
            assert_eq!(a, b);
            search.tell(&a, &[1.0, 0.0]);
        }
    }
}
