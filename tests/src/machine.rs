//! The appliance in QEMU as a person in front of it has it: power, the serial line with its rendered screen, the power
//! button. The machine is the one that `gatehouse-image run` starts, word for word, with a control socket beside it.
//! Used by the QEMU tests; as many exist as were started, and each ends with its value.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use image_builder::qemu::{self, CARDS, Config, Options};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab::{
    root,
    topology::{Names, inside},
};

/// The screen of the serial line.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
/// The question for the cursor's place (ECMA-48 DSR 6), which a terminal answers.
const QUESTION: &[u8] = b"\x1b[6n";
/// How a whole frame begins and ends.
const CLEAR: &[u8] = b"\x1b[2J";
const SHOW_CURSOR: &[u8] = b"\x1b[?25h";
/// Longest wait for the console to draw what a key changed. The machine is emulated, and so is its clock.
const DRAWN: Duration = Duration::from_secs(20);
/// A page without anything that could have the cursor is drawn when nothing more comes for so long.
const QUIET: Duration = Duration::from_millis(700);
/// Time for an answer at a door.
const KNOCK: Duration = Duration::from_millis(300);

/// Folder for disks, logs and captures of the tests.
#[must_use]
pub fn folder() -> PathBuf {
    root().join("target/qemu")
}

/// Folder with the finished image: `GH_IMAGE`, or `target/image`.
#[must_use]
pub fn image() -> PathBuf {
    std::env::var_os("GH_IMAGE").map_or_else(|| root().join("target/image"), PathBuf::from)
}

/// What the machine finds when it starts.
pub struct Start<'a> {
    /// Names disk, log and captures.
    pub name: &'a str,
    /// Without firmware and boot loader.
    pub direct: bool,
    /// Configuration and folder of secrets; `None`: the wizard comes up.
    pub config: Option<(&'a Path, &'a Path)>,
    /// With an empty disk.
    pub fresh: bool,
}

/// See the module.
pub struct Machine {
    process: Child,
    input: Arc<Mutex<ChildStdin>>,
    line: Arc<Line>,
    reader: Option<JoinHandle<()>>,
    control: BufReader<UnixStream>,
    sockets: TempDir,
    /// When it was switched on.
    pub started: Instant,
}

/// What came over the serial line.
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    raw: Vec<u8>,
    screen: vt100::Parser,
    last: Instant,
    ended: bool,
}

