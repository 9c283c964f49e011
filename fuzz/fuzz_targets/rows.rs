//! Every function except plans: invalid input is refused, and the result of any
//! other input equals the definition.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use windrow_core::bucket::{bucket_ids, choose_lengths, round_up};
use windrow_core::collate::{FILLER, pad_rows, padded_size};
use windrow_core::order::{invert_order, length_order};
use windrow_core::pack::pack_rows;
use windrow_core::ragged::{group_identical, token_lengths};
use windrow_core::shard::{multihost_remap, remap_size};
use windrow_fuzz::{Length, Number, filled, plain};

/// Results with more elements than this take too long to check.
const MANY: usize = 1 << 16;

#[derive(Arbitrary, Debug)]
enum Call {
    Pack { lengths: Vec<Length>, capacity: Length, max_segments: Number },
    Remap { size: Number, global_batch_size: Number, host_count: Number },
    Pad { tokens: Vec<i32>, offsets: Vec<Number>, sorted: bool, rows: Vec<i8>, length: Length, fill: i32 },
    Choose { lengths: Vec<Length>, max_shapes: Number, multiple: Length },
    Buckets { lengths: Vec<Length>, buckets: Vec<Length>, sorted: bool },
    Order { lengths: Vec<Length>, descending: bool },
    Invert { order: Vec<u8>, swaps: Vec<(u8, u8)>, permutation: bool },
    Group { tokens: Vec<bool>, offsets: Vec<Number>, sorted: bool },
}

fuzz_target!(|call: Call| {
    match call {
        Call::Pack { lengths, capacity, max_segments } => {
            pack(&plain(&lengths), capacity.0, max_segments.0);
        }
        Call::Remap { size, global_batch_size, host_count } => {
            remap(size.0, global_batch_size.0, host_count.0);
        }
        Call::Pad { tokens, offsets, sorted, rows, length, fill } => {
            let rows: Vec<i64> = rows.into_iter().map(i64::from).collect();
            pad(&tokens, &of_tokens(offsets, sorted, tokens.len()), &rows, length.0, fill);
        }
        Call::Choose { lengths, max_shapes, multiple } => {
            choose(&plain(&lengths), max_shapes.0, multiple.0);
        }
        Call::Buckets { lengths, buckets, sorted } => {
            let mut buckets = plain(&buckets);
            if sorted {
                buckets.sort_unstable();
                buckets.dedup();
            }
            bucket(&plain(&lengths), &buckets);
        }
        Call::Order { lengths, descending } => order(&plain(&lengths), descending),
        Call::Invert { order, swaps, permutation } => {
            let mut order: Vec<i64> = order.into_iter().map(|segment| i64::from(segment) - 1).collect();
            if permutation && !order.is_empty() {
                order = (0..order.len() as i64).collect();
                let count = order.len();
                swaps.iter().for_each(|&(a, b)| order.swap(usize::from(a) % count, usize::from(b) % count));
            }
            invert(&order);
        }
        Call::Group { tokens, offsets, sorted } => {
            let tokens: Vec<i32> = tokens.into_iter().map(i32::from).collect();
            group(&tokens, &of_tokens(offsets, sorted, tokens.len()));
        }
    }
});

/// The given offsets, made valid if `sorted`.
fn of_tokens(offsets: Vec<Number>, sorted: bool, tokens: usize) -> Vec<i64> {
    let mut offsets: Vec<i64> = offsets.into_iter().map(|offset| offset.0).collect();
    if sorted && offsets.len() > 1 {
        offsets.iter_mut().for_each(|offset| *offset = offset.rem_euclid(tokens as i64 + 1));
        offsets.sort_unstable();
        offsets[0] = 0;
        *offsets.last_mut().unwrap() = tokens as i64;
    }
    offsets
}

