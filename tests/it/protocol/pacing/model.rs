//! The pacing of two replicas: upwarden's own `Schedule` twice, the script of the store, and a network between them.
//!
//! | action | stands for |
//! |---|---|
//! | `Call` | `Pacer::acquire`, which admits a call, and `Pacer::sync`, which reserves it |
//! | `CallLost`, `CallLate`, `Reply` | the same where the store's reply is lost, or comes later |
//! | `Wait` | time passes; then `Pacer::step` and `Pacer::sync` of each replica that is awake, until nothing is due |
//! | `Sleep`, `Wake` | a process that stands still |
//! | `Kill` | a process that dies, and starts again without any memory |
//! | `Jump` | the clock of a replica is set |
//! | `Down`, `Up` | the store |
//!
//! A call reaches Upwork within `SLACK` of the moment that it was released or reserved for, as `windows` assumes: the last ones
//! at once, the others as late as they may, which is the worst order.

use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use serde_json::Value;
use stateright::{Model, Property};
use upwarden::testing::broker::Pace;
use upwarden::testing::clock::Timestamp;
use upwarden::testing::pacing::{Admission, CallerId, Release, Schedule};
use upwarden::testing::store::RateRequest;

use super::script::Server;

const REPLICAS: usize = 2;
/// 2026-11-24T12:00:00Z
const START: i64 = 1_795_521_600_000;
/// `SLACK` of `windows`.
pub(super) const WAY: i64 = 500;

pub(super) const SECOND: &str = "no second has more calls than Upwork allows";
pub(super) const MINUTE: &str = "no minute has more calls than Upwork allows";
const ALL: &str = "every call is made";

/// What may happen, and how often.
#[derive(Clone, Debug)]
pub(super) struct Pacing {
    pub(super) per_second: u32,
    pub(super) per_minute: u32,
    /// The number of calls: one more than the checked limit.
    pub(super) calls: usize,
    /// How time may pass, and how often.
    pub(super) times: [i64; 2],
    pub(super) waits: usize,
    /// One of these happens once. `Jump` and the like name any replica.
    pub(super) fault: Option<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Call(usize),
    Wait(i64),
    Reply(usize),
    Wake(usize),
    Up,
    // Faults.
    CallLost(usize),
    CallLate(usize),
    Sleep(usize),
    Kill(usize),
    Jump(usize, i64),
    Down,
}

/// A call that was released.
#[derive(Clone, Debug)]
struct Flight {
    release: Release,
    /// It arrives by then.
    deadline: i64,
}

/// A reply of the store, and when the script ran.
#[derive(Clone, Debug)]
struct Transit {
    request: RateRequest,
    reply: Value,
    ran: i64,
}

#[derive(Clone, Debug)]
struct Replica {
    schedule: Schedule,
    /// How far its clock is ahead.
    ahead: i64,
    /// The id of its reserved call, and the moment, by the store's clock.
    reserved: Option<(u64, i64)>,
    flights: Vec<Flight>,
    transit: Option<Transit>,
    asleep: bool,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    /// By the store's clock and Upwork's.
    now: i64,
    replicas: Vec<Replica>,
    server: Server,
    /// When calls reached Upwork.
    arrivals: Vec<i64>,
    calls: usize,
    waits: usize,
    faulty: bool,
    down: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Lost,
    Late,
}

