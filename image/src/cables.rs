//! The laboratory's cables: joins the machine's three cards to the ends that wait in the namespace `gh-gw`, by one bridge
//! and one tap each, with the fixed names of the laboratory. Called by [`crate::qemu`] around a start, as root.

use std::path::Path;

use crate::process::{command, is_installed, output, run};
use crate::qemu::{CARDS, Card};
use crate::{Error, Result};

/// The laboratory's namespace of the product, unless the environment says otherwise.
pub const GATEWAY_NAMESPACE: &str = "gh-gw";

/// Names of the laboratory's namespaces: from the environment, or as in the laboratory's contract.
#[derive(Debug, Clone)]
pub struct Namespaces {
    /// External hosts.
    pub external: String,
    /// Internal hosts.
    pub internal: String,
    /// The operator.
    pub management: String,
    /// The product.
    pub gateway: String,
}

impl Default for Namespaces {
    fn default() -> Self {
        let name = |variable: &str, default: &str| {
            std::env::var(variable).unwrap_or_else(|_| default.to_owned())
        };
        Self {
            external: name("GH_NS_EXT", "gh-ext"),
            internal: name("GH_NS_INT", "gh-int"),
            management: name("GH_NS_MGMT", "gh-mgmt"),
            gateway: name("GH_NS_GW", GATEWAY_NAMESPACE),
        }
    }
}

/// True if the laboratory's network is there and we may use it.
pub fn exist(names: &Namespaces) -> bool {
    nix::unistd::geteuid().is_root()
        && is_installed("ip")
        && Path::new("/run/netns").join(&names.gateway).exists()
}

/// Bridges the laboratory's cables to taps in `gh-gw`; what is there already is used as it is.
pub fn join(namespace: &str) -> Result<()> {
    for card in &CARDS {
        // The addresses are the guest's. Where the namespace has them, the laboratory's own product runs in it.
        let addresses = output(command("ip").args([
            "-n", namespace, "-o", "addr", "show", "dev", card.veth, "scope", "global",
        ]))?;
        if !addresses.is_empty() {
            return Err(Error::Usage(format!(
                "{} has an address in {namespace}: the laboratory's own product runs there. \
                 End it first (make lab-down), or start with --user",
                card.veth
            )));
        }
    }
    for card in &CARDS {
        let (bridge, tap) = (bridge(card), tap(card));
        if !link_exists(namespace, &bridge) {
            let kind = [
                "type",
                "bridge",
                "stp_state",
                "0",
                "forward_delay",
                "0",
                "mcast_snooping",
                "0",
            ];
            inside(
                namespace,
                &[&["ip", "link", "add", &bridge][..], &kind].concat(),
            )?;
        }
        if !link_exists(namespace, &tap) {
            inside(
                namespace,
                &["ip", "tuntap", "add", "dev", &tap, "mode", "tap"],
            )?;
        }
        for link in [&bridge, &tap, card.veth] {
            // Not even a link-local address of the host's own stands on the guest's cables.
            inside(
                namespace,
                &[
                    "sysctl",
                    "-q",
                    "-w",
                    &format!("net.ipv6.conf.{link}.disable_ipv6=1"),
                ],
            )?;
            inside(namespace, &["ip", "link", "set", link, "up"])?;
        }
        for link in [tap.as_str(), card.veth] {
            inside(namespace, &["ip", "link", "set", link, "master", &bridge])?;
        }
    }
    Ok(())
}

/// Leaves `gh-gw` as a laboratory without a product has it. What fails was gone already.
pub fn leave(namespace: &str) {
    for card in &CARDS {
        let (bridge, tap) = (bridge(card), tap(card));
        let _ = inside(namespace, &["ip", "link", "del", &tap]);
        let _ = inside(namespace, &["ip", "link", "del", &bridge]);
        let _ = inside(
            namespace,
            &[
                "sysctl",
                "-q",
                "-w",
                &format!("net.ipv6.conf.{}.disable_ipv6=0", card.veth),
            ],
        );
    }
}

fn bridge(card: &Card) -> String {
    format!("br-{}", card.zone)
}

fn tap(card: &Card) -> String {
    format!("tap-{}", card.zone)
}

fn link_exists(namespace: &str, link: &str) -> bool {
    inside(namespace, &["ip", "link", "show", link]).is_ok()
}

fn inside(namespace: &str, words: &[&str]) -> Result<()> {
    run(command("ip").args(["netns", "exec", namespace]).args(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A namespace of the test's own, with cables whose far ends lie in it too; gone at the end.
    struct Namespace(String);

    impl Namespace {
        fn make(name: &str) -> Option<Self> {
            if !nix::unistd::geteuid().is_root() {
                println!("skipped: namespaces need root");
                return None;
            }
            let namespace = Self(format!("t-image-{name}-{}", std::process::id()));
            run(command("ip").args(["netns", "add", &namespace.0])).unwrap();
            for card in &CARDS {
                let peer = format!("far-{}", card.zone);
                inside(
                    &namespace.0,
                    &[
                        "ip", "link", "add", card.veth, "type", "veth", "peer", "name", &peer,
                    ],
                )
                .unwrap();
            }
            Some(namespace)
        }

        fn links(&self) -> String {
            let text = output(command("ip").args(["-n", &self.0, "-br", "link"])).unwrap();
            String::from_utf8(text).unwrap()
        }
    }

    impl Drop for Namespace {
        fn drop(&mut self) {
            let _ = run(command("ip").args(["netns", "del", &self.0]));
        }
    }

    #[test]
    fn cables_are_joined_twice_without_harm_and_leave_nothing() {
        let Some(namespace) = Namespace::make("join") else {
            return;
        };
        let before = namespace.links().lines().count();
        join(&namespace.0).unwrap();
        join(&namespace.0).unwrap();
        for card in &CARDS {
            let members = output(command("ip").args([
                "-n",
                &namespace.0,
                "-br",
                "link",
                "show",
                "master",
                &bridge(card),
            ]));
            let members = String::from_utf8(members.unwrap()).unwrap();
            assert!(
                members.contains(&tap(card)) && members.contains(card.veth),
                "{members}"
            );
        }
        leave(&namespace.0);
        assert_eq!(
            namespace.links().lines().count(),
            before,
            "{}",
            namespace.links()
        );
    }

    #[test]
    fn a_running_product_is_not_taken_its_cables() {
        let Some(namespace) = Namespace::make("busy") else {
            return;
        };
        inside(
            &namespace.0,
            &["ip", "addr", "add", "198.51.100.1/24", "dev", "ext0"],
        )
        .unwrap();
        let text = join(&namespace.0).unwrap_err().to_string();
        assert!(text.contains("lab-down"), "{text}");
        assert!(!namespace.links().contains("tap-"), "{}", namespace.links());
    }
}
