//! Two questions have one key only if they are one question: pairs at random, most of them one slip apart.
//!
//! The model is the list of all that decides an answer. Texts are short and made of few letters, among them those that a careless
//! join would use, so that parts which lie side by side often differ only in where one ends and the next begins.

use std::collections::HashMap;

use promfront::cache::key::{Identity, Slots};
use promfront::limits::tenants::Tenants;
use promfront::model::grid::StepGrid;
use promfront::model::params::Params;
use promfront::model::tenant::TenantId;
use promfront::model::time::{Step, Timestamp};
use promfront::request::RangeQuery;

use crate::is_full;
use crate::support::Random;

/// All that decides an answer, apart from the instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    texts: [String; 4],
    step: i64,
    start: i64,
    end: i64,
    interval: i64,
    headers: Vec<(String, String)>,
    params: Vec<(String, String)>,
}

const LETTERS: [&str; 8] = ["a", "b", "|", "=", "\n", "\u{0}", "\u{1}", "é"];

fn text(random: &mut Random) -> String {
    (0..random.below(4)).map(|_| LETTERS[random.below(LETTERS.len())]).collect()
}

fn pairs(random: &mut Random) -> Vec<(String, String)> {
    (0..random.below(3)).map(|_| (text(random), text(random))).collect()
}

fn number(random: &mut Random, bound: usize) -> i64 {
    i64::try_from(random.below(bound)).expect("below the bound")
}

impl Question {
    fn any(random: &mut Random) -> Self {
        let start = number(random, 20);
        Self {
            texts: std::array::from_fn(|_| text(random)),
            step: 1 + number(random, 3),
            start,
            end: start + number(random, 3),
            interval: [1000, 2000][random.below(2)],
            headers: pairs(random),
            params: pairs(random),
        }
    }

    /// The same, but for one slip: of one part, or over the seam between two.
    fn slipped(&self, random: &mut Random) -> Self {
        let mut other = self.clone();
        match random.below(8) {
            0 => other.step = 1 + number(random, 3),
            1 => other.start -= 1,
            2 => other.end += number(random, 2),
            3 => other.interval = 3000 - other.interval,
            4 => std::mem::swap(&mut other.headers, &mut other.params),
            5 => {
                let i = random.below(3);
                let (left, right) = other.texts.split_at_mut(i + 1);
                slip(&mut left[i], &mut right[0]);
            }
            6 => other.params.reverse(),
            _ => {
                let list = if random.below(2) == 0 { &mut other.headers } else { &mut other.params };
                match list.as_mut_slice() {
                    [(name, value), ..] => slip(name, value),
                    [] => list.push((String::new(), String::new())),
                }
            }
        }
        other
    }

    fn identity(&self) -> Identity {
        let [namespace, tenant, path, text] = &self.texts;
        let encoded =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let pair = |(name, value): &(String, String)| format!("{}={}", encoded(name), encoded(value));
        let url = self.params.iter().map(pair).collect::<Vec<_>>().join("&");
        let params = Params::read(Some(&url), None).expect("well written");
        let (start, end) = (Timestamp::from_ms(self.start), Timestamp::from_ms(self.end));
        let grid = StepGrid::new(start, Step::from_ms(self.step).expect("positive"), end).expect("a grid");
        let query = RangeQuery { params, grid, start, end, limit: None, wants_stats: false, timeout: None };
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let tenant = TenantId::named(tenant);
        Identity::new((namespace, &tenant, path), &query, text, Slots::new(&grid, self.interval), &headers)
    }

    /// What has to be equal, and nothing else: of times the phase, and whether it is one instant.
    fn model(&self) -> Self {
        let mut model = self.clone();
        model.end = i64::from(self.start != self.end);
        model.start = self.start.rem_euclid(self.step);
        // Values of one name keep their order.
        model.params.sort_by(|a, b| a.0.cmp(&b.0));
        model
    }
}

/// Moves a letter over the seam.
fn slip(left: &mut String, right: &mut String) {
    match left.pop() {
        Some(letter) => right.insert(0, letter),
        None if right.is_empty() => left.push('a'),
        None => left.push(right.remove(0)),
    }
}

#[test]
fn keys_are_equal_only_where_questions_are() {
    let mut random = Random::seeded("keys");
    let count = if is_full() { 10_000_000 } else { 100_000 };
    let mut equal = 0;
    for _ in 0..count {
        let one = Question::any(&mut random);
        let other = if random.below(8) == 0 { Question::any(&mut random) } else { one.slipped(&mut random) };
        let is_one = one.model() == other.model();
        let (a, b) = (one.identity(), other.identity());
        assert_eq!(a.bytes() == b.bytes(), is_one, "{one:#?}\n{other:#?}");
        assert_eq!(a.place() == b.place(), is_one, "the hashes of\n{one:#?}\n{other:#?}");
        equal += usize::from(is_one);
    }
    println!("{count} pairs, of which {equal} are one question");
    assert!((count / 50..count / 2).contains(&equal), "{equal} of {count}: neither side of the property is idle");
}

/// Names of tenants and the sets that they stand for.
#[test]
fn a_set_of_tenants_has_one_name_and_limits_of_its_own() {
    let mut random = Random::seeded("names");
    let config = "tenants: {a: {limits: {max_points: 7}}, ab: {limits: {max_points: 5}}}";
    let tenants = Tenants::of(&promfront::config::Config::parse(config).expect("sound"));
    let mut names: HashMap<TenantId, Vec<&str>> = HashMap::new();
    for _ in 0..20_000 {
        let mut parts: Vec<&str> =
            (0..=random.below(4)).map(|_| ["a", "b", "ab", "ba", "a-b"][random.below(5)]).collect();
        let tenant = TenantId::parse_federated(&parts.join("|")).expect("sound names");
        parts.sort_unstable();
        parts.dedup();
        let strictest = if parts.contains(&"ab") {
            5
        } else if parts.contains(&"a") {
            7
        } else {
            11_000
        };
        assert_eq!(tenants.limits_of(&tenant).max_points, strictest, "{tenant}");
        assert_eq!(*names.entry(tenant).or_insert_with(|| parts.clone()), parts);
    }
    assert_eq!(names.len(), 5 + 10 + 10 + 5, "each set of one to four of five tenants");
}
