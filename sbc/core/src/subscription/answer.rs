//! What became of the requests of a subscription that were sent on. RFC 6665 §4.1.2.3, §4.2.2.

use sbc_sip::{headers::Field, message::Response};

use super::{Subscription, Task};
use crate::{
    context::Context,
    core::Core,
    message,
    outgoing::{self, Answer},
    policy::{self, fields::Crossing},
    transactions,
};

impl Core {
    /// The final response to a request of a subscription, or the status that stands for none.
    pub(crate) fn subscription_answered(
        &mut self,
        number: u64,
        task: Task,
        answered: Result<&Response, u16>,
    ) {
        if let Task::Begin(server) = task
            && self.next_notifier(number, server, answered)
        {
            return;
        }
        let cx = &mut self.cx;
        let Some(subscription) = self.subscriptions.table.get_mut(&number) else {
            // It ended meanwhile.
            let (Task::Begin(server) | Task::Refresh(server) | Task::Notify(server)) = task;
            transactions::respond_plain(cx, server, 481);
            return;
        };
        let stays = match task {
            Task::Begin(server) => subscription.begun(cx, number, server, answered),
            Task::Refresh(server) => subscription.refreshed(cx, number, server, answered),
            Task::Notify(server) => subscription.told(cx, server, answered),
        };
        if !stays {
            cx.counters
                .count("subscriptions_ended_total", "by", "answer");
            self.subscriptions.remove(&mut self.cx, number);
        }
    }
}

impl Subscription {
    /// The first SUBSCRIBE is answered. `false`: there is no subscription.
    fn begun(
        &mut self,
        cx: &mut Context,
        number: u64,
        server: u64,
        answered: Result<&Response, u16>,
    ) -> bool {
        match answered {
            Ok(response) if response.status.is_success() => {
                if self.b.remote_tag().is_none() {
                    self.b.adopt_response(response);
                }
                self.accepted(cx, number, server, response);
                true
            }
            refused => {
                self.refuse(cx, server, refused);
                false
            }
        }
    }

    fn refreshed(
        &mut self,
        cx: &mut Context,
        number: u64,
        server: u64,
        answered: Result<&Response, u16>,
    ) -> bool {
        match answered {
            Ok(response) if response.status.is_success() => {
                self.b.refresh_target_from(&response.headers.contacts);
                self.accepted(cx, number, server, response);
                true
            }
            refused => {
                let status =
                    refused.map_or_else(|status| status, |response| response.status.as_u16());
                self.refuse(cx, server, refused);
                // RFC 6665 §4.1.2.2: these end it, others leave it as it was. RFC 5057 §5.1.
                !matches!(status, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604)
            }
        }
    }

    /// A 2xx to SUBSCRIBE goes back with the seconds that the notifier grants.
    fn accepted(&mut self, cx: &mut Context, number: u64, server: u64, response: &Response) {
        let granted = response.headers.expires().unwrap_or(self.asked);
        let granted = granted.min(self.asked);
        self.lasts(cx, number, granted);
        let contact = outgoing::contact(cx, &self.a.hop);
        let own_tag = self.a.own_tag().to_owned();
        let answer = Answer {
            status: outgoing::status(if response.status.as_u16() == 202 {
                202
            } else {
                200
            }),
            tag: Some(&own_tag),
            contact,
            fields: vec![Field::Expires(granted)],
            ..Answer::default()
        };
        transactions::respond(cx, server, answer);
    }

    fn refuse(&self, cx: &mut Context, server: u64, refused: Result<&Response, u16>) {
        let from = policy::rules(&cx.surroundings, self.b.peer, self.b.hop.zone());
        let to = policy::rules(&cx.surroundings, self.a.peer, self.a.hop.zone());
        let (status, mut fields, mut challenges, min_expires) = match refused {
            Ok(response) => {
                let crossing = Crossing::of(&from, &response.headers);
                let host = self.a.own().uri.host();
                let fields = host.map(|host| crossing.fields(&to, host));
                (
                    response.status.as_u16(),
                    fields.unwrap_or_default(),
                    outgoing::challenges(response),
                    response.headers.min_expires(),
                )
            }
            Err(status) => (status, Vec::new(), Vec::new(), None),
        };
        let told = message::told(from.told(status), self.passes_challenges);
        if told != status || !matches!(told, 401 | 407) {
            challenges.clear();
        }
        if told == 489 {
            fields.push(outgoing::events::allow_events(&to));
        }
        let answer = Answer {
            status: outgoing::status(told),
            challenges,
            fields,
            min_expires: min_expires.filter(|_| told == 423),
            ..Answer::default()
        };
        transactions::respond(cx, server, answer);
    }

    /// The subscriber answered a NOTIFY. `false`: it is over.
    fn told(&mut self, cx: &mut Context, server: u64, answered: Result<&Response, u16>) -> bool {
        let status = answered.map_or_else(|status| status, |response| response.status.as_u16());
        // RFC 6665 §4.2.2: a subscriber that cannot be reached has no subscription any more.
        let gone = answered.is_err()
            || matches!(status, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604);
        let told = match status {
            200..=299 => 200,
            _ if gone => 481,
            300..=399 | 401 | 407 => 500,
            _ => status,
        };
        transactions::respond_plain(cx, server, told);
        !gone && !self.terminated
    }
}
