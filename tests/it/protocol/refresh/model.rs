//! A refresh of one session by two replicas that share a store.
//!
//! Upwork issues a refresh token for each that it takes, and accepts a replaced one for another day (docs/upwork.md "Token").
//! A session is lost once its record holds a token that Upwork does not accept. The clocks of replicas play no part: a lease
//! is timed by the server, and a refresh may begin at any moment. The times are upwarden's own.
//!
//! | action | stands for |
//! |---|---|
//! | `Begin` | `Refresher::join`, which spawns `Refresher::refresh`, for a request that needs a token |
//! | `BeginUnsaved` | `Refresher::write_unsaved`, which calls `Refresher::refresh` with the session from before |
//! | `TryLock` | one try of `SealedStore::lock`, and the script `LOCK` |
//! | `GiveUp` | `SealedStore::lock` after `LOCK_WAIT` |
//! | `Reload` | `Store::reload` and `Refresher::refresh_locked`, with `is_newer` and `UnsavedTokens::get` |
//! | `Redeem` | Upwork's token endpoint takes the refresh token, as `Grants::refresh` of the sandbox does |
//! | `Answer` | `Refresher::renew` takes the answer into `UnsavedTokens` |
//! | `Write`, `LoseReply` | `Store::save_record` in `Refresher::write`; a reply that is lost is a command that is sent again |
//! | `FailWrite` | `Refresher::write` after its last attempt |
//! | `Release` | `Lock::release`, and the script `UNLOCK` |
//! | `Tick` | the time of a lease: `hold` has renewed it, and what waits has waited longer |

use stateright::{Model, Property};

const REPLICAS: usize = 2;
/// Refreshes that begin for requests.
const REFRESHES: u8 = 3;

pub(super) const OVER: &str = "no request loses its session";
pub(super) const CURRENT: &str = "once all is quiet, the record holds a token that was not replaced";
pub(super) const ONCE: &str = "without a fault no refresh token is used twice";
const BOTH: &str = "both replicas refresh";

/// A refresh token, by its number.
type Token = u8;

/// The rules, with times in leases, and what may go wrong.
#[derive(Clone, Debug)]
pub(super) struct Refresh {
    /// Whether the holder of a lock renews its lease.
    pub(super) renews: bool,
    /// The longest that Upwork's answer takes.
    pub(super) answer: u8,
    /// How long a lock is waited for.
    pub(super) wait: u8,
    /// Upwork ends a grant whose replaced token is used again, instead of accepting it for a day.
    pub(super) strict: bool,
    /// How many faults happen, at most.
    pub(super) faults: u8,
    /// A write fails where the record is not the one that was read, as with `SessionRecord::replaces`.
    pub(super) compares: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Replica(usize),
    /// A process that died, or could not release it.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    Idle,
    Waiting { stored: Token, waited: u8 },
    Locked { stored: Token },
    Asking { token: Token, asked: u8, answer: Option<Result<Token, ()>> },
    Writing { replaced: Token, new: Token },
    Releasing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    task: Task,
    /// The token that was replaced, and its successor, which the store has not accepted.
    unsaved: Option<(Token, Token)>,
    awake: bool,
    /// To the store.
    connected: bool,
    refreshed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    replicas: Vec<Replica>,
    lock: Option<(Owner, u8)>,
    /// The refresh token in the session's record.
    record: Token,
    /// Upwork's refresh tokens by number: whether each was replaced.
    replaced: Vec<bool>,
    ended: bool,
    refreshes: u8,
    faults: u8,
    /// Successors that no process holds any more: their holder died, or their answer was lost.
    forgotten: bool,
    /// A refresh token was used twice.
    repeated: bool,
    /// A request was told that its session is over.
    lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Begin(usize),
    BeginUnsaved(usize),
    TryLock(usize),
    GiveUp(usize),
    Reload(usize),
    Redeem(usize),
    Answer(usize),
    Write(usize),
    FailWrite(usize),
    Release(usize),
    Tick,
    // Faults.
    Kill(usize),
    Pause(usize),
    Cut(usize),
    LoseAnswer(usize),
    LoseReply(usize),
    // Their ends.
    Resume(usize),
    Heal(usize),
}

impl Action {
    fn is_fault(self) -> bool {
        matches!(self, Self::Kill(_) | Self::Pause(_) | Self::Cut(_) | Self::LoseAnswer(_) | Self::LoseReply(_))
    }
}

impl Replica {
    /// Upwork has answered, and the answer is on its way.
    fn has_answer(&self) -> bool {
        matches!(self.task, Task::Asking { answer: Some(_), .. })
    }
}

