//! The peers of the SIP bench: Kamailio as a stateful proxy that stays in the path, and Sippy's B2BUA, which like ours has
//! two legs. Kamailio is a Debian package; Sippy comes from the Python package index, once, into a folder of its own.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::sip::{CALLEE, OUTSIDE, SIP};

const PATIENCE: Duration = Duration::from_secs(10);
/// What was measured when this was written.
const SIPPY: &str = "sippy==2.5.0";

/// The peer: a stateful proxy that stays in the path, and nothing else.
pub(super) struct Kamailio(Child);

impl Kamailio {
    pub(super) fn start(folder: &TempDir) -> io::Result<Self> {
        let configuration = folder.path().join("kamailio.cfg");
        fs::write(&configuration, kamailio_configuration()?)?;
        let child = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "512", "-M", "32"])
            .arg("-Y")
            .arg(folder.path())
            .arg("-f")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let kamailio = Self(child);
        wait_for_port(OUTSIDE)?;
        Ok(kamailio)
    }
}

impl Kamailio {
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        // It ends its children on SIGTERM; one that is gone already is what we want.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn kamailio_configuration() -> io::Result<String> {
    let children = available_parallelism()?.get();
    Ok(format!(
        r#"#!KAMAILIO
debug=0
log_stderror=yes
children={children}
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
listen=udp:{OUTSIDE}:{SIP}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    # sipp's own scenario names the proxy, not the callee's contact, inside the dialog.
    if (has_totag()) {{ loose_route(); }} else if (is_method("INVITE")) {{ record_route(); }}
    $du = "sip:{CALLEE}:{SIP}";
    t_relay();
}}
"#
    ))
}

/// Sippy's simple B2BUA: signalling alone.
pub(super) struct Sippy(Child);

impl Sippy {
    pub(super) fn start(folder: &TempDir, program: &Path) -> io::Result<Self> {
        let child = Command::new(program)
            .args(["-f", "-l", &OUTSIDE.to_string(), "-p", &SIP.to_string()])
            .args(["-n", &format!("{CALLEE}:{SIP}")])
            .env("SIPLOG_BEND", "none")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let sippy = Self(child);
        wait_for_port(OUTSIDE)?;
        Ok(sippy)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sippy {
    fn drop(&mut self) {
        // One that is gone already is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sippy's program, installed into `target/bench` where it is missing. To be called while there is a network.
///
/// # Errors
/// Without Python, its package index, or room.
pub fn install_sippy() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).ok_or(io::ErrorKind::NotFound)?;
    let folder = target.join("bench/sippy");
    let program = folder.join("bin/b2bua_simple");
    if !program.exists() {
        fs::create_dir_all(&folder)?;
        let run = |command: &mut Command| match command.stdout(Stdio::null()).status()? {
            status if status.success() => Ok(()),
            status => Err(io::Error::other(format!("{command:?}: {status}"))),
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(folder.join("bin/pip")).args(["install", "-q", SIPPY]))?;
    }
    Ok(program)
}

/// Waits until somebody is bound to an address's SIP port.
pub(super) fn wait_for_port(ip: Ipv4Addr) -> io::Result<()> {
    let wanted = format!("{:08X}:{SIP:04X}", u32::from_le_bytes(ip.octets()));
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(Path::new("/proc/net/udp"))?.contains(&wanted) {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("nobody listens on {ip}:{SIP}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
