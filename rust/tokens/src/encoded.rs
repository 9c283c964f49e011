//! The tokens of every job.

use std::collections::HashMap;

use tokenizers::pipeline::PipelineToken;

use crate::error::Problem;

/// The tokens of every job, in the pieces that the threads produced.
#[derive(Debug, Default)]
pub struct Encoded {
    pieces: Vec<Vec<PipelineToken>>,
    /// For each job, its piece, and where in it the job's tokens begin and end.
    places: Vec<(usize, usize, usize)>,
    /// The reasons why jobs could not be encoded.
    refusals: HashMap<usize, String>,
}

impl Encoded {
    /// Without any jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends jobs: the tokens of the `i`th of them end at `ends[i]` in `piece`.
    pub(crate) fn push(&mut self, piece: Vec<PipelineToken>, ends: &[usize]) {
        let mut start = 0;
        for &end in ends {
            self.places.push((self.pieces.len(), start, end));
            start = end;
        }
        self.pieces.push(piece);
    }

    /// `jobs` jobs, all still without tokens; see [`Encoded::set`].
    pub fn for_jobs(jobs: usize) -> Self {
        Self { pieces: vec![Vec::new()], places: vec![(0, 0, 0); jobs], ..Self::default() }
    }

    /// Sets the tokens of one job.
    ///
    /// # Panics
    ///
    /// If there is no such job.
    pub fn set(&mut self, job: usize, tokens: impl Iterator<Item = u32>) {
        // Appending to the last piece does not affect other jobs.
        let last = self.pieces.len() - 1;
        let piece = &mut self.pieces[last];
        let start = piece.len();
        piece.extend(tokens.map(PipelineToken::from));
        self.places[job] = (last, start, piece.len());
    }

    /// Records why a job could not be encoded.
    pub fn refuse(&mut self, job: usize, reason: String) {
        self.refusals.insert(job, reason);
    }

    /// The reason why the first of these jobs that failed could not be encoded, if any did.
    pub(crate) fn check(&self, jobs: &[usize]) -> Result<(), Problem> {
        match jobs.iter().find_map(|job| self.refusals.get(job)) {
            Some(reason) => Err(Problem::Refused(reason.clone())),
            None => Ok(()),
        }
    }

    /// The tokens of a job.
    pub fn tokens(&self, job: usize) -> &[u32] {
        let (piece, start, end) = self.places[job];
        PipelineToken::cast_slice(&self.pieces[piece][start..end])
    }

    /// The number of jobs.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are no jobs.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}
