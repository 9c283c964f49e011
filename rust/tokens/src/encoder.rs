//! A tokenizer built from its JSON, and jobs encoded with it on every core.
//!
//! Jobs are cut into chunks of about the same number of bytes; each thread takes
//! the next chunk that nobody has. Threads live as long as one call, so that a
//! forked child has what it needs.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokenizers::pipeline::{EncodeOptions, Override, PipelineToken, PipelineTokenizer};

use crate::encoded::Encoded;
use crate::error::Error;
use crate::job::Job;

/// A chunk's least size in bytes: below it, handing out work costs more than it saves.
const CHUNK: usize = 1 << 15;

/// Chunks per thread, so that a thread with easy texts can help the others.
const CHUNKS_PER_THREAD: usize = 8;

/// A tokenizer that encodes, and adds the special tokens that its post-processor adds.
pub struct Encoder {
    tokenizer: PipelineTokenizer,
    before: Vec<PipelineToken>,
    after: Vec<PipelineToken>,
    plain: EncodeOptions,
}

impl Encoder {
    /// Builds the tokenizer that a `tokenizer.json` describes. Truncation and
    /// padding stored there are ignored.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let build = || -> Result<PipelineTokenizer, String> {
            let canonical = tokenizers::canonicalize_str(json).map_err(|error| error.to_string())?;
            tokenizers::from_json(&canonical).map_err(|error| error.to_string())
        };
        let tokenizer =
            catch_unwind(build).map_err(|cause| Error::Load(panic_text(&*cause)))?.map_err(Error::Load)?;
        let template = &tokenizer.get_post_processor().single;
        let ids = |run: &[(PipelineToken, u8)]| run.iter().map(|&(id, _)| id).collect();
        let (before, after) = (ids(&template.prefix), ids(&template.suffix));
        let plain = EncodeOptions {
            add_special_tokens: false,
            encode_special_tokens: false,
            padding: Override::Off,
            truncation: Override::Off,
        };
        Ok(Self { tokenizer, before, after, plain })
    }

    /// Encodes every job.
    pub fn encode(&self, jobs: &[Job<'_>]) -> Result<Encoded, Error> {
        let bytes: usize = jobs.iter().map(Job::len).sum();
        let threads = threads_for(bytes);
        let chunks = split(jobs, (bytes / (threads * CHUNKS_PER_THREAD)).max(CHUNK));
        let next = AtomicUsize::new(0);
        let done = Mutex::new((0..chunks.len()).map(|_| None).collect::<Vec<_>>());
        let work = || {
            while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = self.encode_chunk(jobs, chunk.jobs.clone());
                done.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[chunk.number] = Some(result);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let mut encoded = Encoded::new();
        for result in done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_iter().flatten()
        {
            let (piece, ends) = result?;
            encoded.push(piece, &ends);
        }
        Ok(encoded)
    }

    /// Encodes some jobs on this thread: their tokens, and where each job's end.
    fn encode_chunk(
        &self,
        jobs: &[Job<'_>],
        range: Range<usize>,
    ) -> Result<(Vec<PipelineToken>, Vec<usize>), Error> {
        let mut tokens = Vec::with_capacity(jobs[range.clone()].iter().map(Job::len).sum::<usize>() / 4);
        let mut ends = Vec::with_capacity(range.len());
        let mut joined = String::new();
        for job in range {
            // A panic in the tokenizer must not take Python down.
            let encoded =
                catch_unwind(AssertUnwindSafe(|| self.encode_job(&jobs[job], &mut joined, &mut tokens)));
            encoded
                .unwrap_or_else(|cause| Err(panic_text(&*cause)))
                .map_err(|reason| Error::Encode { job, reason })?;
            ends.push(tokens.len());
        }
        Ok((tokens, ends))
    }

    fn encode_job(
        &self,
        job: &Job<'_>,
        joined: &mut String,
        tokens: &mut Vec<PipelineToken>,
    ) -> Result<(), String> {
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
        self.tokenizer.encode_into(text, &self.plain, tokens).map_err(|error| error.to_string())?;
        if job.specials {
            tokens.extend_from_slice(&self.after);
        }
        match PipelineToken::cast_slice(&tokens[start..]).iter().max() {
            Some(&id) if id > i32::MAX as u32 => Err(format!("token id {id} does not fit 32 bits")),
            _ => Ok(()),
        }
    }
}

/// Jobs that one thread takes at once.
struct Chunk {
    number: usize,
    jobs: Range<usize>,
}

/// Cuts `jobs` into chunks of at least `size` bytes.
fn split(jobs: &[Job<'_>], size: usize) -> Vec<Chunk> {
    let (mut chunks, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (number, job) in jobs.iter().enumerate() {
        bytes += job.len();
        if bytes >= size || number + 1 == jobs.len() {
            chunks.push(Chunk { number: chunks.len(), jobs: start..number + 1 });
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
    text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}
