//! What waits in the agent and what fails, for a report.

use serde_json::{Value, json};

use crate::{spool, store};

/// The state of the parts that can be asked without waiting for them.
pub fn state(store: &store::Stats, spool: &spool::Stats) -> Value {
    json!({
        "store": {
            "transactions": store.transactions,
            "events": store.events,
            "waiting_events": store.waiting_events,
            "waiting_records": store.waiting_records,
            "failures": store.failures,
            "failing": store.failing,
            "last_error": store.last_error,
        },
        "spool": {
            "entries": spool.entries,
            "safe": spool.safe,
            "waiting_bytes": spool.waiting_bytes,
            "waiting_answers": spool.waiting_answers,
            "syncs": spool.syncs,
            "sync_last_ms": spool.sync_last.as_millis() as u64,
            "sync_max_ms": spool.sync_max.as_millis() as u64,
            "failures": spool.failures,
            "failing": spool.failing,
            "last_error": spool.last_error,
        },
    })
}
