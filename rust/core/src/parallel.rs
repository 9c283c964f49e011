//! Threads for one call.
//!
//! Threads are started per call and joined before it returns. A pool would save
//! some 20 µs a call, but a pool's threads do not survive a `fork`, and Python
//! data loaders fork. Work below [`SMALL`] elements stays on the calling thread.

use std::num::NonZeroUsize;
use std::thread;

/// Below this many elements a thread costs more than it saves.
pub(crate) const SMALL: usize = 1 << 16;

/// How many threads to use for `elements` elements: 1 where they are few.
pub(crate) fn threads_for(elements: usize) -> usize {
    if elements < SMALL {
        return 1;
    }
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cores.min(elements / (SMALL / 2))
}
