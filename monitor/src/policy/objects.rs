//! The things that a grant names: topics, subjects, queues, paths, …
//!
//! In: names as a policy has them, and the name of one object as a protocol had it. Out: whether they
//! hold it. A name that is not wholly known may be one of them: that is "unknown", never yes or no.

use percent_encoding::percent_decode_str;

use super::pattern::Pattern;
use super::selector::Held;

/// A kind of object that a grant can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Topic,
    Subject,
    Exchange,
    Queue,
    Key,
    Path,
    Statement,
    Command,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Topic => "topic",
            Kind::Subject => "subject",
            Kind::Exchange => "exchange",
            Kind::Queue => "queue",
            Kind::Key => "key",
            Kind::Path => "path",
            Kind::Statement => "statement",
            Kind::Command => "command",
        }
    }

    /// Their names are the same in upper and lower case.
    fn ignores_case(self) -> bool {
        matches!(self, Kind::Statement | Kind::Command)
    }

    /// A name of the policy.
    pub fn pattern(self, name: &str) -> Pattern {
        if self.ignores_case() { Pattern::new(&name.to_ascii_uppercase()) } else { Pattern::new(name) }
    }
}

/// Objects of one kind: any of the wanted (none: all), but for the excepted (`!name`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    pub wanted: Vec<Pattern>,
    pub excepted: Vec<Pattern>,
}

impl Objects {
    /// Whether this object is one of them.
    pub fn hold(&self, kind: Kind, object: &str) -> Held {
        match kind {
            Kind::Path => match Target::new(object) {
                Target { path: None, .. } => Held::Unknown,
                // Where it leads is the server's to say: it is below nothing.
                Target { astray: true, .. } => Held::No,
                Target { path: Some(path), .. } => {
                    self.decide(|pattern| below(pattern, &path), |pattern| below(pattern, &path))
                }
            },
            Kind::Topic | Kind::Subject => {
                let separator = if kind == Kind::Topic { '/' } else { '.' };
                let excepted = |pattern: &Pattern| sure(meets(pattern, object, separator));
                let wanted = |pattern: &Pattern| {
                    let is_another_tree = kind == Kind::Topic && is_of_the_broker(pattern, object);
                    sure(!is_another_tree && takes_in(pattern, object, separator))
                };
                self.decide(wanted, excepted)
            }
            _ if kind.ignores_case() => {
                let object = object.to_ascii_uppercase();
                let holds = |pattern: &Pattern| sure(pattern.matches(&object));
                self.decide(holds, holds)
            }
            _ => {
                let holds = |pattern: &Pattern| sure(pattern.matches(object));
                self.decide(holds, holds)
            }
        }
    }

    fn decide(&self, wanted: impl Fn(&Pattern) -> Held, excepted: impl Fn(&Pattern) -> Held) -> Held {
        let refused = self.excepted.iter().map(excepted).max().unwrap_or(Held::No);
        let allowed = match self.wanted.is_empty() {
            true => Held::Yes,
            false => self.wanted.iter().map(wanted).max().unwrap_or(Held::No),
        };
        match refused {
            Held::Yes => Held::No,
            Held::Unknown => allowed.min(Held::Unknown),
            Held::No => allowed,
        }
    }
}

fn sure(holds: bool) -> Held {
    if holds { Held::Yes } else { Held::No }
}

/// Stands in a path for what was left out of it, or for its end that was.
const LEFT_OUT: char = '…';

/// What an HTTP request asks for: `GET /path`, or `/path` where the method is not known.
#[derive(Debug)]
pub struct Target<'a> {
    pub method: Option<&'a str>,
    /// Decoded, without its query; `None`: there is none (`OPTIONS *`, `CONNECT`).
    path: Option<String>,
    /// It does not say where it leads (`..`, slashes that are encoded or doubled, backslashes).
    astray: bool,
}

impl<'a> Target<'a> {
    pub fn new(object: &'a str) -> Target<'a> {
        let (method, target) = match object.split_once(' ') {
            Some((method, target)) => (Some(method), target),
            None => (None, object),
        };
        if !target.starts_with('/') {
            return Target { method, path: None, astray: false };
        }
        let raw = &target[..target.find(['?', '#']).unwrap_or(target.len())];
        let path = percent_decode_str(raw).decode_utf8_lossy().into_owned();
        let astray = path.split('/').any(is_dots)
            || path.contains(['\\', '\0'])
            || path.contains("//")
            || raw.matches('/').count() != path.matches('/').count()
            || is_decoded_again(raw, &path);
        Target { method, path: Some(path), astray }
    }
}

/// `.` and `..`, also with parameters behind them, or with spaces and further dots, which some servers cut off.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or(segment);
    name.contains('.') && name.chars().all(|c| matches!(c, '.' | ' '))
}

