//! Replaces the file of one component while all of them serve.
//!
//! Everything that can fail happens beside what serves: the checks, composing, compiling, one instance of
//! each composition. Then the choice is written down, durably, and the table is switched at once. Requests
//! that began before end on the old instances.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

use super::choices::Choices;
use super::component_files::{Candidate, Digest, Upload};
use super::compose::{self, World};
use super::digest_list::DigestList;
use super::loader::{Linked, Loaded};
use super::manifest::Target;
use super::{ComponentHost, Live, check, sources};
use crate::clock;

/// Why nothing was swapped. What served before serves on.
#[derive(Debug, Error)]
pub enum SwapError {
    /// One at a time.
    #[error("another swap is under way; try again when it is done")]
    Busy,
    /// The manifest has no such stanza, or nothing uses it.
    #[error("there is no component `{0}`")]
    Unknown(String),
    /// It was never swapped, or each swap was taken back.
    #[error("`{0}` has no earlier file to go back to")]
    NoPrevious(String),
    /// The file does not fit.
    #[error("the file cannot serve as `{component}`: {reason}")]
    Refused {
        /// What it was to serve.
        component: String,
        /// What does not fit.
        reason: String,
    },
    /// The file did not arrive.
    #[error("the file could not be taken in: {0}")]
    Upload(io::Error),
    /// The state folder could not be read or written.
    #[error("the state folder cannot be used")]
    State(#[source] io::Error),
}

/// What serves, and since when.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentInfo {
    /// Stanza of the manifest.
    pub name: String,
    /// SHA-256 of its file.
    pub digest: Digest,
    /// Whether it serves another file than the manifest's.
    pub swapped: bool,
    /// When it was swapped last, in Unix seconds.
    pub swapped_at: Option<i64>,
    /// Its routes.
    pub routes: Vec<String>,
    /// Components that it is composed into.
    pub part_of: Vec<String>,
    /// Files that a rollback goes back to, newest first.
    pub previous: Vec<Digest>,
}

/// What is known of one component.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentDetail {
    /// As in the list.
    #[serde(flatten)]
    pub info: ComponentInfo,
    /// What its file is.
    #[serde(flatten)]
    pub file: Checked,
}

/// What was found in a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// SHA-256.
    pub digest: Digest,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
    /// Names, as in `spin.toml`, of the grants that its imports need.
    pub needs: BTreeSet<&'static str>,
}

/// What was swapped.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Swapped {
    /// The component.
    pub component: String,
    /// What serves now.
    pub digest: Digest,
    /// What served before; the same if that file was serving already.
    pub replaced: Digest,
    /// Components with a route that were composed anew.
    pub recomposed: Vec<String>,
}

/// How far to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollback {
    /// To the file before this one.
    Previous,
    /// To the manifest's file as it is now.
    Manifest,
}

impl ComponentHost {
    /// Every component that serves, alone or as a part of others.
    #[must_use]
    pub fn components(&self) -> Vec<ComponentInfo> {
        let live = self.live.load();
        let names: BTreeSet<&String> = live
            .components
            .values()
            .flat_map(|loaded| loaded.parts.iter().map(|(name, _)| name))
            .filter(|name| self.loader.app.components.contains_key(*name))
            .collect();
        names.into_iter().filter_map(|name| self.info(name, &live)).collect()
    }

    /// One component and its file.
    ///
    /// # Errors
    ///
    /// It is unknown, or its file cannot be read.
    pub async fn component(self: &Arc<Self>, name: &str) -> Result<ComponentDetail, SwapError> {
        let (host, name) = (Arc::clone(self), name.to_owned());
        blocking(move || {
            let live = host.live.load_full();
            let info = host.info(&name, &live).ok_or_else(|| SwapError::Unknown(name.clone()))?;
            let file =
                host.serving(&name, &live).map_err(|error| SwapError::State(error.source))?;
            let world = compose::world(&name, &file.bytes).map_err(|e| refused(&name, &e))?;
            Ok(ComponentDetail { info, file: found(&file, world) })
        })
        .await
    }

