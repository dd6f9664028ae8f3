//! Names that occur in several tables: Debian and Python packages, versions, URLs, paths.

use std::collections::BTreeSet;

use url::Url;

use super::super::check::quoted;
use super::super::source::Place;
use crate::diagnostic::Diagnostic;
use crate::tree::TreePath;

/// A Python package's name as the package index specification normalises it: lower case, and every run of `-`, `_`
/// and `.` is one `-`.
pub fn normalise_name(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !normal.is_empty() {
            normal.push('-');
        }
        normal.push_str(&part.to_ascii_lowercase());
    }
    normal
}

/// Whether `name` is a name by the grammar of PEP 508.
pub(in super::super) fn is_python_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Normalised names, as given or sorted; whatever is no name is said.
pub(super) fn python_names(
    names: Vec<String>,
    what: &str,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> Vec<String> {
    let (mut normal, mut seen) = (Vec::new(), BTreeSet::new());
    for (at, name) in names.iter().enumerate() {
        if is_python_name(name) {
            let name = normalise_name(name);
            if seen.insert(name.clone()) {
                normal.push(name);
            }
        } else {
            let message = format!("{} is not the name of {what}", quoted(name));
            let mut diagnostic = Diagnostic::error(message, place.at(at).span());
            if name.contains(['=', '<', '>', '~', '!', '[', ';', '@']) {
                diagnostic = diagnostic.hint("only a name stands here, without version, extras or marker");
            }
            found.push(diagnostic);
        }
    }
    normal
}

/// Whether `name` is a package name by section 5.6.1 of the Debian policy.
fn is_debian_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let lower = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.len() >= 2 && lower(&bytes[0]) && bytes.iter().all(|byte| lower(byte) || b"+-.".contains(byte))
}

/// Debian packages: sorted, each once.
pub(super) fn debian_names(names: &[String], place: &Place<'_>, found: &mut Vec<Diagnostic>) -> Vec<String> {
    let mut sorted = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let place = place.at(at);
        if !is_debian_name(name) {
            let diagnostic = Diagnostic::error(
                format!("{} is not the name of a Debian package", quoted(name)),
                place.span(),
            );
            let bare = name.split(['=', ':', '/', '<', '>', ' ', '(']).next().unwrap_or_default().trim();
            let lower = name.to_lowercase();
            found.push(if bare != name && is_debian_name(bare) {
                diagnostic.hint(format!(
                    "write `{bare}`: the lock holds the exact version, and `platforms` says the architecture"
                ))
            } else if lower != *name && is_debian_name(&lower) {
                diagnostic.hint(format!("Debian's names are in lower case: `{lower}`"))
            } else {
                diagnostic.hint("lower-case letters, digits, `+`, `-` and `.`, at least two of them")
            });
        } else if !sorted.insert(name.clone()) {
            found.push(Diagnostic::warning(format!("package `{name}` is named twice"), place.span()));
        }
    }
    sorted.into_iter().collect()
}

/// Whether [`check_index_url`] has nothing to say.
pub(in super::super) fn is_index_url(text: &str) -> bool {
    let mut found = Vec::new();
    check_index_url(text, &Place::nowhere(), &mut found);
    found.is_empty()
}

/// Says what is wrong with the URL of a package index: `https` or `http` only, unlike a mirror's.
pub(super) fn check_index_url(text: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let message = |rule: &str| format!("index {} {rule}", quoted(&without_credentials(text)));
    match Url::parse(text) {
        Ok(url) if url.scheme() == "file" => found.push(
            Diagnostic::error(message("is a directory, and only web servers are asked"), place.span())
                .hint("serve it, for example by `python3 -m http.server -d DIR`: `http://localhost:8000/`"),
        ),
        Ok(url) if !matches!(url.scheme(), "https" | "http") => found.push(
            Diagnostic::error(message(&format!("has the scheme {}", quoted(url.scheme()))), place.span())
                .hint("expected `https` or `http`"),
        ),
        Err(url::ParseError::RelativeUrlWithoutBase) if text.starts_with(['/', '.']) => found.push(
            Diagnostic::error(message("is not a URL"), place.span())
                .hint("a directory has to be served, for example by `python3 -m http.server -d DIR`"),
        ),
        _ => check_url(text, "index", place, found),
    }
}

/// Says what is wrong with a URL that is not `https`, `http` or `file`, names no host where it must, or has more than a
/// place.
pub(super) fn check_url(text: &str, what: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let refuse = |rule: &str| {
        Diagnostic::error(format!("{what} {} {rule}", quoted(&without_credentials(text))), place.span())
    };
    match Url::parse(text) {
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            let hint = if text.starts_with(['/', '.']) || text.contains('\\') {
                "a directory is named by its URL: `file:///srv/packages`".to_owned()
            } else {
                format!("begin it with the scheme: `https://{text}`")
            };
            found.push(refuse("is not a URL").hint(hint));
        }
        Err(error) => found.push(refuse(&format!("is not a URL: {error}"))),
        Ok(url) => match url.scheme() {
            "https" | "http" if url.fragment().is_some() => found.push(refuse("has a fragment")),
            "https" | "http" if url.query().is_some() => found
                .push(refuse("has a query, which may be a secret and would stand in the lock").hint(
                    "leave out the `?` and what follows it; an index takes a user name and a password",
                )),
            "https" | "http" => {}
            "file" if url.host().is_none() => {}
            "file" => found.push(
                refuse("names a host")
                    .hint("a `file` URL has three slashes before the path: `file:///srv/packages`"),
            ),
            scheme => found.push(
                refuse(&format!("has the scheme {}", quoted(scheme)))
                    .hint("expected `https`, `http` or `file`"),
            ),
        },
    }
}

