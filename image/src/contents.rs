//! What is in the box: our static programs, Debian's `nft` with its libraries, two text files, empty folders.
//! Called by [`crate::assemble`]; the result has to pass the golden list before it becomes an image.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::tree::{Node, Origin, Tree, golden_lines};
use crate::{Error, Result, debian, elf, read};

/// Every path that an image holds; a tree that differs is refused.
pub const GOLDEN: &str = include_str!("../golden/files.txt");

/// Folder of our programs inside the image.
pub const PROGRAMS: &str = "/usr/lib/gatehouse/bin";

/// The one foreign program: the firewall applies its rules with it.
const NFT: &str = "/usr/sbin/nft";

/// Folder in which the loader looks for libraries without a cache file.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// Gathers and judges the tree. `programs` is the folder with the release build of the workspace.
pub fn gather(programs: &Path, kernel: &[u8]) -> Result<Tree> {
    let mut tree = Tree::default();
    for name in program_names() {
        let path = programs.join(name);
        let bytes = read(&path)?;
        if !elf::needs(name, &bytes)?.is_static() {
            return Err(Error::malformed(
                path.display(),
                "not linked statically: it could not run in an empty root",
            ));
        }
        tree.file(
            &format!("{PROGRAMS}/{name}"),
            0o755,
            bytes,
            Origin::Workspace(name.to_owned()),
        );
    }
    for (path, bytes, origin) in nft()? {
        tree.file(&path, 0o755, bytes, origin);
    }
    tree.link("/init", "usr/lib/gatehouse/bin/gatehouse-init");
    for path in ["/data", "/dev", "/proc", "/run", "/sys", "/tmp"] {
        tree.folder(path, 0o755);
    }
    let build = build_number(&tree, kernel);
    tree.file(
        "/etc/gatehouse/version",
        0o644,
        format!("{}\n", version(&build)).into_bytes(),
        Origin::Builder,
    );
    tree.file(
        "/etc/os-release",
        0o644,
        os_release(&build).into_bytes(),
        Origin::Builder,
    );
    let faults = tree.judge(GOLDEN);
    if faults.is_empty() {
        Ok(tree)
    } else {
        Err(Error::Tree(faults))
    }
}

/// Debian's `nft` with its loader and all its libraries, each as (path in the image, bytes, origin).
pub fn nft() -> Result<Vec<(String, Vec<u8>, Origin)>> {
    dynamic_program(Path::new(NFT))
}

/// Names of the workspace's programs that the golden list asks for.
pub fn program_names() -> impl Iterator<Item = &'static str> {
    golden_lines(GOLDEN).filter_map(|line| line.strip_prefix("f755 /usr/lib/gatehouse/bin/"))
}

/// The system's name and version, also read by the boot loader for the order of its entries.
pub fn os_release(build: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "ID=gatehouse\nNAME=Gatehouse\nPRETTY_NAME=\"Gatehouse {version}\"\nVERSION_ID={version}\n\
         IMAGE_ID=gatehouse\nIMAGE_VERSION={version}\nBUILD_ID={build}\n"
    )
}

/// One line for people: version of the workspace and number of the build.
pub fn version(build: &str) -> String {
    format!("{} (build {build})", env!("CARGO_PKG_VERSION"))
}

/// A number that names exactly these contents: the head of a hash over kernel, paths, modes and bytes.
pub fn build_number(tree: &Tree, kernel: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(Sha256::digest(kernel));
    for (line, (_, node)) in tree.listing().iter().zip(tree.entries()) {
        hash.update(line.as_bytes());
        if let Node::File { bytes, .. } = node {
            hash.update(Sha256::digest(bytes));
        }
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A program of the build host with its loader and all its libraries, each as (path in the image, bytes, origin).
fn dynamic_program(program: &Path) -> Result<Vec<(String, Vec<u8>, Origin)>> {
    let bytes = read(program)?;
    let needs = elf::needs(&program.display().to_string(), &bytes)?;
    let mut files = vec![(
        program.display().to_string(),
        bytes,
        debian::origin(program)?,
    )];
    if let Some(loader) = &needs.loader {
        files.push((
            loader.clone(),
            read(loader)?,
            debian::origin(Path::new(loader))?,
        ));
    }
    let loader_name = needs
        .loader
        .as_deref()
        .and_then(|path| path.rsplit('/').next())
        .map(str::to_owned);
    let mut waiting = VecDeque::from(needs.libraries);
    let mut libraries: BTreeMap<String, (Vec<u8>, Origin)> = BTreeMap::new();
    while let Some(name) = waiting.pop_front() {
        if Some(&name) == loader_name.as_ref() || libraries.contains_key(&name) {
            continue;
        }
        let path = find_library(&name)?;
        let bytes = read(&path)?;
        waiting.extend(elf::needs(&name, &bytes)?.libraries);
        let owner = std::fs::canonicalize(&path).map_err(Error::io(&path))?;
        libraries.insert(name, (bytes, debian::origin(&owner)?));
    }
    files.extend(
        libraries
            .into_iter()
            .map(|(name, (bytes, origin))| (format!("{LIBRARIES}/{name}"), bytes, origin)),
    );
    Ok(files)
}

fn find_library(name: &str) -> Result<PathBuf> {
    let plain = !name.is_empty() && !name.contains('/');
    [LIBRARIES, "/usr/lib"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| plain && path.is_file())
        .ok_or_else(|| {
            Error::malformed(
                name,
                "this shared library is in no folder of the build host",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nft_brings_its_loader_and_libc_and_each_library_once() {
        let files = dynamic_program(Path::new(NFT)).unwrap();
        let paths: Vec<&str> = files.iter().map(|(path, ..)| path.as_str()).collect();
        let mut once = paths.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), paths.len());
        for path in [
            NFT,
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
        ] {
            assert!(paths.contains(&path), "{path} in {paths:?}");
        }
    }

    #[test]
    fn the_golden_list_names_a_first_process() {
        assert!(program_names().any(|name| name == "gatehouse-init"));
    }

    #[test]
    fn the_build_number_follows_every_byte_and_mode() {
        let with = |mode, bytes: &[u8], kernel: &[u8]| {
            let mut tree = Tree::default();
            tree.file("/a", mode, bytes.to_vec(), Origin::Builder);
            build_number(&tree, kernel)
        };
        let first = with(0o644, b"x", b"k");
        assert_eq!(first, with(0o644, b"x", b"k"));
        assert_eq!(first.len(), 12);
        for other in [
            with(0o600, b"x", b"k"),
            with(0o644, b"y", b"k"),
            with(0o644, b"x", b"l"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn a_program_that_needs_a_loader_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in program_names() {
            std::fs::copy("/bin/cat", folder.path().join(name)).unwrap();
        }
        let text = gather(folder.path(), b"kernel").unwrap_err().to_string();
        assert!(text.contains("not linked statically"), "{text}");
    }
}
