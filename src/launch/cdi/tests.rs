use proptest::prelude::*;

use super::*;
use crate::launch::{CdiFile, Step};

const NVIDIA: &str = include_str!("../../../fixtures/cdi/nvidia.yaml");
const AMD: &str = include_str!("../../../fixtures/cdi/amd.json");
const EVERYTHING: &str = include_str!("../../../fixtures/cdi/everything.json");

fn file(path: &str, text: &str) -> CdiFile {
    CdiFile { path: path.into(), text: text.to_owned() }
}

/// Reads a JSON text and the same as YAML, which must not differ.
fn read(text: &str) -> Result<Specification, CdiError> {
    let json = Specification::read(&file("/etc/cdi/v.json", text));
    // JSON is YAML.
    let yaml = Specification::read(&file("/etc/cdi/v.yaml", text));
    match (&json, &yaml) {
        (Ok(json), Ok(yaml)) => assert_eq!(json, yaml),
        (Err(CdiError::Syntax { .. }), Err(CdiError::Syntax { .. })) => {}
        (Err(json), Err(yaml)) => {
            assert_eq!(json.to_string().replace("v.json", "v.yaml"), yaml.to_string());
        }
        _ => panic!("JSON says {json:?}, YAML says {yaml:?}"),
    }
    json
}

