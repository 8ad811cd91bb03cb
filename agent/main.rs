//! The evenkeel daemon and its command line.

fn main() {}
