//! The same protocol as a querier sees it.

use bytes::Bytes;
use futures::Stream;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::messages::{ClientToFrontend, FrontendToClient, NotifyClientShutdownRequest, NotifyClientShutdownResponse};
use super::{NOTIFY_CLIENT_SHUTDOWN, OURS, PROCESS};

/// One connection to a frontend.
#[derive(Clone, Debug)]
pub struct Connection {
    grpc: Grpc<Channel>,
}

impl Connection {
    /// Over a channel; messages may have so many bytes.
    pub fn new(channel: Channel, max_message_bytes: usize) -> Self {
        let grpc = Grpc::new(channel)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(max_message_bytes)
            .max_encoding_message_size(max_message_bytes);
        Self { grpc }
    }

    /// Opens a stream. The frontend speaks first.
    pub async fn process(
        &mut self,
        outbound: impl Stream<Item = ClientToFrontend> + Send + 'static,
    ) -> Result<Streaming<FrontendToClient>, Status> {
        self.ready().await?;
        let mut request = Request::new(outbound);
        request.metadata_mut().insert(OURS, MetadataValue::from_static(env!("CARGO_PKG_VERSION")));
        let codec = ProstCodec::<ClientToFrontend, FrontendToClient>::default();
        let response = self.grpc.streaming(request, PathAndQuery::from_static(PROCESS), codec).await?;
        Ok(response.into_inner())
    }

    /// Announces that the querier of this name leaves.
    pub async fn notify_shutdown(&mut self, id: &str) -> Result<(), Status> {
        self.ready().await?;
        let request = NotifyClientShutdownRequest { client_id: Bytes::copy_from_slice(id.as_bytes()) };
        let codec = ProstCodec::<NotifyClientShutdownRequest, NotifyClientShutdownResponse>::default();
        let path = PathAndQuery::from_static(NOTIFY_CLIENT_SHUTDOWN);
        self.grpc.unary(Request::new(request), path, codec).await?;
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}
