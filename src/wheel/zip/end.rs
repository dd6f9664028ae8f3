//! The end of a zip: where its directory is.

use std::cmp::Ordering;

use super::cursor::Cursor;
use super::{END, END64, END64_LOCATOR, MAX_DIRECTORY, MAX_MEMBERS, Waivers, ZipError, may_stray, to_usize};
use crate::blob::ReadAt;

/// The end records, checked against each other and against the file's length.
pub(super) struct End {
    pub(super) entries: u64,
    pub(super) directory_offset: u64,
    pub(super) directory_size: u64,
}

impl End {
    pub(super) fn find(blob: &dyn ReadAt, waivers: &mut Waivers) -> Result<Self, ZipError> {
        const LEN: usize = 22;
        let size = blob.size();
        let tail_len = size.min((LEN + 0xffff) as u64);
        let tail = blob.read_vec_at(size - tail_len, to_usize(tail_len)?)?;
        // The last one counts. Its comment must end where the file does, and hold nothing that looks like another.
        let signature = |start: &usize| tail[*start..*start + 4] == END.to_le_bytes();
        let after = |start: usize| {
            start + LEN + usize::from(u16::from_le_bytes([tail[start + 20], tail[start + 21]]))
        };
        let mut starts = (0..(tail.len() + 1).saturating_sub(LEN)).rev().filter(signature);
        let start = starts.next().ok_or(ZipError::NoEnd)?;
        if starts.any(|start| after(start) == tail.len()) {
            return Err(ZipError::Archive("has two end-of-directory records"));
        }
        match after(start).cmp(&tail.len()) {
            Ordering::Equal => {}
            Ordering::Less => {
                let stray = size - (tail.len() - after(start)) as u64..size;
                if !may_stray(blob, stray, waivers)? {
                    return Err(ZipError::Stray("has bytes behind its end-of-directory record"));
                }
            }
            Ordering::Greater => return Err(ZipError::Archive("ends within its end-of-directory record")),
        }
        let position = size - tail_len + start as u64;
        let mut at = Cursor { bytes: &tail[start + 4..start + LEN] };
        let (disk, directory_disk) = (at.u16()?, at.u16()?);
        let (entries_here, entries) = (at.u16()?, at.u16()?);
        let (directory_size, directory_offset) = (at.u32()?, at.u32()?);
        let mut end = Self {
            entries: u64::from(entries),
            directory_offset: u64::from(directory_offset),
            directory_size: u64::from(directory_size),
        };
        let mut directory_end = position;
        let wants64 = entries == u16::MAX || directory_size == u32::MAX || directory_offset == u32::MAX;
        match Self::find64(blob, position)? {
            Some((end64, position64)) => {
                let agrees = |small: u64, limit: u64, large: u64| small == limit || small == large;
                if !agrees(end.entries, 0xffff, end64.entries)
                    || !agrees(end.directory_size, 0xffff_ffff, end64.directory_size)
                    || !agrees(end.directory_offset, 0xffff_ffff, end64.directory_offset)
                {
                    return Err(ZipError::Archive("has end records that contradict each other"));
                }
                end = end64;
                directory_end = position64;
            }
            None if wants64 => return Err(ZipError::Archive("needs a zip64 end record and has none")),
            None => {}
        }
        if (disk != 0 && disk != u16::MAX)
            || (directory_disk != 0 && directory_disk != u16::MAX)
            || entries_here != entries
        {
            return Err(ZipError::Archive("is split over several files"));
        }
        if end.directory_offset.checked_add(end.directory_size) != Some(directory_end) {
            return Err(ZipError::Archive("has bytes around its directory that no record owns"));
        }
        if end.directory_size > MAX_DIRECTORY {
            return Err(ZipError::Archive("has a directory of more than 64 MiB"));
        }
        if end.entries > MAX_MEMBERS {
            return Err(ZipError::Archive("has more than 250,000 members"));
        }
        Ok(end)
    }

    /// The zip64 end record in front of the end record at `position`, and where it begins.
    fn find64(blob: &dyn ReadAt, position: u64) -> Result<Option<(Self, u64)>, ZipError> {
        const LOCATOR_LEN: u64 = 20;
        const LEN: u64 = 56;
        let Some(locator_at) = position.checked_sub(LOCATOR_LEN) else { return Ok(None) };
        let locator = blob.read_vec_at(locator_at, LOCATOR_LEN as usize)?;
        let mut at = Cursor { bytes: &locator };
        if at.u32()? != END64_LOCATOR {
            return Ok(None);
        }
        let (disk, offset, disks) = (at.u32()?, at.u64()?, at.u32()?);
        if disk != 0 || disks > 1 {
            return Err(ZipError::Archive("is split over several files"));
        }
        if offset.checked_add(LEN) != Some(locator_at) {
            return Err(ZipError::Archive("has a zip64 end record at another place than its locator says"));
        }
        let record = blob.read_vec_at(offset, LEN as usize)?;
        let mut at = Cursor { bytes: &record };
        if at.u32()? != END64 || at.u64()? != LEN - 12 {
            return Err(ZipError::Archive("has a malformed zip64 end record"));
        }
        let _versions = at.u32()?;
        let (disk, directory_disk) = (at.u32()?, at.u32()?);
        let (entries_here, entries) = (at.u64()?, at.u64()?);
        let (directory_size, directory_offset) = (at.u64()?, at.u64()?);
        if disk != 0 || directory_disk != 0 || entries_here != entries {
            return Err(ZipError::Archive("is split over several files"));
        }
        Ok(Some((Self { entries, directory_offset, directory_size }, offset)))
    }
}
