//! Starts the image in QEMU for `make run` and for tests: with the laboratory's taps where the namespace `gh-gw` exists,
//! with user networking and forwarded ports otherwise. Called by `gatehouse-image run`.
//!
//! Either way the guest's three cards are external, internal, management, in this order, and the guest's addresses are
//! those of the laboratory: one demonstration configuration serves both.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cables::{self, Namespaces};
use crate::process::{attached, command, run};
use crate::{Error, Result, make_folder, write};

/// Name under which the guest looks for its configuration among the firmware's files.
pub const CONFIG_NAME: &str = "opt/org.gatehouse/config";
/// Beginning of the names under which it looks for the secrets that go with it.
pub const SECRETS_NAME: &str = "opt/org.gatehouse/secrets";

/// Memory of the guest in MiB.
const MEMORY_MIB: u32 = 512;

/// UEFI firmware of package ovmf.
pub const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_SETTINGS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// One network card of the guest.
#[derive(Debug)]
pub struct Card {
    /// Short name of its zone, as in the laboratory's names.
    pub zone: &'static str,
    /// Hardware address; the configuration names the card by it.
    pub mac: &'static str,
    /// The laboratory's end of the cable in `gh-gw`.
    pub(crate) veth: &'static str,
    network: &'static str,
    host: &'static str,
    guest: &'static str,
    /// Forwarded with user networking: protocol, port on loopback, port in the guest.
    forwards: &'static [(&'static str, u16, u16)],
}

/// The three cards, external first.
pub const CARDS: [Card; 3] = [
    Card {
        zone: "ext",
        mac: "52:54:00:67:68:01",
        veth: "ext0",
        network: "198.51.100.0/24",
        host: "198.51.100.254",
        guest: "198.51.100.1",
        forwards: &[
            ("udp", 5060, 5060),
            ("tcp", 5060, 5060),
            ("tcp", 5061, 5061),
            ("tcp", 8444, 443),
        ],
    },
    Card {
        zone: "int",
        mac: "52:54:00:67:68:02",
        veth: "int0",
        network: "192.0.2.0/24",
        host: "192.0.2.254",
        guest: "192.0.2.1",
        forwards: &[],
    },
    Card {
        zone: "mgmt",
        mac: "52:54:00:67:68:03",
        veth: "mgmt0",
        network: "203.0.113.0/24",
        host: "203.0.113.254",
        guest: "203.0.113.1",
        forwards: &[("tcp", 8443, 8443)],
    },
];

/// The configuration that the guest finds at its first start.
#[derive(Debug)]
pub enum Config {
    /// The demonstration of the network that is used.
    Demonstration,
    /// This file.
    File(PathBuf),
    /// None: the guest's setup wizard comes up.
    Wizard,
}

/// Demonstration in the laboratory's network.
pub const LABORATORY: &str = include_str!("../demo/laboratory.toml");
/// Demonstration with user networking.
pub const USER_NETWORK: &str = include_str!("../demo/user_network.toml");
/// The demonstration's secrets, which everybody knows: name, content.
const SECRETS: [(&str, &str); 2] = [
    ("api-token", "lab-token-0123456789abcdef0123456789abcdef"),
    ("operator", "only-a-demonstration"),
];
/// Scenario files of the demonstration call with user networking: name, content.
const SCENARIOS: [(&str, &str); 2] = [
    ("caller.xml", include_str!("../demo/caller.xml")),
    ("pbx.xml", include_str!("../demo/pbx.xml")),
];

/// How to start.
#[derive(Debug)]
pub struct Options {
    /// Folder with a finished build.
    pub image: PathBuf,
    /// Kernel and initial file system without firmware and boot loader: four seconds earlier.
    pub direct: bool,
    /// What the guest is told.
    pub config: Config,
    /// Folder with one file for each secret that goes with [`Config::File`].
    pub secrets: Option<PathBuf>,
    /// Where the guest's own copy of the disk and the firmware's settings stay; made afresh if absent.
    pub state: PathBuf,
    /// Throw the guest's earlier state away.
    pub fresh: bool,
    /// User networking even where the laboratory exists.
    pub user_network: bool,
}

