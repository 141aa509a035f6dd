//! Where a message on a stream ends: RFC 3261 §18.3 (Content-Length rules), RFC 5626 §3.5.1 (keep-alives between messages).

/// What stands at the front of a stream's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// More octets are needed.
    Unfinished,
    /// Line ends between messages; `ping`: one that wants a pong.
    KeepAlive { octets: usize, ping: bool },
    /// A whole message of so many octets.
    Message(usize),
    /// The end of the message is not to be known, or it is larger than allowed.
    Lost,
}

/// Look at the front. `limit`: octets that a message may have.
pub(crate) fn front(bytes: &[u8], limit: usize) -> Front {
    if bytes
        .first()
        .is_some_and(|octet| matches!(octet, b'\r' | b'\n'))
    {
        let octets = bytes
            .iter()
            .take_while(|octet| matches!(octet, b'\r' | b'\n'))
            .count();
        if octets == bytes.len() && octets < 4 {
            // Half a ping, or a pong.
            return if bytes == b"\r\n" {
                Front::KeepAlive {
                    octets,
                    ping: false,
                }
            } else {
                Front::Unfinished
            };
        }
        return Front::KeepAlive {
            octets,
            ping: octets >= 4,
        };
    }
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > limit {
            Front::Lost
        } else {
            Front::Unfinished
        };
    };
    let Some(length) = bytes.get(..head).and_then(content_length) else {
        return Front::Lost;
    };
    match head
        .checked_add(4)
        .and_then(|start| start.checked_add(length))
    {
        Some(whole) if whole > limit => Front::Lost,
        Some(whole) if whole <= bytes.len() => Front::Message(whole),
        Some(_) => Front::Unfinished,
        None => Front::Lost,
    }
}

/// The one Content-Length of a head. `None`: none, several, or no number.
fn content_length(head: &[u8]) -> Option<usize> {
    let mut found = None;
    for line in head.split(|octet| *octet == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else {
            continue;
        };
        let (name, value) = line.split_at_checked(colon)?;
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l") {
            let digits = value.get(1..)?.trim_ascii();
            if found.is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            found = Some(std::str::from_utf8(digits).ok()?.parse().ok()?);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_content_length_says() {
        let message = b"OPTIONS sip:x SIP/2.0\r\nl: 3\r\n\r\nabc";
        for length in 1..message.len() {
            assert_eq!(
                front(&message[..length], 100),
                Front::Unfinished,
                "{length}"
            );
        }
        assert_eq!(front(message, 100), Front::Message(message.len()));
        let two = [&message[..], b"INVITE"].concat();
        assert_eq!(front(&two, 100), Front::Message(message.len()));
    }

    #[test]
    fn without_one_good_content_length_framing_is_lost() {
        for lines in [
            "Via: x",
            "Content-Length: 1\r\nl: 1",
            "Content-Length: -1",
            "Content-Length: ",
            "Content-Length: 99999999999999999999",
        ] {
            let message = format!("OPTIONS sip:x SIP/2.0\r\n{lines}\r\n\r\n");
            assert_eq!(front(message.as_bytes(), 1000), Front::Lost, "{lines}");
        }
    }

    #[test]
    fn what_grows_beyond_the_limit_is_lost() {
        assert_eq!(front(&[b'x'; 101], 100), Front::Lost);
        assert_eq!(
            front(
                b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 5000\r\n\r\n",
                100
            ),
            Front::Lost
        );
    }

    #[test]
    fn keep_alives_are_told_from_messages() {
        assert_eq!(
            front(b"\r\n\r\n", 100),
            Front::KeepAlive {
                octets: 4,
                ping: true
            }
        );
        assert_eq!(
            front(b"\r\n", 100),
            Front::KeepAlive {
                octets: 2,
                ping: false
            }
        );
        assert_eq!(front(b"\r", 100), Front::Unfinished);
    }
}