impl Refresh {
    fn holds(task: Task) -> bool {
        matches!(task, Task::Locked { .. } | Task::Asking { .. } | Task::Writing { .. } | Task::Releasing)
    }

    fn of_replica(&self, state: &State, number: usize, actions: &mut Vec<Action>) {
        let replica = &state.replicas[number];
        let fault = state.faults < self.faults;
        if let Task::Asking { answer: None, .. } = replica.task {
            // A request that was sent arrives, whatever becomes of its sender.
            actions.push(Action::Redeem(number));
        }
        if fault {
            actions.push(Action::Kill(number));
            actions.extend(replica.connected.then_some(Action::Cut(number)));
        }
        if !replica.connected {
            actions.push(Action::Heal(number));
        }
        if !replica.awake {
            actions.push(Action::Resume(number));
            return;
        }
        if fault && replica.task != Task::Idle {
            actions.push(Action::Pause(number));
        }
        let free = state.lock.is_none();
        match replica.task {
            Task::Idle if replica.connected => {
                actions.extend((state.refreshes < REFRESHES).then_some(Action::Begin(number)));
                actions.extend(replica.unsaved.is_some().then_some(Action::BeginUnsaved(number)));
            }
            Task::Idle => {}
            Task::Waiting { waited, .. } => {
                actions.extend((free || !replica.connected).then_some(Action::TryLock(number)));
                actions.extend((waited >= self.wait).then_some(Action::GiveUp(number)));
            }
            Task::Locked { .. } => actions.push(Action::Reload(number)),
            Task::Asking { answer, .. } => {
                actions.extend(answer.is_some().then_some(Action::Answer(number)));
                actions.extend(fault.then_some(Action::LoseAnswer(number)));
            }
            Task::Writing { .. } if replica.connected => {
                actions.push(Action::Write(number));
                actions.extend(fault.then_some(Action::LoseReply(number)));
            }
            Task::Writing { .. } => actions.push(Action::FailWrite(number)),
            Task::Releasing => actions.push(Action::Release(number)),
        }
    }

    /// Whether time may pass: what takes a bounded time has to happen within it.
    fn may_tick(&self, state: &State) -> bool {
        state.replicas.iter().any(|replica| replica.task != Task::Idle || state.lock.is_some())
            && state.replicas.iter().all(|replica| {
                !replica.awake
                    || match replica.task {
                        Task::Waiting { waited, .. } => waited < self.wait,
                        Task::Asking { asked, .. } => asked < self.answer,
                        Task::Locked { .. } | Task::Writing { .. } | Task::Releasing => false,
                        Task::Idle => true,
                    }
            })
    }

    fn tick(&self, state: &mut State) {
        state.lock = state.lock.and_then(|(owner, left)| (left > 1).then_some((owner, left - 1)));
        for (number, replica) in state.replicas.iter_mut().enumerate() {
            if let Task::Waiting { waited: passed, .. } | Task::Asking { asked: passed, .. } = &mut replica.task
                && replica.awake
            {
                *passed += 1;
            }
            let own = state.lock.is_none_or(|(owner, _)| owner == Owner::Replica(number));
            if self.renews && own && Self::holds(replica.task) && replica.awake && replica.connected {
                state.lock = Some((Owner::Replica(number), 1));
            }
        }
    }

    fn free(state: &mut State, number: usize, to: Option<Owner>) {
        if let Some((Owner::Replica(owner), left)) = state.lock
            && owner == number
        {
            state.lock = to.map(|owner| (owner, left));
        }
    }

    fn redeem(&self, state: &mut State, token: Token) -> Result<Token, ()> {
        let replaced = state.replaced[usize::from(token)];
        state.repeated |= replaced;
        state.ended |= replaced && self.strict;
        if state.ended {
            return Err(());
        }
        state.replaced[usize::from(token)] = true;
        state.replaced.push(false);
        Ok(Token::try_from(state.replaced.len() - 1).unwrap())
    }

    fn write(&self, state: &mut State, number: usize, done: bool) {
        let Task::Writing { replaced, new } = state.replicas[number].task else { return };
        if !self.compares || state.record == replaced {
            state.record = new;
        }
        if done {
            let replica = &mut state.replicas[number];
            replica.unsaved = replica.unsaved.filter(|(old, _)| *old != replaced);
            replica.task = Task::Releasing;
            replica.refreshed = true;
        }
    }

    fn kill(state: &mut State, number: usize) {
        let replica = &mut state.replicas[number];
        state.forgotten |= replica.has_answer() || replica.unsaved.is_some();
        *replica = Replica { task: Task::Idle, unsaved: None, awake: true, ..replica.clone() };
        Self::free(state, number, Some(Owner::Gone));
    }

