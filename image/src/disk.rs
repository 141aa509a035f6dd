//! The disk: GPT with the EFI system partition, room for two slots of a verified root, and the data partition. Called by
//! [`crate::assemble`]; [`crate::forms`] makes of it what hypervisors want. No root rights, no loop device: each partition
//! is made as a file and laid into the disk at its place.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::process::{EPOCH, command, output, run};
use crate::{Error, Result, make_folder, write};

/// One MiB, the unit of the layout.
const MIB: u64 = 1 << 20;
/// Size of the whole disk in MiB; sparse, so the file is as large as its content.
const DISK_MIB: u64 = 1024;
/// Serial number of the EFI system partition's file system.
const ESP_SERIAL: &str = "47480001";
/// UUID and directory hash seed of the data partition's file system.
const DATA_UUID: &str = "6a7e4005-da7a-4b1e-9d4c-47484f555345";
const DISK_UUID: &str = "6a7e4000-d15c-4b1e-9d4c-47484f555345";
/// GPT name by which the first process finds the data partition.
pub const DATA_NAME: &str = "gatehouse-data";
/// Label of the data partition's file system.
pub const DATA_LABEL: &str = "GATEHOUSE-DATA";

/// One partition: GPT name, type, unique id, size in MiB (0: the rest).
#[derive(Debug)]
pub struct Partition {
    /// GPT name.
    pub name: &'static str,
    /// Partition type GUID (UAPI specification "Discoverable Partitions").
    pub kind: &'static str,
    /// Unique partition GUID.
    pub id: &'static str,
    /// Size in MiB; 0 means up to the end.
    pub mib: u64,
}

/// The layout. The slots lie empty until the verified root comes: a disk flashed today keeps its data partition's place.
pub const LAYOUT: [Partition; 6] = [
    Partition {
        name: "gatehouse-esp",
        kind: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        id: "6a7e4001-0e5f-4b1e-9d4c-47484f555345",
        mib: 128,
    },
    Partition {
        name: "gatehouse-root-a",
        kind: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        id: "6a7e4002-000a-4b1e-9d4c-47484f555345",
        mib: 64,
    },
    Partition {
        name: "gatehouse-verity-a",
        kind: "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
        id: "6a7e4003-000a-4b1e-9d4c-47484f555345",
        mib: 4,
    },
    Partition {
        name: "gatehouse-root-b",
        kind: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        id: "6a7e4002-000b-4b1e-9d4c-47484f555345",
        mib: 64,
    },
    Partition {
        name: "gatehouse-verity-b",
        kind: "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
        id: "6a7e4003-000b-4b1e-9d4c-47484f555345",
        mib: 4,
    },
    Partition {
        name: DATA_NAME,
        kind: "0fc63daf-8483-4772-8e79-3d69d8477de4",
        id: "6a7e4004-da7a-4b1e-9d4c-47484f555345",
        mib: 0,
    },
];

/// Writes `gatehouse.raw` into `folder`. `loader` is systemd-boot, `system` the EFI file of everything that starts.
pub fn make(folder: &Path, loader: &[u8], system: &[u8]) -> Result<PathBuf> {
    let scratch = folder.join("partitions");
    make_folder(&scratch)?;
    let (esp, data, raw) = (
        scratch.join("esp"),
        scratch.join("data"),
        folder.join("gatehouse.raw"),
    );
    let places = places();
    make_esp(&scratch, &esp, size_of(&places, 0)?, loader, system)?;
    make_data(&data, size_of(&places, LAYOUT.len() - 1)?)?;
    sparse(&raw, DISK_MIB * MIB)?;
    partition(&raw, &places)?;
    for (index, part) in [(0, &esp), (LAYOUT.len() - 1, &data)] {
        let start = places.get(index).map(|place| place.0).unwrap_or_default();
        lay(&raw, start * MIB, part)?;
    }
    std::fs::remove_dir_all(&scratch).map_err(Error::io(&scratch))?;
    Ok(raw)
}

/// Start and size of each partition of the layout, in MiB. One MiB at either end belongs to the partition tables.
fn places() -> Vec<(u64, u64)> {
    let mut start = 1;
    let mut places = Vec::new();
    for part in &LAYOUT {
        let size = if part.mib == 0 {
            DISK_MIB - 1 - start
        } else {
            part.mib
        };
        places.push((start, size));
        start += size;
    }
    places
}

fn size_of(places: &[(u64, u64)], index: usize) -> Result<u64> {
    let place = places
        .get(index)
        .ok_or_else(|| Error::malformed("the layout", "a partition is lacking"))?;
    Ok(place.1 * MIB)
}