    /// Begins to take in a file.
    ///
    /// # Errors
    ///
    /// The state folder cannot be written.
    pub fn upload(&self) -> io::Result<Upload> {
        self.loader.files.upload()
    }

    /// Looks at a file without using it: as what it would serve, if that is said.
    ///
    /// # Errors
    ///
    /// What [`ComponentHost::swap`] would answer.
    pub async fn check(
        self: &Arc<Self>,
        component: Option<&str>,
        candidate: Candidate,
    ) -> Result<Checked, SwapError> {
        let name = component.unwrap_or("the file").to_owned();
        let (looked_at, world) = {
            let (name, candidate) = (name.clone(), candidate.clone());
            blocking(move || {
                check::format(&candidate.bytes).map_err(|reason| unfit(&name, reason))?;
                let world =
                    compose::world(&name, &candidate.bytes).map_err(|e| refused(&name, &e))?;
                Ok((candidate, world))
            })
            .await?
        };
        if let Some(component) = component {
            self.prepare(component, candidate).await?;
        }
        Ok(found(&looked_at, world))
    }

    /// Lets a file serve in the place of the present one. When the future is dropped, either nothing was
    /// swapped or all of it.
    ///
    /// # Errors
    ///
    /// [`SwapError`]; what served before serves on.
    pub async fn swap(
        self: &Arc<Self>,
        component: &str,
        candidate: Candidate,
    ) -> Result<Swapped, SwapError> {
        let turn = self.turn()?;
        let choices = &self.live.load_full().choices;
        let old = self.digest(component)?;
        if old == candidate.digest {
            let (component, digest) = (component.to_owned(), old.clone());
            return Ok(Swapped { component, digest, replaced: old, recomposed: Vec::new() });
        }
        let next = choices.swapped(component, old, candidate.digest.clone(), clock::unix_seconds());
        self.replace(turn, component, candidate, next).await
    }

    /// Goes back to the file that served before, or to the manifest's.
    ///
    /// # Errors
    ///
    /// [`SwapError`]; what served before serves on.
    pub async fn rollback(
        self: &Arc<Self>,
        component: &str,
        to: Rollback,
    ) -> Result<Swapped, SwapError> {
        let turn = self.turn()?;
        let choices = &self.live.load_full().choices;
        self.digest(component)?;
        let none = || SwapError::NoPrevious(component.to_owned());
        let choice = choices.get(component).ok_or_else(none)?;
        let manifest = self.manifest_file(component).await;
        let (next, candidate) = match to {
            Rollback::Manifest => (choices.without(component), manifest?),
            Rollback::Previous => {
                let digest = manifest.ok().map(|file| file.digest);
                let next = choices
                    .rolled_back(component, digest.as_ref(), clock::unix_seconds())
                    .ok_or_else(none)?;
                let target = choice.previous.first().cloned().ok_or_else(none)?;
                let files = Arc::clone(&self.loader.files);
                let bytes = blocking(move || files.read(&target).map_err(SwapError::State)).await?;
                (next, Candidate::new(bytes))
            }
        };
        self.replace(turn, component, candidate, next).await
    }

    /// Removes files that nothing needs any more. Only for the one process that may swap: another one may
    /// have chosen a file meanwhile.
    pub async fn prune(self: &Arc<Self>) {
        let host = Arc::clone(self);
        let pruned = spawn_blocking(move || host.prune_blocking()).await;
        if let Ok(Err(error)) = pruned {
            tracing::warn!(%error, "files of components that nothing needs could not be removed");
        }
    }

    fn prune_blocking(&self) -> io::Result<()> {
        let live = self.live.load();
        let parts = live.components.values().flat_map(|loaded| &loaded.parts);
        let mut keep = live.choices.digests();
        keep.extend(parts.map(|(_, digest)| digest.clone()));
        self.loader.files.prune(&keep)?;
        self.loader.cache.prune(live.components.len())
    }

    /// The right to swap.
    fn turn(&self) -> Result<OwnedMutexGuard<()>, SwapError> {
        Arc::clone(&self.swapping).try_lock_owned().map_err(|_| SwapError::Busy)
    }

