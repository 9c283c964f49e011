//! Pairs of context and continuation, compared with an oracle that follows lm_eval step by step.

use proptest::prelude::*;
use windrow_tokens::pairs::{Pairs, Rules};
use windrow_tokens::{Problem, Specials};

use crate::toy::{BOS, Row, encode, encode_jobs, read};

/// Encodes a text with special tokens unless it begins with the BOS token's text.
fn encode_by_rule(text: &str, add: bool) -> Vec<u32> {
    encode(text, add && !text.starts_with('^'))
}

/// Python's `str.rstrip`.
fn rstrip(text: &str) -> &str {
    text.trim_end_matches([' ', '\u{1f}', '\n'])
}

/// Context and continuation as lm_eval encodes them; `None` where it fails.
fn oracle(context: &str, continuation: &str, add: bool, apart: bool) -> Option<(Vec<u32>, Vec<u32>)> {
    if context.is_empty() {
        let tokens = encode(continuation, false);
        return match tokens.first() {
            None => None,
            Some(&BOS) => Some((vec![BOS], tokens[1..].to_vec())),
            Some(_) => Some((vec![BOS], tokens)),
        };
    }
    if apart {
        return Some((encode_by_rule(context, add), encode(continuation, false)));
    }
    let before = encode_by_rule(rstrip(context), add);
    let whole = encode_by_rule(&format!("{context}{continuation}"), add);
    let after = whole.get(before.len()..).unwrap_or_default().to_vec();
    Some((before, after))
}

fn rules<'t>(add: bool, max_length: Option<usize>, apart: bool) -> Rules<'t> {
    Rules { specials: Specials { add, unless: Some("^") }, prefix: Some(BOS), max_length, apart }
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!['a', 'b', ' ', '\n', '\u{1f}', '_', '^', 'é']), 0..8)
        .prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn segments_match_the_oracle(
        pairs in proptest::collection::vec((text(), text()), 0..6),
        max_length in proptest::option::of(1_usize..8),
        add: bool,
        apart: bool,
    ) {
        let numbered = pairs.iter().enumerate().map(|(number, (one, other))| (number * 2, one.as_str(), other.as_str()));
        let plan = Pairs::plan(numbered, rules(add, max_length, apart));
        let encoded = encode_jobs(plan.jobs());
        let (rows, refused) = read(&plan.layout(&encoded), &encoded);
        let mut expected: Vec<Row> = Vec::new();
        let mut bad = Vec::new();
        for (number, (context, continuation)) in pairs.iter().enumerate() {
            match oracle(context, continuation, add, apart) {
                Some((before, after))
                    if !before.is_empty() && !after.is_empty() && after.len() <= max_length.unwrap_or(usize::MAX) =>
                {
                    let joined = [before.as_slice(), &after].concat();
                    let cut = joined.len().saturating_sub(max_length.map_or(usize::MAX, |most| most + 1));
                    let row = joined[cut..].to_vec();
                    expected.push((number * 2, row, before.len() - cut, cut));
                }
                _ => bad.push(number * 2),
            }
        }
        prop_assert_eq!(rows, expected);
        prop_assert_eq!(refused, bad);
    }

    #[test]
    fn equal_texts_share_a_job(pairs in proptest::collection::vec((text(), text()), 0..12)) {
        let numbered = pairs.iter().enumerate().map(|(number, (one, other))| (number, one.as_str(), other.as_str()));
        let plan = Pairs::plan(numbered, rules(true, None, false));
        let jobs = plan.jobs();
        for (at, job) in jobs.iter().enumerate() {
            prop_assert!(!jobs[..at].contains(job), "{job:?} is repeated");
        }
    }
}

fn problem(context: &str, continuation: &str, rules: Rules<'_>) -> Problem {
    let plan = Pairs::plan([(7, context, continuation)].into_iter(), rules);
    let encoded = encode_jobs(plan.jobs());
    let layout = plan.layout(&encoded);
    assert!(layout.is_empty());
    let [(7, problem)] = layout.problems() else { panic!("{:?}", layout.problems()) };
    assert!(!problem.to_string().is_empty());
    problem.clone()
}

#[test]
fn each_problem_has_its_name() {
    let plain = rules(false, Some(3), false);
    assert_eq!(problem(" ", "b", plain), Problem::EmptyContext);
    assert_eq!(problem("_", "b", plain), Problem::EmptyContext);
    assert_eq!(problem("", "", plain), Problem::EmptyContinuation);
    assert_eq!(problem("", "^", plain), Problem::EmptyContinuation);
    assert_eq!(problem("ab", "", plain), Problem::EmptyContinuation);
    assert_eq!(problem("ab", "b", plain), Problem::MergedContinuation);
    assert_eq!(problem("ab", "_", rules(false, None, true)), Problem::EmptyContinuation);
    let long = Problem::LongContinuation { tokens: 4, max_length: 3 };
    assert_eq!(
        problem("a", "babab", rules(false, Some(4), false)),
        Problem::LongContinuation { tokens: 5, max_length: 4 }
    );
    assert_eq!(problem("", "baba", plain), long);
    assert_eq!(problem("", "b", Rules { prefix: None, ..plain }), Problem::NoPrefix);
}

#[test]
fn longest_continuation_keeps_one_token_of_context() {
    let plan = Pairs::plan([(0, "ba", "bab")].into_iter(), rules(true, Some(3), false));
    let encoded = encode_jobs(plan.jobs());
    let tokens = "abab".chars().map(|letter| letter as u32).collect();
    assert_eq!(read(&plan.layout(&encoded), &encoded).0, [(0, tokens, 1, 2)]);
}
