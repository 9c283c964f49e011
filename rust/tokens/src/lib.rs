//! Encodes texts into ragged token arrays.
//!
//! There are three steps, so that segments are defined in the same way whether texts are encoded here or by
//! another encoder:
//!
//! 1. *Plan* ([`pairs`], [`rolling`], [`prompts`]): requests become [`Job`]s, the
//!    texts to encode. Equal texts are one job.
//! 2. *Encode* ([`Encoder`] on every core, or the caller's own encoder): jobs become [`Encoded`] tokens.
//! 3. *Lay out* ([`Layout`]): ranges of encoded jobs become segments, truncated to the model's maximum
//!    length, and are written once, directly into the caller's memory.
//!
//! ```text
//! requests   ("The cow", " eats"), ("The cow", " sleeps")
//! jobs       "The cow eats"   "The cow"   "The cow sleeps"
//! tokens     [464 9875 25365] [464 9875]  [464 9875 46188]
//! segments   [464 9875 25365  464 9875 46188], scored from 2 and from 2
//! ```
//!
//! # Words
//!
//! | name | means |
//! | --- | --- |
//! | `request` | the caller's input: one or two texts |
//! | `job` | a text to encode once |
//! | `specials` | whether the tokenizer may add its special tokens around a text |
//! | `prefix` | the token before a text without context |
//! | `score_start` | the index of the first scored token in its segment, at least 1 |

#![forbid(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

mod encoded;
mod encoder;
mod error;
mod job;
mod layout;
pub mod pairs;
pub mod prompts;
pub mod rolling;
mod space;
mod splitter;
mod unsettled;

pub use encoded::Encoded;
pub use encoder::Encoder;
pub use error::{LoadError, Problem};
pub use job::{Job, Jobs, Specials};
pub use layout::{Layout, Stretch};
pub use space::{split_count, trim_end};
