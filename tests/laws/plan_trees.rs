//! Laws of plans whose rows hold trees, and of their batches' arrays, which are compared with explicit
//! prefixes and with a mask made from them.

use std::collections::{BTreeMap, BTreeSet};

use crate::seeds::trees::{distinct_prefixes, lengths, path, ragged, segments, shapes, sorted};
use crate::seeds::written;
use proptest::prelude::*;
use windrow_core::collate::{self, Groups, ReadArrays, Sequences};
use windrow_core::plan::{Batch, BatchRows, Choice, Packing, PaddedLengths, Plan, Policy, Prefixes};

/// Segments whose inputs may share prefixes; each has one token more than its input.
#[derive(Clone, Debug)]
struct Material {
    inputs: Vec<Vec<i32>>,
    tokens: Vec<i32>,
    offsets: Vec<i64>,
    score_starts: Vec<i32>,
}

impl Material {
    fn new(inputs: Vec<Vec<i32>>, scored: &[prop::sample::Index]) -> Self {
        let whole: Vec<Vec<i32>> =
            inputs.iter().zip(100..).map(|(input, last)| [&input[..], &[last]].concat()).collect();
        let (tokens, offsets) = ragged(&whole);
        let start =
            |(input, scored): (&Vec<i32>, &prop::sample::Index)| 1 + scored.index(input.len().max(1)) as i32;
        let score_starts = inputs.iter().zip(scored.iter().cycle()).map(start).collect();
        Material { inputs, tokens, offsets, score_starts }
    }

    fn plan(&self, policy: Policy, choice: &Choice) -> Plan {
        let (order, shared) = sorted(&self.inputs);
        let prefixes = Prefixes { order: &order, shared: &shared, choice };
        Plan::of_trees(&lengths(&self.inputs), prefixes, policy).unwrap()
    }

    fn sequence(&self, segment: usize) -> &[i32] {
        &self.tokens[self.offsets[segment] as usize..self.offsets[segment + 1] as usize]
    }

    fn path(&self, plan: &Plan, segment: usize) -> Vec<usize> {
        let own = plan.all_own().unwrap();
        let parents: Vec<i64> = plan.all_parents().unwrap().iter().map(|&parent| parent.into()).collect();
        path(segment, self.inputs[segment].len(), plan.starts(), own, &parents)
    }
}

/// Inputs with scored tokens; none is empty.
fn material() -> impl Strategy<Value = Material> {
    (segments(40), prop::collection::vec(any::<prop::sample::Index>(), 1..9)).prop_map(
        |(mut inputs, scored)| {
            inputs.retain(|input| !input.is_empty());
            Material::new(inputs, &scored)
        },
    )
}

/// Segments have at most 17 tokens.
fn policies() -> impl Strategy<Value = (Policy, Choice)> {
    let padded_lengths = prop_oneof![
        (1..5i64).prop_map(PaddedLengths::Multiples),
        prop::collection::btree_set(1..60, 0..4).prop_map(|mut lengths| {
            lengths.insert(60);
            PaddedLengths::Given(lengths.into_iter().collect())
        }),
    ];
    let rows = (any::<bool>(), 1..4i64).prop_map(|(fixed, row_multiple)| {
        (
            if fixed { BatchRows::Fixed(4 * row_multiple) } else { BatchRows::Budget(240 * row_multiple) },
            row_multiple,
        )
    });
    let prices = prop::option::of(prop::collection::vec(1..5000i64, 4));
    (padded_lengths, rows, prices, 1..4i64, 0..50i64, any::<bool>()).prop_map(
        |(padded_lengths, (rows, row_multiple), prices, max_shapes, shape_price, longest_first)| {
            let row_prices = match &padded_lengths {
                PaddedLengths::Given(lengths) => prices.map(|prices| prices[..lengths.len()].to_vec()),
                _ => None,
            };
            let policy = Policy { rows, row_multiple, padded_lengths, packing: None, longest_first };
            (policy, Choice { row_prices, max_shapes, shape_price })
        },
    )
}

