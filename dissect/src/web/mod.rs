//! The web's protocols: HTTP/1, HTTP/2 and gRPC in the clear, WebSocket, and what leads a
//! connection through something else: CONNECT and the PROXY protocol.

pub(crate) mod connect;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod proxy;
pub(crate) mod socks;

use crate::Hint;
use crate::probe::{Prefix, Probe};

pub(crate) const STREAM: &[fn(Prefix<'_>, Prefix<'_>, Hint) -> Probe] = &[http2::probe, http1::probe];
