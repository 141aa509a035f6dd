//! Policies: which header fields, event packages, messages, codecs and status codes pass from and to whom. What
//! `firewall` turns into the typed policies of the sbc.

use serde::{Serialize, Serializer};

use crate::{
    error::{Sentence, say},
    sip::is_host_name,
    table::{Report, Section},
    value::{Scalar, not_one_of, shown, words},
    zone::read_name,
};

/// Most policies of a document.
pub const MAX_POLICIES: usize = 64;
/// Most entries of a list in a policy.
const MAX_LIST: usize = 64;

/// Whom a policy is for. Spelt `zone:NAME`, `trunk:NAME`, `registrar`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// Everybody in that zone who is neither a trunk nor the PBX.
    Zone(String),
    /// The trunk of that name.
    Trunk(String),
    /// The PBX.
    Registrar,
}

impl core::fmt::Display for Party {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Zone(name) => write!(f, "zone:{name}"),
            Self::Trunk(name) => write!(f, "trunk:{name}"),
            Self::Registrar => f.write_str("registrar"),
        }
    }
}

impl Serialize for Party {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for Party {
    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, Sentence> {
        let written = String::read(value)?;
        match written.split_once(':') {
            Some(("zone", name)) if !name.is_empty() => Ok(Self::Zone(name.to_owned())),
            Some(("trunk", name)) if !name.is_empty() => Ok(Self::Trunk(name.to_owned())),
            None if written == "registrar" => Ok(Self::Registrar),
            _ => Err(not_one_of(
                &written,
                &["zone:NAME", "trunk:NAME", "registrar"],
            )),
        }
    }
}

words! {
    /// A header field that a policy may let pass.
    pub enum PolicyField {
        /// RFC 3325, between trusted peers.
        PAssertedIdentity = "p-asserted-identity",
        /// RFC 3325, to trusted peers.
        PPreferredIdentity = "p-preferred-identity",
        /// RFC 3323.
        Privacy = "privacy",
        /// RFC 3326.
        Reason = "reason",
        /// RFC 7433.
        UserToUser = "user-to-user",
        /// RFC 7989.
        SessionId = "session-id",
        /// RFC 8224.
        Identity = "identity",
        /// RFC 5806.
        Diversion = "diversion",
        /// RFC 7044.
        HistoryInfo = "history-info",
        /// Subject.
        Subject = "subject",
        /// Date.
        Date = "date",
        /// Organization.
        Organization = "organization",
        /// Accept-Language.
        AcceptLanguage = "accept-language",
        /// Priority.
        Priority = "priority",
        /// RFC 5009.
        PEarlyMedia = "p-early-media",
        /// RFC 7315: the kind of access.
        PAccessNetworkInfo = "p-access-network-info",
        /// RFC 4412.
        ResourcePriority = "resource-priority",
    }
}

words! {
    /// Event packages that can be passed on.
    pub enum EventPackage {
        /// RFC 3842.
        MessageSummary = "message-summary",
        /// RFC 3856.
        Presence = "presence",
        /// RFC 4235.
        Dialog = "dialog",
        /// RFC 4575.
        Conference = "conference",
    }
}

words! {
    /// What becomes of a REFER.
    pub enum Transfer {
        /// It is refused.
        Refuse = "refuse",
        /// It goes on to the far side of the call.
        Pass = "pass",
        /// The product calls the target and joins the legs.
        Resolve = "resolve",
    }
}

words! {
    /// Addresses that a rewrite may be for.
    pub enum AddressField {
        /// From of what is sent.
        From = "from",
        /// P-Asserted-Identity.
        PAssertedIdentity = "p-asserted-identity",
        /// P-Preferred-Identity.
        PPreferredIdentity = "p-preferred-identity",
        /// Diversion.
        Diversion = "diversion",
        /// History-Info.
        HistoryInfo = "history-info",
    }
}

/// What an INFO may carry. Spelt `dtmf`, `picture-fast-update`, `package:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InfoKind {
    /// Digits.
    Dtmf,
    /// RFC 5168.
    PictureFastUpdate,
    /// RFC 6086.
    Package(String),
}

impl core::fmt::Display for InfoKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Dtmf => f.write_str("dtmf"),
            Self::PictureFastUpdate => f.write_str("picture-fast-update"),
            Self::Package(name) => write!(f, "package:{name}"),
        }
    }
}

impl Serialize for InfoKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for InfoKind {
    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, Sentence> {
        let written = String::read(value)?;
        match written.as_str() {
            "dtmf" => Ok(Self::Dtmf),
            "picture-fast-update" => Ok(Self::PictureFastUpdate),
            other => match other.strip_prefix("package:") {
                Some(name) if is_token(name) => Ok(Self::Package(name.to_owned())),
                _ => Err(not_one_of(
                    other,
                    &["dtmf", "picture-fast-update", "package:NAME"],
                )),
            },
        }
    }
}

/// A status that a peer answers with, and what is told instead. Spelt `603:486`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusMap {
    /// What it answers.
    pub from: u16,
    /// What is told.
    pub to: u16,
}

