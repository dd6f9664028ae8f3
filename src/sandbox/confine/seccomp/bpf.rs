//! Rules as a program of the classic Berkeley Packet Filter, which the kernel runs at every system call.
//!
//! Numbers with the same rule that stand side by side make a run; a binary search finds the run. So the program is a tenth
//! of the size of one that compares number after number, and a call is decided in some eight steps. That counts twice:
//! when a filter is loaded, the kernel itself runs it once for every call there is, to remember those that are allowed
//! whatever their arguments.

use seccompiler::sock_filter;

/// What a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// It fails with this error and does nothing.
    Errno(u16),
    /// The process ends with SIGSYS.
    Kill,
}

impl Verdict {
    /// EPERM
    pub const DENY: Self = Self::Errno(1);
    /// ENOSYS: a kernel without this call.
    pub const UNKNOWN: Self = Self::Errno(38);

    /// `SECCOMP_RET_*`
    pub const fn code(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Errno(errno) => 0x0005_0000 | errno as u32,
            Self::Kill => 0x8000_0000,
        }
    }
}

/// The first check that holds decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub checks: &'static [Check],
    pub otherwise: Verdict,
}

impl Rule {
    pub const ALLOW: Self = Self::always(Verdict::Allow);

    pub const fn always(verdict: Verdict) -> Self {
        Self { checks: &[], otherwise: verdict }
    }
}

/// Of the low 32 bits of an argument, counted from 0: all arguments that we look at are `int`s to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    pub argument: u8,
    pub test: Test,
    pub then: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Is(u32),
    IsNot(u32),
    /// One of these bits, or more.
    AnyOf(u32),
}

// Places in `struct seccomp_data`, for a little-endian machine.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn low_half(argument: u8) -> u32 {
    16 + 8 * argument as u32
}

// Instructions of BPF, from linux/bpf_common.h.
const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;

/// `rules` by ascending number, each once. A number between two of them gets `missing`, one above all of them `above`;
/// a call of another architecture than `audit_arch` (`AUDIT_ARCH_*`) gets `foreign`.
pub fn compile(
    audit_arch: u32,
    rules: &[(u32, Rule)],
    missing: Verdict,
    above: Verdict,
    foreign: Verdict,
) -> Vec<sock_filter> {
    let mut program = vec![
        statement(LOAD, ARCHITECTURE),
        branch(JUMP_EQUAL, audit_arch, 1, 0),
        statement(RETURN, foreign.code()),
        statement(LOAD, NUMBER),
    ];
    program.extend(search(&runs(rules, missing, above)));
    program
}

/// Where each run begins, and its rule; the first begins at 0.
fn runs(rules: &[(u32, Rule)], missing: Verdict, above: Verdict) -> Vec<(u32, Rule)> {
    let mut runs: Vec<(u32, Rule)> = Vec::new();
    let mut push = |start: u32, rule: Rule| {
        if runs.last().is_none_or(|(_, last)| *last != rule) {
            runs.push((start, rule));
        }
    };
    let mut next = 0;
    for (number, rule) in rules {
        debug_assert!(*number >= next, "{number} stands twice or too late");
        if *number > next {
            push(next, Rule::always(missing));
        }
        push(*number, *rule);
        next = number + 1;
    }
    push(next, Rule::always(above));
    runs
}

fn search(runs: &[(u32, Rule)]) -> Vec<sock_filter> {
    if let [(_, rule)] = runs {
        return decide(rule);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let pivot = high[0].0;
    let (low, high) = (search(low), search(high));
    let mut program = Vec::with_capacity(low.len() + high.len() + 2);
    // A conditional jump reaches 255 instructions far.
    match u8::try_from(low.len()) {
        Ok(far) => program.push(branch(JUMP_AT_LEAST, pivot, far, 0)),
        Err(_) => {
            let far = u32::try_from(low.len()).expect("a program has less than 4096 instructions");
            program.extend([branch(JUMP_AT_LEAST, pivot, 0, 1), statement(JUMP, far)]);
        }
    }
    program.extend(low);
    program.extend(high);
    program
}

fn decide(rule: &Rule) -> Vec<sock_filter> {
    let mut program = Vec::new();
    let mut loaded = None;
    for check in rule.checks {
        if loaded != Some(check.argument) {
            program.push(statement(LOAD, low_half(check.argument)));
            loaded = Some(check.argument);
        }
        program.push(match check.test {
            Test::Is(value) => branch(JUMP_EQUAL, value, 0, 1),
            Test::IsNot(value) => branch(JUMP_EQUAL, value, 1, 0),
            Test::AnyOf(bits) => branch(JUMP_ANY_BIT, bits, 0, 1),
        });
        program.push(statement(RETURN, check.then.code()));
    }
    program.push(statement(RETURN, rule.otherwise.code()));
    program
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips `yes` or `no` instructions.
fn branch(code: u16, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code, jt: yes, jf: no, k }
}
