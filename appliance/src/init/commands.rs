//! What a person at the console can have done: power, factory reset, self-test, ports, network test, and the word on a
//! configuration on trial. What takes long goes on beside the loop and is answered when it is over.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::{Child as Process, Command as Program, Stdio},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId, Role,
    control::{BLINKS, Command, ToChild},
    journal::Severity,
    network_test::{Cable, Probe},
};

use super::{House, links::print_mac, power::End};
use crate::store::Store;

/// Longest self-test.
const SELF_TEST_TIME: Duration = Duration::from_secs(180);
/// Octets of a report that are shown.
const REPORT: u64 = 48 * 1024;

/// Longest network test: the firewall's own bound for as many hosts as a document may name.
const NETWORK_TEST_TIME: Duration = Duration::from_secs(70);
/// How long a port blinks, in seconds.
const BLINK_SECONDS: u32 = 10;
/// A driver without lamps says so before this.
const BLINK_REFUSAL: Duration = Duration::from_millis(300);

/// A port that was told to blink; nobody knows yet whether it can.
pub struct Blinking {
    id: RequestId,
    refused: Receiver<()>,
    until: Instant,
}

/// A self-test under way.
pub struct SelfTest {
    id: RequestId,
    process: Process,
    until: Instant,
}

impl House {
    /// Does what the console asks; answers at once, but for the self-test.
    pub fn command(&mut self, id: RequestId, command: Command, now: Instant) {
        let word = format!("{command:?}");
        self.record(Severity::Notice, "console-command", &[("command", &word)]);
        let result = match command {
            Command::PowerOff => {
                self.end = Some(End::PowerOff);
                Ok("power off".to_owned())
            }
            Command::Reboot => {
                self.end = Some(End::Restart);
                Ok("restart".to_owned())
            }
            Command::FactoryReset => self.factory_reset(),
            Command::Ports => self.ports(),
            Command::Identify(index) => match self.begin_blinking(id, index, now) {
                true => return,
                false => self.ports(),
            },
            Command::NetworkTest => match self.begin_network_test(id, now) {
                Ok(()) => return,
                Err(sentence) => Err(vec![sentence]),
            },
            Command::LogOut => {
                self.operator.leave();
                Ok(String::new())
            }
            Command::Keep => return self.keep(id),
            Command::GoBack => return self.go_back(id),
            Command::SelfTest => match self.start_self_test(id, now) {
                Ok(()) => return,
                Err(sentence) => Err(vec![sentence]),
            },
        };
        self.tell(Role::Console, &ToChild::Answer { id, result }, None);
    }

    fn factory_reset(&mut self) -> Result<String, Vec<String>> {
        let erased = Store::open(&self.store_directory()).and_then(|mut store| store.erase());
        erased.map_err(|error| vec![error.to_string()])?;
        // Records are the organisation's; what it gives away is a box without them. The journal writes until the end, so
        // its folder is emptied by the next start.
        let marker = self.data_directory().join("erase-journal");
        fs::write(marker, "").map_err(|error| vec![error.to_string()])?;
        self.end = Some(End::Restart);
        Ok("everything is erased, the box starts again".into())
    }

    /// The console asked for something that needs an operator.
    pub fn refuse_console(&mut self, id: RequestId, what: &str) {
        self.record(
            Severity::Warning,
            "console-command-refused",
            &[("command", what), ("reason", "no operator is logged in")],
        );
        let result = Err(vec!["log in first".to_owned()]);
        self.tell(Role::Console, &ToChild::Answer { id, result }, None);
    }

