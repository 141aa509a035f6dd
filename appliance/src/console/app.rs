//! The console as a state machine: keys and messages from init in, a page and messages to init out. Knows no terminal and no
//! clock; time is an argument. One exists; all terminals show it, so that work begun at one can go on at another.

use appliance_config::{Document, Language, Sentence};
use broker_proto::{
    RequestId,
    control::{BLINKS, Command, FromChild, Trial},
    network_test::{Cable, Probe},
};

use super::{
    draft::{Draft, Id, Problem, sentence},
    menu,
    page::{Page, View},
    steps::{Context, Port, Step},
};

/// How often the ports are listed anew while their page is shown, in ms.
const PORTS_EVERY_MS: u64 = 2_000;
/// Lines that one answer may fill, at most.
const MAX_LINES: usize = 2_000;

/// What init was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Put the draft into force.
    Propose,
    /// Blink: the port of that index.
    Identify(usize),
    /// See `Command`.
    NetworkTest,
    /// See `Command`.
    SelfTest,
    /// See `Command`.
    FactoryReset,
    /// See `Command`.
    PowerOff,
    /// See `Command`.
    Reboot,
    /// See `Command`.
    Keep,
    /// See `Command`.
    GoBack,
}

/// Where the person is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Init has not said yet whether there is a configuration.
    Starting,
    /// In the wizard.
    Step(Step),
    /// Ctrl-C was pressed there.
    Interrupted(Step),
    /// The first set-up was left.
    Paused(Step),
    /// Waiting for init.
    Working(Job),
    /// What init answered.
    Answered(Job, Result<Vec<String>, Vec<String>>),
    /// Status and menu.
    Status,
    /// Power off or restart?
    Power,
    /// First question before erasing.
    Erase,
    /// Second question.
    EraseWord,
    /// The operators' password is asked for.
    LogIn,
    /// What the network test found.
    Tested(Vec<(String, Cable)>, Vec<Probe>),
    /// A changed configuration is on trial.
    Trial,
    /// What became of it.
    TrialOver(Trial),
}

/// See the module.
pub struct App {
    pub(super) place: Place,
    pub(super) draft: Draft,
    /// Something was typed that is not in force.
    pub(super) dirty: bool,
    pub(super) base: Option<Document>,
    pub(super) revision: u64,
    pub(super) ports: Vec<Port>,
    pub(super) status: Vec<(String, String)>,
    pub(super) message: Option<Sentence>,
    /// Init has let an operator in.
    pub(super) operator: bool,
    /// A password is with init.
    pub(super) logging_in: Option<RequestId>,
    /// The configuration in force is on trial until then.
    pub(super) trial_ends_ms: Option<u64>,
    /// It.
    pub(super) tried: Option<Document>,
    /// Document whose certificate init is asked for, or has made, with its fingerprint.
    preparing: Option<(RequestId, String)>,
    prepared: Option<(String, Result<String, Vec<String>>)>,
    pub(super) now_ms: u64,
    pub(super) last_key_ms: u64,
    pub(super) problems: Vec<Problem>,
    pub(super) view: View,
    pub(super) waiting: Option<(RequestId, Job)>,
    listing: Option<RequestId>,
    next_id: u32,
    ports_due_ms: u64,
    pub(super) out: Vec<FromChild>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            place: Place::Starting,
            draft: Draft::new(),
            dirty: false,
            base: None,
            revision: 0,
            ports: Vec::new(),
            status: Vec::new(),
            message: None,
            operator: false,
            logging_in: None,
            trial_ends_ms: None,
            tried: None,
            preparing: None,
            prepared: None,
            now_ms: 0,
            last_key_ms: 0,
            problems: Vec::new(),
            view: View {
                focus: Id::Next,
                cursor: 0,
                scroll: 0,
            },
            waiting: None,
            listing: None,
            next_id: 1,
            ports_due_ms: 0,
            out: Vec::new(),
        }
    }
}

impl App {
    /// Messages for init, in order.
    pub fn take_messages(&mut self) -> Vec<FromChild> {
        core::mem::take(&mut self.out)
    }

