//! The Python of a base: which one its search path finds, its exact version, and where its packages go.
//!
//! A program counts by the name that its links end at, `python3.11`, and by the version that it, or its `libpython`, holds as a
//! text. Where packages go is known by the layout, as CPython itself finds its prefix: beside a `pyvenv.cfg` a virtual
//! environment, else the directory whose `lib/python3.11` has the standard library. Debian's own interpreter, told by the
//! scheme in its `sysconfig`, looks below `/usr/local`.

use super::root::library_directories;
use super::scan::python_minor;
use super::{BaseError, Entry, FileFacts, Root};
use crate::elf;
use crate::lock::model::PythonLock;
use crate::oci::Platform;
use crate::python::Request;
use crate::spec::model::PythonProvider;
use crate::tree::TreePath;

/// Names that are told where the wanted one is not there.
const TOLD_MAX: usize = 8;

/// The interpreter that a program of this version's name, or `python3`, or `python` leads to: the first on `path` that
/// `request` admits. Paths of the result have no link of the base in them but the interpreter's own.
pub fn find(
    root: &Root,
    path: &[String],
    request: Request,
    platform: Platform,
) -> Result<PythonLock, BaseError> {
    let mut told = Vec::new();
    for directory in path.iter().filter_map(|directory| plain(directory)) {
        for name in names(root, &directory, request) {
            let executable = format!("{directory}/{name}");
            let Some((real, facts)) = program(root, &executable) else { continue };
            let Some(minor) = python_minor(real.rsplit('/').next().unwrap_or_default()) else { continue };
            if facts.elf.as_ref().is_none_or(|elf| elf.machine != elf::machine(platform)) {
                continue;
            }
            let version = version(root, &real, facts, minor, platform);
            let shown = match &version {
                Ok(version) => format!("/{real} ({version})"),
                Err(_) => format!("/{real}"),
            };
            let patch = version.as_ref().ok().and_then(|version| version.rsplit('.').next()?.parse().ok());
            let is_wanted = (request.major, request.minor) == (3, minor)
                && request.patch.is_none_or(|wanted| patch == Some(wanted));
            if !is_wanted {
                if !told.contains(&shown) && told.len() < TOLD_MAX {
                    told.push(shown);
                }
                continue;
            }
            let unfit = |problem| BaseError::Unfit { platform, executable: executable.clone(), problem };
            let version = version.map_err(unfit)?;
            return place(root, &executable, &real, &version).map_err(unfit);
        }
    }
    let found = match told.is_empty() {
        true if path.is_empty() => "no Python, for it has no search path".to_owned(),
        true => {
            let plain: Vec<_> = path.iter().filter_map(|directory| plain(directory)).take(TOLD_MAX).collect();
            format!("no Python on its search path ({})", plain.join(":"))
        }
        false => told.join(", "),
    };
    Err(BaseError::Python { platform, wanted: format!("Python {request}"), found })
}

/// A directory of a search path as a lock writes it, empty for the root. What leads up again means something else once a link is in
/// it, and nobody's base has it.
fn plain(directory: &str) -> Option<String> {
    let parts = directory.split('/').filter(|part| !matches!(*part, "" | "."));
    let path = parts.fold(String::new(), |path, part| path + "/" + part);
    let is_path = path.is_empty() || TreePath::from_absolute(&path).is_ok();
    (is_path && !path.contains(char::is_control)).then_some(path)
}

/// The names to try in a directory: the wanted version's first, then those of whatever version.
fn names(root: &Root, directory: &str, request: Request) -> Vec<String> {
    let wanted = format!("python{}.{}", request.major, request.minor);
    let mut names = vec![wanted.clone(), "python3".to_owned(), "python".to_owned()];
    // Others of the directory are only told.
    let others = (6..=99_u16).map(|minor| format!("python3.{minor}")).filter(|name| *name != wanted);
    names.extend(others.filter(|name| root.get(&format!("{directory}/{name}")).is_some()));
    names
}

/// The executable file that the path leads to.
fn program<'a>(root: &'a Root, path: &str) -> Option<(String, &'a FileFacts)> {
    match root.get(path)? {
        (real, Entry::File { executable: true, facts: Some(facts) }) => Some((real, facts)),
        _ => None,
    }
}

/// What the program says of its version, or the library that it is a shell of.
fn version(
    root: &Root,
    real: &str,
    facts: &FileFacts,
    minor: u16,
    platform: Platform,
) -> Result<String, String> {
    let library = format!("libpython3.{minor}.so");
    let (directory, _) = real.rsplit_once('/').unwrap_or_default();
    let needed = facts.elf.iter().flat_map(|elf| &elf.needed).find(|needed| needed.starts_with(&library));
    let from_library = || {
        let needed = needed?;
        let runpath = facts.elf.iter().flat_map(|elf| &elf.runpath);
        let runpath =
            runpath.map(|entry| entry.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", directory));
        let beside = [format!("{directory}/../lib"), "usr/local/lib".to_owned()];
        let directories = runpath.chain(beside).chain(library_directories(platform));
        directories.map(|place| format!("{place}/{needed}")).find_map(|path| match root.get(&path)?.1 {
            Entry::File { facts: Some(facts), .. } if !facts.python.is_empty() => Some(facts.python.clone()),
            _ => None,
        })
    };
    let versions = match facts.python.is_empty() {
        false => facts.python.clone(),
        true => from_library().unwrap_or_default(),
    };
    match &versions[..] {
        [version] => Ok(version.clone()),
        [] => Err(format!("does not say which version of Python 3.{minor} it is")),
        several => Err(format!("could be each of {}", several.join(", "))),
    }
}

/// Where packages of the interpreter go.
fn place(root: &Root, executable: &str, real: &str, version: &str) -> Result<PythonLock, String> {
    let above = |path: &str| {
        let mut parts = path.trim_start_matches('/').rsplitn(3, '/');
        (parts.next(), parts.next(), parts.next()).2.map(str::to_owned)
    };
    let short = version.rsplit_once('.').map_or(version, |(short, _)| short);
    let environment = above(executable).filter(|prefix| root.is_file(&format!("{prefix}/pyvenv.cfg")));
    let has_library = |prefix: &String| {
        ["lib", "lib64"].iter().any(|lib| {
            ["os.py", "os.pyc"].iter().any(|os| root.is_file(&format!("{prefix}/{lib}/python{short}/{os}")))
        })
    };
    let own = above(real).filter(has_library).ok_or("has no standard library beside it".to_owned())?;
    let is_debian = ["sysconfig.py", "sysconfig/__init__.py"].iter().any(|file| {
        let file = root.get(&format!("usr/lib/python{short}/{file}"));
        matches!(file, Some((_, Entry::File { facts: Some(facts), .. })) if facts.posix_local)
    });
    let lock = match environment {
        Some(prefix) => {
            let prefix = root.real(&prefix).ok_or("lies behind links in a circle".to_owned())?;
            PythonLock::of_base(version, executable, &format!("/{prefix}"))
        }
        None if own == "usr" && is_debian => PythonLock {
            provider: PythonProvider::Base,
            executable: executable.to_owned(),
            ..PythonLock::debian(version)
        },
        None => PythonLock::of_base(version, executable, &format!("/{own}")),
    };
    for path in [&lock.site_packages, &lock.scripts, &lock.prefix] {
        let relative = path.trim_start_matches('/');
        if root.real(relative).as_deref() != Some(relative) {
            return Err(format!("keeps its packages behind a link: {path}"));
        }
    }
    Ok(lock)
}
