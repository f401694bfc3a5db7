//! What a plan is made of, for people and for programs.
//!
//! Promise: the same program has the same explanation, in every process; names are unique.
//! Must not know: `ops`, `source`, `sink`, `shards`.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::repr::text::escape_unprintable;
use crate::stream::plan::graph::{NodeWork, PlanNode};

/// The streams and outputs of a program, parents before their children: what
/// [`StreamingContext::explain`](crate::StreamingContext::explain) returns.
///
/// As text it has a line for each: name, kind, where it runs, how often it has a batch, and what it
/// is made of. The text is for people; other versions may write it differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    nodes: Vec<ExplainedNode>,
}

/// A stream or an output of an [`Explanation`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedNode {
    /// Its name, which no other node has: the one given by `named`, else its kind, with a number
    /// from the second of a kind on.
    pub name: Arc<str>,
    /// The method that made it.
    pub kind: &'static str,
    /// The names of the streams that it is made of.
    pub parents: Vec<Arc<str>>,
    /// The names of the sources that it reads, if it is an input stream.
    pub sources: Vec<String>,
    /// How often it has a batch.
    pub slide: Duration,
    /// Where it runs.
    pub plane: Plane,
    /// `true` if it is an output.
    pub is_output: bool,
    /// `false` if no output depends on it. It is not computed then.
    pub is_used: bool,
}

/// Where a stream is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// In the shards, record by record, on all cores.
    Record,
    /// Where batches are published, a batch at a time.
    Batch,
}

impl Explanation {
    /// Explains `nodes`, which have these names.
    pub(crate) fn of(nodes: &[PlanNode], names: &[Arc<str>]) -> Self {
        let explained = nodes.iter().zip(names).map(|(node, name)| {
            let parents = node.parents.iter();
            ExplainedNode {
                name: Arc::clone(name),
                kind: node.kind,
                parents: parents.map(|&parent| Arc::clone(&names[parent])).collect(),
                sources: node.sources.clone(),
                slide: Duration::from_millis(node.slide_ms),
                plane: match node.work {
                    NodeWork::Records | NodeWork::Batches { reads: Some(_), .. } => Plane::Record,
                    NodeWork::Batches { reads: None, .. } | NodeWork::Output(_) => Plane::Batch,
                },
                is_output: node.is_output(),
                is_used: node.is_wanted,
            }
        });
        Explanation {
            nodes: explained.collect(),
        }
    }

    /// The streams and outputs, in the order in which they were made.
    pub fn nodes(&self) -> &[ExplainedNode] {
        &self.nodes
    }

    /// The explanation as JSON: `{"v":1,"nodes":[{"name":…,"kind":…,"parents":[…],"sources":[…],
    /// "slide_ms":…,"plane":"shards"|"publisher","is_output":…,"is_used":…},…]}`, on one line.
    ///
    /// Parents are names of earlier nodes: the edges of the graph. Fields are only added, and `v`
    /// grows when one changes its meaning.
    #[cfg(feature = "json")]
    pub fn to_json(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            serde_json::json!({
                "name": *node.name,
                "kind": node.kind,
                "parents": node.parents.iter().map(|name| &**name).collect::<Vec<_>>(),
                "sources": node.sources,
                "slide_ms": node.slide.as_millis() as u64,
                "plane": node.plane.to_string(),
                "is_output": node.is_output,
                "is_used": node.is_used,
            })
        });
        serde_json::json!({ "v": 1, "nodes": nodes.collect::<Vec<_>>() }).to_string()
    }
}

impl fmt::Display for Plane {
    /// The threads: `shards` or `publisher`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Plane::Record => "shards",
            Plane::Batch => "publisher",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.nodes.iter().map(ExplainedNode::cells).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|cells| cells[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths = [0, 1, 2, 3].map(width);
        for [name, kind, plane, slide, made_of] in &rows {
            let [name_width, kind_width, plane_width, slide_width] = widths;
            let line = format!(
                "{name:name_width$}  {kind:kind_width$}  {plane:plane_width$}  {slide:>slide_width$}  {made_of}"
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl ExplainedNode {
    fn cells(&self) -> [String; 5] {
        let mut made_of = match self.parents.is_empty() {
            true => self
                .sources
                .iter()
                .map(|source| printable(source))
                .collect::<Vec<_>>(),
            false => self.parents.iter().map(|name| name.to_string()).collect(),
        }
        .join(", ");
        if !made_of.is_empty() {
            made_of.insert_str(
                0,
                if self.parents.is_empty() {
                    "reads "
                } else {
                    "from "
                },
            );
        }
        if !self.is_used {
            made_of.push_str(" (unused)");
        }
        let (plane, slide) = (self.plane.to_string(), format!("{:?}", self.slide));
        [
            self.name.to_string(),
            self.kind.to_owned(),
            plane,
            slide,
            made_of,
        ]
    }
}

fn printable(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    escape_unprintable(&mut bytes, 0, &mut Vec::new());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name of each node: the given one, else its kind, with a number from the second of a kind on.
///
/// # Errors
///
/// A given name is empty, cannot be printed, or was given twice.
pub(crate) fn names(nodes: &[PlanNode]) -> Result<Vec<Arc<str>>> {
    let mut given = HashSet::new();
    for name in nodes.iter().filter_map(|node| node.given_name.as_deref()) {
        if name.is_empty() || printable(name) != name {
            return Err(Error::refused(format!(
                "name {name:?} of a stream is empty or has characters that cannot be printed"
            )));
        }
        if !given.insert(name) {
            return Err(Error::refused(format!(
                "two streams have the name {name:?}"
            )));
        }
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let names = nodes.iter().map(|node| match &node.given_name {
        Some(name) => Arc::from(name.as_str()),
        None => loop {
            let count = counts.entry(node.kind).or_default();
            *count += 1;
            let name = match count {
                1 => node.kind.to_owned(),
                _ => format!("{}-{count}", node.kind),
            };
            if !given.contains(name.as_str()) {
                break Arc::from(name);
            }
        },
    });
    Ok(names.collect())
}
