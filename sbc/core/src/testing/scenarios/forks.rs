//! The PBX forks one call to two phones of an account that both registered through us: two INVITEs with the same Call-ID,
//! From and CSeq, each to another contact of ours and by a branch of its own. RFC 3261 §16.6, §16.7, §8.2.2.2.

use super::{letters, refreshes::Phone, *};
use crate::testing::Message;

const ONE: usize = 0;
const TWO: usize = 1;

/// The PBX, led by hand, and two phones of 1001.
struct Forked {
    world: World,
    pbx: SocketAddr,
    phones: [SocketAddr; 2],
    /// The PBX's INVITE of each branch.
    invites: Vec<Message>,
}

impl Forked {
    /// Both phones are registered; each answers by its script.
    fn new(seed: u64, scripts: [Script; 2]) -> Self {
        let mut world = World::new(seed);
        let pbx = pbx(&mut world);
        let [one, two] = scripts;
        let phones = [
            world.add("198.51.100.10:5060", "1001", one),
            world.add("198.51.100.11:5060", "1001", two),
        ];
        world.agent(pbx).script.fresh_nonces = true;
        let contacts = phones.map(|phone| {
            let mut registering = Phone::new(&phone.to_string(), "1001");
            registering.contact = format!("<sip:1001@{phone}>");
            registering.registered(&mut world);
            letters::token(&mut world, pbx)
        });
        assert_ne!(contacts[ONE], contacts[TWO]);
        world.agent(pbx).script.alive = false;
        let sdp = world.agent(pbx).sdp("sendrecv");
        let invites = contacts
            .iter()
            .zip(["one", "two"])
            .map(|(contact, branch)| {
                Message::request("INVITE", contact)
                    .with(
                        "Via",
                        format!("SIP/2.0/UDP {pbx};branch=z9hG4bKfork{branch}"),
                    )
                    .with("Max-Forwards", "70")
                    .with("From", "<sip:1002@lab.test>;tag=forker")
                    .with("To", "<sip:1001@lab.test>")
                    .with("Call-ID", "one-call")
                    .with("CSeq", "1 INVITE")
                    .with("Contact", format!("<sip:1002@{pbx}>"))
                    .with_body("application/sdp", &sdp)
            })
            .collect();
        let mut forked = Self {
            world,
            pbx,
            phones,
            invites,
        };
        for branch in [ONE, TWO] {
            forked.send(&forked.invites[branch].clone());
        }
        forked
    }

    fn send(&mut self, message: &Message) {
        self.world.datagram(self.pbx, &message.bytes());
        self.world.run(millis(10));
    }

    /// What the PBX heard of a branch's INVITE, repetitions once.
    fn heard(&mut self, branch: usize) -> Vec<u16> {
        let key = self.invites[branch].branch();
        let mut statuses: Vec<u16> = self
            .world
            .agent(self.pbx)
            .inbox
            .iter()
            .filter(|it| it.status().is_some() && it.branch() == key && it.cseq().1 == "INVITE")
            .filter_map(Message::status)
            .collect();
        statuses.dedup();
        statuses
    }

    fn final_of(&mut self, branch: usize) -> Message {
        let key = self.invites[branch].branch();
        let inbox = self.world.agent(self.pbx).inbox.iter().rev();
        inbox
            .filter(|it| it.branch() == key && it.cseq().1 == "INVITE")
            .find(|it| it.status() >= Some(200))
            .expect("a final answer")
            .clone()
    }

    fn of_branch(&self, method: &str, branch: usize) -> Message {
        let invite = &self.invites[branch];
        let mut request = Message::request(method, invite.uri());
        for name in ["Via", "Max-Forwards", "From", "To", "Call-ID"] {
            request = request.with(name, invite.need(name));
        }
        request.with("CSeq", format!("1 {method}"))
    }

    fn acknowledge(&mut self, branch: usize) {
        let answer = self.final_of(branch);
        let ack = if answer.status() < Some(300) {
            letters::in_dialog("ACK", self.pbx, &answer, 1)
        } else {
            let mut ack = self.of_branch("ACK", branch);
            for (name, value) in &mut ack.headers {
                if name == "To" {
                    *value = answer.need("To").to_owned();
                }
            }
            ack
        };
        self.send(&ack);
    }

    fn states(&mut self) -> [Option<State>; 2] {
        self.phones.map(|phone| {
            let agent = self.world.agent(phone);
            agent.dialogs.last().map(|dialog| dialog.state)
        })
    }

    /// The PBX hangs up what was answered, and nothing is left.
    fn end(mut self, branch: usize) {
        let ok = self.final_of(branch);
        let bye = letters::in_dialog("BYE", self.pbx, &ok, 3);
        self.send(&bye);
        self.world.run(seconds(60));
        assert_eq!(self.states()[branch], Some(State::Ended));
        assert_tidy(&mut self.world);
    }
}

