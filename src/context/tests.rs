use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A project on the disk: `path content` pairs; a path that ends in `*` is executable.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let name = path.trim_end_matches('*');
        let path_on_disk = dir.path().join(name);
        fs::create_dir_all(path_on_disk.parent().unwrap()).unwrap();
        fs::write(&path_on_disk, content).unwrap();
        let mode = if path.ends_with('*') { 0o755 } else { 0o644 };
        fs::set_permissions(&path_on_disk, fs::Permissions::from_mode(mode)).unwrap();
    }
    dir
}

fn copy(from: &str, to: &str, exclude: &[&str]) -> Copy {
    Copy {
        from: from.into(),
        to: to.into(),
        exclude: exclude.iter().map(|&pattern| pattern.into()).collect(),
    }
}

/// `path mode content` lines.
fn listing(tree: &Tree) -> Vec<String> {
    tree.iter()
        .map(|(path, node)| match node {
            Node::File { mode, content } => {
                let bytes = blob(content).read_vec_at(0, content.size() as usize).unwrap();
                format!("{path} {mode:o} {}", String::from_utf8_lossy(&bytes))
            }
            Node::Symlink { target } => format!("{path} -> {target}"),
            other => panic!("{path}: {other:?}"),
        })
        .collect()
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.keys().map(TreePath::as_str).collect()
}

/// All copies as one tree.
fn collect(root: &Path, copies: &[Copy]) -> Result<Tree, ContextError> {
    Ok(super::collect(root, copies, &[])?.into_iter().flatten().collect())
}

fn error(dir: &tempfile::TempDir, copies: &[Copy]) -> String {
    collect(dir.path(), copies).unwrap_err().to_string()
}

#[test]
fn files_and_directories_go_where_they_are_sent() {
    let dir = project(&[("src/a.py", "a"), ("src/pkg/b.py", "b"), ("run.sh*", "run")]);
    for (from, to, expected) in [
        ("src", "/app", vec!["app/a.py", "app/pkg/b.py"]),
        ("src/", "/app/", vec!["app/a.py", "app/pkg/b.py"]),
        ("src", "/", vec!["a.py", "pkg/b.py"]),
        (".", "/x", vec!["x/run.sh", "x/src/a.py", "x/src/pkg/b.py"]),
        ("run.sh", "/bin/start", vec!["bin/start"]),
        ("run.sh", "/bin/", vec!["bin/run.sh"]),
        ("run.sh", "/", vec!["run.sh"]),
        ("src/pkg/b.py", "/b.py", vec!["b.py"]),
    ] {
        let tree = collect(dir.path(), &[copy(from, to, &[])]).unwrap();
        assert_eq!(names(&tree), expected, "{from} -> {to}");
    }
    let tree = collect(dir.path(), &[copy(".", "/", &[])]).unwrap();
    assert_eq!(listing(&tree), ["run.sh 755 run", "src/a.py 644 a", "src/pkg/b.py 644 b"]);
}

#[test]
fn ignore_files_and_exclude_by_strength() {
    let dir = project(&[
        (".gitignore", "*.log\n/build/\n!keep.log\n[z-a]\n"),
        (".mlbuildignore", "secret*\n!wanted.log\n"),
        ("a.log", ""),
        ("keep.log", ""),
        ("wanted.log", ""),
        ("secret.txt", ""),
        ("build/out.bin", ""),
        ("src/build/kept.bin", ""),
        ("src/.gitignore", "*.tmp\n!a.log\n"),
        ("src/a.log", ""),
        ("src/x.tmp", ""),
        ("src/main.py", ""),
        (".git/config", ""),
        ("sub/.git", "gitdir: elsewhere"),
        ("sub/.hidden", ""),
        (".git/info/exclude", "main.py"),
    ]);
    let tree = collect(dir.path(), &[copy(".", "/", &[])]).unwrap();
    let expected = [
        ".gitignore",
        ".mlbuildignore",
        "keep.log",
        "src/.gitignore",
        "src/a.log",
        "src/build/kept.bin",
        "src/main.py",
        "sub/.hidden",
        "wanted.log",
    ];
    assert_eq!(names(&tree), expected);

    // Patterns of `exclude` are relative to `from` and win over every file.
    let tree = collect(dir.path(), &[copy("src", "/", &["/main.py", "build", ".*", "!x.tmp"])]).unwrap();
    assert_eq!(names(&tree), ["a.log", "x.tmp"]);

    // What is named is taken, and rules count inside it.
    let tree = collect(dir.path(), &[copy("build", "/", &[]), copy("a.log", "/b.log", &[])]).unwrap();
    assert_eq!(names(&tree), ["b.log", "out.bin"]);
}

