//! The ELF audit of a whole image: which libraries nothing in it provides.

use std::collections::BTreeMap;

use super::build::Work;
use super::files::FilesLayer;
use super::form::LayerExtra;
use super::{Engine, EngineError, Event};
use crate::elf::{self, ElfFacts, Missing, Verdict};
use crate::size;
use crate::tree::TreePath;

/// Directories that Debian's `/etc/ld.so.conf` adds to the linker's built-in ones.
const CONF_DIRS: &[&str] = &["usr/local/lib"];

impl Engine {
    /// Warns of every library that the image of `work` needs and does not have, and repeats what its layers had to say.
    pub(super) fn audit(&self, work: &Work, files: &[FilesLayer]) -> Result<(), EngineError> {
        let mut elf: Vec<(TreePath, ElfFacts)> = Vec::new();
        let mut links = BTreeMap::new();
        let mut pruned = (0, 0);
        let layers = work.known.iter().flatten().chain(files.iter().map(|layer| &layer.facts));
        for facts in layers {
            let extra = LayerExtra::parse(facts)?;
            let path = |text: &str| TreePath::new(text).ok();
            elf.extend(extra.elf.into_iter().filter_map(|(at, facts)| Some((path(&at)?, facts))));
            links.extend(extra.links.into_iter().filter_map(|(at, target)| Some((path(&at)?, target))));
            pruned = (pruned.0 + extra.pruned_files, pruned.1 + extra.pruned_bytes);
            for note in extra.notes {
                self.reporter.event(Event::Note(note));
            }
        }
        if pruned.0 > 0 {
            let text = format!("pruned {} files, {}", pruned.0, size::human(pruned.1));
            self.reporter.event(Event::Note(text));
        }
        let multiarch = work.plan.platform.multiarch();
        let mut directories: Vec<String> = CONF_DIRS.iter().map(|&directory| directory.to_owned()).collect();
        directories.push(format!("usr/local/lib/{multiarch}"));
        for missing in elf::audit(&elf, &links, &directories, work.plan.platform) {
            if missing.verdict == Verdict::Absent {
                self.reporter.event(Event::Warning(text(&missing, work)));
            }
        }
        Ok(())
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
    if let Some(package) = missing.hint {
        text += &format!("\n  hint: add \"{package}\" to packages in [base]");
    }
    text
}
