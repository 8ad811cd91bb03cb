//! What the tests share: traps in octets, an agent on a simulated clock, and timelines as text.

pub mod ber;
pub mod chance;
pub mod ip_lab;
pub mod peer_world;
pub mod sim;
pub mod timeline;
