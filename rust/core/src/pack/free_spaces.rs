//! Tracks open rows by free space.

use std::collections::BTreeMap;

/// Consecutive rows with the same free space and the same number of segments.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) segments: u32,
}

impl Rows {
    /// The first rows, at most `count`, and the remaining ones.
    pub(super) fn split(self, count: u32) -> (Self, Self) {
        let count = count.min(self.count);
        (Self { count, ..self }, Self { first: self.first + count, count: self.count - count, ..self })
    }
}

/// A link to rows in a queue; 0 is no link, so zeroed memory holds empty queues.
type Link = u32;

/// Rows with the same free space, in the order in which they reached it.
#[derive(Clone, Copy, Default)]
pub(super) struct Queue {
    front: Link,
    back: Link,
}

/// A queue for each free space.
pub(super) trait Queues {
    /// The smallest free space of at least `length` with a non-empty queue, and that queue.
    fn least(&self, length: i32) -> Option<(i32, Queue)>;

    fn get(&self, free: i32) -> Queue;

    fn set(&mut self, free: i32, queue: Queue);
}

struct Waiting {
    rows: Rows,
    next: Link,
}

/// All rows that can take another segment, by free space.
pub(super) struct FreeSpaces<Q> {
    queues: Q,
    waiting: Vec<Waiting>,
    /// Unused entries of `waiting`, linked.
    unused: Link,
}

impl<Q: Queues> FreeSpaces<Q> {
    pub(super) fn new(queues: Q) -> Self {
        Self { queues, waiting: Vec::new(), unused: 0 }
    }

    /// The smallest free space that holds `length`, and the number of segments in its first row.
    pub(super) fn least(&self, length: i32) -> Option<(i32, u32)> {
        let (free, queue) = self.queues.least(length)?;
        Some((free, self.waiting[queue.front as usize - 1].rows.segments))
    }

    /// Removes the first rows with `free`, at least one and at most `count`, all with the same number of
    /// segments.
    pub(super) fn take(&mut self, free: i32, count: u32) -> Rows {
        let queue = self.queues.get(free);
        let front = &mut self.waiting[queue.front as usize - 1];
        let (taken, rest) = front.rows.split(count);
        front.rows = rest;
        if rest.count == 0 {
            let next = std::mem::replace(&mut front.next, self.unused);
            self.unused = queue.front;
            let back = if next == 0 { 0 } else { queue.back };
            self.queues.set(free, Queue { front: next, back });
        }
        taken
    }

    /// Adds rows, if any, after those with the same free space.
    pub(super) fn put(&mut self, free: i32, rows: Rows) {
        if rows.count == 0 {
            return;
        }
        let queue = self.queues.get(free);
        if queue.back != 0 {
            let last = &mut self.waiting[queue.back as usize - 1].rows;
            if last.first + last.count == rows.first && last.segments == rows.segments {
                last.count += rows.count;
                return;
            }
        }
        let back = self.link(rows);
        let front = if queue.back == 0 { back } else { queue.front };
        if queue.back != 0 {
            self.waiting[queue.back as usize - 1].next = back;
        }
        self.queues.set(free, Queue { front, back });
    }

    fn link(&mut self, rows: Rows) -> Link {
        let waiting = Waiting { rows, next: 0 };
        if self.unused == 0 {
            self.waiting.push(waiting);
            return self.waiting.len() as Link;
        }
        let link = self.unused;
        self.unused = std::mem::replace(&mut self.waiting[link as usize - 1], waiting).next;
        link
    }
}

/// A queue for each possible free space, and a tree of bits that finds non-empty ones: a bit on the lowest
/// level represents a queue, and a bit on any other level a word of the level below.
pub(super) struct Table {
    queues: Vec<Queue>,
    levels: Vec<Vec<u64>>,
}

impl Table {
    pub(super) fn new(capacity: i32) -> Self {
        let spaces = capacity as usize + 1;
        let mut words = spaces.div_ceil(64);
        let mut levels = vec![vec![0; words]];
        while words > 1 {
            words = words.div_ceil(64);
            levels.push(vec![0; words]);
        }
        Self { queues: vec![Queue::default(); spaces], levels }
    }

    /// The first set bit on the lowest level from `at` on.
    fn find(&self, mut at: usize) -> Option<usize> {
        for (level, words) in self.levels.iter().enumerate() {
            let word = *words.get(at / 64)? & (!0 << (at % 64));
            if word != 0 {
                let found = at / 64 * 64 + word.trailing_zeros() as usize;
                let below = self.levels[..level].iter().rev();
                return Some(below.fold(found, |at, words| at * 64 + words[at].trailing_zeros() as usize));
            }
            at = at / 64 + 1;
        }
        None
    }

    fn mark(&mut self, mut at: usize) {
        for words in &mut self.levels {
            words[at / 64] |= 1 << (at % 64);
            at /= 64;
        }
    }

    fn clear(&mut self, mut at: usize) {
        for words in &mut self.levels {
            words[at / 64] &= !(1 << (at % 64));
            if words[at / 64] != 0 {
                return;
            }
            at /= 64;
        }
    }
}

impl Queues for Table {
    fn least(&self, length: i32) -> Option<(i32, Queue)> {
        let free = self.find(length as usize)?;
        Some((free as i32, self.queues[free]))
    }

    fn get(&self, free: i32) -> Queue {
        self.queues[free as usize]
    }

    fn set(&mut self, free: i32, queue: Queue) {
        let space = free as usize;
        let before = std::mem::replace(&mut self.queues[space], queue);
        match (before.front, queue.front) {
            (0, 1..) => self.mark(space),
            (1.., 0) => self.clear(space),
            _ => {}
        }
    }
}

impl Queues for BTreeMap<i32, Queue> {
    fn least(&self, length: i32) -> Option<(i32, Queue)> {
        self.range(length..).next().map(|(&free, &queue)| (free, queue))
    }

    fn get(&self, free: i32) -> Queue {
        BTreeMap::get(self, &free).copied().unwrap_or_default()
    }

    fn set(&mut self, free: i32, queue: Queue) {
        if queue.front == 0 {
            self.remove(&free);
        } else {
            self.insert(free, queue);
        }
    }
}
