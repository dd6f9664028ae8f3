//! A layer of ours from its recipe: the files come straight from the wheels' own DEFLATE streams, many at a time. Neither
//! the layer nor its tar is made.
//!
//! That the files are those of the layer is known from three things: the recipe, which its record's checksum covers and
//! whose tar had the layer's diff ID when it was measured; the blobs, whose SHA-256 the caller verifies; and the CRC-32 of
//! each member, which is compared here.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};

use super::below::Nothing;
use super::facts::Fact;
use super::place::{self, Process};
use super::tar::{Attributes, Entry, Kind, TarReader};
use super::writer::Writer;
use super::{Context, Limits, Summary, UnpackError, shown};
use crate::blob::{BlobSource, ReadAt};
use crate::digest::Digest;
use crate::layer::Recipe;
use crate::layer::members::{Members, Packed};

/// Bytes read, inflated and written at once: they stay in the core's cache.
const CHUNK: usize = 256 * 1024;
/// A file of so many bytes is work of its own; smaller ones go together.
const LARGE: u64 = 4 << 20;
/// The most that small files of one job have together.
const JOB_BYTES: u64 = 8 << 20;
const JOB_FILES: usize = 512;

/// A layer that is being unpacked: all directories and links are there, the jobs write the files.
pub struct Passthrough {
    root: OwnedFd,
    process: Process,
    members: Members,
    files: Vec<File>,
    links: Vec<Entry>,
    writer: Mutex<Option<Writer<'static>>>,
}

struct File {
    path: Vec<u8>,
    attributes: Attributes,
    size: u64,
    content: Content,
}

enum Content {
    /// In the recipe itself.
    Inline(Range<usize>),
    Member(usize, Packed),
}

/// Files that one thread writes, one after the other.
pub struct Job {
    files: Vec<usize>,
    /// How long it takes, in bytes of files.
    pub weight: u64,
}

impl Passthrough {
    /// Makes the directories and symbolic links of the layer in `root`, which is empty.
    pub fn begin(recipe: &Recipe, root: OwnedFd, context: Context<'_>) -> Result<Self, UnpackError> {
        let members = Members::of(recipe)?;
        let again = place::open_directory(&root, b"");
        let again = again.map_err(|source| failed("open the directory", b".", source))?;
        let mut writer =
            Writer::new(again, &Nothing, Limits { entries: u64::MAX, names: u64::MAX, ..Limits::default() })?;
        let mut reader = TarReader::new(Cursor::new(&members.tar[..]));
        let (mut files, mut links, mut member) = (Vec::new(), Vec::new(), 0);
        let form = UnpackError::Form;
        while let Some(entry) = reader.next()? {
            let at = reader.get_ref().position() as usize;
            let next = members.members.get(member).ok_or(form("goes on behind its members"))?;
            if at > next.end {
                return Err(form("has a header in two members"));
            }
            match entry.kind {
                Kind::File => {
                    let content = match next.content {
                        Some(packed) if at == next.end && entry.size > 0 => {
                            reader.content_is_elsewhere();
                            member += 1;
                            Content::Member(member - 1, packed)
                        }
                        _ => {
                            let end = usize::try_from(entry.size).ok().and_then(|size| at.checked_add(size));
                            let end = end.filter(|end| *end <= next.end);
                            Content::Inline(at..end.ok_or(form("has a content in two members"))?)
                        }
                    };
                    let Entry { name: path, attributes, size, .. } = entry;
                    files.push(File { path, attributes, size, content });
                }
                Kind::Hardlink => links.push(entry),
                _ => writer.entry(&entry, &mut io::empty(), context)?,
            }
        }
        if member + 1 != members.members.len() {
            return Err(form("ends before its members"));
        }
        let process = writer.process();
        Ok(Self { root, process, members, files, links, writer: Mutex::new(Some(writer)) })
    }

    /// All files, in jobs. They may be done in any order, several at a time.
    pub fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut small = Job { files: Vec::new(), weight: 0 };
        for (at, file) in self.files.iter().enumerate() {
            if file.size >= LARGE {
                jobs.push(Job { files: vec![at], weight: file.size });
                continue;
            }
            if small.files.len() == JOB_FILES || small.weight + file.size > JOB_BYTES {
                jobs.push(std::mem::replace(&mut small, Job { files: Vec::new(), weight: 0 }));
            }
            small.files.push(at);
            // An empty file takes its time too.
            small.weight += file.size + 4096;
        }
        if !small.files.is_empty() {
            jobs.push(small);
        }
        jobs
    }

    /// The blobs that the files come from, each once: the caller verifies them.
    pub fn blobs(&self) -> BTreeSet<Digest> {
        self.members.members.iter().filter_map(|member| Some(member.content?.blob)).collect()
    }

    /// Writes the files of a job.
    pub fn run(&self, job: &Job, blobs: &dyn BlobSource, context: Context<'_>) -> Result<(), UnpackError> {
        let mut hand = Hand {
            passthrough: self,
            blobs,
            context,
            blob: None,
            directory: None,
            unpacker: Unpacker::new(),
        };
        let mut facts = Vec::with_capacity(job.files.len());
        for &at in &job.files {
            let file = &self.files[at];
            facts.push((file.path.clone(), hand.write(file)?));
        }
        let mut writer = self.writer();
        writer.as_mut().expect("jobs come before the end").add_files(facts);
        Ok(())
    }

    /// Makes the hard links, and gives directories their times. All jobs are done.
    pub fn finish(&self, context: Context<'_>) -> Result<Summary, UnpackError> {
        let mut writer = self.writer().take().expect("it is finished once");
        for link in &self.links {
            writer.entry(link, &mut io::empty(), context)?;
        }
        writer.finish()
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer<'static>>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one thread holds while it does a job.
struct Hand<'a> {
    passthrough: &'a Passthrough,
    blobs: &'a dyn BlobSource,
    context: Context<'a>,
    /// The blob and the directory of the last file.
    blob: Option<(Digest, Arc<dyn ReadAt>)>,
    directory: Option<(Vec<u8>, OwnedFd)>,
    unpacker: Unpacker,
}

