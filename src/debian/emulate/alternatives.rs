//! update-alternatives: names such as `libblas.so.3` or `mpirun` that several packages may provide.
//!
//! `update-alternatives --install LINK NAME PATH PRIORITY [--slave LINK NAME PATH]...` is read out of the postinst
//! scripts without running them. Words with shell expansions cannot be read: such a call is noted and skipped. Of
//! several packages the highest priority wins, then the path that sorts first. A link is made only where its target
//! is in the image (manual pages are not) and nothing else stands.

use std::collections::BTreeMap;

use super::super::deb;
use super::{EmulateError, Package, Root};
use crate::tree::TreePath;

/// One name: its generic link and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    link: String,
    name: String,
    path: String,
}

/// One call of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative {
    master: Link,
    priority: i64,
    slaves: Vec<Link>,
}

pub fn add(
    root: &mut Root<'_>,
    packages: &[Package<'_>],
    notes: &mut Vec<String>,
) -> Result<(), EmulateError> {
    let mut best: BTreeMap<String, Alternative> = BTreeMap::new();
    for package in packages {
        let (found, unread) = parse(package.deb.postinst.as_deref().unwrap_or_default());
        if unread > 0 {
            notes.push(format!("{}: {unread} alternatives could not be read and are not set", package.name));
        }
        for alternative in found {
            if root.file(&alternative.master.path).is_none() {
                continue;
            }
            let better = |old: &Alternative| {
                let rank = |one: &Alternative| (std::cmp::Reverse(one.priority), one.master.path.clone());
                rank(&alternative) < rank(old)
            };
            if best.get(&alternative.master.name).is_none_or(better) {
                best.insert(alternative.master.name.clone(), alternative);
            }
        }
    }
    for alternative in best.values() {
        for link in std::iter::once(&alternative.master).chain(&alternative.slaves) {
            if root.file(&link.path).is_none() {
                continue;
            }
            let Ok(generic) = TreePath::from_absolute(&link.link).and_then(deb::merge) else { continue };
            if root.get(generic.as_str()).is_some() {
                notes.push(format!("alternative {} is not set: {generic} is a file of a package", link.name));
                continue;
            }
            let choice = format!("etc/alternatives/{}", link.name);
            root.add_link(&choice, &link.path)?;
            root.add_link(generic.as_str(), &format!("/{choice}"))?;
        }
    }
    Ok(())
}

/// The calls in a script, and how many could not be read.
fn parse(script: &str) -> (Vec<Alternative>, usize) {
    let (mut found, mut unread) = (Vec::new(), 0);
    for line in script.replace("\\\n", " ").lines() {
        let Some(at) = line.find("update-alternatives") else { continue };
        if line.trim_start().starts_with('#') {
            continue;
        }
        // Up to the end of the command.
        let call = line[at..].split([';', '&', '|']).next().unwrap_or_default();
        let words: Vec<String> = call
            .split_whitespace()
            .skip(1)
            .filter(|word| *word != "--quiet" && *word != "--force")
            .take_while(|word| !word.starts_with('>') && !word.starts_with("2>"))
            .map(|word| word.trim_matches(['"', '\'']).to_owned())
            .collect();
        if words.first().is_none_or(|word| word != "--install") {
            continue;
        }
        match alternative(&words[1..]) {
            Some(alternative) => found.push(alternative),
            None => unread += 1,
        }
    }
    (found, unread)
}

fn alternative(words: &[String]) -> Option<Alternative> {
    let (first, rest) = words.split_at_checked(4)?;
    let master = link(&first[..3])?;
    let priority = first[3].parse().ok()?;
    let mut slaves = Vec::new();
    for slave in rest.chunks(4) {
        if slave.len() != 4 || slave[0] != "--slave" {
            return None;
        }
        slaves.push(link(&slave[1..])?);
    }
    Some(Alternative { master, priority, slaves })
}

fn link(words: &[String]) -> Option<Link> {
    let [link, name, path] = words else { return None };
    let plain = |word: &String| !word.contains(['$', '`', '*', '?', '(', '{', '"', '\'', '\\']);
    let good = words.iter().all(plain)
        && TreePath::from_absolute(link).is_ok()
        && TreePath::from_absolute(path).is_ok()
        && TreePath::new(name).is_ok()
        && !name.contains('/');
    good.then(|| Link { link: link.clone(), name: name.clone(), path: path.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_from_scripts() {
        let script = "#!/bin/sh\nset -e\n\
            # update-alternatives --install /a a /b 1\n\
            if [ \"$1\" = configure ]; then\n\
            \tupdate-alternatives --install /usr/lib/x/libblas.so.3 libblas.so.3-x /usr/lib/x/blas/libblas.so.3 10\n\
            update-alternatives --quiet --install /usr/bin/mpirun mpirun /usr/bin/mpirun.x 50 \\\n\
            \t--slave /usr/share/man/man1/mpirun.1.gz mpirun.1.gz /usr/share/man/man1/mpirun.x.1.gz \\\n\
            \t--slave \"/usr/bin/mpiexec\" mpiexec /usr/bin/mpiexec.x || true\n\
            update-alternatives --install /usr/bin/$name $name /usr/bin/x 5\n\
            update-alternatives --remove x /y\nfi\n";
        let (found, unread) = parse(script);
        assert_eq!((found.len(), unread), (2, 1));
        assert_eq!(found[0].master.path, "/usr/lib/x/blas/libblas.so.3");
        assert_eq!((found[1].priority, found[1].slaves.len()), (50, 2));
        assert_eq!(found[1].slaves[1].link, "/usr/bin/mpiexec");
    }

    #[test]
    fn hostile_names_are_not_read() {
        for words in [
            "/usr/../x n /p 1",
            "rel n /p 1",
            "/l ../n /p 1",
            "/l a/b /p 1",
            "/l n /p x",
            "/l n /p 1 --slave /a",
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            assert_eq!(alternative(&words), None, "{words:?}");
        }
    }
}
