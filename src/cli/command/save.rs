//! Files of strangers, put into a directory: names that are safe there, and nothing that is written over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::cli::text::is_hostile;
use crate::digest::{Digest, hash_reader};
use crate::image::annotation;
use crate::oci::Descriptor;
use crate::scratch;

/// The longest name, in bytes: with digits before it, it is short enough for all file systems.
const LONGEST_NAME: usize = 200;

/// Where a file is to be.
pub struct Place {
    pub path: PathBuf,
    /// It is there already.
    pub there: bool,
    digest: Digest,
}

/// A place in the directory, which is made, for each file; an error if a place is taken.
pub fn places(directory: &Path, files: &[&Descriptor]) -> Result<Vec<Place>, Failure> {
    let failed = |source| Failure::Io { what: format!("cannot write to {}", directory.display()), source };
    fs::create_dir_all(directory).map_err(failed)?;
    scratch::sweep(directory, scratch::is_scratch);
    let place = |(file, name): (&&Descriptor, String)| {
        let path = directory.join(name);
        let there = is_there(&path, &file.digest, file.size)?;
        Ok(Place { path, there, digest: file.digest })
    };
    files.iter().zip(names(files)).map(place).collect()
}

/// Puts the file there, all of it or nothing.
pub fn write(place: &Place, bytes: &[u8]) -> Result<(), Failure> {
    let Place { path, digest, .. } = place;
    let failed = |source| Failure::Io { what: format!("cannot write {}", path.display()), source };
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = scratch::create(directory, 0o644).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            is_there(path, digest, bytes.len() as u64).map(|_| ())
        }
        Err(error) => Err(failed(error.error)),
    }
}

/// Whether the very file is there; an error if something else is.
fn is_there(path: &Path, digest: &Digest, size: u64) -> Result<bool, Failure> {
    let same = || -> io::Result<bool> {
        let found = fs::symlink_metadata(path)?;
        let like = found.is_file() && found.len() == size;
        Ok(like && hash_reader(File::open(path)?)?.0 == *digest)
    };
    match same() {
        Ok(true) => Ok(true),
        Ok(false) => Err(Failure::Request {
            message: format!("{} is there, and is not {digest}", path.display()),
            hint: Some("move it away, or name another directory".into()),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Failure::Io { what: format!("cannot read {}", path.display()), source }),
    }
}

/// A name for each file: its title, if that is plain. Several contents of one title have digits of theirs before it.
fn names(files: &[&Descriptor]) -> Vec<String> {
    let mut contents: BTreeMap<&str, BTreeSet<Digest>> = BTreeMap::new();
    for file in files {
        contents.entry(plain_title(file).unwrap_or_default()).or_default().insert(file.digest);
    }
    let name = |file: &&Descriptor| match plain_title(file) {
        None => file.digest.hex(),
        Some(title) if contents[title].len() > 1 => format!("{}-{title}", &file.digest.hex()[..12]),
        Some(title) => title.to_owned(),
    };
    files.iter().map(name).collect()
}

/// The title, if it is the name of a file and nothing else.
fn plain_title(file: &Descriptor) -> Option<&str> {
    let title = file.annotation(annotation::TITLE)?;
    let plain = !title.is_empty()
        && title.len() <= LONGEST_NAME
        && !title.starts_with(['.', '-', '~'])
        && !title.contains(|c: char| matches!(c, '/' | '\\') || is_hostile(c));
    plain.then_some(title)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn file(title: &str, content: &str) -> Descriptor {
        let mut file = Descriptor::of(MediaType::from("text/plain"), content.as_bytes());
        file.annotations.insert(annotation::TITLE.to_owned(), title.to_owned());
        file
    }

    #[test]
    fn names_are_plain_and_their_own() {
        let long = "n".repeat(201);
        let hostile = [
            "",
            ".",
            "..",
            ".bashrc",
            "../up",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "-rf",
            "~x",
            "a\nb",
            "a\0b",
            "a\u{202e}b",
            &long,
        ];
        let files: Vec<_> =
            hostile.iter().enumerate().map(|(at, title)| file(title, &at.to_string())).collect();
        for (file, name) in files.iter().zip(names(&files.iter().collect::<Vec<_>>())) {
            assert_eq!(name, file.digest.hex());
        }
        let untitled = Descriptor::of(MediaType::Empty, b"x");
        assert_eq!(names(&[&untitled]), [untitled.digest.hex()]);
        let [one, same, other, alone] =
            [("app.lock", "1"), ("app.lock", "1"), ("app.lock", "2"), ("sbom é.json", "1")]
                .map(|(title, content)| file(title, content));
        let digits = |file: &Descriptor| format!("{}-app.lock", &file.digest.hex()[..12]);
        assert_eq!(
            names(&[&one, &same, &other, &alone]),
            [digits(&one), digits(&one), digits(&other), "sbom é.json".to_owned()]
        );
        assert_eq!(names(&[&one, &same]), ["app.lock", "app.lock"]);
    }

    #[test]
    fn nothing_is_written_over() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("new");
        let one = file("a", "1");
        let place = places(&directory, &[&one]).unwrap().remove(0);
        assert!(!place.there);
        write(&place, b"1").unwrap();
        // Somebody else was sooner.
        write(&place, b"1").unwrap();
        assert!(places(&directory, &[&one]).unwrap()[0].there);
        fs::write(directory.join("a"), "2").unwrap();
        assert!(places(&directory, &[&one]).is_err() && write(&place, b"1").is_err());
        // Nor is a link followed.
        fs::write(home.path().join("target"), "1").unwrap();
        fs::remove_file(directory.join("a")).unwrap();
        std::os::unix::fs::symlink("../target", directory.join("a")).unwrap();
        assert!(places(&directory, &[&one]).is_err() && write(&place, b"1").is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left");
    }
}
