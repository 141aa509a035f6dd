//! The system calls that each sandboxed process may make once it is sealed. Everything else, every other architecture's
//! entry (x32, i386) and every argument outside the conditions kills the process. The lists are reviewed as golden
//! files, `profiles/<role>.golden`; a test compares. Used by `profile` and `confine`.
//!
//! Groups are small and named for what they are for, so that a reviewer sees why a call is there. No group holds a way
//! to make a socket, start a program or a thread, open a path (the journal's directory apart), or map code.

use std::{collections::BTreeMap, fmt::Write as _};

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// One allowed call.
#[derive(Debug)]
pub(crate) struct Rule {
    /// x86-64 number.
    pub number: c_long,
    /// Its name in the kernel's table.
    pub name: &'static str,
    /// Any one of these must hold; none listed: any arguments.
    pub when: &'static [Case],
}

/// All of these hold.
#[derive(Debug)]
pub(crate) struct Case {
    /// In words, for the golden file.
    pub words: &'static str,
    /// The conditions themselves.
    pub conditions: &'static [Condition],
}

/// The low 32 bits of an argument, masked, equal a value (each argument that is looked at is an `int` to the kernel, or
/// its relevant flags lie in the low half).
#[derive(Debug)]
pub(crate) struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// Bits that are compared.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

/// Rules by group.
pub(crate) type Groups = &'static [&'static [Rule]];

const fn call(number: c_long, name: &'static str) -> Rule {
    Rule {
        number,
        name,
        when: &[],
    }
}

const fn checked(number: c_long, name: &'static str, when: &'static [Case]) -> Rule {
    Rule { number, name, when }
}

const fn case(words: &'static str, conditions: &'static [Condition]) -> Case {
    Case { words, conditions }
}

const fn is(argument: u8, value: u32) -> Condition {
    Condition {
        argument,
        mask: u32::MAX,
        value,
    }
}

const fn bits(argument: u8, mask: u32, value: u32) -> Condition {
    Condition {
        argument,
        mask,
        value,
    }
}

const PROT_EXEC: u32 = libc::PROT_EXEC as u32;
const MAP_ANONYMOUS: u32 = libc::MAP_ANONYMOUS as u32;
const MAP_PRIVATE: u32 = libc::MAP_PRIVATE as u32;
const MAP_TYPE: u32 = libc::MAP_TYPE as u32;

/// Heap and stacks: no code, no file, no shared memory by name.
const MEMORY: &[Rule] = &[
    checked(
        libc::SYS_mmap,
        "mmap",
        &[case(
            "prot without PROT_EXEC, flags with MAP_ANONYMOUS and of type MAP_PRIVATE",
            // Private: RLIMIT_DATA counts no shared memory.
            &[
                bits(2, PROT_EXEC, 0),
                bits(3, MAP_ANONYMOUS | MAP_TYPE, MAP_ANONYMOUS | MAP_PRIVATE),
            ],
        )],
    ),
    checked(
        libc::SYS_mprotect,
        "mprotect",
        &[case("prot without PROT_EXEC", &[bits(2, PROT_EXEC, 0)])],
    ),
    call(libc::SYS_munmap, "munmap"),
    call(libc::SYS_mremap, "mremap"),
    call(libc::SYS_brk, "brk"),
    call(libc::SYS_madvise, "madvise"),
];

const FUTEX_OPERATION: u32 = 0x7f;

/// What threads that already run need to wait for each other and to end. Priority-inheriting futexes and requeueing,
/// the usual way in, are left out.
const THREADS: &[Rule] = &[
    checked(
        libc::SYS_futex,
        "futex",
        &[
            case(
                "FUTEX_WAIT",
                &[bits(1, FUTEX_OPERATION, libc::FUTEX_WAIT as u32)],
            ),
            case(
                "FUTEX_WAKE",
                &[bits(1, FUTEX_OPERATION, libc::FUTEX_WAKE as u32)],
            ),
            case(
                "FUTEX_WAIT_BITSET",
                &[bits(1, FUTEX_OPERATION, libc::FUTEX_WAIT_BITSET as u32)],
            ),
        ],
    ),
    call(libc::SYS_sched_yield, "sched_yield"),
    call(libc::SYS_exit, "exit"),
    call(libc::SYS_exit_group, "exit_group"),
];

/// Handlers that stand already, their alternate stacks, and timed waits that a SIGSTOP cut short.
const SIGNALS: &[Rule] = &[
    call(libc::SYS_rt_sigreturn, "rt_sigreturn"),
    call(libc::SYS_rt_sigprocmask, "rt_sigprocmask"),
    call(libc::SYS_sigaltstack, "sigaltstack"),
    call(libc::SYS_restart_syscall, "restart_syscall"),
];

