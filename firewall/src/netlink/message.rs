//! Bytes of netlink messages: a header (`nlmsghdr`), a family header, attributes (type, length, value, padded to four).
//! Written and read by the other modules of `netlink`; a reader yields what is whole and stops at what is not.

/// `NLM_F_REQUEST`.
pub(super) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(super) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub(super) const CREATE: u16 = 0x400;
/// `NLMSG_ERROR`: an error, or an acknowledgement if its number is 0.
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`: end of a dump.
pub(super) const DONE: u16 = 3;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// Octets of `nlmsghdr`.
const HEADER: usize = 16;
/// Octets of `nfgenmsg`, the family header of nfnetlink.
pub(super) const FAMILY_HEADER: usize = 4;

/// Messages under construction, one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    begun: usize,
}

impl Writer {
    /// Begins a message with any family header.
    pub(super) fn begin(&mut self, kind: u16, flags: u16, sequence: u32, family_header: &[u8]) {
        self.begun = self.bytes.len();
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(family_header);
        self.pad();
    }

    /// Begins an nfnetlink message; `resource` is a group, a subsystem or 0.
    pub(super) fn begin_netfilter(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
    ) {
        let [high, low] = resource.to_be_bytes();
        self.begin(kind, flags, sequence, &[family, 0, high, low]);
    }

    /// Adds an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let place = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.close(place);
    }

    /// Adds an attribute that holds text with its final zero octet.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let place = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(place);
    }

    /// Adds an attribute that holds attributes.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let place = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        self.close(place);
    }

    /// Ends the message by writing its length.
    pub(super) fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.begun).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(self.begun..self.begun + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// All messages so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the length of the attribute at `place` and pads. A length beyond 16 bits is a bug of the caller, who
    /// splits; the kernel refuses the message as malformed.
    fn close(&mut self, place: usize) {
        let length = u16::try_from(self.bytes.len() - place).unwrap_or(0);
        if let Some(field) = self.bytes.get_mut(place..place + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A message that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// Type.
    pub(super) kind: u16,
    /// Of the request that it answers.
    pub(super) sequence: u32,
    /// What follows the header.
    pub(super) body: &'a [u8],
}

impl Message<'_> {
    /// The error number of an `NLMSG_ERROR` message, 0 for an acknowledgement.
    pub(super) fn error(&self) -> Option<i32> {
        if self.kind != ERROR {
            return None;
        }
        Some(
            self.body
                .first_chunk::<4>()
                .map_or(nix::errno::Errno::EINVAL as i32, |bytes| {
                    -i32::from_ne_bytes(*bytes)
                }),
        )
    }
}

/// The messages of one datagram.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    core::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
        let whole = bytes.get(..length)?;
        let head = whole.first_chunk::<HEADER>()?;
        let [_, _, _, _, k0, k1, _, _, s0, s1, s2, s3, ..] = *head;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body: whole.get(HEADER..)?,
        })
    })
}

/// The attributes in `bytes`: type without flags, value.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

/// Text of an attribute up to its zero octet.
pub(super) fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|&octet| octet == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

/// 64-bit number in network order.
pub(super) fn number64(value: &[u8]) -> u64 {
    value
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut writer = Writer::default();
        writer.begin_netfilter(0x0a0c, ACK, 7, 1, 0);
        writer.text(1, "gatehouse");
        writer.nested(3, |inner| inner.attribute(1, &[1, 2, 3]));
        writer.end();
        let read: Vec<_> = messages(writer.bytes()).collect();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].kind, read[0].sequence), (0x0a0c, 7));
        let outer: Vec<_> = attributes(&read[0].body[FAMILY_HEADER..]).collect();
        assert_eq!(text(outer[0].1), "gatehouse");
        assert_eq!(
            attributes(outer[1].1).collect::<Vec<_>>(),
            [(1, &[1_u8, 2, 3][..])]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_stand_still(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            for message in messages(&bytes).take(1000) {
                let _ = attributes(message.body).take(1000).count();
            }
            proptest::prop_assert!(messages(&bytes).count() <= bytes.len());
            proptest::prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
