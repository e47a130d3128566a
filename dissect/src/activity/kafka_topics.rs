//! Where topics stand in Kafka's requests and responses, in every version.
//!
//! In: the body behind the header. Out: the topics, as far as they are there. Source: `ProduceRequest`,
//! `FetchRequest` and `MetadataResponse` of the message definitions; compact encodings of KIP-482.

use super::kafka::Topic;
use crate::bytes::Reader;

/// Elements of an array that are walked.
const MOST: u32 = 1024;

/// The first flexible version of each API that is read here.
pub(super) fn is_flexible(key: u16, version: u16) -> bool {
    let first = match key {
        0 => 9,
        1 => 12,
        3 => 9,
        18 => 3,
        19 => 5,
        20 => 4,
        21 | 30 | 31 | 33 | 34 | 36 | 37 | 42 | 43 => 2,
        44 | 49 => 1,
        45 | 51 | 57 | 78 => 0,
        _ => return false,
    };
    version >= first
}

/// Fields in either encoding.
pub(super) struct Fields<'a> {
    pub reader: Reader<'a>,
    pub flexible: bool,
}

impl<'a> Fields<'a> {
    /// A nullable string.
    pub fn text(&mut self) -> Option<Option<&'a [u8]>> {
        let length = if self.flexible {
            self.varint()?.checked_sub(1)
        } else {
            Some(u64::from(self.reader.u16()?)).filter(|length| *length != 0xffff)
        };
        self.sized(length)
    }

    /// Nullable bytes.
    pub fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        let length = if self.flexible {
            self.varint()?.checked_sub(1)
        } else {
            Some(u64::from(self.reader.u32()?)).filter(|length| *length != 0xffff_ffff)
        };
        self.sized(length)
    }

    /// The number of elements; none for null.
    pub fn array(&mut self) -> Option<u32> {
        let count = if self.flexible {
            self.varint()?.saturating_sub(1)
        } else {
            Some(self.reader.u32()?).filter(|count| *count != u32::MAX).map_or(0, u64::from)
        };
        u32::try_from(count).ok()
    }

    /// Tagged fields, passed over.
    pub fn tags(&mut self) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        let count = self.varint()?;
        for _ in 0..count.min(64) {
            self.varint()?;
            let length = usize::try_from(self.varint()?).ok()?;
            self.reader.take(length)?;
        }
        (count <= 64).then_some(())
    }

    fn sized(&mut self, length: Option<u64>) -> Option<Option<&'a [u8]>> {
        match length {
            None => Some(None),
            Some(length) => self.reader.take(usize::try_from(length).ok()?).map(Some),
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for position in 0..5 {
            let byte = self.reader.u8()?;
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// An array of 32-bit numbers, passed over.
    fn numbers(&mut self) -> Option<()> {
        let count = self.array()? as usize;
        self.reader.take(count.checked_mul(4)?).map(drop)
    }
}

/// Topics of a request, and whether those are all.
type Topics<'a> = (Vec<Topic<'a>>, bool);

fn collect<'a>(read: impl FnOnce(&mut Vec<Topic<'a>>) -> Option<()>) -> Topics<'a> {
    let mut topics = Vec::new();
    let all = read(&mut topics).is_some();
    (topics, all)
}

/// Topics of a Produce request.
pub(super) fn topics_of_produce<'a>(fields: &mut Fields<'a>, version: u16) -> Topics<'a> {
    collect(|topics| read_produce(fields, version, topics))
}

fn read_produce<'a>(fields: &mut Fields<'a>, version: u16, topics: &mut Vec<Topic<'a>>) -> Option<()> {
    if version >= 3 {
        fields.text()?;
    }
    fields.reader.take(2 + 4)?;
    let count = fields.array()?;
    for position in 1..=count.min(MOST) {
        topics.push(if version >= 13 { id(fields)? } else { Topic::Name(fields.text()??) });
        let is_last = position == count;
        let partitions = fields.array()?;
        for partition in 1..=partitions {
            // Behind the last records stand no more topics, however long they are.
            if is_last && partition == partitions {
                return Some(());
            }
            fields.reader.take(4)?;
            fields.bytes()?;
            fields.tags()?;
        }
        fields.tags()?;
    }
    (count <= MOST).then_some(())
}

/// Topics of a Fetch request; an incremental one names only those that changed.
pub(super) fn topics_of_fetch<'a>(fields: &mut Fields<'a>, version: u16) -> Topics<'a> {
    collect(|topics| read_fetch(fields, version, topics))
}

