//! Our own SNMP engine: its identity, and how often it was started (RFC 3414, 2.2; TRAP-4).
//!
//! snmpEngineBoots grows by one with each run, and is on the disk before the first message of the run
//! can leave, as this is part of the transaction that begins the run. Two runs can therefore never
//! send the same boots and time, which is what receivers tell a replay by.
//!
//! Each identity that the engine has ever had keeps its own count: whoever configures another one and
//! then the old one again goes on where that had ended.

use evenkeel_core::{time::WallTime, usm::EngineId};
use rusqlite::{Connection, OptionalExtension};

use super::schema;

/// Where snmpEngineBoots stops for good (RFC 3414, 2.2.2).
pub const MOST_BOOTS: u32 = 2_147_483_647;

/// What an identity made by chance begins with (RFC 3411, section 5): the first bit set, the
/// enterprise, and 5 for octets that the enterprise administers. The enterprise is net-snmp's, whose
/// playpen our object identifiers are in too, as none is registered for evenkeel. Its own agents have
/// 128 in the fifth octet, or 1 to 4, so that no identity of theirs is like ours; and among ours, the
/// twelve octets that follow are different by chance.
const PREFIX: &str = "0x80001f8805";

/// Starts the engine once more: the `configured` one, or else the one that was made by chance at the
/// first start. Gives back its identity and boots.
pub fn start(
    connection: &Connection,
    configured: Option<&EngineId>,
    wall: WallTime,
) -> rusqlite::Result<(EngineId, u32)> {
    let (id, generated) = match configured {
        Some(id) => (id.clone(), false),
        None => (generated(connection)?, true),
    };
    let boots: Option<i64> = connection
        .query_row("SELECT boots FROM engine WHERE engine_id = ?1", [id.to_string()], |row| {
            row.get(0)
        })
        .optional()?;
    // A number that is out of range has come to its end: a lower one might have been used.
    let boots = match boots {
        None => 1,
        Some(boots) => u32::try_from(boots).map_or(MOST_BOOTS, |n| n.saturating_add(1)),
    }
    .min(MOST_BOOTS);
    connection.execute(
        "INSERT INTO engine (engine_id, boots, generated, started) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (engine_id) DO UPDATE SET boots = excluded.boots, started = excluded.started",
        (id.to_string(), boots, generated, schema::rfc3339(wall)),
    )?;
    Ok((id, boots))
}

/// The identity that was made by chance, made now if there is none.
fn generated(connection: &Connection) -> rusqlite::Result<EngineId> {
    let kept = connection
        .query_row("SELECT engine_id FROM engine WHERE generated = 1", [], |row| {
            schema::read_engine_id(row)
        })
        .optional()?;
    match kept {
        Some(id) => Ok(id),
        None => connection.query_row(
            "SELECT ?1 || lower(hex(randomblob(12)))",
            [PREFIX],
            schema::read_engine_id,
        ),
    }
}
