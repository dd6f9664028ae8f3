//! Where an interpreter's packages go, read from its own `sysconfig`.
//!
//! `sysconfig` of CPython has a table of install schemes and a rule for the default one. CPython itself uses
//! `posix_prefix`; Debian's builds carry another, `posix_local`, and prefer it. The values are short templates such as
//! `{base}/lib/{implementation_lower}{py_version_short}/site-packages`, which are expanded as `sysconfig` does.

use super::release::Version;
use super::{PREFIX, PythonError};
use crate::tree::{Content, Node, Tree, TreePath};

/// What a lock needs to know of an interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Exact version: `3.12.8`.
    pub version: String,
    /// `/usr/local/bin/python3.12`.
    pub executable: String,
    /// Where `purelib` and `platlib` go: `/usr/local/lib/python3.12/site-packages`.
    pub site_packages: String,
    /// `/usr/local/bin`.
    pub scripts: String,
    /// Where `data` goes: `/usr/local`.
    pub prefix: String,
}

/// Bytes of `sysconfig.py` and `patchlevel.h` read at most; the largest are about 30 KiB.
pub(super) const SOURCE_MAX: u64 = 1024 * 1024;

/// `version` is what the archive's name says; a tree that says otherwise is refused.
pub(super) fn probe(tree: &Tree, version: Version) -> Result<Probe, PythonError> {
    let exact = format!("{}.{}.{}", version.0, version.1, version.2);
    let short = format!("{}.{}", version.0, version.1);
    let unfit = |what: String| PythonError::Unfit { wanted: format!("CPython {exact}"), what };
    let relative = PREFIX.trim_start_matches('/');
    let executable = format!("{relative}/bin/python{short}");
    if !matches!(tree.get(&path(&executable)?), Some(Node::File { mode: 0o755, .. })) {
        return Err(unfit(format!("no executable file `{executable}`")));
    }
    if let Some(header) = text(tree, &format!("{relative}/include/python{short}/patchlevel.h"))? {
        let said = define(&header, "PY_VERSION").unwrap_or("nothing");
        if said != exact {
            return Err(unfit(format!("patchlevel.h says {said}")));
        }
    }
    let library = format!("{relative}/lib/python{short}");
    let source = match text(tree, &format!("{library}/sysconfig.py"))? {
        Some(source) => source,
        None => text(tree, &format!("{library}/sysconfig/__init__.py"))?
            .ok_or_else(|| unfit(format!("no `sysconfig` in `{library}`")))?,
    };
    let scheme = scheme(&source, &short).map_err(unfit)?;
    Ok(Probe { version: exact, executable: format!("/{executable}"), ..scheme })
}

/// The default scheme, expanded; `version` and `executable` are left empty.
fn scheme(source: &str, short: &str) -> Result<Probe, String> {
    let name = if source.contains("'posix_local'") { "posix_local" } else { "posix_prefix" };
    let block = block(source, name).ok_or_else(|| format!("`sysconfig` has no scheme `{name}`"))?;
    let value = |key: &str| {
        let template = quoted(block, key).ok_or_else(|| format!("scheme `{name}` has no `{key}`"))?;
        expand(template, short)
            .ok_or_else(|| format!("scheme `{name}` has `{template}`, which is not understood"))
    };
    let (purelib, platlib) = (value("purelib")?, value("platlib")?);
    if purelib != platlib {
        return Err(format!("pure and native packages go apart, to `{purelib}` and `{platlib}`"));
    }
    Ok(Probe {
        version: String::new(),
        executable: String::new(),
        site_packages: purelib,
        scripts: value("scripts")?,
        prefix: value("data")?,
    })
}

/// The text between the braces behind `'name':`.
fn block<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let behind = &source[source.find(&format!("'{name}': {{"))?..];
    let open = behind.find('{')? + 1;
    // Values hold braces too, but only inside quotes and in pairs.
    let mut depth = 1;
    let end = behind[open..].find(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some(&behind[open..open + end])
}

