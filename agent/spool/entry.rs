//! One entry of the spool as octets: how a trap is written, read back and told from garbage.
//!
//! ```text
//! length u32 │ crc u32 │ number u64 │ body: length octets
//!            │         └──── what the crc covers ───────┘   (and the length, as its start value)
//! ```
//!
//! All numbers are little-endian. The body is postcard, with the *names* of notification targets
//! instead of their places, as a reload changes places. The names come first, so that a reader can
//! pass over what is not for it without looking at the rest.

use std::net::SocketAddr;

use evenkeel_core::{
    alarm::System,
    input::Taken,
    time::{Time, WallTime},
    trap::Form,
};
use serde::{Deserialize, Serialize, Serializer};

/// What stands before the body.
pub const HEAD: usize = 16;

/// No body is longer: a datagram and its normalised form have 64 KiB each, and 64 names have room
/// beside them. A length above this is garbage.
pub const LONGEST: usize = 1 << 20;

/// A body, borrowed from the octets that it was read from or from the trap that it is written of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Body<'a, T = Vec<&'a str>> {
    /// The names of the durable notification targets that it goes to.
    pub targets: T,
    received: Time,
    wall: WallTime,
    source: SocketAddr,
    system: System,
    form: Form,
    request_id: Option<u32>,
    #[serde(borrow, serialize_with = "octets")]
    community: &'a [u8],
    #[serde(borrow, serialize_with = "octets")]
    varbinds: &'a [u8],
    #[serde(borrow, serialize_with = "optional_octets")]
    original: Option<&'a [u8]>,
}

impl<'a> Body<'a> {
    /// Reads a body; nothing if it is none.
    pub fn read(octets: &'a [u8]) -> Option<Body<'a>> {
        postcard::from_bytes(octets).ok()
    }

    /// The trap, as entry `number`. Places of targets mean nothing in another run and are left out.
    pub fn taken(&self, number: u64) -> Taken {
        Taken {
            number: Some(number),
            received: self.received,
            wall: self.wall,
            source: self.source,
            system: self.system,
            form: self.form,
            request_id: self.request_id,
            community: self.community.to_vec(),
            varbinds: self.varbinds.to_vec(),
            original: self.original.map(<[u8]>::to_vec),
            targets: Default::default(),
        }
    }
}

/// Whether a body is for this notification target.
pub fn is_for(body: &[u8], target: &str) -> bool {
    targets(body).contains(&target)
}

/// The notification targets of a body; none if it can't be read.
pub fn targets(body: &[u8]) -> Vec<&str> {
    postcard::take_from_bytes(body).map(|(targets, _)| targets).unwrap_or_default()
}

/// Appends `taken` as entry `number`; says whether it could, which is always so for what came in a
/// datagram.
pub fn append(out: &mut Vec<u8>, number: u64, taken: &Taken, targets: impl Serialize) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&number.to_le_bytes());
    let body = Body {
        targets,
        received: taken.received,
        wall: taken.wall,
        source: taken.source,
        system: taken.system,
        form: taken.form,
        request_id: taken.request_id,
        community: &taken.community,
        varbinds: &taken.varbinds,
        original: taken.original.as_deref(),
    };
    let written = postcard::serialize_with_flavor(&body, Appender(out)).is_ok();
    let length = out.len() - start - HEAD;
    let Some(length) = u32::try_from(length).ok().filter(|_| written && length <= LONGEST) else {
        out.truncate(start);
        return false;
    };
    let crc = checksum(length, &out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    true
}

/// The head of an entry, before its body was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many octets the body has: 1 to [`LONGEST`].
    pub length: u32,
    crc: u32,
    /// The number of the entry.
    pub number: u64,
}

impl Head {
    /// Reads a head; nothing if it can be none. Zeros, as a file is filled with, are none.
    pub fn read(octets: &[u8; HEAD]) -> Option<Head> {
        let [l0, l1, l2, l3, c0, c1, c2, c3, number @ ..] = *octets;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let possible = (1..=LONGEST).contains(&(length as usize));
        possible.then_some(Head {
            length,
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            number: u64::from_le_bytes(number),
        })
    }

    /// Whether this is the body that belongs to it.
    pub fn fits(&self, body: &[u8]) -> bool {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.length);
        hasher.update(&self.number.to_le_bytes());
        hasher.update(body);
        body.len() == self.length as usize && hasher.finalize() == self.crc
    }
}

fn checksum(length: u32, numbered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(length);
    hasher.update(numbered);
    hasher.finalize()
}

/// serde writes a slice octet by octet; this writes it at once, to the same effect.
fn octets<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(octets)
}

#[allow(clippy::ref_option, reason = "serde hands the field over like this")]
fn optional_octets<S: Serializer>(
    octets: &Option<&[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    struct Octets<'a>(&'a [u8]);
    impl Serialize for Octets<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    octets.map(Octets).serialize(serializer)
}

/// Lets postcard write to the end of a vector that is there already.
struct Appender<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, octet: u8) -> postcard::Result<()> {
        self.0.push(octet);
        Ok(())
    }

    fn try_extend(&mut self, octets: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(octets);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            number: u64,
            received: u64,
            wall: i64,
            request_id: Option<u32>,
            community: Vec<u8>,
            varbinds: Vec<u8>,
            original: Option<Vec<u8>>,
            names: Vec<String>,
            v6: bool,
            form in 0..5usize,
        ) {
            let source = if v6 { "[2001:db8::7]:162" } else { "192.0.2.7:40000" };
            let source: SocketAddr = source.parse().unwrap();
            let taken = Taken {
                number: Some(number),
                received: Time::from_nanos(received),
                wall: WallTime(wall),
                source,
                system: System(source.ip()),
                form: Form::ALL[form],
                request_id,
                community,
                varbinds,
                original,
                targets: Default::default(),
            };
            let mut out = vec![7, 7];
            prop_assert!(append(&mut out, number, &taken, &names));
            let head = Head::read(out[2..2 + HEAD].try_into().unwrap()).unwrap();
            let body = &out[2 + HEAD..];
            prop_assert!(head.fits(body));
            prop_assert_eq!(head.number, number);
            let read = Body::read(body).unwrap();
            prop_assert_eq!(read.taken(number), taken);
            prop_assert_eq!(&read.targets[..], &names[..]);
            prop_assert!(names.iter().all(|name| is_for(body, name)));
            let nobody = "nobody's name \u{0}";
            prop_assert!(!is_for(body, nobody));
        }
    }

    #[test]
    fn zeros_are_no_head() {
        assert_eq!(Head::read(&[0; HEAD]), None);
        assert_eq!(Head::read(&[0xff; HEAD]), None);
    }
}
