//! `application/simple-message-summary`: how many messages wait. RFC 3842 §5.2. Headers of single messages stay behind.

use super::{Names, document};

const CLASSES: [&str; 6] = [
    "Voice-Message",
    "Fax-Message",
    "Pager-Message",
    "Multimedia-Message",
    "Text-Message",
    "None",
];

/// The summary for the other side; `None`: its first line is not there.
pub(super) fn rewritten(text: &str, names: Names<'_>) -> Option<String> {
    let mut lines = text.lines();
    let (name, waiting) = lines.next()?.split_once(':')?;
    if !name.trim().eq_ignore_ascii_case("Messages-Waiting") {
        return None;
    }
    let waiting = match waiting.trim() {
        word if word.eq_ignore_ascii_case("yes") => "yes",
        word if word.eq_ignore_ascii_case("no") => "no",
        _ => return None,
    };
    let mut out = format!("Messages-Waiting: {waiting}\r\n");
    for line in lines.take_while(|line| !line.trim().is_empty()).take(8) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("Message-Account") {
            if let Some(account) = document::address(value, names) {
                out.push_str(&format!("Message-Account: {account}\r\n"));
            }
        } else if let Some(class) = CLASSES
            .iter()
            .find(|class| class.eq_ignore_ascii_case(name))
            && let Some(counts) = counts(value)
        {
            out.push_str(&format!("{class}: {counts}\r\n"));
        }
    }
    Some(out)
}

/// `new/old` and maybe `(new/old)` of the urgent ones.
fn counts(text: &str) -> Option<String> {
    let pair = |text: &str| {
        let (new, old) = text.trim().split_once('/')?;
        let number = |text: &str| text.trim().parse::<u32>().ok();
        Some(format!("{}/{}", number(new)?, number(old)?))
    };
    match text.split_once('(') {
        Some((all, urgent)) => {
            let urgent = urgent.trim().strip_suffix(')')?;
            Some(format!("{} ({})", pair(all)?, pair(urgent)?))
        }
        None => pair(text),
    }
}
