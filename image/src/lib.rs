//! The appliance as a disk image: same input, same bytes; no root rights, no loop device, no network while assembling.
//!
//! The way of one build: [`kernel`] finds or makes the bzImage, [`contents`] gathers the file tree ([`tree`]) from the
//! static programs and Debian's `nft`, [`cpio`] and zstd make the initial file system of it, [`uki`] joins both into one
//! EFI file, [`disk`] lays that on a GPT disk beside the data partition, [`forms`] gives it the forms of the
//! hypervisors, [`sbom`] says what is inside and where it came from. [`assemble`] is the list of these steps; [`qemu`]
//! boots the result.
//!
//! The tree is closed by default: a file that `golden/files.txt` does not name ends the build.

use std::path::{Path, PathBuf};

pub mod assemble;
pub mod cables;
pub mod config_disk;
pub mod contents;
pub mod cpio;
pub mod debian;
pub mod disk;
pub mod elf;
pub mod forms;
pub mod kernel;
pub mod process;
pub mod qemu;
pub mod sbom;
pub mod tree;
pub mod uki;

/// Every way in which a build or a start can end early. Each text says what to do or which input is at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program of the build host is not there.
    #[error("{program} is not installed; the packages needed are listed by `gatehouse-image deps`")]
    Missing {
        /// The program's name.
        program: String,
    },
    /// A program of the build host ended with an error.
    #[error("{program} failed: {message}")]
    Program {
        /// The program's name.
        program: String,
        /// The end of its error output, or its status.
        message: String,
    },
    /// An input has not the form that it must have.
    #[error("{what}: {why}")]
    Malformed {
        /// Which input.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The finished tree holds what an image must not hold, or lacks what it must have.
    #[error("the image's tree is refused:\n  {}", .0.join("\n  "))]
    Tree(Vec<String>),
    /// The call itself makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Wraps an input/output error with the path that it happened at.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// An input of the wrong form.
    pub fn malformed(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self::Malformed {
            what: what.to_string(),
            why: why.to_string(),
        }
    }
}

/// Result of every step.
pub type Result<T> = std::result::Result<T, Error>;

/// Reads a whole file.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    std::fs::read(path.as_ref()).map_err(Error::io(path))
}

/// Writes a whole file.
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    std::fs::write(path.as_ref(), bytes).map_err(Error::io(path))
}

/// Makes a folder and its parents.
pub fn make_folder(path: impl AsRef<Path>) -> Result<()> {
    std::fs::create_dir_all(path.as_ref()).map_err(Error::io(path))
}
