//! `/metrics` in the Prometheus text format: the counters that sbc and firewall give, and the processes of the house.

use std::{fmt::Write as _, sync::atomic::Ordering};

use broker_proto::status::{FromStatus, ProcessInfo, ToStatus};

use super::{Links, link::Link};

/// The whole page. A process that does not answer is left out and shows as `gatehouse_up{process="…"} 0`.
pub(super) async fn page(links: &Links) -> String {
    let mut text = String::new();
    let (sbc, firewall, init) = tokio::join!(
        counters(&links.sbc),
        counters(&links.firewall),
        links.init.ask(|id| ToStatus::Processes { id })
    );
    let _ = writeln!(text, "# TYPE gatehouse_up gauge");
    for (process, answered) in [("sbc", sbc.is_some()), ("firewall", firewall.is_some())] {
        let _ = writeln!(
            text,
            "gatehouse_up{{process=\"{process}\"}} {}",
            u8::from(answered)
        );
    }
    for counters in [sbc, firewall].into_iter().flatten() {
        write_counters(&mut text, &counters);
    }
    if let Ok(FromStatus::Processes { processes, .. }) = init {
        write_processes(&mut text, &processes);
    }
    let refused = links.refused_logins.load(Ordering::Relaxed);
    let _ = writeln!(
        text,
        "# TYPE gatehouse_api_refused_total counter\ngatehouse_api_refused_total {refused}"
    );
    text
}

async fn counters(link: &Link<FromStatus>) -> Option<Vec<(String, u64)>> {
    match link.ask(|id| ToStatus::Counters { id }).await {
        Ok(FromStatus::Counters { counters, .. }) => Some(counters),
        _ => None,
    }
}

/// Counters with their names checked: they come from a process that strangers talk to, and a line end in a label would forge
/// a line here.
fn write_counters(text: &mut String, counters: &[(String, u64)]) {
    let mut sorted: Vec<&(String, u64)> =
        counters.iter().filter(|(name, _)| is_name(name)).collect();
    sorted.sort();
    let mut last = "";
    for (name, value) in sorted {
        let base = name.split('{').next().unwrap_or(name);
        if base != last {
            let kind = if base.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            let _ = writeln!(text, "# TYPE gatehouse_{base} {kind}");
            last = base;
        }
        let _ = writeln!(text, "gatehouse_{name} {value}");
    }
}

fn is_name(name: &str) -> bool {
    let (base, labels) = name.split_at(name.find('{').unwrap_or(name.len()));
    let base_is_plain = base.starts_with(|first: char| first.is_ascii_lowercase())
        && base
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_');
    let labels_are_plain = labels.is_empty()
        || (labels.ends_with('}')
            && labels.len() <= 256
            && labels.chars().all(|character| !character.is_control()));
    base_is_plain && labels_are_plain
}

fn write_processes(text: &mut String, processes: &[ProcessInfo]) {
    type Figure = (&'static str, fn(&ProcessInfo) -> u64);
    let figures: [Figure; 4] = [
        ("process_running gauge", |process| {
            u64::from(process.pid != 0)
        }),
        ("process_resident_kib gauge", |process| process.rss_kib),
        ("process_open_fds gauge", |process| process.open_fds.into()),
        ("process_restarts_total counter", |process| {
            process.restarts.into()
        }),
    ];
    for (name, figure) in figures {
        let _ = writeln!(text, "# TYPE gatehouse_{name}");
        let base = name.split(' ').next().unwrap_or(name);
        for process in processes {
            let _ = writeln!(
                text,
                "gatehouse_{base}{{process=\"{}\"}} {}",
                process.name,
                figure(process)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_whose_name_would_forge_a_line_is_left_out() {
        let mut text = String::new();
        let counters = [
            ("sip_requests_total{method=\"INVITE\"}".into(), 3),
            ("sip_requests_total{method=\"x\"} 1\nforged".into(), 1),
            ("a b".into(), 1),
            (String::new(), 1),
        ];
        write_counters(&mut text, &counters);
        assert_eq!(
            text,
            "# TYPE gatehouse_sip_requests_total counter\ngatehouse_sip_requests_total{method=\"INVITE\"} 3\n"
        );
    }
}
