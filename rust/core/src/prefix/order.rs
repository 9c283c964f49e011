//! The lexicographic order of segments, and what neighbours share.
//!
//! A group of segments that are known to begin alike is compared with one of them,
//! the *pivot*, from there on. How many tokens a segment has in common with it, on
//! which side of it the segment stands, and the next two tokens make a number, and
//! the group is sorted by these numbers. Segments with the same number begin alike
//! for longer than the group did; they are the groups of the next round. Of
//! neighbours with different numbers, the numbers tell what they share. So a token
//! that is found to be shared is not read again, and no comparison of tokens ever
//! decides between two segments alone.
//!
//! ```text
//! group       a b c e f    h i    a b c d    a b g    h i        the pivot is a b c d
//! in common   3            0      all        2        0
//! sorted      a b c d | a b c e f | a b g | h i, h i             the last two are a group again
//! shared      0         3           2       0
//! ```
//!
//! The pivot is chosen at random, but the same for the same segments; a segment then
//! takes part in O(log n) rounds, and in far fewer where tokens differ much. Memory
//! is 16 bytes a segment and 12 for each group that waits.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::chunks::{fill_chunks, on_threads};
use crate::error::{Error, Result};
use crate::memory::prefetch;
use crate::parallel::threads_for;
use crate::ragged::{Segments, refused_offset};

/// Reading this many tokens takes as long as anything else that a round does with a segment.
const TOKENS_PER_STEP: usize = 8;
/// Parts of the work for each thread, so that none waits long for another.
const PARTS_PER_THREAD: usize = 8;
/// Smaller slices are not worth sorting on several threads.
const SORTED_ALONE: usize = 1 << 13;
/// How far ahead a segment's offsets and its tokens are asked for.
const AHEAD: usize = 16;

/// Writes into `order` the segments in lexicographic order of their tokens, equal
/// ones in the order given, and into `shared` how many first tokens each of them
/// has in common with the one before it; the first has 0.
///
/// Segment `s` is `tokens[offsets[s]..offsets[s + 1]]`; `offsets` must begin at 0,
/// never descend, and end with the number of tokens. `order` and `shared` must have
/// one element for each segment; where the result is `Ok`, all are written.
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

/// Refuses offsets that descend, segments that `i32` cannot count, and too many segments.
fn check(offsets: &[i64]) -> Result<()> {
    if offsets.len() > u32::MAX as usize {
        let value = offsets.len() as i64 - 1;
        return Err(Error::Value { argument: "the number of segments", value, expected: "below 4294967295" });
    }
    let bad = |ends: &[i64]| !(0..=i32::MAX.into()).contains(&ends[1].wrapping_sub(ends[0])) || ends[1] < 0;
    if offsets.windows(2).any(bad) { Err(refused_offset(offsets, 0)) } else { Ok(()) }
}

/// A segment's number below what decides its place in a group, from the top: its
/// class by the pivot in 32 bits, and the two tokens after what it has in common
/// with the pivot, 32 bits each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

/// The class of segments that are equal to the pivot. Below it are those that stand
/// before the pivot, the longer in common the later; above it those behind, the
/// longer the earlier.
const EQUAL: u32 = i32::MAX as u32;

impl Entry {
    fn of(segment: u32) -> Self {
        Entry(segment.into())
    }

    /// Compares tokens with the pivot's.
    fn by(self, tokens: &[i32], pivot: &[i32]) -> Self {
        let common = common(tokens, pivot);
        // No token stands for 0, which the least possible one shares: who reads it takes neither for known.
        let next = |at: usize| tokens.get(at).map_or(0, |&token| token as u32 ^ 1 << 31);
        let one = next(common);
        let two = if one == 0 { 0 } else { next(common + 1) };
        let class = match (tokens.get(common), pivot.get(common)) {
            (None, None) => return self.equal(),
            (Some(own), Some(other)) if own > other => u32::MAX - common as u32,
            (Some(_), None) => u32::MAX - common as u32,
            _ => common as u32,
        };
        self.with(class, one, two)
    }

    /// As the pivot itself.
    fn equal(self) -> Self {
        self.with(EQUAL, 0, 0)
    }

    fn with(self, class: u32, one: u32, two: u32) -> Self {
        Entry(u128::from(class) << 96 | u128::from(one) << 64 | u128::from(two) << 32 | self.0 & 0xFFFF_FFFF)
    }

    fn segment(self) -> usize {
        self.0 as u32 as usize
    }

    fn class(self) -> u32 {
        (self.0 >> 96) as u32
    }

    /// The tokens after those in common, up to the first that is not known.
    fn next(self) -> [u32; 2] {
        [(self.0 >> 64) as u32, (self.0 >> 32) as u32]
    }

    /// What decides its place, without its number.
    fn key(self) -> u128 {
        self.0 >> 32
    }

    /// How many tokens it has in common with a pivot of `length` tokens.
    fn common(self, length: u32) -> u32 {
        match self.class() {
            EQUAL => length,
            class => class.min(u32::MAX - class),
        }
    }

    /// How many tokens it shares with one of another key.
    fn shared(self, other: Self, length: u32) -> u32 {
        let common = self.common(length).min(other.common(length));
        common + u32::from(self.class() == other.class() && self.next()[0] == other.next()[0])
    }

    /// How many tokens all that have its key begin with.
    fn known(self, length: u32) -> u32 {
        self.common(length) + self.next().map(|token| u32::from(token != 0)).iter().sum::<u32>()
    }
}

