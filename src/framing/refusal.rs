//! Why messages are refused: one list, with the status, a stable name and the section of the RFC for each.

use http::StatusCode;

/// Why a message is refused: parsers could read it differently, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{} ({})", self.reason(), self.section())]
pub enum Refusal {
    // Lines and fields.
    BareLf,
    BareCr,
    Control,
    ObsFold,
    NoColon,
    SpaceBeforeColon,
    FieldName,
    FieldRepeated,
    HeadTooLarge,
    TooManyFields,
    // The request line.
    TlsOnPlain,
    RequestLine,
    Method,
    MethodUnsupported,
    Target,
    TargetFragment,
    TargetForm,
    TargetTooLong,
    Asterisk,
    Version,
    VersionUnsupported,
    HostMissing,
    HostRepeated,
    HostMalformed,
    HostMismatch,
    // Lengths.
    LengthMalformed,
    LengthRepeated,
    LengthAndCoding,
    CodingRepeated,
    CodingMalformed,
    CodingUnsupported,
    CodingInHttp10,
    // Chunks.
    ChunkSize,
    ChunkExtension,
    ChunkExtensionsTooLong,
    ChunkEnd,
    TrailerTooLarge,
    TrailerField,
    // Responses.
    StatusLine,
    UnexpectedUpgrade,
    TooManyInterim,
    Surplus,
    // Either.
    Cut,
}

impl Refusal {
    /// The status a client gets for such a request. For any refused response it gets a 502.
    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// A stable name for logs and problems.
    pub fn reason(self) -> &'static str {
        self.row().1
    }

    /// The section of the RFC that it violates.
    pub fn section(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        const HEAD: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        const LATER: StatusCode = StatusCode::NOT_IMPLEMENTED;
        match self {
            Self::BareLf => (BAD, "bare_lf", "RFC 9112 2.2"),
            Self::BareCr => (BAD, "bare_cr", "RFC 9112 2.2"),
            Self::Control => (BAD, "control_character", "RFC 9110 5.5"),
            Self::ObsFold => (BAD, "obs_fold", "RFC 9112 5.2"),
            Self::NoColon => (BAD, "field_without_colon", "RFC 9112 5"),
            Self::SpaceBeforeColon => (BAD, "space_before_colon", "RFC 9112 5.1"),
            Self::FieldName => (BAD, "field_name", "RFC 9110 5.1"),
            Self::FieldRepeated => (BAD, "field_repeated", "RFC 9110 5.3"),
            Self::HeadTooLarge => (HEAD, "head_too_large", "RFC 6585 5"),
            Self::TooManyFields => (HEAD, "too_many_fields", "RFC 6585 5"),
            Self::TlsOnPlain => (BAD, "tls_on_a_plain_door", "RFC 9112 3"),
            Self::RequestLine => (BAD, "request_line", "RFC 9112 3"),
            Self::Method => (BAD, "method", "RFC 9110 9.1"),
            Self::MethodUnsupported => (LATER, "method_not_supported", "RFC 9110 9.3.6, 9.3.8"),
            Self::Target => (BAD, "target", "RFC 9112 3.2"),
            Self::TargetFragment => (BAD, "target_fragment", "RFC 9112 3.2"),
            Self::TargetForm => (BAD, "target_form", "RFC 9112 3.2"),
            Self::TargetTooLong => (StatusCode::URI_TOO_LONG, "target_too_long", "RFC 9112 3"),
            Self::Asterisk => (BAD, "asterisk_form", "RFC 9112 3.2.4"),
            Self::Version => (BAD, "version", "RFC 9112 2.3"),
            Self::VersionUnsupported => {
                (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "version_not_supported", "RFC 9110 15.6.6")
            }
            Self::HostMissing => (BAD, "host_missing", "RFC 9112 3.2"),
            Self::HostRepeated => (BAD, "host_repeated", "RFC 9112 3.2"),
            Self::HostMalformed => (BAD, "host_malformed", "RFC 9112 3.2"),
            Self::HostMismatch => (BAD, "host_mismatch", "RFC 9112 3.2.2"),
            Self::LengthMalformed => (BAD, "content_length", "RFC 9112 6.3"),
            Self::LengthRepeated => (BAD, "content_length_repeated", "RFC 9112 6.3"),
            Self::LengthAndCoding => (BAD, "content_length_with_transfer_encoding", "RFC 9112 6.1"),
            Self::CodingRepeated => (BAD, "transfer_encoding_repeated", "RFC 9112 6.1"),
            Self::CodingMalformed => (BAD, "transfer_encoding", "RFC 9112 6.1"),
            Self::CodingUnsupported => (LATER, "transfer_encoding_not_supported", "RFC 9112 6.1"),
            Self::CodingInHttp10 => (BAD, "transfer_encoding_in_http_1_0", "RFC 9112 6.1"),
            Self::ChunkSize => (BAD, "chunk_size", "RFC 9112 7.1"),
            Self::ChunkExtension => (BAD, "chunk_extension", "RFC 9112 7.1.1"),
            Self::ChunkExtensionsTooLong => (BAD, "chunk_extensions_too_long", "RFC 9112 7.1.1"),
            Self::ChunkEnd => (BAD, "chunk_end", "RFC 9112 7.1"),
            Self::TrailerTooLarge => (BAD, "trailer_too_large", "RFC 9112 7.1.2"),
            Self::TrailerField => (BAD, "trailer_field", "RFC 9110 6.5.1"),
            Self::StatusLine => (BAD, "status_line", "RFC 9112 4"),
            Self::UnexpectedUpgrade => (BAD, "unasked_upgrade", "RFC 9110 15.2.2"),
            Self::TooManyInterim => (BAD, "too_many_interim_responses", "RFC 9110 15.2"),
            Self::Surplus => (BAD, "bytes_after_the_response", "RFC 9112 9.2"),
            Self::Cut => (BAD, "message_cut", "RFC 9112 8"),
        }
    }
}
