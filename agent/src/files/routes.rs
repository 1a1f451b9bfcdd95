//! `/{dev,game}/files/…`: thin, because everything else waits for the disk.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use zlh_agent_protocol::files::{
    ArchiveFiles, Content, Entry, FilePath, ListFiles, Listing, MAX_TEXT_BYTES, MakeFolder,
    MoveFile, RevertFile, UploadFile, Uploaded, WriteFile,
};
use zlh_ids::ContainerType;

use super::{FileError, Files};
use crate::agent::Agent;
use crate::blocking::blocking;
use crate::error::ApiError;

/// A character of text has at most six bytes as JSON.
const BODY_LIMIT: usize = 6 * MAX_TEXT_BYTES + (64 << 10);
/// Received ahead of a slow disk; each chunk has as much as came at once.
const CHUNKS: usize = 4;
/// How long an upload may go without a byte.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Place {
    agent: Arc<Agent>,
    ctype: ContainerType,
}

impl Place {
    fn open(&self) -> Result<Files, FileError> {
        let config = self.agent.saved.get().ok_or(FileError::NotFound)?.config;
        if config.container_type() != self.ctype {
            return Err(FileError::NotFound);
        }
        let agent = &self.agent;
        Files::open(&agent.layout, self.ctype, agent.stopping.clone(), (agent.clock)())
    }

    async fn with<T: Send + 'static>(
        self,
        work: impl FnOnce(Files) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, ApiError> {
        Ok(blocking(move || self.open().and_then(work)).await?)
    }
}

type Asked<T> = Result<Query<T>, QueryRejection>;
type Told = Result<Bytes, BytesRejection>;

/// The routes for containers of one kind.
pub(crate) fn router<S>(agent: Arc<Agent>, ctype: ContainerType) -> Router<S> {
    Router::new()
        .route("/list", get(list_files))
        .route("/stat", get(stat_file))
        .route("/read", get(read_file))
        .route("/write", post(write_file))
        .route("/mkdir", post(make_folder))
        .route("/rename", post(rename_file))
        .route("/copy", post(copy_file))
        .route("/archive", post(archive_files))
        .route("/extract", post(extract_file))
        .route("/revert", post(revert_file))
        .route("/delete", delete(delete_file))
        .route("/upload", get(get_upload).put(upload_file))
        .route("/download", get(download_file))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Place { agent, ctype })
}

fn asked<T>(query: Asked<T>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|error| ApiError::Invalid(error.body_text()))
}

fn told<T: DeserializeOwned>(body: Told) -> Result<T, ApiError> {
    let body = body.map_err(|_| ApiError::TooLarge)?;
    serde_json::from_slice(&body).map_err(|error| ApiError::Invalid(error.to_string()))
}

async fn list_files(
    State(place): State<Place>,
    query: Asked<ListFiles>,
) -> Result<Json<Listing>, ApiError> {
    let query = asked(query)?;
    place.with(move |files| files.list(&query)).await.map(Json)
}

async fn stat_file(
    State(place): State<Place>,
    query: Asked<FilePath>,
) -> Result<Json<Entry>, ApiError> {
    let query = asked(query)?;
    place.with(move |files| files.stat(&query.path)).await.map(Json)
}

async fn read_file(
    State(place): State<Place>,
    query: Asked<FilePath>,
) -> Result<Json<Content>, ApiError> {
    let query = asked(query)?;
    place.with(move |files| files.read(&query.path)).await.map(Json)
}

async fn write_file(State(place): State<Place>, body: Told) -> Result<Json<Entry>, ApiError> {
    let file: WriteFile = told(body)?;
    place.with(move |files| files.write(&file)).await.map(Json)
}

async fn revert_file(State(place): State<Place>, body: Told) -> Result<Json<Entry>, ApiError> {
    let file: RevertFile = told(body)?;
    place.with(move |files| files.revert(&file.path)).await.map(Json)
}

async fn rename_file(State(place): State<Place>, body: Told) -> Result<Json<Entry>, ApiError> {
    let file: MoveFile = told(body)?;
    place.with(move |files| files.rename(&file.from, &file.to)).await.map(Json)
}

async fn make_folder(State(place): State<Place>, body: Told) -> Result<Response, ApiError> {
    let folder: MakeFolder = told(body)?;
    place.with(move |files| files.make_folder(&folder.path)).await.map(created)
}

async fn copy_file(State(place): State<Place>, body: Told) -> Result<Response, ApiError> {
    let file: MoveFile = told(body)?;
    place.with(move |files| files.copy(&file.from, &file.to)).await.map(created)
}

async fn archive_files(State(place): State<Place>, body: Told) -> Result<Response, ApiError> {
    let asked: ArchiveFiles = told(body)?;
    place.with(move |files| files.archive(&asked)).await.map(created)
}

async fn extract_file(State(place): State<Place>, body: Told) -> Result<Response, ApiError> {
    let file: MoveFile = told(body)?;
    place.with(move |files| files.extract(&file.from, &file.to)).await.map(created)
}

fn created(entry: Entry) -> Response {
    (StatusCode::CREATED, Json(entry)).into_response()
}

async fn delete_file(
    State(place): State<Place>,
    query: Asked<FilePath>,
) -> Result<StatusCode, ApiError> {
    let query = asked(query)?;
    place.with(move |files| files.delete(&query.path)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn get_upload(
    State(place): State<Place>,
    query: Asked<UploadFile>,
) -> Result<Json<Uploaded>, ApiError> {
    let query = asked(query)?;
    place.with(move |files| files.uploaded(&query)).await.map(Json)
}

/// If the sender breaks off, what came is kept.
async fn upload_file(
    State(place): State<Place>,
    query: Asked<UploadFile>,
    mut body: Body,
) -> Result<(StatusCode, Json<Uploaded>), ApiError> {
    let query = asked(query)?;
    let upload = place.with(move |files| files.begin_upload(&query)).await?;

    let (sender, receiver) = mpsc::channel(CHUNKS);
    // Not dropped with this future: it ends with the sender.
    let receiving = tokio::spawn(blocking(move || upload.receive(receiver)));
    let broken = forward(&mut body, sender).await.err();
    let received = receiving.await.map_err(|error| ApiError::Internal(error.to_string()))??;
    match broken {
        Some(error) if !received.complete => Err(error.into()),
        _ => {
            let status = if received.complete { StatusCode::CREATED } else { StatusCode::ACCEPTED };
            Ok((status, Json(received)))
        }
    }
}

/// Until the end of the body; or until the disk does not take it, which the disk's side says.
async fn forward(body: &mut Body, sender: mpsc::Sender<Bytes>) -> Result<(), FileError> {
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await;
        let Some(frame) = frame.map_err(|_| FileError::Silent)? else { return Ok(()) };
        let frame = frame.map_err(|_| FileError::Invalid("the upload broke off".to_owned()))?;
        if let Ok(bytes) = frame.into_data()
            && sender.send(bytes).await.is_err()
        {
            return Ok(());
        }
    }
}

async fn download_file(
    State(place): State<Place>,
    query: Asked<FilePath>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = asked(query)?;
    let download = place.with(move |files| files.download(&query.path, &headers)).await?;
    download.respond().map_err(|error| ApiError::Internal(error.to_string()))
}
