//! Makes input for the core's functions from bytes, and memory for their output.
//!
//! Most numbers are small, so that most input is valid; the others are near the
//! limits of arithmetic.

pub mod rule;

use std::mem::MaybeUninit;

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};

/// Any number, usually a small one.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub i64);

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let near: i64 = bytes.arbitrary::<i8>()?.into();
        Ok(Number(match bytes.arbitrary::<u8>()? {
            0..192 => near & 31,
            192..224 => near & 127,
            224..236 => bytes.arbitrary::<u16>()?.into(),
            236..242 => i64::from(i32::MAX) + near,
            242..245 => i64::from(u32::MAX) + near,
            245..248 => i64::MAX - (near & 127),
            248..251 => i64::MIN + (near & 127),
            251..253 => near,
            _ => bytes.arbitrary()?,
        }))
    }
}

/// Any length, usually a short one and rarely negative.
#[derive(Clone, Copy, Debug)]
pub struct Length(pub i32);

impl<'a> Arbitrary<'a> for Length {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let near: i32 = bytes.arbitrary::<i8>()?.into();
        Ok(Length(match bytes.arbitrary::<u8>()? {
            0..160 => near & 15,
            160..240 => near & 127,
            240..248 => bytes.arbitrary::<u16>()?.into(),
            248..253 => i32::MAX - (near & 127),
            253 => near,
            _ => bytes.arbitrary()?,
        }))
    }
}

/// The lengths as integers.
pub fn plain(lengths: &[Length]) -> Vec<i32> {
    lengths.iter().map(|length| length.0).collect()
}

/// Has `fill` write `size` elements. They are initialized to `untouched`, so an element that is not
/// written has a wrong value instead of an undefined one.
pub fn filled<T: Copy, R>(
    size: usize,
    untouched: T,
    fill: impl FnOnce(&mut [MaybeUninit<T>]) -> windrow_core::Result<R>,
) -> windrow_core::Result<(Vec<T>, R)> {
    let mut slots = vec![MaybeUninit::new(untouched); size];
    let result = fill(&mut slots)?;
    // SAFETY: every element was initialized above.
    Ok((slots.into_iter().map(|slot| unsafe { slot.assume_init() }).collect(), result))
}
