//! New specs for `mlbuild init`: commented text that `parse` accepts without a word, whatever it was made from.
//!
//! A project's own file stays where its dependencies are declared: the new spec names it under `requirements` and
//! takes over only what no file of packages can say to an image: a Python version that suits `requires-python`, the
//! indexes, the project's name. Credentials in an index's URL are never taken over.

use std::fmt::Write as _;

use super::meaning::{is_index_url, is_python_name, normalise_name};

/// Why no spec can be made from a project's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StarterError {
    #[error("cannot be read as TOML: {0}")]
    Toml(String),
    #[error("has no [project] table: only projects described by PEP 621 can be installed")]
    NoProject,
    #[error("does not look like a uv.lock: no `version` or no [[package]]")]
    NotUvLock,
}

/// A plain starter for an image called `name`, or something like it.
pub fn blank(name: &str) -> String {
    Starter::new(name).text()
}

/// From `file`, a path relative to the spec whose kind is told by its name; `name` is the image's where the file
/// knows none.
pub fn from_file(name: &str, file: &str, text: &str) -> Result<String, StarterError> {
    let mut starter = Starter::new(name);
    starter.file = Some(file.to_owned());
    match file.rsplit('/').next().unwrap_or_default() {
        "pyproject.toml" => starter.read_pyproject(text)?,
        "uv.lock" => starter.read_uv_lock(text)?,
        _ => starter.read_requirements(text),
    }
    Ok(starter.text())
}

/// Name of an image when nobody knows a better one.
const DEFAULT_NAME: &str = "app";

/// Minor versions of Python 3 in the order in which a starter prefers them: the one of bookworm, which needs nothing
/// but Debian, then newer ones, then older ones.
const PREFERRED_MINORS: [u16; 7] = [11, 12, 13, 14, 15, 10, 9];

struct Starter {
    name: String,
    file: Option<String>,
    python: PythonChoice,
    indexes: Vec<Index>,
    extras: Vec<String>,
    groups: Vec<String>,
}

struct Index {
    name: Option<String>,
    url: String,
    had_credentials: bool,
    default: bool,
    explicit: bool,
    packages: Vec<String>,
}

