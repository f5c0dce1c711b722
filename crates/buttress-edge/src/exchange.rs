//! [`Exchange`]: the permits and counters that a request holds until the end of its answer.

use buttress::bulkhead::Permit;

use crate::body::{End, Watch};
use crate::forward::{Lane, Upload};
use crate::numbers::Tally;

/// The guards that a request holds until its answer ends, or its tunnel.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The request, in the numbers of the route.
    pub tally: Tally,
    /// The request, in the numbers of the backend. `None` if a service of this process answered.
    pub of_backend: Option<Tally>,
    pub permit: Option<Permit>,
    pub lane: Option<Lane>,
    /// An answer that ends before the upload ends it too.
    pub upload: Option<Upload>,
}

impl Watch for Exchange {
    fn ended(&mut self, end: End) {
        self.tally.ended(end);
        if let Some(of_backend) = &mut self.of_backend {
            of_backend.ended(end);
        }
        // A reader that sees the end in the numbers may still see the permit in use, and no free one too early.
        drop(self.permit.take());
        drop(self.upload.take());
        drop(self.lane.take());
    }
}
