//! snmpEngineID (RFC 3411, section 5): the identity of an SNMP engine, 5 to 32 octets.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The identity of an SNMP engine. Printed in hexadecimal, as `0x80001f8804`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EngineId(SmallVec<[u8; 32]>);

/// Octets or a text that are no snmpEngineID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEngineId;

impl fmt::Display for BadEngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an engine ID has 5 to 32 octets, neither all 00 nor all ff, in hexadecimal")
    }
}

impl std::error::Error for BadEngineId {}

impl EngineId {
    /// An identity of these octets.
    ///
    /// # Errors
    ///
    /// They are fewer than 5 or more than 32, or all 00 or all ff (RFC 3411, section 5).
    pub fn new(octets: &[u8]) -> Result<EngineId, BadEngineId> {
        let constant = |value: u8| octets.iter().all(|&octet| octet == value);
        match octets.len() {
            5..=32 if !constant(0) && !constant(0xff) => Ok(EngineId(SmallVec::from_slice(octets))),
            _ => Err(BadEngineId),
        }
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<EngineId> for String {
    fn from(id: EngineId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for EngineId {
    type Error = BadEngineId;

    fn try_from(text: String) -> Result<EngineId, BadEngineId> {
        text.parse()
    }
}

impl FromStr for EngineId {
    type Err = BadEngineId;

    /// Takes hexadecimal digits, with or without `0x` before them and colons, spaces or hyphens
    /// between the octets, as devices print it.
    fn from_str(text: &str) -> Result<EngineId, BadEngineId> {
        let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text);
        let digits: Vec<u8> =
            digits.bytes().filter(|digit| !matches!(digit, b':' | b' ' | b'-')).collect();
        if !digits.len().is_multiple_of(2) {
            return Err(BadEngineId);
        }
        let octets: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| {
                let value = |digit: u8| char::from(digit).to_digit(16);
                // Two hexadecimal digits are an octet.
                Some((value(pair[0])? << 4 | value(pair[1])?) as u8)
            })
            .collect();
        EngineId::new(&octets.ok_or(BadEngineId)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_id_reads_as_devices_print_it() {
        let id = EngineId::new(&[0x80, 0, 0x1f, 0x88, 4, 0x61]).unwrap();
        for text in ["0x80001f880461", "80001F880461", "80:00:1f:88:04:61", "80 00 1F 88 04 61"] {
            assert_eq!(text.parse(), Ok(id.clone()), "{text}");
        }
        assert_eq!(id.to_string(), "0x80001f880461");
        for text in ["", "0x", "80001f88", "80001f8804a", "8000zz8804", "0000000000", "ffffffffff"]
        {
            assert_eq!(text.parse::<EngineId>(), Err(BadEngineId), "{text}");
        }
        assert_eq!(EngineId::new(&[1; 33]), Err(BadEngineId));
    }
}
