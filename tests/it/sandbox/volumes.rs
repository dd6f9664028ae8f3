//! Volumes as people know them from docker: files, links, places that are not there, one below another.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::{Host, Who};
use crate::support::debs::entry;
use crate::support::skip::or_skip;
use crate::support::tool::tool;

/// A directory of the user's with a file `there`.
fn directory(host: &Host, name: &str) {
    fs::create_dir(host.path(name)).unwrap();
    host.give(&host.path(name));
    host.write(&format!("{name}/there"), name);
}

#[track_caller]
fn prints(host: &Host, options: &[&str], program: &str, expected: &str) {
    assert_eq!(
        host.python(options, program).expect(0).stdout().trim(),
        expected,
        "{:?} {options:?}",
        host.who
    );
}

#[track_caller]
fn refuses(host: &Host, options: &[&str], said: &str) {
    let refused = host.python(options, "").expect(125);
    assert!(refused.stderr().contains(said), "{options:?}: {}", refused.stderr());
}

#[test]
fn a_file_is_a_volume() {
    for host in or_skip!("volumes", Host::both("hello")) {
        let file = host.write("file", "before");
        let write = "open('/new/place/file', 'r+').write('behind'); print(open('/new/place/file').read())";
        prints(&host, &["-v", "./file:/new/place/file"], write, "behind");
        assert_eq!(fs::read_to_string(&file).unwrap(), "behind");
        // Over one of the image's, over a link of the host's to it, over one that every run has.
        symlink("file", host.path("link")).unwrap();
        for target in ["/etc/passwd", "/etc/hosts", "/etc/resolv.conf"] {
            let (option, read) = (format!("./link:{target}:ro"), format!("print(open('{target}').read())"));
            prints(&host, &["-v", &option], &read, "behind");
        }
        directory(&host, "data");
        refuses(&host, &["-v", "./file:/etc"], "cannot make the mount point /etc: Is a directory");
        refuses(
            &host,
            &["-v", "./data:/etc/passwd"],
            "cannot make the mount point /etc/passwd: Not a directory",
        );
    }
}

#[test]
fn sources_count_from_the_working_directory_and_must_be_there() {
    for host in or_skip!("volumes", Host::both("hello")) {
        directory(&host, "data");
        directory(&host, "data/sub");
        let parent = host.directory.path().file_name().unwrap().to_str().unwrap();
        let read = "print(open('/data/there').read())";
        for (source, expected) in
            [("data", "data"), ("./data/sub", "data/sub"), (&format!("../{parent}/data"), "data")]
        {
            prints(&host, &["-v", &format!("{source}:/data")], read, expected);
        }
        prints(&host, &["-v", ".:/all"], "import os; print('data' in os.listdir('/all'))", "True");
        // No directory is made, and there are no volumes of a name.
        for source in ["./absent", "name"] {
            let option = format!("{source}:/data");
            refuses(&host, &["-v", &option], "make it first");
            assert!(!host.path(source).exists());
        }
        refuses(&host, &["-v", ":/data"], "there is no path of the host");
        refuses(
            &host,
            &["-v", "./data:/x", "--mount", "type=tmpfs,target=/x/"],
            "two mounts are to be at /x",
        );
    }
}

#[test]
fn links_of_the_image_lead_to_a_place_inside() {
    let link = |name: &str, target: &str| entry(name, b'2', 0o777, target, b"");
    let layer = vec![
        entry("srv", b'5', 0o755, "", b""),
        link("data", "srv"),
        link("absolute", "/srv"),
        link("out", "../../../srv"),
        // As /var/lock of many images.
        link("srv/nowhere", "/made/here"),
        link("srv/relative", "../made/there"),
        link("srv/loop", "loop"),
    ];
    for host in or_skip!("volumes", Host::both("hello")) {
        let host = host.with_layers(std::slice::from_ref(&layer));
        directory(&host, "data");
        for (target, place) in [
            ("/data/below", "/srv/below"),
            ("/absolute/below/deeper", "/srv/below/deeper"),
            ("/out", "/srv"),
            ("/srv/nowhere", "/made/here"),
            ("/srv/nowhere/below", "/made/here/below"),
            ("/srv/relative/below", "/made/there/below"),
        ] {
            let program = format!(
                "import os; print(open('{target}/there').read(), os.path.realpath('{target}'), os.path.ismount('{place}'))"
            );
            prints(&host, &["-v", &format!("./data:{target}")], &program, &format!("data {place} True"));
        }
        refuses(&host, &["-v", "./data:/srv/loop/below"], "cannot make the mount point /srv/loop");
        // A file, too; and the work directory.
        let file = host.write("file", "text");
        let read = "import os; print(open('/made/here').read(), os.getcwd())";
        let options = ["-v", &format!("{file}:/srv/nowhere"), "-w", "/srv/relative/deep"];
        prints(&host, &options, read, "text /made/there/deep");
        assert_eq!(fs::read_dir(host.path("data")).unwrap().count(), 1);
    }
}

