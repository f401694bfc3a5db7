//! Saves the states of a program, and loads them into another run of it.
//!
//! Promise: what is loaded was saved by a program of the same shape, whole, or nothing is run; a
//! state that cannot be saved is named. Any bytes are a state or an error.
//! Must not know: `ops`, `source`, `sink`, files.
//!
//! ```text
//!   "MTSTATE" version shape zero positions   ( true name section )*   false
//! ```
//!
//! `shape` is a hash of all that decides what states mean: names, kinds, parents, slides, lengths.
//! `zero` is the batch before the first one, or nothing. `positions` has the sources that have
//! positions, each with its name. There is a section for each operator that
//! has a state, in the order of the plan; see [`save`](crate::save).

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::position::Positions;
use crate::save::{Saved, SectionReader, SectionWriter, StateKind, invalid};
use crate::stream::plan::graph::{Graph, PlanNode};
use crate::time::BatchTime;

const MAGIC: [u8; 7] = *b"MTSTATE";
const VERSION: u8 = 1;

impl Graph {
    /// Checks that all states can be saved.
    ///
    /// # Errors
    ///
    /// One cannot; the error names its stream.
    pub(crate) fn check_savable(&self) -> Result<()> {
        for node in &self.nodes {
            if let StateKind::Unsavable(what_to_do) = node.operator.state() {
                return Err(Error::refused(format!(
                    "stream {}: its state cannot be saved; {what_to_do}",
                    node.name
                )));
            }
        }
        Ok(())
    }

    /// Writes all states, between two batches, and where sources are after the first of them.
    ///
    /// # Errors
    ///
    /// Those of [`check_savable`](Self::check_savable) and of `to`; or an operator cannot save its
    /// state at this time.
    pub(crate) fn save(&self, positions: &[Positions], to: &mut dyn Write) -> Result<()> {
        self.check_savable()?;
        let whole = |cause: io::Error| failed("the states of the program", "saved", &cause);
        to.write_all(&MAGIC).map_err(whole)?;
        let zero = self.zero.map(|zero| zero.as_millis());
        let positions: Vec<_> = self
            .source_names
            .iter()
            .zip(positions.iter().cloned())
            .filter(|(_, positions)| !positions.is_empty())
            .map(|(name, positions)| (name.clone(), positions))
            .collect();
        (VERSION, self.shape, zero, positions)
            .save(to)
            .map_err(whole)?;
        for node in &self.nodes {
            if node.operator.state() == StateKind::Savable {
                (true, node.name.to_string()).save(to).map_err(whole)?;
                let mut section = SectionWriter::new(to);
                let saved = node
                    .operator
                    .save(&mut section)
                    .and_then(|()| section.end());
                saved.map_err(|cause| failed(&format!("stream {}", node.name), "saved", &cause))?;
            }
        }
        false.save(to).and_then(|()| to.flush()).map_err(whole)
    }

    /// Reads all states, before the first batch. Returns where each source continues.
    ///
    /// # Errors
    ///
    /// Those of `from`; or the bytes are no states of this program. The graph must not run then.
    pub(crate) fn load(&mut self, from: &mut dyn Read) -> Result<Vec<Positions>> {
        self.check_savable()?;
        let whole = |cause: io::Error| failed("the states of the program", "loaded", &cause);
        let positions;
        (self.zero, positions) = self.load_header(from).map_err(whole)?;
        for node in &mut self.nodes {
            if node.operator.state() != StateKind::Savable {
                continue;
            }
            let read = (|| {
                if !bool::load(from)? || String::load(from)? != *node.name {
                    return Err(invalid("it has no state here"));
                }
                let mut section = SectionReader::new(from);
                node.operator.load(&mut section)?;
                section.end()
            })();
            read.map_err(|cause| failed(&format!("stream {}", node.name), "loaded", &cause))?;
        }
        match bool::load(from).map_err(whole)? {
            false => Ok(positions),
            true => Err(whole(invalid("there is a state of an unknown stream"))),
        }
    }

    fn load_header(&self, from: &mut dyn Read) -> io::Result<(Option<BatchTime>, Vec<Positions>)> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(invalid("this is not a saved state"));
        }
        let version = u8::load(from)?;
        if version != VERSION {
            return Err(invalid(&format!(
                "it has version {version}; this program reads version {VERSION}"
            )));
        }
        if u64::load(from)? != self.shape {
            return Err(invalid("another program saved it"));
        }
        let zero = <Option<u64>>::load(from)?.map(BatchTime::from_millis);
        let mut positions = vec![Positions::default(); self.source_names.len()];
        for (name, saved) in <Vec<(String, Positions)>>::load(from)? {
            let mut sources = self.source_names.iter().zip(&mut positions);
            let source = sources.find(|(other, known)| **other == name && known.is_empty());
            let Some((_, known)) = source else {
                return Err(invalid(&format!("there is no source {name} here")));
            };
            *known = saved;
        }
        Ok((zero, positions))
    }
}

fn failed(what: &str, verb: &str, cause: &io::Error) -> Error {
    Error::refused(format!("{what} cannot be {verb}: {cause}"))
}

/// A hash of all that decides what the states of a program mean.
pub(super) fn shape(nodes: &[PlanNode], names: &[Arc<str>]) -> u64 {
    let mut text = Vec::new();
    for (node, name) in nodes.iter().zip(names).filter(|(node, _)| node.is_wanted) {
        let parents = node.parents.iter().map(|&parent| names[parent].to_string());
        let parents: Vec<String> = parents.collect();
        let numbers = (node.slide_ms, node.reach_ms);
        (name.to_string(), node.kind.to_owned(), parents, numbers)
            .save(&mut text)
            .expect("memory takes all");
    }
    // FNV-1a: the same in every process and on every machine.
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
