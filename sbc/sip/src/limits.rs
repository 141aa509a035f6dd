//! How much of everything a message may have. One value, given by who parses; nothing in the parser is unbounded.

/// Limits of the message parser. Units: octets where no other is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whole message.
    pub message: usize,
    /// Start line and header fields together.
    pub head: usize,
    /// One header field, unfolded.
    pub header_field: usize,
    /// Request-URI and any other URI.
    pub uri: usize,
    /// Header field lines.
    pub header_fields: usize,
    /// Via values.
    pub vias: usize,
    /// Route, Record-Route and Path values, each.
    pub routes: usize,
    /// Contact values.
    pub contacts: usize,
    /// Values of any other comma-separated field.
    pub list: usize,
    /// Parameters of one value or URI.
    pub parameters: usize,
    /// Body.
    pub body: usize,
    /// Parts of a multipart body.
    pub body_parts: usize,
    /// Multipart bodies inside multipart bodies.
    pub body_nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 65_535,
            head: 49_152,
            header_field: 8_192,
            uri: 4_096,
            header_fields: 256,
            vias: 70,
            routes: 70,
            contacts: 64,
            list: 128,
            parameters: 64,
            body: 65_535,
            body_parts: 32,
            body_nesting: 4,
        }
    }
}
