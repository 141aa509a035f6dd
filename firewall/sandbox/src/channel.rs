//! A channel: one end of a `SOCK_SEQPACKET` pair over which the processes of the house exchange messages, with
//! descriptors beside them (`SCM_RIGHTS`, unix(7)). Init makes every pair; each process finds its control channel at
//! descriptor 3. Nothing here blocks, and nothing a far end sends can leave a descriptor open by accident.

use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// Most descriptors beside one message.
pub const MAX_DESCRIPTORS: usize = 4;

/// Descriptor at which a started process finds its control channel.
pub const CONTROL_FD: RawFd = 3;

/// Octets that the kernel may queue in each direction before [`Channel::send`] says `WouldBlock`.
const SEND_BUFFER: libc::c_int = 512 * 1024;

/// Room for more descriptors than are allowed, so that a message with too many is seen as such and all of them closed.
/// Linux itself installs no more than fit here and drops the rest.
const CONTROL_ROOM: usize = 256;

/// Ancillary data, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_ROOM]);

/// What [`Channel::recv`] got.
#[derive(Debug)]
pub struct Received {
    /// Octets written to the front of the buffer.
    pub length: usize,
    /// At most [`MAX_DESCRIPTORS`], close-on-exec, in the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a pair. Dropping it tells the far end by end-of-file.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

impl Channel {
    /// Two connected ends, close-on-exec and nonblocking.
    ///
    /// # Errors
    /// Whatever socketpair(2) says: no descriptors or memory left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let mut ends = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: `ends` has room for the two descriptors that socketpair(2) writes.
        check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
        let [first, second] = ends;
        // SAFETY: the call succeeded, so both are open and owned by nobody else.
        let (first, second) =
            unsafe { (OwnedFd::from_raw_fd(first), OwnedFd::from_raw_fd(second)) };
        for end in [&first, &second] {
            // Refused only where the system's own limit is lower: the channel works, with less room.
            let _ = set_option(end.as_fd(), libc::SO_SNDBUF, SEND_BUFFER);
        }
        Ok((Self { fd: first }, Self { fd: second }))
    }

    /// A channel end that came beside a message.
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// This process's control channel, [`CONTROL_FD`]. Only the first call gets it.
    ///
    /// # Errors
    /// `AlreadyExists` on a second call; `InvalidInput` if the descriptor is no `SOCK_SEQPACKET` socket, which means
    /// that the program was not started by init.
    pub fn control() -> io::Result<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if option(CONTROL_FD, libc::SO_TYPE).ok() != Some(libc::SOCK_SEQPACKET) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "descriptor 3 is no control channel",
            ));
        }
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the control channel is already taken",
            ));
        }
        // SAFETY: it is open (its type was just read), nobody else in this process owns it (`TAKEN`), and no code of
        // the house closes a descriptor that it does not own.
        let fd = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
        // SAFETY: fcntl(2) with an integer argument touches no memory of ours.
        check(unsafe { libc::fcntl(CONTROL_FD, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        Ok(Self { fd })
    }

    /// Sends one message with up to [`MAX_DESCRIPTORS`] descriptors, whole or not at all. Never blocks, never raises
    /// SIGPIPE.
    ///
    /// # Errors
    /// `WouldBlock` while the far end has too much unread; `BrokenPipe` when it is gone; `InvalidInput` for an empty
    /// message (it would read as end-of-file) or too many descriptors.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || fds.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "empty message or too many descriptors",
            ));
        }
        let mut control = ControlBuffer([0; CONTROL_ROOM]);
        let mut part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut header = message_header(&mut part);
        if !fds.is_empty() {
            let octets =
                u32::try_from(mem::size_of_val(fds)).map_err(|_| io::ErrorKind::InvalidInput)?;
            header.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: CMSG_SPACE is arithmetic only; four descriptors fit into `control` by far.
            header.msg_controllen = unsafe { libc::CMSG_SPACE(octets) } as usize;
            // SAFETY: `header` has a control buffer with room for one header, so CMSG_FIRSTHDR points into it.
            let rights = unsafe { &mut *libc::CMSG_FIRSTHDR(&raw const header) };
            rights.cmsg_level = libc::SOL_SOCKET;
            rights.cmsg_type = libc::SCM_RIGHTS;
            // SAFETY: arithmetic only.
            rights.cmsg_len = unsafe { libc::CMSG_LEN(octets) } as usize;
            // SAFETY: the data of this header begins inside `control`.
            let data = unsafe { libc::CMSG_DATA(rights) }.cast::<RawFd>();
            for (place, fd) in fds.iter().enumerate() {
                // SAFETY: at most four, room for which was counted above; the place may be unaligned.
                unsafe { data.add(place).write_unaligned(fd.as_raw_fd()) };
            }
        }
        // SAFETY: `header` points to `part` and `control`, which live until the call returns; the kernel only reads
        // `bytes`.
        let sent = retry(|| unsafe {
            libc::sendmsg(
                self.fd.as_raw_fd(),
                &raw const header,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        });
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes one message. Never blocks.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; `UnexpectedEof` when the far end is gone (or sent an empty packet, which no
    /// honest end does); `InvalidData` when the message did not fit into `buffer` or brought too many descriptors, all
    /// of which are closed: the message is lost, the channel goes on.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = ControlBuffer([0; CONTROL_ROOM]);
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut header = message_header(&mut part);
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_ROOM;
        // SAFETY: `header` points to `part` (all of `buffer`) and `control`, which live until the call returns.
        let length = match retry(|| unsafe {
            libc::recvmsg(
                self.fd.as_raw_fd(),
                &raw mut header,
                libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
            )
        }) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Err(error) => return Err(error),
        };
        // First of all, so that whatever is wrong with the message, its descriptors have an owner that closes them.
        let descriptors = descriptors(&header);
        if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0
            || descriptors.len() > MAX_DESCRIPTORS
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "message too long or with too many descriptors",
            ));
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Received {
            length,
            descriptors,
        })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.fd
    }
}

