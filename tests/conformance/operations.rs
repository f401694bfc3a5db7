//! The interpreter: applies the operations a case names to streams of JSON values.

use std::time::Duration;

use microtally::StreamingContext;
use microtally::stream::{RddStream, State, StateSpec, Window};
use serde_json::{Value, json};

use crate::cases::{Case, Records, list, number, pair, text};
use crate::live::{context, input, ms, run as run_batches, watch};

pub(crate) type Stream = RddStream<Value>;
type Pairs = RddStream<(Value, Value)>;

/// Runs a case that says everything: input, operations, expected output.
pub(crate) fn run(case: &Case) {
    let (ssc, clock) = context(case);
    let partitions = case.param("input_partitions").as_u64().unwrap_or(1);
    let partitions = usize::try_from(partitions).expect("a few");
    let source = |name| Some(input(&ssc, case.input(name)?, partitions));
    let first = source("input_batches").expect("there is input");
    let second = source("input2_batches");
    let mut stream = first.clone();
    let mut states = None;
    for operation in list(case.param("ops")) {
        let [name, arguments @ ..] = list(operation) else {
            panic!("an operation without a name");
        };
        if name == "mapWithState" {
            let (mapped, snapshots) = map_with_state(case, &pairs(&stream, one), &arguments[0]);
            stream = mapped;
            states = Some(watch(&snapshots));
        } else {
            stream = apply(&ssc, case, &stream, second.as_ref(), text(name), arguments);
        }
    }
    let outputs = watch(&stream);
    let expected = case.expected("expected_batches").expect("output");
    let ran = run_batches(ssc, &clock, case, batch_count(case, expected.len()));
    ran.expect("nothing fails");
    let mut outputs: Vec<Records> = outputs.try_iter().collect();
    let full_values = || case.param("full_values").as_array();
    let expected = match full_values() {
        // What the test compares as sets is known in full.
        Some(batches) => batches.iter().map(|batch| list(batch).to_vec()).collect(),
        None => expected,
    };
    if case.param("values_as_sets") == true {
        outputs.iter_mut().flatten().for_each(sort_values);
    }
    case.check(outputs, expected);
    if let Some(states) = states {
        let expected = case.expected("expected_state_batches").expect("states");
        case.check(states.try_iter().collect(), expected);
    }
}

/// How many batches have to be made to see as many outputs.
fn batch_count(case: &Case, outputs: usize) -> usize {
    if let Some(count) = case.param("num_batches").as_u64() {
        return usize::try_from(count).expect("a few");
    }
    let slide_ms = case.param("slide_ms").as_u64();
    let batches_a_slide = slide_ms.map_or(1, |slide_ms| slide_ms / case.batch_ms());
    outputs * usize::try_from(batches_a_slide).expect("a few")
}

fn sort_values(record: &mut Value) {
    let values = record[1].as_array_mut().expect("a list of values");
    values.sort_by_key(Value::to_string);
}

fn apply(
    ssc: &StreamingContext,
    case: &Case,
    stream: &Stream,
    second: Option<&Stream>,
    name: &str,
    arguments: &[Value],
) -> Stream {
    let argument = |index: usize| text(&arguments[index]);
    let second = || second.expect("a second input");
    let keyed = || keyed(stream);
    match name {
        "map" => match argument(0) {
            "to_string" => stream.map(|n| json!(n.to_string())),
            "pair1" => unpaired(&pairs(stream, one)),
            other => panic!("unknown function {other}"),
        },
        "flatMap" => stream.flat_map(|n| [n.clone(), json!(2 * number(n))]),
        "filter" => stream.filter(|n| number(n) % 2 == 0),
        "count" => stream.count().map(|count| json!(count)),
        "reduce" => stream.reduce(add),
        "reduceByKey" => unpaired(&keyed().reduce_by_key(add)),
        "mapValues" => unpaired(&keyed().map_values(add10)),
        "flatMapValues" => unpaired(&keyed().flat_map_values(|v| [v.clone(), add10(v)])),
        "glom" => stream.glom().map(|records| json!(**records)),
        "mapPartitions" => {
            stream.map_partitions(|records| [json!(records.iter().map(number).sum::<i64>())])
        }
        "countByValue" => stream.count_by_value().map(|(v, count)| json!([v, count])),
        "groupByKey" => keyed().group_by_key().map(|(k, values)| json!([k, values])),
        "combineByKey" => {
            let add_text = |text: String, value: &Value| text + &value.to_string();
            let combined = keyed().combine_by_key(Value::to_string, add_text, |a, b| a + &b);
            combined.map(|(k, text)| json!([k, text]))
        }
        "repartition" => stream.repartition(usize::try_from(number(&arguments[0])).expect("few")),
        "union" => stream.union(second()).expect("one slide"),
        "union_with_map3" => ssc.union(&with_two_more(stream)).expect("one slide"),
        "cogroup" => cogroup(&keyed(), &self::keyed(second())),
        "cogroup_1x" => cogroup(&pairs(stream, one), &pairs(second(), x)),
        "join" => join(&keyed(), &self::keyed(second()), argument(0)),
        "join_1x" => join(&pairs(stream, one), &pairs(second(), x), argument(0)),
        "updateStateByKey" => update_state(case, &keyed(), argument(0)),
        "window" => stream.window(window(case)).expect("it fits"),
        "countByWindow" => {
            let counts = stream.count_by_window(window(case)).expect("it fits");
            counts.map(|count| json!(count))
        }
        "countByValueAndWindow" => {
            let counts = stream.count_by_value_and_window(window(case));
            counts.expect("it fits").map(|(v, count)| json!([v, count]))
        }
        "groupByKeyAndWindow" => {
            let groups = keyed().group_by_key_and_window(window(case));
            groups
                .expect("it fits")
                .map(|(k, values)| json!([k, values]))
        }
        "reduceByKeyAndWindow" => {
            let sums = keyed().reduce_by_key_and_window(add, window(case));
            unpaired(&sums.expect("it fits"))
        }
        "reduceByKeyAndWindowInv" => {
            assert_eq!((argument(0), argument(1)), ("add", "sub"));
            let sums = match arguments.get(2).map(text) {
                None => keyed().reduce_by_key_and_window_with_inverse(add, subtract, window(case)),
                Some("nonzero") => keyed().reduce_by_key_and_window_with_inverse_and_filter(
                    add,
                    subtract,
                    window(case),
                    |_, sum| number(sum) != 0,
                ),
                Some(other) => panic!("unknown filter {other}"),
            };
            unpaired(&sums.expect("it fits"))
        }
        other => panic!("unknown operation {other}"),
    }
}

