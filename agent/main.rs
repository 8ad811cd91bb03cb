//! The evenkeel daemon and its command line.

mod clock;
mod config;
mod ear;
mod host;
mod notifier;
mod pinger;
mod store;

fn main() {}
