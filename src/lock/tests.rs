//! The text's form, the round trip, and every rule of the reader by an input that breaks it.

use proptest::prelude::*;

use super::fixtures::{broken_rules, deb, edge, lock, texts, wheel};
use super::model::{Inputs, Lock, PackageLock};
use super::*;
use crate::digest::Digest;
use crate::oci::Platform::{LinuxAmd64, LinuxArm64};
use crate::spec::model::{PythonProvider, WheelException, WheelRule};

const TEXT: &str = "\
# Made by `mlbuild lock` from mlbuild.toml. Keep it under version control; do not edit it.
version = 1
layer-format = \"g1\"

[inputs]
platforms = [\"linux/amd64\", \"linux/arm64\"]
base = \"debian:bookworm\"
snapshot = \"20261101T000000Z\"
debian-packages = [\"libgomp1\"]
python = \"3.12\"
python-provider = \"standalone\"
requirements = [\"pandas>=2\", \"ruamel-yaml; platform_machine == \\\"x86_64\\\"\"]
constraints = [\"numpy<3\"]
indexes = [\"corp https://index.example/simple explicit pandas\"]
prefer = [\"pandas\", \"numpy\"]
prune = [\"tests\"]
locks = [
  { path = \"uv.lock\", hashes = { sha256 = \"HASH\" }, extras = [\"gpu\"] },
]

[python]
provider = \"standalone\"
version = \"3.12.8\"
build = \"20261101\"
executable = \"/opt/python/bin/python3.12\"
site-packages = \"/opt/python/lib/python3.12/site-packages\"
scripts = \"/opt/python/bin\"
prefix = \"/opt/python\"
archives = [
";

const PACKAGE: &str = "
[[package]]
name = \"pandas\"
version = \"2.3.3\"
index = \"https://index.example/simple\"
requested = true
dependencies = [
  { name = \"numpy\", version = \"2.1.0\" },
  { name = \"ruamel-yaml\", version = \"0.18\", platforms = [\"linux/amd64\"] },
]
wheels = [
  { name = \"pandas-2.3.3-cp312-cp312-manylinux_2_17_aarch64.whl\", url = ";

#[test]
fn text_is_canonical() {
    let text = write(&lock());
    assert!(text.starts_with(&TEXT.replace("HASH", &Digest::of("uv.lock").hex())), "{text}");
    assert!(text.contains(PACKAGE), "{text}");
    // A change of these bytes changes every lock in the world: bump `VERSION` rather than this digest.
    let golden = "sha256:20cd5e98a5364a49e6a6d7ed602c2f1557286c1ff8132b342c1d968ba399932c";
    assert_eq!(Digest::of(&text).to_string(), golden, "{text}");
}

#[test]
fn reading_undoes_writing() {
    let lock = lock();
    let text = write(&lock);
    let again = read(&text).unwrap();
    assert_eq!(again, lock);
    assert_eq!(write(&again), text);
    let small = Lock {
        inputs: Inputs { platforms: vec![LinuxAmd64], base: "scratch".into(), ..Inputs::default() },
        suites: Vec::new(),
        bases: Vec::new(),
        python: None,
        debs: Vec::new(),
        packages: Vec::new(),
        seals: Vec::new(),
    };
    assert_eq!(read(&write(&small)).unwrap(), small);
    // A checkout with DOS line ends is the same lock.
    assert_eq!(read(&text.replace('\n', "\r\n")).unwrap(), lock);
}

proptest! {
    #[test]
    fn any_text_survives(texts in prop::collection::btree_set("[^\\p{Cc}]{1,40}", 0..6), odd in "\\PC{1,20}\u{202e}?") {
        let mut lock = lock();
        lock.inputs.constraints = texts.into_iter().collect();
        lock.inputs.prefer = vec![odd];
        let text = write(&lock);
        prop_assert!(text.is_ascii() || text.chars().all(|char| u32::from(char) != 0x202e));
        prop_assert_eq!(read(&text).unwrap(), lock);
    }

    #[test]
    fn order_of_input_never_matters(shuffled in Just(lock()).prop_perturb(|mut lock, mut random| {
        for _ in 0..10 {
            let (a, b) = (random.random_range(0..4), random.random_range(0..4));
            lock.debs.swap(a, b);
            lock.packages.swap(a % 3, b % 3);
            lock.packages[a % 3].wheels.reverse();
            lock.packages[b % 3].dependencies.reverse();
            lock.inputs.platforms.reverse();
        }
        lock
    })) {
        let mut shuffled = shuffled;
        shuffled.normalise();
        prop_assert_eq!(shuffled, lock());
    }

    #[test]
    fn no_text_panics(at in 0usize..4000, with in "\\PC{0,6}") {
        let text = write(&lock());
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let _ = read(&text[..at]);
        let _ = read(&format!("{}{with}{}", &text[..at], &text[at..]));
    }
}

#[test]
fn texts_of_another_form_are_refused() {
    let text = write(&lock());
    for (text, message) in [
        (
            text.replace("version = 1\n", "version = 2\n"),
            "the lock has version 2, and this mlbuild knows versions up to 1: use a newer mlbuild",
        ),
        (text.replace("version = 1\n", "version = 0\n"), "the lock has version 0, which never existed"),
        (
            text.replacen("version = 1\n", "", 1),
            "the lock does not say its version: `version = 1` is expected at its head",
        ),
        (
            text.replacen("\"g1\"", "\"g2\"", 1),
            "the lock asks for layer format `g2`, and this mlbuild makes `g1`: use the mlbuild that locked it, or lock again",
        ),
        (
            text.replacen("[inputs]", "<<<<<<< HEAD\n[inputs]", 1),
            "the lock has merge conflict markers (line 5): take either side, then run `mlbuild lock`, which completes it",
        ),
        (
            text.replacen("base = ", "bass = ", 1),
            "the lock is not in the form of version 1 (line 7): unknown field `bass`, expected one of",
        ),
        (text.replacen("base = \"", "base = ", 1), "the lock is not valid TOML (line 7):"),
        (text.replacen("size = 1234", "size = -1", 1), "the lock is not in the form of version 1"),
        (text.replacen("requested = true", "requested = 1", 1), "the lock is not in the form of version 1"),
        (
            text.replacen("\"linux/amd64\"", "\"linux/riscv64\"", 1),
            "the lock is not in the form of version 1 (line 6): unknown variant `linux/riscv64`",
        ),
        (
            text.replacen("hashes = { ", "hashes = { md5 = \"0\", ", 1),
            "the lock is not in the form of version 1",
        ),
        (
            text.replacen(&Digest::of("libc6linux/amd64").hex(), "abc", 1),
            "the lock breaks its own rules:\n  deb `libc6` has a SHA-256 that is not 64",
        ),
        (
            text.replacen(&Digest::of("InRelease").hex(), &Digest::of("InRelease").hex().to_uppercase(), 1),
            "the lock breaks its own rules:\n  suite `bookworm` has a SHA-256",
        ),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}\n  expected: {message}");
    }
    assert!(matches!(read(&"#".repeat(wire::MAX_LEN + 1)), Err(LockError::TooLong { .. })));
}

/// What the reader says about the fixture once `change` has been at it.
fn broken(change: impl FnOnce(&mut Lock)) -> Vec<String> {
    let mut lock = lock();
    change(&mut lock);
    broken_rules(&lock)
}

#[test]
fn broken_rules_are_named() {
    type Change = fn(&mut Lock);
    let cases: &[(Change, &str)] = &[
        (|l| l.inputs.platforms.clear(), "`inputs.platforms` is empty"),
        (
            |l| l.inputs.platforms.reverse(),
            "`inputs.platforms` is not sorted: `linux/amd64` comes after `linux/arm64`",
        ),
        (
            |l| l.inputs.base = "debian:sid".into(),
            "`inputs.base` `debian:sid` is none of `debian:bookworm`, `debian:trixie`, `oci:` and a reference, `scratch`",
        ),
        (|l| l.inputs.base = "scratch".into(), "base `scratch` has Debian packages or suites"),
        (
            |l| l.inputs.requirements.push("a".into()),
            "`inputs.requirements` is not sorted: `a` comes after `ruamel-yaml; platform_machine == \"x86_64\"`",
        ),
        (|l| l.inputs.prune.push("tests".into()), "`inputs.prune` names `tests` twice"),
        (
            |l| l.inputs.indexes.push("x https://user:pw@index.example/".into()),
            "`inputs.indexes` holds a URL with credentials",
        ),
        (
            |l| l.inputs.prefer.push("a\u{1b}[0m".into()),
            "`inputs.prefer` holds an empty text or one with control characters",
        ),
        (
            |l| l.inputs.python = None,
            "`inputs.python` and the table `python` are not both there or both absent",
        ),
        (|l| l.suites.push(l.suites[0].clone()), "the list of suites names `bookworm` of `debian` twice"),
        (
            |l| l.suites[0].archive = "ubuntu".into(),
            "suite `bookworm` is of another archive than `debian`, `debian-security`",
        ),
        (
            |l| l.suites[0].signed_by = texts(&["me"]),
            "suite `bookworm` is signed by `me`, which is no upper-case fingerprint",
        ),
        (
            |l| l.python.as_mut().unwrap().prefix = "/opt/../etc".into(),
            "`python.prefix`: path `/opt/../etc` has a `.` or `..` part",
        ),
        (
            |l| l.python.as_mut().unwrap().scripts = "bin".into(),
            "`python.scripts`: path `bin` is not absolute",
        ),
        (|l| l.python.as_mut().unwrap().version = "three".into(), "`python` has a version that is none"),
        (
            |l| l.python.as_mut().unwrap().provider = PythonProvider::Debian,
            "`python` is Debian's and has archives or a build",
        ),
        (
            |l| l.python.as_mut().unwrap().archives.truncate(1),
            "`python` has not one archive for each platform",
        ),
        (
            |l| l.python.as_mut().unwrap().archives[0].name = "../x".into(),
            "Python archive `../x` has a name that is no plain file name",
        ),
        (
            |l| l.debs.swap(0, 1),
            "the list of debs is not sorted: `libc6` for linux/amd64 comes after `libc6` for linux/arm64",
        ),
        (
            |l| l.debs.insert(1, deb("libc6", LinuxAmd64, &[])),
            "the list of debs names `libc6` for linux/amd64 twice",
        ),
        (|l| l.debs[0].name = "Lib".into(), "deb `Lib` has a name that is no package name of Debian"),
        (|l| l.debs[0].version = "v1".into(), "deb `libc6` has version `v1`, which is none of Debian's"),
        (
            |l| l.debs[0].architecture = "arm64".into(),
            "deb `libc6` is of architecture `arm64` for linux/amd64",
        ),
        (
            |l| l.debs[0].archive = "debian-security".into(),
            "deb `libc6` is of archive `debian-security`, of which no suite is locked",
        ),
        (
            |l| l.debs[0].filename = "/etc/a.deb".into(),
            "deb `libc6` has file name `/etc/a.deb`, which is no path below an archive's root",
        ),
        (
            |l| l.debs[0].filename = "pool/../../a.deb".into(),
            "deb `libc6` has file name `pool/../../a.deb`, which is no path below an archive's root",
        ),
        (|l| l.debs[0].size = 0, "deb `libc6` has a size of 0 bytes"),
        (|l| l.debs[0].size = 1 << 50, "deb `libc6` has a size of 1125899906842624 bytes"),
        (
            |l| l.debs[2].depends = texts(&["libm"]),
            "deb `libgomp1` depends on `libm`, which is not locked for linux/amd64",
        ),
        (
            |l| l.packages.swap(0, 1),
            "the list of packages is not sorted: `numpy` 2.1.0 comes after `pandas` 2.3.3",
        ),
        (|l| l.packages.insert(1, l.packages[0].clone()), "the list of packages names `numpy` 2.1.0 twice"),
        (|l| l.packages[1].name = "Pandas".into(), "package `Pandas` has a name that is not normalised"),
        (|l| l.packages[1].version = "2/3".into(), "package `pandas` has a version that is none"),
        (|l| l.packages[1].wheels.clear(), "package `pandas` has no wheel"),
        (
            |l| l.packages[1].wheels.reverse(),
            "package `pandas` is not sorted: wheel `pandas-2.3.3-cp312-cp312-manylinux_2_17_aarch64.whl` comes after wheel `pandas-2.3.3-cp312-cp312-manylinux_2_17_x86_64.whl`",
        ),
        (
            |l| l.packages[1].wheels[0].platforms = vec![LinuxAmd64],
            "package `pandas` has more than one wheel for linux/amd64",
        ),
        (
            |l| l.packages[1].wheels[0].platforms.clear(),
            "wheel `pandas-2.3.3-cp312-cp312-manylinux_2_17_aarch64.whl` is for no platform",
        ),
        (
            |l| l.packages[2].wheels[0].name = "a/b.whl".into(),
            "wheel `a/b.whl` has a name that is no plain file name",
        ),
        (
            |l| l.packages[2].wheels[0].name = "numpy-0.18-py3-none-any.whl".into(),
            "wheel `numpy-0.18-py3-none-any.whl` is no wheel of `ruamel-yaml`",
        ),
        (
            |l| l.packages[2].wheels[0].url = "ftp://files.example/a".into(),
            "wheel `ruamel.yaml-0.18-1-py3-none-any.whl` has a URL of scheme `ftp`: only http, https and file are known",
        ),
        (
            |l| l.packages[2].wheels[0].url = "https://me@files.example/a".into(),
            "wheel `ruamel.yaml-0.18-1-py3-none-any.whl` has a URL with credentials",
        ),
        (
            |l| l.packages[2].wheels[0].url = "wheels/a.whl".into(),
            "wheel `ruamel.yaml-0.18-1-py3-none-any.whl` has a URL that is none",
        ),
        (
            |l| l.packages[2].index = Some("https://a:b@index.example/".into()),
            "package `ruamel-yaml` has a URL with credentials",
        ),
        (
            |l| l.packages[1].dependencies.push(edge("six", "1", &[])),
            "package `pandas` depends on `six` 1, which is not in the lock",
        ),
        (
            |l| l.packages[1].dependencies[1].platforms.clear(),
            "package `pandas` depends on `ruamel-yaml` 0.18, and one of the two has no wheel for linux/arm64",
        ),
    ];
    for (change, message) in cases {
        let found = broken(change);
        assert!(found.iter().any(|violation| violation == message), "{found:#?}\n  expected: {message}");
    }
    assert_eq!(broken(|lock| lock.debs.iter_mut().for_each(|deb| deb.size = 0)).len(), 4, "all of them");
}

#[test]
fn platforms_may_have_other_versions_of_a_package() {
    let mut lock = lock();
    let old = PackageLock {
        version: "2.0.0".into(),
        wheels: vec![wheel("numpy-2.0.0-py3-none-any.whl", &[LinuxArm64])],
        ..lock.packages[0].clone()
    };
    lock.packages[0].wheels.remove(0);
    lock.packages.insert(0, old);
    lock.packages[2].dependencies[0].platforms = vec![LinuxAmd64];
    lock.packages[2].dependencies.insert(0, edge("numpy", "2.0.0", &[LinuxArm64]));
    assert_eq!(read(&write(&lock)).unwrap(), lock);
}

#[test]
fn drift_reads_as_sentences() {
    let then = lock().inputs;
    assert_eq!(drift(&then, &then), []);
    let mut reordered = then.clone();
    reordered.platforms.reverse();
    reordered.requirements.reverse();
    assert_eq!(drift(&then, &reordered), [], "an order without meaning");
    let mut now = then.clone();
    now.platforms.pop();
    now.snapshot = None;
    now.python = Some("3.13".into());
    now.python_provider = Some(PythonProvider::Debian);
    now.requirements = texts(&["pandas>=2.3", "scipy"]);
    now.indexes.insert(0, "https://other.example/".into());
    now.prefer.reverse();
    now.locks[0].sha256 = Digest::of("edited");
    now.locks[0].extras.clear();
    let lines: Vec<_> = drift(&then, &now).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "platform `linux/arm64` is in the lock but no longer in the spec",
            "snapshot: lock has 20261101T000000Z, spec asks nothing",
            "python: lock has 3.12, spec asks 3.13",
            "python provider: lock has standalone, spec asks debian",
            "dependency `pandas`: lock has `pandas>=2`, spec asks `pandas>=2.3`",
            "dependency `scipy` is in the spec but not in the lock",
            "dependency `ruamel-yaml; platform_machine == \"x86_64\"` is in the lock but no longer in the spec",
            "index `https://other.example/` is in the spec but not in the lock",
            "preferred packages: their order is another one in the spec",
            "`uv.lock` has changed since it was locked",
            "extras of `uv.lock`: lock has `gpu`, spec asks nothing",
        ]
    );
}

/// A lock in which one wheel may break two rules.
fn with_exception() -> (Lock, Digest) {
    let mut lock = lock();
    let sha256 = lock.packages[0].wheels[1].sha256;
    let allow = vec![WheelRule::RecordUnlisted, WheelRule::DuplicateMember];
    lock.inputs.wheels.push(WheelException { sha256, allow });
    lock.normalise();
    (lock, sha256)
}

#[test]
fn exceptions_for_wheels_are_seen_wherever_a_person_looks() {
    let (lock, sha256) = with_exception();
    let text = write(&lock);
    let line = format!(
        "wheels = [\n  {{ hashes = {{ sha256 = \"{}\" }}, allow = [\"duplicate-member\", \"record-unlisted\"] }},\n]\n",
        sha256.hex()
    );
    assert!(text.contains(&line), "{text}");
    assert_eq!(read(&text).unwrap(), lock);
    let without = super::fixtures::lock();
    let asked = format!("exception `{sha256}: duplicate-member, record-unlisted`");
    let name = &lock.packages[0].wheels[1].name;
    assert_eq!(
        diff(&without, &lock).to_string(),
        format!("* exception `{name} {sha256}: duplicate-member, record-unlisted` is asked for")
    );
    assert_eq!(
        drift(&lock.inputs, &without.inputs)[0].to_string(),
        format!("{asked} is in the lock but no longer in the spec")
    );
}

#[test]
fn exceptions_keep_rules_too() {
    type Change = fn(&mut Vec<WheelException>);
    let cases: [(Change, &str); 4] = [
        (|wheels| wheels[0].allow.clear(), "allows nothing"),
        (|wheels| wheels[0].allow.reverse(), "is not sorted"),
        (|wheels| wheels[0].allow.push(WheelRule::RecordUnlisted), "names `record-unlisted` twice"),
        (|wheels| wheels.push(wheels[0].clone()), "`inputs.wheels` names sha256:"),
    ];
    for (change, rule) in cases {
        let (mut lock, _) = with_exception();
        change(&mut lock.inputs.wheels);
        let error = read(&write(&lock)).unwrap_err().to_string();
        assert!(error.contains(rule), "no {rule:?} in {error}");
    }
    let text = write(&with_exception().0).replace("duplicate-member", "symlinks");
    let error = read(&text).unwrap_err().to_string();
    assert!(error.contains("unknown variant `symlinks`"), "{error}");
}

#[test]
fn diff_names_what_changed_and_shouts_where_bytes_did() {
    let old = lock();
    assert!(diff(&old, &old).is_empty());
    let mut new = old.clone();
    new.inputs.requirements.remove(1);
    new.suites[0].date = "2026-11-02T00:00:00Z".into();
    new.python.as_mut().unwrap().version = "3.12.9".into();
    new.debs.retain(|deb| deb.name != "libgomp1");
    new.debs[0].sha256 = Digest::of("tampered");
    new.packages.pop();
    new.packages[0].version = "2.2.0".into();
    new.packages[1].wheels[0].name = "pandas-2.3.3-cp312-cp312-manylinux_2_28_aarch64.whl".into();
    new.packages[1].wheels[1].sha256 = Digest::of("other");
    let diff = diff(&old, &new);
    let (a, b) = (old.debs[0].sha256, old.packages[1].wheels[1].sha256);
    let lines = diff.to_string();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "* dependency `ruamel-yaml; platform_machine == \"x86_64\"` is no longer asked for",
            "~ suite bookworm 2026-11-01T00:00:00Z -> 2026-11-02T00:00:00Z",
            "~ python 3.12.8 -> 3.12.9",
            &format!(
                "! deb libc6 1:2.3-4+deb12u1: OTHER BYTES under the same version and name `libc6_2.3-4+deb12u1_amd64.deb`: {a} -> {} (linux/amd64)",
                Digest::of("tampered")
            ),
            "- deb libgomp1 1:2.3-4+deb12u1",
            "~ numpy 2.1.0 -> 2.2.0",
            &format!(
                "! pandas 2.3.3: OTHER BYTES under the same version and name `pandas-2.3.3-cp312-cp312-manylinux_2_17_x86_64.whl`: {b} -> {} (linux/amd64)",
                Digest::of("other")
            ),
            "~ pandas 2.3.3: pandas-2.3.3-cp312-cp312-manylinux_2_17_aarch64.whl -> pandas-2.3.3-cp312-cp312-manylinux_2_28_aarch64.whl (linux/arm64)",
            "- ruamel-yaml 0.18 (linux/amd64)",
        ]
    );
    assert_eq!(diff.replaced().count(), 2);
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["changes"][2]["change"], "replaced");
    assert_eq!(json["changes"][2]["what"], "deb");
}

/// `MLBUILD_UPDATE_SCHEMAS=1` writes it anew.
#[test]
fn schema_is_the_one_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/lock.schema.json");
    let schema = wire::json_schema();
    #[expect(clippy::disallowed_methods, reason = "the person who runs the test asks for new files")]
    let update = std::env::var_os("MLBUILD_UPDATE_SCHEMAS").is_some();
    if update {
        std::fs::write(path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), schema, "run with MLBUILD_UPDATE_SCHEMAS=1");
}

/// A standalone interpreter says itself where below its place it installs to: Debian's build of Python adds `/local`.
#[test]
fn an_interpreter_may_install_below_its_place() {
    let text = write(&lock());
    let local = text
        .replace(
            "site-packages = \"/opt/python/lib/python3.12/site",
            "site-packages = \"/opt/python/local/lib/python3.12/dist",
        )
        .replace("scripts = \"/opt/python/", "scripts = \"/opt/python/local/")
        .replace("prefix = \"/opt/python\"", "prefix = \"/opt/python/local\"");
    assert!(local != text && read(&local).is_ok(), "{:?}", read(&local).err());
    for (from, to) in
        [("python/local\"", "pythom/local\""), ("/opt/python/bin", "/opt/pythom/bin"), ("dist-", "dost-")]
    {
        assert!(read(&local.replacen(from, to, 1)).is_err(), "{from}");
    }
}