impl Machine {
    /// Switches a machine on, its cards on the cables in the gateway's namespace.
    ///
    /// # Errors
    /// There is no image, or QEMU does not start.
    pub fn start(names: &Names, start: &Start<'_>) -> io::Result<Self> {
        let state = folder().join(start.name);
        let options = Options {
            image: image(),
            direct: start.direct,
            config: start
                .config
                .map_or(Config::Wizard, |(file, _)| Config::File(file.to_owned())),
            secrets: start.config.map(|(_, secrets)| secrets.to_owned()),
            state: state.clone(),
            fresh: start.fresh,
            user_network: false,
        };
        qemu::prepare(&options, true).map_err(io::Error::other)?;
        // A socket's path has few characters, and a checkout may lie deep.
        let sockets = tempfile::tempdir()?;
        let socket = sockets.path().join("qmp");
        let mut command = in_namespace(&qemu::machine(&options, true), &names.gateway);
        command
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            // Tells how much memory the guest has left.
            .args(["-device", "virtio-balloon-pci,id=balloon"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(state.join("qemu.err"))?);
        let log = File::options()
            .create(true)
            .append(true)
            .open(state.join("serial.log"))?;
        let started = Instant::now();
        let mut process = command.spawn()?;
        let (Some(input), Some(mut output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("QEMU has no pipes"));
        };
        let input = Arc::new(Mutex::new(input));
        let line = Arc::new(Line {
            state: Mutex::new(State {
                raw: Vec::new(),
                screen: vt100::Parser::new(ROWS, COLUMNS, 0),
                last: started,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let (answers, lines) = (Arc::clone(&input), Arc::clone(&line));
        let reader = thread::spawn(move || read_line(&mut output, &answers, &lines, log));
        let control = match connect(&socket, &mut process) {
            Ok(control) => control,
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                let said = fs::read_to_string(state.join("qemu.err")).unwrap_or_default();
                return Err(io::Error::other(format!("{error}; {said}")));
            }
        };
        Ok(Self {
            process,
            input,
            line,
            reader: Some(reader),
            control,
            sockets,
            started,
        })
    }

    /// The rendered screen.
    #[must_use]
    pub fn screen(&self) -> String {
        lock(&self.line.state).screen.screen().contents()
    }

    /// Waits until the text has come over the line, seen or not.
    ///
    /// # Panics
    /// It does not come, or the machine ended.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str, patience: Duration) {
        let came = self.wait(patience, |state| {
            find(&state.raw, text.as_bytes()).is_some()
        });
        assert!(came, "`{text}` does not come:\n{}", self.screen());
    }

    /// Everything that came over the line, as text.
    #[must_use]
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&lock(&self.line.state).raw).into_owned()
    }

    /// Waits until the text is on the screen.
    ///
    /// # Panics
    /// It is not there in time, or the machine ended.
    #[track_caller]
    pub fn wait_for(&self, text: &str, patience: Duration) -> Duration {
        let seen = self.wait(patience, |state| {
            state.screen.screen().contents().contains(text)
        });
        assert!(
            seen,
            "`{text}` is not on the screen after {patience:?}:\n{}",
            self.screen()
        );
        self.started.elapsed()
    }

    /// Waits until `reached` holds of what came so far; false if the time is over or the machine ended before.
    fn wait(&self, patience: Duration, reached: impl Fn(&State) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.line.state);
        loop {
            if reached(&state) {
                return true;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            if state.ended {
                return false;
            }
            state = self
                .line
                .changed
                .wait_timeout(state, left.min(QUIET))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Types, without waiting for anything.
    ///
    /// # Panics
    /// The machine is gone.
    pub fn type_bytes(&self, bytes: &[u8]) {
        let mut input = lock(&self.input);
        input
            .write_all(bytes)
            .and_then(|()| input.flush())
            .unwrap_or_else(|error| panic!("{error}; the last screen:\n{}", self.screen()));
    }

    /// Types, then has the console draw the whole screen anew: what is seen afterwards is what all keys have done.
    ///
    /// # Panics
    /// The console does not draw.
    #[track_caller]
    pub fn keys(&self, keys: &str) -> &Self {
        self.type_bytes(keys.as_bytes());
        let before = lock(&self.line.state).raw.len();
        self.type_bytes(b"\x0c");
        let drawn = self.wait(DRAWN, |state| {
            let fresh = state.raw.get(before..).unwrap_or_default();
            let Some(begin) = find(fresh, CLEAR) else {
                return false;
            };
            let rest = fresh.get(begin..).unwrap_or_default();
            find(rest, SHOW_CURSOR).is_some() || state.last.elapsed() >= QUIET
        });
        assert!(drawn, "the console draws nothing:\n{}", self.screen());
        self
    }

    /// Presses Escape; the console waits a moment whether more follows.
    #[track_caller]
    pub fn escape(&self) -> &Self {
        let before = lock(&self.line.state).raw.len();
        self.type_bytes(b"\x1b");
        let _ = self.wait(Duration::from_secs(5), |state| state.raw.len() > before);
        self.keys("")
    }

    /// The text is on the screen.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn sees(&self, text: &str) -> &Self {
        self.wait_for(text, DRAWN);
        self
    }

    /// Tab until the cursor is on a line with this label.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn focus(&self, label: &str) -> &Self {
        for _ in 0..40 {
            if self.cursor_line(0).contains(label) {
                return self;
            }
            self.keys("\t");
        }
        panic!("no focus on `{label}`:\n{}", self.screen());
    }

    /// Replaces what is in the field of that label.
    #[track_caller]
    pub fn fill(&self, label: &str, value: &str) -> &Self {
        self.focus(label);
        self.keys(&format!("\x15{value}"))
    }

    /// Presses the button or the entry that begins so.
    #[track_caller]
    pub fn press(&self, label: &str) -> &Self {
        self.reach(label);
        self.keys("\r")
    }

    /// Presses what ends the machine: nothing is drawn behind it.
    #[track_caller]
    pub fn press_last(&self, label: &str) {
        self.reach(label);
        self.type_bytes(b"\r");
    }

    /// Tab until the cursor is on the button or entry.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    fn reach(&self, label: &str) {
        for _ in 0..40 {
            let line = self.cursor_line(1);
            if line.starts_with(&format!("[ {label}")) || line.starts_with(label) {
                return;
            }
            self.keys("\t");
        }
        panic!("no button `{label}`:\n{}", self.screen());
    }

