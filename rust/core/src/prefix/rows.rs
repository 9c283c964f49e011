//! Trees laid depth first into rows.
//!
//! Segments are taken in lexicographic order into *pieces*: a piece takes the next
//! segment while the tokens that are new in it fit into a row, and repeats what it
//! shares with the piece before. It also ends where so little is shared that to
//! repeat it costs next to nothing, so that small trees stay by themselves. Pieces
//! are then packed best-fit, as segments are, and rows are written in lexicographic
//! order, where pieces of one tree that came into one row share again. So no row
//! holds the same beginning twice.
//!
//! The cost is a few steps and 32 bytes of memory for each segment.

use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::memory::{prefetch, room_for};
use crate::pack::pack_each;

/// A piece ends where the next segment shares no more than this part of what the piece holds.
const LITTLE: i64 = 64;

/// How far ahead memory is asked for what the order names anywhere.
const AHEAD: usize = 32;

/// No parent.
const NONE: u32 = u32::MAX;

/// Where [`tree_rows`] writes to, one element for each segment.
pub struct TreeRows<'a> {
    /// The row.
    pub row: &'a mut [MaybeUninit<i64>],
    /// Where in the row the segment's own tokens begin.
    pub start: &'a mut [MaybeUninit<i32>],
    /// How many tokens before those are laid out as another's.
    pub own: &'a mut [MaybeUninit<i32>],
    /// The segment that they are laid out as, down to its own first one; −1 for none.
    pub parent: &'a mut [MaybeUninit<i64>],
}

/// Lays segments into rows of `capacity` tokens, shared beginnings once in each
/// row, and returns how many rows that takes.
///
/// `order` and `shared` are what `prefix_order` gives. Token `t` of segment `i`
/// stands at `start[i] + t − own[i]` if `t` is at least `own[i]`; the tokens before
/// that are those of `parent[i]`, wherever these stand. All of a segment's tokens
/// stand in `row[i]`. Equal segments have the same place, and so do those without
/// tokens, which may start at `capacity`.
///
/// Refuses an order that is no permutation, and shared lengths that no segments
/// in lexicographic order can have.
pub fn tree_rows(
    lengths: &[i32],
    order: &[i64],
    shared: &[i32],
    capacity: i32,
    out: TreeRows,
) -> Result<usize> {
    let sizes = [out.row.len(), out.start.len(), out.own.len(), out.parent.len()];
    for (argument, size) in ["row", "start", "own", "parent"].into_iter().zip(sizes) {
        check_size(argument, size, lengths.len())?;
    }
    if capacity < 0 {
        return Err(Error::Value { argument: "capacity", value: capacity.into(), expected: "at least 0" });
    }
    if let Some((index, &length)) = lengths.iter().enumerate().find(|(_, length)| **length > capacity) {
        let (value, at_most) = (length.into(), capacity.into());
        return Err(Error::Limit { argument: "lengths", index, value, limit: "capacity", at_most });
    }
    let branches = branches(lengths, order, shared)?;
    let packed = Packed::new(branches, capacity)?;
    let mut places = Places::new(lengths.len());
    let rows = packed.lay(0, &mut places).len();
    let parent = |parent: u32| if parent == NONE { -1 } else { parent.into() };
    for (segment, place) in places.0.iter().enumerate() {
        out.row[segment].write(place.row.into());
        out.start[segment].write(place.start);
        out.own[segment].write(place.own);
        out.parent[segment].write(parent(place.parent));
    }
    Ok(rows)
}

pub(crate) fn check_size(argument: &'static str, size: usize, expected: usize) -> Result<()> {
    if size == expected {
        Ok(())
    } else {
        Err(Error::Size { argument, size, expected, because: "one for each length" })
    }
}

/// A segment in its place in the order.
#[derive(Clone, Copy)]
pub(crate) struct Branch {
    pub segment: u32,
    pub length: i32,
    /// How many tokens it shares with the one before.
    pub shared: i32,
}

