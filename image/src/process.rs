//! Programs of the build host, run with an environment in which two runs see the same: locale, time zone, epoch.
//! Called by every step that uses one; the build host's packages are listed in `packages.txt`.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// The moment that every time stamp in the image shows, in seconds since 1970: 2025-01-01 00:00:00 UTC.
pub const EPOCH: u64 = 1_735_689_600;

/// A command with the fixed environment. The caller adds arguments and runs it by [`run`] or [`output`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        // Debian keeps mkfs.vfat, mke2fs and sfdisk where a user's PATH does not look.
        .env("PATH", search_path())
        .stdin(Stdio::null());
    command
}

/// Runs to the end and throws the output away; the end of its error output is in the error.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

/// Runs to the end and gives standard output.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let result = command
        .output()
        .map_err(|error| start_error(&program, &error))?;
    if result.status.success() {
        return Ok(result.stdout);
    }
    let message = String::from_utf8_lossy(&result.stderr);
    let last: Vec<&str> = message.lines().rev().take(6).collect();
    let message = if last.is_empty() {
        result.status.to_string()
    } else {
        last.into_iter().rev().collect::<Vec<_>>().join(" | ")
    };
    Err(Error::Program { program, message })
}

/// Runs to the end with the caller's own input, output and error output: for what takes minutes, or is a console.
pub fn attached(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::inherit())
        .status()
        .map_err(|error| start_error(&program, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Program {
            program,
            message: status.to_string(),
        })
    }
}

/// True if the program is found in the search path.
pub fn is_installed(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|folder| folder.join(program).is_file())
}

fn search_path() -> String {
    let inherited = std::env::var("PATH").unwrap_or_default();
    format!("{inherited}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

fn start_error(program: &str, error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        Error::Missing {
            program: program.to_owned(),
        }
    } else {
        Error::Program {
            program: program.to_owned(),
            message: error.to_string(),
        }
    }
}
