//! Real peers of the laboratory: Kamailio as the PBX and registrar with the accounts of lab contract §3, and baresip as
//! telephones. Started on request (`make lab-peers`, and by the end-to-end tests); the product brings none of them.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    state,
    topology::{Names, command},
};

/// How long a peer may take to end.
const STOP: Duration = Duration::from_secs(5);

/// A telephone of the laboratory.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// Number and digest user.
    pub number: &'static str,
    /// Digest password.
    pub password: &'static str,
}

/// Accounts of lab contract §3, by their names there: alice, bob, carol, room.
pub const ACCOUNTS: [Account; 4] = [
    Account {
        number: "1001",
        password: "alice-Pw-1001",
    },
    Account {
        number: "1002",
        password: "bob-Pw-1002",
    },
    Account {
        number: "1003",
        password: "carol-Pw-1003",
    },
    Account {
        number: "1100",
        password: "room-Pw-1100",
    },
];

/// Numbers for telephones of the interworking tests, one for each transport and family.
pub const TELEPHONES: [Account; 6] = [
    telephone("1101"),
    telephone("1102"),
    telephone("1103"),
    telephone("1104"),
    telephone("1105"),
    telephone("1106"),
];

const fn telephone(number: &'static str) -> Account {
    Account {
        number,
        password: "telephone-Pw-11",
    }
}

/// Starts Kamailio at the PBX's addresses, and waits until it answers.
///
/// # Errors
/// It cannot be started or does not come up.
pub fn start_pbx(names: &Names) -> io::Result<()> {
    start_kamailio(names, &[])
}

/// The same with rtpengine, which takes the media of calls that go back to the product.
///
/// # Errors
/// One of the two cannot be started or does not come up.
pub fn start_pbx_with_media(names: &Names) -> io::Result<()> {
    let folder = state().join("rtpengine");
    fs::create_dir_all(&folder)?;
    let log = fs::File::create(folder.join("rtpengine.log"))?;
    let child = command(&names.internal, "rtpengine")
        .args([
            "--foreground",
            "--log-stderr",
            "--table=-1",
            "--interface=192.0.2.10",
        ])
        .args([
            "--listen-ng=127.0.0.1:2223",
            "--port-min=40000",
            "--port-max=40400",
        ])
        .current_dir(&folder)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    remember("rtpengine", &child)?;
    start_kamailio(names, &["-A", "ANCHOR"])
}

fn start_kamailio(names: &Names, options: &[&str]) -> io::Result<()> {
    if pid_of("kamailio").is_some() {
        return Ok(());
    }
    let folder = state().join("kamailio");
    fs::create_dir_all(&folder)?;
    let configuration = folder.join("kamailio.cfg");
    fs::write(&configuration, pbx_configuration())?;
    let log = fs::File::create(folder.join("kamailio.log"))?;
    let child = command(&names.internal, "kamailio")
        .args(["-DD", "-E", "-m", "64", "-M", "8", "-f"])
        .arg(&configuration)
        .arg("-Y")
        .arg(&folder)
        .args(options)
        .process_group(0)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    remember("kamailio", &child)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let listening = super::run(
            "ip",
            &[
                "netns",
                "exec",
                &names.internal,
                "ss",
                "-Huln",
                "sport",
                "=",
                ":5060",
            ],
        );
        if listening.is_ok_and(|lines| lines.contains("192.0.2.10:5060")) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(io::Error::other(format!(
        "kamailio does not answer; see {}",
        folder.join("kamailio.log").display()
    )))
}

/// Registrar with digest authentication for the accounts, relay of calls between bindings, everything else back to the
/// product (as a PBX sends outward calls to its SBC).
fn pbx_configuration() -> String {
    let passwords: String = ACCOUNTS
        .iter()
        .chain(&TELEPHONES)
        .map(|account| {
            let Account { number, password } = account;
            format!("    if ($au == \"{number}\") {{ $var(password) = \"{password}\"; }}\n")
        })
        .collect();
    include_str!("kamailio.cfg").replace("    # PASSWORDS\n", &passwords)
}

