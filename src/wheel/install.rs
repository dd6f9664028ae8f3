//! Where each file of a wheel goes, and the files an installer adds: launchers, `INSTALLER`, `RECORD`.

use std::collections::{BTreeMap, BTreeSet};

use super::open::{Wheel, begin, digest, inflate};
use super::record::{self, Row, Rows};
use super::waivers::Waivers;
use super::zip::Member;
use super::{WheelError, entry_points, normal_name};
use crate::blob::ReadAt;
use crate::digest::Digest;
use crate::lock::model::PythonLock;
use crate::spec::model::{Prune, WheelRule};
use crate::tree::{self, Content, Node, Tree, TreePath};

/// Content of `INSTALLER`.
const INSTALLER: &str = "mlbuild\n";
/// The largest script that is rewritten; a script that begins with `#!python` is a text.
const MAX_SCRIPT: u64 = 16 << 20;
/// The most bytes that a wheel's rewritten scripts have together: they are held in memory.
const MAX_SCRIPTS: usize = 64 << 20;
/// Linux's `BINPRM_BUF_SIZE` was 128 up to 5.1: `#!`, path and line feed must fit.
const MAX_EXECUTABLE: usize = 127 - 3;

/// Where an interpreter looks for what a wheel brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    /// `purelib` and `platlib`.
    pub site_packages: TreePath,
    pub scripts: TreePath,
    /// `data`; headers go below its `include/pythonX.Y`.
    pub prefix: TreePath,
    /// Absolute path of the interpreter, for scripts' first line: `/usr/bin/python3.11`.
    pub executable: String,
    /// Major and minor version.
    pub python: (u8, u8),
}

impl Scheme {
    /// The scheme of a locked interpreter.
    pub fn of(python: &PythonLock) -> Result<Self, WheelError> {
        let mut numbers = python.version.split('.').map(str::parse::<u8>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Err(WheelError::EntryPoints(format!("`{}` is not a Python version", python.version)));
        };
        Ok(Self {
            site_packages: TreePath::from_absolute(&python.site_packages)?,
            scripts: TreePath::from_absolute(&python.scripts)?,
            prefix: TreePath::from_absolute(&python.prefix)?,
            executable: python.executable.clone(),
            python: (major, minor),
        })
    }
}

/// What pruning left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    pub files: u64,
    pub bytes: u64,
}

/// The files that a wheel puts into an image.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Normalised.
    pub name: String,
    pub version: String,
    /// Files only; parents are added by the layer's encoder.
    pub tree: Tree,
    /// The SHA-256 that `RECORD` demands of each file that still points into the wheel.
    pub record: BTreeMap<TreePath, Digest>,
    pub pruned: Pruned,
    /// `.pth` files of site-packages, which may run code whenever Python starts.
    pub pth: Vec<TreePath>,
    /// Paths that [`merge`](super::merge) took out because another wheel has them.
    pub dropped: Vec<TreePath>,
    /// Sentences about oddities that are no error.
    pub notes: Vec<String>,
    pub(super) site_packages: TreePath,
    pub(super) record_path: TreePath,
    /// The rows of the installed `RECORD`, whose paths are relative to site-packages.
    pub(super) rows: Rows,
}