/// A header for one part and, yet, no control data.
fn message_header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

/// Every descriptor that came with a message, each with its owner.
fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut owned = Vec::new();
    // SAFETY: recvmsg(2) filled the control buffer of `header` and set its length; the walk stays within it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so it points to a whole header inside the control buffer.
        let item = unsafe { &*next };
        if item.cmsg_level == libc::SOL_SOCKET && item.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: arithmetic only.
            let octets = item
                .cmsg_len
                .saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            // SAFETY: the data begins inside the control buffer, `octets` of it were filled.
            let data = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            for place in 0..octets / mem::size_of::<RawFd>() {
                // SAFETY: within `octets`; the place may be unaligned.
                let fd = unsafe { data.add(place).read_unaligned() };
                // SAFETY: the kernel has just installed it for us; nobody else knows its number.
                owned.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: `next` points into the control buffer of `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    owned
}

/// Socket-level integer option.
fn option(fd: RawFd, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` has room for the `length` octets that the kernel may write.
    check(unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

fn set_option(fd: BorrowedFd<'_>, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` octets of `value`.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw const value).cast(),
            length,
        )
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Runs a system call again as long as a signal cuts it short.
fn retry(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        if let Ok(length) = usize::try_from(call()) {
            return Ok(length);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    fn receive(channel: &Channel) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut buffer = vec![0; 64];
        let received = channel.recv(&mut buffer)?;
        buffer.truncate(received.length);
        Ok((buffer, received.descriptors))
    }

    #[test]
    fn a_message_arrives_whole_with_its_descriptors_in_order() {
        let (near, far) = Channel::pair().unwrap();
        let zero = File::open("/dev/zero").unwrap();
        let null = File::open("/dev/null").unwrap();
        near.send(b"hello", &[zero.as_fd(), null.as_fd()]).unwrap();
        let (bytes, fds) = receive(&far).unwrap();
        assert_eq!(bytes, b"hello");
        let lengths: Vec<usize> = fds
            .into_iter()
            .map(|fd| File::from(fd).read(&mut [0; 8]).unwrap())
            .collect();
        assert_eq!(lengths, [8, 0]);
    }

    #[test]
    fn two_messages_do_not_run_into_one_another() {
        let (near, far) = Channel::pair().unwrap();
        near.send(b"one", &[]).unwrap();
        near.send(b"two", &[]).unwrap();
        assert_eq!(receive(&far).unwrap().0, b"one");
        assert_eq!(receive(&far).unwrap().0, b"two");
        assert_eq!(receive(&far).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_far_end_that_is_gone_reads_as_end_of_file_and_breaks_the_pipe() {
        let (near, far) = Channel::pair().unwrap();
        near.send(b"unread", &[]).unwrap();
        drop(far);
        assert_eq!(
            receive(&near).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            near.send(b"x", &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_refused_and_the_next_one_read() {
        let (near, far) = Channel::pair().unwrap();
        near.send(&[0; 65], &[]).unwrap();
        near.send(b"next", &[]).unwrap();
        assert_eq!(
            receive(&far).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(receive(&far).unwrap().0, b"next");
    }

    #[test]
    fn an_empty_message_is_not_sent() {
        let (near, _far) = Channel::pair().unwrap();
        assert_eq!(
            near.send(b"", &[]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn too_many_descriptors_are_refused_by_the_sender() {
        let (near, _far) = Channel::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        assert_eq!(
            near.send(b"x", &[null.as_fd(); 5]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    /// A hostile far end is not bound by [`Channel::send`]: 5 fit the control buffer, 200 do not.
    #[test]
    fn too_many_descriptors_of_a_hostile_far_end_are_all_closed() {
        for count in [5_usize, 200] {
            let (near, far) = Channel::pair().unwrap();
            let (watched, far_of_watched) = Channel::pair().unwrap();
            let raw = vec![far_of_watched.as_raw_fd(); count];
            let bytes = [io::IoSlice::new(b"x")];
            let rights = [nix::sys::socket::ControlMessage::ScmRights(&raw)];
            nix::sys::socket::sendmsg::<()>(
                near.as_raw_fd(),
                &bytes,
                &rights,
                nix::sys::socket::MsgFlags::empty(),
                None,
            )
            .unwrap();
            drop(far_of_watched);
            assert_eq!(
                receive(&far).unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
            // Only when the last copy is closed does the watched pair see its end.
            assert_eq!(
                receive(&watched).unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof,
                "{count} sent"
            );
        }
    }

    #[test]
    fn a_sender_is_never_blocked_by_a_far_end_that_does_not_read() {
        let (near, _far) = Channel::pair().unwrap();
        let error = (0..10_000)
            .find_map(|_| near.send(&[0; 4096], &[]).err())
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
