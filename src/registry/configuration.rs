//! The user's configuration, `config.toml`: how this machine reaches registries. Never part of a project, whose images must
//! not depend on it.
//!
//! ```toml
//! [registries."registry.example:5000"]
//! ca = ["ca.pem"]                       # paths count from this file's directory
//! client-certificate = "client.pem"
//! client-key = "client.key"
//! mirrors = ["mirror.example"]
//! realms = ["auth.example"]
//! layer-store = "<namespace>/mlbuild-layers"
//! max-layer = "10GB"                    # it refuses larger ones, after they have been sent
//! ```
//!
//! It is `$XDG_CONFIG_HOME/mlbuild/config.toml`, or `~/.config/mlbuild/config.toml`. The types in `wire` are the one
//! source of its keys and of `schemas/config.schema.json`; a text takes the way of a spec through `spec::form`.
//!
//! What else has a say, each about something else or after it:
//! - Certificates may also lie where Docker and podman have them, see `registry::certificates`; a key written here goes before.
//! - `SSL_CERT_FILE` and `SSL_CERT_DIR` stand for the system's certificates, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name
//!   proxies, for registries as for everything else ([`crate::http`]).
//! - Credentials stand in no configuration: see [`super::keychain`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;
use toml::de::DeTable;

use super::{AllSettings, ClientCertificate, Host, Settings, certificates};
use crate::diagnostic::Diagnostic;
use crate::size;
use crate::spec::check::quoted;
use crate::spec::form;
use crate::spec::schema;
use crate::spec::source::{MAX_BYTES, Place};
use crate::textfile;

#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} has mistakes", path = path.display())]
    Invalid { path: PathBuf, text: String, diagnostics: Vec<Diagnostic> },
}

/// A configuration that has been read and understood.
#[derive(Debug, Default)]
pub struct Configuration {
    pub path: PathBuf,
    pub text: String,
    pub registries: AllSettings,
    /// What is worth saying nevertheless; the places are in `text`.
    pub warnings: Vec<Diagnostic>,
    /// What is worth saying of directories with certificates.
    pub notes: Vec<String>,
}

/// Where the configuration is, by the environment; what XDG and `HOME` say counts when it is absolute.
pub fn path(env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("mlbuild/config.toml"))
}

impl Configuration {
    /// All that this machine and its user say of registries.
    pub fn of(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigurationError> {
        let mut configuration = match path(env) {
            Some(path) => Self::load(&path)?,
            None => Self::default(),
        };
        let directories = certificates::directories(env);
        configuration.notes = certificates::add(&mut configuration.registries, &directories);
        Ok(configuration)
    }

    /// The file of that name; one that is not there says nothing.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        let path = path.to_owned();
        let text = match textfile::read(&path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if textfile::is_away(&path, &error) => return Ok(Self { path, ..Self::default() }),
            Err(source) => return Err(ConfigurationError::Read { path, source }),
        };
        match parse(&text, path.parent().unwrap_or(Path::new("."))) {
            Ok((registries, warnings)) => Ok(Self { path, text, registries, warnings, notes: Vec::new() }),
            Err(diagnostics) => Err(ConfigurationError::Invalid { path, text, diagnostics }),
        }
    }
}

/// The settings of a text, whose paths count from `directory`, and what is worth saying of it; or all that is wrong with it.
pub fn parse(text: &str, directory: &Path) -> Result<(AllSettings, Vec<Diagnostic>), Vec<Diagnostic>> {
    let meaning = |wire: wire::Configuration, table: &DeTable<'_>, found: &mut Vec<Diagnostic>| {
        registries(wire, table, directory, found)
    };
    form::parse(text, "configuration", schema_value(), meaning, |_, _| ())
}

/// The JSON Schema of the file: the exact content of `schemas/config.schema.json`.
pub fn schema_json() -> String {
    schema::text(schema_value())
}

fn schema_value() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema::of::<wire::Configuration>);
    &SCHEMA
}

fn registries(
    wire: wire::Configuration,
    table: &DeTable<'_>,
    directory: &Path,
    found: &mut Vec<Diagnostic>,
) -> AllSettings {
    let place = Place::root(table).get("registries");
    let mut all = AllSettings::new();
    for (name, registry) in wire.registries {
        let at = place.get(&name);
        let host = host(&name, at.key_span(), found);
        let settings = settings(registry, host.as_ref(), &at, directory, found);
        let Some(host) = host else { continue };
        if all.insert(host.clone(), settings).is_some() {
            let message = format!("{} is a second spelling of `{host}`", quoted(&name));
            found.push(Diagnostic::error(message, at.key_span()));
        }
    }
    all
}

