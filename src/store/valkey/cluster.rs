//! A cluster: a link to each primary, and the slots of each.
//!
//! Sends a request to the node that has its key, and follows `MOVED` and `ASK`. One task asks the nodes for their
//! slots, every few seconds and whenever a node reports a change, and creates the links.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::Endpoint;
use super::dial::Dialer;
use super::link::{Link, SendError};
use super::refusal::{PATIENCE, down, reason};
use super::request::Request;
use super::slots::{Group, Slots, redirected_to, slot_of};
use super::source::{Moved, News, Shard, Source};
use crate::store::StoreError;

/// How often to query the slots, normally and while a link is down.
const REFRESH: Duration = Duration::from_secs(2);
const REFRESH_SOON: Duration = Duration::from_millis(200);
/// How long a node may take to return its slots.
const WITHIN: Duration = Duration::from_secs(1);
/// The pause before a request is repeated that a node could not answer yet.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(super) struct Cluster {
    view: watch::Receiver<View>,
    news: mpsc::Sender<News>,
    dialer: Dialer,
}

#[derive(Clone, Debug)]
struct View {
    slots: Slots,
    /// To each primary.
    links: HashMap<Endpoint, Link>,
    /// Why the slots are not known, and since when.
    unknown: Option<(String, Instant)>,
}

impl View {
    fn link(&self, slot: u16) -> Option<(&Link, &Endpoint)> {
        let primary = &self.slots.at(slot)?.primary;
        Some((self.links.get(primary)?, primary))
    }

    fn is_up(&self) -> bool {
        self.slots.are_all_served() && self.links.values().all(Link::is_up)
    }
}

impl Cluster {
    pub(super) fn new(nodes: Vec<Endpoint>, dialer: Dialer, control: &Handle) -> Self {
        let unknown = Some(("no node of the cluster has answered yet".to_owned(), Instant::now()));
        let view = watch::Sender::new(View { slots: Slots::default(), links: HashMap::new(), unknown });
        let (news, heard) = mpsc::channel(64);
        let this = Self { view: view.subscribe(), news: news.clone(), dialer: dialer.clone() };
        let (slots, nodes) = (watch::Sender::default(), nodes);
        let surveyor = Surveyor { nodes, dialer, view, slots, news, control: control.clone(), turn: 0 };
        control.spawn(surveyor.run(heard));
        this
    }

    pub(super) fn is_up(&self) -> bool {
        self.view.borrow().is_up()
    }

    /// Waits until the cluster's slots are known and some node answers.
    pub(super) async fn answered(&self) {
        let mut view = self.view.clone();
        let links: Vec<Link> = match view.wait_for(|view| !view.links.is_empty()).await {
            Ok(view) => view.links.values().cloned().collect(),
            Err(_) => return,
        };
        let answered = links.iter().map(|link| Box::pin(link.answered()));
        futures_util::future::select_all(answered).await;
    }

    pub(super) fn outage(&self) -> Option<String> {
        let view = self.view.borrow();
        match &view.unknown {
            Some((why, since)) => (since.elapsed() >= PATIENCE).then(|| why.clone()),
            None if !view.slots.are_all_served() => Some("some slots of the cluster have no node".to_owned()),
            None => view.links.values().find_map(Link::outage),
        }
    }

    pub(super) fn groups(&self) -> Vec<Group> {
        let view = self.view.borrow();
        let known = view.links.keys().filter_map(|primary| view.slots.of(primary));
        known.cloned().collect()
    }

    pub(super) fn probe_keys(&self) -> Vec<String> {
        self.view.borrow().links.values().map(Link::probe_key).collect()
    }

    /// Sends a request to the node that has its key at the moment.
    pub(super) async fn send<T: FromRedisValue>(&self, request: &Request) -> Result<T, StoreError> {
        let slot = slot_of(&request.key);
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let (link, primary) = self.link(slot).await?;
            let (error, asked) = match link.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(SendError::Server(error, asked)) => (error, asked),
                // Another node has replaced it in the meantime.
                Err(SendError::Down(_)) if Instant::now() < deadline && !self.is_primary(slot, &primary) => continue,
                Err(SendError::Down(why)) => return Err(StoreError::Down(why)),
            };
            if Instant::now() > deadline {
                return Err(down(&error));
            }
            match error.code() {
                Some("MOVED") => self.moved(&error, &asked).await,
                Some("ASK") => return self.ask(request, &error, &asked).await,
                Some("TRYAGAIN" | "CLUSTERDOWN") => sleep(PAUSE).await,
                _ => return Err(down(&error)),
            }
        }
    }

    fn is_primary(&self, slot: u16, node: &Endpoint) -> bool {
        self.view.borrow().slots.at(slot).is_some_and(|group| group.primary == *node)
    }

    /// The link to a slot's primary; waits briefly for it.
    async fn link(&self, slot: u16) -> Result<(Link, Endpoint), StoreError> {
        let mut view = self.view.clone();
        let since = match &view.borrow().unknown {
            Some((_, since)) => *since,
            None => Instant::now(),
        };
        // The sender lives as long as this cluster.
        let _ = timeout_at(since + PATIENCE, view.wait_for(|view| view.link(slot).is_some())).await;
        let view = view.borrow();
        let why = || view.unknown.as_ref().map_or("a slot of the cluster has no node", |(why, _)| why).to_owned();
        let (link, primary) = view.link(slot).ok_or_else(|| StoreError::Down(why()))?;
        Ok((link.clone(), primary.clone()))
    }

    /// Waits until the slot is known to be where a node said that it is.
    async fn moved(&self, error: &RedisError, asked: &Endpoint) {
        let Some(moved) = Moved::of(error, asked) else { return sleep(PAUSE).await };
        let (slot, primary) = (moved.slot, moved.primary.clone());
        let mut view = self.view.clone();
        let _ = self.news.send(News::Moved(moved)).await;
        let known = view.wait_for(|view| view.slots.at(slot).is_some_and(|group| group.primary == primary));
        let _ = timeout(PAUSE, known).await;
    }

    /// Sends a request whose slot is migrating to another node, and whose key is there already.
    async fn ask<T: FromRedisValue>(
        &self,
        request: &Request,
        error: &RedisError,
        asked: &Endpoint,
    ) -> Result<T, StoreError> {
        let node = error.redirect_node().and_then(|(address, _)| redirected_to(address, asked));
        let node = node.ok_or_else(|| down(error))?;
        let mut connection = self.dialer.dial(&node).await.map_err(StoreError::Down)?;
        request.send_asking(&mut connection).await.map_err(|error| down(&error))
    }
}

