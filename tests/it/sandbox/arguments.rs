//! What the program gets: command, environment, user, directory, limits; and what its end becomes.

use std::fs;
use std::net::TcpListener;

use super::cgroup::left_behind;
use super::{Host, Who};
use crate::support::debs::entry;
use crate::support::mlbuild::Run;
use crate::support::skip::or_skip;

#[test]
fn command_and_exit_status() {
    for host in or_skip!("exit statuses", Host::both("hello")) {
        let out = host.python(&[], "import sys; print(sys.argv); sys.exit(7)").expect(7);
        assert_eq!(out.stdout(), "['-c']\n");
        let image = host.image.clone();
        // The image's own entrypoint, then a command of its as arguments of that.
        let own = host.mlbuild(&["run", &image]).ok();
        assert!(own.stdout().trim().split('.').count() == 3, "{}", own.stdout());
        let _ = host.run(&[], &["no-such-program"]).run().expect(127);
        let _ = host.run(&[], &["/no/such"]).run().expect(127);
        let denied = host.run(&[], &["/etc/passwd"]).run().expect(126);
        assert!(denied.stderr().contains("cannot execute /etc/passwd"), "{}", denied.stderr());
        let _ = host.python(&[], "import os; os.kill(os.getpid(), 9)").expect(137);
        let _ = host.python(&["--init=false"], "import sys; sys.exit(9)").expect(9);
        let _ = host.python(&["-w", "/etc/passwd"], "").expect(126);
        let slow = host.python(&["--timeout", "1"], "import time; time.sleep(60)");
        let _ = slow.expect(124);
        let _ = host.python(&["--timeout", &u64::MAX.to_string()], "raise SystemExit(4)").expect(4);
        let _ = host.mlbuild(&["run", "registry.example/nothing/here"]).run().expect(125);
        let _ = host.mlbuild(&["run", "--volume", "nowhere", &image]).run().expect(125);
        // As other runtimes, for a program's own status may be 2.
        let _ = host.mlbuild(&["run", "--bogus"]).run().expect(125);
        let _ = host.mlbuild(&["build", "--bogus"]).run().expect(2);
        // As people write it elsewhere.
        let docker = ["run", "--rm", "--entrypoint", "", &image, "python", "-c", "print(6 * 7)"];
        assert_eq!(host.mlbuild(&docker).ok().stdout(), "42\n");
        // Where nobody could enforce a limit.
        let _ = host.python(&["--memory", "0", "--cpus", "0", "--pids-limit", "-1"], "").expect(0);
        // The word after it is the image.
        let _ = host
            .mlbuild(&["run", "--init", &image, "--", "/usr/bin/python3", "-S", "-c", ""])
            .run()
            .expect(0);
        let plain = host.write("plain", "no device");
        let _ = host.mlbuild(&["run", "--device", &format!("{plain}:/dev/x"), &image]).run().expect(125);
        // Nothing is made before all is known to be right, and never outside.
        for (name, status) in [("../../escaped", 125), ("never-kept", 0)] {
            let _ =
                host.mlbuild(&["run", "--dry-run", "--keep", "--name", name, &image]).run().expect(status);
            assert!(!host.path("escaped").exists() && !host.store.join("runs/never-kept").exists());
        }
    }
}

/// What images have: httpd's, systemd's; and one that no system knows.
#[test]
fn stop_signals_of_images() {
    let program = "import signal, sys
for number in (15, 28, 37): signal.signal(number, lambda number, frame: (print(number), sys.exit()))
while True: signal.pause()";
    for (who, image, option, number) in [
        (Who::User, "SIGRTMIN+3", "--init", "37"),
        (Who::Root, "37", "--init=false", "37"),
        (Who::Root, "SIGWINCH", "--init", "28"),
        (Who::Root, "SIGNONE", "--init", "15"),
    ] {
        let host = or_skip!("stop signals", Host::new(who, "hello")).with_stop_signal(image);
        let options = ["run", "--timeout", "1", option, "--entrypoint", "", &host.image, "--"];
        let run = Run::new(&host.program).args(&options).args(&["python", "-c", program]);
        let out = host.launched(run).run().expect(124);
        assert_eq!(out.stdout().trim(), number, "{image}");
        assert_eq!(out.stderr().contains("stop signal `SIGNONE` is not known"), image == "SIGNONE");
    }
}

#[test]
fn environment() {
    for host in or_skip!("environment", Host::both("hello")) {
        let file = host.write("env", "# mine\nFROM_FILE=1\nBOTH=file\n");
        let options =
            ["-e", "BOTH=option", "-e", "HANDED", "-e", "ABSENT", "--env-file", &file, "--name", "box"];
        let program = "import os; print(dict(os.environ))";
        let out = host.run(&options, &["python", "-c", program]).env("HANDED", "on").env("SECRET", "x").ok();
        let out = out.stdout();
        for wanted in
            ["'FROM_FILE': '1'", "'BOTH': 'option'", "'HANDED': 'on'", "'HOSTNAME': 'box'", "'HOME': '/root'"]
        {
            assert!(out.contains(wanted), "{wanted} is not in {out}");
        }
        use std::os::unix::ffi::OsStrExt as _;
        let latin = std::ffi::OsStr::from_bytes(b"caf\xe9");
        let refused = host.run(&["-e", "LATIN"], &["python"]).env("LATIN", latin).run().expect(125);
        assert!(refused.stderr().contains("-e LATIN: its value is not UTF-8"), "{}", refused.stderr());
        // Of the host's nothing else.
        for unwanted in ["SECRET", "ABSENT", "MLBUILD"] {
            assert!(!out.contains(unwanted), "{unwanted} is in {out}");
        }
    }
}

