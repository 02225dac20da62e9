//! Normal noise on a lattice: the whole numbers nearest to a normal number, drawn by exact
//! inversion of 64-bit words, so that how far the draws are from the true distribution is known.

use crate::random::Generator;

/// Leading bits of a word that point into the table.
const GUIDE_BITS: u32 = 12;

/// Thresholds that are compared without a branch; parts of the range that hold more of them, far
/// from the middle, are searched.
const FEW: u32 = 3;

/// Marks the parts that are searched.
const SEARCHED: u32 = 1 << 31;

/// A distribution of whole numbers, given by its cumulative probabilities.
#[derive(Debug, Clone)]
pub struct LatticeNormal {
    /// Ascending; a word `u` stands for `lowest` plus the number of thresholds that are `<= u`.
    thresholds: Vec<u64>,
    /// Their leading halves, and a few that no word reaches.
    leading: Vec<u32>,
    /// For each leading part of a word, how many thresholds no word with that part is below.
    guide: Vec<u32>,
    lowest: i32,
}

/// The thresholds do not ascend, or there are too many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADistribution;

impl LatticeNormal {
    /// `thresholds[k]` is 2^64 times the probability of a number at most `lowest + k`.
    ///
    /// # Errors
    /// When the thresholds do not ascend, or there are 2^24 of them or more.
    pub fn new(thresholds: Vec<u64>, lowest: i32) -> Result<Self, NotADistribution> {
        if !thresholds.is_sorted() || thresholds.len() >= 1 << 24 {
            return Err(NotADistribution);
        }
        let below = |word: u64| thresholds.partition_point(|&threshold| threshold <= word) as u32;
        let guide = (0..1u64 << GUIDE_BITS)
            .map(|part| part << (64 - GUIDE_BITS))
            .map(|word| {
                let (first, last) = (below(word), below(word | (u64::MAX >> GUIDE_BITS)));
                if last - first > FEW { first | SEARCHED } else { first }
            })
            .collect();
        let halves = thresholds.iter().map(|threshold| (threshold >> 32) as u32);
        let leading = halves.chain([u32::MAX; FEW as usize]).collect();
        Ok(Self { thresholds, leading, guide, lowest })
    }

    /// Draws numbers. The leading 32 bits of each come from `high`, the others, which are hardly
    /// ever needed, from `low`.
    pub fn fill(&self, high: &mut Generator, low: &mut Generator, levels: &mut [i32]) {
        let mut words = [0u32; 256];
        for levels in levels.chunks_mut(words.len()) {
            let words = &mut words[..levels.len()];
            high.words(words);
            for (level, &word) in levels.iter_mut().zip(&*words) {
                *level = self.level(word, low);
            }
        }
    }

    #[inline(always)]
    fn level(&self, high: u32, low: &mut Generator) -> i32 {
        let first = self.guide[(high >> (32 - GUIDE_BITS)) as usize];
        let mut count = (first & !SEARCHED) as usize;
        let mut undecided = first & SEARCHED != 0;
        for &leading in &self.leading[count..count + FEW as usize] {
            // They ascend: the first that is not below ends the count.
            count += usize::from(leading < high);
            undecided |= leading == high;
        }
        // Hardly ever: the leading half does not tell.
        if undecided { self.search(high, low) } else { self.lowest + count as i32 }
    }

    #[cold]
    fn search(&self, high: u32, low: &mut Generator) -> i32 {
        let leading = &self.leading[..self.thresholds.len()];
        let first = leading.partition_point(|&leading| leading < high);
        let same = leading[first..].partition_point(|&leading| leading == high);
        let word = match same {
            0 => return self.lowest + first as i32,
            _ => u64::from(high) << 32 | u64::from(low.next_u32()),
        };
        let among = &self.thresholds[first..first + same];
        self.lowest + (first + among.partition_point(|&threshold| threshold <= word)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn draw(distribution: &LatticeNormal, count: usize) -> Vec<i32> {
        let mut high = Stream::new(1, "high", 0).at(0, 0);
        let mut low = Stream::new(1, "low", 0).at(0, 0);
        let mut levels = vec![0; count];
        distribution.fill(&mut high, &mut low, &mut levels);
        levels
    }

    #[test]
    fn agrees_with_a_plain_search_of_the_whole_word() {
        // Thresholds that share their leading bits make the low word decide.
        let high = Stream::new(1, "high", 0).at(0, 0).next_u32();
        let mut thresholds: Vec<u64> = (0..40)
            .map(|k| (u64::from(high) << 32) + (k << 27))
            .chain([1 << 40, 1 << 63])
            .collect();
        thresholds.sort_unstable();
        let distribution = LatticeNormal::new(thresholds.clone(), -7).unwrap();
        let (mut first, mut second) =
            (Stream::new(1, "high", 0).at(0, 0), Stream::new(1, "low", 0).at(0, 0));
        for level in draw(&distribution, 1000) {
            let leading = first.next_u32();
            let needed = thresholds.iter().any(|&threshold| (threshold >> 32) as u32 == leading);
            let rest = if needed { second.next_u32() } else { 0 };
            let word = u64::from(leading) << 32 | u64::from(rest);
            let count = thresholds.iter().filter(|&&threshold| threshold <= word).count();
            assert_eq!(level, count as i32 - 7);
        }
    }

    #[test]
    fn frequencies_follow_the_thresholds() {
        let quarter = 1u64 << 62;
        let distribution = LatticeNormal::new(vec![quarter, 3 * quarter], -1).unwrap();
        let levels = draw(&distribution, 40_000);
        let share = |wanted| levels.iter().filter(|&&level| level == wanted).count() as f64 / 4e4;
        for (level, expected) in [(-1, 0.25), (0, 0.5), (1, 0.25)] {
            // Five standard deviations.
            assert!((share(level) - expected).abs() < 0.0125, "{level}: {}", share(level));
        }
    }

    #[test]
    fn refuses_thresholds_that_fall() {
        assert_eq!(LatticeNormal::new(vec![2, 1], 0).unwrap_err(), NotADistribution);
    }
}
