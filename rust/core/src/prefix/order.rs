//! Sorts segments lexicographically, and finds how many tokens neighbors share.
//!
//! A *group* is a range of segments that begin with the same `depth` tokens. It is sorted by the next two
//! tokens, which splits it into smaller groups. If most of a group stays together, its segments share a
//! longer prefix, and advancing by two tokens at a time would be slow, so the group is compared with one of
//! its segments, the *pivot*, instead. The number of tokens that a segment shares with the pivot, the side of
//! the pivot that it is on, and the next two tokens form its key, and segments with equal keys form the next
//! groups. Groups of a few segments are sorted immediately (see `few`).
//!
//! The keys tell how many tokens neighbors with different keys share, so no token that is known to be shared
//! is read again.
//!
//! ```text
//! group       a b c e f    h i    a b c d    a b g    h i        the pivot is a b c d
//! in common   3            0      all        2        0
//! sorted      a b c d | a b c e f | a b g | h i, h i             the last two are a group again
//! shared      0         3           2       0
//! ```
//!
//! A split by two tokens either halves every group or is followed by a split by a pivot, which is chosen
//! pseudorandomly, and is the same for the same segments. So a segment takes part in O(log n) rounds, and in
//! far fewer if tokens vary a lot. This takes 16 bytes of memory per segment, and 16 per waiting group.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::chunks::{fill_chunks, on_threads};
use crate::error::{Error, Result};
use crate::memory::prefetch;
use crate::parallel::threads_for;
use crate::ragged::{Segments, refused_offset};

use super::entry::{EQUAL, Entry};
use super::few::{FEW, Placed, sort_few};
use super::sort::sort;

/// Reading this many tokens takes as long as everything else that a round does with a segment.
const TOKENS_PER_STEP: usize = 8;
/// The number of parts per thread, so that no thread waits long for another.
const PARTS_PER_THREAD: usize = 8;
/// How far ahead a segment's offsets and tokens are prefetched.
const AHEAD: usize = 16;

/// Writes the segments, in lexicographic order of their tokens and equal ones in the given order, into
/// `order`, and the number of leading tokens that each shares with the previous one, 0 for the first, into
/// `shared`.
///
/// Segment `s` is `tokens[offsets[s]..offsets[s + 1]]`; `offsets` must begin at 0, never descend, and end
/// with the number of tokens. `order` and `shared` must have one element per segment; if the result is `Ok`,
/// all are written.
pub fn prefix_order(
    tokens: &[i32],
    offsets: &[i64],
    order: &mut [MaybeUninit<i64>],
    shared: &mut [MaybeUninit<i32>],
) -> Result<()> {
    let segments = Segments::new(tokens, offsets)?;
    segments.check_size("order", order.len())?;
    segments.check_size("shared", shared.len())?;
    check(offsets)?;
    let count = segments.count();
    let threads = threads_for(count.max(tokens.len() / TOKENS_PER_STEP));
    let mut entries: Vec<Entry> = (0..count as u32).map(Entry::of).collect();
    if let Some(first) = shared.first_mut() {
        first.write(0);
    }
    let sorter = Sorter { segments };
    let small = sorter.split_large(&mut entries, shared, threads);
    let parts = parts(&small, &mut entries, shared, count / (threads * PARTS_PER_THREAD) + 1);
    on_threads(threads, parts, |part| sorter.sort(part));
    fill_chunks(order, |range, slots| {
        for (slot, entry) in slots.iter_mut().zip(&entries[range]) {
            slot.write(entry.segment() as i64);
        }
        Ok(())
    })
}

/// Rejects offsets that descend, segments that are too long for `i32`, and too many segments.
fn check(offsets: &[i64]) -> Result<()> {
    if offsets.len() > u32::MAX as usize {
        let value = offsets.len() as i64 - 1;
        return Err(Error::Value { argument: "the number of segments", value, expected: "below 4294967295" });
    }
    let bad = |ends: &[i64]| !(0..=i32::MAX.into()).contains(&ends[1].wrapping_sub(ends[0])) || ends[1] < 0;
    if offsets.windows(2).any(bad) { Err(refused_offset(offsets, 0)) } else { Ok(()) }
}