/// Starts the guest with its serial console on standard output and waits for its end.
pub fn start(options: &Options) -> Result<()> {
    let names = Namespaces::default();
    let laboratory = (!options.user_network && cables::exist(&names)).then_some(&names);
    prepare(options, laboratory.is_some())?;
    if let Some(names) = laboratory {
        cables::join(&names.gateway)?;
    }
    print!("{}", introduction(options, laboratory));
    let ended = attached(&mut machine(options, laboratory.is_some()));
    if let Some(names) = laboratory {
        cables::leave(&names.gateway);
    }
    ended
}

/// The whole QEMU call.
pub fn machine(options: &Options, laboratory: bool) -> Command {
    let mut machine = if laboratory {
        let mut inside = command("ip");
        inside.args([
            "netns",
            "exec",
            &Namespaces::default().gateway,
            "qemu-system-x86_64",
        ]);
        inside
    } else {
        command("qemu-system-x86_64")
    };
    machine.args([
        "-machine",
        "q35",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        &MEMORY_MIB.to_string(),
    ]);
    machine.args(["-display", "none", "-nodefaults", "-no-user-config"]);
    // Ctrl-C goes to the guest; Ctrl-A X ends QEMU.
    machine.args([
        "-chardev",
        "stdio,id=serial,mux=on,signal=off",
        "-serial",
        "chardev:serial",
        "-mon",
        "chardev=serial",
    ]);
    machine.args(["-device", "virtio-rng-pci", "-device", "i6300esb"]);
    if options.direct {
        machine.arg("-kernel").arg(options.image.join("bzImage"));
        machine.arg("-initrd").arg(options.image.join("initrd.zst"));
        let line = std::fs::read_to_string(options.image.join("cmdline")).unwrap_or_default();
        machine.arg("-append").arg(line);
    } else {
        machine.arg("-drive").arg(format!(
            "if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"
        ));
        machine.arg("-drive").arg(format!(
            "if=pflash,format=raw,unit=1,file={}",
            settings(options).display()
        ));
    }
    machine.arg("-drive").arg(format!(
        "if=none,id=disk,format=qcow2,file={}",
        disk(options).display()
    ));
    machine.args(["-device", "virtio-blk-pci,drive=disk,bootindex=1"]);
    if let Some(config) = config(options) {
        machine
            .arg("-fw_cfg")
            .arg(format!("name={CONFIG_NAME},file={}", config.display()));
    }
    for (name, file) in secrets(options) {
        machine.arg("-fw_cfg").arg(format!(
            "name={SECRETS_NAME}/{name},file={}",
            file.display()
        ));
    }
    for card in &CARDS {
        let cable = if laboratory {
            format!(
                "tap,id={0},ifname=tap-{0},script=no,downscript=no",
                card.zone
            )
        } else {
            user(card)
        };
        machine.args(["-netdev", &cable]);
        machine.args([
            "-device",
            &format!("virtio-net-pci,netdev={},mac={}", card.zone, card.mac),
        ]);
    }
    machine
}

