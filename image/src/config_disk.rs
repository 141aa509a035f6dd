//! The configuration as a labelled disk for unattended setup on any hypervisor or server: an ISO with one file, found by
//! its label. Called by `gatehouse-image config-disk`; the document is checked as the appliance will check it.

use std::path::Path;

use crate::process::{command, run};
use crate::{Error, Result, read};

/// Volume label that the first process looks for.
pub const LABEL: &str = "GATEHOUSE-CFG";
/// Name of the file on the disk.
pub const FILE: &str = "gatehouse.toml";

/// Checks the document and writes the disk.
pub fn make(document: &Path, disk: &Path) -> Result<()> {
    let text = read(document)?;
    let text = String::from_utf8_lossy(&text);
    let name = document.display().to_string();
    if let Err(errors) = appliance_config::Document::parse(&text, &name) {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Error::malformed("the configuration", lines.join("\n")));
    }
    run(command("xorriso")
        .args([
            "-as",
            "mkisofs",
            "-quiet",
            "-V",
            LABEL,
            "-J",
            "-r",
            "-graft-points",
            "-o",
        ])
        .arg(disk)
        .arg(format!("{FILE}={name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::output;
    use crate::qemu::LABORATORY;

    #[test]
    fn the_disk_carries_label_and_document() {
        let folder = tempfile::tempdir().unwrap();
        let (document, disk) = (
            folder.path().join("any-name.toml"),
            folder.path().join("disk.iso"),
        );
        std::fs::write(&document, LABORATORY).unwrap();
        make(&document, &disk).unwrap();
        let bytes = std::fs::read(&disk).unwrap();
        // ECMA-119 8.4.7: the volume identifier, in the primary volume descriptor at sector 16.
        assert_eq!(&bytes[16 * 2048 + 40..16 * 2048 + 53], LABEL.as_bytes());
        let copy = folder.path().join("copy");
        let extract = ["-osirrox", "on", "-indev"];
        output(
            command("xorriso")
                .args(extract)
                .arg(&disk)
                .args(["-extract", "/gatehouse.toml"])
                .arg(&copy),
        )
        .unwrap();
        assert_eq!(std::fs::read_to_string(copy).unwrap(), LABORATORY);
    }

    #[test]
    fn a_document_that_the_appliance_would_refuse_makes_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (document, disk) = (folder.path().join("x.toml"), folder.path().join("disk.iso"));
        std::fs::write(&document, "schema = 1\nunknown = 2\n").unwrap();
        let text = make(&document, &disk).unwrap_err().to_string();
        assert!(text.contains("unknown") && text.contains(":2"), "{text}");
        assert!(!disk.exists());
    }
}
