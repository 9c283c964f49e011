//! A toy tokenizer for the laws, with a naive encoder, in which equal neighbors merge.

use windrow_tokens::{Encoded, Job, Layout};

/// The special token before a text; `^` in a text is the same token.
pub const BOS: u32 = '^' as u32;

/// One token per character, or per pair of equal ones. `_` gives no token.
pub fn encode(text: &str, specials: bool) -> Vec<u32> {
    let mut tokens = if specials { vec![BOS] } else { vec![] };
    let letters: Vec<char> = text.chars().filter(|&letter| letter != '_').collect();
    let mut at = 0;
    while at < letters.len() {
        let twice = letters.get(at + 1) == Some(&letters[at]);
        tokens.push(letters[at] as u32 + if twice { 1 << 24 } else { 0 });
        at += if twice { 2 } else { 1 };
    }
    tokens
}

/// Encodes every job with [`encode`].
pub fn encode_jobs(jobs: &[Job<'_>]) -> Encoded {
    let mut encoded = Encoded::for_jobs(jobs.len());
    for (number, job) in jobs.iter().enumerate() {
        let text = [job.head, job.tail].concat();
        encoded.set(number, encode(&text, job.specials).into_iter());
    }
    encoded
}

/// A segment of a layout: its request, its tokens, where scoring starts, and how many
/// tokens were cut.
pub type Row = (usize, Vec<u32>, usize, usize);

/// The segments of a layout, and the refused requests.
pub fn read(layout: &Layout, encoded: &Encoded) -> (Vec<Row>, Vec<usize>) {
    let mut tokens = Box::new_uninit_slice(layout.token_count());
    let tokens = layout.write_tokens(encoded, &mut tokens).to_vec();
    let mut offsets = Box::new_uninit_slice(layout.len() + 1);
    layout.write_offsets(&mut offsets);
    // SAFETY: `write_offsets` writes every element.
    let offsets = unsafe { offsets.assume_init() };
    assert_eq!(*offsets.last().unwrap() as usize, tokens.len());
    let numbers = layout.requests().zip(layout.score_starts()).zip(layout.cuts());
    let rows = offsets.windows(2).zip(numbers).map(|(ends, ((request, start), cut))| {
        let row = tokens[ends[0] as usize..ends[1] as usize].iter().map(|&token| token as u32);
        (request as usize, row.collect(), start as usize, cut as usize)
    });
    let rows: Vec<Row> = rows.collect();
    let inputs = rows.iter().map(|(_, row, start, _)| &row[..row.len() - usize::from(*start > 0)]);
    let distinct: std::collections::HashSet<_> = inputs.collect();
    assert_eq!(layout.repeated_inputs(&tokens), rows.len() - distinct.len());
    (rows, layout.problems().iter().map(|&(request, _)| request).collect())
}
