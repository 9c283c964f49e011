//! Whole texts in windows, and prompts, compared with oracles that follow lm_eval step by step.

use proptest::prelude::*;
use windrow_tokens::prompts::Prompts;
use windrow_tokens::rolling::Rolling;
use windrow_tokens::{Problem, Specials};

use crate::toy::{BOS, Row, encode, encode_jobs, read};

const SPECIALS: Specials<'static> = Specials { add: true, unless: Some("^") };

fn by_rule(text: &str) -> Vec<u32> {
    encode(text, !text.starts_with('^'))
}

/// lm_eval's rolling windows with a context of one token, made disjoint: contexts and
/// continuations.
fn windows(tokens: &[u32], most: usize) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut all = vec![];
    let mut done = most.min(tokens.len());
    if done > 0 {
        all.push((vec![BOS], tokens[..done].to_vec()));
    }
    while done < tokens.len() {
        let scored = most.min(tokens.len() - done);
        let end = done + scored;
        // The model's input is full, and ends one token before the last scored one.
        let input = &tokens[end - most - 1..end - 1];
        all.push((input[..input.len() - (scored - 1)].to_vec(), tokens[done..end].to_vec()));
        done = end;
    }
    all
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!['a', 'b', 'c', '_', '^', 'é']), 0..14)
        .prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_match_the_oracle(
        texts in proptest::collection::vec(text(), 0..5),
        most in proptest::option::of(1_usize..6),
    ) {
        let plan = Rolling::plan(texts.iter().map(String::as_str).enumerate(), SPECIALS);
        let encoded = encode_jobs(plan.jobs());
        let (rows, refused) = read(&plan.layout(&encoded, Some(BOS), most), &encoded);
        let mut expected: Vec<Row> = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let tokens = by_rule(text);
            for (context, continuation) in windows(&tokens, most.unwrap_or(tokens.len().max(1))) {
                expected.push((number, [context.as_slice(), &continuation].concat(), context.len(), 0));
            }
        }
        prop_assert_eq!(&rows, &expected);
        prop_assert!(refused.is_empty());
        let scored: usize = rows.iter().map(|(_, row, start, _)| row.len() - start).sum();
        prop_assert_eq!(scored, texts.iter().map(|text| by_rule(text).len()).sum::<usize>());
    }

    #[test]
    fn prompts_are_the_last_tokens_that_leave_room(
        texts in proptest::collection::vec(text(), 0..5),
        most in proptest::option::of(1_usize..12),
        new in 1_usize..12,
    ) {
        let plan = Prompts::plan(texts.iter().map(String::as_str).enumerate(), SPECIALS);
        let encoded = encode_jobs(plan.jobs());
        let (rows, refused) = read(&plan.layout(&encoded, most, |request| new + request), &encoded);
        let mut expected: Vec<Row> = Vec::new();
        let mut bad = vec![];
        for (number, text) in texts.iter().enumerate() {
            let tokens = by_rule(text);
            let room = most.map_or(usize::MAX, |most| most.saturating_sub(new + number));
            if room == 0 || tokens.is_empty() {
                bad.push(number);
            } else {
                let cut = tokens.len().saturating_sub(room);
                expected.push((number, tokens[cut..].to_vec(), 0, cut));
            }
        }
        prop_assert_eq!(rows, expected);
        prop_assert_eq!(refused, bad);
    }

    #[test]
    fn whole_texts_are_their_tokens(texts in proptest::collection::vec(text(), 0..5)) {
        let plan = Prompts::plan(texts.iter().map(String::as_str).enumerate(), SPECIALS);
        let encoded = encode_jobs(plan.jobs());
        let (rows, refused) = read(&plan.whole(&encoded), &encoded);
        let expected: Vec<Row> = texts.iter().enumerate().map(|(at, text)| (at, by_rule(text), 0, 0)).collect();
        prop_assert_eq!(rows, expected);
        prop_assert!(refused.is_empty());
    }
}

#[test]
fn windows_without_a_prefix_token_are_refused() {
    let plan = Rolling::plan([(3, "ab"), (4, "")].into_iter(), SPECIALS);
    let encoded = encode_jobs(plan.jobs());
    let layout = plan.layout(&encoded, None, None);
    assert_eq!(layout.problems(), [(3, Problem::NoPrefix), (4, Problem::NoPrefix)]);
}

#[test]
fn prompts_name_their_problems() {
    let plan = Prompts::plan([(0, "_"), (1, "ab")].into_iter(), Specials { add: false, unless: None });
    let encoded = encode_jobs(plan.jobs());
    let problems = plan.layout(&encoded, Some(9), |request| 1 + 8 * request).problems().to_vec();
    assert_eq!(
        problems,
        [(0, Problem::EmptyContext), (1, Problem::NoRoom { max_new_tokens: 9, max_length: 9 })]
    );
}