/// Starts baresip as `account` in `namespace` with the given source address, registered at `registrar`. It answers every
/// call by itself and plays a tone of `tone_hz`; what it hears is written to `<state>/baresip-<number>/`.
///
/// # Errors
/// It cannot be started.
pub fn start_phone(
    namespace: &str,
    account: Account,
    address: &str,
    registrar: &str,
    tone_hz: u32,
) -> io::Result<PathBuf> {
    let name = format!("baresip-{}", account.number);
    let folder = state().join(&name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("config"), phone_configuration(&folder, address))?;
    let Account { number, password } = account;
    fs::write(
        folder.join("accounts"),
        format!(
            "<sip:{number}@lab.test;transport=udp>;auth_user={number};auth_pass={password};outbound=\"sip:{registrar};transport=udp\";regint=300;answermode=auto;audio_codecs=pcma,pcmu;ptime=20\n"
        ),
    )?;
    fs::write(folder.join("contacts"), "")?;
    super::run(
        "sox",
        &[
            "-n",
            "-r",
            "8000",
            "-c",
            "1",
            "-b",
            "16",
            &folder.join("tone.wav").display().to_string(),
            "synth",
            "60",
            "sine",
            &tone_hz.to_string(),
            "vol",
            "0.5",
        ],
    )?;
    let log = fs::File::create(folder.join("baresip.log"))?;
    let child = command(namespace, "baresip")
        .arg("-f")
        .arg(&folder)
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    remember(&name, &child)?;
    Ok(folder)
}

fn phone_configuration(folder: &Path, address: &str) -> String {
    let folder = folder.display();
    format!(
        "sip_listen {address}:5070\n\
         audio_player aubridge,heard\n\
         audio_source aufile,{folder}/tone.wav\n\
         audio_alert aufile,/dev/null\n\
         ausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\n\
         module_path /usr/lib/baresip/modules\n\
         module g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule sndfile.so\nmodule stdio.so\nmodule ctrl_tcp.so\n\
         module_app account.so\nmodule_app menu.so\n\
         ctrl_tcp_listen {address}:4444\n\
         snd_path {folder}\n\
         rtp_ports 20000-20100\n"
    )
}

/// Ends every peer that was started from here.
pub fn stop_all() {
    let Ok(entries) = fs::read_dir(state()) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(peer) = name.to_str().and_then(|name| name.strip_suffix(".peer")) else {
            continue;
        };
        stop(peer);
    }
}

/// Ends one peer.
pub fn stop(peer: &str) {
    if let Some(pid) = pid_of(peer) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let deadline = Instant::now() + STOP;
        while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < deadline {
            let _ = nix::sys::wait::waitpid(
                Pid::from_raw(pid),
                Some(nix::sys::wait::WaitPidFlag::WNOHANG),
            );
            thread::sleep(Duration::from_millis(20));
        }
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        // Its children hold its ports as long as they live: the group, where it leads one.
        let group = Pid::from_raw(-pid);
        while kill(group, Signal::SIGKILL).is_ok() && Instant::now() < deadline + STOP {
            thread::sleep(Duration::from_millis(20));
        }
    }
    let _ = fs::remove_file(peer_file(peer));
}

fn remember(peer: &str, child: &Child) -> io::Result<()> {
    fs::write(peer_file(peer), child.id().to_string())
}

/// Pid of a peer that still runs.
fn pid_of(peer: &str) -> Option<i32> {
    let pid: i32 = fs::read_to_string(peer_file(peer))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let program = peer.split('-').next().unwrap_or(peer);
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .ok()?
        .starts_with(program)
        .then_some(pid)
}

fn peer_file(peer: &str) -> PathBuf {
    state().join(format!("{peer}.peer"))
}
