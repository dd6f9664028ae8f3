//! Locks that were edited, damaged or made up. The reader refuses them, or what they say differs where a later step
//! compares it: with the spec (exit status 3), or with a file whose digest is wanted (exit status 4).

use std::collections::BTreeSet;
use std::fs;

use mlbuild::digest::Digest;
use mlbuild::epoch::Epoch;
use mlbuild::lock::{self, Lock};
use mlbuild::plan::{self, LayerPlan, PlanOptions};
use mlbuild::wheel::{FileName, same_version};

use crate::support::mlbuild::{PROGRAM, Project, Run};
use crate::support::project;

/// The spec of both locks in `fixtures/locks`; `standalone` is of the second one.
fn spec(provider: &str) -> String {
    let version = if provider == "debian" { "3.11" } else { "3.12" };
    format!(
        "[image]\nname = \"registry.example/team/table\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
         [base]\ndebian = \"bookworm\"\npackages = [\"libgomp1\"]\n\
         [python]\nversion = \"{version}\"\nprovider = \"{provider}\"\ndependencies = [\"pandas==2.3.3\", \"tqdm\"]\n\
         [prune]\ntests = true\n"
    )
}

fn text(name: &str) -> String {
    fs::read_to_string(project(&format!("fixtures/locks/{name}.lock"))).unwrap()
}

/// `text` with the first `from` replaced, which must be there.
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is not in the lock");
    text.replacen(from, to, 1)
}

/// The block of the lock that begins with `head`, with the empty line behind it.
fn block<'a>(text: &'a str, head: &str) -> &'a str {
    let start = text.find(head).unwrap_or_else(|| panic!("no `{head}` in the lock"));
    let end = text[start..].find("\n\n").map_or(text.len(), |at| start + at + 2);
    &text[start..end]
}

/// The head of a deb's block; the first of several platforms is amd64.
fn deb(name: &str) -> String {
    format!("[[deb]]\nname = \"{name}\"\n")
}

fn without(text: &str, head: &str) -> String {
    with(text, block(text, head), "")
}

/// The second `sha256 = "…"` in the place of the first and the other way round.
fn swap_hashes(text: &str, first: &str, second: &str) -> String {
    let hash = |from: &str| {
        let at = text.find(from).unwrap();
        let at = at + text[at..].find("sha256 = \"").unwrap() + 10;
        text[at..at + 64].to_owned()
    };
    let (a, b) = (hash(first), hash(second));
    text.replace(&a, "SWAPPED").replace(&b, &a).replace("SWAPPED", &b)
}

