//! Where the user's credentials are, by the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use super::helper::Runs;
use crate::registry::Secret;

/// What the environment says; see [`super`] for the order.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `DOCKER_AUTH_CONFIG`: not a path, but the text of a file.
    pub(super) text: Option<Secret>,
    /// In order of precedence.
    pub(super) files: Vec<PathBuf>,
    /// The only file, which `REGISTRY_AUTH_FILE` names, has to be there to be read.
    pub(super) required: bool,
    /// Where a login goes to whose registry no file knows yet.
    pub(super) new: Option<PathBuf>,
    pub(super) helpers: Runs,
}

impl Places {
    /// A variable that is empty counts as not set. What XDG and `HOME` say counts when it is absolute.
    pub fn of(env: &dyn Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let set = |name| env(name).filter(|value| !value.is_empty());
        // What is not UTF-8 is no JSON, and said to be none when it is read.
        let text = set("DOCKER_AUTH_CONFIG").map(|text| Secret::new(text.to_string_lossy()));
        if let Some(path) = set("REGISTRY_AUTH_FILE").map(PathBuf::from) {
            return Self {
                text,
                files: vec![path.clone()],
                required: true,
                new: Some(path),
                ..Self::default()
            };
        }
        let absolute = |name| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let runtime = absolute("XDG_RUNTIME_DIR")
            .map_or_else(|| format!("/run/containers/{uid}").into(), |at| at.join("containers"));
        let config = absolute("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let docker = set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| below_home(".docker"));
        let docker = docker.map(|at| at.join("config.json"));
        let files = [
            Some(runtime.join("auth.json")),
            config.map(|at| at.join("containers/auth.json")),
            docker.clone(),
        ];
        Self { text, files: files.into_iter().flatten().collect(), new: docker, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(variables: &[(&str, &str)]) -> Vec<String> {
        let env =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let places = Places::of(&env, 7);
        assert!(places.new.is_none() || places.files.contains(places.new.as_ref().unwrap()));
        places.files.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_the_environment_names() {
        for (variables, expected) in [
            (
                &[("HOME", "/h")][..],
                &["/run/containers/7/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
                    [..],
            ),
            (
                &[
                    ("HOME", "/h"),
                    ("XDG_RUNTIME_DIR", "/r"),
                    ("XDG_CONFIG_HOME", "/c"),
                    ("DOCKER_CONFIG", "d"),
                ],
                &["/r/containers/auth.json", "/c/containers/auth.json", "d/config.json"],
            ),
            (&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "a.json"), ("DOCKER_CONFIG", "/d")], &["a.json"]),
            (
                &[("HOME", ""), ("XDG_RUNTIME_DIR", "relative"), ("REGISTRY_AUTH_FILE", "")],
                &["/run/containers/7/auth.json"],
            ),
        ] {
            assert_eq!(files(variables), expected, "{variables:?}");
        }
    }
}
