//! `/openapi.json`: the API's description, made from the handlers and types themselves; `/docs` shows it to people.
//!
//! Three things are the same everywhere and therefore added here instead of at every handler: the problems that a route
//! of this shape can answer with, what every write accepts, and fog-core's own types (described by schemars, as the
//! policy's schema is).

use std::sync::OnceLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;

const PAGE: &str = include_str!("docs/docs.html");
const SCRIPT: &str = include_str!("docs/docs.js");
const STYLE: &str = include_str!("docs/docs.css");

static DOCUMENT: OnceLock<Value> = OnceLock::new();

/// The OpenAPI document.
pub fn document() -> &'static Value {
    DOCUMENT.get_or_init(|| {
        build(&[
            (super::open().into_openapi(), Guard::None),
            (super::reads().into_openapi(), Guard::Reader),
            (super::guarded().into_openapi(), Guard::Administrator),
        ])
    })
}

/// Every path that can be read and has no parameter in it.
pub(super) fn resources() -> Vec<String> {
    let paths = document()["paths"].as_object().into_iter().flatten();
    paths
        .filter(|(path, item)| path.starts_with("/v1/") && !path.contains('{') && item.get("get").is_some())
        .map(|(path, _)| path.clone())
        .collect()
}

pub(super) async fn json() -> axum::Json<&'static Value> {
    axum::Json(document())
}

pub(super) async fn page() -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
}

pub(super) async fn script() -> Response {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT).into_response()
}

pub(super) async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

/// Whose token a route needs.
#[derive(Clone, Copy, PartialEq)]
enum Guard {
    None,
    Reader,
    Administrator,
}

fn build(parts: &[(OpenApi, Guard)]) -> Value {
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Fogshift",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Instants are RFC 3339 in UTC, units are in the names (`downtime_ms`, `memory_bytes`), fractions \
                run from 0 to 1. Every error is an RFC 9457 problem with a stable `type`.",
        },
        "paths": {},
        "components": {
            "schemas": {},
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "Writes need an administrator's token: the file `token` in the data directory, or one made \
                    by `POST /v1/tokens`.",
            }},
        },
    });
    for (api, guard) in parts {
        let api = serde_json::to_value(api).expect("an OpenAPI document is JSON");
        merge(&mut document["components"]["schemas"], &api["components"]["schemas"]);
        for (path, item) in api["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let mut operation = operation.clone();
                complete(path, method, &mut operation, *guard);
                document["paths"][path][method] = operation;
            }
        }
    }
    let schemas = &mut document["components"]["schemas"];
    foreign::<fog_core::Plan>(schemas, "Plan", SchemaSettings::draft2020_12().for_serialize());
    foreign::<fog_core::Snapshot>(schemas, "Snapshot", SchemaSettings::draft2020_12().for_deserialize());
    foreign::<fog_core::Policy>(schemas, "Policy", SchemaSettings::draft2020_12().for_serialize());
    wire::<fog_api::problem::Problem>(schemas);
    wire::<fog_api::event::Occurrence>(schemas);
    sort(&mut document["paths"]);
    sort(&mut document["components"]["schemas"]);
    document
}

/// Adds a type that no handler names, with those inside it.
fn wire<T: ToSchema>(schemas: &mut Value) {
    let mut all = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut all);
    for (name, schema) in all {
        schemas[name] = serde_json::to_value(schema).expect("a schema is JSON");
    }
}

/// Adds a type of fog-core's under `name`; the types inside it get `name` as a prefix, because fog-api has others of the
/// same names.
fn foreign<T: JsonSchema>(schemas: &mut Value, name: &str, settings: SchemaSettings) {
    let mut root = settings.into_generator().into_root_schema_for::<T>().to_value();
    let Some(fields) = root.as_object_mut() else { return };
    fields.remove("$schema");
    let inner = fields.remove("$defs").unwrap_or_default();
    let mut inner: Map<String, Value> = inner.as_object().cloned().unwrap_or_default();
    rename(&mut root, name);
    schemas[name] = root;
    for (own, schema) in &mut inner {
        rename(schema, name);
        schemas[format!("{name}{own}")] = schema.take();
    }
}

fn rename(value: &mut Value, prefix: &str) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get_mut("$ref")
                && let Some(own) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/components/schemas/{prefix}{own}");
            }
            fields.values_mut().for_each(|value| rename(value, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rename(value, prefix)),
        _ => {}
    }
}

/// What every operation of this shape has.
fn complete(path: &str, method: &str, operation: &mut Value, guard: Guard) {
    let own = operation["operationId"].as_str().unwrap_or_default();
    let tag = operation["tags"][0].as_str().unwrap_or_default();
    operation["operationId"] = json!(format!("{tag}_{own}"));
    let write = guard == Guard::Administrator && method != "get";
    if write {
        let parameters = operation["parameters"].take();
        let mut parameters = parameters.as_array().cloned().unwrap_or_default();
        parameters.push(json!({
            "name": "dry_run", "in": "query", "required": false, "schema": {"type": "boolean"},
            "description": "Check everything and do nothing.",
        }));
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "minLength": 1, "maxLength": 255},
            "description": "A repetition under the same key is answered as before and not done again, for a day.",
        }));
        operation["parameters"] = parameters.into();
    }
    operation["security"] = match guard {
        Guard::None => json!([]),
        Guard::Reader => json!([{}, {"token": []}]),
        Guard::Administrator => json!([{"token": []}]),
    };
    let all = operation["parameters"].as_array().cloned().unwrap_or_default();
    let has =
        |place: &str, name: &str| all.iter().any(|one| one["in"] == place && (name.is_empty() || one["name"] == name));
    let body = !operation["requestBody"].is_null();
    let mut problems = Vec::new();
    if guard != Guard::None {
        problems.push(("401", "The token is missing or wrong."));
    }
    if guard == Guard::Administrator {
        problems.push(("403", "The token may only read."));
    }
    if has("path", "") {
        problems.push(("404", "There is no such thing."));
    }
    if !all.is_empty() || body {
        problems.push(("400", "The request does not have the right form."));
    }
    if body {
        problems.push(("413", "The body is too large."));
        problems.push(("415", "The body is not JSON."));
    }
    if body || write {
        problems.push(("422", "A field says something that cannot be, or the key is another request's."));
    }
    if write {
        problems.push(("409", "It cannot be done as things are."));
    }
    if has("header", "If-Match") {
        problems.push(("412", "Somebody else was faster."));
        problems.push(("428", "`If-Match` is missing."));
    }
    if path.starts_with("/v1/") {
        problems.push(("429", "Too many requests; `Retry-After` says when to come again."));
        problems.push(("503", "Too much to do, or ending; `Retry-After` says when to come again."));
    }
    problems.push(("500", "The orchestrator's fault; its log says more."));
    for (status, description) in problems {
        let responses = &mut operation["responses"][status];
        if responses.is_null() {
            *responses = json!({
                "description": description,
                "content": {fog_api::problem::MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            });
        }
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}

/// Sorted, so that the committed document changes only where the API does.
fn sort(value: &mut Value) {
    if let Value::Object(fields) = value {
        let sorted: std::collections::BTreeMap<String, Value> = std::mem::take(fields).into_iter().collect();
        fields.extend(sorted);
    }
}
