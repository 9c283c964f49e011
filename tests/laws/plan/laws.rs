//! Laws that every plan obeys.

use std::collections::BTreeMap;

use super::naive::naive_choices;
use windrow_core::plan::{BatchRows, Packing, PaddedLengths, Plan};

/// Checks all laws.
pub fn assert_laws(plan: &Plan, lengths: &[i32], identities: &[i64]) {
    let shapes: Vec<(i64, i64)> = (0..plan.batch_count() as i64)
        .map(|index| plan.batch(index).unwrap())
        .map(|batch| (batch.rows as i64, batch.length as i64))
        .collect();
    let rows = rows_of(plan, lengths, identities);
    let filled = assert_rows(plan, lengths, &shapes, &rows);
    assert_batches(plan, &shapes, &rows);
    assert_order(plan, lengths, identities, &shapes, &rows, filled);
    assert_segments_of_batches(plan, lengths.len());
    assert_statistics(plan, lengths, identities, &shapes, rows.len());
    assert_stored(plan);
}

/// For each batch and row, its segments and where they begin.
type Rows = BTreeMap<(i32, i32), BTreeMap<usize, i32>>;

/// Collected from the place of each segment; of segments that share a place, only the first is listed.
fn rows_of(plan: &Plan, lengths: &[i32], identities: &[i64]) -> Rows {
    let mut rows = Rows::new();
    for (segment, &identity) in identities.iter().enumerate() {
        let place = |segment: usize| {
            (plan.batches()[segment], plan.rows()[segment], plan.starts()[segment], lengths[segment])
        };
        assert_eq!(place(segment), place(identity as usize));
        let (batch, row, start, _) = place(identity as usize);
        rows.entry((batch, row)).or_default().insert(identity as usize, start);
    }
    rows
}

/// Each row holds its segments end to end, within its length. Returns the filled length of each row.
fn assert_rows(plan: &Plan, lengths: &[i32], shapes: &[(i64, i64)], rows: &Rows) -> Vec<i64> {
    let of_row = |(&(batch, row), segments): (&(i32, i32), &BTreeMap<usize, i32>)| {
        let (batch_rows, length) = shapes[batch as usize];
        assert!(i64::from(row) < batch_rows);
        let mut spans: Vec<_> = segments.iter().map(|(&s, &start)| (start, start + lengths[s])).collect();
        spans.sort_unstable();
        assert!(
            spans[0].0 == 0 && spans.windows(2).all(|pair| pair[0].1 == pair[1].0),
            "segments lie end to end"
        );
        let most = match plan.policy().packing {
            None => 1,
            Some(Packing { max_segments }) => max_segments.unwrap_or(i64::MAX),
        };
        assert!(segments.len() as i64 <= most);
        let end = i64::from(spans.last().unwrap().1);
        assert!(end <= length);
        end
    };
    rows.iter().map(of_row).collect()
}

/// Rows are used in order, and only the batch of the shortest rows has filler.
fn assert_batches(plan: &Plan, shapes: &[(i64, i64)], rows: &Rows) {
    let policy = plan.policy();
    let last = if policy.longest_first { shapes.len().wrapping_sub(1) } else { 0 };
    for (index, &(batch_rows, length)) in shapes.iter().enumerate() {
        let used = rows.keys().filter(|key| key.0 as usize == index).map(|key| key.1);
        let count = used.clone().count() as i64;
        assert!(used.eq(0..count as i32));
        assert!(count == batch_rows || (index == last && count > 0), "filler only in the last batch");
        assert_eq!(batch_rows % policy.row_multiple, 0);
        match policy.rows {
            BatchRows::Fixed(fixed) => assert_eq!(batch_rows, fixed),
            BatchRows::Budget(tokens) => assert!(batch_rows * length <= tokens),
        }
    }
}