/// States are equal if they look the same.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        struct Bytes<'a, H>(&'a mut H);
        impl<H: Hasher> Write for Bytes<'_, H> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        write!(Bytes(hasher), "{self:?}").unwrap();
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Replica {
    fn new(pace: &Pace, name: String) -> Self {
        let mut schedule = Schedule::new(pace);
        schedule.share(name);
        Self { schedule, ahead: 0, reserved: None, flights: Vec::new(), transit: None, asleep: false }
    }

    fn clock(&self, now: i64) -> Timestamp {
        Timestamp::from_millis(now + self.ahead)
    }

    fn runs(&self) -> bool {
        !self.asleep && self.transit.is_none()
    }

    fn release(&mut self, release: Release, now: i64) {
        let reserved = self.reserved.filter(|(id, _)| *id == release.id);
        let deadline = reserved.map_or(now, |(_, at)| at) + WAY;
        self.flights.push(Flight { release, deadline: deadline.max(now) });
    }

    fn step(&mut self, now: i64) {
        let step = self.schedule.step(self.clock(now));
        for (_, release) in step.released {
            self.release(release, now);
        }
    }

    fn replied(&mut self, Transit { request, reply, ran }: Transit, now: i64) {
        let call = serde_json::to_value(&request).unwrap()["call"].as_u64();
        if let (Some(id), Some(wait), Some(true)) = (call, reply["wait"].as_i64(), reply["reserved"].as_bool()) {
            self.reserved = Some((id, ran + wait));
        }
        let reply = serde_json::from_value(reply).unwrap();
        self.schedule.replied(request, Some(&reply), self.clock(now));
    }
}

impl State {
    /// A replica does all that is due. Its first request to the store has this fate.
    fn run(&mut self, number: usize, mut fate: Fate) {
        let now = self.now;
        let replica = &mut self.replicas[number];
        replica.step(now);
        while let Ok(request) = replica.schedule.request(replica.clock(now)) {
            let reached = (!self.down).then(|| self.server.run(&serde_json::to_value(&request).unwrap(), now));
            match (reached, fate) {
                (Some(reply), Fate::Answered) => replica.replied(Transit { request, reply, ran: now }, now),
                (Some(reply), Fate::Late) => {
                    replica.transit = Some(Transit { request, reply, ran: now });
                    return;
                }
                (Some(_), Fate::Lost) | (None, _) => drop(replica.schedule.replied(request, None, replica.clock(now))),
            }
            fate = Fate::Answered;
            replica.step(now);
        }
    }

    fn call(&mut self, number: usize, fate: Fate) -> Option<()> {
        self.calls += 1;
        let (now, replica) = (self.now, &mut self.replicas[number]);
        match replica.schedule.admit(&CallerId::Service, replica.clock(now)).ok()? {
            Admission::Released(release) => replica.release(release, now),
            Admission::Queued(_) if !replica.asleep => self.run(number, fate),
            Admission::Queued(_) => {}
        }
        Some(())
    }

    fn arrive(&mut self, number: usize, place: usize, at: i64) {
        let replica = &mut self.replicas[number];
        let Flight { release, .. } = replica.flights.remove(place);
        replica.schedule.finish(&release, replica.clock(at));
        self.arrivals.push(at);
        self.arrivals.sort_unstable();
    }

    /// The next call that has to arrive by `end`: when, whose, and which.
    fn next_arrival(&self, end: i64) -> Option<(i64, usize, usize)> {
        let of = |number: usize| {
            let flights = self.replicas[number].flights.iter().enumerate();
            flights.map(move |(place, flight)| (flight.deadline, number, place))
        };
        (0..REPLICAS).flat_map(of).min().filter(|(deadline, ..)| *deadline <= end)
    }

    fn wait(&mut self, time: i64) {
        self.waits += 1;
        while let Some((deadline, number, place)) = self.next_arrival(self.now + time) {
            self.arrive(number, place, deadline);
        }
        self.now += time;
        for number in 0..REPLICAS {
            if self.replicas[number].runs() {
                self.run(number, Fate::Answered);
            }
        }
    }

    fn kill(&mut self, number: usize, pace: &Pace) {
        // Calls on their way arrive all the same.
        let flights =
            std::mem::replace(&mut self.replicas[number], Replica::new(pace, format!("again {number}"))).flights;
        self.arrivals.extend(flights.iter().map(|flight| flight.deadline));
        self.arrivals.sort_unstable();
    }