/// The segments in their order, each argument read once and checked.
pub(crate) fn branches(lengths: &[i32], order: &[i64], shared: &[i32]) -> Result<Vec<Branch>> {
    check_size("order", order.len(), lengths.len())?;
    check_size("shared", shared.len(), lengths.len())?;
    if lengths.len() >= NONE as usize {
        let value = lengths.len() as i64;
        return Err(Error::Value { argument: "the number of lengths", value, expected: "below 4294967295" });
    }
    let mut seen = vec![0u64; lengths.len().div_ceil(64)]; // a bit for each segment
    let mut branches: Vec<Branch> = room_for(lengths.len());
    let mut before = 0;
    for (index, (&value, &shared)) in order.iter().zip(shared).enumerate() {
        if let Some(&later) = order.get(index + AHEAD) {
            prefetch(lengths, later as usize);
        }
        let refused = |expected| Error::Element { argument: "order", index, value, expected };
        let segment = value as usize; // negative ones become too large
        let Some(&length) = lengths.get(segment) else {
            return Err(refused("at least 0 and below the number of elements"));
        };
        let bit = 1 << (segment % 64);
        if seen[segment / 64] & bit != 0 {
            return Err(refused("a segment that has not come before: an order has each segment once"));
        }
        seen[segment / 64] |= bit;
        if length < 0 {
            let (argument, index, value) = ("lengths", segment, length.into());
            return Err(Error::Element { argument, index, value, expected: "at least 0" });
        }
        if shared < 0 || shared > length.min(before) || (shared == length && length < before) {
            return Err(refused_shared(index, shared, length, before));
        }
        branches.push(Branch { segment: segment as u32, length, shared });
        before = length;
    }
    Ok(branches)
}

/// Why a segment of `length` tokens cannot share so many with one of `before`.
fn refused_shared(index: usize, shared: i32, length: i32, before: i32) -> Error {
    let (limit, because) = match () {
        () if index == 0 => (0, "since no segment stands before it"),
        () if before < length => (before, "the length of the segment before it in order"),
        () if length < before && shared == length => {
            (length - 1, "since a segment stands before those that begin with all of it")
        }
        () => (length, "its own length"),
    };
    let (argument, index, value) = ("shared", Some(index), shared.into());
    Error::Bound { argument, index, value, relation: "at least 0 and at most", limit: limit.into(), because }
}

/// Where a segment lies.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    pub row: u32,
    pub start: i32,
    pub own: i32,
    /// Another segment, or [`NONE`].
    pub parent: u32,
}

/// Where each segment lies.
pub(crate) struct Places(pub Vec<Place>);

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        let mut places = room_for(count);
        places.resize(count, Place::default());
        Places(places)
    }

    /// The nearest of a segment and its parents that has the token at `depth` as its own.
    fn holder(&self, mut segment: u32, depth: i32) -> u32 {
        while segment != NONE && self.0[segment as usize].own > depth {
            segment = self.0[segment as usize].parent;
        }
        segment
    }
}

/// Neighbours that lie in one row.
struct Piece {
    /// The first one's place in the order.
    begin: u32,
    /// Tokens, the first segment's all of them.
    size: i32,
    /// The least that two neighbours in it share.
    least: i32,
}

/// Some segments, cut into pieces that rows hold, and the row of each piece.
pub(crate) struct Packed {
    branches: Vec<Branch>,
    pieces: Vec<Piece>,
    rows: Vec<u32>,
    /// How many tokens the pieces in each row have, before those in one row share.
    pub filled: Vec<i32>,
}

impl Packed {
    /// Packs segments, none of which is longer than `capacity`.
    pub(crate) fn new(branches: Vec<Branch>, capacity: i32) -> Result<Self> {
        let pieces = pieces(&branches, capacity);
        let sizes: Vec<i32> = pieces.iter().map(|piece| piece.size).collect();
        let mut rows = Vec::with_capacity(sizes.len());
        let count = pack_each(&sizes, capacity, i64::MAX, |row, _| rows.push(row))?;
        let mut filled = vec![0; count];
        rows.iter().zip(sizes).for_each(|(&row, size)| filled[row as usize] += size);
        Ok(Packed { branches, pieces, rows, filled })
    }

