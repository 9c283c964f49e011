//! Lays out trees depth first in rows.
//!
//! Segments are divided, in lexicographic order, into *pieces*: a piece takes the next segment as long as its
//! new tokens fit in a row, and repeats the prefix that it shares with the previous piece. It also ends where
//! so little is shared that repeating it costs almost nothing, so that small trees stay separate. Pieces are
//! then packed best-fit, like segments, and rows are written in lexicographic order, in which pieces of the
//! same tree that end up in the same row share again. So no row holds the same prefix twice.
//!
//! This takes a few steps and at most 32 bytes of memory per segment.

use std::mem::MaybeUninit;

use super::branches::{AHEAD, Branch, branches, check_size};
use crate::chunks::{on_threads, ranges, split};
use crate::error::{Error, Result};
use crate::memory::prefetch;
use crate::pack::pack_each;
use crate::parallel::threads_for;

/// A piece ends where the next segment shares no more than this fraction of the piece's tokens.
const LITTLE: i64 = 64;

/// How many pieces ahead to prefetch their rows.
const PIECES_AHEAD: usize = 8;

/// No parent.
const NONE: u32 = u32::MAX;

/// The output of [`tree_rows`], with one element per segment.
pub struct TreeRows<'a> {
    /// The row.
    pub row: &'a mut [MaybeUninit<i64>],
    /// The position in the row at which the segment's own tokens begin.
    pub start: &'a mut [MaybeUninit<i32>],
    /// The number of tokens before these, which are laid out as another segment's.
    pub own: &'a mut [MaybeUninit<i32>],
    /// The segment whose tokens they are laid out as, itself or through its parent; −1 for none.
    pub parent: &'a mut [MaybeUninit<i64>],
}

/// Lays out segments in rows of `capacity` tokens, with shared prefixes only once per row, and returns the
/// number of rows.
///
/// `order` and `shared` come from `prefix_order`. Token `t` of segment `i` is at `start[i] + t − own[i]` if
/// `t` is at least `own[i]`; the tokens before that are those of `parent[i]`, wherever they are. All tokens
/// of a segment are in `row[i]`. Equal segments have the same place, and so do those without tokens, which
/// may start at `capacity`.
///
/// Rejects an order that is not a permutation, and shared lengths that are impossible for segments in
/// lexicographic order.
pub fn tree_rows(
    lengths: &[i32],
    order: &[i64],
    shared: &[i32],
    capacity: i32,
    mut out: TreeRows,
) -> Result<usize> {
    let sizes = [out.row.len(), out.start.len(), out.own.len(), out.parent.len()];
    for (argument, size) in ["row", "start", "own", "parent"].into_iter().zip(sizes) {
        check_size(argument, size, lengths.len())?;
    }
    if capacity < 0 {
        return Err(Error::Value { argument: "capacity", value: capacity.into(), expected: "at least 0" });
    }
    if lengths.iter().copied().max().is_some_and(|longest| longest > capacity)
        && let Some((index, &length)) = lengths.iter().enumerate().find(|(_, length)| **length > capacity)
    {
        let (value, at_most) = (length.into(), capacity.into());
        return Err(Error::Limit { argument: "lengths", index, value, limit: "capacity", at_most });
    }
    let branches = branches(lengths, order, shared)?;
    let packed = Packed::new(&branches, capacity)?;
    packed.lay(0, &mut out);
    // SAFETY: each segment is in the order, and has been placed.
    unsafe { out.unpack() };
    Ok(packed.filled.len())
}

/// The place of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub row: u32,
    pub start: i32,
    pub own: i32,
    /// Another segment, or [`NONE`].
    pub parent: u32,
}

/// Receives the place of each segment, in the order in which segments are laid out.
pub(crate) trait Places {
    /// Prefetches where a segment's place will be written.
    fn foresee(&self, segment: u32);

    /// Prefetches where the segments of a row will be written.
    fn foresee_row(&self, _row: u32) {}

    /// Stores a segment's place. It is `tied` if others start there too.
    fn put(&mut self, segment: u32, place: Place, tied: bool);

    /// The number of a segment's tokens that belong to its parent, and the parent.
    ///
    /// # Safety
    ///
    /// The segment must have been placed.
    unsafe fn own_and_parent(&self, segment: u32) -> (i32, u32);
}