#[test]
fn user_directory_and_limits() {
    for host in or_skip!("user", Host::both("hello")) {
        let who = "import os; print(os.getuid(), os.getgid(), os.environ['HOME'])";
        for (user, expected) in
            [("0", "0 0 /root"), ("nonroot", "65532 65532 /home/nonroot"), ("7777:8888", "7777 8888 /")]
        {
            assert_eq!(host.python(&["-u", user], who).expect(0).stdout().trim(), expected);
        }
        let unknown = host.python(&["-u", "eve"], "").expect(125);
        assert!(unknown.stderr().contains("no user `eve`"), "{}", unknown.stderr());
        let made = host.python(&["-w", "/made/here"], "import os; print(os.getcwd())").expect(0);
        assert_eq!(made.stdout().trim(), "/made/here");
        let limit = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))";
        assert_eq!(host.python(&["--ulimit", "nofile=77:99"], limit).expect(0).stdout().trim(), "(77, 99)");
        let _ = host.python(&["--ulimit", "nothing=1"], "").expect(125);
        let shm = "import os; s = os.statvfs('/dev/shm'); print(s.f_blocks * s.f_frsize)";
        assert_eq!(host.python(&["--shm-size", "3m"], shm).expect(0).stdout().trim(), "3145728");
    }
}

/// A node of the host at a place of its own.
#[test]
fn devices() {
    for host in or_skip!("devices", Host::both("hello")) {
        let node = host.path("node");
        let _ = Run::new("mknod").args(&["-m", "666"]).arg(&node).args(&["c", "1", "5"]).ok();
        let option = format!("{}:/dev/new/zeros", node.display());
        let program = "import os
try: print(open('/dev/new/zeros', 'r+b', 0).read(3), os.major(os.stat('/dev/new/zeros').st_rdev))
except OSError as error: print(error.strerror)";
        let seen = |options: &[&str]| host.python(options, program).expect(0).stdout();
        assert_eq!(seen(&[]), "No such file or directory\n");
        for permissions in ["", ":rw", ":rwm"] {
            let option = format!("{option}{permissions}");
            assert_eq!(seen(&["--device", &option]), "b'\\x00\\x00\\x00' 1\n");
        }
        let shut = host.python(&["--device", &format!("{option}:r")], program).expect(125);
        assert!(shut.stderr().contains("write `rw`"), "{}", shut.stderr());
        // A node that is a volume is none.
        assert_eq!(seen(&["-v", &option]), "Permission denied\n");
    }
}

#[test]
fn standard_input_goes_in_only_when_asked() {
    for host in or_skip!("standard input", Host::both("hello")) {
        let file = host.write("input", "some words");
        for (options, expected) in [(&["-i"][..], "'some words'"), (&[], "''")] {
            let program = "import sys; print(repr(sys.stdin.read()))";
            let mut command = host.run(options, &["python", "-c", program]).command();
            let output = command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
        }
    }
}

/// But unpack what it must look into: on an empty store, too, nothing is run, nothing kept, and no limit set up.
#[test]
fn a_dry_run_runs_nothing() {
    for who in [Who::Root, Who::User] {
        let host = or_skip!("dry run", Host::alone(who, "hello"));
        let image = host.image.clone();
        fs::create_dir(host.path("data")).unwrap();
        host.give(&host.path("data"));
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = format!("{}:80", port.local_addr().unwrap().port());
        let options = ["run", "--dry-run", "--entrypoint", "", "-v", "data:/mnt", "--memory", "1g"];
        let options = [&options[..], &["-p", &taken, "--keep", "--name", "dry"]].concat();
        let command = ["--", "python", "-c", "open('/mnt/run', 'w')"];
        let text = host.mlbuild(&[&options[..], &[&image], &command].concat()).ok().stdout();
        let data = host.path("data").display().to_string();
        for line in
            [&format!("bind       /mnt <- {data}"), "limits     memory 1.07 GB", "run        python -c"]
        {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let json = host.mlbuild(&[&options[..], &["--json", &image], &command].concat()).ok().json();
        assert_eq!(json["process"]["arguments"][0], "python");
        assert_eq!(json["limits"]["memory"], 1 << 30);
        assert_eq!(fs::read_dir(host.path("data")).unwrap().count(), 0, "{who:?}");
        assert!(!host.store.join("runs").join("dry").exists() && left_behind("dry").is_empty());
    }
}

/// Python where the image has no shell, a shell where it has one, and no run where it has neither.
#[test]
fn a_shell() {
    let shell = entry("usr/bin/bash", b'0', 0o755, "", b"#!/usr/bin/python3\nprint('the shell', input())\n");
    for host in or_skip!("a shell", Host::both("hello")) {
        let words = host.write("words", "print(6 * 7)\n");
        let says = |host: &Host, options: &[&str]| {
            let mut command = host.mlbuild(&[&["shell"], options].concat()).command();
            let output = command.stdin(fs::File::open(&words).unwrap()).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        assert_eq!(says(&host, &[&host.image]), (Some(0), "42\n".to_owned()));
        fs::create_dir(host.path("empty")).unwrap();
        assert_eq!(says(&host, &["--rootfs", "empty"]), (Some(125), String::new()));
        let host = host.with_layers(&[vec![shell.clone()]]);
        assert_eq!(
            says(&host, &["--network", "none", &host.image]),
            (Some(0), "the shell print(6 * 7)\n".to_owned())
        );
    }
}
