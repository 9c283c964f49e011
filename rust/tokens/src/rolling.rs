//! Segments of texts in which every token is scored, window by window.
//!
//! The windows are those of lm_eval's `get_rolling_token_windows` with a context of one token, made disjoint:
//! every token is scored once. The first window is preceded by the prefix token; later windows are full, and
//! their unscored tokens are context.
//!
//! ```text
//! tokens     [1 2 3 4 5], prefix 0, max_length 3
//! segments   [0 1 2 3], scored from 1;  [2 3 4 5], scored from 2
//! ```

use std::ops::Range;

use crate::encoded::Encoded;
use crate::error::Problem;
use crate::job::{Job, Jobs, Specials};
use crate::layout::{Layout, Stretch};

/// The jobs for all texts.
#[derive(Debug)]
pub struct Rolling<'t> {
    jobs: Jobs<'t>,
    texts: Vec<(usize, usize)>,
}

impl<'t> Rolling<'t> {
    /// Plans the jobs for `texts`, each with its request's number.
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

    /// Lays out the windows, with at most `max_length` scored tokens each; with `None`, each text is one
    /// window. A text without tokens has no window.
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
            for (window, score_start) in windows(tokens, max_length) {
                let lead = (window.start == 0).then_some(prefix);
                let range = window.start.saturating_sub(1)..window.end - 1;
                let text = Stretch { job, range };
                layout.push(request, lead, [text, Stretch::nothing()], score_start, usize::MAX);
            }
        }
        layout
    }
}

/// The windows of a text of `tokens` tokens, each as a range of the prefix token followed by the text, and
/// the index at which scoring starts in it. No window scores more than `max_length` tokens.
///
/// ```
/// # use windrow_tokens::rolling::windows;
/// assert!(windows(5, Some(3)).eq([(0..4, 1), (2..6, 2)]));
/// ```
pub fn windows(tokens: usize, max_length: Option<usize>) -> impl Iterator<Item = (Range<usize>, usize)> {
    let most = max_length.unwrap_or(tokens).max(1);
    (0..tokens).step_by(most).map(move |done| {
        let end = (done + most).min(tokens);
        let start = if done == 0 { 0 } else { end - most };
        (start..end + 1, done + 1 - start)
    })
}
