//! A document's way into the kernel: parsed again (the firewall believes nobody's check but its own), made a policy,
//! rendered, committed. The daemon's committing thread calls it; what was there before stands until the kernel has taken
//! all of the new.

use std::io;

use appliance_config::Document;

use super::{Kernel, KernelError, Nft, render};
use crate::{
    daemon::{
        commit::{Committed, Ruleset},
        network_test::TestZone,
    },
    policy::{
        Policy,
        permissions::permissions,
        settings::to_settings,
        sysctls::{self, Sysctl},
    },
};

/// Offences of a document that are passed on.
const MAX_OFFENCES: usize = 5;

/// Loads rulesets.
#[derive(Debug)]
pub struct Loader<K> {
    kernel: K,
}

impl Loader<Nft> {
    /// With the program `nft`.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open() -> Result<Self, KernelError> {
        Nft::find().map(Self::new)
    }
}

impl<K: Kernel> Loader<K> {
    /// With this kernel.
    pub const fn new(kernel: K) -> Self {
        Self { kernel }
    }

    /// Puts a policy's ruleset in the place of what is there. Elements of sets and values of counters stay.
    ///
    /// # Errors
    /// Why the kernel did not take it; then nothing has changed.
    pub fn load(&mut self, policy: &Policy) -> Result<(), KernelError> {
        let present = self.kernel.present()?;
        self.kernel.commit(&render(policy).transaction(&present))
    }
}

impl<K: Kernel> Loader<K> {
    /// Writes kernel settings. One that can not be written is told and done without: the rules do not depend on it alone.
    fn set(&mut self, settings: &[Sysctl]) {
        for setting in settings {
            match self.kernel.set(setting) {
                Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = setting.path, %error, "kernel setting not made")
                }
                Ok(()) => {}
            }
        }
    }
}

impl<K: Kernel + Send + 'static> Ruleset for Loader<K> {
    fn close(&mut self) -> Result<(), String> {
        self.load(&Policy::closed())
            .map_err(|error| error.to_string())?;
        self.set(&sysctls::boot());
        Ok(())
    }

    fn commit(&mut self, revision: u64, document: &str) -> Result<Committed, String> {
        // Init says so: no configuration yet.
        if document.is_empty() {
            self.close()?;
            return Err("there is no configuration".to_owned());
        }
        let document = Document::parse(document, "gatehouse.toml").map_err(|offences| {
            let said: Vec<String> = offences
                .iter()
                .take(MAX_OFFENCES)
                .map(ToString::to_string)
                .collect();
            said.join("; ")
        })?;
        let policy = Policy::of(&document);
        self.load(&policy).map_err(|error| error.to_string())?;
        for zone in &policy.zones {
            self.set(&sysctls::link(zone));
        }
        Ok(Committed {
            permissions: permissions(&document, &policy),
            settings: to_settings(&document, revision),
            test_zones: TestZone::all(&policy),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::Present;

    #[derive(Default)]
    struct Recorder {
        transactions: Vec<String>,
        settings: Vec<String>,
        refuses: bool,
    }

    impl Kernel for Recorder {
        fn commit(&mut self, transaction: &str) -> Result<(), KernelError> {
            if self.refuses {
                return Err(KernelError::Refused("no".into()));
            }
            self.transactions.push(transaction.to_owned());
            Ok(())
        }

        fn check(&mut self, _: &str) -> Result<(), KernelError> {
            Ok(())
        }

        fn set(&mut self, setting: &Sysctl) -> io::Result<()> {
            self.settings.push(setting.path.clone());
            Ok(())
        }

        fn list(&mut self) -> Result<String, KernelError> {
            Ok(String::new())
        }

        fn present(&mut self) -> Result<Present, KernelError> {
            Ok(Present::default())
        }
    }

    const LAB: &str = include_str!("../../../tests/lab/gatehouse.toml");

    #[test]
    fn a_document_becomes_rules_permissions_and_settings() {
        let mut loader = Loader::new(Recorder::default());
        let committed = loader.commit(3, LAB).unwrap();
        assert_eq!(committed.settings.revision, 3);
        assert_eq!(committed.permissions.zones.len(), 3);
        assert!(loader.kernel.transactions[0].contains("chain raw/external"));
    }

    #[test]
    fn a_refused_document_reaches_no_kernel() {
        let mut loader = Loader::new(Recorder::default());
        assert!(loader.commit(1, "schema = 2").is_err());
        assert!(loader.kernel.transactions.is_empty());
    }

    #[test]
    fn an_empty_document_closes() {
        let mut loader = Loader::new(Recorder::default());
        assert!(loader.commit(1, "").is_err());
        assert_eq!(
            loader.kernel.transactions,
            [render(&Policy::closed()).transaction(&Present::default())]
        );
    }

    #[test]
    fn kernel_settings_come_with_the_closed_ruleset_and_with_each_links_zone() {
        let mut loader = Loader::new(Recorder::default());
        loader.close().unwrap();
        assert_eq!(
            loader.kernel.settings.first().map(String::as_str),
            Some("net/ipv4/ip_forward")
        );
        loader.kernel.settings.clear();
        loader.commit(1, LAB).unwrap();
        for link in ["ext0", "int0", "mgmt0"] {
            assert!(
                loader
                    .kernel
                    .settings
                    .contains(&format!("net/ipv6/conf/{link}/accept_ra"))
            );
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_said() {
        let mut loader = Loader::new(Recorder {
            refuses: true,
            ..Recorder::default()
        });
        assert_eq!(
            loader.commit(1, LAB).unwrap_err(),
            "nft refused the ruleset: no"
        );
    }
}
