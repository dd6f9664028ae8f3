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
use crate::tree::{Content, Node, Tree, TreePath};

/// Content of `INSTALLER`.
const INSTALLER: &str = "mlbuild\n";
/// The largest script that is rewritten; a script that begins with `#!python` is a text.
const MAX_SCRIPT: u64 = 16 << 20;
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
            Some(bytes) => installed.add(place.path, mode, bytes)?,
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
    for path in installed.tree.keys() {
        if let Some(file) = path.parents().find(|parent| installed.tree.contains_key(parent)) {
            return Err(WheelError::Twice(file));
        }
    }
    Ok(installed)
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
mod tests {
    use super::super::testing::{File, demo, file, wheel_files, zip};
    use super::super::{open, record};
    use super::*;

    fn scheme() -> Scheme {
        Scheme {
            site_packages: TreePath::new("usr/local/lib/python3.11/dist-packages").unwrap(),
            scripts: TreePath::new("usr/local/bin").unwrap(),
            prefix: TreePath::new("usr/local").unwrap(),
            executable: "/usr/bin/python3.11".to_owned(),
            python: (3, 11),
        }
    }

    fn try_install(archive: &Vec<u8>, name: &str, prune: Prune) -> Result<Installed, WheelError> {
        let wheel = open(name, Digest::of(archive), archive, Waivers::default())?;
        install(&wheel, archive, &scheme(), prune)
    }

