//! `[python]` and `[[index]]`.

use std::collections::BTreeSet;

use super::super::check::{list, quoted};
use super::super::source::Place;
use super::super::{model, wire};
use super::words;
use crate::diagnostic::Diagnostic;

/// The oldest minor version of Python 3 for which python-build-standalone makes archives.
const OLDEST_MINOR: u16 = 9;
/// The most indexes of a spec.
const MAX_INDEXES: usize = 100;

pub(super) fn python(
    python: wire::Python,
    base: &model::Base,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> model::Python {
    let Apart { version, files, extras, groups, prefer } = apart(&python, place, found);
    let provider = provider(python.provider, version, base, place, found);
    if provider != model::PythonProvider::Standalone {
        let who = if provider == model::PythonProvider::Base { "the base" } else { "Debian" };
        for key in ["mirror", "build"] {
            if place.has(key) {
                found.push(
                    Diagnostic::error(
                        format!("`{key}` in [python] is for `standalone`, and {who} brings this Python"),
                        place.get(key).key_span(),
                    )
                    .hint("add `provider = \"standalone\"`, or leave it out"),
                );
            }
        }
    }
    check_lock_alone(&python, &files, place, found);
    let project = files.iter().any(|file| is_project_file(file));
    for (key, names) in [("extras", &python.extras), ("groups", &python.groups)] {
        if !names.is_empty() && !project {
            found.push(
                Diagnostic::error(
                    format!("`{key}` in [python] is of a project, and `requirements` names none"),
                    place.get(key).key_span(),
                )
                .hint("name the project's file: requirements = [\"pyproject.toml\"]")
                .hint("extras of a package are written with it: \"package[extra]\""),
            );
        }
    }
    model::Python {
        version: python.version,
        provider,
        build: python.build,
        mirror: python.mirror.map(|mirror| mirror.trim_end_matches('/').to_owned()),
        dependencies: trimmed(python.dependencies),
        requirements: files,
        constraints: trimmed(python.constraints),
        extras,
        groups,
        exclude_newer: python.exclude_newer,
        prerelease: python.prerelease.map(|prerelease| {
            match prerelease {
                wire::Prerelease::Disallow => "disallow",
                wire::Prerelease::Allow => "allow",
                wire::Prerelease::IfNecessary => "if-necessary",
                wire::Prerelease::Explicit => "explicit",
                wire::Prerelease::IfNecessaryOrExplicit => "if-necessary-or-explicit",
            }
            .to_owned()
        }),
        prefer,
    }
}

/// What the keys mean, each by itself.
pub(super) struct Apart {
    version: Option<Version>,
    files: Vec<String>,
    extras: Vec<String>,
    groups: Vec<String>,
    prefer: Vec<String>,
}

/// What each key says by itself.
pub(super) fn apart(python: &wire::Python, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> Apart {
    let version = match place.has("version") {
        true => version(&python.version, &place.get("version"), found),
        // It has another type.
        false => None,
    };
    if let Some(build) = &python.build
        && !super::base::is_date(build)
    {
        found.push(
            Diagnostic::error(format!("{} is not a release tag", quoted(build)), place.get("build").span())
                .hint("releases of python-build-standalone are named by their day: \"20261101\""),
        );
    }
    if let Some(mirror) = &python.mirror {
        words::check_url(mirror, "mirror", &place.get("mirror"), found);
    }
    check_requirements(&python.dependencies, &place.get("dependencies"), found);
    check_requirements(&python.constraints, &place.get("constraints"), found);
    if let Some(time) = python.exclude_newer.as_deref().filter(|time| !is_time(time)) {
        found.push(
            Diagnostic::error(
                format!("{} is not a date or a time", quoted(time)),
                place.get("exclude-newer").span(),
            )
            .hint("a day, \"2026-11-01\", or a time as in RFC 3339, \"2026-11-01T12:00:00Z\""),
        );
    }
    let mut names = |names: &[String], what: &str, key: &str| {
        words::python_names(names.to_vec(), what, &place.get(key), found)
    };
    let extras = names(&python.extras, "an extra", "extras");
    let groups = names(&python.groups, "a dependency group", "groups");
    let prefer = names(&python.prefer, "a package", "prefer");
    let files = requirement_files(&python.requirements, &place.get("requirements"), found);
    Apart { version, files, extras, groups, prefer }
}

fn trimmed(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().map(|text| text.trim().to_owned()).collect()
}

/// Major, minor and, if written, patch; `None` after a complaint.
type Version = (u16, u16, Option<u16>);

fn version(text: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> Option<Version> {
    let refuse =
        |rule: &str| Diagnostic::error(format!("Python version {} {rule}", quoted(text)), place.span());
    if words::is_version(text, 2..=3) {
        let mut parts = text.split('.').map(|part| part.parse::<u16>().ok());
        let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next().flatten());
        if text.split('.').any(|part| part.len() > 1 && part.starts_with('0')) {
            found.push(refuse("has a number that begins with 0"));
        } else if major != 3 {
            found.push(refuse("is not of Python 3"));
        } else if minor < OLDEST_MINOR {
            found.push(refuse("is older than 3.9").hint("nobody publishes builds of it any more"));
        } else {
            return Some((major, minor, patch));
        }
        return None;
    }
    let bare: &str = text.trim_start_matches(['=', '~', '>', '<', '!', '^', ' ', 'v']);
    let bare = bare.split([',', ' ', '*']).next().unwrap_or_default().trim_end_matches('.');
    let diagnostic = refuse("is not `X.Y` or `X.Y.Z`");
    found.push(if text == "3" {
        diagnostic.hint("name the minor version too: \"3.11\"")
    } else if bare != text && words::is_version(bare, 2..=3) {
        diagnostic.hint(format!("no operators here, the exact build is locked: \"{bare}\""))
    } else if text.ends_with('t') && words::is_version(&text[..text.len() - 1], 2..=3) {
        diagnostic.hint("free-threaded builds are not supported")
    } else {
        diagnostic.hint("such as \"3.11\" or \"3.11.9\"")
    });
    None
}

fn provider(
    named: Option<wire::Provider>,
    version: Option<Version>,
    base: &model::Base,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> model::PythonProvider {
    let debian = match base {
        model::Base::Debian(debian) => debian,
        model::Base::Oci(_) => return of_image(named, place, found),
        model::Base::Scratch => {
            found.push(
                Diagnostic::error("Python needs a C library, and a scratch base has none", place.span())
                    .hint("use `debian = \"bookworm\"` in [base]"),
            );
            return model::PythonProvider::Standalone;
        }
    };
    let (major, minor) = debian.suite.python();
    let (suite, own) = (debian.suite.as_str(), (u16::from(major), u16::from(minor), None));
    match named {
        Some(wire::Provider::Standalone) => model::PythonProvider::Standalone,
        None if version == Some(own) => model::PythonProvider::Debian,
        None => model::PythonProvider::Standalone,
        Some(wire::Provider::Base) => {
            found.push(
                Diagnostic::error(
                    "a composed base brings no Python of its own",
                    place.get("provider").span(),
                )
                .hint(
                    "`base` is the Python of the image that `oci` in [base] names; Debian's own is `debian`",
                ),
            );
            model::PythonProvider::Debian
        }
        Some(wire::Provider::Debian) => {
            let span = place.get("provider").span();
            if let Some(version) = version
                && own != version
            {
                let mut diagnostic = Diagnostic::error(
                    format!("{suite} has Python {major}.{minor} and no exact version of one's choice"),
                    place.get("version").span(),
                );
                if let Some(span) = span {
                    diagnostic = diagnostic.label(span, "Debian's own Python is asked for here");
                }
                found.push(
                    diagnostic
                        .hint(format!("write `version = \"{major}.{minor}\"`: the lock holds the exact one"))
                        .hint("use `provider = \"standalone\"` for any other version"),
                );
            }
            model::PythonProvider::Debian
        }
    }
}

/// With an image of a registry below. What Python it has is found when the lock is made.
fn of_image(
    named: Option<wire::Provider>,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> model::PythonProvider {
    match named {
        None | Some(wire::Provider::Base) => model::PythonProvider::Base,
        Some(wire::Provider::Standalone) => model::PythonProvider::Standalone,
        Some(wire::Provider::Debian) => {
            found.push(
                Diagnostic::error(
                    "Debian's Python is for a base that is composed of Debian packages",
                    place.get("provider").span(),
                )
                .hint("use `provider = \"base\"` for the Python of the image that `oci` names")
                .hint("use `provider = \"standalone\"` for any other version"),
            );
            model::PythonProvider::Base
        }
    }
}

/// The part of PEP 508's grammar that people get wrong: the name, and what may follow it. The resolver reads the rest.
fn check_requirements(texts: &[String], place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    for (at, text) in texts.iter().enumerate() {
        let text = text.trim();
        let refuse = |rule: &str| {
            Diagnostic::error(format!("requirement {} {rule}", quoted(text)), place.at(at).span())
        };
        let name_end =
            text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(text.len());
        let (name, rest) = (&text[..name_end], text[name_end..].trim_start());
        if [".txt", ".in"].iter().any(|ending| text.ends_with(ending)) && rest.is_empty() {
            found.push(
                refuse("is a file's name")
                    .hint("files are named by `requirements`, and bound by `-c` inside them"),
            );
        } else if text.starts_with('-') {
            let hint = if text.starts_with("-r") || text.starts_with("--requirement") {
                "requirements files are named by `requirements`"
            } else if text.starts_with("-c") {
                "bounds stand in `constraints`"
            } else if text.contains("index") {
                "an index is a table of its own, [[index]]"
            } else {
                "options of pip are not read here"
            };
            found.push(refuse("is an option").hint(hint));
        } else if text.contains("://") && !text.contains('@')
            || text.starts_with("git+")
            || text.starts_with(['.', '/'])
        {
            found.push(refuse("begins with a URL or path").hint(
                "name the package first: `package @ https://files.example/package-1.0-py3-none-any.whl`",
            ));
        } else if !words::is_python_name(name) {
            found.push(refuse("does not begin with the name of a package"));
        } else if let Some(rest) = rest.strip_prefix('[')
            && !rest.contains(']')
        {
            found.push(refuse("has a bracket that is not closed"));
        } else {
            let rest = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']').map_or("", |(_, rest)| rest).trim_start(),
                None => rest,
            };
            if rest.starts_with('=') && !rest.starts_with("==") {
                let version = rest.trim_start_matches('=').trim();
                found.push(refuse("has a single `=`").hint(format!("write `{name}=={version}`")));
            } else if rest.starts_with('^') {
                let version = rest.trim_start_matches('^');
                found.push(
                    refuse("has the operator `^`")
                        .hint(format!("write `{name}~={version}`, as PEP 440 has it")),
                );
            } else if !rest.is_empty() && !rest.starts_with(['=', '<', '>', '!', '~', ';', '@', '(']) {
                let diagnostic = refuse("has something other than a version after its name");
                found.push(if rest.starts_with(|c: char| c.is_ascii_digit()) {
                    diagnostic.hint(format!("write `{name}=={rest}`"))
                } else {
                    diagnostic.hint("one requirement an element, such as `numpy>=2`, `numpy ; python_version >= \"3.11\"`")
                });
            }
        }
    }
}

/// Paths as written, without `.` parts. What they hold is read when the lock is made.
fn requirement_files(paths: &[String], place: &Place<'_>, found: &mut Vec<Diagnostic>) -> Vec<String> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for (at, path) in paths.iter().enumerate() {
        let place = place.at(at);
        let before = found.len();
        let file = words::project_path(path, "requirements file", true, &place, found);
        if found.len() > before {
            continue;
        }
        let name = file.rsplit('/').next().unwrap_or_default();
        let known = name == "pyproject.toml" || name == "uv.lock" || is_pylock(name);
        let foreign = [".toml", ".lock", ".yml", ".yaml", ".json", ".py", ".cfg"];
        if path.ends_with('/') || file == "." {
            let message = format!("requirements file {} is a directory", quoted(path));
            found.push(Diagnostic::error(message, place.span()));
        } else if !known && foreign.iter().any(|ending| name.ends_with(ending)) || name == "Pipfile" {
            found.push(
                Diagnostic::error(format!("{} is of no kind that can be read", quoted(path)), place.span())
                    .hint("expected a requirements file, `pyproject.toml`, `uv.lock` or `pylock.toml`"),
            );
        } else if !seen.insert(file.clone()) {
            found.push(Diagnostic::warning(format!("file {} is named twice", quoted(path)), place.span()));
        } else {
            files.push(file);
        }
    }
    files
}

/// A lock is taken as it is: whatever else asks for packages would have to be resolved together with it.
fn check_lock_alone(python: &wire::Python, files: &[String], place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let Some(lock) = files.iter().find(|file| is_lock(file)) else { return };
    let hint = format!("name {} alone, or its project's file in its place", quoted(lock));
    for (key, texts) in [("dependencies", &python.dependencies), ("constraints", &python.constraints)] {
        if !texts.is_empty() {
            let message = format!("`{key}` beside {}, which is taken as it is", quoted(lock));
            found.push(Diagnostic::error(message, place.get(key).key_span()).hint(hint.clone()));
        }
    }
    if files.len() > 1 {
        let message = format!("other files beside {}, which is taken as it is", quoted(lock));
        found.push(Diagnostic::error(message, place.get("requirements").span()).hint(hint));
    }
}

fn is_lock(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name == "uv.lock" || is_pylock(name)
}

/// `pylock.toml` and `pylock.<name>.toml` (PEP 751).
fn is_pylock(name: &str) -> bool {
    name == "pylock.toml"
        || name
            .strip_prefix("pylock.")
            .and_then(|name| name.strip_suffix(".toml"))
            .is_some_and(|name| !name.is_empty() && !name.contains('.'))
}

/// Whether the file at `path` has extras and dependency groups to choose from.
fn is_project_file(path: &str) -> bool {
    path.rsplit('/').next() == Some("pyproject.toml") || is_lock(path)
}

/// A day, or a time with its zone as in RFC 3339.
fn is_time(text: &str) -> bool {
    let Ok(time) = text.parse::<toml::value::Datetime>() else { return false };
    let digits = |part: &str| part.bytes().filter(u8::is_ascii_digit).count() == 8;
    text.is_char_boundary(10)
        && text.get(..10).is_some_and(digits)
        && time.date.is_some()
        && (time.time.is_some() == time.offset.is_some())
}

pub(super) fn indexes(
    indexes: Vec<wire::Index>,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> Vec<model::Index> {
    let mut known: Vec<model::Index> = Vec::new();
    // Each is compared with each.
    if indexes.len() > MAX_INDEXES {
        let message = format!("{} indexes are more than the {MAX_INDEXES} that are taken", indexes.len());
        found.push(Diagnostic::error(message, place.at(MAX_INDEXES).span()));
    }
    let mut claimed: Vec<BTreeSet<String>> = Vec::new();
    for (at, index) in indexes.into_iter().take(MAX_INDEXES).enumerate() {
        let place_of = |at: usize| place.at(at);
        let here = place_of(at);
        words::check_index_url(&index.url, &here.get("url"), found);
        if let Some(name) = &index.name {
            check_index_name(name, &here.get("name"), found);
            if let Some(other) = known.iter().position(|other| other.name.as_ref() == Some(name)) {
                found.push(twice(
                    format!("two indexes are called {}", quoted(name)),
                    &here.get("name"),
                    &place_of(other).get("name"),
                ));
            }
        }
        if index.default
            && let Some(other) = known.iter().position(|other| other.default)
        {
            found.push(twice(
                "two indexes want to be the default".to_owned(),
                &here.get("default"),
                &place_of(other).get("default"),
            ));
        }
        if index.default && index.explicit {
            found.push(
                Diagnostic::error(
                    "an index is either `default` or `explicit`",
                    here.get("explicit").key_span(),
                )
                .hint(
                    "the default index is asked for every package, an explicit one for its `packages` only",
                ),
            );
        }
        let packages = words::python_names(index.packages, "a package", &here.get("packages"), found);
        for (other_at, other) in claimed.iter().enumerate() {
            let both: Vec<&str> =
                packages.iter().filter(|name| other.contains(*name)).map(String::as_str).take(10).collect();
            if !both.is_empty() {
                found.push(twice(
                    format!("two indexes claim {}", list(both)),
                    &here.get("packages"),
                    &place_of(other_at).get("packages"),
                ));
            }
        }
        if index.explicit && packages.is_empty() && !here.has("packages") {
            found.push(
                Diagnostic::warning(
                    "an explicit index without `packages` is never asked",
                    here.get("explicit").key_span(),
                )
                .hint("name what comes from it: packages = [\"torch\"]"),
            );
        }
        claimed.push(packages.iter().cloned().collect());
        known.push(model::Index {
            name: index.name,
            url: index.url,
            default: index.default,
            explicit: index.explicit,
            packages,
        });
    }
    known
}

fn twice(message: String, here: &Place<'_>, there: &Place<'_>) -> Diagnostic {
    let diagnostic = Diagnostic::error(message, here.span());
    match there.span() {
        Some(span) => diagnostic.label(span, "the first is here"),
        None => diagnostic,
    }
}

/// Names go into names of environment variables, which carry the credentials.
fn check_index_name(name: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        found.push(
            Diagnostic::error(format!("{} is not the name of an index", quoted(name)), place.span())
                .hint("letters, digits, `-`, `_` and `.`"),
        );
    }
}

#[cfg(test)]
#[path = "python_tests.rs"]
mod tests;
