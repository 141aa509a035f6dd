//! The whole product, whose external zone takes its address from a real DHCP server (dnsmasq), in namespaces of its own:
//! the address and the default route come, are asked for again, also after a restart, the SBC answers there, no question
//! shows an address of another zone, and with the server's word that it is over the address goes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use e2e::lab::{
    product::{executables, write_secrets},
    run,
    topology::inside,
};

/// Longest wait for what must come: a question that met no server is repeated after a minute.
const PATIENCE: Duration = Duration::from_secs(90);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
const SERVER: &str = "198.51.100.254";
/// The outside counts questions that come from any address but none and the lent ones.
const COUNTING: &str = "table ip count { chain in { type filter hook prerouting priority -300;\n\
    udp dport 67 ip saddr != { 0.0.0.0, 198.51.100.0/24 } counter comment \"foreign\"\n\
    udp dport 67 ip saddr 0.0.0.0 counter comment \"nobody\"\n}\n}\n";

struct World {
    gateway: String,
    outside: String,
    folder: tempfile::TempDir,
    children: Vec<Child>,
}

impl World {
    fn new() -> Self {
        let own = std::process::id();
        let world = Self {
            gateway: format!("t-dhcp-gw-{own}"),
            outside: format!("t-dhcp-ext-{own}"),
            folder: tempfile::tempdir().unwrap(),
            children: Vec::new(),
        };
        let (gateway, outside) = (world.gateway.as_str(), world.outside.as_str());
        for name in [gateway, outside] {
            run("ip", &["netns", "add", name]).unwrap();
            run("ip", &["-n", name, "link", "set", "lo", "up"]).unwrap();
        }
        for (near, far) in [("ext0", "e0"), ("int0", "i0"), ("mgmt0", "m0")] {
            run(
                "ip",
                &[
                    "-n", gateway, "link", "add", near, "type", "veth", "peer", "name", far,
                    "netns", outside,
                ],
            )
            .unwrap();
            run("ip", &["-n", outside, "link", "set", far, "up"]).unwrap();
        }
        let net = format!("{SERVER}/24");
        run("ip", &["-n", outside, "addr", "add", &net, "dev", "e0"]).unwrap();
        let rules = world.path("count.nft");
        fs::write(&rules, COUNTING).unwrap();
        world.outside(&["nft", "-f", rules.to_str().unwrap()]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Output of a command on the outside.
    fn outside(&self, words: &[&str]) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.outside])
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&mut self, namespace: &str, log: &str, program: &Path, arguments: &[&str]) -> usize {
        let log = fs::File::create(self.path(log)).unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{namespace}"))
            .arg("--")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.push(child);
        self.children.len() - 1
    }

    fn serve(&mut self, log: &str, range: &str, more: &[&str]) -> usize {
        let leases = format!("--dhcp-leasefile={}", self.path("leases").display());
        let range = format!("--dhcp-range={range},255.255.255.0,120");
        let outside = self.outside.clone();
        // T1 is 5 s, so that more time is asked for while the test looks.
        let arguments = [
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=e0",
            "--bind-interfaces",
            "--dhcp-authoritative",
            "--no-ping",
            "--user=root",
            "--dhcp-option=option:T1,5s",
            &leases,
            &range,
        ];
        let arguments = [&arguments[..], more].concat();
        self.start(&outside, log, Path::new("dnsmasq"), &arguments)
    }

    fn stop(&mut self, child: usize) {
        let child = &mut self.children[child];
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        child.wait().unwrap();
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The IPv4 address of the external link.
    fn address(&self) -> Option<Ipv4Addr> {
        let link = [
            "-n",
            &self.gateway,
            "-4",
            "-o",
            "addr",
            "show",
            "dev",
            "ext0",
        ];
        let output = Command::new("ip").args(link).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let net = text
            .split_whitespace()
            .skip_while(|word| *word != "inet")
            .nth(1)?;
        net.strip_suffix("/24")?.parse().ok()
    }

    /// By the server as gateway.
    fn has_default_route(&self) -> bool {
        let route = ["-n", &self.gateway, "-4", "route", "show", "default"];
        let output = Command::new("ip")
            .args(route)
            .args(["via", SERVER])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("ext0")
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "not {what}\n{}\n{}",
                self.log("init.log"),
                self.log("server.log")
            );
            thread::sleep(LOOK);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in 0..self.children.len() {
            self.stop(child);
        }
        for name in [&self.gateway, &self.outside] {
            let _ = run("ip", &["netns", "del", name]);
        }
    }
}

