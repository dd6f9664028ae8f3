//! The one pass that turns a recipe into facts, and proves it.
//!
//! The layer is read as its consumers will read it, a sequence of gzip members, and what comes out must be, byte for
//! byte, the tar of the tree: so a zip whose directory lies about lengths, a stream that ends early, a wrong CRC or
//! a stream that reaches back into our header cannot pass. At the same time the files are compared with `RECORD` and
//! looked at for ELF headers.
//!
//! Four threads a layer, in a chain of bounded channels: read and inflate, compare and hash files, hash the tar; and
//! hash the layer. Buffers circulate: at most [`TAR_BUFFERS`] + [`LAYER_BUFFERS`] of 256 KiB each exist. Each stage
//! sees all bytes in order, so the result and the error reported do not depend on timing.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::recipe::{CHUNK, Recipe};
use super::{LayerError, LayerFacts, gzip, tar};
use crate::blob::{BlobSource, RangeReader, ReadAt};
use crate::digest::{DiffId, Digest, Hasher};
use crate::elf::{ElfFacts, Sniffed, Sniffer};
use crate::epoch::Epoch;
use crate::tree::{Content, Node, Tree, TreePath};

const TAR_BUFFERS: usize = 12;
const LAYER_BUFFERS: usize = 6;

/// Reads the layer of `recipe`, which was built from `tree`, and gives its facts. `record` holds the SHA-256 that
/// files must have; files that it does not name are not compared with anything but the tree.
pub fn measure(
    recipe: &Recipe,
    tree: &Tree,
    record: &BTreeMap<TreePath, Digest>,
    blobs: &dyn BlobSource,
) -> Result<LayerFacts, LayerError> {
    if let Some(path) = record.keys().find(|path| !matches!(tree.get(path), Some(Node::File { .. }))) {
        return Err(LayerError::RecordWithoutFile(path.clone()));
    }
    let entries = tar::entries(tree)?;
    let mut reader = recipe.reader(blobs).map_err(LayerError::ReadBlob)?;
    let (mut tar_out, tar_in, tar_back) = pool(TAR_BUFFERS);
    let (mut layer_out, layer_in, layer_back) = pool(LAYER_BUFFERS);
    let (walked_out, walked_in) = sync_channel(TAR_BUFFERS);

    let (inflated, layer, walked, tar) = std::thread::scope(|scope| {
        let layer = scope.spawn(move || hash(&layer_in, &layer_back));
        let tar = scope.spawn(move || hash(&walked_in, &tar_back));
        let walk = scope.spawn(|| {
            let mut walk = Walk::new(&entries, recipe.epoch(), record);
            for chunk in tar_in {
                let chunk: Vec<u8> = chunk;
                walk.push(&chunk)?;
                if walked_out.send(chunk).is_err() {
                    break;
                }
            }
            drop(walked_out);
            Ok(walk)
        });
        let inflated = inflate(&mut reader, &mut tar_out, &mut layer_out);
        drop((tar_out, layer_out));
        let done = "a thread that hashes does not panic";
        (inflated, layer.join().expect(done), walk.join().expect(done), tar.join().expect(done))
    });

    // What the comparison found lies at or before the place where inflating stopped.
    let walk: Walk<'_, '_> = walked?;
    match inflated {
        Ok(()) => {}
        Err(Stop::Read(error)) => return Err(LayerError::ReadBlob(error)),
        Err(Stop::Damaged(rule)) => return Err(LayerError::Damaged { path: walk.place(), rule }),
        Err(Stop::Hangup) => unreachable!("the comparison hangs up only with an error"),
    }
    let elf = walk.finish(tree, blobs)?;
    Ok(LayerFacts {
        size: layer.bytes(),
        digest: layer.finish(),
        unpacked: tar.bytes(),
        diff_id: DiffId(tar.finish()),
        entries: entries.len() as u64,
        elf,
    })
}

/// Buffers that go out full and come back empty.
struct Buffers {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    unmade: usize,
}

fn pool(buffers: usize) -> (Buffers, Receiver<Vec<u8>>, SyncSender<Vec<u8>>) {
    let (full, out) = sync_channel(buffers);
    let (back, empty) = sync_channel(buffers);
    (Buffers { full, empty, unmade: buffers }, out, back)
}

/// Why inflating stopped.
enum Stop {
    Read(io::Error),
    Damaged(String),
    /// The other end has an error of its own.
    Hangup,
}

impl Buffers {
    fn take(&mut self) -> Result<Vec<u8>, Stop> {
        if let Ok(buffer) = self.empty.try_recv() {
            return Ok(buffer);
        }
        if self.unmade > 0 {
            self.unmade -= 1;
            return Ok(Vec::with_capacity(CHUNK));
        }
        self.empty.recv().map_err(|_| Stop::Hangup)
    }

    fn send(&self, buffer: Vec<u8>) -> Result<(), Stop> {
        self.full.send(buffer).map_err(|_| Stop::Hangup)
    }
}

fn hash(full: &Receiver<Vec<u8>>, back: &SyncSender<Vec<u8>>) -> Hasher {
    let mut hasher = Hasher::new();
    for chunk in full {
        hasher.update(&chunk);
        // Nobody takes it back once all has been read.
        let _ = back.send(chunk);
    }
    hasher
}

fn inflate(
    reader: &mut super::recipe::Reader<'_>,
    tar: &mut Buffers,
    layer: &mut Buffers,
) -> Result<(), Stop> {
    let mut gzip = gzip::Reader::new();
    let mut output = tar.take()?;
    output.resize(CHUNK, 0);
    let mut filled = 0;
    let result = loop {
        let mut chunk = layer.take()?;
        match reader.fill(&mut chunk) {
            Ok(true) => {}
            Ok(false) if gzip.at_end() => break Ok(()),
            Ok(false) => {
                break Err(Stop::Damaged("its DEFLATE stream does not end with its member".to_owned()));
            }
            Err(error) => break Err(Stop::Read(error)),
        }
        let mut input = chunk.as_slice();
        let step = loop {
            match gzip.read(&mut input, &mut output, &mut filled) {
                Ok(gzip::Progress::NeedsInput) => break Ok(()),
                Ok(gzip::Progress::Full) => {
                    let next = tar.take()?;
                    tar.send(std::mem::replace(&mut output, next))?;
                    output.resize(CHUNK, 0);
                    filled = 0;
                }
                Err(rule) => break Err(Stop::Damaged(rule)),
            }
        };
        layer.send(chunk)?;
        if let Err(stop) = step {
            break Err(stop);
        }
    };
    // Also after an error, so that the comparison sees all that came before it.
    output.truncate(filled);
    tar.send(output)?;
    result
}

/// Compares a tar with the entries it must consist of.
struct Walk<'a, 't> {
    entries: std::slice::Iter<'a, tar::Entry<'t>>,
    epoch: Epoch,
    record: &'a BTreeMap<TreePath, Digest>,
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
                    if let Some(hasher) = hasher {
                        hasher.update(now);
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

    /// The ELF facts of all files, once the whole tar has been seen.
    fn finish(
        mut self,
        tree: &Tree,
        blobs: &dyn BlobSource,
    ) -> Result<Vec<(TreePath, ElfFacts)>, LayerError> {
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
        Ok(self.elf)
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
