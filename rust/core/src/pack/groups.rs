//! Groups segments by length.

use crate::error::{Error, Result};

/// The lengths that occur, ascending, and the number of segments with each.
pub(super) trait Groups {
    /// The number of groups; some may be empty.
    fn groups(&self) -> usize;

    /// A group's length, and the number of segments with it.
    fn group(&self, group: usize) -> (i32, u32);

    /// The group of a length, if there is one.
    fn find(&self, length: i32) -> Option<usize>;
}

/// A group for each possible length, even if no segment has it.
pub(super) struct ByLength(Vec<u32>);

impl ByLength {
    pub(super) fn count(lengths: &[i32], capacity: i32) -> Result<Self> {
        let mut counts = vec![0; capacity as usize + 1];
        for (index, &length) in lengths.iter().enumerate() {
            match usize::try_from(length).ok().and_then(|length| counts.get_mut(length)) {
                Some(count) => *count += 1,
                None => return Err(refusal(index, length, capacity)),
            }
        }
        Ok(Self(counts))
    }
}

impl Groups for ByLength {
    fn groups(&self) -> usize {
        self.0.len()
    }

    fn group(&self, group: usize) -> (i32, u32) {
        (group as i32, self.0[group])
    }

    fn find(&self, length: i32) -> Option<usize> {
        usize::try_from(length).ok()
    }
}

/// A group for each length that occurs.
pub(super) struct ByRank(Vec<(i32, u32)>);

impl ByRank {
    pub(super) fn count(lengths: &[i32], capacity: i32) -> Result<Self> {
        let mut sorted = Vec::with_capacity(lengths.len());
        for (index, &length) in lengths.iter().enumerate() {
            if length < 0 || length > capacity {
                return Err(refusal(index, length, capacity));
            }
            sorted.push(length);
        }
        sorted.sort_unstable();
        let equal = sorted.chunk_by(|one, next| one == next);
        Ok(Self(equal.map(|equal| (equal[0], equal.len() as u32)).collect()))
    }
}

impl Groups for ByRank {
    fn groups(&self) -> usize {
        self.0.len()
    }

    fn group(&self, group: usize) -> (i32, u32) {
        self.0[group]
    }

    fn find(&self, length: i32) -> Option<usize> {
        self.0.binary_search_by_key(&length, |&(length, _)| length).ok()
    }
}

/// Why no row can hold a segment of this length.
fn refusal(index: usize, length: i32, capacity: i32) -> Error {
    let (argument, value) = ("lengths", length.into());
    if length < 0 {
        return Error::Element { argument, index, value, expected: "at least 0" };
    }
    Error::Limit { argument, index, value, limit: "capacity", at_most: capacity.into() }
}
