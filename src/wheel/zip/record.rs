//! A member twice over: its record in the central directory, and its local header, which must say the same.

use super::cursor::Cursor;
use super::{CENTRAL, DESCRIPTOR, LOCAL, Member, Method, Waivers, ZipError, may_stray};
use crate::blob::ReadAt;
use crate::spec::model::WheelRule;
use crate::tree::TreePath;

/// The most parts of a name: what looks at all parents of all names shall not take long.
const MAX_DEPTH: usize = 64;
/// DEFLATE cannot expand more than this (RFC 1951: 258 bytes from two bits), with room for rounding.
const MAX_EXPANSION: u64 = 1032;

/// DEFLATE need not make anything longer but for a few bytes a block. Twice the size and this much more can only be
/// empty blocks or junk, and would have to be read to see a small file.
const MAX_WASTE: u64 = 4096;

/// One record of the central directory.
pub(super) struct Record {
    pub(super) name: String,
    flags: u16,
    method: u16,
    crc32: u32,
    packed: u64,
    size: u64,
    pub(super) local: u64,
    /// Unix mode, 0 where the record's maker was no Unix.
    mode: u32,
    /// What readers take for the type of file, whoever the maker.
    kind: u32,
}

const FLAG_ENCRYPTED: u16 = 1;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCH: u16 = 1 << 5;
const FLAG_STRONG_ENCRYPTION: u16 = 1 << 6;
const FLAG_UTF8: u16 = 1 << 11;
const FLAG_MASKED: u16 = 1 << 13;

impl Record {
    pub(super) fn parse(at: &mut Cursor<'_>) -> Result<Self, ZipError> {
        if at.u32()? != CENTRAL {
            return Err(ZipError::Archive("has a malformed directory"));
        }
        let made_by = at.u16()?;
        let _needed = at.u16()?;
        let (flags, method) = (at.u16()?, at.u16()?);
        let _time = at.u32()?;
        let crc32 = at.u32()?;
        let (packed, size) = (at.u32()?, at.u32()?);
        let (name_len, extra_len, comment_len) = (at.u16()?, at.u16()?, at.u16()?);
        let disk = at.u16()?;
        let _internal = at.u16()?;
        let external = at.u32()?;
        let local = at.u32()?;
        let name = at.take(usize::from(name_len))?;
        let extra = at.take(usize::from(extra_len))?;
        at.take(usize::from(comment_len))?;

        let shown = String::from_utf8_lossy(name).into_owned();
        let refuse = |rule| Err(ZipError::Member { name: shown.clone(), rule });
        let Ok(name) = std::str::from_utf8(name) else { return refuse("has a name that is not UTF-8") };
        if !name.is_ascii() && flags & FLAG_UTF8 == 0 {
            return refuse("has a name beyond ASCII without the UTF-8 flag");
        }
        if flags & (FLAG_ENCRYPTED | FLAG_STRONG_ENCRYPTION | FLAG_MASKED) != 0 {
            return refuse("is encrypted");
        }
        if flags & FLAG_PATCH != 0 {
            return refuse("is a patch, not a file");
        }
        if disk != 0 {
            return refuse("is on another disk");
        }
        let mut record = Self {
            name: name.to_owned(),
            flags,
            method,
            crc32,
            packed: u64::from(packed),
            size: u64::from(size),
            local: u64::from(local),
            mode: if made_by >> 8 == 3 { external >> 16 } else { 0 },
            kind: external >> 16 & 0o170_000,
        };
        let Some(mut extra) = Extra::parse(extra) else { return refuse("has malformed extra fields") };
        if extra.unicode_path {
            return refuse("has a second name in its extra fields");
        }
        // APPNOTE 4.5.3: a zip64 field holds just those values that are all ones, in this order.
        let wide = [(size, &mut record.size), (packed, &mut record.packed), (local, &mut record.local)];
        for (narrow, value) in wide {
            if narrow == u32::MAX {
                match extra.zip64_u64() {
                    Some(large) => *value = large,
                    None => return refuse("lacks its zip64 sizes"),
                }
            }
        }
        let all = [record.size, record.packed, record.local];
        if !extra.is_exhausted_or(&all) {
            return refuse("has zip64 sizes that it does not need, and others than its own");
        }
        Ok(record)
    }

