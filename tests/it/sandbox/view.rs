//! The root file system as the program sees it, beside what runc shows of the same image: umoci unpacks it, and the image's
//! own Python lists everything, with the same rights in both.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Host, Who};
use crate::support::mlbuild::Run;
use crate::support::reference::scratch;
use crate::support::skip::{Skip, or_skip};
use crate::support::tool::tool;
use crate::trees::overlay::{differences, umoci};

/// Prints all that can be known of each path, but for what a runtime puts there; of directories that it puts something
/// into, not the time. A file of several names has the first one's.
pub const LIST: &str = r"
import hashlib, os, stat
theirs = {'/proc', '/sys', '/dev', '/etc/hosts', '/etc/hostname', '/etc/resolv.conf'}
rows = []
linked = {}
def digest(path):
    try:
        with open(path, 'rb') as file: return hashlib.file_digest(file, 'sha256').hexdigest()
    except PermissionError: return 'unreadable'
def show(path):
    at = os.lstat(path)
    words = [oct(at.st_mode), f'{at.st_uid}:{at.st_gid}']
    if path not in ('/', '/etc'): words.append(str(at.st_mtime_ns))
    if stat.S_ISREG(at.st_mode):
        words += [str(at.st_size), digest(path)]
        linked.setdefault((at.st_dev, at.st_ino), []).append(len(rows))
    elif stat.S_ISLNK(at.st_mode): words.append('-> ' + os.readlink(path))
    elif not stat.S_ISDIR(at.st_mode): words.append(hex(at.st_rdev))
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        words.append(name + '=' + os.getxattr(path, name, follow_symlinks=False).hex())
    rows.append((path, ' '.join(words)))
    if stat.S_ISDIR(at.st_mode):
        try: names = sorted(os.listdir(path))
        except PermissionError: return rows.append((path + '/', 'cannot be listed'))
        for name in names:
            below = os.path.join(path, name)
            if below not in theirs: show(below)
show('/')
for names in linked.values():
    for at in names[1:] and names: rows[at] = (rows[at][0], rows[at][1] + ' as ' + rows[names[0]][0])
for row in rows: print(*row, sep='\t')
";

/// By path.
pub fn entries(listed: &str) -> BTreeMap<String, String> {
    listed
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(path, what)| (path.to_owned(), what.to_owned()))
        .collect()
}

/// Lists as root, and leaves nothing behind.
pub fn list(host: &Host) -> Run {
    host.run(&["-u", "0"], &["python", "-B", "-c", LIST])
}

/// For each host; panics with the differences.
pub fn is_what_runc_shows(hosts: &[Host]) -> Result<(), Skip> {
    tool("umoci")?;
    tool("runc")?;
    let scratch = scratch();
    let bundle = umoci(&hosts[0].layout, scratch.path()).parent().unwrap().to_owned();
    for host in hosts {
        compare(host, entries(&by_runc(host.who, &bundle)?));
    }
    Ok(())
}

fn compare(host: &Host, mut theirs: BTreeMap<String, String>) {
    let mut ours = entries(&list(host).ok().stdout());
    if host.who == Who::User {
        // One owner is all that there is.
        for what in ours.values() {
            assert_eq!(owner(what), Some("0:0"), "{what}");
        }
        let no_owners = |listed: &mut BTreeMap<String, String>| {
            for what in listed.values_mut() {
                if let Some(owner) = owner(what) {
                    *what = what.replacen(owner, "-", 1);
                }
            }
        };
        no_owners(&mut ours);
        no_owners(&mut theirs);
    }
    let differences = differences(&ours, &theirs);
    let first: Vec<_> = differences.iter().take(20).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), first.join("\n"));
    assert!(ours.len() > 1000, "only {} paths were compared", ours.len());
}

fn owner(what: &str) -> Option<&str> {
    what.split(' ').nth(1).filter(|word| word.contains(':'))
}

/// What Python lists as root in runc: without capabilities, as in a run of root's; for the run of a user, whom all files
/// belong to, with the one by which root can read them, too.
fn by_runc(who: Who, bundle: &Path) -> Result<String, Skip> {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let capabilities = match who {
        Who::Root => json!([]),
        Who::User => json!(["CAP_DAC_OVERRIDE"]),
    };
    let process = config["process"].as_object_mut().unwrap();
    process.insert("terminal".to_owned(), json!(false));
    process.insert("user".to_owned(), json!({ "uid": 0, "gid": 0 }));
    process.insert("args".to_owned(), json!(["python", "-B", "-c", LIST]));
    process.insert("cwd".to_owned(), json!("/"));
    // Raising them takes a capability that CI may not have.
    process.remove("rlimits");
    let sets = ["bounding", "effective", "permitted"];
    process
        .insert("capabilities".to_owned(), sets.into_iter().map(|set| (set, capabilities.clone())).collect());
    fs::write(&path, config.to_string()).unwrap();
    let name = format!("mlbuild-view-{}", std::process::id());
    let root = bundle.join("state");
    let runc =
        Run::new("runc").arg("--root").arg(&root).args(&["run", "--bundle"]).arg(bundle).arg(&name).run();
    match runc.status() {
        0 => Ok(runc.stdout()),
        // Said before anything was started.
        _ if runc.stdout().is_empty() => {
            Err(Skip(format!("runc does not work here: {}", runc.stderr().trim())))
        }
        status => panic!("{status}: {}", runc.stderr()),
    }
}

#[test]
fn the_root_is_what_runc_shows() {
    let hosts = or_skip!("what runc shows", Host::both("hello"));
    or_skip!("what runc shows", is_what_runc_shows(&hosts));
}
