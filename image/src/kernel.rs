//! The appliance's own monolithic kernel, built once and kept by the hash of its inputs.
//! Called by [`crate::assemble`] and by `gatehouse-image kernel`. The steps with make are in `kernel/build.sh`, what the
//! kernel must have in `kernel/fragment.config`, which source in `kernel/source.lock`.
//!
//! The only step that may use the network, and only on a cache miss: it fetches the pinned source package with apt.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::process::{attached, command, output, run};
use crate::{Error, Result, make_folder, read, write};

const LOCK: &str = include_str!("../kernel/source.lock");
const FRAGMENT: &str = include_str!("../kernel/fragment.config");
const BUILD: &str = include_str!("../kernel/build.sh");

/// The pinned source package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Debian package, for example `linux-source-6.12`.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the package file, in hexadecimal.
    pub sha256: String,
}

impl Source {
    /// The source named in `kernel/source.lock`.
    pub fn pinned() -> Result<Self> {
        toml::from_str(LOCK).map_err(|error| Error::malformed("kernel/source.lock", error))
    }

    /// The upstream version, for example `6.12.117`.
    pub fn upstream(&self) -> &str {
        self.version.split('-').next().unwrap_or(&self.version)
    }

    /// What the running kernel calls itself.
    pub fn release(&self) -> String {
        format!("{}-gatehouse", self.upstream())
    }
}

/// Where things that outlive a checkout are kept: `GATEHOUSE_CACHE`, or `~/.cache/gatehouse`.
pub fn cache_folder() -> PathBuf {
    std::env::var_os("GATEHOUSE_CACHE").map_or_else(
        || {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()))
                .join(".cache/gatehouse")
        },
        PathBuf::from,
    )
}

/// Gives the path of the bzImage; builds it (10 to 20 minutes on two cores) if no earlier build had the same inputs.
pub fn ensure() -> Result<PathBuf> {
    if let Some(image) = find()? {
        return Ok(image);
    }
    let source = Source::pinned()?;
    let folder = folder(&source)?;
    build(&source, &folder)?;
    Ok(folder.join("bzImage"))
}

/// The bzImage of an earlier build with the same inputs, if there was one.
pub fn find() -> Result<Option<PathBuf>> {
    let image = folder(&Source::pinned()?)?.join("bzImage");
    Ok(image.is_file().then_some(image))
}

fn folder(source: &Source) -> Result<PathBuf> {
    Ok(cache_folder().join("kernel").join(key(source)?))
}

/// Hash over everything that the kernel's bytes depend on: source, fragment, recipe, compiler, linker.
pub fn key(source: &Source) -> Result<String> {
    let mut hash = Sha256::new();
    for part in [
        source.package.as_bytes(),
        source.version.as_bytes(),
        FRAGMENT.as_bytes(),
        BUILD.as_bytes(),
    ] {
        hash.update(Sha256::digest(part));
    }
    for program in ["gcc", "ld"] {
        hash.update(Sha256::digest(output(command(program).arg("--version"))?));
    }
    Ok(hex(&hash.finalize()).chars().take(24).collect())
}

/// Bytes as hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build(source: &Source, folder: &Path) -> Result<()> {
    let began = Instant::now();
    make_folder(folder)?;
    // Beside the result, so that two builds at once do not share a work folder and a broken one leaves nothing behind.
    let scratch = folder.with_extension(format!("work.{}", std::process::id()));
    eprintln!(
        "kernel: building {} {} once; this takes 10 to 20 minutes",
        source.package, source.version
    );
    let result = build_in(source, folder, &scratch);
    // A leftover only costs room.
    let _ = std::fs::remove_dir_all(&scratch);
    result?;
    eprintln!(
        "kernel: built in {} s: {}",
        began.elapsed().as_secs(),
        folder.display()
    );
    Ok(())
}

fn build_in(source: &Source, folder: &Path, scratch: &Path) -> Result<()> {
    make_folder(scratch)?;
    let package = fetch(source, scratch)?;
    run(command("dpkg-deb")
        .arg("-x")
        .arg(&package)
        .arg(scratch.join("package")))?;
    let tarball = scratch
        .join("package/usr/src")
        .join(format!("{}.tar.xz", source.package));
    let (recipe, fragment) = (scratch.join("build.sh"), scratch.join("fragment.config"));
    write(&recipe, BUILD.as_bytes())?;
    write(&fragment, FRAGMENT.as_bytes())?;
    attached(
        command("nice")
            .args(["-n", "10", "sh"])
            .args([&recipe, &tarball, &fragment])
            .args([&scratch.join("linux"), folder]),
    )
}

/// The source package, from the cache or by apt; its hash is checked either way.
fn fetch(source: &Source, scratch: &Path) -> Result<PathBuf> {
    let kept = cache_folder()
        .join("source")
        .join(format!("{}_{}.deb", source.package, source.version));
    if !kept.is_file() {
        let name = format!("{}={}", source.package, source.version);
        run(command("apt-get")
            .args(["-q", "download", &name])
            .current_dir(scratch))?;
        let loaded = first_package(scratch)?;
        make_folder(kept.parent().unwrap_or(scratch))?;
        let part = kept.with_extension(format!("part.{}", std::process::id()));
        std::fs::copy(&loaded, &part).map_err(Error::io(&part))?;
        std::fs::rename(&part, &kept).map_err(Error::io(&kept))?;
    }
    let is = hex(&Sha256::digest(read(&kept)?));
    if is == source.sha256 {
        return Ok(kept);
    }
    std::fs::remove_file(&kept).map_err(Error::io(&kept))?;
    Err(Error::malformed(
        kept.display(),
        format!("SHA-256 is {is}, kernel/source.lock says {}", source.sha256),
    ))
}

fn first_package(folder: &Path) -> Result<PathBuf> {
    std::fs::read_dir(folder)
        .map_err(Error::io(folder))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| Error::malformed(folder.display(), "apt-get download left no package"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_source_is_a_6_12_with_a_whole_hash() {
        let source = Source::pinned().unwrap();
        assert!(source.upstream().starts_with("6.12."), "{source:?}");
        assert_eq!(source.sha256.len(), 64);
    }

    #[test]
    fn the_key_follows_the_source_version() {
        let mut source = Source::pinned().unwrap();
        let first = key(&source).unwrap();
        assert_eq!(first, key(&source).unwrap());
        source.version.push('1');
        assert_ne!(first, key(&source).unwrap());
    }

    #[test]
    fn the_fragment_switches_off_what_the_design_forbids() {
        for name in [
            "MODULES",
            "USER_NS",
            "IO_URING",
            "BPF_SYSCALL",
            "BINFMT_SCRIPT",
            "COREDUMP",
            "DEVMEM",
            "KEXEC",
        ] {
            let line = format!("# CONFIG_{name} is not set");
            assert!(FRAGMENT.lines().any(|is| is == line), "{line}");
        }
    }

    #[test]
    fn the_fragment_says_each_thing_once() {
        let mut names: Vec<&str> = FRAGMENT
            .lines()
            .filter_map(|line| {
                line.strip_prefix("# CONFIG_")
                    .or_else(|| line.strip_prefix("CONFIG_"))
            })
            .filter_map(|line| line.split([' ', '=']).next())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn no_line_asks_for_a_module() {
        assert!(!FRAGMENT.lines().any(|line| line.ends_with("=m")));
    }
}