/// Lays `wheel` out for `scheme`. There is no REQUESTED (PEP 376, optional): it would make a wheel's layer depend on who
/// asked for it.
pub fn install(
    wheel: &Wheel,
    blob: &dyn ReadAt,
    scheme: &Scheme,
    prune: Prune,
) -> Result<Installed, WheelError> {
    if scheme.executable.len() > MAX_EXECUTABLE || scheme.executable.contains([' ', '\t', '\n']) {
        return Err(WheelError::Shebang(scheme.executable.clone()));
    }
    let scripts = entry_points::parse(&wheel.entry_points, scheme.python).map_err(WheelError::EntryPoints)?;
    let dist_info = scheme.site_packages.join(&wheel.dist_info)?;
    let mut installed = Installed {
        name: wheel.name.clone(),
        version: wheel.version.clone(),
        tree: Tree::new(),
        record: BTreeMap::new(),
        pruned: Pruned::default(),
        pth: Vec::new(),
        dropped: Vec::new(),
        notes: Vec::new(),
        site_packages: scheme.site_packages.clone(),
        record_path: dist_info.join("RECORD")?,
        rows: Rows::new(),
    };
    let mut waivers = wheel.waivers.clone();
    let launchers: BTreeSet<&str> = scripts.iter().map(|script| script.name.as_str()).collect();
    let mut absent: BTreeSet<&str> = wheel.rows.keys().map(String::as_str).collect();
    let mut rewritten = 0;
    for member in &wheel.members {
        absent.remove(member.path.as_str());
        let Some(place) = place(wheel, member, scheme)? else { continue };
        let row = checked_row(wheel, member, blob, &mut waivers)?;
        if place.script {
            let name = member.path.name();
            entry_points::check_name(name)
                .map_err(|rule| WheelError::Data { path: member.path.clone(), rule })?;
            let stem = [".exe", "-script.py", ".pya"].iter().find_map(|end| name.strip_suffix(end));
            if launchers.contains(stem.unwrap_or(name)) {
                continue;
            }
        }
        if !place.metadata && pruned(&place.path, scheme, prune) {
            installed.pruned.files += 1;
            installed.pruned.bytes += member.size;
            continue;
        }
        if place.path.as_str().ends_with(".pth") && parent(&place.path) == Some(scheme.site_packages.as_str())
        {
            installed.pth.push(place.path.clone());
        }
        let mode = if place.script || member.executable { 0o755 } else { 0o644 };
        match replacement(member, blob, place.script, &row, scheme)? {
            Some(bytes) => {
                rewritten += bytes.len();
                if rewritten > MAX_SCRIPTS {
                    let rule = format!("scripts to be rewritten of more than {MAX_SCRIPTS} bytes");
                    return Err(WheelError::Data { path: member.path.clone(), rule });
                }
                installed.add(place.path, mode, bytes)?;
            }
            None => {
                installed.add_member(place.path, mode, wheel.content(member), &row)?;
            }
        }
    }
    // A directory is no file that could be missing.
    let missing = absent.into_iter().find(|path| !is_unhashed(wheel, path) && !path.ends_with('/'));
    if let Some(path) = missing
        && !waivers.take(WheelRule::RecordAbsent)
    {
        return Err(WheelError::Absent(path.to_owned()));
    }
    installed.notes.extend(waivers.notes(&wheel.file_name));
    for script in &scripts {
        let text = entry_points::launcher(script, &scheme.executable);
        installed.add(scheme.scripts.join(&script.name)?, 0o755, text.into_bytes())?;
    }
    installed.add(dist_info.join("INSTALLER")?, 0o644, INSTALLER.as_bytes().to_vec())?;
    installed.write_record();
    let is_file = |(directory, _): &(TreePath, &TreePath)| installed.tree.contains_key(directory);
    let file = tree::directories(installed.tree.keys()).find(is_file).map(|(file, _)| file);
    match file {
        Some(file) => Err(WheelError::Twice(file)),
        None => Ok(installed),
    }
}

impl Installed {
    /// Adds a file of ours.
    fn add(&mut self, path: TreePath, mode: u32, bytes: Vec<u8>) -> Result<(), WheelError> {
        self.rows.insert(relative(&self.site_packages, &path), Row::of(&bytes));
        self.insert(path, mode, Content::bytes(bytes))
    }

    /// Adds a file of the wheel as it is.
    fn add_member(
        &mut self,
        path: TreePath,
        mode: u32,
        content: Content,
        row: &Row,
    ) -> Result<(), WheelError> {
        self.rows.insert(relative(&self.site_packages, &path), *row);
        if let Some(sha256) = row.sha256 {
            self.record.insert(path.clone(), sha256);
        }
        self.insert(path, mode, content)
    }

