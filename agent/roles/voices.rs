//! The parts that run while this agent of a pair is primary: what it says to notification targets, and
//! whom it asks.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    hub::Hub,
    outbox::Outspool,
    peers::Raised,
    replica::{ReplicaHandle, Replicated},
    spool::Spool,
    store::Store,
};

/// The way to them.
pub struct Voices {
    /// The notifier and the peer monitor.
    pub hub: Arc<Hub>,
    /// The journal.
    pub store: Arc<Store>,
    /// The spool.
    pub spool: Arc<Spool>,
    /// How far each target is in the spool.
    pub outspool: Arc<Outspool>,
    /// How far the mate is.
    pub replica: ReplicaHandle,
}

impl Voices {
    /// The end of the journal as far as it is safe. Who was never told anything begins there: it is asked for
    /// before this agent writes down what it has found while nobody led.
    pub fn end_of_journal(&self) -> u64 {
        safe(*self.store.committed().borrow(), &self.replica.replicated().borrow())
    }

    /// Starts them, from where the mate left off. `raised` are the active alarms of peers, and `end` is where
    /// those begin that were never told anything.
    pub async fn lead(&self, raised: Raised, end: u64) {
        // The cursors of an earlier time as primary: the mate has gone on since.
        self.outspool.forget();
        let (mut names, acknowledging) = self.hub.notifier().names();
        names.extend(self.hub.receivers().names());
        self.store.keep_targets(names);
        self.outspool.keep_targets(&acknowledging);
        let committed = both(self.store.committed(), self.replica.replicated());
        self.hub.notifier().lead(committed.clone(), self.spool.safe(), end);
        self.hub.receivers().lead(committed, end);
        self.hub.peer_monitor().lead(raised).await;
    }

    /// Ends them.
    pub async fn follow(&self) {
        self.hub.notifier().follow();
        self.hub.receivers().follow();
        self.hub.peer_monitor().follow().await;
    }
}

fn safe(committed: u64, replicated: &Replicated) -> u64 {
    committed.min(replicated.seq)
}

/// The last row of the journal that is safe where it must be: on this disk, and on the mate's if that is
/// waited for (PAIR-13). It never goes back: what was safe once may have been told.
fn both(
    mut committed: watch::Receiver<u64>,
    mut replicated: watch::Receiver<Replicated>,
) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(safe(*committed.borrow(), &replicated.borrow()));
    tokio::spawn(async move {
        loop {
            let now = safe(*committed.borrow_and_update(), &replicated.borrow_and_update());
            sender.send_if_modified(|before| {
                let further = now > *before;
                *before = now.max(*before);
                further
            });
            tokio::select! {
                Ok(()) = committed.changed() => {}
                Ok(()) = replicated.changed() => {}
                () = sender.closed() => return,
                else => return,
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pair_13_what_is_told_is_on_both_disks_and_never_goes_back() {
        let (committed, on_disk) = watch::channel(5);
        let (mate, on_mates) = watch::channel(Replicated { seq: 3, number: 0 });
        let mut safe = both(on_disk, on_mates);
        assert_eq!(*safe.borrow_and_update(), 3);
        mate.send_replace(Replicated { seq: 4, number: 0 });
        safe.changed().await.unwrap();
        assert_eq!(*safe.borrow_and_update(), 4);
        mate.send_replace(Replicated::NO_MATTER);
        safe.changed().await.unwrap();
        assert_eq!(*safe.borrow_and_update(), 5);
        // A mate that comes, and has little yet.
        mate.send_replace(Replicated { seq: 2, number: 0 });
        committed.send_replace(6);
        mate.send_replace(Replicated { seq: 6, number: 0 });
        safe.changed().await.unwrap();
        assert_eq!(*safe.borrow_and_update(), 6);
    }
}
