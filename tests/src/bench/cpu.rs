//! Processor time of a process, as the kernel accounts it: user and system, all threads, ended ones included.

use std::{fs, io, time::Duration};

/// User and system time of `pid` so far.
///
/// # Errors
/// When the process is gone, or /proc does not look as proc(5) says.
pub fn time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected /proc/PID/stat"))
}

/// The same of `pid` and all its children that live.
///
/// # Errors
/// When the process is gone, or /proc does not look as proc(5) says.
pub fn family_time(pid: u32) -> io::Result<Duration> {
    let mut total = time(pid)?;
    for entry in fs::read_dir("/proc")? {
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else {
            continue;
        };
        if parent(&stat) == Some(pid) {
            total += parse(&stat).unwrap_or_default();
        }
    }
    Ok(total)
}

/// Field 4.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Fields 14 and 15, in hundredths of a second (USER_HZ). The second field may hold spaces and parentheses.
fn parse(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a ) name) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20";
        assert_eq!(parse(stat), Some(Duration::from_secs(4)));
        assert_eq!(parent(stat), Some(1));
    }

    #[test]
    fn the_own_time_can_be_read() {
        assert!(time(std::process::id()).is_ok());
    }
}
