//! An authentication file as Docker (`config.json`) and containers-auth.json(5) have it, from text and to text.
//!
//! ```json
//! {
//!     "auths": { "registry.example": { "auth": "dXNlcjpwYXNzd29yZA==" } },
//!     "credsStore": "secretservice",
//!     "credHelpers": { "registry.example:5000": "pass" }
//! }
//! ```
//!
//! Of an entry of `auths` counts, in this order: `registrytoken` (a bearer token), `identitytoken` (a refresh token),
//! `auth` (base 64 of `user:password`, of which only the first colon separates), `username` with `password`. An entry
//! without any of them says nothing: Docker leaves `{}` where a helper has the secret.
//!
//! All other keys, of the file and of its entries, are somebody else's: they are kept, in their order.
//!
//! No message here quotes a value.

use serde_json::{Map, Value};

use super::base64;
use super::helper::Helper;
use super::key;
use super::secret_text::{check_password, check_token, check_user};
use crate::registry::{Credential, Host, Secret};

/// The longest file that is read, in bytes. `auths` of a thousand registries have a quarter of it.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Has no `Debug`: it is full of secrets.
#[derive(Default)]
pub(super) struct AuthFile {
    root: Map<String, Value>,
    /// How the text ended, and so shall end.
    final_newline: bool,
}

impl AuthFile {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Docker takes an empty file for one that says nothing.
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(root)) => Ok(Self { root, final_newline: text.ends_with('\n') }),
            Ok(_) => Err("it is JSON, but no object".to_owned()),
            // A syntax error tells of its place and of what was expected, not of what is there.
            Err(error) => Err(format!("it is no JSON: {error}")),
        }
    }

    /// The helper that has this registry's credential: the one of `credHelpers` that names it, or that of `credsStore`.
    pub(super) fn helper(&self, host: &Host) -> Result<Option<Helper>, String> {
        let named = self.table("credHelpers")?.and_then(|table| find(table, host));
        let (what, name) = match named {
            Some((key, name)) => (format!("credHelpers for `{}`", shown(key)), name),
            None => match self.root.get("credsStore") {
                Some(name) => ("credsStore".to_owned(), name),
                None => return Ok(None),
            },
        };
        let name = name.as_str().ok_or_else(|| format!("{what} is not a string"))?;
        // Docker's way to say "no helper".
        if name.is_empty() {
            return Ok(None);
        }
        Helper::named(name).map(Some).ok_or_else(|| {
            format!("{what} is no name of a helper program (letters, digits, `-`, `_` and `.`)")
        })
    }

    /// What `auths` has for this registry.
    pub(super) fn credential(&self, host: &Host) -> Result<Option<Credential>, String> {
        match self.table("auths")?.and_then(|auths| find(auths, host)) {
            Some((key, entry)) => {
                credential(entry).map_err(|why| format!("`{}` in auths: {why}", shown(key)))
            }
            None => Ok(None),
        }
    }

    /// Whether the file says anything of this registry alone.
    pub(super) fn names(&self, host: &Host) -> bool {
        let named = |table| self.table(table).ok().flatten().is_some_and(|table| find(table, host).is_some());
        named("auths") || named("credHelpers")
    }

    /// Whether `auths` has something for a namespace of this registry.
    pub(super) fn has_namespaces(&self, host: &Host) -> bool {
        let auths = self.table("auths").ok().flatten();
        auths.is_some_and(|auths| auths.keys().any(|key| key::namespaced_host(key).as_ref() == Some(host)))
    }

    /// Whether anyone who reads the file learns a secret.
    pub(super) fn has_secrets(&self) -> bool {
        let fields = ["auth", "password", "identitytoken", "registrytoken"];
        let secret = |entry: &Value| {
            fields
                .iter()
                .any(|field| entry.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty()))
        };
        self.table("auths").ok().flatten().is_some_and(|auths| auths.values().any(secret))
    }

    /// Makes `auths` have this for the registry, in place of what it had: the secret, or nothing but its name where a
    /// helper has that.
    pub(super) fn set(&mut self, host: &Host, credential: Option<&Credential>) -> Result<(), String> {
        self.table("auths")?;
        let auths = self.root.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        let auths = auths.as_object_mut().expect("checked above");
        let at = auths.keys().position(|key| key::host(key).as_ref() == Some(host)).unwrap_or(auths.len());
        auths.retain(|key, _| key::host(key).as_ref() != Some(host));
        auths.shift_insert(at, host.login().to_owned(), credential.map_or_else(|| Map::new().into(), entry));
        Ok(())
    }

    /// Takes what `auths` has for the registry, under whichever of its keys; whether there was anything.
    pub(super) fn remove(&mut self, host: &Host) -> bool {
        let Some(auths) = self.root.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let before = auths.len();
        auths.retain(|key, _| key::host(key).as_ref() != Some(host));
        auths.len() != before
    }

    /// As Docker and podman write it.
    pub(super) fn text(&self) -> String {
        let mut bytes = Vec::new();
        let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, indent);
        serde::Serialize::serialize(&self.root, &mut serializer).expect("JSON values have a text");
        let text = String::from_utf8(bytes).expect("JSON is UTF-8");
        if self.final_newline { text + "\n" } else { text }
    }

    fn table(&self, name: &str) -> Result<Option<&Map<String, Value>>, String> {
        match self.root.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(table)) => Ok(Some(table)),
            Some(_) => Err(format!("{name} is no object")),
        }
    }
}

