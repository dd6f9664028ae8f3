//! dpkg: `/var/lib/dpkg/status.d/`, the form in which images without dpkg say what they hold, and which scanners read.
//!
//! One file a package, its control paragraph as it stands, and `NAME.md5sums` beside it with the lines of the files
//! that are in the image. There is no `/var/lib/dpkg/status`: a dpkg inside would believe that its own database
//! is complete.

use super::super::deb;
use super::{EmulateError, Package, Root};
use crate::tree::{Node, TreePath};

pub fn add(root: &mut Root<'_>, packages: &[Package<'_>]) -> Result<(), EmulateError> {
    for package in packages {
        let path = format!("var/lib/dpkg/status.d/{}", package.name);
        let mut text = package.deb.control_text.trim_end().to_owned();
        text.push('\n');
        root.add_file(&path, text.into_bytes())?;
        let shipped = |line: &&str| {
            let name = line.split_once("  ").map_or("", |(_, name)| name);
            let path = TreePath::new(name).and_then(deb::merge);
            path.is_ok_and(|path| {
                matches!(package.deb.files.get(&path), Some(Node::File { .. } | Node::Hardlink { .. }))
            })
        };
        let sums: String =
            package.deb.md5sums.lines().filter(shipped).flat_map(|line| [line, "\n"]).collect();
        if !sums.is_empty() {
            root.add_file(&format!("{path}.md5sums"), sums.into_bytes())?;
        }
    }
    Ok(())
}