    /// When [`Self::tick`] is due, in ms of the same clock; `None`: nothing waits for time.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        self.listing_due()
            .into_iter()
            .chain(self.operator_due())
            .chain(self.trial_due())
            .min()
    }

    fn listing_due(&self) -> Option<u64> {
        (self.place == Place::Step(Step::Ports) && self.listing.is_none())
            .then_some(self.ports_due_ms)
    }

    /// Time passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.tick_operator();
        if self.listing_due().is_some_and(|due| due <= now_ms) {
            self.ports_due_ms = now_ms + PORTS_EVERY_MS;
            self.listing = Some(self.ask(Command::Ports));
        }
    }

    fn ask(&mut self, command: Command) -> RequestId {
        let id = self.fresh_id();
        self.out.push(FromChild::Command { id, command });
        id
    }

    pub(super) fn fresh_id(&mut self) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1).max(1);
        id
    }

    /// The configuration in force, from init; empty: there is none.
    pub fn configuration(&mut self, revision: u64, text: &str) {
        let first = self.base.is_none();
        self.revision = revision;
        self.base = if text.is_empty() {
            None
        } else {
            Document::parse(text, "gatehouse.toml").ok()
        };
        if !self.dirty {
            self.draft = self.fresh_draft();
        }
        let busy = self.waiting.is_some_and(|(_, job)| job == Job::Propose)
            || matches!(self.place, Place::Answered(Job::Propose, _));
        match (&self.base, first) {
            (None, _) if self.place == Place::Starting => self.go(Place::Step(Step::Language)),
            (Some(_), true) if !busy => self.go(Place::Status),
            _ => {}
        }
    }

    pub(super) fn fresh_draft(&self) -> Draft {
        let mut draft = self.base.as_ref().map_or_else(Draft::new, Draft::of);
        if self.base.is_none() {
            draft.set(Id::Language, self.draft.value(Id::Language).to_owned());
        }
        draft
    }

    /// Lines for the status page, from init.
    pub fn status(&mut self, lines: Vec<(String, String)>) {
        self.status = lines;
        self.status.truncate(MAX_LINES);
    }

    /// An answer of init.
    pub fn answer(&mut self, id: RequestId, result: Result<String, Vec<String>>) {
        if self.listing == Some(id) {
            self.listing = None;
            if let Ok(text) = result {
                self.ports = Port::list(&text);
            }
            return;
        }
        if let Some((_, document)) = self.preparing.take_if(|(asked, _)| *asked == id) {
            self.prepared = Some((document, result));
            return;
        }
        let Some((_, job)) = self.waiting.take_if(|(waiting, _)| *waiting == id) else {
            return;
        };
        let lines = |text: &str| {
            text.lines()
                .take(MAX_LINES)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let result = match result {
            Ok(text) => Ok(lines(&text)),
            Err(mut why) => {
                why.truncate(MAX_LINES);
                Err(why)
            }
        };
        if let Job::Identify(index) = job {
            let text = match result {
                Ok(lines) | Err(lines) => lines.join("\n"),
            };
            self.identified(index, &text);
            return;
        }
        // What became of the trial is told apart.
        if matches!(job, Job::Keep | Job::GoBack) && result.is_ok() {
            return;
        }
        if job == Job::Propose && result.is_ok() {
            self.draft.forget_secrets();
            self.dirty = false;
        }
        self.go(Place::Answered(job, result));
    }

    /// What a network test found.
    pub fn tested(&mut self, id: RequestId, cables: Vec<(String, Cable)>, probes: Vec<Probe>) {
        if self
            .waiting
            .take_if(|(waiting, _)| *waiting == id)
            .is_some()
        {
            self.go(Place::Tested(cables, probes));
        }
    }

    /// Fingerprint of the certificate that will be in force with this document, or why there is none; `None`: not known yet.
    pub(super) fn fingerprint(&self, document: &Document) -> Option<Result<String, Vec<String>>> {
        if self.base.is_some() {
            return self
                .status_of("certificate")
                .map(|print| Ok(print.to_owned()));
        }
        let (of, result) = self.prepared.as_ref()?;
        (*of == document.canonical()).then(|| result.clone())
    }

    /// Has init make the first certificate, so that its fingerprint can be read before anything is confirmed.
    fn prepare(&mut self) {
        let (problems, others, document) = self.all_problems();
        if self.base.is_some() || !problems.is_empty() || !others.is_empty() {
            return;
        }
        let document = document.canonical();
        let known = self
            .prepared
            .as_ref()
            .is_some_and(|(of, result)| *of == document && result.is_ok());
        let asked = self
            .preparing
            .as_ref()
            .is_some_and(|(_, of)| *of == document);
        if known || asked {
            return;
        }
        let id = self.fresh_id();
        self.preparing = Some((id, document.clone()));
        self.out.push(FromChild::Prepare { id, document });
    }

    /// Language of everything shown.
    #[must_use]
    pub fn language(&self) -> Language {
        match (&self.base, &self.place) {
            (
                Some(base),
                Place::Status
                | Place::Power
                | Place::Erase
                | Place::EraseWord
                | Place::LogIn
                | Place::Tested(..)
                | Place::Trial
                | Place::TrialOver(_),
            ) => base.host.language,
            _ => self.draft.language(),
        }
    }

    pub(super) fn say(&self, english: &str, german: &str) -> String {
        if self.language() == Language::German {
            german
        } else {
            english
        }
        .to_owned()
    }

    /// The value of a status line.
    pub(super) fn status_of(&self, key: &str) -> Option<&str> {
        self.status
            .iter()
            .find(|(have, _)| have == key)
            .map(|(_, value)| value.as_str())
    }

    /// What init complains about.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.status
            .iter()
            .filter(|(key, _)| key == "warning")
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// What is to be shown, and where the focus is.
    #[must_use]
    pub fn page(&self) -> (Page, View) {
        let mut page = match &self.place {
            Place::Step(Step::Review) => menu::review(self),
            Place::Step(step) => self.step_page(*step),
            _ => menu::page(self),
        };
        let message = self.message.as_ref();
        page.message = message.map(|message| {
            if self.language() == Language::German {
                message.german.clone()
            } else {
                message.english.clone()
            }
        });
        let mut view = self.view;
        let focusable = page.focusable();
        if !focusable.contains(&view.focus) {
            view.focus = self.first_focus(&focusable);
        }
        (page, view)
    }

    fn step_page(&self, step: Step) -> Page {
        let complaints = self.complaints();
        Context {
            draft: &self.draft,
            ports: &self.ports,
            problems: &self.problems,
            fingerprint: self.status_of("certificate"),
            complaints: &complaints,
            first: self.base.is_none(),
            foreign_routes: self
                .base
                .as_ref()
                .is_some_and(|base| !self.draft.plan_is_ours(base)),
        }
        .page(step)
    }

    /// Where the focus begins: with the first problem, the first field, or the button that does least.
    fn first_focus(&self, focusable: &[Id]) -> Id {
        let problem = self
            .problems
            .iter()
            .map(|(id, _)| *id)
            .find(|id| focusable.contains(id));
        let next = focusable.contains(&Id::Next).then_some(Id::Next);
        let field = focusable
            .iter()
            .copied()
            .find(|id| !matches!(id, Id::Identify(_) | Id::Back | Id::Next | Id::Confirm));
        problem
            .or(field)
            .or(next)
            .or(focusable.first().copied())
            .unwrap_or(Id::Next)
    }

    pub(super) fn go(&mut self, place: Place) {
        if place != self.place {
            self.message = None;
        }
        if place == Place::Step(Step::Ports) {
            self.ports_due_ms = 0;
        }
        let reviewed = place == Place::Step(Step::Review);
        self.place = place;
        if reviewed {
            self.prepare();
        }
        self.view = View {
            focus: Id::Word,
            cursor: 0,
            scroll: 0,
        };
        let (page, view) = self.page();
        self.focus_on(&page, view.focus);
    }

    pub(super) fn focus_on(&mut self, page: &Page, id: Id) {
        self.view.focus = id;
        self.view.cursor = page
            .field(id)
            .map_or(0, |_| self.draft.value(id).chars().count());
    }

    pub(super) fn interrupt(&mut self) {
        match self.place.clone() {
            Place::Step(step) => self.go(Place::Interrupted(step)),
            Place::Starting
            | Place::Working(_)
            | Place::Paused(_)
            | Place::Status
            | Place::Trial => {}
            _ => self.back(),
        }
    }

    pub(super) fn back(&mut self) {
        match self.place.clone() {
            Place::Step(step) => match step.previous() {
                Some(previous) => {
                    self.problems.clear();
                    self.go(Place::Step(previous));
                }
                None if self.base.is_some() => self.go(Place::Status),
                None => {}
            },
            Place::Interrupted(step) | Place::Paused(step) => self.go(Place::Step(step)),
            Place::Answered(Job::Propose, Err(_)) => self.go(Place::Step(Step::Review)),
            Place::Answered(..)
            | Place::Power
            | Place::Erase
            | Place::EraseWord
            | Place::Tested(..)
            | Place::TrialOver(_) => self.home(),
            Place::LogIn => self.leave_log_in(),
            // A test that takes long must not hold the console; its answer is then not wanted any more.
            Place::Working(Job::NetworkTest | Job::SelfTest) => {
                self.waiting = None;
                self.home();
            }
            // Escape alone decides nothing.
            Place::Starting | Place::Working(_) | Place::Status | Place::Trial => {}
        }
    }

    fn home(&mut self) {
        self.draft.set(Id::Word, String::new());
        let home = if self.base.is_some() {
            Place::Status
        } else {
            Place::Step(Step::Language)
        };
        self.go(home);
    }

    pub(super) fn press(&mut self, id: Id) {
        match (self.place.clone(), id) {
            (Place::Step(_), Id::Back) => self.back(),
            (Place::Step(step), Id::Next) => self.next(step),
            (Place::Step(Step::Ports), Id::Identify(index)) => self.identify(index),
            (Place::Step(Step::Review), Id::Confirm) => self.propose(),
            (Place::Trial, Id::Back) => self.work(Command::GoBack, Job::GoBack),
            (Place::Trial, Id::Confirm) => self.work(Command::Keep, Job::Keep),
            (Place::LogIn, Id::Confirm) => self.log_in(),
            (_, Id::Back) => self.back(),
            (Place::Status | Place::Trial, Id::Entry(5)) if !self.may_act() => {
                self.go(Place::LogIn);
            }
            (Place::Status, Id::Entry(5)) => self.log_out(),
            (Place::Status, Id::Entry(_)) if !self.may_act() => {}
            (Place::Interrupted(step), Id::Entry(0)) => self.go(Place::Step(step)),
            (Place::Interrupted(step), Id::Entry(1)) => {
                let place = if self.base.is_some() {
                    Place::Status
                } else {
                    Place::Paused(step)
                };
                self.go(place);
            }
            (Place::Interrupted(_) | Place::Paused(_), Id::Entry(2)) => {
                self.draft = self.fresh_draft();
                self.dirty = false;
                self.problems.clear();
                self.go(Place::Step(Step::Language));
            }
            (Place::Paused(step), Id::Entry(0)) => self.go(Place::Step(step)),
            (Place::Paused(_), Id::Entry(3)) | (Place::Power, Id::Entry(0)) => {
                self.work(Command::PowerOff, Job::PowerOff)
            }
            (Place::Paused(_), Id::Entry(4)) | (Place::Power, Id::Entry(1)) => {
                self.work(Command::Reboot, Job::Reboot)
            }
            (Place::Status, Id::Entry(0)) => self.reconfigure(),
            (Place::Status, Id::Entry(1)) => self.work(Command::NetworkTest, Job::NetworkTest),
            (Place::Status, Id::Entry(2)) => self.work(Command::SelfTest, Job::SelfTest),
            (Place::Status, Id::Entry(3)) => self.go(Place::Erase),
            (Place::Status, Id::Entry(4)) => self.go(Place::Power),
            (Place::Erase, Id::Confirm) => self.go(Place::EraseWord),
            (Place::EraseWord, Id::Confirm) => self.erase(),
            _ => {}
        }
    }

    fn reconfigure(&mut self) {
        if !self.dirty {
            self.draft = self.fresh_draft();
        }
        self.problems.clear();
        self.go(Place::Step(Step::Language));
        if self.dirty {
            self.message = Some(sentence(
                "You go on with what you typed before; it is not in force yet.",
                "Es geht weiter mit dem vorher Eingegebenen; es gilt noch nicht.",
            ));
        }
    }

    fn work(&mut self, command: Command, job: Job) {
        if self.waiting.is_none() {
            let id = self.ask(command);
            self.waiting = Some((id, job));
        }
        if !matches!(job, Job::Identify(_)) {
            self.go(Place::Working(job));
        }
    }

    fn identify(&mut self, index: usize) {
        if let Ok(number) = u32::try_from(index) {
            self.work(Command::Identify(number), Job::Identify(index));
        }
    }

    /// The answer is a fresh list of the ports, or words.
    fn identified(&mut self, index: usize, text: &str) {
        if text == BLINKS {
            let name = self.ports.get(index).map_or("", |port| port.name.as_str());
            self.message = Some(sentence(
                format!("{name} blinks for 10 seconds: look for its lamp."),
                format!("{name} blinkt 10 Sekunden lang: auf seine Lampe achten."),
            ));
            return;
        }
        let ports = Port::list(text);
        let listed = ports
            .iter()
            .all(|port| port.mac.parse::<appliance_config::Mac>().is_ok());
        if ports.is_empty() || !listed {
            let text: String = text.lines().collect::<Vec<_>>().join(" ");
            self.message = Some(sentence(text.clone(), text));
            return;
        }
        self.ports = ports;
        self.message = self.ports.get(index).map(|port| {
            let Port { name, link, .. } = port;
            sentence(
                format!("{name}: link {link}. This card cannot blink: pull its cable and watch the link change here."),
                format!("{name}: Link {link}. Diese Karte kann nicht blinken: Kabel ziehen und den Link hier beobachten."),
            )
        });
    }

    fn erase(&mut self) {
        let word = self.say(menu::ERASE.0, menu::ERASE.1);
        if self.draft.value(Id::Word).trim() == word {
            self.draft.set(Id::Word, String::new());
            self.work(Command::FactoryReset, Job::FactoryReset);
        } else {
            self.message = Some(sentence(
                format!("Nothing was erased: the word is {}.", menu::ERASE.0),
                format!("Nichts wurde gelöscht: Das Wort heißt {}.", menu::ERASE.1),
            ));
        }
    }

    /// On to the next page, if this one is right as far as can be seen from here.
    fn next(&mut self, step: Step) {
        let fields = step.fields();
        self.problems = self
            .all_problems()
            .0
            .into_iter()
            .filter(|(id, _)| fields.contains(id))
            .collect();
        let to = if self.problems.is_empty() {
            step.next()
        } else {
            None
        };
        if let Some(to) = to {
            self.go(Place::Step(to));
            return;
        }
        self.go(Place::Step(step));
        self.message = Some(sentence(
            "Please correct what is marked with !.",
            "Bitte berichtigen, was mit ! bezeichnet ist.",
        ));
    }

    /// The document of the draft, all problems of fields, and those that belong to no field.
    pub(super) fn all_problems(&self) -> (Vec<Problem>, Vec<Sentence>, Document) {
        let mut problems = Vec::new();
        let document = self.draft.document(self.base.as_ref(), &mut problems);
        self.draft
            .check_passwords(self.base.is_none(), &mut problems);
        let mut others = Vec::new();
        for error in document.check("").err().unwrap_or_default() {
            match Draft::field_of(&error.key, self.base.as_ref()) {
                // The first sentence about a field is the nearest to what was typed.
                Some(id) if problems.iter().any(|(of, _)| *of == id) => {}
                // A zone without an address, because the one that was typed is not right.
                Some(Id::Method4(slot))
                    if problems
                        .iter()
                        .any(|(of, _)| *of == Id::Address4(slot) || *of == Id::Address6(slot)) => {}
                Some(id) => problems.push((id, error.sentence)),
                None => others.push(sentence(
                    format!("{}: {}", error.key, error.sentence.english),
                    format!("{}: {}", error.key, error.sentence.german),
                )),
            }
        }
        (problems, others, document)
    }

    fn propose(&mut self) {
        let (problems, others, document) = self.all_problems();
        let ready = matches!(self.fingerprint(&document), Some(Ok(_))) || self.base.is_some();
        if !problems.is_empty() || !others.is_empty() || self.waiting.is_some() || !ready {
            return;
        }
        let id = self.fresh_id();
        let secrets = self.draft.secrets(&document);
        self.out.push(FromChild::Propose {
            id,
            document: document.canonical(),
            secrets,
        });
        self.waiting = Some((id, Job::Propose));
        self.go(Place::Working(Job::Propose));
    }
}
