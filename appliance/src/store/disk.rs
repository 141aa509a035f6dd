//! What the store asks of a disk, and the real one. Between operations only `sync` and `sync_directory` promise anything
//! about a power cut; the simulation of the tests takes that literally.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Files below one directory. Paths are `name` or `directory/name`; the empty path is the directory itself.
pub trait Disk {
    /// Names of the files in a directory.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// The bytes of a file.
    ///
    /// # Errors
    /// The system's; `FileTooLarge` if there are more than `most`.
    fn read(&self, path: &str, most: usize) -> io::Result<Vec<u8>>;
    /// Makes or empties a file that only its owner may read, and writes it. Nothing of it is durable yet.
    ///
    /// # Errors
    /// The system's; part of it may be written.
    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's bytes durable (not its name).
    ///
    /// # Errors
    /// The system's.
    fn sync(&self, path: &str) -> io::Result<()>;
    /// Gives a file another name, replacing what bears it. Atomic, not durable yet.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a name away; that it is away already is no error. Not durable yet.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;
    /// Makes a directory that only its owner may enter; that it is there is no error.
    ///
    /// # Errors
    /// The system's.
    fn make_directory(&self, directory: &str) -> io::Result<()>;
}

/// A directory of a mounted file system.
pub struct FileSystem {
    root: PathBuf,
}

impl FileSystem {
    /// The directory, made if need be.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        private_directory(root)?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    fn file(&self, path: &str, options: &mut OpenOptions) -> io::Result<File> {
        // A link in place of a file would lead outside the store.
        options
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(self.root.join(path))
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(false).mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

impl Disk for FileSystem {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.root.join(directory))?.take(4096) {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn read(&self, path: &str, most: usize) -> io::Result<Vec<u8>> {
        let file = self.file(path, OpenOptions::new().read(true))?;
        let mut bytes = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > most {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            Ok(bytes)
        }
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        // A new file each time, so that its mode is ours even if somebody left one of that name.
        self.remove(path)?;
        let mut file = self.file(
            path,
            OpenOptions::new().write(true).create_new(true).mode(0o600),
        )?;
        file.write_all(bytes)
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        self.file(path, OpenOptions::new().read(true))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match std::fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        File::open(self.root.join(directory))?.sync_all()
    }

    fn make_directory(&self, directory: &str) -> io::Result<()> {
        private_directory(&self.root.join(directory))
    }
}