    /// Chooses with the right arrow until the option shows.
    ///
    /// # Panics
    /// There is no such option.
    #[track_caller]
    pub fn choose(&self, label: &str, option: &str) -> &Self {
        self.focus(label);
        for _ in 0..20 {
            if self.cursor_line(0).contains(&format!("< {option}")) {
                return self;
            }
            self.keys("\x1b[C");
        }
        panic!("`{label}` has no option `{option}`:\n{}", self.screen());
    }

    /// The line of the cursor: whole, or (1) from the cursor on.
    fn cursor_line(&self, from_cursor: u16) -> String {
        let state = lock(&self.line.state);
        let screen = state.screen.screen();
        let (row, column) = screen.cursor_position();
        let line = screen
            .rows(0, COLUMNS)
            .nth(usize::from(row))
            .unwrap_or_default();
        line.chars()
            .skip(usize::from(column * from_cursor))
            .collect()
    }

    /// Presses the power button (ACPI).
    ///
    /// # Panics
    /// QEMU does not listen.
    pub fn power_button(&mut self) {
        self.ask(&json!({ "execute": "system_powerdown" }));
    }

    /// Memory of the guest in MiB: all that its kernel has, and what it could give to a new process.
    ///
    /// # Panics
    /// The guest does not tell.
    pub fn memory_mib(&mut self) -> (u64, u64) {
        let interval = json!({
            "path": "/machine/peripheral/balloon",
            "property": "guest-stats-polling-interval",
            "value": 1
        });
        self.ask(&json!({ "execute": "qom-set", "arguments": interval }));
        let mut memory = (0, 0);
        let told = crate::api::eventually(Duration::from_secs(30), || {
            let question = json!({
                "execute": "qom-get",
                "arguments": { "path": "/machine/peripheral/balloon", "property": "guest-stats" }
            });
            let stats = self.ask(&question)["stats"].clone();
            let mib = |name: &str| stats[name].as_u64().unwrap_or(u64::MAX) >> 20;
            memory = (mib("stat-total-memory"), mib("stat-available-memory"));
            // All ones: not told yet.
            memory.0 > 0 && memory.0 < u64::MAX >> 20 && memory.1 < u64::MAX >> 20
        });
        assert!(told, "the guest does not tell its memory");
        memory
    }

    /// Time of a processor that QEMU has used so far, with everything that it does for the guest.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        // proc_pid_stat(5): utime and stime are the fields 14 and 15, in hundredths of a second; the name in brackets may
        // hold blanks.
        let ticks: u64 = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Asks QEMU, and gives what it returns.
    fn ask(&mut self, question: &Value) -> Value {
        let failed = |error: io::Error| -> Value { panic!("QEMU does not listen: {error}") };
        if let Err(error) = self
            .control
            .get_mut()
            .write_all(format!("{question}\n").as_bytes())
        {
            return failed(error);
        }
        loop {
            let mut answer = String::new();
            match self.control.read_line(&mut answer) {
                Ok(0) => return failed(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return failed(error),
                Ok(_) => {}
            }
            let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
            assert!(answer.get("error").is_none(), "{question}: {answer}");
            // Events come in between.
            if let Some(value) = answer.get("return") {
                return value.clone();
            }
        }
    }

    /// Pulls the plug: nothing is written any more that the machine had not written.
    pub fn cut_power(mut self) {
        let _ = self.process.kill();
    }

    /// Waits for the machine to switch itself off.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait_until_off(mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.line.state);
        while !state.ended {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                panic!(
                    "still on after {patience:?}:\n{}",
                    state.screen.screen().contents()
                );
            };
            state = self
                .line
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(state);
        self.process
            .wait()
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let _ = fs::remove_file(self.sockets.path().join("qmp"));
    }
}

