//! Every kind of hostile wheel, each with a benign twin that differs in one property. The hostile one is refused by the
//! name of the member and the rule, the twin is taken.
//!
//! Here wheels go through the library as the engine takes them: opened, installed, and measured as a layer.
//! [`super::wheels`] sends one of each kind through the program.

mod frames;
mod headers;
mod members;
mod metadata;
mod names;
mod places;

use mlbuild::blob::MemoryBlobs;
use mlbuild::epoch::Epoch;
use mlbuild::layer::{self, Recipe, Threads};
use mlbuild::spec::model::{Prune, WheelRule};
use mlbuild::tree::{Content, Node, TreePath};
use mlbuild::wheel::{self, Installed, Scheme, Waivers};

use crate::support::wheels::{File, Frame, file, framed_zip, row, wheel_files, zip};

/// A wheel `m-1.0` in parts, before it is packed.
#[derive(Clone)]
pub struct Parts {
    pub file_name: &'static str,
    pub files: Vec<File>,
    frame: Frame,
    /// What becomes of a right `RECORD`; none takes it out.
    pub record: fn(String) -> Option<String>,
    /// The last bytes that are missing.
    cut: usize,
}

impl Parts {
    pub fn new() -> Self {
        let odd = "content of odd.py, which is long enough to be deflated, deflated, deflated";
        Self {
            file_name: "m-1.0-py3-none-any.whl",
            files: vec![file("pkg/a.py", "a = 1\n"), file("pkg/odd.py", odd), file("pkg/z.py", "z = 1\n")],
            frame: Frame::default(),
            record: Some,
            cut: 0,
        }
    }

    fn odd(&mut self) -> &mut File {
        &mut self.files[1]
    }

    fn add(&mut self, name: &str, text: &str) {
        self.files.push(file(name, text));
    }

    pub fn pack(&self) -> Vec<u8> {
        let mut files = wheel_files("m", "1.0", &self.files);
        let text = String::from_utf8(files.pop().unwrap().bytes).unwrap();
        files.extend((self.record)(text).map(|text| file("m-1.0.dist-info/RECORD", text)));
        let mut bytes = framed_zip(&files, &self.frame);
        bytes.truncate(bytes.len() - self.cut);
        bytes
    }
}

/// One property of a wheel: as it must not be, and as it may.
pub struct Case {
    pub name: &'static str,
    hostile: fn(&mut Parts),
    benign: fn(&mut Parts),
    /// What the message says: the member, if there is one, and the rule.
    pub says: &'static [&'static str],
    /// The rule that may be waived.
    pub waivable: Option<WheelRule>,
}

impl Case {
    pub fn hostile(&self) -> Parts {
        let mut parts = Parts::new();
        (self.hostile)(&mut parts);
        parts
    }

    pub fn benign(&self) -> Parts {
        let mut parts = Parts::new();
        (self.benign)(&mut parts);
        parts
    }
}

const fn case(
    name: &'static str,
    hostile: fn(&mut Parts),
    benign: fn(&mut Parts),
    says: &'static [&'static str],
) -> Case {
    Case { name, hostile, benign, says, waivable: None }
}

impl Case {
    const fn waived_by(mut self, rule: WheelRule) -> Self {
        self.waivable = Some(rule);
        self
    }
}

pub fn cases() -> Vec<Case> {
    let cases = [
        names::cases(),
        members::cases(),
        headers::cases(),
        frames::cases(),
        metadata::record(),
        metadata::others(),
        places::cases(),
    ];
    cases.into_iter().flatten().collect()
}

/// A row of `RECORD` for another content of `pkg/odd.py`.
fn replace_odd(record: &str, line: &str) -> String {
    record
        .lines()
        .map(|old| if old.starts_with("pkg/odd.py,") { line } else { old })
        .fold(String::new(), |text, line| if line.is_empty() { text } else { text + line + "\n" })
}

/// Takes a wheel as the engine does. The error has its causes behind it.
fn take(parts: &Parts, allow: &[WheelRule]) -> Result<Installed, String> {
    take_packed(parts.file_name, parts.pack(), allow)
}

