//! Marked secrets in every field of what a peer sends: header fields known and unknown, their parameters, URIs, reason
//! phrases, every line of a description, bodies of other types. What leaves on the other side is searched for them.
//!
//! `%m` in a template is a mark; `%i` is one too, unless policies are open: there it stands for what such a policy lets
//! pass on purpose (the user of an asserted identity, a subject), and is a plain number.

use std::collections::BTreeSet;

use broker_proto::settings::ZoneId;

use super::{INTERNAL, Message};

/// Session identifiers have no room for a mark; these stand for one.
const SESSION_IDS: [&str; 2] = [
    "e0e1e2e3e4e5e6e7e8e9eaebecedeeef",
    "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
];

/// Fields that any message may have; one that is there already is left as it is.
const FIELDS: &[(&str, &str)] = &[
    ("Accept-Contact", "*;%m=\"%m\""),
    ("Accept-Encoding", "%m"),
    ("Accept-Language", "%m"),
    ("Accept-Resource-Priority", "%m.%m"),
    ("Alert-Info", "<http://%m.example/%m>;info=%m"),
    ("Allow-Events", "%m, %m.%m"),
    ("Answer-Mode", "Manual;%m"),
    ("Authentication-Info", "nextnonce=\"%m\", %m=\"%m\""),
    ("Call-Info", "<http://%m.example/%m>;purpose=%m"),
    ("Content-Language", "%m"),
    (
        "Diversion",
        "\"%i\" <sip:%i:%m@%m.example:5099;%m=%m?%m=%m>;reason=%m;counter=1;%m=\"%m\"",
    ),
    ("Error-Info", "<sip:%m@%m.example>;%m=%m"),
    ("Feature-Caps", "*;+%m=\"%m\""),
    ("Geolocation", "<cid:%m@%m.example>"),
    ("Geolocation-Routing", "%m"),
    (
        "History-Info",
        "<sip:%i@%m.example;%m=%m?Reason=%m>;index=1;%m=%m",
    ),
    (
        "Identity",
        "%i.%i.%i;info=<https://%i.example/%i>;alg=ES256;%m=%m",
    ),
    ("Identity-Info", "<https://%m.example/%m>;alg=%m"),
    ("In-Reply-To", "%m@%m.example"),
    ("Info-Package", "%m;%m=%m"),
    ("Min-SE", "90;%m=%m"),
    ("Organization", "%i"),
    ("P-Access-Network-Info", "%m;%m=\"%m\""),
    (
        "P-Asserted-Identity",
        "\"%i\" <sip:%i:%m@%m.example:5099;%m=%m?%m=%m>;%m=%m, <tel:+49301;%m=%m>",
    ),
    ("P-Associated-URI", "<sip:%m@%m.example>;%m=%m"),
    (
        "P-Called-Party-ID",
        "\"%m\" <sip:%m@%m.example;%m=%m>;%m=%m",
    ),
    (
        "P-Charging-Function-Addresses",
        "ccf=%m.example;ecf=%m;%m=%m",
    ),
    (
        "P-Charging-Vector",
        "icid-value=\"%m\";icid-generated-at=%m;orig-ioi=%m;%m=%m",
    ),
    ("P-Early-Media", "%m"),
    (
        "P-Preferred-Identity",
        "<sip:1001:%m@%m.example:5099;%m=%m?%m=%m>;%m=%m",
    ),
    ("P-Visited-Network-ID", "\"%m\";%m=%m"),
    ("Priority", "%m"),
    ("Privacy", "%m;critical"),
    (
        "Reason",
        "SIP;cause=200;text=\"%m\";%m=\"%m\", %m;cause=1;text=\"%m\"",
    ),
    ("Record-Route", "<sip:%m@%m.example;lr;%m=%m>;%m=%m"),
    ("Recv-Info", "%m;%m=%m"),
    (
        "Referred-By",
        "\"%m\" <sip:%m@%m.example;%m=%m>;cid=\"%m@%m\";%m=%m",
    ),
    ("Reject-Contact", "*;%m=\"%m\""),
    ("Reply-To", "\"%m\" <sip:%m@%m.example;%m=%m>;%m=%m"),
    ("Request-Disposition", "%m"),
    ("Resource-Priority", "%m.%m"),
    ("Security-Client", "%m;q=0.1;%m=%m"),
    ("Security-Server", "%m;q=0.1;%m=%m"),
    ("Security-Verify", "%m;q=0.1;%m=%m"),
    ("Server", "%m/1.0 (%m)"),
    ("Service-Route", "<sip:%m@%m.example;lr;%m=%m>;%m=%m"),
    ("Session-Expires", "1800;%m=%m"),
    ("Subject", "%i"),
    ("Supported", "%m"),
    ("Timestamp", "1.5"),
    ("Unsupported", "%m"),
    ("User-Agent", "%m/1.0 (%m)"),
    ("User-to-User", "%m;encoding=hex;purpose=%m;%m=%m"),
    ("Warning", "399 %m.example \"%m\""),
    ("X-Unknown", "%m;%m=\"%m\" <sip:%m>"),
    ("X-Other-Unknown", "%m"),
];

