//! The task of one receiver: does what its [`Machine`] says. What blocks runs on a thread of its own for as
//! long as it takes.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use evenkeel_core::alarm::AlarmEvent;
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    Form, Receiver, Surroundings,
    alertmanager::{self, Alert},
    http::Client,
    lock,
    machine::{Action, Delivery, Machine},
    syslog, webhook,
};
use crate::{
    clock::{BootClock, Clock},
    notifier::Reach,
};

/// How many alerts one request to an Alertmanager has.
const ALERTS: usize = 500;

/// Runs until the store ends, or the task is aborted.
pub async fn run(receiver: Receiver, machine: Arc<Mutex<Machine>>, mut around: Surroundings) {
    let mut kept = lock(&machine).cursor();
    let mut courier = Some(Courier::new(receiver.clone(), around.agent_name.clone()));
    loop {
        // Before the machine is asked, so that what comes meanwhile wakes us again.
        let committed = *around.committed.borrow_and_update();
        let (action, changes, cursor) = {
            let mut machine = lock(&machine);
            machine.told(committed);
            (machine.next(Clock::now()), machine.take_changes(), machine.cursor())
        };
        for unreachable in changes {
            let (name, at) = (receiver.name.clone(), Clock::now());
            // Nobody listens any more when the agent stops.
            let _ = around.reach.send(Reach { name, unreachable, at });
        }
        if cursor != kept {
            around.journal.set_cursor(&receiver.name, cursor);
            kept = cursor;
        }
        match action {
            Action::Read { after, limit } => {
                let journal = Arc::clone(&around.journal);
                let read = spawn_blocking(move || journal.after(after, limit)).await;
                match read.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(rows) => lock(&machine).found(rows, limit),
                    Err(error) => lock(&machine).read_failed(error, Clock::now()),
                }
            }
            Action::Deliver(rows) => {
                // What may not be said now waits, whatever is due.
                around.gate.opened(BootClock::now).await;
                let how = courier_does(&mut courier, move |courier| courier.deliver(&rows)).await;
                lock(&machine).delivered(how, Clock::now());
            }
            Action::Resend => {
                around.gate.opened(BootClock::now).await;
                let active = Arc::clone(&around.active);
                let filter = receiver.filter.clone();
                let how = courier_does(&mut courier, move |courier| match active.active() {
                    Ok(mut alarms) => {
                        alarms.retain(|alarm| filter.passes(alarm));
                        courier.resend(&alarms)
                    }
                    Err(error) => Delivery::Failed(error),
                });
                let how = how.await;
                lock(&machine).delivered(how, Clock::now());
            }
            Action::Wait(until) => {
                let wait = async {
                    match until {
                        Some(until) => sleep(until.since(Clock::now())).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = around.committed.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                    () = wait => {}
                }
            }
        }
    }
}

/// Lets the courier do something that blocks.
async fn courier_does(
    courier: &mut Option<Courier>,
    act: impl FnOnce(&mut Courier) -> Delivery + Send + 'static,
) -> Delivery {
    let Some(mut away) = courier.take() else {
        return Delivery::Failed("the last delivery ended with a fault of this agent".to_owned());
    };
    match spawn_blocking(move || (act(&mut away), away)).await {
        Ok((how, back)) => {
            *courier = Some(back);
            how
        }
        Err(error) => Delivery::Failed(error.to_string()),
    }
}

/// Who delivers.
struct Courier {
    receiver: Receiver,
    agent_name: String,
    syslog: Option<syslog::Sender>,
    /// Made when it is first needed, and anew after a failure: the certificates may have been renewed.
    client: Option<Client>,
}

impl Courier {
    fn new(receiver: Receiver, agent_name: String) -> Courier {
        let syslog = match receiver.form {
            Form::Syslog { address, transport, .. } => {
                Some(syslog::Sender::new(address, transport, receiver.timeout))
            }
            Form::Webhook { .. } | Form::Alertmanager { .. } => None,
        };
        Courier { receiver, agent_name, syslog, client: None }
    }

    fn deliver(&mut self, rows: &[(u64, AlarmEvent)]) -> Delivery {
        let agent = &self.agent_name;
        match &self.receiver.form {
            Form::Webhook { endpoint, secret } => {
                let body = webhook::body(agent, rows);
                let mut headers = vec![(webhook::DELIVERY, webhook::delivery(agent, rows))];
                if let Some(secret) = secret {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let signature = webhook::signature(&secret.0, now.as_secs(), &body);
                    headers.push((webhook::SIGNATURE, signature));
                }
                let make = || Client::new(endpoint, "", self.receiver.timeout);
                post(&mut self.client, make, &headers, &body)
            }
            Form::Syslog { facility, .. } => {
                let messages: Vec<String> = rows
                    .iter()
                    .map(|(sequence, event)| syslog::message(agent, *facility, *sequence, event))
                    .collect();
                let Some(sender) = &mut self.syslog else { return Delivery::Done };
                match sender.send(&messages) {
                    Ok(()) => Delivery::Done,
                    Err(error) => Delivery::Failed(error.to_string()),
                }
            }
            Form::Alertmanager { .. } => {
                let now = Clock::both().wall_time();
                let alerts: Vec<Alert> =
                    rows.iter().map(|(_, event)| Alert::of(agent, event, now)).collect();
                self.post_alerts(&alerts)
            }
        }
    }

    fn resend(&mut self, alarms: &[evenkeel_core::alarm::Alarm]) -> Delivery {
        let now = Clock::both().wall_time();
        let alerts: Vec<Alert> =
            alarms.iter().map(|alarm| Alert::active(&self.agent_name, alarm, now)).collect();
        for some in alerts.chunks(ALERTS) {
            match self.post_alerts(some) {
                Delivery::Done => {}
                other => return other,
            }
        }
        Delivery::Done
    }

    fn post_alerts(&mut self, alerts: &[Alert]) -> Delivery {
        let Form::Alertmanager { endpoint } = &self.receiver.form else { return Delivery::Done };
        let make = || Client::new(endpoint, alertmanager::PATH, self.receiver.timeout);
        match serde_json::to_vec(alerts) {
            Ok(body) => post(&mut self.client, make, &[], &body),
            Err(error) => Delivery::Refused(error.to_string()),
        }
    }
}

/// Posts by a client that is kept for as long as it serves, with its connection and its certificates.
fn post(
    kept: &mut Option<Client>,
    make: impl FnOnce() -> io::Result<Client>,
    headers: &[(&str, String)],
    body: &[u8],
) -> Delivery {
    let client = match kept.take().map_or_else(make, Ok) {
        Ok(client) => client,
        Err(error) => return Delivery::Failed(error.to_string()),
    };
    let how = client.post(headers, body);
    if !matches!(how, Delivery::Failed(_)) {
        *kept = Some(client);
    }
    how
}
