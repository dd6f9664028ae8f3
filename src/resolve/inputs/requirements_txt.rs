//! Requirements files, in pip's format.
//!
//! Understood: requirements with `--hash`, `-r` and `-c` (nested, each file once), `-i`/`--index-url`,
//! `--extra-index-url`, `--require-hashes`, `--only-binary` and `--prefer-binary` (our rule anyway), comments, line
//! continuation. Refused with a reason: `-e`, local paths, version control, `--no-index`, `--find-links`, `--pre`,
//! `--no-binary`, `--trusted-host`, includes by URL, environment variables, hashes other than SHA-256.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{InputError, PythonInputs, asked, read_text};
use crate::digest::Digest;
use crate::resolve::without_credentials;
use crate::spec::model::Index;

/// Reads `name` (relative to `dir`) and what it includes into `inputs`.
pub(super) fn read(dir: &Path, name: &str, inputs: &mut PythonInputs) -> Result<(), InputError> {
    let mut reader = Reader { dir, inputs, seen: BTreeSet::new(), require_hashes: None, without_hash: None };
    reader.file(Path::new(name), false)?;
    if let (Some(origin), Some(requirement)) = (reader.require_hashes, reader.without_hash) {
        return Err(InputError::Refused {
            origin,
            reason: format!("`--require-hashes` is set, but {requirement} has no hash"),
        });
    }
    Ok(())
}

struct Reader<'a> {
    dir: &'a Path,
    inputs: &'a mut PythonInputs,
    /// Files by path below `dir` and role: a file that includes itself is read once.
    seen: BTreeSet<(PathBuf, bool)>,
    /// Where `--require-hashes` is written.
    require_hashes: Option<String>,
    /// The first requirement without a hash, with its place.
    without_hash: Option<String>,
}

impl Reader<'_> {
    fn file(&mut self, name: &Path, constraint: bool) -> Result<(), InputError> {
        let name = tidy(name);
        if !self.seen.insert((name.clone(), constraint)) {
            return Ok(());
        }
        let path = self.dir.join(&name);
        let text = read_text(&path)?;
        self.inputs.files.push(path);
        for (number, line) in logical_lines(&text) {
            let origin = format!("{}:{number}", name.display());
            self.line(&line, &origin, &name, constraint)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str, origin: &str, file: &Path, constraint: bool) -> Result<(), InputError> {
        if line.starts_with('-') {
            return self.option(line, origin, file, constraint);
        }
        let (text, options) = split_options(line);
        let hashes = hashes(options, origin)?;
        let asked = asked(text, origin, hashes, constraint)?;
        if constraint {
            self.inputs.constraints.push(asked);
        } else {
            if asked.hashes.is_empty() && self.without_hash.is_none() {
                self.without_hash = Some(format!("`{}` ({origin})", asked.text));
            }
            self.inputs.requirements.push(asked);
        }
        Ok(())
    }

    fn option(&mut self, line: &str, origin: &str, file: &Path, constraint: bool) -> Result<(), InputError> {
        let refused = |reason: &str| {
            Err(InputError::Refused {
                origin: origin.to_owned(),
                reason: format!("`{}`: {reason}", option_name(line)),
            })
        };
        let (option, value) = split_option(line);
        let value = value.trim().trim_matches(['"', '\'']);
        match option {
            "-r" | "--requirement" | "-c" | "--constraint" => {
                if value.is_empty() || value.contains("://") || value.contains("${") {
                    return refused("needs the path of a file");
                }
                let included = file.parent().unwrap_or(Path::new("")).join(value);
                self.file(&included, constraint || matches!(option, "-c" | "--constraint"))
            }
            "-i" | "--index-url" | "--extra-index-url" => {
                let url = url::Url::parse(value)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && !value.contains("${"));
                if url.as_ref().is_none_or(|url| url.query().is_some()) {
                    return refused("needs an http or https URL without a query");
                }
                let index = Index {
                    name: None,
                    url: value.to_owned(),
                    default: option != "--extra-index-url",
                    explicit: false,
                    packages: Vec::new(),
                };
                if !self.inputs.indexes.contains(&index) {
                    self.inputs.indexes.push(index);
                }
                Ok(())
            }
            "--require-hashes" => {
                self.require_hashes = Some(origin.to_owned());
                Ok(())
            }
            "--only-binary" | "--prefer-binary" => Ok(()),
            "-e" | "--editable" => {
                refused("editable installs have no place in an image: copy the code with [[copy]]")
            }
            "-f" | "--find-links" => refused("only package indexes are supported: name one with [[index]]"),
            "--no-index" => refused("the indexes are those of [[index]]"),
            "--pre" => refused("say `prerelease = \"allow\"` in [python]"),
            "--no-binary" => refused("nothing is built: wheels only"),
            "--trusted-host" => refused("certificates are always checked"),
            _ => refused("not supported in a requirements file"),
        }
    }
}

/// Without `.` and, where possible, `..`: one spelling of one file.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}