fn pack(lengths: &[i32], capacity: i32, max_segments: i64) {
    let mut rows = 0;
    let row = filled(lengths.len(), -1, |row| {
        let (start, opened) =
            filled(lengths.len(), -1, |start| pack_rows(lengths, capacity, max_segments, row, start))?;
        rows = opened;
        Ok(start)
    });
    let invalid =
        max_segments < 1 || capacity < 0 || lengths.iter().any(|length| !(0..=capacity).contains(length));
    assert_eq!(row.is_err(), invalid);
    let Ok((row, start)) = row else { return };

    // Best fit by definition: the row with the least space; among equals, the first to have that space.
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&segment| std::cmp::Reverse(lengths[segment]));
    let mut open: Vec<(i32, usize, i64)> = Vec::new();
    for (turn, segment) in order.into_iter().enumerate() {
        let length = lengths[segment];
        let fits = |row: &&usize| open[**row].0 >= length && open[**row].2 < max_segments;
        let all: Vec<usize> = (0..open.len()).collect();
        let best = all.iter().filter(fits).min_by_key(|&&row| open[row]).copied().unwrap_or(open.len());
        if best == open.len() {
            open.push((capacity, turn, 0));
        }
        let (free, came, segments) = open[best];
        assert_eq!((row[segment], start[segment]), (best as i64, capacity - free));
        open[best] = (free - length, if length > 0 { turn } else { came }, segments + 1);
    }
    assert_eq!(rows, open.len());
}

fn remap(size: i64, global_batch_size: i64, host_count: i64) {
    let good = size >= 0
        && global_batch_size > 0
        && host_count > 0
        && size % global_batch_size == 0
        && global_batch_size % host_count == 0;
    let elements = remap_size(size, global_batch_size, host_count);
    assert!(elements.is_ok() == good || size > i64::MAX / 8);
    let Some(elements) = elements.ok().filter(|&elements| elements <= MANY) else { return };
    let (remap, ()) =
        filled(elements, -1, |remap| multihost_remap(size, global_batch_size, host_count, remap)).unwrap();
    for (place, element) in (0..).zip(remap) {
        let (host, at) = (place / (size / host_count), place % (size / host_count));
        let host_rows = global_batch_size / host_count;
        let (batch, row) = (at / host_rows, at % host_rows);
        assert_eq!(element, batch * global_batch_size + host * host_rows + row);
    }
}

fn pad(tokens: &[i32], offsets: &[i64], rows: &[i64], length: i32, fill: i32) {
    let Some(size) = padded_size(rows.len(), length).ok().filter(|&size| size <= MANY) else { return };
    let padded =
        filled(size, fill.wrapping_add(1), |padded| pad_rows(tokens, offsets, rows, length, fill, padded));
    let segment = |&row: &i64| -> Option<&[i32]> {
        if row == FILLER {
            return Some(&[]);
        }
        let row = usize::try_from(row).ok()?;
        let (begin, end) = (*offsets.get(row)?, *offsets.get(row.checked_add(1)?)?);
        let segment = tokens.get(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)?;
        (segment.len() <= length as usize).then_some(segment)
    };
    let segments: Option<Vec<&[i32]>> = rows.iter().map(segment).collect();
    assert_eq!(padded.is_ok(), segments.is_some());
    let expected = segments.into_iter().flatten().flat_map(|segment| {
        let padding = length as usize - segment.len();
        segment.iter().copied().chain(std::iter::repeat_n(fill, padding))
    });
    padded.into_iter().for_each(|(padded, ())| assert!(expected.clone().eq(padded)));
}

