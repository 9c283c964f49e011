//! Lays out segments from ranges of encoded jobs.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::encoded::Encoded;
use crate::error::Problem;

/// A range of a job's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The job.
    pub job: usize,
    /// The range of its tokens.
    pub range: Range<usize>,
}

impl Stretch {
    pub(crate) fn nothing() -> Self {
        Self { job: 0, range: 0..0 }
    }

    fn tokens<'e>(&self, encoded: &'e Encoded) -> &'e [u32] {
        // An empty range belongs to no job, and there may be no jobs.
        if self.range.is_empty() { &[] } else { &encoded.tokens(self.job)[self.range.clone()] }
    }

    fn cut(&mut self, tokens: usize) -> usize {
        let cut = tokens.min(self.range.len());
        self.range.start += cut;
        tokens - cut
    }
}

/// A segment: an optional leading token, followed by two ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    lead: Option<u32>,
    first: Stretch,
    second: Stretch,
    score_start: usize,
    request: usize,
    cut: usize,
}

impl Segment {
    fn len(&self) -> usize {
        usize::from(self.lead.is_some()) + self.first.range.len() + self.second.range.len()
    }

    /// Keeps only the last `most` tokens.
    fn truncate(&mut self, most: usize) {
        let cut = self.len().saturating_sub(most);
        if cut == 0 {
            return;
        }
        self.cut = cut;
        self.score_start = self.score_start.saturating_sub(cut);
        let rest = cut - usize::from(self.lead.take().is_some());
        let rest = self.first.cut(rest);
        self.second.cut(rest);
    }
}

/// The tokens of each segment, and the requests without a segment.
#[derive(Debug, Default)]
pub struct Layout {
    segments: Vec<Segment>,
    problems: Vec<(usize, Problem)>,
    tokens: usize,
}

impl Layout {
    /// Adds a segment, truncated to its last `most` tokens.
    pub(crate) fn push(
        &mut self,
        request: usize,
        lead: Option<u32>,
        [first, second]: [Stretch; 2],
        score_start: usize,
        most: usize,
    ) {
        let mut segment = Segment { lead, first, second, score_start, request, cut: 0 };
        segment.truncate(most);
        self.tokens += segment.len();
        self.segments.push(segment);
    }

    /// Adds a request without a segment.
    pub(crate) fn refuse(&mut self, request: usize, problem: Problem) {
        self.problems.push((request, problem));
    }

    /// The number of segments.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there are no segments.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The total number of tokens in all segments.
    pub fn token_count(&self) -> usize {
        self.tokens
    }

    /// The requests without a segment, with the reasons, in ascending order.
    pub fn problems(&self) -> &[(usize, Problem)] {
        &self.problems
    }

    /// Writes the tokens of all segments, concatenated, and returns them.
    ///
    /// # Panics
    ///
    /// If `tokens` does not have [`Layout::token_count`] elements, or this was not laid out from `encoded`.
    pub fn write_tokens<'a>(&self, encoded: &Encoded, tokens: &'a mut [MaybeUninit<i32>]) -> &'a [i32] {
        assert_eq!(tokens.len(), self.tokens);
        let mut rest = &mut tokens[..];
        for segment in &self.segments {
            let (first, second) = (segment.first.tokens(encoded), segment.second.tokens(encoded));
            for part in [segment.lead.as_slice(), first, second] {
                let (here, later) = rest.split_at_mut(part.len());
                for (slot, &id) in here.iter_mut().zip(part) {
                    slot.write(id as i32);
                }
                rest = later;
            }
        }
        assert!(rest.is_empty());
        // SAFETY: every element has been written.
        unsafe { &*(tokens as *const [MaybeUninit<i32>] as *const [i32]) }
    }

    /// The number of segments with the same model input as an earlier one. The input is the segment without
    /// its last token if anything is scored, else all of it.
    ///
    /// # Panics
    ///
    /// If `tokens` are not from this layout.
    pub fn repeated_inputs(&self, tokens: &[i32]) -> usize {
        let mut known = HashSet::with_capacity_and_hasher(self.segments.len(), RandomState::default());
        let mut rest = tokens;
        let mut repeated = 0;
        for segment in &self.segments {
            let (own, later) = rest.split_at(segment.len());
            let input = &own[..own.len() - usize::from(segment.score_start > 0)];
            repeated += usize::from(!known.insert(input));
            rest = later;
        }
        repeated
    }

    /// Writes the index at which each segment begins in the tokens, and where the last one ends.
    ///
    /// # Panics
    ///
    /// If `offsets` does not have one more element than there are segments.
    pub fn write_offsets(&self, offsets: &mut [MaybeUninit<i64>]) {
        assert_eq!(offsets.len(), self.segments.len() + 1);
        let mut end = 0;
        offsets[0].write(0);
        for (slot, segment) in offsets[1..].iter_mut().zip(&self.segments) {
            end += segment.len() as i64;
            slot.write(end);
        }
    }

    /// The index of the first scored token in each segment.
    pub fn score_starts(&self) -> impl ExactSizeIterator<Item = i32> {
        self.segments.iter().map(|segment| segment.score_start as i32)
    }

    /// The request of each segment.
    pub fn requests(&self) -> impl ExactSizeIterator<Item = i64> {
        self.segments.iter().map(|segment| segment.request as i64)
    }

    /// The number of tokens truncated from the left of each segment.
    pub fn cuts(&self) -> impl ExactSizeIterator<Item = i64> {
        self.segments.iter().map(|segment| segment.cut as i64)
    }
}
