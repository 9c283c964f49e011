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
    if text.is_ascii() { 1 + runs(text.bytes().map(char::from)) } else { 1 + runs(text.chars()) }
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