fn read_fetch<'a>(fields: &mut Fields<'a>, version: u16, topics: &mut Vec<Topic<'a>>) -> Option<()> {
    let from = |first: u16, length: usize| if version >= first { length } else { 0 };
    let replica = if version < 15 { 4 } else { 0 };
    fields.reader.take(replica + 4 + 4 + from(3, 4) + from(4, 1) + from(7, 8))?;
    let partition = 4 + from(9, 4) + 8 + from(12, 4) + from(5, 8) + 4;
    let count = fields.array()?;
    for _ in 0..count.min(MOST) {
        topics.push(if version >= 13 { id(fields)? } else { Topic::Name(fields.text()??) });
        for _ in 0..fields.array()? {
            fields.reader.take(partition)?;
            fields.tags()?;
        }
        fields.tags()?;
    }
    (count <= MOST).then_some(())
}

/// Topics of a ShareFetch request.
pub(super) fn topics_of_share_fetch<'a>(fields: &mut Fields<'a>, version: u16) -> Topics<'a> {
    collect(|topics| {
        let (_group, _member) = (fields.text()?, fields.text()?);
        fields.reader.take(4 + 4 + 4 + 4 + if version >= 1 { 4 + 4 } else { 0 })?;
        let count = fields.array()?;
        for _ in 0..count.min(MOST) {
            topics.push(id(fields)?);
            for _ in 0..fields.array()? {
                fields.reader.take(if version == 0 { 4 + 4 } else { 4 })?;
                for _ in 0..fields.array()? {
                    fields.reader.take(8 + 8)?;
                    let kinds = fields.array()? as usize;
                    fields.reader.take(kinds)?;
                    fields.tags()?;
                }
                fields.tags()?;
            }
            fields.tags()?;
        }
        (count <= MOST).then_some(())
    })
}

/// Topics of CreateTopics (19), DeleteTopics (20), DeleteRecords (21) and CreatePartitions (37).
pub(super) fn topics_of_administration<'a>(fields: &mut Fields<'a>, key: u16, version: u16) -> Topics<'a> {
    collect(|topics| {
        let count = fields.array()?;
        for _ in 0..count.min(MOST) {
            let name = fields.text()?;
            match key {
                20 if version < 6 => {}
                20 => {
                    let id = id(fields)?;
                    topics.push(name.map_or(id, Topic::Name));
                    fields.tags()?;
                    continue;
                }
                19 => {
                    fields.reader.take(4 + 2)?;
                    for _ in 0..fields.array()? {
                        fields.reader.take(4)?;
                        fields.numbers()?;
                        fields.tags()?;
                    }
                    for _ in 0..fields.array()? {
                        let (_name, _value) = (fields.text()?, fields.text()?);
                        fields.tags()?;
                    }
                    fields.tags()?;
                }
                21 => {
                    for _ in 0..fields.array()? {
                        fields.reader.take(4 + 8)?;
                        fields.tags()?;
                    }
                    fields.tags()?;
                }
                _ => {
                    fields.reader.take(4)?;
                    for _ in 0..fields.array()? {
                        fields.numbers()?;
                        fields.tags()?;
                    }
                    fields.tags()?;
                }
            }
            topics.push(Topic::Name(name?));
        }
        (count <= MOST).then_some(())
    })
}

/// Ids and names of a Metadata response; ids came with version 10.
pub(super) fn topics_of_metadata<'a>(fields: &mut Fields<'a>, version: u16) -> Vec<([u8; 16], &'a [u8])> {
    let mut topics = Vec::new();
    if version >= 10 {
        let _ = read_metadata(fields, &mut topics);
    }
    topics
}

fn read_metadata<'a>(fields: &mut Fields<'a>, topics: &mut Vec<([u8; 16], &'a [u8])>) -> Option<()> {
    fields.reader.take(4)?;
    for _ in 0..fields.array()?.min(MOST) {
        fields.reader.take(4)?;
        fields.text()?;
        fields.reader.take(4)?;
        fields.text()?;
        fields.tags()?;
    }
    fields.text()?;
    fields.reader.take(4)?;
    for _ in 0..fields.array()?.min(MOST) {
        fields.reader.take(2)?;
        let name = fields.text()?;
        let Topic::Id(id) = id(fields)? else { return None };
        if let Some(name) = name {
            topics.push((id, name));
        }
        fields.reader.take(1)?;
        for _ in 0..fields.array()? {
            fields.reader.take(2 + 4 + 4 + 4)?;
            fields.numbers()?;
            fields.numbers()?;
            fields.numbers()?;
            fields.tags()?;
        }
        fields.reader.take(4)?;
        fields.tags()?;
    }
    Some(())
}

fn id<'a>(fields: &mut Fields<'a>) -> Option<Topic<'a>> {
    fields.reader.take(16)?.first_chunk().copied().map(Topic::Id)
}
