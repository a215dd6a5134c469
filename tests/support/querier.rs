//! A `promfront querier` process, which can be killed, told to end, paused, and started again.
//!
//! It reaches its frontend, so it has no port of its own: that it is there is seen on the frontend's page.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::{Http, Process, Promfront, until};

/// How long queries in flight may take to finish after SIGTERM, in seconds.
pub const GRACE: u64 = 20;

/// A process that pulls, or one that has ended.
#[derive(Debug)]
pub struct Querier {
    flags: Vec<String>,
    process: Process,
    log: Arc<Mutex<Vec<String>>>,
    /// By which name its frontend knows it.
    pub id: String,
}

impl Querier {
    /// Beside `downstream`, pulling from `frontend` on so many streams.
    pub fn start(id: &str, frontend: &str, downstream: &str, concurrency: usize) -> Self {
        Self::launched(id, frontend, downstream, &[&format!("--concurrency={concurrency}")])
    }

    /// The same with other flags.
    pub fn launched(id: &str, frontend: &str, downstream: &str, flags: &[&str]) -> Self {
        let mut all = vec![format!("--frontend.address={frontend}"), format!("--downstream.url={downstream}")];
        if !flags.iter().any(|flag| flag.starts_with("--shutdown-timeout=")) {
            all.push(format!("--shutdown-timeout={GRACE}"));
        }
        all.extend(flags.iter().map(ToString::to_string));
        let log = Arc::default();
        Self { process: spawn(id, &all, &log), flags: all, log, id: id.to_owned() }
    }

    /// Kills it at once: nobody is told anything.
    pub fn kill(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
    }

    /// Starts it again, after it has ended.
    pub fn restart(&mut self) {
        self.restart_as(&self.id.clone());
    }

    /// Starts another one in its place, as a rolling update does.
    pub fn restart_as(&mut self, id: &str) {
        assert!(!self.process.is_running(), "it has ended");
        id.clone_into(&mut self.id);
        self.process = spawn(id, &self.flags, &self.log);
    }

    /// Tells it to end, and waits until it has, with everything else going on meanwhile.
    pub async fn stop(&mut self) {
        self.process.signal("TERM");
        self.ended().await;
    }

    /// Waits until it has ended, in order, having been told to.
    pub async fn ended(&mut self) {
        until("a querier ends", async || !self.process.is_running()).await;
        assert_eq!(self.process.terminate(), Some(0), "{} ended in order: {:#?}", self.id, self.log());
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has logged so far, in all of its lives.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Waits until it has logged something with this in it.
    pub async fn until_logged(&self, text: &str) {
        until(text, async || self.log.lock().iter().any(|line| line.contains(text))).await;
    }
}

fn spawn(id: &str, flags: &[String], log: &Arc<Mutex<Vec<String>>>) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promfront"));
    command.arg("querier").arg(format!("--querier.id={id}")).args(flags).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promfront was built");
    let (stderr, log) = (child.stderr.take().expect("it is piped"), Arc::clone(log));
    // The log is read to its end, so that the child never waits for us to read it.
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            log.lock().push(line);
        }
    });
    Process(child)
}

impl Promfront {
    /// Where queriers connect, as it was logged.
    pub async fn frontend_address(&self) -> String {
        let address = || {
            let log = self.log();
            let line = log.iter().find(|line| line.contains("msg=\"queriers may connect\""))?;
            let (_, rest) = line.split_once(" address=")?;
            Some(rest.split(' ').next().unwrap_or_default().to_owned())
        };
        until("the port for queriers is logged", async || address().is_some()).await;
        address().expect("it was just there")
    }

    /// What waits and what runs, whose it is, and who pulls.
    pub async fn queues(&self) -> Value {
        Http::new().get(&format!("{}/promfront/api/v1/queues", self.url)).await.json()["data"].clone()
    }

    /// Waits for what the page is about to show, and returns it.
    pub async fn until_queues(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        until(what, async || {
            seen = self.queues().await;
            is_so(&seen)
        })
        .await;
        seen
    }

    /// Waits until a querier serves with so many slots.
    pub async fn until_serves(&self, id: &str, slots: usize) {
        self.until_queues(&format!("{id} serves"), |queues| {
            let querier = querier(queues, id);
            querier["standing"] == "serving" && querier["slots"] == slots
        })
        .await;
    }

    /// Waits until nothing waits and nothing runs.
    pub async fn until_idle(&self) {
        self.until_queues("nothing waits and nothing runs", |queues| {
            let lanes = queues["lanes"].as_array().expect("a list");
            lanes.iter().all(|lane| lane["waiting"] == 0 && lane["running"] == 0)
        })
        .await;
    }
}

/// A querier on the page; nothing if it is not there.
pub fn querier<'q>(queues: &'q Value, id: &str) -> &'q Value {
    let queriers = queues["queriers"].as_array().expect("a list");
    queriers.iter().find(|querier| querier["querier"] == id).unwrap_or(&Value::Null)
}