    /// The calls beyond the limit arrive at once.
    fn hurry(&mut self, limit: usize) {
        for number in 0..REPLICAS {
            let under_way: usize = self.replicas.iter().map(|replica| replica.flights.len()).sum();
            let last = self.replicas[number].flights.len().checked_sub(1);
            if let Some(last) = last.filter(|_| self.arrivals.len() + under_way > limit) {
                self.arrive(number, last, self.now);
            }
        }
    }

    fn keeps(&self, window: i64, limit: u32) -> bool {
        let limit = usize::try_from(limit).unwrap();
        self.arrivals.windows(limit + 1).all(|calls| calls[limit] - calls[0] >= window)
    }
}

impl Pacing {
    fn pace(&self) -> Pace {
        let Self { per_second, per_minute, .. } = *self;
        Pace { per_second, per_minute, per_day: 1_000, wait: Duration::from_secs(300) }
    }

    /// The fault at this replica.
    fn fault_at(&self, number: usize) -> Option<Action> {
        Some(match self.fault? {
            Action::CallLost(_) => Action::CallLost(number),
            Action::CallLate(_) => Action::CallLate(number),
            Action::Sleep(_) => Action::Sleep(number),
            Action::Kill(_) => Action::Kill(number),
            Action::Jump(_, by) => Action::Jump(number, by),
            fault @ (Action::Down
            | Action::Up
            | Action::Call(_)
            | Action::Wait(_)
            | Action::Reply(_)
            | Action::Wake(_)) => fault,
        })
    }
}

impl Model for Pacing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replicas = (0..REPLICAS).map(|number| Replica::new(&self.pace(), number.to_string())).collect();
        let mut state = State {
            now: START,
            replicas,
            server: Server::default(),
            arrivals: Vec::new(),
            calls: 0,
            waits: 0,
            faulty: false,
            down: false,
        };
        // Twice, so that each has seen the other.
        for number in (0..REPLICAS).chain(0..REPLICAS) {
            state.run(number, Fate::Answered);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let callable = state.calls < self.calls;
        for (number, replica) in state.replicas.iter().enumerate() {
            actions.extend(replica.transit.is_some().then_some(Action::Reply(number)));
            actions.extend(replica.asleep.then_some(Action::Wake(number)));
            // The replicas are alike, so the first call is the first one's.
            let callable = callable && replica.runs() && (number == 0 || state.calls > 0 || state.faulty);
            actions.extend(callable.then_some(Action::Call(number)));
            let fault = self.fault_at(number).filter(|_| !state.faulty);
            let is_call = matches!(fault, Some(Action::CallLost(_) | Action::CallLate(_)));
            actions.extend(fault.filter(|_| callable || !is_call));
        }
        actions.extend(state.down.then_some(Action::Up));
        if state.waits < self.waits {
            actions.extend(self.times.map(Action::Wait));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.faulty |= (0..REPLICAS).any(|number| self.fault_at(number) == Some(action));
        match action {
            Action::Call(number) => state.call(number, Fate::Answered)?,
            Action::CallLost(number) => state.call(number, Fate::Lost)?,
            Action::CallLate(number) => state.call(number, Fate::Late)?,
            Action::Wait(time) => state.wait(time),
            Action::Reply(number) => {
                let transit = state.replicas[number].transit.take()?;
                state.replicas[number].replied(transit, last.now);
                state.run(number, Fate::Answered);
            }
            Action::Sleep(number) => state.replicas[number].asleep = true,
            Action::Wake(number) => {
                state.replicas[number].asleep = false;
                state.run(number, Fate::Answered);
            }
            Action::Kill(number) => state.kill(number, &self.pace()),
            Action::Jump(number, by) => state.replicas[number].ahead += by,
            Action::Down => state.down = true,
            Action::Up => state.down = false,
        }
        state.hurry(self.calls - 1);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SECOND, |model: &Self, state: &State| state.keeps(1_000, model.per_second)),
            Property::always(MINUTE, |model: &Self, state: &State| state.keeps(60_000, model.per_minute)),
            Property::sometimes(ALL, |model: &Self, state: &State| state.arrivals.len() == model.calls),
        ]
    }
}