/// The laboratory's configuration with the machine's cards in place of the laboratory's links, written to the folder of the
/// tests.
///
/// # Errors
/// Those of the file system.
pub fn configuration(name: &str, change: impl FnOnce(String) -> String) -> io::Result<PathBuf> {
    let mut text = fs::read_to_string(crate::lab::product::configuration())?;
    for card in &CARDS {
        text = text.replace(
            &format!("name = \"{}0\"", card.zone),
            &format!("mac = \"{}\"", card.mac),
        );
    }
    let folder = folder().join("config");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, change(text))?;
    Ok(path)
}

/// The secrets that go with [`configuration`], one file each.
///
/// # Errors
/// Those of the file system and of the certificates.
pub fn secrets() -> io::Result<PathBuf> {
    crate::lab::product::write_secrets(&folder())
}

/// Whether the machine answers at SIP outside and inside and at management.
#[must_use]
pub fn doors_are_open(names: &Names) -> bool {
    let doors = [
        (&names.external, ([198, 51, 100, 1], 5060)),
        (&names.internal, ([192, 0, 2, 1], 5060)),
        (&names.management, ([203, 0, 113, 1], 8443)),
    ];
    doors.into_iter().all(|(namespace, door)| {
        let address = SocketAddr::from(door);
        inside(namespace, || {
            TcpStream::connect_timeout(&address, KNOCK).is_ok()
        })
        .unwrap_or(false)
    })
}

/// The same call in the namespace of that name.
fn in_namespace(shipped: &Command, namespace: &str) -> Command {
    let mut command = Command::new(shipped.get_program());
    let words = shipped.get_args().map(|word| {
        if word == image_builder::cables::GATEWAY_NAMESPACE {
            namespace.as_ref()
        } else {
            word
        }
    });
    command.args(words).env("LC_ALL", "C");
    command
}

/// QEMU makes its socket before it runs the machine.
fn connect(socket: &Path, process: &mut Child) -> io::Result<BufReader<UnixStream>> {
    let mut reached = None;
    let there = crate::api::eventually(Duration::from_secs(20), || {
        reached = UnixStream::connect(socket).ok();
        reached.is_some() || matches!(process.try_wait(), Ok(Some(_)))
    });
    let Some(control) = reached.filter(|_| there) else {
        return Err(io::Error::other("QEMU does not start"));
    };
    let mut control = BufReader::new(control);
    let mut line = String::new();
    control.read_line(&mut line)?;
    control
        .get_mut()
        .write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
    control.read_line(&mut line)?;
    Ok(control)
}

/// Keeps what comes, renders it, answers the question for the size as a terminal does.
fn read_line(output: &mut impl io::Read, input: &Mutex<ChildStdin>, line: &Line, mut log: File) {
    let mut bytes = [0; 4_096];
    let mut answered = 0;
    loop {
        let length = output.read(&mut bytes).unwrap_or(0);
        let fresh = bytes.get(..length).unwrap_or_default();
        let _ = log.write_all(fresh);
        let mut state = lock(&line.state);
        state.raw.extend_from_slice(fresh);
        state.screen.process(fresh);
        state.last = Instant::now();
        state.ended = length == 0;
        let mut questions = 0;
        while let Some(at) = find(state.raw.get(answered..).unwrap_or_default(), QUESTION) {
            answered += at + QUESTION.len();
            questions += 1;
        }
        drop(state);
        line.changed.notify_all();
        if length == 0 {
            return;
        }
        for _ in 0..questions {
            let _ = lock(input).write_all(format!("\x1b[{ROWS};{COLUMNS}R").as_bytes());
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