fn answers(after: u64, status: u16) -> Script {
    Script {
        answer: Some((seconds(after), status)),
        ..Script::default()
    }
}

fn rings() -> Script {
    Script {
        answer: None,
        ..Script::default()
    }
}

#[test]
fn both_phones_of_a_forked_call_ring_and_the_one_that_does_not_answer_is_cancelled() {
    let mut forked = Forked::new(4_200, [answers(2, 200), rings()]);
    forked.world.run(seconds(1));
    assert_eq!(forked.states(), [Some(State::Ringing); 2]);
    assert_eq!(forked.heard(ONE), [100, 180]);
    assert_eq!(forked.heard(TWO), [100, 180]);
    assert_eq!(forked.world.calls().len(), 2);
    forked.world.run(seconds(2));
    forked.acknowledge(ONE);
    let cancel = forked.of_branch("CANCEL", TWO);
    forked.send(&cancel);
    forked.world.run(millis(100));
    assert_eq!(forked.heard(TWO).last(), Some(&487));
    forked.acknowledge(TWO);
    assert_eq!(
        forked.states(),
        [Some(State::Talking), Some(State::Failed(487))]
    );
    assert_eq!(forked.world.calls().len(), 1);
    // Names of both dialogs differ, on both sides.
    assert_ne!(
        forked.final_of(ONE).tag("To"),
        forked.final_of(TWO).tag("To")
    );
    forked.world.run(seconds(40));
    assert_eq!(forked.states()[ONE], Some(State::Talking));
    forked.end(ONE);
}

#[test]
fn a_phone_that_is_gone_or_refuses_does_not_end_the_other_branch() {
    for (number, status) in [480, 486, 430, 404].into_iter().enumerate() {
        let scripts = [answers(1, status), answers(3, 200)];
        let mut forked = Forked::new(4_210 + number as u64, scripts);
        forked.world.run(seconds(2));
        assert_eq!(forked.heard(ONE).last(), Some(&status));
        forked.acknowledge(ONE);
        assert_eq!(forked.states()[TWO], Some(State::Ringing));
        forked.world.run(seconds(2));
        forked.acknowledge(TWO);
        assert_eq!(forked.states()[TWO], Some(State::Talking));
        forked.world.run(seconds(40));
        forked.end(TWO);
    }
}

#[test]
fn a_branch_to_a_phone_that_has_left_is_430_and_the_other_rings() {
    let mut forked = Forked::new(4_221, [rings(), answers(2, 200)]);
    // A third contact that the PBX remembers and we do not: the same name but for its first digit.
    let known = forked.invites[ONE].uri().to_owned();
    let digit = if known.starts_with("sip:0") { '1' } else { '0' };
    let unknown = format!("sip:{digit}{}", &known[5..]);
    let mut gone = forked.invites[ONE].clone();
    gone.start = format!("INVITE {unknown} SIP/2.0");
    for (name, value) in &mut gone.headers {
        if name == "Via" {
            value.push_str("three");
        }
    }
    forked.send(&gone);
    let key = gone.branch();
    let inbox = &forked.world.agent(forked.pbx).inbox;
    let told = inbox.iter().rev().find(|it| it.branch() == key);
    assert_eq!(told.and_then(Message::status), Some(430));
    forked.world.run(seconds(3));
    assert_eq!(
        forked.states(),
        [Some(State::Ringing), Some(State::Talking)]
    );
}

#[test]
fn the_same_branch_target_by_another_way_is_still_482() {
    let mut forked = Forked::new(4_230, [rings(), rings()]);
    let mut merged = forked.invites[ONE].clone();
    for (name, value) in &mut merged.headers {
        if name == "Via" {
            value.push_str("again");
        }
    }
    forked.send(&merged);
    let key = merged.branch();
    let inbox = &forked.world.agent(forked.pbx).inbox;
    let told: Vec<u16> = inbox
        .iter()
        .filter(|it| it.status().is_some() && it.branch() == key)
        .filter_map(Message::status)
        .collect();
    assert_eq!(told, [482]);
    assert_eq!(forked.world.calls().len(), 2);
    assert_eq!(forked.states(), [Some(State::Ringing); 2]);
}

#[test]
fn both_phones_answer_at_once_and_the_second_is_hung_up_by_the_pbx() {
    let mut forked = Forked::new(4_240, [answers(1, 200), answers(1, 200)]);
    forked.world.run(seconds(2));
    for branch in [ONE, TWO] {
        assert_eq!(forked.final_of(branch).status(), Some(200));
        forked.acknowledge(branch);
    }
    assert_eq!(forked.states(), [Some(State::Talking); 2]);
    let bye = letters::in_dialog("BYE", forked.pbx, &forked.final_of(TWO), 2);
    forked.send(&bye);
    forked.world.run(millis(100));
    assert_eq!(forked.states(), [Some(State::Talking), Some(State::Ended)]);
    forked.end(ONE);
}