/// A file whose one device has these edits.
fn with_edits(version: &str, edits: &str) -> String {
    let head = format!(r#""cdiVersion": "{version}", "kind": "vendor.example/dev""#);
    format!(r#"{{{head}, "devices": [{{"name": "d", "containerEdits": {edits}}}]}}"#)
}

/// A file with this in place of the head, and one valid device.
fn with_head(head: &str) -> String {
    format!(r#"{{{head}, "devices": [{{"name": "d", "containerEdits": {{"env": ["A=b"]}}}}]}}"#)
}

#[test]
fn files_of_the_vendors_are_valid() {
    for (name, text, devices) in
        [("nvidia.yaml", NVIDIA, 4), ("amd.json", AMD, 3), ("everything.json", EVERYTHING, 2)]
    {
        let specification = Specification::read(&file(name, text)).unwrap();
        assert_eq!(specification.devices.len(), devices, "{name}");
    }
    read(EVERYTHING).unwrap();
    assert_eq!(read(AMD).unwrap().devices[0].container_edits.device_nodes[2].gid, Some(109));
}

#[test]
fn valid_files() {
    for text in [
        with_head(r#""cdiVersion": "0.3.0", "kind": "v/c""#),
        with_head(r#""cdiVersion": "v1.1.0", "kind": "v.e-f_g.example/Class-1_b""#),
        with_head(r#""cdiVersion": "0.6.0", "kind": "v.example/a.b""#),
        with_head(r#""cdiVersion": "0.6.0", "kind": "v/c", "annotations": {"a.example/B_c": "", "x": "y"}"#),
        with_head(r#""cdiVersion": "0.3.0", "kind": "v/c", "annotations": null, "containerEdits": null"#),
        with_edits("0.3.0", r#"{"deviceNodes": [{"path": "/dev/x", "type": ""}], "mounts": null}"#),
        with_edits("0.3.0", r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": ""}]}"#),
        with_edits(
            "0.3.0",
            r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "", "major": 1, "minor": -1}]}"#,
        ),
        with_edits("0.3.0", r#"{"env": ["A==", "B="]}"#),
        with_edits("0.7.0", r#"{"additionalGIDs": [1]}"#),
        with_edits("0.7.0", r#"{"intelRdt": {}}"#),
        with_edits("1.1.0", r#"{"netDevices": [{"hostInterfaceName": "a", "name": "a"}]}"#),
    ] {
        if let Err(error) = read(&text) {
            panic!("{text}: {error}");
        }
    }
}

#[test]
fn invalid_files_say_which_field() {
    let long = "x".repeat(64);
    let mut shown = Vec::new();
    for text in [
        with_head(r#""kind": "v/c""#),
        with_head(r#""cdiVersion": "1.1.0""#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "v/c", "container-runtime": ["podman"]"#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "v/c", "kind": "v/d""#),
        with_head(r#""cdiVersion": "1.2.0", "kind": "v/c""#),
        with_head(r#""cdiVersion": "0.2.0", "kind": "v/c""#),
        with_head(r#""cdiVersion": "1", "kind": "v/c""#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "vendor""#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "/c""#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "v/""#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "v/c/d""#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "0v/c""#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "v-/c""#),
        with_head(&format!(r#""cdiVersion": "1.1.0", "kind": "v/{long}""#)),
        with_head(r#""cdiVersion": "0.5.0", "kind": "v/a.b""#),
        with_head(r#""cdiVersion": "0.5.0", "kind": "v/c", "annotations": {"a": "b"}"#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "v/c", "annotations": {"a b": "c"}"#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "v/c", "annotations": {"a/b/c": "d"}"#),
        with_head(r#""cdiVersion": "1.1.0", "kind": "v/c", "containerEdits": {"env": ["=a"]}"#),
        r#"{"cdiVersion": "1.1.0", "kind": "v/c", "devices": []}"#.to_owned(),
        r#"{"cdiVersion": "1.1.0", "kind": "v/c"}"#.to_owned(),
        r#"{"cdiVersion": "1.1.0", "kind": "v/c", "devices": [{"name": "a"}]}"#.to_owned(),
        r#"{"cdiVersion": "1.1.0", "kind": "v/c", "devices": [{"containerEdits": {"env": ["A=b"]}}]}"#.to_owned(),
        r#"{"cdiVersion": "1.1.0", "kind": "v/c", "devices": [{"name": "-a", "containerEdits": {"env": ["A=b"]}}]}"#
            .to_owned(),
        r#"{"cdiVersion": "1.1.0", "kind": "v/c", "devices": [{"name": "", "containerEdits": {"env": ["A=b"]}}]}"#
            .to_owned(),
        r#"{"cdiVersion": "0.4.0", "kind": "v/c", "devices": [{"name": "0", "containerEdits": {"env": ["A=b"]}}]}"#
            .to_owned(),
        r#"{"cdiVersion": "1.1.0", "kind": "v/c", "devices": [{"name": "a", "containerEdits": {"env": ["A=b"]}},
            {"name": "a", "containerEdits": {"env": ["A=b"]}}]}"#
            .to_owned(),
        with_edits("1.1.0", "{}"),
        with_edits("1.1.0", r#"{"env": ["A"]}"#),
        with_edits("1.1.0", r#"{"env": ["A=\u0000"]}"#),
        with_edits("1.1.0", r#"{"env": [1]}"#).replace('1', "[]"),
        with_edits("1.1.0", r#"{"devices": []}"#),
        with_edits("1.1.0", r#"{"deviceNodes": [{"path": ""}]}"#),
        with_edits("1.1.0", r#"{"deviceNodes": [{"hostPath": "/dev/x"}]}"#),
        with_edits("1.1.0", r#"{"deviceNodes": [{"path": "dev/x"}]}"#),
        with_edits("1.1.0", r#"{"deviceNodes": [{"path": "/dev/x"}, {"path": "/dev/../etc/x"}]}"#),
        with_edits("1.1.0", r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "../x"}]}"#),
        with_edits("1.1.0", r#"{"deviceNodes": [{"path": "/dev/x", "type": "d"}]}"#),
        with_edits("1.1.0", r#"{"deviceNodes": [{"path": "/dev/x", "permissions": "rx"}]}"#),
        with_edits("1.1.0", r#"{"deviceNodes": [{"path": "/dev/x", "uid": -1}]}"#),
        with_edits("0.4.0", r#"{"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/y"}]}"#),
        with_edits("1.1.0", r#"{"mounts": [{"hostPath": "/a"}]}"#),
        with_edits("1.1.0", r#"{"mounts": [{"hostPath": "/a", "containerPath": "/"}]}"#),
        with_edits("1.1.0", r#"{"mounts": [{"hostPath": "/a", "containerPath": "b"}]}"#),
        with_edits("1.1.0", r#"{"mounts": [{"hostPath": "/a/..", "containerPath": "/b"}]}"#),
        with_edits("1.1.0", r#"{"mounts": [{"hostPath": "", "containerPath": "/b", "type": "tmpfs"}]}"#),
        with_edits("1.1.0", r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "options": "ro"}]}"#),
        with_edits("0.3.0", r#"{"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]}"#),
        with_edits("1.1.0", r#"{"hooks": [{"hookName": "create", "path": "/x"}]}"#),
        with_edits("1.1.0", r#"{"hooks": [{"hookName": "prestart", "path": "x"}]}"#),
        with_edits("1.1.0", r#"{"hooks": [{"hookName": "prestart", "path": "/x", "env": ["A"]}]}"#),
        with_edits("1.1.0", r#"{"hooks": [{"hookName": "prestart", "path": "/x", "timeout": 0}]}"#),
        with_edits("0.6.0", r#"{"additionalGids": [1]}"#),
        with_edits("1.1.0", r#"{"additionalGids": [4294967296]}"#),
        with_edits("0.6.0", r#"{"intelRdt": {}}"#),
        with_edits("1.0.0", r#"{"intelRdt": {"enableMonitoring": true}}"#),
        with_edits("1.1.0", r#"{"intelRdt": {"closID": "a/b"}}"#),
        with_edits("1.0.0", r#"{"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}"#),
        with_edits("1.1.0", r#"{"netDevices": [{"hostInterfaceName": "", "name": "b"}]}"#),
        with_edits(
            "1.1.0",
            r#"{"netDevices": [{"hostInterfaceName": "a", "name": "b"}, {"hostInterfaceName": "c", "name": "b"}]}"#,
        ),
    ] {
        let error = match read(&text) {
            Err(error) => error,
            Ok(_) => panic!("valid: {text}"),
        };
        shown.push(error.to_string());
    }
    for (name, text) in
        [("/a/v.yml", "{}"), ("/a/v", "{}"), ("/a/v.json", ""), ("/a/v.json", "[]"), ("/a/v.yaml", "- a")]
    {
        shown.push(Specification::read(&file(name, text)).unwrap_err().to_string());
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn yaml_is_read_safely() {
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n\
                c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n\
                e: [*d, *d, *d, *d, *d, *d, *d, *d, *d]\n";
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [bomb, &deep, "kind: a\nkind: b\n", "%YAML 9\n---\n", "\u{0}", "a: *b", "!!binary x"] {
        let read = Specification::read(&file("/a/v.yaml", text));
        assert!(matches!(read, Err(CdiError::Syntax { .. })), "{read:?}");
    }
    // A version that YAML would take for a number stays what is written.
    let text = "cdiVersion: 0.5.0\nkind: v/c\ndevices:\n- name: 0\n  containerEdits: {env: [A=b]}\n";
    assert_eq!(Specification::read(&file("/a/v.yaml", text)).unwrap().devices[0].name, "0");
}

#[test]
fn cut_files_are_refused_without_panic() {
    for (name, text, step) in [("v.json", EVERYTHING, 1), ("v.json", AMD, 1), ("v.yaml", NVIDIA, 7)] {
        for cut in (0..text.trim_end().len()).step_by(step).filter(|cut| text.is_char_boundary(*cut)) {
            let read = Specification::read(&file(name, &text[..cut]));
            // YAML has no end: what is left may be a file of its own.
            assert!(read.is_err() || name == "v.yaml", "{name} cut at {cut}");
        }
    }
}

#[test]
fn names_of_devices() {
    for (name, good) in [
        ("vendor.com/class=device", true),
        ("v/c=0:1", true),
        ("v/c=GPU-1", true),
        ("v/c=", false),
        ("v/c", false),
        ("=d", false),
        ("/c=d", false),
        ("v=d", false),
        ("v/c=d=e", false),
        ("v/c=-d", false),
        ("v/c=d e", false),
        ("v/c/x=d", false),
    ] {
        let parsed = name.parse::<QualifiedName>();
        assert_eq!(parsed.is_ok(), good, "{name}");
        if let Ok(parsed) = parsed {
            assert_eq!(parsed.to_string(), name);
        }
    }
}

/// A file of one kind, each device with its own environment.
fn small(path: &str, kind: &str, devices: &[(&str, &str)]) -> CdiFile {
    let devices: Vec<_> = devices
        .iter()
        .map(|(name, value)| {
            format!(r#"{{"name": "{name}", "containerEdits": {{"env": ["FROM={value}"]}}}}"#)
        })
        .collect();
    file(path, &format!(r#"{{"cdiVersion": "0.5.0", "kind": "{kind}", "devices": [{}]}}"#, devices.join(",")))
}

fn from(registry: &Registry, name: &str) -> Result<String, String> {
    let found = registry.find(&name.parse().unwrap()).map_err(|error| error.to_string())?;
    Ok(found.device.container_edits.env[0].clone())
}

#[test]
fn the_later_directory_wins_and_equals_conflict() {
    let registry = Registry::new(&[
        small("/etc/cdi/a.json", "v/c", &[("x", "etc-a"), ("y", "etc-a"), ("only", "etc-a")]),
        small("/etc/cdi/b.json", "v/c", &[("y", "etc-b"), ("z", "etc-b")]),
        small("/etc/cdi/c.json", "other/c", &[("x", "other")]),
        small("/var/run/cdi/a.json", "v/c", &[("x", "run-a"), ("z", "run-a"), ("w", "run-a")]),
        small("/var/run/cdi/b.json", "v/c", &[("w", "run-b")]),
        file("/var/run/cdi/broken.json", "{"),
        small("/home/u/.config/cdi/a.json", "v/c", &[("z", "user")]),
    ]);
    for (name, expected) in [
        ("v/c=x", Ok("FROM=run-a")),
        // Two of one priority, and nothing above them.
        (
            "v/c=y",
            Err("v/c=y is described by /etc/cdi/a.json and by /etc/cdi/b.json, which are of one priority"),
        ),
        (
            "v/c=w",
            Err(
                "v/c=w is described by /var/run/cdi/a.json and by /var/run/cdi/b.json, which are of one priority",
            ),
        ),
        ("v/c=z", Ok("FROM=user")),
        ("v/c=only", Ok("FROM=etc-a")),
        ("other/c=x", Ok("FROM=other")),
        ("v/c=none", Err("no CDI file describes v/c=none")),
        ("v/d=x", Err("no CDI file describes v/d")),
    ] {
        assert_eq!(from(&registry, name), expected.map(str::to_owned).map_err(str::to_owned), "{name}");
    }
    assert_eq!(registry.broken.len(), 1);
    assert_eq!(registry.devices(&Kind::new("v", "c")), ["x", "y", "only", "z", "w"]);
    let hints = registry.find(&"v/d=x".parse().unwrap()).unwrap_err().hints();
    assert_eq!(hints[0], "they describe other/c, v/c");
    assert!(hints[1].starts_with("not used: CDI file /var/run/cdi/broken.json: "), "{hints:?}");
}

/// A conflict between files that a later directory overrules is none.
#[test]
fn a_conflict_below_does_not_matter() {
    let registry = Registry::new(&[
        small("/etc/cdi/a.json", "v/c", &[("x", "a")]),
        small("/etc/cdi/b.json", "v/c", &[("x", "b")]),
        small("/var/run/cdi/a.json", "v/c", &[("x", "run")]),
    ]);
    assert_eq!(from(&registry, "v/c=x"), Ok("FROM=run".to_owned()));
}

#[test]
fn edits_become_steps() {
    let registry = Registry::new(&[file("/etc/cdi/everything.json", EVERYTHING)]);
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
    let kind = "vendor.example/accelerator.v2";
    let first = format!("{kind}=first:0.a_b-c");
    let second = format!("{kind}=second");
    insta::assert_debug_snapshot!(Changes::of(&registry, &names(&[&first])).unwrap());
    // What a file's devices have in common is needed once; of two for one target the later counts.
    let both = Changes::of(&registry, &names(&[&first, &second])).unwrap();
    let Some(Step::Bind { source, .. }) = both.nodes.last() else { panic!("{both:?}") };
    assert_eq!(source.to_str(), Some("/dev/vendor/accel1"));
    assert_eq!(both.nodes.len(), 3);
    let value = |name: &str| {
        both.environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    };
    assert_eq!((value("DEVICE"), value("SHARED")), (Some("second"), Some("device")));
    assert_eq!(both.mounts.iter().filter(|step| format!("{step:?}").contains("vendor.conf")).count(), 1);
}

#[test]
fn hooks_are_understood_as_data() {
    let effect = |path: &str, args: &[&str]| {
        Effect::of(&Hook {
            hook_name: "createContainer".to_owned(),
            path: path.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            timeout: None,
        })
    };
    let nvidia = |args: &[&str]| effect("/usr/bin/nvidia-cdi-hook", &[&["nvidia-cdi-hook"], args].concat());
    let unknown = |why: &str| Effect::Unknown(why.to_owned());
    let link = |path: &str, to: &str| Link { path: path.to_owned(), to: to.to_owned() };
    assert_eq!(
        nvidia(&["create-symlinks", "--link", "a.so.1::/lib/a.so", "--link=../b::/lib/c/b"]),
        Effect::Links(vec![link("/lib/a.so", "a.so.1"), link("/lib/c/b", "../b")])
    );
    let old = [
        "nvidia-ctk",
        "hook",
        "update-ldcache",
        "--ldconfig-path",
        "@/sbin/ldconfig",
        "--folder",
        "/usr//lib/",
    ];
    assert_eq!(effect("/nix/store/x/bin/nvidia-ctk", &old), Effect::LinkerCache(vec!["/usr/lib".to_owned()]));
    assert_eq!(
        nvidia(&["create-soname-symlinks", "--folder", "/l"]),
        Effect::SonameLinks(vec!["/l".to_owned()])
    );
    assert_eq!(nvidia(&["enable-cuda-compat"]), Effect::Compatibility { driver: None });
    assert_eq!(
        nvidia(&["enable-cuda-compat", "--host-driver-version=570.86.15"]),
        Effect::Compatibility { driver: Some("570.86.15".to_owned()) }
    );
    assert_eq!(nvidia(&["disable-device-node-modification"]), Effect::FixedDeviceNodes);
    assert_eq!(nvidia(&["update-application-profile"]), Effect::ApplicationProfile);
    let mode = Effect::Mode { paths: vec!["/dev/dri".to_owned()], mode: 0o755 };
    assert_eq!(nvidia(&["chmod", "--mode", "755", "--path", "/dev/dri"]), mode);
    for (args, why) in [
        (
            &["create-symlinks", "--link", "a:b"][..],
            "has the link `a:b`, not of the form target::/absolute/path",
        ),
        (
            &["create-symlinks", "--link", "a::/x/../../etc/passwd"],
            "has the link `a::/x/../../etc/passwd`, not of the form target::/absolute/path",
        ),
        (
            &["create-symlinks", "--link", "a::b"],
            "has the link `a::b`, not of the form target::/absolute/path",
        ),
        (
            &["create-symlinks", "--link", "::/b"],
            "has the link `::/b`, not of the form target::/absolute/path",
        ),
        (&["create-symlinks", "--link"], "has the argument `--link`, which is not known"),
        (&["create-symlinks", "extra"], "has the argument `extra`, which is not known"),
        (&["update-ldcache", "--folder", "lib"], "has a --folder that is not an absolute path: `lib`"),
        (&["update-ldcache", "--folder", "/a/../b"], "has a --folder that has a `..` part: `/a/../b`"),
        (&["update-ldcache", "--verbose=1"], "has the option `--verbose`, which is not known"),
        (&["chmod", "--mode", "rwx", "--path", "/a"], "has the mode `rwx`, which is no octal number"),
        (&["chmod", "--mode", "17777", "--path", "/a"], "has the mode `17777`, which is no octal number"),
        (&["mount-everything"], "has the command `mount-everything`, which is not known"),
        (&[], "names no command"),
    ] {
        assert_eq!(nvidia(args), unknown(why));
    }
    assert_eq!(effect("/bin/sh", &["nvidia-cdi-hook", "chmod"]), unknown("is not known"));
}

proptest! {
    /// Whatever the paths are: a file is refused, or every target is absolute and has no `..`.
    #[test]
    fn no_target_leaves_the_root(
        paths in proptest::collection::vec("(/|\\.\\.?|[a-z]{1,3}|\u{0}){0,6}", 3),
        link in "[a-z./]{0,8}::[a-z./]{0,8}",
    ) {
        let edits = serde_json::json!({
            "deviceNodes": [{"path": paths[0], "hostPath": paths[1]}],
            "mounts": [{"hostPath": paths[1], "containerPath": paths[2], "options": ["bind"]}],
            "hooks": [{"hookName": "createContainer", "path": "/nvidia-ctk",
                "args": ["nvidia-ctk", "create-symlinks", "--link", link, "--link", "a::/b"]}],
        });
        let registry = Registry::new(&[file("/v.json", &with_edits("1.1.0", &edits.to_string()))]);
        if let Ok(changes) = Changes::of(&registry, &["vendor.example/dev=d".parse().unwrap()]) {
            let steps = changes.nodes.iter().chain(&changes.mounts).map(|step| match step {
                Step::Bind { target, .. } | Step::Mount { target, .. } => target.as_str(),
                other => panic!("{other:?}"),
            });
            for target in steps.chain(changes.links.iter().map(|link| link.path.as_str())) {
                prop_assert!(target.len() > 1 && target.starts_with('/') && !target.ends_with('/'), "{target}");
                prop_assert!(target[1..].split('/').all(|part| !matches!(part, "" | "." | "..")), "{target}");
            }
        }
    }
}
