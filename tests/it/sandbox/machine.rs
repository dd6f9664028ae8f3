//! What this machine cannot show: control groups 2 with every controller and nothing of version 1, and a kernel that mounts an
//! overlay by one string. Debian's 6.1 in QEMU ([`Machine`]), started once for all checks: as root, as an ordinary user whom
//! a part of the control groups was given to, and as one without.

use std::panic::catch_unwind;

use super::layers::layers;
use crate::support::debs::entry;
use crate::support::machine::{Answer, Machine};
use crate::support::skip::{Skip, left_out, or_skip};
use crate::trees::layout;

/// Who runs it, and in which control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// In the root of the tree, where nothing is set up.
    Root,
    /// In a session below a directory that root has given to the user, as systemd does it.
    Lent,
    /// In a unit of the user's own, where nobody else is.
    Unit,
    /// In a session that is root's, as one who came over SSH.
    Plain,
}

impl Caller {
    fn account_and_group(self) -> (&'static str, &'static str) {
        match self {
            Self::Root => ("root", "."),
            Self::Lent => ("lent", "lent/session"),
            Self::Unit => ("lent", "unit"),
            Self::Plain => ("plain", "plain/session"),
        }
    }

    /// Where its runs' groups are made.
    fn parent(self) -> &'static str {
        match self {
            Self::Root => "/sys/fs/cgroup",
            Self::Lent => "/sys/fs/cgroup/lent",
            Self::Unit => "/sys/fs/cgroup/unit",
            Self::Plain => unreachable!("it may make none"),
        }
    }
}

struct Check {
    name: &'static str,
    caller: Caller,
    script: String,
    holds: Box<dyn Fn(&Answer) + std::panic::RefUnwindSafe>,
}

/// Control groups that root makes; those of runs are looked for.
const GROUPS: [&str; 5] = ["lent", "lent/session", "unit", "plain", "plain/session"];

/// By root, after its own runs: the trees of users, and what they are given of them (the kernel's `delegate`).
const GIVE: &str = "cd /sys/fs/cgroup
echo '+cpu +memory +pids' >cgroup.subtree_control
mkdir -p lent/session unit plain/session
echo '+cpu +memory +pids' >plain/cgroup.subtree_control
for group in lent lent/session unit; do
    for file in . cgroup.procs cgroup.threads cgroup.subtree_control; do chown lent $group/$file; done
done";

/// One of no driver, and open to all: whoever may open it is told that there is none.
const NODE: &str = "mknod -m 666 /dev/nvidia0 c 195 0";

/// `mlbuild run` of a shell script; there is no single quote in it.
fn run(options: &str, script: &str) -> String {
    run_of("forty", options, script)
}

fn run_of(image: &str, options: &str, script: &str) -> String {
    format!("mlbuild run {options} oci:/images/{image} -- sh -c '{script}'")
}

