//! Captured bytes of one flow, while they are needed: until it is settled.

use dissect::{Hint, Inspection, Prefix, Reassembly, inspect_datagrams, inspect_stream};

use crate::model::Transport;

/// Datagrams kept of one direction.
const DATAGRAMS: usize = 16;

/// The first bytes of both directions. Gone as soon as the flow is settled.
#[derive(Debug)]
pub enum Evidence {
    Stream { client: Reassembly, server: Reassembly, midstream: bool, limit: u32 },
    Datagrams { client: Vec<Box<[u8]>>, server: Vec<Box<[u8]>> },
}

impl Evidence {
    /// Room for the first `limit` bytes of each direction.
    pub fn new(transport: Transport, limit: u32) -> Self {
        match transport {
            Transport::Tcp => Evidence::Stream {
                client: Reassembly::new(limit),
                server: Reassembly::new(limit),
                midstream: false,
                limit,
            },
            Transport::Udp => Evidence::Datagrams { client: Vec::new(), server: Vec::new() },
        }
    }

    /// Adds a piece; returns whether an inspection could see more than before.
    pub fn add(&mut self, from_client: bool, offset: u32, from_middle: bool, data: &[u8]) -> bool {
        match self {
            Evidence::Stream { client, server, midstream, .. } => {
                *midstream |= from_middle;
                if from_client { client.push(offset, data) } else { server.push(offset, data) }
            }
            Evidence::Datagrams { client, server } => {
                let list = if from_client { client } else { server };
                if list.len() >= DATAGRAMS {
                    return false;
                }
                list.push(data.into());
                true
            }
        }
    }

    /// What the bytes say so far; with `ended`, no more will come.
    pub fn inspect(&self, server_port: u16, ended: bool) -> Inspection {
        let hint = Hint { server_port };
        match self {
            Evidence::Stream { client, server, midstream, limit } => {
                let prefix = |side: &'_ Reassembly| ended || side.prefix().len() as u32 >= *limit;
                let (client_ended, server_ended) = (prefix(client), prefix(server));
                inspect_stream(
                    Prefix { bytes: client.prefix(), ended: client_ended, midstream: *midstream },
                    Prefix { bytes: server.prefix(), ended: server_ended, midstream: *midstream },
                    hint,
                )
            }
            Evidence::Datagrams { client, server } => {
                let client: Vec<&[u8]> = client.iter().map(|datagram| &**datagram).collect();
                let server: Vec<&[u8]> = server.iter().map(|datagram| &**datagram).collect();
                inspect_datagrams(&client, &server, hint)
            }
        }
    }

    /// The first bytes of client and server of a connection, and whether it was open before.
    pub fn first_bytes(&self) -> Option<(&[u8], &[u8], bool)> {
        match self {
            Evidence::Stream { client, server, midstream, .. } => {
                Some((client.prefix(), server.prefix(), *midstream))
            }
            Evidence::Datagrams { .. } => None,
        }
    }

    /// Nothing more can come that would tell more.
    pub fn is_full(&self) -> bool {
        match self {
            Evidence::Stream { client, server, limit, .. } => {
                client.prefix().len() as u32 >= *limit && server.prefix().len() as u32 >= *limit
            }
            Evidence::Datagrams { client, server } => client.len().max(server.len()) >= DATAGRAMS,
        }
    }

    /// Bytes held in order.
    pub fn len(&self) -> usize {
        match self {
            Evidence::Stream { client, server, .. } => client.prefix().len() + server.prefix().len(),
            Evidence::Datagrams { client, server } => {
                client.iter().chain(server).map(|datagram| datagram.len()).sum()
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