type Slots<'a> = BTreeMap<usize, &'a [i32]>;

/// The prefix that ends at each filled position of each row of each batch.
fn rows_of<'a>(plan: &Plan, material: &'a Material) -> BTreeMap<(usize, usize), Slots<'a>> {
    let mut rows: BTreeMap<(usize, usize), Slots> = BTreeMap::new();
    for (segment, input) in material.inputs.iter().enumerate() {
        let row = rows.entry((plan.batches()[segment] as usize, plan.rows()[segment] as usize)).or_default();
        for (end, slot) in (1..).zip(material.path(plan, segment)) {
            assert_eq!(*row.entry(slot).or_insert(&input[..end]), &input[..end]);
        }
    }
    rows
}

fn assert_plan(plan: &Plan, material: &Material) {
    let rows = rows_of(plan, material);
    let last = if plan.policy().longest_first { plan.batch_count().saturating_sub(1) } else { 0 };
    for index in 0..plan.batch_count() {
        let batch = plan.batch(index as i64).unwrap();
        let used = rows.range((index, 0)..(index + 1, 0)).map(|(&(_, row), _)| row);
        assert!(used.clone().eq(0..used.clone().count()), "rows are used in order");
        assert!(used.count() == batch.rows || index == last, "filler only in the last batch");
        for (&(_, row), slots) in rows.range((index, 0)..(index + 1, 0)) {
            assert!(slots.keys().copied().eq(0..slots.len()) && slots.len() <= batch.length);
            let of_row = (0..material.inputs.len()).filter(|&segment| {
                (plan.batches()[segment], plan.rows()[segment]) == (index as i32, row as i32)
            });
            let distinct = distinct_prefixes(of_row.map(|segment| &material.inputs[segment]));
            assert_eq!(slots.len(), distinct.len(), "every prefix is stored once");
        }
    }
    assert_statistics(plan, material, &rows);
    let again = Plan::from_bytes(&plan.to_bytes()).unwrap();
    assert_eq!((again.fingerprint(), again.choice()), (plan.fingerprint(), plan.choice()));
    assert_eq!((again.batches(), again.rows(), again.starts()), (plan.batches(), plan.rows(), plan.starts()));
    assert_eq!((again.all_own(), again.all_parents()), (plan.all_own(), plan.all_parents()));
}

fn assert_statistics(plan: &Plan, material: &Material, rows: &BTreeMap<(usize, usize), Slots>) {
    let statistics = plan.statistics();
    let tree = statistics.tree.unwrap();
    let distinct: BTreeSet<&Vec<i32>> = material.inputs.iter().collect();
    assert_eq!(statistics.segments, material.inputs.len());
    assert_eq!(statistics.shared_segments, material.inputs.len() - distinct.len());
    assert_eq!(statistics.rows, rows.len());
    assert_eq!(statistics.real_tokens as usize, material.inputs.iter().map(Vec::len).sum::<usize>());
    assert_eq!(tree.distinct as usize, distinct.iter().map(|input| input.len()).sum::<usize>());
    assert_eq!(tree.least as usize, distinct_prefixes(material.inputs.iter()).len());
    assert_eq!(statistics.row_tokens as usize, rows.values().map(BTreeMap::len).sum::<usize>());
    assert_eq!(statistics.repeated_tokens(), statistics.row_tokens - tree.least);
    let batches = (0..plan.batch_count()).map(|index| plan.batch(index as i64).unwrap());
    assert_eq!(
        statistics.device_tokens as usize,
        batches.map(|batch| batch.rows * batch.length).sum::<usize>()
    );
}

