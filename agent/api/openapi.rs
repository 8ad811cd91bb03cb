//! The description of the API (OpenAPI 3.1), made from the types of its answers.

use std::sync::OnceLock;

use evenkeel_core::{
    alarm::{Kind, Severity},
    peers::PeerState,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    EVENTS, MOST_ALARMS, MOST_EVENTS, MOST_PEERS,
    documents::{AlarmsDocument, EventsDocument, RejectedDocument},
};
use crate::{
    peers::status::PeersStatus,
    status::Status,
    web::problem::{MEDIA_TYPE, Problem},
};

/// The description, as JSON.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| describe().to_string())
}

fn describe() -> Value {
    // OpenAPI 3.1 takes schemas as JSON Schema has them, and keeps them in a place of its own.
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.for_serialize().into_generator();
    let severities = Severity::ALL.map(Severity::name);
    let kinds = Kind::ALL.map(Kind::name);
    let states = PeerState::ALL.map(PeerState::name);
    let paths = json!({
        "/api/v1/status": path::<Status>(
            &mut schemas,
            "The status of the agent",
            "What `evenkeel status --format json` prints.",
            json!([]),
        ),
        "/api/v1/alarms": path::<AlarmsDocument>(
            &mut schemas,
            "The active alarms",
            "The worst and then the newest first.",
            json!([
                list("severity", "Only those of these severities.", &severities),
                list("kind", "Only those of these kinds.", &kinds),
                number("limit", "So many at most.", 0, MOST_ALARMS, MOST_ALARMS),
            ]),
        ),
        "/api/v1/events": path::<EventsDocument>(
            &mut schemas,
            "The journal: raises and clears",
            "With `after`, the rows behind that one; without it the last ones. The oldest comes first, so \
             whoever asks again with the `seq` of the last row as `after` misses none.",
            json!([
                {
                    "name": "after", "in": "query",
                    "description": "Only rows behind the one of this number.",
                    "schema": { "type": "integer", "minimum": 0 },
                },
                number("limit", "So many at most.", 1, MOST_EVENTS, EVENTS),
            ]),
        ),
        "/api/v1/peers": path::<PeersStatus>(
            &mut schemas,
            "The peers in sum, and those that are asked for",
            "Those that are down first, then the silent ones. Without a query, only these.",
            json!([
                {
                    "name": "group", "in": "query", "explode": false, "style": "form",
                    "description": "Only peers of these groups.",
                    "schema": { "type": "array", "items": { "type": "string" } },
                },
                list("state", "Only peers in these states.", &states),
                {
                    "name": "address", "in": "query", "explode": false, "style": "form",
                    "description": "Only peers with these addresses, or in these prefixes.",
                    "schema": { "type": "array", "items": { "type": "string" } },
                    "example": ["10.1.0.0/16"],
                },
                {
                    "name": "label", "in": "query", "explode": true, "style": "form",
                    "description": "Only peers that have all these labels.",
                    "schema": { "type": "array", "items": { "type": "string", "pattern": "=" } },
                    "example": ["site=north"],
                },
                {
                    "name": "not_admitted", "in": "query",
                    "description": "Peers that are known and not monitored, as there are too many.",
                    "schema": { "type": "boolean", "default": false },
                },
                number("limit", "List so many at most.", 0, MOST_PEERS, 50),
            ]),
        ),
        "/api/v1/rejected": path::<RejectedDocument>(
            &mut schemas,
            "The last datagrams that were not taken in",
            "The newest first, without their communities.",
            json!([]),
        ),
    });
    schemas.subschema_for::<Problem>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "evenkeel",
            "version": "1",
            "summary": "What an evenkeel agent knows of the network that it watches, and of itself.",
            "description": "Everything is asked by GET. Fields and addresses may be added; none changes its \
                            meaning under /api/v1.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        // Whether a name and password are needed, the web configuration file says.
        "security": [{}, { "basic": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "basic": { "type": "http", "scheme": "basic" } },
        },
    })
}

fn path<T: JsonSchema>(
    schemas: &mut SchemaGenerator,
    summary: &str,
    description: &str,
    parameters: Value,
) -> Value {
    let schema = schemas.subschema_for::<T>();
    let problem = schemas.subschema_for::<Problem>();
    let refused = |description: &str| {
        json!({
            "description": description,
            "content": { (MEDIA_TYPE): { "schema": problem } },
        })
    };
    json!({
        "get": {
            "summary": summary,
            "description": description,
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": summary,
                    "content": { "application/json": { "schema": schema } },
                },
                "400": refused("The query is wrong; the detail says what would be right."),
                "401": refused("A name and password are needed."),
                "405": refused("Only GET is served here."),
                "503": refused("The agent does not answer now."),
            },
        },
    })
}

/// Names of which several may be given, separated by commas.
fn list(name: &str, description: &str, names: &[&str]) -> Value {
    json!({
        "name": name, "in": "query", "explode": false, "style": "form",
        "description": description,
        "schema": { "type": "array", "items": { "enum": names } },
    })
}

fn number(name: &str, description: &str, least: usize, most: usize, default: usize) -> Value {
    json!({
        "name": name, "in": "query",
        "description": description,
        "schema": { "type": "integer", "minimum": least, "maximum": most, "default": default },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference in here.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let reference = fields.get("$ref").and_then(Value::as_str);
                found.extend(reference.map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let description: Value = serde_json::from_str(text()).unwrap();
        let mut found = Vec::new();
        references(&description, &mut found);
        assert!(found.len() > 30, "{found:?}");
        for reference in found {
            let place = reference.strip_prefix('#').expect("a place in this document");
            assert!(description.pointer(place).is_some(), "{reference}");
        }
    }
}
