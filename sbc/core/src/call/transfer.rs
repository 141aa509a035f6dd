//! REFER inside a call: RFC 3515, with RFC 3892 (Referred-By) and RFC 4488 (no subscription). Here is what one call does:
//! it reads the REFER, passes it to its other leg or reports on it by NOTIFY; which of both, and the legs of two calls,
//! are [`crate::transfer`]'s.

use sbc_media::relay::Side;
use sbc_sip::{
    headers::{Event, Field, NameAddr, ReferSub, Replaces, SubscriptionState, Substate},
    limits::Limits,
    message::{Fragment, Request, Response},
    method::Method,
    status::StatusCode,
    uri::{SipUri, Uri, escape},
};

use super::{Call, CallTimer, Phase};
use crate::{
    context::Context,
    outgoing::{self, Answer},
    timers::TimerKey,
    transactions::{self, Owner, T1, Task},
};

/// Seconds that the subscription of a REFER lasts.
const LASTS: u32 = 180;

/// A REFER that waits to be decided about.
pub(crate) struct Wish {
    pub(crate) call: u64,
    pub(crate) side: Side,
    pub(crate) server: u64,
    /// Where the remaining party is to go.
    pub(crate) target: SipUri,
    /// The dialog to be replaced there, as the referrer names it.
    pub(crate) replaces: Option<Replaces>,
}

/// A transfer under way: the subscription that its REFER made.
pub(super) struct Referral {
    /// The referrer.
    side: Side,
    /// CSeq of the REFER, if it is not the first of its dialog.
    id: Option<u32>,
    /// The referrer wants no NOTIFY.
    quiet: bool,
    /// It was passed on: the CSeq of our own REFER.
    passed: Option<u32>,
    /// We do it ourselves.
    promised: bool,
}

/// What another call is to be told.
pub(crate) enum Turn {
    /// The call made for a transfer was answered.
    Answered(u64),
    /// It was not.
    Failed {
        /// The call with the REFER.
        call: u64,
        status: u16,
    },
    /// The call with the REFER is over.
    Dropped(u64),
    /// The far end that a call was to be replaced by has its answer.
    Replaced(u64),
    /// It could not have one.
    NotReplaced {
        new: u64,
        old: u64,
        /// The leg that stays.
        side: Side,
    },
    /// A 2xx came again for a leg that has gone over to another call.
    Again(Box<Response>),
}

impl Call {
    /// A REFER: what is asked for, and whether it may be thought about now.
    pub(super) fn refer(&mut self, cx: &mut Context, side: Side, server: u64, request: &Request) {
        let wish = match self.wish(side, server, request) {
            Ok(wish) => wish,
            Err(status) => {
                transactions::respond_plain(cx, server, status);
                return;
            }
        };
        let quiet = request
            .headers
            .refer_sub()
            .is_some_and(|subscription| !subscription.wanted);
        let first = !std::mem::replace(self.referred_mut(side), true);
        self.referral = Some(Referral {
            side,
            id: (!first).then_some(request.headers.cseq.number),
            quiet,
            passed: None,
            promised: false,
        });
        cx.wishes.push_back(wish);
    }

    fn referred_mut(&mut self, side: Side) -> &mut bool {
        let [a, b] = &mut self.referred;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    fn wish(&self, side: Side, server: u64, request: &Request) -> Result<Wish, u16> {
        let other_stands = self
            .leg(side.other())
            .is_some_and(|leg| leg.confirmed && !leg.over);
        if self.phase != Phase::Answered || !other_stands {
            return Err(481);
        }
        if self.referral.is_some() || self.exchange.is_some() || self.own.is_some() {
            return Err(491);
        }
        let target = match request.headers.refer_to().map(|target| &target.uri) {
            Some(Uri::Sip(target)) => target.detached(),
            Some(_) => return Err(416),
            None => return Err(400),
        };
        let invites = target
            .params
            .plain("method")
            .is_none_or(|method| method.eq_ignore_ascii_case("INVITE"));
        if !invites {
            return Err(403);
        }
        let mut fields = target
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case("Replaces"));
        let replaces = match fields.next() {
            Some(field) => {
                let text = String::from_utf8(escape::resolve(&field.value).into_owned());
                let replaces = text.ok().and_then(|text| text.parse().ok());
                Some(replaces.ok_or(400_u16)?)
            }
            None => None,
        };
        Ok(Wish {
            call: self.id,
            side,
            server,
            target,
            replaces,
        })
    }

    /// The REFER is refused.
    pub(crate) fn referral_refused(&mut self, cx: &mut Context, server: u64, status: u16) {
        self.referral = None;
        transactions::respond_plain(cx, server, status);
    }

