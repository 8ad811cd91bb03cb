//! The rules of `peers.md`, held against the peer monitor through its one door, in a simulated network
//! on a held clock.

mod blame;
mod budget;
mod detection;
mod histories;
mod pacing;
mod silence;