struct Surveyor {
    /// The nodes of the configuration.
    nodes: Vec<Endpoint>,
    dialer: Dialer,
    view: watch::Sender<View>,
    /// The same slots, for the links.
    slots: watch::Sender<Slots>,
    news: mpsc::Sender<News>,
    control: Handle,
    /// The nodes are asked in turn, since one may be isolated from the others.
    turn: usize,
}

impl Surveyor {
    async fn run(mut self, mut heard: mpsc::Receiver<News>) {
        loop {
            match self.survey(None).await {
                Ok(slots) => self.publish(slots),
                Err(why) => self.set_reason(why),
            }
            let pause = if self.view.borrow().is_up() { REFRESH } else { REFRESH_SOON };
            tokio::select! {
                () = self.view.closed() => return,
                () = sleep(pause) => {}
                news = heard.recv() => match news {
                    Some(News::Moved(Moved { slot, primary })) => {
                        let mut slots = self.view.borrow().slots.clone();
                        slots.moved(slot, primary);
                        self.publish(slots);
                    }
                    Some(News::Suspect { node, asked }) => {
                        if let Ok(slots) = self.survey(Some(&node)).await {
                            self.publish(slots);
                        }
                        drop(asked);
                    }
                    None => return,
                },
            }
        }
    }

    /// The slots according to some node, other than `suspect` if another is reachable.
    async fn survey(&mut self, suspect: Option<&Endpoint>) -> Result<Slots, String> {
        let mut links: Vec<Link> = self.view.borrow().links.values().cloned().collect();
        self.turn += 1;
        let turns = self.turn % links.len().max(1);
        links.rotate_left(turns);
        for (connection, node) in links.iter().filter_map(Link::current) {
            if Some(&node) != suspect
                && let Ok(slots) = ask(connection, &node).await
            {
                return Ok(slots);
            }
        }
        let mut why = "store.url names no node".to_owned();
        let known: Vec<Endpoint> = {
            let view = self.view.borrow();
            let known = view.slots.groups().flat_map(|group| group.replicas.iter().chain([&group.primary]));
            self.nodes.iter().chain(known).filter(|node| Some(*node) != suspect).cloned().collect()
        };
        for node in known {
            let dialed = timeout(WITHIN, self.dialer.dial(&node)).await;
            let answer = match dialed {
                Ok(Ok(connection)) => ask(connection, &node).await,
                Ok(Err(why)) => Err(why),
                Err(_) => Err("no answer".to_owned()),
            };
            match answer {
                Ok(slots) => return Ok(slots),
                Err(reason) => why = format!("{node}: {reason}"),
            }
        }
        Err(why)
    }

    fn publish(&mut self, slots: Slots) {
        // The links use them to find their probe's key.
        self.slots.send_replace(slots.clone());
        let mut known = self.view.borrow().links.clone();
        let mut links = HashMap::new();
        for group in slots.groups() {
            if !links.contains_key(&group.primary) {
                let link = known.remove(&group.primary).unwrap_or_else(|| self.link_to(&group.primary));
                links.insert(group.primary.clone(), link);
            }
        }
        self.view.send_replace(View { slots, links, unknown: None });
    }

    fn link_to(&self, primary: &Endpoint) -> Link {
        let shard = Shard { primary: primary.clone(), slots: self.slots.subscribe(), news: self.news.clone() };
        Link::new(Source::Shard(shard), self.dialer.clone(), &self.control)
    }

    /// Logs each reason once. The previous slots stay in use.
    fn set_reason(&self, new: String) {
        self.view.send_if_modified(|view| match &mut view.unknown {
            Some((why, _)) if *why != new => {
                tracing::warn!(why = %new, "the cluster of the session store cannot be reached");
                *why = new;
                true
            }
            Some(_) | None => false,
        });
    }
}

async fn ask(mut connection: MultiplexedConnection, node: &Endpoint) -> Result<Slots, String> {
    let mut slots = cmd("CLUSTER");
    slots.arg("SLOTS");
    let answer = timeout(WITHIN, slots.query_async::<Value>(&mut connection)).await;
    let answer = answer.map_err(|_| "no answer".to_owned())?.map_err(|error| reason(&error))?;
    let slots = Slots::parse(answer, node).map_err(|error| reason(&error))?;
    if slots.groups().next().is_none() { Err("it is in no cluster with slots".to_owned()) } else { Ok(slots) }
}
