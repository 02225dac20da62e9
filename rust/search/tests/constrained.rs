//! Searches under constraints: every point asked for passes the checker, and what can be reached
//! is found, against enumerations and closed forms.

mod common;

use aisec_checker::Constraint as Check;
use aisec_numeric::Cancel;
use aisec_search::{Attack, Bounds, Constraint, Norm, Outcome, Sample, Setting, Status, run};
use common::{Linear, values};
use proptest::prelude::*;
use serde_json::{Value, json};

fn setting(shape: &[usize], bounds: Bounds, constraint: &Value) -> Setting {
    Setting {
        shape: shape.to_vec(),
        classes: 2,
        norm: Norm::Box,
        eps: 0.0,
        bounds,
        constraint: Some(Constraint::parse(&constraint.to_string(), shape).unwrap()),
        seed: 3,
        restart: 0,
    }
}

fn unit(n: usize) -> Bounds {
    Bounds::new(&vec![0.0; n], &vec![1.0; n]).unwrap()
}

fn attack(name: &str, options: Value, setting: &Setting, net: &Linear, clean: &[f32]) -> Outcome {
    let attack = Attack::new(name, &options.to_string(), setting).unwrap();
    let sample = Sample { clean, label: 0, id: 5, target: None, start: None };
    run(net, 1, 1, &Cancel::new(), |_| attack.start(&sample)).unwrap().remove(0)
}

/// Class 1 grows along `slope`; the margin at `clean` is `gap`.
fn linear(slope: &[f32], clean: &[f32], gap: f32) -> Linear {
    let at: f32 = slope.iter().zip(clean).map(|(w, x)| w * x).sum();
    Linear { weight: vec![vec![0.0; slope.len()], slope.to_vec()], bias: vec![0.0, -gap - at] }
}

fn signed(count: usize, seed: u64) -> Vec<f32> {
    values(count, seed).into_iter().map(|v| v - 0.5).collect()
}

