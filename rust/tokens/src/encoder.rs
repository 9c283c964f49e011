//! Builds a tokenizer from its JSON, and encodes jobs with it on every core.
//!
//! Jobs are split into chunks of about the same number of bytes; each thread takes the next free chunk.
//! Threads exist only during a call, because the threads of a pool do not survive a `fork`. Neither does a
//! lock that another thread held at that moment. The tokenizer protects its scratch memory with locks, so a
//! forked child rebuilds the tokenizer.
//!
//! A text that this tokenizer might encode differently from the `tokenizers` package is
//! not encoded here; the caller gets a list of those texts.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::{process, thread};

use tokenizers::pipeline::{
    EncodeOptions, Normalizer, Override, PipelineModel, PipelineNormalizer, PipelineToken, PipelineTokenizer,
};

use crate::encoded::Encoded;
use crate::error::LoadError;
use crate::job::Job;
use crate::splitter::{Part, Splitter, normalizers};
use crate::unsettled::has_unsettled;

/// The minimum size of a chunk in bytes: below it, distributing work costs more than it saves.
const CHUNK: usize = 1 << 15;

/// The number of chunks per thread, so that a thread with easy texts can help the others.
const CHUNKS_PER_THREAD: usize = 8;

/// A tokenizer that encodes texts, and adds the special tokens that its post-processor adds.
pub struct Encoder {
    tokenizer: PipelineTokenizer,
    /// Splits texts by a pattern that is not in the tokenizer.
    splitter: Option<Splitter>,
    pattern: Option<Box<str>>,
    before: Vec<PipelineToken>,
    after: Vec<PipelineToken>,
    plain: EncodeOptions,
    /// Whether only ASCII texts are known to be encoded as in the package.
    ascii_only: bool,
    json: Box<str>,
    process: u32,
    /// The encoder that a forked child rebuilds and uses instead.
    heir: OnceLock<Box<Encoder>>,
}

/// The tokens of some jobs, in order, the end of each, and the jobs that were left out.
struct Piece {
    tokens: Vec<PipelineToken>,
    ends: Vec<usize>,
    left: Vec<usize>,
}

impl Encoder {
    /// Builds the tokenizer that a `tokenizer.json` describes. Truncation and
    /// padding stored there are ignored.
    pub fn from_json(json: &str) -> Result<Self, LoadError> {
        Self::with_pattern(json, None)
    }

    /// The same, but texts are first split by a pattern that is not in `json`: each match is a piece, and so
    /// is the text between matches.
    pub fn with_pattern(json: &str, pattern: Option<&str>) -> Result<Self, LoadError> {
        let build = || -> Result<PipelineTokenizer, String> {
            let canonical = tokenizers::canonicalize_str(json).map_err(|error| error.to_string())?;
            tokenizers::from_json(&canonical).map_err(|error| error.to_string())
        };
        let tokenizer = catch_unwind(build).unwrap_or_else(|cause| Err(panic_text(&*cause)));
        let tokenizer = tokenizer.map_err(LoadError)?;
        if let Some(reason) = refusal(&tokenizer) {
            return Err(LoadError(reason.to_owned()));
        }
        let splitter =
            pattern.map(|pattern| Splitter::new(pattern, &tokenizer)).transpose().map_err(LoadError)?;
        let template = &tokenizer.get_post_processor().single;
        let ids = |run: &[(PipelineToken, u8)]| run.iter().map(|&(id, _)| id).collect();
        let (before, after) = (ids(&template.prefix), ids(&template.suffix));
        // A precompiled table's replacements depend on grapheme boundaries, which for sequences, but not for
        // single characters, vary between Unicode versions.
        let precompiled =
            |normalizer: &PipelineNormalizer| matches!(normalizer, PipelineNormalizer::Precompiled(_));
        let ascii_only = tokenizer.get_normalizers().iter().any(precompiled);
        let plain = EncodeOptions {
            add_special_tokens: false,
            encode_special_tokens: false,
            padding: Override::Off,
            truncation: Override::Off,
        };
        Ok(Self {
            tokenizer,
            splitter,
            pattern: pattern.map(Box::from),
            before,
            after,
            plain,
            ascii_only,
            json: json.into(),
            process: process::id(),
            heir: OnceLock::new(),
        })
    }

