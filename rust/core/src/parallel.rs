//! Chooses the number of threads for a call.
//!
//! Threads are started for each call and joined before it returns. A pool would save some 20 µs per call, but
//! the threads of a pool do not survive a `fork`, and Python data loaders fork. Work on fewer than [`SMALL`]
//! elements stays on the calling thread.

use std::num::NonZeroUsize;
use std::thread;

/// With fewer elements than this, a thread costs more than it saves.
pub(crate) const SMALL: usize = 1 << 16;

/// The number of threads to use for `elements` elements; 1 if there are few.
pub(crate) fn threads_for(elements: usize) -> usize {
    if elements < SMALL {
        return 1;
    }
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cores.min(elements / (SMALL / 2))
}
