//! Where a configuration can come from without a person at the console: QEMU's firmware configuration device, or a disk or
//! ISO image labelled `GATEHOUSE-CFG` (a FAT label has eleven characters: `GATEHOUSECF`). It is checked like any other.
//!
//! A disk holds `gatehouse.toml` and, if wanted, a folder `secrets` with one file per secret; the firmware device the same
//! under `opt/org.gatehouse/config` and `opt/org.gatehouse/secrets/<name>`.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use broker_proto::control::SecretBytes;

use super::mounts;

const FIRMWARE: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.gatehouse";
const ISO_LABEL: &[u8] = b"GATEHOUSE-CFG";
const FAT_LABEL: &[u8] = b"GATEHOUSECF";
/// Largest document and secret that are read.
const MAX_DOCUMENT: u64 = 256 * 1024;
const MAX_SECRET: u64 = 64 * 1024;
const MAX_SECRETS: usize = 64;

/// What was offered.
pub struct Offer {
    /// Where it was found, for the console.
    pub origin: String,
    /// The document, unchecked.
    pub document: String,
    /// Secrets by name.
    pub secrets: Vec<(String, SecretBytes)>,
}

/// The first offer there is.
pub(super) fn find() -> Option<Offer> {
    firmware(Path::new(FIRMWARE)).or_else(disk)
}

fn firmware(folder: &Path) -> Option<Offer> {
    let document = read_text(&folder.join("config/raw"), MAX_DOCUMENT)?;
    let secrets = read_secrets(&folder.join("secrets"), |entry| entry.join("raw"));
    Some(Offer {
        origin: "the firmware configuration device".into(),
        document,
        secrets,
    })
}

fn disk() -> Option<Offer> {
    let mut nodes: Vec<PathBuf> = fs::read_dir("/sys/class/block")
        .ok()?
        .filter_map(|entry| Some(Path::new("/dev").join(entry.ok()?.file_name())))
        .collect();
    nodes.sort();
    nodes.into_iter().find_map(|node| {
        let kind = label(&mut File::open(&node).ok()?)?;
        let offer = mounts::with_disk(&node, kind, |folder| {
            let document = read_text(&folder.join("gatehouse.toml"), MAX_DOCUMENT)?;
            let secrets = read_secrets(&folder.join("secrets"), Path::to_owned);
            Some(Offer { origin: format!("the disk {}", node.display()), document, secrets })
        });
        offer.inspect_err(|error| tracing::warn!(node = %node.display(), %error, "configuration disk not read")).ok()?
    })
}

/// File system of a disk that carries our label.
fn label(disk: &mut (impl Read + Seek)) -> Option<&'static str> {
    // ISO 9660: volume identifier of the primary descriptor in sector 16. FAT: boot sector, at two places by width.
    let places = [
        (16 * 2_048 + 40, ISO_LABEL, "iso9660"),
        (43, FAT_LABEL, "vfat"),
        (71, FAT_LABEL, "vfat"),
    ];
    places.into_iter().find_map(|(at, label, kind)| {
        let mut found = vec![0; label.len()];
        disk.seek(SeekFrom::Start(at)).ok()?;
        disk.read_exact(&mut found).ok()?;
        (found == label).then_some(kind)
    })
}

fn read_secrets(folder: &Path, file_of: impl Fn(&Path) -> PathBuf) -> Vec<(String, SecretBytes)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let bytes = read_bytes(&file_of(&entry.path()), MAX_SECRET)?;
            Some((name.to_ascii_lowercase(), SecretBytes(bytes)))
        })
        .take(MAX_SECRETS)
        .collect()
}

fn read_text(path: &Path, most: u64) -> Option<String> {
    // A document that is not UTF-8 goes on as what it is, so that its check can say so.
    Some(String::from_utf8_lossy(&read_bytes(path, most)?).into_owned())
}

fn read_bytes(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // One octet more than allowed: too much is seen as too much by the check, not cut silently.
    File::open(path)
        .ok()?
        .take(most + 1)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// The secrets of a folder with one file each (laboratory).
pub(super) fn secrets_of(folder: &Path) -> Vec<(String, SecretBytes)> {
    read_secrets(folder, Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn our_labels_are_told_from_others() {
        let mut iso = vec![0; 40_000];
        iso[32_808..32_821].copy_from_slice(ISO_LABEL);
        assert_eq!(label(&mut Cursor::new(&iso)), Some("iso9660"));
        let mut fat = vec![0; 40_000];
        fat[71..82].copy_from_slice(FAT_LABEL);
        assert_eq!(label(&mut Cursor::new(&fat)), Some("vfat"));
        assert_eq!(label(&mut Cursor::new(vec![0; 40_000])), None);
        assert_eq!(label(&mut Cursor::new(vec![0; 10])), None);
    }

    #[test]
    fn the_firmware_device_offers_document_and_secrets() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("config")).unwrap();
        fs::create_dir_all(folder.path().join("secrets/api-token")).unwrap();
        fs::write(folder.path().join("config/raw"), "schema = 1\n").unwrap();
        fs::write(folder.path().join("secrets/api-token/raw"), "t").unwrap();
        let offer = firmware(folder.path()).unwrap();
        assert_eq!(offer.document, "schema = 1\n");
        assert_eq!(
            offer.secrets,
            [("api-token".to_owned(), SecretBytes(b"t".to_vec()))]
        );
    }
}
