//! Tests of `install`.

use super::super::testing::{File, demo, file, wheel_files, zip};
use super::super::{open, record};
use super::*;

fn scheme() -> Scheme {
    Scheme {
        site_packages: TreePath::new("usr/local/lib/python3.11/dist-packages").unwrap(),
        scripts: TreePath::new("usr/local/bin").unwrap(),
        prefix: TreePath::new("usr/local").unwrap(),
        executable: "/usr/bin/python3.11".to_owned(),
        python: (3, 11),
    }
}

fn try_install(archive: &Vec<u8>, name: &str, prune: Prune) -> Result<Installed, WheelError> {
    let wheel = open(name, Digest::of(archive), archive, Waivers::default())?;
    install(&wheel, archive, &scheme(), prune)
}

fn text(installed: &Installed, path: &str) -> String {
    match &installed.tree[&TreePath::new(path).unwrap()] {
        Node::File { content: Content::Bytes(bytes), .. } => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn every_file_finds_its_place() {
    let installed = try_install(&demo(), "demo-1.0-py3-none-any.whl", Prune::default()).unwrap();
    let shown: Vec<String> = installed
        .tree
        .iter()
        .map(|(path, node)| match node {
            Node::File { mode, content } => {
                let kind = match content {
                    Content::Bytes(_) => "ours",
                    Content::Stored { .. } => "stored",
                    _ => "deflated",
                };
                format!("{mode:o} {kind} {path}").replace("usr/local/lib/python3.11/dist-packages", "SITE")
            }
            other => panic!("{other:?}"),
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    755 ours usr/local/bin/launch
    755 deflated usr/local/bin/shell
    755 ours usr/local/bin/tool
    644 deflated usr/local/include/python3.11/demo/demo.h
    644 ours SITE/demo-1.0.dist-info/INSTALLER
    644 deflated SITE/demo-1.0.dist-info/METADATA
    644 ours SITE/demo-1.0.dist-info/RECORD
    644 deflated SITE/demo-1.0.dist-info/WHEEL
    644 deflated SITE/demo-1.0.dist-info/entry_points.txt
    644 deflated SITE/demo.pth
    644 ours SITE/demo/__init__.py
    644 deflated SITE/demo/bare_mode.py
    644 stored SITE/demo/data, "quoted".bin
    644 deflated SITE/demo/include/demo.h
    644 deflated SITE/demo/lib.a
    755 deflated SITE/demo/native.so
    644 deflated SITE/demo/py.pyi
    644 deflated SITE/demo/streamed.txt
    644 deflated SITE/demo/tests/test_it.py
    644 deflated SITE/demo/zażółć.py
    644 deflated SITE/extra.py
    644 deflated usr/local/share/demo/readme.txt
    "#);
    assert_eq!(text(&installed, "usr/local/bin/tool"), "#!/usr/bin/python3.11\nprint('tool')\n");
    assert!(text(&installed, "usr/local/bin/launch").contains("    sys.exit(App.run())\n"));
    assert_eq!(installed.pth.len(), 1);
    assert_eq!(installed.notes, Vec::<String>::new());
    // Every file has its row, every row its file.
    let site = "usr/local/lib/python3.11/dist-packages";
    let rows = record::parse(
        &text(&installed, &format!("{site}/demo-1.0.dist-info/RECORD")),
        99,
        &mut Waivers::default(),
    )
    .unwrap();
    let paths: BTreeSet<String> =
        installed.tree.keys().map(|path| relative(&scheme().site_packages, path)).collect();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), paths);
    assert!(paths.contains("../../../bin/launch"));
}

#[test]
fn pruning_is_counted_and_leaves_metadata() {
    let all = Prune { tests: true, headers: true, static_libraries: true, stubs: true };
    let installed = try_install(&demo(), "demo-1.0-py3-none-any.whl", all).unwrap();
    assert_eq!(installed.pruned, Pruned { files: 5, bytes: 12 + 16 + 7 + 21 + 12 });
    assert!(!installed.tree.keys().any(|path| path.as_str().ends_with(".h")));
    let site = "usr/local/lib/python3.11/dist-packages";
    assert!(!text(&installed, &format!("{site}/demo-1.0.dist-info/RECORD")).contains("test_it"));
}

#[test]
fn installing_what_uv_installs() {
    let archive = demo();
    let ours = try_install(&archive, "demo-1.0-py3-none-any.whl", Prune::default()).unwrap();

    let root = tempfile::tempdir().unwrap();
    let unpacked = root.path().join("unpacked");
    let wheel =
        open("demo-1.0-py3-none-any.whl", Digest::of(&archive), &archive, Waivers::default()).unwrap();
    for member in &wheel.members {
        let path = unpacked.join(member.path.as_str());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, inflate(member, &archive, 1 << 20).unwrap()).unwrap();
    }
    let at = |path: &TreePath| root.path().join(path.as_str());
    let layout = uv_install_wheel::Layout {
        sys_executable: scheme().executable.into(),
        python_version: (3, 11),
        os_name: "posix".to_owned(),
        scheme: uv_pypi_types::Scheme {
            purelib: at(&scheme().site_packages),
            platlib: at(&scheme().site_packages),
            scripts: at(&scheme().scripts),
            data: at(&scheme().prefix),
            include: root.path().join("usr/local/include/python3.11"),
        },
    };
    std::fs::create_dir_all(&layout.scheme.purelib).unwrap();
    uv_install_wheel::install_wheel::<(), ()>(
        &layout,
        false,
        &unpacked,
        &"demo-1.0-py3-none-any.whl".parse().unwrap(),
        None,
        None,
        None,
        Some(INSTALLER),
        true,
        uv_install_wheel::LinkMode::Copy,
        &uv_install_wheel::InstallState::default(),
    )
    .unwrap();
    // Two known differences: uv leaves the row of a script that an entry point replaces, and it writes REQUESTED.
    let record_path = "usr/local/lib/python3.11/dist-packages/demo-1.0.dist-info/RECORD";
    let theirs = std::fs::read_to_string(root.path().join(record_path)).unwrap();
    let mut theirs = record::parse(&theirs, 9, &mut Waivers::default()).unwrap();
    assert!(theirs.remove("demo-1.0.data/scripts/launch").is_some());
    assert!(theirs.remove("demo-1.0.dist-info/REQUESTED").is_some());
    assert_eq!(record::parse(&text(&ours, record_path), 9, &mut Waivers::default()).unwrap(), theirs);
    for path in ours.tree.keys() {
        let on_disk = std::fs::read(at(path)).unwrap();
        if path.as_str() != record_path {
            let row = ours.rows[&relative(&scheme().site_packages, path)];
            assert_eq!(row, Row::of(&on_disk), "{path}");
        }
    }
}

#[test]
fn refusals() {
    let wheel = |change: &dyn Fn(&mut Vec<File>)| {
        let mut files = vec![file("m.py", "x = 1\n")];
        change(&mut files);
        zip(&wheel_files("m", "1.0", &files))
    };
    let replaced = |from: &str, to: &str| {
        let mut files = wheel_files("m", "1.0", &[file("m.py", "x = 1\n")]);
        for file in &mut files {
            let text = String::from_utf8(file.bytes.clone()).unwrap();
            file.bytes = text.replace(from, to).into_bytes();
        }
        zip(&files)
    };
    let entry = |path: &str| wheel(&|files| files.push(file(path, "#!python\n")));
    for (archive, rule) in [
        (entry("n-1.0.dist-info/X"), "m-1.0.dist-info and n-1.0.dist-info, expected exactly one"),
        (zip(&[file("m.py", "")]), "the wheel has none, expected exactly one `.dist-info` directory"),
        (zip(&[file("m-1.0.dist-info/RECORD", "")]), "the wheel has no m-1.0.dist-info/WHEEL"),
        (replaced("Name: m", "Name: n"), "METADATA says name `n`, the file name says `m`"),
        (
            replaced("Version: 1.0\n", "Version: 1.1\n"),
            "METADATA says version `1.1`, the file name says `1.0`",
        ),
        (replaced("Wheel-Version: 1.0", "Wheel-Version: 2.0"), "unsupported Wheel-Version"),
        (replaced("m.py,sha256=", "n.py,sha256="), "RECORD does not list m.py"),
        (replaced(",6\n", ",7\n"), "RECORD gives m.py 7 bytes, the archive 6"),
        (replaced("m.py,sha256=", "m.py,sha1="), "only `sha256=` is accepted"),
        (entry("m-1.0.data/scripts/python3"), "script name `python3` is the interpreter's"),
        (entry("m-1.0.data/data/bin/python"), "script name `python` is the interpreter's"),
        (entry("m-1.0.data/scripts/a/b"), "a directory among the scripts"),
        (entry("m-1.0.data/other/b"), "an unknown kind of `.data` directory"),
        (
            entry("m-1.0.data/purelib/m.py"),
            "would be installed as usr/local/lib/python3.11/dist-packages/m.py",
        ),
        (
            entry("m-1.0.data/purelib/m.py/x"),
            "would be installed as usr/local/lib/python3.11/dist-packages/m.py",
        ),
        (
            wheel(&|files| {
                files.push(file("m-1.0.dist-info/entry_points.txt", "[console_scripts]\npython = m:x\n"));
            }),
            "entry_points.txt: script name `python` is the interpreter's",
        ),
        (
            wheel(&|files| {
                files.push(file("m-1.0.data/scripts/s", "#!python\nlie"));
                files[1].crc32 = Some(1);
            }),
            "cannot read member m-1.0.data/scripts/s",
        ),
        (
            wheel(&|files| {
                files.push(file("empty.py", ""));
                files[1].smuggled = b"not empty".to_vec();
            }),
            "cannot read member empty.py",
        ),
    ] {
        let error =
            try_install(&archive, "m-1.0-py3-none-any.whl", Prune::default()).unwrap_err().to_string();
        assert!(error.contains(rule), "expected {rule:?}, got {error:?}");
    }
    assert!(try_install(&wheel(&|_| {}), "m-1.0-py3-none-any.whl", Prune::default()).is_ok());
    // What is made here is bounded, however small the wheel.
    let commands = |count: usize| {
        let text: String = (0..count).map(|at| format!("s{at} = m:x\n")).collect();
        file("m-1.0.dist-info/entry_points.txt", format!("[console_scripts]\n{text}"))
    };
    let script = |name: &str| {
        let text = format!("#!python\n{}", "pass\n".repeat(3_200_000));
        File { stored: true, ..file(&format!("m-1.0.data/scripts/{name}"), text) }
    };
    for (more, good) in [
        (vec![commands(10_000)], true),
        (vec![commands(10_001)], false),
        (["a", "b", "c", "d"].map(script).into(), true),
        (["a", "b", "c", "d", "e"].map(script).into(), false),
    ] {
        let archive = zip(&wheel_files("m", "1.0", &more));
        let installed = try_install(&archive, "m-1.0-py3-none-any.whl", Prune::default());
        match installed {
            Ok(_) => assert!(good),
            Err(error) => assert!(!good && error.to_string().contains("more than "), "{error}"),
        }
    }
    let long = Scheme { executable: format!("/{}", "p".repeat(124)), ..scheme() };
    let archive = wheel(&|_| {});
    let opened = open("m-1.0-py3-none-any.whl", Digest::of(&archive), &archive, Waivers::default()).unwrap();
    let error = install(&opened, &archive, &long, Prune::default()).unwrap_err();
    assert!(error.to_string().contains("does not fit a script's first line"));
}
