//! What a run leaves to others: no process, also none that only its parent could take away.

use super::Host;
use crate::support::skip::or_skip;
use crate::support::tool::tool;

/// A first process that waits for nobody but the command it starts, as a program in a container; its name is the first
/// argument. Says who else is left.
const FIRST: &str = "import os, subprocess, sys
open('/proc/self/comm', 'w').write(sys.argv[1])
status = subprocess.call(sys.argv[2:])
def state(pid): return open(f'/proc/{pid}/stat').read().rsplit(') ')[1].split()[0]
left = [state(pid) for pid in os.listdir('/proc') if pid.isdigit() and pid != '1']
print('status', status, 'left', left)";

#[test]
fn a_run_leaves_no_zombie_to_who_takes_none_away() {
    or_skip!("zombies", tool("unshare"));
    for host in or_skip!("zombies", Host::both("hello")) {
        let left = |first: &str, options: &[&str], program: &str| {
            let run = host.run(options, &["python", "-c", program]);
            let around = ["unshare", "-p", "-f", "--mount-proc", "python3", "-c", FIRST, first];
            run.under(&around).ok().stdout()
        };
        let none = "status 0 left []\n";
        for options in
            [&[][..], &["--network", "none"], &["-t"], &["--init=false"], &["-p", "127.0.0.1:0:80"]]
        {
            for program in ["pass", "import os, time; os.fork() or time.sleep(9)"] {
                assert_eq!(left("program", options, program), none, "{:?} {options:?} {program}", host.who);
            }
        }
        // Where somebody does, nobody waits: it may still be there, and is taken away.
        let said = left("tini", &["--network", "none"], "pass");
        assert!(said.starts_with("status 0 left ["), "{said}");
    }
}
