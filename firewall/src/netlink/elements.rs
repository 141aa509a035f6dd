//! Elements of the table's sets: a list of changes becomes one transaction of nf_tables, so that it happens whole or not
//! at all and no packet sees half of it. Keys are laid out as `nftables::names` says. Called by the broker's kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::Duration,
};

use crate::nftables::names::{Set, SetFamily, TABLE};

use super::{
    Socket,
    message::{ACK, CREATE, DUMP, FAMILY_HEADER, Writer, attributes, messages, number64, text},
};

/// `NFPROTO_INET`.
pub(super) const FAMILY: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u16 = 10;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const LIST_ELEMENTS: u16 = SUBSYSTEM << 8 | 13;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
/// Deletes without complaint about an element that is gone already (Linux 6.3).
const DESTROY_ELEMENTS: u16 = SUBSYSTEM << 8 | 30;

const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_CONTENT: u16 = 3;
const LIST_ITEM: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const DATA_VALUE: u16 = 1;

/// Most elements in one message: an attribute's length has 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 256;
/// Longest key: two IPv6 addresses and two ports.
const KEY_OCTETS: usize = 40;

/// One element: its set and its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// Which set.
    pub set: Set,
    /// Which of the two sets of that name.
    pub family: SetFamily,
    key: [u8; KEY_OCTETS],
    length: u8,
}

impl Element {
    /// An element whose family is that of `address`, and whose key begins with it.
    #[must_use]
    pub fn new(set: Set, address: IpAddr) -> Self {
        Self {
            set,
            family: SetFamily::of(&address),
            key: [0; KEY_OCTETS],
            length: 0,
        }
        .address(address)
    }

    /// The same with an address appended to the key.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.append(&address.octets()),
            IpAddr::V6(address) => self.append(&address.octets()),
        }
    }

    /// The same with a port appended to the key.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.append(&[high, low, 0, 0])
    }

    /// Octets of the key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn append(mut self, octets: &[u8]) -> Self {
        let begin = usize::from(self.length);
        if let Some(place) = self.key.get_mut(begin..begin + octets.len()) {
            place.copy_from_slice(octets);
            self.length += u8::try_from(octets.len()).unwrap_or(0);
        }
        self
    }
}

impl core::fmt::Debug for Element {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{}:", self.set.stem(), self.family.digit())?;
        self.key()
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// One change to the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put in; with a timeout the kernel takes it out by itself.
    Add(Element, Option<Duration>),
    /// Take out; nothing happens if it is gone.
    Remove(Element),
    /// Take out all.
    Flush(Set, SetFamily),
}

impl Socket {
    /// Makes all `changes` in their order as one transaction. An empty list is no transaction.
    ///
    /// # Errors
    /// What the kernel says of the first change that it refuses; then none was made. `NotFound`: no such table or set.
    pub fn change(&mut self, changes: &[Change]) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut writer = Writer::default();
        let first = self.next_sequence();
        writer.begin_netfilter(BATCH_BEGIN, 0, first, 0, SUBSYSTEM);
        writer.end();
        let mut rest = changes;
        let mut last = first;
        while let Some(run) = next_run(&mut rest) {
            last = self.next_sequence();
            // One acknowledgement is enough: any error comes unasked.
            let flags = if rest.is_empty() { ACK } else { 0 };
            write_run(&mut writer, run, flags, last);
        }
        let end = self.next_sequence();
        writer.begin_netfilter(BATCH_END, 0, end, 0, SUBSYSTEM);
        writer.end();
        self.drain();
        self.send(writer.bytes())?;
        self.outcome(last)
    }

    /// Waits for the acknowledgement of message `last`, then looks for an error of the whole.
    fn outcome(&self, last: u32) -> io::Result<()> {
        let mut buffer = vec![0; 32 * 1024];
        let mut acknowledged = false;
        loop {
            // All answers are queued when `send` returns: once the last message's has been seen, no waiting.
            let bytes = match self.receive(&mut buffer, !acknowledged) {
                Ok(bytes) => bytes,
                Err(error) if acknowledged && error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            for message in messages(bytes) {
                match message.error() {
                    Some(0) if message.sequence == last => acknowledged = true,
                    Some(0) | None => {}
                    Some(number) => return Err(io::Error::from_raw_os_error(number)),
                }
            }
        }
    }

    /// Keys of all elements of a set, as octets.
    ///
    /// # Errors
    /// `NotFound`: no such table or set.
    pub fn elements(&mut self, set: Set, family: SetFamily) -> io::Result<Vec<Vec<u8>>> {
        // While the kernel makes a set's table larger, a walk through it may meet an element twice.
        let mut keys = BTreeSet::new();
        self.items(set, family, |item| keys.extend(key_of(item)))?;
        Ok(keys.into_iter().collect())
    }

    /// Keys of the elements of a set that end by themselves, as octets, and the time that is left to each.
    ///
    /// # Errors
    /// `NotFound`: no such table or set.
    pub fn timed_elements(
        &mut self,
        set: Set,
        family: SetFamily,
    ) -> io::Result<Vec<(Vec<u8>, Duration)>> {
        let mut all = BTreeMap::new();
        self.items(set, family, |item| {
            let left = attributes(item)
                .find(|(kind, _)| *kind == ELEMENT_EXPIRATION)
                .map(|(_, milliseconds)| Duration::from_millis(number64(milliseconds)));
            all.extend(key_of(item).zip(left));
        })?;
        Ok(all.into_iter().collect())
    }

    /// Calls `visit` with the attributes of each element of a set.
    fn items(
        &mut self,
        set: Set,
        family: SetFamily,
        mut visit: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let sequence = self.next_sequence();
        let mut writer = Writer::default();
        writer.begin_netfilter(LIST_ELEMENTS, DUMP, sequence, FAMILY, 0);
        writer.text(LIST_TABLE, TABLE);
        writer.text(LIST_SET, &set.name(family));
        writer.end();
        self.dump(writer.bytes(), sequence, |message| {
            let content = attributes(message.body.get(FAMILY_HEADER..).unwrap_or_default());
            for (_, items) in content.filter(|(kind, _)| *kind == LIST_CONTENT) {
                attributes(items).for_each(|(_, item)| visit(item));
            }
        })
    }
}

