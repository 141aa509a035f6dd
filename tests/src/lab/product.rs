//! The product in the laboratory: init's supervisor with all processes, in the gateway's namespace (lab contract §6).

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{
    pki, root, state,
    topology::{self, Names, inside},
};

/// The API token of the lab contract.
pub const API_TOKEN: &str = "lab-token-0123456789abcdef0123456789abcdef";
/// Longest time from start to ready.
const START_TIME: Duration = Duration::from_secs(15);
/// Longest time for an orderly stop.
const STOP_TIME: Duration = Duration::from_secs(10);
/// Time between two looks at the product's state.
const LOOK: Duration = Duration::from_millis(50);

/// Where the executables lie: `GH_BIN`, or next to the running one (a test's own lies one folder deeper).
#[must_use]
pub fn executables() -> PathBuf {
    if let Some(folder) = std::env::var_os("GH_BIN") {
        return folder.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new(".")).to_owned();
    if folder.ends_with("deps") {
        folder.parent().unwrap_or(Path::new(".")).to_owned()
    } else {
        folder
    }
}

/// Starts the product and waits until every port of the configuration answers.
///
/// # Errors
/// A sentence that says what did not come up.
pub fn start(names: &Names, configuration: &Path) -> io::Result<()> {
    if pid().is_some_and(is_alive) {
        return Err(io::Error::other(
            "the laboratory is already up (make lab-down ends it)",
        ));
    }
    let state = state();
    let secrets = write_secrets(&state)?;
    let _ = fs::remove_file(state.join("status.json"));
    let log = File::create(state.join("gatehouse.log"))?;
    let bin = executables();
    // Not `ip netns exec`: that would hide the control groups behind a file system of its own.
    let child = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", names.gateway))
        .arg("--")
        .arg(bin.join("gatehouse-init"))
        .arg("--lab")
        .arg("--config")
        .arg(configuration)
        .arg("--state")
        .arg(&state)
        .arg("--secrets")
        .arg(&secrets)
        .arg("--bin")
        .arg(&bin)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    // `nsenter` becomes the program, so this is init's own pid.
    fs::write(state.join("init.pid"), child.id().to_string())?;
    wait_until_ready(names, child)
}

fn wait_until_ready(names: &Names, mut child: std::process::Child) -> io::Result<()> {
    let deadline = Instant::now() + START_TIME;
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!(
                "init ended with {status}; see {}",
                state().join("gatehouse.log").display()
            )));
        }
        if is_ready() && answers(names) {
            return Ok(());
        }
        if Instant::now() > deadline {
            stop();
            let log = state().join("gatehouse.log");
            return Err(io::Error::other(format!(
                "not ready after {START_TIME:?}; see {}",
                log.display()
            )));
        }
        thread::sleep(LOOK);
    }
}

/// What init last wrote about itself.
#[must_use]
pub fn status() -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(state().join("status.json")).ok()?).ok()
}

fn is_ready() -> bool {
    status().is_some_and(|status| {
        status
            .get("ready")
            .and_then(Value::as_bool)
            .unwrap_or(false)
    })
}

/// Whether the TCP ports of the contract accept a connection. (UDP ports are silent to strangers.)
fn answers(names: &Names) -> bool {
    let ports = [
        (&names.external, "198.51.100.1:5060"),
        (&names.external, "[2001:db8:e::1]:5060"),
        (&names.external, "198.51.100.1:5061"),
        (&names.external, "[2001:db8:e::1]:5061"),
        (&names.external, "198.51.100.1:443"),
        (&names.external, "[2001:db8:e::1]:443"),
        (&names.internal, "192.0.2.1:5060"),
        (&names.internal, "[2001:db8:1::1]:5060"),
        (&names.management, "203.0.113.1:8443"),
        (&names.management, "[2001:db8:2::1]:8443"),
    ];
    ports.into_iter().all(|(namespace, address)| {
        let address: Option<SocketAddr> = address.parse().ok();
        let connected = address.map(|address| {
            inside(namespace, move || {
                TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
            })
        });
        matches!(connected, Some(Ok(true)))
    })
}

/// Stops the product in an orderly way, by force after [`STOP_TIME`].
pub fn stop() {
    let Some(pid) = pid() else { return };
    for (signal, patience) in [(Signal::SIGTERM, STOP_TIME), (Signal::SIGKILL, STOP_TIME)] {
        if !is_alive(pid) || kill(Pid::from_raw(pid), signal).is_err() {
            break;
        }
        let deadline = Instant::now() + patience;
        while is_alive(pid) && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
    }
    let _ = fs::remove_file(state().join("init.pid"));
    let _ = fs::remove_file(state().join("status.json"));
    let _ = fs::remove_dir_all(state().join("secrets"));
}

/// Init's pid, if the laboratory was started.
#[must_use]
pub fn pid() -> Option<i32> {
    fs::read_to_string(state().join("init.pid"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Whether the process runs and is ours: a pid may have been given to another since.
fn is_alive(pid: i32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.contains("(gatehouse-init)") && !state.contains(") Z ")
}

/// Process id of one of the product's processes.
#[must_use]
pub fn pid_of(process: &str) -> Option<i32> {
    let status = status()?;
    let processes = status.get("processes")?.as_array()?.clone();
    let entry = processes
        .into_iter()
        .find(|entry| entry.get("name").and_then(Value::as_str) == Some(process))?;
    i32::try_from(entry.get("pid")?.as_i64()?)
        .ok()
        .filter(|pid| *pid > 0)
}

/// Removes everything: product, peers, namespaces.
pub fn down() {
    stop();
    super::peers::stop_all();
    topology::down();
}

/// The configuration of the laboratory.
#[must_use]
pub fn configuration() -> PathBuf {
    root().join("tests/lab/gatehouse.toml")
}

/// Writes the secrets of the laboratory's configuration into a folder below `state`, one file each.
///
/// # Errors
/// Those of the file system and of the certificates.
pub fn write_secrets(state: &Path) -> io::Result<PathBuf> {
    let pki = pki::ensure()?;
    let folder = state.join("secrets");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    for (name, file) in [("management", "mgmt"), ("sip", "sbc")] {
        let certificate = fs::read_to_string(pki.join(format!("{file}.pem")))?;
        let key = fs::read_to_string(pki.join(format!("{file}.key")))?;
        fs::write(folder.join(name), certificate + &key)?;
    }
    fs::copy(pki.join("ca.pem"), folder.join("lab-ca"))?;
    let token = std::env::var("GH_API_TOKEN").unwrap_or_else(|_| API_TOKEN.into());
    fs::write(folder.join("api-token"), token)?;
    fs::write(folder.join("trunk2"), "trunk2-Pw-2000")?;
    Ok(folder)
}
