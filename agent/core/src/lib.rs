//! The rules of evenkeel, without I/O.
//!
//! Nothing here opens a socket, reads a clock or waits: the driver hands in what happened and when
//! ([`input::Input`]), and takes out what follows from it ([`input::Event`], [`input::Echo`], the
//! next deadline). Time can therefore be simulated, states copied, and inputs replayed.

pub mod alarm;
pub mod ber;
pub mod ber_writer;
pub mod settings;
pub mod state;
pub mod text;
pub mod time;
pub mod trap;
