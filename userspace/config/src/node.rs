//! YAML as a tree whose nodes know their place. Only what a configuration needs: one document of
//! maps, lists and scalars; no aliases, no tags, no key twice, bounded depth and size.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use crate::mistake::{Mistake, Position};

/// Bytes of a configuration.
const TEXT_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Levels of maps and lists inside each other.
const DEPTH_MAX: usize = 32;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing was written: `key:` alone.
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Position,
    pub(crate) name: String,
    pub(crate) node: Node,
}

impl Value {
    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map of keys",
        }
    }
}

/// The tree of a text.
pub(crate) fn parse(text: &str) -> Result<Node, Mistake> {
    if text.len() > TEXT_SIZE_MAX {
        return Err(mistake(START, "the configuration is larger than 16 MiB"));
    }
    let mut builder = Builder { parser: Parser::new_from_str(text) };
    builder.document()
}

const START: Position = Position { line: 1, column: 1 };

struct Builder<'input, T: saphyr_parser::Input> {
    parser: Parser<'input, T>,
}

impl<'input, T: saphyr_parser::Input> Builder<'input, T> {
    fn document(&mut self) -> Result<Node, Mistake> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                _ if root.is_some() => {
                    return Err(mistake(position(span.start), "a second document; one is allowed"));
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root.unwrap_or(Node { at: START, value: Value::Null }))
    }

    fn next(&mut self) -> Result<Option<(Event<'input>, Span)>, Mistake> {
        self.parser.next_event().transpose().map_err(syntax)
    }

    fn node(&mut self, event: Event<'_>, span: Span, depth: usize) -> Result<Node, Mistake> {
        let at = position(span.start);
        if depth > DEPTH_MAX {
            return Err(mistake(at, format!("more than {DEPTH_MAX} levels inside each other")));
        }
        let value = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return Err(mistake(at, "tags (`!…`) are not allowed"));
            }
            Event::Alias(_) => return Err(mistake(at, "aliases (`*…`) are not allowed")),
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => self.list(at, depth)?,
            Event::MappingStart(..) => self.map(at, depth)?,
            _ => return Err(mistake(at, "unexpected end")),
        };
        Ok(Node { at, value })
    }

    fn list(&mut self, at: Position, depth: usize) -> Result<Value, Mistake> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Some((Event::SequenceEnd, _)) => return Ok(Value::List(items)),
                Some((event, span)) => {
                    items.push(self.node(event, span, depth + 1)?);
                }
                None => return Err(mistake(at, "the list does not end")),
            }
        }
    }

    fn map(&mut self, at: Position, depth: usize) -> Result<Value, Mistake> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (at, name) = match self.next()? {
                Some((Event::MappingEnd, _)) => return Ok(Value::Map(entries)),
                Some((Event::Scalar(name, ..), span)) => (position(span.start), name.into_owned()),
                Some((_, span)) => {
                    return Err(mistake(position(span.start), "a key must be a single word"));
                }
                None => return Err(mistake(at, "the map does not end")),
            };
            if let Some(first) = entries.iter().find(|entry| entry.name == name) {
                let message =
                    format!("`{name}` stands here twice; first at line {}", first.at.line);
                return Err(mistake(at, message));
            }
            let Some((event, span)) = self.next()? else {
                return Err(mistake(at, "the map does not end"));
            };
            let node = self.node(event, span, depth + 1)?;
            entries.push(Entry { at, name, node });
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null") => Value::Null,
        _ => Value::Scalar(text.to_owned()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn syntax(error: ScanError) -> Mistake {
    mistake(position(*error.marker()), format!("not YAML: {}", error.info()))
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

fn mistake(at: Position, message: impl Into<String>) -> Mistake {
    Mistake { line: at.line, column: at.column, message: message.into() }
}
