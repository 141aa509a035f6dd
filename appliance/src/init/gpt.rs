//! Finds a partition by its GPT name (UEFI specification §5.3): reads the primary header of each disk and its entries. A disk
//! without a valid table has no partitions here. Called by [`super::mounts`].

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Octets of a sector of a GPT disk as far as this product makes and reads them.
const SECTOR: u64 = 512;
/// Most entries looked at.
const MAX_ENTRIES: u32 = 256;
/// Octets of an entry, as the specification's least and this product's only size.
const ENTRY: usize = 128;

/// Device node of the partition named `name` on any disk, in the order of the disks' names.
#[must_use]
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let mut disks: Vec<String> = std::fs::read_dir("/sys/block")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|disk| {
            !["loop", "ram", "zram", "dm-", "sr"]
                .iter()
                .any(|prefix| disk.starts_with(prefix))
        })
        .collect();
    disks.sort();
    disks.iter().find_map(|disk| {
        let number = partition(&mut File::open(Path::new("/dev").join(disk)).ok()?, name)?;
        // A disk whose name ends in a digit puts a p before the number: nvme0n1p3.
        let separator = if disk.ends_with(|last: char| last.is_ascii_digit()) {
            "p"
        } else {
            ""
        };
        let node = Path::new("/dev").join(format!("{disk}{separator}{number}"));
        node.exists().then_some(node)
    })
}

/// Number (from 1) of the partition named `name` in a disk's table.
fn partition(disk: &mut (impl Read + Seek), name: &str) -> Option<u32> {
    let mut header = [0; SECTOR as usize];
    disk.seek(SeekFrom::Start(SECTOR)).ok()?;
    disk.read_exact(&mut header).ok()?;
    if header.get(..8)? != b"EFI PART" {
        return None;
    }
    let entries_at = u64::from_le_bytes(header.get(72..80)?.try_into().ok()?);
    let count = u32::from_le_bytes(header.get(80..84)?.try_into().ok()?).min(MAX_ENTRIES);
    let size = u32::from_le_bytes(header.get(84..88)?.try_into().ok()?);
    if size as usize != ENTRY {
        return None;
    }
    disk.seek(SeekFrom::Start(entries_at.checked_mul(SECTOR)?))
        .ok()?;
    for number in 1..=count {
        let mut entry = [0; ENTRY];
        disk.read_exact(&mut entry).ok()?;
        let is_used = entry.get(..16)?.iter().any(|octet| *octet != 0);
        if is_used && name_of(entry.get(56..)?) == name {
            return Some(number);
        }
    }
    None
}

/// UTF-16LE up to the first NUL.
fn name_of(octets: &[u8]) -> String {
    let units = octets
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u16::from_le_bytes(*pair))
        .take_while(|unit| *unit != 0);
    char::decode_utf16(units)
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn disk(names: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; 64 * SECTOR as usize];
        bytes[512..520].copy_from_slice(b"EFI PART");
        bytes[584..592].copy_from_slice(&2_u64.to_le_bytes());
        bytes[592..596].copy_from_slice(&128_u32.to_le_bytes());
        bytes[596..600].copy_from_slice(&128_u32.to_le_bytes());
        for (place, name) in names.iter().enumerate() {
            let at = 1_024 + place * ENTRY;
            bytes[at] = 1;
            for (unit, octets) in name
                .encode_utf16()
                .zip(bytes[at + 56..].as_chunks_mut::<2>().0)
            {
                *octets = unit.to_le_bytes();
            }
        }
        bytes
    }

    #[test]
    fn a_partition_is_found_by_its_name() {
        let bytes = disk(&["esp", "slot-a", "gatehouse-data"]);
        assert_eq!(
            partition(&mut Cursor::new(&bytes), "gatehouse-data"),
            Some(3)
        );
        assert_eq!(partition(&mut Cursor::new(&bytes), "gatehouse"), None);
    }

    #[test]
    fn a_disk_without_a_table_or_with_a_cut_one_has_no_partition() {
        assert_eq!(partition(&mut Cursor::new(vec![0; 4_096]), "esp"), None);
        let bytes = disk(&["esp", "gatehouse-data"]);
        assert_eq!(
            partition(&mut Cursor::new(&bytes[..1_100]), "gatehouse-data"),
            None
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..2_000)) {
            let mut bytes = vec![0; 512];
            bytes.extend_from_slice(b"EFI PART");
            bytes.extend_from_slice(&tail);
            let _ = partition(&mut Cursor::new(bytes), "gatehouse-data");
        }
    }
}
