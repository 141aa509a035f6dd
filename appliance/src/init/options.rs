//! How init was started: as PID 1 of the appliance without arguments, or as the laboratory's supervisor with `--lab`.

use std::path::{Path, PathBuf};

/// Where the appliance's executables lie.
const EXECUTABLES: &str = "/usr/lib/gatehouse/bin";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Not PID 1: mounts nothing, powers nothing off.
    pub lab: Option<Lab>,
    /// Folder of the executables.
    pub executables: PathBuf,
}

/// Folders of the laboratory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lab {
    /// The configuration document; read anew on SIGHUP.
    pub configuration: PathBuf,
    /// Logs, status and journal.
    pub state: PathBuf,
    /// One file per secret.
    pub secrets: PathBuf,
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// A sentence with the usage.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut values: [Option<PathBuf>; 4] = Default::default();
        let names = ["--config", "--state", "--secrets", "--bin"];
        let mut lab = false;
        let mut arguments = arguments.peekable();
        if arguments
            .peek()
            .is_none_or(|first| !first.starts_with("--"))
        {
            // PID 1 gets words of the kernel's command line that nobody else took; none has a meaning here.
            return Ok(Self {
                lab: None,
                executables: Path::new(EXECUTABLES).to_owned(),
            });
        }
        while let Some(argument) = arguments.next() {
            if argument == "--lab" {
                lab = true;
                continue;
            }
            let place = names.iter().position(|name| *name == argument);
            let (Some(place), Some(value)) = (place, arguments.next()) else {
                return Err(USAGE.into());
            };
            if let Some(slot) = values.get_mut(place) {
                *slot = Some(value.into());
            }
        }
        match (lab, values) {
            (
                true,
                [
                    Some(configuration),
                    Some(state),
                    Some(secrets),
                    Some(executables),
                ],
            ) => Ok(Self {
                lab: Some(Lab {
                    configuration,
                    state,
                    secrets,
                }),
                executables,
            }),
            _ => Err(USAGE.into()),
        }
    }
}

const USAGE: &str = "usage: gatehouse-init (as PID 1), or gatehouse-init --lab --config FILE --state DIR --secrets DIR --bin DIR";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_laboratory_names_all_its_folders() {
        let options = read("--lab --config c --state s --secrets p --bin b").unwrap();
        assert_eq!(options.lab.unwrap().state, Path::new("s"));
        for wrong in [
            "--lab",
            "--lab --config",
            "--config c --state s --secrets p --bin b",
            "--help",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pid_1_takes_no_arguments_and_minds_none_of_the_kernels() {
        assert_eq!(read("").unwrap().lab, None);
        assert_eq!(read("splash").unwrap().lab, None);
    }
}
