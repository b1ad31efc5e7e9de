//! Statements about packets: positive ones are polled until they hold, negative ones must hold through a quiet window.

use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use capture::{Disproof, Evidence, Host, Place, Proof, Timestamp, Window};

use crate::address::{self, Function};
use crate::pods::PodRef;
use crate::world::{Last, World};

impl World {
    /// Packets that passed unrecorded make every statement worthless.
    fn complete(evidence: &Evidence) -> Result<()> {
        let dropped = evidence.dropped();
        if dropped.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = dropped.iter().map(|(vantage, n)| format!("{vantage} lost {n}")).collect();
        bail!("believe the capture: it is not whole: {}", list.join(", "))
    }

    /// Polls a positive statement about what happened since a moment.
    pub(crate) async fn prove(
        &mut self,
        since: Timestamp,
        statement: impl Fn(&Window<'_>) -> Result<Proof, Disproof>,
    ) -> Result<()> {
        self.prove_by(|evidence| statement(&evidence.since(since))).await
    }

    /// Polls a positive statement about all that was recorded.
    pub(crate) async fn prove_by(&mut self, statement: impl Fn(&Evidence) -> Result<Proof, Disproof>) -> Result<()> {
        let bed = self.bed().await?;
        let start = Instant::now();
        loop {
            bed.recorder().settle().await;
            let evidence = bed.recorder().snapshot();
            match statement(&evidence) {
                Ok(proof) => {
                    Self::complete(&evidence)?;
                    return self.proven(&proof);
                }
                Err(disproof) if start.elapsed() >= bed.timing().patience => {
                    Self::complete(&evidence)?;
                    return Err(anyhow!("{disproof}"));
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(30)).await,
            }
        }
    }

    /// Asks a negative statement now and again after a quiet window; the second answer counts, the first saves time.
    pub(crate) async fn prove_not(&mut self, statement: impl Fn(&Evidence) -> Result<Proof, Disproof>) -> Result<()> {
        let bed = self.bed().await?;
        bed.recorder().settle().await;
        if let Err(disproof) = statement(&bed.recorder().snapshot()) {
            return Err(anyhow!("{disproof}"));
        }
        tokio::time::sleep(bed.timing().quiet).await;
        bed.recorder().settle().await;
        let evidence = bed.recorder().snapshot();
        Self::complete(&evidence)?;
        match statement(&evidence) {
            Ok(proof) => self.proven(&proof),
            Err(disproof) => Err(anyhow!("{disproof}")),
        }
    }

    fn proven(&mut self, proof: &Proof) -> Result<()> {
        self.proven += 1;
        self.timeline.note(format!("proven: {proof}"));
        Ok(())
    }

    /// Nothing went from one to the other. The window begins with the last action when it was `from`'s, and with the
    /// scenario otherwise. An absence is believed only where presence would have been seen: `from` must have been
    /// recorded, and when it acted, its own packets must be there.
    pub(crate) async fn prove_silence(&mut self, from: &str, to: &str, at_receiver: bool) -> Result<()> {
        let client = self.instance(from)?.workload;
        self.bed().await?;
        let acted = matches!(&self.last, Some(Last::Asked(ask, _)) if ask.client.split('/').next() == Some(from)
            || self.parsed(&ask.client).is_ok_and(|i| i.workload == client && !i.one && i.container.is_none()));
        let since = if acted { self.since() } else { Timestamp::START };
        let canaries: Vec<String> = match &self.last {
            Some(Last::Asked(_, attempts)) if acted => attempts.iter().map(|a| a.canary.clone()).collect(),
            _ => Vec::new(),
        };
        if self.pods(from).await?.is_empty() && self.pod(from).await.is_err() {
            // no Pod ever had a network from which something could have been sent
            self.proven += 1;
            self.timeline.note(format!("proven: {from} never had a Pod, so nothing left it"));
            return Ok(());
        }
        let pod = self.pod(from).await?;
        if !acted && pod.addresses.is_empty() && !self.bed().await?.recorder().snapshot().has_recorded(&pod.host()) {
            // its network could not be made: no process of it ever ran
            self.proven += 1;
            self.timeline.note(format!("proven: {} never had an address, so nothing left it", pod.host()));
            return Ok(());
        }
        let sender = Host::new(pod.host(), pod.addresses.clone());
        let endpoint = address::endpoint(to);
        let app = match &endpoint.host {
            address::Host::Call(Function::App(x)) => Some(x.clone()),
            _ => None,
        };
        if acted {
            self.seen_at_all(&sender, since).await?;
        }
        match app {
            Some(x) if at_receiver && self.instance(&x).is_ok() => {
                let workload = self.spec(&x)?;
                // Without a canary all connections to the application count. With one they do not: the proxy opens a
                // connection to the application for every TCP probe of its own listener, and says nothing on it.
                let ports: Vec<u16> =
                    if canaries.is_empty() { workload.listens.iter().map(|l| l.port).collect() } else { Vec::new() };
                let wanted: Vec<Option<String>> =
                    if canaries.is_empty() { vec![None] } else { canaries.into_iter().map(Some).collect() };
                let receivers: Vec<Host> =
                    self.pods(&x).await?.into_iter().map(|p| Host::new(p.host(), p.addresses)).collect();
                self.prove_not(move |evidence| {
                    let window = evidence.since(since);
                    all(&wanted, |canary| all(&receivers, |to| window.no_proxy_leg(to, canary.as_deref(), &ports)))
                })
                .await
            }
            _ if at_receiver => {
                let target = app.unwrap_or_else(|| to.to_owned());
                let mut found: Vec<PodRef> = Vec::new();
                if self.instance(&target).is_ok() {
                    found.extend(self.pods(&target).await?);
                } else {
                    // a name that several clusters have is that of all
                    for key in self.meant(&target) {
                        found.extend(self.pods(&key).await?);
                    }
                }
                // what comes from another cluster may bear a gateway's address, or one that somebody has here too: there the canary
                // tells whether it came
                let (near, far): (Vec<PodRef>, Vec<PodRef>) =
                    found.into_iter().partition(|to| to.at() == pod.at() || canaries.is_empty());
                let hosts = |pods: Vec<PodRef>| pods.into_iter().map(|p| Host::new(p.host(), p.addresses)).collect();
                let (mut near, far): (Vec<Host>, Vec<Host>) = (hosts(near), hosts(far));
                if near.is_empty() && far.is_empty() {
                    near.push(self.host(&target).await?.0);
                }
                self.prove_not(move |evidence| {
                    let window = evidence.since(since);
                    if near.is_empty() {
                        return all(&canaries, |canary| all(&far, |to| window.no_proxy_leg(to, Some(canary), &[])));
                    }
                    all(&canaries, |canary| all(&far, |to| window.no_proxy_leg(to, Some(canary), &[])))?;
                    all(&near, |to| window.silent_at_receiver(&sender, to))
                })
                .await
            }
            _ => {
                let target = self.whole(to, &pod).await?;
                self.prove_not(move |evidence| evidence.since(since).silent_at_sender(&sender, &target)).await
            }
        }
    }

    /// No TLS of the clients came to any of these gateways.
    pub(crate) async fn prove_none_crossed(
        &mut self,
        since: Timestamp,
        clients: Vec<Host>,
        gateways: Vec<Host>,
    ) -> Result<()> {
        if gateways.is_empty() {
            return Ok(());
        }
        self.prove_not(move |evidence| {
            let window = evidence.since(since);
            all(&gateways, |gateway| all(&clients, |client| window.no_gateway(client, gateway)))
        })
        .await
    }

    /// The control of a negative statement: what a client did is in the capture.
    async fn seen_at_all(&mut self, sender: &Host, since: Timestamp) -> Result<()> {
        let sender = sender.clone();
        let name = sender.name.clone();
        self.prove(since, move |window| {
            let mut seen = Vec::new();
            for place in [Place::Loopback, Place::Eth0] {
                let query = capture::Query {
                    host: &sender,
                    place: Some(place),
                    direction: None,
                    to: &[],
                    port: None,
                    content: capture::Content::Any,
                };
                seen.extend(window.count(query)?.packets);
            }
            if seen.is_empty() {
                return Err(Disproof {
                    statement: format!("the capture saw what {} did", sender.name),
                    reason: "it saw nothing, so that it proves nothing".to_owned(),
                    packets: Vec::new(),
                });
            }
            Ok(Proof { statement: format!("control: the capture saw what {name} did"), packets: seen })
        })
        .await?;
        // a control is no evidence of its own
        self.proven -= 1;
        Ok(())
    }

    /// No token of the scenario is readable outside the loopbacks of Pods.
    pub(crate) async fn prove_canary_free(&mut self) -> Result<()> {
        for running in &self.loops {
            let attempts = running.attempts();
            self.carriers.extend(attempts.iter().map(crate::action::Attempt::carrier));
            self.canaries.extend(attempts.into_iter().map(|a| a.canary));
        }
        self.canaries.sort();
        self.canaries.dedup();
        let (canaries, carriers) = (self.canaries.clone(), self.carriers.clone());
        self.prove_not(move |evidence| {
            let canaries: Vec<&str> = canaries.iter().map(String::as_str).collect();
            evidence.canary_free(&canaries, &carriers)
        })
        .await
    }
}

/// A statement about each of several hosts, or canaries. Proofs that say the same are said once.
fn all<T>(subjects: &[T], statement: impl Fn(&T) -> Result<Proof, Disproof>) -> Result<Proof, Disproof> {
    let mut said: Vec<String> = Vec::new();
    let mut packets = Vec::new();
    for subject in subjects {
        let proof = statement(subject)?;
        if !said.contains(&proof.statement) {
            said.push(proof.statement);
        }
        packets.extend(proof.packets);
    }
    if subjects.is_empty() {
        said.push("there is no Pod that could have been reached".to_owned());
    }
    Ok(Proof { statement: said.join("; "), packets })
}
