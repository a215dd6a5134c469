//! The language of the limits: what is left of a question where there is a limit on how far back it may look.
//!
//! `lookback LENGTH now TIME` says so; then `range FROM..UNTIL step LENGTH QUERY`, `instant TIME QUERY` and `window FROM..UNTIL`
//! (of which each end may be absent) tell what becomes of it.

use promfront::config::Config;
use promfront::limits::lookback::{self, Instant, Range, Window};
use promfront::limits::tenants::Tenants;
use promfront::model::tenant::TenantId;
use promfront::model::time::Timestamp;
use promfront::promql;

use crate::{Language, Words, grid, show_grid, show_time, step, time};

pub(crate) struct Limits {
    tenants: Tenants,
    now: Timestamp,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tenants: Tenants::of(&Config::default()), now: Timestamp::from_ms(0) }
    }
}

impl Language for Limits {
    fn run(&mut self, line: &mut Words<'_>) -> Vec<String> {
        let tenant = TenantId::anonymous();
        let bound = lookback::bound(&self.tenants, &tenant, self.now);
        let became = match line.word() {
            "lookback" => {
                let yaml = format!("limits: {{max_query_lookback: {}}}", line.word());
                self.tenants = Tenants::of(&Config::parse(&yaml).expect("a length"));
                assert_eq!(line.word(), "now", "and the time");
                self.now = line.time();
                return Vec::new();
            }
            "range" => {
                let range = line.word();
                assert_eq!(line.word(), "step", "of the range");
                let grid = grid(range, step(line.word()));
                match lookback::range(&grid, promql::read(line.rest()).ok().as_ref(), bound) {
                    Range::Whole => format!("all of {}", show_grid(&grid)),
                    Range::From(left) => format!("{} of {}", show_grid(&left), show_grid(&grid)),
                    Range::Nothing => "nothing".to_owned(),
                }
            }
            "instant" => {
                let at = line.time().to_string();
                let facts = promql::read(line.rest()).ok();
                match lookback::instant((&self.tenants, &tenant), facts.as_ref(), &at, self.now) {
                    Instant::AsItIs => "as it is".to_owned(),
                    Instant::Empty(kind) => format!("an empty {}", kind.as_str()),
                    Instant::Refused(error) => error.message,
                }
            }
            "window" => {
                let (start, end) = line.word().split_once("..").expect("two times, or none");
                let at = |text: &str| if text.is_empty() { String::new() } else { time(text).to_string() };
                match lookback::window(&at(start), &at(end), bound) {
                    Window::AsItIs => "as it is".to_owned(),
                    Window::From(start) => format!("from {}", show_time(start)),
                    Window::Nothing => "nothing".to_owned(),
                }
            }
            word => line.unknown(word),
        };
        vec![became]
    }
}