fn settings(
    wire: wire::Registry,
    host_of: Option<&Host>,
    at: &Place<'_>,
    directory: &Path,
    found: &mut Vec<Diagnostic>,
) -> Settings {
    let mut hosts = |key: &str, names: &[String]| -> Vec<Host> {
        let at = at.get(key);
        let mut hosts = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let span = at.at(index).span();
            let Some(host) = host(name, span.clone(), found) else { continue };
            let why = if host_of == Some(&host) {
                "is the registry itself"
            } else if hosts.contains(&host) {
                "stands there twice"
            } else {
                hosts.push(host);
                continue;
            };
            found.push(Diagnostic::error(format!("`{host}` in `{key}` {why}"), span));
        }
        hosts
    };
    let (mirrors, realms) = (hosts("mirrors", &wire.mirrors), hosts("realms", &wire.realms));
    let path = |path: &String| directory.join(path);
    let client = match (&wire.client_certificate, &wire.client_key) {
        (Some(certificate), Some(key)) => {
            Some(ClientCertificate { certificate: path(certificate), key: path(key) })
        }
        (None, None) => None,
        (certificate, _) => {
            let (there, away) = match certificate {
                Some(_) => ("client-certificate", "client-key"),
                None => ("client-key", "client-certificate"),
            };
            let message = format!("`{there}` says nothing without `{away}`");
            found.push(Diagnostic::error(message, at.get(there).key_span()));
            None
        }
    };
    if wire.insecure {
        for key in ["ca", "client-certificate"].into_iter().filter(|key| at.has(key)) {
            let message = format!("`{key}` says nothing of a registry that is reached over plain HTTP");
            let warning = Diagnostic::warning(message, at.get(key).key_span());
            found.push(warning.label(at.get("insecure").key_span().unwrap_or_default(), "said here"));
        }
    }
    let max_layer = wire.max_layer.as_ref().and_then(|text| {
        let bytes = size::parse(text).filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            let message = format!("{} is no size", quoted(text));
            found.push(Diagnostic::error(message, at.get("max-layer").span()).hint("for example `10GB`"));
        }
        bytes
    });
    let ca = wire.ca.iter().map(path).collect();
    let layer_store = wire.layer_store;
    Settings { insecure: wire.insecure, ca, client, mirrors, realms, layer_store, max_layer }
}

fn host(name: &str, span: Option<Range<usize>>, found: &mut Vec<Diagnostic>) -> Option<Host> {
    let parsed = name.parse();
    if parsed.is_err() {
        let message = format!("{} is not a registry: a host, and a port if need be", quoted(name));
        let diagnostic = Diagnostic::error(message, span);
        found.push(match name.split_once("://") {
            Some((_, rest)) if rest.trim_end_matches('/').parse::<Host>().is_ok() => {
                diagnostic.hint(format!("write it without the scheme: `{}`", rest.trim_end_matches('/')))
            }
            _ => diagnostic.hint("for example `registry.example` or `127.0.0.1:5000`"),
        });
    }
    parsed.ok()
}

/// The file as it is written.
mod wire {
    use super::BTreeMap;
    use schemars::JsonSchema;
    use serde::Deserialize;

    /// How this machine and its user reach registries.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[schemars(title = "config.toml of mlbuild")]
    pub struct Configuration {
        /// Registries by host and port: `[registries."registry.example:5000"]`.
        #[serde(default)]
        pub registries: BTreeMap<String, Registry>,
    }

    /// How one registry is reached; without a table of its own, over HTTPS with the system's certificates.
    #[derive(Debug, Default, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub struct Registry {
        /// Plain HTTP, and credentials over it. This machine's own registries (`localhost`, `127.0.0.1`) need no such word.
        #[serde(default)]
        pub insecure: bool,
        /// PEM files with certificates to trust besides the system's.
        #[serde(default)]
        pub ca: Vec<String>,
        /// PEM file with the certificate that the registry is shown.
        #[schemars(length(min = 1))]
        pub client_certificate: Option<String>,
        /// PEM file with the key of `client-certificate`.
        #[schemars(length(min = 1))]
        pub client_key: Option<String>,
        /// Registries that are asked first, in this order, for what is read; nothing is written to them.
        #[serde(default)]
        pub mirrors: Vec<String>,
        /// Hosts other than its own to whose token servers it may send for tokens, and with them the credential.
        #[serde(default)]
        pub realms: Vec<String>,
        /// Repository of this registry in which builds that push keep what they know of layers, and in which other machines look
        /// them up: `<namespace>/mlbuild-layers`, where `<namespace>` stands for the image's own. Trust whoever may write to it.
        #[schemars(length(min = 1))]
        pub layer_store: Option<String>,
        /// The largest layer that it takes, such as `10GB`: a larger one is refused before it is sent.
        #[schemars(length(min = 1))]
        pub max_layer: Option<String>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> AllSettings {
        let (settings, warnings) = parse(text, Path::new("/c")).unwrap();
        assert_eq!(warnings, []);
        settings
    }

    /// Messages with what of the text they mean, and their hints.
    fn mistakes(text: &str) -> Vec<String> {
        let found = match parse(text, Path::new("/c")) {
            Ok((_, warnings)) => warnings,
            Err(found) => found,
        };
        let shown = |found: &Diagnostic| {
            let hints: String = found.hints.iter().map(|hint| format!(" ({hint})")).collect();
            format!("{}: {}{hints}", &text[found.span.clone().unwrap()], found.message)
        };
        found.iter().map(shown).collect()
    }

