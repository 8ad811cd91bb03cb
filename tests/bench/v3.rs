//! The load of SNMPv3: link traps of many engines, authPriv with SHA-1 and AES-128, sealed before
//! anything is measured.

use evenkeel_core::usm::{
    Auth, AuthProtocol, EngineId, Key, Level, PrivProtocol, Privacy, SessionKeys, keys,
    message::{self, Outgoing},
};

/// How many engines send.
pub const ENGINES: u32 = 100;

const PASSPHRASE: &str = "maplesyrup";
const USER: &str = "bench";

/// The agent's user.
pub fn agent_user() -> String {
    format!(
        "[[traps.user]]\nname = {USER:?}\nauth = \"SHA\"\nauth_passphrase = {PASSPHRASE:?}\n\
         privacy = \"AES\"\nprivacy_passphrase = {PASSPHRASE:?}\nlevel = \"authPriv\"\nlearn = true\n"
    )
}

/// snmptrapd's users, one for each engine.
pub fn snmptrapd_users() -> String {
    let line = |number: u32| {
        let engine: String = engine(number).iter().map(|octet| format!("{octet:02x}")).collect();
        format!("createUser -e 0x{engine} {USER} SHA {PASSPHRASE} AES {PASSPHRASE}\n")
    };
    (0..ENGINES).map(line).collect()
}

/// The engine of this number: of the kind "octets" (RFC 3411, section 5).
pub fn engine(number: u32) -> Vec<u8> {
    [&b"\x80\x00\x1f\x88\x05"[..], &number.to_be_bytes()].concat()
}

/// The user's keys at an engine.
pub fn keys(number: u32) -> SessionKeys {
    let engine = EngineId::new(&engine(number)).expect("nine octets");
    let key = || Key::Master(keys::master_key(AuthProtocol::Sha1, PASSPHRASE.as_bytes()));
    let auth = Auth { protocol: AuthProtocol::Sha1, key: key() };
    let privacy = Privacy { protocol: PrivProtocol::Aes128, key: key() };
    SessionKeys::new(Some(&auth), Some(&privacy), &engine)
}

/// This PDU, sealed as the `number`-th message of all.
pub fn seal(pdu: &[u8], number: u32, keys: &[SessionKeys]) -> Vec<u8> {
    let which = number % ENGINES;
    let engine = engine(which);
    let outgoing = Outgoing {
        msg_id: (number & 0x7fff_ffff) as i32,
        max_size: 65_507,
        reportable: false,
        level: Level::AuthPriv,
        engine: &engine,
        boots: 1,
        // All within one time window (RFC 3414, 3.2, 7b).
        time: 100,
        user: USER.as_bytes(),
        context_engine: &engine,
        context: b"",
        pdu,
    };
    message::seal(&outgoing, &keys[which as usize], number.into())
}
