//! The acceptance tests: the real binary between real neighbours, seen from outside.
//!
//! Each file is one subject. They share one test binary, so that it is linked once and two tests
//! of different subjects can run side by side; `tests/README.md` says how to run one of them and
//! what they need.

mod cli;
mod common;
mod crash;
mod discover;
mod fuzz_seeds;
mod harness;
mod informs;
mod instability;
mod mib;
mod mobility;
mod notifications;
mod packages;
mod page;
mod pair;
mod pair_setup;
mod peers;
mod prometheus;
mod receivers;
mod replay;
mod service;
mod snmpv3;
mod standby;
mod status;
mod subnets;
mod supervision;
mod takeover;
mod takeovers;
