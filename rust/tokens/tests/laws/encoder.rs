//! The encoder itself, with a byte-level tokenizer without merges, so a text's tokens are its bytes.

use std::sync::LazyLock;

use proptest::prelude::*;
use windrow_tokens::{Encoder, Job, Specials, trim_end};

/// A `tokenizer.json` in which token `b` is byte `b`, and 256 and 257 are `<s>` and `</s>`.
fn bytes_json(model: &str, post_processor: &str) -> String {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let hidden: Vec<u32> = (0..256).filter(|&byte| !printable(byte)).collect();
    let letter = |byte: u32| match hidden.iter().position(|&other| other == byte) {
        Some(place) => char::from_u32(256 + place as u32).unwrap(),
        None => char::from_u32(byte).unwrap(),
    };
    let vocab: Vec<String> = (0..256)
        .map(|byte| match letter(byte) {
            '"' => format!("\"\\\"\": {byte}"),
            '\\' => format!("\"\\\\\": {byte}"),
            letter => format!("\"{letter}\": {byte}"),
        })
        .collect();
    let added = |id: u32, content: &str| {
        format!(
            r#"{{"id": {id}, "content": "{content}", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}}"#
        )
    };
    format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [{}, {}], "post_processor": {post_processor},
            "pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}},
            "decoder": null,
            "model": {{"type": "{model}", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "vocab": {{{}}}, "merges": []}}}}"#,
        added(256, "<s>"),
        added(257, "</s>"),
        vocab.join(", "),
    )
}

const FRAME: &str = r#"{"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]},
        "</s>": {"id": "</s>", "ids": [257], "tokens": ["</s>"]}}}"#;

fn encoder() -> &'static Encoder {
    static BUILT: LazyLock<Encoder> =
        LazyLock::new(|| Encoder::from_json(&bytes_json("BPE", FRAME)).unwrap());
    &BUILT
}

/// The tokens of a text without special tokens in it.
fn bytes(text: &str, specials: bool) -> Vec<u32> {
    let own = text.bytes().map(u32::from);
    if specials { [256].into_iter().chain(own).chain([257]).collect() } else { own.collect() }
}

#[test]
fn jobs_become_their_bytes_in_order_on_all_threads() {
    let texts: Vec<String> = (0..5000).map(|at| format!("text {at} é日🙂{}", "x".repeat(at % 300))).collect();
    let jobs: Vec<Job<'_>> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| Job { head: &text[..5], tail: &text[5..], specials: at % 3 == 0 })
        .collect();
    let (encoded, left) = encoder().encode(&jobs);
    assert!(left.is_empty());
    assert_eq!(encoded.len(), texts.len());
    for (at, text) in texts.iter().enumerate() {
        assert_eq!(encoded.tokens(at), bytes(text, at % 3 == 0), "{text:.20}");
    }
}

#[test]
fn uncertain_texts_are_left() {
    let texts = ["plain", "a\u{61d}b", "中文 שלום 👩‍👩‍👧", "\u{113c2}"];
    let jobs: Vec<Job<'_>> = texts.iter().map(|head| Job { head, tail: "", specials: true }).collect();
    let (encoded, left) = encoder().encode(&jobs);
    assert_eq!(left, [1, 3]);
    assert_eq!(encoded.tokens(0), bytes("plain", true));
    assert!(encoded.tokens(1).is_empty());
    assert_eq!(encoded.tokens(2), bytes(texts[2], true));
    let tail = [Job { head: "a", tail: "\u{61d}", specials: false }];
    assert_eq!(encoder().encode(&tail).1, [0]);
}

#[test]
fn no_jobs() {
    let (encoded, left) = encoder().encode(&[]);
    assert!(encoded.is_empty() && left.is_empty());
}

#[test]
fn special_tokens_are_found_in_texts() {
    let jobs = [Job { head: "a<s", tail: ">b", specials: false }];
    assert_eq!(encoder().encode(&jobs).0.tokens(0), [97, 256, 98]);
}

