use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::bpf::{Check, Test};
use super::profile::CALLS;
use super::*;

const BOTH: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];

/// What the kernel would do: runs the program as linux/filter.h says, with the steps it took.
fn run(program: &Program, audit_arch: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&number.to_le_bytes());
    data[4..8].copy_from_slice(&audit_arch.to_le_bytes());
    for (at, argument) in arguments.iter().enumerate() {
        data[16 + 8 * at..24 + 8 * at].copy_from_slice(&argument.to_le_bytes());
    }
    let (mut at, mut accumulator) = (0usize, 0u32);
    for step in 1..1000 {
        let instruction = &program.0[at];
        let jump = |yes: bool| usize::from(if yes { instruction.jt } else { instruction.jf });
        at += 1;
        match instruction.code {
            0x20 => {
                let place = instruction.k as usize;
                accumulator = u32::from_le_bytes(data[place..place + 4].try_into().unwrap());
            }
            0x06 => return (instruction.k, step),
            0x05 => at += instruction.k as usize,
            0x15 => at += jump(accumulator == instruction.k),
            0x35 => at += jump(accumulator >= instruction.k),
            0x45 => at += jump(accumulator & instruction.k != 0),
            code => panic!("unknown instruction {code:#x}"),
        }
    }
    panic!("no end");
}

/// The same, from the list.
fn expected(rules: &BTreeMap<u32, Rule>, number: u32, arguments: [u64; 6]) -> Verdict {
    let newest = *rules.last_key_value().unwrap().0;
    let Some(rule) = rules.get(&number) else {
        return if number > newest { Verdict::UNKNOWN } else { Verdict::DENY };
    };
    let holds = |check: &&Check| {
        let value = arguments[usize::from(check.argument)] as u32;
        match check.test {
            Test::Is(wanted) => value == wanted,
            Test::IsNot(other) => value != other,
            Test::AnyOf(bits) => value & bits != 0,
        }
    };
    rule.checks.iter().find(holds).map_or(rule.otherwise, |check| check.then)
}

#[test]
fn the_program_says_what_the_list_says() {
    for architecture in BOTH {
        let program = program_for(architecture, false);
        let rules: BTreeMap<_, _> = rules(architecture).into_iter().collect();
        let numbers = (0..1024).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x4000_0200, u32::MAX]);
        for number in numbers {
            for first in
                [0, 1, 2, 8, 9, 10, 16, 38, 40, 0x2_0000, 0x1000_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 38]
            {
                for (second, third) in
                    [(0, 0), (0x5412, 9), (0x541c, 0), (0x5413, 9), ((1 << 32) + 0x5412, 0)]
                {
                    let arguments = [first, second, third, 0, 0, 0];
                    let (code, steps) = run(&program, architecture.audit(), number, arguments);
                    let verdict = expected(&rules, number, arguments);
                    assert_eq!(code, verdict.code(), "{architecture:?} {number} {arguments:x?}");
                    assert!(steps <= 24, "{steps} steps for {number}");
                }
            }
        }
    }
}

#[test]
fn other_architectures_are_ended() {
    // i386, arm, s390x, and each of ours to the other.
    for architecture in BOTH {
        let program = program_for(architecture, false);
        for foreign in [0x4000_0003, 0x4000_0028, 0x8000_0016, 0xc000_003e, 0xc000_00b7] {
            let (code, _) = run(&program, foreign, 1, [0; 6]);
            if foreign != architecture.audit() {
                assert_eq!(code, Verdict::Kill.code(), "{architecture:?} {foreign:#x}");
            }
        }
    }
}

#[test]
fn a_long_run_of_rules_needs_far_jumps() {
    let rules: Vec<_> = (0..3000).map(|n| (n, Rule::always(Verdict::Errno(n as u16 % 2 + 5)))).collect();
    let program = Program(bpf::compile(1, &rules, Verdict::DENY, Verdict::UNKNOWN, Verdict::Kill));
    for (number, rule) in &rules {
        assert_eq!(run(&program, 1, *number, [0; 6]).0, rule.otherwise.code());
    }
    assert_eq!(run(&program, 1, 3000, [0; 6]).0, Verdict::UNKNOWN.code());
    assert_eq!(
        run(&Program(bpf::compile(1, &[], Verdict::DENY, Verdict::Kill, Verdict::DENY)), 1, 7, [0; 6]).0,
        Verdict::Kill.code()
    );
}

#[test]
fn the_list_is_in_order_and_says_nothing_twice() {
    let names: Vec<_> = CALLS.iter().map(|call| call.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "not by name");
    for architecture in BOTH {
        let numbers: Vec<_> = rules(architecture).into_iter().map(|(number, _)| number).collect();
        let distinct: BTreeSet<_> = numbers.iter().collect();
        assert_eq!(distinct.len(), numbers.len(), "{architecture:?}");
    }
}

