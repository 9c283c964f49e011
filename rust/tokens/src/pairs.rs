//! Segments of pairs, which consist of a context and a continuation to score.
//!
//! The semantics are those of lm_eval's `TemplateLM.loglikelihood` and its Hugging Face backend:
//!
//! - Trailing white space of the context moves to the continuation.
//! - Context and continuation are encoded together, and the context is also encoded alone. If it has `n`
//!   tokens alone, the continuation's tokens are those after the first `n` of the joint encoding. The model
//!   sees the context as encoded alone, followed by these tokens.
//! - Without a context, the continuation is encoded without special tokens and preceded by the prefix token,
//!   unless it begins with that token.
//! - Segments are truncated to their last `max_length + 1` tokens, because the model's input is the segment
//!   without its last token.
//!
//! ```text
//! pair       ("The cow ", "eats")
//! whole      "The cow eats"  [464 9875 25365]
//! context    "The cow"       [464 9875]
//! segment    [464 9875 25365], scored from 2
//! ```

use crate::encoded::Encoded;
use crate::error::Problem;
use crate::job::{Job, Jobs, Specials};
use crate::layout::{Layout, Stretch};
use crate::space::trim_end;

/// How pairs are encoded and truncated.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'t> {
    /// Decides for each text whether special tokens are added.
    pub specials: Specials<'t>,
    /// The token that precedes a text without context.
    pub prefix: Option<u32>,
    /// The maximum input length.
    pub max_length: Option<usize>,
    /// Whether to encode context and continuation separately, without moving white space.
    pub apart: bool,
}

/// How a request's segment is made from jobs.
#[derive(Clone, Copy, Debug)]
enum Parts {
    /// There is no context.
    Bare { text: usize },
    /// The continuation is the part of `whole` after as many tokens as the context has.
    Joint { context: usize, whole: usize },
    /// The continuation is encoded separately.
    Apart { context: usize, continuation: usize },
}

/// The jobs for all pairs.
#[derive(Debug)]
pub struct Pairs<'t> {
    rules: Rules<'t>,
    jobs: Jobs<'t>,
    parts: Vec<(usize, Parts)>,
}

impl<'t> Pairs<'t> {
    /// Plans the jobs for `pairs`, each with its request's number.
    pub fn plan(pairs: impl Iterator<Item = (usize, &'t str, &'t str)>, rules: Rules<'t>) -> Self {
        let mut jobs = Jobs::for_requests(pairs.size_hint().0);
        let parts = pairs.map(|(request, context, continuation)| {
            (request, plan_pair(context, continuation, &rules, &mut jobs))
        });
        let parts = parts.collect();
        Self { rules, jobs, parts }
    }

    /// The texts to encode.
    pub fn jobs(&self) -> &[Job<'t>] {
        self.jobs.list()
    }

    /// Lays out the segments, one for each pair without a [`Problem`].
    pub fn layout(&self, encoded: &Encoded) -> Layout {
        let mut layout = Layout::default();
        for &(request, parts) in &self.parts {
            if let Err(problem) = self.lay(request, parts, encoded, &mut layout) {
                layout.refuse(request, problem);
            }
        }
        layout
    }

    fn lay(
        &self,
        request: usize,
        parts: Parts,
        encoded: &Encoded,
        layout: &mut Layout,
    ) -> Result<(), Problem> {
        match parts {
            Parts::Bare { text } => encoded.check(&[text])?,
            Parts::Joint { context, whole } => encoded.check(&[context, whole])?,
            Parts::Apart { context, continuation } => encoded.check(&[context, continuation])?,
        }
        let (lead, stretches, score_start) = match parts {
            Parts::Bare { text } => self.bare(encoded, text)?,
            Parts::Joint { context, whole } => {
                let start = encoded.tokens(context).len();
                let end = encoded.tokens(whole).len();
                if end <= start && start > 0 {
                    let same = encoded.tokens(context) == encoded.tokens(whole);
                    return Err(if same { Problem::EmptyContinuation } else { Problem::MergedContinuation });
                }
                let continuation = Stretch { job: whole, range: start.min(end)..end };
                (None, [Stretch { job: context, range: 0..start }, continuation], start)
            }
            Parts::Apart { context, continuation } => {
                let start = encoded.tokens(context).len();
                let end = encoded.tokens(continuation).len();
                let continuation = Stretch { job: continuation, range: 0..end };
                (None, [Stretch { job: context, range: 0..start }, continuation], start)
            }
        };
        let total = usize::from(lead.is_some()) + stretches[0].range.len() + stretches[1].range.len();
        if score_start == 0 {
            return Err(Problem::EmptyContext);
        }
        if total == score_start {
            return Err(Problem::EmptyContinuation);
        }
        let most = match self.rules.max_length {
            Some(max_length) if total - score_start > max_length => {
                return Err(Problem::LongContinuation { tokens: total - score_start, max_length });
            }
            Some(max_length) => max_length.saturating_add(1),
            None => usize::MAX,
        };
        layout.push(request, lead, stretches, score_start, most);
        Ok(())
    }

    fn bare(&self, encoded: &Encoded, text: usize) -> Result<(Option<u32>, [Stretch; 2], usize), Problem> {
        let tokens = encoded.tokens(text);
        let first = *tokens.first().ok_or(Problem::EmptyContinuation)?;
        let prefix = self.rules.prefix.ok_or(Problem::NoPrefix)?;
        let stretches = [Stretch { job: text, range: 0..tokens.len() }, Stretch::nothing()];
        Ok(((first != prefix).then_some(prefix), stretches, 1))
    }
}

fn plan_pair<'t>(context: &'t str, continuation: &'t str, rules: &Rules<'t>, jobs: &mut Jobs<'t>) -> Parts {
    if context.is_empty() {
        let text = jobs.add(Job { head: continuation, tail: "", specials: false });
        return Parts::Bare { text };
    }
    let head = if rules.apart { context } else { trim_end(context) };
    let specials = rules.specials.for_text(head, "");
    let before = jobs.add(Job { head, tail: "", specials });
    if rules.apart {
        let continuation = jobs.add(Job { head: continuation, tail: "", specials: false });
        return Parts::Apart { context: before, continuation };
    }
    let specials = rules.specials.for_text(context, continuation);
    let whole = jobs.add(Job { head: context, tail: continuation, specials });
    Parts::Joint { context: before, whole }
}
