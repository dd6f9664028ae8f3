//! Hard links of a layer, also those to files of the layers below.
//!
//! A file of a layer below cannot get another name in this one. As overlayfs does when a program makes such a link, the file
//! is copied up: this layer has the copy, under both names. Names that the file has besides in the layers below stay what
//! they are, files of their own.

use std::fs::File;

use super::{
    AsFd, AtFlags, CHUNK, Context, Entry, Errno, Fact, Missing, Node, Place, Read, Seen, UnpackError, Write,
    Writer, failed, io, join, linkat, parts, place, shown,
};

impl Writer<'_> {
    pub(super) fn hardlink(
        &mut self,
        place: &Place,
        name: &[u8],
        entry: &Entry,
        context: Context<'_>,
    ) -> Result<(), UnpackError> {
        let dangling = || UnpackError::Hardlink { path: shown(&entry.name), target: shown(&entry.target) };
        let target = parts(&entry.target).map_err(|_| dangling())?;
        let (&last, parents) = target.split_last().ok_or_else(dangling)?;
        let Some(from) = self.resolve(parents, &entry.name, Missing::Refuse)? else {
            return self.link_below(entry);
        };
        let (path, target) = (join(&place.path, name), join(&from, last));
        match self.facts.get(&target) {
            Some(_) if self.whiteouts.contains(&target) => Err(dangling()),
            Some(_) if path == target => Ok(()),
            Some(&fact) => self.link(&target, place, name, fact),
            None if self.nodes.contains_key(&target) => Err(dangling()),
            None => match self.seen_below(&target)? {
                Seen::File if path == target => Ok(()),
                Seen::File => self.copy_up(target, place, name, entry, context),
                Seen::Nothing => self.link_below(entry),
                _ => Err(dangling()),
            },
        }
    }

    /// The layers below may have what it points to, where nothing is known of them.
    fn link_below(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let (path, target) = (shown(&entry.name), shown(&entry.target));
        if self.below.decides() {
            return Err(UnpackError::Hardlink { path, target });
        }
        self.linked.get_or_insert((path, target));
        Ok(())
    }

    /// One more name for what the layer has at `target`.
    fn link(&mut self, target: &[u8], place: &Place, name: &[u8], fact: Fact) -> Result<(), UnpackError> {
        let (opened, last) = self.above(target)?;
        let link = || linkat(&opened, &target[last..], &place.directory, name, AtFlags::empty());
        self.replace(place, name, "make the hard link", link)?;
        let path = join(&place.path, name);
        if let Some(Node::Link(to)) = self.nodes.get(target) {
            let to = to.clone();
            self.nodes.insert(path.clone(), Node::Link(to));
        }
        self.facts.insert(path, fact);
        Ok(())
    }

    /// A file of the layers below under another name: by a copy, for all names of one.
    fn copy_up(
        &mut self,
        target: Vec<u8>,
        place: &Place,
        name: &[u8],
        entry: &Entry,
        context: Context<'_>,
    ) -> Result<(), UnpackError> {
        match self.copies.get(&target) {
            Some(Some(copy)) if *copy == join(&place.path, name) => return Ok(()),
            Some(Some(copy)) => {
                let copy = copy.clone();
                let fact = self.facts[&copy];
                return self.link(&copy, place, name, fact);
            }
            // Else a small layer could fill the disk: other names may hold the first copy.
            Some(None) => {
                let rule = "it links again to a file of the layers below whose first link it has replaced";
                return Err(UnpackError::Entry { name: shown(&entry.name), rule });
            }
            None => {}
        }
        let unread = |source| failed("read, of the layers below,", &target, source);
        let Some((mut from, attributes)) = self.below.open(&target).map_err(unread)? else {
            return Err(unread(io::ErrorKind::NotFound.into()));
        };
        let mut to =
            self.replace(place, name, "write", || place::create(&place.directory, name, &attributes))?;
        let path = join(&place.path, name);
        let (size, crc32) = self.copy(&mut from, &mut to, &target, &path, context)?;
        self.process.finish_file(&to, &attributes).map_err(|source| failed("write", &path, source))?;
        self.facts.insert(path.clone(), Fact::file(&attributes, size, crc32));
        self.copies.insert(target, Some(path));
        Ok(())
    }

    /// Bytes, and their CRC-32.
    fn copy(
        &mut self,
        from: &mut File,
        to: &mut File,
        target: &[u8],
        path: &[u8],
        context: Context<'_>,
    ) -> Result<(u64, u32), UnpackError> {
        let (mut size, mut crc) = (0, crc32fast::Hasher::new());
        self.buffer.resize(CHUNK, 0);
        loop {
            (context.go_on)()?;
            let read = match from.read(&mut self.buffer) {
                Ok(0) => return Ok((size, crc.finalize())),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(failed("read, of the layers below,", target, source)),
            };
            crc.update(&self.buffer[..read]);
            to.write_all(&self.buffer[..read]).map_err(|source| failed("write", path, source))?;
            size += read as u64;
        }
    }

    /// The copies get the names of what they are copies of, unless the layer hides or replaces these. In the end: a whiteout
    /// may come after the link.
    pub(super) fn name_copies(&mut self) -> Result<(), UnpackError> {
        for (target, copy) in std::mem::take(&mut self.copies) {
            let Some(copy) = copy else { continue };
            if self.facts.contains_key(&target)
                || self.nodes.contains_key(&target)
                || self.seen_below(&target)? != Seen::File
            {
                continue;
            }
            let slash = target.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            let parents: Vec<_> = target[..slash].split(|byte| *byte == b'/').collect();
            // Where a directory above it has become something else, the name is gone.
            match self.resolve(&parents, &target, Missing::Refuse) {
                Ok(Some(above)) if above == target[..slash] => {}
                Ok(_) | Err(UnpackError::Entry { .. }) => continue,
                Err(error) => return Err(error),
            }
            let above = self.resolve(&parents, &target, Missing::Make)?.expect("what is missing was made");
            let opened = place::open_directory(&self.root, &above);
            let opened = opened.map_err(|source| failed("open the directory", &above, source))?;
            let (from, last) = self.above(&copy)?;
            let name = &target[if slash == 0 { 0 } else { slash + 1 }..];
            linkat(&from, &copy[last..], opened.as_fd(), name, AtFlags::empty())
                .map_err(|error: Errno| failed("make the hard link", &target, error.into()))?;
            let fact = self.facts[&copy];
            self.facts.insert(target, fact);
        }
        Ok(())
    }
}
