//! Finds entries with the same hash as an earlier one.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::deal::Deal;
use super::hash::odd;
use crate::memory::prefetch_all;

/// Finds entries with equal hashes among those of one bin.
pub(super) struct Finder<'a> {
    deal: Deal,
    entries: &'a [AtomicI64],
    /// Entries, indexed by some bits of their hash, or 0.
    table: Vec<u64>,
    /// The positions of entries that found a different one in their slot.
    waiting: Vec<usize>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(deal: Deal, entries: &'a [AtomicI64]) -> Self {
        let slots = (2 * deal.count / deal.bins).max(64).next_power_of_two();
        Self { deal, entries, table: vec![0; slots], waiting: Vec::new() }
    }

    /// Replaces each entry with the pair of it and the first entry with the same hash.
    ///
    /// In each round, the first entry that reaches a slot takes it. Later entries with the same hash are
    /// found; those with another hash go to the next round, in which slots are chosen by other bits. Each
    /// round leaves fewer entries, so this ends.
    pub(super) fn find(&mut self, cells: impl Iterator<Item = Range<usize>> + Clone) {
        let size = cells.clone().map(|cell| cell.len()).sum();
        if self.waiting.len() < size {
            self.waiting.resize(size, 0);
        }
        let (deal, table, waiting) = (self.deal, &mut self.table[..], &mut self.waiting[..size]);
        table.fill(0);
        let mut left = 0;
        let shift = 64 - table.len().ilog2();
        let mut later = cells.clone().skip(1);
        for cell in cells {
            later.next().inspect(|next| prefetch_all(&self.entries[next.clone()]));
            let begin = cell.start;
            for (at, entry) in self.entries[cell].iter().enumerate() {
                waiting[left] = begin + at;
                left += usize::from(!meet(deal, entry, table, shift, 1));
            }
        }
        for round in 0.. {
            if left == 0 {
                return;
            }
            let slots = (2 * left).next_power_of_two().min(table.len());
            table[..slots].fill(0);
            let shift = 64 - slots.ilog2();
            for index in 0..std::mem::take(&mut left) {
                let at = waiting[index];
                waiting[left] = at;
                left += usize::from(!meet(deal, &self.entries[at], table, shift, odd(round)));
            }
        }
    }
}

/// Whether an entry's slot is empty or has the same hash; if so, the entry is replaced with its pair. The
/// three cases are distinguished without branches.
#[inline(always)]
fn meet(deal: Deal, place: &AtomicI64, table: &mut [u64], shift: u32, factor: u64) -> bool {
    let entry = place.load(Relaxed) as u64;
    let hash = deal.hash(entry);
    let slot = &mut table[(hash.wrapping_mul(factor) >> shift) as usize];
    let holder = if *slot == 0 { entry } else { *slot };
    *slot = holder;
    let same = deal.hash(holder) == hash;
    place.store(if same { deal.pair(entry, holder) } else { entry } as i64, Relaxed);
    same
}
