//! Bounds by control group: memory, number of tasks, processor time of one launched process. The image has the unified
//! hierarchy (v2); a machine under test may have single v1 hierarchies, or both. A controller that is not there is
//! reported, not silently left out; rlimits hold in any case. Called by `launch`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::profile::Limits;

/// A controller of which one value bounds the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }

    /// Files and values in the unified hierarchy; the first must be taken, the others are wanted.
    fn unified(self, limits: &Limits) -> Vec<(&'static str, String)> {
        match self {
            Self::Memory => vec![
                ("memory.max", limits.memory.to_string()),
                ("memory.swap.max", "0".into()),
                ("memory.oom.group", "1".into()),
            ],
            Self::Pids => vec![("pids.max", limits.tasks.to_string())],
            Self::Cpu => vec![(
                "cpu.max",
                format!("{} {CPU_PERIOD_US}", cpu_quota_us(limits)),
            )],
        }
    }

    /// The same for a v1 hierarchy.
    fn single(self, limits: &Limits) -> Vec<(&'static str, String)> {
        match self {
            Self::Memory => vec![("memory.limit_in_bytes", limits.memory.to_string())],
            Self::Pids => vec![("pids.max", limits.tasks.to_string())],
            Self::Cpu => vec![
                ("cpu.cfs_quota_us", cpu_quota_us(limits).to_string()),
                ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
            ],
        }
    }
}

const CPU_PERIOD_US: u64 = 100_000;

const fn cpu_quota_us(limits: &Limits) -> u64 {
    limits.cpu_percent * CPU_PERIOD_US / 100
}

/// The groups of one process. They are removed when this is dropped and the process is gone.
#[derive(Debug, Default)]
pub struct Cgroup {
    folders: Vec<PathBuf>,
    missing: Vec<String>,
}

impl Cgroup {
    /// Makes the groups of a process of this name, launched by this process, with these bounds. Never fails: what could
    /// not be bounded stands in [`Self::missing`].
    pub(crate) fn new(name: &str, limits: &Limits) -> Self {
        let hierarchies = Hierarchies::find();
        hierarchies.clear_up(name);
        Self::within(
            &hierarchies,
            &format!("{name}-{}", std::process::id()),
            limits,
        )
    }

    fn within(hierarchies: &Hierarchies, name: &str, limits: &Limits) -> Self {
        let mut group = Self::default();
        let unified = hierarchies.unified_folder();
        for controller in Controller::ALL {
            let made = match (hierarchies.single_folder(controller), &unified) {
                (Some(parent), _) => group.bound(&parent.join(name), &controller.single(limits)),
                (None, Some(parent)) => {
                    group.bound(&parent.join(name), &controller.unified(limits))
                }
                (None, None) => Err(io::Error::other("no such hierarchy")),
            };
            if let Err(error) = made {
                group
                    .missing
                    .push(format!("{}: {error}", controller.word()));
            }
        }
        group
    }