impl Hand<'_> {
    fn write(&mut self, file: &File) -> Result<Fact, UnpackError> {
        (self.context.go_on)()?;
        let File { path, attributes, size, content } = file;
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (above, name) = (&path[..slash.unwrap_or(0)], &path[slash.map_or(0, |at| at + 1)..]);
        if self.directory.as_ref().is_none_or(|(open, _)| open != above) {
            let opened = place::open_directory(&self.passthrough.root, above);
            let opened = opened.map_err(|source| failed("open the directory above", path, source))?;
            self.directory = Some((above.to_vec(), opened));
        }
        let (_, directory) = self.directory.as_ref().expect("it was opened above");
        let created = place::create(directory, name, attributes);
        let mut out = Out {
            file: created.map_err(|error| failed("write", path, error.into()))?,
            path,
            size: 0,
            crc: crc32fast::Hasher::new(),
            context: self.context,
        };
        let crc32 = match content {
            Content::Inline(range) => {
                out.write(&self.passthrough.members.tar[range.clone()])?;
                out.crc.clone().finalize()
            }
            Content::Member(member, packed) => {
                if self.blob.as_ref().is_none_or(|(open, _)| *open != packed.blob) {
                    self.blob = Some((packed.blob, self.blobs.open(&packed.blob)?));
                }
                let (_, blob) = self.blob.as_ref().expect("it was opened above");
                match packed.deflated {
                    true => self.unpacker.inflate(&**blob, packed, *size, &mut out)?,
                    false => self.unpacker.copy(&**blob, packed, &mut out)?,
                }
                let crc32 = out.crc.clone().finalize();
                if out.size != *size || !self.passthrough.members.fits(*member, crc32, out.size) {
                    let rule = "its CRC-32 or its length differs".to_owned();
                    return Err(UnpackError::Damaged { path: shown(path), rule });
                }
                crc32
            }
        };
        let finished = self.passthrough.process.finish_file(&out.file, attributes);
        finished.map_err(|source| failed("write", path, source))?;
        Ok(Fact::file(attributes, *size, crc32))
    }
}

/// A file that is being written.
struct Out<'a> {
    file: std::fs::File,
    path: &'a [u8],
    size: u64,
    crc: crc32fast::Hasher,
    context: Context<'a>,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        (self.context.go_on)()?;
        self.crc.update(bytes);
        self.file.write_all(bytes).map_err(|source| failed("write", self.path, source))?;
        self.size += bytes.len() as u64;
        (self.context.progress)(bytes.len() as u64);
        Ok(())
    }
}

/// Buffers of one thread.
struct Unpacker {
    inflate: Decompress,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Unpacker {
    fn new() -> Self {
        Self { inflate: Decompress::new(false), input: vec![0; CHUNK], output: vec![0; CHUNK] }
    }

    fn copy(&mut self, blob: &dyn ReadAt, packed: &Packed, out: &mut Out<'_>) -> Result<(), UnpackError> {
        let (mut at, end) = (packed.offset, packed.offset + packed.len);
        while at < end {
            let len = (end - at).min(CHUNK as u64) as usize;
            blob.read_exact_at(&mut self.input[..len], at)?;
            out.write(&self.input[..len])?;
            at += len as u64;
        }
        Ok(())
    }

    fn inflate(
        &mut self,
        blob: &dyn ReadAt,
        packed: &Packed,
        size: u64,
        out: &mut Out<'_>,
    ) -> Result<(), UnpackError> {
        let damaged =
            |rule: &str, path: &[u8]| UnpackError::Damaged { path: shown(path), rule: rule.to_owned() };
        self.inflate.reset(false);
        let (mut at, end) = (packed.offset, packed.offset + packed.len);
        let (mut start, mut filled, mut made) = (0, 0, 0);
        loop {
            if start == filled && at < end {
                filled = (end - at).min(CHUNK as u64) as usize;
                blob.read_exact_at(&mut self.input[..filled], at)?;
                at += filled as u64;
                start = 0;
            }
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let (input, output) = (&self.input[start..filled], &mut self.output[made..]);
            let status = self.inflate.decompress(input, output, FlushDecompress::None);
            let status = status.map_err(|error| damaged(&error.to_string(), out.path))?;
            let used = (self.inflate.total_in() - before_in) as usize;
            let more = (self.inflate.total_out() - before_out) as usize;
            start += used;
            made += more;
            let ended = status == Status::StreamEnd;
            if made == CHUNK || ended {
                out.write(&self.output[..made])?;
                made = 0;
            }
            if out.size > size {
                return Err(damaged("it is longer than its header says", out.path));
            }
            if ended {
                let all = start == filled && at == end;
                return if all { Ok(()) } else { Err(damaged("its DEFLATE stream ends early", out.path)) };
            }
            // There was room for output; only the end of the input stops it.
            if used == 0 && more == 0 {
                return Err(damaged("its DEFLATE stream does not end", out.path));
            }
        }
    }
}

fn failed(action: &'static str, path: &[u8], source: io::Error) -> UnpackError {
    UnpackError::File { action, path: shown(path), source }
}
