//! Copies and checks the caller's arrays once; they are never read again.

use crate::error::{Error, Result};
use crate::lengths::extremes;
use crate::memory::room_for;

/// Segment numbers are `u32` inside a plan, and `i32` outside.
const MOST_SEGMENTS: usize = i32::MAX as usize;

/// Copies the lengths, and returns the longest, too; rejects negative lengths and too many segments.
pub(super) fn admit_lengths(lengths: &[i32]) -> Result<(Vec<i32>, i32)> {
    if lengths.len() > MOST_SEGMENTS {
        return Err(Error::Size {
            argument: "lengths",
            size: lengths.len(),
            expected: MOST_SEGMENTS,
            because: "at most, so that int32 can number the segments",
        });
    }
    let mut copy = room_for(lengths.len());
    copy.extend_from_slice(lengths);
    let longest = extremes(&copy)?.map_or(0, |(_, longest)| longest);
    Ok((copy, longest))
}

/// Copies the segment with which each one shares its row; `None` if none are shared.
pub(super) fn admit_identities(identities: &[i64], lengths: &[i32]) -> Result<Option<Vec<u32>>> {
    if identities.len() != lengths.len() {
        return Err(Error::Size {
            argument: "identities",
            size: identities.len(),
            expected: lengths.len(),
            because: "one for each length",
        });
    }
    let mut firsts: Vec<u32> = Vec::with_capacity(identities.len());
    let mut shared = false;
    for (index, &value) in identities.iter().enumerate() {
        let refuse = |expected| Error::Element { argument: "identities", index, value, expected };
        if value < 0 || value > index as i64 {
            return Err(refuse("at least 0 and at most its own index"));
        }
        let first = value as usize;
        if first < index {
            shared = true;
            if firsts[first] as usize != first {
                return Err(refuse("the first segment of its group, one that is its own identity"));
            }
            if lengths[first] != lengths[index] {
                return Err(refuse("a segment of the same length"));
            }
        }
        firsts.push(first as u32);
    }
    Ok(shared.then_some(firsts))
}

/// The lengths of the segments that have their own row.
pub(super) fn distinct(lengths: &[i32], firsts: Option<&[u32]>) -> Vec<i32> {
    let Some(firsts) = firsts else {
        return lengths.to_vec();
    };
    let own = |(segment, &first): (usize, &u32)| (first as usize == segment).then_some(lengths[segment]);
    firsts.iter().enumerate().filter_map(own).collect()
}
