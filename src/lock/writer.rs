//! The canonical text of a lock: one key order, one layout, made to be read as a diff.
//!
//! A list that fits on a line of [`WIDTH`] characters stands on one; a longer one, and every list of tables, has one
//! element a line, so that one changed element is one changed line. Changing anything here changes every lock.

use std::fmt::{self, Display, Write as _};

use super::model::{
    BaseDirectory, BaseLayer, BaseLock, DebLayer, DebLock, Dependency, InputLock, Inputs, Lock, PackageLock,
    PythonArchive, PythonLock, SuiteLock, WheelLock,
};
use super::seal::{Seal, SealedLayer};
use super::wire::{LAYER_FORMAT, VERSION};
use crate::oci::Platform;
use crate::spec::model::{PythonProvider, WheelException};

/// Longest line that a list of texts may stand on.
const WIDTH: usize = 110;

const HEADER: &str = "\
# Made by `mlbuild lock` from mlbuild.toml. Keep it under version control; do not edit it.
";

pub(super) fn write(lock: &Lock) -> String {
    let mut text = Text(String::with_capacity(1024 * (4 + lock.debs.len() + lock.packages.len())));
    text.0.push_str(HEADER);
    text.value("version", VERSION);
    text.text("layer-format", LAYER_FORMAT);
    text.inputs(&lock.inputs);
    if let Some(python) = &lock.python {
        text.python(python);
    }
    for suite in &lock.suites {
        text.suite(suite);
    }
    for base in &lock.bases {
        text.base(base);
    }
    for deb in &lock.debs {
        text.deb(deb);
    }
    for package in &lock.packages {
        text.package(package);
    }
    for seal in &lock.seals {
        text.seal(seal);
    }
    text.0
}

struct Text(String);

impl Text {
    fn heading(&mut self, heading: &str) {
        self.0.push('\n');
        self.0.push_str(heading);
        self.0.push('\n');
    }

    fn value(&mut self, key: &str, value: impl Display) {
        writeln!(self.0, "{key} = {value}").expect("writing to a string cannot fail");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.value(key, Quoted(value));
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Nothing for an empty list.
    fn texts<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        if values.is_empty() {
            return;
        }
        let line = Texts(values).to_string();
        if key.len() + 3 + line.chars().count() <= WIDTH {
            self.value(key, line);
        } else {
            self.lines(key, values.iter().map(|value| Quoted(value.as_ref())));
        }
    }

    /// One element a line; nothing for an empty list.
    fn lines<T: Display>(&mut self, key: &str, values: impl ExactSizeIterator<Item = T>) {
        if values.len() == 0 {
            return;
        }
        self.value(key, '[');
        for value in values {
            writeln!(self.0, "  {value},").expect("writing to a string cannot fail");
        }
        self.0.push_str("]\n");
    }

    /// The same, and an empty list as such.
    fn lines_or_none<T: Display>(&mut self, key: &str, values: impl ExactSizeIterator<Item = T>) {
        if values.len() == 0 {
            return self.value(key, "[]");
        }
        self.lines(key, values);
    }

    fn inputs(&mut self, inputs: &Inputs) {
        self.heading("[inputs]");
        self.value("platforms", Texts(&platforms(&inputs.platforms)));
        self.text("base", &inputs.base);
        self.maybe("snapshot", inputs.snapshot.as_deref());
        self.texts("debian-packages", &inputs.debian_packages);
        self.maybe("python", inputs.python.as_deref());
        self.maybe("python-provider", inputs.python_provider.map(provider));
        self.texts("requirements", &inputs.requirements);
        self.texts("constraints", &inputs.constraints);
        self.texts("indexes", &inputs.indexes);
        self.maybe("exclude-newer", inputs.exclude_newer.as_deref());
        self.maybe("prerelease", inputs.prerelease.as_deref());
        self.texts("prefer", &inputs.prefer);
        self.texts("prune", &inputs.prune);
        self.lines("wheels", inputs.wheels.iter().map(Inline));
        self.lines("locks", inputs.locks.iter().map(Inline));
    }

