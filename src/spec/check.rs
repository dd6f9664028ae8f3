//! The shape of a text, compared with its JSON Schema: unknown and missing keys, wrong types, unknown words.
//!
//! A small validator of our own, because the ones there are stop at the first mistake or know nothing of TOML's
//! places. It understands what `schemars` makes of the types in `wire` (`$ref`, `type`, `properties`,
//! `additionalProperties`, `required`, `items`, `enum`, `const` in `oneOf`, `minItems`, `minLength`); a test refuses
//! a schema with any other keyword, so that none is ever ignored in silence.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, did_you_mean};

/// Every mistake in the shape of `table`, in the order of the text.
pub(super) fn check(schema: &Value, table: &DeTable<'_>, text: &str) -> Vec<Diagnostic> {
    let mut checker = Checker { root: schema, text, found: Vec::new() };
    checker.table(schema, table, None, &Path::default());
    checker.found.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
    checker.found
}

/// What is left of `table` without the mistakes in its shape: of the tables `by_key` each good key, of an array of tables
/// each good element, of the rest whatever is good as a whole.
pub(super) fn good_parts<'t>(root: &Value, table: &DeTable<'t>, text: &str, by_key: &[&str]) -> DeTable<'t> {
    let is_good = |schema: &Value, value: &Spanned<DeValue<'_>>| {
        let mut checker = Checker { root, text, found: Vec::new() };
        checker.value(schema, value, None, &Path::default());
        checker.found.is_empty()
    };
    let good = table.iter().filter_map(|(key, value)| {
        let name: &str = key.get_ref();
        let property = resolved(root, root["properties"].get(name)?);
        let part = match value.get_ref() {
            DeValue::Table(table) if by_key.contains(&name) => {
                let good = table.iter().filter(|(key, value)| {
                    let name: &str = key.get_ref();
                    property["properties"].get(name).is_some_and(|schema| is_good(schema, value))
                });
                DeValue::Table(good.map(|(key, value)| (key.clone(), value.clone())).collect())
            }
            DeValue::Array(array) if schema_type(property) == "array" => {
                let good = array.iter().filter(|item| is_good(&property["items"], item)).cloned();
                DeValue::Array(good.collect())
            }
            whole => is_good(property, value).then(|| whole.clone())?,
        };
        Some((key.clone(), Spanned::new(value.span(), part)))
    });
    good.collect()
}

/// `name` in backticks, shortened when it is absurdly long.
pub(crate) fn quoted(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("`{}…`", &name[..end]),
        None => format!("`{name}`"),
    }
}

/// `a`, `b` and `c`, each in backticks.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// Keys from the root to a value; the tables among them that are elements of an array are marked.
#[derive(Clone, Default)]
struct Path(Vec<(String, bool)>);

impl Path {
    fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push((key.to_owned(), false));
        path
    }

    fn element(&self) -> Self {
        let mut path = self.clone();
        if let Some(last) = path.0.last_mut() {
            last.1 = true;
        }
        path
    }

    /// As a header would name the table: `[base]`, `[[copy]]`, `[stage.kernels]`.
    fn table(&self) -> String {
        let Some((_, element)) = self.0.last() else { return "the spec".to_owned() };
        let mut name = String::new();
        for (key, _) in &self.0 {
            let is_bare = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            let quote = if is_bare { "" } else { "\"" };
            let _ = write!(name, "{}{quote}{key}{quote}", if name.is_empty() { "" } else { "." });
        }
        if *element { format!("[[{name}]]") } else { format!("[{name}]") }
    }

    /// The value in words: "`debian` in [base]", "[base]".
    fn value(&self, is_table: bool) -> String {
        match self.0.split_last() {
            Some(((key, _), above)) if !is_table && !above.is_empty() => {
                format!("{} in {}", quoted(key), Self(above.to_vec()).table())
            }
            _ => self.table(),
        }
    }

    fn last(&self) -> &str {
        self.0.last().map_or("", |(key, _)| key)
    }
}

struct Checker<'t> {
    root: &'t Value,
    text: &'t str,
    found: Vec<Diagnostic>,
}

impl<'t> Checker<'t> {
    fn value(
        &mut self,
        schema: &'t Value,
        value: &Spanned<DeValue<'_>>,
        key: Option<Range<usize>>,
        path: &Path,
    ) {
        let schema = self.resolved(schema);
        let expected = schema_type(schema);
        match (expected, value.get_ref()) {
            ("object", DeValue::Table(table)) => {
                self.table(schema, table, key.or_else(|| Some(value.span())), path);
            }
            ("array", DeValue::Array(array)) => {
                if array.is_empty() && at_least_one(schema, "minItems") {
                    self.say(format!("{} must not be empty", path.value(false)), value.span());
                }
                for item in array {
                    self.value(&schema["items"], item, None, &path.element());
                }
            }
            ("string", DeValue::String(string)) => self.string(schema, string, value.span(), path),
            ("boolean", DeValue::Boolean(_)) => {}
            (_, found) => self.wrong_type(expected, found, schema, value.span(), path),
        }
    }

