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

/// The same for ASCII: the number of spaces that follow none. Each byte is compared with the one before it, so
/// that the compiler can use vector instructions.
fn ascii_runs(text: &[u8]) -> usize {
    let Some(&first) = text.first() else { return 0 };
    let begins = |(&before, &byte): (&u8, &u8)| u8::from(is_ascii_space(byte) & !is_ascii_space(before));
    let (before, bytes) = (&text[..text.len() - 1], &text[1..]);
    let parts = before.chunks(PART).zip(bytes.chunks(PART));
    let later: usize =
        parts.map(|(before, bytes)| usize::from(before.iter().zip(bytes).map(begins).sum::<u8>())).sum();
    usize::from(is_ascii_space(first)) + later
}

/// The number of bytes whose runs a `u8` can count.
const PART: usize = 255;

fn is_ascii_space(byte: u8) -> bool {
    (byte.wrapping_sub(b'\t') < 5) | (byte.wrapping_sub(0x1c) < 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_runs_are_those_of_characters() {
        let every: String = (0..128).map(char::from).collect();
        let mixed: String = (0..2000u32).map(|at| char::from((at * at % 131 % 41) as u8)).collect();
        let spaced = " x".repeat(600);
        for text in ["", " ", "a", "  a\n\nb ", &every, &mixed, &mixed[1..], &spaced] {
            assert_eq!(ascii_runs(text.as_bytes()), runs(text.chars()), "{text:?}");
        }
        for byte in 0..128 {
            assert_eq!(is_ascii_space(byte), is_space(byte.into()), "{byte}");
        }
    }
}