/// Lines with continuations joined and comments taken off, each with the number of its first line; empty ones are
/// left out.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let is_comment = line.trim_start().starts_with('#');
        let (start, mut joined) = open.take().unwrap_or((number + 1, String::new()));
        match line.strip_suffix('\\') {
            Some(begun) if !is_comment => {
                joined.push_str(begun);
                joined.push(' ');
                open = Some((start, joined));
            }
            _ => {
                // A comment ends a continued line; the blank makes it one.
                joined.push_str(if is_comment { " " } else { "" });
                joined.push_str(line);
                lines.push((start, joined));
            }
        }
    }
    lines.extend(open);
    lines
        .into_iter()
        .map(|(number, line)| (number, without_comment(&line).trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// A `#` begins a comment at the start of a line or after white space: URLs have fragments.
fn without_comment(line: &str) -> &str {
    let mut after_space = true;
    for (at, c) in line.char_indices() {
        if c == '#' && after_space {
            return &line[..at];
        }
        after_space = c.is_whitespace();
    }
    line
}

/// The requirement, and from the first word with a leading dash on its options.
fn split_options(line: &str) -> (&str, &str) {
    let mut after_space = false;
    for (at, c) in line.char_indices() {
        if c == '-' && after_space {
            return (line[..at].trim_end(), &line[at..]);
        }
        after_space = c.is_whitespace();
    }
    (line, "")
}

/// `--name=value`, `--name value`, `-n value`, `-nvalue`.
fn split_option(line: &str) -> (&str, &str) {
    if let Some(short) = ["-r", "-c", "-i", "-e", "-f"].into_iter().find(|short| line.starts_with(short)) {
        return (short, line[2..].trim_start_matches('='));
    }
    match line.find(|c: char| c == '=' || c.is_whitespace()) {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => (line, ""),
    }
}

/// For messages: the option without its value, which may be a URL with a secret.
fn option_name(line: &str) -> &str {
    split_option(line).0
}

fn hashes(options: &str, origin: &str) -> Result<Vec<String>, InputError> {
    let refused = |reason: String| InputError::Refused { origin: origin.to_owned(), reason };
    let mut hashes = Vec::new();
    let mut words = options.split_whitespace();
    while let Some(word) = words.next() {
        let hash = match word.strip_prefix("--hash") {
            Some("") => words.next().unwrap_or_default(),
            Some(value) if value.starts_with('=') => &value[1..],
            _ => {
                return Err(refused(format!(
                    "option `{}` of a requirement is not supported",
                    option_name(word)
                )));
            }
        };
        let digest: Digest = hash.parse().map_err(|_| {
            refused(format!(
                "`{}` is not a hash that can be checked: only sha256 is",
                without_credentials(hash)
            ))
        })?;
        hashes.push(digest.to_string());
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(files: &[(&str, &str)]) -> Result<PythonInputs, InputError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut inputs = PythonInputs::default();
        read(dir.path(), files[0].0, &mut inputs)?;
        Ok(inputs)
    }

    fn shown(list: &[super::super::Asked]) -> Vec<String> {
        list.iter().map(|asked| format!("{} {}", asked.origin, asked.text)).collect()
    }

    const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn pips_format_is_read() {
        let main = format!(
            "\u{feff}# top\r\n-i https://user:pw@pkg.example/simple\n--extra-index-url=https://extra.example/simple\n\
             NumPy>=1.26  # why\n\n-r sub/more.txt\n-c limits.txt\n\
             a==1.0 \\\n    --hash={HASH} \\\n    --hash {HASH}\n\
             b @ https://files.example/b-1-py3-none-any.whl#sha256=00 ; python_version > '3'\n--only-binary :all:\n"
        );
        let inputs = read_all(&[
            ("requirements.txt", &main),
            ("sub/more.txt", "-r ../requirements.txt\npandas\n-r./more.txt\n-c ../limits.txt"),
            ("limits.txt", "urllib3<2\n"),
        ])
        .unwrap();
        assert_eq!(
            shown(&inputs.requirements),
            [
                "requirements.txt:4 numpy>=1.26",
                "sub/more.txt:2 pandas",
                "requirements.txt:8 a==1.0",
                "requirements.txt:11 b @ https://files.example/b-1-py3-none-any.whl#sha256=00 ; python_full_version >= '3.1'",
            ]
        );
        assert_eq!(inputs.requirements[2].hashes, [HASH, HASH]);
        assert_eq!(shown(&inputs.constraints), ["limits.txt:1 urllib3<2"]);
        assert_eq!(inputs.files.len(), 3);
        let indexes: Vec<_> = inputs.indexes.iter().map(|index| (&*index.url, index.default)).collect();
        assert_eq!(
            indexes,
            [("https://user:pw@pkg.example/simple", true), ("https://extra.example/simple", false)]
        );
    }

    #[test]
    fn what_has_no_meaning_here_is_refused() {
        for (line, reason) in [
            ("-e .", "[[copy]]"),
            ("--editable=git+https://code.example/x", "[[copy]]"),
            ("./local", "local files"),
            ("git+https://code.example/x", "version control"),
            ("--find-links https://u:secret@files.example", "[[index]]"),
            ("--index-url ${INDEX}", "needs an http"),
            ("--index-url file:///srv", "needs an http"),
            ("-i https://pkg.example/simple?token=secret", "without a query"),
            ("-r https://u:secret@files.example/r.txt", "path of a file"),
            ("--pre", "prerelease"),
            ("--no-binary :all:", "wheels only"),
            ("a==1 --hash=md5:00", "only sha256"),
            ("a==1 --config-settings=x", "not supported"),
            ("--unknown", "not supported"),
            ("a==1\n--require-hashes", "has no hash"),
            ("a===", "not a requirement"),
        ] {
            let error = read_all(&[("r.txt", line)]).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
            assert!(error.starts_with("r.txt:"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