    fn table(&mut self, schema: &'t Value, table: &DeTable<'_>, place: Option<Range<usize>>, path: &Path) {
        let properties = schema["properties"].as_object();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if name.contains('\0') {
                self.say(format!("key {} contains a NUL", quoted(name)), key.span());
            }
            if let Some(property) = properties.and_then(|properties| properties.get(name)) {
                self.value(property, value, Some(key.span()), &path.key(name));
            } else if schema["additionalProperties"].is_object() {
                self.value(&schema["additionalProperties"], value, Some(key.span()), &path.key(name));
            } else {
                let known: Vec<&str> =
                    properties.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
                self.unknown_key(name, key.span(), &known, path);
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                let missing = path.key(name);
                let property = self.resolved(&schema["properties"][name]);
                let message = if schema_type(property) == "object" {
                    format!("{} is missing", missing.table())
                } else {
                    format!("{} is missing", missing.value(false))
                };
                let mut diagnostic = Diagnostic::error(message, place.clone());
                if let Some(meaning) = schema["properties"][name]["description"].as_str() {
                    diagnostic = diagnostic.hint(format!("`{name}`: {}", fragment(meaning)));
                }
                self.found.push(diagnostic);
            }
        }
    }

    fn unknown_key(&mut self, name: &str, span: Range<usize>, known: &[&str], path: &Path) {
        let at = if path.0.is_empty() { String::new() } else { format!(" in {}", path.table()) };
        let diagnostic = Diagnostic::error(format!("unknown key {}{at}", quoted(name)), Some(span));
        let near = (name.len() <= 64).then(|| did_you_mean(name, known.iter().copied())).flatten();
        self.found.push(match near {
            Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
            None => {
                let elsewhere = tables_with(self.root, name);
                let diagnostic = match elsewhere.as_slice() {
                    [] => diagnostic,
                    tables => diagnostic.hint(format!("`{name}` is a key of {}", tables.join(", "))),
                };
                let what = if path.0.is_empty() { "tables" } else { "keys here" };
                diagnostic.hint(format!("known {what}: {}", list(known.iter().copied())))
            }
        });
    }

    fn string(&mut self, schema: &'t Value, string: &str, span: Range<usize>, path: &Path) {
        let words = words(schema);
        if !words.is_empty() && !words.contains(&string) {
            let message = format!("{}: unknown value {}", path.value(false), quoted(string));
            let near = (string.len() <= 64).then(|| did_you_mean(string, words.iter().copied())).flatten();
            self.found.push(Diagnostic::error(message, Some(span)).hint(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known values: {}", list(words)),
            }));
        } else if string.contains('\0') {
            self.say(format!("{} contains a NUL", path.value(false)), span);
        } else if string.is_empty() && at_least_one(schema, "minLength") {
            self.say(format!("{} must not be empty", path.value(false)), span);
        }
    }

    fn wrong_type(
        &mut self,
        expected: &str,
        found: &DeValue<'_>,
        schema: &'t Value,
        span: Range<usize>,
        path: &Path,
    ) {
        let message = format!(
            "{}: expected {}, found {}",
            path.value(expected == "object"),
            in_words(expected),
            in_words(found.type_str())
        );
        let written = &self.text[span.clone()];
        let short = !written.contains('\n') && written.len() <= 80;
        let hint = match (expected, found) {
            (
                "string",
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_),
            ) if short => Some(format!("write it in quotes: \"{written}\"")),
            ("boolean", DeValue::String(string)) if matches!(string.as_ref(), "true" | "false") => {
                Some(format!("write it without quotes: {string}"))
            }
            ("array", DeValue::String(string)) if short => {
                let items = match path.last() {
                    "entrypoint" | "cmd" => as_array(string.split_whitespace()),
                    _ => as_array([string.as_ref()]),
                };
                Some(format!("write it as an array: {items}"))
            }
            ("array", DeValue::Table(_)) if schema_type(self.resolved(&schema["items"])) == "object" => {
                Some(format!("there may be several: begin each with {}", path.element().table()))
            }
            ("object", DeValue::Array(array)) if array.iter().any(|item| item.get_ref().is_table()) => {
                Some(format!("there is only one: write it with single brackets, {}", path.table()))
            }
            ("object", DeValue::Array(_)) if schema["additionalProperties"].is_object() => {
                Some(format!("write it as a table: {} = {{ NAME = \"value\" }}", path.last()))
            }
            ("string", DeValue::Array(array)) if array.len() == 1 => {
                Some("write it without brackets".to_owned())
            }
            _ => None,
        };
        let diagnostic = Diagnostic::error(message, Some(span));
        self.found.push(match hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        });
    }

    fn resolved(&self, schema: &'t Value) -> &'t Value {
        resolved(self.root, schema)
    }

    fn say(&mut self, message: String, span: Range<usize>) {
        self.found.push(Diagnostic::error(message, Some(span)));
    }
}

