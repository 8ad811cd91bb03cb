//! Replaying what was recorded or captured: traps that really came, in the order and at the
//! distances in which they came.

pub mod command;
mod frame;
pub mod pcap;