/// What to open and what to dial, said before the console takes the screen.
pub fn introduction(options: &Options, laboratory: Option<&Namespaces>) -> String {
    let configured = match &options.config {
        Config::Demonstration => "demonstration configuration".to_owned(),
        Config::File(path) => format!("configuration {}", path.display()),
        Config::Wizard => "no configuration: the setup wizard comes up here".to_owned(),
    };
    let token = match options.config {
        Config::Demonstration => SECRETS[0].1,
        Config::File(_) | Config::Wizard => "TOKEN",
    };
    let curl = format!("curl -k -H 'Authorization: Bearer {token}'");
    let state = options.state.display();
    let reach = if let Some(names) = laboratory {
        let Namespaces {
            external,
            internal,
            management,
            ..
        } = names;
        format!(
            "Network of the laboratory (namespaces {external}, {internal}, {management}). In two more terminals:\n\
             \x20 open    ip netns exec {management} curl -k https://203.0.113.1:8443/healthz\n\
             \x20 calls   ip netns exec {management} {curl} https://203.0.113.1:8443/api/v1/calls\n\
             \x20 answer  ip netns exec {internal} sipp -sn uas -i 192.0.2.10 -p 5060\n\
             \x20 dial    ip netns exec {external} sipp 198.51.100.1:5060 -sn uac -i 198.51.100.20 -s +49305551002 -m 1\n"
        )
    } else {
        format!(
            "User networking; the ports stand on this host's loopback. In two more terminals:\n\
             \x20 open    curl -k https://127.0.0.1:8443/healthz\n\
             \x20 calls   {curl} https://127.0.0.1:8443/api/v1/calls\n\
             \x20 answer  sipp -sf {state}/pbx.xml -i 127.0.0.1 -p 5070\n\
             \x20 dial    sipp -sf {state}/caller.xml 127.0.0.1:5060 -i 127.0.0.1 -s +49305551002 -m 1\n\
             \x20 also    SIP over TCP at the same port\n\
             Signalling only: sound needs the laboratory's network, which is used where the namespaces exist.\n"
        )
    };
    format!(
        "Gatehouse, {configured}.\n{reach}Ctrl-A X ends the machine. Its serial console follows.\n\n"
    )
}

fn user(card: &Card) -> String {
    let mut cable = format!(
        "user,id={},ipv6=off,net={},host={}",
        card.zone, card.network, card.host
    );
    for (protocol, outside, inside) in card.forwards {
        cable.push_str(&format!(
            ",hostfwd={protocol}:127.0.0.1:{outside}-{}:{inside}",
            card.guest
        ));
    }
    cable
}

fn disk(options: &Options) -> PathBuf {
    options.state.join("disk.qcow2")
}

fn settings(options: &Options) -> PathBuf {
    options.state.join("firmware-settings.fd")
}

/// The file that the guest is to find, if any.
fn config(options: &Options) -> Option<PathBuf> {
    match &options.config {
        Config::Demonstration => Some(options.state.join("gatehouse.toml")),
        Config::File(path) => Some(path.clone()),
        Config::Wizard => None,
    }
}