/// The value for a registry: of several keys that mean it, the one spelled as we do, or else the first.
fn find<'a>(table: &'a Map<String, Value>, host: &Host) -> Option<(&'a str, &'a Value)> {
    let exact = table.get_key_value(host.login());
    let found = exact.or_else(|| table.iter().find(|(key, _)| key::host(key).as_ref() == Some(host)));
    found.map(|(key, value)| (key.as_str(), value))
}

fn credential(entry: &Value) -> Result<Option<Credential>, String> {
    let entry = entry.as_object().ok_or("it is no object")?;
    let field = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{name} is not a string")),
    };
    if let Some(token) = field("registrytoken")? {
        check_token(token)?;
        return Ok(Some(Credential::Bearer(Secret::new(token))));
    }
    if let Some(token) = field("identitytoken")? {
        check_token(token)?;
        return Ok(Some(Credential::Identity(Secret::new(token))));
    }
    let (user, password) = match field("auth")? {
        Some(auth) => {
            let bytes = base64::decode(auth).ok_or("auth is not base 64")?;
            let text = String::from_utf8(bytes).map_err(|_| "auth is not base 64 of UTF-8")?;
            let (user, password) = text.split_once(':').ok_or("auth is not base 64 of `user:password`")?;
            // Old versions of Docker pad the password with them.
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => match (field("username")?, field("password")?) {
            (Some(user), Some(password)) => (user.to_owned(), password.to_owned()),
            _ => return Ok(None),
        },
    };
    check_user(&user)?;
    check_password(&password)?;
    Ok(Some(Credential::Basic { user, password: Secret::new(password) }))
}

fn entry(credential: &Credential) -> Value {
    let (field, text) = match credential {
        Credential::Basic { user, password } => {
            ("auth", base64::encode(format!("{user}:{}", password.expose()).as_bytes()))
        }
        Credential::Identity(token) => ("identitytoken", token.expose().to_owned()),
        Credential::Bearer(token) => ("registrytoken", token.expose().to_owned()),
    };
    Value::Object(Map::from_iter([(field.to_owned(), Value::String(text))]))
}