/// A message must not repeat a secret, even of a URL that does not parse.
fn without_credentials(text: &str) -> String {
    let (text, query) = match text.split_once('?') {
        Some((text, _)) => (text, "?…"),
        None => (text, ""),
    };
    match (text.find("://"), text.find('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}…{}{query}", &text[..scheme + 3], &text[at..]),
        _ => format!("{text}{query}"),
    }
}

/// An absolute path of the image without `.`, `..`, doubled or trailing slashes; the root is `/`.
pub(super) fn image_path(path: &str, what: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> String {
    if !path.is_empty() && path.bytes().all(|byte| byte == b'/') {
        return "/".to_owned();
    }
    match TreePath::from_absolute(path) {
        Ok(path) => format!("/{path}"),
        Err(error) => {
            let diagnostic =
                Diagnostic::error(format!("{what} {} {}", quoted(path), error.rule), place.span());
            found.push(if path.starts_with(['~', '$']) {
                diagnostic.hint("nothing is expanded here: write the whole path")
            } else if error.rule == "is not absolute" {
                diagnostic.hint(format!(
                    "paths of the image begin with a slash: `/{}`",
                    path.trim_start_matches("./")
                ))
            } else {
                diagnostic
            });
            path.to_owned()
        }
    }
}

/// A path relative to the spec's directory, without `.` parts and trailing slash; the directory itself is `.`.
pub(super) fn project_path(
    path: &str,
    what: &str,
    may_leave: bool,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> String {
    let refuse = |rule: &str| Diagnostic::error(format!("{what} {} {rule}", quoted(path)), place.span());
    if path.starts_with('/') {
        found.push(refuse("is absolute").hint("paths of the project are relative to the spec's directory"));
    } else if path.contains('\\') {
        found.push(refuse("contains a backslash").hint("parts of a path are separated by `/`"));
    } else if path.starts_with('~') || path.starts_with('$') {
        found.push(refuse("begins with `~` or `$`").hint("nothing is expanded here: write the path itself"));
    } else {
        let mut depth = 0i32;
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => depth -= 1,
                _ => depth += 1,
            }
            if depth < 0 && !may_leave {
                found.push(
                    refuse("leaves the spec's directory")
                        .hint("put the spec where it is above everything that the image takes"),
                );
                break;
            }
        }
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Numbers with dots between them, as many as `parts` allows.
pub(super) fn is_version(text: &str, parts: std::ops::RangeInclusive<usize>) -> bool {
    let number =
        |part: &str| !part.is_empty() && part.len() <= 5 && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.contains(&text.split('.').count()) && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_indexes_do() {
        for (name, normal) in [
            ("Flask", "flask"),
            ("zope.interface", "zope-interface"),
            ("ruamel__yaml", "ruamel-yaml"),
            ("A-_.b", "a-b"),
            ("typing_extensions", "typing-extensions"),
        ] {
            assert_eq!(normalise_name(name), normal);
        }
    }

    #[test]
    fn grammar_of_names() {
        for (name, python, debian) in [
            ("numpy", true, true),
            ("libstdc++6", false, true),
            ("g++", false, true),
            ("Flask", true, false),
            ("a", true, false),
            ("-a", false, false),
            ("a_b", true, false),
            ("a.", false, true),
            ("", false, false),
            ("naïve", false, false),
        ] {
            assert_eq!((is_python_name(name), is_debian_name(name)), (python, debian), "{name}");
        }
    }

    #[test]
    fn versions_are_dotted_numbers() {
        for (text, is) in [
            ("12.8", true),
            ("12", false),
            ("12.8.1", true),
            ("12.", false),
            ("v12.8", false),
            ("1.2.3.4", false),
        ] {
            assert_eq!(is_version(text, 2..=3), is, "{text}");
        }
    }

    #[test]
    fn project_paths_stay_inside() {
        let place = Place::nowhere();
        for (path, expected) in [
            ("src/", Ok("src")),
            (".", Ok(".")),
            ("./a//b/.", Ok("a/b")),
            ("a/../b", Ok("a/../b")),
            ("/etc", Err("is absolute")),
            ("..", Err("leaves the spec's directory")),
            ("a/../../b", Err("leaves the spec's directory")),
            ("a\\b", Err("contains a backslash")),
            ("~/a", Err("begins with `~` or `$`")),
        ] {
            let mut found = Vec::new();
            let normal = project_path(path, "path", false, &place, &mut found);
            match expected {
                Ok(expected) => assert_eq!((normal.as_str(), found.len()), (expected, 0), "{path}"),
                Err(rule) => assert!(found[0].message.ends_with(rule), "{path}: {}", found[0].message),
            }
        }
    }

    #[test]
    fn secrets_of_urls_are_not_repeated() {
        assert_eq!(without_credentials("https://me:secret@index.example/x y"), "https://…@index.example/x y");
        assert_eq!(without_credentials("no url"), "no url");
    }
}