/// From number 424 on, all architectures agree; before, the kernel's headers say.
#[test]
fn numbers_are_those_of_the_kernel() {
    let headers = [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", Architecture::X86_64),
        ("/usr/include/asm-generic/unistd.h", Architecture::Aarch64),
    ];
    for call in CALLS.iter().filter(|call| call.x86_64.is_some_and(|number| number >= 424)) {
        assert_eq!(call.x86_64, call.aarch64, "{}", call.name);
    }
    for (path, architecture) in headers {
        let Ok(text) = fs::read_to_string(path) else {
            eprintln!("skipped: numbers of {architecture:?}: no {path}");
            continue;
        };
        let mut known = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some("#define") {
                continue;
            }
            let (Some(name), Some(number)) = (words.next(), words.next()) else { continue };
            let name = name.strip_prefix("__NR3264_").or_else(|| name.strip_prefix("__NR_"));
            if let (Some(name), Ok(number)) = (name, number.parse::<u32>()) {
                // The generic table calls it by its name of 32-bit times.
                known.insert(if name == "fstatat" { "newfstatat" } else { name }.to_owned(), number);
            }
        }
        // Not a call, but how many there are.
        known.remove("syscalls");
        let newest = *known.values().filter(|number| **number < 1000).max().unwrap();
        let mut compared = 0;
        let calls = CALLS.iter().filter_map(|call| {
            let number = if architecture == Architecture::X86_64 { call.x86_64 } else { call.aarch64 };
            Some((call.name, number?))
        });
        for (name, number) in calls.filter(|(name, number)| *number <= newest && *name != "uretprobe") {
            assert_eq!(known.get(name), Some(&number), "{architecture:?}: {name}");
            compared += 1;
        }
        assert!(compared > 200, "{compared} numbers compared");
    }
}

#[test]
fn what_must_be_closed_is_closed() {
    let x86_64 = program_for(Architecture::X86_64, false);
    let verdict = |number: u32, arguments: [u64; 6]| run(&x86_64, 0xc000_003e, number, arguments).0;
    let deny = Verdict::DENY.code();
    for (name, number) in [
        ("process_vm_readv", 310),
        ("process_vm_writev", 311),
        ("kcmp", 312),
        ("mount", 165),
        ("umount2", 166),
        ("pivot_root", 155),
        ("chroot", 161),
        ("reboot", 169),
        ("init_module", 175),
        ("add_key", 248),
        ("request_key", 249),
        ("keyctl", 250),
        ("unshare", 272),
        ("perf_event_open", 298),
        ("open_by_handle_at", 304),
        ("setns", 308),
        ("bpf", 321),
        ("userfaultfd", 323),
        ("io_uring_setup", 425),
        ("io_uring_enter", 426),
        ("io_uring_register", 427),
        ("open_tree", 428),
        ("move_mount", 429),
        ("fsopen", 430),
        ("fsconfig", 431),
        ("fsmount", 432),
        ("fspick", 433),
        ("pidfd_getfd", 438),
        ("mount_setattr", 442),
    ] {
        assert_eq!(verdict(number, [0; 6]), deny, "{name}");
    }
    assert_eq!(verdict(435, [0; 6]), Verdict::UNKNOWN.code(), "clone3");
    assert_eq!(verdict(467, [0; 6]), Verdict::UNKNOWN.code(), "open_tree_attr");
    assert_eq!(verdict(0x4000_0000 + 1, [0; 6]), Verdict::UNKNOWN.code(), "write of x32");
    let allow = Verdict::Allow.code();
    // clone: threads and fork, but no namespace.
    for flags in [0x003d_0f00, 0x0120_0011, 0x4111] {
        assert_eq!(verdict(56, [flags, 0, 0, 0, 0, 0]), allow, "{flags:#x}");
    }
    for bit in [17, 25, 26, 27, 28, 29, 30] {
        assert_eq!(verdict(56, [(1 << bit) | 0x11, 0, 0, 0, 0, 0]), deny, "bit {bit}");
        assert_eq!(verdict(56, [(1 << 40) | (1 << bit), 0, 0, 0, 0, 0]), deny, "bit {bit}");
    }
    // A request with something in the upper half is the same request to the kernel.
    for (request, wanted) in
        [(0x5412, deny), (0xdead_0000_5412, deny), (0x541c, deny), (0x5413, allow), (0xc020_462a, allow)]
    {
        assert_eq!(verdict(16, [0, request, 0, 0, 0, 0]), wanted, "{request:#x}");
    }
}