    /// Writes where each segment lies, rows counted from `first_row`, and how much of each row is filled.
    pub(crate) fn lay(mut self, first_row: u32, places: &mut Places) -> Vec<i32> {
        let mut last: Vec<Option<(u32, u32)>> = vec![None; self.filled.len()];
        self.filled.fill(0);
        let mut valley = Valley::default();
        for (index, (piece, &row)) in self.pieces.iter().zip(&self.rows).enumerate() {
            let end = self.pieces.get(index + 1).map_or(self.branches.len(), |next| next.begin as usize);
            let branches = &self.branches[piece.begin as usize..end];
            for later in self.branches.get(piece.begin as usize + AHEAD..end + AHEAD).unwrap_or_default() {
                prefetch(&places.0, later.segment as usize);
            }
            let index = index as u32;
            valley.push(2 * u64::from(index), branches[0].shared);
            let (filled, last) = (&mut self.filled[row as usize], &mut last[row as usize]);
            // Pieces of one tree may have come into one row: then they share there, too.
            let (shared, before) = last.map_or((0, NONE), |(piece, segment)| {
                (valley.least_after(2 * u64::from(piece) + 1), segment)
            });
            // Only now: what the first segment shares does not depend on those behind it.
            valley.push(2 * u64::from(index) + 1, piece.least);
            if piece.size == 0 {
                continue; // its place is behind all others
            }
            *last = Some((index, lay_piece(branches, shared, before, first_row + row, filled, places)));
        }
        // Segments without tokens are the first in the order, all of them in one piece.
        for branch in self.branches.iter().take_while(|branch| branch.length == 0) {
            let row = self.rows[0];
            let start = self.filled[row as usize];
            places.0[branch.segment as usize] = Place { row: first_row + row, start, own: 0, parent: NONE };
        }
        self.filled
    }
}

/// Cuts the order into pieces that rows of `capacity` hold.
fn pieces(branches: &[Branch], capacity: i32) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (begin, branch) in (0..).zip(branches) {
        let new = branch.length - branch.shared;
        match pieces.last_mut() {
            Some(piece) if new == 0 || continues(piece, branch, capacity) => {
                piece.size += new;
                piece.least = piece.least.min(branch.shared);
            }
            _ => pieces.push(Piece { begin, size: branch.length, least: i32::MAX }),
        }
    }
    pieces.shrink_to_fit();
    pieces
}

/// Whether a segment goes on with a piece: what is new in it fits, and more than little is shared.
fn continues(piece: &Piece, branch: &Branch, capacity: i32) -> bool {
    branch.length - branch.shared <= capacity - piece.size
        && i64::from(branch.shared) * LITTLE > piece.size.into()
}

/// Puts a piece behind what its row holds, of which its first segment shares `shared` tokens with the
/// one `before` it. Returns the last segment that has tokens of its own.
fn lay_piece(
    branches: &[Branch],
    shared: i32,
    mut before: u32,
    row: u32,
    filled: &mut i32,
    places: &mut Places,
) -> u32 {
    for (index, branch) in branches.iter().enumerate() {
        let own = if index == 0 { shared } else { branch.shared };
        if own == branch.length {
            places.0[branch.segment as usize] = places.0[before as usize]; // equal inputs
            continue;
        }
        let parent = if own == 0 { NONE } else { places.holder(before, own - 1) };
        places.0[branch.segment as usize] = Place { row, start: *filled, own, parent };
        *filled += branch.length - own;
        before = branch.segment;
    }
    before
}

/// The least of numbers that stand behind some place, for places asked for while numbers come.
#[derive(Default)]
struct Valley(Vec<(u64, i32)>);

impl Valley {
    /// Adds the number at a place behind all before.
    fn push(&mut self, place: u64, number: i32) {
        while self.0.last().is_some_and(|&(_, last)| last >= number) {
            self.0.pop();
        }
        self.0.push((place, number));
    }

    /// The least of the numbers behind `place`, of which there are some.
    fn least_after(&self, place: u64) -> i32 {
        self.0[self.0.partition_point(|&(at, _)| at <= place)].1
    }
}