/// Checks every array of a batch against the prefixes in its rows.
fn assert_arrays(plan: &Plan, material: &Material) {
    let rows = rows_of(plan, material);
    let sequences = Sequences::new(plan, &material.tokens, &material.offsets).unwrap();
    for index in 0..plan.batch_count() {
        let batch = plan.batch(index as i64).unwrap();
        let size = batch.rows * batch.length;
        let all = || 0..batch.rows;
        let inputs = written(size, |out| collate::inputs(batch, all(), sequences, -7, out)).unwrap();
        let targets = written(size, |out| collate::targets(batch, all(), sequences, -8, out)).unwrap();
        let ids = written(size, |out| collate::segment_ids(batch, all(), out)).unwrap();
        let positions = written(size, |out| collate::positions(batch, all(), out)).unwrap();
        let reach = written(size, |out| collate::reach(batch, all(), out)).unwrap();
        let ends = written(batch.rows, |out| collate::row_lengths(batch, all(), out)).unwrap();
        for (row, &end) in ends.iter().enumerate() {
            let none = Slots::new();
            let slots = rows.get(&(index, row)).unwrap_or(&none);
            let at = |position: usize| row * batch.length + position;
            assert_eq!(end as usize, slots.len());
            let mut roots = Vec::new();
            for position in 0..batch.length {
                let at = at(position);
                let Some(prefix) = slots.get(&position) else {
                    assert_eq!((inputs[at], targets[at], ids[at], positions[at]), (-7, -8, 0, 0));
                    assert_eq!(reach[at] as usize, position + 1);
                    continue;
                };
                let (token, before) = prefix.split_last().unwrap();
                assert_eq!((inputs[at], positions[at] as usize), (*token, before.len()));
                let whole = (0..material.inputs.len()).map(|segment| material.sequence(segment));
                let mut after =
                    whole.filter(|whole| whole.starts_with(prefix)).map(|whole| whole[prefix.len()]);
                assert!(after.any(|token| token == targets[at]));
                if !roots.contains(&prefix[0]) {
                    roots.push(prefix[0]);
                }
                assert_eq!(ids[at] as usize, 1 + roots.iter().position(|&root| root == prefix[0]).unwrap());
            }
            for (query, key) in
                (0..batch.length).flat_map(|query| (0..batch.length).map(move |key| (query, key)))
            {
                let seen = key <= query && query < reach[at(key)] as usize;
                let on_path = match (slots.get(&query), slots.get(&key)) {
                    (Some(query), Some(key)) => query.starts_with(key),
                    _ => query == key,
                };
                assert_eq!(seen, on_path, "a token sees exactly its own path");
            }
        }
    }
}

/// Every scored token is read at the position of the token before it, and no position is picked twice.
fn assert_reads(plan: &Plan, material: &Material, groups: i64) {
    let count = 2 * plan.shapes().len();
    let capacities = written(count, |out| {
        collate::read_capacities(plan, &material.offsets, &material.score_starts, groups, 1, out)
    })
    .unwrap();
    let mut most = vec![0; count];
    for index in 0..plan.batch_count() {
        let batch = plan.batch(index as i64).unwrap();
        let shape =
            plan.shapes().position(|shape| (shape.rows, shape.length) == (batch.rows, batch.length)).unwrap();
        let capacity = [0, 1].map(|at| capacities[2 * shape + at] as usize);
        let used = assert_reads_of(batch, material, groups, capacity);
        for at in 0..2 {
            most[2 * shape + at] = used[at].max(most[2 * shape + at]);
        }
    }
    assert!(capacities.iter().zip(most).all(|(&capacity, most)| capacity as usize == most));
}

