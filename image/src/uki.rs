//! One EFI file of everything that starts: systemd's stub with the kernel, the initial file system, the command line and
//! the system's name as further PE sections (UAPI specification "Unified Kernel Image"; PE/COFF specification).
//! Called by [`crate::assemble`]. Written here so that the build host's tools and their versions leave no trace, and
//! checked: what the stub does not have room for is an error, not a broken file.

use crate::{Error, Result};

/// Sections are loaded at multiples of this, the page size.
const PAGE: u64 = 4096;
/// Readable, initialised data.
const CHARACTERISTICS: u32 = 0x4000_0040;
const SECTION_HEADER: usize = 40;

/// What the stub is to find.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Text of os-release.
    pub os_release: &'a str,
    /// Kernel command line.
    pub command_line: &'a str,
    /// Kernel release, for people who list the file.
    pub release: &'a str,
    /// Compressed initial file system.
    pub initrd: &'a [u8],
    /// The bzImage.
    pub kernel: &'a [u8],
}

/// Appends the parts to the stub. The result is a function of the arguments alone.
pub fn join(stub: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>> {
    let sections: [(&[u8; 8], &[u8]); 5] = [
        (b".osrel\0\0", parts.os_release.as_bytes()),
        (b".cmdline", parts.command_line.as_bytes()),
        (b".uname\0\0", parts.release.as_bytes()),
        (b".initrd\0", parts.initrd),
        // Last, so that the kernel may use the room behind it.
        (b".linux\0\0", parts.kernel),
    ];
    append(stub, &sections).ok_or_else(|| {
        Error::malformed(
            "the EFI stub",
            "not a PE32+ file with room for five sections",
        )
    })
}

/// Names and contents of all sections, for tests and for `gatehouse-image show`.
pub fn sections(image: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let read = || -> Option<Vec<(String, Vec<u8>)>> {
        let headers = Headers::read(image)?;
        (0..headers.count)
            .map(|index| {
                let at = headers
                    .table
                    .checked_add(index.checked_mul(SECTION_HEADER)?)?;
                let name = image.get(at..at.checked_add(8)?)?;
                let length =
                    read_u32(image, at.checked_add(8)?)?.min(read_u32(image, at.checked_add(16)?)?);
                let from = to_usize(read_u32(image, at.checked_add(20)?)?)?;
                let bytes = image.get(from..from.checked_add(to_usize(length)?)?)?;
                Some((
                    String::from_utf8_lossy(name)
                        .trim_end_matches('\0')
                        .to_owned(),
                    bytes.to_vec(),
                ))
            })
            .collect()
    };
    read().ok_or_else(|| Error::malformed("the EFI file", "not a well-formed PE32+ file"))
}

/// Places in the headers that matter here, as file offsets.
struct Headers {
    coff: usize,
    optional: usize,
    table: usize,
    count: usize,
    file_alignment: u64,
    headers_size: usize,
    /// First free address, behind the last section.
    end_in_memory: u64,
    /// First free place in the file, behind the last section's bytes.
    end_in_file: u64,
}

impl Headers {
    fn read(image: &[u8]) -> Option<Self> {
        let signature = to_usize(read_u32(image, 0x3c)?)?;
        if !image.starts_with(b"MZ")
            || image.get(signature..signature.checked_add(4)?)? != b"PE\0\0"
        {
            return None;
        }
        let coff = signature.checked_add(4)?;
        let optional = coff.checked_add(20)?;
        // Magic 0x20b: PE32+.
        if read_u16(image, optional)? != 0x20b {
            return None;
        }
        let table = optional.checked_add(usize::from(read_u16(image, coff.checked_add(16)?)?))?;
        let count = usize::from(read_u16(image, coff.checked_add(2)?)?);
        let (mut end_in_memory, mut end_in_file) = (0u64, 0u64);
        for index in 0..count {
            let at = table.checked_add(index.checked_mul(SECTION_HEADER)?)?;
            let memory = u64::from(read_u32(image, at.checked_add(12)?)?)
                + u64::from(read_u32(image, at.checked_add(8)?)?);
            let file = u64::from(read_u32(image, at.checked_add(20)?)?)
                + u64::from(read_u32(image, at.checked_add(16)?)?);
            end_in_memory = end_in_memory.max(memory);
            end_in_file = end_in_file.max(file);
        }
        let file_alignment = u64::from(read_u32(image, optional.checked_add(36)?)?);
        let headers_size = to_usize(read_u32(image, optional.checked_add(60)?)?)?;
        (file_alignment.is_power_of_two()).then_some(Self {
            coff,
            optional,
            table,
            count,
            file_alignment,
            headers_size,
            end_in_memory,
            end_in_file,
        })
    }
}

fn append(stub: &[u8], sections: &[(&[u8; 8], &[u8])]) -> Option<Vec<u8>> {
    let headers = Headers::read(stub)?;
    let table_end = headers.table.checked_add(
        headers
            .count
            .checked_add(sections.len())?
            .checked_mul(SECTION_HEADER)?,
    )?;
    if table_end > headers.headers_size {
        return None;
    }
    // Behind the last section the stub carries a symbol table for debuggers; it ends here.
    let mut image = stub
        .get(..to_usize(u32::try_from(headers.end_in_file).ok()?)?)?
        .to_vec();
    let mut address = headers.end_in_memory;
    let mut data = 0u64;
    for (index, (name, bytes)) in sections.iter().enumerate() {
        address = address.next_multiple_of(PAGE);
        let from = (image.len() as u64).next_multiple_of(headers.file_alignment);
        image.resize(usize::try_from(from).ok()?, 0);
        image.extend_from_slice(bytes);
        let stored = (bytes.len() as u64).next_multiple_of(headers.file_alignment);
        image.resize(usize::try_from(from.checked_add(stored)?).ok()?, 0);

        let at = headers.table.checked_add(
            headers
                .count
                .checked_add(index)?
                .checked_mul(SECTION_HEADER)?,
        )?;
        write_bytes(&mut image, at, &[0; SECTION_HEADER])?;
        write_bytes(&mut image, at, *name)?;
        write_u32(&mut image, at.checked_add(8)?, bytes.len() as u64)?;
        write_u32(&mut image, at.checked_add(12)?, address)?;
        write_u32(&mut image, at.checked_add(16)?, stored)?;
        write_u32(&mut image, at.checked_add(20)?, from)?;
        write_u32(&mut image, at.checked_add(36)?, u64::from(CHARACTERISTICS))?;
        address = address.checked_add(bytes.len() as u64)?;
        data = data.checked_add(stored)?;
    }
    let count = u16::try_from(headers.count.checked_add(sections.len())?).ok()?;
    write_bytes(
        &mut image,
        headers.coff.checked_add(2)?,
        &count.to_le_bytes(),
    )?;
    // Time stamp and symbol table: none.
    write_bytes(&mut image, headers.coff.checked_add(4)?, &[0; 12])?;
    let initialised = headers.optional.checked_add(8)?;
    let before = u64::from(read_u32(&image, initialised)?);
    write_u32(&mut image, initialised, before.checked_add(data)?)?;
    write_u32(
        &mut image,
        headers.optional.checked_add(56)?,
        address.next_multiple_of(PAGE),
    )?;
    let sum_at = headers.optional.checked_add(64)?;
    write_u32(&mut image, sum_at, 0)?;
    let sum = checksum(&image);
    write_u32(&mut image, sum_at, sum)?;
    Some(image)
}

/// The PE image checksum: sum of 16-bit words with carry, plus the length. The field itself must be zero.
fn checksum(image: &[u8]) -> u64 {
    let mut sum = 0u64;
    for pair in image.chunks(2) {
        let mut word = [0u8; 2];
        for (to, from) in word.iter_mut().zip(pair) {
            *to = *from;
        }
        sum += u64::from(u16::from_le_bytes(word));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ((sum & 0xffff) + (sum >> 16)) + image.len() as u64
}

fn to_usize(value: u32) -> Option<usize> {
    usize::try_from(value).ok()
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn write_u32(bytes: &mut [u8], at: usize, value: u64) -> Option<()> {
    write_bytes(bytes, at, &u32::try_from(value).ok()?.to_le_bytes())
}

fn write_bytes(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes
        .get_mut(at..at.checked_add(value.len())?)?
        .copy_from_slice(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stub() -> Vec<u8> {
        std::fs::read(crate::assemble::STUB).unwrap()
    }

    fn parts<'a>(initrd: &'a [u8], kernel: &'a [u8]) -> Parts<'a> {
        Parts {
            os_release: "ID=gatehouse\n",
            command_line: "quiet",
            release: "6.12",
            initrd,
            kernel,
        }
    }

    #[test]
    fn every_part_is_found_again_and_the_stub_is_untouched() {
        let (initrd, kernel) = (vec![1u8; 5000], vec![2u8; 70_001]);
        let joined = join(&stub(), &parts(&initrd, &kernel)).unwrap();
        let found = sections(&joined).unwrap();
        let old = sections(&stub()).unwrap();
        assert_eq!(found[..old.len()], old[..]);
        let new: Vec<(&str, &[u8])> = found[old.len()..]
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        assert_eq!(
            new,
            [
                (".osrel", b"ID=gatehouse\n".as_slice()),
                (".cmdline", b"quiet"),
                (".uname", b"6.12"),
                (".initrd", &initrd),
                (".linux", &kernel)
            ]
        );
    }

    #[test]
    fn no_two_sections_overlap_in_memory() {
        let joined = join(&stub(), &parts(&[1; 9000], &[2; 9000])).unwrap();
        let headers = Headers::read(&joined).unwrap();
        let mut places: Vec<(u32, u32)> = (0..headers.count)
            .map(|index| headers.table + index * SECTION_HEADER)
            .map(|at| {
                (
                    read_u32(&joined, at + 12).unwrap(),
                    read_u32(&joined, at + 8).unwrap(),
                )
            })
            .collect();
        places.sort_unstable();
        for pair in places.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn a_file_with_all_its_sections_has_no_room_for_five_more() {
        let once = join(&stub(), &parts(&[], &[])).unwrap();
        assert!(join(&once, &parts(&[], &[])).is_err());
    }

    #[test]
    fn something_else_than_a_stub_is_refused() {
        assert!(join(b"\x7fELF", &parts(&[], &[])).is_err());
        assert!(join(&[], &parts(&[], &[])).is_err());
    }

    proptest! {
        #[test]
        fn bent_stubs_never_panic(at in 0usize..1024, value: u8, cut in 0usize..2048) {
            let mut bytes = stub();
            bytes[at] = value;
            let _ = join(&bytes, &parts(&[1], &[2]));
            let _ = sections(&bytes);
            bytes.truncate(cut);
            let _ = join(&bytes, &parts(&[1], &[2]));
            let _ = sections(&bytes);
        }
    }
}
