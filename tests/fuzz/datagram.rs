//! The fuzz target for everything that reads a datagram: see `doors.rs`.

#![no_main]

mod doors;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static DOORS: RefCell<doors::Doors> = RefCell::new(doors::Doors::new());
}

fuzz_target!(|input: &[u8]| {
    DOORS.with_borrow_mut(|doors| doors.feed(input));
});
