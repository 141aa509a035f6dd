//! Makes a network card show itself: its lamps blink (ethtool(8) `--identify`). Called by init; needs CAP_NET_ADMIN.

use std::{io, mem, os::fd::AsRawFd, ptr};

use nix::errno::Errno;

/// `ETHTOOL_PHYS_ID` of linux/ethtool.h.
const ETHTOOL_PHYS_ID: u32 = 0x0000_001c;

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Blinks for `seconds`, and returns when that is over.
///
/// # Errors
/// `EOPNOTSUPP`, at once, where the driver has no lamps; `ENODEV`; `InvalidInput` for a name that is none.
pub fn identify(interface: &str, seconds: u32) -> io::Result<()> {
    let name = interface.as_bytes();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // Any socket does: the request is handed down to the card.
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let mut value = EthtoolValue {
        command: ETHTOOL_PHYS_ID,
        data: seconds,
    };
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();
    // SAFETY: SIOCETHTOOL reads `request`, whose name ends with zero, and an `ethtool_value` behind its pointer for this
    // command; both live through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_without_lamps_says_so_at_once_and_a_name_that_is_none_reaches_no_kernel() {
        let error = identify("lo", 5).unwrap_err();
        let refused = [libc::EOPNOTSUPP, libc::EPERM, libc::ENODEV];
        assert!(
            error
                .raw_os_error()
                .is_some_and(|code| refused.contains(&code)),
            "{error}"
        );
        for name in ["", "much-too-long-a-name", "a\0b"] {
            let error = identify(name, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