impl Starter {
    fn new(name: &str) -> Self {
        Self {
            name: image_name(name),
            file: None,
            python: PythonChoice::default(),
            indexes: Vec::new(),
            extras: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// `--index-url` and `--extra-index-url`; the rest of the file is the resolver's to read.
    fn read_requirements(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.trim();
            let option = |names: &[&str]| {
                names.iter().find_map(|name| {
                    let rest = line.strip_prefix(name)?;
                    let value = rest.strip_prefix('=').or_else(|| rest.strip_prefix([' ', '\t']))?;
                    value.split(" #").next().map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
                })
            };
            if let Some(url) = option(&["--index-url", "-i", "--pypi-url"]) {
                self.indexes.retain(|index| !index.default);
                self.add_index(&url, true);
            } else if let Some(url) = option(&["--extra-index-url"]) {
                self.add_index(&url, false);
            }
        }
    }

    fn read_pyproject(&mut self, text: &str) -> Result<(), StarterError> {
        let root = table(text)?;
        let project = root.get("project").and_then(toml::Value::as_table).ok_or(StarterError::NoProject)?;
        self.take_name(project.get("name"));
        self.take_python(project.get("requires-python"));
        self.extras = names(project.get("optional-dependencies"));
        self.groups = names(root.get("dependency-groups"));
        let Some(uv) = root.get("tool").and_then(|tool| tool.get("uv")) else { return Ok(()) };
        for index in uv.get("index").and_then(toml::Value::as_array).into_iter().flatten() {
            let flag = |key: &str| index.get(key).and_then(toml::Value::as_bool).unwrap_or(false);
            let Some(url) = index.get("url").and_then(toml::Value::as_str) else { continue };
            let name = index.get("name").and_then(toml::Value::as_str).filter(|name| is_python_name(name));
            if name.is_some() && self.indexes.iter().any(|other| other.name.as_deref() == name) {
                continue;
            }
            if let Some(added) = self.add_index(url, flag("default")) {
                added.name = name.map(str::to_owned);
                added.explicit = flag("explicit") && !added.default;
            }
        }
        let plain = |key: &str| uv.get(key);
        for url in plain("extra-index-url").and_then(toml::Value::as_array).into_iter().flatten() {
            if let Some(url) = url.as_str() {
                self.add_index(url, false);
            }
        }
        if let Some(url) = plain("index-url").and_then(toml::Value::as_str) {
            self.add_index(url, true);
        }
        self.take_sources(uv.get("sources"));
        Ok(())
    }

    /// `[tool.uv.sources]`: which package comes from which index.
    fn take_sources(&mut self, sources: Option<&toml::Value>) {
        for (package, source) in sources.and_then(toml::Value::as_table).into_iter().flatten() {
            let one = std::slice::from_ref(source);
            let choices = source.as_array().map_or(one, Vec::as_slice);
            // A package that comes from different indexes on different platforms is pinned to none.
            let [index] = choices else { continue };
            let Some(index) = index.get("index").and_then(toml::Value::as_str) else { continue };
            let known = self.indexes.iter_mut().find(|known| known.name.as_deref() == Some(index));
            if let Some(known) = known.filter(|_| is_python_name(package)) {
                known.packages.push(normalise_name(package));
            }
        }
        for index in &mut self.indexes {
            index.packages.sort();
            index.packages.dedup();
        }
    }

    /// A uv.lock names each file with its URL, so that no index is needed.
    fn read_uv_lock(&mut self, text: &str) -> Result<(), StarterError> {
        let root = table(text)?;
        let packages = root.get("package").and_then(toml::Value::as_array);
        if root.get("version").and_then(toml::Value::as_integer).is_none() || packages.is_none() {
            return Err(StarterError::NotUvLock);
        }
        self.take_python(root.get("requires-python"));
        let own = |package: &&toml::Value| {
            let at = |kind: &str| package.get("source").and_then(|source| source.get(kind));
            let path = at("editable").or_else(|| at("virtual")).or_else(|| at("directory"));
            path.and_then(toml::Value::as_str) == Some(".")
        };
        if let Some(package) = packages.into_iter().flatten().find(own) {
            self.take_name(package.get("name"));
            self.extras = names(package.get("optional-dependencies"));
            self.groups = names(package.get("dev-dependencies"));
        }
        Ok(())
    }

    fn take_name(&mut self, name: Option<&toml::Value>) {
        if let Some(name) = name.and_then(toml::Value::as_str).filter(|name| is_python_name(name)) {
            self.name = image_name(name);
        }
    }

    fn take_python(&mut self, requires: Option<&toml::Value>) {
        if let Some(requires) = requires.and_then(toml::Value::as_str) {
            self.python = PythonChoice::of(requires);
        }
    }

    /// The index at `url`, unless it is no URL that a spec may have, or is known already.
    fn add_index(&mut self, url: &str, default: bool) -> Option<&mut Index> {
        if !is_index_url(url) || default && self.indexes.iter().any(|index| index.default) {
            return None;
        }
        let mut url = url::Url::parse(url).ok()?;
        let had_credentials = !url.username().is_empty() || url.password().is_some();
        url.set_username("").ok().filter(|()| had_credentials);
        url.set_password(None).ok().filter(|()| had_credentials);
        let url = url.to_string();
        if self.indexes.iter().any(|index| index.url == url) {
            return None;
        }
        let packages = Vec::new();
        self.indexes.push(Index { name: None, url, had_credentials, default, explicit: false, packages });
        self.indexes.last_mut()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let PythonChoice { version, standalone } = &self.python;
        // trixie's own Python is the cheaper way to 3.13; anything else than 3.11 comes on bookworm all the same.
        let suite = if version == "3.13" && !standalone { "trixie" } else { "bookworm" };
        let _ = write!(
            text,
            r#"# What goes into the image. `mlbuild build` locks it and builds it; keep this file and mlbuild.lock
# in version control.

[image]
name = {name}
platforms = ["linux/amd64"]       # also "linux/arm64"
entrypoint = ["python"]           # the program and its first arguments: ["python", "-m", "package"]
# workdir = "/app"
# env = {{ HF_HOME = "/models" }}

[base]
debian = "{suite}"{pad}# a minimal Debian root; "bookworm" or "trixie"
packages = []                     # Debian packages beside it, such as "libgomp1"
# snapshot = "20261101T000000Z"   # the archive as it was at that second; else now, then locked

[python]
version = "{version}"{version_pad}# the exact build is locked
"#,
            name = quoted(&self.name),
            pad = " ".repeat(23 - suite.len()),
            version_pad = " ".repeat(22_usize.saturating_sub(version.len()).max(1)),
        );
        if *standalone {
            text.push_str("provider = \"standalone\"           # Debian's own build is older than the project asks for\n");
        }
        self.write_packages(&mut text);
        for index in &self.indexes {
            index.write(&mut text);
        }
        text.push_str(
            "\n# Files of the project; .gitignore and .mlbuildignore are honoured.\n# [[copy]]\n# from = \"src/\"\n# to = \"/app/\"\n",
        );
        text
    }

    fn write_packages(&self, text: &mut String) {
        let Some(file) = &self.file else {
            text.push_str("dependencies = [\"numpy\"]          # as in PEP 508: \"torch==2.9.1\"\n");
            text.push_str(
                "# requirements = [\"requirements.txt\"]  # or pyproject.toml, uv.lock, pylock.toml\n",
            );
            return;
        };
        let _ = writeln!(text, "requirements = [{}]", quoted(file));
        for (key, names, what) in [
            ("extras", &self.extras, "optional dependencies of the project"),
            ("groups", &self.groups, "dependency groups of the project"),
        ] {
            if !names.is_empty() {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                let _ = writeln!(
                    text,
                    "# {key} = [{}]  # {what}: name those that the image needs",
                    names.join(", ")
                );
            }
        }
    }
}

impl Index {
    fn write(&self, text: &mut String) {
        text.push_str("\n[[index]]\n");
        if let Some(name) = &self.name {
            let _ = writeln!(text, "name = {}", quoted(name));
        }
        let _ = writeln!(text, "url = {}", quoted(&self.url));
        if self.had_credentials {
            text.push_str("# Its credentials stay out of this file: they are read from the environment or from netrc.\n");
        }
        for (key, set) in [("default", self.default), ("explicit", self.explicit)] {
            if set {
                let _ = writeln!(text, "{key} = true");
            }
        }
        if !self.packages.is_empty() || self.explicit {
            let names: Vec<String> = self.packages.iter().map(|name| quoted(name)).collect();
            let _ = writeln!(text, "packages = [{}]", names.join(", "));
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn table(text: &str) -> Result<toml::Table, StarterError> {
    text.parse::<toml::Table>().map_err(|error| StarterError::Toml(error.message().replace('\n', ", ")))
}

/// The keys of a table, as far as they are names of extras or groups; sorted.
fn names(table: Option<&toml::Value>) -> Vec<String> {
    let keys = table.and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
    let mut names: Vec<String> =
        keys.filter(|name| is_python_name(name)).map(|name| normalise_name(name)).collect();
    names.sort();
    names.dedup();
    names
}

/// `name` as a part of an image reference.
fn image_name(name: &str) -> String {
    let mut image = String::new();
    for c in name.chars().take(100) {
        if c.is_ascii_alphanumeric() {
            image.push(c.to_ascii_lowercase());
        } else if !image.is_empty() && !image.ends_with('-') {
            image.push('-');
        }
    }
    let image = image.trim_end_matches('-');
    if image.is_empty() { DEFAULT_NAME.to_owned() } else { image.to_owned() }
}

/// A Python for an image.
#[derive(Debug, PartialEq, Eq)]
struct PythonChoice {
    version: String,
    /// Debian's build of this version may be too old.
    standalone: bool,
}

impl Default for PythonChoice {
    fn default() -> Self {
        Self { version: format!("3.{}", PREFERRED_MINORS[0]), standalone: false }
    }
}

impl PythonChoice {
    /// The preferred minor version that `requires-python` allows; the default where nothing can be made of it.
    fn of(requires: &str) -> Self {
        let clauses: Option<Vec<Clause>> = requires
            .split(',')
            .map(str::trim)
            .filter(|clause| !clause.is_empty())
            .map(Clause::read)
            .collect();
        let Some(clauses) = clauses else { return Self::default() };
        let Some(minor) =
            PREFERRED_MINORS.into_iter().find(|&minor| clauses.iter().all(|clause| clause.allows(minor)))
        else {
            return Self::default();
        };
        let exact = clauses.iter().find(|clause| clause.operator == "==" && !clause.any_patch);
        if let Some(patch) = exact.and_then(|clause| clause.patch) {
            return Self { version: format!("3.{minor}.{patch}"), standalone: false };
        }
        let standalone = clauses.iter().any(|clause| {
            matches!(clause.operator, ">=" | ">" | "~=")
                && clause.minor == minor
                && clause.patch.is_some_and(|p| p > 0)
        });
        Self { version: format!("3.{minor}"), standalone }
    }
}

/// One clause of `requires-python`, about Python 3.
struct Clause {
    operator: &'static str,
    minor: u16,
    patch: Option<u16>,
    /// Written with `.*`.
    any_patch: bool,
}

impl Clause {
    fn read(text: &str) -> Option<Self> {
        let operator = ["~=", ">=", "<=", "==", "!=", ">", "<"]
            .into_iter()
            .find(|operator| text.starts_with(operator))?;
        let version = text[operator.len()..].trim();
        let (version, any_patch) = match version.strip_suffix(".*") {
            Some(version) => (version, true),
            None => (version, false),
        };
        let mut parts = version.split('.').map(|part| {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            part[..digits].parse::<u16>().ok()
        });
        let (major, minor, patch) = (parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next());
        let patch = match patch {
            Some(patch) => Some(patch?),
            None => None,
        };
        match (major, operator) {
            (3, _) => Some(Self { operator, minor, patch, any_patch }),
            // "<4" and ">=2.7" bound nothing among the versions of Python 3.
            (4.., "<" | "<=" | "!=") | (..3, ">" | ">=" | "!=") => {
                Some(Self { operator: "!=", minor: u16::MAX, patch: None, any_patch: true })
            }
            _ => None,
        }
    }

    /// Whether some patch release of 3.`minor`, and not merely its first, satisfies the clause.
    fn allows(&self, minor: u16) -> bool {
        match self.operator {
            ">=" | ">" => minor >= self.minor,
            "<" | "<=" if self.patch.is_some_and(|patch| patch > 0) => minor <= self.minor,
            "<" | "<=" => minor < self.minor,
            "~=" if self.patch.is_none() => minor >= self.minor,
            "~=" | "==" => minor == self.minor,
            _ => !(self.any_patch && minor == self.minor),
        }
    }
}

#[cfg(test)]
#[path = "starter_tests.rs"]
mod tests;
