//! All tests of the crate in one binary, which compiles and links once.

mod encoder;
mod pairs;
mod texts;
mod toy;
