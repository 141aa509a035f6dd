//! What init tells about the house: processes for management and the laboratory, lines for the console's status page.

use std::{fs, io, path::Path};

use broker_proto::status::ProcessInfo;
use serde_json::json;

use super::slot::Slot;

/// The processes as they are now.
pub(super) fn processes(slots: &[Slot]) -> Vec<ProcessInfo> {
    let own = std::process::id();
    let mut all = vec![info("init", own, 0)];
    all.extend(slots.iter().filter(|slot| slot.wanted).map(|slot| {
        let pid = slot
            .child
            .as_ref()
            .map_or(0, |child| u32::try_from(child.pid).unwrap_or(0));
        info(slot.role.name(), pid, slot.restarts)
    }));
    all
}

fn info(name: &str, pid: u32, restarts: u32) -> ProcessInfo {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    let open_fds = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    ProcessInfo {
        name: name.into(),
        pid,
        rss_kib,
        open_fds: u32::try_from(open_fds).unwrap_or(u32::MAX),
        restarts,
    }
}

/// Writes `status.json` in the laboratory's state folder, in one step.
///
/// # Errors
/// Those of the file system.
pub(super) fn write(
    folder: &Path,
    ready: bool,
    revision: u64,
    slots: &[Slot],
    complaints: &[String],
) -> io::Result<()> {
    let processes: Vec<_> = processes(slots)
        .into_iter()
        .map(|process| {
            json!({
                "name": process.name,
                "pid": process.pid,
                "rss_kib": process.rss_kib,
                "open_fds": process.open_fds,
                "restarts": process.restarts,
            })
        })
        .collect();
    let status = json!({ "ready": ready, "revision": revision, "processes": processes, "complaints": complaints });
    let new = folder.join("status.json.new");
    fs::write(&new, format!("{status}\n"))?;
    fs::rename(new, folder.join("status.json"))
}
