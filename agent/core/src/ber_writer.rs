//! Writes ASN.1 values in BER (ITU-T X.690), as far as an SNMP message needs them.
//!
//! Only definite lengths and the shortest encodings are written (RFC 3417, section 8, asks for
//! definite lengths; the shortest form is what every receiver takes).

use std::fmt;

use crate::ber::tag;

/// The most sub-identifiers that an OID may have (RFC 2578, 3.5).
pub const MAX_ARCS: usize = 128;

/// Numbers that are not an object identifier: fewer than two or more than 128 of them, a first
/// above 2, or a second above 39 under a first of 0 or 1 (X.690, 8.19.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOid;

impl fmt::Display for BadOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an object identifier")
    }
}

impl std::error::Error for BadOid {}

/// A buffer that values are appended to.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty buffer with room for so many octets.
    pub fn with_capacity(octets: usize) -> Writer {
        Writer { bytes: Vec::with_capacity(octets) }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// An INTEGER, in two's complement of as few octets as hold it (X.690, 8.3).
    pub fn integer(&mut self, value: i64) {
        self.signed(tag::INTEGER, value);
    }

    /// An unsigned number with this tag, [`tag::GAUGE32`] or [`tag::TIME_TICKS`]. It is two's complement
    /// on the wire too, so 2^31 takes five octets.
    pub fn unsigned(&mut self, tag: u8, value: u32) {
        self.signed(tag, i64::from(value));
    }

    /// An OCTET STRING.
    pub fn octets(&mut self, value: &[u8]) {
        self.element(tag::OCTET_STRING, value);
    }

    /// A value with this tag whose content is encoded already.
    pub fn element(&mut self, tag: u8, content: &[u8]) {
        self.head(tag, content.len());
        self.bytes.extend_from_slice(content);
    }

    /// The tag and the length of a value whose content, of so many octets, is written next.
    pub fn head(&mut self, tag: u8, length: usize) {
        self.bytes.push(tag);
        self.length(length);
    }

    /// Whole elements that are encoded already.
    pub fn encoded(&mut self, elements: &[u8]) {
        self.bytes.extend_from_slice(elements);
    }

    /// An OBJECT IDENTIFIER (X.690, 8.19).
    ///
    /// # Errors
    ///
    /// [`BadOid`] if the numbers are none; nothing is written then.
    pub fn oid(&mut self, arcs: &[u32]) -> Result<(), BadOid> {
        let value = oid_value(arcs)?;
        self.element(tag::OID, &value);
        Ok(())
    }

    /// A constructed value with this tag, around what `content` writes.
    pub fn nested(&mut self, tag: u8, content: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::new();
        content(&mut inner);
        self.element(tag, &inner.bytes);
    }

    fn signed(&mut self, tag: u8, value: i64) {
        let octets = value.to_be_bytes();
        // A leading octet can go as long as the next one still has its sign.
        let skip = octets
            .windows(2)
            .take_while(|pair| {
                (pair[0] == 0x00 && pair[1] < 0x80) || (pair[0] == 0xff && pair[1] >= 0x80)
            })
            .count();
        self.element(tag, &octets[skip..]);
    }

    /// The length octets: one up to 127, else their number and the octets (X.690, 8.1.3).
    fn length(&mut self, length: usize) {
        let octets = length.to_be_bytes();
        let skip = octets.iter().take_while(|octet| **octet == 0).count();
        match &octets[skip..] {
            [] => self.bytes.push(0),
            [octet] if *octet < 0x80 => self.bytes.push(*octet),
            long => {
                // At most eight octets, so the cast loses nothing.
                self.bytes.push(0x80 | long.len() as u8);
                self.bytes.extend_from_slice(long);
            }
        }
    }
}

/// The content octets of an object identifier.
///
/// # Errors
///
/// [`BadOid`] if the numbers are none.
pub fn oid_value(arcs: &[u32]) -> Result<Vec<u8>, BadOid> {
    let [first, second, rest @ ..] = arcs else { return Err(BadOid) };
    if *first > 2 || (*first < 2 && *second > 39) || arcs.len() > MAX_ARCS {
        return Err(BadOid);
    }
    let mut value = Vec::with_capacity(arcs.len() * 2);
    base128(&mut value, u64::from(*first) * 40 + u64::from(*second));
    for arc in rest {
        base128(&mut value, u64::from(*arc));
    }
    Ok(value)
}

