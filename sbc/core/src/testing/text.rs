//! SIP as text, for the scripted agents: they must not share a parser or a writer with what they test.

/// A message taken apart line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Message {
    /// Panics on what no agent may receive: a product message that does not even split into lines is a failed test.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
        let mut lines = head.split("\r\n");
        let start = lines.next().expect("a start line").to_owned();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("name: value");
                (name.trim().to_owned(), value.trim().to_owned())
            })
            .collect();
        Self {
            start,
            headers,
            body: body.to_owned(),
        }
    }

    pub(crate) fn request(method: &str, uri: &str) -> Self {
        Self {
            start: format!("{method} {uri} SIP/2.0"),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn with_body(mut self, kind: &str, body: &str) -> Self {
        self.headers
            .push(("Content-Type".to_owned(), kind.to_owned()));
        self.body = body.to_owned();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!(
            "Content-Length: {}\r\n\r\n{}",
            self.body.len(),
            self.body
        ));
        text.into_bytes()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn need(&self, name: &str) -> &str {
        self.get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.headers
            .iter()
            .filter(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
            .collect()
    }

    pub(crate) fn method(&self) -> Option<&str> {
        self.start
            .split(' ')
            .next()
            .filter(|word| *word != "SIP/2.0")
    }

    pub(crate) fn uri(&self) -> &str {
        self.start.split(' ').nth(1).expect("a Request-URI")
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    pub(crate) fn cseq(&self) -> (u32, String) {
        let (number, method) = self
            .need("CSeq")
            .split_once(' ')
            .expect("number and method");
        (number.parse().expect("a number"), method.trim().to_owned())
    }

    pub(crate) fn branch(&self) -> String {
        parameter(self.need("Via"), "branch").expect("a branch")
    }

    pub(crate) fn tag(&self, name: &str) -> Option<String> {
        parameter(self.need(name), "tag")
    }
}

/// A `;name=value` outside angle brackets.
pub(crate) fn parameter(value: &str, name: &str) -> Option<String> {
    let outside = value.rsplit('>').next().unwrap_or(value);
    outside
        .split(';')
        .filter_map(|piece| piece.trim().split_once('='))
        .find(|(have, _)| have.eq_ignore_ascii_case(name))
        .map(|(_, found)| found.to_owned())
}

/// The URI in angle brackets.
pub(crate) fn bracketed(value: &str) -> String {
    let start = value.find('<').map_or(0, |place| place + 1);
    let rest = &value[start..];
    rest[..rest.find(['>', ';']).unwrap_or(rest.len())].to_owned()
}

/// A plain audio description.
pub(crate) fn audio(
    address: std::net::IpAddr,
    port: u16,
    direction: &str,
    formats: &str,
) -> String {
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=secretuser 77777 88888 IN {family} {address}\r\ns=secret session\r\nc=IN {family} {address}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP {formats}\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-16\r\na=x-secret:leak\r\na={direction}\r\n"
    )
}
