//! SIGINT and SIGTERM while something takes long or does not move at all: within five seconds, with the signal's exit
//! status, and without a temporary file.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mlbuild::digest::Digest;
use rustix::process::{Pid, Signal, kill_process};

use super::{Place, Small, names};
use crate::support::mlbuild::{Project, Run};

/// How long a stopped run may take.
const STOPPED: Duration = Duration::from_secs(5);

/// Starts `run`, sends each signal once `ready`, asked with the time since, says so, and expects its end.
fn stop(place: &Place<'_>, run: &dyn Fn() -> Run, ready: &dyn Fn(Duration) -> bool) {
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = run().command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let child_id = child.id().to_string();
        wait_until(&mut child, &|_| catches(&child_id, signal));
        wait_until(&mut child, ready);
        let sent = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(sent.elapsed() < STOPPED, "{signal:?}: it took {:?}", sent.elapsed());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(128 + signal.as_raw()), "{signal:?}: {said}");
        assert!(said.lines().any(|line| line == "cancelled"), "{said}");
        let left = names(&place.store().join("tmp"));
        assert!(left.is_empty(), "{signal:?}: {left:?} in tmp/");
    }
}

fn wait_until(child: &mut Child, ready: &dyn Fn(Duration) -> bool) {
    let start = Instant::now();
    while !ready(start.elapsed()) {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        assert!(start.elapsed() < Duration::from_secs(60), "it does not get there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process is as far as to handle the signal.
fn catches(process: &str, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

/// When so much time has gone by.
fn after(milliseconds: u64) -> impl Fn(Duration) -> bool {
    move |gone| gone > Duration::from_millis(milliseconds)
}

/// A server that answers with the beginning of something and then waits for ever.
fn stalling(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
            held.push(stream);
        }
    });
    url
}

#[test]
fn a_stalled_download() {
    let small = Small::new();
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nPK\r\n";
    for url in [stalling(b""), stalling(b"HTTP/1.1 200 OK\r\n"), stalling(answer)] {
        let place = small.place();
        small.tiny.relock(|lock| {
            for wheel in lock.packages.iter_mut().flat_map(|package| &mut package.wheels) {
                wheel.url = format!("{url}/{}", wheel.name);
            }
        });
        // The two Debian packages are there then.
        let others = |gone| after(100)(gone) && super::blobs(&place.store().join("blobs")).len() >= 2;
        stop(&place, &|| place.build(), &others);
        small.tiny.relock(|_| ());
        place.check("after a stalled download");
    }
}

#[test]
fn a_stalled_lock() {
    let small = Small::new();
    let place = small.place();
    let url = stalling(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n-----BEGIN");
    let project = Project::new(&format!(
        "[base]\ndebian = \"bookworm\"\nmirrors = [\"{url}\"]\n[python]\nversion = \"3.11\"\n\
         dependencies = [\"demo\"]\n[[index]]\nurl = \"{url}/simple\"\ndefault = true\n"
    ));
    let lock = || project.mlbuild(&["lock"]).env("MLBUILD_HOME", place.store());
    stop(&place, &lock, &after(400));
    assert_eq!(names(&project.path()), ["mlbuild.toml"]);
}

/// As by nohup, or as a shell has it for a job in the background.
#[test]
fn what_the_caller_ignores_stays_ignored() {
    let small = Small::new();
    let place = small.place();
    let project = large(&place);
    let build = project.mlbuild(&["build"]).under(&["env", "--ignore-signal=HUP,INT"]);
    let mut child = build.command().stderr(Stdio::null()).spawn().unwrap();
    let process = child.id().to_string();
    wait_until(&mut child, &|_| catches(&process, Signal::TERM));
    assert!(!catches(&process, Signal::HUP) && !catches(&process, Signal::INT));
    for signal in [Signal::HUP, Signal::INT] {
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    // Longer than it takes to look at a signal.
    wait_until(&mut child, &after(300));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    place.check("after ignored signals");
}

/// Two gigabytes of zeros that take no room.
fn large(place: &Place<'_>) -> Project {
    let project = Project::new("[base]\nscratch = true\n[[copy]]\nfrom = \"large\"\nto = \"/large\"\n")
        .with_store(&place.store());
    let file = fs::File::create(project.path().join("large")).unwrap();
    file.set_len(2 << 30).unwrap();
    project
}

#[test]
fn a_large_layer() {
    let small = Small::new();
    let place = small.place();
    let project = large(&place);
    let build = || project.mlbuild(&["build"]);
    // While the file is hashed, and while the layer is encoded.
    stop(&place, &build, &after(200));
    stop(&place, &build, &|_| !names(&place.store().join("tmp")).is_empty());
}

/// A terminal and a parent often send the same wish twice; whoever asks again later does not want to wait.
#[test]
fn a_second_signal() {
    let small = Small::new();
    let place = small.place();
    let project = large(&place);
    let mut child = project.mlbuild(&["build"]).command().stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut child, &|_| !names(&place.store().join("tmp")).is_empty());
    for signal in [Signal::INT, Signal::INT, Signal::TERM] {
        kill_process(Pid::from_child(&child), signal).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(child.wait().unwrap().code(), Some(130 | 143)));
    assert!(names(&place.store().join("tmp")).is_empty());

    // Held up by a pipe that nobody reads.
    let project = Project::new("[base]\nscratch = true\n[[copy]]\nfrom = \"noise\"\nto = \"/noise\"\n")
        .with_store(&place.store());
    project.write("noise", super::noise(1_000_000));
    let _ = project.mlbuild(&["build"]).ok();
    let export = project.mlbuild(&["build", "-o", "oci-archive:-"]);
    let mut child = export.command().stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut child, &after(500));
    let sent = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    wait_until(&mut child, &after(1000));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let pipe = child.stdout.take();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(sent.elapsed() < Duration::from_secs(3), "{:?}", sent.elapsed());
    drop(pipe);
}

#[test]
fn an_export() {
    let small = Small::new();
    let place = small.place();
    let (to, file) = (place.layout(), place.path("file.tar"));
    // The layer is a blob of the store already; a pipe that nobody reads holds it up.
    let project = Project::new("[base]\nscratch = true\n[[copy]]\nfrom = \"noise\"\nto = \"/noise\"\n")
        .with_store(&place.store());
    project.write("noise", super::noise(40_000_000));
    let digest = project.mlbuild(&["build"]).ok().digest();
    stop(&place, &|| project.mlbuild(&["build", "-o", "oci-archive:-"]), &after(500));

    // An exporter that is before this one.
    fs::create_dir_all(&to).unwrap();
    let held = fs::File::open(&to).unwrap();
    held.lock().unwrap();
    let output = format!("oci:{}", to.display());
    stop(&place, &|| project.mlbuild(&["build", "-o", &output]), &after(300));
    drop(held);

    // In the middle of a file.
    let outputs = [format!("oci-archive:{}", file.display()), output];
    for output in &outputs {
        let mut stopped = 0;
        for moment in 0..20 {
            let run = project.mlbuild(&["build", "-o", output]);
            let mut child = run.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let begun = || has_scratch(place.directory.path()) || has_scratch(&to);
            let start = Instant::now();
            while !begun() && child.try_wait().unwrap().is_none() && start.elapsed() < STOPPED {}
            std::thread::sleep(Duration::from_micros(300 * moment));
            let _ = kill_process(Pid::from_child(&child), Signal::INT);
            let code = child.wait().unwrap().code();
            assert!(matches!(code, Some(0 | 130)), "{code:?}");
            stopped += usize::from(code == Some(130));
            assert!(!begun(), "a temporary file is left");
            let _ = fs::remove_dir_all(to.join("blobs"));
        }
        assert!(stopped > 0, "no export to {output} was stopped");
    }
    let built = project.mlbuild(&["build", "-o", &outputs[0], "-o", &outputs[1]]).ok();
    assert_eq!(built.digest(), digest);
    super::check_blobs(&to.join("blobs/sha256"), "after stopped exports");
}

fn has_scratch(directory: &Path) -> bool {
    names(directory).iter().any(|name| name.starts_with(".mlbuild-"))
}

#[test]
fn waiting_for_others() {
    let small = Small::new();
    let place = small.place();
    let _ = place.build().ok();
    // One that prunes.
    let held = fs::File::open(place.store().join("lock")).unwrap();
    held.lock().unwrap();
    stop(&place, &|| place.build(), &after(200));
    drop(held);
    place.check("after waiting for a prune");

    // One that downloads the same file.
    let place = small.place();
    fs::create_dir_all(place.store()).unwrap();
    let _ = small.mlbuild(&place.store(), &["images"]).ok();
    let wheel = fs::read(small.tiny.site("wheels/alpha-1.0-py3-none-any.whl")).unwrap();
    let held = fs::File::create(place.store().join("partial").join(Digest::of(wheel).hex())).unwrap();
    held.lock().unwrap();
    stop(&place, &|| place.build(), &after(300));
    drop(held);
    place.check("after waiting for a download");
}
