//! The rules of evenkeel, without I/O.
//!
//! Nothing here opens a socket, reads a clock or waits: the driver hands in what happened and when
//! ([`input::Input`]), and takes out what follows from it ([`input::Event`], [`input::Echo`], the
//! next deadline). Time can therefore be simulated, states copied, and inputs replayed.

pub mod access;
pub mod agent;
pub mod alarm;
pub mod alarms;
pub mod ber;
pub mod ber_writer;
pub mod convert;
pub mod copies;
pub mod counters;
pub mod discovery;
pub mod finding;
pub mod flow;
pub mod forwarding;
pub mod glob;
pub mod groups;
pub mod identities;
pub mod input;
pub mod instability;
pub mod join;
pub mod limits;
pub mod links;
pub mod message;
pub mod mib;
pub mod notification;
pub mod objects;
pub mod origin;
pub mod overload;
pub mod pair;
pub mod peers;
pub mod plan;
pub mod probe;
pub mod repeats;
pub mod sender;
pub mod settings;
pub mod shadow;
pub mod stability;
pub mod standby;
pub mod state;
pub mod subnets;
pub mod supervision;
pub mod targets;
pub mod text;
pub mod time;
pub mod trap;
pub mod usm;