/// Lines of a description, each before the line that begins so.
const SESSION_LINES: &[(&str, &str)] = &[
    (
        "c=",
        "i=%m\r\nu=http://%m.example/%m\r\ne=%m@%m.example\r\np=+49 %m\r\n",
    ),
    ("t=", "b=X-%m:1\r\n"),
    (
        "m=",
        "k=clear:%m\r\na=%m:%m\r\na=%m\r\na=tool:%m\r\na=group:BUNDLE %m\r\na=ice-ufrag:%m\r\na=ice-pwd:%m%m%m\r\n\
         a=fingerprint:sha-256 %m\r\na=msid-semantic:WMS %m\r\na=cat:%m\r\na=keywds:%m\r\na=charset:%m\r\na=lang:%m\r\n",
    ),
];

/// Lines of a media description, after all others.
const MEDIA_LINES: &str = "a=%m:%m\r\na=rtpmap:97 %m/8000\r\na=rtpmap:98 opus/48000/%m\r\na=fmtp:97 %m=%m\r\n\
    a=fmtp:98 useinbandfec=1;%m=%m;maxplaybackrate=%m\r\na=fmtp:8 %m\r\na=rtcp-fb:* %m\r\na=extmap:1 urn:%m\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:%m\r\na=candidate:%m 1 UDP 1 10.9.8.7 9 typ host\r\na=mid:%m\r\n\
    a=ssrc:1 cname:%m\r\na=msid:%m %m\r\na=label:%m\r\na=content:%m\r\na=sprop:%m\r\na=framerate:%m\r\n\
    a=setup:%m\r\na=rtcp-xr:%m\r\na=3ge2ae:%m\r\n\
    m=application 5000 TCP/MSRP %m\r\ni=%m\r\na=path:msrp://%m.example:1/%m\r\n";

/// Puts marks into what peers send, and remembers into which fields.
#[derive(Default)]
pub(crate) struct Marks {
    /// Policies let everything pass that they can.
    pub(crate) open: bool,
    pub(crate) last: u32,
    /// Sender's side, kind of message, field.
    pub(crate) fields: BTreeSet<(bool, String, String)>,
}

