//! What publication needs of a stream, and how an outbox is rolled forward on it.

use futures::future::BoxFuture;

use super::chain::{Marker, Roll, RollStep, Sent, StoredMarker};
use crate::error::{Error, ErrorKind, Result};
use crate::types::OutboundMessage;

/// One pipeline's chain of batches on a stream. An implementor promises:
///
/// - `publish` stores all of a batch or nothing of it, in its order and the marker last, and only if `expects` is the sequence of
///   the last marker then (0: there is none); after [`Sent::Refused`] nothing of that call is stored, nor ever will be;
/// - an error of kind `Unavailable` says nothing of what became of the call: it may be stored, or may yet be;
/// - `last_marker` is what the stream holds at some time between the call and its answer.
pub trait Outlet: Send + Sync {
    /// The last marker of the chain; none before the first.
    fn last_marker(&self) -> BoxFuture<'_, Result<Option<StoredMarker>>>;

    /// Publishes a batch with its marker.
    fn publish<'a>(
        &'a self,
        messages: &'a [OutboundMessage],
        marker: &'a Marker,
        expects: u64,
    ) -> BoxFuture<'a, Result<Sent>>;
}

/// Brings one stream's part of a commit out, as far as it is not. `sent` is called after each batch. After an error of kind `Unavailable` the same call may be made again.
///
/// # Errors
/// `Unavailable`: the broker. `Fenced`: somebody went on with the chain. `Corrupt`: the stream is not what it was. What else the
/// broker refuses, by its kind.
pub async fn roll_forward(outlet: &dyn Outlet, roll: &mut Roll, sent: &(dyn Fn() + Send + Sync)) -> Result<()> {
    let steps_max = STEPS_MAX + 3 * roll.part().map_or(0, |part| part.batches.len());
    for _ in 0..steps_max {
        match roll.next() {
            RollStep::Look => roll.last_is(outlet.last_marker().await?)?,
            RollStep::Send { batch, expects } => {
                let (messages, marker) = (roll.batch(batch)?, roll.marker(batch));
                // Whatever happens to this call, even if it is dropped: what became of it is to be looked up.
                roll.sending();
                let answer = outlet.publish(&messages, &marker, expects).await?;
                roll.answered(batch, answer);
                sent();
            }
            RollStep::Done => return Ok(()),
        }
    }
    Err(Error::new(ErrorKind::Unavailable, format!("the chain on stream `{}` does not stand still", roll.stream())))
}

/// Steps beside three a batch.
const STEPS_MAX: usize = 8;
