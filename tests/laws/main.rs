//! All tests of the core in one binary, which compiles and links once, except the memory tests: they
//! count every allocation, so they run in a separate process.

mod batch;
mod bucket;
mod collate;
mod order;
mod pack;
mod plan;
mod plan_trees;
mod prefix;
mod ragged;
mod seeds;
mod shard;
