//! A reader of BER (ITU-T X.690) that forgives what real devices send and refuses what cannot be
//! a message (TRAP-7).
//!
//! It borrows, never copies, never recurses, and reads each octet at most once, so neither its
//! time nor its memory can be made to grow by what the octets claim.

/// The tags that SNMP uses (RFC 3416, section 3; RFC 1157, section 4.1).
pub mod tag {
    /// INTEGER.
    pub const INTEGER: u8 = 0x02;
    /// OCTET STRING.
    pub const OCTET_STRING: u8 = 0x04;
    /// OBJECT IDENTIFIER.
    pub const OID: u8 = 0x06;
    /// SEQUENCE.
    pub const SEQUENCE: u8 = 0x30;
    /// IpAddress.
    pub const IP_ADDRESS: u8 = 0x40;
    /// Counter32.
    pub const COUNTER32: u8 = 0x41;
    /// Gauge32 and Unsigned32.
    pub const GAUGE32: u8 = 0x42;
    /// TimeTicks.
    pub const TIME_TICKS: u8 = 0x43;
    /// Counter64, which SNMPv1 does not have.
    pub const COUNTER64: u8 = 0x46;
    /// GetRequest-PDU.
    pub const GET: u8 = 0xa0;
    /// Response-PDU.
    pub const RESPONSE: u8 = 0xa2;
    /// InformRequest-PDU.
    pub const INFORM: u8 = 0xa6;
    /// SNMPv2-Trap-PDU.
    pub const TRAP_V2: u8 = 0xa7;
    /// Trap-PDU of SNMPv1.
    pub const TRAP_V1: u8 = 0xa4;
    /// Report-PDU.
    pub const REPORT: u8 = 0xa8;
}

/// Why octets are not BER that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BerError {
    /// A length reaches beyond the octets that are there.
    Truncated,
    /// The indefinite form, which SNMP forbids (RFC 3417, section 8).
    IndefiniteLength,
    /// A length in more than four octets.
    LengthTooLong,
    /// A tag other than the one that belongs there.
    WrongType,
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of these octets.
    pub const fn new(octets: &'a [u8]) -> Reader<'a> {
        Reader { rest: octets }
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The tag and the content of the next element.
    ///
    /// # Errors
    ///
    /// When there is no whole element. Lengths that are longer than they need be are taken, as
    /// devices send them.
    #[inline]
    pub fn element(&mut self) -> Result<(u8, &'a [u8]), BerError> {
        let [tag, length, rest @ ..] = self.rest else { return Err(BerError::Truncated) };
        let (length, rest) = match *length {
            short @ 0..=0x7f => (usize::from(short), rest),
            0x80 => return Err(BerError::IndefiniteLength),
            long => {
                let octets = usize::from(long & 0x7f);
                if octets > 4 {
                    return Err(BerError::LengthTooLong);
                }
                let Some((length, rest)) = rest.split_at_checked(octets) else {
                    return Err(BerError::Truncated);
                };
                (length.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet)), rest)
            }
        };
        let Some((content, rest)) = rest.split_at_checked(length) else {
            return Err(BerError::Truncated);
        };
        self.rest = rest;
        Ok((*tag, content))
    }

    /// The content of the next element, which must have this tag.
    ///
    /// # Errors
    ///
    /// When there is no whole element, or its tag differs.
    #[inline]
    pub fn expect(&mut self, wanted: u8) -> Result<&'a [u8], BerError> {
        match self.element()? {
            (tag, content) if tag == wanted => Ok(content),
            _ => Err(BerError::WrongType),
        }
    }
}

/// The low 32 bits of a signed integer of any length: a request-id beyond 32 bits still tells
/// copies from others.
pub fn signed_low_32_bits(content: &[u8]) -> u32 {
    let sign = if content.first().is_some_and(|first| first & 0x80 != 0) { u32::MAX } else { 0 };
    content.iter().fold(sign, |sum, &octet| sum << 8 | u32::from(octet))
}

/// The low 32 bits of an integer of any length that is not meant to be negative.
///
/// A TimeTicks of four octets with the top bit set, or of five octets, is the uptime that the
/// device meant.
pub fn low_32_bits(content: &[u8]) -> u32 {
    content.iter().fold(0, |sum, &octet| sum << 8 | u32::from(octet))
}

