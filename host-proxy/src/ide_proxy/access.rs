//! Asks who may use an IDE, and remembers the answer for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use zlh_agent_protocol::internal::{CheckIde, IdeAccess, IdeCredential, OpenIde, OpenedIde};
use zlh_ids::Vmid;

use super::{IdeAuthority, Refusal};
use crate::api::CallError;
use crate::clock;

/// One page load is 40 requests within this time; a right that was taken away is gone after it.
const REMEMBERED: Duration = Duration::from_secs(3);
/// Far more sessions than send requests within [`REMEMBERED`].
const MAX_REMEMBERED: usize = 4096;

pub(super) struct Accesses {
    authority: Arc<dyn IdeAuthority>,
    answers: Mutex<HashMap<(Vmid, IdeCredential), Arc<Answer>>>,
}

/// One question. Whoever asks the same while it is on its way waits for it.
struct Answer {
    /// Before the question was sent, so that remembering never outlasts its time.
    asked_at: Instant,
    access: OnceCell<IdeAccess>,
}

impl Accesses {
    pub(super) fn new(authority: Arc<dyn IdeAuthority>) -> Self {
        Self { authority, answers: Mutex::default() }
    }

    /// Uses a token up.
    pub(super) async fn open(&self, vmid: Vmid, token: String) -> Result<OpenedIde, Refusal> {
        let opened =
            self.authority.open(&OpenIde { vmid, token }).await.map_err(|error| refused(&error))?;
        meant_for(vmid, opened.access.vmid)?;
        Ok(opened)
    }

    /// The first session that holds.
    pub(super) async fn check_any(
        &self,
        vmid: Vmid,
        sessions: Vec<String>,
    ) -> Result<IdeAccess, Refusal> {
        let mut refusal = Refusal::Unauthenticated;
        for session in sessions {
            match self.check(vmid, IdeCredential::Session(session)).await {
                Err(error @ (Refusal::Unauthenticated | Refusal::NotFound)) => refusal = error,
                decided => return decided,
            }
        }
        Err(refusal)
    }

    /// Whether a credential holds now, or held a moment ago.
    pub(super) async fn check(
        &self,
        vmid: Vmid,
        credential: IdeCredential,
    ) -> Result<IdeAccess, Refusal> {
        let answer = self.answer((vmid, credential.clone()));
        let ask = || async { self.authority.check(&CheckIde { vmid, credential }).await };
        let access = answer.access.get_or_try_init(ask).await.map_err(|error| refused(&error))?;
        meant_for(vmid, access.vmid)?;
        if access.expires_at_ms <= clock::unix_ms() {
            return Err(Refusal::Unauthenticated);
        }
        Ok(access.clone())
    }

    /// The place for this question's answer, whether or not it is there already.
    fn answer(&self, question: (Vmid, IdeCredential)) -> Arc<Answer> {
        let now = Instant::now();
        let fresh = |answer: &Answer| now.duration_since(answer.asked_at) < REMEMBERED;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(&question).filter(|answer| fresh(answer)) {
            return Arc::clone(answer);
        }
        if answers.len() >= MAX_REMEMBERED {
            answers.retain(|_, answer| fresh(answer));
        }
        let answer = Arc::new(Answer { asked_at: now, access: OnceCell::new() });
        if answers.len() < MAX_REMEMBERED {
            answers.insert(question, Arc::clone(&answer));
        }
        answer
    }
}

/// The components' word on one container must not open another.
fn meant_for(asked: Vmid, answered: Vmid) -> Result<(), Refusal> {
    if asked == answered { Ok(()) } else { Err(Refusal::Broken("access to another container")) }
}

fn refused(error: &CallError) -> Refusal {
    match error.status() {
        Some(StatusCode::NOT_FOUND) => Refusal::NotFound,
        Some(StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST) => Refusal::Unauthenticated,
        _ => {
            tracing::warn!(error = error as &dyn std::error::Error, "nobody decides about IDEs");
            Refusal::ComponentsDown
        }
    }
}