    pub(super) fn refuse(&self, rule: &'static str) -> ZipError {
        ZipError::Member { name: self.name.clone(), rule }
    }

    /// The member this record stands for, `None` for a directory; and where the member ends if nothing follows the
    /// data. `limit` is where the next thing of the archive begins.
    pub(super) fn member(
        self,
        blob: &dyn ReadAt,
        limit: u64,
        waivers: &mut Waivers,
    ) -> Result<Option<Member>, ZipError> {
        let offset = self.check_local(blob, limit, waivers)?;
        let is_directory = self.name.ends_with('/');
        match (self.kind, is_directory) {
            (0, _) | (0o040_000, true) | (0o100_000, false) => {}
            (0o120_000, _) => return Err(self.refuse("is a symbolic link, which wheels may not contain")),
            _ => return Err(self.refuse("is neither a file nor a directory")),
        }
        let name = if is_directory { &self.name[..self.name.len() - 1] } else { &self.name };
        if name.contains('\\') {
            return Err(self.refuse("has a backslash in its name"));
        }
        if matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
            return Err(self.refuse("has a drive letter in its name"));
        }
        if name.split('/').count() > MAX_DEPTH {
            return Err(self.refuse("has a name of more than 64 parts"));
        }
        if !is_directory && self.mode & 0o6000 != 0 && !waivers.take(WheelRule::ModeBits) {
            return Err(ZipError::ModeBits(self.name));
        }
        let path = TreePath::new(name)?;
        if is_directory {
            // Nothing, deflated, is two bytes.
            if self.size != 0 || self.packed > 2 {
                return Err(self.refuse("is a directory with content"));
            }
            return Ok(None);
        }
        let method = match self.method {
            0 => Method::Stored,
            8 => Method::Deflated,
            _ => return Err(self.refuse("is compressed by another method than deflate")),
        };
        let possible = match method {
            Method::Stored => self.packed == self.size,
            Method::Deflated => {
                let largest = self.size.saturating_mul(2).saturating_add(MAX_WASTE);
                self.packed > 0 && self.size / MAX_EXPANSION <= self.packed && self.packed <= largest
            }
        };
        if !possible {
            return Err(self.refuse("has a size that its packed size cannot have"));
        }
        Ok(Some(Member {
            path,
            method,
            offset,
            packed: self.packed,
            size: self.size,
            crc32: self.crc32,
            executable: self.mode & 0o111 != 0,
        }))
    }

    /// Compares the local header with this record and proves that header, data and descriptor reach exactly to
    /// `limit`; returns where the data begins.
    fn check_local(&self, blob: &dyn ReadAt, limit: u64, waivers: &mut Waivers) -> Result<u64, ZipError> {
        const LEN: u64 = 30;
        let overlaps = || self.refuse("overlaps what follows it");
        let room = limit - self.local;
        if room < LEN + self.name.len() as u64 {
            return Err(overlaps());
        }
        let head = blob.read_vec_at(self.local, LEN as usize + self.name.len())?;
        let mut at = Cursor { bytes: &head };
        if at.u32()? != LOCAL {
            return Err(self.refuse("has no local header where the directory says"));
        }
        let _needed = at.u16()?;
        let (flags, method) = (at.u16()?, at.u16()?);
        let _time = at.u32()?;
        let (crc32, packed, size) = (at.u32()?, at.u32()?, at.u32()?);
        let (name_len, extra_len) = (at.u16()?, u64::from(at.u16()?));
        if usize::from(name_len) != self.name.len() || at.bytes != self.name.as_bytes() {
            return Err(self.refuse("has another name in its local header"));
        }
        if room < LEN + self.name.len() as u64 + extra_len {
            return Err(overlaps());
        }
        let extra = blob.read_vec_at(self.local + head.len() as u64, extra_len as usize)?;
        let offset = self.local + head.len() as u64 + extra_len;
        let mut extra = Extra::parse(&extra)
            .ok_or_else(|| self.refuse("has malformed extra fields in its local header"))?;
        if extra.unicode_path {
            return Err(self.refuse("has a second name in its extra fields"));
        }
        let contradicts = || self.refuse("has a local header that contradicts the directory");
        if flags != self.flags || method != self.method {
            return Err(contradicts());
        }
        let (mut size, mut packed) = (u64::from(size), u64::from(packed));
        let zip64 = extra.zip64.is_some();
        if size == 0xffff_ffff {
            size = extra.zip64_u64().ok_or_else(contradicts)?;
        }
        if packed == 0xffff_ffff {
            packed = extra.zip64_u64().ok_or_else(contradicts)?;
        }
        // A writer that does not know the sizes yet leaves room for them.
        if !extra.is_exhausted_or(&[self.size, self.packed]) && !extra.is_exhausted_or(&[0, 0]) {
            return Err(contradicts());
        }
        let described = flags & FLAG_DESCRIPTOR != 0;
        let same = (crc32, packed, size) == (self.crc32, self.packed, self.size);
        if !(same || described && (crc32, packed, size) == (0, 0, 0)) {
            return Err(contradicts());
        }
        let behind = offset.checked_add(self.packed).filter(|end| *end <= limit).ok_or_else(overlaps)?;
        let gap = limit - behind;
        let descriptor = if described {
            let bytes = blob.read_vec_at(behind, gap.min(24) as usize)?;
            let fits =
                |len: &&usize| bytes.get(..**len).is_some_and(|bytes| self.matches_descriptor(bytes, zip64));
            *[24, 20, 16, 12].iter().find(fits).ok_or_else(contradicts)?
        } else {
            0
        };
        if gap > descriptor as u64 && !may_stray(blob, behind + descriptor as u64..limit, waivers)? {
            return Err(ZipError::StrayBehind(self.name.clone()));
        }
        Ok(offset)
    }

    /// APPNOTE 4.3.9: CRC, packed size, size, in front of them perhaps a signature; 8-byte sizes with zip64.
    fn matches_descriptor(&self, bytes: &[u8], zip64: bool) -> bool {
        let mut expected = Vec::with_capacity(24);
        if matches!(bytes.len(), 16 | 24) {
            expected.extend(DESCRIPTOR.to_le_bytes());
        }
        expected.extend(self.crc32.to_le_bytes());
        match bytes.len() {
            20 | 24 if zip64 || self.size > 0xffff_ffff || self.packed > 0xffff_ffff => {
                expected.extend(self.packed.to_le_bytes());
                expected.extend(self.size.to_le_bytes());
            }
            12 | 16 => {
                let (Ok(packed), Ok(size)) = (u32::try_from(self.packed), u32::try_from(self.size)) else {
                    return false;
                };
                expected.extend(packed.to_le_bytes());
                expected.extend(size.to_le_bytes());
            }
            _ => return false,
        }
        expected == bytes
    }
}

