//! The carrier and the PBX of the laboratory, each with a telephone, and a call between them.

use std::{net::SocketAddr, time::Duration};

use crate::{
    agent::{Agent, Dialog, Message, description},
    lab::topology::Names,
    tone::Phone,
};

/// The product towards the outside.
pub const GATEWAY_EXTERNAL: &str = "198.51.100.1:5060";
/// The product towards the inside.
pub const GATEWAY_INTERNAL: &str = "192.0.2.1:5060";

/// The carrier and the PBX with a telephone each.
pub struct Parties {
    /// The carrier.
    pub trunk: Agent,
    /// The PBX.
    pub pbx: Agent,
    /// The carrier's media end.
    pub outside: Phone,
    /// The PBX's media end.
    pub inside: Phone,
    /// Where the carrier reaches the product.
    pub gateway: SocketAddr,
}

impl Parties {
    /// With IPv4 on both sides.
    ///
    /// # Panics
    /// An address of the laboratory is not there or taken.
    #[must_use]
    pub fn new(names: &Names) -> Self {
        Self::at(names, "198.51.100.20", GATEWAY_EXTERNAL)
    }

    /// The trunk at this address, calling this address of the product.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn at(names: &Names, trunk: &str, gateway: &str) -> Self {
        Self {
            trunk: Agent::bind(&names.external, &format!("{trunk}:5060"), "+4930777").unwrap(),
            pbx: Agent::bind(&names.internal, "192.0.2.10:5060", "pbx").unwrap(),
            outside: Phone::bind(&names.external, &format!("{trunk}:30000")).unwrap(),
            inside: Phone::bind(&names.internal, "192.0.2.10:31000").unwrap(),
            gateway: gateway.parse().unwrap(),
        }
    }

    /// The trunk calls extension 1002, the PBX answers.
    ///
    /// # Panics
    /// A message does not come.
    #[must_use]
    pub fn connect(&self) -> Call {
        let (_, mut caller) = self.trunk.invite(
            "sip:+49305551002@lab.test",
            self.gateway,
            self.outside.local,
        );
        let invite = self.pbx.expect_request("INVITE");
        self.pbx.respond(&invite, "180 Ringing", "pbx1", "", "");
        let ringing = self.trunk.expect_status(180);
        assert!(ringing.header("to").contains(";tag="));
        self.pbx.respond(
            &invite,
            "200 OK",
            "pbx1",
            "",
            &description(self.inside.local),
        );
        let answer = self.trunk.expect_status(200);
        self.trunk.acknowledge(&mut caller, &answer);
        let _ = self.pbx.expect_request("ACK");
        let callee = self.pbx.dialog_of(&invite, "pbx1");
        Call {
            caller,
            callee,
            media_outside: answer.audio().unwrap(),
            media_inside: invite.audio().unwrap(),
            invite,
            answer,
        }
    }

    /// Both talk for `time`; each must hear the other's tone and nothing of its own.
    ///
    /// # Panics
    /// One does not.
    pub fn talk(&mut self, call: &Call, time: Duration) {
        let (to_outside, to_inside) = (call.media_outside, call.media_inside);
        let (outside, inside) = (&mut self.outside, &mut self.inside);
        let (heard_outside, heard_inside) = std::thread::scope(|scope| {
            let there = scope.spawn(move || outside.talk(to_outside, 440.0, time));
            let here = scope.spawn(move || inside.talk(to_inside, 880.0, time));
            (there.join().unwrap(), here.join().unwrap())
        });
        for (who, heard, hz, own) in [
            ("outside", heard_outside, 880.0, 440.0),
            ("inside", heard_inside, 440.0, 880.0),
        ] {
            let expected = (time.as_millis() / 20) as usize;
            assert!(
                heard.packets * 10 >= expected * 8,
                "{who} heard {} of {expected} packets",
                heard.packets
            );
            assert!(
                heard.share(hz) > 0.8,
                "{who} heard {:.2} of the other's tone",
                heard.share(hz)
            );
            assert!(heard.share(own) < 0.05, "{who} heard its own tone");
            assert_eq!(heard.sources.len(), 1, "{who} heard several sources");
        }
    }
}

/// A call that was answered.
pub struct Call {
    /// The carrier's side.
    pub caller: Dialog,
    /// The PBX's side.
    pub callee: Dialog,
    /// The product's media address towards the trunk, and towards the PBX.
    pub media_outside: SocketAddr,
    /// Towards the PBX.
    pub media_inside: SocketAddr,
    /// What the PBX got.
    pub invite: Message,
    /// What the carrier got.
    pub answer: Message,
}