#[test]
fn rules_above_the_project_do_not_count() {
    let dir = project(&[(".gitignore", "*"), ("project/a.py", ""), ("project/sub/b.py", "")]);
    let tree = collect(&dir.path().join("project"), &[copy(".", "/", &[])]).unwrap();
    assert_eq!(names(&tree), ["a.py", "sub/b.py"]);
    // Those between the project and `from` do.
    let dir = project(&[(".gitignore", "b.py"), ("a/b/b.py", ""), ("a/b/c.py", "")]);
    let tree = collect(dir.path(), &[copy("a/b", "/", &[])]).unwrap();
    assert_eq!(names(&tree), ["c.py"]);
}

#[test]
fn symlinks_stay_inside() {
    let dir = project(&[("src/a.py", ""), ("src/d/b.py", ""), ("other.py", "")]);
    let src = dir.path().join("src");
    symlink("a.py", src.join("link")).unwrap();
    symlink("../a.py", src.join("d/up")).unwrap();
    symlink("nowhere", src.join("dangling")).unwrap();
    symlink("d", src.join("dir")).unwrap();
    let tree = collect(dir.path(), &[copy("src", "/app", &[])]).unwrap();
    assert_eq!(
        listing(&tree),
        [
            "app/a.py 644 ",
            "app/d/b.py 644 ",
            "app/d/up -> ../a.py",
            "app/dangling -> nowhere",
            "app/dir -> d",
            "app/link -> a.py",
        ]
    );
    symlink("../other.py", src.join("out")).unwrap();
    assert_eq!(
        error(&dir, &[copy("src", "/app", &[])]),
        r#"symlink "src/out" -> "../other.py" leaves the directory that is copied"#
    );
    // The same link is inside when more is copied, and no matter when it stays out.
    assert!(collect(dir.path(), &[copy(".", "/app", &[])]).is_ok());
    assert!(collect(dir.path(), &[copy("src", "/app", &["out"])]).is_ok());
    symlink("/etc/passwd", dir.path().join("abs")).unwrap();
    assert!(error(&dir, &[copy(".", "/", &[])]).starts_with(r#"symlink "abs" -> "/etc/passwd" is absolute"#));
    // `from` itself may be a symlink, as long as it stays in the project.
    symlink("src", dir.path().join("alias")).unwrap();
    assert!(collect(dir.path(), &[copy("alias", "/app", &["out"])]).is_ok());
    assert!(error(&dir, &[copy("abs", "/app", &[])]).contains("leads out of the project"));
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = project(&[("a", "")]);
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
    assert!(error(&dir, &[copy(".", "/", &[])]).starts_with(r#""sock" is a socket"#));
    drop(socket);
    assert!(collect(dir.path(), &[copy(".", "/", &["sock"])]).is_ok());
    fs::remove_file(dir.path().join("sock")).unwrap();
    if fs::write(dir.path().join(OsStr::from_bytes(b"n\xff")), "").is_ok() {
        assert_eq!(error(&dir, &[copy(".", "/", &[])]), r#"name of "n\xFF" is not UTF-8"#);
        assert!(collect(dir.path(), &[copy(".", "/", &["n*"])]).is_ok());
    }
}

#[test]
fn mistakes_name_what_they_are_about() {
    let dir = project(&[
        ("src/.gitignore", "*"),
        ("src/a", ""),
        ("bad/.mlbuildignore", "ok\n[z-a]\n"),
        ("bad/x", ""),
        (".git/config", ""),
        ("w/.wh.x", ""),
    ]);
    fs::create_dir_all(dir.path().join("empty/dir")).unwrap();
    for (from, to, expected) in [
        ("missing", "/", r#""missing", named by `from` of a [[copy]], does not exist"#),
        ("src/a/b", "/", r#""src/a/b", named by `from` of a [[copy]], does not exist"#),
        ("empty", "/", r#""empty" holds no file"#),
        ("src", "/", r#""src" holds no file but those that ignore files or `exclude` leave out (2)"#),
        (".git", "/", r#"".git", named by `from` of a [[copy]], is part of git's own directory"#),
        ("..", "/", "leads out of the project"),
        ("bad", "/", r#"line 2 of "bad/.mlbuildignore" is not a pattern"#),
        ("w", "/", "has a part that begins with `.wh.`"),
    ] {
        let error = error(&dir, &[copy(from, to, &[])]);
        assert!(error.contains(expected), "{from}: {error}");
    }
}

#[test]
fn two_copies_of_one_path_must_agree() {
    let big = "x".repeat(100_000);
    let dir = project(&[
        ("a/same", &big),
        ("a/mode", "1"),
        ("b/same", &big),
        ("b/mode*", "1"),
        ("b/other", "2"),
        ("c/other", "3"),
        ("f", ""),
    ]);
    assert!(collect(dir.path(), &[copy("a/same", "/x", &[]), copy("b/same", "/x", &[])]).is_ok());
    assert!(collect(dir.path(), &[copy("a", "/x", &[]), copy("a", "/x", &[])]).is_ok());
    assert_eq!(
        error(&dir, &[copy("b/other", "/x", &[]), copy("c/other", "/x", &[])]),
        r#"/x comes from "b/other" and from "c/other", which differ"#
    );
    assert!(error(&dir, &[copy("a/mode", "/x", &[]), copy("b/mode", "/x", &[])]).contains("which differ"));
    assert_eq!(
        error(&dir, &[copy("f", "/x/same", &[]), copy("a", "/x/same", &[])]),
        r#"/x/same is a file from "f" and a directory from "a/mode""#
    );
}

#[test]
fn files_that_change_are_noticed() {
    let dir = project(&[("big", &"x".repeat(100_000)), ("gone", &"x".repeat(100_000))]);
    let tree = collect(dir.path(), &[copy(".", "/", &[])]).unwrap();
    let content = |name: &str| match &tree[&TreePath::new(name).unwrap()] {
        Node::File { content, .. } => content.clone(),
        other => panic!("{other:?}"),
    };
    assert!(blob(&content("big")).read_vec_at(0, 100_000).is_ok());
    fs::write(dir.path().join("big"), "y".repeat(100_000)).unwrap();
    fs::remove_file(dir.path().join("gone")).unwrap();
    for name in ["big", "gone"] {
        let error = blob(&content(name)).read_vec_at(0, 10).unwrap_err().to_string();
        assert!(error.ends_with("changed while it was read"), "{name}: {error}");
    }
}

/// The same commit in two checkouts: other umask, order of creation, leftovers that are ignored, empty directories.
#[test]
fn two_checkouts_are_one_context() {
    let files = [
        (".gitignore", "__pycache__/\n*.log\n"),
        ("app/main.py", "print()"),
        ("app/util/x.py", "x = 1"),
        ("run.sh*", "#!/bin/sh"),
        ("data/weights.bin", &"w".repeat(50_000)),
    ];
    let one = project(&files);
    let mut reversed = files;
    reversed.reverse();
    let two = project(&reversed);
    for (path, _) in files {
        let path = two.path().join(path.trim_end_matches('*'));
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o700;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir_all(two.path().join("app/__pycache__")).unwrap();
    fs::write(two.path().join("app/__pycache__/main.pyc"), "bytecode").unwrap();
    fs::write(two.path().join("debug.log"), "").unwrap();
    fs::create_dir_all(two.path().join("left/over")).unwrap();
    fs::create_dir_all(two.path().join(".git/objects")).unwrap();
    fs::write(two.path().join(".git/HEAD"), "ref").unwrap();
    let copies = [copy(".", "/app", &[])];
    let (one, two) = (collect(one.path(), &copies).unwrap(), collect(two.path(), &copies).unwrap());
    assert_eq!(listing(&one), listing(&two));
    assert_eq!(one.len(), files.len());
}

/// Memory does not grow with the number of files: past the budget even small ones are opened late.
#[test]
fn small_files_are_kept_within_a_budget() {
    let dir = project(&[("small", "123")]);
    let path = dir.path().join("small");
    let metadata = rustix::fs::lstat(&path).unwrap();
    let mut budget = file::Budget::default();
    assert!(matches!(file::content(&path, &metadata, &mut budget).unwrap(), Content::Bytes(_)));
    let mut none = file::Budget::exhausted();
    assert!(matches!(file::content(&path, &metadata, &mut none).unwrap(), Content::Slice { .. }));
}

#[test]
fn a_path_stands_in_the_first_tree_that_has_it() {
    let dir = project(&[("a/same", "1"), ("a/one", "1"), ("b/same", "1"), ("b/two", "2")]);
    let trees = super::collect(dir.path(), &[copy("a", "/x", &[]), copy("b", "/x", &[])], &[]).unwrap();
    assert_eq!(trees.iter().map(names).collect::<Vec<_>>(), [vec!["x/one", "x/same"], vec!["x/two"]]);
}

#[test]
fn what_mlbuild_writes_is_passed_over() {
    let dir = project(&[("mlbuild.lock", "1"), ("out/index.json", "1"), ("app.py", "1")]);
    let own = ["mlbuild.lock", "out", "not-there"].map(|name| dir.path().join(name));
    let trees = super::collect(dir.path(), &[copy(".", "/", &[])], &own).unwrap();
    assert_eq!(names(&trees[0]), ["app.py"]);
    assert!(exists(dir.path(), &copy("out", "/", &[])).is_ok());
    assert!(exists(dir.path(), &copy("nope", "/", &[])).is_err());
}

/// What stands in the place of an ignore file, of a copied file or of a directory is never waited for.
#[test]
fn fifos_and_devices_are_refused_and_never_waited_for() {
    use rustix::fs::{CWD, FileType, mknodat};
    for at in ["fifo", "sub/fifo", ".gitignore", ".mlbuildignore", "sub/.gitignore"] {
        let dir = project(&[("a", ""), ("sub/b", "")]);
        mknodat(CWD, dir.path().join(at), FileType::Fifo, 0o644.into(), 0).unwrap();
        assert!(error(&dir, &[copy(".", "/", &[])]).starts_with(&format!("{at:?} is a FIFO")), "{at}");
        assert!(error(&dir, &[copy(at, "/x", &[])]).contains("is a FIFO"), "{at}");
        // The twin: the same, left out.
        assert!(collect(dir.path(), &[copy(".", "/", &[at])]).is_ok(), "{at}");
    }
    let dir = project(&[("a", "")]);
    symlink("/dev/zero", dir.path().join("zero")).unwrap();
    assert!(error(&dir, &[copy("zero", "/x", &[])]).contains("leads out of the project"));
    assert!(error(&dir, &[copy(".", "/x", &[])]).contains("is absolute"));
}

/// A directory that is swapped for a symlink after it was listed: its content is not what was listed.
#[test]
fn a_directory_that_is_swapped_meanwhile_is_noticed() {
    use super::place::{Id, Place};
    let outside = project(&[("secret", "s")]);
    let dir = project(&[("sub/deep/x", "")]);
    let root = dir.path().canonicalize().unwrap();
    let sub = root.join("sub");
    let listed = Id::of(&Place::open(&root).unwrap().stat("sub".as_ref()).unwrap());
    assert_eq!(Place::again(&sub, listed).unwrap().names().unwrap(), ["deep"]);
    let open = Place::open(&root).unwrap().descend(Path::new("sub")).unwrap();
    fs::rename(&sub, root.join("moved")).unwrap();
    for swap in ["link", "another directory", "nothing"] {
        match swap {
            "link" => symlink(outside.path(), &sub).unwrap(),
            "another directory" => {
                fs::remove_file(&sub).unwrap();
                fs::create_dir(&sub).unwrap();
            }
            _ => fs::remove_dir(&sub).unwrap(),
        }
        let error = Place::again(&sub, listed).map(drop).unwrap_err().to_string();
        assert!(error.ends_with("changed while it was read"), "{swap}: {error}");
        if swap != "another directory" {
            let below = Place::open(&root).unwrap().descend(Path::new("sub/deep"));
            assert!(
                below.map(drop).unwrap_err().to_string().ends_with("changed while it was read"),
                "{swap}"
            );
        }
    }
    // What was opened before goes on to be what it was.
    assert_eq!(open.names().unwrap(), ["deep"]);
    // The twin: a directory that only moved and came back.
    fs::rename(root.join("moved"), &sub).unwrap();
    assert!(Place::again(&sub, listed).is_ok());
}

#[test]
fn files_that_shrink_grow_or_vanish_are_noticed() {
    let big = "x".repeat(100_000);
    for (what, change) in [
        ("grows", (|path: &Path| fs::write(path, "y".repeat(100_001)).unwrap()) as fn(&Path)),
        ("shrinks", |path| fs::write(path, "y").unwrap()),
        ("vanishes", |path| fs::remove_file(path).unwrap()),
        ("becomes a link", |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        }),
        ("becomes a FIFO", |path| {
            use rustix::fs::{CWD, FileType, mknodat};
            fs::remove_file(path).unwrap();
            mknodat(CWD, path, FileType::Fifo, 0o644.into(), 0).unwrap();
        }),
        ("becomes another file", |path| {
            fs::write(path.with_extension("new"), "x".repeat(100_000)).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
    ] {
        let dir = project(&[("big", &big)]);
        let tree = collect(dir.path(), &[copy(".", "/", &[])]).unwrap();
        let Node::File { content, .. } = &tree[&TreePath::new("big").unwrap()] else { panic!() };
        assert!(blob(content).read_vec_at(0, 10).is_ok(), "{what}: the twin");
        change(&dir.path().join("big"));
        let error = blob(content).read_vec_at(0, 10).unwrap_err();
        assert!(super::file::Changed::behind(&error).is_some(), "{what}: {error}");
    }
}

#[test]
fn deep_wide_and_long_names() {
    let dir = project(&[("a", "")]);
    let mut deep = dir.path().to_owned();
    for _ in 0..200 {
        deep.push("dddddddd");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("x"), "").unwrap();
    fs::write(dir.path().join("n".repeat(255)), "").unwrap();
    for n in 0..5_000 {
        fs::write(dir.path().join(format!("f{n}")), "").unwrap();
    }
    assert_eq!(collect(dir.path(), &[copy(".", "/", &[])]).unwrap().len(), 5_003);
}

#[test]
fn what_a_killed_mlbuild_left_is_not_taken() {
    let dir = project(&[("app/a", "a"), ("app/.mlbuild-x1y2.part", "half of a lock"), ("app/b.part", "b")]);
    let copies = [copy("app", "/app", &[])];
    assert_eq!(names(&collect(dir.path(), &copies).unwrap()), ["app/a", "app/b.part"]);
}
