//! Text that people read: subjects, display names in bodies, notes. It crosses only if nothing in it looks like an
//! address or host name.

/// The text with control characters gone and at most `most` characters; `None`: nothing is left, or it names a host.
pub(crate) fn harmless(text: &str, most: usize) -> Option<String> {
    let clean: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(most)
        .collect();
    let clean = clean.trim();
    let good = !clean.is_empty() && clean.split_whitespace().all(|word| !names_a_host(word));
    good.then(|| clean.to_owned())
}

/// A word with a dot or colon inside, an `@`, or a scheme. An initial before a name (`J.Smith`) is none.
fn names_a_host(word: &str) -> bool {
    let word = word.trim_matches(|character: char| !character.is_alphanumeric());
    let joined = |part: &str| part.chars().count() > 1;
    word.contains(['@', '/'])
        || word.split(':').filter(|part| !part.is_empty()).count() > 1
        || word.split('.').filter(|part| joined(part)).count() > 1
        || word.bytes().filter(|octet| *octet == b'.').count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_names_a_host_does_not_cross() {
        for text in [
            "Bob Miller",
            "J.Smith",
            "Büro 12, 3. Stock",
            "Zurück um 14 Uhr.",
            "née d'Arc",
        ] {
            assert_eq!(harmless(text, 64).as_deref(), Some(text), "{text}");
        }
        for text in [
            "call 192.0.2.10",
            "bob@pbx",
            "pbx.internal.example",
            "at pbx.lan",
            "sip:bob",
            "[2001:db8::1]",
            "http://x",
            "",
            " \r\n",
        ] {
            assert_eq!(harmless(text, 64), None, "{text}");
        }
        assert_eq!(harmless("abcdef", 3).as_deref(), Some("abc"));
    }
}