/// What the best patch takes off a linear margin: the largest gain over all places.
fn best_patch(slope: &[f32], clean: &[f32], shape: [usize; 3], [h, w]: [usize; 2]) -> f64 {
    let [channels, height, width] = shape;
    let gain = |i: usize| {
        let room = if slope[i] > 0.0 { 1.0 - clean[i] } else { -clean[i] };
        f64::from(slope[i]) * f64::from(room)
    };
    let place = |row: usize, column: usize| {
        let pixels = (0..h * w).map(|p| (row + p / w) * width + column + p % w);
        pixels.flat_map(|p| (0..channels).map(move |c| gain(c * height * width + p))).sum::<f64>()
    };
    let places = (0..=height - h).flat_map(|r| (0..=width - w).map(move |c| (r, c)));
    places.map(|(r, c)| place(r, c)).fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn sparse_rs_finds_the_best_patch_of_a_linear_margin() {
    let shape = [2, 6, 5];
    for (size, seed) in [([1, 1], 1), ([2, 3], 2), ([3, 2], 3), ([6, 5], 4), ([1, 5], 5)] {
        let (clean, slope) = (values(60, seed), signed(60, seed + 10));
        let net = linear(&slope, &clean, 50.0);
        let constraint = json!({"patch": {"height": size[0], "width": size[1]}});
        let best = best_patch(&slope, &clean, shape, size);
        let check = Check::parse(&constraint.to_string()).unwrap();
        let setting = setting(&shape, unit(60), &constraint);
        let outcome = attack("sparse-rs", json!({"queries": 10_000}), &setting, &net, &clean);
        assert_eq!((outcome.status, outcome.forwards), (Status::Exhausted, 10_000));
        assert_eq!(check.violation(&shape, &clean, &outcome.x), None);
        let reached = 50.0 - outcome.margin;
        assert!((reached - best).abs() < 1e-4, "{size:?} {reached} {best}");
    }
}

#[test]
fn sparse_rs_finds_the_best_frame_of_a_linear_margin() {
    let shape = [2, 5, 6];
    let (clean, slope) = (values(60, 8), signed(60, 9));
    let net = linear(&slope, &clean, 50.0);
    for thickness in [1, 2, 9] {
        let constraint = json!({"frame": {"width": thickness}});
        let setting = setting(&shape, unit(60), &constraint);
        let outcome = attack("sparse-rs", json!({"queries": 8000}), &setting, &net, &clean);
        let framed = |i: usize| {
            let (row, column) = (i % 30 / 6, i % 6);
            row.min(column).min(4 - row.min(4)).min(5 - column) < thickness
        };
        let gain = |i: usize| f64::from(if slope[i] > 0.0 { 1.0 - clean[i] } else { -clean[i] });
        let gains: f64 =
            (0..60).filter(|&i| framed(i)).map(|i| f64::from(slope[i]) * gain(i)).sum();
        let reached = 50.0 - outcome.margin;
        assert!((reached - gains).abs() < 1e-4, "{thickness}: {reached} of {gains}");
        let check = Check::parse(&constraint.to_string()).unwrap();
        assert_eq!(check.violation(&shape, &clean, &outcome.x), None);
    }
}

/// A table of every kind of feature; nine columns.
fn table(metric: &str, limit: f64, reach: Option<f64>) -> Value {
    json!({"tabular": {"metric": metric, "limit": limit, "features": [
        {"kind": "number", "column": 0, "integer": true, "down": true, "up": true,
         "reach": reach, "weight": 1.0},
        {"kind": "number", "column": 1, "integer": true, "down": false, "up": true,
         "reach": reach, "weight": 2.0},
        {"kind": "onehot", "column": 3, "size": 3, "weight": 1.0},
        {"kind": "number", "column": 6, "integer": true, "down": true, "up": false,
         "reach": reach, "weight": 1.0},
        {"kind": "onehot", "column": 7, "size": 2, "weight": 3.0}
    ]}})
}

const COLUMNS: usize = 9;
const TOP: [f64; COLUMNS] = [9.0, 6.0, 1.0, 1.0, 1.0, 1.0, 5.0, 1.0, 1.0];

fn row(a: u8, b: u8, c: u8, d: usize, e: usize) -> Vec<f32> {
    let mut row = vec![f32::from(a), f32::from(b), 0.25, 0.0, 0.0, 0.0, f32::from(c), 0.0, 0.0];
    row[3 + d] = 1.0;
    row[7 + e] = 1.0;
    row
}

/// Every row within the bounds that the checker accepts.
fn reachable(constraint: &Value, clean: &[f32]) -> Vec<Vec<f32>> {
    let check = Check::parse(&constraint.to_string()).unwrap();
    let mut found = vec![];
    for a in 0..10 {
        for b in 0..7 {
            for c in 0..6 {
                for d in 0..3 {
                    found.extend((0..2).map(|e| row(a, b, c, d, e)));
                }
            }
        }
    }
    found.retain(|x| check.violation(&[COLUMNS], clean, x).is_none());
    found
}

fn smallest(net: &Linear, rows: &[Vec<f32>]) -> f64 {
    let margin = |x: &Vec<f32>| {
        let logit = |k: usize| net.weight[k].iter().zip(x).fold(net.bias[k], |s, (w, x)| s + w * x);
        f64::from(logit(0)) - f64::from(logit(1))
    };
    rows.iter().map(margin).fold(f64::INFINITY, f64::min)
}

#[test]
fn all_rows_are_tried_where_they_are_few_and_the_best_is_found_where_they_are_many() {
    let clean = row(4, 2, 3, 1, 0);
    let bounds = || Bounds::new(&[0.0; COLUMNS], &TOP).unwrap();
    let slope = signed(COLUMNS, 4);
    let net = linear(&slope, &clean, 50.0);
    for (metric, limit, reach) in [
        ("linf", 0.0, Some(2.0)),
        ("linf", 0.0, Some(20.0)),
        ("l1", 3.0, None),
        ("l1", 11.0, None),
        ("l2", 4.0, None),
        ("l0", 1.0, None),
        ("l0", 3.0, Some(2.0)),
        ("l1", 0.5, None),
    ] {
        let constraint = table(metric, limit, reach);
        let rows = reachable(&constraint, &clean);
        let (best, others) = (smallest(&net, &rows), rows.len() as u64 - 1);
        let setting = setting(&[COLUMNS], bounds(), &constraint);
        let outcome =
            attack("evolution", json!({"queries": others.max(1)}), &setting, &net, &clean);
        assert_eq!(outcome.forwards, others.max(1), "{metric} {limit}");
        assert!(others == 0 || (outcome.margin - best).abs() < 1e-5, "{metric} {limit}");
        if others > 200 {
            // One query less: evolution, not enumeration.
            let options = json!({"queries": (others - 1).min(600)});
            let outcome = attack("evolution", options, &setting, &net, &clean);
            assert!((outcome.margin - best).abs() < 1e-5, "{metric} {limit} {}", outcome.margin);
        }
        let outcome = attack("square", json!({"queries": 2000}), &setting, &net, &clean);
        assert!(rows.contains(&outcome.x));
        // Block moves do not reach every split of a budget; ends of single features they do.
        if metric == "linf" {
            assert!((outcome.margin - best).abs() < 1e-5, "{metric} {limit} {}", outcome.margin);
        }
    }
}

/// The only adversarial row lies in the middle of the ranges, with no slope towards it.
struct Needle(Vec<f32>);

impl aisec_search::Network for Needle {
    type Workspace = ();

    fn input_len(&self) -> usize {
        COLUMNS
    }

    fn num_classes(&self) -> usize {
        2
    }

    fn forward(&self, (): &mut (), x: &[f32], _: usize, logits: &mut [f32]) {
        for (x, logits) in x.chunks_exact(COLUMNS).zip(logits.chunks_exact_mut(2)) {
            logits.copy_from_slice(&[1.0, if x == self.0 { 2.0 } else { 0.0 }]);
        }
    }

    fn record(&self, workspace: &mut (), x: &[f32], batch: usize, logits: &mut [f32]) {
        self.forward(workspace, x, batch, logits);
    }

    fn gradient(&self, (): &mut (), _: &[f32], _: usize, _: &[f32], _: &mut [f32]) {
        panic!("a needle has no gradient");
    }
}

#[test]
fn a_needle_is_found_exactly_where_it_can_be_reached() {
    let clean = row(4, 2, 3, 1, 0);
    let constraint = table("l1", 6.0, None);
    let bounds = Bounds::new(&[0.0; COLUMNS], &TOP).unwrap();
    let setting = setting(&[COLUMNS], bounds, &constraint);
    let rows = reachable(&constraint, &clean);
    let attack = Attack::new("evolution", r#"{"queries": 5000}"#, &setting).unwrap();
    let mut found = 0;
    for (needle, expected) in [
        (row(6, 3, 2, 0, 0), true),
        (row(4, 3, 3, 1, 1), true),
        (row(0, 2, 3, 1, 0), true),
        (row(4, 1, 3, 1, 0), false),
        (row(4, 2, 4, 1, 0), false),
        (row(9, 4, 3, 1, 0), false),
    ] {
        assert_eq!(rows.contains(&needle), expected);
        let sample = Sample { clean: &clean, label: 0, id: 0, target: None, start: None };
        let net = Needle(needle.clone());
        let outcome = run(&net, 1, 1, &Cancel::new(), |_| attack.start(&sample)).unwrap().remove(0);
        assert_eq!(outcome.status == Status::Found, expected);
        if expected {
            assert_eq!(outcome.x, needle);
            found += 1;
        } else {
            assert_eq!(outcome.forwards, rows.len() as u64 - 1);
        }
    }
    assert_eq!(found, 3);
}

fn mixed_features() -> impl Strategy<Value = (Vec<Value>, Vec<f32>, Vec<f64>, Vec<f64>)> {
    let number =
        (any::<[bool; 3]>(), 0..40i32, prop::option::of(0.0..15.0f64), 0.01..3.0f64, 0f32..1.0);
    let one = prop_oneof![
        number.prop_map(|(flags, at, reach, weight, part)| {
            let [integer, down, up] = flags;
            let now = at as f32 - 10.0 + if integer { 0.0 } else { part };
            let feature = json!({"kind": "number", "integer": integer, "down": down, "up": up,
                                 "reach": reach, "weight": weight});
            (feature, vec![now], -12.5, 33.5)
        }),
        (1..5usize, 0.0..3.0f64, any::<prop::sample::Index>()).prop_map(|(size, weight, now)| {
            let mut row = vec![0.0; size];
            row[now.index(size)] = 1.0;
            (json!({"kind": "onehot", "size": size, "weight": weight}), row, 0.0, 1.0)
        }),
        (0f32..1.0).prop_map(|now| (Value::Null, vec![now], 0.0, 1.0)),
    ];
    prop::collection::vec(one, 1..9).prop_map(|parts| {
        let (mut features, mut clean, mut low, mut high) = (vec![], vec![], vec![], vec![]);
        for (mut feature, part, bottom, top) in parts {
            if !feature.is_null() {
                feature["column"] = json!(clean.len());
                features.push(feature);
            }
            low.extend(part.iter().map(|_| bottom));
            high.extend(part.iter().map(|_| top));
            clean.extend(part);
        }
        (features, clean, low, high)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_row_asked_for_satisfies_every_constraint(
        (features, clean, low, high) in mixed_features(),
        metric in prop::sample::select(vec!["linf", "l2", "l1", "l0"]),
        limit in prop_oneof![0.0..20.0f64, (0..6u8).prop_map(f64::from)],
        start in prop::collection::vec(-20f32..40.0, 40),
        seed in any::<u64>(),
    ) {
        let n = clean.len();
        let constraint = json!({"tabular": {"metric": metric, "limit": limit, "features": features}});
        let check = Check::parse(&constraint.to_string()).unwrap();
        let bounds = Bounds::new(&low, &high).unwrap();
        let setting = Setting { seed, ..setting(&[n], bounds, &constraint) };
        let slope = signed(n, seed);
        for (name, start) in [
            ("evolution", None), ("square", None),
            ("evolution", Some(&start[..n])), ("square", Some(&start[..n])),
        ] {
            let attack = Attack::new(name, r#"{"queries": 90}"#, &setting).unwrap();
            let sample = Sample { clean: &clean, label: 0, id: 1, target: None, start };
            let mut search = attack.start(&sample).unwrap();
            let (mut row, mut again) = (vec![f32::NAN; n], vec![7.0; n]);
            loop {
                search.ask(&mut row);
                search.ask(&mut again);
                prop_assert_eq!(&row, &again);
                for (i, value) in row.iter().enumerate() {
                    prop_assert!(low[i] <= f64::from(*value) && f64::from(*value) <= high[i]);
                }
                let violation = check.violation(&[n], &clean, &row);
                prop_assert!(violation.is_none(), "{name}: {} {row:?}", violation.unwrap());
                let logit: f32 = slope.iter().zip(&row).map(|(w, x)| w * x).sum();
                if search.tell(&row, &[1000.0, logit]) {
                    break;
                }
            }
            prop_assert!(search.finish().forwards <= 90);
        }
    }

    #[test]
    fn every_patch_asked_for_lies_in_a_rectangle(
        channels in 1..4usize, height in 1..9usize, width in 1..9usize,
        size in any::<[prop::sample::Index; 2]>(),
        last in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let shape = if last { [height, width, channels] } else { [channels, height, width] };
        let [tall, wide] = if last && height <= 4 { [width, channels] } else { [height, width] };
        let n = channels * height * width;
        let clean = values(n, seed);
        let patch = json!({"patch": {"height": 1 + size[0].index(tall), "width": 1 + size[1].index(wide)}});
        let frame = json!({"frame": {"width": 1 + size[0].index(3)}});
        for constraint in [patch, frame] {
            let check = Check::parse(&constraint.to_string()).unwrap();
            let setting = Setting { seed, ..setting(&shape, unit(n), &constraint) };
            let attack = Attack::new("sparse-rs", r#"{"queries": 60}"#, &setting).unwrap();
            let sample = Sample { clean: &clean, label: 0, id: 1, target: None, start: None };
            let mut search = attack.start(&sample).unwrap();
            let (mut row, mut again) = (vec![f32::NAN; n], vec![7.0; n]);
            for step in 0..60 {
                search.ask(&mut row);
                search.ask(&mut again);
                prop_assert_eq!(&row, &again);
                prop_assert_eq!(check.violation(&shape, &clean, &row), None);
                let margin = 60.0 - if row[0] > 0.5 { step as f32 } else { 0.0 };
                if search.tell(&row, &[margin, 0.0]) {
                    break;
                }
            }
        }
    }
}

#[test]
fn refusals() {
    let parse = |value: Value, shape: &[usize]| {
        Constraint::parse(&value.to_string(), shape).err().map(|error| error.to_string())
    };
    let patch = |h: i64, w: i64| json!({"patch": {"height": h, "width": w}});
    assert_eq!(parse(patch(3, 2), &[1, 3, 2]), None);
    assert!(parse(patch(4, 2), &[1, 3, 2]).unwrap().contains("does not fit a sample of 3x2"));
    assert!(parse(patch(0, 2), &[1, 3, 2]).is_some() && parse(patch(-1, 2), &[1, 3, 2]).is_some());
    assert!(parse(json!({"patch": {"height": 1, "width": 1, "depth": 1}}), &[1, 3, 2]).is_some());
    assert!(parse(json!({"frame": {"width": 0}}), &[1, 3, 2]).is_some());
    assert!(parse(table("l1", -1.0, None), &[9]).unwrap().contains("limit"));
    assert!(parse(table("l1", 1.0, Some(-1.0)), &[9]).unwrap().contains("reach"));
    assert!(parse(table("l1", 1.0, None), &[8]).unwrap().contains("column 8"));

    let bounds = || Bounds::new(&[0.0; COLUMNS], &TOP).unwrap();
    let start = |name: &str, clean: &[f32]| {
        let setting = setting(&[COLUMNS], bounds(), &table("l1", 1.0, None));
        let attack = Attack::new(name, "{}", &setting)?;
        let sample = Sample { clean, label: 0, id: 0, target: None, start: None };
        attack.start(&sample).map(|_| ())
    };
    let refused = |name: &str, clean: &[f32]| start(name, clean).unwrap_err().to_string();
    assert!(start("evolution", &row(1, 1, 1, 0, 0)).is_ok());
    let mut odd = row(1, 1, 1, 0, 0);
    odd[1] = 1.5;
    assert!(refused("square", &odd).contains("column 1 is 1.5, not an integer"));
    odd = row(1, 1, 1, 0, 0);
    odd[4] = 1.0;
    assert!(refused("evolution", &odd).contains("columns 3 to 5"));
    assert!(refused("apgd-ce", &row(1, 1, 1, 0, 0)).contains("norm balls and boxes only"));
    assert!(refused("sparse-rs", &row(1, 1, 1, 0, 0)).contains("does not search tables"));
    let patched = setting(&[1, 3, 3], unit(9), &patch(1, 1));
    assert!(Attack::new("square", "{}", &patched).is_err());
    assert!(Attack::new("evolution", "{}", &patched).is_err());
    assert!(Attack::new("sparse-rs", r#"{"alpha_init": 0}"#, &patched).is_err());
}
