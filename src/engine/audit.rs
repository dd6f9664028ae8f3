//! The ELF audit of a whole image: which libraries nothing in it provides.

use std::collections::BTreeMap;

use super::base_look::BaseLibraries;
use super::files::FilesLayer;
use super::form::LayerExtra;
use super::work::Work;
use super::{Engine, EngineError, Event};
use crate::elf::{self, ElfFacts, Missing, Verdict};
use crate::size;
use crate::spec::model::Suite;
use crate::tree::TreePath;
use crate::wheel::Pruned;

/// Packages of `elf`'s hints that have another name in trixie.
const RENAMED_IN_TRIXIE: &[&str] =
    &["libglib2.0-0", "libasound2", "libssl3", "libcurl4", "libpng16-16", "libgtk-3-0"];

/// Directories that Debian's `/etc/ld.so.conf` adds to the linker's built-in ones.
const CONF_DIRS: &[&str] = &["usr/local/lib"];

impl Engine {
    /// Warns of every library that the image of `work` needs and does not have, and repeats what its layers had to say.
    /// Gives what `[prune]` left out.
    pub(super) fn audit(&self, work: &Work, files: &[FilesLayer]) -> Result<Pruned, EngineError> {
        let mut elf: Vec<(TreePath, ElfFacts)> = Vec::new();
        let mut links = BTreeMap::new();
        let mut pruned = Pruned::default();
        let mut directories: Vec<String> = CONF_DIRS.iter().map(|&directory| directory.to_owned()).collect();
        let base: Vec<_> = work.plan.base_layers().collect();
        // What nobody has looked at here cannot be said to lack anything.
        let mut is_known = true;
        if !base.is_empty() {
            let found = self.base_libraries(&base)?;
            is_known = found.is_some();
            let BaseLibraries { elf: libraries, links: of_base, directories: more } =
                found.unwrap_or_default();
            let path = |text: &str| TreePath::new(text).ok();
            elf.extend(libraries.into_iter().filter_map(|(at, facts)| Some((path(&at)?, facts))));
            links.extend(of_base.into_iter().filter_map(|(at, target)| Some((path(&at)?, target))));
            directories.extend(more);
        }
        let layers = work.ours().map(|(_, facts)| facts).chain(files.iter().map(|layer| &layer.facts));
        for facts in layers {
            let extra = LayerExtra::parse(facts)?;
            let path = |text: &str| TreePath::new(text).ok();
            elf.extend(extra.elf.into_iter().filter_map(|(at, facts)| Some((path(&at)?, facts))));
            links.extend(extra.links.into_iter().filter_map(|(at, target)| Some((path(&at)?, target))));
            pruned.files += extra.pruned_files;
            pruned.bytes += extra.pruned_bytes;
            for note in extra.notes {
                self.reporter.event(Event::Note(note));
            }
        }
        if pruned.files > 0 {
            let text = format!("pruned {} files, {}", pruned.files, size::human(pruned.bytes));
            self.reporter.event(Event::Note(text));
        }
        let multiarch = work.plan.platform.multiarch();
        directories.push(format!("usr/local/lib/{multiarch}"));
        if !is_known {
            return Ok(pruned);
        }
        let go_on = || !self.cancel.is_cancelled();
        let missing = elf::audit(&elf, &links, &directories, work.plan.platform, &go_on);
        for missing in missing.ok_or(EngineError::Cancelled)? {
            if missing.verdict == Verdict::Absent {
                self.reporter.event(Event::Warning(text(&missing, work)));
            }
        }
        Ok(pruned)
    }
}

fn text(missing: &Missing, work: &Work) -> String {
    let first = missing.needed_by.first().map(ToString::to_string).unwrap_or_default();
    let others = match missing.needed_by.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let mut text = format!(
        "{}: nothing in the image provides {}, which /{first}{others} needs",
        work.plan.platform, missing.library
    );
    if !work.plan.debs.is_empty()
        && let Some(package) = missing.hint
    {
        // Debian 13 renamed libraries whose interface changed with 64-bit times.
        let renamed = work.plan.suite == Some(Suite::Trixie) && RENAMED_IN_TRIXIE.contains(&package);
        let package = format!("{package}{}", if renamed { "t64" } else { "" });
        text += &format!("\nhint: add \"{package}\" to packages in [base]");
    }
    text
}
