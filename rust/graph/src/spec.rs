//! The wire format: a graph as JSON plus a list of tensors.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result, Tensor};

/// A graph's description: nodes in topological order, node 0 the input, and which node is the
/// output. Shapes never include the batch axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphSpec {
    pub nodes: Vec<NodeSpec>,
    pub output: usize,
}

/// One node: the operator by name, the nodes it reads, its tensors (role to index in the
/// graph's tensor list) and its attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    pub name: String,
    pub op: String,
    #[serde(default)]
    pub inputs: Vec<usize>,
    #[serde(default)]
    pub tensors: BTreeMap<String, usize>,
    #[serde(default)]
    pub attrs: Map<String, Value>,
}

impl GraphSpec {
    /// Reads the JSON description; unknown and missing fields are errors.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::spec(error.to_string()))
    }
}

/// What an operator is built from. Everything given must be taken: what is left is an error.
pub(crate) struct Parts<'a> {
    /// Shapes of the node's inputs.
    pub inputs: &'a [&'a [usize]],
    attrs: Option<Map<String, Value>>,
    tensors: BTreeMap<String, Arc<Tensor>>,
    canonical: Value,
}

impl<'a> Parts<'a> {
    pub fn new(
        inputs: &'a [&'a [usize]],
        attrs: Map<String, Value>,
        tensors: BTreeMap<String, Arc<Tensor>>,
    ) -> Self {
        Self { inputs, attrs: Some(attrs), tensors, canonical: Value::Null }
    }

    /// The attributes, as the operator's own strict type.
    pub fn attrs<A: DeserializeOwned + Serialize>(&mut self) -> Result<A, String> {
        let given = Value::Object(self.attrs.take().unwrap_or_default());
        let attrs: A = serde_json::from_value(given).map_err(|error| format!("attrs: {error}"))?;
        self.canonical = serde_json::to_value(&attrs).map_err(|error| error.to_string())?;
        Ok(attrs)
    }

    pub fn tensor(&mut self, role: &str) -> Result<Arc<Tensor>, String> {
        self.tensors.remove(role).ok_or_else(|| format!("tensor `{role}` is missing"))
    }

    /// The attributes in canonical form, for the digest; fails when something was not taken.
    pub fn finish(self) -> Result<Value, String> {
        if let Some(name) = self.attrs.iter().flat_map(Map::keys).next() {
            return Err(format!("attrs: unknown field `{name}`, there are none"));
        }
        match self.tensors.keys().next() {
            Some(role) => Err(format!("tensor `{role}` is not one of this operator's")),
            None => Ok(self.canonical),
        }
    }
}
