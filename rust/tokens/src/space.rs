//! White space as Python's `str.rstrip` understands it.

/// Whether Python's `str.isspace` holds for `c`: Unicode's white space and the
/// four separators U+001C to U+001F, which Unicode counts as controls.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text` without the white space at its end, as Python's `str.rstrip` gives it.
///
/// ```
/// assert_eq!(windrow_tokens::trim_end("cow \u{1f}\u{3000}\n"), "cow");
/// ```
pub fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}