/// The value of a non-negative integer below 2^32, or nothing.
pub fn unsigned(content: &[u8]) -> Option<u32> {
    let (&first, _) = content.split_first()?;
    if first & 0x80 != 0 {
        return None;
    }
    let digits = &content[content.iter().take_while(|&&octet| octet == 0).count()..];
    (digits.len() <= 4).then(|| low_32_bits(digits))
}

/// The sub-identifiers of an encoded OID after its first octet, or nothing where one is cut off,
/// padded or beyond 32 bits (X.690, 8.19.2; RFC 2578, 3.5).
pub fn sub_identifiers(mut encoded: &[u8]) -> impl Iterator<Item = Option<u32>> {
    std::iter::from_fn(move || {
        if encoded.is_empty() {
            return None;
        }
        let taken = encoded.iter().take_while(|&&octet| octet & 0x80 != 0).count();
        let (digits, rest) = match encoded.split_at_checked(taken + 1) {
            Some(split) if encoded[0] != 0x80 => split,
            _ => {
                encoded = &[];
                return Some(None);
            }
        };
        encoded = rest;
        let value = digits.iter().fold(0u64, |sum, &octet| {
            // Saturates far above 32 bits, however long the sub-identifier is.
            (sum & 0x00ff_ffff_ffff_ffff) << 7 | u64::from(octet & 0x7f)
        });
        Some(if digits.len() <= 5 { u32::try_from(value).ok() } else { None })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_devices_pad_are_taken_and_impossible_ones_refused() {
        let content = |octets: &'static [u8]| Reader::new(octets).element();
        assert_eq!(content(&[4, 1, 9]), Ok((4, &[9][..])));
        assert_eq!(content(&[4, 0x81, 1, 9]), Ok((4, &[9][..])));
        assert_eq!(content(&[4, 0x84, 0, 0, 0, 1, 9]), Ok((4, &[9][..])));
        assert_eq!(content(&[4, 0x85, 0, 0, 0, 0, 1, 9]), Err(BerError::LengthTooLong));
        assert_eq!(content(&[4, 0x80, 9, 0, 0]), Err(BerError::IndefiniteLength));
        assert_eq!(content(&[4, 2, 9]), Err(BerError::Truncated));
        assert_eq!(content(&[4, 0x84, 0xff, 0xff, 0xff, 0xff]), Err(BerError::Truncated));
        assert_eq!(content(&[4, 0x82, 1]), Err(BerError::Truncated));
        assert_eq!(content(&[4]), Err(BerError::Truncated));
        assert_eq!(content(&[]), Err(BerError::Truncated));
    }

    #[test]
    fn numbers_of_any_length_have_the_value_that_was_meant() {
        assert_eq!(low_32_bits(&[0x80, 0, 0, 1]), 0x8000_0001);
        assert_eq!(signed_low_32_bits(&[0xfb]), -5i32 as u32);
        assert_eq!(signed_low_32_bits(&[0, 0xfb]), 251);
        assert_eq!(low_32_bits(&[0, 0xff, 0xff, 0xff, 0xff]), u32::MAX);
        assert_eq!(unsigned(&[0, 0, 0, 0, 0, 7]), Some(7));
        assert_eq!(unsigned(&[0, 0xff, 0xff, 0xff, 0xff]), Some(u32::MAX));
        assert_eq!(unsigned(&[0xff]), None, "negative");
        assert_eq!(unsigned(&[1, 0, 0, 0, 0]), None, "beyond 32 bits");
        assert_eq!(unsigned(&[]), None);
    }

    #[test]
    fn sub_identifiers_that_are_cut_padded_or_too_large_are_told() {
        let read = |octets: &'static [u8]| sub_identifiers(octets).collect::<Vec<_>>();
        assert_eq!(read(&[6, 0x87, 0x68]), [Some(6), Some(1000)]);
        assert_eq!(read(&[0x8f, 0xff, 0xff, 0xff, 0x7f]), [Some(u32::MAX)]);
        assert_eq!(read(&[0x90, 0x80, 0x80, 0x80, 0x00]), [None], "2^32");
        assert_eq!(read(&[0x80, 0x01]), [None], "padded");
        assert_eq!(read(&[6, 0x87]), [Some(6), None], "cut off");
        assert_eq!(read(&[]), []);
    }
}
