//! Canned answers from a folder, in place of the sandbox's own: for GraphQL the file `NAME.json` of the operation's name, for
//! REST the file at the request's path. A file is read for each request, so that an edit counts at once.
//!
//! No path leads out of the folder.

use std::path::{Path, PathBuf};

use http::{Response, StatusCode};

use super::graphql;
use crate::body::{Body, response};

/// The answer to a posted GraphQL request, if there is one.
pub(super) async fn for_operation(folder: Option<&Path>, posted: &[u8]) -> Option<Response<Body>> {
    let name = graphql::operation_name(posted).filter(|_| folder.is_some())?;
    answer(folder?.join(format!("{name}.json"))).await
}

/// The answer to a REST call, if there is one.
pub(super) async fn for_path(folder: Option<&Path>, path: &str) -> Option<Response<Body>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let inside =
        segments.iter().all(|segment| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain));
    let file: PathBuf = segments.iter().collect();
    answer(folder.filter(|_| inside)?.join(file)).await
}

async fn answer(file: PathBuf) -> Option<Response<Body>> {
    let bytes = tokio::fs::read(&file).await.ok()?;
    Some(response(StatusCode::OK, "application/json", bytes))
}