fn key_of(item: &[u8]) -> Option<Vec<u8>> {
    let (_, key) = attributes(item).find(|(kind, _)| *kind == ELEMENT_KEY)?;
    let (_, value) = attributes(key).find(|(kind, _)| *kind == DATA_VALUE)?;
    Some(value.to_vec())
}

/// Cuts from `rest` the longest front whose changes fit into one message: same kind, same set.
fn next_run<'a>(rest: &mut &'a [Change]) -> Option<&'a [Change]> {
    let first = rest.first()?;
    let length = match first {
        Change::Flush(..) => 1,
        _ => rest
            .iter()
            .take(ELEMENTS_PER_MESSAGE)
            .take_while(|change| alike(first, change))
            .count(),
    };
    let (run, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(run)
}

fn alike(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::Add(a, _), Change::Add(b, _)) | (Change::Remove(a), Change::Remove(b)) => {
            a.set == b.set && a.family == b.family
        }
        _ => false,
    }
}

fn write_run(writer: &mut Writer, run: &[Change], flags: u16, sequence: u32) {
    let Some(first) = run.first() else { return };
    let (kind, flags, set, family) = match first {
        Change::Add(element, _) => (NEW_ELEMENTS, flags | CREATE, element.set, element.family),
        Change::Remove(element) => (DESTROY_ELEMENTS, flags, element.set, element.family),
        Change::Flush(set, family) => (DELETE_ELEMENTS, flags, *set, *family),
    };
    writer.begin_netfilter(kind, flags, sequence, FAMILY, 0);
    writer.text(LIST_TABLE, TABLE);
    writer.text(LIST_SET, &set.name(family));
    if !matches!(first, Change::Flush(..)) {
        writer.nested(LIST_CONTENT, |writer| {
            for change in run {
                match change {
                    Change::Add(element, timeout) => write_element(writer, element, *timeout),
                    Change::Remove(element) => write_element(writer, element, None),
                    Change::Flush(..) => {}
                }
            }
        });
    }
    writer.end();
}

fn write_element(writer: &mut Writer, element: &Element, timeout: Option<Duration>) {
    writer.nested(LIST_ITEM, |writer| {
        writer.nested(ELEMENT_KEY, |writer| {
            writer.attribute(DATA_VALUE, element.key())
        });
        if let Some(timeout) = timeout {
            let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            writer.attribute(ELEMENT_TIMEOUT, &milliseconds.to_be_bytes());
        }
    });
}

/// Name of the set in a message of the kernel; tests and the log of a failed change use it.
#[must_use]
pub fn describe(changes: &[Change]) -> String {
    let mut words: Vec<String> = changes
        .iter()
        .take(4)
        .map(|change| format!("{change:?}"))
        .collect();
    if changes.len() > 4 {
        words.push(format!("and {} more", changes.len() - 4));
    }
    text(words.join(", ").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_padded_sequence_of_its_fields() {
        let element = Element::new(Set::MediaPeer, "192.0.2.1".parse().unwrap())
            .port(16384)
            .address("198.51.100.7".parse().unwrap())
            .port(0x1234);
        assert_eq!(
            element.key(),
            [
                192, 0, 2, 1, 0x40, 0, 0, 0, 198, 51, 100, 7, 0x12, 0x34, 0, 0
            ]
        );
    }

    #[test]
    fn the_longest_key_fits() {
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let element = Element::new(Set::MediaPeer, address)
            .port(1)
            .address(address)
            .port(2);
        assert_eq!(element.key().len(), KEY_OCTETS);
        assert_eq!(element.key()[38..], [0, 0]);
    }

    #[test]
    fn changes_to_one_set_share_a_message_and_a_flush_stands_alone() {
        let element = Element::new(Set::MediaAny, "192.0.2.1".parse().unwrap()).port(1);
        let other = Element::new(Set::MediaOut, "192.0.2.1".parse().unwrap()).port(1);
        let changes = [
            Change::Flush(Set::MediaAny, SetFamily::V4),
            Change::Remove(element),
            Change::Remove(element),
            Change::Remove(other),
            Change::Add(other, None),
        ];
        let mut rest = &changes[..];
        let lengths: Vec<_> = core::iter::from_fn(|| next_run(&mut rest).map(<[_]>::len)).collect();
        assert_eq!(lengths, [1, 2, 1, 1]);
    }
}