    fn text(installed: &Installed, path: &str) -> String {
        match &installed.tree[&TreePath::new(path).unwrap()] {
            Node::File { content: Content::Bytes(bytes), .. } => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn every_file_finds_its_place() {
        let installed = try_install(&demo(), "demo-1.0-py3-none-any.whl", Prune::default()).unwrap();
        let shown: Vec<String> = installed
            .tree
            .iter()
            .map(|(path, node)| match node {
                Node::File { mode, content } => {
                    let kind = match content {
                        Content::Bytes(_) => "ours",
                        Content::Stored { .. } => "stored",
                        _ => "deflated",
                    };
                    format!("{mode:o} {kind} {path}")
                        .replace("usr/local/lib/python3.11/dist-packages", "SITE")
                }
                other => panic!("{other:?}"),
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        755 ours usr/local/bin/launch
        755 deflated usr/local/bin/shell
        755 ours usr/local/bin/tool
        644 deflated usr/local/include/python3.11/demo/demo.h
        644 ours SITE/demo-1.0.dist-info/INSTALLER
        644 deflated SITE/demo-1.0.dist-info/METADATA
        644 ours SITE/demo-1.0.dist-info/RECORD
        644 deflated SITE/demo-1.0.dist-info/WHEEL
        644 deflated SITE/demo-1.0.dist-info/entry_points.txt
        644 deflated SITE/demo.pth
        644 ours SITE/demo/__init__.py
        644 deflated SITE/demo/bare_mode.py
        644 stored SITE/demo/data, "quoted".bin
        644 deflated SITE/demo/include/demo.h
        644 deflated SITE/demo/lib.a
        755 deflated SITE/demo/native.so
        644 deflated SITE/demo/py.pyi
        644 deflated SITE/demo/streamed.txt
        644 deflated SITE/demo/tests/test_it.py
        644 deflated SITE/demo/zażółć.py
        644 deflated SITE/extra.py
        644 deflated usr/local/share/demo/readme.txt
        "#);
        assert_eq!(text(&installed, "usr/local/bin/tool"), "#!/usr/bin/python3.11\nprint('tool')\n");
        assert!(text(&installed, "usr/local/bin/launch").contains("    sys.exit(App.run())\n"));
        assert_eq!(installed.pth.len(), 1);
        assert_eq!(installed.notes, Vec::<String>::new());
        // Every file has its row, every row its file.
        let site = "usr/local/lib/python3.11/dist-packages";
        let rows = record::parse(
            &text(&installed, &format!("{site}/demo-1.0.dist-info/RECORD")),
            &mut Waivers::default(),
        )
        .unwrap();
        let paths: BTreeSet<String> =
            installed.tree.keys().map(|path| relative(&scheme().site_packages, path)).collect();
        assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), paths);
        assert!(paths.contains("../../../bin/launch"));
    }

    #[test]
    fn pruning_is_counted_and_leaves_metadata() {
        let all = Prune { tests: true, headers: true, static_libraries: true, stubs: true };
        let installed = try_install(&demo(), "demo-1.0-py3-none-any.whl", all).unwrap();
        assert_eq!(installed.pruned, Pruned { files: 5, bytes: 12 + 16 + 7 + 21 + 12 });
        assert!(!installed.tree.keys().any(|path| path.as_str().ends_with(".h")));
        let site = "usr/local/lib/python3.11/dist-packages";
        assert!(!text(&installed, &format!("{site}/demo-1.0.dist-info/RECORD")).contains("test_it"));
    }

    #[test]
    fn installing_what_uv_installs() {
        let archive = demo();
        let ours = try_install(&archive, "demo-1.0-py3-none-any.whl", Prune::default()).unwrap();

        let root = tempfile::tempdir().unwrap();
        let unpacked = root.path().join("unpacked");
        let wheel =
            open("demo-1.0-py3-none-any.whl", Digest::of(&archive), &archive, Waivers::default()).unwrap();
        for member in &wheel.members {
            let path = unpacked.join(member.path.as_str());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, inflate(member, &archive, 1 << 20).unwrap()).unwrap();
        }
        let at = |path: &TreePath| root.path().join(path.as_str());
        let layout = uv_install_wheel::Layout {
            sys_executable: scheme().executable.into(),
            python_version: (3, 11),
            os_name: "posix".to_owned(),
            scheme: uv_pypi_types::Scheme {
                purelib: at(&scheme().site_packages),
                platlib: at(&scheme().site_packages),
                scripts: at(&scheme().scripts),
                data: at(&scheme().prefix),
                include: root.path().join("usr/local/include/python3.11"),
            },
        };
        std::fs::create_dir_all(&layout.scheme.purelib).unwrap();
        uv_install_wheel::install_wheel::<(), ()>(
            &layout,
            false,
            &unpacked,
            &"demo-1.0-py3-none-any.whl".parse().unwrap(),
            None,
            None,
            None,
            Some(INSTALLER),
            true,
            uv_install_wheel::LinkMode::Copy,
            &uv_install_wheel::InstallState::default(),
        )
        .unwrap();
        // Two known differences: uv leaves the row of a script that an entry point replaces, and it writes REQUESTED.
        let record_path = "usr/local/lib/python3.11/dist-packages/demo-1.0.dist-info/RECORD";
        let theirs = std::fs::read_to_string(root.path().join(record_path)).unwrap();
        let mut theirs = record::parse(&theirs, &mut Waivers::default()).unwrap();
        assert!(theirs.remove("demo-1.0.data/scripts/launch").is_some());
        assert!(theirs.remove("demo-1.0.dist-info/REQUESTED").is_some());
        assert_eq!(record::parse(&text(&ours, record_path), &mut Waivers::default()).unwrap(), theirs);
        for path in ours.tree.keys() {
            let on_disk = std::fs::read(at(path)).unwrap();
            if path.as_str() != record_path {
                let row = ours.rows[&relative(&scheme().site_packages, path)];
                assert_eq!(row, Row::of(&on_disk), "{path}");
            }
        }
    }

    #[test]
    fn refusals() {
        let wheel = |change: &dyn Fn(&mut Vec<File>)| {
            let mut files = vec![file("m.py", "x = 1\n")];
            change(&mut files);
            zip(&wheel_files("m", "1.0", &files))
        };
        let replaced = |from: &str, to: &str| {
            let mut files = wheel_files("m", "1.0", &[file("m.py", "x = 1\n")]);
            for file in &mut files {
                let text = String::from_utf8(file.bytes.clone()).unwrap();
                file.bytes = text.replace(from, to).into_bytes();
            }
            zip(&files)
        };
        let entry = |path: &str| wheel(&|files| files.push(file(path, "#!python\n")));
        for (archive, rule) in [
            (entry("n-1.0.dist-info/X"), "m-1.0.dist-info and n-1.0.dist-info, expected exactly one"),
            (zip(&[file("m.py", "")]), "the wheel has none, expected exactly one `.dist-info` directory"),
            (zip(&[file("m-1.0.dist-info/RECORD", "")]), "the wheel has no m-1.0.dist-info/WHEEL"),
            (replaced("Name: m", "Name: n"), "METADATA says name `n`, the file name says `m`"),
            (
                replaced("Version: 1.0\n", "Version: 1.1\n"),
                "METADATA says version `1.1`, the file name says `1.0`",
            ),
            (replaced("Wheel-Version: 1.0", "Wheel-Version: 2.0"), "unsupported Wheel-Version"),
            (replaced("m.py,sha256=", "n.py,sha256="), "RECORD does not list m.py"),
            (replaced(",6\n", ",7\n"), "RECORD gives m.py 7 bytes, the archive 6"),
            (replaced("m.py,sha256=", "m.py,sha1="), "only `sha256=` is accepted"),
            (entry("m-1.0.data/scripts/python3"), "script name `python3` is the interpreter's"),
            (entry("m-1.0.data/data/bin/python"), "script name `python` is the interpreter's"),
            (entry("m-1.0.data/scripts/a/b"), "a directory among the scripts"),
            (entry("m-1.0.data/other/b"), "an unknown kind of `.data` directory"),
            (
                entry("m-1.0.data/purelib/m.py"),
                "would be installed as usr/local/lib/python3.11/dist-packages/m.py",
            ),
            (
                entry("m-1.0.data/purelib/m.py/x"),
                "would be installed as usr/local/lib/python3.11/dist-packages/m.py",
            ),
            (
                wheel(&|files| {
                    files.push(file("m-1.0.dist-info/entry_points.txt", "[console_scripts]\npython = m:x\n"));
                }),
                "entry_points.txt: script name `python` is the interpreter's",
            ),
            (
                wheel(&|files| {
                    files.push(file("m-1.0.data/scripts/s", "#!python\nlie"));
                    files[1].crc32 = Some(1);
                }),
                "cannot read member m-1.0.data/scripts/s",
            ),
            (
                wheel(&|files| {
                    files.push(file("empty.py", ""));
                    files[1].smuggled = b"not empty".to_vec();
                }),
                "cannot read member empty.py",
            ),
        ] {
            let error =
                try_install(&archive, "m-1.0-py3-none-any.whl", Prune::default()).unwrap_err().to_string();
            assert!(error.contains(rule), "expected {rule:?}, got {error:?}");
        }
        assert!(try_install(&wheel(&|_| {}), "m-1.0-py3-none-any.whl", Prune::default()).is_ok());
        let long = Scheme { executable: format!("/{}", "p".repeat(124)), ..scheme() };
        let archive = wheel(&|_| {});
        let opened =
            open("m-1.0-py3-none-any.whl", Digest::of(&archive), &archive, Waivers::default()).unwrap();
        let error = install(&opened, &archive, &long, Prune::default()).unwrap_err();
        assert!(error.to_string().contains("does not fit a script's first line"));
    }
}
