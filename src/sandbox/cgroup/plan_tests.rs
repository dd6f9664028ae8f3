use super::*;

const ALL: Limits =
    Limits { memory: Some(1 << 30), milli_cpus: Some(1_500), pids: Some(64), best_effort: false };

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A level of version 2. `flags`: w writable, r the root, o others are in it, s this process is in it.
fn level(directory: &str, flags: &str, controllers: &str, enabled: &str) -> Level {
    Level {
        directory: directory.into(),
        writable: flags.contains('w'),
        controllers: words(controllers),
        enabled: words(enabled),
        root: flags.contains('r'),
        others: flags.contains('o'),
        own: flags.contains('s'),
    }
}

fn unified(levels: Vec<Level>) -> Facts {
    let hierarchy = Hierarchy { version: Version::Two, controllers: BTreeSet::new(), levels };
    Facts { uid: 1000, hierarchies: vec![hierarchy], manager: None }
}

fn shown(facts: &Facts, limits: &Limits) -> Vec<String> {
    let plan = plan(facts, limits);
    let groups = plan.groups.iter().map(|group| {
        let limits: Vec<_> = group.settings.iter().map(|(limit, _)| limit.controller()).collect();
        let leave = if group.leave { " leave" } else { "" };
        format!("{} {} enable[{}]{leave}", group.parent.display(), limits.join("+"), group.enable.join("+"))
    });
    let refused = plan.refused.iter().map(|refused| format!("{:?}: {:?}", refused.limit, refused.why));
    let ask = plan.ask.iter().map(|manager| format!("ask {}", manager.bus.display()));
    ask.chain(groups).chain(refused).collect()
}

#[test]
fn nothing_wanted_is_nothing_made() {
    assert_eq!(plan(&unified(Vec::new()), &Limits::default()), Plan::default());
}

#[test]
fn root_on_a_host_with_systemd() {
    let all = "cpuset cpu io memory pids";
    let facts = unified(vec![
        level("/session", "wos", "memory pids", ""),
        level("/user-0", "w", "memory pids", "memory pids"),
        level("/user", "w", all, "memory pids"),
        level("/", "wr", all, "cpu memory pids"),
    ]);
    // The nearest that can: a slice has no processes of its own, so what it lacks is turned on there.
    assert_eq!(shown(&facts, &ALL), ["/user memory+cpu+pids enable[cpu]"]);
    let memory = Limits { memory: Some(1), ..Limits::default() };
    assert_eq!(shown(&facts, &memory), ["/user-0 memory enable[]"]);
}

#[test]
fn a_user_whose_part_of_the_tree_has_no_cpu() {
    let facts = unified(vec![
        level("/user@1000/app/term", "wos", "memory pids", ""),
        level("/user@1000/app", "w", "memory pids", "memory pids"),
        level("/user@1000", "w", "memory pids", "memory pids"),
        level("/user-1000", "", "memory pids", "memory pids"),
        level("/", "r", "cpu memory pids", "cpu memory pids"),
    ]);
    assert_eq!(shown(&facts, &ALL), ["/user@1000/app memory+pids enable[]", "Cpus: NotDelegated"]);
}

#[test]
fn a_user_who_came_by_ssh_may_write_nowhere() {
    let facts = unified(vec![
        level("/session", "os", "memory pids", ""),
        level("/user-1000", "", "memory pids", "memory pids"),
        level("/", "r", "cpu memory pids", "cpu memory pids"),
    ]);
    assert_eq!(shown(&facts, &ALL), ["Memory: ReadOnly", "Cpus: ReadOnly", "Pids: ReadOnly"]);
    // A manager gives a unit, with what it was given itself.
    let manager = Manager { bus: "/bus".into(), controllers: words("memory pids") };
    let mut facts = Facts { manager: Some(manager), ..facts };
    assert_eq!(shown(&facts, &ALL), ["ask /bus", "Cpus: NotDelegated"]);
    let memory = Limits { memory: Some(1), ..Limits::default() };
    assert_eq!(shown(&facts, &memory), ["ask /bus"]);
    // Not where that gives nothing, or nothing is missing.
    assert_eq!(shown(&facts, &Limits { milli_cpus: Some(1), ..Limits::default() }), ["Cpus: ReadOnly"]);
    facts.hierarchies[0].levels[1].writable = true;
    assert_eq!(shown(&facts, &memory), ["/user-1000 memory enable[]"]);
}

#[test]
fn a_unit_of_its_own() {
    let alone = level("/scope", "ws", "cpu memory pids", "");
    let rest = level("/", "r", "cpu memory pids", "cpu memory pids");
    assert_eq!(
        shown(&unified(vec![alone, rest.clone()]), &ALL),
        ["/scope memory+cpu+pids enable[memory+cpu+pids] leave"]
    );
    let shared = level("/scope", "wos", "cpu memory pids", "");
    assert_eq!(shown(&unified(vec![shared, rest]), &ALL), ["Memory: Busy", "Cpus: Busy", "Pids: Busy"]);
}

#[test]
fn the_root_of_the_tree_may_have_processes() {
    let facts = unified(vec![level("/", "wrs", "cpu memory pids", "")]);
    assert_eq!(shown(&facts, &ALL), ["/ memory+cpu+pids enable[memory+cpu+pids]"]);
    // A kernel whose memory controller is off.
    let facts = unified(vec![level("/", "wrs", "cpu pids", "")]);
    assert_eq!(shown(&facts, &ALL), ["/ cpu+pids enable[cpu+pids]", "Memory: Missing"]);
}

#[test]
fn version_one_and_both() {
    let tree = |controllers: &str, levels: &[(&str, bool)]| Hierarchy {
        version: Version::One,
        controllers: words(controllers),
        levels: levels
            .iter()
            .map(|(directory, writable)| Level {
                directory: directory.into(),
                writable: *writable,
                ..Level::default()
            })
            .collect(),
    };
    let mut facts = Facts {
        uid: 0,
        manager: None,
        hierarchies: vec![
            tree("memory", &[("/memory/job", false), ("/memory", true)]),
            tree("cpu cpuacct", &[("/cpu", true)]),
            tree("freezer", &[("/freezer", true)]),
        ],
    };
    assert_eq!(shown(&facts, &ALL), ["/memory memory enable[]", "/cpu cpu enable[]", "Pids: Missing"]);
    // Hybrid: what version 1 does not have, version 2 may.
    facts.hierarchies.extend(unified(vec![level("/unified", "wrs", "pids", "")]).hierarchies);
    facts.hierarchies[0].levels[1].writable = false;
    assert_eq!(shown(&facts, &ALL), ["/cpu cpu enable[]", "/unified pids enable[pids]", "Memory: ReadOnly"]);
    // Mounted together, one directory.
    let together =
        Facts { uid: 0, manager: None, hierarchies: vec![tree("cpu memory pids", &[("/all", true)])] };
    assert_eq!(shown(&together, &ALL), ["/all memory+cpu+pids enable[]"]);
}

#[test]
fn every_refusal_names_a_remedy() {
    for why in [Why::Missing, Why::NotDelegated, Why::ReadOnly, Why::Busy] {
        for version in [Version::One, Version::Two] {
            let refused = Refused { limit: Limit::Memory, why, version };
            assert!(refused.to_string().starts_with("--memory cannot be enforced: "));
            assert!(refused.remedy(0).len() > 30 && refused.remedy(1000).len() > 30);
        }
    }
}
