//! Certificates of registries where Docker and podman have them (containers-certs.d(5)): a directory for each registry,
//! by host and port as references have them.
//!
//! ```text
//! certs.d/registry.example:5000/
//! ├── any.crt         certificates to trust; all files that end so
//! ├── client.cert     what the registry is shown, and
//! └── client.key      its key; of several pairs the first by name
//! ```
//!
//! Of a registry counts the first directory that there is: `~/.config/containers/certs.d`, `~/.config/docker/certs.d`,
//! `/etc/containers/certs.d`, `/etc/docker/certs.d`. What the user's configuration says goes before, key by key.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{AllSettings, ClientCertificate, Host};
use crate::textfile;

/// In order of precedence.
pub(super) fn directories(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let of = |config: &Path| ["containers", "docker"].map(|tool| config.join(tool).join("certs.d"));
    config.iter().map(PathBuf::as_path).chain([Path::new("/etc")]).flat_map(of).collect()
}

/// Adds what the directories have to what is said already; what is worth saying of them.
pub(super) fn add(settings: &mut AllSettings, directories: &[PathBuf]) -> Vec<String> {
    let (mut seen, mut notes) = (BTreeSet::new(), Vec::new());
    for directory in directories {
        for (name, path) in list(directory, &mut notes) {
            // Names that are no registry's are somebody else's matter; one has the spelling that references have.
            let Ok(host) = name.parse::<Host>() else { continue };
            if !path.is_dir() || !seen.insert(host.clone()) {
                continue;
            }
            let found = certificates(&path, &mut notes);
            let known = settings.entry(host).or_default();
            if known.ca.is_empty() {
                known.ca = found.ca;
            }
            known.client = known.client.take().or(found.client);
        }
    }
    notes
}

#[derive(Default)]
struct Certificates {
    ca: Vec<PathBuf>,
    client: Option<ClientCertificate>,
}

fn certificates(directory: &Path, notes: &mut Vec<String>) -> Certificates {
    let mut found = Certificates::default();
    let files = list(directory, notes);
    for (name, path) in &files {
        if name.ends_with(".crt") {
            found.ca.push(path.clone());
        } else if let Some(stem) = name.strip_suffix(".cert") {
            let key = format!("{stem}.key");
            match files.iter().find(|(name, _)| *name == key) {
                Some((_, key)) if found.client.is_none() => {
                    found.client = Some(ClientCertificate { certificate: path.clone(), key: key.clone() });
                }
                Some(_) => {}
                None => notes.push(format!("{} has no {key} beside it and is not used", path.display())),
            }
        }
    }
    found
}

/// What a directory has, by name; one that is not there has nothing.
fn list(directory: &Path, notes: &mut Vec<String>) -> Vec<(String, PathBuf)> {
    let listed = fs::read_dir(directory).and_then(|entries| {
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            // What is not UTF-8 is neither a host nor a certificate.
            if let Ok(name) = entry.file_name().into_string() {
                found.push((name, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    });
    listed.unwrap_or_else(|error| {
        if !textfile::is_away(directory, &error) {
            notes.push(format!("certificates in {} are not used: {error}", directory.display()));
        }
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Settings;

    #[test]
    fn the_first_directory_of_a_registry_counts() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for file in [
            "user/a.example:5000/ca.crt",
            "user/a.example:5000/z.crt",
            "user/a.example:5000/client.cert",
            "user/a.example:5000/client.key",
            "user/a.example:5000/other.cert",
            "user/a.example:5000/other.key",
            "user/a.example:5000/README",
            "user/stray.crt",
            "user/no host/ca.crt",
            "etc/a.example:5000/etc.crt",
            "etc/b.example/ca.crt",
            "etc/b.example/lone.cert",
            "etc/c.example/ca.crt",
        ] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), "").unwrap();
        }
        let host = |text: &str| text.parse::<Host>().unwrap();
        let said = Settings { ca: vec!["/said.pem".into()], ..Settings::default() };
        let mut settings = AllSettings::from([(host("c.example"), said.clone())]);
        let notes = add(&mut settings, &[at("user"), at("nowhere"), at("etc")]);
        let of = |ca: &[&str], client: Option<&str>| Settings {
            ca: ca.iter().map(|path| at(path)).collect(),
            client: client.map(|stem| ClientCertificate {
                certificate: at(&format!("{stem}.cert")),
                key: at(&format!("{stem}.key")),
            }),
            ..Settings::default()
        };
        let full = of(
            &["user/a.example:5000/ca.crt", "user/a.example:5000/z.crt"],
            Some("user/a.example:5000/client"),
        );
        let expected = [
            (host("a.example:5000"), full),
            (host("b.example"), of(&["etc/b.example/ca.crt"], None)),
            (host("c.example"), said),
        ];
        assert_eq!(settings, AllSettings::from(expected));
        assert!(
            matches!(&notes[..], [one] if one.ends_with("lone.cert has no lone.key beside it and is not used")),
            "{notes:?}"
        );
    }

    #[test]
    fn which_directories() {
        let of = |variables: &[(&str, &str)]| -> Vec<String> {
            let env = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
            };
            directories(&env).iter().map(|path| path.to_str().unwrap().to_owned()).collect()
        };
        let etc = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
        assert_eq!(of(&[("XDG_CONFIG_HOME", "relative")]), etc);
        let user = ["/h/.config/containers/certs.d", "/h/.config/docker/certs.d"];
        assert_eq!(of(&[("HOME", "/h")]), [user, etc].concat());
    }
}
