//! The place in the control stream, and the messages that were taken from it.
//!
//! The rule it keeps: a message that the stream delivers again is taken again only if that can still matter, and is
//! answered once.

use std::time::Duration;

use super::{retention, rows};
use crate::broker::place::{Print, print};
use crate::broker::{Control, Place};
use crate::job::At;
use crate::store::{Batch, Store, StoreError, Table};

/// The offset alone, for earlier releases.
const OFFSET: &[u8] = rows::CONTROL_OFFSET.prefix;
/// The place, and the offset up to which messages may have been taken before.
const PLACE: &[u8] = rows::CONTROL_PLACE.prefix;
/// As long as the stream keeps a message.
const KEPT: Duration = Duration::from_secs(90 * 86_400);

/// This store's place in the control stream.
#[derive(Debug, Default)]
pub(crate) struct StreamPlace {
    place: Option<Place>,
    /// After the offsets went back: the highest offset before that.
    again_until: Option<u64>,
}

impl StreamPlace {
    /// The place at the end of the last process.
    pub(crate) fn recall(store: &dyn Store) -> Result<StreamPlace, StoreError> {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
        let Some(offset) = store.get(Table::Meta, OFFSET)?.as_deref().and_then(number) else {
            return Ok(StreamPlace::default());
        };
        let stored = store.get(Table::Meta, PLACE)?;
        let known = stored.as_deref().and_then(|bytes| {
            let (until, place) = bytes.split_first_chunk()?;
            let until = u64::from_be_bytes(*until);
            // An earlier release may have read further, and noted the offset alone.
            let place = Place::from_bytes(place).filter(|place| place.offset() == offset)?;
            Some(StreamPlace { place: Some(place), again_until: (until > 0).then_some(until) })
        });
        Ok(known.unwrap_or_else(|| StreamPlace { place: Some(Place::at(offset)), again_until: None }))
    }

    /// The last message that was taken.
    pub(crate) fn place(&self) -> Option<Place> {
        self.place.clone()
    }

    /// Notes that a message was read. True if this is another stream than before.
    pub(crate) fn reach(&mut self, control: &Control) -> bool {
        let before = self.place.as_ref().map(Place::offset);
        let goes_back = before.is_some_and(|before| control.offset <= before);
        if goes_back {
            self.again_until = self.again_until.max(before);
        }
        if self.again_until.is_some_and(|until| control.offset > until) {
            self.again_until = None;
        }
        self.place = Some(Place::after(self.place.as_ref().filter(|_| !goes_back), control));
        goes_back
    }

    /// True if the present message was taken before.
    pub(crate) fn is_taken(&self, store: &dyn Store, control: &Control) -> Result<bool, StoreError> {
        Ok(self.again_until.is_some() && store.get(Table::Meta, &row(&print(control)))?.is_some())
    }

    /// Notes in the batch that the present message is taken.
    pub(crate) fn note(&self, batch: &mut Batch, control: &Control, now: At) {
        let Some(place) = &self.place else { return };
        batch.put(Table::Meta, OFFSET, place.offset().to_be_bytes());
        let until = self.again_until.unwrap_or_default().to_be_bytes();
        batch.put(Table::Meta, PLACE, [&until[..], &place.to_bytes()].concat());
        let row = row(&print(control));
        retention::expire_fact(batch, now.plus(KEPT), &row);
        batch.put(Table::Meta, row, now.0.to_be_bytes());
    }
}

fn row(print: &Print) -> Vec<u8> {
    [rows::CONTROL_TAKEN.prefix, &print[..]].concat()
}
