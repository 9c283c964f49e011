//! Texts to encode, each only once.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// A text to encode: `head` followed by `tail`, and whether special tokens are added. It has two parts so
/// that they need not be joined first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job<'t> {
    /// The text's first part.
    pub head: &'t str,
    /// The text's second part, usually empty.
    pub tail: &'t str,
    /// Whether the tokenizer may add its special tokens.
    pub specials: bool,
}

impl Job<'_> {
    /// Bytes of the whole text.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Decides for each text whether special tokens are added.
#[derive(Clone, Copy, Debug)]
pub struct Specials<'t> {
    /// The default for texts.
    pub add: bool,
    /// A text that begins with this gets none; `None` if there is no such exception.
    pub unless: Option<&'t str>,
}

impl Specials<'_> {
    /// Whether special tokens are added to the text `head` + `tail`.
    pub fn for_text(&self, head: &str, tail: &str) -> bool {
        let Some(mark) = self.unless else {
            return self.add;
        };
        let bare = match mark.get(..head.len()) {
            Some(start) => start == head && tail.starts_with(&mark[head.len()..]),
            None => head.starts_with(mark),
        };
        self.add && !bare
    }
}

/// A list of jobs without duplicate texts.
///
/// Texts are identified by their parts: each distinct part gets a number, and a job is identified by the
/// numbers of its parts. So a context that is repeated with every choice is hashed only once, and not at all
/// if it is repeated at the same address.
#[derive(Debug, Default)]
pub struct Jobs<'t> {
    list: Vec<Job<'t>>,
    parts: HashMap<&'t str, usize, RandomState>,
    known: HashMap<(usize, usize, bool), usize, RandomState>,
    /// The last head, and its number.
    last: Option<(&'t str, usize)>,
}

impl<'t> Jobs<'t> {
    /// An empty list, with capacity for the jobs of this many requests.
    pub fn for_requests(requests: usize) -> Self {
        Self {
            list: Vec::with_capacity(requests),
            parts: HashMap::with_capacity_and_hasher(requests, RandomState::default()),
            known: HashMap::with_capacity_and_hasher(requests, RandomState::default()),
            last: None,
        }
    }

    /// The job for this text, which is created if there is none yet.
    pub fn add(&mut self, job: Job<'t>) -> usize {
        let head = match self.last {
            Some((text, number)) if std::ptr::eq(text, job.head) => number,
            _ => self.number(job.head),
        };
        self.last = Some((job.head, head));
        let key = (head, self.number(job.tail), job.specials);
        *self.known.entry(key).or_insert_with(|| {
            self.list.push(job);
            self.list.len() - 1
        })
    }

    /// All jobs, in the order of their numbers.
    pub fn list(&self) -> &[Job<'t>] {
        &self.list
    }

    fn number(&mut self, part: &'t str) -> usize {
        let next = self.parts.len();
        *self.parts.entry(part).or_insert(next)
    }
}