impl core::fmt::Display for StatusMap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.from, self.to)
    }
}

impl Serialize for StatusMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Scalar for StatusMap {
    fn read(value: &toml::de::DeValue<'_>) -> Result<Self, Sentence> {
        let written = String::read(value)?;
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
            let status = text.parse().ok().filter(|_| digits);
            status.filter(|status| (400..=699).contains(status))
        };
        let pair = written
            .split_once(':')
            .and_then(|(from, to)| Some((status(from)?, status(to)?)));
        match pair {
            // A challenge or a full registration that nobody meant would follow.
            Some((from, to)) if !matches!(to, 401 | 407) && from != to => Ok(Self { from, to }),
            _ => {
                let written = shown(&written);
                Err(say!(
                    "`{written}` maps no refusal; write it like 603:486, both from 400 to 699, the second not 401 or 407",
                    "`{written}` bildet keine Ablehnung ab; Schreibweise 603:486, beide von 400 bis 699, die zweite nicht 401 oder 407"
                ))
            }
        }
    }
}

/// A field that is written to a peer with the same value always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddedField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How an address is changed on its way to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// Of which field.
    pub field: AddressField,
    /// The user that stands in the place of the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The host that stands in the place of our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Characters cut from the front of the user.
    pub strip: u8,
    /// Characters put in front afterwards.
    pub prepend: String,
}

/// A rule for what passes to and from some peers; a key that is left out has the value built in for the kind of peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Whom it is for.
    #[serde(rename = "for")]
    pub parties: Vec<Party>,
    /// Whether it belongs to the trust domain of RFC 3325.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted: Option<bool>,
    /// Fields taken from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<Vec<PolicyField>>,
    /// Fields given to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<Vec<PolicyField>>,
    /// Event packages that pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<EventPackage>>,
    /// Whether PUBLISH passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<bool>,
    /// Octets of a MESSAGE; 0: none passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_octets: Option<u32>,
    /// What INFO may carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<Vec<InfoKind>>,
    /// Status codes told instead of those that it answers with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_map: Vec<StatusMap>,
    /// Audio codecs that pass, the preferred first; empty: all that are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audio_codecs: Vec<Codec>,
    /// Video codecs that pass, the preferred first; empty: all that are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub video_codecs: Vec<Codec>,
    /// Codecs that never pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_codecs: Vec<Codec>,
    /// What becomes of its REFER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Transfer>,
    /// RFC 3329 with mediasec.
    pub mediasec: bool,
    /// Fields of our own given to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<AddedField>,
    /// Addresses changed on the way to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewrite: Vec<Rewrite>,
}

words! {
    /// Codecs that the sbc knows, by their registered names.
    pub enum Codec {
        /// Audio.
        Pcmu = "PCMU",
        /// Audio.
        Pcma = "PCMA",
        /// Audio.
        G722 = "G722",
        /// Audio.
        G723 = "G723",
        /// Audio.
        G728 = "G728",
        /// Audio.
        G729 = "G729",
        /// Audio.
        G7221 = "G7221",
        /// Audio.
        G726x16 = "G726-16",
        /// Audio.
        G726x24 = "G726-24",
        /// Audio.
        G726x32 = "G726-32",
        /// Audio.
        G726x40 = "G726-40",
        /// Audio.
        Gsm = "GSM",
        /// Audio.
        GsmEfr = "GSM-EFR",
        /// Audio.
        Ilbc = "iLBC",
        /// Audio.
        Speex = "speex",
        /// Audio.
        Opus = "opus",
        /// Audio.
        Amr = "AMR",
        /// Audio.
        AmrWb = "AMR-WB",
        /// Audio.
        Evs = "EVS",
        /// Audio.
        L16 = "L16",
        /// Audio.
        Silk = "SILK",
        /// Comfort noise.
        Cn = "CN",
        /// Video.
        H261 = "H261",
        /// Video.
        H263 = "H263",
        /// Video.
        H263x1998 = "H263-1998",
        /// Video.
        H263x2000 = "H263-2000",
        /// Video.
        H264 = "H264",
        /// Video.
        H265 = "H265",
        /// Video.
        Vp8 = "VP8",
        /// Video.
        Vp9 = "VP9",
        /// Video.
        Av1 = "AV1",
    }
}

impl Codec {
    /// Whether it is a video codec.
    #[must_use]
    pub const fn is_video(self) -> bool {
        matches!(
            self,
            Self::H261
                | Self::H263
                | Self::H263x1998
                | Self::H263x2000
                | Self::H264
                | Self::H265
                | Self::Vp8
                | Self::Vp9
                | Self::Av1
        )
    }
}

const KEYS: [&str; 17] = [
    "name",
    "for",
    "trusted",
    "accept",
    "send",
    "events",
    "publish",
    "message_octets",
    "info",
    "response_map",
    "audio_codecs",
    "video_codecs",
    "denied_codecs",
    "transfer",
    "mediasec",
    "add",
    "rewrite",
];