/// Names and files of the secrets that the guest is to find, sorted.
fn secrets(options: &Options) -> Vec<(String, PathBuf)> {
    let folder = match (&options.config, &options.secrets) {
        (Config::Demonstration, _) => options.state.join("secrets"),
        (Config::File(_), Some(folder)) => folder.clone(),
        (Config::File(_) | Config::Wizard, _) => return Vec::new(),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut secrets: Vec<_> = entries
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect();
    secrets.sort();
    secrets
}

/// The guest writes into a layer above the image, so the image stays as it was built.
pub fn prepare(options: &Options, laboratory: bool) -> Result<()> {
    if options.fresh && options.state.exists() {
        std::fs::remove_dir_all(&options.state).map_err(Error::io(&options.state))?;
    }
    make_folder(&options.state)?;
    let demonstration = if laboratory { LABORATORY } else { USER_NETWORK };
    for (name, text) in SCENARIOS
        .into_iter()
        .chain([("gatehouse.toml", demonstration)])
    {
        write(options.state.join(name), text.as_bytes())?;
    }
    let secrets = options.state.join("secrets");
    make_folder(&secrets)?;
    for (name, text) in SECRETS {
        write(secrets.join(name), text.as_bytes())?;
    }
    let base = options.image.join("gatehouse.qcow2");
    let base = std::fs::canonicalize(&base).map_err(Error::io(&base))?;
    let layer = disk(options);
    if is_older(&layer, &base) {
        run(command("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(&base)
            .arg(&layer))?;
    }
    if !options.direct && !settings(options).is_file() {
        std::fs::copy(FIRMWARE_SETTINGS, settings(options))
            .map_err(Error::io(FIRMWARE_SETTINGS))?;
    }
    Ok(())
}

/// A layer over an image that was built anew since is worthless; so is an absent one.
fn is_older(layer: &Path, base: &Path) -> bool {
    let changed = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|data| data.modified())
            .ok()
    };
    match (changed(layer), changed(base)) {
        (Some(layer), Some(base)) => layer < base,
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(direct: bool) -> Options {
        Options {
            image: PathBuf::from("/image"),
            direct,
            config: Config::Demonstration,
            secrets: None,
            state: PathBuf::from("/state"),
            fresh: false,
            user_network: false,
        }
    }

    fn words(direct: bool, laboratory: bool) -> Vec<String> {
        let machine = machine(&options(direct), laboratory);
        std::iter::once(machine.get_program())
            .chain(machine.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn cards_come_external_first_in_both_networks() {
        for laboratory in [false, true] {
            let macs: Vec<String> = words(true, laboratory)
                .into_iter()
                .filter(|word| word.starts_with("virtio-net-pci"))
                .collect();
            assert_eq!(macs.len(), 3);
            for (word, card) in macs.iter().zip(&CARDS) {
                assert!(word.ends_with(card.mac), "{word}");
            }
        }
    }

    #[test]
    fn user_networking_forwards_loopback_ports_only_and_to_the_zones_own_address() {
        let words = words(true, false);
        let forwards: Vec<&str> = words
            .iter()
            .flat_map(|word| word.split(','))
            .filter(|part| part.starts_with("hostfwd="))
            .collect();
        assert_eq!(
            forwards,
            [
                "hostfwd=udp:127.0.0.1:5060-198.51.100.1:5060",
                "hostfwd=tcp:127.0.0.1:5060-198.51.100.1:5060",
                "hostfwd=tcp:127.0.0.1:5061-198.51.100.1:5061",
                "hostfwd=tcp:127.0.0.1:8444-198.51.100.1:443",
                "hostfwd=tcp:127.0.0.1:8443-203.0.113.1:8443",
            ]
        );
    }

    #[test]
    fn in_the_laboratory_the_machine_runs_inside_the_products_namespace() {
        let words = words(false, true);
        assert_eq!(
            words[..5],
            ["ip", "netns", "exec", "gh-gw", "qemu-system-x86_64"]
        );
        assert!(
            words
                .iter()
                .any(|word| word == "tap,id=mgmt,ifname=tap-mgmt,script=no,downscript=no")
        );
    }

    #[test]
    fn a_direct_start_uses_no_firmware_and_a_full_start_no_kernel_file() {
        assert!(
            !words(true, false)
                .iter()
                .any(|word| word.contains("pflash"))
        );
        assert!(!words(false, false).iter().any(|word| word == "-kernel"));
    }

    #[test]
    fn both_demonstrations_are_configurations_that_the_appliance_takes_and_name_the_cards() {
        for (name, text) in [
            ("laboratory.toml", LABORATORY),
            ("user_network.toml", USER_NETWORK),
        ] {
            let document = appliance_config::Document::parse(text, name)
                .unwrap_or_else(|errors| panic!("{errors:#?}"));
            assert_eq!(document.zones.len(), CARDS.len());
            for card in &CARDS {
                assert!(
                    text.contains(card.mac) && text.contains(&format!("\"{}/24\"", card.guest)),
                    "{name}: {card:?}"
                );
            }
        }
    }

    #[test]
    fn the_introduction_says_what_to_open_and_dial() {
        for laboratory in [false, true] {
            let names = Namespaces::default();
            let text = introduction(&options(true), laboratory.then_some(&names));
            assert!(
                text.contains("open ") && text.contains("dial ") && text.contains("8443"),
                "{text}"
            );
        }
    }
}
