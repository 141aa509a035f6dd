//! Interworking: real telephones of three makers behind and before the product, Kamailio as the PBX.
//! `make interop` runs every row and writes the table `tests/interop.md`; `GATEHOUSE_INTEROP` holds words that a row must
//! have (then the table goes to `target/lab/interop.md`). A few quick rows run with the laboratory's other tests.

mod features;
mod lines;
mod sessions;

use std::{cell::RefCell, fmt::Write as _, fs, path::PathBuf, time::Duration};

use e2e::{
    api,
    lab::{
        peers,
        phones::{Order, Telephone},
        product, root, state,
    },
};

use crate::{Lab, LabTest, peers::Peers};

/// Rows that run with every test of the laboratory.
pub const TESTS: &[LabTest] = &[
    (
        "a_telephone_calls_and_is_called_over_udp_tls_and_ipv6",
        |lab| run(lab, lines::quick, &[]),
    ),
    (
        "two_telephones_outside_hear_each_other_through_a_pbx_that_relays_no_media",
        |lab| run(lab, lines::met, &["tls IPv4", "tcp IPv6"]),
    ),
    (
        "a_transferred_call_goes_on_without_who_transferred_it",
        |lab| run(lab, features::transfers, &["baresip", "resolved"]),
    ),
    (
        "of_two_telephones_one_answers_and_the_other_stops_ringing",
        |lab| run(lab, features::ringing, &["baresip"]),
    ),
];

/// The whole table.
pub const ALL: &[LabTest] = &[("telephones_of_three_makers_work_through_the_product", all)];

/// What a row came to: a figure or a remark, or why it failed.
pub type Outcome = Result<String, String>;

/// One line of the table.
struct Row {
    who: String,
    what: String,
    outcome: Outcome,
}

/// A run of some rows.
pub struct Run<'a> {
    /// The laboratory.
    pub lab: &'a Lab,
    words: Vec<String>,
    rows: RefCell<Vec<Row>>,
}

impl Run<'_> {
    /// Does a row, if it is wanted.
    pub fn row(&self, who: &str, what: &str, work: impl FnOnce() -> Outcome) {
        let name = format!("{who} {what}");
        if !self.words.iter().all(|word| name.contains(word.as_str())) {
            return;
        }
        let outcome = work();
        let (word, remark) = match &outcome {
            Ok(remark) => ("passed", remark),
            Err(why) => ("FAILED", why),
        };
        println!("    {word}: {who}: {what}: {remark}");
        self.rows.borrow_mut().push(Row {
            who: who.to_owned(),
            what: what.to_owned(),
            outcome,
        });
    }

    /// Whether a row whose name is among these words would be done.
    pub fn wants(&self, names: &str) -> bool {
        self.words.iter().all(|word| names.contains(word.as_str()))
    }

    /// Calls that the product has answered.
    pub fn answered(&self) -> usize {
        let calls = api::get(&self.lab.names, "/api/v1/calls");
        let calls = calls.as_array().cloned().unwrap_or_default();
        calls
            .iter()
            .filter(|call| call["state"] == "answered")
            .count()
    }

    /// Waits until the product has so many answered calls.
    pub fn has_calls(&self, count: usize) -> Result<(), String> {
        let there = api::eventually(Duration::from_secs(10), || self.answered() == count);
        let have = || {
            format!(
                "{} answered calls, not {count}: {}",
                self.answered(),
                api::get(&self.lab.names, "/api/v1/calls")
            )
        };
        there.then_some(()).ok_or_else(have)
    }

    /// Waits until the product has no call at all.
    pub fn is_idle(&self) -> Result<(), String> {
        let none = || {
            api::get(&self.lab.names, "/api/v1/calls")
                .as_array()
                .is_none_or(Vec::is_empty)
        };
        let idle = api::eventually(Duration::from_secs(10), none);
        idle.then_some(()).ok_or_else(|| {
            format!(
                "calls are left: {}",
                api::get(&self.lab.names, "/api/v1/calls")
            )
        })
    }
}

/// Presses a key.
pub fn press(phone: &mut Telephone, order: Order<'_>) -> Result<(), String> {
    phone
        .press(&order)
        .map_err(|error| format!("{order:?}: {error}"))
}