fn assert_reads_of(batch: Batch, material: &Material, group_count: i64, capacity: [usize; 2]) -> [usize; 2] {
    let plan = batch.plan();
    let sequences = Sequences::new(plan, &material.tokens, &material.offsets).unwrap();
    let groups = Groups::new(batch, 0..batch.rows, group_count).unwrap();
    let [picks, reads] = capacity.map(|capacity| capacity * groups.count());
    let (mut read_pick, mut read_target) = (Vec::new(), Vec::new());
    let pick_index = written(picks, |pick_index| {
        read_pick = written(reads, |read_pick| {
            read_target = written(reads, |read_target| {
                let out = ReadArrays { pick_index, read_pick, read_target };
                collate::reads(batch, &groups, sequences, &material.score_starts, out)
            })?;
            Ok::<_, windrow_core::Error>(())
        })?;
        Ok::<_, windrow_core::Error>(())
    })
    .unwrap();
    let segments = batch.segments(0..batch.rows);
    let spans = written(2 * segments.len(), |out| {
        collate::read_spans(batch, &groups, &material.score_starts, capacity[1], out)
    })
    .unwrap();
    let rows_per_group = batch.rows / group_count as usize;
    let mut picked: Vec<BTreeSet<i32>> = vec![BTreeSet::new(); groups.count()];
    let mut used = vec![0; groups.count()];
    for (&segment, span) in segments.iter().zip(spans.chunks(2)) {
        let segment = segment as usize;
        let row = plan.rows()[segment] as usize;
        let (group, local_row) = (row / rows_per_group, row % rows_per_group);
        let path = material.path(plan, segment);
        let scored = material.score_starts[segment] as usize..=path.len();
        assert_eq!(span[0] as usize, group * capacity[1] + used[group], "reads follow each other");
        used[group] += scored.clone().count();
        assert_eq!(span[1] as usize, group * capacity[1] + used[group]);
        for (read, token) in (span[0] as usize..).zip(scored) {
            assert_eq!(read_target[read], material.sequence(segment)[token]);
            let pick = read_pick[read] as usize;
            let position = pick_index[group * capacity[0] + pick];
            assert_eq!(position as usize, local_row * batch.length + path[token - 1]);
            picked[group].insert(position);
        }
    }
    for (group, picked) in picked.iter().enumerate() {
        let own = &pick_index[group * capacity[0]..(group + 1) * capacity[0]];
        let unique: BTreeSet<i32> = own[..picked.len()].iter().copied().collect();
        assert_eq!(&unique, picked, "no position is picked twice or unnecessarily");
        assert!(own[picked.len()..].iter().all(|&pick| pick == 0));
        let rest = group * capacity[1] + used[group]..(group + 1) * capacity[1];
        assert!(read_pick[rest.clone()].iter().chain(&read_target[rest]).all(|&read| read == 0));
    }
    [picked.iter().map(BTreeSet::len).max().unwrap_or(0), used.into_iter().max().unwrap_or(0)]
}