    fn info(&self, name: &str, live: &Live) -> Option<ComponentInfo> {
        let digest = live.digest(name)?;
        let choice = live.choices.get(name);
        let copies = |id: &str| {
            let component = self.loader.app.components.get(id);
            id == name || component.and_then(|c| c.copy_of.as_deref()) == Some(name)
        };
        let routes = self
            .loader
            .app
            .routes
            .iter()
            .filter(|route| matches!(&route.target, Target::Component(id) if copies(id)));
        Some(ComponentInfo {
            name: name.to_owned(),
            digest: digest.clone(),
            swapped: choice.is_some(),
            swapped_at: choice.map(|choice| choice.since),
            routes: routes.filter_map(|route| route.route.clone()).collect(),
            part_of: live.users(name).filter(|user| *user != name).map(str::to_owned).collect(),
            previous: choice.map_or_else(Vec::new, |choice| choice.previous.clone()),
        })
    }

    fn digest(&self, component: &str) -> Result<Digest, SwapError> {
        let known = self.loader.app.components.contains_key(component);
        let live = self.live.load();
        let digest = live.digest(component).filter(|_| known).cloned();
        digest.ok_or_else(|| SwapError::Unknown(component.to_owned()))
    }

    /// The file that serves. Blocks.
    fn serving(&self, name: &str, live: &Live) -> Result<Candidate, sources::Unreadable> {
        let path = self.loader.app.components.get(name).map(|component| component.source.as_path());
        live.sources.component(name, path.unwrap_or(Path::new("")))
    }

    /// The file that the manifest names, as it is now.
    async fn manifest_file(&self, component: &str) -> Result<Candidate, SwapError> {
        let stanza = self.loader.app.components.get(component);
        let path = stanza.map(|stanza| stanza.source.clone()).unwrap_or_default();
        blocking(move || sources::read(&path).map_err(|error| SwapError::State(error.source))).await
    }

    /// Everything that can fail: what comes out needs only to be put into the table.
    async fn prepare(
        self: &Arc<Self>,
        component: &str,
        candidate: Candidate,
    ) -> Result<BTreeMap<String, Linked>, SwapError> {
        self.digest(component)?;
        let (host, name) = (Arc::clone(self), component.to_owned());
        let linked = blocking(move || {
            host.link_with(&name, candidate).map_err(|reason| unfit(&name, reason))
        })
        .await?;
        for linked in linked.values() {
            linked.warm().await.map_err(|error| {
                let error = error.root_cause();
                unfit(component, format!("it does not start: {error}"))
            })?;
        }
        Ok(linked)
    }

    /// Composes, compiles and links everything that a stanza is part of, its file being another. Blocks.
    fn link_with(
        &self,
        name: &str,
        candidate: Candidate,
    ) -> Result<BTreeMap<String, Linked>, String> {
        if let Some(options) = &self.allow_list {
            let list = DigestList::open(options).map_err(|error| sentence(&error))?;
            list.check(name, &candidate.digest).map_err(|error| sentence(&error))?;
        }
        check::format(&candidate.bytes)?;
        let live = self.live.load_full();
        let old = self.serving(name, &live).map_err(|error| error.source.to_string())?;
        let world =
            |file: &Candidate| compose::world(name, &file.bytes).map_err(|error| sentence(&error));
        let new = world(&candidate)?;
        check::exports(&new, &world(&old)?, live.components.contains_key(name))?;

        let trying = live.sources.with(name, candidate);
        let mut linked = BTreeMap::new();
        for user in live.users(name) {
            let composed = self.loader.compose(&trying, user).map_err(|error| sentence(&error))?;
            if let Some(stanza) = self.loader.app.components.get(user)
                && let Some(allowed) = self.loader.allowed(user)
            {
                check::inherited(user, stanza, name, &new.imports)?;
                let composition =
                    compose::world(user, &composed.wasm).map_err(|error| sentence(&error))?;
                check::grants(user, stanza, allowed, &composition.imports)?;
            }
            let component = self.loader.link(user, composed).map_err(|error| sentence(&error))?;
            linked.insert(user.to_owned(), component);
        }
        Ok(linked)
    }

