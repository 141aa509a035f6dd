//! Where log lines go: standard output in the laboratory; on the appliance a file in memory of bounded size, and the system
//! console until the console process owns the screen.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    time::SystemTime,
};

use crate::journal::rfc3339;

/// The appliance's log file; the older half is kept beside it.
const FILE: &str = "/run/gatehouse.log";
const OLDER: &str = "/run/gatehouse.log.1";
/// Octets of each half.
const HALF: u64 = 2 * 1024 * 1024;

/// See the module.
pub struct Logbook {
    file: Option<File>,
    screen: Option<File>,
    octets: u64,
}

impl Logbook {
    /// For the laboratory (standard output) or the appliance.
    pub fn open(lab: bool) -> Self {
        if lab {
            return Self {
                file: None,
                screen: None,
                octets: 0,
            };
        }
        let file = OpenOptions::new().create(true).append(true).open(FILE).ok();
        let screen = OpenOptions::new().write(true).open("/dev/console").ok();
        Self {
            file,
            screen,
            octets: 0,
        }
    }

    /// From now on the screen belongs to the console process.
    pub fn leave_screen(&mut self) {
        self.screen = None;
    }

    /// Whether lines still go to the screen.
    pub fn has_screen(&self) -> bool {
        self.screen.is_some()
    }

    /// One line of `who`.
    pub fn write(&mut self, who: &str, line: &str) {
        let text = format!("{} {who}: {line}\n", rfc3339(SystemTime::now()));
        let Some(file) = &mut self.file else {
            print!("{text}");
            let _ = std::io::stdout().flush();
            return;
        };
        if let Some(screen) = &mut self.screen {
            let _ = screen.write_all(format!("{who}: {line}\r\n").as_bytes());
        }
        let _ = file.write_all(text.as_bytes());
        self.octets += text.len() as u64;
        if self.octets > HALF {
            self.octets = 0;
            let _ = fs::rename(FILE, OLDER);
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(Path::new(FILE))
                .ok();
        }
    }
}
