//! Which segments have the same tokens.
//!
//! Every segment is hashed. Hash and number of each are placed by the hash's
//! first bits in partitions small enough that a partition's table stays in a
//! core's own cache; there the first segment with each hash is found. Whether a
//! segment really has the tokens of that one is then checked in the order of the
//! segments, so that one of the two is read from where reading just was. The few
//! that only share a hash are grouped once more, by their tokens.
//!
//! The cost is two passes over the tokens and 8 bytes of memory for each segment.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::{hash::hash, segment_count};
use crate::chunks::{fill_chunks, on_threads, ranges};
use crate::error::{Error, Result};
use crate::parallel::threads_for;
use crate::place::{Places, place_all};

/// How many segments a partition should have, so that its table fits into a core's second cache.
const PARTITION: usize = 1 << 13;
/// More partitions than this are not quick to write to.
const MOST_PARTITIONS: usize = 1 << 11;

/// Writes into `first`, for each segment, the first segment with the same tokens:
/// itself, if none before it has them.
///
/// Segment `s` is `tokens[offsets[s]..offsets[s + 1]]`; `offsets` must begin at 0,
/// never descend, and end with the number of tokens. `first` must have one element
/// for each segment; where the result is `Ok`, all are written.
pub fn group_identical(tokens: &[i32], offsets: &[i64], first: &mut [MaybeUninit<i64>]) -> Result<()> {
    group_identical_by(hash, tokens, offsets, first)
}

/// As [`group_identical`], with a hash of the caller's. The result is the same for
/// any hash that depends on the tokens alone, however poor.
pub fn group_identical_by(
    hash: impl Fn(&[i32]) -> u64 + Sync,
    tokens: &[i32],
    offsets: &[i64],
    first: &mut [MaybeUninit<i64>],
) -> Result<()> {
    let segments = Segments { tokens, offsets };
    segments.check_ends(first.len())?;
    fill_chunks(first, |range, hashes| {
        for (segment, slot) in range.zip(hashes) {
            slot.write(hash(segments.checked(segment)?) as i64);
        }
        Ok(())
    })?;
    // SAFETY: every element was written just now, and nobody else has them.
    let first = unsafe { &*(first as *mut [MaybeUninit<i64>] as *const [AtomicI64]) };
    group_by_hash(first);
    regroup(segments, first, &mistaken(segments, first));
    Ok(())
}

#[derive(Clone, Copy)]
struct Segments<'a> {
    tokens: &'a [i32],
    offsets: &'a [i64],
}

impl<'a> Segments<'a> {
    fn check_ends(self, firsts: usize) -> Result<()> {
        let segments = segment_count(self.offsets)?;
        if firsts != segments {
            let because = "one for each segment";
            return Err(Error::Size { argument: "first", size: firsts, expected: segments, because });
        }
        let end = self.offsets[segments];
        if end != self.tokens.len() as i64 {
            let expected = "the number of tokens, since the last segment ends there";
            return Err(Error::Element { argument: "offsets", index: segments, value: end, expected });
        }
        Ok(())
    }

    /// The tokens of a segment, or nothing where its offsets are not within the tokens.
    fn get(self, segment: usize) -> Option<&'a [i32]> {
        let (begin, end) = (self.offsets[segment], self.offsets[segment + 1]);
        self.tokens.get(begin as usize..end as usize)
    }

    fn checked(self, segment: usize) -> Result<&'a [i32]> {
        self.get(segment).ok_or_else(|| {
            let (begin, value) = (self.offsets[segment], self.offsets[segment + 1]);
            let expected =
                if value < begin { "at least the offset before it" } else { "at most the number of tokens" };
            Error::Element { argument: "offsets", index: segment + 1, value, expected }
        })
    }
}