    fn python(&mut self, python: &PythonLock) {
        self.heading("[python]");
        self.text("provider", provider(python.provider));
        self.text("version", &python.version);
        self.maybe("build", python.build.as_deref());
        self.text("executable", &python.executable);
        self.text("site-packages", &python.site_packages);
        self.text("scripts", &python.scripts);
        self.text("prefix", &python.prefix);
        self.lines("archives", python.archives.iter().map(Inline));
    }

    fn suite(&mut self, suite: &SuiteLock) {
        self.heading("[[suite]]");
        self.text("archive", &suite.archive);
        self.text("suite", &suite.suite);
        self.text("date", &suite.date);
        self.text("inrelease", &suite.inrelease.hex());
        self.texts("signed-by", &suite.signed_by);
        if suite.signed_by.is_empty() {
            self.value("signed-by", "[]");
        }
    }

    fn base(&mut self, base: &BaseLock) {
        self.heading("[[base]]");
        self.text("platform", base.platform.as_str());
        if let Some(index) = base.index {
            self.text("index", &index.hex());
        }
        for (key, size, digest) in
            [("manifest", base.manifest_size, base.manifest), ("config", base.config_size, base.config)]
        {
            self.value(
                key,
                format_args!("{{ size = {size}, hashes = {{ sha256 = \"{}\" }} }}", digest.hex()),
            );
        }
        self.maybe("glibc", base.glibc.as_deref());
        self.lines_or_none("layers", base.layers.iter().map(Inline));
        let Some(paths) = &base.paths else { return };
        let links = paths.links.iter().map(|(path, target)| {
            format!("{{ path = {}, target = {} }}", Quoted(&format!("/{path}")), Quoted(target))
        });
        self.lines_or_none("links", links);
        let directories = paths.directories.iter().map(Inline);
        self.lines_or_none("directories", directories);
    }

    fn deb(&mut self, deb: &DebLock) {
        self.heading("[[deb]]");
        self.text("name", &deb.name);
        self.text("version", &deb.version);
        self.text("platform", deb.platform.as_str());
        self.text("architecture", &deb.architecture);
        self.text("source", &deb.source);
        self.text("archive", &deb.archive);
        self.text("filename", &deb.filename);
        self.value("size", deb.size);
        self.text("sha256", &deb.sha256.hex());
        let layer = match deb.layer {
            DebLayer::Base => "base",
            DebLayer::Python => "python",
        };
        self.text("layer", layer);
        self.texts("depends", &deb.depends);
    }

    fn package(&mut self, package: &PackageLock) {
        self.heading("[[package]]");
        self.text("name", &package.name);
        self.text("version", &package.version);
        self.maybe("index", package.index.as_deref());
        if package.requested {
            self.value("requested", true);
        }
        self.lines("dependencies", package.dependencies.iter().map(Inline));
        self.lines("wheels", package.wheels.iter().map(Inline));
        if package.wheels.is_empty() {
            self.value("wheels", "[]");
        }
    }

    fn seal(&mut self, seal: &Seal) {
        self.heading("[[seal]]");
        self.text("platform", seal.platform.as_str());
        self.maybe("wheel-set", seal.wheel_set.map(|digest| digest.hex()).as_deref());
        for layer in &seal.layers {
            self.sealed_layer(layer);
        }
    }

    fn sealed_layer(&mut self, layer: &SealedLayer) {
        self.heading("[[seal.layer]]");
        self.text("title", &layer.title);
        self.text("key", &layer.key.hex());
        self.text("digest", &layer.digest.to_string());
        self.value("size", layer.size);
        self.text("diff-id", &layer.diff_id.to_string());
        self.value("unpacked", layer.unpacked);
        let link = |(path, target): &(String, String)| {
            format!("{{ path = {}, target = {} }}", Quoted(path), Quoted(target))
        };
        self.lines("links", layer.links.iter().map(link));
        let directory =
            |(path, mode): &(String, u32)| format!("{{ path = {}, mode = 0o{mode:o} }}", Quoted(path));
        self.lines("directories", layer.directories.iter().map(directory));
    }
}

