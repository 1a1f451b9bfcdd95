//! Handlers.

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use zlh_agent_protocol::files::{
    ArchiveFiles, Content, Entry, FilePath, ListFiles, Listing, MAX_TEXT_BYTES, MakeFolder,
    MoveFile, PathWithin, RevertFile, WriteFile,
};
use zlh_agents::{Agent, Agents, Refused};
use zlh_api::{
    ApiError, Conflict, Failure, Invalid, Json, NotFound, Path, Query, TooLarge, Unauthenticated,
};
use zlh_authn::Actor;
use zlh_guest::Clock;
use zlh_ids::Vmid;
use zlh_storage::audit::{self, Act};
use zlh_storage::{Database, Db, StoreError};

use crate::store;

/// A character of text has at most six bytes as JSON.
const BODY_LIMIT: usize = 6 * MAX_TEXT_BYTES + (64 << 10);

/// What the handlers work with.
#[derive(Clone)]
pub struct Files {
    /// Where everything is stored.
    pub database: Database,
    /// The way to agents.
    pub agents: Agents,
    /// The time.
    pub clock: Clock,
}

zlh_api::operations!(
    pub Files: list_files, stat_file, read_file, write_file, revert_file, make_folder, rename_file,
    copy_file, archive_files, extract_file, delete_file
);

/// The routes of this component.
pub fn router(files: Files) -> Router {
    routes().layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(files)
}

/// Lists a folder of one's own dev container, one page at a time.
#[utoipa::path(
    get,
    path = "/api/dev/{id}/files/list",
    tag = "files",
    params(("id" = Vmid, Path), ListFiles),
    security(("token" = [])),
    responses((status = 200, body = Listing), Invalid, Unauthenticated, NotFound, Conflict, Failure, Refused),
)]
async fn list_files(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Query(_): Query<ListFiles>,
    RawQuery(query): RawQuery,
) -> Result<Json<Listing>, ApiError> {
    look(&files, &actor, vmid, ("list", query), "list the folder").await
}

/// Tells about one file or folder.
#[utoipa::path(
    get,
    path = "/api/dev/{id}/files/stat",
    tag = "files",
    params(("id" = Vmid, Path), PathWithin),
    security(("token" = [])),
    responses((status = 200, body = Entry), Invalid, Unauthenticated, NotFound, Conflict, Failure, Refused),
)]
async fn stat_file(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Query(_): Query<PathWithin>,
    RawQuery(query): RawQuery,
) -> Result<Json<Entry>, ApiError> {
    look(&files, &actor, vmid, ("stat", query), "look at the file").await
}

/// Reads a text file of at most 1 MiB.
#[utoipa::path(
    get,
    path = "/api/dev/{id}/files/read",
    tag = "files",
    params(("id" = Vmid, Path), FilePath),
    security(("token" = [])),
    responses((status = 200, body = Content), Invalid, Unauthenticated, NotFound, Conflict, Failure, Refused),
)]
async fn read_file(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Query(_): Query<FilePath>,
    RawQuery(query): RawQuery,
) -> Result<Json<Content>, ApiError> {
    look(&files, &actor, vmid, ("read", query), "read the file").await
}

/// Makes or replaces a text file of at most 1 MiB, all at once.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/files/write",
    tag = "files",
    params(("id" = Vmid, Path)),
    request_body = WriteFile,
    security(("token" = [])),
    responses(
        (status = 200, body = Entry),
        Invalid, Unauthenticated, NotFound, Conflict, TooLarge, Failure, Refused
    ),
)]
async fn write_file(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Json(body): Json<WriteFile>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    change(&files, &actor, vmid, ("write", &body.path), &body, "write the file").await
}

/// Makes a file what it was before its first change.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/files/revert",
    tag = "files",
    params(("id" = Vmid, Path)),
    request_body = RevertFile,
    security(("token" = [])),
    responses(
        (status = 200, body = Entry),
        Invalid, Unauthenticated, NotFound, Conflict, TooLarge, Failure, Refused
    ),
)]
async fn revert_file(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Json(body): Json<RevertFile>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    change(&files, &actor, vmid, ("revert", &body.path), &body, "revert the file").await
}

/// Makes a folder.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/files/mkdir",
    tag = "files",
    params(("id" = Vmid, Path)),
    request_body = MakeFolder,
    security(("token" = [])),
    responses(
        (status = 201, body = Entry),
        Invalid, Unauthenticated, NotFound, Conflict, TooLarge, Failure, Refused
    ),
)]
async fn make_folder(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Json(body): Json<MakeFolder>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    change(&files, &actor, vmid, ("mkdir", &body.path), &body, "make the folder").await
}

/// Gives a file or folder another name or place; it replaces nothing.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/files/rename",
    tag = "files",
    params(("id" = Vmid, Path)),
    request_body = MoveFile,
    security(("token" = [])),
    responses(
        (status = 200, body = Entry),
        Invalid, Unauthenticated, NotFound, Conflict, TooLarge, Failure, Refused
    ),
)]
async fn rename_file(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Json(body): Json<MoveFile>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    change(&files, &actor, vmid, ("rename", &body.from), &body, "rename the file").await
}

