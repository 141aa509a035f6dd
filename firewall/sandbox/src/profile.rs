//! What one role of the house gets: a uid of its own, bounds, the list of its system calls. Init launches by it, the
//! process itself confines and seals by it. A role without a profile is not sandboxed and not launched from here.

use std::thread;

use crate::syscalls::{self, Groups};

const MIB: u64 = 1024 * 1024;

/// Bounds of a process, kept by rlimits always and by control groups where the kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of memory: writable private memory by rlimit, all that is charged to it by control group.
    pub memory: u64,
    /// Threads (no process can be made).
    pub tasks: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Octets of the largest file it may write.
    pub file_size: u64,
    /// Hundredths of one processor core.
    pub cpu_percent: u64,
}

/// A role's sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The role's word.
    pub name: &'static str,
    /// User and group number, its alone.
    pub uid: u32,
    /// Bounds.
    pub limits: Limits,
    /// Whether one directory is bound to `/store`.
    pub directory: bool,
    /// Allowed calls.
    pub(crate) groups: Groups,
}

impl Profile {
    /// Names of all roles that have a profile.
    pub const NAMES: [&'static str; 7] = [
        "sbc",
        "keyholder",
        "journal",
        "time",
        "dhcp",
        "management",
        "console",
    ];

    /// The profile of a role; `None` for any other word.
    #[must_use]
    pub fn for_role(name: &str) -> Option<Self> {
        // The media engine runs a thread per core; the rest of the machine must still get its turn.
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let small = Limits {
            memory: 64 * MIB,
            tasks: 16,
            descriptors: 64,
            file_size: 0,
            cpu_percent: 50,
        };
        let (name, uid, limits, directory, groups) = match name {
            "sbc" => (
                "sbc",
                7_001_001,
                Limits {
                    memory: 512 * MIB,
                    tasks: 16 + 2 * cores,
                    descriptors: 16_384,
                    file_size: 0,
                    cpu_percent: 100 * cores - 20,
                },
                false,
                syscalls::SBC,
            ),
            "keyholder" => ("keyholder", 7_001_002, small, false, syscalls::KEYHOLDER),
            "journal" => (
                "journal",
                7_001_003,
                Limits {
                    file_size: 1024 * MIB,
                    ..small
                },
                true,
                syscalls::JOURNAL,
            ),
            "time" => ("time", 7_001_004, small, false, syscalls::TIME),
            "management" => (
                "management",
                7_001_005,
                Limits {
                    memory: 128 * MIB,
                    descriptors: 1024,
                    cpu_percent: 75,
                    ..small
                },
                false,
                syscalls::MANAGEMENT,
            ),
            "console" => ("console", 7_001_006, small, false, syscalls::CONSOLE),
            "dhcp" => ("dhcp", 7_001_007, small, false, syscalls::DHCP),
            _ => return None,
        };
        Some(Self {
            name,
            uid,
            limits,
            directory,
            groups,
        })
    }

    /// Numbers of the allowed calls (argument conditions apart), ascending.
    #[must_use]
    pub fn allowed(&self) -> Vec<(libc::c_long, &'static str)> {
        syscalls::rules(self.groups)
            .values()
            .map(|rule| (rule.number, rule.name))
            .collect()
    }

    /// Whether the list lets this call through; its arguments are looked at as the kernel's filter looks at them.
    #[must_use]
    pub fn permits(&self, number: libc::c_long, arguments: &[usize; 6]) -> bool {
        syscalls::permits(self.groups, number, arguments)
    }

    /// The list in the form of its golden file.
    #[must_use]
    pub fn listing(&self) -> String {
        syscalls::listing(self.groups)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn profiles() -> impl Iterator<Item = Profile> {
        Profile::NAMES
            .into_iter()
            .map(|name| Profile::for_role(name).unwrap())
    }

    /// A change of a list is a change of its golden file, which a person reviews. `GOLDEN=write` writes them.
    #[test]
    fn each_list_is_the_reviewed_one() {
        for profile in profiles() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("profiles")
                .join(format!("{}.golden", profile.name));
            if std::env::var_os("GOLDEN").is_some_and(|word| word == "write") {
                fs::write(&path, profile.listing()).unwrap();
            }
            let golden = fs::read_to_string(&path).unwrap();
            assert_eq!(profile.listing(), golden, "{} differs", path.display());
        }
    }

    #[test]
    fn the_lists_stay_short() {
        for profile in profiles() {
            let most = match profile.name {
                "sbc" | "management" => 45,
                "journal" => 40,
                "console" | "time" | "dhcp" => 28,
                _ => 25,
            };
            let length = profile.allowed().len();
            assert!(length <= most, "{}: {length} calls", profile.name);
        }
    }

    #[test]
    fn no_list_has_a_way_to_make_a_socket_a_process_or_code() {
        let never: BTreeSet<&str> = [
            "socket",
            "socketpair",
            "connect",
            "bind",
            "listen",
            "accept",
            "accept4",
            "clone",
            "clone3",
            "fork",
            "vfork",
            "execve",
            "execveat",
            "ptrace",
            "prctl",
            "bpf",
            "io_uring_setup",
            "unshare",
            "setns",
            "mount",
            "kill",
            "tgkill",
            "pidfd_getfd",
            "memfd_create",
        ]
        .into();
        for profile in profiles() {
            for (_, name) in profile.allowed() {
                assert!(!never.contains(name), "{} allows {name}", profile.name);
                assert!(
                    profile.directory || !name.starts_with("open"),
                    "{} opens paths",
                    profile.name
                );
            }
        }
    }

    #[test]
    fn no_call_is_listed_twice_for_a_role() {
        for profile in profiles() {
            let listed: usize = profile.groups.iter().map(|group| group.len()).sum();
            assert_eq!(listed, profile.allowed().len(), "{}", profile.name);
        }
    }

    #[test]
    fn every_list_compiles() {
        for profile in profiles() {
            assert!(!syscalls::compile(profile.groups).unwrap().is_empty());
        }
    }

    #[test]
    fn no_two_roles_share_a_uid() {
        let uids: BTreeSet<u32> = profiles().map(|profile| profile.uid).collect();
        assert_eq!(uids.len(), Profile::NAMES.len());
    }

    #[test]
    fn conditions_look_at_the_low_half_of_an_argument() {
        let sbc = Profile::for_role("sbc").unwrap();
        let mmap = |prot, flags| sbc.permits(libc::SYS_mmap, &[0, 4096, prot, flags, 0, 0]);
        assert!(mmap(3, 0x22));
        assert!(!mmap(7, 0x22));
        assert!(!mmap(3, 0x02));
        assert!(!mmap(3, 0x21));
        assert!(!mmap(1 << 32 | 4, 0x22));
        assert!(!sbc.permits(libc::SYS_socket, &[0; 6]));
    }

    #[test]
    fn a_role_without_a_profile_gets_none() {
        for name in ["init", "firewall", "", "SBC"] {
            assert!(Profile::for_role(name).is_none());
        }
    }
}