/// Whether a server that decodes twice, or more than UTF-8 (`%c0%ae`, `%u002e`), has another path than ours.
fn is_decoded_again(raw: &str, path: &str) -> bool {
    let (raw, path) = (raw.to_ascii_lowercase(), path.to_ascii_lowercase());
    ["%2e", "%2f", "%5c", "%00"].iter().any(|escape| path.contains(escape))
        || ["%c0", "%c1", "%u"].iter().any(|escape| raw.contains(escape))
}

/// A path is held by what it begins with; by a pattern with wildcards as a whole.
fn below(pattern: &Pattern, path: &str) -> Held {
    let left_out = path.find(LEFT_OUT);
    let known = &path[..left_out.unwrap_or(path.len())];
    match pattern {
        Pattern::Exact(prefix) => match path.strip_prefix(&**prefix) {
            Some(rest) if rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/') => Held::Yes,
            _ if left_out.is_some() && prefix.starts_with(known) => Held::Unknown,
            _ => Held::No,
        },
        Pattern::Glob { .. } if left_out.is_none() => sure(pattern.matches(path)),
        Pattern::Glob { .. } => {
            let begin = pattern.prefix();
            let begins = known.starts_with(begin);
            if begins && pattern.as_str().strip_prefix(begin) == Some("*") {
                Held::Yes
            } else {
                if begins || begin.starts_with(known) { Held::Unknown } else { Held::No }
            }
        }
    }
}

/// Wildcards of subscriptions: those of MQTT (`+` a level, `#` what is below) and of NATS (`*`, `>`).
const SUBSCRIBED: [char; 4] = ['+', '#', '*', '>'];

/// Whether the pattern takes in all that the object names: a topic, or a subscription with wildcards.
fn takes_in(pattern: &Pattern, object: &str, separator: char) -> bool {
    let text = pattern.as_str();
    let mut levels = text.split(separator);
    let is_subscription = match separator {
        '/' => levels.any(|level| matches!(level, "+" | "#")),
        _ => levels.next_back() == Some(">"),
    };
    if is_subscription {
        return takes_in_levels(text, object, separator);
    }
    // One character of the policy does not stand for a wildcard that stands for many.
    (!object.contains(SUBSCRIBED) || !text.contains('?')) && pattern.matches(object)
}

/// MQTT 5 section 4.7.2: `#` and `+` in front hold no topic that begins with `$`, where brokers tell of themselves
/// (`$SYS`) and take orders (`$CONTROL`).
fn is_of_the_broker(pattern: &Pattern, object: &str) -> bool {
    object.starts_with('$') && matches!(pattern.as_str().split('/').next(), Some("#" | "+"))
}

/// MQTT 5 section 4.7.1: `a/#` is `a` and all below it. NATS, "Subject-Based Messaging": `a.>` is all
/// below `a`.
fn takes_in_levels(pattern: &str, object: &str, separator: char) -> bool {
    let is_rest = |level: &str| matches!((separator, level), ('/', "#") | ('.', ">"));
    let mut asked = object.split(separator);
    for level in pattern.split(separator) {
        if is_rest(level) {
            return separator == '/' || asked.next().is_some();
        }
        let holds = match asked.next() {
            None => false,
            Some(wanted) if is_rest(wanted) => false,
            Some(_) if separator == '/' && level == "+" => true,
            Some(wanted) => {
                let many = matches!(wanted, "+" | "*");
                (!many || !level.contains('?')) && Pattern::new(level).matches(wanted)
            }
        };
        if !holds {
            return false;
        }
    }
    asked.next().is_none()
}

/// Whether something may be named by both. Errs on the side of yes.
fn meets(pattern: &Pattern, object: &str, separator: char) -> bool {
    if !object.contains(SUBSCRIBED) {
        return takes_in(pattern, object, separator);
    }
    let lead = |text: &str| -> usize { text.find(['+', '#', '*', '>', '?']).unwrap_or(text.len()) };
    let text = pattern.as_str();
    let (ours, theirs) = (&text[..lead(text)], &object[..lead(object)]);
    if ours.len() < text.len() {
        return ours.starts_with(theirs) || theirs.starts_with(ours);
    }
    let asked = Pattern::new(&object.replace(['+', '#', '>'], "*"));
    asked.matches(text) || object.strip_suffix("/#") == Some(text)
}
