//! Errors of tokenizers, and problems of requests.

use std::fmt;

/// A tokenizer's JSON describes something that this crate cannot build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(pub(crate) String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this tokenizer cannot be built: {}", self.0)
    }
}

impl std::error::Error for LoadError {}

/// Why a request cannot be scored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The context encodes to no tokens, so nothing predicts the first scored token.
    EmptyContext,
    /// The continuation encodes to no tokens: after the context, it changes nothing.
    EmptyContinuation,
    /// Context and continuation together have other tokens than the context alone, but not more.
    MergedContinuation,
    /// The continuation has more tokens than the model can take.
    LongContinuation {
        /// The number of tokens it has.
        tokens: usize,
        /// The maximum number.
        max_length: usize,
    },
    /// The tokenizer rejects the text, for this reason.
    Refused(String),
    /// The text has no context, and the tokenizer has no prefix token.
    NoPrefix,
    /// The tokens to generate leave no room for the prompt.
    NoRoom {
        /// The number of tokens to generate.
        max_new_tokens: usize,
        /// The maximum input length.
        max_length: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::EmptyContext => f.write_str("its context encodes to no tokens"),
            Problem::EmptyContinuation => f.write_str("its continuation encodes to no tokens"),
            Problem::MergedContinuation => f.write_str(
                "its continuation merges into the context: together they have no more tokens than the context alone",
            ),
            Problem::LongContinuation { tokens, max_length } => write!(
                f,
                "its continuation has {tokens} tokens, but the model takes at most {max_length} (max_length)"
            ),
            Problem::Refused(reason) => write!(f, "the tokenizer rejects its text ({reason})"),
            Problem::NoPrefix => f.write_str(
                "nothing precedes its text, because the tokenizer has neither a BOS nor an EOS token; \
                 set prefix_token_id, an argument of JaxLM and of windrow.tokens.load_tokenizer",
            ),
            Problem::NoRoom { max_new_tokens, max_length } => write!(
                f,
                "generating {max_new_tokens} tokens leaves no room for its context: \
                 the model takes at most {max_length} (max_length)"
            ),
        }
    }
}
