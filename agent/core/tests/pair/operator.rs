//! What an operator orders (PAIR-7), and the limit that only an operator overrides (PAIR-6).

use evenkeel_core::{
    pair::{
        Input, Kept, Order, Role,
        message::TakeoverSaid,
        settings::{Limit, Settings},
        term::{Slot, Term},
    },
    time::Time,
};

use super::world::{World, ms, s, shipped};

#[test]
fn pair_7_failover_on_either_agent() {
    for host in 0..2 {
        let mut world = World::settled(&shipped());
        world.order(host, Order::Failover);
        let took = world.until_speaks(1);
        assert!(took <= s(1), "PAIR-15: {took:?}");
        world.run(ms(10));
        assert!(world.has(&format!("{host} done: Failover")), "{}", world.timeline());
        assert_eq!(world.roles(), [Some(Role::Standby), Some(Role::Primary)]);
        assert!(world.takeovers.is_empty(), "PAIR-6: it does not count");
        assert_eq!(world.both_spoke, ms(0));
    }
}

#[test]
fn pair_7_failover_is_refused_with_its_reason() {
    let silent = "the mate is not heard";
    let no_copy = "the standby does not have all of the state yet";
    let held = "the pair is held; `evenkeel pair release` ends that";
    let unfit = "a part of the standby fails, or it is about to stop";
    let mut world = World::settled(&shipped());
    world.tell(1, |at| Input::Parts { failing: true, at });
    world.run(ms(10));
    for host in 0..2 {
        world.order(host, Order::Failover);
        assert!(world.has(&format!("{host} refused: {unfit}")), "{}", world.timeline());
    }
    world.tell(1, |at| Input::Parts { failing: false, at });
    world.order(1, Order::Hold);
    world.run(ms(10));
    for host in 0..2 {
        world.order(host, Order::Failover);
        assert!(world.has(&format!("{host} refused: {held}")), "{}", world.timeline());
    }
    world.order(0, Order::Release);
    world.crash(1);
    world.run(s(5));
    world.order(0, Order::Failover);
    assert!(world.has(&format!("0 refused: {silent}")), "{}", world.timeline());
    world.hosts[1].copy = None;
    world.start(1);
    world.run(s(5));
    for host in 0..2 {
        world.order(host, Order::Failover);
        assert!(world.has(&format!("{host} refused: {no_copy}")), "{}", world.timeline());
    }
    assert!(world.speaks(0));
}

#[test]
fn pair_7_held_nobody_takes_over_until_it_is_released() {
    for (told, released) in [(0, 1), (1, 0)] {
        let mut world = World::settled(&shipped());
        world.order(told, Order::Hold);
        world.run(ms(10));
        assert!(world.pair(0).is_held() && world.pair(1).is_held(), "on either agent");
        world.stop(0);
        world.run(s(100));
        assert_eq!(world.roles()[1], Some(Role::Standby));
        // It is back, and goes on.
        world.start(0);
        world.run(s(5));
        assert!(world.speaks(0));
        world.order(released, Order::Release);
        world.run(s(1));
        world.crash(0);
        assert!(world.until_speaks(1) <= s(4));
    }
}

#[test]
fn pair_7_hold_outlives_a_restart_of_both() {
    let mut world = World::settled(&shipped());
    world.order(1, Order::Hold);
    world.run(s(1));
    world.crash(0);
    world.crash(1);
    world.start(1);
    world.run(s(30));
    assert_eq!(world.roles()[1], Some(Role::Undecided), "it was not the primary");
    world.start(0);
    world.run(s(5));
    assert!(world.speaks(0));
}

#[test]
fn pair_7_counters_are_reset_on_both() {
    let mut world = World::settled(&shipped());
    world.failover(0);
    world.run(s(1));
    assert_eq!(world.pair(0).record().count, 1);
    world.order(0, Order::ResetCounters);
    world.run(s(1));
    for host in 0..2 {
        let record = world.pair(host).record();
        assert_eq!(record.count, 0);
        assert!(record.last.is_some(), "what was last is still known");
    }
}