/// `["python", "-m", "trainer"]`, as TOML wants it.
fn as_array<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> =
        items.into_iter().map(|item| toml::Value::String(item.to_owned()).to_string()).collect();
    format!("[{}]", items.join(", "))
}

fn fragment(description: &str) -> String {
    let text = description.strip_suffix('.').unwrap_or(description);
    let mut characters = text.chars();
    match (characters.next(), characters.clone().next()) {
        // "URL" and its kind keep their letters.
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

fn in_words(type_name: &str) -> &'static str {
    match type_name {
        "string" => "a string",
        "integer" => "an integer",
        "float" | "number" => "a float",
        "boolean" => "true or false",
        "datetime" => "a date or time",
        "array" => "an array",
        "object" | "table" => "a table",
        _ => "another type",
    }
}

fn at_least_one(schema: &Value, keyword: &str) -> bool {
    schema[keyword].as_u64().is_some_and(|least| least > 0)
}

/// The definition in the root schema that a reference means.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or(&Value::Null),
        None => schema,
    }
}

/// `type`; a word of a list is a string.
fn schema_type(schema: &Value) -> &str {
    match schema["type"].as_str() {
        Some(name) => name,
        None if schema["oneOf"].is_array() => "string",
        None => "",
    }
}

/// The words that `enum`, or `oneOf` with described constants, allows.
fn words(schema: &Value) -> Vec<&str> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let described = schema["oneOf"].as_array().into_iter().flatten().flat_map(|option| {
        std::iter::once(&option["const"]).chain(option["enum"].as_array().into_iter().flatten())
    });
    plain.chain(described).filter_map(Value::as_str).collect()
}

/// Headers of the tables at the top level that have a key of this name.
fn tables_with(root: &Value, key: &str) -> Vec<String> {
    let Some(properties) = root["properties"].as_object() else { return Vec::new() };
    properties
        .iter()
        .filter_map(|(name, property)| {
            let property = resolved(root, property);
            let (table, header) = match schema_type(property) {
                "array" => (resolved(root, &property["items"]), format!("[[{name}]]")),
                _ => (property, format!("[{name}]")),
            };
            table["properties"].get(key).map(|_| header)
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::spec::schema;

    fn messages(text: &str) -> Vec<String> {
        let table = DeTable::parse(text).unwrap().into_inner();
        check(schema::value(), &table, text).into_iter().map(|diagnostic| diagnostic.message).collect()
    }

    /// A keyword that the checker does not know would be ignored in silence.
    #[test]
    fn schema_uses_no_keyword_but_those_understood() {
        is_understood(schema::value());
    }

    pub(crate) fn is_understood(schema: &Value) {
        const KNOWN: [&str; 17] = [
            "$schema",
            "$defs",
            "$ref",
            "title",
            "description",
            "default",
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "enum",
            "const",
            "oneOf",
            "minItems",
            "minLength",
            "format",
        ];
        fn walk(schema: &Value) {
            let Value::Object(object) = schema else { return };
            for (keyword, value) in object {
                assert!(KNOWN.contains(&keyword.as_str()), "{keyword}");
                match keyword.as_str() {
                    "properties" | "$defs" => value.as_object().unwrap().values().for_each(walk),
                    "oneOf" => value.as_array().unwrap().iter().for_each(walk),
                    "items" | "additionalProperties" => walk(value),
                    "format" => panic!("`format` is understood by nobody here"),
                    _ => {}
                }
            }
        }
        walk(schema);
    }

    #[test]
    fn tables_are_named_as_their_headers() {
        for (text, message) in [
            ("[base]\ndebian = 1", "`debian` in [base]: expected a string, found an integer"),
            ("base = 1", "[base]: expected a table, found an integer"),
            ("[base]\n[[copy]]\nfrom = 'a'\nto = 1", "`to` in [[copy]]: expected a string, found an integer"),
            ("[base]\n[stage.x]\nrun = 1", "`run` in [stage.x]: expected an array, found an integer"),
            ("[base]\n[stage.x]\nrun = ['a']\ncopy = [{}]", "`from` in [[stage.x.copy]] is missing"),
            ("[base]\n[image.env]\nA = 1", "`A` in [image.env]: expected a string, found an integer"),
            ("[base]\n[image]\nenv.A.B = 'x'", "`A` in [image.env]: expected a string, found a table"),
        ] {
            assert_eq!(messages(text)[0], message, "{text}");
        }
    }

    #[test]
    fn absurd_names_are_shortened() {
        let text = format!("[base]\n{} = 1", "k".repeat(100_000));
        assert!(messages(&text)[0].len() < 200);
    }
}