fn choose(lengths: &[i32], max_shapes: i64, multiple: i32) {
    let Ok(chosen) = choose_lengths(lengths, max_shapes, multiple) else {
        let largest = i64::from(i32::MAX) / i64::from(multiple.max(1)) * i64::from(multiple.max(1));
        let long = lengths.iter().any(|&length| length < 0 || i64::from(length) > largest);
        assert!(max_shapes < 1 || multiple < 1 || long);
        return;
    };
    assert!(chosen.is_sorted_by(|one, next| one < next) && chosen.len() as i64 <= max_shapes);
    let Ok((rounded, ())) = filled(lengths.len(), -1, |rounded| round_up(lengths, multiple, rounded)) else {
        panic!("lengths from which padded lengths were chosen can be rounded up");
    };
    for (length, rounded) in lengths.iter().zip(&rounded) {
        assert!(rounded % multiple == 0 && (0..multiple).contains(&(rounded - length)));
    }
    let total = |chosen: &[i32]| -> i64 {
        rounded.iter().map(|length| i64::from(*chosen.iter().find(|chosen| *chosen >= length).unwrap())).sum()
    };
    let mut candidates = rounded.clone();
    candidates.sort_unstable();
    candidates.dedup();
    let Some(longest) = candidates.pop().filter(|_| candidates.len() <= 8) else { return };
    let choices = (0..1_u32 << candidates.len()).filter(|bits| i64::from(bits.count_ones()) < max_shapes);
    let least = choices.map(|bits| {
        let chosen = (0..candidates.len()).filter(|at| bits >> at & 1 == 1).map(|at| candidates[at]);
        total(&chosen.chain([longest]).collect::<Vec<_>>())
    });
    assert_eq!(least.min(), Some(total(&chosen)));
}

fn bucket(lengths: &[i32], buckets: &[i32]) {
    let Ok((ids, ())) = filled(lengths.len(), -1, |ids| bucket_ids(lengths, buckets, ids)) else {
        let ascending = buckets.is_sorted_by(|one, next| one < next);
        let most = buckets.last().copied().unwrap_or(-1);
        assert!(
            !ascending
                || buckets.first().is_some_and(|&least| least < 0)
                || lengths.iter().any(|&length| length < 0 || length > most)
        );
        return;
    };
    for (id, length) in ids.into_iter().zip(lengths) {
        assert_eq!(buckets.iter().position(|bucket| bucket >= length), Some(id as usize));
    }
}

fn order(lengths: &[i32], descending: bool) {
    let order = filled(lengths.len(), -1, |order| length_order(lengths, descending, order));
    assert_eq!(order.is_err(), lengths.iter().any(|&length| length < 0));
    let Ok((order, ())) = order else { return };
    let mut expected: Vec<i64> = (0..lengths.len() as i64).collect();
    let length = |segment: &i64| i64::from(lengths[*segment as usize]);
    expected.sort_by_key(|segment| if descending { -length(segment) } else { length(segment) });
    assert_eq!(order, expected);
    invert(&order);
}

fn invert(order: &[i64]) {
    let inverse = filled(order.len(), -1, |inverse| invert_order(order, inverse));
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    assert_eq!(inverse.is_ok(), sorted.into_iter().eq(0..order.len() as i64));
    let Ok((inverse, ())) = inverse else { return };
    assert!(order.iter().zip(0..).all(|(&segment, place)| inverse[segment as usize] == place));
}

fn group(tokens: &[i32], offsets: &[i64]) {
    let segments = offsets.len().saturating_sub(1);
    let first = filled(segments, -1, |first| group_identical(tokens, offsets, first));
    let Ok((first, ())) = first else {
        let whole = offsets.first() == Some(&0) && offsets.last() == Some(&(tokens.len() as i64));
        assert!(!whole || !offsets.is_sorted());
        return;
    };
    let (lengths, ()) = filled(segments, -1, |lengths| token_lengths(offsets, lengths)).unwrap();
    let segment = |segment: usize| &tokens[offsets[segment] as usize..offsets[segment + 1] as usize];
    for index in 0..segments {
        assert_eq!(lengths[index] as usize, segment(index).len());
        let equal = (0..segments).find(|&other| segment(other) == segment(index));
        assert_eq!(equal, Some(first[index] as usize));
    }
}