/// The stream, and all of it plus 4 and plus 8.
pub(crate) fn with_two_more(stream: &Stream) -> [Stream; 3] {
    let plus = |more| stream.map(move |n| json!(number(n) + more));
    [stream.clone(), plus(4), plus(8)]
}

fn window(case: &Case) -> Window {
    let duration = |name| Some(ms(case.param(name).as_u64()?));
    let length: Duration = duration("window_ms").expect("a length");
    match duration("slide_ms") {
        Some(slide) => (length, slide).into(),
        None => length.into(),
    }
}

fn cogroup(ours: &Pairs, theirs: &Pairs) -> Stream {
    let groups = ours.cogroup(theirs).expect("one slide");
    groups.map(|(k, (ours, theirs))| json!([k, [ours, theirs]]))
}

fn join(ours: &Pairs, theirs: &Pairs, kind: &str) -> Stream {
    match kind {
        "inner" => ours.join(theirs).expect("one slide").map(|row| json!(row)),
        "left" => {
            let rows = ours.left_outer_join(theirs).expect("one slide");
            rows.map(|row| json!(row))
        }
        "right" => {
            let rows = ours.right_outer_join(theirs).expect("one slide");
            rows.map(|row| json!(row))
        }
        "full" => {
            let rows = ours.full_outer_join(theirs).expect("one slide");
            rows.map(|row| json!(row))
        }
        other => panic!("unknown join {other}"),
    }
}

fn update_state(case: &Case, pairs: &Pairs, function: &str) -> Stream {
    let initial = initial_state(case);
    match function {
        "append" => {
            let append = |values: &[Value], state: Option<Value>| {
                let mut all = state.map_or_else(Vec::new, |state| list(&state).to_vec());
                all.extend_from_slice(values);
                Some(json!(all))
            };
            unpaired(&pairs.update_state_by_key_from(initial, append))
        }
        "sum" => {
            let sum = |values: &[Value], state: Option<Value>| {
                let before = state.as_ref().map_or(0, number);
                Some(json!(before + values.iter().map(number).sum::<i64>()))
            };
            unpaired(&pairs.update_state_by_key_from(initial, sum))
        }
        "add_time" => {
            let states = pairs.update_state_by_key_at(initial, |time, _, values, state| {
                let before = state.as_ref().map_or(0, number);
                let time = i64::try_from(time.as_millis()).expect("early");
                let added = if values.is_empty() { 0 } else { time };
                Some(json!(before + added))
            });
            unpaired(&states)
        }
        "lifecycle" => {
            let states = pairs.update_state_by_key(|values, state: Option<(usize, u32)>| {
                let (counter, idle) = state.unwrap_or_default();
                let idle = if values.is_empty() { idle + 1 } else { 0 };
                (idle < 2).then_some((counter + values.len(), idle))
            });
            states.map(|(k, (counter, _))| json!([k, counter]))
        }
        other => panic!("unknown update function {other}"),
    }
}

fn initial_state(case: &Case) -> Vec<(Value, Value)> {
    let states = case.param("initial_state").as_array();
    states.map_or_else(Vec::new, |states| states.iter().map(pair).collect())
}

/// A running sum a key, and all of them after each batch.
fn map_with_state(case: &Case, pairs: &Pairs, mapping: &Value) -> (Stream, Stream) {
    let returns_sum = match text(mapping) {
        "sum_return_sum" => true,
        "sum_return_none" => false,
        other => panic!("unknown mapping function {other}"),
    };
    let sum = move |_, _: &Value, value: Option<&Value>, state: &mut State<Value>| {
        let sum = json!(state.get_option().map_or(0, number) + number(value?));
        state.update(sum.clone());
        returns_sum.then_some(sum)
    };
    let spec = StateSpec::function(sum).initial_state(initial_state(case));
    let mapped = pairs.map_with_state(spec);
    (mapped.clone(), unpaired(&mapped.state_snapshots()))
}

/// Lists of two as keys and values.
fn keyed(stream: &Stream) -> Pairs {
    stream.map(pair)
}

/// Each record with a value beside it.
pub(crate) fn pairs(stream: &Stream, value: fn() -> Value) -> Pairs {
    stream.map(move |record| (record.clone(), value()))
}

/// Keys and values as lists of two.
pub(crate) fn unpaired(pairs: &Pairs) -> Stream {
    pairs.map(|(k, v)| json!([k, v]))
}

pub(crate) fn one() -> Value {
    json!(1)
}

fn x() -> Value {
    json!("x")
}

fn add(a: Value, b: Value) -> Value {
    json!(number(&a) + number(&b))
}

fn subtract(a: Value, b: Value) -> Value {
    json!(number(&a) - number(&b))
}

fn add10(value: &Value) -> Value {
    json!(number(value) + 10)
}
