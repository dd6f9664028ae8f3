//! Whole launches as `--dry-run --json` prints them, one for each recorded host; and the rules that a snapshot would hide.

use std::path::{Path, PathBuf};

use super::*;
use crate::launch::gpu::{ImageFacts, gpus};
use crate::launch::{
    Caller, Device, Identity, Limits, Mount, Publish, Range, Rlimit, Tmpfs, Volume, milli_cpus,
};
use crate::oci::Platform;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";
const GROUP: &str = "root:x:0:\nusers:x:100:\nvideo:x:44:ann\n";

fn config() -> RunConfig {
    RunConfig {
        entrypoint: vec!["python".into()],
        cmd: vec!["app.py".into()],
        env: vec!["PATH=/usr/local/bin:/usr/bin".into(), "NVIDIA_VISIBLE_DEVICES=all".into()],
        working_dir: Some("/app".into()),
        ..RunConfig::default()
    }
}

fn options() -> Options {
    Options {
        command: Vec::new(),
        entrypoint: None,
        environment: Vec::new(),
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        directory: None,
        user: None,
        interactive: false,
        terminal: false,
        terminal_type: None,
        publish: Vec::new(),
        network: NetworkMode::None,
        limits: Limits::default(),
        shm_size: 64 << 20,
        rlimits: Vec::new(),
        devices: Vec::new(),
        read_only: false,
        name: "mlbuild".into(),
        keep: None,
        init: true,
        timeout: None,
    }
}

fn host(uid: u32) -> HostFacts {
    HostFacts { caller: Caller { uid, gid: uid, ..Caller::default() }, ..HostFacts::default() }
}

fn launch_of(
    config: &RunConfig,
    options: &Options,
    host: &HostFacts,
    gpu: GpuPlan,
) -> Result<Launch, LaunchError> {
    let layers = [PathBuf::from("/store/trees/aa/root"), PathBuf::from("/store/trees/bb/root")];
    let accounts = Accounts { passwd: PASSWD, group: GROUP };
    plan(&Image { config, layers: &layers, accounts, has_owners: false }, options, host, gpu)
}

#[track_caller]
fn launch(options: &Options, host: &HostFacts) -> Launch {
    launch_of(&config(), options, host, GpuPlan::default()).unwrap()
}

/// As the shell prints it.
fn json(launch: &Launch) -> String {
    serde_json::to_string_pretty(launch).unwrap()
}

#[test]
fn a_layer_that_is_there_twice_is_mounted_once() {
    let [a, b, c] = ["a", "b", "c"].map(|name| PathBuf::from(format!("/store/trees/{name}/root")));
    let layers = [a.clone(), b.clone(), a.clone(), c.clone(), b.clone()];
    let accounts = Accounts { passwd: PASSWD, group: GROUP };
    let config = config();
    let image = Image { config: &config, layers: &layers, accounts, has_owners: false };
    let launch = plan(&image, &options(), &host(0), GpuPlan::default()).unwrap();
    assert_eq!(launch.root.layers, [a, c, b]);
}

#[test]
fn an_ordinary_user_with_everything() {
    let base = Path::new("/home/ann/project");
    let Ok(Mount::Bind(mounted)) = Mount::parse("type=bind,src=/data,dst=/data,readonly", base) else {
        panic!()
    };
    let options = Options {
        command: vec!["train.py".into(), "--epochs".into(), "3".into()],
        environment: vec!["TOKEN=1".into()],
        volumes: vec![Volume::parse("./src:/src", base).unwrap(), mounted],
        tmpfs: vec![Tmpfs::parse("/scratch:size=1g,mode=700").unwrap()],
        user: Some("ann".into()),
        interactive: true,
        terminal: true,
        terminal_type: Some("xterm-256color".into()),
        publish: vec![Publish::parse("8080:80").unwrap()],
        network: NetworkMode::Private,
        limits: Limits {
            memory: Some(8 << 30),
            milli_cpus: Some(milli_cpus("1.5").unwrap()),
            pids: Some(500),
            best_effort: false,
        },
        rlimits: vec![Rlimit::parse("nofile=1024:4096").unwrap()],
        devices: vec![Device::parse("/dev/fuse").unwrap()],
        read_only: true,
        name: "training".into(),
        timeout: Some(3600),
        ..options()
    };
    let host = HostFacts {
        resolv_conf: Some("nameserver 192.0.2.53\n".into()),
        pasta: Some("/usr/bin/pasta".into()),
        ..host(1001)
    };
    insta::assert_snapshot!("everything", json(&launch(&options, &host)));
    insta::assert_snapshot!("everything_as_text", launch(&options, &host));
}