/// What matters of a record's extra fields.
struct Extra<'a> {
    zip64: Option<&'a [u8]>,
    unicode_path: bool,
}

impl<'a> Extra<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut at = Cursor { bytes };
        let mut extra = Self { zip64: None, unicode_path: false };
        while !at.bytes.is_empty() {
            let (id, len) = (at.u16().ok()?, at.u16().ok()?);
            let data = at.take(usize::from(len)).ok()?;
            match id {
                1 if extra.zip64.replace(data).is_some() => return None,
                0x7075 => extra.unicode_path = true,
                _ => {}
            }
        }
        Some(extra)
    }

    fn zip64_u64(&mut self) -> Option<u64> {
        let (value, rest) = self.zip64?.split_first_chunk()?;
        self.zip64 = Some(rest);
        Some(u64::from_le_bytes(*value))
    }

    /// Whether nothing is left of the zip64 field, or just what a writer leaves that always writes these values.
    fn is_exhausted_or(&self, all: &[u64]) -> bool {
        let Some(left) = self.zip64.filter(|left| !left.is_empty()) else { return true };
        let (values, rest) = left.as_chunks::<8>();
        let values: Vec<_> = values.iter().map(|value| u64::from_le_bytes(*value)).collect();
        // Behind them may stand the disk's number, which is 0.
        rest.iter().all(|byte| *byte == 0) && (all.ends_with(&values) || all.starts_with(&values))
    }
}
