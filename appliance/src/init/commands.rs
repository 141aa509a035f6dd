//! What a person at the console can have done: power, factory reset, self-test, ports, network test.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child as Process, Command as Program, Stdio},
    time::{Duration, Instant},
};

use broker_proto::{
    RequestId, Role,
    control::{Command, ToChild},
    journal::Severity,
};

use super::{House, links::print_mac, power::End};
use crate::store::Store;

/// Longest self-test.
const SELF_TEST_TIME: Duration = Duration::from_secs(180);
/// Octets of a report that are shown.
const REPORT: u64 = 48 * 1024;

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
            Command::Ports | Command::Identify(_) => self.ports(),
            Command::NetworkTest => self.network_test(),
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

    /// One line per card: name, address, driver, link.
    fn ports(&mut self) -> Result<String, Vec<String>> {
        let links = self
            .netlink
            .links()
            .map_err(|error| vec![error.to_string()])?;
        let lines: Vec<String> = links
            .iter()
            .filter(|link| {
                link.is_ethernet
                    && Path::new(&format!("/sys/class/net/{}/device", link.name)).exists()
            })
            .map(|link| {
                let driver = fs::read_link(format!("/sys/class/net/{}/device/driver", link.name));
                let driver = driver
                    .ok()
                    .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
                // A card that is down shows no carrier; the closed ruleset stands, so it may listen for a cable.
                let state = if link.has_carrier { "up" } else { "down" };
                format!(
                    "{} {} {} {state}",
                    link.name,
                    print_mac(&link.mac),
                    driver.unwrap_or_else(|| "-".into())
                )
            })
            .collect();
        Ok(lines.join("\n"))
    }

    /// Which gateways and servers on the links answer on the wire, as the kernel's neighbour table knows it.
    fn network_test(&mut self) -> Result<String, Vec<String>> {
        let Some(running) = &self.running else {
            return Err(vec!["there is no configuration yet".into()]);
        };
        let links = self
            .netlink
            .links()
            .map_err(|error| vec![error.to_string()])?;
        let neighbours = fs::read_to_string("/proc/net/arp").unwrap_or_default();
        let mut lines = Vec::new();
        for zone in &running.document.zones {
            let link = links.iter().find(|link| link.name == zone.ifname());
            let state = match link {
                None => "no card",
                Some(link) if link.has_carrier => "cable connected",
                Some(_) => "no cable",
            };
            lines.push(format!("{}: {state}", zone.name));
            for line in neighbours.lines().skip(1) {
                let columns: Vec<&str> = line.split_whitespace().collect();
                if let [address, _, flags, _, _, device] = columns.as_slice()
                    && *device == zone.ifname()
                {
                    let answer = if *flags == "0x2" {
                        "answers"
                    } else {
                        "does not answer"
                    };
                    lines.push(format!("  {address} {answer}"));
                }
            }
        }
        Ok(lines.join("\n"))
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
