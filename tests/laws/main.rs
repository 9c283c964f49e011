//! All tests of the core in one binary, which compiles and links once. Those of memory count every
//! allocation, so they have a process of their own.

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
