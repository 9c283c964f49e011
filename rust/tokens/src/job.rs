//! Texts to encode, each once.

use std::collections::HashMap;

/// A text to encode: `head` and `tail` one after the other, and whether special
/// tokens are added. In two parts, so that nobody has to join them beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job<'t> {
    /// The text's first part.
    pub head: &'t str,
    /// The text's second part, mostly empty.
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

/// Decides, text by text, whether special tokens are added.
#[derive(Clone, Copy, Debug)]
pub struct Specials<'t> {
    /// What holds for most texts.
    pub add: bool,
    /// A text that begins with this gets none; `None` where no text is spared.
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

/// A list of jobs in which equal texts are one.
#[derive(Debug, Default)]
pub struct Jobs<'t> {
    list: Vec<Job<'t>>,
    known: HashMap<Job<'t>, usize>,
}

impl<'t> Jobs<'t> {
    /// No jobs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The job that encodes this text: a new one, or the one that already does.
    pub fn add(&mut self, job: Job<'t>) -> usize {
        if let Some(last) = self.list.last()
            && same_memory(last, &job)
        {
            return self.list.len() - 1;
        }
        *self.known.entry(job).or_insert_with(|| {
            self.list.push(job);
            self.list.len() - 1
        })
    }

    /// All jobs, in the order of their numbers.
    pub fn list(&self) -> &[Job<'t>] {
        &self.list
    }
}

/// Whether two jobs point at the same bytes: the cheap case of being equal.
fn same_memory(one: &Job<'_>, other: &Job<'_>) -> bool {
    std::ptr::eq(one.head, other.head) && std::ptr::eq(one.tail, other.tail) && one.specials == other.specials
}
