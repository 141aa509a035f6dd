//! Why a packet is refused. One word per reason, stable: it names the counter (`drop/<reason>/<zone>`), opens the log
//! entry and stands in `GET /drops`. The renderer is the only one who makes packets meet a reason.

macro_rules! reasons {
    ($($variant:ident $word:literal $sentence:literal),+ $(,)?) => {
        /// Why a packet is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $sentence] $variant),+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What it means, for a person.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence),+ }
            }
        }
    };
}

reasons! {
    // Shape of the packet, before anything is known of its sender.
    LoopbackAddress "loopback-address" "A loopback address on a wire.",
    OwnSource "own-source" "One of the box's own addresses as source (land packets among them).",
    MulticastSource "multicast-source" "A multicast address as source.",
    BroadcastSource "broadcast-source" "A broadcast address as source.",
    UnspecifiedSource "unspecified-source" "0.0.0.0/8 or :: as source, outside DHCP and duplicate address detection.",
    ReservedAddress "reserved-address" "240.0.0.0/4 as source or destination, or 0.0.0.0/8 as destination.",
    LinkLocal "link-local" "A link-local address, outside neighbour discovery.",
    SourceRoute "source-route" "IPv4 option 131 or 137.",
    RecordRoute "record-route" "IPv4 option 7.",
    IpOptions "ip-options" "Any other IPv4 option.",
    RoutingHeader "routing-header" "IPv6 routing header of any type.",
    ExtensionHeader "extension-header" "An IPv6 extension header that nothing here needs.",
    Protocol "protocol" "Neither TCP, UDP nor ICMP.",
    Fragment "fragment" "A fragment where none is needed, of TCP or ICMP, or atomic.",
    FragmentTiny "fragment-tiny" "A first fragment too small to hold its headers, or an empty one.",
    FragmentOffset "fragment-offset" "A fragment that would make a datagram longer than any that is taken.",
    FragmentRate "fragment-rate" "More fragments than the zone may send.",
    MulticastDestination "multicast-destination" "To a multicast group, outside neighbour discovery.",
    BroadcastDestination "broadcast-destination" "To a broadcast address.",
    PortZero "port-zero" "Source or destination port 0.",
    TcpFlags "tcp-flags" "A combination of TCP flags that no connection has.",
    // Who sent it.
    UnknownInterface "unknown-interface" "By an interface that no zone has.",
    FamilyOff "family-off" "An IP version that the zone does not have.",
    SpoofedSource "spoofed-source" "A source that belongs to another zone, or not to this one.",
    BogonSource "bogon-source" "A source that the Internet does not route.",
    NotGlobalSource "not-global-source" "An IPv6 source outside 2000::/3 and the zone's own networks.",
    Ban "ban" "A banned source.",
    // Where it wants to go.
    ForeignAddress "foreign-address" "To an own address of another zone.",
    Forward "forward" "To somebody else: nothing is forwarded.",
    NotOffered "not-offered" "To a port where this zone is offered nothing.",
    BetweenCommits "between-commits" "Met two rulesets on its way through a commit.",
    // State.
    CtInvalid "ct-invalid" "Belongs to no connection, or to none in this state.",
    // Amount.
    UdpRate "udp-rate" "More datagrams to listeners than one source may send.",
    PeerRate "peer-rate" "More datagrams to listeners than one configured peer may send.",
    GreyRate "grey-rate" "More datagrams to listeners than a source on the greylist may send.",
    SynRate "syn-rate" "More SYN than one source may send.",
    SynRateTotal "syn-rate-total" "More SYN than a zone may send.",
    NewRate "new-rate" "More new flows than a zone may begin.",
    Connections "connections" "More TCP connections than one source may hold.",
    // ICMP.
    Icmp "icmp" "An ICMP message that nothing here needs.",
    IcmpRate "icmp-rate" "More ICMP than a zone may send.",
    // Media.
    NoPinhole "no-pinhole" "To a media port that is not open to this sender.",
    MediaShape "media-shape" "Through a pinhole, but neither STUN, DTLS, TURN channel, RTP nor RTCP.",
    MediaSize "media-size" "Through a pinhole, but too short or too long for its kind.",
    MediaRate "media-rate" "More packets than one pinhole may pass.",
    // Outward.
    EgressSelf "egress-self" "From a lent socket to the box itself.",
    EgressOptions "egress-options" "From inside with IP options or extension headers.",
    EgressSource "egress-source" "From inside with a source that is not the interface's own.",
    EgressMedia "egress-media" "From a media socket to an address that was not negotiated.",
    EgressShape "egress-shape" "From a media socket, but neither STUN, DTLS, TURN channel, RTP nor RTCP, or of a wrong size.",
    EgressRate "egress-rate" "More packets than one media socket may send.",
    EgressListener "egress-listener" "From a listener to an address that never wrote to it and is no configured peer.",
    EgressConnect "egress-connect" "From a connecting socket to an address that is not configured for it.",
    EgressIcmp "egress-icmp" "ICMP from inside other than neighbour discovery and echo: errors are never sent.",
    EgressUnmarked "egress-unmarked" "From inside by a socket that was not lent for it, or by the kernel itself.",
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_are_distinct_and_fit_a_counter_name() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for word in words {
            assert!(word.len() <= 24, "{word}");
            assert!(
                word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{word}"
            );
        }
    }
}