    /// We do what the REFER asks for.
    pub(crate) fn referral_taken(&mut self, cx: &mut Context, server: u64) {
        if let Some(referral) = &mut self.referral {
            referral.promised = true;
        }
        self.answer_refer(cx, server, 202);
        self.report(cx, StatusCode::TRYING, false);
    }

    fn answer_refer(&mut self, cx: &mut Context, server: u64, status: u16) {
        let Some(referral) = &self.referral else {
            return;
        };
        let fields = match referral.quiet {
            true => vec![Field::ReferSub(ReferSub::new(false))],
            false => Vec::new(),
        };
        let Some(leg) = self.leg(referral.side) else {
            return;
        };
        let answer = Answer {
            status: outgoing::status(status),
            contact: outgoing::contact(cx, &leg.hop),
            fields,
            ..Answer::default()
        };
        transactions::respond(cx, server, answer);
    }

    /// NOTIFY to the referrer. `last`: the transfer is over, one way or the other. Whether one was sent.
    fn report(&mut self, cx: &mut Context, status: StatusCode, last: bool) -> bool {
        let Some(referral) = &self.referral else {
            return false;
        };
        let (side, id, quiet) = (referral.side, referral.id, referral.quiet);
        if last {
            self.referral = None;
        }
        let call = self.id;
        let Some(leg) = self
            .leg_mut(side)
            .filter(|leg| leg.confirmed && !leg.over && !quiet)
        else {
            return false;
        };
        let (hop, mut notify) = leg.request(cx, Method::Notify);
        let event = Event::new("refer");
        let event = match id {
            Some(id) => event.with_id(id.to_string()),
            None => event,
        };
        notify.headers.push(Field::Event(event));
        notify.headers.push(Field::SubscriptionState(if last {
            SubscriptionState::terminated("noresource")
        } else {
            SubscriptionState::active(LASTS)
        }));
        let contact = outgoing::contact(cx, &hop);
        notify.headers.contacts.extend(contact.map(NameAddr::new));
        notify.set_body(
            Fragment::media_type(),
            Fragment::of_status(status).to_bytes(),
        );
        let owner = Owner::Call {
            call,
            side,
            task: Task::Report,
        };
        transactions::request(cx, hop, notify, owner);
        true
    }

    /// The transfer that this call asked for failed: the call itself goes on as it was.
    pub(crate) fn transfer_failed(&mut self, cx: &mut Context, status: u16) {
        let status = outgoing::status(if status < 300 { 503 } else { status });
        let side = self.referred_side();
        self.report(cx, status, true);
        let left = side.and_then(|side| self.leg(side));
        if left.is_some_and(|leg| leg.over) {
            self.end(cx, "transfer-failed");
        }
    }

    /// The other party is gone to its new one: the referrer is told, then hung up.
    pub(crate) fn transfer_done(&mut self, cx: &mut Context) {
        self.drop_offers(cx);
        self.media.close(cx);
        self.parting = true;
        if self.report(cx, StatusCode::OK, true) {
            // The referrer often hangs up by itself when it hears so.
            cx.timers
                .set(TimerKey::Call(self.id, CallTimer::Parting), cx.now + 8 * T1);
        } else {
            self.end(cx, "transferred");
        }
    }

    /// What is under way is not worth finishing.
    pub(crate) fn drop_offers(&mut self, cx: &mut Context) {
        if let Some(exchange) = self.exchange.take() {
            transactions::respond_plain(cx, exchange.server, 491);
            cx.timers
                .cancel(TimerKey::Call(self.id, CallTimer::Acknowledge));
            if let Some((client, _)) = exchange.client {
                transactions::cancel(cx, client);
            }
        }
        self.offer_lost(cx);
        self.own = None;
    }

    /// The referrer answered a NOTIFY, or did not.
    pub(crate) fn report_answered(&mut self, cx: &mut Context) {
        if self.parting {
            self.end(cx, "transferred");
        }
    }

