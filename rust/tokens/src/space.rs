//! White space as defined by Python's `str.rstrip` and `re`.

/// Whether Python's `str.isspace` is true for `c`: Unicode white space, and the four separators U+001C to
/// U+001F, which Unicode classifies as controls.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text` without trailing white space, as in Python's `str.rstrip`.
///
/// ```
/// assert_eq!(windrow_tokens::trim_end("cow \u{1f}\u{3000}\n"), "cow");
/// ```
pub fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// The number of parts that Python's `re.split(r"\s+", text)` returns: one more than there are runs of white
/// space.
///
/// ```
/// assert_eq!(["", " ", "two words", "\u{1f} three\u{3000}parts"].map(windrow_tokens::split_count), [1, 2, 2, 3]);
/// ```
pub fn split_count(text: &str) -> usize {
    if text.is_ascii() { 1 + ascii_runs(text.as_bytes()) } else { 1 + runs(text.chars()) }
}

/// The number of runs of white space in ASCII text: of spaces that do not follow another one.
fn ascii_runs(text: &[u8]) -> usize {
    const MOST: usize = u8::MAX as usize; // so that a chunk's sum is a byte, and many are added at once
    let space = |byte: u8| u8::from(byte.wrapping_sub(9) < 5) | u8::from(byte.wrapping_sub(28) < 5);
    let Some((&first, rest)) = text.split_first() else {
        return 0;
    };
    let chunks = rest.chunks(MOST).zip(text.chunks(MOST));
    let starts = |(after, before): (&[u8], &[u8])| {
        let pairs = after.iter().zip(before);
        usize::from(pairs.map(|(&after, &before)| space(after) & !space(before)).sum::<u8>())
    };
    usize::from(space(first)) + chunks.map(starts).sum::<usize>()
}

/// The number of runs of white space.
fn runs(text: impl Iterator<Item = char>) -> usize {
    let (mut runs, mut in_space) = (0, false);
    for c in text {
        let space = is_space(c);
        runs += usize::from(space && !in_space);
        in_space = space;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every ASCII character, in texts longer than a chunk, counts as in texts of any characters.
    #[test]
    fn ascii_text_has_as_many_parts_as_any_other() {
        let all: String = (0..128u8).map(char::from).collect();
        for (repeats, step) in [(1, 1), (5, 3), (9, 7), (4, 31)] {
            let text: String = all.repeat(repeats).chars().step_by(step).collect();
            for begin in 0..text.len() {
                assert_eq!(
                    split_count(&text[begin..]),
                    1 + runs(text[begin..].chars()),
                    "{:?}",
                    &text[begin..]
                );
            }
        }
    }
}
