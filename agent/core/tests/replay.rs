//! A replay gives what happened: the same inputs, kept as a recording keeps them, give the same
//! events and echoes, whatever seed the tables of the other agent have.

use proptest::{collection::vec, prelude::*};

use crate::common::{
    chance::{World, op},
    sim::cases,
};

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_recording_gives_the_same_events_and_echoes_with_any_seed(
        ops in vec(op(), 0..250),
        seed in any::<u64>(),
    ) {
        let mut live = World::new(1);
        ops.iter().for_each(|op| live.act(op));
        let mut replayed = World::new(seed);
        replayed.replay(&live.frames, seed);
        prop_assert_eq!(&replayed.events, &live.events);
        prop_assert_eq!(&replayed.echoes, &live.echoes);
        prop_assert_eq!(replayed.agent.counters(), live.agent.counters());
        let now = live.now();
        prop_assert_eq!(replayed.agent.export(now), live.agent.export(now));
        prop_assert_eq!(replayed.agent.next_deadline(), live.agent.next_deadline());
    }

    /// A state that is kept is the state that is put back.
    #[test]
    fn a_state_survives_being_written_and_read(ops in vec(op(), 0..100)) {
        let mut world = World::new(1);
        ops.iter().for_each(|op| world.act(op));
        let state = world.agent.export(world.now());
        let bytes = postcard::to_allocvec(&state).unwrap();
        prop_assert_eq!(postcard::from_bytes::<evenkeel_core::state::State>(&bytes).unwrap(), state);
    }
}