/// Rows are sorted, longest first, in batches that the chosen lengths can result in.
fn assert_order(
    plan: &Plan,
    lengths: &[i32],
    identities: &[i64],
    shapes: &[(i64, i64)],
    rows: &Rows,
    filled: Vec<i64>,
) {
    let policy = plan.policy();
    let last = shapes.len() as i32 - 1;
    let turned = |batch: i32| if policy.longest_first { batch } else { last - batch };
    let mut sorted: Vec<_> = rows.iter().zip(filled).collect();
    sorted.sort_by_key(|((key, _), _)| (turned(key.0), key.1));
    let filled: Vec<i64> = sorted.iter().map(|(_, filled)| *filled).collect();
    assert!(filled.is_sorted_by(|one, next| one >= next));
    if policy.packing.is_none() {
        let mut expected: Vec<usize> = (0..lengths.len()).filter(|&s| identities[s] == s as i64).collect();
        expected.sort_by_key(|&segment| std::cmp::Reverse(lengths[segment]));
        assert!(
            sorted.iter().flat_map(|((_, row), _)| row.keys().copied()).eq(expected),
            "the order is stable"
        );
    }
    if !filled.is_empty() {
        let mut shapes = shapes.to_vec();
        if !policy.longest_first {
            shapes.reverse();
        }
        let chosen: Vec<i64> = match &policy.padded_lengths {
            PaddedLengths::Given(given) => given.iter().map(|&length| length.into()).collect(),
            _ => shapes.iter().map(|shape| shape.1).collect(),
        };
        assert!(naive_choices(policy, &filled, &chosen).contains(&shapes));
    }
}

/// The segments of each batch agree with the places of the segments.
fn assert_segments_of_batches(plan: &Plan, segments: usize) {
    for index in 0..plan.batch_count() {
        let batch = plan.batch(index as i64).unwrap();
        let within = |&segment: &u32| plan.batches()[segment as usize] as usize == index;
        let mut expected: Vec<u32> = (0..segments as u32).filter(within).collect();
        expected.sort_by_key(|&s| (plan.rows()[s as usize], plan.starts()[s as usize], s));
        assert_eq!(batch.segments(0..batch.rows), expected);
    }
}

/// The statistics equal a recount.
fn assert_statistics(plan: &Plan, lengths: &[i32], identities: &[i64], shapes: &[(i64, i64)], rows: usize) {
    let statistics = plan.statistics();
    let holds = |segment: &usize| identities[*segment] == *segment as i64;
    let tokens = |segment: usize| lengths[segment] as u64;
    let real: u64 = (0..lengths.len()).map(tokens).sum();
    let in_rows: u64 = (0..lengths.len()).filter(holds).map(tokens).sum();
    let device: u64 = shapes.iter().map(|(rows, length)| (rows * length) as u64).sum();
    let batch_rows: i64 = shapes.iter().map(|shape| shape.0).sum();
    assert_eq!(statistics.segments, lengths.len());
    assert_eq!(statistics.shared_segments, lengths.len() - (0..lengths.len()).filter(holds).count());
    assert_eq!(statistics.rows, rows);
    assert_eq!(statistics.filler_rows, batch_rows as usize - rows);
    assert_eq!(statistics.batches, shapes.len());
    assert_eq!(statistics.real_tokens, real);
    assert_eq!(statistics.row_tokens, in_rows);
    assert_eq!(statistics.device_tokens, device);
    assert_eq!(statistics.padding_tokens(), device - in_rows);
    assert_eq!(statistics.shared_tokens(), real - in_rows);
    let mut distinct: Vec<(i64, i64)> = Vec::new();
    shapes.iter().for_each(|shape| {
        if !distinct.contains(shape) {
            distinct.push(*shape);
        }
    });
    assert!(plan.shapes().map(|shape| (shape.rows as i64, shape.length as i64)).eq(distinct));
    if let PaddedLengths::Best { max_shapes, .. } = plan.policy().padded_lengths {
        assert!(plan.shapes().len() as i64 <= max_shapes);
    }
}

/// A plan is unchanged after a round trip through bytes.
fn assert_stored(plan: &Plan) {
    let again = Plan::from_bytes(&plan.to_bytes()).unwrap();
    assert_eq!(again.fingerprint(), plan.fingerprint());
    assert_eq!((again.batches(), again.rows(), again.starts()), (plan.batches(), plan.rows(), plan.starts()));
    assert_eq!(again.policy(), plan.policy());
}
