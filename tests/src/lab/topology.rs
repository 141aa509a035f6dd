//! The four namespaces, their links and addresses (lab contract §1). Whoever comes first makes them; what already exists is
//! used as it is, and only what was made here is removed.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::{run, state};

/// Names of the namespaces, from the environment or as in the contract.
#[derive(Clone, Debug)]
pub struct Names {
    /// External hosts.
    pub external: String,
    /// Internal hosts.
    pub internal: String,
    /// The operator.
    pub management: String,
    /// The product.
    pub gateway: String,
}

impl Default for Names {
    fn default() -> Self {
        let name = |variable: &str, default: &str| {
            std::env::var(variable).unwrap_or_else(|_| default.into())
        };
        Self {
            external: name("GH_NS_EXT", "gh-ext"),
            internal: name("GH_NS_INT", "gh-int"),
            management: name("GH_NS_MGMT", "gh-mgmt"),
            gateway: name("GH_NS_GW", "gh-gw"),
        }
    }
}

impl Names {
    fn all(&self) -> [&str; 4] {
        [
            &self.external,
            &self.internal,
            &self.management,
            &self.gateway,
        ]
    }
}

/// Makes what is missing.
///
/// # Errors
/// `ip` says no (not root, no such kernel feature).
pub fn up(names: &Names) -> io::Result<()> {
    fs::create_dir_all(state())?;
    let mut made = Vec::new();
    for name in names.all() {
        if !namespace_path(name).exists() {
            run("ip", &["netns", "add", name])?;
            run("ip", &["-n", name, "link", "set", "lo", "up"])?;
            made.push(name.to_owned());
        }
    }
    let earlier = fs::read_to_string(made_file()).unwrap_or_default();
    let all: Vec<&str> = earlier
        .lines()
        .chain(made.iter().map(String::as_str))
        .collect();
    fs::write(made_file(), all.join("\n"))?;
    let hosts = [
        (&names.external, "e0", "ext0", external_hosts()),
        (&names.internal, "i0", "int0", internal_hosts()),
        (&names.management, "m0", "mgmt0", management_hosts()),
    ];
    for (namespace, host_link, product_link, addresses) in hosts {
        if run("ip", &["-n", namespace, "link", "show", host_link]).is_ok() {
            continue;
        }
        let gateway = names.gateway.as_str();
        run(
            "ip",
            &[
                "link",
                "add",
                host_link,
                "netns",
                namespace,
                "type",
                "veth",
                "peer",
                "name",
                product_link,
                "netns",
                gateway,
            ],
        )?;
        batch(namespace, &addresses)?;
    }
    Ok(())
}

/// Removes what was made by [`up`].
pub fn down() {
    for name in fs::read_to_string(made_file()).unwrap_or_default().lines() {
        if let Err(error) = run("ip", &["netns", "del", name]) {
            eprintln!("{error}");
        }
    }
    let _ = fs::remove_file(made_file());
}

/// Runs `work` on a thread of its own inside a namespace; sockets that it makes stay there.
///
/// # Errors
/// There is no such namespace, or this process may not enter it.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let file = File::open(namespace_path(namespace))?;
    thread::scope(|scope| {
        scope
            .spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A command that runs inside a namespace.
#[must_use]
pub fn command(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", namespace, program])
        .stdin(Stdio::null());
    command
}

fn namespace_path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

fn made_file() -> PathBuf {
    state().join("namespaces")
}

fn batch(namespace: &str, lines: &str) -> io::Result<()> {
    let file = state().join(format!("{namespace}.batch"));
    fs::write(&file, lines)?;
    run(
        "ip",
        &["-n", namespace, "-batch", &file.display().to_string()],
    )
    .map(|_| ())
}

fn external_hosts() -> String {
    let mut lines = String::from("link set e0 up\naddr add 2001:db8:e::fe/64 dev e0 nodad\n");
    let hosts = [10, 11, 20, 21, 30, 66, 254].into_iter().chain(100..=199);
    for host in hosts.clone() {
        let _ = writeln!(lines, "addr add 198.51.100.{host}/24 dev e0");
    }
    // A telephone takes the first address of its link for its media, and the kernel lists the latest IPv6 address first:
    // alice's is the first of both families.
    for host in hosts.rev().filter(|host| *host != 254) {
        let _ = writeln!(lines, "addr add 2001:db8:e::{host}/64 dev e0 nodad");
    }
    lines.push_str(
        "route add local 198.18.0.0/16 dev lo\n\
         route add local 2001:db8:f::/48 dev lo\n",
    );
    lines
}

fn internal_hosts() -> String {
    let mut lines = String::from("link set i0 up\n");
    for host in [10, 20, 40] {
        let _ = writeln!(
            lines,
            "addr add 192.0.2.{host}/24 dev i0\naddr add 2001:db8:1::{host}/64 dev i0 nodad"
        );
    }
    lines.push_str("route add default via 192.0.2.1\nroute add default via 2001:db8:1::1 dev i0\n");
    lines
}

fn management_hosts() -> String {
    "link set m0 up\n\
     addr add 203.0.113.10/24 dev m0\n\
     addr add 2001:db8:2::10/64 dev m0 nodad\n\
     route add default via 203.0.113.1\n\
     route add default via 2001:db8:2::1 dev m0\n"
        .into()
}
