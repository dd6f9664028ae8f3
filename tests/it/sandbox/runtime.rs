//! The program cannot get hold of the one that runs it, nor of other processes of the host.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Child;

use super::isolation::{all_shut, attempts, inside};
use super::{Host, USER, Who};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip, skip};
use crate::support::tool::tool;

/// A process of the host's that belongs to the user, for as long as this lives.
pub struct Victim(Child);

impl Victim {
    pub fn new(host: &Host) -> Self {
        Self(host.launched(Run::new("sleep").arg("600")).command().spawn().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn processes_of_the_host_are_neither_traced_nor_read() {
    if !cfg!(target_arch = "x86_64") {
        return skip("ptrace", &Skip("the numbers are those of x86-64".to_owned()));
    }
    for host in or_skip!("ptrace", Host::both("hello")) {
        let victim = Victim::new(&host);
        let pid = victim.id();
        let let_go = format!("os.waitpid({pid}, 0x40000000); call(101, 17, {pid}, 0, 0)");
        let attach = format!("call(101, 16, {pid}, 0, 0); {let_go}");
        let seize = format!("call(101, 0x4206, {pid}, 0, 0); call(101, 0x4207, {pid}, 0, 0); {let_go}");
        // A byte of its stack; inside there is no map of it.
        let start =
            "int(next((l for l in open(f'/proc/%d/maps') if '[stack]' in l), '0-').split('-')[0], 16)";
        let address = format!(
            "a = {} if os.path.exists('/proc/{pid}/maps') else 4096",
            start.replace("%d", &pid.to_string())
        );
        let vector = "at(a.to_bytes(8, 'little') + (1).to_bytes(8, 'little'))";
        let own = "at(at(b'x').to_bytes(8, 'little') + (1).to_bytes(8, 'little'))";
        let read = format!("{address}; call(310, {pid}, {own}, 1, {vector}, 1, 0)");
        let write = format!("{address}; call(311, {pid}, {own}, 1, {vector}, 1, 0)");
        let pidfd = format!("f = os.pidfd_open({pid}); os.close(f)");
        let lines = [
            ("attach", attach.as_str()),
            ("seize", &seize),
            ("read", &read),
            ("write", &write),
            ("pidfd", &pidfd),
            ("memory", &format!("open('/proc/{pid}/mem', 'rb').close()")),
            ("environment", &format!("open('/proc/{pid}/environ', 'rb').close()")),
        ];
        all_shut(&host, &[], &lines);
        all_shut(&host, &["--network", "host", "--init=false"], &lines);
        // The one process of ours that is there: a copy of mlbuild.
        let first = "import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for number, arguments in ((101, (16, 1, 0, 0)), (101, (0x4206, 1, 0, 0))):
    print(libc.syscall(number, *map(ctypes.c_long, arguments)), errno.errorcode[ctypes.get_errno()])";
        assert_eq!(inside(&host, &[], first), "-1 EPERM\n-1 EPERM\n", "{:?}", host.who);
    }
}

/// What runc had to learn (CVE-2019-5736): no process inside holds a program of the host's.
#[test]
fn the_program_of_the_first_process_cannot_be_opened() {
    for host in or_skip!("the runtime's program", Host::both("hello")) {
        let lines = [
            ("path", "os.close(os.open('/proc/1/exe', os.O_PATH))"),
            ("read", "os.close(os.open('/proc/1/exe', os.O_RDONLY))"),
            ("link", "os.readlink('/proc/1/exe')"),
        ];
        let program = attempts(&lines);
        let shut = inside(&host, &[], &program);
        assert!(shut.lines().count() == lines.len() && !shut.contains(" open"), "{:?}: {shut}", host.who);
        // Without a sandbox, of a first process in a namespace.
        let open = host.launched(Run::new("python3").args(&["-c", &program]));
        let open = open.under(&["unshare", "-p", "-f", "--mount-proc"]).ok().stdout();
        assert!(
            open.lines().count() == lines.len() && open.lines().all(|line| line.ends_with(" open")),
            "{open}"
        );
    }
}

/// A library that holds the program it is loaded into, and then becomes another.
const HOLD: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void hold(void) {
    int fd = open("/proc/self/exe", O_RDONLY);
    if (fd < 0) _exit(99);
    dup2(fd, 77);
    unsetenv("LD_PRELOAD");
    execl("/usr/bin/python3", "python3", "-S", "/evil/late.py", (char *)0);
}
"#;

/// Says what it holds, and for a while tries to write to it, also once the first program has ended.
const LATE: &str = "import os, time
print('holds', os.path.basename(os.readlink('/proc/self/fd/77')), flush=True)
if os.fork(): os._exit(0)
os.setsid()
for _ in range(300):
    try:
        f = os.open('/proc/self/fd/77', os.O_WRONLY | os.O_TRUNC)
        os.write(f, b'overwritten')
        break
    except OSError: time.sleep(.01)";

/// The same by a program that is the runtime itself, by way of `/proc/self/exe`, with libraries of the image's.
#[test]
fn the_programs_of_the_host_cannot_be_held_and_overwritten_later() {
    const CHECK: &str = "overwriting the runtime";
    let compiler = or_skip!(CHECK, tool("cc").or_else(|_| tool("gcc")));
    for host in or_skip!(CHECK, Host::both("hello")) {
        // A copy that the user may write to, as one installed with cargo.
        let program = host.path("mlbuild");
        fs::copy(&host.program, &program).unwrap();
        let evil = host.path("evil");
        fs::create_dir(&evil).unwrap();
        for (name, content) in [("hold.c", HOLD), ("late.py", LATE), ("script", "#!/proc/self/exe\n")] {
            fs::write(evil.join(name), content).unwrap();
        }
        std::os::unix::fs::symlink("/proc/self/exe", evil.join("link")).unwrap();
        let library = evil.join("hold.so");
        let _ =
            Run::new(&compiler).args(&["-shared", "-fPIC", "-o"]).arg(&library).arg(evil.join("hold.c")).ok();
        fs::set_permissions(evil.join("script"), Permissions::from_mode(0o755)).unwrap();
        if host.who == Who::User {
            chown(&program, Some(USER), Some(USER)).unwrap();
        }
        let before = fs::read(&program).unwrap();
        let mut tried = 0;
        for options in [&[][..], &["--init=false"]] {
            for command in ["/evil/script", "/evil/link", "/proc/self/exe"] {
                let image =
                    ["run", "-v", "./evil:/evil", "-e", "LD_PRELOAD=/evil/hold.so", "--entrypoint", ""];
                let arguments = [&image[..], options, &[&host.image, "--", command]].concat();
                let run = Run::new(&program).arg("--quiet").args(&arguments);
                let run = host.launched(run).run();
                assert!(!run.stdout().contains("holds"), "{:?} {command}: {}", host.who, run.stdout());
                assert_eq!(run.status(), 126, "{command}: {}", run.stderr());
                tried += 1;
            }
        }
        assert_eq!(tried, 6);
        // Plain exec: the same library in the same program holds it.
        let control = host.launched(Run::new(&program).env("LD_PRELOAD", &library)).run().expect(2);
        assert!(control.stderr().contains("/evil/late.py"), "without a sandbox: {}", control.stderr());
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(fs::read(&program).unwrap() == before, "{:?}: it was overwritten", host.who);
    }
}