    /// Controllers that do not bound this process, and why, for a loud warning.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Folders of the groups.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Puts a process (all its tasks) into the groups.
    pub(crate) fn enter(&self, pid: u32) -> io::Result<()> {
        self.folders
            .iter()
            .try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    fn bound(&mut self, folder: &Path, values: &[(&str, String)]) -> io::Result<()> {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !self.folders.iter().any(|known| known == folder) {
            self.folders.push(folder.to_owned());
        }
        for (place, (file, value)) in values.iter().enumerate() {
            match fs::write(folder.join(file), value) {
                Err(error) if place == 0 => return Err(error),
                // Swap and group kill are wanted, not needed: the image has no swap, a process here has one task group.
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Busy while the process still ends: the next launch under this name uses the same folder.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Where hierarchies are mounted, and where in the v1 ones this process is.
#[derive(Debug, Default)]
struct Hierarchies {
    unified: Option<PathBuf>,
    single: Vec<(String, PathBuf)>,
}

impl Hierarchies {
    fn find() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::read(&mounts, &own)
    }

    /// proc_pid_mountinfo(5) and cgroups(7): the fifth field of a mount is where it is, after ` - ` come type, source
    /// and options of the file system; `/proc/self/cgroup` has `number:controllers:path`.
    fn read(mounts: &str, own: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let Some((mount, system)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = mount.split(' ').nth(4) else {
                continue;
            };
            let mut system = system.split(' ');
            let (kind, options) = (
                system.next().unwrap_or_default(),
                system.nth(1).unwrap_or_default(),
            );
            match kind {
                "cgroup2" => found.unified = Some(PathBuf::from(point)),
                "cgroup" => {
                    for controller in Controller::ALL {
                        if options.split(',').any(|option| option == controller.word()) {
                            let path = own_path(own, controller.word());
                            let folder = Path::new(point).join(path.trim_start_matches('/'));
                            found.single.push((controller.word().to_owned(), folder));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Removes empty groups that a launcher left which was killed.
    fn clear_up(&self, name: &str) {
        let single = Controller::ALL
            .into_iter()
            .filter_map(|controller| self.single_folder(controller));
        let unified = self.unified.iter().map(|top| top.join("gatehouse"));
        for parent in single.chain(unified) {
            let entries = fs::read_dir(&parent).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|folder| is_orphan(folder, name))
            }) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Below this process's own group, so that what bounds the house as a whole goes on bounding it.
    fn single_folder(&self, controller: Controller) -> Option<PathBuf> {
        self.single
            .iter()
            .find(|(word, _)| word == controller.word())
            .map(|(_, folder)| folder.clone())
    }

    /// `gatehouse` at the top of the unified hierarchy, with its controllers switched on; there no process lives beside
    /// the groups (cgroups(7), no internal processes).
    fn unified_folder(&self) -> Option<PathBuf> {
        let top = self.unified.clone()?;
        let folder = top.join("gatehouse");
        if !folder.exists() {
            fs::create_dir(&folder).ok()?;
        }
        for controller in Controller::ALL {
            let word = format!("+{}", controller.word());
            // One by one: a controller that is missing must not take the others with it. Its file will be missed later.
            let _ = fs::write(top.join("cgroup.subtree_control"), &word);
            let _ = fs::write(folder.join("cgroup.subtree_control"), &word);
        }
        Some(folder)
    }
}

/// Whether `folder` is the group of a process `name` whose launcher is gone.
fn is_orphan(folder: &str, name: &str) -> bool {
    folder
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|launcher| launcher.parse::<u32>().ok())
        .is_some_and(|launcher| !Path::new(&format!("/proc/{launcher}")).exists())
}

fn own_path<'a>(own: &'a str, controller: &str) -> &'a str {
    own.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .find(|(controllers, _)| controllers.split(',').any(|word| word == controller))
        .map_or("/", |(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        memory: 1 << 26,
        tasks: 16,
        descriptors: 64,
        file_size: 0,
        cpu_percent: 50,
    };

    #[test]
    fn single_hierarchies_are_used_below_the_own_group() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/some/where\n1:cpu,cpuacct:/\n0::/\n";
        let found = Hierarchies::read(mounts, own);
        let folder = |controller| found.single_folder(controller);
        assert_eq!(
            folder(Controller::Memory),
            Some("/sys/fs/cgroup/memory/some/where".into())
        );
        assert_eq!(folder(Controller::Cpu), Some("/sys/fs/cgroup/cpu/".into()));
        assert_eq!(folder(Controller::Pids), None);
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn bounds_are_written_to_the_unified_hierarchy() {
        let top = tempfile::tempdir().unwrap();
        let hierarchies = Hierarchies {
            unified: Some(top.path().to_owned()),
            single: Vec::new(),
        };
        let group = Cgroup::within(&hierarchies, "sbc", &LIMITS);
        assert!(group.missing().is_empty());
        let read = |file| fs::read_to_string(top.path().join("gatehouse/sbc").join(file)).unwrap();
        assert_eq!(read("memory.max"), "67108864");
        assert_eq!(read("pids.max"), "16");
        assert_eq!(read("cpu.max"), "50000 100000");
        group.enter(42).unwrap();
        assert_eq!(read("cgroup.procs"), "42");
    }

    #[test]
    fn the_group_of_a_launcher_that_is_gone_is_an_orphan() {
        let own = format!("sbc-{}", std::process::id());
        assert!(!is_orphan(&own, "sbc"));
        assert!(is_orphan("sbc-4194304000", "sbc"));
        for other in [
            "sbc",
            "sbc-",
            "sbc-x",
            "journal-4194304000",
            "sbcx-4194304000",
        ] {
            assert!(!is_orphan(other, "sbc"), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_bounded_is_reported() {
        let group = Cgroup::within(&Hierarchies::default(), "sbc", &LIMITS);
        assert_eq!(group.missing().len(), 3);
    }
}
