//! `mlbuild init`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::Session;
use crate::cli::Exit;
use crate::cli::args::Init as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::spec::starter;
use crate::textfile;

/// Files that a starter can be made from, the most telling first.
const KNOWN: [&str; 3] = ["uv.lock", "pyproject.toml", "requirements.txt"];

/// The longest file that a starter is made from, in bytes.
const MAX_INPUT: usize = 16 << 20;

pub fn run(_: &Session, args: &Args) -> Result<Exit, Failure> {
    let directory = &args.directory;
    let target = directory.join("mlbuild.toml");
    if target.exists() && !args.force {
        return Err(Failure::Request {
            message: format!("{} exists already", target.display()),
            hint: Some("--force replaces it".into()),
        });
    }
    let failed = |source| Failure::Io { what: format!("cannot write {}", target.display()), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let source = match &args.from {
        Some(file) => Some(file.clone()),
        None if args.blank => None,
        None => KNOWN.iter().map(|name| directory.join(name)).find(|path| path.is_file()),
    };
    let text = match &source {
        Some(file) => from_file(directory, file)?,
        None => starter::blank(&name_of(directory)),
    };
    let mut options = fs::OpenOptions::new();
    if args.force {
        options.write(true).create(true).truncate(true);
    } else {
        options.write(true).create_new(true);
    }
    options.open(&target).and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
    match &source {
        Some(file) => out::line(format_args!("wrote {} from {}", target.display(), file.display())),
        None => out::line(format_args!("wrote {}", target.display())),
    }
    out::line(format_args!("next: `mlbuild build`"));
    Ok(Exit::Success)
}

fn from_file(directory: &Path, file: &Path) -> Result<String, Failure> {
    let text = textfile::read(file, MAX_INPUT).map_err(|source| Failure::unread(file, source))?;
    let relative = relative(directory, file)?;
    let relative = relative.to_str().ok_or_else(|| Failure::request(format!("{file:?} is not UTF-8")))?;
    starter::from_file(&name_of(directory), relative, &text)
        .map_err(|error| Failure::request(format!("{}: {error}", file.display())))
}

/// The spec names files relative to itself.
fn relative(directory: &Path, file: &Path) -> Result<PathBuf, Failure> {
    let resolve = |path: &Path| {
        path.canonicalize()
            .map_err(|source| Failure::Io { what: format!("cannot read {}", path.display()), source })
    };
    let (directory, whole) = (resolve(directory)?, resolve(file)?);
    match whole.strip_prefix(&directory) {
        Ok(relative) => Ok(relative.to_owned()),
        Err(_) => Err(Failure::request(format!("{} is not below {}", file.display(), directory.display()))),
    }
}

/// The directory's name, as far as an image name can be made of it.
fn name_of(directory: &Path) -> String {
    let name = directory.canonicalize().ok();
    let name = name.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("app");
    let letters = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(letters).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() { "app".into() } else { name }
}
