//! The spool for people: its entries as lines of JSON.

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use evenkeel_core::{ber::tag, text::printable, trap::varbinds};
use serde::Serialize;

use super::{
    entry::Body,
    recovery::place,
    segment::{self, Found, SegmentReader},
};
use crate::{store::rfc3339, trap_view::oid};

/// snmpTrapOID.0 (RFC 3418).
const SNMP_TRAP_OID: &[u8] = &[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0];

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    /// When it was received, RFC 3339 in UTC.
    at: String,
    source: SocketAddr,
    system: IpAddr,
    form: &'static str,
    inform: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    trap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<u32>,
    /// The security name of SNMPv3. A community is a password and is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// How many octets its varbinds have.
    varbind_octets: usize,
    targets: &'a [&'a str],
}

/// Prints the entries of the spool in `dir` from the number `from` on, the oldest first, one line of
/// JSON each. The agent may run meanwhile.
///
/// # Errors
///
/// The spool can't be read, or `out` can't be written.
pub fn dump(dir: &Path, from: u64, out: &mut impl Write) -> io::Result<()> {
    let segments = segment::list(dir)?;
    for &first in segments.get(place(&segments, from)..).unwrap_or_default() {
        let mut reader = match SegmentReader::open(dir, first) {
            Ok(Some(reader)) => reader,
            Ok(None) => continue,
            // Deleted since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        while let Found::Entry(number) = reader.next()? {
            if number < from {
                continue;
            }
            let Some(body) = Body::read(reader.body()) else { continue };
            serde_json::to_writer(&mut *out, &line(number, &body))?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

fn line<'a>(number: u64, body: &'a Body<'a>) -> Line<'a> {
    let taken = body.taken(number);
    let is_v3 = matches!(taken.form.name(), "v3_trap" | "v3_inform");
    Line {
        number,
        at: rfc3339(taken.wall),
        source: taken.source,
        system: taken.system.0,
        form: taken.form.name(),
        inform: taken.form.is_inform(),
        trap: trap_oid(&taken.varbinds),
        request_id: taken.request_id,
        user: is_v3.then(|| printable(&taken.community)),
        varbind_octets: taken.varbinds.len(),
        targets: &body.targets,
    }
}

/// The value of snmpTrapOID.0, in dots.
fn trap_oid(list: &[u8]) -> Option<String> {
    let (_, _, value) =
        varbinds(list).find(|(name, kind, _)| *name == SNMP_TRAP_OID && *kind == tag::OID)?;
    Some(oid(value))
}
