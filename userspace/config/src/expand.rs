//! `${NAME}` and `${file:/path}` in values.

use std::fs::File;
use std::io::{self, Read};

use crate::mistake::Mistakes;
use crate::node::{Node, Value};

/// Bytes of a file that is expanded into a value.
const FILE_SIZE_MAX: u64 = 64 * 1024;

/// Where `${…}` looks.
pub trait Environment {
    /// The value of a variable; `None` if it is not set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The contents of a file.
    ///
    /// # Errors
    /// It cannot be read as text.
    fn file(&self, path: &str) -> io::Result<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> io::Result<String> {
        let mut text = String::new();
        let read = File::open(path)?.take(FILE_SIZE_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > FILE_SIZE_MAX {
            return Err(io::Error::other("larger than 64 KiB"));
        }
        Ok(text)
    }
}

/// Expands every value of the tree; keys stay as they are. `$${` stands for `${`.
pub(crate) fn expand(node: &mut Node, environment: &dyn Environment, mistakes: &mut Mistakes) {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(text) if text.contains("${") => match expand_text(text, environment) {
            Ok(expanded) => *text = expanded,
            Err(message) => mistakes.add(node.at, message),
        },
        Value::Scalar(_) => {}
        Value::List(items) => {
            items.iter_mut().for_each(|item| expand(item, environment, mistakes));
        }
        Value::Map(entries) => {
            entries.iter_mut().for_each(|entry| expand(&mut entry.node, environment, mistakes));
        }
    }
}

fn expand_text(text: &str, environment: &dyn Environment) -> Result<String, String> {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        let (name, after) =
            after.split_once('}').ok_or("`${` without its `}`; write `$${` for `${`")?;
        expanded.push_str(before);
        expanded.push_str(&look_up(name, environment)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn look_up(name: &str, environment: &dyn Environment) -> Result<String, String> {
    if let Some(path) = name.strip_prefix("file:") {
        let text = environment.file(path).map_err(|error| format!("read {path}: {error}"))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    environment
        .variable(name)
        .ok_or_else(|| format!("the environment variable `{name}` is not set"))
}
