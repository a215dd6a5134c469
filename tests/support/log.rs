//! What was logged, for tests that run on one thread each.
//!
//! Need: a trouble is told once, and a secret never. Rule: there is one subscriber for all threads, since which of them want
//! an event is asked only once in a process, and each line is kept with the thread that said it.

use std::io::{self, Write};
use std::sync::Once;
use std::thread::{self, ThreadId};

use parking_lot::Mutex;
use serde_json::Value;

/// All that was said in this process, as JSON.
static LINES: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

/// What was said on this thread since the capture began, but for what is only of use to who looks for mistakes.
#[derive(Debug)]
pub struct Log {
    module: &'static str,
    about: String,
    began: usize,
}

impl Log {
    /// Captures what the modules below `module` say.
    pub fn of(module: &'static str) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing_subscriber::fmt().json().with_writer(|| Line).init());
        Self { module, about: String::new(), began: LINES.lock().len() }
    }

    /// Captures what all modules say, those of libraries too.
    pub fn of_all() -> Self {
        Self::of("")
    }

    /// Only what has `text` in it.
    pub fn about(self, text: &str) -> Self {
        Self { about: text.to_owned(), ..self }
    }

    /// What was said so far, a line for each event, with everything that belongs to it.
    pub fn text(&self) -> String {
        self.events().map(|(line, _)| line).collect()
    }

    /// What was said so far, as `LEVEL message`.
    pub fn lines(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().expect("each event has it").to_owned();
        self.events().map(|(_, event)| text(&event["level"]) + " " + &text(&event["fields"]["message"])).collect()
    }

    fn events(&self) -> impl Iterator<Item = (String, Value)> {
        let (thread, lines) = (thread::current().id(), LINES.lock()[self.began..].to_vec());
        let ours = lines.into_iter().filter(move |(speaker, line)| *speaker == thread && line.contains(&self.about));
        let events = ours.map(|(_, line)| (serde_json::from_str(&line).expect("a whole line"), line));
        let is_meant = |event: &Value| event["target"].as_str().is_some_and(|target| target.starts_with(self.module));
        events.filter(move |(event, _)| is_meant(event)).map(|(event, line)| (line, event))
    }
}

/// Where the subscriber writes, once for each event.
struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().push((thread::current().id(), String::from_utf8_lossy(bytes).into_owned()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