/// The clock (the vDSO falls back to the call where the hardware's clock is of no use), and randomness.
const CLOCK: &[Rule] = &[
    call(libc::SYS_clock_gettime, "clock_gettime"),
    call(libc::SYS_getrandom, "getrandom"),
];

/// Messages over channels and lent descriptors.
const MESSAGES: &[Rule] = &[
    call(libc::SYS_recvmsg, "recvmsg"),
    call(libc::SYS_sendmsg, "sendmsg"),
    call(libc::SYS_read, "read"),
    call(libc::SYS_write, "write"),
    call(libc::SYS_close, "close"),
];

/// Built with debug assertions, std looks at a descriptor before it closes it. (The groups of sockets have this too.)
const CLOSING: &[Rule] = &[checked(
    libc::SYS_fcntl,
    "fcntl",
    &[case("F_GETFD", &[is(1, libc::F_GETFD as u32)])],
)];

/// Waiting for them.
const POLL: &[Rule] = &[
    call(libc::SYS_poll, "poll"),
    call(libc::SYS_epoll_wait, "epoll_wait"),
    call(libc::SYS_epoll_ctl, "epoll_ctl"),
];

/// Lent datagram and stream sockets.
const SOCKETS: &[Rule] = &[
    call(libc::SYS_recvfrom, "recvfrom"),
    call(libc::SYS_sendto, "sendto"),
    call(libc::SYS_shutdown, "shutdown"),
    call(libc::SYS_getsockname, "getsockname"),
    call(libc::SYS_getpeername, "getpeername"),
    checked(
        libc::SYS_getsockopt,
        "getsockopt",
        &[case(
            "SOL_SOCKET, SO_ERROR",
            &[is(1, libc::SOL_SOCKET as u32), is(2, libc::SO_ERROR as u32)],
        )],
    ),
    checked(
        libc::SYS_setsockopt,
        "setsockopt",
        &[case(
            "IPPROTO_TCP, TCP_NODELAY",
            &[
                is(1, libc::IPPROTO_TCP as u32),
                is(2, libc::TCP_NODELAY as u32),
            ],
        )],
    ),
    checked(
        libc::SYS_fcntl,
        "fcntl",
        &[
            case("F_GETFD", &[is(1, libc::F_GETFD as u32)]),
            case("F_GETFL", &[is(1, libc::F_GETFL as u32)]),
            case("F_SETFL", &[is(1, libc::F_SETFL as u32)]),
            case("F_DUPFD_CLOEXEC", &[is(1, libc::F_DUPFD_CLOEXEC as u32)]),
        ],
    ),
    checked(
        libc::SYS_ioctl,
        "ioctl",
        &[case("FIONBIO", &[is(1, libc::FIONBIO as u32)])],
    ),
    call(libc::SYS_readv, "readv"),
    call(libc::SYS_writev, "writev"),
];

/// Batches of datagrams.
const BATCHES: &[Rule] = &[
    call(libc::SYS_recvmmsg, "recvmmsg"),
    call(libc::SYS_sendmmsg, "sendmmsg"),
];

/// The timer wheels of the media threads and of the async runtime.
const TIMERS: &[Rule] = &[
    call(libc::SYS_epoll_pwait, "epoll_pwait"),
    call(libc::SYS_timerfd_settime, "timerfd_settime"),
    call(libc::SYS_clock_nanosleep, "clock_nanosleep"),
];

/// One lent datagram socket.
const DATAGRAMS: &[Rule] = &[
    call(libc::SYS_recvfrom, "recvfrom"),
    call(libc::SYS_sendto, "sendto"),
];

/// The terminal that init opened: its modes and its size. Not TIOCSTI, not TIOCLINUX.
const TERMINAL: &[Rule] = &[
    checked(
        libc::SYS_ioctl,
        "ioctl",
        &[
            case("TCGETS", &[is(1, libc::TCGETS as u32)]),
            case("TCSETS", &[is(1, libc::TCSETS as u32)]),
            case("TCSETSW", &[is(1, libc::TCSETSW as u32)]),
            case("TCSETSF", &[is(1, libc::TCSETSF as u32)]),
            case("TCGETS2", &[is(1, 0x802c_542a)]),
            case("TCSETS2", &[is(1, 0x402c_542b)]),
            case("TCSETSW2", &[is(1, 0x402c_542c)]),
            case("TCSETSF2", &[is(1, 0x402c_542d)]),
            case("TIOCGWINSZ", &[is(1, libc::TIOCGWINSZ as u32)]),
            case("TIOCSWINSZ", &[is(1, libc::TIOCSWINSZ as u32)]),
        ],
    ),
    call(libc::SYS_ppoll, "ppoll"),
];