fn make_esp(scratch: &Path, esp: &Path, size: u64, loader: &[u8], system: &[u8]) -> Result<()> {
    sparse(esp, size)?;
    run(command("mkfs.vfat")
        .args([
            "-F",
            "32",
            "--invariant",
            "-i",
            ESP_SERIAL,
            "-n",
            "GATEHOUSE",
            "-s",
            "1",
        ])
        .arg(esp))?;
    run(command("mmd").arg("-i").arg(esp).args([
        "::/EFI",
        "::/EFI/BOOT",
        "::/EFI/Linux",
        "::/loader",
    ]))?;
    // No menu and no way to edit the command line; the entry itself is found by its place in EFI/Linux.
    let settings: &[u8] = b"timeout 0\neditor no\nauto-firmware no\n";
    for (name, bytes) in [
        ("EFI/BOOT/BOOTX64.EFI", loader),
        ("EFI/Linux/gatehouse-A.efi", system),
        ("loader/loader.conf", settings),
    ] {
        let source = scratch.join("file");
        write(&source, bytes)?;
        let epoch = std::time::UNIX_EPOCH + std::time::Duration::from_secs(EPOCH);
        File::options()
            .write(true)
            .open(&source)
            .and_then(|file| file.set_modified(epoch))
            .map_err(Error::io(&source))?;
        run(command("mcopy")
            .args(["-m", "-i"])
            .arg(esp)
            .arg(&source)
            .arg(format!("::/{name}")))?;
    }
    Ok(())
}

fn make_data(data: &Path, size: u64) -> Result<()> {
    sparse(data, size)?;
    run(command("mke2fs")
        .env("E2FSPROGS_FAKE_TIME", EPOCH.to_string())
        // What the build host's settings file says must not show.
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-L", DATA_LABEL, "-U", DATA_UUID])
        .args(["-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super"])
        .args(["-O", "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"])
        .args(["-E", &format!("hash_seed={DATA_UUID},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0")])
        .arg(data))
}

fn partition(raw: &Path, places: &[(u64, u64)]) -> Result<()> {
    let mut script = format!("label: gpt\nlabel-id: {DISK_UUID}\nunit: sectors\nfirst-lba: 2048\n");
    for (part, (start, size)) in LAYOUT.iter().zip(places) {
        let sectors = MIB / 512;
        script.push_str(&format!(
            "start={}, size={}, type={}, uuid={}, name=\"{}\"\n",
            start * sectors,
            size * sectors,
            part.kind,
            part.id,
            part.name
        ));
    }
    let text = raw.with_extension("layout");
    write(&text, script.as_bytes())?;
    let input = File::open(&text).map_err(Error::io(&text))?;
    output(
        command("sfdisk")
            .args(["--quiet", "--wipe", "never"])
            .arg(raw)
            .stdin(Stdio::from(input)),
    )?;
    std::fs::remove_file(&text).map_err(Error::io(&text))
}

/// A file of this size without content.
fn sparse(path: &Path, size: u64) -> Result<()> {
    File::create(path)
        .and_then(|file| file.set_len(size))
        .map_err(Error::io(path))
}

/// Copies a partition to its place and leaves out what is zero.
fn lay(raw: &Path, at: u64, part: &Path) -> Result<()> {
    let copy = || -> std::io::Result<()> {
        let mut from = File::open(part)?;
        let mut to = File::options().write(true).open(raw)?;
        let mut block = vec![0u8; 64 * 1024];
        let mut place = at;
        loop {
            let length = from.read(&mut block)?;
            let Some(bytes) = block.get(..length).filter(|bytes| !bytes.is_empty()) else {
                return Ok(());
            };
            if bytes.iter().any(|byte| *byte != 0) {
                to.seek(SeekFrom::Start(place))?;
                to.write_all(bytes)?;
            }
            place += length as u64;
        }
    };
    copy().map_err(Error::io(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other_and_leave_both_tables_their_room() {
        let places = places();
        assert_eq!(places[0].0, 1);
        for pair in places.windows(2) {
            assert_eq!(pair[0].0 + pair[0].1, pair[1].0);
        }
        let (start, size) = places[LAYOUT.len() - 1];
        assert_eq!(start + size, DISK_MIB - 1);
        assert!(size >= 256, "data partition of {size} MiB");
    }

    #[test]
    fn the_partition_table_and_the_file_systems_are_as_the_layout_says() {
        let folder = tempfile::tempdir().unwrap();
        let raw = make(folder.path(), b"loader", b"system").unwrap();
        let table = output(command("sfdisk").args(["--json"]).arg(&raw)).unwrap();
        let table: serde_json::Value = serde_json::from_slice(&table).unwrap();
        let found = table["partitiontable"]["partitions"].as_array().unwrap();
        assert_eq!(found.len(), LAYOUT.len());
        for (is, must) in found.iter().zip(&LAYOUT) {
            assert_eq!(is["name"], must.name);
            assert_eq!(is["type"].as_str().unwrap().to_lowercase(), must.kind);
            assert_eq!(is["uuid"].as_str().unwrap().to_lowercase(), must.id);
        }
        let data = found[LAYOUT.len() - 1]["start"].as_u64().unwrap() * 512;
        run(command("e2fsck")
            .args(["-f", "-n"])
            .arg(format!("{}?offset={data}", raw.display())))
        .unwrap();
        let esp = found[0]["start"].as_u64().unwrap() * 512;
        let read = output(
            command("mtype")
                .arg("-i")
                .arg(format!("{}@@{esp}", raw.display()))
                .arg("::/EFI/Linux/gatehouse-A.efi"),
        );
        assert_eq!(read.unwrap(), b"system");
    }
}
