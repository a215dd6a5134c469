//! Log lines as Prometheus writes them: logfmt by default, JSON on request, on stderr.

use std::fmt;

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// From which level on.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Level {
    /// Everything.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may need attention.
    Warn,
    /// What does.
    Error,
}

/// In which form.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// `time=… level=INFO msg="…" key=value`
    Logfmt,
    /// One object a line.
    Json,
}

/// From now on log lines are written.
pub(super) fn init(level: Level, format: Format) {
    let level = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
    };
    // Of what others have to say to themselves, each frame on a wire, only warnings are of use.
    let told = filter_fn(move |line| line.target().starts_with("promfront") || *line.level() <= tracing::Level::WARN);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let told = told.with_max_level_hint(level);
    let registry = tracing_subscriber::registry().with(level);
    match format {
        Format::Logfmt => registry.with(lines.event_format(Logfmt).with_filter(told)).init(),
        Format::Json => {
            registry.with(lines.json().flatten_event(true).with_target(false).with_filter(told)).init();
        }
    }
}

struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = jiff::Timestamp::now();
        write!(writer, "time={now:.3} level={}", event.metadata().level())?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        write!(writer, " msg={}", quoted(&fields.message))?;
        for (name, value) in fields.others {
            write!(writer, " {name}={}", quoted(&value))?;
        }
        writeln!(writer)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" { self.message = value } else { self.others.push((field.name(), value)) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.others.push((field.name(), value.to_owned()));
        }
    }
}

/// In quotes if it must be; control characters never reach a terminal.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(is_plain) { value.to_owned() } else { format!("{value:?}") }
}
