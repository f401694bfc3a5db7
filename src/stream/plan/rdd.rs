//! `Rdd`: the records of one batch, in partitions.

use std::fmt;
use std::hash::Hash;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::save::{Saved, ValueCodec};

/// A record of the batch plane: any type that other threads may receive and read.
///
/// `Sync` is required because all batches and windows that contain a record share it.
pub trait Record: Send + Sync + 'static {}

impl<T: Send + Sync + 'static> Record for T {}

/// A key of the batch plane: a record that can be hashed, compared and copied.
pub trait Key: Record + Eq + Hash + Clone {}

impl<K: Record + Eq + Hash + Clone> Key for K {}

/// The records of one batch in memory: Spark's RDD.
///
/// Records are kept in partitions. In a stream of bytes, each block that was read becomes a
/// partition, in the order of arrival. Cloning shares the records; nothing ever changes them.
///
/// ```
/// use microtally::stream::Rdd;
/// let rdd = Rdd::new([vec![1, 2], vec![3]]);
/// assert_eq!(rdd.len(), 3);
/// assert_eq!(rdd.map(|n| n * 10).to_vec(), [10, 20, 30]);
/// assert_eq!(rdd.partitions().map(|part| part.len()).collect::<Vec<_>>(), [2, 1]);
/// ```
pub struct Rdd<T> {
    partitions: Arc<[Arc<Vec<T>>]>,
}

impl<T> Clone for Rdd<T> {
    fn clone(&self) -> Self {
        Rdd {
            partitions: Arc::clone(&self.partitions),
        }
    }
}

impl<T> Default for Rdd<T> {
    fn default() -> Self {
        Rdd::empty()
    }
}

impl<T: fmt::Debug> fmt::Debug for Rdd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.partitions.iter()).finish()
    }
}

impl<T> From<Vec<T>> for Rdd<T> {
    /// One partition.
    fn from(records: Vec<T>) -> Self {
        Rdd::new([records])
    }
}

impl<T> FromIterator<T> for Rdd<T> {
    /// One partition.
    fn from_iter<I: IntoIterator<Item = T>>(records: I) -> Self {
        Rdd::new([records.into_iter().collect()])
    }
}

impl<T> Rdd<T> {
    /// Creates an RDD of the given partitions.
    pub fn new(partitions: impl IntoIterator<Item = Vec<T>>) -> Self {
        Rdd::shared(partitions.into_iter().map(Arc::new))
    }

    /// Creates an RDD without partitions.
    pub fn empty() -> Self {
        Rdd::new([])
    }

    /// Splits `records` into `partition_count` partitions (at least one) of about the same size.
    pub fn split_into(records: Vec<T>, partition_count: usize) -> Self {
        let count = partition_count.max(1);
        let total = records.len();
        let mut records = records.into_iter();
        // As Spark's `parallelize` does: partition i ends before record (i + 1) * total / count.
        Rdd::new((0..count).map(|index| {
            let (start, end) = (index * total / count, (index + 1) * total / count);
            records.by_ref().take(end - start).collect()
        }))
    }

    /// Creates an RDD that shares its partitions with others.
    pub(crate) fn shared(partitions: impl IntoIterator<Item = Arc<Vec<T>>>) -> Self {
        Rdd {
            partitions: partitions.into_iter().collect(),
        }
    }

    /// The partitions, to be shared with another RDD.
    pub(crate) fn parts(&self) -> &[Arc<Vec<T>>] {
        &self.partitions
    }

    /// The records, partition by partition.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = &[T]> {
        self.partitions.iter().map(|partition| &partition[..])
    }

    /// Number of partitions.
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// All records, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.partitions
            .iter()
            .flat_map(|partition| partition.iter())
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.partitions
            .iter()
            .map(|partition| partition.len())
            .sum()
    }

    /// Returns `true` if there is no record.
    pub fn is_empty(&self) -> bool {
        self.partitions.iter().all(|partition| partition.is_empty())
    }

    /// The first `count` records.
    pub fn take(&self, count: usize) -> impl Iterator<Item = &T> {
        self.iter().take(count)
    }

    /// Copies of all records, in order.
    pub fn to_vec(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.iter().cloned().collect()
    }

    /// Writes the partitions.
    pub(crate) fn save(&self, codec: ValueCodec<T>, to: &mut dyn Write) -> io::Result<()> {
        (self.partition_count() as u64).save(to)?;
        for partition in self.partitions() {
            (partition.len() as u64).save(to)?;
            partition
                .iter()
                .try_for_each(|record| (codec.save)(record, to))?;
        }
        Ok(())
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(crate) fn load(codec: ValueCodec<T>, from: &mut dyn Read) -> io::Result<Self> {
        let mut partitions = Vec::new();
        for _ in 0..u64::load(from)? {
            let records = (0..u64::load(from)?).map(|_| (codec.load)(from));
            partitions.push(records.collect::<io::Result<Vec<_>>>()?);
        }
        Ok(Rdd::new(partitions))
    }

    /// Makes a partition of each partition.
    pub(crate) fn each_partition<U>(&self, f: impl FnMut(&[T]) -> Vec<U>) -> Rdd<U> {
        Rdd::new(self.partitions().map(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cutting_into_partitions_keeps_every_record(len in 0usize..50, count in 0usize..9) {
            let rdd = Rdd::split_into((0..len).collect(), count);
            prop_assert_eq!(rdd.partition_count(), count.max(1));
            prop_assert_eq!(rdd.to_vec(), (0..len).collect::<Vec<_>>());
            let sizes: Vec<usize> = rdd.partitions().map(<[usize]>::len).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}