/// Files of the one directory that Landlock leaves to the journal.
const DIRECTORY: &[Rule] = &[
    call(libc::SYS_openat, "openat"),
    call(libc::SYS_lseek, "lseek"),
    call(libc::SYS_pread64, "pread64"),
    call(libc::SYS_fstat, "fstat"),
    call(libc::SYS_newfstatat, "newfstatat"),
    call(libc::SYS_statx, "statx"),
    call(libc::SYS_fstatfs, "fstatfs"),
    call(libc::SYS_getdents64, "getdents64"),
    call(libc::SYS_fsync, "fsync"),
    call(libc::SYS_fdatasync, "fdatasync"),
    call(libc::SYS_ftruncate, "ftruncate"),
    call(libc::SYS_rename, "rename"),
    call(libc::SYS_unlink, "unlink"),
];

pub(crate) const SBC: Groups = &[
    MESSAGES, SOCKETS, BATCHES, POLL, TIMERS, MEMORY, THREADS, SIGNALS, CLOCK,
];
pub(crate) const KEYHOLDER: Groups = &[MESSAGES, CLOSING, POLL, MEMORY, THREADS, SIGNALS, CLOCK];
pub(crate) const TIME: Groups = &[
    MESSAGES, CLOSING, DATAGRAMS, POLL, MEMORY, THREADS, SIGNALS, CLOCK,
];
pub(crate) const DHCP: Groups = &[
    MESSAGES, CLOSING, DATAGRAMS, POLL, MEMORY, THREADS, SIGNALS, CLOCK,
];
pub(crate) const JOURNAL: Groups = &[
    MESSAGES, CLOSING, POLL, DIRECTORY, MEMORY, THREADS, SIGNALS, CLOCK,
];
pub(crate) const MANAGEMENT: Groups = &[
    MESSAGES, SOCKETS, POLL, TIMERS, MEMORY, THREADS, SIGNALS, CLOCK,
];
pub(crate) const CONSOLE: Groups = &[
    MESSAGES, CLOSING, TERMINAL, POLL, MEMORY, THREADS, SIGNALS, CLOCK,
];

/// Rules of all groups, by number.
pub(crate) fn rules(groups: Groups) -> BTreeMap<c_long, &'static Rule> {
    groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|rule| (rule.number, rule))
        .collect()
}

/// Whether the list lets a call through.
pub(crate) fn permits(groups: Groups, number: c_long, arguments: &[usize; 6]) -> bool {
    let holds = |condition: &Condition| {
        let Condition {
            argument,
            mask,
            value,
        } = condition;
        // The kernel's filter looks at the low half too.
        #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
        arguments
            .get(usize::from(*argument))
            .is_some_and(|word| *word as u32 & mask == *value)
    };
    rules(groups).get(&number).is_some_and(|rule| {
        rule.when.is_empty()
            || rule
                .when
                .iter()
                .any(|case| case.conditions.iter().all(holds))
    })
}

/// The list as its golden file has it: one call and one case of its arguments per line, by number.
pub(crate) fn listing(groups: Groups) -> String {
    let mut text = String::new();
    for rule in rules(groups).values() {
        if rule.when.is_empty() {
            let _ = writeln!(text, "{}", rule.name);
        }
        for case in rule.when {
            let _ = write!(text, "{}", rule.name);
            for condition in case.conditions {
                let Condition {
                    argument,
                    mask,
                    value,
                } = condition;
                let _ = match *mask {
                    u32::MAX => write!(text, " arg{argument}=={value:#x}"),
                    mask => write!(text, " arg{argument}&{mask:#x}=={value:#x}"),
                };
            }
            let _ = writeln!(text, "  # {}", case.words);
        }
    }
    text
}

/// The list as the kernel runs it.
///
/// # Errors
/// None for the lists of this file (a test compiles them all).
pub(crate) fn compile(groups: Groups) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut map = BTreeMap::new();
    for (number, rule) in rules(groups) {
        let cases: Result<Vec<SeccompRule>, _> = rule.when.iter().map(seccomp_rule).collect();
        map.insert(number, cases?);
    }
    // x32 numbers carry a high bit, so they match nothing; i386 has another architecture word: both are killed.
    SeccompFilter::new(
        map,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?
    .try_into()
}

fn seccomp_rule(case: &Case) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions: Result<Vec<SeccompCondition>, _> = case
        .conditions
        .iter()
        .map(|condition| {
            SeccompCondition::new(
                condition.argument,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::MaskedEq(u64::from(condition.mask)),
                u64::from(condition.value),
            )
        })
        .collect();
    SeccompRule::new(conditions?)
}