/// The string behind `'key':`, on that line or the next.
fn quoted<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    let label = format!("'{key}':");
    let behind = block[block.find(&label)? + label.len()..].trim_start().strip_prefix('\'')?;
    behind.split_once('\'').map(|(value, _)| value)
}

fn expand(template: &str, short: &str) -> Option<String> {
    let mut out = template.to_owned();
    for (name, value) in [
        ("{base}", PREFIX),
        ("{platbase}", PREFIX),
        ("{installed_base}", PREFIX),
        ("{platlibdir}", "lib"),
        ("{implementation_lower}", "python"),
        ("{py_version_short}", short),
        ("{abi_thread}", ""),
        ("{abiflags}", ""),
    ] {
        out = out.replace(name, value);
    }
    let plain = out.starts_with('/') && !out.contains(['{', '}']) && TreePath::from_absolute(&out).is_ok();
    plain.then_some(out)
}

/// The string that a C header defines `name` as.
fn define<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "#define" && words.next()? == name).then_some(())?;
        words.next()?.strip_prefix('"')?.strip_suffix('"')
    })
}

/// The text of a file of the tree; `None` where there is none.
fn text(tree: &Tree, at: &str) -> Result<Option<String>, PythonError> {
    let Some(Node::File { content, .. }) = tree.get(&path(at)?) else { return Ok(None) };
    let refused = |rule| PythonError::Entry { path: at.to_owned(), rule };
    if content.size() > SOURCE_MAX {
        return Err(refused("is too long to be a source file"));
    }
    let Content::Bytes(bytes) = content else { return Err(refused("is not held in memory")) };
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| refused("is not UTF-8"))?;
    Ok(Some(text))
}

fn path(text: &str) -> Result<TreePath, PythonError> {
    Ok(TreePath::new(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPYTHON: &str = "_INSTALL_SCHEMES = {
    'posix_prefix': {
        'stdlib': '{installed_base}/{platlibdir}/{implementation_lower}{py_version_short}{abi_thread}',
        'purelib': '{base}/lib/{implementation_lower}{py_version_short}{abi_thread}/site-packages',
        'platlib': '{platbase}/{platlibdir}/{implementation_lower}{py_version_short}{abi_thread}/site-packages',
        'include':
            '{installed_base}/include/{implementation_lower}{py_version_short}{abiflags}',
        'scripts': '{base}/bin',
        'data': '{base}',
        },
    'posix_home': {";
    const DEBIAN: &str = "    'posix_local': {
        'purelib': '{base}/local/lib/python{py_version_short}/dist-packages',
        'platlib': '{platbase}/local/lib/python{py_version_short}/dist-packages',
        'scripts': '{base}/local/bin',
        'data': '{base}/local',
        },\n";

    #[test]
    fn default_schemes() {
        let plain = scheme(CPYTHON, "3.12").unwrap();
        assert_eq!(plain.site_packages, "/usr/local/lib/python3.12/site-packages");
        assert_eq!((plain.scripts.as_str(), plain.prefix.as_str()), ("/usr/local/bin", "/usr/local"));
        let debian =
            scheme(&CPYTHON.replace("    'posix_home'", &format!("{DEBIAN}    'posix_home'")), "3.11")
                .unwrap();
        assert_eq!(debian.site_packages, "/usr/local/local/lib/python3.11/dist-packages");
        assert_eq!(
            (debian.scripts.as_str(), debian.prefix.as_str()),
            ("/usr/local/local/bin", "/usr/local/local")
        );
    }

    #[test]
    fn strange_schemes_are_refused() {
        for (from, to, said) in [
            ("'posix_prefix'", "'other'", "no scheme"),
            ("'purelib'", "'pure'", "no `purelib`"),
            ("{abi_thread}/site-packages", "{new}/site-packages", "not understood"),
            ("{base}/lib/", "{base}/../lib/", "not understood"),
            ("{platlibdir}", "lib64", "go apart"),
        ] {
            let error = scheme(&CPYTHON.replace(from, to), "3.12").unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
