//! A machine with another kernel than this one, and with control groups 2 alone: Debian's 6.1, in QEMU.
//!
//! ```ignore
//! let mut machine = Machine::new()?;
//! layout::write(&machine.path("images/some"), &layers);
//! let nr = machine.check("root", ".", "mlbuild run oci:/images/some -- true");
//! assert_eq!(machine.start().answers[nr].status, 0);
//! ```
//!
//! `support/make-machine.sh` fetches the kernel and a busybox; the disk is made anew for every start: the program under test
//! with its libraries, what the test puts there, and the checks. `machine/initrd.sh` mounts it, `machine/checks.sh` runs the
//! checks one after the other and says what came of each on the second serial line, where the kernel does not talk. All
//! of them share one start, which takes 4 s of a free processor.
//!
//! The processor is emulated: on machines that are virtual themselves, /dev/kvm may open, and then start nothing.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::mlbuild::{PROGRAM, Run};
use super::project;
use super::reference::{cache, scratch};
use super::skip::Skip;
use super::tool::tool;

/// A start with all checks takes some 40 s of two processors that nobody else uses.
const PATIENCE: Duration = Duration::from_secs(500);
/// In MiB; pages that nobody writes to take none on the host.
const DISK: u64 = 1024;
const MEMORY: u64 = 1024;

/// Ordinary users of the machine.
pub const USERS: [&str; 2] = ["lent", "plain"];

/// One that is not started yet.
pub struct Machine {
    directory: tempfile::TempDir,
    /// What `make-machine.sh` has made.
    made: PathBuf,
    checks: usize,
}

/// What a machine said before it was turned off.
pub struct Said {
    pub answers: Vec<Answer>,
    /// By its own clock, from the kernel's first line on.
    pub seconds: f64,
}

/// What came of a check.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// The control groups that are there afterwards, by path.
    pub groups: Vec<String>,
}

impl Machine {
    pub fn new() -> Result<Self, Skip> {
        for name in ["qemu-system-x86_64", "mke2fs", "ldd", "apt-get", "dpkg-deb"] {
            tool(name)?;
        }
        let script = project("tests/support/make-machine.sh");
        let made = Run::new("bash").arg(script).arg(cache()).env("HOME", cache()).run();
        if made.status() != 0 {
            return Err(Skip(format!("no machine could be made: {}", made.stderr().trim())));
        }
        let machine = Self { directory: scratch(), made: made.stdout().trim().into(), checks: 0 };
        for directory in ["bin", "checks", "dev", "etc", "images", "proc", "run", "sys", "tmp", "usr/bin"] {
            fs::create_dir_all(machine.path(directory)).unwrap();
        }
        let (mut accounts, mut groups) =
            ("root:x:0:0::/home/root:/bin/sh\n".to_owned(), "root:x:0:\n".to_owned());
        for (number, user) in (1001..).zip(USERS) {
            accounts += &format!("{user}:x:{number}:{number}::/home/{user}:/bin/sh\n");
            groups += &format!("{user}:x:{number}:\n");
        }
        for user in USERS.iter().chain(&["root"]) {
            fs::create_dir_all(machine.path("home").join(user)).unwrap();
        }
        fs::write(machine.path("etc/passwd"), accounts).unwrap();
        fs::write(machine.path("etc/group"), groups).unwrap();
        machine.copy(&machine.busybox(), "bin/busybox");
        symlink("busybox", machine.path("bin/sh")).unwrap();
        machine.copy(&project("tests/it/support/machine/checks.sh"), "init");
        machine.copy(Path::new(PROGRAM), "usr/bin/mlbuild");
        for library in libraries(Path::new(PROGRAM)) {
            machine.copy(&library, library.strip_prefix("/").unwrap().to_str().unwrap());
        }
        Ok(machine)
    }