/// Copies a file or folder; it replaces nothing.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/files/copy",
    tag = "files",
    params(("id" = Vmid, Path)),
    request_body = MoveFile,
    security(("token" = [])),
    responses(
        (status = 201, body = Entry),
        Invalid, Unauthenticated, NotFound, Conflict, TooLarge, Failure, Refused
    ),
)]
async fn copy_file(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Json(body): Json<MoveFile>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    change(&files, &actor, vmid, ("copy", &body.from), &body, "copy the file").await
}

/// Packs files and folders into a new `.tar.gz`.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/files/archive",
    tag = "files",
    params(("id" = Vmid, Path)),
    request_body = ArchiveFiles,
    security(("token" = [])),
    responses(
        (status = 201, body = Entry),
        Invalid, Unauthenticated, NotFound, Conflict, TooLarge, Failure, Refused
    ),
)]
async fn archive_files(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Json(body): Json<ArchiveFiles>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    change(&files, &actor, vmid, ("archive", &body.to), &body, "pack the files").await
}

/// Unpacks a `.tar.gz` or `.zip` into a new folder.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/files/extract",
    tag = "files",
    params(("id" = Vmid, Path)),
    request_body = MoveFile,
    security(("token" = [])),
    responses(
        (status = 201, body = Entry),
        Invalid, Unauthenticated, NotFound, Conflict, TooLarge, Failure, Refused
    ),
)]
async fn extract_file(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Json(body): Json<MoveFile>,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    change(&files, &actor, vmid, ("extract", &body.from), &body, "unpack the archive").await
}

/// Removes a file, or a folder with all that is in it.
#[utoipa::path(
    delete,
    path = "/api/dev/{id}/files/delete",
    tag = "files",
    params(("id" = Vmid, Path), FilePath),
    security(("token" = [])),
    responses((status = 204), Invalid, Unauthenticated, NotFound, Conflict, Failure, Refused),
)]
async fn delete_file(
    State(files): State<Files>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Query(asked): Query<FilePath>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, ApiError> {
    let agent = recorded(&files, &actor, vmid, "delete", &asked.path).await?;
    let path = route("delete", query);
    let (status, ()) =
        files.agents.ask(&agent, (Method::DELETE, &path), Bytes::new(), "delete the file").await?;
    Ok(status)
}

/// Asks the agent of one's own container. The query was read, so that the agent only sees what it knows.
async fn look<T: DeserializeOwned>(
    files: &Files,
    actor: &Actor,
    vmid: Vmid,
    (verb, query): (&str, Option<String>),
    doing: &str,
) -> Result<Json<T>, ApiError> {
    let db = files.database.open().await.map_err(unavailable)?;
    let agent = own_agent(&db, actor, vmid).await?;
    let path = route(verb, query);
    let (_, answer) = files.agents.ask(&agent, (Method::GET, &path), Bytes::new(), doing).await?;
    Ok(Json(answer))
}

/// Has the agent of one's own container change something.
async fn change(
    files: &Files,
    actor: &Actor,
    vmid: Vmid,
    (verb, target): (&str, &str),
    body: &impl Serialize,
    doing: &str,
) -> Result<(StatusCode, Json<Entry>), ApiError> {
    let agent = recorded(files, actor, vmid, verb, target).await?;
    let body = serde_json::to_vec(body).map_err(ApiError::internal)?;
    let path = route(verb, None);
    let (status, entry) =
        files.agents.ask(&agent, (Method::POST, &path), body.into(), doing).await?;
    Ok((status, Json(entry)))
}

/// The agent of one's own container, once it is on record what it will be asked to do: what cannot be recorded is
/// not done.
async fn recorded(
    files: &Files,
    actor: &Actor,
    vmid: Vmid,
    verb: &str,
    target: &str,
) -> Result<Agent, ApiError> {
    let tx =
        files.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let agent = own_agent(&tx, actor, vmid).await?;
    // A path of any length is no reason to fail: the agent refuses what is too long.
    let path: String = target.chars().take(256).collect();
    let act = Act {
        actor: &actor.user_id.to_string(),
        action: &format!("files.{verb}"),
        target: &vmid.to_string(),
        detail: json!({ "instanceId": agent.instance_id, "path": path }),
        at_ms: (files.clock)(),
    };
    audit::append(&tx, &act).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    Ok(agent)
}

async fn own_agent(db: &Db, actor: &Actor, vmid: Vmid) -> Result<Agent, ApiError> {
    let container = store::own_dev(db, actor.user_id, vmid).await.map_err(unavailable)?;
    let (instance_id, address) = container.ok_or(ApiError::NotFound)?;
    let address =
        address.ok_or_else(|| ApiError::conflict("the dev container is still being created"))?;
    Ok(Agent { vmid, instance_id, address })
}

fn route(verb: &str, query: Option<String>) -> String {
    match query {
        Some(query) => format!("/dev/files/{verb}?{query}"),
        None => format!("/dev/files/{verb}"),
    }
}

fn unavailable(error: StoreError) -> ApiError {
    ApiError::unavailable(error)
}
