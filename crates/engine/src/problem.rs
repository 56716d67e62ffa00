//! What stands in the way of an object, told to the person who can remove it.

use choreo_api::conditions::{Condition, reasons};

/// One thing that stands in the way: a mistake, or something that is not there yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Whether nothing is wrong and something is merely missing: it will go away when that object appears.
    pub waiting: bool,
    /// The condition's reason.
    pub reason: &'static str,
    /// Object, field, what is wrong, and what to do.
    pub message: String,
}

impl Problem {
    /// A mistake that somebody has to correct.
    pub fn error(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            waiting: false,
            reason,
            message: message.into(),
        }
    }

    /// Something that is not there yet.
    pub fn waiting(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            waiting: true,
            reason,
            message: message.into(),
        }
    }
}

/// Problems that are collected on the way, so that all of them are reported at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// No problem.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, unless the same one is there.
    pub fn push(&mut self, problem: Problem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Adds a mistake in an object.
    pub fn invalid(&mut self, message: impl Into<String>) {
        self.push(Problem::error(reasons::INVALID, message));
    }

    /// Adds all of them.
    pub fn extend(&mut self, other: impl IntoIterator<Item = Problem>) {
        other.into_iter().for_each(|p| self.push(p));
    }

    /// Keeps a value, or the problems in its place.
    pub fn take<T>(&mut self, result: Result<T, Problems>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problems) => {
                self.extend(problems);
                None
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order in which they were found.
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// `Ok(value)` when there is no problem.
    ///
    /// # Errors
    /// The problems.
    pub fn or_ok<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The condition that says all of this: `Ready=False`, with the reason of the first mistake or else of the first wait.
    pub fn condition(&self) -> Option<Condition> {
        let first = self.0.iter().find(|p| !p.waiting).or_else(|| self.0.first())?;
        Some(Condition::not_ready(first.reason, self.message()))
    }

    /// All messages in one, mistakes first.
    pub fn message(&self) -> String {
        let (waits, errors): (Vec<&Problem>, Vec<&Problem>) = self.0.iter().partition(|p| p.waiting);
        let all: Vec<&str> = errors.iter().chain(&waits).map(|p| p.message.as_str()).collect();
        truncate(all.join("; "))
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(iter: I) -> Self {
        let mut all = Self::new();
        all.extend(iter);
        all
    }
}

/// `metav1.Condition` bounds a message to 32768 characters.
const MESSAGE_LIMIT: usize = 32_000;

fn truncate(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let end = message
            .char_indices()
            .map(|(i, _)| i)
            .take_while(|i| *i <= MESSAGE_LIMIT)
            .last()
            .unwrap_or(0);
        message.truncate(end);
        message.push_str(" ... (more)");
    }
    message
}

/// Names in quotes, for the end of a sentence: `"a", "b" and "c"`.
pub fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("{n:?}")).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Problem, Problems, quoted_list};

    #[test]
    fn mistakes_come_before_waits_and_nothing_is_said_twice() {
        let mut problems = Problems::new();
        problems.push(Problem::waiting("NotFound", "no a"));
        problems.push(Problem::error("Invalid", "bad b"));
        problems.push(Problem::waiting("NotFound", "no a"));
        let condition = problems.condition().unwrap();
        assert_eq!(
            (condition.reason.as_str(), condition.message.as_str()),
            ("Invalid", "bad b; no a")
        );
        assert!(Problems::new().condition().is_none());
    }

    #[test]
    fn lists() {
        assert_eq!(quoted_list([]), "none");
        assert_eq!(quoted_list(["a"]), "\"a\"");
        assert_eq!(quoted_list(["a", "b", "c"]), "\"a\", \"b\" and \"c\"");
    }
}
