//! Second opinion on ELF files: binutils' readelf on every shared object and program of this machine's library
//! directories.

use std::fs;
use std::path::{Path, PathBuf};

use mlbuild::blob::{FileBlob, ReadAt};
use mlbuild::elf::{ElfFacts, Sniffer, facts};

use crate::support::mlbuild::Run;
use crate::support::skip::or_skip;
use crate::support::tool::tool;

#[test]
fn readelf_agrees() {
    or_skip!("ELF facts against readelf", tool("readelf"));
    let mut files = Vec::new();
    for directory in ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib/gcc"] {
        collect(Path::new(directory), &mut files);
    }
    files.sort();
    // A thousand are enough, from all over.
    let step = files.len().div_ceil(1000).max(1);
    let mut compared = 0;
    for chunk in files.iter().step_by(step).collect::<Vec<_>>().chunks(50) {
        for (path, theirs) in readelf(chunk) {
            let blob = FileBlob::new(fs::File::open(&path).unwrap()).unwrap();
            let ours = facts(&blob);
            let sniffed = Sniffer::read(blob.size(), || fs::File::open(&path)).unwrap();
            assert_eq!(ours, sniffed, "{}", path.display());
            assert_eq!(ours.map(listing), theirs, "{}", path.display());
            compared += 1;
        }
    }
    assert!(compared >= 50, "only {compared} ELF files were found");
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            collect(&entry.path(), into);
        } else if kind.is_file() {
            let mut start = [0; 18];
            let Ok(file) = fs::File::open(entry.path()).and_then(FileBlob::new) else { continue };
            // Programs and shared objects: `facts` refuses others by rule.
            if file.read_exact_at(&mut start, 0).is_ok()
                && start[..4] == *b"\x7fELF"
                && matches!(start[16], 2 | 3)
            {
                into.push(entry.path());
            }
        }
    }
}

fn listing(facts: ElfFacts) -> Vec<String> {
    let mut lines: Vec<String> = facts.needed.iter().map(|name| format!("needed {name}")).collect();
    lines.extend(facts.soname.map(|name| format!("soname {name}")));
    lines.extend(facts.interp.map(|name| format!("interp {name}")));
    lines.extend(facts.runpath.iter().map(|directory| format!("path {directory}")));
    lines.sort();
    lines
}

/// The same listing by readelf; `None` for a file that it finds no fault with but that has no dynamic part at all.
fn readelf(files: &[&PathBuf]) -> Vec<(PathBuf, Option<Vec<String>>)> {
    let mut run = Run::new("readelf").args(&["-d", "-l", "-W"]);
    for file in files {
        run = run.arg(file);
    }
    // One file is named nowhere in the output.
    let output = if files.len() == 1 { format!("File: {}\n", files[0].display()) } else { String::new() };
    let output = output + &run.run().stdout();
    let mut all: Vec<(PathBuf, Option<Vec<String>>)> = Vec::new();
    for line in output.lines() {
        if let Some(path) = line.strip_prefix("File: ") {
            all.push((path.into(), Some(Vec::new())));
            continue;
        }
        let Some((_, Some(lines))) = all.last_mut() else { continue };
        let inside = |from: char, to: char| Some(line.split_once(from)?.1.rsplit_once(to)?.0.to_owned());
        if line.contains("(NEEDED)") {
            lines.extend(inside('[', ']').map(|name| format!("needed {name}")));
        } else if line.contains("(SONAME)") {
            lines.extend(inside('[', ']').map(|name| format!("soname {name}")));
        } else if line.contains("(RUNPATH)") || line.contains("(RPATH)") {
            let path = inside('[', ']').unwrap_or_default();
            lines.extend(path.split(':').filter(|dir| !dir.is_empty()).map(|dir| format!("path {dir}")));
        } else if line.contains("Requesting program interpreter") {
            lines.extend(inside(':', ']').map(|name| format!("interp {}", name.trim())));
        }
    }
    for (_, lines) in &mut all {
        lines.as_mut().unwrap().sort();
    }
    all
}
