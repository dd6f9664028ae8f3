use super::partition::partition;
use super::*;

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
