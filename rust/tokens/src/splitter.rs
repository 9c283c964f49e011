//! Split patterns that the tokenizer's own library does not implement.
//!
//! That library supports a handful of published patterns. Others are run here with `regex-automata`, in
//! linear time, if they use only syntax that this engine and that of the `tokenizers` package interpret in
//! the same way ([`is_common`]). Automata have no lookahead, so the usual end of such patterns,
//! `\s+(?!\S)|\s+`, is implemented by hand: a run of white space that is followed by something else leaves
//! its last character to the next piece.
//!
//! ```text
//! pattern    \p{L}+| ?[^\s\p{L}]+|\s+(?!\S)|\s+
//! text       "ab   c"
//! pieces     "ab" "  " " " "c"
//! ```

use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::Input;
use regex_automata::meta::Regex;
use tokenizers::pipeline::{NormalizerChain, PipelineNormalizer, PipelineToken, PipelineTokenizer};

/// The end of a pattern that makes white space leave its last character to the next piece.
const END: &str = r"|\s+(?!\S)|\s+";

/// Splits texts into pieces, each to be encoded separately.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// The pattern, in which [`END`] is replaced by white space if it has that end.
    regex: Regex,
    /// Added tokens that are matched in raw text, with their ids.
    added: AhoCorasick,
    ids: Vec<u32>,
    /// Added tokens that are matched in normalized text; the package must then encode the text.
    late: AhoCorasick,
}

/// A part of a text.
pub(crate) enum Part<'t> {
    /// An added token.
    Token(PipelineToken),
    /// Text between added tokens.
    Text(&'t str),
}

impl Splitter {
    /// A splitter for this pattern and the added tokens of `tokenizer`, whose own pre-tokenizer must not
    /// split.
    pub(crate) fn new(pattern: &str, tokenizer: &PipelineTokenizer) -> Result<Self, String> {
        if !is_common(pattern.strip_suffix(END).unwrap_or(pattern)) {
            return Err(format!(
                "the split pattern {pattern:?} uses syntax that regex engines interpret differently"
            ));
        }
        let regex = match pattern.strip_suffix(END) {
            Some(start) => Regex::new_many(&[start, r"\s+"]),
            None => Regex::new(pattern),
        };
        let regex =
            regex.map_err(|error| format!("the split pattern {pattern:?} cannot be compiled: {error}"))?;
        if regex.is_match("") {
            return Err(format!("the split pattern {pattern:?} matches the empty string"));
        }
        if !tokenizer.get_normalizers().iter().all(|each| matches!(each, PipelineNormalizer::NFC(_))) {
            return Err("only the NFC normalizer is supported with a split pattern".to_owned());
        }
        let mut added: Vec<_> =
            tokenizer.get_added_vocabulary().get_added_tokens_decoder().into_iter().collect();
        added.sort_unstable_by_key(|(id, _)| *id);
        if added.iter().any(|(_, token)| token.lstrip || token.rstrip || token.single_word) {
            return Err(
                "a split pattern does not support added tokens with lstrip, rstrip or single_word".to_owned()
            );
        }
        let (late, early): (Vec<_>, Vec<_>) = added.into_iter().partition(|(_, token)| token.normalized);
        let find = |tokens: &[(u32, _)], texts: Vec<String>| {
            debug_assert_eq!(tokens.len(), texts.len());
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(texts)
                .map_err(|e| e.to_string())
        };
        Ok(Self {
            regex,
            added: find(&early, early.iter().map(|(_, token)| token.content.clone()).collect())?,
            ids: early.iter().map(|(id, _)| *id).collect(),
            late: find(&late, late.iter().map(|(_, token)| token.content.clone()).collect())?,
        })
    }

    /// The text's added tokens, and the text between them.
    pub(crate) fn parts<'t>(&self, text: &'t str) -> Vec<Part<'t>> {
        let (mut parts, mut done) = (Vec::new(), 0);
        for found in self.added.find_iter(text) {
            if found.start() > done {
                parts.push(Part::Text(&text[done..found.start()]));
            }
            parts.push(Part::Token(self.ids[found.pattern()].into()));
            done = found.end();
        }
        if done < text.len() {
            parts.push(Part::Text(&text[done..]));
        }
        parts
    }

    /// Whether a normalized text may contain an added token.
    pub(crate) fn doubts(&self, text: &str) -> bool {
        self.late.is_match(text)
    }

    /// Calls `take` with each piece of a normalized text, until it fails.
    pub(crate) fn split(&self, text: &str, mut take: impl FnMut(&str) -> bool) -> bool {
        let mut done = 0;
        while done < text.len() {
            let Some(found) = self.regex.search(&Input::new(text).range(done..)) else { break };
            let (start, mut end) = (found.start(), found.end());
            if found.pattern().as_usize() == 1 && end < text.len() {
                let last = text[..end].char_indices().next_back().map_or(start, |(place, _)| place);
                end = if last > start { last } else { end };
            }
            if (start > done && !take(&text[done..start])) || !take(&text[start..end]) {
                return false;
            }
            done = end;
        }
        done == text.len() || take(&text[done..])
    }
}

/// The normalizers of a tokenizer, combined.
pub(crate) fn normalizers(tokenizer: &PipelineTokenizer) -> NormalizerChain<'_> {
    NormalizerChain(tokenizer.get_normalizers())
}