    #[test]
    fn everything_that_can_be_said() {
        let text = "[registries.\"Registry.Example:5000\"]\nca = ['a.pem', '/b.pem']\nclient-certificate = 'c.pem'\n\
                    client-key = 'sub/c.key'\nmirrors = ['m.example', '127.0.0.1:80']\nrealms = ['auth.example']\nlayer-store = '<namespace>/layers'\n\
                    max-layer = '10GB'\n[registries.'plain.example:80']\ninsecure = true\n[registries.'[::1]:5000']\n";
        let host = |text: &str| text.parse::<Host>().unwrap();
        let path = PathBuf::from;
        let full = Settings {
            insecure: false,
            ca: vec![path("/c/a.pem"), path("/b.pem")],
            client: Some(ClientCertificate { certificate: path("/c/c.pem"), key: path("/c/sub/c.key") }),
            mirrors: vec![host("m.example"), host("127.0.0.1:80")],
            realms: vec![host("auth.example")],
            layer_store: Some("<namespace>/layers".to_owned()),
            max_layer: Some(10_000_000_000),
        };
        let plain = Settings { insecure: true, ..Settings::default() };
        let expected = [
            (host("registry.example:5000"), full),
            (host("plain.example:80"), plain),
            (host("[::1]:5000"), Settings::default()),
        ];
        assert_eq!(parsed(text), AllSettings::from(expected));
        assert_eq!(parsed(""), AllSettings::new());
    }

    #[test]
    fn every_mistake_has_its_place() {
        for (text, said) in [
            ("[registrys]", "registrys: unknown key `registrys` (did you mean `registries`?)"),
            (
                "[registries.'a.example']\ninsecur = true",
                "insecur: unknown key `insecur` in [registries.\"a.example\"] (did you mean `insecure`?)",
            ),
            (
                "[registries.'a.example']\nca = 'x'",
                "'x': `ca` in [registries.\"a.example\"]: expected an array, found a string (write it as an array: [\"x\"])",
            ),
            (
                "[registries.'https://a.example/']",
                "'https://a.example/': `https://a.example/` is not a registry: a host, and a port if need be (write it without the scheme: `a.example`)",
            ),
            (
                "[registries.'a.example']\nmirrors = ['b.example', 'x/y']",
                "'x/y': `x/y` is not a registry: a host, and a port if need be (for example `registry.example` or `127.0.0.1:5000`)",
            ),
            (
                "[registries.'a.example']\nmirrors = ['A.example:443']",
                "'A.example:443': `a.example` in `mirrors` is the registry itself",
            ),
            (
                "[registries.'a.example']\nrealms = ['b.example', 'B.example']",
                "'B.example': `b.example` in `realms` stands there twice",
            ),
            (
                "[registries.'a.example']\n[registries.'a.example:443']",
                "'a.example:443': `a.example:443` is a second spelling of `a.example`",
            ),
            (
                "[registries.'a.example']\nclient-key = 'x'",
                "client-key: `client-key` says nothing without `client-certificate`",
            ),
            ("[registries.'a.example']\nmax-layer = '0'", "'0': `0` is no size (for example `10GB`)"),
            (
                "[registries.'a.example']\ninsecure = true\nca = ['x']",
                "ca: `ca` says nothing of a registry that is reached over plain HTTP",
            ),
        ] {
            assert_eq!(mistakes(text), [said], "{text}");
        }
        assert_eq!(mistakes("[registries.'a b']\nca = 1\n[registries.'c d']\nx = 1").len(), 2, "all at once");
        assert!(mistakes("[registries.'a b']\n[registries.'c d']").len() == 2);
    }

    #[test]
    fn where_it_is() {
        let at = |variables: &[(&str, &str)]| {
            let env = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            };
            path(&env).map(|path| path.to_str().unwrap().to_owned())
        };
        assert_eq!(at(&[("HOME", "/h")]).as_deref(), Some("/h/.config/mlbuild/config.toml"));
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]).as_deref(),
            Some("/c/mlbuild/config.toml")
        );
        assert_eq!(at(&[("XDG_CONFIG_HOME", "c")]), None);
    }

    #[test]
    fn a_file_is_read_or_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        assert!(Configuration::load(&path).unwrap().registries.is_empty());
        std::fs::write(&path, "[registries.'a.example']\nca = ['ca.pem']\n").unwrap();
        let registries = Configuration::load(&path).unwrap().registries;
        assert_eq!(registries.values().next().unwrap().ca, [directory.path().join("ca.pem")]);
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(Configuration::load(&path), Err(ConfigurationError::Invalid { .. })));
        assert!(matches!(Configuration::load(directory.path()), Err(ConfigurationError::Read { .. })));
    }

    #[test]
    fn checked_in_schema_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/config.schema.json");
        #[expect(clippy::disallowed_methods, reason = "how a person asks for the file to be written")]
        let update = std::env::var_os("MLBUILD_UPDATE_SCHEMAS").is_some();
        if update {
            std::fs::write(path, schema_json()).unwrap();
        }
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(checked_in, schema_json(), "run the tests once with MLBUILD_UPDATE_SCHEMAS=1");
        crate::spec::check::tests::is_understood(schema_value());
    }
}
