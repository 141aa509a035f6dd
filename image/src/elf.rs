//! What an ELF program asks of its surroundings: its loader (`PT_INTERP`) and its libraries (`DT_NEEDED`).
//! Read by [`crate::contents`], to prove that our own programs ask for nothing and to gather what `nft` asks for.
//! System V ABI, 64-bit little endian only.

use crate::{Error, Result};

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// What one ELF file needs before it can run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Path of the dynamic loader; none for a static program or a library.
    pub loader: Option<String>,
    /// Names of the shared libraries, in the file's order.
    pub libraries: Vec<String>,
}

impl Needs {
    /// True for a program that runs in an empty root.
    pub fn is_static(&self) -> bool {
        self.loader.is_none() && self.libraries.is_empty()
    }
}

/// True if the bytes begin like any ELF file.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Reads the needs of one x86-64 ELF file. `name` is for the error text only.
pub fn needs(name: &str, bytes: &[u8]) -> Result<Needs> {
    parse(bytes)
        .ok_or_else(|| Error::malformed(name, "not a well-formed 64-bit ELF file for x86-64"))
}

struct Segment {
    kind: u32,
    offset: usize,
    address: u64,
    file_size: usize,
}

fn parse(bytes: &[u8]) -> Option<Needs> {
    // Class 64, little endian, machine x86-64.
    if !is_elf(bytes) || bytes.get(4..6)? != [2, 1] || u16_at(bytes, 18)? != 62 {
        return None;
    }
    let table = usize::try_from(u64_at(bytes, 32)?).ok()?;
    let entry_size = usize::from(u16_at(bytes, 54)?);
    let count = usize::from(u16_at(bytes, 56)?);
    let mut segments = Vec::new();
    for index in 0..count {
        let at = table.checked_add(index.checked_mul(entry_size)?)?;
        segments.push(Segment {
            kind: u32_at(bytes, at)?,
            offset: usize::try_from(u64_at(bytes, at.checked_add(8)?)?).ok()?,
            address: u64_at(bytes, at.checked_add(16)?)?,
            file_size: usize::try_from(u64_at(bytes, at.checked_add(32)?)?).ok()?,
        });
    }
    let mut needs = Needs::default();
    for segment in &segments {
        match segment.kind {
            PT_INTERP => needs.loader = Some(text_at(bytes, segment.offset)?),
            PT_DYNAMIC => needs.libraries = libraries(bytes, &segments, segment)?,
            _ => {}
        }
    }
    Some(needs)
}

fn libraries(bytes: &[u8], segments: &[Segment], dynamic: &Segment) -> Option<Vec<String>> {
    let (mut names, mut strings) = (Vec::new(), None);
    let end = dynamic.offset.checked_add(dynamic.file_size)?;
    let mut at = dynamic.offset;
    while at < end {
        let (tag, value) = (u64_at(bytes, at)?, u64_at(bytes, at.checked_add(8)?)?);
        match tag {
            0 => break,
            DT_NEEDED => names.push(value),
            DT_STRTAB => strings = Some(file_offset(segments, value)?),
            _ => {}
        }
        at = at.checked_add(16)?;
    }
    if names.is_empty() {
        return Some(Vec::new());
    }
    let strings = strings?;
    names
        .into_iter()
        .map(|name| text_at(bytes, strings.checked_add(usize::try_from(name).ok()?)?))
        .collect()
}

/// Turns an address of the running program into a place in the file.
fn file_offset(segments: &[Segment], address: u64) -> Option<usize> {
    segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD)
        .find_map(|segment| {
            let inside = usize::try_from(address.checked_sub(segment.address)?).ok()?;
            (inside < segment.file_size).then(|| segment.offset.checked_add(inside))?
        })
}

fn text_at(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn libc_of_the_build_host_names_the_loader_as_its_library() {
        let path = "/lib/x86_64-linux-gnu/libc.so.6";
        let needs = needs(path, &std::fs::read(path).unwrap()).unwrap();
        assert_eq!(needs.libraries, ["ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn a_test_program_of_this_workspace_is_static() {
        let path = std::env::current_exe().unwrap();
        let needs = needs("the test program", &std::fs::read(path).unwrap()).unwrap();
        assert!(needs.is_static(), "{needs:?}");
    }

    #[test]
    fn a_dynamic_program_names_its_loader() {
        let needs = needs("/bin/cat", &std::fs::read("/bin/cat").unwrap()).unwrap();
        assert_eq!(needs.loader.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(!needs.is_static());
    }

    proptest! {
        #[test]
        fn bent_files_are_refused_without_a_panic(at in 0usize..1024, value: u8, cut in 0usize..4096) {
            let mut bytes = std::fs::read("/bin/cat").unwrap();
            bytes[at] = value;
            let _ = needs("bent", &bytes);
            bytes.truncate(cut);
            let _ = needs("cut", &bytes);
        }
    }
}
