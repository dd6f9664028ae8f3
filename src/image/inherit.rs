//! What an image takes over from the one below it, as users know it of `FROM`: the base says how to run, the spec has the
//! last word on each setting.
//!
//! | setting | result |
//! |---|---|
//! | environment | the base's, in its order, the spec's over it; `PATH` the base's, before it Python's scripts unless they are on it |
//! | entrypoint, arguments | the spec's; an entrypoint of the spec, also `[]`, clears the base's arguments, since they were for another program |
//! | user, work directory, stop signal | the spec's, or else the base's |
//! | ports, volumes, labels | both, the spec's over the base's |
//! | health check, shell, time to stop | the base's, for there are none in a spec |
//! | history | the base's entries, those without a layer too, then ours |

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::digest::Digest;
use crate::oci::Reference;
use crate::oci::config::{History, ImageConfig, RunConfig};
use crate::spec::model::Image;

/// The image of somebody else that lies below ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// As the spec has it.
    pub reference: Reference,
    /// Of its manifest.
    pub manifest: Digest,
    pub config: ImageConfig,
    /// What its manifest says of each of its layers besides: where a packing can be read in parts, as a rule.
    pub annotations: Vec<BTreeMap<String, String>>,
    /// A directory that programs must be found in.
    pub scripts: Option<String>,
}

impl BaseImage {
    /// Its name for people and annotations: without a digest.
    pub(super) fn name(&self) -> String {
        match self.reference.tag() {
            Some(tag) => format!("{}:{tag}", self.reference.name()),
            None => self.reference.name(),
        }
    }

    /// One entry for each of its `layers` layers, and its other ones. Where its own history does not fit its layers, or is not
    /// there, entries of ours stand in its place: a history that does not fit is refused by some tools.
    pub(super) fn history(&self, layers: usize) -> Vec<History> {
        let own = &self.config.history;
        if own.iter().filter(|entry| !entry.empty_layer).count() == layers {
            return own.clone();
        }
        let name = self.name();
        let entry = |at| History {
            created: self.config.created.clone(),
            created_by: Some(format!("{name}, layer {at} of {layers}")),
            ..History::default()
        };
        (1..=layers).map(entry).collect()
    }

    /// `own` settings, those of `spec`, upon those of the base. `default_path` is what a runtime takes where an image says nothing.
    pub(super) fn settings(&self, own: RunConfig, spec: &Image, default_path: &str) -> RunConfig {
        let base = self.config.config.clone();
        // Docker writes an empty text for what is not set.
        let set = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (entrypoint, cmd) = match (&spec.entrypoint, &spec.cmd) {
            (Some(_), _) => (own.entrypoint, own.cmd),
            (None, Some(_)) => (base.entrypoint, own.cmd),
            (None, None) => (base.entrypoint, base.cmd),
        };
        RunConfig {
            user: own.user.or(set(base.user)),
            exposed_ports: base.exposed_ports.into_iter().chain(own.exposed_ports).collect(),
            env: self.env(base.env, &own.env, default_path),
            entrypoint,
            cmd,
            volumes: base.volumes.into_iter().chain(own.volumes).collect(),
            working_dir: own.working_dir.or(set(base.working_dir)),
            labels: base.labels.into_iter().chain(own.labels).collect(),
            stop_signal: own.stop_signal.or(set(base.stop_signal)),
            healthcheck: own.healthcheck.or(base.healthcheck),
            shell: base.shell,
            stop_timeout: base.stop_timeout,
        }
    }