fn take_packed(file_name: &str, bytes: Vec<u8>, allow: &[WheelRule]) -> Result<Installed, String> {
    let scheme = Scheme {
        site_packages: TreePath::new("usr/local/lib/python3.11/dist-packages").unwrap(),
        scripts: TreePath::new("usr/local/bin").unwrap(),
        prefix: TreePath::new("usr/local").unwrap(),
        executable: "/usr/bin/python3.11".to_owned(),
        python: (3, 11),
    };
    let mut blobs = MemoryBlobs::default();
    let digest = blobs.insert(bytes.clone());
    let installed = wheel::open(file_name, digest, &bytes, Waivers::new(allow))
        .and_then(|wheel| wheel::install(&wheel, &bytes, &scheme, Prune::default()))
        .map_err(|error| chain(&error))?;
    let recipe = Recipe::build(&installed.tree, Epoch::default()).map_err(|error| chain(&error))?;
    layer::measure(&recipe, &installed.tree, &installed.record, &blobs, &[], Threads::One)
        .map_err(|error| chain(&error))?;
    Ok(installed)
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn every_hostile_wheel_is_refused_and_its_twin_taken() {
    for case in cases() {
        let Err(message) = take(&case.hostile(), &[]) else {
            panic!("{}: the hostile wheel was taken", case.name)
        };
        for said in case.says {
            assert!(message.contains(said), "{}: no {said:?} in {message:?}", case.name);
        }
        if let Err(message) = take(&case.benign(), &[]) {
            panic!("{}: the twin was refused: {message}", case.name);
        }
    }
}

#[test]
fn a_waiver_is_for_its_rule_alone_and_the_record_is_right() {
    let mut waived = Vec::new();
    for case in cases() {
        let parts = case.hostile();
        let bytes = parts.pack();
        let take = |allow: &[WheelRule]| take_packed(parts.file_name, bytes.clone(), allow);
        let others: Vec<_> = WheelRule::ALL.into_iter().filter(|rule| Some(*rule) != case.waivable).collect();
        assert!(take(&others).is_err(), "{}: taken by a waiver of another rule", case.name);
        let Some(rule) = case.waivable else { continue };
        let installed = match take(&[rule]) {
            Ok(installed) => installed,
            Err(message) => panic!("{}: refused in spite of the waiver: {message}", case.name),
        };
        let note = format!("{} breaks rules, as its [[wheel]] allows: {}", parts.file_name, rule.as_str());
        assert_eq!(installed.notes, [note], "{}", case.name);
        check_record(&parts, &installed, case.name);
        waived.push(rule);
    }
    assert!(
        WheelRule::ALL.iter().all(|rule| waived.contains(rule)),
        "some rule is waived in no case: {waived:?}"
    );
    let unused = take(&Parts::new(), &[WheelRule::Tags]).unwrap();
    assert_eq!(unused.notes, ["m-1.0-py3-none-any.whl does not need all that its [[wheel]] allows: tags"]);
}

/// Each file of the wheel has its row, with the hash of its bytes; each row its file.
fn check_record(parts: &Parts, installed: &Installed, case: &str) {
    let site = "usr/local/lib/python3.11/dist-packages";
    let path = TreePath::new(&format!("{site}/m-1.0.dist-info/RECORD")).unwrap();
    let Some(Node::File { content: Content::Bytes(text), .. }) = installed.tree.get(&path) else {
        panic!("{case}: no RECORD of ours")
    };
    let text = std::str::from_utf8(text).unwrap();
    for file in parts.files.iter().filter(|file| file.name.starts_with("pkg/") && !file.name.ends_with('/')) {
        let row = row(&file.name, &file.bytes);
        assert!(text.contains(&row), "{case}: no {row:?} in {text}");
    }
    assert_eq!(text.lines().count(), installed.tree.len(), "{case}: {text}");
}

/// What no record owns may not look like records, whatever is waived.
#[test]
fn stray_bytes_may_not_hold_another_archive() {
    for frame in [
        Frame { before: zip(&[file("pkg/a.py", "other")]), ..Frame::default() },
        Frame { before_directory: zip(&[file("pkg/a.py", "other")]), ..Frame::default() },
    ] {
        let parts = Parts { frame, ..Parts::new() };
        let message = take(&parts, &[WheelRule::StrayBytes]).unwrap_err();
        assert!(message.contains("that look like records"), "{message}");
    }
}