/// What becomes of an edited lock.
#[derive(Clone, Copy)]
enum Fate {
    /// `lock --check` ends with 2 and says this.
    Refused(&'static str),
    /// `lock --check` ends with 3 and says this.
    OutOfDate(&'static str),
    /// It is a lock for the spec; the layer that the edit is about has another key, so that the file is compared.
    OtherLayer,
    /// It is a lock for the spec, and the image is the same.
    Same,
}

use Fate::{OtherLayer, OutOfDate, Refused, Same};

type Edit = (&'static str, fn(&str) -> String, Fate);

const EDITS: &[Edit] = &[
    ("nothing", |t| t.to_owned(), Same),
    // Digests.
    ("a digest cut", |t| with(t, "6206f47\"", "6206f4\""), Refused("64 lower-case hexadecimal")),
    (
        "a digest in capitals",
        |t| {
            with(t, "3eb1ea6d85488f488cc2a163b98ad640ef88cee4c79287cf14e361aaf6206f47", &"3EB1EA6D".repeat(8))
        },
        Refused("deb `base-files` has a SHA-256 that is not 64 lower-case hexadecimal"),
    ),
    (
        "a digest of other letters",
        |t| with(t, "sha256 = \"3eb1ea6d", "sha256 = \"3eb1ea6g"),
        Refused("64 lower-case hexadecimal"),
    ),
    ("no digest", |t| with(t, "hashes = { sha256 = ", "hashes = { # "), Refused("not valid TOML")),
    (
        "an empty list of digests",
        |t| swap(t, "hashes = {", "}, platforms", " "),
        Refused("missing field `sha256`"),
    ),
    ("an MD5", |t| with(t, "hashes = { sha256 = ", "hashes = { md5 = "), Refused("unknown field `md5`")),
    ("two wheels' digests exchanged", |t| swap_hashes(t, "name = \"tqdm-", "name = \"tzdata-"), OtherLayer),
    (
        "two debs' digests exchanged",
        |t| swap_hashes(t, "[[deb]]\nname = \"base-files\"", "[[deb]]\nname = \"base-passwd\""),
        OtherLayer,
    ),
    ("one digit of a digest", |t| with(t, "sha256 = \"3eb1", "sha256 = \"3eb2"), OtherLayer),
    // Sizes.
    (
        "a negative size",
        |t| with(t, "size = 70936", "size = -70936"),
        Refused("not in the form of version 1 (line 55)"),
    ),
    ("no bytes", |t| with(t, "size = 70936", "size = 0"), Refused("deb `base-files` has a size of 0 bytes")),
    (
        "a petabyte",
        |t| with(t, "size = 70936", "size = 1125899906842624"),
        Refused("has a size of 1125899906842624 bytes"),
    ),
    (
        "a size of 100 digits",
        |t| with(t, "size = 70936", &format!("size = {}", "9".repeat(100))),
        Refused("not in the form of version 1"),
    ),
    (
        "a size that is no number",
        |t| with(t, "size = 70936", "size = 0x"),
        Refused("not in the form of version 1"),
    ),
    (
        "a size in hexadecimal",
        |t| with(t, "size = 70936", "size = 0x11518"),
        Refused("(line 55): it was edited"),
    ),
    ("half a byte", |t| with(t, "size = 70936", "size = 70936.5"), Refused("not in the form of version 1")),
    (
        "a size in quotes",
        |t| with(t, "size = 70936", "size = \"70936\""),
        Refused("not in the form of version 1"),
    ),
    ("a wheel one byte longer", |t| with(t, "size = 80199", "size = 80200"), OtherLayer),
    // URLs.
    (
        "another scheme",
        |t| with(t, "url = \"https:", "url = \"ftp:"),
        Refused("has a URL of scheme `ftp`: only http, https and file are known"),
    ),
    (
        "a user in a URL",
        |t| with(t, "url = \"https://", "url = \"https://me@"),
        Refused("a URL with credentials"),
    ),
    (
        "a password in a URL",
        |t| with(t, "index = \"https://", "index = \"https://me:secret@"),
        Refused("package `numpy` has a URL with credentials"),
    ),
    (
        "a relative URL",
        |t| with(t, "url = \"https://files.example/", "url = \""),
        Refused("has a URL that is none"),
    ),
    (
        "a URL of 5000 bytes",
        |t| with(t, "url = \"https://", &format!("url = \"https://{}", "a".repeat(5000))),
        Refused("has a URL that is none"),
    ),
    ("a URL that turns around", |t| with(t, "files.example/", "files.example/\\u202E"), Same),
    ("another host", |t| t.replace("files.example", "mirror.example"), Same),
    // Entries.
    (
        "debs in another order",
        |t| {
            let first = block(t, "[[deb]]\nname = \"base-files\"").to_owned();
            with(
                &with(t, &first, ""),
                "[[deb]]\nname = \"libc-bin\"",
                &format!("{first}[[deb]]\nname = \"libc-bin\""),
            )
        },
        Refused("the list of debs is not sorted"),
    ),
    (
        "packages in another order",
        |t| {
            let last = block(t, "[[package]]\nname = \"tqdm\"").to_owned();
            with(
                &with(t, &last, ""),
                "[[package]]\nname = \"numpy\"",
                &format!("{last}[[package]]\nname = \"numpy\""),
            )
        },
        Refused("the list of packages is not sorted: `numpy` 2.4.6 comes after `tqdm` 4.70.1"),
    ),
    (
        "a deb twice",
        |t| {
            let first = block(t, "[[deb]]\nname = \"base-files\"");
            with(t, first, &first.repeat(2))
        },
        Refused("the list of debs names `base-files` for linux/amd64 twice"),
    ),
    (
        "a package twice",
        |t| {
            let first = block(t, "[[package]]\nname = \"tqdm\"");
            with(t, first, &first.repeat(2))
        },
        Refused("the list of packages names `tqdm` 4.70.1 twice"),
    ),
    (
        "a deb that others need is missing",
        |t| without(t, &deb("libc6")),
        Refused("depends on `libc6`, which is not locked for linux/amd64"),
    ),
    (
        "a deb that was asked for is missing",
        |t| without(t, &deb("libgomp1")),
        Refused("`libgomp1` of `inputs.debian-packages` is not locked for linux/amd64"),
    ),
    (
        "a package that others need is missing",
        |t| without(t, "[[package]]\nname = \"numpy\""),
        Refused("package `pandas` depends on `numpy` 2.4.6, which is not in the lock"),
    ),
    (
        "a package that was asked for is missing",
        |t| without(t, "[[package]]\nname = \"tqdm\""),
        Refused("`tqdm` of `inputs.requirements` is not locked for linux/amd64"),
    ),
    (
        "a wheel is for one platform less",
        |t| {
            let package = block(t, "[[package]]\nname = \"tqdm\"");
            with(t, package, &with(package, "\"linux/amd64\", \"linux/arm64\"", "\"linux/amd64\""))
        },
        Refused("`tqdm` of `inputs.requirements` is not locked for linux/arm64"),
    ),
    ("the interpreter is missing", |t| without(t, &deb("python3.11-minimal")), Refused("python3.11-minimal")),
    (
        "an unknown key",
        |t| with(t, "size = 70936", "size = 70936\nmode = 7"),
        Refused("unknown field `mode`"),
    ),
    ("an unknown table", |t| format!("{t}\n[cuda]\n"), Refused("unknown field `cuda`")),
    ("a key twice", |t| with(t, "size = 70936", "size = 70936\nsize = 70936"), Refused("duplicate key")),
    (
        "keys in another order",
        |t| {
            with(t, "size = 70936\n", "").replacen(
                "layer = \"base\"\n",
                "layer = \"base\"\nsize = 70936\n",
                1,
            )
        },
        Refused("(line 55): it was edited or damaged"),
    ),
    ("an empty line more", |t| with(t, "\n[python]", "\n\n[python]"), Refused("it was edited or damaged")),
    ("a comment", |t| with(t, "\n[python]", "\n# ours\n[python]"), Refused("it was edited or damaged")),
    (
        "dependencies made a comment",
        |t| with(t, "  { name = \"tzdata\"", "  #{ name = \"tzdata\""),
        Refused("it was edited or damaged"),
    ),
    // Values that no digest covers.
    (
        "another version of Python",
        |t| with(t, "version = \"3.11.2\"", "version = \"3.11.3\""),
        Refused("`python` has version 3.11.3, and no deb `python3.11-minimal` for linux/amd64 has it"),
    ),
    (
        "another place for wheels",
        |t| with(t, "python3.11/dist-packages", "python3.10/dist-packages"),
        Refused("is not `/usr/local/lib/python3.11/dist-packages`, as Python 3.11.2 has it"),
    ),
    (
        "another version of a package",
        |t| t.replace("version = \"4.70.1\"", "version = \"4.70.2\""),
        Refused("wheel `tqdm-4.70.1-py3-none-any.whl` is not of version 4.70.2"),
    ),
    ("another version of a deb", |t| with(t, "12.4+deb12u15", "12.4+deb12u16"), OtherLayer),
    (
        "another epoch of a deb",
        |t| with(t, "name = \"libgomp1\"\nversion = \"", "name = \"libgomp1\"\nversion = \"1:"),
        OtherLayer,
    ),
    (
        "two platforms' wheels exchanged",
        |t| {
            let package = block(t, "[[package]]\nname = \"pandas\"");
            let swapped = package
                .replace("platforms = [\"linux/arm64\"]", "X")
                .replace("platforms = [\"linux/amd64\"]", "platforms = [\"linux/arm64\"]")
                .replace('X', "platforms = [\"linux/amd64\"]");
            with(t, package, &swapped)
        },
        Refused("is not for linux/arm64"),
    ),
    // Paths.
    (
        "a wheel out of its directory",
        |t| with(t, "name = \"tqdm-", "name = \"../tqdm-"),
        Refused("has a name that is no plain file name"),
    ),
    (
        "a deb out of its archive",
        |t| with(t, "\"pool/main", "\"pool/../../main"),
        Refused("which is no path below an archive's root"),
    ),
    (
        "an absolute deb",
        |t| with(t, "\"pool/main", "\"/pool/main"),
        Refused("which is no path below an archive's root"),
    ),
    // Whose it is.
    ("another spec's lock", |_| text("standalone"), OutOfDate("python: lock has 3.12, spec asks 3.11")),
    (
        "an input less",
        |t| with(t, "prune = [\"tests\"]\n", ""),
        OutOfDate("pruned kind of file `tests` is in the spec"),
    ),
    (
        "another requirement",
        |t| with(t, "\"pandas==2.3.3\"", "\"pandas==2.3.2\""),
        OutOfDate("dependency `pandas`: lock has `pandas==2.3.2`, spec asks `pandas==2.3.3`"),
    ),
    (
        "a newer version",
        |t| with(t, "version = 1\n", "version = 2\n"),
        Refused("version 2, and this mlbuild knows versions up to 1: use a newer mlbuild"),
    ),
    (
        "a version from before the first",
        |t| with(t, "version = 1\n", "version = 0\n"),
        Refused("version 0, which never existed"),
    ),
    ("no version", |t| with(t, "version = 1\n", ""), Refused("does not say its version")),
    (
        "a version in words",
        |t| with(t, "version = 1\n", "version = \"one\"\n"),
        Refused("does not say its version"),
    ),
    ("another layer format", |t| with(t, "\"g1\"", "\"g9\""), Refused("layer format `g9`")),
    // Merges.
    (
        "a conflict",
        |t| with(t, "[python]", "<<<<<<< HEAD\n[python]\n=======\n[python]\n>>>>>>> topic"),
        Refused("merge conflict markers (line 14): take either side, then run `mlbuild lock`"),
    ),
    (
        "a conflict in diff3's style",
        |t| with(t, "[python]", "||||||| 1a2b3c4\n[python]"),
        Refused("merge conflict markers (line 14)"),
    ),
    (
        "a conflict half resolved",
        |t| with(t, "[python]", "=======\n[python]"),
        Refused("merge conflict markers (line 14)"),
    ),
    ("the end of a conflict", |t| format!("{t}>>>>>>> topic\n"), Refused("merge conflict markers")),
    (
        "a conflict without names",
        |t| with(t, "[python]", "<<<<<<<\n[python]"),
        Refused("merge conflict markers (line 14)"),
    ),
    (
        "a conflict in a checkout of DOS",
        |t| with(t, "[python]", "<<<<<<< HEAD\n[python]").replace('\n', "\r\n"),
        Refused("merge conflict markers (line 14)"),
    ),
    // Texts.
    ("DOS line ends", |t| t.replace('\n', "\r\n"), Same),
    ("line ends of long ago", |t| t.replace('\n', "\r"), Refused("not valid TOML")),
    ("a byte order mark", |t| format!("\u{feff}{t}"), Refused("(line 1): it was edited or damaged")),
    ("words behind it", |t| format!("{t}and so on\n"), Refused("not valid TOML")),
    ("a comment behind it", |t| format!("{t}# end\n"), Refused("it was edited or damaged")),
    ("a NUL behind it", |t| format!("{t}\0"), Refused("not valid TOML")),
    (
        "NULs for a sector",
        |t| format!("{}{}{}", &t[..4096], "\0".repeat(512), &t[4608..]),
        Refused("not valid TOML"),
    ),
    ("the last line end is missing", |t| t.trim_end().to_owned(), Refused("it was edited or damaged")),
    ("cut in the middle", |t| t[..t.len() / 2].to_owned(), Refused("")),
    (
        "cut between two entries",
        |t| t[..t.find("\n[[package]]").unwrap()].to_owned(),
        Refused("is not locked for linux/amd64"),
    ),
    ("nothing in it", |_| String::new(), Refused("does not say its version")),
    ("only a line end", |_| "\n".into(), Refused("does not say its version")),
    ("a spec", |_| spec("debian"), Refused("does not say its version")),
    ("another kind of text", |_| "{\"version\": 1}".into(), Refused("not valid TOML")),
    (
        "a control character",
        |t| with(t, "prune = [\"tests\"]", "prune = [\"tests\\u001B[2J\"]"),
        Refused("`inputs.prune` holds an empty text or one with control characters"),
    ),
];

/// `text` with what stands between the first `from` and the next `to` replaced.
fn swap(text: &str, from: &str, to: &str, by: &str) -> String {
    let start = text.find(from).unwrap() + from.len();
    let end = start + text[start..].find(to).unwrap();
    format!("{}{by}{}", &text[..start], &text[end..])
}

#[test]
fn each_edit_is_refused_or_seen_later() {
    assert!(EDITS.len() > 40);
    let good = lock::read(&text("debian")).unwrap();
    let project = Project::new(&spec("debian"));
    let mut wrong = Vec::new();
    for (name, edit, fate) in EDITS {
        let edited = edit(&text("debian"));
        project.write("mlbuild.lock", &edited);
        let check = project.mlbuild(&["lock", "--check"]).run();
        let (status, said) = match fate {
            Refused(said) => (2, *said),
            OutOfDate(said) => (3, *said),
            OtherLayer | Same => (0, "satisfies the spec"),
        };
        let talk = check.stdout() + &check.stderr();
        if check.status() != status || !talk.contains(said) || !talk.contains("mlbuild.lock") {
            wrong.push(format!("{name}: {} {talk}", check.status()));
            continue;
        }
        assert!(!talk.chars().any(|c| c.is_control() && c != '\n'), "{name}: {talk:?}");
        if let OtherLayer | Same = fate {
            let keys = keys(&lock::read(&edited).unwrap());
            assert_eq!(keys == self::keys(&good), matches!(fate, Same), "{name}");
        }
        assert_eq!(project.read("mlbuild.lock"), edited, "{name}");
        let names: BTreeSet<_> = fs::read_dir(project.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, BTreeSet::from(["mlbuild.lock".into(), "mlbuild.toml".into()]), "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_text_is_refused() {
    let project = Project::new(&spec("debian"));
    let path = project.path().join("mlbuild.lock");
    let refused = |said: &str| {
        // Bounded in memory too: four gigabytes of address space hold the program and its threads, not what it reads.
        let check = Run::new("sh")
            .args(&["-c", "ulimit -v 4000000; exec \"$0\" lock --check", PROGRAM])
            .in_directory(&project.path())
            .env("HOME", project.home())
            .env("MLBUILD_HOME", project.store())
            .run()
            .expect(2);
        assert!(check.stderr().contains(said), "{said}: {}", check.stderr());
    };
    fs::create_dir(&path).unwrap();
    refused("directory");
    fs::remove_dir(&path).unwrap();
    let _ = Run::new("mkfifo").arg(&path).ok();
    refused("FIFO");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    refused("device");
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"version = 1\n\xff").unwrap();
    refused("UTF-8");
    let long = fs::File::create(&path).unwrap();
    long.set_len(1 << 40).unwrap();
    refused("8388608 bytes");
    fs::remove_file(&path).unwrap();
    project.write("mlbuild.lock", text("debian"));
    let _ = project.mlbuild(&["lock", "--check"]).ok();
}

/// Every layer of every platform, as a store would look for it and as an image's documents name it.
fn layers(lock: &Lock) -> Vec<LayerPlan> {
    let options = |platform| PlanOptions { platform, epoch: Epoch::default(), max_layers: 96 };
    let plans = lock.inputs.platforms.iter().map(|platform| plan::plan(lock, &options(*platform)).unwrap());
    plans.flat_map(|plan| plan.layers).collect()
}

fn keys(lock: &Lock) -> Vec<Digest> {
    layers(lock).into_iter().map(|layer| layer.key).collect()
}

/// What a lock says that nothing but the lock says: neither the spec nor a file would contradict a change.
fn unwitnessed(lock: &Lock) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(python) = &lock.python {
        said.push(format!(
            "{:?} {} {:?} {} {} {} {}",
            python.provider,
            python.version,
            python.build,
            python.executable,
            python.site_packages,
            python.scripts,
            python.prefix
        ));
        said.extend(python.archives.iter().map(|archive| format!("{}", archive.platform)));
    }
    for deb in &lock.debs {
        said.push(format!("{} {} {:?}", deb.platform, deb.architecture, deb.layer));
    }
    for package in &lock.packages {
        said.push(format!("{} {} {:?}", package.name, package.version, package.dependencies));
        for wheel in &package.wheels {
            let name = FileName::parse(&wheel.name).unwrap();
            assert!(same_version(&name.version, &package.version));
            said.push(format!("{} {:?}", name.name, wheel.platforms));
        }
    }
    said
}

/// Numbers that are the same in each run.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound as u64).unwrap()
    }
}

/// A changed byte is refused by the reader, is a difference to the spec, or stands where a layer's maker compares it;
/// or else the image is the same to the last layer.
#[test]
fn no_changed_byte_reaches_an_image() {
    let mut random = Lcg(1);
    for name in ["debian", "standalone"] {
        let good = text(name);
        let lock = lock::read(&good).unwrap();
        let (layers, unwitnessed) = (layers(&lock), unwitnessed(&lock));
        let (mut refused, mut out_of_date, mut other_layer, mut same) = (0, 0, 0, 0);
        for round in 0..2000 {
            let mut bytes = good.clone().into_bytes();
            let at = random.below(bytes.len());
            // Any byte; then, since nearly all of these are no text, one of the same kind.
            bytes[at] = match bytes[at] {
                byte if round < 1000 => byte ^ (1 + u8::try_from(random.below(255)).unwrap()),
                byte @ b'0'..=b'9' => b'0' + (byte - b'0' + 1 + u8::try_from(random.below(9)).unwrap()) % 10,
                byte @ b'a'..=b'z' => b'a' + (byte - b'a' + 1 + u8::try_from(random.below(25)).unwrap()) % 26,
                _ => continue,
            };
            let Some(flipped) = std::str::from_utf8(&bytes).ok().and_then(|flipped| lock::read(flipped).ok())
            else {
                refused += 1;
                continue;
            };
            if !lock::drift(&flipped.inputs, &lock.inputs).is_empty() {
                out_of_date += 1;
                continue;
            }
            let place = || {
                format!(
                    "{name}: byte {at}: {}",
                    String::from_utf8_lossy(&bytes[at.saturating_sub(40)..])
                        .lines()
                        .next()
                        .unwrap_or_default()
                )
            };
            assert_eq!(self::unwitnessed(&flipped), unwitnessed, "{}", place());
            let now = self::layers(&flipped);
            assert_eq!(now.len(), layers.len(), "{}", place());
            let mut changed = 0;
            for (now, then) in now.iter().zip(&layers) {
                if now.key == then.key {
                    assert_eq!(
                        (now.kind, &now.title, &now.contents),
                        (then.kind, &then.title, &then.contents),
                        "{}",
                        place()
                    );
                } else {
                    changed += 1;
                }
            }
            if changed > 0 { other_layer += 1 } else { same += 1 }
        }
        let found =
            format!("{name}: {refused} refused, {out_of_date} out of date, {other_layer} other, {same} same");
        assert!(refused > 1000 && other_layer > 50 && same > 50, "{found}");
    }
}
