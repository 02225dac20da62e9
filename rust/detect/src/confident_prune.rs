//! The samples whose label a pair of classes disputes most, found in one pass with bounded memory.

use aisec_numeric::Cancel;
use rayon::prelude::*;

use crate::Error;
use crate::confident::{Probability, check_shape, class_of};

/// How many samples of one given label are most likely of another class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub given: usize,
    pub likely: usize,
    pub count: usize,
}

/// For every pair, the `count` samples with the largest margin `p_likely - p_given` among those
/// given that label; of equal margins the earlier row.
///
/// What is kept is at most twice the counts' sum, 16 bytes each.
#[derive(Debug)]
pub struct Prune {
    of_class: Vec<Vec<Top>>,
    rows: u64,
}

#[derive(Debug)]
struct Top {
    likely: usize,
    count: usize,
    /// Margin and row; the best `count` of what was seen are among them.
    kept: Vec<(f64, u64)>,
    /// The smallest margin that could still count.
    bar: f64,
    /// Whether a sample was left out whose margin equals the bar.
    tied: bool,
}

impl Prune {
    pub fn new(classes: usize, pairs: &[Pair]) -> Result<Self, Error> {
        let mut of_class: Vec<Vec<Top>> = (0..classes).map(|_| Vec::new()).collect();
        for &Pair { given, likely, count } in pairs {
            for class in [given, likely] {
                class_of(class as i64, classes, 0)?;
            }
            if count > 0 {
                of_class[given].push(Top::new(likely, count));
            }
        }
        Ok(Self { of_class, rows: 0 })
    }

    /// Takes the next rows, row-major [labels.len(), classes].
    pub fn update<T: Probability>(
        &mut self,
        x: &[T],
        labels: &[i64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let classes = self.of_class.len();
        check_shape(x, classes, labels.len())?;
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); classes];
        for (row, &label) in labels.iter().enumerate() {
            let class = class_of(label, classes, self.rows + row as u64)?;
            if !self.of_class[class].is_empty() {
                members[class].push(row);
            }
        }
        let first = self.rows;
        self.of_class.par_iter_mut().zip(members).enumerate().try_for_each(
            |(given, (tops, members))| {
                cancel.check()?;
                for row in members {
                    let p = &x[row * classes..][..classes];
                    for top in tops.iter_mut() {
                        // Zeros of either sign are one margin.
                        let margin = p[top.likely].minus(p[given]).into() + 0.0;
                        top.push(margin, first + row as u64);
                    }
                }
                Ok::<_, Error>(())
            },
        )?;
        self.rows += labels.len() as u64;
        Ok(())
    }

    /// Rows that any pair disputes, ascending; and for how many pairs samples of equal margin were
    /// on both sides of the cut.
    pub fn finish(mut self) -> (Vec<u64>, usize) {
        let tops = self.of_class.par_iter_mut().flatten();
        let mut found: Vec<(Vec<u64>, bool)> = tops.map(Top::finish).collect();
        let ties = found.iter().filter(|(_, tied)| *tied).count();
        let mut rows: Vec<u64> = found.iter_mut().flat_map(|(rows, _)| rows.drain(..)).collect();
        rows.par_sort_unstable();
        rows.dedup();
        (rows, ties)
    }
}

impl Top {
    fn new(likely: usize, count: usize) -> Self {
        Self { likely, count, kept: Vec::new(), bar: f64::NEG_INFINITY, tied: false }
    }

    /// Takes a sample; rows ascend.
    #[inline]
    fn push(&mut self, margin: f64, row: u64) {
        if margin > self.bar {
            self.kept.push((margin, row));
            if self.kept.len() >= self.count.saturating_mul(2).max(16) {
                self.cut();
            }
        } else if margin == self.bar {
            self.tied = true;
        }
    }

    fn cut(&mut self) {
        if self.kept.len() <= self.count {
            return;
        }
        let before = |a: &(f64, u64), b: &(f64, u64)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let (_, &mut (last, _), rest) = self.kept.select_nth_unstable_by(self.count - 1, before);
        // `bar` only grows: a tie with a lower one no longer matters.
        self.tied =
            (self.tied && last == self.bar) || rest.iter().any(|&(margin, _)| margin == last);
        self.bar = last;
        self.kept.truncate(self.count);
    }

    fn finish(&mut self) -> (Vec<u64>, bool) {
        self.cut();
        (self.kept.iter().map(|&(_, row)| row).collect(), self.tied)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sorts all margins of a pair.
    fn by_sorting(x: &[f64], labels: &[i64], classes: usize, pairs: &[Pair]) -> Vec<u64> {
        let mut rows = Vec::new();
        for pair in pairs {
            let mut margins: Vec<(f64, u64)> = labels
                .iter()
                .enumerate()
                .filter(|&(_, &label)| label == pair.given as i64)
                .map(|(row, _)| {
                    let p = &x[row * classes..][..classes];
                    (p[pair.likely] - p[pair.given], row as u64)
                })
                .collect();
            margins.sort_by(|a, b| b.0.total_cmp(&a.0));
            rows.extend(margins.iter().take(pair.count).map(|&(_, row)| row));
        }
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    proptest! {
        /// Eighths make many ties: the earlier row wins, however the rows are cut into batches.
        #[test]
        fn the_same_as_sorting(
            eighths in prop::collection::vec(0_u8..=8, 3..900),
            counts in prop::collection::vec(0_usize..60, 6),
            batch in 1_usize..70,
        ) {
            let classes = 3;
            let rows = eighths.len() / classes;
            let x: Vec<f64> = eighths[..rows * classes].iter().map(|&e| f64::from(e) / 8.0).collect();
            let labels: Vec<i64> = (0..rows as i64).map(|row| (row * row + row / 3) % 3).collect();
            let pairs: Vec<Pair> = (0..3)
                .flat_map(|given| (0..3).map(move |likely| (given, likely)))
                .filter(|(given, likely)| given != likely)
                .zip(&counts)
                .map(|((given, likely), &count)| Pair { given, likely, count })
                .collect();
            let mut prune = Prune::new(classes, &pairs).unwrap();
            for (x, labels) in x.chunks(batch * classes).zip(labels.chunks(batch)) {
                prune.update(x, labels, &Cancel::new()).unwrap();
            }
            prop_assert_eq!(prune.finish().0, by_sorting(&x, &labels, classes, &pairs));
        }
    }

    #[test]
    fn a_tie_at_the_cut_is_told() {
        let ties = |x: &[f64], count| {
            let mut prune = Prune::new(2, &[Pair { given: 0, likely: 1, count }]).unwrap();
            prune.update(x, &vec![0; x.len() / 2], &Cancel::new()).unwrap();
            prune.finish()
        };
        let x = [0.1, 0.9, 0.3, 0.7, 0.3, 0.7, 0.6, 0.4];
        assert_eq!(ties(&x, 2), (vec![0, 1], 1));
        assert_eq!(ties(&x, 3), (vec![0, 1, 2], 0));
        assert_eq!(ties(&x, 9).0.len(), 4);
    }
}