/// The cost of a plan's batches at these prices.
fn total(plan: &Plan, lengths: &[i32], choice: &Choice) -> i64 {
    let prices: BTreeMap<usize, i64> = match &choice.row_prices {
        Some(prices) => lengths.iter().map(|&length| length as usize).zip(prices.iter().copied()).collect(),
        None => lengths.iter().map(|&length| (length as usize, length.into())).collect(),
    };
    let batches = plan.shapes().map(|shape| (shape.rows * shape.batches) as i64 * prices[&shape.length]);
    batches.sum::<i64>() + choice.shape_price * (plan.shapes().len() as i64 - 1).max(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_obey_the_laws(material in material(), (policy, choice) in policies()) {
        assert_plan(&material.plan(policy, &choice), &material);
    }

    #[test]
    fn arrays_hold_trees(material in material(), (policy, choice) in policies()) {
        assert_arrays(&material.plan(policy, &choice), &material);
    }

    #[test]
    fn every_score_is_read(material in material(), (policy, choice) in policies(), split in any::<bool>()) {
        let groups = if split { policy.row_multiple } else { 1 };
        assert_reads(&material.plan(policy, &choice), &material, groups);
    }

    /// No single length and no pair of lengths costs less than the chosen ones.
    #[test]
    fn chosen_lengths_cost_least(material in material(), (policy, choice) in policies()) {
        let plan = material.plan(policy.clone(), &choice);
        let PaddedLengths::Given(given) = &policy.padded_lengths else { return Ok(()) };
        prop_assert!(plan.shapes().len() as i64 <= choice.max_shapes);
        let longest = lengths(&material.inputs).into_iter().max().unwrap_or(0);
        for (at, &length) in given.iter().enumerate().filter(|&(_, &length)| length >= longest) {
            for other in 0..=at {
                let few: BTreeSet<i32> = [given[other], length].into_iter().collect();
                if few.len() as i64 > choice.max_shapes {
                    continue;
                }
                let prices = choice.row_prices.as_ref().map(|prices| {
                    let few: BTreeSet<usize> = [other, at].into_iter().collect();
                    few.into_iter().map(|at| prices[at]).collect()
                });
                let few_choice = Choice { row_prices: prices, ..choice.clone() };
                let padded_lengths = PaddedLengths::Given(few.into_iter().collect());
                let few = material.plan(Policy { padded_lengths, ..policy.clone() }, &few_choice);
                prop_assert!(total(&plan, given, &choice) <= total(&few, given, &choice));
            }
        }
    }
}

#[test]
fn every_shape_of_tree() {
    for inputs in shapes() {
        let material = Material::new(inputs, &[]);
        for lengths in [vec![40], vec![2, 7, 45], vec![64, 200]] {
            let policy = Policy { padded_lengths: PaddedLengths::Given(lengths), ..Policy::fixed(2) };
            let plan = material.plan(policy, &Choice::default());
            assert_plan(&plan, &material);
            assert_arrays(&plan, &material);
        }
    }
}

#[test]
fn three_lengths_are_chosen_if_they_cost_less_than_two() {
    let inputs = [2, 8, 32].map(|length| vec![length; length as usize]).to_vec();
    let padded_lengths = PaddedLengths::Given(vec![2, 8, 16, 32]);
    let choice =
        |max_shapes| Choice { row_prices: Some(vec![1, 10, 100, 1000]), max_shapes, ..Choice::default() };
    let lengths = |max_shapes, shape_price| -> Vec<usize> {
        let policy = Policy { padded_lengths: padded_lengths.clone(), ..Policy::fixed(1) };
        let choice = Choice { shape_price, ..choice(max_shapes) };
        let plan = Material::new(inputs.clone(), &[]).plan(policy, &choice);
        plan.shapes().map(|shape| shape.length).collect()
    };
    assert_eq!(lengths(4, 0), [32, 8, 2]);
    assert_eq!(lengths(2, 0), [32, 8]);
    assert_eq!(lengths(4, 10_000), [32]);
}

#[test]
fn module_example() {
    let letters = ["abcd", "abcef", "abg", "hi"].map(|text| text.bytes().map(i32::from).collect());
    let material = Material::new(letters.to_vec(), &[]);
    let policy = Policy { padded_lengths: PaddedLengths::Given(vec![10]), ..Policy::fixed(1) };
    let plan = material.plan(policy, &Choice::default());
    let batch = plan.batch(0).unwrap();
    let sequences = Sequences::new(&plan, &material.tokens, &material.offsets).unwrap();
    let inputs = written(10, |out| collate::inputs(batch, 0..1, sequences, 0, out)).unwrap();
    assert_eq!(inputs, b"abcdefghi\0".map(i32::from));
    assert_eq!(
        written(10, |out| collate::segment_ids(batch, 0..1, out)).unwrap(),
        [1, 1, 1, 1, 1, 1, 1, 2, 2, 0]
    );
    assert_eq!(
        written(10, |out| collate::positions(batch, 0..1, out)).unwrap(),
        [0, 1, 2, 3, 3, 4, 2, 0, 1, 0]
    );
    assert_eq!(written(10, |out| collate::reach(batch, 0..1, out)).unwrap(), [7, 7, 6, 4, 6, 6, 7, 9, 9, 10]);
}

/// Without trees, a token is visible to the rest of its segment.
#[test]
fn without_trees_tokens_reach_the_end_of_their_segment() {
    let packing = Some(Packing { max_segments: None });
    let plan = Plan::new(
        &[2, 3],
        None,
        Policy { packing, padded_lengths: PaddedLengths::Given(vec![6]), ..Policy::fixed(2) },
    );
    let plan = plan.unwrap();
    let reach = written(12, |out| collate::reach(plan.batch(0).unwrap(), 0..2, out)).unwrap();
    assert_eq!(reach, [3, 3, 3, 5, 5, 6, 1, 2, 3, 4, 5, 6]);
    assert_eq!((plan.all_own(), plan.own(1), plan.parent(1)), (None, 0, None));
}

#[test]
fn displayed_plan_of_trees_fits_on_a_screen() {
    let inputs: Vec<Vec<i32>> = (0..500).map(|at| [vec![at / 50; 40], vec![at]].concat()).collect();
    let plan = Material::new(inputs, &[]).plan(Policy::fixed(2), &Choice::default());
    let text = plan.to_string();
    assert!(text.contains("trees in rows"), "{text}");
    assert!(text.contains("20,500 tokens in segments"), "{text}");
    assert!(text.contains("19,600 in shared prefixes"), "{text}");
    assert!(text.contains("prefix tokens repeated in other rows"), "{text}");
}

#[test]
fn errors_name_the_argument() {
    let given = |lengths: &[i32]| Policy {
        padded_lengths: PaddedLengths::Given(lengths.to_vec()),
        ..Policy::fixed(1)
    };
    let prices = |prices: &[i64]| Choice { row_prices: Some(prices.to_vec()), ..Choice::default() };
    let packed = Policy { packing: Some(Packing { max_segments: None }), ..Policy::fixed(1) };
    let plain = Choice::default();
    for (policy, choice, expected) in [
        (packed, plain.clone(), "pack is 1; it must be off if there are prefixes"),
        (given(&[2, 3]), plain.clone(), "lengths[0] is 4; it must be at most 3, the last of padded_lengths"),
        (given(&[4]), Choice { max_shapes: 0, ..plain.clone() }, "max_shapes is 0; it must be at least 1"),
        (given(&[4]), Choice { shape_price: -1, ..plain.clone() }, "shape_price is -1;"),
        (
            given(&[4, 8]),
            prices(&[1]),
            "row_prices has 1 element; it must have 2, one for each of padded_lengths",
        ),
        (Policy::fixed(1), prices(&[1]), "row_prices has 1 element; it must have 0,"),
        (given(&[4, 8]), prices(&[4, 0]), "row_prices[1] is 0; it must be at least 1 and at most 2**56"),
    ] {
        let prefixes = Prefixes { order: &[0, 1], shared: &[0, 1], choice: &choice };
        let error = Plan::of_trees(&[4, 4], prefixes, policy).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let prefixes = Prefixes { order: &[0, 0], shared: &[0, 1], choice: &plain };
    let error = Plan::of_trees(&[4, 4], prefixes, given(&[8])).unwrap_err().to_string();
    assert!(error.starts_with("order[1] is 0; it must be a segment that has not come before"), "{error}");
}

#[test]
fn fingerprints_depend_on_everything_that_affects_a_plan() {
    let plan = |order: &[i64], shared: &[i32], choice: Choice, lengths: &[i32]| {
        let policy = Policy { padded_lengths: PaddedLengths::Given(lengths.to_vec()), ..Policy::fixed(1) };
        Plan::of_trees(&[4, 4, 5], Prefixes { order, shared, choice: &choice }, policy).unwrap().fingerprint()
    };
    let plain = Choice::default();
    let priced = |prices: &[i64]| Choice { row_prices: Some(prices.to_vec()), ..plain.clone() };
    let prints = [
        plan(&[0, 1, 2], &[0, 3, 2], plain.clone(), &[8, 9]),
        plan(&[0, 1, 2], &[0, 3, 3], plain.clone(), &[8, 9]),
        plan(&[1, 0, 2], &[0, 3, 2], plain.clone(), &[8, 9]),
        plan(&[0, 1, 2], &[0, 3, 2], plain.clone(), &[8]),
        plan(&[0, 1, 2], &[0, 3, 2], priced(&[8, 9]), &[8, 9]),
        plan(&[0, 1, 2], &[0, 3, 2], priced(&[8, 8]), &[8, 9]),
        plan(&[0, 1, 2], &[0, 3, 2], Choice { max_shapes: 1, ..plain.clone() }, &[8, 9]),
        Plan::new(&[4, 4, 5], None, Policy::fixed(1)).unwrap().fingerprint(),
    ];
    assert_eq!(prints.iter().collect::<BTreeSet<_>>().len(), prints.len());
}