    fn insert(&mut self, path: TreePath, mode: u32, content: Content) -> Result<(), WheelError> {
        match self.tree.insert(path.clone(), Node::File { mode, content }) {
            None => Ok(()),
            Some(_) => Err(WheelError::Twice(path)),
        }
    }

    /// Takes a file out, and its row.
    pub(super) fn drop_file(&mut self, path: &TreePath) {
        self.tree.remove(path);
        self.record.remove(path);
        self.pth.retain(|pth| pth != path);
        self.rows.remove(&relative(&self.site_packages, path));
        self.dropped.push(path.clone());
    }

    pub(super) fn write_record(&mut self) {
        let own = relative(&self.site_packages, &self.record_path);
        self.rows.insert(own, Row { sha256: None, size: None });
        let text = record::write(&self.rows);
        let node = Node::File { mode: 0o644, content: Content::bytes(text.into_bytes()) };
        self.tree.insert(self.record_path.clone(), node);
    }
}

/// A member's destination.
struct Place {
    path: TreePath,
    /// From `.data/scripts`.
    script: bool,
    /// In `.dist-info`: never pruned.
    metadata: bool,
}

/// `None` for what is not installed: files of `.dist-info` that an installer writes itself.
fn place(wheel: &Wheel, member: &Member, scheme: &Scheme) -> Result<Option<Place>, WheelError> {
    let path = member.path.as_str();
    let in_site = |path: &str, metadata| -> Result<Option<Place>, WheelError> {
        Ok(Some(Place { path: scheme.site_packages.join(path)?, script: false, metadata }))
    };
    let Some((top, rest)) = path.split_once('/') else { return in_site(path, false) };
    if top == wheel.dist_info {
        return match rest {
            "RECORD" | "RECORD.jws" | "RECORD.p7s" | "INSTALLER" | "REQUESTED" => Ok(None),
            _ => in_site(path, true),
        };
    }
    let Some(stem) = top.strip_suffix(".data") else { return in_site(path, false) };
    let data = |rule: &str| WheelError::Data { path: member.path.clone(), rule: rule.to_owned() };
    let own = wheel.dist_info.strip_suffix(".dist-info").unwrap_or_default();
    if normal_name(own) != normal_name(stem) {
        // To some installers these are data, to others files of a package.
        return Err(data("a `.data` directory of another distribution"));
    }
    let (key, rest) = rest.split_once('/').ok_or_else(|| data("a file directly in the `.data` directory"))?;
    let (path, script) = match key {
        "purelib" | "platlib" => (scheme.site_packages.join(rest)?, false),
        "data" => (scheme.prefix.join(rest)?, false),
        "headers" => {
            let (major, minor) = scheme.python;
            let include = format!("include/python{major}.{minor}/{}/{rest}", wheel.name);
            (scheme.prefix.join(&include)?, false)
        }
        "scripts" if rest.contains('/') => return Err(data("a directory among the scripts")),
        "scripts" => (scheme.scripts.join(rest)?, true),
        _ => return Err(data("an unknown kind of `.data` directory")),
    };
    let below_site = path.as_str().strip_prefix(scheme.site_packages.as_str());
    let in_site = below_site.and_then(|below| below.strip_prefix('/')?.split('/').next());
    if in_site.is_some_and(|top| top.ends_with(".dist-info")) {
        return Err(data("a `.dist-info` directory among the data"));
    }
    if !script && parent(&path) == Some(scheme.scripts.as_str()) {
        entry_points::check_name(path.name()).map_err(|rule| data(&rule))?;
    }
    Ok(Some(Place { path, script, metadata: false }))
}

