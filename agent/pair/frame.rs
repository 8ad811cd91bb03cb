//! Frames of the state channel: the length of what follows the kind in four octets, most significant
//! first; the kind in one; and so many octets.
//!
//! A length is judged by its kind before any room is made for it, so that nobody can ask for more than
//! the longest frame of that kind.

/// A heartbeat takes some 400 octets, a record of the last takeover less.
pub const LONGEST_CONTROL: usize = 16 << 10;

/// So much is in the way of a control frame at most: 21 ms at 100 Mbit/s.
pub const LONGEST_BULK: usize = 256 << 10;

/// A name of 64 characters, and a few numbers.
pub const LONGEST_HELLO: usize = 1 << 10;

/// The octets before the content.
pub const HEADER: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first one of each mate: who it is.
    Hello,
    /// The second one: the keys are in place.
    Ready,
    /// Heartbeats and records.
    Control,
    /// State.
    Bulk,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// There is no such kind.
    Kind,
    /// It is longer than its kind may be.
    Length,
}

impl Kind {
    /// How long its content may be.
    pub const fn longest(self) -> usize {
        match self {
            Kind::Hello => LONGEST_HELLO,
            Kind::Ready => 0,
            Kind::Control => LONGEST_CONTROL,
            Kind::Bulk => LONGEST_BULK,
        }
    }

    const fn octet(self) -> u8 {
        match self {
            Kind::Hello => 1,
            Kind::Ready => 2,
            Kind::Control => 3,
            Kind::Bulk => 4,
        }
    }

    const fn of(octet: u8) -> Option<Kind> {
        match octet {
            1 => Some(Kind::Hello),
            2 => Some(Kind::Ready),
            3 => Some(Kind::Control),
            4 => Some(Kind::Bulk),
            _ => None,
        }
    }
}

/// The header of a frame with `length` octets of content, which must not be more than
/// [`Kind::longest`].
pub fn header(kind: Kind, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= kind.longest());
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, kind.octet()]
}

/// The kind and the length of the content that a header tells.
///
/// # Errors
///
/// It tells none that may be.
pub fn parse(header: [u8; HEADER]) -> Result<(Kind, usize), BadHeader> {
    let [a, b, c, d, kind] = header;
    let kind = Kind::of(kind).ok_or(BadHeader::Kind)?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > kind.longest() {
        return Err(BadHeader::Length);
    }
    Ok((kind, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for kind in [Kind::Hello, Kind::Ready, Kind::Control, Kind::Bulk] {
            for length in [0, kind.longest()] {
                assert_eq!(parse(header(kind, length)), Ok((kind, length)));
            }
            let [a, b, c, d] = u32::try_from(kind.longest() + 1).unwrap().to_be_bytes();
            assert_eq!(parse([a, b, c, d, kind.octet()]), Err(BadHeader::Length));
        }
        assert_eq!(parse([0; HEADER]), Err(BadHeader::Kind));
    }

    proptest! {
        #[test]
        fn no_header_asks_for_more_than_its_kind_may(octets: [u8; HEADER]) {
            if let Ok((kind, length)) = parse(octets) {
                prop_assert!(length <= kind.longest());
                prop_assert_eq!(header(kind, length), octets);
            }
        }
    }
}