    fn lose_answer(state: &mut State, number: usize) {
        let replica = &mut state.replicas[number];
        state.forgotten |= replica.has_answer();
        replica.task = Task::Releasing;
    }

    fn reload(state: &mut State, number: usize) {
        let (record, replica) = (state.record, &mut state.replicas[number]);
        let Task::Locked { stored } = replica.task else { return };
        replica.task = match replica.unsaved {
            _ if !replica.connected || record != stored => Task::Releasing,
            Some((replaced, new)) if replaced == record => Task::Writing { replaced, new },
            _ => Task::Asking { token: record, asked: 0, answer: None },
        };
        if replica.connected && record != stored {
            // `write_unsaved` is done with a session that is newer.
            replica.unsaved = replica.unsaved.filter(|(replaced, _)| *replaced != stored);
        }
    }
}

impl Model for Refresh {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replica = Replica { task: Task::Idle, unsaved: None, awake: true, connected: true, refreshed: false };
        vec![State {
            replicas: vec![replica; REPLICAS],
            lock: None,
            record: 0,
            replaced: vec![false],
            ended: false,
            refreshes: 0,
            faults: 0,
            forgotten: false,
            repeated: false,
            lost: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.lost {
            return;
        }
        for number in 0..REPLICAS {
            self.of_replica(state, number, actions);
        }
        actions.extend(self.may_tick(state).then_some(Action::Tick));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(number) => {
                state.refreshes += 1;
                state.replicas[number].task = Task::Waiting { stored: state.record, waited: 0 };
            }
            Action::BeginUnsaved(number) => {
                let replica = &mut state.replicas[number];
                let (stored, _) = replica.unsaved?;
                replica.task = Task::Waiting { stored, waited: 0 };
            }
            Action::TryLock(number) => {
                let replica = &mut state.replicas[number];
                let Task::Waiting { stored, .. } = replica.task else { return None };
                replica.task = if replica.connected { Task::Locked { stored } } else { Task::Idle };
                if replica.connected {
                    state.lock = Some((Owner::Replica(number), 1));
                }
            }
            Action::GiveUp(number) => state.replicas[number].task = Task::Idle,
            Action::Reload(number) => Self::reload(&mut state, number),
            Action::Redeem(number) => {
                let Task::Asking { token, asked, .. } = state.replicas[number].task else { return None };
                let answer = Some(self.redeem(&mut state, token));
                state.replicas[number].task = Task::Asking { token, asked, answer };
            }
            Action::Answer(number) => {
                let replica = &mut state.replicas[number];
                let Task::Asking { token, answer: Some(answer), .. } = replica.task else { return None };
                match answer {
                    Ok(new) => {
                        replica.unsaved = Some((token, new));
                        replica.task = Task::Writing { replaced: token, new };
                    }
                    Err(()) => state.lost = true,
                }
            }
            Action::Write(number) => self.write(&mut state, number, true),
            Action::FailWrite(number) => state.replicas[number].task = Task::Releasing,
            Action::Release(number) => {
                let gone = (!state.replicas[number].connected).then_some(Owner::Gone);
                Self::free(&mut state, number, gone);
                state.replicas[number].task = Task::Idle;
            }
            Action::Tick => self.tick(&mut state),
            Action::Resume(number) => state.replicas[number].awake = true,
            Action::Heal(number) => state.replicas[number].connected = true,
            Action::Kill(number) => Self::kill(&mut state, number),
            Action::Pause(number) => state.replicas[number].awake = false,
            Action::Cut(number) => state.replicas[number].connected = false,
            Action::LoseAnswer(number) => Self::lose_answer(&mut state, number),
            Action::LoseReply(number) => self.write(&mut state, number, false),
        }
        state.faults += u8::from(action.is_fault());
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(OVER, |_, state: &State| !state.lost),
            // A replaced token works for another day, so this has to hold before the day is over. A process that dies between
            // Upwork's answer and the write leaves the replaced token; the next refresh within the day mends that.
            Property::always(CURRENT, |_, state: &State| {
                let quiet = |replica: &Replica| replica.task == Task::Idle && replica.unsaved.is_none();
                let all_quiet = state.replicas.iter().all(quiet);
                !all_quiet || state.forgotten || !state.replaced[usize::from(state.record)]
            }),
            Property::always(ONCE, |_, state: &State| state.faults > 0 || !state.repeated),
            Property::sometimes(BOTH, |_, state: &State| state.replicas.iter().all(|replica| replica.refreshed)),
        ]
    }
}
