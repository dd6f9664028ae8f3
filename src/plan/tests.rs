use super::partition::partition;
use super::*;
use crate::digest::DiffId;
use crate::lock::model::{BaseLock, BasePaths, Inputs, PackageLock, PythonLock, WheelLock};
use crate::oci::MediaType;

fn wheel(package: &str, mib: u64, dependencies: &[&str]) -> PlannedWheel {
    PlannedWheel {
        package: package.into(),
        version: "1".into(),
        file: format!("{package}-1-py3-none-any.whl"),
        url: String::new(),
        index: None,
        size: mib << 20,
        sha256: Digest::of(package),
        dependencies: dependencies.iter().map(|&name| name.into()).collect(),
        allow: Vec::new(),
    }
}

fn names(layers: &[Vec<PlannedWheel>]) -> Vec<String> {
    let join =
        |layer: &Vec<PlannedWheel>| layer.iter().map(|wheel| &*wheel.package).collect::<Vec<_>>().join(" ");
    layers.iter().map(join).collect()
}

#[test]
fn order_is_a_rank_not_a_size() {
    let wheels = vec![
        wheel("torch", 900, &["triton", "nvidia-cudnn-cu12", "numpy"]),
        wheel("scipy", 5, &["numpy"]),
        wheel("nvidia-nccl-cu12", 300, &[]),
        wheel("triton", 170, &[]),
        wheel("numpy", 16, &[]),
        wheel("nvidia-cudnn-cu12", 700, &[]),
        wheel("jaxlib", 100, &[]),
    ];
    let expected = ["nvidia-cudnn-cu12", "nvidia-nccl-cu12", "numpy", "scipy", "jaxlib", "triton", "torch"];
    assert_eq!(names(&partition(wheels.clone(), 96)), expected);
    let mut reversed = wheels;
    reversed.reverse();
    assert_eq!(names(&partition(reversed, 96)), expected);
}

#[test]
fn a_small_wheel_stays_in_its_group_whatever_else_comes() {
    let few = partition(vec![wheel("idna", 0, &[]), wheel("tqdm", 0, &[])], 96);
    let more =
        partition(["idna", "six", "tqdm", "attrs", "click"].map(|name| wheel(name, 0, &[])).into(), 96);
    let group_of = |layers: &[Vec<PlannedWheel>], name: &str| {
        names(layers).into_iter().find(|layer| layer.split(' ').any(|part| part == name)).unwrap()
    };
    for name in ["idna", "tqdm"] {
        for neighbour in group_of(&few, name).split(' ') {
            assert!(group_of(&more, name).contains(neighbour));
        }
    }
    assert!(more.len() <= GROUPS);
}

#[test]
fn over_budget_the_smallest_own_layers_join_the_groups() {
    let wheels: Vec<_> = (0..120).map(|i| wheel(&format!("p{i:03}"), 4 + i, &[])).collect();
    let layers = partition(wheels, 94);
    assert_eq!(layers.len(), 94);
    assert_eq!(layers.iter().map(Vec::len).sum::<usize>(), 120);
    assert_eq!(layers[0][0].package, "p030");
}

#[test]
fn a_cycle_of_frameworks_still_has_one_order() {
    let wheels = vec![wheel("torch", 900, &["triton"]), wheel("triton", 170, &["torch"])];
    assert_eq!(names(&partition(wheels, 96)), ["torch", "triton"]);
}

#[test]
fn an_exception_is_part_of_the_key() {
    let plan = Plan {
        platform: Platform::LinuxAmd64,
        epoch: Epoch::default(),
        suite: None,
        scheme: None,
        prune: Prune::default(),
        prefer: Vec::new(),
        wheel_set: Digest::of(""),
        directories: Vec::new(),
        layers: Vec::new(),
        debs: Vec::new(),
    };
    let plain = wheel("idna", 0, &[]);
    let allowed = PlannedWheel { allow: vec![WheelRule::Tags], ..plain.clone() };
    let keys = |wheel: &PlannedWheel| {
        (key::wheels(&plan, std::slice::from_ref(wheel)), key::wheel_set(&plan, std::slice::from_ref(wheel)))
    };
    let (plain, allowed) = (keys(&plain), keys(&allowed));
    assert!(plain.0 != allowed.0 && plain.1 != allowed.1);
}

