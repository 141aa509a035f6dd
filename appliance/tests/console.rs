//! The console as init starts it: in its sandbox, with a pseudo terminal in place of the serial line. Shows that what it
//! needs of the system is allowed there, and that what a person types comes out as a proposal.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use broker_proto::{
    MAX_MESSAGE,
    control::{Command, FromChild, ToChild},
    decode, encode,
};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, poll},
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::termios::{LocalFlags, tcgetattr},
    unistd::{geteuid, read, write},
};
use sandbox::{Child, Launch, Profile, channel::Channel};

/// What init says of the certificate that it has made.
const FINGERPRINT: &str = "73:AD:15:34:BD:B4:B5:23:79:19:52:59:EC:D2:3D:BA:E1:AB:4F:0D:30:C3:17:30:DB:E2:C7:77:84:A9:7E:F4";

const PATIENCE: Duration = Duration::from_secs(20);

/// Init, and the person at the terminal.
struct Bench {
    child: Child,
    control: Channel,
    master: nix::pty::PtyMaster,
    slave: File,
    emulator: vt100::Parser,
    messages: Vec<FromChild>,
    log: File,
}

impl Bench {
    fn start() -> io::Result<Self> {
        let profile = Profile::for_role("console").expect("profile");
        let program = File::open(env!("CARGO_BIN_EXE_gatehouse-console"))?;
        let (control, far) = Channel::pair()?;
        let (log, log_writer) = nix::unistd::pipe()?;
        let child = sandbox::launch(Launch {
            program: program.as_fd(),
            name: "console-test",
            profile: &profile,
            control: OwnedFd::from(far),
            stderr: log_writer,
            directory: None,
        })?;
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = nix::fcntl::open(
            ptsname_r(&master)?.as_str(),
            OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK,
            nix::sys::stat::Mode::empty(),
        )?;
        let bench = Self {
            child,
            control,
            master,
            slave: File::from(slave),
            emulator: vt100::Parser::new(24, 80, 0),
            messages: Vec::new(),
            log: File::from(log),
        };
        bench.tell(
            &ToChild::File {
                name: "console:pts".into(),
            },
            true,
        )?;
        bench.tell(
            &ToChild::Configuration {
                revision: 0,
                document: String::new(),
            },
            false,
        )?;
        Ok(bench)
    }

    fn tell(&self, message: &ToChild, with_terminal: bool) -> io::Result<()> {
        let bytes = encode(message).map_err(io::Error::other)?;
        let fds = [self.slave.as_fd()];
        self.control
            .send(&bytes, if with_terminal { &fds } else { &[] })
    }

    /// Takes what comes from both sides until `done`, answering as terminal and init do.
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < end,
                "{what}: not within {PATIENCE:?}\n{}\nlog: {}",
                self.screen(),
                self.log()
            );
            let mut fds = [
                PollFd::new(self.master.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, 100_u16).expect("poll");
            self.take_output();
            self.take_messages();
        }
    }

    fn take_output(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(octets @ 1..) = read(&self.master, &mut bytes) {
            let some = bytes.get(..octets).unwrap_or_default();
            self.emulator.process(some);
            if some.ends_with(b"\x1b[6n") {
                self.keys("\x1b[24;80R");
            }
        }
    }

    fn take_messages(&mut self) {
        let mut buffer = vec![0; MAX_MESSAGE];
        while let Ok(received) = self.control.recv(&mut buffer) {
            match decode::<FromChild>(buffer.get(..received.length).unwrap_or_default())
                .expect("message")
            {
                FromChild::Command {
                    id,
                    command: Command::Ports,
                } => {
                    let ports = "eth0 52:54:00:00:00:01 virtio_net up\neth1 52:54:00:00:00:02 virtio_net up\neth2 52:54:00:00:00:03 virtio_net up";
                    self.tell(
                        &ToChild::Answer {
                            id,
                            result: Ok(ports.into()),
                        },
                        false,
                    )
                    .expect("sent");
                }
                FromChild::Prepare { id, .. } => {
                    self.tell(
                        &ToChild::Answer {
                            id,
                            result: Ok(FINGERPRINT.into()),
                        },
                        false,
                    )
                    .expect("sent");
                }
                message => self.messages.push(message),
            }
        }
    }

    fn keys(&self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written = write(&self.master, rest).expect("terminal takes keys");
            rest = rest.get(written..).unwrap_or_default();
        }
    }

    fn screen(&self) -> String {
        self.emulator.screen().contents()
    }

    fn sees(&mut self, text: &str) {
        self.until(text, |bench| bench.screen().contains(text));
    }

    fn log(&self) -> String {
        nix::fcntl::fcntl(&self.log, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .expect("fcntl");
        let mut text = [0; 4096];
        let octets = read(&self.log, &mut text).unwrap_or(0);
        String::from_utf8_lossy(text.get(..octets).unwrap_or_default()).into_owned()
    }
}

#[test]
fn in_its_sandbox_the_console_serves_a_terminal_and_proposes_what_was_typed() {
    if !geteuid().is_root() {
        println!("skipped: a sandbox is made by root");
        return;
    }
    let mut bench = Bench::start().expect("started");
    bench.until("ready", |bench| bench.messages.contains(&FromChild::Ready));
    bench.sees("Language");
    let settings = tcgetattr(&bench.slave).expect("settings");
    assert!(
        !settings
            .local_flags
            .intersects(LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::ICANON),
        "raw"
    );
    // Page after page; Enter leaves a field for the next, and presses the button at the end.
    let pages = [
        ("1/11", "\r\r"),
        ("2/11", "\x15gate\t\t\r"),
        (
            "3/11",
            "\x1b[C\t\t\x1b[C\x1b[C\t\t\x1b[C\x1b[C\x1b[C\t\t\t\r",
        ),
        ("4/11", "\t198.51.100.1/24\t198.51.100.254\t\t\t\r"),
        ("5/11", "\t192.0.2.1/24\t\t\t\t\r"),
        ("6/11", "\t203.0.113.1/24\t\t\t\t\r"),
        ("7/11", "\t\t\t\r"),
        ("8/11", "0123456789ab\t0123456789ab\t\t\r"),
        ("9/11", "example.org\t192.0.2.10\t\t100-199\t\t\t\r"),
        ("10/11", "\t\t\t\t\t\t\t\r"),
    ];
    for (progress, keys) in pages {
        bench.sees(progress);
        bench.keys(keys);
    }
    bench.sees("Please read");
    bench.sees("[ Confirm: put");
    bench.keys("\t\r");
    bench.until("proposal", |bench| {
        bench
            .messages
            .iter()
            .any(|message| matches!(message, FromChild::Propose { .. }))
    });
    let document = bench.messages.iter().find_map(|message| match message {
        FromChild::Propose { document, .. } => Some(document.clone()),
        _ => None,
    });
    let document =
        appliance_config::Document::parse(&document.expect("proposed"), "proposed").expect("valid");
    assert_eq!(document.host.name, "gate");
    // The end: told to stop, it goes, and was never killed for a system call.
    bench.tell(&ToChild::Stop, false).expect("sent");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(bench.child.pid).expect("pid"));
    let status = nix::sys::wait::waitpid(pid, None).expect("ended");
    assert_eq!(
        status,
        nix::sys::wait::WaitStatus::Exited(pid, 0),
        "{}",
        bench.log()
    );
}