/// Neighbors that begin with the same `depth` tokens and are not sorted yet.
#[derive(Clone, Copy)]
struct Group {
    begin: u32,
    end: u32,
    depth: u32,
    /// Whether they made up most of a group that was sorted by the tokens from `depth` on.
    alike: bool,
}

impl Group {
    fn range(self) -> Range<usize> {
        self.begin as usize..self.end as usize
    }
}

/// Some groups, and the entries and slots from the beginning of the first to the end of the last.
struct Part<'a> {
    groups: Vec<Group>,
    entries: &'a mut [Entry],
    shared: &'a mut [MaybeUninit<i32>],
}

/// Splits the work into parts of about `size` segments.
fn parts<'a>(
    groups: &[Group],
    mut entries: &'a mut [Entry],
    mut shared: &'a mut [MaybeUninit<i32>],
    size: usize,
) -> Vec<Part<'a>> {
    let mut parts: Vec<Part> = Vec::new();
    let mut passed = 0;
    let mut rest = groups;
    while let Some(first) = rest.first() {
        let enough = |group: &Group| group.begin as usize >= first.begin as usize + size;
        let (own, after) = rest.split_at(rest.iter().position(enough).unwrap_or(rest.len()));
        rest = after;
        let range = first.begin as usize..own[own.len() - 1].end as usize;
        let own_entries;
        (own_entries, entries) = entries[range.start - passed..].split_at_mut(range.len());
        let own_shared;
        (own_shared, shared) = shared[range.start - passed..].split_at_mut(range.len());
        passed = range.end;
        let groups = own.iter().map(|group| Group {
            begin: group.begin - first.begin,
            end: group.end - first.begin,
            ..*group
        });
        parts.push(Part { groups: groups.collect(), entries: own_entries, shared: own_shared });
    }
    parts
}

#[derive(Clone, Copy)]
struct Sorter<'a> {
    segments: Segments<'a>,
}