/// Replaces each hash in `first` by the first segment that had the same one.
///
/// Two hashes count as the same if they agree in as many bits as fit beside a
/// segment's number.
fn group_by_hash(first: &[AtomicI64]) {
    let count = first.len();
    let partitions = (count / PARTITION + 1).next_power_of_two().min(MOST_PARTITIONS);
    let bits = partitions.ilog2();
    let number = Number::below(count);
    let mut entries: Vec<i64> = Vec::with_capacity(count);
    let places = Places::new(&mut entries.spare_capacity_mut()[..count]);
    let partition =
        |segment: usize| (first[segment].load(Relaxed) as u64).rotate_left(bits) as usize % partitions;
    let begins = place_all(count, partitions, partition, |place, segment| {
        let hash = (first[segment].load(Relaxed) as u64) << bits;
        places.put(place, number.beside(hash, segment) as i64);
        first[segment].store(segment as i64, Relaxed);
    });
    let begins = begins.expect("nobody else writes the hashes");
    // SAFETY: every place was given, so every element is written.
    unsafe { entries.set_len(count) };
    let ends = begins.iter().skip(1).copied().chain([count]);
    let parts = begins.iter().zip(ends).map(|(&begin, end)| &entries[begin..end]).collect();
    on_threads(threads_for(count), parts, |entries| group_partition(entries, number, first));
}

/// How many bits a segment's number takes below a hash.
#[derive(Clone, Copy)]
struct Number {
    mask: u64,
}

impl Number {
    fn below(count: usize) -> Self {
        Self { mask: ((count as u64 + 1).next_power_of_two()) - 1 }
    }

    /// The hash's upper bits, with the segment's number, from 1, in place of the lower.
    fn beside(self, hash: u64, segment: usize) -> u64 {
        hash & !self.mask | (segment as u64 + 1)
    }

    fn segment(self, entry: u64) -> i64 {
        (entry & self.mask) as i64 - 1
    }
}

/// Finds the first segment with each hash of a partition, and writes it for the others.
fn group_partition(entries: &[i64], number: Number, first: &[AtomicI64]) {
    let mut table = Table::for_entries(entries.len().min(PARTITION * 2));
    for &entry in entries {
        let entry = entry as u64;
        let found = table.find_or_insert(entry, number);
        if found != entry {
            first[number.segment(entry) as usize].store(number.segment(found), Relaxed);
        }
    }
}

/// Entries by hash, with open addressing; 0 is an empty slot.
struct Table {
    slots: Vec<u64>,
    used: usize,
}

impl Table {
    fn for_entries(count: usize) -> Self {
        Self { slots: vec![0; (count * 2).next_power_of_two().max(2)], used: 0 }
    }

    /// The entry with the hash of `entry` that was inserted first: `entry` itself, if it is new.
    fn find_or_insert(&mut self, entry: u64, number: Number) -> u64 {
        let last = self.slots.len() - 1;
        let mut slot = (entry >> self.shift()) as usize;
        loop {
            let found = self.slots[slot & last];
            if found == 0 {
                break;
            }
            if (found ^ entry) & !number.mask == 0 {
                return found;
            }
            slot += 1;
        }
        self.slots[slot & last] = entry;
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            self.grow(number);
        }
        entry
    }

    /// The first bits of an entry are its slot's number.
    fn shift(&self) -> u32 {
        64 - self.slots.len().ilog2()
    }

    fn grow(&mut self, number: Number) {
        let larger = Self::for_entries(self.slots.len());
        for entry in std::mem::replace(self, larger).slots.into_iter().filter(|&entry| entry != 0) {
            self.find_or_insert(entry, number);
        }
    }
}

/// The segments whose tokens are not those of the segment that `first` names, ascending.
fn mistaken(segments: Segments, first: &[AtomicI64]) -> Vec<usize> {
    let threads = threads_for(first.len());
    let parts = on_threads(threads, ranges(first.len(), threads * 4), |range: Range<usize>| {
        let mut mistaken = Vec::new();
        for segment in range {
            let named = first[segment].load(Relaxed) as usize;
            if named != segment && segments.get(segment) != segments.get(named) {
                mistaken.push(segment);
            }
        }
        mistaken
    });
    parts.concat()
}

/// Groups `mistaken` segments by their tokens. All with the same tokens are among
/// them: they had the same hash, hence the same, wrong, first segment.
fn regroup(segments: Segments, first: &[AtomicI64], mistaken: &[usize]) {
    let mut seen = HashMap::new();
    for &segment in mistaken {
        let tokens = segments.get(segment);
        let named = *seen.entry(tokens).or_insert(segment);
        first[segment].store(named as i64, Relaxed);
    }
}
