//! Segments of texts of which every token is scored, window by window.
//!
//! The windows are those of lm_eval's `get_rolling_token_windows` with a context
//! of one token, made disjoint: every token is scored once. The first window has
//! the prefix token before it; a later window is full, and what it does not score
//! is its context.
//!
//! ```text
//! tokens     [1 2 3 4 5], prefix 0, max_length 3
//! segments   [0 1 2 3], scored from 1;  [2 3 4 5], scored from 2
//! ```

use crate::encoded::Encoded;
use crate::error::Problem;
use crate::job::{Job, Jobs, Specials};
use crate::layout::{Layout, Stretch};

/// The jobs of all texts.
#[derive(Debug)]
pub struct Rolling<'t> {
    jobs: Jobs<'t>,
    texts: Vec<(usize, usize)>,
}

impl<'t> Rolling<'t> {
    /// Plans what to encode for `texts`, each with its request's number.
    pub fn plan(texts: impl Iterator<Item = (usize, &'t str)>, specials: Specials<'t>) -> Self {
        let mut jobs = Jobs::for_requests(texts.size_hint().0);
        let texts = texts.map(|(request, head)| {
            (request, jobs.add(Job { head, tail: "", specials: specials.for_text(head, "") }))
        });
        let texts = texts.collect();
        Self { jobs, texts }
    }

    /// The texts to encode.
    pub fn jobs(&self) -> &[Job<'t>] {
        self.jobs.list()
    }

    /// Lays out the windows, of at most `max_length` scored tokens each; `None`
    /// makes one of each text. A text without tokens has no window.
    pub fn layout(&self, encoded: &Encoded, prefix: Option<u32>, max_length: Option<usize>) -> Layout {
        let mut layout = Layout::default();
        for &(request, job) in &self.texts {
            if let Err(problem) = encoded.check(&[job]) {
                layout.refuse(request, problem);
                continue;
            }
            let tokens = encoded.tokens(job).len();
            let Some(prefix) = prefix else {
                layout.refuse(request, Problem::NoPrefix);
                continue;
            };
            let most = max_length.unwrap_or(tokens).max(1);
            let mut done = 0;
            while done < tokens {
                let end = (done + most).min(tokens);
                let (lead, start) = if done == 0 { (Some(prefix), 0) } else { (None, end - most - 1) };
                let score_start = if done == 0 { 1 } else { done - start };
                let window = Stretch { job, range: start..end };
                layout.push(request, lead, [window, Stretch::nothing()], score_start, usize::MAX);
                done = end;
            }
        }
        layout
    }
}
