//! The evenkeel daemon and its command line.

mod clock;
mod ear;
mod store;

fn main() {}