/// As root, with all GPUs of each recorded host that has some.
#[test]
fn recorded_hosts() {
    for name in ["one", "two", "eight", "partitioned", "cdi", "amd"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/hosts/gpu-{name}.json"));
        let host: HostFacts = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let image =
            ImageFacts { platform: Platform::LinuxAmd64, ld_so_cache: None, compat: &[], environment: &[] };
        let gpu = gpus(&"all".parse().unwrap(), &host, image).unwrap();
        let launch = launch_of(&config(), &options(), &host, gpu).unwrap();
        insta::assert_snapshot!(format!("host_{name}"), json(&launch));
    }
}

/// As the newest profile of moby has it: of each processor that there is.
#[test]
fn heat_of_processors_is_hidden() {
    let host = HostFacts { thermal_cpus: vec![0, 1, 17], ..host(0) };
    let launch = launch(&options(), &host);
    let place = |wanted: &str| launch.steps.iter().position(|step| step.target() == wanted).unwrap();
    for cpu in [0, 1, 17] {
        let target = format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
        let at = place(&target);
        assert_eq!(launch.steps[at], Step::Hide { target: target.clone() });
        assert!(at > place("/sys"), "there is something to hide by then");
        assert!(launch.to_string().contains(&format!("hide       {target}\n")), "{launch}");
    }
    let hidden = launch.steps.iter().filter(|step| matches!(step, Step::Hide { .. }));
    assert_eq!(hidden.count(), HIDDEN.len() + 3);
}

#[test]
fn who_the_users_are() {
    let of = |uid, subordinate| {
        let mut host = host(uid);
        (host.caller.subordinate_uids, host.caller.subordinate_gids) = (subordinate, subordinate);
        let options = Options { user: Some("ann".into()), ..options() };
        let launch = launch(&options, &host);
        (launch.identity, launch.process.uid, launch.process.groups, launch.warnings.len())
    };
    let range = Range { first: 100_000, count: 65_535 };
    let many = Identity::Subordinate { uid: 1000, gid: 100, uids: range, gids: range };
    assert_eq!(of(0, None), (Identity::Same, 1000, vec![44], 0));
    assert_eq!(of(1001, Some((100_000, 65_536))), (many, 1000, vec![44], 0));
    assert_eq!(of(1001, None), (Identity::Single { uid: 1000, gid: 100 }, 1000, vec![], 1));
}

#[test]
fn entrypoints_and_commands_are_put_together_as_docker_does() {
    let arguments = |entrypoint: Option<&str>, command: &[&str]| {
        let options = Options {
            entrypoint: entrypoint.map(str::to_owned),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..options()
        };
        launch_of(&config(), &options, &host(0), GpuPlan::default())
            .map(|launch| launch.process.arguments.join(" "))
    };
    assert_eq!(arguments(None, &[]).unwrap(), "python app.py");
    assert_eq!(arguments(None, &["x.py"]).unwrap(), "python x.py");
    assert_eq!(arguments(Some("sh"), &[]).unwrap(), "sh");
    assert_eq!(arguments(Some("sh"), &["-c", "x"]).unwrap(), "sh -c x");
    assert_eq!(arguments(Some(""), &["ls"]).unwrap(), "ls");
    assert_eq!(arguments(Some(""), &[]), Err(LaunchError::NoCommand));
}

#[test]
fn what_cannot_be_planned() {
    let refused = |change: &dyn Fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        launch_of(&config(), &options, &host(0), GpuPlan::default()).unwrap_err().to_string()
    };
    assert_eq!(refused(&|options| options.user = Some("eve".into())), "the image has no user `eve`");
    let environment = refused(&|options| options.environment = vec!["=x".into()]);
    assert_eq!(environment, "=x is neither NAME=value nor NAME");
    for directory in ["relative", "/a/../b", "/nul\0"] {
        assert!(refused(&|options| options.directory = Some(directory.into())).contains("work directory"));
    }
    for name in ["", "-x", ".x", "a/b", "a b", &"x".repeat(64)] {
        assert!(refused(&|options| options.name = name.into()).contains("cannot be a name"), "{name}");
    }
}