/// Whether a pattern uses only syntax that both engines interpret in the same way: letters, escaped
/// punctuation, Unicode properties, white space and digits, classes (nested, negated, intersected), groups,
/// alternatives, and greedy repetition. Not allowed are anchors, `.`, word classes, other lookaround, POSIX
/// classes, and possessive or lazy repetition; case may be ignored only for letters that fold one to one.
fn is_common(pattern: &str) -> bool {
    let (mut depth, mut rest, mut repeated) = (0_usize, pattern, false);
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        let mut taken = letter.len_utf8();
        let mut repeats = false;
        match letter {
            '\\' => match escape_length(after) {
                Some(length) => taken += length,
                None => return false,
            },
            '[' => {
                let first = after.strip_prefix('^').unwrap_or(after);
                if first.starts_with([']', ':']) {
                    return false;
                }
                depth += 1;
                taken += after.len() - first.len();
            }
            ']' if depth > 0 => depth -= 1,
            '-' | '~' if depth > 0 && after.starts_with(letter) => return false,
            _ if depth > 0 => {}
            '^' | '$' | '.' => return false,
            '(' if after.starts_with("?:") => taken += 2,
            '(' if after.starts_with("?i:") => match after[3..].split_once(')') {
                Some((inner, _)) if folds_one_to_one(inner) => taken += 3,
                _ => return false,
            },
            '(' if after.starts_with('?') => return false,
            '+' | '*' | '?' => {
                if repeated {
                    return false;
                }
                repeats = true;
            }
            '{' => match after.split_once('}') {
                Some((range, _)) if !repeated && is_range(range) => {
                    taken += range.len() + 1;
                    repeats = true;
                }
                _ => return false,
            },
            _ => {}
        }
        repeated = repeats;
        rest = &rest[taken..];
    }
    depth == 0
}

/// The length of the escape after a backslash, if both engines know it.
fn escape_length(after: &str) -> Option<usize> {
    let letter = after.chars().next()?;
    match letter {
        'p' | 'P' => {
            let (name, _) = after[1..].strip_prefix('{')?.split_once('}')?;
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name.len() + 3)
        }
        's' | 'S' | 'd' | 'D' | 'r' | 'n' | 't' => Some(1),
        _ if letter.is_ascii_punctuation() => Some(1),
        _ => None,
    }
}

/// Alternatives of an apostrophe and letters, none of which folds together with its neighbor.
fn folds_one_to_one(inner: &str) -> bool {
    let pairs = ["ss", "st", "ff", "fi", "fl"];
    inner.chars().all(|c| c.is_ascii_lowercase() || c == '\'' || c == '|')
        && !pairs.iter().any(|pair| inner.contains(pair))
}

fn is_range(range: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    match range.split_once(',') {
        Some((least, most)) => number(least) && (most.is_empty() || number(most)),
        None => number(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pattern: &str, text: &str) -> Vec<String> {
        let regex = match pattern.strip_suffix(END) {
            Some(start) => Regex::new_many(&[start, r"\s+"]).unwrap(),
            None => Regex::new(pattern).unwrap(),
        };
        let none = || AhoCorasick::new([""; 0]).unwrap();
        let splitter = Splitter { regex, added: none(), ids: Vec::new(), late: none() };
        let mut pieces = Vec::new();
        assert!(splitter.split(text, |piece| {
            pieces.push(piece.to_owned());
            true
        }));
        pieces
    }

    #[test]
    fn white_space_leaves_its_last_character() {
        let pattern = r" ?\p{L}+|\s*[\r\n]+|\s+(?!\S)|\s+";
        assert_eq!(pieces(pattern, "ab   c  "), ["ab", "  ", " c", "  "]);
        assert_eq!(pieces(pattern, " \n x"), [" \n", " x"]);
        assert_eq!(pieces(pattern, "a\u{3000}b"), ["a", "\u{3000}", "b"]);
        assert_eq!(pieces(pattern, "a\t1"), ["a", "\t", "1"]);
    }

    #[test]
    fn what_does_not_match_is_a_piece() {
        assert_eq!(pieces(r"\p{L}+", "1ab2"), ["1", "ab", "2"]);
        assert_eq!(pieces(r"[\p{L}&&[^\p{Han}]]+", "ab\u{4e2d}c"), ["ab", "\u{4e2d}", "c"]);
    }

    #[test]
    fn only_what_engines_share_is_common() {
        for pattern in [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
            r"[\p{Lu}&&[^\p{Han}]]*(?:ab)?\d{1,3}",
            r"\p{N}{2,}",
        ] {
            assert!(is_common(pattern), "{pattern}");
        }
        let foreign = [
            r"\w+",
            r"^a",
            r"a$",
            r"a.b",
            r"(?=a)",
            r"a(?!b)",
            r"(?i)a",
            r"(?i:ss)",
            r"[[:alpha:]]",
            r"a++",
            r"a+?",
            r"a{,3}",
            r"a{1,2}+",
            r"\h",
            r"[a--b]",
            r"[]a]",
            r"(?<n>a)",
            r"\1",
            r"[a",
            r"\p{^L}",
            r"\b",
        ];
        for pattern in foreign {
            assert!(!is_common(pattern), "{pattern}");
        }
    }
}
