//! The cases that are not run, each with the reason.
//!
//! Of the cases of the kind `checkpointed_batches` only the restart is not run: there are no
//! checkpoints yet. What Spark's tests expect of their batches is the same without one, so they are
//! run in one go.

/// Id and reason.
type Listed = (&'static str, &'static str);

const NO_SPARK_CONTEXT: &str =
    "There is no SparkContext beside the context that could be stopped or left usable.";

const TYPES: &str = "The states are types: starting consumes the StreamingContext and gives a \
                     RunningContext, so what this case does at run time does not compile.";

const NO_CHECKPOINT: &str = "There are no checkpoints yet, so nothing is written or recovered.";

const NO_REGISTRY: &str = "There is no registry a running context is entered in.";

const JVM: &str = "It is about a detail of the Java virtual machine or of its class loading.";

/// What makes no sense on one machine, or in Rust.
pub(crate) const NOT_HERE: &[Listed] = &[
    (
        "pyspark/test_context.StreamingContextTests/test_stop_only_streaming_context",
        NO_SPARK_CONTEXT,
    ),
    (
        "scala/StreamingContextSuite/stop only streaming context",
        NO_SPARK_CONTEXT,
    ),
    (
        "scala/StreamingContextSuite/stop(stopSparkContext=true) after stop(stopSparkContext=false)",
        NO_SPARK_CONTEXT,
    ),
    (
        "scala/WindowOperationsSuite/window - persistence level",
        "Batches are held in memory and shared, so streams have no storage level.",
    ),
    (
        "scala/StreamingContextSuite/start and stop state check",
        TYPES,
    ),
    ("scala/StreamingContextSuite/state matching", TYPES),
    ("scala/StreamingContextSuite/start multiple times", TYPES),
    ("scala/StreamingContextSuite/start after stop", TYPES),
    (
        "scala/StreamingContextSuite/start failure should stop internal components",
        "States need no checkpoint directory, so the start of this program does not fail.",
    ),
    (
        "scala/StreamingContextSuite/start should set local properties of streaming jobs correctly",
        "There are no jobs and no properties of threads for them.",
    ),
    (
        "scala/StreamingContextSuite/registering and de-registering of streamingSource",
        NO_REGISTRY,
    ),
    (
        "scala/StreamingContextSuite/SPARK-28709 registering and de-registering of progressListener",
        NO_REGISTRY,
    ),
    (
        "scala/StreamingContextSuite/getActive and getActiveOrCreate",
        "Any number of contexts may run in a process, so there is no active one to ask for.",
    ),
    (
        "scala/StreamingContextSuite/DStream and generated RDD creation sites",
        "Streams do not know the line of the program that made them.",
    ),
    (
        "scala/StreamingContextSuite/checkPoint from conf",
        NO_CHECKPOINT,
    ),
    (
        "scala/StreamingContextSuite/start with non-serializable DStream checkpoints",
        NO_CHECKPOINT,
    ),
    (
        "scala/StreamingContextSuite/getActiveOrCreate with checkpoint",
        NO_CHECKPOINT,
    ),
    (
        "scala/StreamingContextSuite/queueStream doesn't support checkpointing",
        NO_CHECKPOINT,
    ),
    (
        "scala/CheckpointSuite/recovery with file input stream",
        NO_CHECKPOINT,
    ),
    (
        "scala/CheckpointSuite/DStreamCheckpointData.restore invoking times",
        NO_CHECKPOINT,
    ),
    (
        "scala/CheckpointSuite/get correct spark.driver.[host|port] from checkpoint",
        NO_CHECKPOINT,
    ),
    (
        "scala/CheckpointSuite/SPARK-30199 get ui port and blockmanager port",
        NO_CHECKPOINT,
    ),
    (
        "scala/CheckpointSuite/recovery from checkpoint contains array object",
        JVM,
    ),
];
