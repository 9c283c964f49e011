//! Texts without scored tokens: prompts for generation, and plain encoding.
//!
//! A prompt is truncated to its last `max_length - max_new_tokens` tokens, to leave room for the generated
//! ones.

use crate::encoded::Encoded;
use crate::error::Problem;
use crate::job::{Job, Jobs, Specials};
use crate::layout::{Layout, Stretch};

/// The jobs for all texts.
#[derive(Debug)]
pub struct Prompts<'t> {
    jobs: Jobs<'t>,
    texts: Vec<(usize, usize)>,
}

impl<'t> Prompts<'t> {
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

    /// Lays out every text in full, including empty ones.
    pub fn whole(&self, encoded: &Encoded) -> Layout {
        let mut layout = Layout::default();
        for &(request, job) in &self.texts {
            if let Err(problem) = encoded.check(&[job]) {
                layout.refuse(request, problem);
                continue;
            }
            let all = Stretch { job, range: 0..encoded.tokens(job).len() };
            layout.push(request, None, [all, Stretch::nothing()], 0, usize::MAX);
        }
        layout
    }

    /// Lays out prompts that leave room for `max_new_tokens(request)` tokens.
    pub fn layout(
        &self,
        encoded: &Encoded,
        max_length: Option<usize>,
        max_new_tokens: impl Fn(usize) -> usize,
    ) -> Layout {
        let mut layout = Layout::default();
        for &(request, job) in &self.texts {
            if let Err(problem) = encoded.check(&[job]) {
                layout.refuse(request, problem);
                continue;
            }
            let tokens = encoded.tokens(job).len();
            let new = max_new_tokens(request);
            match max_length.map(|max_length| (max_length, max_length.saturating_sub(new))) {
                Some((max_length, 0)) => {
                    layout.refuse(request, Problem::NoRoom { max_new_tokens: new, max_length });
                }
                _ if tokens == 0 => layout.refuse(request, Problem::EmptyContext),
                room => {
                    let all = Stretch { job, range: 0..tokens };
                    let most = room.map_or(usize::MAX, |(_, most)| most);
                    layout.push(request, None, [all, Stretch::nothing()], 0, most);
                }
            }
        }
        layout
    }
}
