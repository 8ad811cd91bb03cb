//! What the supervisor finds as the alarm `component_stalled`.

use evenkeel_core::{
    alarm::{ClearReason, Kind, Object},
    finding::Finding,
    supervision::Part,
    time::Time,
};

/// A part has stalled; `detail` says how that was found.
pub fn raise(part: Part, detail: String, at: Time) -> Finding {
    Finding::raise(Kind::ComponentStalled, object(part), detail, at)
}

/// A part gives signs of life again.
pub fn clear(part: Part, at: Time) -> Finding {
    Finding::clear(Kind::ComponentStalled, object(part), ClearReason::Ended, at)
}

fn object(part: Part) -> Object {
    Object::Component(part.name().to_owned())
}
