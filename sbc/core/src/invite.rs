//! An INVITE outside a dialog: may this caller call, and where does it go. RFC 3261 §8.2 and §13.3.1.

use sbc_sip::{message::Request, method::Method, status::StatusCode};

use crate::{
    admission,
    call::{
        Call, Original, Start,
        leg::Leg,
        session_timer::{self, Asked},
    },
    context::Context,
    core::Core,
    dispatch::Source,
    event::Event,
    ledger::{self, Subject},
    outgoing::{self, Answer, Credentials},
    policy::{self, fields::Crossing},
    priority::Spared,
    surroundings::Peer,
    target::{self, Way},
    transactions, transfer,
    transport::NextHop,
};

/// Seconds after which a caller that met a limit may try again.
const RETRY_AFTER: u32 = 10;

/// Where a call counts, and as how much.
struct Counts {
    subjects: Vec<Subject>,
    kbit: u64,
    spared: Option<Spared>,
}

impl Core {
    pub(crate) fn invite(&mut self, source: Source, request: &Request) {
        debug_assert!(request.method == Method::Invite);
        if !source.is_known() {
            self.refuse_silently(source, "stranger");
            return;
        }
        if request.headers.contacts.len() != 1 {
            self.refuse(source, request, 400, "contact");
            return;
        }
        let least = self.cx.settings().limits.min_se_seconds;
        if Asked::of(&request.headers).too_short(least) {
            let answer = session_timer::too_short(least);
            self.refuse_with(source, request, "session-too-short", answer);
            return;
        }
        let offer = match outgoing::offer_of(request) {
            Ok(offer) => offer,
            Err(status) => {
                self.refuse(source, request, status, "description");
                return;
            }
        };
        let calling = target::dialled(&request.headers.from.uri);
        let called = target::dialled(&request.uri);
        // Nobody speaks for another account than the one that it registered.
        if source.peer == Peer::Stranger && !self.registration.speaks_for(&source.flow, &calling) {
            self.refuse(source, request, 403, "not-the-account");
            return;
        }
        let told = match self.told_of(source, request) {
            Ok(told) => told,
            Err((status, reason)) => {
                self.refuse(source, request, status, reason);
                return;
            }
        };
        let replaced = match transfer::wanted(request).filter(|_| told.is_none()) {
            Some(replaces) => match self.replaced_by(source, replaces) {
                Ok(replaced) => Some(replaced),
                Err((status, reason)) => {
                    self.refuse(source, request, status, reason);
                    return;
                }
            },
            None => None,
        };
        let spared = self.spared(&source, request);
        let kbit = ledger::kbit_of(offer.as_ref());
        let subjects = self.subjects(&source, &calling);
        if replaced.is_some() {
            if spared.is_none() && self.too_many(source, request, &subjects, kbit) {
                return;
            }
            let Some(server) = self.serve(source, request) else {
                return;
            };
            transactions::respond_plain(&mut self.cx, server, 100);
            let way = (transfer::nowhere(), replaced);
            self.begin(
                source,
                request,
                server,
                way,
                (calling, called),
                (
                    offer,
                    Counts {
                        subjects,
                        kbit,
                        spared,
                    },
                ),
            );
            return;
        }
        let found = target::find(
            &mut self.cx,
            &self.registration.bindings,
            (source.peer, &source.flow),
            (&calling, &request.uri),
            (kbit, spared.is_some()),
        );
        let mut way = match found {
            Ok(way) => way,
            Err(none) => {
                if let Some((limit, subject)) = &none.limit {
                    self.limit_event(source, limit, subject);
                }
                let answer = Answer {
                    status: outgoing::status(none.status),
                    retry_after: none.passing.then_some(RETRY_AFTER),
                    ..Answer::default()
                };
                self.refuse_with(source, request, none.reason, answer);
                return;
            }
        };
        if let Some((zone, replaces)) = told {
            // Names of the PBX's dialogs are told to nobody but the PBX.
            way.targets
                .retain(|target| target.peer == Peer::Registrar && target.hop.zone() == zone);
            if way.targets.is_empty() {
                self.refuse(source, request, 481, "no-dialog");
                return;
            }
            way.replaces = Some(Box::new(replaces));
        }
        let targets = way.targets.iter();
        let mut targets: Vec<String> = targets.map(|target| target.uri.to_string()).collect();
        // Several addresses of one place; which one is tried is told with the try.
        targets.dedup();
        let decision = format!("route {}: {}", way.route, targets.join(", then "));
        self.cx.decided(request.headers.call_id.text(), &decision);
        match spared {
            Some(why) => self
                .cx
                .counters
                .count("calls_spared_total", "why", why.word()),
            None if self.too_many(source, request, &subjects, kbit) => return,
            None => {}
        }
        let Some(server) = self.serve(source, request) else {
            return;
        };
        transactions::respond_plain(&mut self.cx, server, 100);
        let counts = Counts {
            subjects,
            kbit,
            spared,
        };
        self.begin(
            source,
            request,
            server,
            (way, None),
            (calling, called),
            (offer, counts),
        );
    }