#[test]
fn what_an_image_gets_wrong_is_left_out_and_said() {
    let config = RunConfig { env: vec!["GOOD=1".into(), "BAD".into(), "=x".into()], ..config() };
    let launch = launch_of(&config, &options(), &host(0), GpuPlan::default()).unwrap();
    assert!(launch.process.environment.contains(&"GOOD=1".to_owned()));
    let said = launch.warnings.iter().filter(|warning| warning.contains("not a variable")).count();
    assert_eq!(said, 2, "{:?}", launch.warnings);
}

#[test]
fn name_servers_of_a_loopback() {
    for (text, local) in [
        ("", false),
        ("search x.example\n", false),
        ("nameserver 127.0.0.53\noptions edns0\n", true),
        ("nameserver 127.0.0.1\nnameserver ::1\n", true),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", false),
        ("nameserver 192.0.2.1\nnameserver 127.0.0.1\n", false),
    ] {
        assert_eq!(only_local_servers(text), local, "{text}");
    }
    let private = Options { network: NetworkMode::Private, ..options() };
    let with = |resolv_conf: &str| {
        let host = HostFacts {
            resolv_conf: Some(resolv_conf.into()),
            pasta: Some("/usr/bin/pasta".into()),
            ..host(1001)
        };
        launch(&private, &host).warnings.iter().any(|warning| warning.contains("cannot be resolved"))
    };
    assert!(with("nameserver 127.0.0.53\n") && !with("nameserver 192.0.2.53\n"));
}

#[test]
fn options_as_people_write_them() {
    let base = Path::new("/base");
    let wrong = |result: Result<String, crate::launch::OptionError>| result.unwrap_err().to_string();
    let volume = |text: &str| Volume::parse(text, base).map(|volume| format!("{volume:?}"));
    assert_eq!(
        Volume::parse("data:/data//./x/:ro", base),
        Ok(Volume { source: "/base/data".into(), target: "/data/x".into(), read_only: true })
    );
    for (text, rule) in [
        ("data", "write SRC:DST"),
        ("data:rel", "is not an absolute path"),
        ("data:/a/../b", "has a `..`"),
        ("data:/", "over the root itself"),
        ("data:/proc", "is the sandbox's own"),
        ("data:/d:rx", "neither `ro` nor `rw`"),
        (":/d", "no path of the host"),
    ] {
        assert!(wrong(volume(text)).contains(rule), "{text}");
    }
    assert!(Volume::parse("data:/d:ro,z", base).unwrap().read_only);
    let memory = Tmpfs::parse("/run:rw,noexec,nosuid,nodev,size=64m").unwrap();
    assert_eq!((memory.size, memory.no_exec), (Some(64 << 20), true));
    assert!(Tmpfs::parse("/run:suid").is_err());
    let publish = |text: &str| {
        Publish::parse(text)
            .map(|publish| format!("{}:{}:{}", publish.address, publish.host, publish.sandbox))
    };
    for (text, expected) in [
        ("80", "127.0.0.1:0:80"),
        ("8080:80/tcp", "127.0.0.1:8080:80"),
        ("0.0.0.0:8080:80", "0.0.0.0:8080:80"),
        ("0.0.0.0::80", "0.0.0.0:0:80"),
        ("[::1]:8080:80", "::1:8080:80"),
    ] {
        assert_eq!(publish(text).as_deref(), Ok(expected), "{text}");
    }
    for text in ["", "x", "80:x", "0", "70000", "80/udp", "host:80:80", "1.2.3.4.5:80:80"] {
        assert!(publish(text).is_err(), "{text}");
    }
    for text in ["nofile", "nofile=x", "nofile=9:3", "nofile=unlimited:3"] {
        assert!(Rlimit::parse(text).is_err(), "{text}");
    }
    assert_eq!(Rlimit::parse("core=-1").unwrap(), Rlimit { name: "core".into(), soft: None, hard: None });
    for text in ["0", "-1", "x", "inf", "nan"] {
        assert!(milli_cpus(text).is_err(), "{text}");
    }
    for text in [
        "type=bind,dst=/d",
        "type=tmpfs,src=/s,dst=/d",
        "type=volume,src=s,dst=/d",
        "dst=/d,colour=red",
        "src=/s",
    ] {
        assert!(Mount::parse(text, base).is_err(), "{text}");
    }
    for text in ["fuse", "/dev/x:/dev/y:q", "/dev/x:/dev/y:"] {
        assert!(Device::parse(text).is_err(), "{text}");
    }
}
