//! Prefix trees, which lay out every shared prefix only once.
//!
//! In lexicographic order, segments with a common prefix are adjacent, and the numbers of leading tokens that
//! each shares with the previous one describe the prefix tree, depth first. A run of neighbors fills a row:
//! the first one completely, and of every other one only the new tokens.
//!
//! ```text
//! segments    0: a b c e f    1: h i    2: a b c d    3: a b g    4: h i
//! order       [2, 0, 3, 1, 4]
//! shared      [0, 3, 2, 0, 2]           segments 0 and 2 begin with a b c, 4 is 1 again
//!
//! tree_rows in rows of 8
//! row 0       a b c d e f g .           2 whole, e f of 0, g of 3
//! row 1       h i . . . . . .
//! row         [0, 1, 0, 0, 1]
//! start       [4, 0, 0, 6, 0]           where each segment's own tokens stand
//! own         [3, 0, 0, 2, 0]           how many tokens before them are another's
//! parent      [2, −1, −1, 2, −1]        whose
//! ```

mod branches;
mod entry;
mod few;
mod order;
mod rows;
mod sort;
mod stems;

pub(crate) use branches::{Branch, branches};
pub use order::prefix_order;
pub(crate) use rows::{Packed, Place, Places};
pub use rows::{TreeRows, tree_rows};
pub use stems::{Stems, prefix_stems};