/// Appends a sub-identifier (X.690, 8.19.2).
pub fn base128(value: &mut Vec<u8>, arc: u64) {
    let septets = (64 - arc.leading_zeros()).div_ceil(7).max(1);
    for place in (0..septets).rev() {
        let more = if place > 0 { 0x80 } else { 0 };
        value.push((arc >> (place * 7)) as u8 & 0x7f | more);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use snmp_parser::asn1_rs::{FromBer, Integer, Oid};

    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new();
        write(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn integers_take_as_few_octets_as_hold_them() {
        for (value, bytes) in [
            (0, &[0x02, 1, 0x00][..]),
            (1, &[0x02, 1, 0x01]),
            (127, &[0x02, 1, 0x7f]),
            (128, &[0x02, 2, 0x00, 0x80]),
            (255, &[0x02, 2, 0x00, 0xff]),
            (256, &[0x02, 2, 0x01, 0x00]),
            (-1, &[0x02, 1, 0xff]),
            (-128, &[0x02, 1, 0x80]),
            (-129, &[0x02, 2, 0xff, 0x7f]),
            (i64::from(i32::MAX), &[0x02, 4, 0x7f, 0xff, 0xff, 0xff]),
            (i64::from(i32::MIN), &[0x02, 4, 0x80, 0x00, 0x00, 0x00]),
            (i64::MIN, &[0x02, 8, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(written(|w| w.integer(value)), bytes, "{value}");
        }
    }

    #[test]
    fn an_unsigned_number_never_reads_as_a_negative_one() {
        for (value, bytes) in [
            (0, &[0x43, 1, 0x00][..]),
            (0x7f, &[0x43, 1, 0x7f]),
            (0x80, &[0x43, 2, 0x00, 0x80]),
            (0x7fff_ffff, &[0x43, 4, 0x7f, 0xff, 0xff, 0xff]),
            (0x8000_0000, &[0x43, 5, 0x00, 0x80, 0x00, 0x00, 0x00]),
            (u32::MAX, &[0x43, 5, 0x00, 0xff, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(written(|w| w.unsigned(tag::TIME_TICKS, value)), bytes, "{value}");
        }
    }

    #[test]
    fn object_identifiers() {
        for (arcs, bytes) in [
            (&[1, 3][..], &[0x06, 1, 0x2b][..]),
            // sysUpTime.0, as RFC 1157 and every packet capture have it.
            (&[1, 3, 6, 1, 2, 1, 1, 3, 0], &[0x06, 8, 0x2b, 6, 1, 2, 1, 1, 3, 0]),
            // The example of X.690, 8.19.5.
            (&[2, 999, 3], &[0x06, 3, 0x88, 0x37, 0x03]),
            (&[1, 3, 127, 128], &[0x06, 4, 0x2b, 0x7f, 0x81, 0x00]),
            (&[1, 39, 8072], &[0x06, 3, 0x4f, 0xbf, 0x08]),
            (&[1, 3, u32::MAX], &[0x06, 6, 0x2b, 0x8f, 0xff, 0xff, 0xff, 0x7f]),
            (&[2, u32::MAX], &[0x06, 5, 0x90, 0x80, 0x80, 0x80, 0x4f]),
        ] {
            assert_eq!(written(|w| w.oid(arcs).unwrap()), bytes, "{arcs:?}");
        }
        for arcs in [&[][..], &[1], &[3, 1], &[0, 40], &[1, 40], &[1; 129]] {
            assert_eq!(Writer::new().oid(arcs), Err(BadOid), "{arcs:?}");
        }
    }

    #[test]
    fn lengths_take_the_short_form_while_it_lasts() {
        for (length, head) in [
            (0, &[0x04, 0x00][..]),
            (127, &[0x04, 0x7f]),
            (128, &[0x04, 0x81, 0x80]),
            (255, &[0x04, 0x81, 0xff]),
            (256, &[0x04, 0x82, 0x01, 0x00]),
            (65_536, &[0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let bytes = written(|w| w.octets(&vec![7; length]));
            assert_eq!(&bytes[..head.len()], head, "{length}");
            assert_eq!(bytes.len(), head.len() + length);
        }
        assert_eq!(
            written(|w| w.nested(tag::SEQUENCE, |w| {
                w.integer(5);
                w.nested(tag::TRAP_V2, |_| ());
            })),
            [0x30, 5, 0x02, 1, 5, 0xa7, 0]
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(value: i64, ticks: u32) {
            let bytes = written(|w| w.integer(value));
            let (rest, read) = Integer::from_ber(&bytes).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(read.as_i64().unwrap(), value);

            let mut bytes = written(|w| w.unsigned(tag::GAUGE32, ticks));
            bytes[0] = tag::INTEGER;
            prop_assert_eq!(Integer::from_ber(&bytes).unwrap().1.as_u32().unwrap(), ticks);
        }

        #[test]
        fn an_object_identifier_is_read_as_the_same(
            first in 0u32..2, second in 0u32..40, rest in prop::collection::vec(any::<u32>(), 0..126),
        ) {
            // snmp-parser reads 0.0 as one arc.
            prop_assume!((first, second) != (0, 0));
            let arcs: Vec<u32> = [first, second].into_iter().chain(rest).collect();
            let bytes = written(|w| w.oid(&arcs).unwrap());
            let read: Vec<u64> = Oid::from_ber(&bytes).unwrap().1.iter().unwrap().collect();
            prop_assert_eq!(read, arcs.iter().map(|arc| u64::from(*arc)).collect::<Vec<_>>());
        }
    }
}
