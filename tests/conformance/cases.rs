//! The cases: what is in the file, and how outputs are compared.

use microtally::stream::Dialect;
use serde_json::Value;

/// The file.
pub(crate) const FILE: &str = include_str!("dstream_cases.json");

/// One of Spark's tests.
pub(crate) struct Case {
    pub(crate) id: String,
    /// Everything the file says of it.
    pub(crate) facts: Value,
}

/// The records of one batch.
pub(crate) type Records = Vec<Value>;

/// All of them, in the file's order.
pub(crate) fn cases() -> Vec<Case> {
    let file: Value = serde_json::from_str(FILE).expect("the file is JSON");
    let cases = file["cases"].as_array().expect("a list of cases");
    let case = |facts: &Value| Case {
        id: text(&facts["id"]).to_owned(),
        facts: facts.clone(),
    };
    cases.iter().map(case).collect()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

pub(crate) fn number(value: &Value) -> i64 {
    value.as_i64().expect("a whole number")
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// A list of two as a key and a value.
pub(crate) fn pair(value: &Value) -> (Value, Value) {
    let [key, value] = list(value) else {
        panic!("{value} is no pair");
    };
    (key.clone(), value.clone())
}

impl Case {
    pub(crate) fn param(&self, name: &str) -> &Value {
        &self.facts["params"][name]
    }

    /// The operations to apply, in their order; whether there are any.
    pub(crate) fn has_operations(&self) -> bool {
        self.param("ops").is_array()
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match text(&self.facts["flavor"]) {
            "pyspark" => Dialect::PySpark,
            _ => Dialect::Scala,
        }
    }

    pub(crate) fn batch_ms(&self) -> u64 {
        self.param("batch_ms").as_u64().expect("an interval")
    }

    /// The batches that come in, if the case names them by that word; `None` is a batch in which
    /// nothing came, not even no records.
    pub(crate) fn input(&self, name: &str) -> Option<Vec<Option<Records>>> {
        let batches = self.facts[name].as_array()?;
        Some(
            batches
                .iter()
                .map(|batch| batch.as_array().cloned())
                .collect(),
        )
    }

    pub(crate) fn expected(&self, name: &str) -> Option<Vec<Records>> {
        let batches = self.facts[name].as_array()?;
        Some(batches.iter().map(|batch| list(batch).to_vec()).collect())
    }

    /// Whether batches without records are not in the expected ones.
    pub(crate) fn drops_empty(&self) -> bool {
        self.param("drop_empty_output_batches") == true
    }

    /// Compares what came out with what Spark's test expects, by the case's rule.
    pub(crate) fn check(&self, mut seen: Vec<Records>, mut expected: Vec<Records>) {
        if self.drops_empty() {
            seen.retain(|batch| !batch.is_empty());
            // Spark's test stops to listen when it has seen as many.
            seen.truncate(expected.len());
        }
        for batch in seen.iter_mut().chain(&mut expected) {
            match text(self.param("compare")) {
                "list" => {}
                "set" => batch.sort_by_key(Value::to_string),
                "sort_by_key" => batch.sort_by_key(|record| record[0].to_string()),
                other => panic!("unknown comparison {other}"),
            }
        }
        assert_eq!(seen, expected, "{}", self.id);
    }
}
