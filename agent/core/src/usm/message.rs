//! A message of SNMPv3 with USM's parameters (RFC 3412, section 6; RFC 3414, 2.4), in and out.
//!
//! What comes in is read as tolerantly as a trap of the older versions (TRAP-7), is never copied but
//! for decrypting, and is read no further than it was proved authentic.

use std::ops::Range;

pub use super::crypto::SessionKeys;
use super::{Level, Step};
use crate::{
    ber::{self, Reader, tag},
    ber_writer::Writer,
    trap::Malformed,
};

/// msgSecurityModel of USM (RFC 3411, 5).
pub const USM: u32 = 3;
/// GetRequest-PDU.
pub const GET: u8 = 0xa0;
/// Response-PDU.
pub const RESPONSE: u8 = 0xa2;
/// Report-PDU.
pub const REPORT: u8 = 0xa8;
/// The smallest msgMaxSize there is (RFC 3412, 6.2); a smaller one counts as this.
pub const LEAST_MAX_SIZE: u32 = 484;
/// The largest snmpEngineBoots and snmpEngineTime (RFC 3414, 2.2).
pub const MOST: u32 = 0x7fff_ffff;

const AUTH: u8 = 1;
const PRIV: u8 = 2;
const REPORTABLE: u8 = 4;

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// msgID, 0 to 2147483647.
    pub msg_id: i32,
    /// msgMaxSize: the largest message that we take.
    pub max_size: u32,
    /// Whether a Report may answer it: for informs and requests, never for traps, Responses and
    /// Reports.
    pub reportable: bool,
    /// How it is protected.
    pub level: Level,
    /// msgAuthoritativeEngineID: our own for a trap, the receiver's for an inform.
    pub engine: &'a [u8],
    /// That engine's boots.
    pub boots: u32,
    /// That engine's time.
    pub time: u32,
    /// msgUserName.
    pub user: &'a [u8],
    /// contextEngineID.
    pub context_engine: &'a [u8],
    /// contextName.
    pub context: &'a [u8],
    /// The PDU with its tag and length.
    pub pdu: &'a [u8],
}

/// The octets of a message (RFC 3414, 3.1).
///
/// `salt` must never be the same twice with the same keys, boots and time: a counter that starts
/// somewhere else in each run. Empty where the keys do not reach the level: what should have been
/// protected is not sent in the clear.
pub fn seal(message: &Outgoing<'_>, keys: &SessionKeys, salt: u64) -> Vec<u8> {
    if keys.level() < message.level {
        return Vec::new();
    }
    let salt = salt.to_be_bytes();
    let (salt, digest) = match message.level {
        Level::NoAuthNoPriv => (&[][..], 0),
        Level::AuthNoPriv => (&[][..], keys.digest_octets()),
        Level::AuthPriv => (&salt[..], keys.digest_octets()),
    };
    let mut data = Writer::new();
    data.nested(tag::SEQUENCE, |scoped| {
        scoped.octets(message.context_engine);
        scoped.octets(message.context);
        scoped.encoded(message.pdu);
    });
    let mut data = data.into_bytes();
    if let Ok(salt) = salt.try_into() {
        keys.encrypt(&mut data, message.boots, message.time, salt);
        let mut sealed = Writer::new();
        sealed.octets(&data);
        data = sealed.into_bytes();
    }

    let mut parameters = Writer::new();
    parameters.nested(tag::SEQUENCE, |usm| {
        usm.octets(message.engine);
        usm.integer(message.boots.into());
        usm.integer(message.time.into());
        usm.octets(message.user);
        usm.octets(&[0; 64][..digest]);
        usm.octets(salt);
    });
    let parameters = parameters.into_bytes();
    let flags = match message.level {
        Level::NoAuthNoPriv => 0,
        Level::AuthNoPriv => AUTH,
        Level::AuthPriv => AUTH | PRIV,
    } | if message.reportable { REPORTABLE } else { 0 };
    let mut whole = Writer::new();
    whole.nested(tag::SEQUENCE, |whole| {
        whole.integer(3); // msgVersion
        whole.nested(tag::SEQUENCE, |global| {
            global.integer(message.msg_id.into());
            global.integer(message.max_size.into());
            global.octets(&[flags]);
            global.integer(USM.into());
        });
        whole.octets(&parameters);
        whole.encoded(&data);
    });
    let mut whole = whole.into_bytes();
    if digest > 0 {
        // Behind the digest there are the salt with its tag and length, and the data.
        let at = whole.len() - data.len() - (salt.len() + 2) - digest;
        keys.sign(&mut whole, at);
    }
    whole
}