/// While segments come in random order, places are packed two numbers to an element of `row` and of
/// `parent`, so that each segment touches only two cache lines.
impl Places for TreeRows<'_> {
    fn foresee(&self, segment: u32) {
        prefetch(self.row, segment as usize);
        prefetch(self.parent, segment as usize);
    }

    fn put(&mut self, segment: u32, place: Place, _tied: bool) {
        self.row[segment as usize].write(pair(place.row, place.start as u32));
        self.parent[segment as usize].write(pair(place.parent, place.own as u32));
    }

    unsafe fn own_and_parent(&self, segment: u32) -> (i32, u32) {
        // SAFETY: as the caller promises.
        let [parent, own] = halves(unsafe { self.parent[segment as usize].assume_init() });
        (own as i32, parent)
    }
}

impl TreeRows<'_> {
    /// Writes the four numbers of each segment.
    ///
    /// # Safety
    ///
    /// All segments must have been placed.
    unsafe fn unpack(self) {
        let threads = threads_for(self.row.len());
        let ranges = ranges(self.row.len(), threads);
        let ones = split(self.row, &ranges).into_iter().zip(split(self.start, &ranges));
        let others = split(self.own, &ranges).into_iter().zip(split(self.parent, &ranges));
        let parts =
            ones.zip(others).map(|((row, start), (own, parent))| TreeRows { row, start, own, parent });
        // SAFETY: as the caller promises.
        on_threads(threads, parts.collect(), |part: TreeRows| unsafe { part.unpack_alone() });
    }

    /// The same as [`TreeRows::unpack`], with the same safety requirements.
    unsafe fn unpack_alone(self) {
        let slots = self.row.iter_mut().zip(self.start).zip(self.own.iter_mut().zip(self.parent));
        for ((row, start), (own, parent)) in slots {
            // SAFETY: as the caller promises.
            let (place, above) = unsafe { (halves(row.assume_init()), halves(parent.assume_init())) };
            row.write(place[0].into());
            start.write(place[1] as i32);
            own.write(above[1] as i32);
            parent.write(if above[0] == NONE { -1 } else { above[0].into() });
        }
    }
}

fn pair(one: u32, other: u32) -> i64 {
    (u64::from(one) << 32 | u64::from(other)) as i64
}

fn halves(pair: i64) -> [u32; 2] {
    [(pair as u64 >> 32) as u32, pair as u32]
}

/// Runs of neighbors, each of which is in one row.
struct Pieces {
    /// The index in the order of each piece's first segment, and one more at the end.
    begins: Vec<u32>,
    /// The minimum that two neighbors in each piece share.
    leasts: Vec<i32>,
}

/// Segments divided into pieces that fit in rows, and the row of each piece.
pub(crate) struct Packed<'a> {
    branches: &'a [Branch],
    pieces: Pieces,
    rows: Vec<u32>,
    /// The number of tokens of the pieces in each row, before pieces in the same row share.
    pub filled: Vec<i32>,
}

/// The contents of a row so far.
#[derive(Clone, Copy)]
struct Laid {
    filled: i32,
    /// The last piece, and the last segment with tokens of its own; [`NONE`] if there is none yet.
    piece: u32,
    segment: u32,
}

impl<'a> Packed<'a> {
    /// Packs segments, none of which is longer than `capacity`.
    pub(crate) fn new(branches: &'a [Branch], capacity: i32) -> Result<Self> {
        let (pieces, sizes) = Pieces::cut(branches, capacity);
        let mut rows = Vec::with_capacity(sizes.len());
        let count = pack_each(&sizes, capacity, i64::MAX, |row, _| rows.push(row))?;
        let mut filled = vec![0; count];
        rows.iter().zip(sizes).for_each(|(&row, size)| filled[row as usize] += size);
        Ok(Packed { branches, pieces, rows, filled })
    }