/// A lock whose base is an image of so many layers.
fn upon(layers: usize) -> Lock {
    let layer = |at: usize| BaseLayer {
        media_type: MediaType::LayerTarZstd,
        digest: Digest::of(format!("layer {at}")),
        size: 1000,
        diff_id: DiffId(Digest::of(format!("tar {at}"))),
    };
    let directory = |path: &str| BaseDirectory { path: path.to_owned(), mode: 0o700, owner: (0, 0) };
    let base = BaseLock {
        platform: Platform::LinuxAmd64,
        index: None,
        manifest: Digest::of("manifest"),
        manifest_size: 1,
        config: Digest::of("config"),
        config_size: 1,
        glibc: Some("2.36".to_owned()),
        layers: (0..layers).map(layer).collect(),
        paths: Some(BasePaths {
            links: Vec::new(),
            directories: ["opt", "opt/venv", "root"].map(directory).into(),
        }),
    };
    let wheel = WheelLock {
        name: "idna-1-py3-none-any.whl".to_owned(),
        url: "https://files.example/idna-1-py3-none-any.whl".to_owned(),
        size: 1,
        sha256: Digest::of("idna"),
        hashed_by_us: false,
        platforms: vec![Platform::LinuxAmd64],
    };
    let package = PackageLock {
        name: "idna".to_owned(),
        version: "1".to_owned(),
        index: None,
        requested: true,
        dependencies: Vec::new(),
        wheels: vec![wheel],
    };
    Lock {
        inputs: Inputs {
            platforms: vec![Platform::LinuxAmd64],
            base: "oci:registry.example/team/base:1@sha256:00".to_owned(),
            ..Inputs::default()
        },
        suites: Vec::new(),
        bases: vec![base],
        python: Some(PythonLock::of_base("3.12.4", "/opt/venv/bin/python3", "/opt/venv")),
        debs: Vec::new(),
        packages: vec![package],
        seals: Vec::new(),
    }
}

#[test]
fn the_layers_of_a_base_come_first_and_as_they_are() {
    let options = PlanOptions { platform: Platform::LinuxAmd64, epoch: Epoch::default(), max_layers: 96 };
    let lock = upon(2);
    let planned = plan(&lock, &options).unwrap();
    let titles: Vec<_> = planned.layers.iter().map(|layer| layer.title.as_str()).collect();
    assert_eq!(
        titles,
        ["registry.example/team/base:1, layer 1 of 2", "registry.example/team/base:1, layer 2 of 2", "idna"]
    );
    let base: Vec<_> = planned.base_layers().cloned().collect();
    assert_eq!(base, lock.bases[0].layers);
    assert!(
        planned.layers[..2].iter().all(|layer| layer.kind == LayerKind::Base && layer.weight() == Some(1000))
    );
    // Whatever is said of a layer decides its key; what lies elsewhere does not.
    let keys = |lock: &Lock| {
        plan(lock, &options).unwrap().layers.into_iter().map(|layer| layer.key).collect::<Vec<_>>()
    };
    let before = keys(&lock);
    let mut other = lock.clone();
    other.bases[0].layers[0].diff_id = other.bases[0].layers[1].diff_id;
    let after = keys(&other);
    assert!(before[0] != after[0] && before[1..] == after[1..]);
    // Wheels are named together with the directories that they lie in.
    let named: Vec<_> = planned.directories.iter().map(|directory| directory.path.as_str()).collect();
    assert_eq!(named, ["opt", "opt/venv"]);
    let mut other = lock.clone();
    other.bases[0].paths.as_mut().unwrap().directories.remove(1);
    assert!(keys(&other)[2] != before[2] && keys(&other)[..2] == before[..2]);
}

#[test]
fn a_base_leaves_room() {
    let options =
        |max_layers| PlanOptions { platform: Platform::LinuxAmd64, epoch: Epoch::default(), max_layers };
    assert_eq!(plan(&upon(90), &options(91)).unwrap().layers.len(), 91);
    let error = plan(&upon(90), &options(90)).unwrap_err().to_string();
    assert_eq!(error, "the base has 90 layers: with 1 more the image would have more than 90");
}