#[test]
fn invalid_tokenizers_are_refused() {
    for json in ["", "{", "[]", "{}", r#"{"model": {"type": "Magic"}}"#, &bytes_json("Unigram", "null")] {
        let error = Encoder::from_json(json).err().unwrap_or_else(|| panic!("{json:.40} was accepted"));
        assert!(error.to_string().starts_with("this tokenizer cannot be built: "));
    }
    let single = bytes_json("BPE", "null").replacen(r#""single_word": false"#, r#""single_word": true"#, 1);
    assert!(Encoder::from_json(&single).err().unwrap().to_string().contains("single_word"));
}

/// A tokenizer of bytes in which two `a` or two spaces (`Ġ`) merge, to 256 and 257; `<s>` and `</s>` are 258
/// and 259. It does not split texts itself.
fn merging_json() -> String {
    bytes_json("BPE", "null")
        .replace(r#""id": 257"#, r#""id": 259"#)
        .replace(r#""id": 256"#, r#""id": 258"#)
        .replace(r#""use_regex": true"#, r#""use_regex": false"#)
        .replace(r#""vocab": {"#, r#""vocab": {"aa": 256, "ĠĠ": 257, "#)
        .replace(r#""merges": []"#, r#""merges": ["a a", "Ġ Ġ"]"#)
}

#[test]
fn merges_stay_within_the_matches_of_a_pattern() {
    for (pattern, text, expected) in [
        (None, "aaaaaaab", vec![256, 256, 256, 97, 98]),
        (Some(r"a{1,3}|[^a]+"), "aaaaaaab", vec![256, 97, 256, 97, 97, 98]),
        (Some(r"b"), "aabaa", vec![256, 98, 256]),
        (Some(r" ?b+|\s+"), "b    b", vec![98, 257, 257, 98]),
        (Some(r" ?b+|\s+(?!\S)|\s+"), "b    b", vec![98, 257, 32, 32, 98]),
        (Some(r" ?b+|\s+(?!\S)|\s+"), "b    ", vec![98, 257, 257]),
        (Some(r"a{1,3}|[^a]+"), "aa<s>aaaa</s>", vec![256, 258, 256, 97, 97, 259]),
    ] {
        let encoder = Encoder::with_pattern(&merging_json(), pattern).unwrap();
        let (encoded, left) = encoder.encode(&[Job { head: text, tail: "", specials: false }]);
        assert!(left.is_empty());
        assert_eq!(encoded.tokens(0), expected, "{pattern:?} {text}");
    }
}

#[test]
fn texts_with_an_added_token_that_is_matched_after_normalization_are_left() {
    let json = merging_json().replacen(r#""normalized": false"#, r#""normalized": true"#, 1);
    let encoder = Encoder::with_pattern(&json, Some("a+")).unwrap();
    let job = |head| Job { head, tail: "", specials: false };
    let (encoded, left) = encoder.encode(&[job("a<s>"), job("aa</s>")]);
    assert_eq!(left, [0]);
    assert_eq!(encoded.tokens(1), [256, 259]);
}

#[test]
fn patterns_and_tokenizers_that_do_not_fit_are_refused() {
    let json = merging_json();
    let lowercase = json.replace(r#""normalizer": null"#, r#""normalizer": {"type": "Lowercase"}"#);
    let stripping = json.replacen(r#""lstrip": false"#, r#""lstrip": true"#, 1);
    for (json, pattern, expected) in [
        (&json, r"\w+", "uses syntax that regex engines interpret differently"),
        (&json, r"(a", "cannot be compiled"),
        (&json, r"a{0,2}", "matches the empty string"),
        (&lowercase, "a+", "only the NFC normalizer is supported with a split pattern"),
        (&stripping, "a+", "lstrip"),
    ] {
        let error = Encoder::with_pattern(json, Some(pattern)).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_is_its_bytes_or_left(head in ".{0,40}", tail in ".{0,40}", specials: bool) {
        let text = [head.as_str(), &tail].concat();
        prop_assume!(!text.contains("s>"));
        let (encoded, left) = encoder().encode(&[Job { head: &head, tail: &tail, specials }]);
        let expected = if left.is_empty() { bytes(&text, specials) } else { vec![] };
        prop_assert_eq!(encoded.tokens(0), expected);
    }

    #[test]
    fn mark_is_found_across_parts(head in "[ab]{0,4}", tail in "[ab]{0,4}", mark in "[ab]{0,3}", add: bool) {
        let specials = Specials { add, unless: Some(&mark) };
        let begins = [head.as_str(), &tail].concat().starts_with(&mark);
        prop_assert_eq!(specials.for_text(&head, &tail), add && !begins);
        prop_assert_eq!(Specials { add, unless: None }.for_text(&head, &tail), add);
    }

    #[test]
    fn white_space_ends_where_python_says(text in "[a \n\u{1c}\u{1f}\u{85}\u{a0}\u{2028}\u{3000}\u{200b}]{0,8}") {
        let space = |c: char| "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2028}\u{2029}\u{202f}\
            \u{205f}\u{3000}".contains(c) || ('\u{2000}'..='\u{200a}').contains(&c);
        prop_assert_eq!(trim_end(&text), text.trim_end_matches(space));
    }
}