/// How many first tokens are the same.
fn common(one: &[i32], other: &[i32]) -> usize {
    const BLOCK: usize = 16;
    let most = one.len().min(other.len());
    let (one, other) = (&one[..most], &other[..most]);
    if one.first() != other.first() {
        return 0;
    }
    let blocks = one.as_chunks::<BLOCK>().0.iter().zip(other.as_chunks::<BLOCK>().0);
    let same = |(one, other): &(&[i32; BLOCK], &[i32; BLOCK])| {
        (0..BLOCK).fold(0, |difference, at| difference | (one[at] ^ other[at])) == 0
    };
    let begin = BLOCK * blocks.take_while(same).count();
    let rest = one[begin..].iter().zip(&other[begin..]);
    begin + rest.take_while(|(one, other)| one == other).count()
}

/// Neighbours that begin with the same `depth` tokens and are not sorted yet.
#[derive(Clone, Copy)]
struct Group {
    begin: u32,
    end: u32,
    depth: u32,
}

impl Group {
    fn range(self) -> Range<usize> {
        self.begin as usize..self.end as usize
    }
}

/// Some groups, and the entries and slots from the first one's begin to the last one's end.
struct Part<'a> {
    groups: Vec<Group>,
    entries: &'a mut [Entry],
    shared: &'a mut [MaybeUninit<i32>],
}

/// Cuts the work into parts of about `size` segments.
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
    /// Splits groups until none is so large that other threads would wait for it.
    /// Returns those that are left, in their order.
    fn split_large(
        self,
        entries: &mut [Entry],
        shared: &mut [MaybeUninit<i32>],
        threads: usize,
    ) -> Vec<Group> {
        let most = if threads == 1 { entries.len() } else { entries.len() / (2 * threads) };
        let mut large = vec![Group { begin: 0, end: entries.len() as u32, depth: 0 }];
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

    /// Sorts a group by its pivot, writes what those with different keys share, and
    /// calls `push` for those that have the same.
    #[inline]
    fn split(
        self,
        group: Group,
        entries: &mut [Entry],
        shared: &mut [MaybeUninit<i32>],
        threads: usize,
        mut push: impl FnMut(Group),
    ) {
        let entries = &mut entries[group.range()];
        let Some(pivot) = pick(entries, group.depth) else { return };
        let length = self.tokens(pivot, group.depth).len() as u32;
        self.compare(entries, pivot, group.depth, threads);
        sort(entries, threads);
        let shared = &mut shared[group.range()];
        let mut begin = 0;
        for run in entries.chunk_by(|one, next| one.key() == next.key()) {
            if begin > 0 {
                let before = entries[begin - 1];
                shared[begin].write((group.depth + run[0].shared(before, length)) as i32);
            }
            let known = group.depth + run[0].known(length);
            if run[0].class() == EQUAL {
                shared[begin + 1..begin + run.len()].fill(MaybeUninit::new(known as i32));
            } else if run.len() > 1 {
                let first = group.begin + begin as u32;
                push(Group { begin: first, end: first + run.len() as u32, depth: known });
            }
            begin += run.len();
        }
    }

    /// Gives every entry its key.
    fn compare(self, entries: &mut [Entry], pivot: usize, depth: u32, threads: usize) {
        let tokens = self.tokens(pivot, depth);
        let compare = |entries: &mut [Entry]| {
            for at in 0..entries.len() {
                self.foresee(entries, at, depth);
                let segment = entries[at].segment();
                // Whatever others write to the tokens meanwhile, the pivot leaves the group.
                entries[at] = if segment == pivot {
                    entries[at].equal()
                } else {
                    entries[at].by(self.tokens(segment, depth), tokens)
                };
            }
        };
        if threads == 1 {
            return compare(entries);
        }
        let size = entries.len().div_ceil(threads * PARTS_PER_THREAD);
        on_threads(threads, entries.chunks_mut(size).collect(), compare);
    }

    /// Asks memory for what the entries after this one need.
    fn foresee(self, entries: &[Entry], at: usize, depth: u32) {
        if let Some(entry) = entries.get(at + 2 * AHEAD) {
            prefetch(self.segments.offsets, entry.segment());
        }
        if let Some(entry) = entries.get(at + AHEAD) {
            let begin = self.segments.offsets[entry.segment()] as usize;
            prefetch(self.segments.tokens, begin.wrapping_add(depth as usize));
        }
    }

    /// A segment's tokens from `depth` on; none where there are none.
    fn tokens(&self, segment: usize, depth: u32) -> &[i32] {
        let (begin, end) = self.segments.ends(segment);
        self.segments.between((begin + i64::from(depth), end)).unwrap_or_default()
    }
}

/// A segment of the group to compare the others with; none if there are no others.
fn pick(entries: &[Entry], depth: u32) -> Option<usize> {
    let count = entries.len() as u64;
    let first = entries.first().filter(|_| count > 1)?.segment() as u64;
    // A mixture of what tells groups apart: whoever orders the segments does not order the pivots.
    let mixed = (first ^ u64::from(depth) << 32 ^ count << 17).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32;
    Some(entries[((mixed * count) >> 32) as usize].segment())
}

/// Sorts on several threads, in place.
fn sort(entries: &mut [Entry], threads: usize) {
    if threads == 1 || entries.len() < SORTED_ALONE {
        return entries.sort_unstable();
    }
    let threads_before = threads / 2;
    let (before, _, after) = entries.select_nth_unstable(entries.len() * threads_before / threads);
    on_threads(2, vec![(before, threads_before), (after, threads - threads_before)], |(part, threads)| {
        sort(part, threads);
    });
}
