//! Constraints as JSON, against samples of several shapes.

use aisec_checker::Constraint;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let constraint = match Constraint::parse(text) {
        Ok(constraint) => constraint,
        Err(line) => return assert!(!line.contains('\n'), "{line:?}"),
    };
    let clean: Vec<f32> = (0..48).map(|i| (i % 5) as f32 * 0.25).collect();
    let mut moved = clean.clone();
    (moved[0], moved[13]) = (1.0, f32::NAN);
    let shapes: [&[usize]; 5] = [&[48], &[3, 4, 4], &[8, 2, 3], &[6, 8], &[]];
    for shape in shapes {
        let n = shape.iter().product();
        assert!(
            constraint
                .violation(shape, &clean[..n], &clean[..n])
                .is_none_or(|violation| !violation.to_string().contains('\n'))
        );
        let found = constraint.violation(shape, &clean[..n], &moved[..n]);
        assert!(found.is_none_or(|violation| !violation.to_string().contains('\n')));
    }
}