impl Policy {
    pub(crate) fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &KEYS);
        let name = read_name(section, report);
        let parties = section.list(report, "for", MAX_LIST);
        let trusted = section.optional(report, "trusted");
        let accept = list(section, report, "accept");
        let send = list(section, report, "send");
        let events = list(section, report, "events");
        let publish = section.optional(report, "publish");
        let message_octets = section.optional(report, "message_octets");
        let info = list(section, report, "info");
        let response_map = section.list(report, "response_map", MAX_LIST);
        let audio_codecs = section.list(report, "audio_codecs", MAX_LIST);
        let video_codecs = section.list(report, "video_codecs", MAX_LIST);
        let denied_codecs = section.list(report, "denied_codecs", MAX_LIST);
        let transfer = section.optional(report, "transfer");
        let mediasec = section.or(report, "mediasec", false);
        let add = section.tables(report, "add", MAX_LIST);
        let adds: Vec<_> = add
            .iter()
            .map(|table| AddedField::read(table, report))
            .collect();
        let rewrite = section.tables(report, "rewrite", MAX_LIST);
        let rewrites: Vec<_> = rewrite
            .iter()
            .map(|table| Rewrite::read(table, report))
            .collect();
        Some(Self {
            name: name?,
            parties: parties?,
            trusted: trusted?,
            accept: accept?,
            send: send?,
            events: events?,
            publish: publish?,
            message_octets: message_octets?,
            info: info?,
            response_map: response_map?,
            audio_codecs: audio_codecs?,
            video_codecs: video_codecs?,
            denied_codecs: denied_codecs?,
            transfer: transfer?,
            mediasec: mediasec?,
            add: adds.into_iter().collect::<Option<_>>()?,
            rewrite: rewrites.into_iter().collect::<Option<_>>()?,
        })
    }
}

/// A list that may be left out, which is not the same as an empty one.
fn list<T: Scalar>(
    section: &Section<'_, '_>,
    report: &mut Report<'_>,
    key: &str,
) -> Option<Option<Vec<T>>> {
    let list = section.list(report, key, MAX_LIST)?;
    Some(report.has(&section.key(key)).then_some(list))
}

impl AddedField {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["name", "value"]);
        // `name` is that of the field, so the path of the table may bear it.
        let name: Option<String> = section.required(report, "name");
        let value: Option<String> = section.required(report, "value");
        let name = name.filter(|name| {
            // Every field that means something to the sbc is one that it writes itself.
            let fits = is_token(name)
                && name.len() <= 64
                && name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("X-"));
            if !fits {
                report.error(
                    &section.key("name"),
                    say!(
                        "a field of one's own begins with X- and has at most 64 letters, digits and hyphens",
                        "ein eigenes Feld beginnt mit X- und hat höchstens 64 Buchstaben, Ziffern und Bindestriche"
                    ),
                );
            }
            fits
        });
        let value = value.filter(|value| {
            let fits = (1..=256).contains(&value.len()) && !value.contains(char::is_control);
            if !fits {
                report.error(
                    &section.key("value"),
                    say!(
                        "a value has 1 to 256 characters and no control characters",
                        "ein Wert hat 1 bis 256 Zeichen und keine Steuerzeichen"
                    ),
                );
            }
            fits
        });
        Some(Self {
            name: name?,
            value: value?,
        })
    }
}

impl Rewrite {
    fn read(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        section.only(report, &["field", "user", "host", "strip", "prepend"]);
        let field = section.required(report, "field");
        let user: Option<Option<String>> = section.optional(report, "user");
        let host: Option<Option<String>> = section.optional(report, "host");
        let strip = section.or(report, "strip", 0_u8);
        let prepend = section.or(report, "prepend", String::new());
        let user = user.filter(|user| fits(report, &section.key("user"), user.as_deref()));
        let prepend = prepend.filter(|prepend| {
            prepend.is_empty() || fits(report, &section.key("prepend"), Some(prepend))
        });
        let host = host.filter(|host| {
            let address = |host: &str| host.parse::<core::net::IpAddr>().is_ok();
            let good = host
                .as_deref()
                .is_none_or(|host| is_host_name(host) || address(host));
            if !good {
                report.error(
                    &section.key("host"),
                    say!(
                        "is neither a domain name in small letters nor an address",
                        "ist weder ein Domainname in Kleinbuchstaben noch eine Adresse"
                    ),
                );
            }
            good
        });
        Some(Self {
            field: field?,
            user: user?,
            host: host?,
            strip: strip?,
            prepend: prepend?,
        })
    }
}

fn fits(report: &mut Report<'_>, key: &str, user: Option<&str>) -> bool {
    let good = user.is_none_or(|user| {
        (1..=64).contains(&user.len())
            && user
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'()+#".contains(&b))
    });
    if !good {
        report.error(
            key,
            say!(
                "a SIP user here is 1 to 64 letters, digits and - _ . ! ~ * ' ( ) + #",
                "ein SIP-Benutzer besteht hier aus 1 bis 64 Buchstaben, Ziffern und - _ . ! ~ * ' ( ) + #"
            ),
        );
    }
    good
}

fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}
