//! What happened in a call, as JSON and as a drawing for people: one column for each far end, ours between them, a line for
//! each message and each decision. The sbc keeps the steps without their secrets; nothing here looks into a message beyond
//! its start line and a few fields.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use broker_proto::status::{LadderKind, LadderStep};
use serde_json::{Value, json};

use crate::journal::rfc3339;

/// Characters between two columns.
const WIDTH: usize = 44;
/// Far ends that get a column; the messages of others say whose they are.
const COLUMNS: usize = 6;

/// The steps as JSON.
pub(super) fn value(call: u64, steps: &[LadderStep]) -> Value {
    let step = |step: &LadderStep| {
        let kind = match step.kind {
            LadderKind::Received => "received",
            LadderKind::Sent => "sent",
            LadderKind::Decision => "decision",
        };
        json!({
            "time": rfc3339(UNIX_EPOCH + Duration::from_millis(step.unix_ms)),
            "unix_ms": step.unix_ms,
            "kind": kind,
            "zone": step.zone,
            "remote": step.remote.map(|remote| remote.to_string()),
            "transport": step.transport,
            "summary": summary(step),
            "text": step.text,
        })
    };
    json!({ "id": call.to_string(), "steps": steps.iter().map(step).collect::<Vec<_>>() })
}

/// What a step says in one line.
fn summary(step: &LadderStep) -> String {
    let first = step.text.lines().next().unwrap_or_default();
    if step.kind == LadderKind::Decision {
        return first.to_owned();
    }
    let start = match first.strip_prefix("SIP/2.0 ") {
        Some(status) => status.to_owned(),
        None => first.trim_end_matches(" SIP/2.0").to_owned(),
    };
    let cseq = field(&step.text, "cseq").filter(|_| first.starts_with("SIP/2.0 "));
    let described = step.text.contains("\r\nv=0\r\n") || step.text.contains("\nv=0\n");
    let mut line = match cseq {
        Some(cseq) => format!("{start} ({cseq})"),
        None => start,
    };
    if described {
        line.push_str(" [sdp]");
    }
    line
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (have, value) = line.split_once(':')?;
        have.trim_end()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim())
    })
}

/// The steps as a drawing.
pub(super) fn drawing(steps: &[LadderStep]) -> String {
    let mut ends: Vec<(SocketAddr, &str)> = Vec::new();
    for step in steps {
        if let Some(remote) = step.remote
            && ends.len() < COLUMNS
            && !ends.iter().any(|(have, _)| *have == remote)
        {
            ends.push((remote, &step.zone));
        }
    }
    let start = steps.first().map_or(0, |step| step.unix_ms);
    let mut text = String::new();
    // The caller stands left of us, whom we called right.
    let (left, right) = ends.split_at(ends.len().min(1));
    let _ = writeln!(
        text,
        "{:>10}  {:<WIDTH$}{:<WIDTH$}{}",
        "seconds",
        label(left.first()),
        "Gatehouse",
        right
            .iter()
            .map(|end| label(Some(end)))
            .collect::<Vec<_>>()
            .join(" | ")
    );
    for step in steps {
        let since = step.unix_ms.saturating_sub(start);
        let _ = write!(text, "{:>6}.{:03}  ", since / 1_000, since % 1_000);
        let summary: String = summary(step).chars().take(WIDTH * 2).collect();
        let is_left = step.remote == left.first().map(|(remote, _)| *remote);
        let line = match (step.kind, is_left) {
            (LadderKind::Decision, _) => format!("{:WIDTH$}* {summary}", ""),
            (LadderKind::Received, true) => arrow(&summary, "", ">|"),
            (LadderKind::Sent, true) => arrow(&summary, "<", "|"),
            (kind, false) => {
                let to_us = kind == LadderKind::Received;
                let other = right
                    .iter()
                    .position(|(remote, _)| Some(*remote) == step.remote);
                let who = match (other, step.remote) {
                    (Some(0), _) | (_, None) => String::new(),
                    (_, Some(remote)) => format!("  {remote}"),
                };
                let (tail, head) = if to_us { ("|<", "") } else { ("|", ">") };
                format!("{:WIDTH$}{}{who}", "", arrow(&summary, tail, head))
            }
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn label(end: Option<&(SocketAddr, &str)>) -> String {
    end.map(|(remote, zone)| format!("{remote} ({zone})"))
        .unwrap_or_default()
}

/// A line as long as the way between two columns, with a summary on it.
fn arrow(summary: &str, tail: &str, head: &str) -> String {
    let room = WIDTH.saturating_sub(tail.len() + head.len() + 3);
    let shown: String = if summary.chars().count() > room {
        let cut: String = summary.chars().take(room.saturating_sub(1)).collect();
        format!("{cut}…")
    } else {
        summary.to_owned()
    };
    let fill = "-".repeat(room.saturating_sub(shown.chars().count()));
    format!("{tail}- {shown} {fill}{head}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(ms: u64, kind: LadderKind, remote: &str, text: &str) -> LadderStep {
        LadderStep {
            unix_ms: 1_700_000_000_000 + ms,
            kind,
            zone: if remote.starts_with("198") {
                "external"
            } else {
                "internal"
            }
            .to_owned(),
            remote: remote.parse().ok(),
            transport: "udp".to_owned(),
            text: text.to_owned(),
        }
    }

    fn call() -> Vec<LadderStep> {
        let (a, b) = ("198.51.100.20:5060", "192.0.2.10:5060");
        vec![
            step(
                0,
                LadderKind::Received,
                a,
                "INVITE sip:1001@lab.test SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n",
            ),
            step(
                1,
                LadderKind::Decision,
                "",
                "route extension: sip:1001@192.0.2.10",
            ),
            step(
                2,
                LadderKind::Sent,
                b,
                "INVITE sip:1001@192.0.2.10 SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n",
            ),
            step(
                1_500,
                LadderKind::Received,
                b,
                "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n",
            ),
            step(
                1_501,
                LadderKind::Sent,
                a,
                "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n",
            ),
        ]
    }

    #[test]
    fn both_legs_stand_side_by_side_with_the_decision_between() {
        let text = drawing(&call());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("198.51.100.20:5060 (external)")
                && lines[0].contains("192.0.2.10:5060 (internal)")
        );
        assert!(
            lines[1].starts_with("     0.000  - INVITE sip:1001@lab.test [sdp] -")
                && lines[1].ends_with(">|"),
            "{text}"
        );
        assert!(lines[2].contains("* route extension"), "{text}");
        assert!(
            lines[3].contains("|- INVITE sip:1001@192.0.2.10 [sdp]") && lines[3].ends_with('>'),
            "{text}"
        );
        assert!(lines[4].contains("|<- 200 OK (1 INVITE)"), "{text}");
        assert!(lines[5].starts_with("     1.501  <- 200 OK"), "{text}");
    }

    #[test]
    fn json_has_each_step_with_its_text() {
        let value = value(7, &call());
        assert_eq!(value["id"], "7");
        assert_eq!(value["steps"].as_array().unwrap().len(), 5);
        assert_eq!(value["steps"][1]["kind"], "decision");
        assert_eq!(value["steps"][3]["summary"], "200 OK (1 INVITE)");
    }

    #[test]
    fn a_call_of_nobody_and_odd_texts_are_drawn_too() {
        assert!(drawing(&[]).starts_with("   seconds"));
        let odd = [
            step(0, LadderKind::Received, "[2001:db8::1]:5060", ""),
            step(0, LadderKind::Sent, "", &"é".repeat(200)),
        ];
        let _ = (drawing(&odd), value(0, &odd));
    }
}