    async fn replace(
        self: &Arc<Self>,
        turn: OwnedMutexGuard<()>,
        component: &str,
        candidate: Candidate,
        next: Choices,
    ) -> Result<Swapped, SwapError> {
        let swapped = self.try_replace(turn, component, candidate, next).await;
        self.loader.metrics.swapped(component, swapped.is_ok());
        swapped
    }

    async fn try_replace(
        self: &Arc<Self>,
        turn: OwnedMutexGuard<()>,
        component: &str,
        candidate: Candidate,
        next: Choices,
    ) -> Result<Swapped, SwapError> {
        let linked = self.prepare(component, candidate.clone()).await?;
        let swapped = Swapped {
            component: component.to_owned(),
            digest: candidate.digest.clone(),
            replaced: self.digest(component)?,
            recomposed: linked.keys().cloned().collect(),
        };
        let (host, component) = (Arc::clone(self), component.to_owned());
        // Not to be interrupted between the record and the switch.
        blocking(move || {
            let _turn = turn;
            host.switch(&component, candidate, next, linked).map_err(SwapError::State)
        })
        .await?;
        Ok(swapped)
    }

    /// Records the choice, then lets the new components serve. Blocks.
    fn switch(
        &self,
        component: &str,
        candidate: Candidate,
        choices: Choices,
        linked: BTreeMap<String, Linked>,
    ) -> io::Result<()> {
        self.loader.files.put(&candidate.bytes)?;
        choices.write(&self.choices_path)?;

        let live = self.live.load_full();
        let sources = live.sources.choosing(choices.current());
        if let Some(stanza) = self.loader.app.components.get(component)
            && choices.get(component).is_none()
        {
            sources.take(&stanza.source, candidate.digest);
        }
        let mut components = live.components.clone();
        let old: Vec<Arc<Loaded>> = linked
            .into_iter()
            .filter_map(|(id, linked)| components.insert(id, Arc::new(linked.serve())))
            .collect();
        self.live.store(Arc::new(Live { components, sources, choices }));
        drop(live);
        for old in old {
            self.retire(old);
        }
        if let Err(error) = self.prune_blocking() {
            tracing::warn!(%error, "files of components that nothing needs could not be removed");
        }
        Ok(())
    }

    /// Lets what is in flight end on the old instances, and says when it has.
    fn retire(&self, old: Arc<Loaded>) {
        let drained = old.drained.clone();
        let component = old.dispatcher.component().to_owned();
        drop(old);
        drained.close();
        self.loader.workers.spawn(async move {
            drained.wait().await;
            tracing::info!(component.id = component, "the old instances have ended");
        });
    }
}

impl Live {
    /// The file that a stanza serves with, if it does.
    fn digest(&self, component: &str) -> Option<&Digest> {
        let mut parts = self.components.values().flat_map(|loaded| &loaded.parts);
        parts.find(|(name, _)| name == component).map(|(_, digest)| digest)
    }

    /// Components with a route that a stanza is part of, itself included.
    fn users<'a>(&'a self, component: &'a str) -> impl Iterator<Item = &'a str> {
        let is_part = move |loaded: &Loaded| loaded.parts.iter().any(|(name, _)| name == component);
        self.components.iter().filter(move |(_, loaded)| is_part(loaded)).map(|(id, _)| id.as_str())
    }
}

fn found(file: &Candidate, world: World) -> Checked {
    let needs = world.imports.iter().filter_map(|import| compose::capability(import));
    Checked {
        digest: file.digest.clone(),
        size_bytes: file.size_bytes(),
        needs: needs.map(|capability| capability.name()).collect(),
        imports: world.imports,
        exports: world.exports,
    }
}

fn unfit(component: &str, reason: String) -> SwapError {
    SwapError::Refused { component: component.to_owned(), reason }
}

fn refused(component: &str, error: &dyn std::error::Error) -> SwapError {
    unfit(component, sentence(error))
}

/// An error with its causes, for people.
fn sentence(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Runs what takes long apart from the requests. What panics there, such as a parser that was given
/// nonsense, is an error here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SwapError> + Send + 'static,
) -> Result<T, SwapError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(SwapError::State(io::Error::other(error))),
    }
}