/// A message that came, as far as it can be read without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// msgID.
    pub msg_id: i32,
    /// msgMaxSize, at least 484.
    pub max_size: u32,
    flags: u8,
    /// msgSecurityModel. Of any other than [`USM`] nothing below is there.
    pub model: u32,
    /// msgAuthoritativeEngineID.
    pub engine: &'a [u8],
    /// msgAuthoritativeEngineBoots, at most 2147483647.
    pub boots: u32,
    /// msgAuthoritativeEngineTime, at most 2147483647.
    pub time: u32,
    /// msgUserName.
    pub user: &'a [u8],
    /// Where msgAuthenticationParameters are in the datagram.
    digest: Range<usize>,
    salt: &'a [u8],
    data: Data<'a>,
    /// How long the message is; what follows is none of it.
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data<'a> {
    /// A ScopedPDU, without tag and length.
    Plain(&'a [u8]),
    Encrypted(&'a [u8]),
}

/// What is in a message, whose level says whether it is authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scoped<'a> {
    /// contextEngineID.
    pub context_engine: &'a [u8],
    /// contextName.
    pub context: &'a [u8],
    /// The PDU with its tag and length.
    pub pdu: &'a [u8],
}

/// Reads a datagram as far as it can be without a key. Octets behind the message are ignored.
///
/// # Errors
///
/// When it is no message of SNMPv3.
pub fn parse(datagram: &[u8]) -> Result<Incoming<'_>, Malformed> {
    let mut outside = Reader::new(datagram);
    let mut message = Reader::new(outside.expect(tag::SEQUENCE)?);
    let length = datagram.len() - outside.rest().len();
    if ber::unsigned(message.expect(tag::INTEGER)?) != Some(3) {
        return Err(Malformed::UnsupportedVersion);
    }
    let mut global = Reader::new(message.expect(tag::SEQUENCE)?);
    let msg_id = ber::signed_low_32_bits(global.expect(tag::INTEGER)?).cast_signed();
    let max_size = ber::unsigned(global.expect(tag::INTEGER)?).unwrap_or(0).max(LEAST_MAX_SIZE);
    let flags = *global.expect(tag::OCTET_STRING)?.first().ok_or(Malformed::WrongType)?;
    let model = ber::unsigned(global.expect(tag::INTEGER)?).ok_or(Malformed::WrongType)?;
    let mut incoming = Incoming {
        msg_id,
        max_size,
        flags,
        model,
        engine: &[],
        boots: 0,
        time: 0,
        user: &[],
        digest: 0..0,
        salt: &[],
        data: Data::Plain(&[]),
        length,
    };
    let parameters = message.expect(tag::OCTET_STRING)?;
    if model != USM {
        return Ok(incoming);
    }
    let mut usm = Reader::new(Reader::new(parameters).expect(tag::SEQUENCE)?);
    incoming.engine = usm.expect(tag::OCTET_STRING)?;
    incoming.boots = up_to_most(usm.expect(tag::INTEGER)?)?;
    incoming.time = up_to_most(usm.expect(tag::INTEGER)?)?;
    incoming.user = usm.expect(tag::OCTET_STRING)?;
    let digest = usm.expect(tag::OCTET_STRING)?;
    // Both point into the same octets.
    let at = digest.as_ptr() as usize - datagram.as_ptr() as usize;
    incoming.digest = at..at + digest.len();
    incoming.salt = usm.expect(tag::OCTET_STRING)?;
    incoming.data = match (message.element()?, flags & PRIV != 0) {
        ((tag::SEQUENCE, scoped), false) => Data::Plain(scoped),
        ((tag::OCTET_STRING, encrypted), true) => Data::Encrypted(encrypted),
        _ => return Err(Malformed::WrongType),
    };
    Ok(incoming)
}