impl Marks {
    /// A message as it is sent, full of marks.
    pub(crate) fn dress(&mut self, zone: ZoneId, bytes: &[u8]) -> Vec<u8> {
        if bytes.is_empty() || !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
            return bytes.to_vec();
        }
        let mut message = Message::parse(bytes);
        let inside = zone == INTERNAL;
        let kind = match (message.method(), message.status()) {
            (None, Some(status)) => format!("{status} {}", message.cseq().1),
            (method, _) => method.unwrap_or_default().to_owned(),
        };
        let mut pen = Pen {
            marks: self,
            inside,
            kind,
        };
        pen.start_line(&mut message);
        pen.structure(&mut message);
        pen.added(&mut message);
        pen.body(&mut message);
        message.headers.retain(|(name, _)| name != "Content-Length");
        // Call-IDs, tags and branches of the scripted peers.
        let text = String::from_utf8(message.bytes()).expect("UTF-8");
        let name = format!("{}name", word(inside));
        text.replace("10.9.8.7", address(inside))
            .replace("secret", &name)
            .replace("Secret", &name)
            .into_bytes()
    }
}

/// What a peer gets, with the names that it knows.
pub(crate) fn undress(zone: ZoneId, bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    text.replace(&format!("{}name", word(zone == INTERNAL)), "secret")
        .into_bytes()
}

/// What every mark of a side begins with.
pub(crate) const fn word(inside: bool) -> &'static str {
    if inside { "zqint" } else { "zqext" }
}

/// An address behind that side.
const fn address(inside: bool) -> &'static str {
    if inside { "10.30.0.9" } else { "10.20.0.9" }
}

/// Everything of the side that a text must not have, as far as it has it.
pub(crate) fn found(text: &str, inside: bool) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let network = if inside { "192.0.2." } else { "198.51.100." };
    let others = [
        "secretphone",
        "whatever",
        "77777 88888",
        address(inside),
        ":5099",
    ];
    [word(inside), SESSION_IDS[usize::from(inside)], network]
        .into_iter()
        .chain(others)
        .find(|one| text.contains(one))
        .map(|one| format!("{one} in {text}"))
}

struct Pen<'a> {
    marks: &'a mut Marks,
    inside: bool,
    kind: String,
}