    /// One line per card: name, address, driver, link.
    fn ports(&mut self) -> Result<String, Vec<String>> {
        let lines = self
            .cards()
            .map_err(|error| vec![error.to_string()])?
            .into_iter()
            .map(|(_, line)| line);
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Names and lines of the cards.
    fn cards(&mut self) -> io::Result<Vec<(String, String)>> {
        let links = self.netlink.links()?;
        let cards = links.into_iter().filter(|link| {
            link.is_ethernet && Path::new(&format!("/sys/class/net/{}/device", link.name)).exists()
        });
        Ok(cards
            .map(|link| {
                let driver = fs::read_link(format!("/sys/class/net/{}/device/driver", link.name));
                let driver = driver
                    .ok()
                    .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
                // A card that is down shows no carrier; the closed ruleset stands, so it may listen for a cable.
                let state = if link.has_carrier { "up" } else { "down" };
                let line = format!(
                    "{} {} {} {state}",
                    link.name,
                    print_mac(&link.mac),
                    driver.unwrap_or_else(|| "-".into())
                );
                (link.name, line)
            })
            .collect())
    }

    /// Has a card's lamps blink, in a thread of its own, since the kernel returns when it is over; false: there is no such
    /// card, or another one is asked.
    fn begin_blinking(&mut self, id: RequestId, index: u32, now: Instant) -> bool {
        let cards = self.cards().unwrap_or_default();
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let Some((name, _)) = cards.into_iter().nth(place) else {
            return false;
        };
        if self.blinking.is_some() {
            return false;
        }
        let (say, refused) = sync_channel(1);
        let started = thread::Builder::new().name("blink".into()).spawn(move || {
            if sandbox::ethtool::identify(&name, BLINK_SECONDS).is_err() {
                let _ = say.send(());
            }
        });
        if started.is_err() {
            return false;
        }
        self.blinking = Some(Blinking {
            id,
            refused,
            until: now + BLINK_REFUSAL,
        });
        true
    }

    /// Answers when it is known whether the card blinks: `blinks`, or the list of ports with their links, to watch a cable
    /// that is pulled. When to look again, if it is not known.
    pub fn look_at_blinking(&mut self, now: Instant) -> Option<Instant> {
        let blinking = self.blinking.as_ref()?;
        let refused = match blinking.refused.try_recv() {
            Ok(()) => true,
            Err(TryRecvError::Empty) if now < blinking.until => return Some(blinking.until),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => false,
        };
        let id = blinking.id;
        self.blinking = None;
        let result = if refused {
            self.ports()
        } else {
            Ok(BLINKS.to_owned())
        };
        self.tell(Role::Console, &ToChild::Answer { id, result }, None);
        None
    }

    /// The firewall holds the right to send echo requests; it is asked to, and answers when all are through.
    fn begin_network_test(&mut self, id: RequestId, now: Instant) -> Result<(), String> {
        if self.committed.is_none() {
            return Err("no configuration is in force".into());
        }
        if self.network_test.is_some() {
            return Err("a network test is running already".into());
        }
        self.network_test = Some((id, now + NETWORK_TEST_TIME));
        self.tell(Role::Firewall, &ToChild::NetworkTest { id }, None);
        Ok(())
    }

    /// What came of a network test, with the state of the cables.
    pub fn network_tested(&mut self, id: RequestId, probes: Vec<Probe>) {
        if self
            .network_test
            .take_if(|(asked, _)| *asked == id)
            .is_none()
        {
            return;
        }
        let links = self.netlink.links().unwrap_or_default();
        let zones = self
            .running
            .iter()
            .flat_map(|running| &running.document.zones);
        let cables = zones
            .map(|zone| {
                let link = links.iter().find(|link| link.name == zone.ifname());
                let cable = match link {
                    None => Cable::NoCard,
                    Some(link) if link.has_carrier => Cable::Connected,
                    Some(_) => Cable::Unplugged,
                };
                (zone.name.clone(), cable)
            })
            .collect();
        let message = ToChild::NetworkTested { id, cables, probes };
        self.tell(Role::Console, &message, None);
    }

    /// A firewall that died during a network test answers it no more.
    pub fn look_at_network_test(&mut self, now: Instant) {
        let over = |until: Instant| until <= now || self.committed.is_none();
        if let Some((id, _)) = self.network_test.take_if(|(_, until)| over(*until)) {
            let result = Err(vec!["the firewall does not answer".to_owned()]);
            self.tell(Role::Console, &ToChild::Answer { id, result }, None);
        }
    }

    fn start_self_test(&mut self, id: RequestId, now: Instant) -> Result<(), String> {
        if self.self_test.is_some() {
            return Err("a self-test is running already".into());
        }
        let process = Program::new(self.options.executables.join("gatehouse-escape"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("the self-test cannot be started: {error}"))?;
        self.self_test = Some(SelfTest {
            id,
            process,
            until: now + SELF_TEST_TIME,
        });
        Ok(())
    }

    /// Sees whether the self-test ended, and answers.
    pub fn look_at_self_test(&mut self, now: Instant) {
        let Some(test) = &mut self.self_test else {
            return;
        };
        let pid = test.process.id();
        // The loop reaps every child, this one among them: it is over when it is gone.
        let over = !Path::new(&format!("/proc/{pid}")).exists();
        if !over && now < test.until {
            return;
        }
        let Some(mut test) = self.self_test.take() else {
            return;
        };
        let _ = test.process.kill();
        let mut report = String::new();
        if let Some(output) = test.process.stdout.take() {
            let _ = output.take(REPORT).read_to_string(&mut report);
        }
        let passed = over && report.contains("every attempt was refused");
        let severity = if passed {
            Severity::Notice
        } else {
            Severity::Alert
        };
        let last = report.lines().last().unwrap_or("no report").to_owned();
        self.record(
            severity,
            "self-test",
            &[
                ("passed", if passed { "yes" } else { "no" }),
                ("result", &last),
            ],
        );
        let result = if passed {
            Ok(report)
        } else {
            Err(report.lines().map(str::to_owned).collect())
        };
        self.tell(
            Role::Console,
            &ToChild::Answer {
                id: test.id,
                result,
            },
            None,
        );
    }
}