/// Starts a run in the background, and waits until this is true, with its group in `$group`.
fn meanwhile(run: &str, until: &str) -> String {
    format!(
        "{run} &
run=$!
tries=0
until group=$(find /sys/fs/cgroup -type d -name 'mlbuild-*') && [ -n \"$group\" ] && {until}; do
    sleep 0.1
    tries=$((tries + 1))
    if [ $tries = 600 ]; then echo 'waited in vain'; break; fi
done"
    )
}

/// Allocates that much at once.
fn balloon(size: &str) -> String {
    format!("dd if=/dev/zero of=/dev/null bs={size} count=1 2>/dev/null; echo survived")
}

/// What is the same for all who can set limits.
fn checks_of_limits(caller: Caller, checks: &mut Vec<Check>) {
    let mut check = |name, script: String, holds: Box<dyn Fn(&Answer) + std::panic::RefUnwindSafe>| {
        checks.push(Check { name, caller, script, holds });
    };
    let killed = |answer: &Answer| {
        assert_eq!((answer.status, &answer.stdout[..]), (137, ""));
        assert!(answer.stderr.contains("--memory: the kernel killed"), "{}", answer.stderr);
    };
    check("a memory balloon is killed", run("--memory 64m", &balloon("200M")), Box::new(killed));
    let survives = |answer: &Answer| {
        assert_eq!((answer.status, &answer.stdout[..]), (0, "survived\n"));
        assert!(!answer.stderr.contains("--memory"), "{}", answer.stderr);
    };
    check("what fits in memory is not", run("--memory 64m", &balloon("8M")), Box::new(survives));
    let bomb = "i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i + 1)); echo $i; done";
    let stopped = |answer: &Answer| {
        // The first process and the shell are two of the twelve.
        assert_eq!(answer.stdout.lines().last(), Some("10"));
        assert!(answer.stderr.contains("can't fork") && answer.status != 0, "{}", answer.stderr);
    };
    check("a fork bomb is stopped", run("--pids-limit 12", bomb), Box::new(stopped));

    let busy = run("--memory 64m --pids-limit 12 --cpus 0.1", "while :; do :; done");
    let throttled = meanwhile(&busy, "grep -q \"^nr_throttled [1-9]\" $group/cpu.stat")
        + "\necho ${group%/*}
for file in cpu.max memory.max memory.swap.max memory.oom.group pids.max; do echo $file $(cat $group/$file); done
kill $run; wait $run; echo ended $?";
    let set = move |answer: &Answer| {
        let expected = format!(
            "{}\ncpu.max 10000 100000\nmemory.max 67108864\nmemory.swap.max 0\nmemory.oom.group 1\npids.max 12\n\
             ended 143\n",
            caller.parent()
        );
        assert_eq!(answer.stdout, expected);
    };
    check("all limits are set, and processor time is shared out", throttled, Box::new(set));

    let quiet = run("--pids-limit 12 --name killed", "sleep 1234");
    let killed = meanwhile(&quiet, "[ \"$(wc -l <$group/cgroup.procs)\" = 2 ]")
        + "\nkill -9 $run; wait $run
while ps | grep -q '[s]leep 1234'; do sleep 0.1; done
echo ${group##*/}
" + &run("--pids-limit 12", "echo next");
    let cleared = |answer: &Answer| {
        assert_eq!((answer.status, &answer.stdout[..]), (0, "mlbuild-killed\nnext\n"));
    };
    check("what a killed run left is removed by the next", killed, Box::new(cleared));

    let open = "echo fine >/dev/null && head -c 2 /dev/zero | wc -c; cat /dev/nvidia0";
    let options = "--pids-limit 12 --device /dev/nvidia0";
    let no_driver = |answer: &Answer| {
        assert_eq!((answer.status, &answer.stdout[..]), (1, "2\n"));
        // EPERM is what a group says that blocks it.
        assert!(answer.stderr.contains("'/dev/nvidia0': No such device or address"), "{}", answer.stderr);
    };
    check("devices are not blocked", run(options, open), Box::new(no_driver));
}

/// What is the same whoever runs it.
fn checks_of_roots(caller: Caller, release: (u32, u32), checks: &mut Vec<Check>) {
    let mut check = |name, script: String, holds: Box<dyn Fn(&Answer) + std::panic::RefUnwindSafe>| {
        checks.push(Check { name, caller, script, holds });
    };
    for (name, image, count) in [("40 layers", "forty", 40), ("300 layers", "many", 300)] {
        // Unpacking them is most of the work, and not another user's.
        if caller == Caller::Plain && count > 40 {
            continue;
        }
        let list = "cd /layers && grep -r \"\" . | sort && grep \"^overlay / \" /proc/mounts";
        let holds = move |answer: &Answer| {
            assert_eq!(answer.status, 0);
            let (mount, files): (Vec<_>, Vec<_>) =
                answer.stdout.lines().partition(|line| line.starts_with("overlay"));
            assert_eq!(files, content(count));
            if release < (6, 8) {
                // One string of names in a directory of links.
                let lower: Vec<_> = (0..=count).rev().map(|layer| layer.to_string()).collect();
                let lower = format!("lowerdir={},", lower.join(":"));
                assert!(mount.len() == 1 && mount[0].contains(&lower), "{mount:?}");
            }
        };
        check(name, run_of(image, "", list), Box::new(holds));
    }
    // One that is empty needs no mark, and none can be renamed: the copy is removed, and that would need one.
    let remove = "rmdir /empty; echo $?; mv /full /moved; echo $?; ls /moved";
    let removed = "0\n0\nfile\n";
    let in_memory = move |answer: &Answer| match release < (6, 6) {
        true => {
            assert_eq!(answer.stdout, "0\n1\nfile\n");
            assert!(answer.stderr.contains("can't remove '/full': Input/output error"), "{}", answer.stderr);
        }
        false => assert_eq!(answer.stdout, removed),
    };
    check("directories of the image are removed in memory", run("", remove), Box::new(in_memory));
    let kept = format!(
        "{}\nmlbuild run --keep --name kept oci:/images/forty -- ls /",
        run("--keep --name kept", remove)
    );
    let on_disk = move |answer: &Answer| {
        assert_eq!(answer.status, 0);
        assert!(answer.stdout.starts_with(removed), "{}", answer.stdout);
        let names: Vec<_> = answer.stdout.lines().skip(3).collect();
        assert!(
            names.contains(&"moved") && !names.contains(&"full") && !names.contains(&"empty"),
            "{names:?}"
        );
    };
    check("directories of the image are removed on a disk", kept, Box::new(on_disk));

    let doctor = move |answer: &Answer| {
        assert_eq!(answer.status, 0);
        let report: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        let found = |what: &str| {
            let findings = report["findings"].as_array().unwrap();
            let finding = findings.iter().find(|finding| finding["what"] == what).unwrap();
            format!("{} {}", finding["state"].as_str().unwrap(), finding["detail"].as_str().unwrap())
        };
        assert!(found("kernel").starts_with(&format!("ok Linux {}.{}.", release.0, release.1)), "{report}");
        for option in ["--memory", "--cpus", "--pids-limit"] {
            match caller {
                Caller::Plain => {
                    assert!(found(option).starts_with("limited you may not make control groups"), "{report}");
                }
                _ => {
                    let parent = caller.parent();
                    assert_eq!(found(option), format!("ok control groups version 2, {parent}"));
                }
            }
        }
        let overlay = if release < (6, 8) { "all layers in one text" } else { "layer by layer" };
        assert!(found("overlay").contains(overlay), "{report}");
    };
    check("doctor", "mlbuild doctor --json".to_owned(), Box::new(doctor));
}

/// What `grep -r ""` finds in the layers of `layers(count)`.
fn content(count: usize) -> Vec<String> {
    let last = count - 1;
    let own = (0..count).map(|layer| format!("./own-{layer}:{layer}"));
    let mut lines: Vec<_> = own.chain([format!("./all:{last}"), format!("./hidden-{last}:{last}")]).collect();
    lines.sort();
    lines
}

/// An image of programs, with layers upon it.
fn image(machine: &Machine, name: &str, count: usize) {
    let directory = |name: &str| entry(name, b'5', 0o755, "", b"");
    let busybox = std::fs::read(machine.busybox()).unwrap();
    let mut base = vec![
        directory("bin"),
        entry("bin/busybox", b'0', 0o755, "", &busybox),
        directory("empty"),
        directory("full"),
        entry("full/file", b'0', 0o644, "", b"x"),
    ];
    for name in ["cat", "dd", "grep", "head", "ls", "mv", "rmdir", "sh", "sleep", "sort", "true", "wc"] {
        base.push(entry(&format!("bin/{name}"), b'2', 0o777, "busybox", b""));
    }
    let mut all = vec![base];
    all.extend(layers(count));
    layout::write(&machine.path("images").join(name), &all);
}

#[test]
fn an_older_kernel_with_control_groups_2() {
    let mut machine = or_skip!("an older kernel, control groups 2", Machine::new());
    image(&machine, "forty", 40);
    image(&machine, "many", 300);
    let release = machine.release();
    if release >= (6, 8) {
        let why = format!("this Debian has no kernel before 6.8, but {}.{}", release.0, release.1);
        left_out("the overlay of an older kernel", &Skip(why));
    }

    let mut checks = Vec::new();
    let plain = |name, caller, script: &str, holds: fn(&Answer)| Check {
        name,
        caller,
        script: script.to_owned(),
        holds: Box::new(holds),
    };
    checks.push(plain("a device node", Caller::Root, NODE, |answer| assert_eq!(answer.status, 0)));
    checks_of_roots(Caller::Root, release, &mut checks);
    checks_of_limits(Caller::Root, &mut checks);
    checks.push(plain("groups of users", Caller::Root, GIVE, |answer| assert_eq!(answer.status, 0)));
    checks_of_roots(Caller::Lent, release, &mut checks);
    checks_of_limits(Caller::Lent, &mut checks);

    // Alone in its group the process makes room for the run's; beside a shell it cannot.
    let beside = run("--memory 64m", "echo ran") + "; exit $?";
    checks.push(plain("a unit with a shell in it", Caller::Unit, &beside, |answer| {
        assert_eq!((answer.status, &answer.stdout[..]), (125, ""));
        for said in [
            "--memory cannot be enforced: other processes are in this control group",
            "hint: start it alone in a unit: `systemd-run --user --scope -p Delegate=yes mlbuild run",
        ] {
            assert!(answer.stderr.contains(said), "no {said:?}");
        }
    }));
    let alone = run("--memory 64m --pids-limit 12 --cpus 0.5", &balloon("200M"));
    checks.push(plain("a unit of its own", Caller::Unit, &format!("exec {alone}"), |answer| {
        assert_eq!((answer.status, &answer.stdout[..]), (137, ""));
        assert!(answer.stderr.contains("--memory: the kernel killed"), "{}", answer.stderr);
    }));

    checks_of_roots(Caller::Plain, release, &mut checks);
    let all = "--memory 64m --pids-limit 12 --cpus 0.5";
    checks.push(plain("limits that are nobody's to set", Caller::Plain, &run(all, "echo ran"), |answer| {
        assert_eq!((answer.status, &answer.stdout[..]), (125, ""));
        for said in [
            "--memory cannot be enforced: you may not make control groups (`memory`) here",
            "--cpus cannot be enforced: you may not make control groups (`cpu`) here",
            "--pids-limit cannot be enforced: you may not make control groups (`pids`) here",
            "hint: start it in a unit of your own: `systemd-run --user --scope -p Delegate=yes mlbuild run",
            "hint: `--best-effort-limits` goes on",
        ] {
            assert!(answer.stderr.contains(said), "no {said:?}");
        }
    }));
    let best = run(&format!("{all} --best-effort-limits"), "echo ran");
    checks.push(plain("limits where they can be", Caller::Plain, &best, |answer| {
        assert_eq!((answer.status, &answer.stdout[..]), (0, "ran\n"));
        for option in ["--memory", "--cpus", "--pids-limit"] {
            let said = format!("{option} cannot be enforced: you may not make control groups");
            assert!(answer.stderr.contains(&said), "no {said:?}");
        }
    }));

    for Check { caller, script, .. } in &checks {
        let (account, group) = caller.account_and_group();
        machine.check(account, group, script);
    }
    let said = machine.start();
    println!(
        "{} checks on Linux {}.{}, {:.1} s by its clock",
        checks.len(),
        release.0,
        release.1,
        said.seconds
    );
    let mut failed = Vec::new();
    for (check, answer) in checks.iter().zip(&said.answers) {
        let result = catch_unwind(|| {
            (check.holds)(answer);
            only_own_groups(answer);
        });
        if result.is_err() {
            failed.push(format!("{:?}: {}\n{}\n{answer:#?}", check.caller, check.name, check.script));
        }
    }
    assert!(failed.is_empty(), "{} of {} checks\n{}", failed.len(), checks.len(), failed.join("\n\n"));
}

/// Nothing of a run is left; where a process has made room for one, that place is its own and stays.
fn only_own_groups(answer: &Answer) {
    let known = |group: &&String| {
        let group = group.strip_prefix("/sys/fs/cgroup/").unwrap();
        GROUPS.contains(&group) || group == "unit/supervisor"
    };
    let left: Vec<_> = answer.groups.iter().filter(|group| !known(group)).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