    /// The row of each piece, and the number of segments in the piece.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, u32)> {
        let counts = self.pieces.begins.windows(2).map(|ends| ends[1] - ends[0]);
        self.rows.iter().copied().zip(counts)
    }

    /// Passes the place of each segment to `places`, with rows numbered from `first_row`; returns the number
    /// of tokens in all rows.
    pub(crate) fn lay(&self, first_row: u32, places: &mut impl Places) -> u64 {
        let mut rows = vec![Laid { filled: 0, piece: NONE, segment: NONE }; self.filled.len()];
        let mut valley = Valley::default();
        for (index, (&row, ends)) in (0..).zip(self.rows.iter().zip(self.pieces.begins.windows(2))) {
            let (begin, end) = (ends[0] as usize, ends[1] as usize);
            let branches = &self.branches[begin..end];
            let later = self.branches.get(begin + AHEAD..self.branches.len().min(end + AHEAD));
            later.unwrap_or_default().iter().for_each(|later| places.foresee(later.segment));
            valley.push(2 * u64::from(index), branches[0].shared);
            if let Some(&later) = self.rows.get(index as usize + PIECES_AHEAD) {
                prefetch(&rows, later as usize);
                places.foresee_row(first_row + later);
            }
            let laid = &mut rows[row as usize];
            // Pieces of the same tree may be in the same row; they then share there, too.
            let shared = match laid.piece {
                NONE => 0,
                _ if branches[0].shared == 0 => 0,
                piece => valley.least_after(2 * u64::from(piece) + 1),
            };
            // Only now, because the first segment's shared length does not depend on later ones.
            valley.push(2 * u64::from(index) + 1, self.pieces.leasts[index as usize]);
            if branches[0].length > 0 {
                laid.piece = index;
                laid.add(branches, shared, first_row + row, places);
            }
        }
        // Segments without tokens come first in the order, all in one piece. They are placed after all
        // others.
        for branch in self.branches.iter().take_while(|branch| branch.length == 0) {
            let row = self.rows[0];
            let start = rows[row as usize].filled;
            places.put(branch.segment, Place { row: first_row + row, start, own: 0, parent: NONE }, true);
        }
        rows.iter().map(|laid| laid.filled as u64).sum()
    }
}

impl Laid {
    /// Appends a piece to the row. Its first segment shares `shared` tokens with the last one there.
    fn add(&mut self, branches: &[Branch], shared: i32, row: u32, places: &mut impl Places) {
        let mut place = Place { row, start: self.filled, own: shared, parent: NONE };
        for (index, branch) in branches.iter().enumerate() {
            let own = if index == 0 { shared } else { branch.shared };
            let new = branch.length - own;
            if new > 0 {
                place = Place { row, start: self.filled, own, parent: self.parent(own, places) };
                self.filled += new;
                self.segment = branch.segment;
            }
            places.put(branch.segment, place, new == 0); // equal inputs have one place
        }
    }

    /// The nearest of the last segment and its ancestors that holds the last of `shared` tokens itself.
    fn parent(&self, shared: i32, places: &impl Places) -> u32 {
        if shared == 0 {
            return NONE;
        }
        let mut holder = self.segment;
        loop {
            // SAFETY: the row's last segment has been placed, and ancestors are placed before their
            // descendants.
            let (own, parent) = unsafe { places.own_and_parent(holder) };
            if own < shared {
                return holder;
            }
            holder = parent;
        }
    }
}

impl Pieces {
    /// Divides the order into pieces that fit in rows of `capacity`; also returns the number of tokens in
    /// each, with all tokens of its first segment.
    fn cut(branches: &[Branch], capacity: i32) -> (Self, Vec<i32>) {
        let (mut begins, mut leasts, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut size, mut least) = (0, i32::MAX);
        for (begin, branch) in (0..).zip(branches) {
            let new = branch.length - branch.shared;
            // The piece continues if the new tokens fit, and enough is shared.
            let fits = new <= capacity - size && i64::from(branch.shared) * LITTLE > size.into();
            if begin > 0 && (new == 0 || fits) {
                size += new;
                least = least.min(branch.shared);
                continue;
            }
            if begin > 0 {
                leasts.push(least);
                sizes.push(size);
            }
            begins.push(begin);
            (size, least) = (branch.length, i32::MAX);
        }
        if !branches.is_empty() {
            leasts.push(least);
            sizes.push(size);
        }
        begins.push(branches.len() as u32);
        begins.shrink_to_fit();
        leasts.shrink_to_fit();
        (Pieces { begins, leasts }, sizes)
    }
}

/// The minimum of the numbers after an index, for queries while numbers are being added.
#[derive(Default)]
struct Valley(Vec<(u64, i32)>);

impl Valley {
    /// Adds the number at an index after all previous ones.
    fn push(&mut self, place: u64, number: i32) {
        while self.0.last().is_some_and(|&(_, last)| last >= number) {
            self.0.pop();
        }
        self.0.push((place, number));
    }

    /// The minimum of the numbers after `place`, of which there is at least one.
    fn least_after(&self, place: u64) -> i32 {
        self.0[self.0.partition_point(|&(at, _)| at <= place)].1
    }
}