/// The member's row of `RECORD`, which must be there, have a hash and agree with the archive. What is waived is made
/// right; whether the hash is, as long as nothing is waived, is seen when the layer is measured.
fn checked_row(
    wheel: &Wheel,
    member: &Member,
    blob: &dyn ReadAt,
    waivers: &mut Waivers,
) -> Result<Row, WheelError> {
    let path = || member.path.clone();
    let actual = || Ok(Row { sha256: Some(digest(member, blob)?), size: Some(member.size) });
    let Some(row) = wheel.rows.get(member.path.as_str()) else {
        return if waivers.take(WheelRule::RecordUnlisted) {
            actual()
        } else {
            Err(WheelError::Unlisted(path()))
        };
    };
    if let Some(listed) = row.size.filter(|listed| *listed != member.size)
        && !waivers.take(WheelRule::RecordMismatch)
    {
        return Err(WheelError::Size { path: path(), listed, actual: member.size });
    }
    if row.sha256.is_none() {
        return if waivers.take(WheelRule::RecordHash) {
            actual()
        } else {
            Err(WheelError::Unhashed { path: path() })
        };
    }
    if waivers.allows(WheelRule::RecordMismatch) {
        let actual = actual()?;
        if actual.sha256 != row.sha256 {
            waivers.take(WheelRule::RecordMismatch);
        }
        return Ok(actual);
    }
    Ok(Row { size: Some(member.size), ..*row })
}

/// `RECORD` itself and its signatures have rows without hashes, or none.
fn is_unhashed(wheel: &Wheel, path: &str) -> bool {
    path.strip_prefix(&wheel.dist_info)
        .is_some_and(|rest| matches!(rest, "/RECORD" | "/RECORD.jws" | "/RECORD.p7s"))
}

/// The bytes to install where they are not the member's own stream: scripts that begin with `#!python`, and empty
/// files (so that no stream is carried for nothing). What is inflated is proved against `RECORD`.
fn replacement(
    member: &Member,
    blob: &dyn ReadAt,
    script: bool,
    row: &Row,
    scheme: &Scheme,
) -> Result<Option<Vec<u8>>, WheelError> {
    const PLACEHOLDER: &[u8] = b"#!python";
    let fail = |source| WheelError::Read { path: member.path.clone(), source };
    let rewrite = script && begin(member, blob, PLACEHOLDER.len()).map_err(fail)? == PLACEHOLDER;
    if !rewrite && member.size > 0 {
        return Ok(None);
    }
    let bytes = inflate(member, blob, MAX_SCRIPT)?;
    let actual = Digest::of(&bytes);
    if let Some(expected) = row.sha256.filter(|expected| *expected != actual) {
        return Err(WheelError::Hash { path: member.path.clone(), expected, actual });
    }
    if !rewrite {
        return Ok(Some(bytes));
    }
    let mut text = format!("#!{}\n", scheme.executable).into_bytes();
    if let Some(end) = memchr::memchr(b'\n', &bytes) {
        text.extend_from_slice(&bytes[end + 1..]);
    }
    Ok(Some(text))
}

/// Whether `[prune]` leaves the file out.
fn pruned(path: &TreePath, scheme: &Scheme, prune: Prune) -> bool {
    let path = path.as_str();
    let below_site = path.strip_prefix(scheme.site_packages.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let ends = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
    let below = |names: &[&str], path: &str| {
        path.rsplit_once('/').is_some_and(|(dirs, _)| dirs.split('/').any(|part| names.contains(&part)))
    };
    (prune.tests && below_site.is_some_and(|rest| below(&["tests", "test"], rest)))
        || (prune.headers
            && (ends(&[".h", ".hpp", ".hh", ".cuh", ".inl"])
                || below(&["include"], below_site.unwrap_or(path))))
        || (prune.static_libraries && ends(&[".a"]))
        || (prune.stubs && ends(&[".pyi"]))
}

fn parent(path: &TreePath) -> Option<&str> {
    path.as_str().rsplit_once('/').map(|(parent, _)| parent)
}

/// `path` as `RECORD` writes it: relative to site-packages, with `..` where it lies outside.
fn relative(site_packages: &TreePath, path: &TreePath) -> String {
    let mut from = site_packages.as_str().split('/').peekable();
    let mut to = path.as_str().split('/').peekable();
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let mut parts: Vec<&str> = from.map(|_| "..").collect();
    parts.extend(to);
    parts.join("/")
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
