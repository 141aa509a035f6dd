//! INFO and MESSAGE inside a call: passed to the other leg, written anew, by the policies of both sides. RFC 6086,
//! RFC 3428, RFC 5168.

use broker_proto::policy::InfoKind;
use sbc_media::relay::Side;
use sbc_sip::{message::Request, method::Method};

use super::{Call, crossing::rules};
use crate::{
    bodies,
    context::Context,
    dtmf,
    message::text_body,
    outgoing::{self, Answer, events},
    transactions::{self, Owner, Task},
};

impl Call {
    /// An INFO: a digit, or that a picture be sent anew.
    pub(super) fn info_request(
        &mut self,
        cx: &mut Context,
        side: Side,
        server: u64,
        request: &Request,
    ) {
        let package = request.headers.info_package();
        let Some(body) = request.body_part() else {
            // Of old, an empty INFO asks whether the session is still there.
            let status = if package.is_some() { 469 } else { 200 };
            transactions::respond_plain(cx, server, status);
            return;
        };
        let named = package.map(|package| self.package(cx, side, &package.token));
        let named = match named {
            // RFC 6086 §4.2.2: nobody said that this package is understood.
            Some(None) => {
                transactions::respond_plain(cx, server, 469);
                return;
            }
            Some(Some(name)) => Some(name),
            None => None,
        };
        let digit = dtmf::from_info(Some(body.clone()));
        let picture = bodies::picture_fast_update(&body);
        let kind = match (&digit, &picture) {
            (Some(_), _) => InfoKind::Dtmf,
            (None, Some(_)) => InfoKind::PictureFastUpdate,
            (None, None) => {
                Self::unsupported_body(cx, server);
                return;
            }
        };
        if named.is_none() && !self.passes(cx, |rules| rules.info(&kind)) {
            Self::unsupported_body(cx, server);
            return;
        }
        self.hand_on(cx, side, server, Method::Info, |info| {
            match digit {
                Some(digit) => dtmf::into_info(info, digit),
                None => events::set_body(info, picture),
            }
            if let Some(name) = &named {
                events::info_package(info, name);
            }
        });
    }

    /// A MESSAGE inside the call.
    pub(super) fn message_request(
        &mut self,
        cx: &mut Context,
        side: Side,
        server: u64,
        request: &Request,
    ) {
        let sides = [Side::A, Side::B].into_iter();
        let legs = sides.filter_map(|side| self.leg(side));
        let most = legs.map(|leg| rules(cx, leg).message_octets()).min();
        let most = most.unwrap_or_default();
        if most == 0 {
            let answer = Answer {
                status: outgoing::status(405),
                allow: true,
                ..Answer::default()
            };
            transactions::respond(cx, server, answer);
            return;
        }
        match text_body(request, most) {
            Ok(body) => self.hand_on(cx, side, server, Method::Message, |message| {
                events::set_body(message, body);
            }),
            Err((status, _)) => {
                let fields = vec![events::accepts(&[("text", "plain")])];
                let answer = Answer {
                    status: outgoing::status(status),
                    fields,
                    ..Answer::default()
                };
                transactions::respond(cx, server, answer);
            }
        }
    }

    /// A request of our own on the other leg, whose answer goes back.
    fn hand_on(
        &mut self,
        cx: &mut Context,
        side: Side,
        server: u64,
        method: Method,
        fill: impl FnOnce(&mut Request),
    ) {
        let id = self.id;
        let other = self.leg_mut(side.other());
        let Some(leg) = other.filter(|leg| leg.confirmed && !leg.over) else {
            transactions::respond_plain(cx, server, 480);
            return;
        };
        let (hop, mut passed) = leg.request(cx, method);
        fill(&mut passed);
        let owner = Owner::Call {
            call: id,
            side: side.other(),
            task: Task::Pass(server),
        };
        transactions::request(cx, hop, passed, owner);
    }

    /// Whether the rules of both far ends agree.
    fn passes(&self, cx: &Context, agree: impl Fn(&crate::policy::Rules<'_>) -> bool) -> bool {
        [Side::A, Side::B]
            .into_iter()
            .all(|side| self.leg(side).is_some_and(|leg| agree(&rules(cx, leg))))
    }

    /// An Info-Package that both sides may use, as the other side's policy spells it.
    fn package(&self, cx: &Context, side: Side, name: &str) -> Option<String> {
        rules(cx, self.leg(side)?).info_package(name)?;
        let other = rules(cx, self.leg(side.other())?);
        other.info_package(name).map(str::to_owned)
    }

    fn unsupported_body(cx: &mut Context, server: u64) {
        let answer = Answer {
            status: outgoing::status(415),
            accept: true,
            ..Answer::default()
        };
        transactions::respond(cx, server, answer);
    }
}
