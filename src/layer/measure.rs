//! The one pass that turns a recipe into facts, and proves it.
//!
//! The layer is read as its consumers will read it, a sequence of gzip members, and what comes out must be, byte for
//! byte, the tar of the tree: so a zip whose directory lies about lengths, a stream that ends early, a wrong CRC or
//! a stream that reaches back into our header cannot pass. At the same time the files are compared with `RECORD` and
//! looked at for ELF headers.
//!
//! All of it happens on one thread, chunk by chunk while the bytes are in the core's cache; where a core is idle, a second
//! thread takes what comes out of the inflater ([`Threads`]). Bytes that two digests need are hashed for both at once.
//! Each stage sees all bytes in order, so the result and the error reported do not depend on timing.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::reader::{CHUNK, Reader};
use super::recipe::Recipe;
use super::shadow::Shadow;
use super::{LayerError, LayerFacts, gzip, tar};
use crate::blob::{BlobSource, RangeReader, ReadAt};
use crate::digest::{DiffId, Digest, Hasher, update_same};
use crate::elf::{ElfFacts, Sniffed, Sniffer};
use crate::epoch::Epoch;
use crate::tree::{Content, Node, Tree, TreePath};

/// Chunks of the tar that are on their way between two threads.
const BUFFERS: usize = 4;

/// How many threads one layer takes; the facts are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    One,
    Two,
}

/// Reads the layer of `recipe`, which was built from `tree`, and gives its facts. `record` holds the SHA-256 that
/// files must have; files that it does not name are not compared with anything but the tree. `unproven` are blobs of
/// the recipe whose own digest nobody has verified yet: it is verified on the way.
pub fn measure(
    recipe: &Recipe,
    tree: &Tree,
    record: &BTreeMap<TreePath, Digest>,
    blobs: &dyn BlobSource,
    unproven: &[Digest],
    threads: Threads,
) -> Result<LayerFacts, LayerError> {
    if let Some(path) = record.keys().find(|path| !matches!(tree.get(*path), Some(Node::File { .. }))) {
        return Err(LayerError::RecordWithoutFile(path.clone()));
    }
    let entries = tar::entries(tree)?;
    let mut source = Source {
        reader: Reader::new(recipe, blobs),
        layer: Hasher::new(),
        shadow: Shadow::new(unproven, blobs),
    };
    let mut walk = Walk::new(&entries, recipe.epoch(), record);
    let inflated = match threads {
        Threads::One => inflate(&mut source, &mut walk),
        Threads::Two => inflate_beside(&mut source, &mut walk),
    };
    match inflated {
        Ok(()) => {}
        Err(Stop::Failed(error)) => return Err(error),
        Err(Stop::Damaged(rule)) => return Err(LayerError::Damaged { path: walk.place(), rule }),
    }
    source.shadow.finish()?;
    let (elf, tar) = walk.finish(tree, blobs)?;
    Ok(LayerFacts {
        size: source.layer.bytes(),
        digest: source.layer.finish(),
        unpacked: tar.bytes(),
        diff_id: DiffId(tar.finish()),
        entries: entries.len() as u64,
        elf,
    })
}

/// Why inflating stopped.
enum Stop {
    Failed(LayerError),
    /// A rule of the packed form is broken, at the place that the comparison has come to.
    Damaged(String),
}

/// The layer's bytes, hashed as they are read.
struct Source<'a> {
    reader: Reader<&'a Recipe, &'a dyn BlobSource>,
    layer: Hasher,
    shadow: Shadow<'a>,
}

impl Source<'_> {
    fn fill(&mut self, chunk: &mut Vec<u8>) -> Result<bool, LayerError> {
        let more = self.reader.fill(chunk).map_err(LayerError::ReadBlob)?;
        self.shadow.hash_beside(&mut self.layer, chunk)?;
        Ok(more)
    }
}

/// Where inflated bytes go: takes a full buffer, leaves one to be filled.
trait Sink {
    fn take(&mut self, buffer: &mut Vec<u8>) -> Result<(), LayerError>;
}

impl Sink for Walk<'_, '_> {
    fn take(&mut self, buffer: &mut Vec<u8>) -> Result<(), LayerError> {
        self.push(buffer)
    }
}

/// Hands buffers to another thread and takes them back.
struct Channel {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    unmade: usize,
}

/// Nobody takes the buffers any more; the other thread knows why.
const HANGUP: LayerError = LayerError::Recipe("the comparison has ended");

