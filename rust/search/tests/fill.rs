//! Batches stay full while work remains, and calls for finished searches are really skipped.

mod common;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aisec_numeric::Cancel;
use aisec_search::{Bounds, Network, Norm, Region, Result, Search, Square, SquareConfig, run};
use common::{Linear, values};

/// Notes the rows of every call, and whether searches still waited for a place then.
struct Watched<'a> {
    net: Linear,
    started: &'a AtomicUsize,
    count: usize,
    calls: Mutex<Vec<(usize, bool)>>,
}

impl Network for Watched<'_> {
    type Workspace = ();

    fn input_len(&self) -> usize {
        self.net.input_len()
    }

    fn num_classes(&self) -> usize {
        self.net.num_classes()
    }

    fn forward(&self, (): &mut (), x: &[f32], batch: usize, logits: &mut [f32]) {
        let waiting = self.started.load(Ordering::SeqCst) < self.count;
        self.calls.lock().unwrap().push((batch, waiting));
        self.net.forward(&mut (), x, batch, logits);
    }

    fn record(&self, (): &mut (), x: &[f32], batch: usize, logits: &mut [f32]) {
        self.forward(&mut (), x, batch, logits);
    }

    fn gradient(&self, (): &mut (), x: &[f32], n: usize, cotangent: &[f32], gradient: &mut [f32]) {
        self.net.gradient(&mut (), x, n, cotangent, gradient);
    }
}

/// A quarter of the searches end at once, the others spend their budget.
#[test]
fn batches_are_nine_tenths_full_and_nothing_is_called_in_vain() {
    const COUNT: usize = 600;
    const QUERIES: u32 = 100;
    const N: usize = 16;
    let threads = 2;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let width = 32;
    let started = AtomicUsize::new(0);
    let mut weight = vec![vec![0.0; N]; 2];
    weight[1][0] = 0.01;
    let net = Watched {
        net: Linear { weight, bias: vec![1.0, 0.0] },
        started: &started,
        count: COUNT,
        calls: Mutex::default(),
    };
    let bounds = Bounds::new(&[0.0; N], &[1.0; N]).unwrap();
    let config = Arc::new(SquareConfig::new(&[1, 4, 4], Norm::Linf, QUERIES, 0.8, 0, 0).unwrap());
    let start = |i: usize| -> Result<Box<dyn Search>> {
        started.fetch_add(1, Ordering::SeqCst);
        let region = Region::new(Norm::Linf, 0.2, &values(N, i as u64), &bounds)?;
        // Class 1 loses everywhere: its label ends at once, the other never.
        let label = usize::from(i.is_multiple_of(4));
        Ok(Box::new(Square::new(config.clone(), region, label, i as u64, None)))
    };
    let outcomes = pool.install(|| run(&net, COUNT, width, &Cancel::new(), start)).unwrap();
    let spent: u64 = outcomes.iter().map(|outcome| outcome.forwards).sum();
    let calls = net.calls.into_inner().unwrap();
    let rows: usize = calls.iter().map(|(rows, _)| rows).sum();
    assert_eq!(rows as u64, spent, "every row evaluated is a query of a live search");
    let ended = COUNT as u64 / 4;
    assert_eq!(spent, ended + (COUNT as u64 - ended) * u64::from(QUERIES));
    let busy: Vec<usize> = calls.iter().filter(|call| call.1).map(|call| call.0).collect();
    let fill = busy.iter().sum::<usize>() as f64 / (busy.len() * width) as f64;
    assert!(busy.len() > 100 && fill >= 0.9, "{fill} over {} calls", busy.len());
}
