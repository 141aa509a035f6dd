//! The disk in the forms that hypervisors want, each as reproducible as the raw one: qcow2, VMDK, VHDX, and compressed for
//! the way. Called by [`crate::assemble`]. qemu-img draws random ids for two of the forms; they are set to fixed values here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::process::{command, run};
use crate::{Error, Result};

/// The raw disk in the forms of the hypervisors, and compressed for the way; each is as reproducible as the raw one.
pub fn convert(raw: &Path) -> Result<Vec<PathBuf>> {
    let forms = [
        ("qcow2", "qcow2", ""),
        ("vmdk", "vmdk", "subformat=streamOptimized"),
        ("vhdx", "vhdx", "subformat=dynamic"),
    ];
    let mut files = Vec::new();
    for (form, extension, options) in forms {
        let to = raw.with_extension(extension);
        let mut convert = command("qemu-img");
        convert.args(["convert", "-m", "1", "-f", "raw", "-O", form]);
        if !options.is_empty() {
            convert.args(["-o", options]);
        }
        run(convert.arg(raw).arg(&to))?;
        files.push(to);
    }
    settle_vmdk(&raw.with_extension("vmdk"))?;
    settle_vhdx(&raw.with_extension("vhdx"))?;
    // Most of it is compressed already: a higher level costs time and gains nothing.
    let packed = raw.with_extension("raw.zst");
    run(command("zstd")
        .args(["-q", "-f", "-12", "-T1", "-o"])
        .arg(&packed)
        .arg(raw))?;
    files.push(packed);
    Ok(files)
}

/// qemu-img draws a content id for each VMDK; it only has to differ from a parent's, and there is none.
fn settle_vmdk(path: &Path) -> Result<()> {
    let settle = |file: &mut File| -> std::io::Result<bool> {
        let head = read_at(file, 0, 64 * 1024)?;
        let Some((place, text)) = settle_descriptor(&head) else {
            return Ok(false);
        };
        write_at(file, place, &text)?;
        Ok(true)
    };
    settled(path, "no descriptor in the VMDK", settle)
}

/// Place and new content of the descriptor. Rewritten as a whole: the drawn id has no leading zeros, so its length varies.
fn settle_descriptor(head: &[u8]) -> Option<(u64, Vec<u8>)> {
    if !head.starts_with(b"KDMV") {
        return None;
    }
    let place = u32_at(head, 28)?.checked_mul(512)?;
    let (from, length) = (
        usize::try_from(place).ok()?,
        usize::try_from(u32_at(head, 36)?.checked_mul(512)?).ok()?,
    );
    let area = head.get(from..from.checked_add(length)?)?;
    let text = std::str::from_utf8(area.split(|byte| *byte == 0).next()?).ok()?;
    let mut settled = String::new();
    let mut found = false;
    for line in text.lines() {
        let id = line.starts_with("CID=");
        found |= id;
        settled.push_str(if id { "CID=47480001" } else { line });
        settled.push('\n');
    }
    let mut bytes = settled.into_bytes();
    if !found || bytes.len() > length {
        return None;
    }
    bytes.resize(length, 0);
    Some((place.into(), bytes))
}

/// qemu-img draws for each VHDX (MS-VHDX 2.2): the first sequence number and two GUIDs of both headers, the GUID of log
/// entries that are long done with, and the disk's SCSI page 83 id.
fn settle_vhdx(path: &Path) -> Result<()> {
    let settle = |file: &mut File| -> std::io::Result<bool> {
        // The header with the higher number counts; qemu-img ends with the second.
        for (place, sequence) in [(64 * 1024, 1u64), (128 * 1024, 2)] {
            let mut header = read_at(file, place, 4096)?;
            let Some(log) = settle_header(&mut header, sequence) else {
                return Ok(false);
            };
            write_at(file, place, &header)?;
            write_at(file, log.0, &vec![0; log.1])?;
        }
        // The metadata region: a table of (item id, offset from the table, length), items behind it.
        let head = read_at(file, 0, 8 << 20)?;
        let (Some(table), Some(entry)) = (find(&head, b"metadata"), find(&head, &PAGE_83_ITEM))
        else {
            return Ok(false);
        };
        let Some(offset) = u32_at(&head, entry + 16) else {
            return Ok(false);
        };
        write_at(file, table as u64 + u64::from(offset), &FIXED_GUID)?;
        Ok(true)
    };
    settled(path, "not the VHDX that is expected of qemu-img", settle)
}

