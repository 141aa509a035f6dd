//! One build from inputs to `sha256sums`, as a list of steps. Called by `gatehouse-image build` and by the check that two
//! builds give the same bytes.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::process::{command, run};
use crate::tree::Node;
use crate::{
    Error, Result, contents, cpio, debian, disk, forms, kernel, make_folder, read, sbom, uki, write,
};

/// systemd's EFI stub of the build host, package systemd-boot-efi.
pub const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// systemd-boot of the same package and therefore of the same version as the stub.
pub const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Kernel command line. The serial line stands last: it is /dev/console, and the only console where there is no screen.
/// Ten seconds after a panic the box starts again, closed. Lockdown: not even root reads or writes the kernel's memory.
pub const COMMAND_LINE: &str = "console=tty1 console=ttyS0,115200 quiet loglevel=4 panic=10 lockdown=confidentiality gatehouse.slot=A";

/// Where a build takes its inputs from and where it goes.
#[derive(Debug)]
pub struct Inputs {
    /// Folder with the workspace's static release programs.
    pub programs: PathBuf,
    /// The bzImage.
    pub kernel: PathBuf,
    /// The workspace's folder: `Cargo.lock` and the members' manifests, for the SBOM.
    pub workspace: PathBuf,
    /// Refuse a build host whose packages are not the pinned ones, rather than say so.
    pub locked: bool,
}

/// What a build says about itself.
#[derive(Debug)]
pub struct Report {
    /// Version and build number, as `/etc/gatehouse/version` has them.
    pub version: String,
    /// Names and sizes in bytes of the files made.
    pub files: Vec<(String, u64)>,
}

/// Builds everything into `out`, which is replaced as a whole at the end: a broken build leaves the old one in place.
pub fn build(inputs: &Inputs, out: &Path) -> Result<Report> {
    check_host(inputs.locked)?;
    let work = out.with_extension("new");
    if work.exists() {
        std::fs::remove_dir_all(&work).map_err(Error::io(&work))?;
    }
    make_folder(&work)?;
    let version = build_in(inputs, &work)?;
    let files = sums(&work)?;
    if out.exists() {
        std::fs::remove_dir_all(out).map_err(Error::io(out))?;
    }
    std::fs::rename(&work, out).map_err(Error::io(out))?;
    Ok(Report { version, files })
}

/// Builds twice in two folders beside `out` and compares file by file. Gives the names compared; the folders are removed.
pub fn verify_reproducible(inputs: &Inputs, out: &Path) -> Result<Vec<String>> {
    let first = out.with_extension("first");
    let second = out.with_extension("second-of-another-name");
    let report = build(inputs, &first)?;
    build(inputs, &second)?;
    let lines = |folder: &Path| -> Result<Vec<String>> {
        let text = read(folder.join("sha256sums"))?;
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect())
    };
    let (one, two) = (lines(&first)?, lines(&second)?);
    let differing: Vec<&str> = one
        .iter()
        .filter(|line| !two.contains(line))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    if one.len() != two.len() || !differing.is_empty() {
        return Err(Error::malformed(
            "two builds",
            format!("these files differ: {}", differing.join(", ")),
        ));
    }
    for folder in [&first, &second] {
        std::fs::remove_dir_all(folder).map_err(Error::io(folder))?;
    }
    Ok(report.files.into_iter().map(|(name, _)| name).collect())
}

fn build_in(inputs: &Inputs, work: &Path) -> Result<String> {
    let kernel = read(&inputs.kernel)?;
    let tree = contents::gather(&inputs.programs, &kernel)?;
    let text = |path: &str| match tree.entry(path) {
        Some(Node::File { bytes, .. }) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Some(Node::Folder { .. } | Node::Link { .. }) | None => {
            Err(Error::malformed(path, "lacking from the tree"))
        }
    };
    let (version, os_release) = (text("/etc/gatehouse/version")?, text("/etc/os-release")?);

    let initrd = compress(&cpio::pack(&tree), work)?;
    let release = kernel::Source::pinned()?.release();
    let parts = uki::Parts {
        os_release: &os_release,
        command_line: COMMAND_LINE,
        release: &release,
        initrd: &initrd,
        kernel: &kernel,
    };
    let system = uki::join(&read(STUB)?, &parts)?;

    // For starts without firmware, and for tests: the parts one by one.
    write(work.join("bzImage"), &kernel)?;
    write(work.join("initrd.zst"), &initrd)?;
    write(work.join("cmdline"), COMMAND_LINE.as_bytes())?;
    write(work.join("gatehouse.efi"), &system)?;
    let raw = disk::make(work, &read(LOADER)?, &system)?;
    forms::convert(&raw)?;
    let bill = sbom::bill(&tree, &inputs.workspace, &kernel)?;
    write(work.join("sbom.cdx.json"), &bill)?;
    Ok(version.trim().to_owned())
}

fn compress(archive: &[u8], work: &Path) -> Result<Vec<u8>> {
    let (plain, packed) = (work.join("initrd"), work.join("initrd.zst"));
    write(&plain, archive)?;
    run(command("zstd")
        .args(["-q", "-f", "-19", "-T1", "--rm", "-o"])
        .arg(&packed)
        .arg(&plain))?;
    read(&packed)
}

fn check_host(locked: bool) -> Result<()> {
    let differences = debian::differences();
    if locked && !differences.is_empty() {
        return Err(Error::malformed("the build host", differences.join("; ")));
    }
    for difference in differences {
        eprintln!("warning: {difference}: these are not the bytes of the pinned build");
    }
    Ok(())
}

/// Writes `sha256sums` over all files of the folder and gives their names and sizes.
fn sums(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut files: Vec<(String, u64)> = Vec::new();
    for entry in std::fs::read_dir(folder)
        .map_err(Error::io(folder))?
        .flatten()
    {
        let size = entry.metadata().map_err(Error::io(entry.path()))?.len();
        files.push((entry.file_name().to_string_lossy().into_owned(), size));
    }
    files.sort();
    let mut text = String::new();
    for (name, _) in &files {
        let path = folder.join(name);
        let sum = sha256_of(&path)?;
        text.push_str(&format!("{sum}  {name}\n"));
    }
    write(folder.join("sha256sums"), text.as_bytes())?;
    files.push(("sha256sums".to_owned(), text.len() as u64));
    Ok(files)
}

/// SHA-256 of a file of any size, in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    File::open(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut hash))
        .map_err(Error::io(path))?;
    Ok(kernel::hex(&hash.finalize()))
}