fn provider(provider: PythonProvider) -> &'static str {
    match provider {
        PythonProvider::Debian => "debian",
        PythonProvider::Standalone => "standalone",
        PythonProvider::Base => "base",
    }
}

fn platforms(platforms: &[Platform]) -> Vec<&'static str> {
    platforms.iter().map(|platform| platform.as_str()).collect()
}

/// One element of a list of tables.
struct Inline<'a, T>(&'a T);

impl Display for Inline<'_, InputLock> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lock = self.0;
        write!(f, "{{ path = {}, hashes = {{ sha256 = \"{}\" }}", Quoted(&lock.path), lock.sha256.hex())?;
        for (key, values) in [("extras", &lock.extras), ("groups", &lock.groups)] {
            if !values.is_empty() {
                write!(f, ", {key} = {}", Texts(values))?;
            }
        }
        f.write_str(" }")
    }
}

impl Display for Inline<'_, WheelException> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WheelException { sha256, allow } = self.0;
        let allow: Vec<_> = allow.iter().map(|rule| rule.as_str()).collect();
        write!(f, "{{ hashes = {{ sha256 = \"{}\" }}, allow = {} }}", sha256.hex(), Texts(&allow))
    }
}

impl Display for Inline<'_, PythonArchive> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let archive = self.0;
        write!(
            f,
            "{{ platform = \"{}\", name = {}, url = {}, size = {}, hashes = {{ sha256 = \"{}\" }} }}",
            archive.platform,
            Quoted(&archive.name),
            Quoted(&archive.url),
            archive.size,
            archive.sha256.hex()
        )
    }
}

impl Display for Inline<'_, BaseDirectory> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BaseDirectory { path, mode, owner } = self.0;
        write!(f, "{{ path = {}, mode = \"{mode:04o}\"", Quoted(&format!("/{path}")))?;
        if let (uid, gid) = *owner
            && (uid, gid) != (0, 0)
        {
            write!(f, ", owner = \"{uid}:{gid}\"")?;
        }
        f.write_str(" }")
    }
}

impl Display for Inline<'_, BaseLayer> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = self.0;
        write!(
            f,
            "{{ media-type = {}, size = {}, hashes = {{ sha256 = \"{}\" }}, diff-id = \"{}\" }}",
            Quoted(layer.media_type.as_str()),
            layer.size,
            layer.digest.hex(),
            layer.diff_id.0.hex()
        )
    }
}

impl Display for Inline<'_, Dependency> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edge = self.0;
        write!(f, "{{ name = {}, version = {}", Quoted(&edge.name), Quoted(&edge.version))?;
        if !edge.platforms.is_empty() {
            write!(f, ", platforms = {}", Texts(&platforms(&edge.platforms)))?;
        }
        f.write_str(" }")
    }
}

impl Display for Inline<'_, WheelLock> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wheel = self.0;
        write!(
            f,
            "{{ name = {}, url = {}, size = {}, hashes = {{ sha256 = \"{}\" }}",
            Quoted(&wheel.name),
            Quoted(&wheel.url),
            wheel.size,
            wheel.sha256.hex()
        )?;
        if wheel.hashed_by_us {
            f.write_str(", hashed-by-us = true")?;
        }
        write!(f, ", platforms = {} }}", Texts(&platforms(&wheel.platforms)))
    }
}

/// A list of texts on one line.
struct Texts<'a, T>(&'a [T]);

impl<T: AsRef<str>> Display for Texts<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        for (at, value) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            Quoted(value.as_ref()).fmt(f)?;
        }
        f.write_char(']')
    }
}

/// A TOML basic string. Characters that a reviewer would not see, or that turn the direction of text, are escaped.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for char in self.0.chars() {
            match char {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                _ if is_invisible(char) => write!(f, "\\u{:04X}", u32::from(char))?,
                _ => f.write_char(char)?,
            }
        }
        f.write_char('"')
    }
}

/// Control and formatting characters, all of the basic plane.
fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
