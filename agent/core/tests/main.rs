//! The rules, held against the whole core through its one door: inputs in, events out, on a
//! simulated clock.

mod common;
mod decoder;
mod forwarding;
mod intake;
mod join;
mod links;
mod pair;
mod peers;
mod peers_monitor;
mod peers_standings;
mod properties;
mod replay;
mod roles;
mod sender;
mod standby;
mod subnets;
mod supervision;
mod timelines;
mod usm;
