//! Who talks to whom when everything has come to rest: from each dialog that stands the way is walked through the calls of
//! both cores, by Call-ID and by media port, and must end at another dialog that stands, whose own way leads back. Nobody
//! is left alone, and no call of a core is on no way.

use std::collections::BTreeSet;

use broker_proto::status::{CallInfo, LegInfo};

use super::{fabric::Fabric, peer::State};

/// Legs that a way may have before it goes in a circle.
const LONGEST: usize = 24;

/// One end: which peer, which dialog of it.
type End = (usize, usize);

/// A leg of a core's call, by core, call and place.
type Place = (usize, u64, usize);

struct Judge<'a> {
    fabric: &'a Fabric,
    calls: [Vec<CallInfo>; 2],
    seen: BTreeSet<(usize, u64)>,
}

/// Judges what stands now; gives how many pairs talk.
pub(super) fn judge(fabric: &Fabric) -> Result<usize, String> {
    let calls = [0, 1].map(|node| fabric.nodes[node].core.calls(fabric.now, 0, 64).0);
    let mut judge = Judge {
        fabric,
        calls,
        seen: BTreeSet::new(),
    };
    let mut ends = Vec::new();
    for (peer, at) in fabric.peers.iter().enumerate() {
        for (index, dialog) in at.dialogs.iter().enumerate() {
            if dialog.state == State::Talking {
                ends.push((peer, index));
            }
        }
    }
    for end in &ends {
        let other = judge.walk(*end).map_err(|wrong| judge.told(*end, &wrong))?;
        let back = judge
            .walk(other)
            .map_err(|wrong| judge.told(other, &wrong))?;
        if back != *end {
            let wrong = format!("leads to {other:?}, which leads to {back:?}");
            return Err(judge.told(*end, &wrong));
        }
    }
    for (node, calls) in judge.calls.iter().enumerate() {
        let lost = calls
            .iter()
            .find(|call| call.state == "answered" && !judge.seen.contains(&(node, call.id)));
        if let Some(lost) = lost {
            return Err(format!("a call of core {node} has nobody: {lost:?}"));
        }
    }
    Ok(ends.len() / 2)
}

impl Judge<'_> {
    fn told(&self, (peer, index): End, wrong: &str) -> String {
        let dialog = &self.fabric.peers[peer].dialogs[index];
        format!("dialog {} of peer {peer}: {wrong}", dialog.call_id)
    }

    /// From an end to the end that it talks to.
    fn walk(&mut self, (peer, index): End) -> Result<End, String> {
        let dialog = &self.fabric.peers[peer].dialogs[index];
        let mut place = self.find(peer, &dialog.call_id, None)?;
        self.sends_to(place, media_port(index))?;
        for _ in 0..LONGEST {
            let (node, call, leg) = place;
            self.seen.insert((node, call));
            let out = (node, call, 1 - leg);
            let other = self.leg(out)?;
            if other.remote.ip() == self.fabric.peers[node].at.ip() {
                let end = self.end(node, &other.call_id)?;
                self.sends_to(out, media_port(end.1))?;
                return Ok(end);
            }
            let call_id = other.call_id.clone();
            place = self.find(1 - node, &call_id, Some(place))?;
            let ports = [self.port(out)?, self.port(place)?];
            self.sends_to(out, ports[1])?;
            self.sends_to(place, ports[0])?;
        }
        Err("goes in a circle".into())
    }

    /// The leg of an answered call that has this Call-ID.
    fn find(&self, node: usize, call_id: &str, from: Option<Place>) -> Result<Place, String> {
        let mut found = self.calls[node]
            .iter()
            .filter(|call| call.state == "answered")
            .flat_map(|call| {
                let legs = call.legs.iter().enumerate();
                legs.filter(|(_, leg)| leg.call_id == call_id)
                    .map(|(leg, _)| (node, call.id, leg))
            });
        let first = found.next();
        match (first, found.next()) {
            (Some(place), None) => Ok(place),
            (first, second) => Err(format!(
                "core {node} has {first:?} and {second:?} for {call_id}, from {from:?}"
            )),
        }
    }

    fn end(&self, peer: usize, call_id: &str) -> Result<End, String> {
        let dialogs = self.fabric.peers[peer].dialogs.iter().enumerate();
        let mut found = dialogs
            .filter(|(_, dialog)| dialog.call_id == call_id && dialog.state == State::Talking)
            .map(|(index, _)| (peer, index));
        match (found.next(), found.next()) {
            (Some(end), None) => Ok(end),
            (first, second) => Err(format!(
                "peer {peer} has {first:?} and {second:?} for {call_id}"
            )),
        }
    }

    fn leg(&self, (node, call, leg): Place) -> Result<&LegInfo, String> {
        let mut calls = self.calls[node].iter();
        let call = calls.find(|have| have.id == call).ok_or("no call")?;
        call.legs
            .get(leg)
            .ok_or_else(|| "has one leg alone".to_owned())
    }

    fn port(&self, place: Place) -> Result<u16, String> {
        let ports = &self.leg(place)?.media_ports;
        let port = ports.first().copied();
        port.ok_or_else(|| format!("{place:?} has no media"))
    }

    /// Media of a leg go where its far end said.
    fn sends_to(&self, place: Place, port: u16) -> Result<(), String> {
        let own = self.port(place)?;
        match self.fabric.nodes[place.0].sends_to(own) {
            Some(to) if to == port => Ok(()),
            to => Err(format!("{place:?} sends media to {to:?}, not to {port}")),
        }
    }
}

/// The media port of a dialog of a peer.
pub(super) fn media_port(index: usize) -> u16 {
    40_000 + 2 * u16::try_from(index).unwrap_or(0)
}