    /// Where a call counts on its caller's side.
    fn subjects(&self, source: &Source, calling: &str) -> Vec<Subject> {
        let mut subjects = vec![Subject::Zone(source.flow.zone)];
        if let Peer::Trunk(index) = source.peer {
            let trunk = self.cx.surroundings.trunk(index);
            subjects.extend(trunk.map(|trunk| Subject::Trunk(trunk.name.clone())));
        } else if source.registered {
            subjects.push(Subject::Account(calling.to_owned()));
        }
        subjects
    }

    /// A limit of a zone, trunk or account is reached.
    fn limit_event(&mut self, source: Source, limit: &'static str, subject: &Subject) {
        self.cx
            .counters
            .count("limits_reached_total", subject.word(), limit);
        let name = subject.name(self.cx.settings());
        self.cx.event(&Event::Limit {
            flow: &source.flow,
            reason: limit,
            subject: Some((subject.word(), &name)),
        });
    }

    /// Rates and numbers of calls.
    fn too_many(
        &mut self,
        source: Source,
        request: &Request,
        subjects: &[Subject],
        kbit: u64,
    ) -> bool {
        let limits = self.cx.settings().limits;
        if self.stopping {
            self.busy(source, request, "stopping");
            return true;
        }
        if let Err(shed) = self.rates.call(self.cx.now, limits.call_rate) {
            self.shed(source, request, shed);
            return true;
        }
        if self.call_count() >= usize::try_from(limits.calls).unwrap_or(usize::MAX) {
            self.limit_of_all(source, "calls");
            self.busy(source, request, "calls");
            return true;
        }
        let live = self
            .per_source
            .get(&admission::aggregate(source.flow.peer.ip()))
            .copied()
            .unwrap_or(0);
        if source.peer == Peer::Stranger && live >= limits.calls_per_source {
            self.limit_of_all(source, "calls-per-source");
            self.busy(source, request, "calls-per-source");
            return true;
        }
        for subject in subjects {
            let Context {
                surroundings,
                ledger,
                now,
                ..
            } = &mut self.cx;
            let Err(limit) = ledger.may(*now, surroundings.settings(), subject, kbit) else {
                continue;
            };
            self.limit_event(source, limit, subject);
            // A user has to wait for himself; a zone or trunk is told that we are full.
            let status = match subject {
                Subject::Account(_) => StatusCode::TEMPORARILY_UNAVAILABLE,
                Subject::Zone(_) | Subject::Trunk(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            let answer = Answer {
                status,
                retry_after: Some(RETRY_AFTER),
                ..Answer::default()
            };
            self.refuse_with(source, request, "limit", answer);
            return true;
        }
        false
    }

    fn limit_of_all(&mut self, source: Source, reason: &'static str) {
        let (flow, subject) = (&source.flow, None);
        self.cx.event(&Event::Limit {
            flow,
            reason,
            subject,
        });
    }

    fn busy(&mut self, source: Source, request: &Request, reason: &'static str) {
        let answer = Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after: Some(30),
            ..Answer::default()
        };
        self.refuse_with(source, request, reason, answer);
    }

    fn begin(
        &mut self,
        source: Source,
        request: &Request,
        server: u64,
        (way, replaced): (Way, Option<(u64, sbc_media::relay::Side)>),
        (calling, called): (String, String),
        (offer, counts): (Option<sbc_sip::sdp::SessionDescription>, Counts),
    ) {
        let callee =
            replaced.and_then(|replaced| self.stand_in_for(replaced).map(|leg| (leg, replaced)));
        let id = self.cx.next_number();
        let Context {
            surroundings,
            ledger,
            now,
            ..
        } = &mut self.cx;
        let (kbit, spared) = (counts.kbit, counts.spared);
        ledger.begin(
            *now,
            surroundings.settings(),
            id,
            counts.subjects,
            (kbit, spared.is_some()),
        );
        let (own, other) = (request.headers.to.clone(), request.headers.from.clone());
        let hop = NextHop::Flow(source.flow);
        let mut leg = Leg::new(
            &mut self.cx,
            hop,
            source.peer,
            request.headers.call_id.text().to_string(),
            outgoing::without_tag(own),
            outgoing::without_tag(other),
        );
        leg.adopt_request(request);
        let counted =
            (source.peer == Peer::Stranger).then(|| admission::aggregate(source.flow.peer.ip()));
        if let Some(address) = counted {
            *self.per_source.entry(address).or_default() += 1;
        }
        self.cx.counters.count("calls_total", "", "");
        let zone = source.flow.zone;
        let rules = policy::rules(&self.cx.surroundings, source.peer, zone);
        let crossing = Crossing::of(&rules, &request.headers);
        let start = Start {
            leg,
            server,
            cseq: request.headers.cseq.number,
            offer,
            original: Original {
                max_forwards: request
                    .headers
                    .max_forwards()
                    .unwrap_or(70)
                    .min(70)
                    .saturating_sub(1),
                display: outgoing::display_of(&request.headers.from),
                credentials: Credentials::of(request),
                crossing,
                replaces: way.replaces,
            },
            targets: way.targets,
            source: counted,
            route: way.route,
            failover: way.failover,
            spared,
            calling,
            called,
            asked: Asked::of(&request.headers),
            made_for: None,
            referrer: None,
            callee,
        };
        let call = Call::start(&mut self.cx, id, start);
        self.calls.insert(id, Box::new(call));
        if let Some(replaced) = replaced {
            self.take_over(id, replaced);
        }
    }
}
