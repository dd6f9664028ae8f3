//! What the dynamic linker will want to know of a file, read without running anything.
//!
//! A composed image has no package manager's word that its libraries are complete: wheels name none of the system
//! libraries they need. So every ELF file is read on its way into a layer ([`Sniffer`], in one pass over bytes that
//! are inflated anyway) or at rest ([`facts`]), and [`audit()`] then names each `DT_NEEDED` entry that nothing in the
//! image satisfies.
//!
//! Read is what `ld.so` reads: program headers, `PT_DYNAMIC`, `PT_INTERP` and the string table that `DT_STRTAB`
//! points at. Section headers are never looked at: a stripped file need not have them. Files of type `ET_REL` and
//! `ET_CORE`, separate debug files and anything malformed count as "not ELF": the linker would not load them either.
//!
//! Where the linker finds a file by its name is in its cache: [`read_cache`], [`write_cache`].

mod audit;
mod loader_cache;
mod parse;
#[cfg(test)]
mod samples;
mod search;
mod sniff;
mod versions;

pub use audit::{Missing, Verdict, audit};
pub use loader_cache::{CacheEntry, cache_flags, read_cache, write_cache};
pub use parse::{ElfFacts, MACHINE_AARCH64, MACHINE_X86_64, facts, machine};
pub use sniff::{Sniffed, Sniffer};
pub use versions::glibc;

#[cfg(test)]
pub(crate) use parse::tests::shared_object;
#[cfg(test)]
pub(crate) use samples::c_library;
