//! A second opinion on layers, for tests: reads one with other code than the code that wrote it.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use crate::epoch::Epoch;
use crate::tree::{Content, Node, Tree, TreePath};

/// The tree of a gzip layer of any number of members. Refuses a layer whose entries are not sorted, come twice, have
/// an owner, another time than `epoch`, or a kind that trees do not have.
pub fn read_layer(layer: &[u8], epoch: Epoch) -> io::Result<Tree> {
    let refuse = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut archive = ::tar::Archive::new(MultiGzDecoder::new(layer));
    let mut tree = Tree::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let header = entry.header();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = TreePath::new(path.strip_suffix('/').unwrap_or(&path))
            .map_err(|error| refuse(error.to_string()))?;
        if header.uid()? != 0 || header.gid()? != 0 || header.username_bytes() != Some(b"") {
            return Err(refuse(format!("{path} has an owner")));
        }
        let mode = header.mode()?;
        let (kind, mtime) = (header.entry_type(), header.mtime()?);
        let link = entry.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
        if mtime != epoch.0 && mtime != 0 {
            return Err(refuse(format!("{path} has the time {mtime}")));
        }
        if tree.last_key_value().is_some_and(|(last, _)| *last >= path) {
            return Err(refuse(format!("{path} is not in its place")));
        }
        let node = match (kind, link) {
            (::tar::EntryType::Directory, _) => Node::Dir { mode },
            (::tar::EntryType::Regular, _) => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                Node::File { mode, content: Content::bytes(bytes) }
            }
            (::tar::EntryType::Symlink, Some(target)) => Node::Symlink { target },
            (::tar::EntryType::Link, Some(target)) => {
                Node::Hardlink { target: TreePath::new(&target).map_err(|error| refuse(error.to_string()))? }
            }
            (kind, _) => return Err(refuse(format!("{path} is of the kind {kind:?}"))),
        };
        tree.insert(path, node);
    }
    Ok(tree)
}