/// A key as messages have it: not longer than a registry's name can be, and nothing before an `@`.
fn shown(key: &str) -> String {
    let key = key.rsplit('@').next().unwrap_or_default();
    key.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    fn basic(user: &str, password: &str) -> Credential {
        Credential::Basic { user: user.into(), password: Secret::new(password) }
    }

    fn auths(entries: &str) -> AuthFile {
        AuthFile::parse(&format!("{{\"auths\": {{{entries}}}}}")).ok().unwrap()
    }

    fn said(file: &AuthFile, name: &str) -> String {
        file.credential(&host(name)).unwrap_err()
    }

    #[test]
    fn what_an_entry_means() {
        for (entry, means) in [
            (r#"{"auth": "bWU6aHVudGVyMg=="}"#, Some(basic("me", "hunter2"))),
            (r#"{"auth": "bWU6aHVudGVyMg"}"#, Some(basic("me", "hunter2"))),
            // me:a:b:c, and a password that is padded.
            (r#"{"auth": "bWU6YTpiOmM="}"#, Some(basic("me", "a:b:c"))),
            (r#"{"auth": "bWU6YQAAAA=="}"#, Some(basic("me", "a"))),
            (r#"{"auth": "bWU6"}"#, Some(basic("me", ""))),
            (r#"{"username": "me", "password": "x:y", "email": "a@b.example"}"#, Some(basic("me", "x:y"))),
            (r#"{"auth": "bWU6YQ==", "identitytoken": "t"}"#, Some(Credential::Identity(Secret::new("t")))),
            (r#"{"identitytoken": "t", "registrytoken": "r"}"#, Some(Credential::Bearer(Secret::new("r")))),
            (r#"{"auth": "", "username": "", "password": null}"#, None),
            (r#"{"username": "me"}"#, None),
            ("{}", None),
        ] {
            let file = auths(&format!("\"registry.example\": {entry}"));
            assert_eq!(file.credential(&host("registry.example")), Ok(means), "{entry}");
        }
    }

    #[test]
    fn exactly_one_host_and_port_matches() {
        let file = auths(
            r#""registry.example:5000": {"auth": "YTox"}, "https://old.example/v1/": {"auth": "YToy"},
               "registry.example/team": {"auth": "YToz"}, "twice.example/": {"auth": "YTo0"}, "twice.example": {"auth": "YTo1"}"#,
        );
        for (name, password) in [
            ("registry.example:5000", Some("1")),
            ("old.example", Some("2")),
            ("twice.example", Some("5")),
            ("registry.example", None),
            ("registry.example:50000", None),
            ("sub.registry.example:5000", None),
            ("xregistry.example:5000", None),
            ("example", None),
            ("old.example:80", None),
        ] {
            let means = password.map(|password| basic("a", password));
            assert_eq!(file.credential(&host(name)), Ok(means), "{name}");
            assert_eq!(file.names(&host(name)), password.is_some(), "{name}");
        }
        assert!(file.has_namespaces(&host("registry.example")));
        assert!(!file.has_namespaces(&host("registry.example:5000")));
    }

    #[test]
    fn a_helper_of_a_registry_goes_before_that_of_all() {
        let file = AuthFile::parse(
            r#"{"credsStore": "all", "credHelpers": {"https://one.example": "one", "none.example": ""}}"#,
        );
        let file = file.ok().unwrap();
        let program = |name: &str| file.helper(&host(name)).unwrap().map(|helper| helper.program());
        assert_eq!(program("one.example").as_deref(), Some("docker-credential-one"));
        assert_eq!(program("two.example").as_deref(), Some("docker-credential-all"));
        assert_eq!(program("none.example"), None);
        for name in ["\"../evil\"", "\"a b\"", "\"-x\"", "\"a\\u0000b\"", "7"] {
            let file = AuthFile::parse(&format!("{{\"credsStore\": {name}}}")).ok().unwrap();
            assert!(file.helper(&host("a.example")).is_err(), "{name}");
        }
    }

    #[test]
    fn hostile_files_are_refused_without_their_secrets() {
        let deep = format!("{{\"auths\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in ["[]", "\"hunter2\"", "{\"auths\": {\"hunter2", "{hunter2}", "nul", &deep, "{} hunter2"] {
            let Err(why) = AuthFile::parse(text) else { panic!("{}", &text[..20.min(text.len())]) };
            assert!(!why.contains("hunter2") && why.len() < 200, "{why}");
        }
        for entry in [
            r#"{"auth": "hunter2!"}"#,
            r#"{"auth": "aHVudGVyMg=="}"#,
            r#"{"auth": "/////w=="}"#,
            r#"{"auth": ["hunter2"]}"#,
            r#""hunter2""#,
            r#"{"auth": "bWU6aHVudGVyMgo="}"#,
            r#"{"username": "me", "password": "hunter2\u001b[2J"}"#,
            r#"{"username": "me\r\nX: hunter2", "password": "a"}"#,
            r#"{"username": "m:e", "password": "hunter2"}"#,
            r#"{"identitytoken": "hunter2\r\nX: y"}"#,
            r#"{"registrytoken": "hunter2 x"}"#,
        ] {
            let why = said(&auths(&format!("\"a.example\": {entry}")), "a.example");
            assert!(!why.contains("hunter2") && why.starts_with("`a.example` in auths: "), "{why}");
        }
        let file = AuthFile::parse(r#"{"auths": "hunter2", "credHelpers": ["hunter2"]}"#).ok().unwrap();
        assert_eq!(said(&file, "a.example"), "auths is no object");
        assert_eq!(file.helper(&host("a.example")).unwrap_err(), "credHelpers is no object");
        assert!(AuthFile::parse(" \n").ok().unwrap().credential(&host("a.example")).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn what_is_set_is_what_is_found(
            user in "[^:\\p{Cc}]{0,20}",
            password in "[^\\p{Cc}]{0,40}",
            names in prop::collection::btree_set("[ab]{1,2}(\\.[ab]){0,1}(:[12])?", 2..5),
        ) {
            let hosts: Vec<Host> = names.iter().map(|name| host(name)).collect();
            let mut file = AuthFile::default();
            for (index, host) in hosts.iter().enumerate().skip(1) {
                file.set(host, Some(&basic(&format!("{user}{index}"), &password))).unwrap();
            }
            let file = AuthFile::parse(&file.text()).ok().unwrap();
            prop_assert_eq!(file.credential(&hosts[0]), Ok(None));
            for (index, host) in hosts.iter().enumerate().skip(1) {
                prop_assert_eq!(file.credential(host), Ok(Some(basic(&format!("{user}{index}"), &password))));
            }
        }

        #[test]
        fn no_message_quotes_a_value(value in "\\PC{0,30}", field in "auth|username|password|identitytoken|registrytoken") {
            let marked = format!("hunter2{value}");
            let text = serde_json::json!({ "auths": { "a.example": { field: marked } } }).to_string();
            let whys = [
                AuthFile::parse(&text).ok().unwrap().credential(&host("a.example")).err(),
                AuthFile::parse(&text[..text.len() - 2]).err(),
            ];
            for why in whys.into_iter().flatten() {
                prop_assert!(!why.contains("hunter2"), "{}", why);
            }
        }
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is() {
        let text = "{\n\t\"HttpHeaders\": {\n\t\t\"X\": \"y\"\n\t},\n\t\"auths\": {\n\t\t\"z.example\": {\n\t\t\t\"auth\": \"eg==\",\n\t\t\t\"email\": \"z\"\n\t\t},\n\t\t\"https://a.example/v1/\": {},\n\t\t\"a.example/team\": {\n\t\t\t\"auth\": \"bm8=\"\n\t\t}\n\t},\n\t\"big\": 18446744073709551615,\n\t\"a\": [\n\t\tnull\n\t]\n}\n";
        let mut file = AuthFile::parse(text).ok().unwrap();
        assert_eq!(file.text(), text);
        file.set(&host("a.example"), Some(&basic("me", "hunter2"))).unwrap();
        let entry = "\"a.example\": {\n\t\t\t\"auth\": \"bWU6aHVudGVyMg==\"\n\t\t}";
        assert_eq!(file.text(), text.replace("\"https://a.example/v1/\": {}", entry));
        assert_eq!(file.credential(&host("a.example")), Ok(Some(basic("me", "hunter2"))));
        file.set(&host("a.example"), None).unwrap();
        assert_eq!(file.text(), text.replace("\"https://a.example/v1/\": {}", "\"a.example\": {}"));
        assert!(file.remove(&host("a.example")) && !file.remove(&host("a.example")));
        assert_eq!(file.text(), text.replace("\t\t\"https://a.example/v1/\": {},\n", ""));
        assert!(file.has_secrets());

        let mut empty = AuthFile::default();
        empty.set(&host("a.example"), Some(&Credential::Identity(Secret::new("t")))).unwrap();
        let credential = AuthFile::parse(&empty.text()).ok().unwrap().credential(&host("a.example"));
        assert_eq!(credential, Ok(Some(Credential::Identity(Secret::new("t")))));
        assert!(AuthFile::parse("{\"auths\": 7}").ok().unwrap().set(&host("a.example"), None).is_err());
    }
}
