//! Constraints at their edges: what is just allowed, and what is just not.

use aisec_checker::{Constraint, Violation};
use proptest::prelude::*;

fn violation(text: &str, shape: &[usize], x: &[f32], x_adv: &[f32]) -> Option<Violation> {
    Constraint::parse(text).unwrap().violation(shape, x, x_adv)
}

fn patch(height: usize, width: usize) -> String {
    format!(r#"{{"patch": {{"height": {height}, "width": {width}}}}}"#)
}

fn number(metric: &str, limit: f64, rest: &str) -> String {
    format!(
        r#"{{"tabular": {{"metric": "{metric}", "limit": {limit:?}, "features": [
            {{"kind": "number", "column": 0, "down": true, "up": true, {rest}}}]}}}}"#
    )
}

#[test]
fn text_that_is_no_constraint_is_refused() {
    for text in [
        "",
        "{}",
        r#"{"patch": {"height": 1}}"#,
        r#"{"patch": {"height": -1, "width": 1}}"#,
        r#"{"patch": {"height": 1, "width": 1, "depth": 1}}"#,
        r#"{"frame": {"width": 1.5}}"#,
        r#"{"tabular": {"metric": "l3", "limit": 1, "features": []}}"#,
        r#"{"tabular": {"metric": "l1", "limit": 1, "features": [{"kind": "date"}]}}"#,
    ] {
        let error = Constraint::parse(text).unwrap_err();
        assert!(error.starts_with("constraint: ") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn features_that_do_not_fit_the_sample_accept_nothing() {
    let onehot = |column: usize, size: usize| {
        format!(
            r#"{{"tabular": {{"metric": "linf", "limit": 0.0, "features": [
                {{"kind": "onehot", "column": {column}, "size": {size}, "weight": 1.0}},
                {{"kind": "onehot", "column": 1, "size": 1, "weight": 1.0}}]}}}}"#
        )
    };
    let x = [1.0, 1.0];
    assert_eq!(violation(&onehot(0, 1), &[2], &x, &x), None);
    for (column, size) in [(2, 1), (0, 3), (0, 2), (0, 0), (usize::MAX, 2)] {
        assert!(violation(&onehot(column, size), &[2], &x, &x).is_some(), "{column} {size}");
    }
}

#[test]
fn bits_decide_what_has_changed() {
    let fixed = r#"{"tabular": {"metric": "linf", "limit": 0.0, "features": []}}"#;
    assert_eq!(violation(fixed, &[1], &[0.0], &[0.0]), None);
    assert_eq!(violation(fixed, &[1], &[0.0], &[-0.0]), Some(Violation::Fixed { column: 0 }));
    let apart = violation(&patch(1, 1), &[1, 1, 2], &[0.0, 0.0], &[-0.0, -0.0]);
    assert_eq!(apart, Some(Violation::Patch { spans: [1, 2], allowed: [1, 1] }));
}

#[test]
fn reach_and_budget_have_no_tolerance() {
    let reach = |reach: f64, to: f32| {
        let text =
            number("linf", 0.0, &format!(r#""integer": false, "reach": {reach:?}, "weight": 1.0"#));
        violation(&text, &[1], &[0.25], &[to])
    };
    assert_eq!(reach(0.5, 0.75), None);
    assert!(matches!(reach(0.5f64.next_down(), 0.75), Some(Violation::Reach { .. })));
    assert!(matches!(reach(0.5, 0.75f32.next_up()), Some(Violation::Reach { .. })));
    assert_eq!(reach(0.5, -0.25), None);
    assert!(matches!(reach(0.5, (-0.25f32).next_down()), Some(Violation::Reach { .. })));
    for metric in ["l1", "l2"] {
        let spend = |limit: f64, to: f32| {
            let text = number(metric, limit, r#""integer": false, "reach": null, "weight": 3.0"#);
            violation(&text, &[1], &[0.0], &[to])
        };
        assert_eq!(spend(1.5, 0.5), None);
        assert!(matches!(spend(1.5f64.next_down(), 0.5), Some(Violation::Budget { .. })));
        assert!(matches!(spend(1.5, 0.5f32.next_up()), Some(Violation::Budget { .. })));
        assert!(matches!(spend(f64::NAN.min(0.0), 0.5), Some(Violation::Budget { .. })));
    }
    // One third cannot be held exactly: three of them are not proven to be one.
    let text =
        number("l1", 1.0, r#""integer": true, "reach": null, "weight": 0.33333333333333337"#);
    assert!(matches!(violation(&text, &[1], &[0.0], &[3.0]), Some(Violation::Budget { .. })));
    // Changes between numbers far apart are rounded up.
    let far = f64::from(1e38f32);
    let text = format!(r#""integer": false, "reach": {far:?}, "weight": 1.0"#);
    let text = number("linf", 0.0, &text);
    assert!(matches!(
        violation(&text, &[1], &[-1e-30], &[1e38]),
        Some(Violation::Reach { change, .. }) if change > far
    ));
}

#[test]
fn what_is_not_a_number_is_never_accepted() {
    for rest in [
        r#""integer": true, "reach": null, "weight": 1.0"#,
        r#""integer": false, "reach": 1.0, "weight": 1.0"#,
        r#""integer": false, "reach": null, "weight": 1.0"#,
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            assert!(violation(&number("l1", 9.0, rest), &[1], &[0.0], &[value]).is_some());
        }
    }
}

proptest! {
    /// The rectangle is that of the rows and columns of all changed pixels, whatever the layout.
    #[test]
    fn rectangles(
        changes in prop::collection::btree_set((0..3usize, 0..6usize, 0..5usize), 0..5),
        height in 1..7usize, width in 1..6usize, last in any::<bool>(),
    ) {
        let shape = if last { [6, 5, 3] } else { [3, 6, 5] };
        let x = [0.5f32; 90];
        let mut x_adv = x;
        for &(channel, row, column) in &changes {
            let pixel = row * 5 + column;
            x_adv[if last { pixel * 3 + channel } else { channel * 30 + pixel }] = 1.0;
        }
        let span = |at: fn(&(usize, usize, usize)) -> usize| {
            let ends = changes.iter().map(at).min().zip(changes.iter().map(at).max());
            ends.map_or(0, |(low, high)| high - low + 1)
        };
        let fits = span(|c| c.1) <= height && span(|c| c.2) <= width;
        let found = violation(&patch(height, width), &shape, &x, &x_adv);
        prop_assert_eq!(found.is_none(), fits);
        let frame = format!(r#"{{"frame": {{"width": {}}}}}"#, height.min(3));
        let k = height.min(3);
        let border = changes.iter().all(|&(_, r, c)| r < k || c < k || 6 - r <= k || 5 - c <= k);
        prop_assert_eq!(violation(&frame, &shape, &x, &x_adv).is_none(), border);
    }
}
