//! The rules of `pair.md`, held against two agents through their one door, between them a network that
//! loses, delays and cuts, on clocks that are held.

mod failover;
mod links;
mod model;
mod operator;
mod seeds;
mod world;