#[test]
fn read_only_is_read_only_all_the_way_down() {
    or_skip!("mounts below a volume", tool("unshare"));
    for host in or_skip!("volumes", Host::both("hello")) {
        directory(&host, "data");
        directory(&host, "data/sub");
        let host = host.where_root_has(
            "mount -t tmpfs -o mode=1777 tmpfs \"$0/data/sub\" && touch \"$0/data/sub/file\"",
        );
        let write = "import os
print(os.listdir('/data/sub'))
for path in ['/data/new', '/data/there', '/data/sub/new', '/data/sub/file']:
    try: open(path, 'w'); print('written')
    except OSError as e: print(e.strerror)
try: os.chmod('/data/there', 0o777); print('changed')
except OSError as e: print(e.strerror)";
        let shut = "['file']\n".to_owned() + &["Read-only file system"; 5].join("\n");
        for option in ["-v=./data:/data:ro", "--mount=src=./data,dst=/data,ro"] {
            prints(&host, &[option], write, &shut);
        }
        let open = host.python(&["-v", "./data:/data"], write).expect(0).stdout();
        let writable = open.lines().filter(|line| *line == "written").count();
        // A file of root's in the memory is not the user's to write.
        assert_eq!(writable, if host.who == Who::Root { 4 } else { 3 }, "{open}");
    }
}

#[test]
fn a_mount_below_another_is_seen_whatever_the_order() {
    for host in or_skip!("volumes", Host::both("hello")) {
        for name in ["outer", "inner", "outer/cache", "outer/inner"] {
            directory(&host, name);
        }
        let look = "import os; print(open('/data/there').read(), open('/data/inner/there').read(), os.listdir('/data/cache'))";
        let [inner, outer, cache] =
            [["-v", "./inner:/data/inner"], ["-v", "./outer:/data"], ["--tmpfs", "/data/cache"]];
        for order in [[inner, outer, cache], [cache, outer, inner], [outer, inner, cache]] {
            prints(&host, &order.concat(), look, "outer inner []");
        }
    }
}

/// With a root that is read-only, mount points and the work directory are there all the same.
#[test]
fn a_read_only_root_has_all_that_was_asked_for() {
    for host in or_skip!("volumes", Host::both("hello")) {
        directory(&host, "data");
        let program = "import os
print(os.getcwd())
for path in ['/new/data/x', '/new/memory/x', '/dev/shm/x', '/x', 'x']:
    try: open(path, 'w').write('x'); print('written')
    except OSError as e: print(e.strerror)";
        let options =
            ["--read-only", "-v", "./data:/new/data", "--tmpfs", "/new/memory:size=1m", "-w", "/made/work"];
        let expected = "/made/work\nwritten\nwritten\nwritten\nRead-only file system\nRead-only file system";
        prints(&host, &options, program, expected);
        assert_eq!(fs::read_to_string(host.path("data/x")).unwrap(), "x");
    }
}

#[test]
fn the_work_directory_is_made_unless_it_cannot_be() {
    for host in or_skip!("work directories", Host::both("hello")) {
        let at = "import os; at = os.stat('.'); print(os.getcwd(), oct(at.st_mode))";
        prints(&host, &["-w", "/a/b//c/"], at, "/a/b/c 0o40755");
        prints(&host, &["-w", ""], at, "/ 0o40755");
        directory(&host, "data");
        prints(&host, &["-v", "./data:/data", "-w", "/data/new"], at, "/data/new 0o40755");
        let owner = |name: &str| fs::metadata(host.path(name)).unwrap().uid();
        assert_eq!(owner("data/new"), owner("data"));
        refuses(&host, &["-w", "relative"], "is not an absolute path");
        for file in ["/etc/passwd", "/etc/passwd/x"] {
            let refused = host.python(&["-w", file], "").expect(126);
            let said = format!("cannot enter the working directory {file}: Not a directory");
            assert!(refused.stderr().contains(&said), "{}", refused.stderr());
        }
    }
}

#[test]
fn files_of_variables_have_no_quotes() {
    for host in or_skip!("files of variables", Host::both("hello")) {
        let text = "# comment\nPLAIN=1\n  INDENTED=2\nQUOTED=\"a b\"\nSPACES= a b \nEMPTY=\nHASH=a # b\nTWICE=1\nTWICE=2\nOWN\nABSENT\n";
        let file = host.write("variables", text);
        let more = host.write("more", "PLAIN=more\r\n");
        let names = "['PLAIN', 'INDENTED', 'QUOTED', 'SPACES', 'EMPTY', 'HASH', 'TWICE', 'OWN', 'ABSENT']";
        let program = format!("import os; print([os.environ.get(name) for name in {names}])");
        let options = ["--env-file", &file, "--env-file", &more];
        let out = host.run(&options, &["python", "-c", &program]).env("OWN", "mine").ok();
        let expected = r#"['more', '2', '"a b"', ' a b ', '', 'a # b', '2', 'mine', None]"#;
        assert_eq!(out.stdout().trim(), expected);
        let wrong = host.write("wrong", "A=1\nexport B=2\n");
        refuses(&host, &["--env-file", &wrong], "wrong: line 2: a name cannot have spaces");
        let _ = host.python(&["--env-file", "absent"], "").expect(125);
    }
}
