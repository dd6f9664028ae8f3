use std::io::BufRead as _;
use std::process::{Child, Command, Stdio};

use super::*;

#[test]
fn addresses_of_buses() {
    let path = |text: &str| socket(text).map(|path| path.to_str().unwrap().to_owned());
    assert_eq!(path("unix:path=/run/user/1000/bus").as_deref(), Some("/run/user/1000/bus"));
    assert_eq!(path("unix:guid=1,path=/x").as_deref(), Some("/x"));
    assert_eq!(path("tcp:host=h;unix:path=/x,guid=1").as_deref(), Some("/x"));
    for other in ["", "unix:abstract=/x", "unix:path=relative", "unix:path=/with%20space"] {
        assert_eq!(path(other), None, "{other}");
    }
}

#[test]
fn a_manager_has_a_group_and_a_bus() {
    let root = tempfile::tempdir().unwrap();
    let mount = root.path().join("cgroup");
    let find = |address: Option<&str>| Manager::find(root.path(), &mount, 1000, address);
    let group = mount.join("user.slice/user-1000.slice/user@1000.service");
    fs::create_dir_all(&group).unwrap();
    fs::create_dir_all(root.path().join("run/user/1000")).unwrap();
    let bus = root.path().join("run/user/1000/bus");
    let _listener = std::os::unix::net::UnixListener::bind(&bus).unwrap();
    assert_eq!(find(None), None, "no group");
    fs::write(group.join("cgroup.controllers"), "memory pids\n").unwrap();
    let controllers = ["memory", "pids"].map(str::to_owned).into();
    assert_eq!(find(None), Some(Manager { bus, controllers }));
    assert_eq!(find(Some("unix:path=/no/such/bus")), None);
}

/// A bus of its own: the real one, which drops whoever sends it a message that is not well-formed.
struct Bus {
    daemon: Child,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Bus {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("bus");
        let configuration = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow eavesdrop=\"false\"/><allow own=\"*\"/>\
             </policy></busconfig>",
            socket.display()
        );
        let file = directory.path().join("bus.conf");
        fs::write(&file, configuration).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test runs the real bus")]
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut address = String::new();
        io::BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { daemon, socket, _directory: directory })
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A stand-in for systemd on a real bus: takes the call apart and answers, with the job's end before and after others.
fn stand_in(socket: &Path, result: &str) -> (String, Vec<String>, u32) {
    let mut connection = Connection::open(socket, rustix::process::getuid().as_raw()).unwrap();
    let mut name = Writer::default();
    name.string(MANAGER.destination);
    name.u32(4);
    connection.call(Target { member: "RequestName", ..BUS }, "su", &name.0).unwrap();
    loop {
        let message = connection.receive().unwrap();
        match message.member.as_str() {
            "Subscribe" => connection.answer(&message, "", &[]),
            "StartTransientUnit" => {
                let mut reader = Reader::new(&message.body);
                let unit = reader.string().unwrap().to_owned();
                assert_eq!(reader.string(), Some("fail"));
                let removed = |job: &str, result: &str| {
                    let mut body = Writer::default();
                    body.u32(1);
                    [job, &unit, result].iter().for_each(|text| body.string(text));
                    body.0
                };
                let signal = Target { member: "JobRemoved", ..MANAGER };
                connection.signal(signal, "uoss", &removed("/job/1", "failed"));
                // The end of the job may even come before the answer.
                connection.signal(signal, "uoss", &removed("/job/2", result));
                let mut job = Writer::default();
                job.string("/job/2");
                connection.answer(&message, "o", &job.0);
                let body = message.body;
                let names = ["Description", "PIDs", "Delegate", "CollectMode"];
                let text = String::from_utf8_lossy(&body).into_owned();
                let found = names.iter().filter(|name| text.contains(**name)).map(|name| (*name).to_owned());
                let pid = std::process::id().to_le_bytes();
                let times = body.windows(4).filter(|four| **four == pid).count();
                return (unit, found.collect(), u32::try_from(times).unwrap());
            }
            _ => {}
        }
    }
}

#[test]
fn a_scope_is_asked_for_over_a_real_bus() {
    let Some(bus) = Bus::start() else {
        eprintln!("skipped: a scope of systemd: no dbus-daemon");
        return;
    };
    let manager = Manager { bus: bus.socket.clone(), controllers: BTreeSet::new() };
    let uid = rustix::process::getuid().as_raw();
    let error = enter_scope(&manager, uid, "x").unwrap_err().to_string();
    assert!(error.contains("ServiceUnknown"), "nobody is there: {error}");
    for (result, works) in [("done", true), ("timeout", false)] {
        std::thread::scope(|scope| {
            let server = scope.spawn(|| stand_in(&bus.socket, result));
            // Until it has its name, nobody is there.
            let asked = (0..500).find_map(|_| match enter_scope(&manager, uid, "a b/c") {
                Err(error) if error.to_string().contains("ServiceUnknown") => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    None
                }
                result => Some(result),
            });
            let asked = asked.expect("the stand-in comes up");
            assert_eq!(asked.is_ok(), works, "{asked:?}");
            let (unit, properties, pids) = server.join().unwrap();
            assert_eq!(unit, format!("mlbuild-a-b-c-{}.scope", std::process::id()));
            assert_eq!((properties.len(), pids), (4, 1));
        });
    }
    assert!(enter_scope(&manager, uid + 1, "x").is_err(), "the bus takes nobody's word for who they are");
}