impl Sink for Channel {
    fn take(&mut self, buffer: &mut Vec<u8>) -> Result<(), LayerError> {
        let next = match self.empty.try_recv() {
            Ok(next) => next,
            Err(_) if self.unmade > 0 => {
                self.unmade -= 1;
                Vec::with_capacity(CHUNK)
            }
            Err(_) => self.empty.recv().map_err(|_| HANGUP)?,
        };
        self.full.send(std::mem::replace(buffer, next)).map_err(|_| HANGUP)
    }
}

/// Inflates on this thread, compares and hashes on another.
fn inflate_beside(source: &mut Source<'_>, walk: &mut Walk<'_, '_>) -> Result<(), Stop> {
    let (full, out) = sync_channel::<Vec<u8>>(BUFFERS);
    let (back, empty) = sync_channel(BUFFERS);
    std::thread::scope(|scope| {
        let walking = scope.spawn(move || {
            for chunk in out {
                walk.push(&chunk)?;
                // Nobody takes it back once all has been read.
                let _ = back.send(chunk);
            }
            Ok(())
        });
        let mut channel = Channel { full, empty, unmade: BUFFERS };
        let inflated = inflate(source, &mut channel);
        drop(channel);
        // What the comparison found lies before the place where inflating stopped.
        walking.join().expect("a thread that compares does not panic").map_err(Stop::Failed)?;
        inflated
    })
}

fn inflate(source: &mut Source<'_>, sink: &mut dyn Sink) -> Result<(), Stop> {
    let mut gzip = gzip::Reader::new();
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut output = vec![0; CHUNK];
    let mut filled = 0;
    let result = 'all: loop {
        match source.fill(&mut chunk) {
            Ok(true) => {}
            Ok(false) if gzip.at_end() => break Ok(()),
            Ok(false) => {
                break Err(Stop::Damaged("its DEFLATE stream does not end with its member".to_owned()));
            }
            Err(error) => break Err(Stop::Failed(error)),
        }
        let mut input = chunk.as_slice();
        loop {
            match gzip.read(&mut input, &mut output, &mut filled) {
                Ok(gzip::Progress::NeedsInput) => break,
                Ok(gzip::Progress::Full) => {
                    sink.take(&mut output).map_err(Stop::Failed)?;
                    output.resize(CHUNK, 0);
                    filled = 0;
                }
                Err(rule) => break 'all Err(Stop::Damaged(rule)),
            }
        }
    };
    // Also after an error, so that the comparison sees all that came before it.
    output.truncate(filled);
    sink.take(&mut output).map_err(Stop::Failed)?;
    result
}

/// Compares a tar with the entries it must consist of.
struct Walk<'a, 't> {
    entries: std::slice::Iter<'a, tar::Entry<'t>>,
    epoch: Epoch,
    record: &'a BTreeMap<TreePath, Digest>,
    /// Of the whole tar.
    tar: Hasher,
    /// The entry at hand; none before the first and after the last.
    entry: Option<&'a tar::Entry<'t>>,
    last: Option<&'a tar::Entry<'t>>,
    state: Expect,
    elf: Vec<(TreePath, ElfFacts)>,
    /// Files whose ELF facts need another look.
    again: Vec<TreePath>,
}

/// What comes next in the tar.
enum Expect {
    /// These bytes, of which some have been seen: padding and a header.
    Exactly {
        bytes: Vec<u8>,
        seen: usize,
    },
    Content {
        left: u64,
        hasher: Option<Hasher>,
        sniffer: Option<Sniffer>,
    },
}

