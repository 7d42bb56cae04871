//! What is wrong with a configuration, and where.

use std::fmt;

/// Mistakes that are told of; more would help nobody.
const MISTAKES_MAX: usize = 100;

/// One mistake. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line in the text.
    pub line: usize,
    /// Character in the line.
    pub column: usize,
    /// What was wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Every mistake of a text, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Every mistake, from the top of the text.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, mistake: Mistake) {
        if self.0.len() < MISTAKES_MAX {
            let after = self.0.partition_point(|other| {
                (other.line, other.column) <= (mistake.line, mistake.column)
            });
            self.0.insert(after, mistake);
        }
    }

    pub(crate) fn add(&mut self, at: Position, message: impl Into<String>) {
        self.push(Mistake { line: at.line, column: at.column, message: message.into() });
    }
}

/// A place in the text, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}