    fn env(&self, base: Vec<String>, own: &[String], default_path: &str) -> Vec<String> {
        let (mut env, mut places): (Vec<String>, BTreeMap<&str, usize>) = Default::default();
        for entry in base.iter().chain(own) {
            // An entry without a name is no variable to any runtime.
            let Some(name) = name_of(entry) else { continue };
            match places.entry(name) {
                Entry::Occupied(place) => env[*place.get()].clone_from(entry),
                Entry::Vacant(place) => {
                    place.insert(env.len());
                    env.push(entry.clone());
                }
            }
        }
        let set_by_us = own.iter().any(|entry| name_of(entry) == Some("PATH"));
        if let Some(scripts) = self.scripts.as_ref().filter(|_| !set_by_us) {
            let at = env.iter().position(|entry| name_of(entry) == Some("PATH"));
            let path = at.map_or(default_path, |at| &env[at]["PATH=".len()..]);
            if !path.split(':').any(|directory| directory.trim_end_matches('/') == scripts) {
                let entry = if path.is_empty() {
                    format!("PATH={scripts}")
                } else {
                    format!("PATH={scripts}:{path}")
                };
                match at {
                    Some(at) => env[at] = entry,
                    None => env.push(entry),
                }
            }
        }
        env
    }
}

/// Directories of a search path that are looked at; nobody has more.
const DIRECTORIES_MAX: usize = 100;