/// Two telephones hear each other's tone from now on.
pub fn talk(one: (&mut Telephone, u32), other: (&mut Telephone, u32)) -> Outcome {
    one.0.mark();
    other.0.mark();
    let heard = (one.0.hears(other.1), other.0.hears(one.1));
    let text = format!("{:.2} and {:.2} heard", heard.0, heard.1);
    if heard.0.min(heard.1) < 0.5 {
        Err(text)
    } else {
        Ok(text)
    }
}

/// The rows of some parts with the given words.
fn run(lab: &Lab, part: fn(&Run<'_>), words: &[&str]) {
    let run = Run {
        lab,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        rows: RefCell::default(),
    };
    let peers = Peers;
    peers::start_pbx(&lab.names).unwrap();
    part(&run);
    drop(peers);
    judge(&run);
}

fn all(lab: &Lab) {
    let words = std::env::var("GATEHOUSE_INTEROP").unwrap_or_default();
    let words: Vec<String> = words
        .split_whitespace()
        .filter(|word| *word != "all")
        .map(str::to_owned)
        .collect();
    let whole = words.is_empty();
    let run = Run {
        lab,
        words,
        rows: RefCell::default(),
    };
    for part in [
        lines::all,
        lines::met,
        features::ringing,
        features::transfers,
        sessions::all,
    ] {
        api::reset(&lab.names);
        let peers = Peers;
        peers::start_pbx(&lab.names).unwrap();
        part(&run);
        drop(peers);
    }
    api::reset(&lab.names);
    let peers = Peers;
    peers::start_pbx_with_media(&lab.names).unwrap();
    lines::crossed(&run);
    drop(peers);
    let file: PathBuf = if whole {
        root().join("tests/interop.md")
    } else {
        state().join("interop.md")
    };
    fs::write(file, table(&run.rows.borrow())).unwrap();
    judge(&run);
}

fn judge(run: &Run<'_>) {
    let rows = run.rows.borrow();
    let failed = rows.iter().filter(|row| row.outcome.is_err()).count();
    assert!(failed == 0, "{failed} of {} did not pass", rows.len());
    assert!(!rows.is_empty(), "no row was done");
}

fn table(rows: &[Row]) -> String {
    let passed = rows.iter().filter(|row| row.outcome.is_ok()).count();
    let mut table = format!(
        "# Interworking\n\nWritten by `make interop`. {passed} of {} rows passed. Kamailio is the PBX and registrar inside; the product\nspeaks UDP over IPv4 to it; TLS means media by SRTP outside. What is heard is the share of the other's tone in 400 ms of sound, 1.00 at best.\n\n| who | what | passed | figures |\n|---|---|---|---|\n",
        rows.len()
    );
    for row in rows {
        let (word, remark) = match &row.outcome {
            Ok(remark) => ("yes", remark),
            Err(why) => ("**no**", why),
        };
        let remark: String = remark.replace(['\n', '|'], " ").chars().take(300).collect();
        let _ = writeln!(table, "| {} | {} | {word} | {remark} |", row.who, row.what);
    }
    table
}

/// The laboratory's configuration with more in it, while this value lives.
pub struct Configured<'a> {
    lab: &'a Lab,
}

impl<'a> Configured<'a> {
    /// Transfers opened. `handling`: `pass` or `resolve`.
    pub fn to_transfer(lab: &'a Lab, handling: &str) -> Self {
        Self::with(
            lab,
            &format!(
                "[[policy]]\nname = \"transfers\"\nfor = [\"zone:external\", \"registrar\"]\ntransfer = \"{handling}\"\n"
            ),
        )
    }

    /// With these lines.
    pub fn with(lab: &'a Lab, lines: &str) -> Self {
        let mut text = fs::read_to_string(product::configuration()).unwrap();
        let _ = write!(text, "\n{lines}");
        let file = state().join("interop.toml");
        fs::write(&file, text).unwrap();
        product::stop();
        product::start(&lab.names, &file).unwrap();
        Self { lab }
    }
}

impl Drop for Configured<'_> {
    fn drop(&mut self) {
        product::stop();
        if let Err(error) = product::start(&self.lab.names, &product::configuration()) {
            eprintln!("{error}");
        }
    }
}
