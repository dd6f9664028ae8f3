//! Faults at the N-th call of the process, by a library of the test (`inject.c`).

use std::fs;
use std::path::{Path, PathBuf};

use super::Place;
use crate::support::mlbuild::{Finished, Run};
use crate::support::project;
use crate::support::skip::Skip;
use crate::support::tool::tool;

/// The library, gone when it is dropped.
pub struct Injector(tempfile::TempDir);

impl Injector {
    pub fn new() -> Result<Self, Skip> {
        let compiler = tool("cc").or_else(|_| tool("gcc"))?;
        let injector = Self(tempfile::tempdir().unwrap());
        let _ = Run::new(compiler)
            .args(&["-shared", "-fPIC", "-O1", "-o"])
            .arg(injector.library())
            .arg(project("tests/it/faults/inject.c"))
            .ok();
        Ok(injector)
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("inject.so")
    }

    /// A build with `fault` at the N-th of `calls` on a file of the place, and which call that was: none if there was no
    /// N-th one.
    pub fn build(
        &self,
        place: &Place<'_>,
        calls: &str,
        fault: &str,
        at: usize,
    ) -> (Finished, Option<String>) {
        self.run(place.directory.path(), place.build(), calls, fault, at)
    }

    /// The same for any run and files below any directory.
    pub fn run(
        &self,
        under: &Path,
        run: Run,
        calls: &str,
        fault: &str,
        at: usize,
    ) -> (Finished, Option<String>) {
        let finished = self.prepare(under, run, calls, fault, at).run();
        (finished, hits(under).pop())
    }

    /// How many of `calls` a build makes on files of its place.
    pub fn count(&self, place: &Place<'_>, calls: &str) -> usize {
        self.calls(place.directory.path(), place.build(), calls).len()
    }

    /// The same for any run and files below any directory.
    pub fn count_in(&self, under: &Path, run: Run, calls: &str) -> usize {
        self.calls(under, run, calls).len()
    }

    /// Those of `calls` that a run makes on files below a directory, each with the file.
    pub fn calls(&self, under: &Path, run: Run, calls: &str) -> Vec<String> {
        let _ = self.prepare(under, run, calls, "0", 0).ok();
        hits(under)
    }

    fn prepare(&self, under: &Path, run: Run, calls: &str, fault: &str, at: usize) -> Run {
        run.env("LD_PRELOAD", self.library())
            .env("FAULT_UNDER", under)
            .env("FAULT_CALLS", calls)
            .env("FAULT_AT", at.to_string())
            .env("FAULT_DO", fault)
            .env("FAULT_LOG", under.join("hits"))
    }
}

fn hits(under: &Path) -> Vec<String> {
    fs::read_to_string(under.join("hits")).unwrap_or_default().lines().map(str::to_owned).collect()
}