    /// REFER to the other leg, in the names of that side.
    pub(crate) fn pass_refer(&mut self, cx: &mut Context, server: u64, target: SipUri) {
        let Some(referral) = &self.referral else {
            return;
        };
        let (to, quiet, call) = (referral.side.other(), referral.quiet, self.id);
        let Some(leg) = self.leg_mut(to) else { return };
        let referrer = leg.own().clone();
        let (hop, mut refer) = leg.request(cx, Method::Refer);
        let cseq = leg.own_cseq();
        let contact = outgoing::contact(cx, &hop);
        refer.headers.contacts.extend(contact.map(NameAddr::new));
        refer.headers.push(Field::ReferTo(NameAddr::new(target)));
        refer
            .headers
            .push(Field::ReferredBy(NameAddr::new(referrer.uri)));
        if quiet {
            refer.headers.push(Field::ReferSub(ReferSub::new(false)));
            refer.headers.push(outgoing::supported(&["norefersub"]));
        }
        let owner = Owner::Call {
            call,
            side: to,
            task: Task::Refer(server),
        };
        transactions::request(cx, hop, refer, owner);
        if let Some(referral) = &mut self.referral {
            referral.passed = Some(cseq);
        }
        cx.timers.set(
            TimerKey::Call(self.id, CallTimer::Referral),
            cx.now + std::time::Duration::from_secs(u64::from(LASTS)),
        );
    }

    /// The far side's answer to the REFER that was passed on; `None`: there was none, and the status stands for it.
    pub(crate) fn refer_answered(
        &mut self,
        cx: &mut Context,
        side: Side,
        server: u64,
        status: u16,
        response: Option<&Response>,
    ) {
        let Some(referral) = &self.referral else {
            return;
        };
        if !(200..=299).contains(&status) {
            // Its challenge or redirection is none of the referrer's business.
            let told = match status {
                300..=399 | 401 | 407 => 403,
                _ => status,
            };
            self.referral_refused(cx, server, told);
            if status == 481 {
                self.end_if_lost(cx, side, status);
            }
            return;
        }
        let quiet = referral.quiet;
        let agreed = response
            .and_then(|response| response.headers.refer_sub())
            .is_some_and(|subscription| !subscription.wanted);
        self.answer_refer(cx, server, 202);
        if quiet && agreed {
            self.referral = None;
        }
    }

    /// A NOTIFY inside the call: news of a REFER that was passed on. RFC 3515 §2.4.5.
    pub(super) fn referral_news(
        &mut self,
        cx: &mut Context,
        side: Side,
        server: u64,
        request: &Request,
    ) {
        let headers = &request.headers;
        let Some(event) = headers.event() else {
            transactions::respond_plain(cx, server, 489);
            return;
        };
        let passed = self
            .referral
            .as_ref()
            .filter(|referral| referral.side == side.other())
            .and_then(|referral| referral.passed);
        let ours = event.package == "refer"
            && event.id().is_none_or(|id| {
                Some(id.as_str()) == passed.map(|cseq| cseq.to_string()).as_deref()
            });
        if !ours || passed.is_none() {
            transactions::respond_plain(cx, server, 481);
            return;
        }
        let status = request
            .body_part()
            .filter(|body| body.kind.is("message", "sipfrag"))
            .and_then(|body| Fragment::parse(body.bytes, &Limits::default()).ok())
            .and_then(|fragment| fragment.status());
        let over = headers
            .subscription_state()
            .is_some_and(|state| state.state == Substate::Terminated);
        transactions::respond_plain(cx, server, 200);
        match (status, over) {
            (Some(status), _) => {
                self.report(cx, status, over || status.is_final());
            }
            (None, true) => {
                self.report(cx, StatusCode::SERVICE_UNAVAILABLE, true);
            }
            (None, false) => {}
        }
    }

    /// Nothing more is heard of a REFER that was passed on.
    pub(super) fn referral_timer(&mut self) {
        self.referral = None;
    }

    /// The call ends: nobody is left to be transferred.
    pub(super) fn drop_transfer(&mut self, cx: &mut Context) {
        if self
            .referral
            .take()
            .is_some_and(|referral| referral.promised)
        {
            cx.turns.push_back(Turn::Dropped(self.id));
        }
    }

    /// Whether a call is being made for the transfer that this side wanted.
    pub(super) fn has_promised(&self, side: Side) -> bool {
        self.referral
            .as_ref()
            .is_some_and(|referral| referral.side == side && referral.promised)
    }

    /// The side of the referrer.
    pub(crate) fn referred_side(&self) -> Option<Side> {
        self.referral.as_ref().map(|referral| referral.side)
    }

    /// Whether a leg's far end does REFER.
    pub(crate) fn takes_refer(&self, side: Side) -> bool {
        self.leg(side).is_some_and(|leg| leg.ability.refer)
    }
}

/// Fields of a URI that asks for a dialog to be replaced.
pub(crate) fn with_replaces(mut target: SipUri, replaces: &Replaces) -> SipUri {
    target.headers = vec![sbc_sip::uri::UriHeader {
        name: "Replaces".into(),
        value: escape::header(&replaces.to_string()),
    }];
    target
}
