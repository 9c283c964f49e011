//! Encodes a plan compactly, and computes its fingerprint.
//!
//! A plan is determined by its policy and its segments' lengths and identities or prefixes, so only these are
//! stored, and the plan is made again. Numbers are stored as varints: in groups of 7 bits, least significant
//! first, with the eighth bit set if more follow. Most lengths take one or two bytes.
//!
//! The fingerprint covers the same numbers and the place of each segment, so that releases that plan
//! differently have different fingerprints. It does not protect against deliberate collisions.

use crate::error::{Error, Result};

use super::policy::Policy;
use super::shapes::Stretch;
use super::trees::{Choice, Trees};

/// A version that changes whenever the encoding or the fingerprint does.
const FORMAT: i64 = 1;

/// The data that determines a plan.
pub(super) struct Recipe {
    pub policy: Policy,
    pub lengths: Vec<i32>,
    pub sharing: Sharing,
}

/// How equal or similar segments share rows.
pub(super) enum Sharing {
    Nothing,
    Identities(Vec<i64>),
    Prefixes { order: Vec<i64>, shared: Vec<i32>, choice: Choice },
}

/// How segments share rows, as stored in a plan.
#[derive(Clone, Copy)]
pub(super) enum Shared<'a> {
    Nothing,
    Firsts(&'a [u32]),
    Trees(&'a Trees),
}

impl Shared<'_> {
    /// The number of the variant.
    fn kind(self) -> u64 {
        match self {
            Shared::Nothing => 0,
            Shared::Firsts(_) => 1,
            Shared::Trees(_) => 2,
        }
    }
}

/// Writes the data that determines a plan.
pub(super) fn write(policy: &Policy, lengths: &[i32], shared: Shared, fingerprint: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lengths.len() * 2 + 64);
    push(&mut bytes, FORMAT as u64);
    for word in policy.words() {
        push(&mut bytes, zigzag(word));
    }
    push(&mut bytes, lengths.len() as u64);
    lengths.iter().for_each(|&length| push(&mut bytes, length as u64));
    push(&mut bytes, shared.kind());
    match shared {
        Shared::Nothing => {}
        Shared::Firsts(firsts) => {
            for (segment, &first) in firsts.iter().enumerate() {
                push(&mut bytes, (segment as u64) - u64::from(first));
            }
        }
        Shared::Trees(trees) => {
            trees.branches.iter().for_each(|branch| push(&mut bytes, branch.segment.into()));
            trees.branches.iter().for_each(|branch| push(&mut bytes, branch.shared as u64));
            trees.choice.words().into_iter().for_each(|word| push(&mut bytes, zigzag(word)));
        }
    }
    bytes.extend(fingerprint.to_le_bytes());
    bytes
}

/// Reads the output of [`write`], and the fingerprint of the original plan.
pub(super) fn read(bytes: &[u8]) -> Result<(Recipe, u64)> {
    parse(bytes).ok_or_else(|| foreign(bytes))
}

/// The error for bytes that are not a plan of this release.
pub(super) fn foreign(bytes: &[u8]) -> Error {
    Error::Value {
        argument: "the number of stored bytes",
        value: bytes.len() as i64,
        expected: "those of a plan stored by this release of windrow; make the plan again",
    }
}

fn parse(bytes: &[u8]) -> Option<(Recipe, u64)> {
    let (mut bytes, fingerprint) = bytes.split_last_chunk::<8>()?;
    let bytes = &mut bytes;
    if pull(bytes)? != FORMAT as u64 {
        return None;
    }
    let policy = Policy::from_words(|| pull(bytes).map(unzigzag))?;
    let count = usize::try_from(pull(bytes)?).ok().filter(|&count| count <= bytes.len())?;
    let lengths = (0..count).map(|_| pull(bytes)?.try_into().ok()).collect::<Option<Vec<i32>>>()?;
    let sharing = match pull(bytes)? {
        0 => Sharing::Nothing,
        1 => {
            let first = |segment| i64::try_from(pull(bytes)?).ok().map(|back| segment as i64 - back);
            Sharing::Identities((0..count).map(first).collect::<Option<_>>()?)
        }
        2 => Sharing::Prefixes {
            order: (0..count).map(|_| pull(bytes)?.try_into().ok()).collect::<Option<_>>()?,
            shared: (0..count).map(|_| pull(bytes)?.try_into().ok()).collect::<Option<_>>()?,
            choice: Choice::from_words(|| pull(bytes).map(unzigzag))?,
        },
        _ => return None,
    };
    bytes.is_empty().then_some((Recipe { policy, lengths, sharing }, u64::from_le_bytes(*fingerprint)))
}

/// The fingerprint of a plan; `places` are its segments' batches, rows and starts (empty for trees).
pub(super) fn fingerprint(
    policy: &Policy,
    lengths: &[i32],
    shared: Shared,
    stretches: &[Stretch],
    places: [&[i32]; 3],
) -> u64 {
    let mut mixer = Mixer(0);
    mixer.add(FORMAT as u64);
    policy.words().into_iter().for_each(|word| mixer.add(word as u64));
    mixer.add(lengths.len() as u64);
    mixer.add_pairs(lengths, |length| length as u32);
    mixer.add(shared.kind());
    match shared {
        Shared::Nothing => {}
        Shared::Firsts(firsts) => mixer.add_pairs(firsts, |first| first),
        Shared::Trees(trees) => {
            mixer.add_pairs(&trees.branches, |branch| branch.segment);
            mixer.add_pairs(&trees.branches, |branch| branch.shared as u32);
            trees.choice.words().into_iter().for_each(|word| mixer.add(word as u64));
            mixer.add_pairs(&trees.seats, |[_, own, _]| own as u32);
            mixer.add_pairs(&trees.seats, |[.., parent]| parent as u32);
        }
    }
    for stretch in stretches {
        [stretch.rows, stretch.length, stretch.batches].into_iter().for_each(|part| mixer.add(part as u64));
    }
    places.into_iter().for_each(|place| mixer.add_pairs(place, |place| place as u32));
    if let Shared::Trees(trees) = shared {
        mixer.add_pairs(&trees.seats, |[start, ..]| start as u32);
    }
    mixer.finish()
}

/// Mixes words into one. Each step is invertible given its word, so no difference between two lists is lost
/// before the next one.
struct Mixer(u64);

impl Mixer {
    fn add(&mut self, word: u64) {
        // 2⁶⁴ divided by the golden ratio, made odd, so that its multiples are spread evenly.
        let mixed = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn add_pairs<T: Copy>(&mut self, values: &[T], bits: impl Fn(T) -> u32) {
        let (pairs, rest) = values.as_chunks::<2>();
        for &[first, second] in pairs {
            self.add(u64::from(bits(first)) | u64::from(bits(second)) << 32);
        }
        rest.iter().for_each(|&last| self.add(bits(last).into()));
    }

    fn finish(mut self) -> u64 {
        self.add(0);
        self.add(0);
        self.0
    }
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Maps small negative numbers to small positive ones (zigzag): 0, −1, 1, −2, …
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
