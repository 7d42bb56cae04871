//! Keys: described once, for the parser, for its errors and for the reference.

use crate::mistake::{Mistakes, Position};
use crate::node::{Entry, Node, Value};

/// A key of some section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    /// What holds where it is absent; empty for sections.
    pub(crate) default: &'static str,
    /// A value that is accepted; empty for sections.
    pub(crate) example: &'static str,
}

impl Key {
    pub(crate) const fn new(
        name: &'static str,
        summary: &'static str,
        default: &'static str,
        example: &'static str,
    ) -> Self {
        Self { name, summary, default, example }
    }

    /// A key whose value is a map or a list of maps.
    pub(crate) const fn section(name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, default: "", example: "" }
    }
}

/// A map whose keys are all known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    pub(crate) at: Position,
    what: &'static str,
    entries: &'a [Entry],
}

impl<'a> Table<'a> {
    /// Takes a node for a map with these keys; tells of every key that is none of them.
    pub(crate) fn open(
        node: &'a Node,
        what: &'static str,
        keys: &'static [Key],
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                let message = format!("{what} is {}, but must be a map of keys", other.kind());
                mistakes.add(node.at, message);
                return None;
            }
        };
        for entry in entries.iter().filter(|entry| keys.iter().all(|key| key.name != entry.name)) {
            let known = keys.iter().map(|key| key.name);
            let message = unknown(&format!("key `{}` of {what}", entry.name), &entry.name, known);
            mistakes.add(entry.at, message);
        }
        Some(Self { at: node.at, what, entries })
    }

    /// The node of a key; `None` where it is absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Node> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        (!matches!(entry.node.value, Value::Null)).then_some(&entry.node)
    }

    /// The value of a key as `read` takes it; `None` where it is absent or wrong.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        mistakes: &mut Mistakes,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.get(name)?;
        scalar(node, name, mistakes, read)
    }

    /// The same, and a mistake where the key is absent.
    pub(crate) fn require<T>(
        &self,
        name: &str,
        mistakes: &mut Mistakes,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.get(name).is_none() {
            mistakes.add(self.at, format!("{} needs `{name}`", self.what));
        }
        self.read(name, mistakes, read)
    }

    /// The section of a key, opened; `None` where it is absent or no map.
    pub(crate) fn section(
        &self,
        name: &str,
        what: &'static str,
        keys: &'static [Key],
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        Table::open(self.get(name)?, what, keys, mistakes)
    }

    /// The items of a key's list; none where it is absent or no list.
    pub(crate) fn list(&self, name: &str, mistakes: &mut Mistakes) -> &'a [Node] {
        match self.get(name).map(|node| (node, &node.value)) {
            None => &[],
            Some((_, Value::List(items))) => items,
            Some((node, other)) => {
                let message = format!("`{name}` is {}, but must be a list (`- …`)", other.kind());
                mistakes.add(node.at, message);
                &[]
            }
        }
    }

    /// The entries of a key's map, whatever their names; none where it is absent or no map.
    pub(crate) fn map(&self, name: &str, mistakes: &mut Mistakes) -> &'a [Entry] {
        match self.get(name).map(|node| (node, &node.value)) {
            None => &[],
            Some((_, Value::Map(entries))) => entries,
            Some((node, other)) => {
                let message = format!("`{name}` is {}, but must be a map", other.kind());
                mistakes.add(node.at, message);
                &[]
            }
        }
    }

    /// The items of a key's list of single values, those that `read` takes.
    pub(crate) fn values<T>(
        &self,
        name: &str,
        mistakes: &mut Mistakes,
        mut read: impl FnMut(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let items = self.list(name, mistakes);
        items.iter().filter_map(|item| scalar(item, name, mistakes, &mut read)).collect()
    }
}

/// A node's single value as `read` takes it.
pub(crate) fn scalar<T>(
    node: &Node,
    name: &str,
    mistakes: &mut Mistakes,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let Value::Scalar(text) = &node.value else {
        let message = format!("`{name}` is {}, but must be a single value", node.value.kind());
        mistakes.add(node.at, message);
        return None;
    };
    read(text).map_err(|message| mistakes.add(node.at, format!("`{name}`: {message}"))).ok()
}

/// A value with the name it goes by and where that stands.
#[derive(Clone, Debug)]
pub(crate) struct Named<T> {
    pub(crate) at: Position,
    pub(crate) name: String,
    pub(crate) value: T,
}

/// Tells of names that stand twice.
pub(crate) fn check_unique<T>(what: &str, named: &[Named<T>], mistakes: &mut Mistakes) {
    for (index, this) in named.iter().enumerate() {
        let before = named.iter().take(index).find(|other| other.name == this.name);
        if let Some(before) = before {
            let message = format!(
                "{what} `{}` stands here twice; first at line {}",
                this.name, before.at.line
            );
            mistakes.add(this.at, message);
        }
    }
}

/// A message for a word that is none of the known ones, with the nearest of them.
pub(crate) fn unknown<'a>(
    what: &str,
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let distance = |candidate: &&str| strsim::damerau_levenshtein(word, candidate);
    let nearest = known
        .clone()
        .min_by_key(distance)
        .filter(|nearest| distance(nearest) <= (nearest.len() / 2).max(1));
    let suggestion =
        nearest.map(|nearest| format!("did you mean `{nearest}`? ")).unwrap_or_default();
    let mut known = known.collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        known.push_str("none");
    }
    format!("unknown {what}; {suggestion}known: {known}")
}
