//! The fuzz target for what the mates of a pair say to each other: see `pair_doors.rs`.

#![no_main]

mod pair_doors;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

thread_local! {
    static DOORS: RefCell<pair_doors::Doors> = RefCell::new(pair_doors::Doors::new());
}

fuzz_target!(|input: &[u8]| {
    DOORS.with_borrow_mut(|doors| doors.feed(input));
});
