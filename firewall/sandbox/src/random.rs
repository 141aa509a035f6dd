//! Random octets from the kernel's generator by getrandom(2), in a process that has no file system: libraries look for the
//! call by name at run time, which a static program cannot, and then for a device, which an empty root has not.

use std::io;

/// Fills `octets`; waits only while the kernel's generator has never been seeded.
///
/// # Errors
/// The kernel's.
pub fn fill(octets: &mut [u8]) -> io::Result<()> {
    let mut rest = octets;
    while !rest.is_empty() {
        // SAFETY: the kernel writes at most `rest.len()` octets to the start of `rest`.
        let filled = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(filled) {
            Ok(filled) => rest = rest.get_mut(filled..).unwrap_or_default(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_empty_requests_are_filled() {
        let mut octets = vec![0; 100_000];
        fill(&mut octets).unwrap();
        let zeros = octets.iter().filter(|octet| **octet == 0).count();
        assert!(zeros < 1_000, "{zeros}");
        fill(&mut []).unwrap();
    }
}