impl Pen<'_> {
    fn fill(&mut self, field: &str, template: &str) -> String {
        let key = |field: &str| (self.inside, self.kind.clone(), field.to_owned());
        self.marks.fields.insert(key(field));
        let mut out = String::new();
        let mut place = 0;
        let mut pieces = template.split('%');
        out.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (what, rest) = piece.split_at(1);
            place += 1;
            if place > 1 {
                self.marks.fields.insert((
                    self.inside,
                    self.kind.clone(),
                    format!("{field} #{place}"),
                ));
            }
            if what == "i" && self.marks.open {
                out.push_str("1001");
            } else {
                self.marks.last += 1;
                out.push_str(&format!("{}{}", word(self.inside), self.marks.last));
            }
            out.push_str(rest);
        }
        out
    }

    fn start_line(&mut self, message: &mut Message) {
        if message.status().is_some() {
            let phrase = self.fill("reason phrase", "%m %m");
            let code: String = message.start.chars().take(12).collect();
            message.start = format!("{code}{phrase}");
            return;
        }
        let params = self.fill("Request-URI", ";%m=%m");
        let mut words = message.start.split(' ');
        let (method, uri) = (words.next().unwrap(), words.next().unwrap());
        message.start = format!("{method} {uri}{params} SIP/2.0");
    }

    /// Parameters of the fields that every message has, and of those that stand already.
    fn structure(&mut self, message: &mut Message) {
        let request = message.status().is_none();
        let mut below = None;
        for (index, (name, value)) in message.headers.iter_mut().enumerate() {
            // What answers one of our own requests must come back as it was.
            let own = match name.as_str() {
                "From" | "Contact" => request,
                "To" => true,
                _ => false,
            };
            match name.as_str() {
                "Via" if request => {
                    value.push_str(&self.fill("Via", ";%m=%m"));
                    below = Some(index + 1);
                }
                "From" | "To" if own => {
                    if let Some(end) = value.find('>').filter(|_| request) {
                        value.insert_str(end, &self.fill(name, ";%m=%m"));
                    }
                    value.push_str(&self.fill(&format!("{name} parameter"), ";%m=%m"));
                }
                "Contact" if value.contains('>') => {
                    let end = value.find('>').unwrap();
                    value.insert_str(end, &self.fill("Contact", ";%m=%m"));
                    value.push_str(&self.fill("Contact parameter", ";%m=%m;+sip.%m=\"<%m>\""));
                }
                "Authorization"
                | "Proxy-Authorization"
                | "WWW-Authenticate"
                | "Proxy-Authenticate" => {
                    let name = name.clone();
                    value.push_str(&self.fill(&name, ", %m=\"%m\""));
                }
                "Event" | "Subscription-State" => {
                    let name = name.clone();
                    value.push_str(&self.fill(&name, ";%m=%m"));
                }
                _ => {}
            }
            for name in ["Call-ID", "tag", "branch", "User-Agent", "Server"] {
                let key = (self.inside, self.kind.clone(), name.to_owned());
                self.marks.fields.insert(key);
            }
        }
        if let Some(index) = below {
            let via = self.fill(
                "second Via",
                "SIP/2.0/UDP %m.example;branch=z9hG4bK%m;received=10.9.8.7",
            );
            message.headers.insert(index, ("Via".into(), via));
        }
    }

    fn added(&mut self, message: &mut Message) {
        for (name, template) in FIELDS {
            let dialog = matches!(*name, "Record-Route" | "Service-Route");
            let info = *name == "Info-Package" && self.kind == "INFO";
            if message.get(name).is_none() && !info && !(dialog && self.kind.contains("REGISTER")) {
                let value = self.fill(name, template);
                message.headers.push(((*name).to_owned(), value));
            }
        }
        if message.get("Session-ID").is_none() {
            self.marks
                .fields
                .insert((self.inside, self.kind.clone(), "Session-ID".into()));
            let id = SESSION_IDS[usize::from(self.inside)];
            message.headers.push(("Session-ID".into(), id.to_owned()));
        }
        if message.status().is_some_and(|status| status >= 300) {
            let retry = self.fill("Retry-After", "5 (%m);%m=%m");
            message.headers.push(("Retry-After".into(), retry));
            if message.get("Contact").is_none() {
                let contact = self.fill(
                    "Contact of a refusal",
                    "\"%m\" <sip:%m@%m.example;%m=%m>;%m=%m",
                );
                message.headers.push(("Contact".into(), contact));
            }
        }
    }

    fn body(&mut self, message: &mut Message) {
        let kind = message.get("Content-Type").unwrap_or_default().to_owned();
        if message.body.contains('%') {
            let body = message.body.clone();
            message.body = self.fill(&format!("body {kind}"), &body);
        }
        if kind.starts_with("application/dtmf-relay") {
            let line = self.fill("body dtmf-relay", "X-%m: %m\r\n");
            message.body.push_str(&line);
        }
        if kind != "application/sdp" {
            return;
        }
        let body = self.description(&message.body.clone());
        let kind = self.fill("Content-Type", "application/sdp;%m=%m");
        message.headers.retain(|(name, _)| name != "Content-Type");
        *message = message.clone().with_body(&kind, &body);
    }

    fn description(&mut self, body: &str) -> String {
        for name in ["o=", "s="] {
            self.marks
                .fields
                .insert((self.inside, self.kind.clone(), name.to_owned()));
        }
        let mut out = String::new();
        for line in body.split_inclusive("\r\n") {
            if let Some((start, lines)) = SESSION_LINES
                .iter()
                .find(|(start, _)| line.starts_with(start))
            {
                let lines = self.fill(&format!("SDP before {start}"), lines);
                out.push_str(&lines);
            }
            let formats = line.starts_with("m=audio");
            if formats {
                out.push_str(&line.replace("\r\n", " 97 98\r\n"));
            } else {
                out.push_str(line);
            }
        }
        out.push_str(&self.fill("SDP media", MEDIA_LINES));
        out
    }
}
