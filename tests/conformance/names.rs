//! The whole product with a carrier that it knows by name, in namespaces of its own, with a real name server (dnsmasq): what
//! its NAPTR and SRV records say is where calls go, a dead target's call reaches the next one, and neither a server that
//! lies nor one that is dead moves the carrier out of its networks.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    agent::{Agent, Message, description},
    lab::{
        product::{executables, write_secrets},
        run,
    },
};

/// Longest wait for what must come: a question that met no server is repeated after half a minute.
const PATIENCE: Duration = Duration::from_secs(60);
/// A target that is silent is given up after 64*T1 (RFC 3263 §4.3).
const SILENCE: Duration = Duration::from_secs(50);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
const CALLED: &str = "sip:+49891234567@lab.test";
const INSIDE: &str = "192.0.2.1:5060";
/// The carrier's hosts: the first is dead.
const HOSTS: [&str; 2] = ["198.51.100.40", "198.51.100.41"];

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
            gateway: format!("t-dns-gw-{own}"),
            outside: format!("t-dns-ext-{own}"),
            folder: tempfile::tempdir().unwrap(),
            children: Vec::new(),
        };
        let (gateway, outside) = (world.gateway.as_str(), world.outside.as_str());
        for name in [gateway, outside] {
            run("ip", &["netns", "add", name]).unwrap();
            run("ip", &["-n", name, "link", "set", "lo", "up"]).unwrap();
        }
        for (near, far) in [("ext0", "e0"), ("int0", "i0"), ("mgmt0", "m0")] {
            let pair = ["type", "veth", "peer", "name", far, "netns", outside];
            let link = ["-n", gateway, "link", "add", near];
            run("ip", &[&link[..], &pair].concat()).unwrap();
            run("ip", &["-n", outside, "link", "set", far, "up"]).unwrap();
        }
        for (address, link) in [
            ("198.51.100.53/24", "e0"),
            ("198.51.100.40/24", "e0"),
            ("198.51.100.41/24", "e0"),
            ("192.0.2.10/24", "i0"),
        ] {
            run("ip", &["-n", outside, "addr", "add", address, "dev", link]).unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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

    /// A name server that says that the carrier's hosts have these addresses.
    fn serve(&mut self, log: &str, hosts: [&str; 2]) -> usize {
        let outside = self.outside.clone();
        let name = |number: &str| format!("{number}.carrier.lab.test");
        let srv = |number: &str, port: u16, priority: u16| {
            let target = name(number);
            format!("--srv-host=_sip._udp.carrier.lab.test,{target},{port},{priority},0")
        };
        let host =
            |number: &str, address: &str| format!("--host-record={},{address}", name(number));
        let records = [
            "--naptr-record=carrier.lab.test,10,10,s,SIP+D2U,,_sip._udp.carrier.lab.test"
                .to_owned(),
            srv("one", 5060, 10),
            srv("two", 5070, 20),
            host("one", hosts[0]),
            host("two", hosts[1]),
        ];
        let arguments = [
            "--no-daemon",
            "--conf-file=/dev/null",
            "--listen-address=198.51.100.53",
            "--bind-interfaces",
            "--no-resolv",
            "--no-hosts",
            "--local=/lab.test/",
            "--log-queries",
            "--user=root",
        ];
        let records = records.each_ref().map(String::as_str);
        let arguments = [&arguments[..], &records].concat();
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

    /// A call of the PBX reaches the carrier's living host and is answered; returns its INVITE.
    fn call(&self, pbx: &Agent, carrier: &Agent) -> Message {
        let media = "192.0.2.10:31000".parse().unwrap();
        let gateway: SocketAddr = INSIDE.parse().unwrap();
        let (_, mut caller) = pbx.invite(CALLED, gateway, media);
        let deadline = Instant::now() + SILENCE;
        let invite = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match carrier.receive(left) {
                Some(message) if message.method() == "INVITE" => break message,
                Some(_) => {}
                None => panic!("no call came\n{}", self.log("init.log")),
            }
        };
        let body = description("198.51.100.41:30000".parse().unwrap());
        carrier.respond(&invite, "200 OK", "carrier", "", &body);
        let answer = pbx.expect_status(200);
        pbx.acknowledge(&mut caller, &answer);
        let _ = carrier.expect_request("ACK");
        pbx.send_in(&mut caller, "BYE", "", "");
        let bye = carrier.expect_request("BYE");
        carrier.respond(&bye, "200 OK", "", "", "");
        let _ = pbx.expect_status(200);
        invite
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

/// The laboratory's document, in which the first carrier has a name.
fn configuration() -> String {
    let mut text = include_str!("../lab/gatehouse.toml").to_owned();
    for (old, new) in [
        (
            "language = \"en\"\n",
            "language = \"en\"\ndns = [\"198.51.100.53\"]\n",
        ),
        (
            "addresses = [\"198.51.100.20\", \"2001:db8:e::20\"]\ntransport = \"udp\"\n",
            "host = \"carrier.lab.test\"\nnetworks = [\"198.51.100.32/27\"]\nports = [5060, 5070]\ntransport = \"naptr\"\n",
        ),
        (
            "[trunk.tls]\nnames = [\"trunk1.lab.test\"]\nauthorities = [\"lab-ca\"]\n",
            "",
        ),
    ] {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    text
}

fn can_run(bin: &Path) -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if !Path::new("/usr/sbin/dnsmasq").exists() {
        "no dnsmasq"
    } else if !bin.join("gatehouse-init").exists() {
        "the programs are not built"
    } else {
        return true;
    };
    println!("SKIP names: {missing}");
    false
}

#[test]
fn calls_go_where_the_carriers_name_leads_and_past_a_dead_target() {
    let bin = executables();
    if !can_run(&bin) {
        return;
    }
    let mut world = World::new();
    let server = world.serve("server.log", HOSTS);
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
    world.start(
        &gateway,
        "init.log",
        &bin.join("gatehouse-init"),
        &arguments,
    );
    let said = |world: &World, code: &str| world.log("init.log").matches(code).count();
    world.until("resolved", || said(&world, "name-resolved") >= 1);
    let asked = world.log("server.log");
    for question in ["query[NAPTR]", "query[SRV]", "query[A]", "query[AAAA]"] {
        assert!(asked.contains(question), "{question}\n{asked}");
    }
    assert!(!asked.contains("_sip._tcp"), "{asked}");

    let pbx = Agent::bind(&world.outside, "192.0.2.10:5060", "1001").unwrap();
    let carrier = Agent::bind(&world.outside, "198.51.100.41:5070", "carrier").unwrap();
    let invite = world.call(&pbx, &carrier);
    assert_eq!(invite.uri(), "sip:+49891234567@carrier.lab.test");

    // Another server says that the carrier is a stranger's host now.
    world.stop(server);
    let liar = world.serve("liar.log", ["198.51.100.66", "198.51.100.67"]);
    world.until("told of the lie", || {
        said(&world, "name-outside-networks") >= 1
    });
    let _ = world.call(&pbx, &carrier);

    // And then none at all.
    world.stop(liar);
    world.until("told of the silence", || {
        world.log("init.log").contains("no-answer")
    });
    let _ = world.call(&pbx, &carrier);
    let log = world.log("init.log");
    assert!(
        !log.contains("SIGSYS") && !log.contains("panicked"),
        "{log}"
    );
}
