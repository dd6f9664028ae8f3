//! Whole launches as `--dry-run --json` prints them, one for each recorded host; and the rules that a snapshot would hide.

use std::path::{Path, PathBuf};

use super::*;
use crate::launch::gpu::{ImageFacts, gpus};
use crate::launch::{
    Caller, Device, Identity, Limits, Mount, Publish, Range, Rlimit, Tmpfs, Volume, memory, milli_cpus, pids,
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
            milli_cpus: milli_cpus("1.5").unwrap(),
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
        control_groups: ControlGroups::Unified,
        ..host(1001)
    };
    insta::assert_snapshot!("everything", json(&launch(&options, &host)));
    insta::assert_snapshot!("everything_as_text", launch(&options, &host));
}

#[test]
fn a_run_with_limits_sees_its_control_groups() {
    let limits = Limits { pids: Some(7), ..Limits::default() };
    let trees = [&["cpu", "cpuacct"][..], &["memory"]];
    let trees = trees.map(|tree| tree.iter().map(|name| (*name).to_owned()).collect());
    let trees = ControlGroups::Trees(trees.to_vec());
    let of = |limits: Limits, network: NetworkMode, control_groups: &ControlGroups| {
        let host = HostFacts { control_groups: control_groups.clone(), ..host(0) };
        let launch = launch(&Options { limits, network, ..options() }, &host);
        let at = launch.steps.into_iter().filter(|step| step.target().starts_with("/sys/fs/cgroup"));
        at.map(|step| step.to_string()).collect::<Vec<_>>()
    };
    for network in [NetworkMode::None, NetworkMode::Host] {
        let of = |limits, groups| of(limits, network, groups);
        assert_eq!(of(limits, &ControlGroups::Unified), ["mount      /sys/fs/cgroup cgroup2 (read-only)"]);
        assert_eq!(
            of(limits, &trees),
            [
                "mount      /sys/fs/cgroup tmpfs of 65.5 kB",
                "mount      /sys/fs/cgroup/cpu,cpuacct cgroup of cpu, cpuacct (read-only)",
                "link       /sys/fs/cgroup/cpu -> cpu,cpuacct",
                "link       /sys/fs/cgroup/cpuacct -> cpu,cpuacct",
                "mount      /sys/fs/cgroup/memory cgroup of memory (read-only)",
                "protect    /sys/fs/cgroup",
            ]
        );
        assert!(of(limits, &ControlGroups::None).is_empty());
        assert!(of(Limits::default(), &ControlGroups::Unified).is_empty());
    }
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
fn ports_lead_into_a_private_network_only() {
    let publish = vec![Publish::parse("8080:80").unwrap()];
    for (network, open) in [(NetworkMode::None, 0), (NetworkMode::Host, 0), (NetworkMode::Private, 1)] {
        let options = Options { publish: publish.clone(), network, ..options() };
        let launch = launch(&options, &host(1001));
        let said = launch.warnings.iter().filter(|warning| warning.starts_with("--publish does nothing"));
        assert_eq!((launch.network.publish.len(), said.count()), (open, 1 - open), "{network:?}");
    }
}

/// With GPUs, too.
#[test]
fn sockets_of_the_host_in_reach_are_said() {
    let options = Options { network: NetworkMode::Host, ..options() };
    for (open_sockets, said) in [(true, 1), (false, 0)] {
        let mut gpu = GpuPlan::default();
        gpu.warnings.push("of a GPU".into());
        let launch = launch_of(&config(), &options, &HostFacts { open_sockets, ..host(1001) }, gpu).unwrap();
        let warnings = launch.warnings.iter().filter(|warning| warning.contains("abstract Unix sockets"));
        assert_eq!((warnings.count(), launch.warnings.len()), (said, said + 1), "{:?}", launch.warnings);
    }
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
    let scratch = Tmpfs::parse("/run:rw,noexec,nosuid,nodev,size=64m").unwrap();
    assert_eq!((scratch.size, scratch.no_exec), (Some(64 << 20), true));
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
    for text in ["-1", "x", "inf", "nan", "0.0001"] {
        assert!(milli_cpus(text).is_err(), "{text}");
    }
    for text in ["-2", "x", "", "1.5"] {
        assert!(pids(text).is_err(), "{text}");
    }
    // As docker has it: no limit.
    let none = [milli_cpus("0"), milli_cpus("0.0"), memory("0"), memory("0m"), pids("0"), pids("-1")];
    assert!(none.iter().all(|limit| *limit == Ok(None)), "{none:?}");
    assert_eq!([pids("7"), memory("1k")], [Ok(Some(7)), Ok(Some(1024))]);
    for text in [
        "type=bind,dst=/d",
        "type=tmpfs,src=/s,dst=/d",
        "type=volume,src=s,dst=/d",
        "dst=/d,colour=red",
        "src=/s",
    ] {
        assert!(Mount::parse(text, base).is_err(), "{text}");
    }
    let read_only = |value: &str| match Mount::parse(&format!("src=/s,dst=/d,readonly{value}"), base) {
        Ok(Mount::Bind(volume)) => Ok(volume.read_only),
        Ok(Mount::Tmpfs(_)) => panic!("{value}"),
        Err(error) => Err(error.rule),
    };
    for value in ["", "=1", "=t", "=T", "=true", "=TRUE", "=True"] {
        assert_eq!(read_only(value), Ok(true), "{value}");
    }
    for value in ["=0", "=f", "=F", "=false", "=FALSE", "=False"] {
        assert_eq!(read_only(value), Ok(false), "{value}");
    }
    for value in ["=", "=yes", "=tRUE", "=on", "=2"] {
        assert!(read_only(value).is_err_and(|rule| rule.contains("neither true nor false")), "{value}");
    }
    // What has no meaning there is not dropped.
    for text in ["type=tmpfs,dst=/d,ro", "src=/s,dst=/d,size=1m", "src=/s,dst=/d,mode=700"] {
        assert!(Mount::parse(text, base).is_err(), "{text}");
    }
    assert!(Mount::parse("type=tmpfs,dst=/d,ro=false", base).is_ok());
    for text in ["fuse", "/dev/x:/dev/y:q", "/dev/x:/dev/y:", "/dev/x:/dev/y:m"] {
        assert!(Device::parse(text).is_err(), "{text}");
    }
    for permissions in ["r", "w", "rm"] {
        let refused = Device::parse(&format!("/dev/x:/dev/y:{permissions}")).unwrap_err();
        assert!(refused.rule.contains("write `rw`"), "{permissions}: {refused}");
    }
    assert_eq!(Device::parse("/dev/x:/dev/y:rw"), Device::parse("/dev/x:/dev/y:mwr"));
}
