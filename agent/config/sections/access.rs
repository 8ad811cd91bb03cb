//! Who may send traps, by community and by SNMPv3 user, and what is known of the engines that do
//! (TRAP-2, TRAP-3, TRAP-4).

use std::collections::HashMap;

use evenkeel_core::{
    settings::Community,
    usm::{EngineId, KnownEngine, User},
};

use super::{
    Unique,
    credentials::{Keyring, credentials, engine_id, user_name},
    traps::prefixes,
};
use crate::config::{
    problem::Span,
    reader::{Table, Value},
    secret::{self, Keys},
    units::{self, Wrong},
};

const COMMUNITY: Keys = Keys { plain: "name", file: "name_file", credential: "name_credential" };

/// Reads `[[traps.community]]`.
pub fn communities(tables: Vec<Table<'_>>) -> Vec<Community> {
    let mut names = Unique::new();
    let mut communities = Vec::new();
    for mut table in tables {
        let name = secret::given(&mut table, &[COMMUNITY]);
        let sources = table.get("sources");
        if name.is_none() && sources.is_none() {
            table.wrong(
                "with neither name nor sources, anyone may send traps".to_owned(),
                Some(
                    "write name = \"public\" for one community, or sources = [\"10.0.0.0/8\"] for \
                      any community from there"
                        .to_owned(),
                ),
            );
        }
        if let Some(sources) = &sources
            && sources.is_empty_list()
        {
            sources.wrong(Wrong::new("nobody may send with an empty list").help(
                "leave the key out to let senders be anywhere, or the community out to refuse it",
            ));
        }
        let octets = name.and_then(|name| {
            let octets = community(&name.value, name.octets?)?;
            if let Some(there) = names.insert(octets.clone(), name.value.span()) {
                let wrong = Wrong::new("this community is given twice")
                    .help("put the sources of both in one list");
                name.value.wrong_also(wrong, there, "first here");
            }
            Some(octets)
        });
        let sources = sources.map(|value| prefixes(&value)).unwrap_or_default();
        table.finish();
        communities.push(Community { name: octets, sources });
    }
    communities
}

/// The octets of a community.
pub fn community(value: &Value<'_>, octets: Vec<u8>) -> Option<Vec<u8>> {
    let wrong = match octets.len() {
        1..=255 => return Some(octets),
        0 => "an empty community tells nobody from anybody",
        _ => "a community has 255 octets at most",
    };
    value.wrong(Wrong::new(wrong));
    None
}

/// Reads `[[traps.user]]`.
pub fn users(tables: Vec<Table<'_>>, keyring: &Keyring) -> Vec<User> {
    let mut names: HashMap<Vec<u8>, Vec<Namesake>> = HashMap::new();
    let mut users = Vec::new();
    for mut table in tables {
        let name = table.required("name", "it is the security name that the devices send");
        let credentials = credentials(&mut table, keyring);
        let engines_value = table.get("engines");
        let learn_value = table.get("learn");
        let engines = engines_value.as_ref().map(engines).unwrap_or_default();
        // By what is there, so that a mistake in an engine ID is told once.
        let listed = engines_value.as_ref().map_or(0, Value::length);
        let learn = learn_value.as_ref().and_then(Value::boolean);
        if let Some(place) = credentials.localised {
            if listed != 1 {
                localised_for_one(&table, engines_value.as_ref(), place);
            }
            if let (Some(value), Some(true)) = (&learn_value, learn) {
                let wrong = Wrong::new("a localised key is good for one engine alone")
                    .help("leave learn out, or give passphrases");
                value.wrong_also(wrong, place, "this is localised");
            }
        }
        let learn = learn.unwrap_or(listed == 0);
        table.finish();
        let Some(value) = name else { continue };
        let Some(name) = user_name(&value) else { continue };
        let namesakes = names.entry(name.clone()).or_default();
        for other in namesakes.iter() {
            other.clash(&value, learn, &engines);
        }
        let span = value.span();
        namesakes.push(Namesake { span, learn, engines: engines.clone() });
        users.push(User {
            name,
            auth: credentials.auth,
            privacy: credentials.privacy,
            min_level: credentials.level,
            engines: engines.into_iter().map(|(engine, _)| engine).collect(),
            learn,
        });
    }
    users
}

/// A user that was read, for those of the same name.
struct Namesake {
    span: Span,
    learn: bool,
    engines: Vec<(EngineId, Span)>,
}

impl Namesake {
    /// Two users of one name are told apart by their engines.
    fn clash(&self, name: &Value<'_>, learn: bool, engines: &[(EngineId, Span)]) {
        if self.learn && learn {
            let wrong = Wrong::new("two users have this name, and both learn engines")
                .help("one of them needs engines = [\"0x...\"]");
            name.wrong_also(wrong, self.span, "first here");
        }
        let common = engines
            .iter()
            .find(|(engine, _)| self.engines.iter().any(|(other, _)| other == engine));
        if let Some((engine, _)) = common {
            let wrong = Wrong::new(format!("two users have this name and the engine {engine}"))
                .help("which of them would a trap from there be checked for?");
            name.wrong_also(wrong, self.span, "first here");
        }
    }
}

/// Says that a localised key needs the one engine that it is localised for.
fn localised_for_one(table: &Table<'_>, engines: Option<&Value<'_>>, place: Span) {
    let wrong = Wrong::new("a localised key is good for one engine, which must be named").help(
        "write engines = [\"0x...\"] with the one that it was made for: the device's for its \
         traps, this agent's own (evenkeel status) for informs",
    );
    match engines {
        Some(value) => value.wrong_also(wrong, place, "this is localised"),
        None => table.wrong(wrong.message, wrong.help),
    }
}

fn engines(value: &Value<'_>) -> Vec<(EngineId, Span)> {
    let mut seen = Unique::new();
    value.list(|element| {
        let engine = engine_id(element)?;
        if let Some(there) = seen.insert(engine.clone(), element.span()) {
            element.wrong_also(Wrong::new("this engine is listed twice"), there, "first here");
        }
        Some(engine)
    })
}

/// Reads `[[traps.engine]]`.
pub fn known_engines(tables: Vec<Table<'_>>) -> Vec<KnownEngine> {
    let mut seen = Unique::new();
    let mut engines = Vec::new();
    for mut table in tables {
        let id = table.required("id", "write id = \"0x...\", as the device shows its engine ID");
        let id = id.and_then(|value| {
            let id = engine_id(&value)?;
            if let Some(there) = seen.insert(id.clone(), value.span()) {
                value.wrong_also(Wrong::new("this engine is given twice"), there, "first here");
            }
            Some(id)
        });
        let system = table.required("system", "write system = \"192.0.2.7\", the device's address");
        let system = system.and_then(|value| value.parse(units::system));
        table.finish();
        if let (Some(id), Some(system)) = (id, system) {
            engines.push(KnownEngine { id, system });
        }
    }
    engines
}
