//! The certificate format: strict JSON, see `docs/certificates.md`.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};

/// Most bytes of a certificate that is read, after decompression.
pub const MAX_BYTES: usize = 1 << 30;

/// What is read: version 2 has packed slopes, empty parts and rules of clips.
const VERSION: u32 = 2;

/// Most splits and claims one below the other.
pub(crate) const MAX_DEPTH: usize = 1000;

/// A finite float64, written as a hexadecimal float: `-0x1.8p-3`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hex(pub f64);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    pub format: String,
    pub version: u32,
    /// Digest of the graph.
    pub graph: String,
    pub cases: Vec<Case>,
}

/// A region, clauses, and a proof that no point of the region meets one of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub region: RegionSpec,
    pub clauses: Vec<ClauseSpec>,
    /// A binary tree in preorder.
    pub proof: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegionSpec {
    pub lower: Vec<Hex>,
    pub upper: Vec<Hex>,
    #[serde(default)]
    pub ball: Option<BallSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BallSpec {
    pub norm: NormSpec,
    pub center: Vec<Hex>,
    pub radius: Hex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NormSpec {
    L1,
    L2,
}

/// `rows · y <= rhs` in every row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClauseSpec {
    pub rows: Vec<Vec<Hex>>,
    pub rhs: Vec<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Entry {
    /// The first one, if at all: the network meant is the one without max pooling.
    Maxima(MaximaRule),
    /// Node, element and where: the part at most there follows, then the part at least there.
    Split(usize, usize, Hex),
    /// Bounds and lines are found anew, for the part that follows.
    Bounds(BoundsClaim),
    /// What follows is two proofs for the part: of the clauses listed, then of the others.
    Apart(Vec<usize>),
    /// Bounds and lines are found anew, and the box is clipped to where counterexamples may be, for
    /// the part that follows.
    Clip(ClipClaim),
    /// The part is done: no point is in it, because the bounds of a node's element exclude each
    /// other.
    Nothing(usize, usize),
    /// The part is done: each clause that is left is refuted.
    Leaf(Vec<Refutation>),
}

/// What max pooling is replaced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MaximaRule {
    /// ReLUs of differences, see [`aisec_graph::Graph::without_maxima`].
    Relu,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClipClaim {
    #[serde(default)]
    pub rule: ClipRule,
    #[serde(default)]
    pub joint: Vec<Joint>,
}

/// What is asked of a part beside rows carried back to the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClipRule {
    /// Rows carried back through elements whose sign is known, as far as those.
    #[default]
    Signs,
    /// Interval arithmetic, node by node.
    Interval,
}

/// `Σ weights·(row · y - rhs) <= 0`, which follows from a clause.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Joint {
    pub clause: usize,
    /// One a row of the clause.
    pub weights: Vec<Hex>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoundsClaim {
    pub rule: Intermediate,
    #[serde(default)]
    pub claims: Vec<NodeClaim>,
}

/// How bounds that are not claimed are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Intermediate {
    Interval,
    Crown,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeClaim {
    pub node: usize,
    pub lower: Vec<Hex>,
    pub upper: Vec<Hex>,
    #[serde(default)]
    pub by: Vec<ClaimPart>,
}

/// Slopes by which some of the bounds are proven.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimPart {
    /// Elements whose lower bound is meant.
    #[serde(default)]
    pub lower: Vec<usize>,
    #[serde(default)]
    pub upper: Vec<usize>,
    pub slopes: Vec<NodeSlopes>,
    /// Parts, in preorder, instead of slopes; none is left out.
    #[serde(default)]
    pub tree: Vec<Branch>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Branch {
    /// Node, element and where: the part at most there follows, then the part at least there.
    Split(usize, usize, Hex),
    Leaf(Ends),
}

/// What a part is bounded by.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ends {
    /// One a split above that cuts an inner node, in order.
    #[serde(default)]
    pub betas: Vec<Hex>,
    #[serde(default)]
    pub slopes: Vec<NodeSlopes>,
}

/// Slopes of the lines of an activation; what is not listed has the usual ones.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSlopes {
    pub node: usize,
    /// With `packed` all elements where it is left out.
    #[serde(default)]
    pub at: Option<Vec<usize>>,
    /// One an element of `at`, or none: the usual ones then.
    #[serde(default)]
    pub lower: Vec<Hex>,
    #[serde(default)]
    pub upper: Vec<Hex>,
    /// Slopes of ReLU's lower lines instead of `lower` and `upper`.
    #[serde(default)]
    pub packed: Option<Packed>,
}

