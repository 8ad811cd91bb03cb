//! The peer monitor's shell: what lets [`Monitor`](evenkeel_core::peers::Monitor) reach its peers,
//! what tells it who they are, and what is shown of it.

pub mod engine;
pub mod file_sd;
pub mod filter;
mod manager;
pub mod metrics;
pub mod series;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod view;
pub mod watch;

pub use manager::{Beginning, Peers, Raised};