    /// On the disk.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("disk").join(path)
    }

    fn copy(&self, from: &Path, to: &str) {
        let to = self.path(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, Permissions::from_mode(0o755)).unwrap();
    }

    /// A program that needs no library.
    pub fn busybox(&self) -> PathBuf {
        self.made.join("busybox")
    }

    /// Of the kernel: major and minor number.
    pub fn release(&self) -> (u32, u32) {
        let text = fs::read_to_string(self.made.join("release")).unwrap();
        let mut numbers = text.split('.').map(|number| number.parse().unwrap_or_default());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// A shell script that this account is to run, in this control group. Returns the number of its answer.
    pub fn check(&mut self, account: &str, group: &str, script: &str) -> usize {
        let nr = self.checks;
        self.checks += 1;
        let path = self.path("checks").join(format!("{nr:03}"));
        fs::write(path, format!("# {account} {group}\n{script}\n")).unwrap();
        nr
    }

    /// Runs all checks. Panics unless each of them has an answer.
    pub fn start(self) -> Said {
        let at = |name: &str| self.directory.path().join(name);
        let (disk, console, answers) = (at("disk.img"), at("console"), at("answers"));
        let make = Run::new("mke2fs").args(&["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"]);
        let _ = make.arg(at("disk")).arg(&disk).arg(format!("{DISK}M")).ok();
        let machine = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2"])
            .args(["-m", &MEMORY.to_string(), "-nodefaults", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(self.made.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.made.join("initrd"))
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", &format!("file:{}", answers.display())])
            // Nobody needs the disk afterwards: it need not be safe.
            .args(["-drive", &format!("file={},format=raw,if=virtio,cache=unsafe", disk.display())])
            .stdin(Stdio::null())
            .stderr(File::create(at("qemu")).unwrap())
            .spawn()
            .unwrap();
        let ended = wait(machine);
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let (said, console) = (read(answers), read(console));
        let tail = |text: &str| text[text.floor_char_boundary(text.len().saturating_sub(4000))..].to_owned();
        parse(&said, self.checks).unwrap_or_else(|why| {
            panic!(
                "{why}; the machine {ended}\n-- qemu\n{}\n-- console\n{}\n-- answers\n{}",
                read(at("qemu")),
                tail(&console),
                tail(&said)
            )
        })
    }
}

/// The libraries of a program, and what loads them.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Run::new("ldd").arg(program).ok().stdout();
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Until the machine has turned itself off.
fn wait(mut machine: Child) -> String {
    let start = Instant::now();
    loop {
        if let Some(status) = machine.try_wait().unwrap() {
            return format!("ended ({status})");
        }
        if start.elapsed() > PATIENCE {
            machine.kill().unwrap();
            machine.wait().unwrap();
            return format!("did not end within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The language of `machine/checks.sh`.
fn parse(said: &str, checks: usize) -> Result<Said, String> {
    let mut answers = Vec::new();
    let mut open: Option<Answer> = None;
    for line in said.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let here = format!("{:03}", answers.len());
        match (word, &mut open) {
            ("begin", None) if rest == here => open = Some(Answer { status: -1, ..Answer::default() }),
            ("status", Some(answer)) => {
                answer.status = rest.parse().map_err(|_| format!("check {here} has no status: {line}"))?;
            }
            ("out", Some(answer)) => answer.stdout += &format!("{rest}\n"),
            ("err", Some(answer)) => answer.stderr += &format!("{rest}\n"),
            ("group", Some(answer)) => answer.groups.push(rest.to_owned()),
            ("end", Some(Answer { status: 0.., .. })) if rest == here => answers.extend(open.take()),
            ("done", None) if answers.len() == checks => {
                let seconds = rest.parse().map_err(|_| format!("no time: {line}"))?;
                return Ok(Said { answers, seconds });
            }
            _ => return Err(format!("in check {here} of {checks}: unexpected: {line}")),
        }
    }
    Err(format!("{} of {checks} checks have an answer", answers.len()))
}

#[test]
fn a_check_without_an_answer_is_missed() {
    let first = "begin 000\nstatus 137\nout a\nout  b\nerr c\ngroup /x\nend 000\n";
    let said = parse(&format!("{first}begin 001\nstatus 0\nend 001\ndone 31.25\n"), 2).unwrap();
    assert_eq!((said.answers.len(), said.seconds), (2, 31.25));
    let Answer { status, stdout, stderr, groups } = &said.answers[0];
    assert_eq!((*status, &stdout[..], &stderr[..]), (137, "a\n b\n", "c\n"));
    assert_eq!(groups, &["/x"]);
    for (wrong, checks) in [
        ("", 0),
        (first, 1),
        (&format!("{first}done 1\n"), 2),
        (&format!("{first}done 1\n"), 0),
        (&format!("{first}begin 002\nstatus 0\nend 002\ndone 1\n"), 2),
        ("begin 000\nstatus 0\ndone 1\n", 1),
        ("begin 000\nstatus\nend 000\ndone 1\n", 1),
        ("begin 000\nend 000\ndone 1\n", 1),
        ("begin 000\nstatus 0\nend 000\n[ 3.1] Kernel panic\n", 1),
    ] {
        assert!(parse(wrong, checks).is_err(), "{wrong}");
    }
}