impl<'a, 't> Walk<'a, 't> {
    fn new(entries: &'a [tar::Entry<'t>], epoch: Epoch, record: &'a BTreeMap<TreePath, Digest>) -> Self {
        let mut walk = Self {
            entries: entries.iter(),
            epoch,
            record,
            tar: Hasher::new(),
            entry: None,
            last: None,
            state: Expect::Exactly { bytes: Vec::new(), seen: 0 },
            elf: Vec::new(),
            again: Vec::new(),
        };
        walk.next_entry();
        walk
    }

    fn next_entry(&mut self) {
        let mut bytes = vec![0; self.entry.map_or(0, |entry| tar::padding(entry.size()))];
        self.last = self.entry.or(self.last);
        self.entry = self.entries.next();
        match self.entry {
            Some(entry) => tar::header(&mut bytes, entry, self.epoch),
            None => bytes.extend_from_slice(&tar::END),
        }
        self.state = Expect::Exactly { bytes, seen: 0 };
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            match &mut self.state {
                Expect::Exactly { bytes: expected, seen } => {
                    let len = bytes.len().min(expected.len() - *seen);
                    if len == 0 || bytes[..len] != expected[*seen..*seen + len] {
                        let rule = "its length is not the one in the archive's directory".to_owned();
                        return Err(LayerError::Damaged { path: self.place(), rule });
                    }
                    self.tar.update(&bytes[..len]);
                    *seen += len;
                    bytes = &bytes[len..];
                    if *seen == expected.len()
                        && let Some(entry) = self.entry
                    {
                        self.begin_content(entry);
                    }
                }
                Expect::Content { left, hasher, sniffer } => {
                    let len = (bytes.len() as u64).min(*left) as usize;
                    let (now, rest) = bytes.split_at(len);
                    match hasher {
                        Some(hasher) => update_same(&mut self.tar, hasher, now),
                        None => self.tar.update(now),
                    }
                    if let Some(sniffer) = sniffer {
                        sniffer.push(now);
                    }
                    *left -= len as u64;
                    bytes = rest;
                    if *left == 0 {
                        self.end_content()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_content(&mut self, entry: &tar::Entry<'_>) {
        let size = entry.size();
        let hasher = self.record.contains_key(&entry.path).then(Hasher::new);
        if size == 0 && hasher.is_none() {
            return self.next_entry();
        }
        self.state = Expect::Content { left: size, hasher, sniffer: Some(Sniffer::new(size)) };
        if size == 0 {
            // An empty file that is in RECORD: hashed as nothing.
            self.state = Expect::Content { left: 0, hasher: Some(Hasher::new()), sniffer: None };
        }
    }

    fn end_content(&mut self) -> Result<(), LayerError> {
        let state = std::mem::replace(&mut self.state, Expect::Exactly { bytes: Vec::new(), seen: 0 });
        let (Expect::Content { hasher, sniffer, .. }, Some(entry)) = (state, self.entry) else {
            return Ok(());
        };
        if let (Some(hasher), Some(&expected)) = (hasher, self.record.get(&entry.path)) {
            let actual = hasher.finish();
            if actual != expected {
                return Err(LayerError::Record { path: entry.path.clone(), expected, actual });
            }
        }
        match sniffer.map(Sniffer::finish) {
            Some(Sniffed::Elf(facts)) => self.elf.push((entry.path.clone(), facts)),
            Some(Sniffed::Again(_)) => self.again.push(entry.path.clone()),
            Some(Sniffed::NotElf) | None => {}
        }
        self.next_entry();
        Ok(())
    }

    /// The entry that the tar has come to.
    fn place(&self) -> TreePath {
        let entry = match &self.state {
            // While padding is due, the file before is meant.
            Expect::Exactly { seen, .. } if *seen < tar::BLOCK as usize => self.last.or(self.entry),
            _ => self.entry.or(self.last),
        };
        entry.map_or_else(|| unreachable!("a layer is not empty"), |entry| entry.path.clone())
    }

    /// The ELF facts of all files and what hashed the tar, once all of that has been seen.
    fn finish(
        mut self,
        tree: &Tree,
        blobs: &dyn BlobSource,
    ) -> Result<(Vec<(TreePath, ElfFacts)>, Hasher), LayerError> {
        match &self.state {
            Expect::Exactly { bytes, seen } if self.entry.is_none() && *seen == bytes.len() => {}
            _ => {
                let rule = "the layer ends before its tar does".to_owned();
                return Err(LayerError::Damaged { path: self.place(), rule });
            }
        }
        for path in std::mem::take(&mut self.again) {
            let Some(Node::File { content, .. }) = tree.get(&path) else { continue };
            let facts = sniff_again(content, blobs)
                .map_err(|source| LayerError::ReadContent { path: path.clone(), source })?;
            self.elf.extend(facts.map(|facts| (path, facts)));
        }
        self.elf.sort_by(|a, b| a.0.cmp(&b.0));
        Ok((self.elf, self.tar))
    }
}

/// The facts of a file whose strings lie too far in for one pass.
fn sniff_again(content: &Content, blobs: &dyn BlobSource) -> io::Result<Option<ElfFacts>> {
    let (blob, offset, len, deflated): (Arc<dyn ReadAt>, u64, u64, bool) = match content {
        Content::Bytes(bytes) => (Arc::new(Arc::clone(bytes)), 0, bytes.len() as u64, false),
        Content::Slice { from, offset, size } => (Arc::clone(from), *offset, *size, false),
        Content::Stored { blob, offset, size, .. } => (blobs.open(blob)?, *offset, *size, false),
        Content::Deflated { blob, offset, packed, .. } => (blobs.open(blob)?, *offset, *packed, true),
    };
    Sniffer::read(content.size(), || {
        let packed = BufReader::with_capacity(CHUNK, RangeReader::new(&*blob, offset, len));
        let reader: Box<dyn Read + '_> =
            if deflated { Box::new(flate2::bufread::DeflateDecoder::new(packed)) } else { Box::new(packed) };
        Ok(reader)
    })
}