    /// Encodes every job that is certain to be encoded as in the `tokenizers` package.
    /// Also returns the remaining jobs, in ascending order.
    pub fn encode(&self, jobs: &[Job<'_>]) -> (Encoded, Vec<usize>) {
        if self.process != process::id() {
            let rebuilt = || {
                Box::new(
                    Self::with_pattern(&self.json, self.pattern.as_deref())
                        .expect("it was built from the same text before"),
                )
            };
            return self.heir.get_or_init(rebuilt).encode(jobs);
        }
        let bytes: usize = jobs.iter().map(Job::len).sum();
        let threads = threads_for(bytes);
        let chunks = split(jobs, (bytes / (threads * CHUNKS_PER_THREAD)).max(CHUNK));
        let next = AtomicUsize::new(0);
        let pieces: Vec<_> = chunks.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(chunk) = chunks.get(number) else { break };
                let piece = self.encode_chunk(jobs, chunk.clone());
                *pieces[number].lock().expect("nothing panics while it holds this") = Some(piece);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // If no more threads can be started, this one does all the work.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let mut encoded = Encoded::new();
        let mut left = Vec::new();
        for piece in pieces {
            let piece = piece.into_inner().expect("nothing panics while it holds this");
            let piece = piece.expect("every chunk was taken by a thread, and every thread has ended");
            encoded.push(piece.tokens, &piece.ends);
            left.extend(piece.left);
        }
        (encoded, left)
    }

    /// Encodes some jobs on this thread.
    fn encode_chunk(&self, jobs: &[Job<'_>], range: Range<usize>) -> Piece {
        let bytes: usize = jobs[range.clone()].iter().map(Job::len).sum();
        let tokens = Vec::with_capacity(bytes / 4);
        let mut piece = Piece { tokens, ends: Vec::with_capacity(range.len()), left: Vec::new() };
        let mut joined = String::new();
        for job in range {
            let start = piece.tokens.len();
            // If it fails here, the package may still succeed.
            let encode = AssertUnwindSafe(|| self.encode_job(&jobs[job], &mut joined, &mut piece.tokens));
            if !catch_unwind(encode).unwrap_or(false) {
                piece.tokens.truncate(start);
                piece.left.push(job);
            }
            piece.ends.push(piece.tokens.len());
        }
        piece
    }

    /// Appends the job's tokens, or returns false; the appended tokens are then invalid.
    fn encode_job(&self, job: &Job<'_>, joined: &mut String, tokens: &mut Vec<PipelineToken>) -> bool {
        if self.doubts(job.head) || self.doubts(job.tail) {
            return false;
        }
        let text = if job.tail.is_empty() {
            job.head
        } else {
            joined.clear();
            joined.push_str(job.head);
            joined.push_str(job.tail);
            joined
        };
        let start = tokens.len();
        if job.specials {
            tokens.extend_from_slice(&self.before);
        }
        let done = match &self.splitter {
            Some(splitter) => self.encode_pieces(splitter, text, tokens),
            None => self.tokenizer.encode_into(text, &self.plain, tokens).is_ok(),
        };
        if !done {
            return false;
        }
        if job.specials {
            tokens.extend_from_slice(&self.after);
        }
        PipelineToken::cast_slice(&tokens[start..]).iter().all(|&id| id <= i32::MAX as u32)
    }

    /// Appends the tokens of a text that is split by a pattern.
    fn encode_pieces(&self, splitter: &Splitter, text: &str, tokens: &mut Vec<PipelineToken>) -> bool {
        splitter.parts(text).into_iter().all(|part| match part {
            Part::Token(token) => {
                tokens.push(token);
                true
            }
            Part::Text(text) => match normalizers(&self.tokenizer).normalize(text, 0) {
                Ok(text) if !splitter.doubts(&text) => splitter
                    .split(&text, |piece| self.tokenizer.encode_into(piece, &self.plain, tokens).is_ok()),
                _ => false,
            },
        })
    }

    fn doubts(&self, text: &str) -> bool {
        if self.ascii_only { !text.is_ascii() } else { has_unsettled(text) }
    }
}

/// Known differences from the `tokenizers` package in tokenizers that can be built.
fn refusal(tokenizer: &PipelineTokenizer) -> Option<&'static str> {
    if matches!(tokenizer.get_model(), PipelineModel::Unigram(_)) {
        // For example, "###" as "#", "##" or as "##", "#": the scores are equal up to rounding.
        return Some("its Unigram model may resolve a tie between equally likely tokenizations differently");
    }
    let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
    if added.values().any(|token| token.single_word) {
        // After another added token, this library matches them and the package does not.
        return Some("some of its added tokens match whole words only (single_word)");
    }
    let strip = added.values().any(|token| token.lstrip || token.rstrip);
    if strip && added.values().any(|token| token.content.trim() != token.content) {
        // The package matches white space twice if one added token strips it and another one contains it.
        return Some(
            "some of its added tokens strip adjacent white space, and others begin or end with white space",
        );
    }
    None
}

/// Splits `jobs` into chunks of at least `size` bytes.
fn split(jobs: &[Job<'_>], size: usize) -> Vec<Range<usize>> {
    let (mut chunks, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (number, job) in jobs.iter().enumerate() {
        bytes += job.len();
        if bytes >= size || number + 1 == jobs.len() {
            chunks.push(start..number + 1);
            (start, bytes) = (number + 1, 0);
        }
    }
    chunks
}

fn threads_for(bytes: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cores.min(bytes / CHUNK).max(1)
}

fn panic_text(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the tokenizer library panicked".to_owned())
}
