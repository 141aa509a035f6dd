//! Named counters with Prometheus labels, for `/metrics`. Bounded: names come from the code, never from the wire.

use std::collections::BTreeMap;

/// Counts by name and one label.
#[derive(Default)]
pub(crate) struct Counters {
    values: BTreeMap<(&'static str, &'static str, &'static str), u64>,
}

impl Counters {
    /// Count one up: `name{label="value"}`, or plain `name` if `label` is empty.
    pub(crate) fn count(&mut self, name: &'static str, label: &'static str, value: &'static str) {
        let counter = self.values.entry((name, label, value)).or_default();
        *counter = counter.saturating_add(1);
    }

    /// All of them in text form.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        self.values
            .iter()
            .map(|((name, label, value), count)| {
                let text = if label.is_empty() {
                    (*name).to_owned()
                } else {
                    format!("{name}{{{label}=\"{value}\"}}")
                };
                (text, *count)
            })
            .collect()
    }

    /// Back to nothing.
    pub(crate) fn clear(&mut self) {
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_carries_its_label() {
        let mut counters = Counters::default();
        counters.count("sip_refused_total", "reason", "scanner");
        counters.count("sip_refused_total", "reason", "scanner");
        counters.count("calls_total", "", "");
        assert_eq!(
            counters.list(),
            [
                ("calls_total".to_owned(), 1),
                ("sip_refused_total{reason=\"scanner\"}".to_owned(), 2)
            ]
        );
    }
}