/// Item id of the page 83 data, beca12ab-b2e6-4523-93ef-c309e000c746, as it lies in the file.
const PAGE_83_ITEM: [u8; 16] = [
    0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46,
];
const FIXED_GUID: [u8; 16] = *b"gatehouse-image!";

/// Settles one header and gives place and length of the log, which is empty: an open one is not for us to throw away.
fn settle_header(header: &mut [u8], sequence: u64) -> Option<(u64, usize)> {
    let log_is_open = header.get(48..64)?.iter().any(|byte| *byte != 0);
    if !header.starts_with(b"head") || log_is_open {
        return None;
    }
    header.get_mut(4..8)?.fill(0);
    header
        .get_mut(8..16)?
        .copy_from_slice(&sequence.to_le_bytes());
    // File write and data write GUID.
    header
        .get_mut(16..48)?
        .copy_from_slice(&[FIXED_GUID, FIXED_GUID].concat());
    let sum = crc32c(header).to_le_bytes();
    header.get_mut(4..8)?.copy_from_slice(&sum);
    let place = header
        .get(72..80)?
        .try_into()
        .ok()
        .map(u64::from_le_bytes)?;
    Some((place, usize::try_from(u32_at(header, 68)?).ok()?))
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: it runs over 8 KiB.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 * (sum & 1))
        })
    })
}

fn settled(
    path: &Path,
    why_not: &str,
    settle: impl FnOnce(&mut File) -> std::io::Result<bool>,
) -> Result<()> {
    let opened = File::options().read(true).write(true).open(path);
    match opened.and_then(|mut file| settle(&mut file)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::malformed(path.display(), why_not)),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// At most `length` bytes from a place.
fn read_at(file: &mut File, place: u64, length: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(place))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_at(file: &mut File, place: u64, bytes: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(place))?;
    file.write_all(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_le_bytes)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::make;

    #[test]
    fn crc32c_gives_the_check_value_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn every_form_holds_the_raw_disk() {
        let folder = tempfile::tempdir().unwrap();
        let raw = make(folder.path(), b"loader", b"system").unwrap();
        for file in convert(&raw)
            .unwrap()
            .iter()
            .filter(|file| file.extension().is_some_and(|name| name != "zst"))
        {
            run(command("qemu-img")
                .args(["compare", "-q", "-f", "raw"])
                .arg("-F")
                .arg(file.extension().unwrap())
                .args([&raw, file]))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }

    #[test]
    fn content_ids_of_any_length_give_the_same_descriptor() {
        let with = |id: &str| {
            let mut head = vec![0u8; 2048];
            head[..4].copy_from_slice(b"KDMV");
            head[28] = 1;
            head[36] = 2;
            let text = format!("# Disk DescriptorFile\nCID={id}\nparentCID=ffffffff\n");
            head[512..512 + text.len()].copy_from_slice(text.as_bytes());
            settle_descriptor(&head).unwrap()
        };
        let (place, bytes) = with("3a333403");
        assert_eq!((place, bytes.len()), (512, 1024));
        assert_eq!((place, bytes), with("a3334"));
        assert!(settle_descriptor(&[0; 2048]).is_none());
    }

    #[test]
    fn an_open_log_is_not_thrown_away() {
        let mut header = vec![0u8; 4096];
        header[..4].copy_from_slice(b"head");
        assert!(settle_header(&mut header.clone(), 1).is_some());
        header[50] = 1;
        assert!(settle_header(&mut header, 1).is_none());
    }
}
