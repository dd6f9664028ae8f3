//! The program cannot get hold of the one that runs it, nor of other processes of the host.

use std::process::Child;

use super::isolation::{all_shut, attempts, inside};
use super::Host;
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip, skip};

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
