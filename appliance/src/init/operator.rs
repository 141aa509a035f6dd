//! The operator at the console: who may have something changed or tested once the box is set up. The keyholder looks at the
//! password; init keeps who is in, and counts wrong ones. One exists, for all terminals of the console, which show the same
//! page. Closed until a log-in, and again when the console ends or logs out.

use std::time::{Duration, Instant};

use broker_proto::{
    RequestId, Role,
    control::{Command, LogIn, SecretBytes, ToChild},
    decode, encode,
    journal::Severity,
    keyholder::{FromKeyholder, ToKeyholder},
    settings::SecretId,
};

use super::House;

/// Longest wait behind a wrong password; it doubles from 1 s.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for the keyholder.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub struct Operator {
    logged_in: bool,
    asking: Option<(RequestId, Instant)>,
    wrong: u32,
    not_before: Option<Instant>,
}

impl Operator {
    /// Whether somebody is logged in.
    pub const fn is_in(&self) -> bool {
        self.logged_in
    }

    /// Nobody is, any more. Wrong passwords still count.
    pub fn leave(&mut self) {
        self.logged_in = false;
        self.asking = None;
    }

    /// Seconds, rounded up, before a password is looked at; 0: now.
    fn wait_seconds(&self, now: Instant) -> u32 {
        let left = self
            .not_before
            .map_or(Duration::ZERO, |then| then.saturating_duration_since(now));
        u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
    }

    /// What the keyholder said.
    fn verified(&mut self, opens: bool, now: Instant) -> LogIn {
        if opens {
            *self = Self {
                logged_in: true,
                ..Self::default()
            };
            return LogIn::Opened;
        }
        let wait = Duration::from_secs(1 << self.wrong.min(6)).min(LONGEST_WAIT);
        self.wrong = self.wrong.saturating_add(1);
        self.not_before = Some(now + wait);
        LogIn::Wrong {
            wait_seconds: self.wait_seconds(now),
        }
    }
}

impl House {
    /// Whether the console may have this done: everything before the first set-up, when there is nobody's password yet;
    /// afterwards nothing but to leave, unless an operator is in.
    pub fn console_may(&self, command: Option<Command>) -> bool {
        self.running.is_none() || self.operator.is_in() || command == Some(Command::LogOut)
    }

    /// A password from the console.
    pub fn log_in(&mut self, id: RequestId, password: SecretBytes, now: Instant) {
        let wait_seconds = self.operator.wait_seconds(now);
        if wait_seconds > 0 || self.operator.asking.is_some() {
            let wait_seconds = wait_seconds.max(1);
            self.tell_log_in(id, LogIn::TooSoon { wait_seconds });
            return;
        }
        let Some(running) = &self.running else {
            self.tell_log_in(id, LogIn::Unavailable);
            return;
        };
        let request = ToKeyholder::Verify {
            id,
            secret: SecretId(running.document.management.password.clone()),
            presented: password,
        };
        let sent = match (&self.keyholder, encode(&request)) {
            (Some(channel), Ok(mut bytes)) => {
                let sent = channel.send(&bytes, &[]).is_ok();
                bytes.fill(0);
                sent
            }
            _ => false,
        };
        if sent {
            self.operator.asking = Some((id, now + PATIENCE));
        } else {
            self.tell_log_in(id, LogIn::Unavailable);
        }
    }

    /// What the keyholder answers.
    pub fn answer_of_keyholder(&mut self, now: Instant) {
        let mut buffer = [0; 4096];
        while let Some(channel) = &self.keyholder {
            let received = match channel.recv(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.keyholder = None;
                    return;
                }
            };
            let Ok(answer) =
                decode::<FromKeyholder>(buffer.get(..received.length).unwrap_or_default())
            else {
                continue;
            };
            let (id, opens) = match answer {
                FromKeyholder::Verified { id, opens } => (id, Some(opens)),
                FromKeyholder::Refused { id } => (id, None),
                _ => continue,
            };
            if self
                .operator
                .asking
                .take_if(|(asked, _)| *asked == id)
                .is_none()
            {
                continue;
            }
            let result = opens.map_or(LogIn::Unavailable, |opens| {
                self.operator.verified(opens, now)
            });
            match result {
                LogIn::Opened => self.record(Severity::Notice, "console-log-in", &[]),
                LogIn::Wrong { .. } => {
                    let wrong = self.operator.wrong.to_string();
                    self.record(
                        Severity::Warning,
                        "console-log-in-refused",
                        &[("wrong", &wrong)],
                    );
                }
                LogIn::TooSoon { .. } | LogIn::Unavailable => {}
            }
            self.tell_log_in(id, result);
        }
    }

    /// A keyholder that does not answer keeps nobody waiting.
    pub fn look_at_log_in(&mut self, now: Instant) {
        if let Some((id, _)) = self.operator.asking.take_if(|(_, until)| *until <= now) {
            self.tell_log_in(id, LogIn::Unavailable);
        }
    }

    fn tell_log_in(&mut self, id: RequestId, result: LogIn) {
        self.tell(Role::Console, &ToChild::LogIn { id, result }, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_passwords_cost_more_and_more_time_and_a_right_one_none() {
        let mut operator = Operator::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let LogIn::Wrong { wait_seconds } = operator.verified(false, now) else {
                panic!("opened");
            };
            waits.push(wait_seconds);
            assert_eq!(
                operator.wait_seconds(now + Duration::from_millis(1)),
                wait_seconds
            );
            now += Duration::from_secs(u64::from(wait_seconds));
            assert_eq!(operator.wait_seconds(now), 0);
            assert!(!operator.is_in());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(operator.verified(true, now), LogIn::Opened);
        assert!(operator.is_in());
        operator.leave();
        assert!(!operator.is_in());
        assert_eq!(
            operator.verified(false, now),
            LogIn::Wrong { wait_seconds: 1 }
        );
    }
}
