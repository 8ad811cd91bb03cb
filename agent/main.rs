//! The evenkeel daemon and its command line.

mod clock;
mod config;
mod ear;
mod store;

fn main() {}