/// Lets the primary crash, and come back as standby.
fn crash_the_primary(world: &mut World) {
    let primary = usize::from(world.roles()[1] == Some(Role::Primary));
    world.crash(primary);
    world.run(s(10));
    world.start(primary);
    world.run(s(50));
}

#[test]
fn pair_6_the_fourth_takeover_in_an_hour_is_suppressed_until_the_window_ends() {
    let limit = "a takeover is suppressed, as there were too many";
    let mut world = World::settled(&shipped());
    let begin = world.now;
    for _ in 0..3 {
        crash_the_primary(&mut world);
    }
    assert_eq!(world.takeovers.len(), 3);
    assert!(world.speaks(1));
    let first: Time = world.takeovers[0].0;
    assert!(first.since(begin) < s(4));
    // A primary that comes back goes on, as its standby may not.
    world.crash(1);
    world.run(s(1));
    world.start(1);
    world.run(s(20));
    assert!(world.speaks(1), "{}", world.timeline());
    // One that does not leaves nobody.
    world.crash(1);
    world.run(s(10));
    assert_eq!(world.roles()[0], Some(Role::Standby));
    assert!(world.has(&format!("0 raise {limit}")), "{}", world.timeline());
    let rest = s(3600) - world.now.since(first);
    world.run(rest - ms(20));
    assert_eq!(world.roles()[0], Some(Role::Standby));
    world.run(ms(100));
    assert!(world.speaks(0), "the first has left the window");
    assert!(world.has(&format!("0 clear {limit}")));
}

#[test]
fn pair_6_who_was_primary_goes_on_whatever_the_limit_as_that_is_no_takeover() {
    let takeover = |number| TakeoverSaid { term: Term { number, by: Slot::One }, age: s(60) };
    let mut world = World::new(&Settings { limit: Some(Limit::DEFAULT), ..shipped() }, 1);
    // Both were primary in the last term, and each has stepped back for the other.
    for (host, by) in [(0, Slot::One), (1, Slot::Zero)] {
        let known = Some(Term { number: 9, by });
        let takeovers = [2, 4, 6].map(takeover).to_vec();
        world.hosts[host].disk = Kept { known, takeovers, ..Kept::default() };
        world.start(host);
    }
    world.run(s(5));
    assert!(world.speaks(0), "{}", world.timeline());
    assert_eq!(world.pair(0).takeovers_within(world.now), Some(3));
    assert!(world.takeovers.is_empty());
    // The next one would be a takeover.
    world.crash(0);
    world.run(s(60));
    assert!(!world.speaks(1));
}

#[test]
fn pair_6_an_operator_is_not_limited() {
    let mut world = World::settled(&shipped());
    for _ in 0..3 {
        crash_the_primary(&mut world);
    }
    world.crash(1);
    world.run(s(10));
    assert!(!world.speaks(0));
    world.order(0, Order::Failover);
    world.run(ms(50));
    assert!(world.speaks(0), "{}", world.timeline());
    assert_eq!(world.takeovers.len(), 3, "nor counted");
}

#[test]
fn pair_6_the_limit_outlives_restarts_and_can_be_turned_off() {
    let mut world = World::settled(&shipped());
    for _ in 0..3 {
        crash_the_primary(&mut world);
    }
    for host in 0..2 {
        world.crash(host);
    }
    world.run(s(60));
    for host in 0..2 {
        world.start(host);
    }
    world.run(s(10));
    assert!(world.speaks(1), "the last primary");
    world.crash(1);
    world.run(s(30));
    assert!(!world.speaks(0));
    let mut off = shipped();
    off.limit = None;
    world.reload(0, &off);
    world.run(ms(50));
    assert!(world.speaks(0), "{}", world.timeline());
    assert!(Limit::new(3, s(3600)).is_ok());
}

#[test]
fn pair_9_who_has_no_standby_that_would_take_over_restarts_unasked() {
    let mut world = World::settled(&shipped());
    world.crash(1);
    world.run(s(5));
    world.tell(0, |at| Input::Parts { failing: true, at });
    assert!(world.has("0 restarts unasked"));
    assert!(world.speaks(0), "meanwhile it goes on");
}