fn configuration() -> String {
    let lab = include_str!("../lab/gatehouse.toml");
    let fixed = "address = \"198.51.100.1/24\"\ngateway = \"198.51.100.254\"";
    assert!(lab.contains(fixed));
    lab.replace(fixed, "method = \"dhcp\"")
}

fn can_run(bin: &Path) -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if !Path::new("/usr/sbin/dnsmasq").exists() {
        "no dnsmasq"
    } else if !bin.join("gatehouse-dhcp").exists() {
        "the programs are not built"
    } else {
        return true;
    };
    println!("SKIP dhcp: {missing}");
    false
}

#[test]
fn the_external_address_comes_from_a_server_is_kept_and_goes_with_its_word() {
    let bin = executables();
    if !can_run(&bin) {
        return;
    }
    let mut world = World::new();
    let server = world.serve("server.log", "198.51.100.20,198.51.100.20", &[]);
    let state = world.path("state");
    fs::create_dir_all(&state).unwrap();
    let secrets = write_secrets(&state).unwrap();
    let document = world.path("gatehouse.toml");
    fs::write(&document, configuration()).unwrap();
    let gateway = world.gateway.clone();
    let arguments = ["--lab", "--config", document.to_str().unwrap()];
    let places = [
        ("--state", &state),
        ("--secrets", &secrets),
        ("--bin", &bin),
    ];
    let places = places.map(|(word, path)| [word, path.to_str().unwrap()]);
    let arguments = [&arguments[..], places.as_flattened()].concat();
    let init = bin.join("gatehouse-init");
    let first = world.start(&gateway, "init.log", &init, &arguments);

    let lent = Ipv4Addr::new(198, 51, 100, 20);
    world.until("lent", || world.address() == Some(lent));
    assert!(world.has_default_route());

    // The firewall has learnt it, and the SBC listens there, for strangers too.
    let sip = SocketAddr::from((lent, 5060));
    let outside = world.outside.clone();
    world.until("answering on the lent address", || {
        inside(&outside, move || {
            TcpStream::connect_timeout(&sip, Duration::from_secs(1)).is_ok()
        })
        .unwrap()
    });

    // More time is asked for at T1, of the server alone.
    world.until("asked for more time", || {
        world.log("server.log").matches("DHCPACK").count() >= 2
    });
    world.until("told twice", || {
        world
            .log("init.log")
            .matches("has 198.51.100.20/24")
            .count()
            >= 2
    });

    let counted = world.outside(&["nft", "list", "table", "ip", "count"]);
    let packets = |comment: &str| {
        let line = counted.lines().find(|line| line.contains(comment)).unwrap();
        line.split("packets ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    assert_eq!(
        packets("foreign"),
        0,
        "an address of another zone was shown\n{counted}"
    );
    assert!(packets("nobody") >= 2, "{counted}");

    // After a restart the same address is asked for by its name, without looking for a server first.
    let searches = |world: &World| world.log("server.log").matches("DHCPDISCOVER").count();
    let before = searches(&world);
    world.stop(first);
    world.start(&gateway, "again.log", &init, &arguments);
    world.until("lent again", || {
        world.log("again.log").contains("has 198.51.100.20/24") && world.address() == Some(lent)
    });
    assert_eq!(searches(&world), before, "{}", world.log("server.log"));
    assert!(world.has_default_route());

    // The same server lends more time, and no gateway any more: the route by it goes.
    world.stop(server);
    let none = ["--dhcp-option=option:router"];
    let server = world.serve("without.log", "198.51.100.20,198.51.100.20", &none);
    world.until("without a gateway", || !world.has_default_route());
    assert_eq!(world.address(), Some(lent));

    // Another server, which knows nothing of that address, takes it back and lends another.
    world.stop(server);
    fs::remove_file(world.path("leases")).unwrap();
    world.serve("second.log", "198.51.100.40,198.51.100.40", &[]);
    let next = Ipv4Addr::new(198, 51, 100, 40);
    world.until("lent another", || world.address() == Some(next));
    let sip = SocketAddr::from((next, 5060));
    world.until("answering on the other address", || {
        inside(&outside, move || {
            TcpStream::connect_timeout(&sip, Duration::from_secs(1)).is_ok()
        })
        .unwrap()
    });
}