impl<'a> Incoming<'a> {
    /// How it says that it is protected; nothing if it has privacy without authentication, which
    /// cannot be (RFC 3412, 7.2).
    pub const fn level(&self) -> Option<Level> {
        match self.flags & (AUTH | PRIV) {
            0 => Some(Level::NoAuthNoPriv),
            AUTH => Some(Level::AuthNoPriv),
            PRIV => None,
            _ => Some(Level::AuthPriv),
        }
    }

    /// Whether its sender takes a Report as an answer.
    pub const fn reportable(&self) -> bool {
        self.flags & REPORTABLE != 0
    }

    /// What is in it, if it is not encrypted. Nothing says yet that it is authentic.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn plain(&self) -> Option<Result<Scoped<'a>, Malformed>> {
        match self.data {
            Data::Plain(scoped) => Some(scope(scoped)),
            Data::Encrypted(_) => None,
        }
    }

    /// Whether its digest is right.
    pub(super) fn is_authentic(&self, datagram: &[u8], keys: &SessionKeys) -> bool {
        // The length was found in these octets.
        keys.verify(&datagram[..self.length], self.digest.start, self.digest.len())
    }

    /// What is in it, decrypted into `buffer` where it is encrypted.
    pub(super) fn content<'b>(
        &self,
        keys: &SessionKeys,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Scoped<'b>, Step>
    where
        'a: 'b,
    {
        match self.data {
            Data::Plain(scoped) => Ok(scope(scoped)?),
            Data::Encrypted(data) => {
                buffer.clear();
                buffer.extend_from_slice(data);
                keys.decrypt(buffer, self.boots, self.time, self.salt)
                    .map_err(|_| Step::DecryptionFailed)?;
                Reader::new(buffer)
                    .expect(tag::SEQUENCE)
                    .map_err(Malformed::from)
                    .and_then(scope)
                    .map_err(|_| Step::DecryptionFailed)
            }
        }
    }
}

/// Verifies and decrypts a message with these keys: its digest if it has one, and at least `level` is
/// asked of it. Time windows are not looked at.
///
/// # Errors
///
/// The step at which it fails.
pub fn unseal<'b>(
    incoming: &Incoming<'b>,
    datagram: &'b [u8],
    keys: &SessionKeys,
    level: Level,
    buffer: &'b mut Vec<u8>,
) -> Result<Scoped<'b>, Step> {
    if incoming.model != USM {
        return Err(Step::UnknownSecurityModel);
    }
    let has = incoming.level().ok_or(Step::InvalidFlags)?;
    if has < level {
        return Err(Step::BelowMinimumLevel);
    }
    if keys.level() < has {
        return Err(Step::UnsupportedLevel);
    }
    if has > Level::NoAuthNoPriv && !incoming.is_authentic(datagram, keys) {
        return Err(Step::WrongDigest);
    }
    incoming.content(keys, buffer)
}

/// The request-id of a PDU, where it can be read.
pub fn request_id(pdu: &[u8]) -> Option<i32> {
    let (_, content) = Reader::new(pdu).element().ok()?;
    let id = Reader::new(content).expect(tag::INTEGER).ok()?;
    Some(ber::signed_low_32_bits(id).cast_signed())
}

/// The content of a ScopedPDU (RFC 3412, 6).
fn scope(content: &[u8]) -> Result<Scoped<'_>, Malformed> {
    let mut scoped = Reader::new(content);
    let context_engine = scoped.expect(tag::OCTET_STRING)?;
    let context = scoped.expect(tag::OCTET_STRING)?;
    let from = scoped.rest();
    let (pdu_tag, _) = scoped.element()?;
    if !(GET..=REPORT).contains(&pdu_tag) {
        return Err(Malformed::WrongType);
    }
    Ok(Scoped { context_engine, context, pdu: &from[..from.len() - scoped.rest().len()] })
}

fn up_to_most(content: &[u8]) -> Result<u32, Malformed> {
    ber::unsigned(content).filter(|&value| value <= MOST).ok_or(Malformed::WrongType)
}