/// Slopes in 1/128, two hexadecimal digits each; `..` is the usual one.
#[derive(Debug, PartialEq)]
pub(crate) struct Packed(pub Vec<Option<u8>>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refutation {
    pub clause: usize,
    /// One a row of the clause.
    pub weights: Vec<Hex>,
    /// One a split above that cuts an inner node, in order.
    #[serde(default)]
    pub betas: Vec<Hex>,
    #[serde(default)]
    pub slopes: Vec<NodeSlopes>,
    pub bound: Hex,
}

impl Certificate {
    /// Reads a certificate; memory stays in proportion to the text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("larger than {} MiB", MAX_BYTES >> 20));
        }
        let found: Self = serde_json::from_slice(text).map_err(|error| {
            let mut line = error.to_string().replace(|c: char| c.is_control(), " ");
            line.truncate((0..=200).rev().find(|&n| line.is_char_boundary(n)).unwrap_or(0));
            line
        })?;
        if found.format != "aisec certificate" || found.version != VERSION {
            return Err("not an \"aisec certificate\" of version 2".to_owned());
        }
        Ok(found)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Hex;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a finite number as a hexadecimal float like \"-0x1.8p-3\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hex, E> {
                parse_hex(text).map(Hex).ok_or_else(|| {
                    E::invalid_value(serde::de::Unexpected::Other("another text"), &self)
                })
            }
        }
        deserializer.deserialize_str(Text).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Packed;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("slopes of two hexadecimal digits each, at most 80, or \"..\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Packed, E> {
                parse_packed(text).map(Packed).ok_or_else(|| {
                    E::invalid_value(serde::de::Unexpected::Other("another text"), &self)
                })
            }
        }
        deserializer.deserialize_str(Text).map_err(D::Error::custom)
    }
}

fn parse_packed(text: &str) -> Option<Vec<Option<u8>>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let slope = |&[high, low]: &[u8; 2]| {
        if [high, low] == *b".." {
            return Some(None);
        }
        let slope = 16 * digit(high)? + digit(low)?;
        (slope <= 128).then_some(Some(slope))
    };
    pairs.iter().map(slope).collect()
}

/// `[-]0x1.<up to 13 hex digits>p<exponent>`, or a leading 0 for zero and subnormal numbers:
/// what C's `%a` and Python's `float.hex` write, of numbers that a float64 holds exactly.
pub(crate) fn parse_hex(text: &str) -> Option<f64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let text = text.strip_prefix("0x")?;
    let (digits, exponent) = text.split_once('p')?;
    let (lead, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let lead: u64 = match lead {
        "0" => 0,
        "1" => 1,
        _ => return None,
    };
    let plain = |s: &str| !s.is_empty() && s.len() <= 4 && s.bytes().all(|b| b.is_ascii_digit());
    let (down, size) = match exponent.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !plain(size) || fraction.len() > 13 || !fraction.bytes().all(hex) {
        return None;
    }
    let size: i64 = size.parse().ok()?;
    let exponent = if down { -size } else { size };
    let mut mantissa = lead;
    for digit in fraction.chars() {
        mantissa = mantissa << 4 | u64::from(digit.to_digit(16)?);
    }
    mantissa <<= 4 * (13 - fraction.len());
    let value = match (lead, mantissa, exponent) {
        (_, 0, _) => 0.0,
        (1, _, -1022..=1023) => {
            f64::from_bits(((exponent + 1023) as u64) << 52 | (mantissa & ((1 << 52) - 1)))
        }
        (0, _, -1022) => f64::from_bits(mantissa),
        _ => return None,
    };
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_slopes() {
        assert_eq!(
            parse_packed("..0080..7f"),
            Some(vec![None, Some(0), Some(128), None, Some(127)])
        );
        assert_eq!(parse_packed(""), Some(Vec::new()));
        for text in ["0", "81", "ff", ".0", "0.", "8G", "0A", " 0", "+0", "\u{e9}"] {
            assert_eq!(parse_packed(text), None, "{text}");
        }
    }

    #[test]
    fn hexadecimal_floats() {
        for (text, value) in [
            ("0x1p+0", 1.0),
            ("-0x1.8p-3", -0.1875),
            ("0x1.999999999999ap-4", 0.1),
            ("0x0.0p+0", 0.0),
            ("0x0p0", 0.0),
            ("0x0.0000000000001p-1022", f64::from_bits(1)),
            ("0x1.fffffffffffffp+1023", f64::MAX),
            ("0x1.0000000000000p+10", 1024.0),
        ] {
            assert_eq!(parse_hex(text), Some(value), "{text}");
        }
        assert!(parse_hex("-0x0.0p+0").unwrap().is_sign_negative());
        for text in [
            "",
            "1",
            "0x",
            "0x1",
            "0x1p",
            "0x2p+0",
            "0x1p+1024",
            "0x1p-1023",
            "0x1.p+0x",
            "inf",
            "nan",
            "-inf",
            "0x1.00000000000000p+0",
            "0x1p+00000",
            "0X1p+0",
            "0x1.Ap+0",
            "+0x1p+0",
            " 0x1p+0",
            "0x1p+0 ",
            "0x1p--1",
            "0x1p+-1",
            "0x0.1p+5",
            "--0x1p+0",
            "0x1é.p+0",
        ] {
            assert_eq!(parse_hex(text), None, "{text}");
        }
    }
}
