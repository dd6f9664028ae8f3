//! The JSON Schema of `mlbuild.toml` (draft 2020-12), made from the types in [`super::wire`] and from nothing else.
//!
//! `schemas/mlbuild.schema.json` is its checked-in copy for editors; a test keeps the two equal. TOML has no null, so
//! the schema has none either: an optional key is one that `required` does not list.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema as pretty-printed JSON with a final newline: the exact content of `schemas/mlbuild.schema.json`.
pub fn schema_json() -> String {
    text(value())
}

/// A schema as it is printed and checked in.
pub(crate) fn text(schema: &Value) -> String {
    let mut text = serde_json::to_string_pretty(schema).expect("a JSON value has a text");
    text.push('\n');
    text
}

/// The schema of a text that is deserialised into `T`.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    headline_first(schema)
}

/// The schema as `check` walks it.
pub(super) fn value() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(of::<super::wire::Spec>);
    &SCHEMA
}

/// What the document is before what it says: the order that readers expect.
fn headline_first(schema: Value) -> Value {
    let Value::Object(mut rest) = schema else { return schema };
    let mut object = serde_json::Map::new();
    for key in ["$schema", "title", "description"] {
        if let Some(value) = rest.shift_remove(key) {
            object.insert(key.to_owned(), value);
        }
    }
    object.extend(rest);
    Value::Object(object)
}

/// Takes back what schemars says of an `Option`: `["string", "null"]` and `anyOf: [X, null]`.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(options)) = object.get_mut("anyOf") {
                options.retain(|option| option.get("type").is_none_or(|name| name != "null"));
                if let [only] = options.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    if let Value::Object(only) = only {
                        object.extend(only);
                    }
                }
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_in_schema_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/mlbuild.schema.json");
        #[expect(clippy::disallowed_methods, reason = "how a person asks for the file to be written")]
        let update = std::env::var_os("MLBUILD_UPDATE_SCHEMAS").is_some();
        if update {
            std::fs::write(path, schema_json()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == schema_json(),
            "{path} is out of date: run the tests once with MLBUILD_UPDATE_SCHEMAS=1"
        );
    }

    #[test]
    fn schema_says_nothing_of_null() {
        assert!(!schema_json().contains("null"));
    }

    /// `check` and every editor rely on it: what is not named is refused.
    #[test]
    fn every_table_is_closed_and_every_key_described() {
        fn walk(name: &str, schema: &Value) {
            if let Some(Value::Object(properties)) = schema.get("properties") {
                assert_eq!(schema["additionalProperties"], Value::Bool(false), "{name}");
                for (key, property) in properties {
                    assert!(property.get("description").is_some(), "{name}.{key}");
                }
            }
        }
        walk("Spec", value());
        for (name, definition) in value()["$defs"].as_object().unwrap() {
            walk(name, definition);
        }
    }
}
