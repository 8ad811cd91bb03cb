//! The peer monitor's shell: what lets [`Monitor`](evenkeel_core::peers::Monitor) reach its peers,
//! what tells it who they are, and what is shown of it.

pub mod file_sd;
