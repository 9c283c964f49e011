//! Computes which tokens see each other in rows of trees.
//!
//! ```text
//! segments     a b c d, a b c e f and a b g in one tree, h i in another
//! inputs       [a, b, c, d, e, f, g, h, i, 0]
//! segment_ids  [1, 1, 1, 1, 1, 1, 1, 2, 2, 0]     one number for each tree
//! positions    [0, 1, 2, 3, 3, 4, 2, 0, 1, 0]     the depth in the tree
//! reach        [7, 7, 6, 4, 6, 6, 7, 9, 9, 10]    column j is seen from columns j … reach[j] − 1
//! ```

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::error::Result;
use crate::plan::Batch;

use super::batch::check_size;

/// Writes the position up to which each token is seen: token `i` of a row sees token `j` if
/// `j ≤ i < reach[j]`. Without trees, this is the end of the token's segment; a position without a token sees
/// only itself.
///
/// Writes `rows.len()` × the batch's length, row by row.
pub fn reach(batch: Batch, rows: Range<usize>, out: &mut [MaybeUninit<i32>]) -> Result<()> {
    check_size("out", out.len(), rows.len() * batch.length, "rows × length")?;
    let mut open = Vec::new();
    for (slots, row) in out.chunks_exact_mut(batch.length).zip(rows) {
        let mut filled = 0;
        for shared in batch.shared(row) {
            let span = batch.span(shared[0]);
            if !span.is_empty() {
                let own = batch.plan().own(shared[0] as usize);
                close(&mut open, own, span.start, slots);
                filled = span.end;
                open.push(Stretch { depth: own, span });
            }
        }
        close(&mut open, 0, filled, slots);
        for (position, slot) in (filled..).zip(&mut slots[filled..]) {
            slot.write(position as i32 + 1);
        }
    }
    Ok(())
}

/// Adjacent tokens on the path of the last token.
struct Stretch {
    /// The number of tokens before the first of them on the path.
    depth: usize,
    span: Range<usize>,
}

/// Ends the path at `depth`: deeper tokens are not seen from position `end` on.
fn close(open: &mut Vec<Stretch>, depth: usize, end: usize, slots: &mut [MaybeUninit<i32>]) {
    while let Some(last) = open.last_mut() {
        let kept = depth.saturating_sub(last.depth).min(last.span.len());
        let closed = last.span.start + kept..last.span.end;
        slots[closed.clone()].fill(MaybeUninit::new(end as i32));
        last.span.end = closed.start;
        if kept > 0 {
            return;
        }
        open.pop();
    }
}