impl Sorter<'_> {
    /// Splits groups until none is so large that other threads would wait for it. Returns the remaining
    /// groups in order.
    fn split_large(
        self,
        entries: &mut [Entry],
        shared: &mut [MaybeUninit<i32>],
        threads: usize,
    ) -> Vec<Group> {
        let most = if threads == 1 { entries.len() } else { entries.len() / (2 * threads) };
        let mut large = vec![Group { begin: 0, end: entries.len() as u32, depth: 0, alike: false }];
        let mut small = Vec::new();
        while let Some(group) = large.pop() {
            if group.range().len() <= most {
                small.push(group);
                continue;
            }
            self.split(group, entries, shared, threads, |group| {
                if group.range().len() <= most { small.push(group) } else { large.push(group) }
            });
        }
        small.sort_unstable_by_key(|group| group.begin);
        small
    }

    /// Sorts all groups of a part.
    fn sort(self, part: Part) {
        let mut waiting = part.groups;
        while let Some(group) = waiting.pop() {
            self.split(group, part.entries, part.shared, 1, |group| waiting.push(group));
        }
    }

    /// Sorts a group by its next tokens or its pivot, writes the shared lengths of segments with different
    /// keys, sorts the segments with equal keys if they are few, and otherwise calls `push` with them.
    #[inline]
    fn split(
        self,
        group: Group,
        entries: &mut [Entry],
        shared: &mut [MaybeUninit<i32>],
        threads: usize,
        mut push: impl FnMut(Group),
    ) {
        let (entries, shared) = (&mut entries[group.range()], &mut shared[group.range()]);
        let pivot = group.alike.then(|| pick(entries, group.depth));
        let length = pivot.map_or(0, |pivot| self.tokens(pivot, group.depth).len() as u32);
        self.compare(entries, pivot, group.depth, threads);
        sort(entries, threads);
        let mut begin = 0;
        while let Some(&first) = entries.get(begin) {
            let end = begin + entries[begin..].iter().take_while(|entry| entry.key() == first.key()).count();
            let depth = group.depth + first.known(length);
            (begin..end).for_each(|at| self.foresee(entries, at, depth));
            if let Some(next) = entries.get(end) {
                shared[end].write((group.depth + next.shared(first, length)) as i32);
            }
            let (run, shared) = (&mut entries[begin..end], &mut shared[begin + 1..end]);
            if first.class() == EQUAL {
                run.sort_unstable_by_key(|entry| entry.segment());
                shared.fill(MaybeUninit::new(depth as i32));
            } else if run.len() > FEW {
                let alike = pivot.is_none() && run.len() > group.range().len() / 2;
                push(Group {
                    begin: group.begin + begin as u32,
                    end: group.begin + end as u32,
                    depth,
                    alike,
                });
            } else if run.len() > 1 {
                self.finish(depth, run, shared);
            }
            begin = end;
        }
    }

    /// Sorts a few segments.
    fn finish(self, depth: u32, entries: &mut [Entry], shared: &mut [MaybeUninit<i32>]) {
        let mut sorted = [Placed::default(); FEW];
        let segments =
            entries.iter().map(|entry| (entry.segment() as u32, self.tokens(entry.segment(), depth)));
        sort_few(segments, &mut sorted);
        let sorted = &sorted[..entries.len()];
        entries.iter_mut().zip(sorted).for_each(|(entry, placed)| *entry = Entry::of(placed.segment));
        for (shared, placed) in shared.iter_mut().zip(&sorted[1..]) {
            shared.write((depth + placed.shared) as i32);
        }
    }

    /// Computes the key of every entry.
    fn compare(self, entries: &mut [Entry], pivot: Option<usize>, depth: u32, threads: usize) {
        let others = pivot.map(|pivot| self.tokens(pivot, depth)).unwrap_or_default();
        let compare = |entries: &mut [Entry]| {
            for at in 0..entries.len() {
                self.foresee(entries, at, depth);
                let segment = entries[at].segment();
                let tokens = self.tokens(segment, depth);
                entries[at] = match pivot {
                    None => entries[at].by_first(tokens),
                    // Whatever other threads write to the tokens, the pivot leaves the group.
                    Some(pivot) if pivot == segment => entries[at].equal(),
                    Some(_) => entries[at].by(tokens, others),
                }
            }
        };
        if threads == 1 {
            return compare(entries);
        }
        let size = entries.len().div_ceil(threads * PARTS_PER_THREAD);
        on_threads(threads, entries.chunks_mut(size).collect(), compare);
    }

    /// Prefetches the data of later entries.
    fn foresee(self, entries: &[Entry], at: usize, depth: u32) {
        if let Some(entry) = entries.get(at + 2 * AHEAD) {
            prefetch(self.segments.offsets, entry.segment());
        }
        if let Some(entry) = entries.get(at + AHEAD) {
            let begin = self.segments.offsets[entry.segment()] as usize;
            prefetch(self.segments.tokens, begin.wrapping_add(depth as usize));
        }
    }

    /// A segment's tokens from `depth` on; empty if there are none.
    fn tokens(&self, segment: usize, depth: u32) -> &[i32] {
        let (begin, end) = self.segments.ends(segment);
        self.segments.between((begin + i64::from(depth), end)).unwrap_or_default()
    }
}

/// The segment of the group to compare the others with.
fn pick(entries: &[Entry], depth: u32) -> usize {
    let (count, first) = (entries.len() as u64, entries[0].segment() as u64);
    // A hash of the group's first segment, depth and size, so that the order of segments cannot control the
    // pivots.
    let mixed = (first ^ u64::from(depth) << 32 ^ count << 17).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32;
    entries[((mixed * count) >> 32) as usize].segment()
}