/// Of `NAME=value`; none where there is no name, or no `=`.
fn name_of(entry: &str) -> Option<&str> {
    entry.split_once('=').map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// The directories in which the programs of an image with these settings are looked for.
pub fn search_path(config: &ImageConfig) -> Vec<String> {
    let path = config.config.env.iter().rev().find(|entry| name_of(entry) == Some("PATH"));
    let path = path.map_or(super::assemble::PATH, |entry| &entry["PATH=".len()..]);
    let directories = path.split(':').filter(|directory| directory.starts_with('/'));
    directories.take(DIRECTORIES_MAX).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::config::{Healthcheck, Nothing, RootFs};

    const DEFAULT: &str = "/usr/bin:/bin";

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn base(config: RunConfig) -> BaseImage {
        BaseImage {
            reference: "registry.example/team/base:1.0".parse().unwrap(),
            manifest: Digest::of("manifest"),
            config: ImageConfig {
                created: Some("2020-01-01T00:00:00Z".to_owned()),
                architecture: "amd64".to_owned(),
                os: "linux".to_owned(),
                variant: None,
                config,
                rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() },
                history: Vec::new(),
            },
            annotations: Vec::new(),
            scripts: None,
        }
    }

    fn everything() -> RunConfig {
        let set = |name: &str| BTreeMap::from([(name.to_owned(), Nothing {})]);
        RunConfig {
            user: Some("1000".to_owned()),
            exposed_ports: set("80/tcp"),
            env: texts(&["PATH=/opt/bin:/bin", "B=1", "A=1", "=odd", "odd"]),
            entrypoint: texts(&["/entry"]),
            cmd: texts(&["serve"]),
            volumes: set("/data"),
            working_dir: Some("/srv".to_owned()),
            labels: BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())]),
            stop_signal: Some("SIGQUIT".to_owned()),
            shell: texts(&["/bin/bash", "-c"]),
            stop_timeout: Some(30),
            healthcheck: Some(Healthcheck { test: texts(&["CMD", "true"]), ..Healthcheck::default() }),
        }
    }

    #[test]
    fn what_the_spec_does_not_say_is_the_bases() {
        let expected = RunConfig { env: texts(&["PATH=/opt/bin:/bin", "B=1", "A=1"]), ..everything() };
        assert_eq!(base(everything()).settings(RunConfig::default(), &Image::default(), DEFAULT), expected);
    }

    #[test]
    fn the_spec_has_the_last_word() {
        let own = RunConfig {
            user: Some("nobody".to_owned()),
            exposed_ports: BTreeMap::from([("8080/tcp".to_owned(), Nothing {})]),
            env: texts(&["A=2", "C=3"]),
            entrypoint: texts(&["python"]),
            working_dir: Some("/app".to_owned()),
            labels: BTreeMap::from([("b".to_owned(), "2".to_owned())]),
            stop_signal: Some("SIGINT".to_owned()),
            ..RunConfig::default()
        };
        let spec = Image { entrypoint: Some(own.entrypoint.clone()), ..Image::default() };
        let found = base(everything()).settings(own, &spec, DEFAULT);
        assert_eq!(found.env, ["PATH=/opt/bin:/bin", "B=1", "A=2", "C=3"]);
        assert_eq!((found.entrypoint, found.cmd), (texts(&["python"]), Vec::new()));
        assert_eq!(found.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "8080/tcp"]);
        assert_eq!(found.volumes.keys().collect::<Vec<_>>(), ["/data"]);
        assert_eq!(found.labels.into_values().collect::<Vec<_>>(), ["1", "2"]);
        let rest = (found.user.unwrap(), found.working_dir.unwrap(), found.stop_signal.unwrap());
        assert_eq!(rest, ("nobody".to_owned(), "/app".to_owned(), "SIGINT".to_owned()));
    }

    #[test]
    fn arguments_alone_are_for_the_bases_program() {
        let own = RunConfig { cmd: texts(&["check"]), ..RunConfig::default() };
        let spec = Image { cmd: Some(own.cmd.clone()), ..Image::default() };
        let found = base(everything()).settings(own, &spec, DEFAULT);
        assert_eq!((found.entrypoint, found.cmd), (texts(&["/entry"]), texts(&["check"])));
    }

    #[test]
    fn what_is_empty_clears() {
        let settings = |spec: &Image| {
            let found = base(everything()).settings(RunConfig::default(), spec, DEFAULT);
            (found.entrypoint, found.cmd)
        };
        let empty = || Some(Vec::new());
        assert_eq!(settings(&Image { entrypoint: empty(), ..Image::default() }), (Vec::new(), Vec::new()));
        assert_eq!(settings(&Image { cmd: empty(), ..Image::default() }), (texts(&["/entry"]), Vec::new()));
    }

    #[test]
    fn scripts_are_on_the_path() {
        for (path, own, expected) in [
            (Some("/opt/bin:/bin"), None, "PATH=/venv/bin:/opt/bin:/bin"),
            (Some("/bin:/venv/bin/"), None, "PATH=/bin:/venv/bin/"),
            (Some(""), None, "PATH=/venv/bin"),
            (None, None, "PATH=/venv/bin:/usr/bin:/bin"),
            (Some("/bin"), Some("/only"), "PATH=/only"),
        ] {
            let entries = |path: Option<&str>| path.map(|path| format!("PATH={path}")).into_iter().collect();
            let image = BaseImage {
                scripts: Some("/venv/bin".to_owned()),
                ..base(RunConfig { env: entries(path), ..RunConfig::default() })
            };
            let found = image.settings(
                RunConfig { env: entries(own), ..RunConfig::default() },
                &Image::default(),
                DEFAULT,
            );
            assert_eq!(found.env, [expected]);
        }
    }

    #[test]
    fn a_history_fits_its_layers() {
        let entry = |text: &str, empty_layer| History {
            created_by: Some(text.to_owned()),
            empty_layer,
            ..History::default()
        };
        let mut image = base(RunConfig::default());
        image.config.history = vec![entry("ADD", false), entry("ENV", true), entry("RUN", false)];
        assert_eq!(image.history(2), image.config.history);
        let made: Vec<_> = image.history(3).into_iter().map(|entry| entry.created_by.unwrap()).collect();
        assert_eq!(made[2], "registry.example/team/base:1.0, layer 3 of 3");
        assert!(image.history(3).iter().all(|entry| !entry.empty_layer));
    }

    #[test]
    fn where_programs_are_looked_for() {
        let path =
            |env: &[&str]| search_path(&base(RunConfig { env: texts(env), ..RunConfig::default() }).config);
        assert_eq!(path(&["PATH=/a", "PATH=/b/:c::/d"]), ["/b/", "/d"]);
        assert_eq!(path(&["A=1"]).len(), 6);
    }
}
