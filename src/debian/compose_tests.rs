use super::super::testing::{control, deb, entry, file};
use super::*;
use crate::blob::MemoryBlobs;
use crate::digest::Digest;

const SUITE: Suite = Suite::Bookworm;
const PLATFORM: Platform = Platform::LinuxAmd64;

struct Made {
    lock: DebLock,
    bytes: Vec<u8>,
}

fn made(name: &str, layer: DebLayer, more: &str, postinst: &str, entries: &[Vec<u8>]) -> Made {
    let bytes = deb(&control(name, more), postinst, entries);
    let lock = DebLock {
        name: name.to_owned(),
        version: "1".to_owned(),
        platform: PLATFORM,
        architecture: "amd64".to_owned(),
        source: name.to_owned(),
        archive: "debian".to_owned(),
        filename: String::new(),
        size: bytes.len() as u64,
        sha256: Digest::of(&bytes),
        layer,
        depends: Vec::new(),
    };
    Made { lock, bytes }
}

fn composed(debs: &[Made]) -> Result<Composition, String> {
    let mut blobs = MemoryBlobs::default();
    for made in debs {
        blobs.insert(made.bytes.clone());
    }
    let locks: Vec<_> = debs.iter().map(|made| &made.lock).collect();
    compose(&locks, &blobs, SUITE, PLATFORM, &tempfile::env::temp_dir()).map_err(|error| error.to_string())
}

/// Every path with what stands there, content included.
fn show(tree: &Tree) -> Vec<String> {
    let mut root = Root { tree: tree.clone(), below: None };
    root.tree.retain(|_, node| !matches!(node, Node::Hardlink { .. }));
    tree.iter()
        .map(|(path, node)| match node {
            Node::File { mode, .. } => {
                format!("{path} {mode:o} {:?}", Digest::of(root.read(path.as_str()).unwrap().unwrap()))
            }
            other => format!("{path} {other:?}"),
        })
        .collect()
}

fn text(composition: &Composition, path: &str) -> String {
    let root = Root { tree: composition.python.clone(), below: Some(&composition.base) };
    String::from_utf8(root.read(path).unwrap().unwrap_or_default()).unwrap()
}

fn base_set() -> Vec<Made> {
    vec![
        made(
            "aa",
            DebLayer::Base,
            "",
            "update-alternatives --install /usr/bin/tool tool /usr/bin/a 10\n",
            &[
                entry("./usr/bin/a", b'0', 0o755, "", b"a"),
                file("./usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\n"),
                file("./usr/share/zoneinfo/Etc/UTC", "TZif"),
                file("./usr/share/libc-bin/nsswitch.conf", "hosts: files dns\n"),
                entry("./lib64/ld.so", b'0', 0o755, "", b"x"),
                entry("./var/run/", b'5', 0o755, "", b""),
            ],
        ),
        made(
            "bb",
            DebLayer::Base,
            "",
            "",
            &[entry("./tmp/", b'5', 0o1777, "", b""), file("./etc/same", "1")],
        ),
        made("cc", DebLayer::Base, "", "", &[entry("./tmp/", b'5', 0o755, "", b""), file("./etc/same", "1")]),
    ]
}

#[test]
fn base_is_a_function_of_its_own_packages() {
    let mut debs = base_set();
    let alone = composed(&debs).unwrap();
    debs.push(made(
        "python3.11-minimal",
        DebLayer::Python,
        "",
        "",
        &[entry("./usr/bin/python3.11", b'0', 0o755, "", b"py"), entry("./tmp/", b'5', 0o755, "", b"")],
    ));
    debs.reverse();
    let both = composed(&debs).unwrap();
    assert_eq!(show(&alone.base), show(&both.base));
    assert!(alone.python.is_empty());
    let names: Vec<_> = both.python.keys().map(TreePath::as_str).collect();
    assert_eq!(
        names,
        [
            "usr/bin/python",
            "usr/bin/python3",
            "usr/bin/python3.11",
            "usr/local/lib/python3.11/dist-packages",
            "var/lib/dpkg/status.d/python3.11-minimal",
        ]
    );
}

#[test]
fn effects_of_installing_are_there() {
    let composition = composed(&base_set()).unwrap();
    let node = |path: &str| format!("{:?}", composition.base.get(&TreePath::new(path).unwrap()));
    for (path, wanted) in [
        ("bin", "Some(Symlink { target: \"usr/bin\" })"),
        ("lib64", "Some(Symlink { target: \"usr/lib64\" })"),
        ("lib32", "None"),
        ("tmp", "Some(Dir { mode: 1023 })"),
        ("home/nonroot", "Some(Dir { mode: 1023 })"),
        ("var/run", "Some(Symlink { target: \"/run\" })"),
        ("etc/localtime", "Some(Symlink { target: \"/usr/share/zoneinfo/Etc/UTC\" })"),
        ("usr/bin/tool", "Some(Symlink { target: \"/etc/alternatives/tool\" })"),
        ("etc/alternatives/tool", "Some(Symlink { target: \"/usr/bin/a\" })"),
    ] {
        assert_eq!(node(path), wanted, "{path}");
    }
    assert_eq!(text(&composition, "etc/nsswitch.conf"), "hosts: files dns\n");
    assert_eq!(
        text(&composition, "etc/passwd"),
        "root:*:0:0:root:/root:/bin/bash\nnonroot:*:65532:65532:nonroot:/home/nonroot:/usr/sbin/nologin\n"
    );
    assert_eq!(text(&composition, "etc/group"), "root:*:0:\nnogroup:*:65534:\nnonroot:*:65532:\n");
    assert!(text(&composition, "var/lib/dpkg/status.d/aa").starts_with("Package: aa\nVersion: 1\n"));
    assert_eq!(text(&composition, "var/lib/dpkg/status.d/aa.md5sums"), "0123  usr/bin/a\n");
}

#[test]
fn collisions_need_a_rule() {
    let pair = |more: &str, entries: &[Vec<u8>]| {
        composed(&[
            made("aa", DebLayer::Base, "", "", &[file("./etc/x", "1")]),
            made("bb", DebLayer::Base, more, "", entries),
        ])
    };
    let other = [file("./etc/x", "2")];
    assert_eq!(
        pair("", &other).unwrap_err(),
        "packages aa and bb both bring `etc/x`, and neither replaces the other"
    );
    assert_eq!(text(&pair("Replaces: aa (<< 2)\n", &other).unwrap(), "etc/x"), "2");
    assert!(pair("Replaces: aa (<< 1)\n", &other).is_err());
    assert_eq!(
        pair("", &[file("./etc/x/y", "")]).unwrap_err(),
        "package bb brings `etc/x/y`, but `etc/x` is not a directory"
    );
    let twice = [base_set().remove(0), base_set().remove(0)];
    assert_eq!(composed(&twice).unwrap_err(), "package aa is there twice");
}

#[test]
fn a_package_must_be_what_the_lock_says() {
    let mut wrong = base_set().remove(0);
    wrong.lock.version = "2".to_owned();
    assert_eq!(composed(&[wrong]).unwrap_err(), "package aa");
    let mut wrong = base_set().remove(0);
    wrong.lock.architecture = "arm64".to_owned();
    assert_eq!(composed(&[wrong]).unwrap_err(), "package aa is for arm64, not for linux/amd64");
}
